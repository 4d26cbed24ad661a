"""From a message to its events: every payload that a device can send, and one fate for each destination."""

import base64
import json
import re
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.model import Event, Lane, Message, State
from bridge.rules.outbound import (
    Destination,
    Fate,
    Outbound,
    Route,
    Routes,
    captures_of,
    curl,
    explain_topic,
    fates_for,
    fates_of,
    letter_of,
    names_of,
)
from bridge.rules.payloads import MAX_DEPTH, decoded

AT = 1_764_000_000.25
TOPIC = "zigbee2mqtt/hall/motion"
MOTION = b'{"occupancy":true,"battery":55,"illuminance":null,"temperature":"21.5","items":3,"update":{"state":"idle"}}'

SAMPLES_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "device-samples.json"
SAMPLES = json.loads(SAMPLES_FILE.read_text()) if SAMPLES_FILE.exists() else []


def mapping(**keys: Any) -> Outbound:
    return Outbound.model_validate({"topic": "zigbee2mqtt/{room}/motion", "url": "https://example.com/hooks/motion", "sign": "none", **keys})


def route(rule: Outbound, *, name: str = "hall-motion") -> Route:
    return Route(mapping=name, rule=rule, destinations={name: rule})


def message(payload: bytes = MOTION, *, topic: str = TOPIC, retained: bool = False, qos: int = 1) -> Message:
    return Message(topic=topic, payload=payload, qos=qos, retained=retained, properties={"unit": "C"}, received_at=AT)


def fate(payload: bytes = MOTION, **keys: Any) -> Fate:
    (only,) = fates_of(message(payload), route(mapping(**keys)))
    return only


def event(payload: bytes = MOTION, **keys: Any) -> Event:
    found = fate(payload, **keys)
    assert isinstance(found.content, Event), found.reason
    return found.content


# Payloads


def test_an_event_is_the_products_own_shape() -> None:
    made = event(b'{"occupancy":true}')
    assert (made.method, made.url, made.headers) == ("POST", "https://example.com/hooks/motion", (("Content-Type", "application/json"),))
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
    ("json", b"", "the payload is empty, not JSON"),
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
    (found,) = fates_for(came, Routes([route(mapping(topic="#" if not sample["topic"].startswith("$") else "$SYS/#", retained="use"))]))
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
    assert found.content.headers == (("Content-Type", "application/json"), ("X-Room", "hall"), ("Title", "Küche"))


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
    one, other = fates_of(message(), Route(mapping="m", rule=rule, destinations={"a": good, "b": poison}))
    assert (one.destination, type(one.content), one.reason) == ("a", Event, None)
    assert (other.destination, type(other.content), other.reason) == ("b", Message, "payload.voltage is missing")


@pytest.mark.parametrize(("retained", "setting", "made"), [(False, "ignore", True), (True, "ignore", False), (True, "use", True), (False, "use", True)])
def test_a_replay_is_ignored_unless_it_is_used(retained: bool, setting: str, made: bool) -> None:
    (found,) = fates_of(message(retained=retained), route(mapping(retained=setting)))
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
    fates = fates_for(message(payload, topic=topic), Routes(RULES))
    assert [one.mapping for one in fates] == [one.mapping for one in RULES]
    for one in fates:
        if isinstance(one.content, Event):
            assert urlsplit(one.content.url).netloc == "example.com"
            assert not any(re.search(rb"[\x00-\x1f\x7f]", value.encode()) for _, value in one.content.headers)
        else:
            assert one.reason
            assert one.content is None or isinstance(one.content, Message)


# Routes


def test_mappings_are_found_once_each_in_the_order_of_the_config() -> None:
    rules = {"b": mapping(topic=["a/+", "a/#", "#"]), "a": mapping(topic="a/b"), "off": mapping(topic="#", enabled=False), "c": mapping(topic="c")}
    routes = Routes([route(rule, name=name) for name, rule in rules.items()])
    assert [found.mapping for found in routes.of("a/b")] == ["b", "a"]
    assert [found.mapping for found in routes.of("c")] == ["b", "c"]
    assert routes.of("$SYS/uptime") == []
    assert [found.mapping for found in routes.all] == ["b", "a", "c"]
    assert routes.named("a") is routes.all[1]
    assert routes.named("off") is None


def test_a_message_that_no_mapping_takes_has_no_fate() -> None:
    assert fates_for(message(topic="elsewhere"), Routes([route(mapping())])) == []


def test_the_first_filter_that_takes_a_topic_says_what_is_captured() -> None:
    rule = mapping(topic=["z/{room}", "{site}/{rest...}"])
    assert captures_of(("z", "hall"), rule) == {"room": "hall"}
    assert captures_of(("y", "a", "b"), rule) == {"site": "y", "rest": "a/b"}
    assert captures_of(("$SYS",), rule) == {}
    assert names_of(message(topic="y/a/b"), rule)["rest"] == "a/b"


@pytest.mark.parametrize(
    ("filter", "topic", "said"),
    [
        ("zigbee2mqtt/{room}/motion", "zigbee2mqtt/hall/contact", 'zigbee2mqtt/{room}/motion: level 3 is "contact", not "motion"'),
        ("z/+", "z/küche/a", "z/+: it takes 2 levels, the topic has 3"),
        ("z/+/a", "z", "z/+/a: it takes 3 levels, the topic has 1"),
        ("#", "$SYS/uptime", "#: a wildcard at the start takes no topic that starts with '$'"),
        ("+", "$SYS", "+: a wildcard at the start takes no topic that starts with '$'"),
        ("+/#", "$SYS/a/b", "+/#: a wildcard at the start takes no topic that starts with '$'"),
        (["a", "b"], "ü", 'a: level 1 is "ü", not "a"; b: level 1 is "ü", not "b"'),
    ],
)
def test_why_a_mapping_doesnt_take_a_topic_is_said_level_by_level(filter: Any, topic: str, said: str) -> None:
    assert explain_topic(mapping(topic=filter), topic) == said


