"""From a request to its command: the hook it meets, what its body says, and the one publish that may come of it."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.errors import HookError
from bridge.model import Command, Lane, Outcome, Reply, State, Verdict
from bridge.rules.inbound import EXPIRES_S, Hook, Hooks, Inbound, answer_for, command_for, letter_of, names_of, queued, unguarded
from bridge.rules.requests import Request, body_of, segments
from bridge.rules.retry import judge_publish
from bridge.rules.topics import topic_problem

AT = 1_764_000_000.0
ID = "cmd_1"


def rule(**keys: Any) -> Inbound:
    return Inbound.model_validate({"verify": "none", "topic": "zigbee2mqtt/hall_light/set", **keys})


def hook(name: str = "hall-light", **keys: Any) -> Hook:
    found = rule(**keys)
    return Hook(name=name, rule=found, pattern=found.pattern(name), keys=found.verifying_keys())


def request(body: bytes = b'{"state":"on"}', *, path: str = "/hooks/hall-light", query: str = "", kind: str | None = "application/json", **headers: str) -> Request:
    came = {name.replace("_", "-"): (value,) for name, value in headers.items()} | ({} if kind is None else {"content-type": (kind,)})
    return Request(path=path, query=query, headers=came, body=body, received_at=AT)


def command(met: Hook, came: Request) -> Command | None:
    return command_for(met, names_of(met, came, id=ID), came.body)


# Finding the hook


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/hooks/hall-light", "hall-light"),
        ("/hooks/hall%2Dlight", "hall-light"),
        ("/light/hall", "written"),
        ("/light/door", "captured"),
        ("/light/door/", "with a level more"),
        ("/alarm/a/b", "rest"),
        ("/alarm", "rest"),
    ],
)
def test_a_request_meets_the_hook_of_its_path_and_one_written_out_goes_first(path: str, name: str) -> None:
    paths = {"captured": "/light/{room}", "written": "/light/hall", "with a level more": "/{kind}/door/{more}", "rest": "/alarm/{all...}"}
    assert Hooks([hook(), *(hook(name, path=path) for name, path in paths.items())]).of(path).name == name


@pytest.mark.parametrize(("path", "name"), [("/light/hall", "one level"), ("/light/hall/set", "written out further"), ("/light/hall/get", "rest")])
def test_a_hook_that_takes_the_rest_leaves_to_others_what_they_say_more_closely(path: str, name: str) -> None:
    paths = {"rest": "/light/{all...}", "one level": "/light/{room}", "written out further": "/light/{room}/set"}
    assert Hooks([hook(name, path=path) for name, path in paths.items()]).of(path).name == name


@pytest.mark.parametrize("path", ["/", "", "/hooks", "/hooks/", "/hooks/hall-light/", "/hooks/Hall-Light", "//hooks/hall-light", "/hooks/off", "/hooks/+", "/hooks/%23"])
def test_a_path_without_a_hook_is_not_found(path: str) -> None:
    hooks = Hooks([hook(), hook("off", enabled=False)])
    with pytest.raises(HookError, match="there is no hook at this path") as caught:
        hooks.of(path)
    assert caught.value.status == 404
    assert [found.name for found in hooks.all] == ["hall-light"]


@pytest.mark.parametrize(
    ("path", "found"),
    [("/hooks/a", ("hooks", "a")), ("/", ("",)), ("/a//b", ("a", "", "b")), ("/k%C3%BCche/a%20b", ("küche", "a b")), ("/%2541", ("%41",)), ("/a+b", ("a+b",)), ("/a%2Fb", ("a/b",))],
)
def test_a_path_is_decoded_once_segment_by_segment(path: str, found: tuple[str, ...]) -> None:
    # RFC 3986 section 2.4: never decode the same string more than once
    assert segments(path) == found


@pytest.mark.parametrize("path", ["/%FF", "/\udcff", "/%ED%A0%80"])
def test_a_path_that_is_not_utf_8_is_unreadable(path: str) -> None:
    with pytest.raises(HookError, match="the path is not UTF-8") as caught:
        segments(path)
    assert caught.value.status == 400


# Names


def test_a_hooks_expressions_see_the_products_names() -> None:
    met = hook("light", path="/light/{room}")
    came = Request(path="/light/k%C3%BCche", query="on=1&name=a%20b&on=2&empty=", headers={"content-type": ("application/json",), "x-a": ("1", "2")}, body=b'{"state":"on"}', received_at=AT)
    names = names_of(met, came, id=ID)
    assert names.pop("now")().timestamp() == AT
    assert names == {
        "body": {"state": "on"},
        "headers": {"content-type": "application/json", "x-a": "1, 2"},
        "query": {"on": "2", "name": "a b", "empty": ""},
        "id": ID,
        "hook": "light",
        "received_at": "2025-11-24T16:00:00.000Z",
        "room": "küche",
    }


def test_a_capture_may_be_called_id() -> None:
    assert names_of(hook(path="/lamps/{id}"), request(path="/lamps/7"), id=ID)["id"] == "7"


@pytest.mark.parametrize(("path", "rest"), [("/light/a/b", "a/b"), ("/light/a", "a"), ("/light", "")])
def test_the_rest_of_a_path_is_text_with_its_slashes(path: str, rest: str) -> None:
    assert names_of(hook(path="/light/{all...}"), request(path=path), id=ID)["all"] == rest


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/light/%23", "a part of the path can't be used: it holds '#'"),
        ("/light/+", "it holds '+'"),
        ("/light/%00", "it holds U+0000"),
        ("/light/a%0Ab", "it holds U+000A"),
        ("/light/%EF%BF%BF", "it holds U+FFFF"),
        ("/light/$SYS", "it starts with '$'"),
        ("/light/", "it is empty"),
        ("/light/a%2Fb", "it holds '/'"),
    ],
)
def test_a_captured_level_that_is_none_makes_a_request_unreadable(path: str, words: str) -> None:
    """The product: a captured level may hold any printable UTF-8 but `/ + #`."""
    with pytest.raises(HookError, match=re.escape(words)) as caught:
        names_of(hook(path="/light/{room}"), request(path=path), id=ID)
    assert caught.value.status == 400


@pytest.mark.parametrize("path", ["/light/a//b", "/light/a/", "/light/a/%23", "/light/a%2Fb"])
def test_each_level_of_a_rest_has_to_be_one(path: str) -> None:
    with pytest.raises(HookError, match="a part of the path can't be used"):
        names_of(hook(path="/light/{all...}"), request(path=path), id=ID)


# Bodies

BODIES = [  # content type, body, value, source
    ("application/json", b'{"state":"on"}', {"state": "on"}, "RFC 8259"),
    ("application/json; charset=utf-8", b"[1]", [1], "RFC 9110 8.3.1: parameters"),
    ("Application/JSON", b"null", None, "RFC 9110 8.3.1: case-insensitive"),
    ("application/cloudevents+json", b'{"a":1}', {"a": 1}, "RFC 6839 3.1: +json"),
    ("application/json", b"", None, "a body that isn't there"),
    ("application/x-www-form-urlencoded", b"a=1&b=x+y&a=2&c", {"a": "2", "b": "x y", "c": ""}, "WHATWG URL: urlencoded"),
    ("application/x-www-form-urlencoded", b"a=%FF", {"a": "\ufffd"}, "WHATWG URL: replacement"),
    ("application/x-www-form-urlencoded", b' {"state":"on"}', {"state": "on"}, "curl -d calls JSON a form"),
    ("application/x-www-form-urlencoded", b"", {}, "an empty form"),
    ("application/xml", b"<a/>", {"a": ""}, "RFC 7303 9.1"),
    ("text/xml; charset=utf-8", b'<?xml version="1.0"?><lamp id="7"><state>on</state><level>4</level><level>5</level></lamp>', {"lamp": {"@id": "7", "state": "on", "level": ["4", "5"]}}, "RFC 7303 9.2"),
    ("application/soap+xml", b'<s:Envelope xmlns:s="urn:x"><s:Body> hi <b/></s:Body></s:Envelope>', {"Envelope": {"Body": {"b": "", "#text": "hi"}}}, "RFC 7303 4.2: +xml"),
    ("application/xml", b"", None, "a body that isn't there"),
    (None, b'{"state":"on"}', {"state": "on"}, "no content type: what it looks like"),
    ("text/plain", b"on", "on", "what it looks like"),
    ("text/plain; charset=iso-8859-1", b"K\xfcche", "Küche", "RFC 9110 8.3.2"),
    ('Text/Plain; x=y; CharSet="ISO-8859-1"', b"K\xfcche", "Küche", "RFC 9110 5.6.6: quoted, in any case"),
    ("text/plain;charset=windows-1252", b"5 \x80", "5 €", "RFC 9110 8.3.2"),
    ("text/plain; charset=windows-1252", b"\x81", b"\x81", "a byte that it doesn't have"),
    ("text/plain; charset=latin1", b'{"room":"K\xfcche"}', {"room": "Küche"}, "an alias; and what it looks like then"),
    ("text/plain; charset=us-ascii", b"on", "on", "RFC 2046 4.1.2"),
    ("text/plain; charset=us-ascii", b"K\xfcche", b"K\xfcche", "not what it says: bytes"),
    ("text/plain; charset=utf-8", "Küche".encode(), "Küche", "RFC 9110 8.3.2"),
    ("text/plain; charset=utf-8", b"K\xfcche", b"K\xfcche", "not what it says: bytes"),
    ("text/plain; charset=iso-8859-1", "Küche".encode(), "KÃ¼che", "it is believed"),
    ("text/plain; charset=utf-16", "ü".encode("utf-16"), "ü".encode("utf-16"), "another: bytes"),
    ("text/plain; xcharset=iso-8859-1", b"\xfc", b"\xfc", "another parameter"),
    ("application/octet-stream; charset=iso-8859-1", b"\xfc", b"\xfc", "RFC 2046 4.1: the charset is of texts"),
    ("application/json; charset=iso-8859-1", '{"a":"ü"}'.encode(), {"a": "ü"}, "RFC 8259 8.1 and 11: always UTF-8"),
    ("image/jpeg", b"\xff\xd8", b"\xff\xd8", "what it looks like"),
    ("", b"", "", "an empty header"),
]


@pytest.mark.parametrize(("kind", "body", "value", "source"), BODIES, ids=lambda value: repr(value)[:30])
def test_a_body_is_read_as_its_content_type_says(kind: str | None, body: bytes, value: Any, source: str) -> None:
    assert body_of(request(body, kind=kind)) == value, source


BAD_XML = [
    b"<a>",
    b"not xml",
    b"\xff\xfe",
    b"<a></b>",
    b'<?xml version="1.0" encoding="utf-7"?><a/>',
    b'<?xml version="1.0" encoding="no-such"?><a/>',
    b'<!DOCTYPE a [<!ENTITY x "y">]><a>&x;</a>',
    b'<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd"><a/>',
    b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
    b'<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]><a>&c;</a>',
    b"<a>&undefined;</a>",
    b"<a>" * 101 + b"</a>" * 101,
    b"<a>" * 30_000 + b"</a>" * 30_000,
    b"<a>\x00</a>",
]


@pytest.mark.parametrize(("kind", "body", "words"), [("application/json", b"{", "the body is not JSON: "), ("application/json", b"NaN", "the body is not JSON: "), ("application/json", b"\xff", "the body is not JSON: "), ("application/json", b"[" * 100_000, "the body is not JSON: "), ("application/json", b'{"a":1e400}', "the body is not JSON: a number is larger than any that can be held"), ("application/x-www-form-urlencoded", b"&".join([b"a=1"] * 201), "more than 200 fields"), *((("application/xml"), body, "the body is not XML: ") for body in BAD_XML)])
def test_a_body_that_isnt_what_it_says_is_unreadable(kind: str, body: bytes, words: str) -> None:
    with pytest.raises(HookError, match=words) as caught:
        body_of(request(body, kind=kind))
    assert caught.value.status == 400


@pytest.mark.parametrize("kind", ["multipart/form-data; boundary=x", "Multipart/Mixed; boundary=x", "multipart/form-data"])
def test_a_body_of_several_parts_is_not_taken(kind: str) -> None:
    with pytest.raises(HookError, match=r"a body of several parts .* is not taken: send JSON, XML, a form") as caught:
        command(hook(text="on"), request(b'--x\r\nContent-Disposition: form-data; name="state"\r\n\r\non\r\n--x--', kind=kind))
    assert caught.value.status == 415


def test_a_header_that_came_without_a_value_is_no_content_type() -> None:
    assert body_of(Request(path="/", query="", headers={"content-type": ()}, body=b"on", received_at=AT)) == "on"


def test_a_query_of_too_many_fields_is_unreadable() -> None:
    with pytest.raises(HookError, match="more than 200 fields"):
        names_of(hook(), request(query="&".join(["a=1"] * 201)), id=ID)


# Commands

COMMANDS = [  # keys of the hook, body, the topic and payload published
    ({}, b"as it came \xff", ("zigbee2mqtt/hall_light/set", b"as it came \xff")),
    ({"json": {"state": "{{ body.state | upper }}"}}, b'{"state":"on"}', ("zigbee2mqtt/hall_light/set", b'{"state":"ON"}')),
    ({"json": {"items": "{{ body.items }}"}}, b'{"items":3}', ("zigbee2mqtt/hall_light/set", b'{"items":3}')),
    ({"text": "{{ body.state }} °"}, b'{"state":"on"}', ("zigbee2mqtt/hall_light/set", "on °".encode())),
    ({"topic": "home/{{ body.room }}/set", "text": ""}, '{"room":"küche 1"}'.encode(), ("home/küche 1/set", b"")),
    ({"when": "body.state == 'on'"}, b'{"state":"on"}', ("zigbee2mqtt/hall_light/set", b'{"state":"on"}')),
    ({"when": "body.state == 'on'"}, b'{"state":"off"}', None),
    ({"when": "body.state == 'on'"}, b"{}", None),
]


@pytest.mark.parametrize(("keys", "body", "published"), COMMANDS, ids=str)
def test_a_request_becomes_the_publish_that_its_hook_says(keys: dict[str, Any], body: bytes, published: tuple[str, bytes] | None) -> None:
    made = command(hook(**keys), request(body, kind=None))
    assert made == (None if published is None else Command(topic=published[0], payload=published[1], qos=1, retain=False))


def test_qos_and_retain_are_the_hooks() -> None:
    made = command(hook(qos=0, retain=True), request())
    assert made is not None
    assert (made.qos, made.retain) == (0, True)


@pytest.mark.parametrize(
    ("keys", "body", "words"),
    [
        ({"topic": "home/{{ body.room }}/set"}, b'{"room":"a/b"}', "can't be one level of a topic: it holds '/'"),
        ({"topic": "home/{{ body.room }}/set"}, b'{"room":"#"}', "it holds '#'"),
        ({"topic": "home/{{ body.room }}/set"}, b'{"room":""}', "it is empty"),
        ({"topic": "home/{{ body.room }}/set"}, b"{}", "body.room is missing"),
        ({"topic": "{{ body.room }}"}, b'{"room":"$SYS"}', "it starts with '$'"),
        ({"topic": "$SYS/{{ body.room }}"}, b'{"room":"a"}', "nothing can be published to this topic: it starts with '$'"),
        ({"topic": "{{ body.room }}"}, b'{"room":"' + b"x" * 65_536 + b'"}', "nothing can be published to this topic: it is longer than 65535 bytes"),
        ({"json": {"a": "{{ body.room }}"}}, b"{}", "body.room is missing"),
        ({"text": "{{ '%c'|format(55296) }}"}, b"{}", "surrogates not allowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_request_that_fits_no_topic_or_payload_is_answered_with_the_reason(keys: dict[str, Any], body: bytes, words: str) -> None:
    with pytest.raises(HookError, match=re.escape(words)) as caught:
        command(hook(**keys), request(body))
    assert caught.value.status == 422


BYTES = [  # keys of the hook, what is said of a body that is no text
    ({"json": {"a": "{{ body }}"}}, "this can't be written as JSON: bytes is not a value that JSON knows: base64_encode makes a text of it"),
    ({"text": "{{ body }}"}, "body is bytes, not a text: base64_encode makes one of it"),
    ({"text": "{{ body.split(',')[0] }}"}, "body is bytes, not a text: base64_encode makes one of it"),
    ({"text": "{{ 'on' if 'on' in body }}"}, "body is bytes, not a text: base64_encode makes one of it"),
    ({"topic": "home/{{ body }}"}, "body is bytes, not one level of a topic: expected a text or a number"),
]


@pytest.mark.parametrize(("keys", "words"), BYTES, ids=str)
def test_a_body_that_is_no_text_is_told_in_words(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(HookError) as caught:
        command(hook(**keys), request(b"\xfc,on", kind="text/plain; charset=utf-16"))
    assert (caught.value.status, caught.value.detail) == (422, f"the request doesn't fit the mapping: {words}")


HOOKS = [
    hook("a", path="/{room}", topic="home/{{ room }}/set"),
    hook("b", path="/{room}", topic="{{ body.a }}/{{ query.q }}", json={"b": "{{ body }}", "h": "{{ headers.x }}"}),
    hook("c", path="/{rest...}", topic="{{ body }}", text="{{ rest }} {{ headers.x }}"),
    hook("d", path="/{room}", topic="{{ headers.x }}", when="body.a > 3"),
]


@pytest.mark.parametrize("met", HOOKS, ids=lambda met: met.name)
@given(
    path=st.one_of(st.text(st.characters()), st.sampled_from(["hall", "%2F", "%23", "..", "a%00", "a/b"])),
    query=st.one_of(st.text(st.characters()), st.sampled_from(["q=a", "q=%2F", "q=\udcff", "q=%00"])),
    header=st.text(st.characters()),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "text/plain", "a/b+json", ""]),
    body=st.one_of(st.binary(), st.sampled_from([b'{"a":"x"}', b'{"a":4}', b'"#"', b'"$SYS"', b"hall", b"a=b", b'{"a":"a\\u0000"}'])),
)
def test_whatever_is_asked_a_command_is_publishable_or_the_request_is_refused(met: Hook, path: str, query: str, header: str, kind: str, body: bytes) -> None:
    came = Request(path="/" + path, query=query, headers={"content-type": (kind,), "x": (header,)}, body=body, received_at=AT)
    try:
        made = command(met, came)
    except HookError as exc:
        assert exc.status in (400, 422)
        assert exc.detail
        return
    if made is not None:
        assert topic_problem(made.topic) is None
        assert not set("+#\0") & set(made.topic)
        assert not made.topic.startswith("$")


# Letters and answers


def test_a_letter_carries_a_command_that_expires_and_keeps_whether_it_has_begun() -> None:
    made = Command(topic="a", payload=b"", qos=1, retain=False)
    letter = letter_of(hook(), made, id="cmd_1", now=AT, begun=True)
    assert (letter.id, letter.key, letter.lane, letter.mapping, letter.destination) == ("cmd_1", "hall-light cmd_1", Lane.MQTT, "hall-light", "mqtt")
    assert (letter.state, letter.content, letter.expires_at, letter.begun_at) == (State.WAITING, made, AT + EXPIRES_S, AT)
    assert letter_of(hook(expires="5s"), made, id="cmd_1", now=AT, begun=False).expires_at == AT + 5
    assert letter_of(hook(), made, id="cmd_1", now=AT, begun=False).begun_at is None


ANSWERS = [  # verdict, the broker's reason code, status and document, source
    (Verdict.DELIVERED, 0x00, 200, {"id": "cmd_1", "status": "published"}, "the product"),
    (Verdict.DELIVERED, 0x10, 200, {"id": "cmd_1", "status": "published", "heard": False}, "MQTT 5.0 3.4.2.1: no matching subscribers"),
    (Verdict.RETRY, None, 202, {"id": "cmd_1", "status": "queued"}, "the product"),
    (Verdict.EXPIRED, None, 504, {"id": "cmd_1", "detail": "it expired before it could be published"}, "the product"),
    (Verdict.DEAD, 0x87, 403, {"id": "cmd_1", "detail": "why"}, "MQTT 5.0 3.4.2.1: not authorized"),
    (Verdict.DEAD, 0x97, 502, {"id": "cmd_1", "detail": "why"}, "RFC 9110 15.6.3"),
    (Verdict.DEAD, None, 502, {"id": "cmd_1", "detail": "why"}, "RFC 9110 15.6.3"),
]


@pytest.mark.parametrize(("verdict", "code", "status", "document", "source"), ANSWERS, ids=str)
def test_a_hook_answers_what_became_of_its_command(verdict: Verdict, code: int | None, status: int, document: dict[str, Any], source: str) -> None:
    answer = answer_for("cmd_1", Outcome(verdict=verdict, reason="why", reply=None if code is None else Reply(status=code)))
    assert (answer.status, answer.document) == (status, document), source


def test_a_command_that_is_safe_and_waits_is_answered_as_queued() -> None:
    assert (queued("cmd_1").status, queued("cmd_1").document) == (202, {"id": "cmd_1", "status": "queued"})


# Settings

UNFIT = [  # keys, words
    ({"json": {}, "text": "x"}, "expected one of `json` and `text`"),
    ({"path": "hooks/x"}, 'path: expected a path such as "/hooks/light/{room}"'),
    ({"path": "/hooks/#"}, "path: expected a path such as"),
    ({"path": "/hooks/+"}, "path: expected a path such as"),
    ({"path": "/hooks?x"}, "path: expected a path such as"),
    ({"path": "/hooks/a%20b"}, "path: expected a path such as"),
    ({"path": ""}, "path: expected a path such as"),
    ({"path": "/"}, "it is empty"),
    ({"path": "/light/x{room}"}, "a capture is a whole level"),
    ({"path": "/{a}/{a}"}, "the same name captures two levels"),
    ({"path": "/light/{body}"}, "path: the capture {body} has the name of something else, choose another"),
    ({"topic": "home/{{ romm }}", "path": "/{room}"}, "topic: 'romm' is not a name that can be used here; did you mean 'room'?"),
    ({"json": {"a": "{{ payload }}"}}, "json: 'payload' is not a name"),
    ({"text": "{{ boddy }}"}, "text: 'boddy' is not a name that can be used here; did you mean 'body'?"),
    ({"when": "boddy"}, "when: 'boddy' is not a name"),
    ({"topic": "home/#"}, "topic: nothing can be published to 'home/#': it holds the wildcard '#'"),
    ({"topic": "$SYS/x"}, "topic: nothing can be published to '$SYS/x': it starts with '$'"),
    ({"topic": ""}, "it is empty"),
    ({"topic": None}, "expected one of `topic` and `publish`: what is published"),
    ({"publish": [{"topic": "a"}]}, "expected one of `topic` and `publish`: what is published"),
    ({"topic": None, "publish": []}, "expected one of `topic` and `publish`: what is published"),
    ({"topic": None, "publish": [{"topic": "a"}], "text": "x"}, "text: with `publish` it stands in each of its tables"),
    ({"topic": None, "publish": [{"topic": "a"}], "qos": 0}, "qos: with `publish` it stands in each of its tables"),
    ({"topic": None, "publish": [{"topic": "a"}, {"topic": "a/#"}]}, "topic: nothing can be published to 'a/#': it holds the wildcard '#'"),
    ({"topic": None, "publish": [{"topic": "a", "json": {}, "text": "x"}]}, "expected one of `json` and `text`"),
    ({"topic": None, "publish": [{"topic": "a"}, {"topic": "{{ romm }}"}]}, "publish.1.topic: 'romm' is not a name that can be used here"),
    ({"topic": None, "publish": [{"topic": "a"}] * 65}, "at most 64 items"),
    ({"topics": ["home/+/set"]}, "topics: 'zigbee2mqtt/hall_light/set' is none of them"),
    ({"topics": ["home/#/set"]}, "'#'"),
    ({"answer": "confirmed"}, 'answer: "confirmed" needs `confirm`: where the device answers'),
    ({"answer": "accepted", "confirm": {"topic": "a"}}, "answer: 'accepted' does not wait for the device: remove `answer`, or `confirm`"),
    ({"confirm": {"topic": "a", "timeout": "2m"}}, "less than or equal to 60"),
    ({"confirm": {"topic": "a", "when": "paylod.x"}}, "confirm.when: 'paylod' is not a name that can be used here; did you mean 'payload'?"),
    ({"confirm": {"topic": "{{ payload }}"}}, "confirm.topic: 'payload' is not a name"),
    ({"available": {"topic": "home/+/status"}}, "no device can be heard at 'home/+/status': it holds '+', and is no filter"),
    ({"available": {"topic": "home/{room}/status"}, "path": "/{room}"}, "the topic 'home/{room}/status': write {{ room }} with two braces"),
    ({"available": {"topic": "home/{/status"}}, "no device can be heard at 'home/{/status': it holds '{', and is no filter"),
    ({"confirm": {"topic": "home/{room}/status"}, "path": "/{room}"}, "the topic 'home/{room}/status': write {{ room }} with two braces"),
    ({"topic": "x/{room}", "path": "/{room}"}, "the topic 'x/{room}': write {{ room }} with two braces; one is for a mapping's `topic` and a hook's `path` only"),
    ({"topic": "x/{{ body.a }}/{rest...}", "path": "/{rest...}"}, "write {{ rest }} with two braces"),
    ({"topic": None, "publish": [{"topic": "a"}, {"topic": "x/{room}"}], "path": "/{room}"}, "the topic 'x/{room}': write {{ room }} with two braces"),
    ({"available": {"topic": ""}}, "no device can be heard at '': it is empty"),
    ({"confirm": {"topic": "home/{{ body }}/#/x"}}, "'#' must be the last level"),
    ({"available": {"topic": "{{ room }}"}}, "available.topic: 'room' is not a name"),
    ({"available": {"topic": "a"}, "path": "/hooks/{topic}"}, "path: the capture {topic} has the name of something else, choose another"),
    ({"methods": []}, "at least 1"),
    ({"methods": "HEAD"}, "Input should be"),
    ({"methods": ["head"]}, "Input should be"),
    ({"methods": [5]}, "Input should be"),
    ({"qos": 2}, "Input should be 0 or 1"),
    ({"expires": "0s"}, "longer than nothing"),
    ({"verify": None}, "valid dictionary"),
]


@pytest.mark.parametrize(("keys", "words"), UNFIT, ids=lambda value: str(value)[:40])
def test_a_hook_that_doesnt_fit_together_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        rule(**keys)


def test_who_may_call_has_to_be_written_out() -> None:
    with pytest.raises(ValidationError, match="verify"):
        Inbound.model_validate({"topic": "a"})


def test_a_hook_knows_its_sender_by_its_secrets() -> None:
    met = hook(verify="bearer", secret=["0123456789", "abcdefghij"])
    assert met.verify.scheme == "bearer"
    assert met.keys == (b"0123456789", b"abcdefghij")
    with pytest.raises(ValueError, match="bearer needs a secret"):
        hook(verify="bearer")


def test_a_method_may_be_written_without_a_list_and_in_any_case() -> None:
    assert rule(methods="PUT").methods == ("PUT",)
    assert rule(methods="put").methods == ("PUT",)
    assert rule(methods=["post", "Put", "POST"]).methods == ("POST", "PUT")
    assert rule().methods == ("POST",)


def test_what_a_hook_says_is_json() -> None:
    """The answer is kept with the id, for a repeat of it."""
    for verdict in Verdict:
        assert json.loads(json.dumps(answer_for("cmd_1", Outcome(verdict=verdict, reason="why")).document))["id"] == "cmd_1"


# What a stranger must not reach

GUARDS = [  # keys, what `check` says of it; None: nothing
    ({"topic": "zigbee2mqtt/front_door_lock/set"}, "'zigbee2mqtt/front_door_lock/set' looks like a lock"),
    ({"topic": "cmnd/Garage/POWER"}, "looks like a lock, a garage door"),
    ({"topic": "home/alarm_panel/disarm"}, "looks like a lock"),
    ({"topic": "home/smartlock-2/set", "verify": "none"}, '`verify = "none"` proves neither what is asked nor when'),
    ({"topic": "home/{{ body.device }}/set"}, "may become the topic of any device, a lock's too"),
    ({"topic": "home/{% if query.a %}x{% endif %}/set"}, "may become the topic of any device"),
    ({"topic": None, "publish": [{"topic": "home/lamp/set"}, {"topic": "home/siren/set"}]}, "'home/siren/set' looks like a lock"),
    ({"topic": "home/{{ body.device }}/set", "topics": ["home/lamp/set", "home/fan/set"]}, None),
    ({"topic": "home/{{ body.device }}/set", "topics": ["home/lamp/set", "home/front_lock/set"]}, "'home/front_lock/set' looks like a lock"),
    ({"topic": "home/lamp/set", "topics": ["home/lamp/set", "home/front_lock/set"]}, None),  # of which it never makes use
    ({"topic": "home/lamp-{{ body.n }}/set"}, None),  # whatever the value, it is a lamp
    ({"topic": "home/clock/set"}, None),
    ({"topic": "home/delegate/set"}, None),
    ({"topic": "home/front_lock/set", "verify": "standard-webhooks"}, None),
    ({"topic": "home/front_lock/set", "verify": "github"}, None),
    ({"topic": "home/front_lock/set", "verify": "mailgun"}, "'home/front_lock/set' looks like a lock, a garage door, an alarm or the like, and `verify = \"mailgun\"` proves when it is asked, but not what: Mailgun signs no more of the body than a time and a token; sign"),
    ({"topic": "home/{{ body.device }}/set", "verify": "mailgun"}, "may become the topic of any device, a lock's too, and `verify = \"mailgun\"` proves when"),
    ({"topic": "home/mail", "verify": "mailgun"}, None),
]


@pytest.mark.parametrize(("keys", "words"), GUARDS, ids=lambda value: str(value)[:50])
def test_what_guards_the_house_wants_a_signature(keys: dict[str, Any], words: str | None) -> None:
    risk = unguarded(rule(**{"verify": "bearer", **keys}))
    assert risk is None if words is None else risk is not None and words in risk


# Several publishes


def test_several_publishes_are_one_command_in_their_order() -> None:
    met = hook(topic=None, publish=[{"topic": "a/{{ body.state }}", "json": {"s": "{{ body.state }}"}}, {"topic": "b", "text": "x", "qos": 0, "retain": True}, {"topic": "c"}])
    assert command(met, request()) == Command(
        topic="a/on",
        payload=b'{"s":"on"}',
        qos=1,
        retain=False,
        then=(Command(topic="b", payload=b"x", qos=0, retain=True), Command(topic="c", payload=b'{"state":"on"}', qos=1, retain=False)),
    )


def test_one_publish_that_may_not_be_stops_them_all() -> None:
    met = hook(topic=None, publish=[{"topic": "home/lamp/set"}, {"topic": "home/{{ body.state }}/set"}], topics=["home/lamp/set"])
    with pytest.raises(HookError, match="this hook may not publish to that topic") as caught:
        command(met, request())
    assert caught.value.status == 403


# A device's answer

REPLIES = [  # the payload, what the caller gets of it
    (b'{"state":"ON"}', {"state": "ON"}),
    (b"ON", "ON"),
    (b"21.5", 21.5),
    (b"", ""),
    (b"\xff\x00", "/wA="),
    (b"x" * 16_384, "x" * 16_384),
    (b"x" * 16_385, None),
]


@pytest.mark.parametrize(("payload", "reply"), REPLIES, ids=lambda value: repr(value)[:20])
def test_a_devices_answer_is_handed_on(payload: bytes, reply: Any) -> None:
    came = judge_publish(Reply(status=0, confirmed=True, body=payload))
    assert came.verdict is Verdict.DELIVERED
    answer = answer_for("cmd_1", came)
    assert (answer.status, answer.document) == (200, {"id": "cmd_1", "status": "confirmed", "reply": reply})
    json.dumps(answer.document)


def test_a_device_that_did_not_answer_is_told_and_was_told() -> None:
    came = judge_publish(Reply(status=0, confirmed=False, detail="the device did not confirm it within 5s"))
    assert came.verdict is Verdict.DELIVERED
    assert answer_for("cmd_1", came).status == 504
    assert answer_for("cmd_1", came).document["detail"] == "published, but the device did not confirm it within 5s"
