"""From a message to its events: every payload that a device can send, and one fate for each destination."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.model import Event, Lane, Message, Priority, Result, State
from bridge.rules.events import KEY, captures_of, event_for, fates_for, fates_of, letter_of, names_of, silence_of, weighed
from bridge.rules.events import TOPIC as BY_TOPIC
from bridge.rules.gates import NOTHING, Memory
from bridge.rules.loops import HOP, MAX_TRAIL
from bridge.rules.outbound import Destination, Outbound, Route, Routes
from bridge.rules.payloads import MAX_DEPTH, decoded
from tests.rig.mappings import AT, MOTION, STATUS, TOPIC, event, fate, mapping, message, new_id, route, weigh

SAMPLES_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "device-samples.json"
SAMPLES = json.loads(SAMPLES_FILE.read_text()) if SAMPLES_FILE.exists() else []


# Payloads


def test_an_event_is_the_products_own_shape() -> None:
    made = event(b'{"occupancy":true}')
    assert (made.method, made.url, made.headers) == ("POST", "https://example.com/hooks/motion", (("Content-Type", "application/json"), ("webhook-hop", "hall-motion")))
    assert json.loads(made.body) == {
        "type": "hall-motion",
        "timestamp": "2025-11-24T16:00:00.250Z",
        "data": {"topic": TOPIC, "payload": {"occupancy": True}, "retained": False, "qos": 1, "captures": {"room": "hall"}},
    }


JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256)) * 800  # 200 KB, as a camera sends them

PAYLOADS = [  # payload, what the event's data hold, source
    (b"", {"payload": ""}, 'the product: an empty payload is ""'),
    (b"ON", {"payload": "ON"}, "Tasmota"),
    (b"21.5", {"payload": 21.5}, "a bare number"),
    (b"null", {"payload": None}, "JSON's null"),
    (b"true", {"payload": True}, "JSON's true"),
    (b'"text"', {"payload": "text"}, "JSON's text"),
    (b"[1,[2]]", {"payload": [1, [2]]}, "JSON's list"),
    (b"NaN", {"payload": "NaN"}, "RFC 8259 6: not a number of JSON's"),
    (b"-Infinity", {"payload": "-Infinity"}, "RFC 8259 6"),
    (b'{"a":NaN}', {"payload": '{"a":NaN}'}, "RFC 8259 6"),
    (b'{"a":1', {"payload": '{"a":1'}, "cut off"),
    (b'"\\ud800"', {"payload": '"\\ud800"'}, "RFC 8259 8.2: a lone surrogate"),
    (b"1" * 5000, {"payload": "1" * 5000}, "Python's bound on the digits of a number"),
    (b"[" * 100_000, {"payload": "[" * 100_000}, "RFC 8259 9: nesting may be bounded"),
    (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, {"payload": json.loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)}, "as deep as may be"),
    (b"[" * 101 + b"]" * 101, {"payload": "[" * 101 + "]" * 101}, "deeper than may be"),
    (b'{"a":' * 101 + b"1" + b"}" * 101, {"payload": '{"a":' * 101 + "1" + "}" * 101}, "deeper than may be"),
    (b"\xff\xd8\xff\xe0", {"payload_base64": "/9j/4A=="}, "RFC 4648 4: a JPEG's start"),
    (JPEG, {"payload_base64": base64.b64encode(JPEG).decode()}, "a camera's picture"),
    ("Küche 21 °C".encode(), {"payload": "Küche 21 °C"}, "UTF-8"),
    (b'{"a":1,"a":2}', {"payload": {"a": 2}}, "RFC 8259 4: the last one counts"),
]


@pytest.mark.parametrize(("payload", "data", "source"), PAYLOADS, ids=lambda value: repr(value)[:30])
def test_every_payload_becomes_an_event(payload: bytes, data: dict[str, Any], source: str) -> None:
    made = json.loads(event(payload).body)["data"]
    assert {key: made.get(key) for key in data} == data, source
    assert len(made) == 5


DECODED = [  # how, payload, value or the reason
    ("json", b'{"a":1}', {"a": 1}),
    ("json", b"ON", "the payload is not JSON: expected value at line 1 column 1"),
    ("json", b"", ""),
    ("json", b" ", "the payload is not JSON: "),
    ("json", b"NaN", "the payload is not JSON: "),
    ("json", b"\xff", "the payload is not JSON: "),
    ("json", b"[" * 101 + b"]" * 101, "the payload is not JSON: it nests deeper than 100 levels"),
    ("text", b'{"a":1}', '{"a":1}'),
    ("text", b"", ""),
    ("text", b"\xff", "the payload is not UTF-8 text"),
    ("bytes", b'{"a":1}', b'{"a":1}'),
    ("bytes", b"", b""),
]


@pytest.mark.parametrize(("how", "payload", "value"), DECODED, ids=lambda value: repr(value)[:30])
def test_a_payload_is_decoded_as_the_mapping_says_or_it_is_a_dead_letter(how: str, payload: bytes, value: Any) -> None:
    found = fate(payload, decode=how)
    if isinstance(value, str) and value.startswith("the payload"):
        assert found.content == message(payload)
        assert str(found.reason).startswith(value)
        assert found.key == TOPIC
        return
    assert decoded(payload, how) == value
    assert isinstance(found.content, Event)


@pytest.mark.skipif(not SAMPLES_FILE.exists(), reason="the shared samples are not beside this project")
@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample["topic"][:40])
def test_every_message_of_real_devices_becomes_an_event(sample: dict[str, Any]) -> None:
    payload = base64.b64decode(sample["payload"]) if sample["encoding"] == "base64" else sample["payload"].encode()
    came = message(payload, topic=sample["topic"], retained=sample["retain"], qos=sample["qos"])
    decoded(payload, "auto")
    (found,) = fates_for(came, Routes([route(mapping(topic="#" if not sample["topic"].startswith("$") else "$SYS/#", retained="use"))], own=STATUS), wall=AT, new_id=new_id)
    assert isinstance(found.content, Event), found.reason
    data = json.loads(found.content.body)["data"]
    assert data["topic"] == sample["topic"]
    assert "payload" in data or base64.b64decode(data["payload_base64"]) == payload


# Conditions

CONDITIONS = [  # payload, when, the reason or None where it holds, source
    (MOTION, "payload.occupancy and payload.battery > 20", None, "the product's example"),
    (MOTION, "payload.items == 3", None, "an own key wins over a method"),
    (MOTION, "payload.update.state == 'idle'", None, "an own key wins over a method"),
    (MOTION, "payload.illuminance is none", None, "null is a value"),
    (MOTION, "room == 'hall' and levels[0] == 'zigbee2mqtt' and topic == 'zigbee2mqtt/hall/motion'", None, "the product's names"),
    (MOTION, "not retained and qos == 1 and properties.unit == 'C' and received_at == '2025-11-24T16:00:00.250Z'", None, "the product's names"),
    (b"ON", "value == 'ON' and payload == 'ON'", None, "value is the raw text"),
    (b"21.50", "value == '21.50' and payload == 21.5", None, "value is the raw text"),
    (MOTION, "payload.battery > 60", "`when` is false: payload.battery > 60", "a person finds it in the config"),
    (b"{}", "payload.occupancy", "`when` counts as false: payload.occupancy is missing", "a heartbeat without the key"),
    (b"{}", "payload.items", "`when` counts as false: payload.items is missing", "a method is no value"),
    (b"", "payload.occupancy", "`when` counts as false: payload.occupancy is missing", "a cleared topic"),
    (MOTION, "payload.illuminance > 20", "`when` counts as false: payload.illuminance is null, not a number", "null"),
    (MOTION, "payload.temperature > 20", "`when` counts as false: payload.temperature is the text '21.5', not a number: write payload.temperature|float", "numbers as text"),
    (b"NaN", "payload > 3", "`when` counts as false: payload is the text 'NaN', not a number: write payload|float", "ESPHome without a reading"),
    (b"\xff", "value == ''", "`when` counts as false: value is missing", "bytes have no text"),
    (b"\xff", "payload.a", "`when` counts as false: payload.a is missing", "bytes have no keys"),
]


@pytest.mark.parametrize(("payload", "when", "reason", "source"), CONDITIONS, ids=lambda value: repr(value)[:40])
def test_a_condition_holds_or_its_reason_is_told(payload: bytes, when: str, reason: str | None, source: str) -> None:
    found = fate(payload, when=when)
    assert found.reason == reason, source
    assert isinstance(found.content, Event) is (reason is None)
    assert reason is None or found.content is None, "what is filtered is no dead letter"
    assert weigh(message(payload), mapping(when=when)).failed is (reason is not None and "counts as" in reason), "a slip is told from a no"


@pytest.mark.parametrize(
    ("keys", "failed"),
    [
        ({"on_change": "payload.voltage"}, True),
        ({"on_change": "payload.battery"}, False),
        ({"on_change": "payload.voltage", "when": "payload.battery > 60"}, False),
        ({"on_change": "payload.battery", "when": "payload.voltage"}, True),
        ({"cooldown": "1m", "when": "payload.voltage"}, True),
        ({"silence": "1m", "when": "payload.voltage"}, True),
    ],
)
def test_a_condition_that_cannot_be_evaluated_is_marked_also_behind_gates(keys: dict[str, Any], failed: bool) -> None:
    found = weigh(message(), mapping(**keys))
    assert found.failed is failed
    assert not failed or "payload.voltage is missing" in str(found.reason)


# Requests


@pytest.mark.parametrize(
    ("keys", "payload", "content_type", "body"),
    [
        ({"format": "raw"}, MOTION, "application/json", MOTION),
        ({"format": "raw"}, b"ON", "text/plain; charset=utf-8", b"ON"),
        ({"format": "raw"}, b"", "text/plain; charset=utf-8", b""),
        ({"format": "raw"}, b"\xff\x00", "application/octet-stream", b"\xff\x00"),
        ({"format": "raw"}, JPEG, "application/octet-stream", JPEG),
        ({"format": "raw", "decode": "bytes"}, b"ON", "application/octet-stream", b"ON"),
        ({"json": {"text": "{{ room }}: {{ payload.battery }} %", "battery": "{{ payload.battery }}"}}, MOTION, "application/json", b'{"text":"hall: 55 %","battery":55}'),
        ({"text": "Bewegung im {{ room }} (°)"}, MOTION, "text/plain; charset=utf-8", "Bewegung im hall (°)".encode()),
        ({"text": "x", "headers": {"content-type": "text/html"}}, MOTION, "text/html", b"x"),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_body_is_what_the_mapping_asks_for(keys: dict[str, Any], payload: bytes, content_type: str, body: bytes) -> None:
    made = event(payload, **keys)
    assert made.body == body
    assert [value for name, value in made.headers if name.lower() == "content-type"] == [content_type]


def test_url_headers_method_key_and_expiry_are_the_mappings() -> None:
    keys: dict[str, Any] = {"url": "https://example.com/{{ room }}?t={{ topic }}", "method": "PUT", "headers": {"X-Room": "{{ room }}", "Title": "Küche"}, "key": "{{ room }}", "expires": "3d"}
    found = fate(**keys)
    assert isinstance(found.content, Event)
    assert (found.key, found.expires_s, found.reason) == ("hall", 259_200.0, None)
    assert (found.content.method, found.content.url) == ("PUT", "https://example.com/hall?t=zigbee2mqtt%2Fhall%2Fmotion")
    assert found.content.headers == (("Content-Type", "application/json"), ("X-Room", "hall"), ("Title", "Küche"), ("webhook-hop", "hall-motion"))


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"url": "https://example.com/{{ payload.voltage }}"}, "payload.voltage is missing"),
        ({"url": "https://example.com/{{ payload.dots }}"}, "a value would make the URL's path climb with '.' or '..'"),
        ({"headers": {"X-A": "{{ payload.crlf }}"}}, "holds a control character"),
        ({"json": {"a": "{{ payload.voltage }}"}}, "payload.voltage is missing"),
        ({"text": "{{ payload.voltage }}"}, "payload.voltage is missing"),
        ({"text": "{{ '%c'|format(55296) }}"}, "the text can't be sent as UTF-8: surrogates not allowed"),
        ({"key": "{{ payload.voltage }}"}, "payload.voltage is missing"),
    ],
    ids=str,
)
def test_a_message_that_fits_no_template_is_kept_as_a_dead_letter(keys: dict[str, Any], reason: str) -> None:
    payload = b'{"dots":"..","crlf":"a\\r\\nX-Evil: 1"}'
    found = fate(payload, **keys)
    assert found.content == message(payload)
    assert reason in str(found.reason)
    assert found.key == TOPIC


def test_each_destination_has_a_fate_of_its_own() -> None:
    good = Destination.model_validate({"url": "https://a.example/", "sign": "none"})
    poison = Destination.model_validate({"url": "https://b.example/{{ payload.voltage }}", "sign": "none"})
    rule = Outbound.model_validate({"topic": "#", "to": ["a", "b"]})
    one, other = fates_of(weighed(message(), Route(mapping="m", rule=rule, destinations={"a": good, "b": poison}), now=AT, wall=AT), new_id=new_id)
    assert (one.destination, type(one.content), one.reason) == ("a", Event, None)
    assert (other.destination, type(other.content), other.reason) == ("b", Message, "payload.voltage is missing")


@pytest.mark.parametrize(("retained", "setting", "made"), [(False, "ignore", True), (True, "ignore", False), (True, "use", True), (False, "use", True)])
def test_a_replay_is_ignored_unless_it_is_used(retained: bool, setting: str, made: bool) -> None:
    (found,) = fates_of(weigh(message(retained=retained), mapping(retained=setting)), new_id=new_id)
    assert isinstance(found.content, Event) is made
    assert made or (found.content is None and str(found.reason).startswith("it is a retained message that the broker replayed"))


RULES = [
    route(mapping(topic="#", when="payload.a > 3"), name="when"),
    route(mapping(topic="{a}/{rest...}", url="https://example.com/{{ a }}/{{ payload }}?v={{ rest }}", headers={"X-V": "{{ value }}"}), name="url"),
    route(mapping(topic="#", json={"p": "{{ payload }}", "t": "{{ payload.a }}"}), name="json"),
    route(mapping(topic="#", text="{{ payload|length }} {{ levels|join('-') }}", key="{{ payload }}"), name="text"),
    route(mapping(topic="#", decode="json", format="raw"), name="raw"),
    route(mapping(topic="#"), name="event"),
]


@given(st.one_of(st.binary(), st.text().map(str.encode), st.sampled_from([b'{"a":4}', b'{"a":"4"}', b'"../.."', b'"@evil.example"', b"[]", MOTION])), st.sampled_from([TOPIC, "a", "a//b", "..", "../..", "a b/ü/{{ x }}", "a?b#"]))
def test_whatever_comes_each_mapping_that_takes_it_has_one_fate_and_no_url_leads_elsewhere(payload: bytes, topic: str) -> None:
    fates = fates_for(message(payload, topic=topic), Routes(RULES, own=STATUS), wall=AT, new_id=new_id)
    assert [one.mapping for one in fates] == [one.mapping for one in RULES]
    for one in fates:
        if isinstance(one.content, Event):
            assert urlsplit(one.content.url).netloc == "example.com"
            assert not any(re.search(rb"[\x00-\x1f\x7f]", value.encode()) for _, value in one.content.headers)
        else:
            assert one.reason
            assert one.content is None or isinstance(one.content, Message)


def test_a_message_that_no_mapping_takes_has_no_fate() -> None:
    assert fates_for(message(topic="elsewhere"), Routes([route(mapping())], own=STATUS), wall=AT, new_id=new_id) == []


def test_the_first_filter_that_takes_a_topic_says_what_is_captured() -> None:
    rule = mapping(topic=["z/{room}", "{site}/{rest...}"])
    assert captures_of(("z", "hall"), rule) == {"room": "hall"}
    assert captures_of(("y", "a", "b"), rule) == {"site": "y", "rest": "a/b"}
    assert captures_of(("$SYS",), rule) == {}
    assert names_of(message(topic="y/a/b"), rule, wall=AT)["rest"] == "a/b"


# Gates

LAST = Memory(heard_at=AT - 3600, last=message(b'{"v":1}', at=AT - 3600))


@pytest.mark.parametrize(
    ("hop", "reason", "onward"),
    [
        (None, None, "hall-motion"),
        ("other", None, "other, hall-motion"),
        ("hall-motion-2, x", None, "hall-motion-2, x, hall-motion"),
        ("no trail at all!", None, "hall-motion"),
        ("hall-motion", "a loop: it has come through hall-motion before", ""),
        ("a, hall-motion, b", "a loop: it has come through hall-motion before", ""),
        (", ".join(f"n{n}" for n in range(MAX_TRAIL)), f"a loop: it has come through {MAX_TRAIL} mappings and hooks", ""),
    ],
)
def test_what_has_come_through_its_mapping_before_ends_there_and_anything_else_says_where_it_has_been(hop: str | None, reason: str | None, onward: str) -> None:
    came = replace(message(), properties={} if hop is None else {HOP: hop})
    found = weigh(came, mapping(on_change="payload", retained="changed"))
    (only,) = fates_of(found, new_id=new_id)
    if reason is None:
        assert isinstance(only.content, Event)
        assert dict(only.content.headers)[HOP] == onward
    else:
        assert (only.content, only.result, found.learnt) == (None, Result.FILTERED, {})
        assert str(only.reason).startswith(reason)


@pytest.mark.parametrize("gates", [{}, {"on_change": "payload"}, {"cooldown": "60s"}, {"debounce": "2s"}, {"silence": "30m"}], ids=str)
def test_what_when_doesnt_want_is_filtered_though_it_has_no_key(gates: dict[str, str]) -> None:
    """A filter that takes many kinds of messages, of which one has the id that the key goes by: the rest is no dead letter."""
    found = weigh(message(b'{"type":"heartbeat"}'), mapping(when="payload.type == 'press'", key="{{ payload.id }}", **gates))
    assert (found.result, found.reason) == (Result.FILTERED, "`when` is false: payload.type == 'press'")


@pytest.mark.parametrize("gates", [{}, {"on_change": "payload"}, {"cooldown": "60s"}, {"debounce": "2s"}], ids=str)
def test_what_is_wanted_and_has_no_key_is_a_dead_letter(gates: dict[str, str]) -> None:
    (only,) = fates_of(weigh(message(b"{}"), mapping(key="{{ payload.id }}", **gates)), new_id=new_id)
    assert (only.content, only.result, only.reason, only.key) == (message(b"{}"), Result.DEAD, "payload.id is missing", TOPIC)


def test_what_gates_refuse_ends_once_for_each_destination() -> None:
    to = Destination.model_validate({"url": "https://a.example/", "sign": "none"})
    route = Route(mapping="m", rule=Outbound.model_validate({"topic": "#", "to": ["a", "b"], "cooldown": "60s"}), destinations={"a": to, "b": to})
    first = weighed(message(), route, now=AT, wall=AT)
    assert [(one.destination, one.result, type(one.content)) for one in fates_of(first, new_id=new_id)] == [("a", None, Event), ("b", None, Event)]
    second = weighed(message(), route, now=AT + 1, wall=AT + 1, recall=lambda place: first.learnt[place])
    ends = fates_of(second, new_id=new_id)
    assert [(one.destination, one.result, one.content) for one in ends] == [("a", Result.COALESCED, None), ("b", Result.COALESCED, None)]
    assert len({one.id for one in [*ends, *fates_of(first, new_id=new_id)]}) == 4


def test_what_gates_learn_is_kept_by_key_and_what_replays_are_told_by_is_kept_by_topic() -> None:
    found = weigh(message(), mapping(on_change="payload.occupancy", cooldown="60s", retained="changed", key="{{ room }}"))
    assert found.key == "hall"
    assert set(found.learnt) == {("hall-motion", KEY, "hall"), ("hall-motion", BY_TOPIC, TOPIC)}
    assert found.learnt["hall-motion", KEY, "hall"] == Memory(value="true", fired_at=AT)
    assert weigh(message(), mapping(on_change="payload.occupancy"), recall=lambda place: Memory(value="true")).learnt == {}, "nothing new"


def test_what_a_gate_cant_tell_or_only_listens_to_ends_with_its_reason() -> None:
    found = weigh(message(), mapping(on_change="payload.voltage", cooldown="60s"))
    assert (found.result, found.reason, found.learnt) == (Result.FILTERED, "`on_change` counts as unchanged: payload.voltage is missing", {})
    found = weigh(message(), mapping(silence="30m"))
    assert (found.result, found.reason) == (Result.FILTERED, "it is a sign of life: the mapping makes an event of silence only")
    assert found.learnt == {("hall-motion", KEY, TOPIC): Memory(heard_at=AT, last=message())}


def test_silence_makes_an_event_of_the_last_message_and_is_noted() -> None:
    found = silence_of(route(mapping(silence="30m", key="{{ room }}", expires="1h")), "hall", LAST, now=AT, wall=AT + 7)
    assert (found.result, found.key, found.silent_for, found.names["silent_for"]) == (None, "hall", 3600, 3600)
    assert found.learnt == {("hall-motion", KEY, "hall"): Memory(heard_at=LAST.heard_at, last=LAST.last, silent=True)}
    (only,) = fates_of(found, new_id=new_id)
    assert (only.key, only.expires_s) == ("hall", 3600.0)


def test_silence_of_a_message_that_cant_be_read_any_more_is_a_dead_letter() -> None:
    found = silence_of(route(mapping(silence="30m", decode="json")), TOPIC, Memory(heard_at=AT, last=message(b"no json")), now=AT + 1800, wall=AT)
    (only,) = fates_of(found, new_id=new_id)
    assert (only.content, only.result) == (message(b"no json"), Result.DEAD)
    assert found.learnt[("hall-motion", KEY, TOPIC)].silent, "and not one more each half hour"


def test_only_a_mapping_with_a_reply_keeps_the_topic_beside_its_event() -> None:
    assert event().topic == ""
    assert event(reply={"topic": "a", "text": "on"}).topic == TOPIC


# What is mended


def test_a_dead_letter_becomes_an_event_once_its_mapping_is_mended() -> None:
    dead = fate(b'{"v":1}', text="{{ payload.w }}")
    assert isinstance(dead.content, Message)
    made = event_for(dead.content, route(mapping(text="{{ payload.v }}")), "hall-motion", id=dead.id, wall=AT)
    assert (made.body, made.parts) == (b"1", ())


def test_in_a_mapping_with_batches_it_is_a_batch_of_one() -> None:
    made = event_for(message(b'{"v":1}'), route(mapping(json={"v": "{{ payload.v }}"}, batch={})), "hall-motion", id="evt_1", wall=AT)
    assert (made.body, made.parts, made.joint) == (b'[{"v":1}]', (7,), ",")


@pytest.mark.parametrize(
    ("keys", "destination", "words"),
    [
        ({}, "elsewhere", "the mapping does not lead to 'elsewhere' any more"),
        ({"when": "payload.a"}, "hall-motion", "`when` counts as false: payload.a is missing"),
        ({"when": "payload.v > 1"}, "hall-motion", "`when` is false: payload.v > 1"),
        ({"decode": "text", "text": "{{ payload.v }}"}, "hall-motion", "payload.v is missing"),
    ],
    ids=str,
)
def test_one_that_still_cant_be_an_event_says_why(keys: dict[str, Any], destination: str, words: str) -> None:
    with pytest.raises(RenderError, match=re.escape(words)):
        event_for(message(b'{"v":1}'), route(mapping(**keys)), destination, id="evt_1", wall=AT)


def test_gates_are_not_asked_again_for_what_they_let_through() -> None:
    assert event_for(message(b"1", retained=True), route(mapping(on_change="payload", cooldown="60s")), "hall-motion", id="evt_1", wall=AT).method == "POST"


def test_a_report_of_silence_is_mended_as_one() -> None:
    """The product: a mapping with `silence` fires with the last payload *and* `silent_for`."""
    (dead,) = fates_of(silence_of(route(mapping(silence="30m", text="{{ payload.w }}")), TOPIC, LAST, now=AT, wall=AT), new_id=new_id)
    content = letter_of(dead, created_at=AT, origin=None).content
    assert isinstance(content, Message)
    made = event_for(content, route(mapping(silence="30m", text="{{ payload.v }} for {{ silent_for }} s")), "hall-motion", id=dead.id, wall=AT)
    assert made.body == b"1 for 3600 s"


def test_under_silence_no_message_makes_an_event_not_even_one_that_is_mended() -> None:
    """The product: a mapping with `silence` fires for silence only."""
    found = weigh(message(b"no json"), mapping(silence="30m", decode="json"))
    if found.result is Result.DEAD:
        with pytest.raises(RenderError):
            event_for(found.message, route(mapping(silence="30m")), "hall-motion", id="evt_1", wall=AT)


# Letters


def test_a_letter_carries_an_event_and_knows_when_it_expires() -> None:
    letter = letter_of(found := fate(expires="1h"), created_at=AT, origin="o")
    assert (letter.id, letter.lane, letter.mapping, letter.destination, letter.key) == (found.id, Lane.WEBHOOK, "hall-motion", "hall-motion", TOPIC)
    assert (letter.state, letter.created_at, letter.expires_at, letter.dead_at, letter.reason, letter.origin) == (State.WAITING, AT, AT + 3600, None, None, "o")


def test_a_letter_keeps_a_message_that_could_not_become_an_event_as_dead() -> None:
    letter = letter_of(fate(b"ON", decode="json"), created_at=AT, origin=None)
    assert (letter.state, letter.dead_at, letter.reason, letter.expires_at) == (State.DEAD, AT, "the payload is not JSON: expected value at line 1 column 1", None)
    assert letter.content == message(b"ON")


def test_a_letter_goes_by_its_key_or_by_itself_and_first_where_the_mapping_says_so() -> None:
    letter = letter_of(fate(key="{{ room }}", priority="high"), created_at=AT, origin=None)
    assert (letter.key, letter.priority) == ("hall", Priority.HIGH)
    letter = letter_of(found := fate(order="none", key="{{ room }}"), created_at=AT, origin=None)
    assert (letter.key, letter.priority) == (found.id, Priority.NORMAL)


def test_a_bridge_that_has_seen_nothing_knows_nothing() -> None:
    routes = Routes([route(mapping(on_change="payload"))], own=STATUS)
    assert [one.result for one in fates_for(message(), routes, wall=AT, new_id=new_id)] == [None]
    known = weigh(message(), mapping(on_change="payload")).learnt
    assert [one.result for one in fates_for(message(), routes, wall=AT, new_id=new_id, recall=lambda place: known.get(place, NOTHING))] == [Result.FILTERED]
