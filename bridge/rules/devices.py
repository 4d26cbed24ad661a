"""Devices: whether one is there, and whether it did what it was told, by its own messages. Pure.

A hook may name the topic at which its device says that it is there (`available`), and the one at which it answers or
shows its new state (`confirm`). What is written at the one counts until it is written anew; at the other only what
comes live, after the command went out.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from bridge.errors import RenderError
from bridge.model import Message
from bridge.rules.expressions import Expression, TopicText
from bridge.rules.loops import levels_of
from bridge.rules.payloads import decoded, moment, timestamp, utf8
from bridge.rules.topics import Filter, topic_problem
from bridge.rules.units import Duration, Slice

SAID = ("payload", "value", "topic", "levels", "retained", "qos", "properties")  # the names of a device's message

TIMEOUT_S = 5.0
MAX_TIMEOUT_S = 60.0  # few callers wait longer for an answer, and each that waits holds a connection

# How devices say that they are gone: Zigbee2MQTT, Tasmota, ESPHome and OpenMQTTGateway "offline", in any case; Shelly "false";
# Frigate "stopped"; Homie (Valetudo) "lost" and "disconnected"; Z-Wave JS "Dead"; Home Assistant "unavailable".
_GONE = frozenset({"offline", "false", "0", "off", "no", "stopped", "lost", "disconnected", "dead", "unavailable", "not_available"})
_WHERE = ("state", "status", "online", "available", "connected", "value")  # Zigbee2MQTT, Z-Wave JS, and others' tables


def listening_problem(topic: str) -> str | None:
    """Return why no device can be heard at *topic*, or None if one can: it is one topic, and may be the broker's own (`$SYS/...`)."""
    if found := next((sign for sign in "+#{}" if sign in topic), None):
        return f"it holds {found!r}, and is no filter: where its device differs, a template says so, as in 'zigbee2mqtt/{{{{ room }}}}'"
    return topic_problem(topic, wildcards=True)


def _heard(topic: TopicText) -> TopicText:
    if not topic.names and (problem := listening_problem(topic.text)):
        raise ValueError(f"no device can be heard at {topic.text!r}: {problem}")
    Filter.parse("/".join(filter_of(topic)))  # ValueError where a template can't be listened to
    return topic


DeviceTopic = Annotated[TopicText, AfterValidator(_heard)]


class Available(Slice):
    """`available` of an `[inbound.NAME]`: where its device says that it is there, and, unless it is plain, by what."""

    topic: DeviceTopic
    when: Expression | None = None


class Confirm(Slice):
    """`confirm` of an `[inbound.NAME]`: where its device answers, by what that is told, and for how long it is waited for."""

    topic: DeviceTopic
    when: Expression | None = None
    timeout: Duration = Field(default=TIMEOUT_S, gt=0, le=MAX_TIMEOUT_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What a command's device is waited for to say: at `topic`, with the names that its request gave."""

    hook: str
    id: str
    topic: str
    rule: Confirm
    names: Mapping[str, Any]

    @property
    def command(self) -> tuple[str, str]:
        """Return the command that it belongs to: two hooks may meet the same id."""
        return self.hook, self.id

    def is_met_by(self, message: Message) -> bool:
        """Return True if a message at the topic is the device's word on this command, False if not.

        What bears correlation data answers the command that bears the same (MQTT 5.0 section 3.3.2.3.6).
        """
        if message.retained or message.correlation not in (None, self.id.encode()):
            return False
        if self.rule.when is None:
            return True
        try:
            return self.rule.when.holds({**self.names, **said(message)})
        except RenderError:  # a condition that can't be told counts as false
            return False


def is_away(rule: Available, message: Message | None, names: Mapping[str, Any]) -> bool:
    """Return True if the device's last word is that it is not there; False if it is, or has never said anything.

    With a `when` of its own that decides, and what it can't tell counts as away.
    """
    if message is None or not message.payload:  # an empty one clears the topic
        return False
    if rule.when is None:
        return _says_gone(decoded(message.payload, "auto"))
    try:
        return not rule.when.holds({**names, **said(message)})
    except RenderError:
        return True


def said(message: Message) -> dict[str, Any]:
    """Return the names that an expression sees of a device's message."""
    value = utf8(message.payload)
    return {
        "payload": decoded(message.payload, "auto"),
        "topic": message.topic,
        "levels": message.topic.split("/"),
        "retained": message.retained,
        "qos": message.qos,
        "properties": dict(message.properties),
        "received_at": timestamp(message.received_at),
        "now": moment(message.received_at),
        **({} if value is None else {"value": value}),
    }


def filter_of(topic: TopicText) -> tuple[str, ...]:
    """Return the levels of the filter that takes whatever a template's topic may be: each value is one level."""
    return levels_of(topic.text)


def _says_gone(value: Any) -> bool:
    match value:
        case bool() | int() | float():
            return not value
        case str():
            return value.strip().lower() in _GONE
        case dict():
            if value.get("_type") == "lwt":  # OwnTracks' will comes at the topic of its locations
                return True
            return next((_says_gone(value[name]) for name in _WHERE if name in value), False)
        case _:
            return False
