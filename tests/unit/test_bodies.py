"""Bodies: what a receiver reads, form by form; several in one, and one by one again."""

import base64
import json
import re
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.model import Event
from bridge.rules.bodies import CLOUD_EVENT, CLOUD_EVENTS, FORM, JSON, LINES, LIST, TEXT, Occasion, Shape, batched, body_of, joint_of, media_type, unbatched
from bridge.rules.events import fates_of, silence_of, weighed
from bridge.rules.expressions import Text
from bridge.rules.gates import Memory
from bridge.rules.structures import Form, Structure
from tests.rig.mappings import AT, MOTION, TOPIC, event, fate, mapping, message, new_id, route

JPEG = b"\xff\xd8\xff\xe0" + bytes(range(256))


def content_type(made: Event) -> str:
    (only,) = [value for name, value in made.headers if name.lower() == "content-type"]
    return only


def silent_event(**keys: Any) -> Event:
    """Return the event of a key that has been silent for an hour."""
    found = silence_of(route(mapping(silence="30m", **keys)), TOPIC, Memory(heard_at=AT, last=message(b'{"v":1}')), now=AT + 3600, wall=AT + 3600)
    (only,) = fates_of(found, new_id=new_id)
    assert isinstance(only.content, Event), only.reason
    return only.content


def replay_event(payload: bytes, **keys: Any) -> Event:
    """Return the event of a message that the broker replayed."""
    (only,) = fates_of(weighed(message(payload, retained=True, qos=0), route(mapping(retained="use", **keys)), now=AT, wall=AT), new_id=new_id)
    assert isinstance(only.content, Event), only.reason
    return only.content


# event


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (b'{"occupancy":true}', {"payload": {"occupancy": True}}),
        (b"ON", {"payload": "ON"}),
        (b"", {"payload": ""}),
        (b"21.5", {"payload": 21.5}),
        (b"null", {"payload": None}),
        ("Küche".encode(), {"payload": "Küche"}),
        (JPEG, {"payload_base64": base64.b64encode(JPEG).decode()}),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_the_default_body_is_the_products(payload: bytes, shown: dict[str, Any]) -> None:
    made = event(payload)
    assert content_type(made) == JSON
    assert json.loads(made.body) == {
        "type": "hall-motion",
        "timestamp": "2025-11-24T16:00:00.250Z",
        "data": {"topic": TOPIC, **shown, "retained": False, "qos": 1, "captures": {"room": "hall"}},
    }


def test_a_replay_says_so_with_the_qos_it_came_with() -> None:
    data = json.loads(replay_event(b"1").body)["data"]
    assert (data["retained"], data["qos"]) == (True, 0)


def test_silence_is_told_with_the_last_payload_how_long_and_when_it_was_noticed() -> None:
    made = json.loads(silent_event().body)
    assert made["timestamp"] == "2025-11-24T17:00:00.250Z"
    assert made["data"] == {"topic": TOPIC, "payload": {"v": 1}, "retained": False, "qos": 1, "captures": {"room": "hall"}, "silent_for": 3600}


# cloudevents

REQUIRED = ("specversion", "id", "source", "type")  # CloudEvents 1.0 section 3.1
URI_REFERENCE = re.compile(r"[A-Za-z0-9._~:/?#@!$&'()*+,;=%\[\]-]+")  # RFC 3986, roughly

CLOUD_PAYLOADS = [  # payload, datacontenttype, the member that holds it, source
    (b'{"a":[1]}', "application/json", {"data": {"a": [1]}}, "JSON format 3.1: any JSON value"),
    (b"21.5", "application/json", {"data": 21.5}, "JSON format 3.1"),
    (b"null", "application/json", {"data": None}, "JSON format 3.1"),
    (b"ON", "text/plain", {"data": "ON"}, "JSON format 3.1.1: text stands as a JSON string"),
    (b"", "text/plain", {"data": ""}, "JSON format 3.1.1"),
    (JPEG, "application/octet-stream", {"data_base64": base64.b64encode(JPEG).decode()}, "JSON format 3.1.1: binary data"),
]


@pytest.mark.parametrize(("payload", "kind", "member", "source"), CLOUD_PAYLOADS, ids=lambda value: repr(value)[:20])
def test_a_cloud_event_is_one_of_the_structured_mode(payload: bytes, kind: str, member: dict[str, Any], source: str) -> None:
    found = fate(payload, format="cloudevents")
    assert isinstance(found.content, Event)
    assert content_type(found.content) == "application/cloudevents+json", "HTTP binding 3.2.1"
    made = json.loads(found.content.body)
    data = {name: made.pop(name) for name in ("data", "data_base64") if name in made}
    assert data == member, source
    assert made == {
        "specversion": "1.0",
        "id": found.id,
        "source": "mqtthook",
        "type": "hall-motion",
        "subject": TOPIC,
        "time": "2025-11-24T16:00:00.250Z",
        "datacontenttype": kind,
        "retained": False,
        "qos": 1,
    }


