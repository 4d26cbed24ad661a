"""A receiver's answer as expressions see it: whatever the receiver sends, it can be asked about and never breaks anything."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.model import Reply
from bridge.rules.expressions import Expression
from bridge.rules.responses import NAMES, response_of


def asked(expression: str, reply: Reply) -> object:
    return Expression.parse(expression).value({"response": response_of(reply)})


ANSWER = Reply(status=200, headers={"content-type": "application/json", "x-left": "3"}, body='{"ok": true, "items": [1], "wait": 2.5, "name": "Müller"}'.encode())


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("response.status", 200),
        ("response.headers['x-left']|int", 3),
        ("response.text", '{"ok": true, "items": [1], "wait": 2.5, "name": "Müller"}'),
        ("response.json.ok", True),
        ("response.json.wait", 2.5),
        ("response.json.name", "Müller"),
        ("response.json.items", [1]),  # a key of the answer goes before a method of the same name
        ("response.json.ok and response.status == 200 and 'Müller' in response.text", True),
    ],
)
def test_an_answer_is_asked_by_its_four_parts(expression: str, value: object) -> None:
    assert asked(expression, ANSWER) == value


@pytest.mark.parametrize(
    ("body", "value"),
    [(b"null", None), (b"0", 0), (b'"text"', "text"), (b"[]", []), (b" {}\r\n", {}), (b'{"a":1,"a":2}', {"a": 2}), (b"18446744073709551616", 2**64)],
)
def test_any_json_value_is_one(body: bytes, value: object) -> None:
    assert response_of(Reply(status=200, body=body))["json"] == value


NO_JSON = [b"", b" ", b"ok", b"<html>", b'{"ok": tru', b"NaN", b"[Infinity]", b"[1e400]", b"\xff\xfe", b"{}{}", b"{'ok': 1}", b"[" * 100_000, b"[" * 101 + b"]" * 101, b'"\\ud800"', b"9" * 5_000]


@pytest.mark.parametrize("body", NO_JSON, ids=lambda body: repr(body)[:20])
def test_what_is_no_json_has_no_json_and_says_so_when_it_is_asked(body: bytes) -> None:
    assert "json" not in response_of(Reply(status=200, body=body))
    with pytest.raises(RenderError, match=r"^response\.json is missing$"):
        asked("response.json.ok", Reply(status=200, body=body))


def test_text_that_is_no_utf8_is_shown_as_far_as_it_can_be() -> None:
    assert response_of(Reply(status=200, body=b"gr\xfc\xdfe"))["text"] == "gr��e"


def test_a_header_that_is_not_there_is_missing_and_not_empty() -> None:
    with pytest.raises(RenderError, match="is missing"):
        asked("response.headers['x-right']", ANSWER)


def test_no_answer_at_all_has_no_status_and_no_text() -> None:
    assert response_of(Reply(error="timeout", detail="no answer within 15 s")) == {"status": None, "headers": {}, "text": ""}


def test_expressions_get_a_copy_of_the_headers() -> None:
    headers = {"a": "b"}
    response_of(Reply(status=200, headers=headers))["headers"]["a"] = "c"
    assert headers == {"a": "b"}


def test_the_one_name_is_response() -> None:
    assert NAMES == ("response",)


JSON = st.recursive(st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(exclude_categories=["Cs"])), lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner), max_leaves=10)


@given(JSON)
def test_json_comes_back_as_it_was_sent(value: object) -> None:
    assert response_of(Reply(status=200, body=json.dumps(value).encode()))["json"] == value


@given(st.binary(), st.dictionaries(st.text(), st.text(), max_size=3), st.none() | st.integers(100, 999))
def test_every_answer_can_be_looked_at(body: bytes, headers: dict[str, str], status: int | None) -> None:
    response = response_of(Reply(status=status, headers=headers, body=body))
    assert response["status"] == status
    assert response["headers"] == headers
    assert response["text"] == body.decode("utf-8", "replace")
    assert set(response) <= {"status", "headers", "text", "json"}
