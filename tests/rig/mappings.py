"""Mappings, messages and what becomes of them, for tests."""

from itertools import count
from typing import Any

from bridge.model import Event, Message
from bridge.rules.events import Fate, Recall, Weighed, fates_of, nothing_known, weighed
from bridge.rules.outbound import Outbound, Route

AT = 1_764_000_000.25
STATUS = "mqtthook/status"
TOPIC = "zigbee2mqtt/hall/motion"
MOTION = b'{"occupancy":true,"battery":55,"illuminance":null,"temperature":"21.5","items":3,"update":{"state":"idle"}}'

_numbers = count(1)


def new_id() -> str:
    """Return an id that no other call returns."""
    return f"evt_{next(_numbers)}"


def mapping(**keys: Any) -> Outbound:
    """Return a mapping with these keys, of motion sensors unless they say otherwise."""
    return Outbound.model_validate({"topic": "zigbee2mqtt/{room}/motion", "url": "https://example.com/hooks/motion", "sign": "none", **keys})


def route(rule: Outbound, *, name: str = "hall-motion") -> Route:
    """Return a mapping with its name and its own destination."""
    return Route(mapping=name, rule=rule, destinations={name: rule})


def message(payload: bytes = MOTION, *, topic: str = TOPIC, retained: bool = False, qos: int = 1, at: float = AT, **properties: str) -> Message:
    """Return a message."""
    return Message(topic=topic, payload=payload, qos=qos, retained=retained, properties={"unit": "C", **properties}, received_at=at)


def weigh(came: Message, rule: Outbound, *, now: float = AT, recall: Recall = nothing_known) -> Weighed:
    """Return what a mapping says of a message."""
    return weighed(came, route(rule), now=now, wall=now, recall=recall)


def fate(payload: bytes = MOTION, **keys: Any) -> Fate:
    """Return the only fate of a message under a mapping with these keys."""
    (only,) = fates_of(weigh(message(payload), mapping(**keys)), new_id=new_id)
    return only


def event(payload: bytes = MOTION, **keys: Any) -> Event:
    """Return the event of a message under a mapping with these keys."""
    found = fate(payload, **keys)
    assert isinstance(found.content, Event), found.reason
    return found.content