@pytest.mark.parametrize("made", [event(MOTION, format="cloudevents"), event(JPEG, format="cloudevents"), replay_event(b"1", format="cloudevents"), silent_event(format="cloudevents")])
def test_a_cloud_event_has_what_is_required_and_no_name_or_value_that_is_not_allowed(made: Event) -> None:
    attributes = json.loads(made.body)
    attributes.pop("data", None)
    attributes.pop("data_base64", None)
    for name in REQUIRED:
        assert isinstance(attributes[name], str), name
        assert attributes[name], "section 3.1: a non-empty string"
    assert URI_REFERENCE.fullmatch(attributes["source"])
    assert datetime.fromisoformat(attributes["time"]).tzinfo is not None, "RFC 3339"
    for name, value in attributes.items():
        assert re.fullmatch("[a-z0-9]{1,20}", name), "section 3.1.1, and should be no longer than 20"
        assert isinstance(value, str | bool) or (isinstance(value, int) and -(2**31) <= value < 2**31), "section 3.2: Boolean, Integer or String"


def test_a_cloud_event_tells_of_replays_and_silence() -> None:
    assert json.loads(replay_event(b"1", format="cloudevents").body)["retained"] is True
    made = json.loads(silent_event(format="cloudevents").body)
    assert (made["silentfor"], made["time"], made["data"]) == (3600, "2025-11-24T17:00:00.250Z", {"v": 1})


def test_each_destination_gets_a_cloud_event_with_the_id_of_its_own_event() -> None:
    one, other = fate(b"1", format="cloudevents"), fate(b"1", format="cloudevents")
    assert isinstance(one.content, Event)
    assert isinstance(other.content, Event)
    assert json.loads(one.content.body)["id"] == one.id != other.id == json.loads(other.content.body)["id"]


# raw


@given(st.binary() | st.text().map(str.encode))
def test_raw_is_the_payload_to_the_last_byte(payload: bytes) -> None:
    assert event(payload, format="raw").body == payload


@pytest.mark.parametrize(
    ("payload", "kind"),
    [({"a": 1}, JSON), ([1], JSON), (21.5, JSON), (True, JSON), (None, JSON), ("ON", TEXT), ("", TEXT), (b"\xff", "application/octet-stream"), (b"", "application/octet-stream")],
)
def test_a_payload_has_a_media_type(payload: Any, kind: str) -> None:
    assert media_type(payload) == kind


# json, text


@given(st.text())
def test_a_text_body_holds_its_values_as_they_are(payload: str) -> None:
    assert event(payload.encode(), text="<{{ value }}>").body.decode() == f"<{payload}>"


def test_silent_for_can_be_used_in_a_body_of_ones_own() -> None:
    assert json.loads(silent_event(json={"minutes": "{{ silent_for // 60 }}"}).body) == {"minutes": 60}
    assert silent_event(text="{{ room }}: {{ silent_for }}").body == b"hall: 3600"
    assert silent_event(form={"s": "{{ silent_for }}"}).body == b"s=3600"


# form

FORMS = [  # the form, payload, the body, source
    ({"a": "x & y = z"}, b"1", b"a=x+%26+y+%3D+z", "WHATWG URL 5.2: a blank is +, the signs of the syntax are escaped"),
    ({"a": "1\n2\r\n"}, b"1", b"a=1%0A2%0D%0A", "no line can begin"),
    ({"name": "Küche 21 °C"}, b"1", b"name=K%C3%BCche+21+%C2%B0C", "UTF-8"),
    ({"ä&": "x"}, b"1", b"%C3%A4%26=x", "names are escaped as well"),
    ({"a": "+%"}, b"1", b"a=%2B%25", "the escapes themselves"),
    ({"a": True, "b": False, "c": 5, "d": 21.5}, b"1", b"a=true&b=false&c=5&d=21.5", "as JSON writes them"),
    ({"a": "{{ payload.on }}", "b": "{{ payload.level }}", "c": "{{ payload.nothing }}"}, b'{"on":true,"level":2.5,"nothing":null}', b"a=true&b=2.5&c=null", "as JSON writes them"),
    ({"a": "{{ payload.on }}!"}, b'{"on":"ja"}', b"a=ja%21", "a template"),
    ({"to": ["anna", "ben", "{{ payload }}"], "x": "y"}, b"carl", b"to=anna&to=ben&to=carl&x=y", "a list is a field that comes several times"),
    ({"to": "{{ payload }}"}, b'["anna","ben"]', b"to=anna&to=ben", "a payload's list as well"),
    ({"to": "{{ payload }}"}, b'{"a":[1,true]}', b"to=%7B%22a%22%3A%5B1%2Ctrue%5D%7D", "a table is JSON"),
    ({"a": "", "b": "x"}, b"1", b"a=&b=x", "an empty field is one"),
]


@pytest.mark.parametrize(("form", "payload", "body", "source"), FORMS, ids=lambda value: repr(value)[:30])
def test_a_form_is_written_as_browsers_do(form: dict[str, Any], payload: bytes, body: bytes, source: str) -> None:
    made = event(payload, form=form)
    assert made.body == body, source
    assert content_type(made) == "application/x-www-form-urlencoded"


