"""Replies: what a receiver's answer lets happen at home, and what it never can."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.errors import RenderError
from bridge.model import Command, Event, Lane, Letter, Reply, State
from bridge.rules.replies import EXPIRES_S, NAMES, ReplyRule, account, command_for, letter_of, names_of
from bridge.rules.responses import response_of
from bridge.rules.topics import Filter, topic_problem
from tests.rig.mappings import AT, TOPIC

FILTERS = (Filter.parse("zigbee2mqtt/{room}/motion"), Filter.parse("shellies/{room}/#"))
EVENT = Letter(
    id="evt_1",
    lane=Lane.WEBHOOK,
    mapping="hall-motion",
    destination="crm",
    key=TOPIC,
    content=Event(method="POST", url="https://example.com/", headers=(), body=b"{}", topic=TOPIC),
    created_at=AT,
    seq=7,
    attempts=3,
    reason="status 503",
    expires_at=AT + 1,
    origin="o",
)


def rule(**keys: Any) -> ReplyRule:
    body = {} if keys.keys() & {"json", "text"} else {"text": "on"}
    return ReplyRule.model_validate({"topic": "zigbee2mqtt/hall_light/set", **body, **keys})


def answer(body: bytes = b"", *, status: int = 200, **headers: str) -> Reply:
    return Reply(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)


def command(body: bytes = b"", *, hop: str = "hall-motion", status: int = 200, **keys: Any) -> Command | None:
    """Return what is published of an answer under a reply with these keys."""
    return command_for(rule(**keys), names_of(answer(body, status=status, x_light="on"), TOPIC, {"room": "hall"}, AT), filters=FILTERS, hop=hop)


# What is seen of an answer


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"state":"on"}', {"text": '{"state":"on"}', "json": {"state": "on"}}),
        (b"[1]", {"text": "[1]", "json": [1]}),
        (b"null", {"text": "null", "json": None}),
        (b"21.5", {"text": "21.5", "json": 21.5}),
        (b"", {"text": ""}),
        (b"ok", {"text": "ok"}),
        (b"<html>", {"text": "<html>"}),
        (b'{"a":', {"text": '{"a":'}),
        (b'{"a":NaN}', {"text": '{"a":NaN}'}),
        (b'"\\ud800"', {"text": '"\\ud800"'}),
        (b"\xff", {"text": "\ufffd"}),
        (b"[" * 1000, {"text": "[" * 1000}),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_json_is_there_only_where_the_answer_is_json(body: bytes, expected: dict[str, Any]) -> None:
    assert response_of(answer(body, status=201, location="/x")) == {"status": 201, "headers": {"location": "/x"}, **expected}


@given(st.binary())
def test_any_answer_can_be_looked_at(body: bytes) -> None:
    response = response_of(answer(body))
    assert isinstance(response["text"], str)
    assert "json" not in response or json.dumps(response["json"])


def test_a_reply_knows_the_answer_the_topic_its_levels_the_captures_and_the_time() -> None:
    names = names_of(answer(b"1"), TOPIC, {"room": "hall"}, AT)
    assert names.keys() == {*NAMES, "room"}
    assert (names["topic"], names["levels"], names["room"], names["response"]["json"]) == (TOPIC, ["zigbee2mqtt", "hall", "motion"], "hall", 1)
    assert names["now"]().timestamp() == AT


# What is published


@pytest.mark.parametrize(
    ("keys", "body", "payload"),
    [
        ({"text": "on"}, b"", b"on"),
        ({"text": "{{ response.json.state|upper }}"}, b'{"state":"on"}', b"ON"),
        ({"text": "{{ response.text }}"}, b"as it came", b"as it came"),
        ({"text": "{{ response.status }} {{ response.headers['x-light'] }}"}, b"", b"200 on"),
        ({"text": "{{ room }} {{ levels[2] }} {{ topic }}"}, b"", f"hall motion {TOPIC}".encode()),
        ({"json": {"state": "{{ response.json.state }}", "level": "{{ response.json.level }}"}}, b'{"state":"\\"}","level":5}', b'{"state":"\\"}","level":5}'),
    ],
    ids=repr,
)
def test_the_payload_is_made_of_the_answer(keys: dict[str, Any], body: bytes, payload: bytes) -> None:
    assert command(body, **keys) == Command(topic="zigbee2mqtt/hall_light/set", payload=payload, qos=1, retain=False, hop="hall-motion")


def test_qos_retain_and_hop_are_what_was_asked_for() -> None:
    made = command(qos=0, retain=True, hop="a, b", topic="home/{{ room }}/set")
    assert made == Command(topic="home/hall/set", payload=b"on", qos=0, retain=True, hop="a, b")


@pytest.mark.parametrize(
    ("when", "body", "published", "source"),
    [
        ("response.json.ring", b'{"ring":true}', True, "the example of the config"),
        ("response.json.ring", b'{"ring":false}', False, "the example of the config"),
        ("response.status == 200", b"", True, "PRODUCT.md: response"),
        ("response.status == 204", b"", False, "PRODUCT.md: response"),
        ("room == 'hall'", b"", True, "the captures"),
        ("response.json.ring", b"", False, "PRODUCT.md: a condition that fails to evaluate counts as false; an empty answer is no JSON"),
        ("response.json.ring", b"{}", False, "PRODUCT.md: a condition that fails to evaluate counts as false"),
        ("response.json.level > 5", b'{"level":"9"}', False, "PRODUCT.md: a condition that fails to evaluate counts as false"),
    ],
)
def test_nothing_is_published_unless_when_holds(when: str, body: bytes, published: bool, source: str) -> None:
    assert (command(body, when=when) is not None) is published, source


@pytest.mark.parametrize(
    ("keys", "body", "words"),
    [
        ({"text": "{{ response.json.state }}"}, b"", "response.json is missing"),
        ({"json": {"a": "{{ response.json.state }}"}}, b"{}", "response.json.state is missing"),
        ({"text": "{{ '%c'|format(55296) }}"}, b"", "the text can't be sent as UTF-8: surrogates not allowed"),
        ({"topic": "home/{{ response.json.room }}/set"}, b"{}", "response.json.room is missing"),
        ({"topic": "home/{{ response.text }}/set"}, b"a/b", "it holds '/'"),
        ({"topic": "home/{{ response.text }}/set"}, b"+", "it holds '+'"),
        ({"topic": "home/{{ response.text }}/set"}, b"#", "it holds '#'"),
        ({"topic": "home/{{ response.text }}/set"}, b"a\nb", "it holds U+000A"),
        ({"topic": "home/{{ response.text }}/set"}, b"", "it is empty"),
        ({"topic": "{{ response.text }}/set"}, b"$SYS", "it starts with '$'"),
        ({"topic": "{{ topic }}/set"}, b"", "it holds '/'"),
        ({"topic": "{% if response.status == 200 %}{% endif %}"}, b"", "nothing can be published to this topic: it is empty"),
        ({"topic": "zigbee2mqtt/{{ response.text }}/motion"}, b"attic", "a loop: 'zigbee2mqtt/attic/motion' is a topic that the mapping itself takes"),
        ({"topic": "shellies/{{ room }}/relay/0/command"}, b"", "a loop: 'shellies/hall/relay/0/command' is a topic that the mapping itself takes"),
        ({"topic": "shellies/{{ room }}"}, b"", "a loop: 'shellies/hall' is a topic that the mapping itself takes"),
    ],
    ids=repr,
)
def test_what_doesnt_fit_is_never_published(keys: dict[str, Any], body: bytes, words: str) -> None:
    with pytest.raises(RenderError, match=re.escape(words)):
        command(body, **keys)


@given(st.text(), st.sampled_from(["{{ response.text }}", "home/{{ response.text }}/set", "zigbee2mqtt/{{ response.text }}/motion", "shellies/x{{ response.text }}"]))
def test_no_answer_chooses_a_topic_that_the_mapping_takes_or_that_holds_more_levels(text: str, topic: str) -> None:
    try:
        made = command(text.encode("utf-8", "replace"), topic=topic)
    except RenderError:
        return
    assert made is not None
    assert made.topic.count("/") == topic.count("/")
    assert topic_problem(made.topic) is None
    assert not any(filter.takes(tuple(made.topic.split("/"))) for filter in FILTERS)


# Its letter


def test_a_reply_is_a_command_that_is_known_by_its_events_id_and_expires() -> None:
    made = Command(topic="a/set", payload=b"on", qos=1, retain=False)
    assert letter_of(EVENT, rule(), made, now=AT + 100) == Letter(
        id="evt_1", lane=Lane.MQTT, mapping="hall-motion.reply", destination="mqtt", key="evt_1", content=made, created_at=AT + 100, expires_at=AT + 160, state=State.WAITING
    )
    assert EXPIRES_S == 60.0
    assert letter_of(EVENT, rule(expires="5s"), made, now=AT).expires_at == AT + 5


def test_replies_are_counted_under_a_name_that_no_mapping_can_have() -> None:
    assert account("hall-motion") == "hall-motion.reply"


# Settings


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"topic": "a", "text": None}, "expected one of `json` and `text`"),
        ({"topic": "a", "text": "x", "json": {}}, "expected one of `json` and `text`"),
        ({"topic": "a/+/set"}, "topic: nothing can be published to 'a/+/set': it holds the wildcard '+'"),
        ({"topic": "$SYS/x"}, "it starts with '$'"),
        ({"topic": ""}, "it is empty"),
        ({"topic": "home/{room}/set"}, "the topic 'home/{room}/set': write {{ room }} with two braces"),
        ({"qos": 2}, "Input should be 0 or 1"),
        ({"expires": "0s"}, "longer than nothing"),
        ({"path": "x"}, "Extra inputs"),
    ],
    ids=repr,
)
def test_a_reply_that_doesnt_fit_together_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        rule(**keys)
