"""Structures: JSON and forms in which a value can never leave its place."""

import json
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from bridge.errors import RenderError
from bridge.rules.expressions import Text
from bridge.rules.structures import Form, Structure, json_bytes

JSONS: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
EVIL = st.text(alphabet='"\\{}%[],:\n\r\0\u2028\x7f\U0001f600 ') | st.text()
EAST = timezone(timedelta(hours=2))


# JSON

RENDERED = [  # what is written, what comes of it, source
    ({"a": "{{ n }}"}, {"a": 55}, "a lone expression keeps its type"),
    ({"a": "{{ on }}", "b": "{{ nothing }}", "c": "{{ f }}"}, {"a": True, "b": None, "c": 21.5}, "a lone expression keeps its type"),
    ({"a": "{{ table }}", "b": "{{ list }}"}, {"a": {"x": [1]}, "b": [1, "2"]}, "tables and lists, too"),
    ({"a": " {{ n }} ", "b": "{{- n -}}"}, {"a": 55, "b": 55}, "blanks around it make it no text"),
    ({"a": "{{ n }} %"}, {"a": "55 %"}, "anything more makes it text"),
    ({"a": "{{ n }}{{ n }}"}, {"a": "5555"}, "so do two of them"),
    ({"a": "{% if on %}{{ n }}{% endif %}"}, {"a": "55"}, "so does a block"),
    ({"a": "{{ text }}"}, {"a": '"}'}, "the bridge does the quoting"),
    ({"a": 5, "b": 1.5, "c": True, "d": "x", "e": [], "f": {}}, {"a": 5, "b": 1.5, "c": True, "d": "x", "e": [], "f": {}}, "what is no text stays as it is"),
    ({"{{ n }}": 1}, {"{{ n }}": 1}, "keys are no templates"),
    (["{{ n }}", ["{{ on }}"]], [55, [True]], "lists within lists"),
    ("{{ table }}", {"x": [1]}, "the whole may be one expression"),
    ({"a": "{{ '{{ n }}' }}"}, {"a": "{{ n }}"}, "what comes out is no template"),
    ({"a": "{{ evil }}"}, {"a": "{{ n }}"}, "what comes in is no template"),
]
NAMES = {"n": 55, "on": True, "nothing": None, "f": 21.5, "table": {"x": [1]}, "list": [1, "2"], "text": '"}', "evil": "{{ n }}"}


@pytest.mark.parametrize(("written", "value", "source"), RENDERED, ids=lambda value: repr(value)[:30])
def test_json_is_built_value_by_value(written: Any, value: Any, source: str) -> None:
    made = json.loads(Structure.parse(written).render(NAMES))
    assert made == value, source
    assert json.dumps(made) == json.dumps(value), "true is no 1"


@given(JSONS)
def test_a_lone_expression_is_the_value_itself(value: Any) -> None:
    made = json.loads(Structure.parse({"a": ["{{ value }}"]}).render({"value": value}))
    assert json.dumps(made) == json.dumps({"a": [value]})


@given(EVIL, EVIL)
def test_no_text_breaks_out_of_its_place(one: str, other: str) -> None:
    made = Structure.parse({"lone": "{{ one }}", "within": ["<{{ one }}|{{ other }}>"], "last": 1}).render({"one": one, "other": other})
    assert json.loads(made) == {"lone": one, "within": [f"<{one}|{other}>"], "last": 1}


@given(JSONS)
def test_a_value_that_was_written_reads_the_same(value: Any) -> None:
    assert json.loads(json_bytes(value)) == value


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [float("-inf")], b"x", {"a": {1, 2}}, "\ud800", timedelta(hours=1), datetime.min.replace(tzinfo=EAST)], ids=repr)
def test_what_is_no_json_cant_be_written(value: Any) -> None:
    with pytest.raises(RenderError, match="this can't be written as JSON"):
        json_bytes(value)


INSTANTS: list[tuple[Any, str, str]] = [
    (datetime(2026, 11, 26, 18, 30, 5, 123456, tzinfo=EAST), "2026-11-26T16:30:05.123Z", "RFC 3339, as `received_at`"),
    (datetime(2026, 11, 26, 16, 30, tzinfo=UTC), "2026-11-26T16:30:00.000Z", "RFC 3339"),
    (datetime(1, 1, 2, tzinfo=UTC), "0001-01-02T00:00:00.000Z", "RFC 3339: four digits"),
    (date(2026, 11, 26), "2026-11-26", "RFC 3339, full-date"),
    (time(18, 30), "18:30:00", "RFC 3339, partial-time"),
]


@pytest.mark.parametrize(("instant", "text", "source"), INSTANTS, ids=str)
def test_an_instant_is_written_as_text(instant: Any, text: str, source: str) -> None:
    names = {"now": lambda: instant}
    assert json.loads(Structure.parse({"t": "{{ now() }}", "all": "{{ [{'at': now()}] }}"}).render(names)) == {"t": text, "all": [{"at": text}]}, source
    assert Form.parse({"t": "{{ now() }}", "all": "{{ [now(), [now()]] }}"}).render(names) == [("t", text), ("all", text), ("all", f'["{text}"]')]
    assert Text.parse("{{ now()|to_json }} {{ {'at': now()}|tojson }}").render(names) == f'"{text}" {{"at": "{text}"}}'