@given(st.text(), st.lists(st.text(), min_size=1))
def test_no_payload_adds_a_field_to_a_form_or_ends_one(value: str, several: list[str]) -> None:
    made = event(json.dumps({"value": value, "several": several}).encode(), form={"a": "{{ payload.value }}", "b": "{{ payload.several }}", "c": "end"})
    assert parse_qsl(made.body.decode("ascii"), keep_blank_values=True, strict_parsing=True) == [("a", value), *(("b", one) for one in several), ("c", "end")]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        (Shape(text=Text("{{ '%c'|format(55296) }}")), "the text can't be sent as UTF-8: surrogates not allowed"),
        (Shape(form=Form.parse({"a": "{{ '%c'|format(55296) }}"})), "the form can't be sent as UTF-8: surrogates not allowed"),
        (Shape(form=Form.parse({"a": "{{ payload }}"})), "this can't be written as JSON"),
        (Shape(json=Structure.parse({"a": "{{ payload }}"})), "this can't be written as JSON"),
        (Shape(json=Structure.parse("{{ 1e308 * 10 }}")), "this can't be written as JSON"),
    ],
)
def test_what_cant_be_written_so_is_an_error(shape: Shape, words: str) -> None:
    occasion = Occasion(message=message(b"\xff"), mapping="m", captures={}, id="evt_1", wall=AT)
    with pytest.raises(RenderError, match=re.escape(words)):
        body_of(shape, occasion, {"payload": b"\xff"})


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (Shape(), JSON),
        (Shape(format="cloudevents"), CLOUD_EVENT),
        (Shape(format="raw"), JSON),
        (Shape(json=Structure.parse({"a": 1})), JSON),
        (Shape(text=Text("x")), TEXT),
        (Shape(form=Form.parse({"a": 1})), FORM),
    ],
)
def test_each_form_has_its_content_type(shape: Shape, kind: str) -> None:
    occasion = Occasion(message=message(b"1"), mapping="m", captures={}, id="evt_1", wall=AT)
    assert body_of(shape, occasion, {"payload": 1})[0] == kind


# batches


def request(body: bytes, *, kind: str = JSON) -> Event:
    return Event(method="POST", url="https://example.com/", headers=(("Content-Type", kind), ("X-A", "b")), body=body)


@given(st.lists(st.binary(), min_size=1, max_size=8), st.sampled_from([LIST, LINES]))
def test_a_batch_comes_apart_as_it_was_put_together(bodies: list[bytes], joint: str) -> None:
    events = [request(body) for body in bodies]
    batch = batched(events, joint=joint)
    assert len(batch.parts) == len(bodies)
    apart = unbatched(batch)
    assert apart == [batched([one], joint=joint) for one in events], "each is a batch of its own"
    assert [unbatched(one) for one in apart] == [[one] for one in apart]
    edge = 1 if joint == LIST else 0
    assert [one.body[edge : len(one.body) - edge] for one in apart] == bodies


@given(st.lists(st.binary() | st.text().map(str.encode), min_size=1, max_size=5), st.sampled_from(["event", "cloudevents"]))
def test_a_batch_is_a_json_list_of_what_each_would_have_been(payloads: list[bytes], format: str) -> None:
    events = [event(payload, format=format) for payload in payloads]
    batch = batched(events, joint=LIST)
    assert json.loads(batch.body) == [json.loads(one.body) for one in events]
    assert [json.loads(one.body) for one in unbatched(batch)] == [[json.loads(one.body)] for one in events]


def test_a_batch_of_texts_is_a_line_for_each() -> None:
    batch = batched([event(payload, text="{{ room }} {{ value }}") for payload in (b"on", b"off", b"")], joint=LINES)
    assert (batch.body, content_type(batch)) == (b"hall on\nhall off\nhall ", TEXT)


def test_a_batch_of_cloud_events_has_the_type_of_one() -> None:
    events = [event(b"1", format="cloudevents"), event(b"2", format="cloudevents")]
    batch = batched(events, joint=LIST)
    assert content_type(batch) == "application/cloudevents-batch+json", "HTTP binding 3.3.1"
    assert {content_type(one) for one in unbatched(batch)} == {CLOUD_EVENTS}, "a list of one is a list"
    assert content_type(batched([event(b"1", format="cloudevents", headers={"Content-Type": "application/json"})], joint=LIST)) == "application/json", "one's own stays"


def test_a_batch_goes_where_its_events_would_have_gone() -> None:
    one = request(b"1")
    assert replace(batched([one, request(b"2")], joint=LIST), body=b"1", parts=(), joint="") == one


def test_what_is_no_batch_is_one_event() -> None:
    assert unbatched(request(b"[1,2]")) == [request(b"[1,2]")]


@pytest.mark.parametrize(
    ("shape", "joint"),
    [
        (Shape(), LIST),
        (Shape(format="cloudevents"), LIST),
        (Shape(json=Structure.parse({"a": 1})), LIST),
        (Shape(text=Text("x")), LINES),
        (Shape(form=Form.parse({"a": 1})), None),
        (Shape(format="raw"), None),
    ],
)
def test_several_bodies_are_one_where_the_form_knows_how(shape: Shape, joint: str | None) -> None:
    assert joint_of(shape) == joint
