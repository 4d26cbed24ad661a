"""Specimens: what a test event is made of."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Event, Message
from bridge.rules.events import Fate
from bridge.rules.outbound import Route
from bridge.rules.specimen import specimens, topic_for
from bridge.rules.topics import Filter
from tests.rig.mappings import AT, mapping, message, new_id

LEVELS = st.sampled_from(["a", "", "+", "{room}", "ü", "$x"])


def only(payload: bytes = b'{"test": true}', **keys: Any) -> Fate:
    rule = mapping(**keys)
    (fate,) = specimens(message(payload, topic=topic_for(rule.topic[0])), Route(mapping="m", rule=rule, destinations={"m": rule}), wall=AT, new_id=new_id)
    return fate


def event(payload: bytes = b'{"test": true}', **keys: Any) -> Event:
    found = only(payload, **keys).content
    assert isinstance(found, Event)
    return found


@pytest.mark.parametrize(
    ("filter", "topic"),
    [
        ("zigbee2mqtt/{room}/motion", "zigbee2mqtt/room/motion"),
        ("tele/+/SENSOR", "tele/test/SENSOR"),
        ("a/{rest...}", "a/rest"),
        ("#", "test"),
        ("$SYS/broker/#", "$SYS/broker/test"),
    ],
)
def test_a_topic_is_made_of_the_filter(filter: str, topic: str) -> None:
    assert topic_for(Filter.parse(filter)) == topic


@given(st.lists(LEVELS, min_size=1, max_size=4, unique=True), st.sampled_from(["", "/#", "/{rest...}"]))
def test_the_topic_is_one_that_the_filter_takes(levels: list[str], end: str) -> None:
    text = "/".join(levels) + end
    if not text:
        return
    filter = Filter.parse(text)
    assert filter.takes(tuple(topic_for(filter).split("/")))


def test_neither_conditions_nor_gates_are_asked() -> None:
    found = event(when="payload.occupancy", on_change="payload.nothing", cooldown="1h", debounce="1h", key="{{ room }}")
    assert json.loads(found.body)["data"]["captures"] == {"room": "room"}


def test_a_replay_makes_an_event_too() -> None:
    rule = mapping()
    (fate,) = specimens(message(retained=True), Route(mapping="m", rule=rule, destinations={"m": rule}), wall=AT, new_id=new_id)
    assert isinstance(fate.content, Event)


def test_silence_has_lasted_as_long_as_the_mapping_asks_for() -> None:
    assert event(silence="3h", text="{{ silent_for }}").body == b"10800"
    assert json.loads(event(silence="3h").body)["data"]["silent_for"] == 10_800
    assert "silent_for" not in json.loads(event().body)["data"]


def test_a_batch_is_a_list_of_one() -> None:
    (body,) = json.loads(event(batch={"size": 5}).body)
    assert body["data"]["payload"] == {"test": True}
    assert event(batch={}, text="x").body == b"x"


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"json": {"a": "{{ payload.occupancy }}"}}, "payload.occupancy is missing"),
        ({"url": "https://example.com/{{ payload.id }}"}, "payload.id is missing"),
        ({"key": "{{ payload.key }}"}, "payload.key is missing"),
        ({"decode": "json"}, "the payload is not JSON"),
    ],
)
def test_a_message_that_does_not_fit_says_why(keys: dict[str, Any], reason: str) -> None:
    fate = only(b"{", **keys)
    assert isinstance(fate.content, Message)
    assert reason in str(fate.reason)


def test_each_destination_gets_its_own() -> None:
    rule, other = mapping(), mapping(url="https://example.org/{{ room }}")
    fates = specimens(message(), Route(mapping="m", rule=rule, destinations={"a": rule, "b": other}), wall=AT, new_id=new_id)
    assert [fate.destination for fate in fates] == ["a", "b"]
    assert [fate.content.url for fate in fates if isinstance(fate.content, Event)] == ["https://example.com/hooks/motion", "https://example.org/hall"]
    assert len({fate.id for fate in fates}) == 2