@pytest.mark.parametrize(("value", "words"), [(b"x", "bytes is not a value that JSON knows: base64_encode makes a text of it"), (timedelta(1), "a timedelta is not a value that JSON knows"), (datetime.min.replace(tzinfo=EAST), "a datetime is not an instant that can be written")], ids=str)
def test_what_is_no_json_is_told_in_words(value: Any, words: str) -> None:
    with pytest.raises(RenderError) as caught:
        Structure.parse({"a": ["{{ value }}"]}).render({"value": value})
    assert str(caught.value) == f"this can't be written as JSON: {words}"


def test_json_nests_as_deep_as_it_must_and_no_deeper_than_it_can() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RenderError, match="this can't be written as JSON"):
        json_bytes(deep)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"a": "{{ payload.voltage }}"}, "payload.voltage is missing"),
        ({"a": ["x {{ payload.voltage }}"]}, "payload.voltage is missing"),
        ({"a": "{{ [payload.n, payload.voltage] }}"}, "payload.voltage is missing"),
        ({"a": "{{ payload.items }}"}, "payload.items is missing"),
        ({"a": "{{ payload.n|float / 0 }}"}, "ZeroDivisionError"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [Structure, Form])
def test_a_missing_value_is_an_error_that_names_it(kind: type[Structure] | type[Form], written: dict[str, Any], words: str) -> None:
    with pytest.raises(RenderError, match=re.escape(words)):
        kind.parse(written).render({"payload": {"n": 1}})


# Forms


@pytest.mark.parametrize(
    ("written", "fields"),
    [
        ({"a": "x", "b": 5, "c": True, "d": 1.5}, [("a", "x"), ("b", "5"), ("c", "true"), ("d", "1.5")]),
        ({"a": ["x", 5, "{{ n }}"]}, [("a", "x"), ("a", "5"), ("a", "55")]),
        ({"a": "{{ on }}", "b": "{{ nothing }}", "c": "{{ table }}"}, [("a", "true"), ("b", "null"), ("c", '{"x":[1]}')]),
        ({"a": "{{ list }}"}, [("a", "1"), ("a", "2")]),
        ({"a": "{{ [1, [2]] }}"}, [("a", "1"), ("a", "[2]")]),
        ({"a": []}, []),
        ({"z": "1", "a": "2"}, [("z", "1"), ("a", "2")]),
    ],
    ids=str,
)
def test_a_form_is_its_fields_in_the_order_of_the_config(written: dict[str, Any], fields: list[tuple[str, str]]) -> None:
    assert Form.parse(written).render(NAMES) == fields


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("x", "expected a table of fields"),
        (["x"], "expected a table of fields"),
        ({}, "expected a table of fields"),
        ({"a": {"b": 1}}, "the field 'a' holds a table"),
        ({"x": 1, "a": [1, [2]]}, "the field 'a' holds a table or a list in a list"),
        ({"a": [{"b": 1}]}, "the field 'a' holds a table"),
        ({"a": date(2025, 1, 1)}, "has no form in JSON"),
        ({"a": "{{ x"}, "template"),
    ],
    ids=str,
)
def test_a_form_that_is_not_flat_is_refused(written: Any, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Form.parse(written)


def test_a_field_that_has_no_utf8_is_an_error() -> None:
    with pytest.raises(RenderError, match="the form can't be sent as UTF-8: surrogates not allowed"):
        Form.parse({"a": "{{ value }}"}).render({"value": "\ud800"})


# Both


class Written(BaseModel):
    """A config with one of each."""

    json_body: Structure | None = None
    form: Form | None = None


def test_a_config_holds_them_compiled_and_says_what_is_wrong() -> None:
    read = Written.model_validate({"json_body": {"a": "{{ n }}"}, "form": {"a": "{{ n }}"}})
    assert (read.json_body, read.form) == (Structure.parse({"a": "{{ n }}"}), Form.parse({"a": "{{ n }}"}))
    with pytest.raises(ValidationError, match="expected a table of fields"):
        Written.model_validate({"form": []})


@pytest.mark.parametrize("kind", [Structure, Form])
def test_the_names_that_it_uses_are_known(kind: type[Structure] | type[Form]) -> None:
    assert kind.parse({"a": "{{ n }}", "b": ["x {{ room }}", 5], "c": "plain", "d": True}).names == {"n", "room"}
    assert kind.parse({"a": 1}).names == set()


@pytest.mark.parametrize("kind", [Structure, Form])
def test_what_is_written_alike_is_equal(kind: type[Structure] | type[Form]) -> None:
    assert kind.parse({"a": "{{ n }}"}) == kind.parse({"a": "{{ n }}"})
    assert hash(kind.parse({"a": "{{ n }}"})) == hash(kind.parse({"a": "{{ n }}"}))
    assert kind.parse({"a": 1}) != kind.parse({"a": 2})
    assert Structure.parse({"a": 1}) != Form.parse({"a": 1})


@pytest.mark.parametrize("written", [{"a": "{{ x"}, {"a": "{% if %}"}, {"a": ["{{ 1 + }}"]}, {"a": "{{ x|nofilter }}"}], ids=str)
def test_a_template_that_is_none_is_refused_when_the_config_is_read(written: Any) -> None:
    with pytest.raises(ValueError, match="template"):
        Structure.parse(written)


@pytest.mark.parametrize("written", [float("nan"), float("inf"), datetime(2025, 1, 1, tzinfo=None), None, b"x"], ids=repr)  # noqa: DTZ001 - any will do
def test_what_has_no_form_in_json_is_refused_when_the_config_is_read(written: Any) -> None:
    with pytest.raises(ValueError, match="has no form in JSON"):
        Structure.parse({"a": [written]})