# Letters


def test_a_letter_carries_an_event_and_knows_when_it_expires() -> None:
    letter = letter_of(fate(expires="1h"), id="evt_1", created_at=AT, origin="o")
    assert (letter.id, letter.lane, letter.mapping, letter.destination, letter.key) == ("evt_1", Lane.WEBHOOK, "hall-motion", "hall-motion", TOPIC)
    assert (letter.state, letter.created_at, letter.expires_at, letter.dead_at, letter.reason, letter.origin) == (State.WAITING, AT, AT + 3600, None, None, "o")


def test_a_letter_keeps_a_message_that_could_not_become_an_event_as_dead() -> None:
    letter = letter_of(fate(b"", decode="json"), id="evt_1", created_at=AT, origin=None)
    assert (letter.state, letter.dead_at, letter.reason, letter.expires_at) == (State.DEAD, AT, "the payload is empty, not JSON", None)
    assert letter.content == message(b"")


# Settings

UNFIT = [  # keys, words
    ({"to": "alarm"}, "expected one of `url` and `to`"),
    ({"url": None}, "expected one of `url` and `to`"),
    ({"url": None, "to": []}, "expected one of `url` and `to`"),
    ({"url": None, "to": "alarm"}, "`sign` belongs beside a `url`; with `to`, put it into the destination"),
    ({"format": "raw", "text": "x"}, "expected one of `format`, `json` and `text`"),
    ({"json": {}, "text": "x"}, "expected one of `format`, `json` and `text`"),
    ({"topic": "z/{payload}"}, "topic: the capture {payload} has the name of something else, choose another"),
    ({"topic": []}, "at least 1"),
    ({"topic": "a/#/b"}, "'#' must be the last level"),
    ({"when": "paylod.a"}, "when: 'paylod' is not a name that can be used here; did you mean 'payload'?"),
    ({"json": {"a": "{{ rom }}"}}, "json: 'rom' is not a name that can be used here; did you mean 'room'?"),
    ({"headers": {"X-A": "{{ rom }}"}}, "headers.X-A: 'rom' is not a name"),
    ({"headers": {"X A": "x"}}, "'X A' is not a header's name"),
    ({"headers": {"Ä": "x"}}, "'Ä' is not a header's name"),
    ({"headers": {"": "x"}}, "'' is not a header's name"),
    ({"headers": {"Webhook-Id": "x"}}, "the header 'Webhook-Id' is written by the bridge itself"),
    ({"headers": {"HOST": "x"}}, "the header 'HOST' is written by the bridge itself"),
    ({"method": "post"}, "should match pattern"),
    ({"qos": 3}, "Input should be 0, 1 or 2"),
    ({"concurrency": 0}, "greater than or equal to 1"),
    ({"timeout": "0s"}, "longer than nothing"),
]


@pytest.mark.parametrize(("keys", "words"), UNFIT, ids=lambda value: str(value)[:40])
def test_a_mapping_that_doesnt_fit_together_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        mapping(**keys)


def test_a_destination_signs_with_all_of_its_secrets() -> None:
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
    assert len(mapping(sign="standard-webhooks", secret=secrets).signing_keys()) == 2
    assert mapping().signing_keys() == ()
    with pytest.raises(ValueError, match="needs a secret"):
        mapping(sign="standard-webhooks").signing_keys()


# By hand


def request(body: bytes) -> Event:
    return Event(method="POST", url="https://example.com/a?b=c&d=e", headers=(("Content-Type", "text/plain; charset=utf-8"), ("X-Room", "Wohn'zimmer $HOME")), body=body)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(lambda text: not text.startswith("@")))
def test_a_request_pasted_into_a_shell_is_the_request_itself(body: str) -> None:
    parts = shlex.split(curl(request(body.encode()), (("webhook-id", "evt_1"),)))
    assert parts[:4] == ["curl", "-i", "-X", "POST"]
    assert parts[4:10] == ["-H", "Content-Type: text/plain; charset=utf-8", "-H", "X-Room: Wohn'zimmer $HOME", "-H", "webhook-id: evt_1"]
    assert parts[-2:] == [body, "https://example.com/a?b=c&d=e"]


def test_a_payload_pasted_into_a_shell_names_no_file_to_be_sent() -> None:
    """`curl --data-binary @NAME` sends a file of whoever pastes it; curl(1) has --data-raw for what came from elsewhere."""
    parts = shlex.split(curl(request(b"@/etc/passwd"), ()))
    assert parts[parts.index("@/etc/passwd") - 1] == "--data-raw"


def test_a_binary_body_pasted_into_a_shell_is_read_from_standard_input() -> None:
    parts = shlex.split(curl(request(b"\xff\xfe"), ()), comments=True)
    assert parts[parts.index("--data-binary") + 1] == "@-"


def test_a_header_written_twice_in_other_letters_is_refused() -> None:
    """RFC 9110 section 5.1: names are the same whatever their case."""
    with pytest.raises(ValidationError, match="same name"):
        Outbound.model_validate({"topic": "a", "url": "http://x/", "sign": "none", "headers": {"X-A": "1", "x-a": "2"}})
