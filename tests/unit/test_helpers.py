"""The template helpers: Home Assistant's names and behaviour, and nothing that can't be told in silence."""

import json
import math
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.rules.expressions import MAX_OUTPUT, Expression, Text
from bridge.rules.helpers import FILTERS, GLOBALS, TESTS
from bridge.rules.sandbox import MAX_SIZE

DEEP = {"a": [1, {"b": None}]}

VALUES: list[tuple[str, Any, Any, str]] = [  # expression, `payload`, what it comes to, source
    ("payload|float", "12", 12.0, "Home Assistant, test_type_cast: float"),
    ("float(payload) > 11", "12", True, "Home Assistant, test_type_cast: float as a function"),
    ("payload|float", "-1.5e3 ", -1500.0, "Python's float, white space and all"),
    ("payload|float", True, 1.0, "Home Assistant: float(True)"),
    ("payload|float(1)", "bad", 1, "Home Assistant, test_type_cast: the default as it is"),
    ("float('bad', default=1)", None, 1, "Home Assistant, test_type_cast"),
    ("payload|float(none)", "bad", None, "null is a default, too"),
    ("payload.x|float(0)", {}, 0, "the user wrote what a missing value is"),
    ("payload|float(0)", "nan", 0, "not finite"),
    ("payload|float(0)", 10**400, 0, "larger than a double"),
    ("payload|float(0)", [1], 0, "a list is no number"),
    ("payload.list|map('float', 0)|list", {"list": ["1", "x"]}, [1.0, 0], "Jinja: a filter within map"),
    ("payload|int", "12.2", 12, "Home Assistant, test_type_cast: int"),
    ("payload|int", "-21.9", -21, "Jinja, do_int: cut, not rounded"),
    ("payload|int", 21.9, 21, "Jinja, do_int"),
    ("payload|int", "123456789012345678901", 123456789012345678901, "an id is no double"),
    ("payload|int", 10**400, 10**400, "an int is itself"),
    ("payload|int is sameas 1", True, True, "Home Assistant: int(True)"),
    ("payload|int(base=16)", "0x10", 16, "Home Assistant, test_type_cast: base"),
    ("int(payload, base=16)", "ff", 255, "Home Assistant, test_type_cast: base"),
    ("payload|int(7, 16)", "12.5", 7, "a fraction has no base"),
    ("payload|int(1)", "bad", 1, "Home Assistant, test_type_cast"),
    ("payload.x|int(0)", {}, 0, "the user wrote what a missing value is"),
    ("payload|int(0)", "9" * 5000, 0, "more digits than Python reads"),
    ("payload|round", 12.78, 13, "Home Assistant: an int for no digits"),
    ("payload|round is integer", "12.78", True, "Home Assistant: an int for no digits"),
    ("payload|round(1)", "12.78", 12.8, "Home Assistant, test_math: round"),
    ("payload|round(1, 'floor')", 12.78, 12.7, "Home Assistant, test_math"),
    ("payload|round(1, 'ceil')", 12.78, 12.8, "Home Assistant, test_math"),
    ("payload|round(1, 'half')", 12.78, 13.0, "Home Assistant, test_math"),
    ("payload|round(0, 'half')", 21.3, 21.5, "Home Assistant's page on round"),
    ("payload|round", 2.5, 2, "Home Assistant's page on round: to the even neighbour"),
    ("payload|round(-2)", 1234, 1200.0, "Python's round"),
    ("payload|round(default=1)", None, 1, "Home Assistant, test_math"),
    ("payload|round(1, 'ceil', 0)", 1e300, 1e300, "no digit of it is behind the point"),
    ("payload|round(15, 'ceil', 0)", 1e300, 0, "too large for so many digits"),
    ("payload|is_number", "5", True, "Home Assistant, test_type_cast: is_number"),
    ("is_number(payload)", False, True, "Home Assistant, test_type_cast"),
    ("payload is is_number", "nan", False, "Home Assistant, test_type_cast"),
    ("payload is is_number", "horse", False, "Home Assistant, test_type_cast"),
    ("payload|is_number", None, False, "Home Assistant, test_type_cast"),
    ("payload|is_number", b"5", False, "bytes are no text"),
    ("payload|is_number", "1_000", False, "nobody writes a number so"),
    ("payload|is_number", "１２", False, "full-width digits"),
    ("payload.x|is_number or payload.x is is_number", {}, False, "a missing value is none"),
    ("payload|iif('yes', 'no')", True, "yes", "Home Assistant's page on iif"),
    ("iif(payload > 1, 'yes', 'no')", 1, "no", "Home Assistant's page on iif"),
    ("payload|iif", 0, False, "Home Assistant, functional: the defaults"),
    ("payload|iif('yes', 'no', 'unknown')", None, "unknown", "Home Assistant, functional: if_none"),
    ("payload|iif('yes', 'no')", None, "no", "Home Assistant, functional: no if_none"),
    ("payload|timestamp_custom", 1469119144, "2016-07-21 18:39:04", "Home Assistant, test_datetime, in Berlin"),
    ("payload|timestamp_custom('%H:%M', false)", 1469119144.5, "16:39", "Home Assistant, test_datetime"),
    ("payload|timestamp_custom('%H:%M', true)", -1, "00:59", "a second before 1970"),
    ("payload|timestamp_custom('invalid', True, 1)", None, 1, "Home Assistant, test_datetime: the default"),
    ("payload|timestamp_custom(default=1)", 1469119144000, 1, "milliseconds lead past the year 9999"),
    ("payload|as_timestamp", "2024-02-03T09:10:24+0000", 1706951424.0, "Home Assistant, test_datetime"),
    ("as_timestamp(payload)", "2024-02-03 10:10:24", 1706951424.0, "no zone: local time"),
    ("payload|as_timestamp", "2024-02-03T09:10:24.5Z", 1706951424.5, "RFC 3339"),
    ("payload|as_timestamp", "2024-02-03", 1706914800.0, "a day begins at its midnight"),
    ("payload|as_timestamp", datetime(2024, 2, 3, 9, 10, 24, tzinfo=UTC), 1706951424.0, "Home Assistant, test_datetime: strptime's"),
    ("payload|as_timestamp", 1706951424, 1706951424.0, "already one"),
    ("as_timestamp(payload, 1)", "invalid", 1, "Home Assistant, test_datetime: the default"),
    ("payload|as_timestamp(1)", "1710101012345", 1, "Python would read a time of 1710-10-10"),
    ("payload|as_timestamp(1)", "2024-02-30", 1, "no such day"),
    ("payload|as_timestamp(1)", True, 1, "no instant"),
    ("(payload|from_json).a[1].b", json.dumps(DEEP), None, "Home Assistant, serialization: from_json"),
    ("payload|from_json", b"[1]", [1], "bytes of JSON"),
    ("payload|from_json({})", "{'a': 1}", {}, "Home Assistant, serialization: the default"),
    ("payload|from_json(0)", 5, 0, "a number is no text of JSON"),
    ("payload|to_json", DEEP, '{"a":[1,{"b":null}]}', "Home Assistant, serialization: orjson's form"),
    ("payload|to_json", "Küche", '"Küche"', "RFC 8259 8.1: UTF-8"),
    ("payload|to_json(ensure_ascii=true)", "ü", '"\\u00fc"', "Home Assistant, serialization"),
    ("payload|to_json(pretty_print=true, sort_keys=true)", {"b": 1, "a": 2}, '{\n  "a": 2,\n  "b": 1\n}', "Home Assistant, serialization"),
    ("payload|regex_search('Home')", "Another Home Assistant test", True, "Home Assistant, test_regex"),
    ("payload|regex_search('home', True)", "Home Assistant test", True, "Home Assistant, test_regex"),
    ("payload|regex_search", "", True, "Home Assistant, regex: the empty pattern"),
    ("payload|regex_match('Home')", "Another Home Assistant test", False, "Home Assistant, test_regex"),
    ("payload|regex_match('x|home', ignorecase=True)", "Home Assistant test", True, "each branch at the beginning"),
    ("payload|regex_match('b|a')", "ca", False, "each branch at the beginning"),
    (r"payload|regex_match('(\\d{3})-(\\d{4})')", "123-4567", True, "Home Assistant, test_regex"),
    (r"payload|regex_match('\\d+$')", 12345, True, "Home Assistant, test_regex: a number as text"),
    (r"payload is match('\\d') and payload is search('5')", "12345", True, "Home Assistant, test_regex: tests"),
    ("payload|base64_encode", "homeassistant", "aG9tZWFzc2lzdGFudA==", "Home Assistant's page on base64_encode"),
    ("payload|base64_encode", b"\xff", "/w==", "RFC 4648 4"),
    ("payload|base64_decode", "aG9tZWFzc2lzdGFudA==", "homeassistant", "Home Assistant's page on base64_decode"),
    ("payload|base64_decode(none)", "/w==", b"\xff", "Home Assistant, base64: no encoding"),
    ("payload|base64_decode('latin-1')", "/w==", "ÿ", "Home Assistant, base64: encoding"),
    ("payload|sha256", "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "FIPS 180-4: of nothing"),
    ("sha256(payload)", b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "FIPS 180-4, its example"),
]

REASONS: list[tuple[str, Any, str]] = [  # expression, `payload`, the reason in the user's words
    ("payload.x|float", {}, "payload.x is missing"),
    ("float(payload.x)", {}, "payload.x is missing"),
    ("payload.x|float(0) + payload.y|float", {}, "payload.y is missing"),
    ("float(payload.x, 0) + float(payload.y, default=payload.z)", {}, "payload.z is missing"),
    ("payload.x|is_number or payload.y|sha256", {}, "payload.y is missing"),
    ("payload.x.y|float(0)", {}, "payload.x is missing"),
    ("payload.x|to_json", {}, "payload.x is missing"),
    ("[payload.x]|to_json", {}, "payload.x is missing"),
    ("payload.x|tojson", {}, "payload.x is missing"),
    ("payload.x|iif(1, 2)", {}, "payload.x is missing"),
    ("topic|regex_search(payload.x)", {}, "payload.x is missing"),
    ("5|round(payload.x)", {}, "payload.x is missing"),
    ("payload.items|float", {}, "payload.items is missing"),
    ("payload.tempc|float > 3", {"tempc": "nan"}, "payload.tempc is the text 'nan', not a number"),
    ("payload|float > 2", "abc", "payload is the text 'abc', not a number"),
    ("payload|float", "１２", "payload is the text '１２', not a number"),
    ("payload|int", "1_000", "payload is the text '1_000', not a number"),
    ("payload|int", "x" * 300_000, f"payload is the text '{'x' * 40}…', not a number"),
    ("payload|int(base=2)", "102", "payload is the text '102', not a number"),
    ("payload|float", None, "payload is null, not a number"),
    ("payload|float", {"a": 1}, "payload is a table, not a number"),
    ("payload|float", [1], "payload is a list, not a number"),
    ("payload|float", b"1", "payload is bytes, not a number"),
    ("payload|float", datetime(2024, 2, 3, tzinfo=UTC), "payload is a datetime, not a number"),
    ("payload|float", 10**400, "payload is a large number, not a number that can be held"),
    ("payload|float", math.inf, "payload is the number inf, not a number that can be held"),
    ("payload.a|float(0) + payload.b|float", {"a": None, "b": None}, "payload.b is null, not a number"),
    ("payload.a == 1 and payload.a|sha256", {"a": 1}, "payload.a is the number 1, not a text"),
    ("(payload ~ 'x')|float", 5, "the text '5x' is not a number"),
    ("payload|round", "high", "payload is the text 'high', not a number"),
    ("payload|round(16)", 5, "the number 16 is not a whole number from -15 to 15"),
    ("5|round(precision=payload)", "a", "payload is the text 'a', not a whole number from -15 to 15"),
    ("payload|round(0, 'up')", 5, "the text 'up' is not one of common, ceil, floor, half"),
    ("payload|round(15, 'ceil')", 1e300, "payload is the number 1e+300, too large to be rounded so"),
    ("payload|timestamp_custom", "now", "payload is the text 'now', not a number of seconds since 1970"),
    ("payload|timestamp_custom", True, "payload is true, not a number of seconds since 1970"),
    ("payload|timestamp_custom", 1e15, "payload is the number 1000000000000000.0, not a number of seconds since 1970"),
    ("payload|timestamp_custom(payload)", 5, "payload is the number 5, not a text"),
    ("payload|as_timestamp", "yesterday", "payload is the text 'yesterday', not an instant as 2024-02-03T09:10:24+01:00"),
    ("payload|from_json", "{", "payload is the text '{', not JSON: EOF while parsing an object at line 1 column 1"),
    ("payload|from_json", 5, "payload is the number 5, not JSON text"),
    ("payload|to_json", {"a": b"x"}, "bytes is not a value that JSON knows: base64_encode makes a text of it"),
    ("payload|to_json", math.nan, "ValueError: Out of range float values are not JSON compliant"),
    ("payload|tojson", math.inf, "ValueError: Out of range float values are not JSON compliant"),
    ("'a'|regex_search(payload)", "(?=a)", "payload is the text '(?=a)', not a pattern that can be used: look-around, including look-ahead and look-behind, is not supported"),
    ("'a'|regex_search(payload)", r"(a)\1", "payload is the text '(a)\\\\1', not a pattern that can be used: backreferences are not supported"),
    ("'a'|regex_match(payload)", "(", "payload is the text '(', not a pattern that can be used: unclosed group"),
    ("'a'|regex_search(payload)", r"\w{1000}{100}", "payload is the text '\\\\w{1000}{100}', not a pattern that can be used: Compiled regex exceeds size limit of 10485760 bytes."),
    ("'a'|regex_search(payload)", 5, "payload is the number 5, not a pattern"),
    ("payload is search('a')", [1], "payload is a list, not a text"),
    ("payload|regex_search('true')", True, "payload is true, not a text"),
    ("payload|regex_search('a')", "\ud800", "UnicodeEncodeError: 'utf-8' codec can't encode character '\\ud800' in position 0: surrogates not allowed"),
    ("payload|base64_encode", 5, "payload is the number 5, not a text"),
    ("payload|base64_decode", "Zm9v!", "payload is the text 'Zm9v!', not base64"),
    ("payload|base64_decode", "Zm9", "payload is the text 'Zm9', not base64"),
    ("payload|base64_decode", "ü", "payload is the text 'ü', not base64"),
    ("payload|base64_decode", "/w==", "payload is the text '/w==', not base64 of a text in utf-8"),
    ("payload|base64_decode('idna')", "", "the text 'idna' is not one of utf-8, ascii, latin-1"),
    ("payload|sha256", None, "payload is null, not a text"),
]

OUTSIZE = [  # expression that would take the memory, the operator
    ("'x' * payload", "*"),
    ("payload * 'x'", "*"),
    ("[0] * payload", "*"),
    ("'x' * 10 ** 9", "*"),
    ("2 ** 500000 * 2 ** 500000 * 2 ** 500000", "*"),
    ("2 ** payload", "**"),
    ("(0 - 2) ** payload", "**"),
    ("9 ** (9 ** 9)", "**"),
    ("'%999999999d' % payload", "%"),
    ("'%(a)999999999d' % {'a': payload}", "%"),
    ("'%.*f' % (payload, 1)", "%"),
]

ANYTHING = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.integers().map(lambda number: number * 10**350), st.floats(), st.text(st.characters()), st.binary(), st.datetimes(), st.text("0123456789.e-+:TZ _", max_size=25)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=6,
)


@pytest.fixture(autouse=True)
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(("text", "payload", "value", "source"), VALUES)
def test_a_helper_does_what_home_assistants_does(text: str, payload: Any, value: Any, source: str) -> None:
    found = Expression.parse(text).value({"payload": payload})
    assert (found, type(found)) == (value, type(value)), source


@pytest.mark.parametrize(("text", "payload", "reason"), REASONS)
def test_what_a_helper_cant_take_is_said_in_the_users_words(text: str, payload: Any, reason: str) -> None:
    with pytest.raises(RenderError) as caught:
        Expression.parse(text).value({"payload": payload, "topic": "a/b"})
    assert str(caught.value) == reason


@pytest.mark.parametrize("template", ["{% for x in payload %}{{ x|float }}{% endfor %}", "{% set x = payload[0] %}{{ x|float }}", "{% filter float %}high{% endfilter %}"])
def test_a_name_of_the_templates_own_is_described_by_its_value(template: str) -> None:
    with pytest.raises(RenderError, match=r"^the text 'high' is not a number$"):
        Text.parse(template).render({"payload": ["high"]})


@pytest.mark.parametrize("name", GLOBALS)
def test_a_capture_of_a_helpers_name_is_the_capture(name: str) -> None:
    assert Text.parse(f"{{{{ {name} }}}}").render({name: "hall"}) == "hall"
    with pytest.raises(RenderError, match=f"{name} is the text 'hall', not a number"):
        Expression.parse(f"{name} > 3").value({name: "hall"})


@given(ANYTHING, ANYTHING, st.sampled_from([f"payload|{name}" for name in FILTERS] + [f"payload|{name}(other)" for name in FILTERS] + [f"{name}(payload, other)" for name in GLOBALS] + [f"payload is {name}" for name in TESTS]))
def test_whatever_comes_in_a_helper_returns_or_fails_as_a_render_error(payload: Any, other: Any, text: str) -> None:
    names = {"payload": payload, "other": other}
    with suppress(RenderError):
        Expression.parse(text).holds(names)
    with suppress(RenderError):
        Text.parse(f"{{{{ {text} }}}}").render(names)


@given(ANYTHING)
def test_what_is_a_number_to_one_helper_is_one_to_all(payload: Any) -> None:
    is_number, number, whole = (Expression.parse(f"payload|{name}").value({"payload": payload}) for name in ("is_number", "float(none)", "int(none)"))
    assert (number is not None) is is_number
    assert (whole is not None) is (is_number or isinstance(payload, int))
    assert not is_number or math.isclose(whole, number, rel_tol=1e-15, abs_tol=1)


@given(st.text(), st.binary())
def test_what_was_written_in_base64_or_json_reads_back(text: str, data: bytes) -> None:
    assert Expression.parse("payload|base64_encode|base64_decode").value({"payload": text}) == text
    assert Expression.parse("payload|base64_encode|base64_decode(none)").value({"payload": data}) == data
    assert Expression.parse("payload|to_json|from_json").value({"payload": [text]}) == [text]


@given(st.integers(0, 4_000_000_000))
def test_an_instant_reads_back(seconds: int) -> None:
    assert Expression.parse("payload|timestamp_custom('%Y-%m-%dT%H:%M:%S+00:00', false)|as_timestamp").value({"payload": seconds}) == seconds


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|aa)+$", "^(a|a?)+$", "(.*a){20}$", "(x+x+)+y"])
def test_no_pattern_runs_away(pattern: str) -> None:
    """Python's engine takes a time that doubles with each sign; this returns, or the test never ends."""
    text = "a" * 50_000 + "x" * 50_000 + "!"
    assert Expression.parse("payload|regex_search(pattern) or payload|regex_match(pattern)").value({"payload": text, "pattern": pattern}) is False


@pytest.mark.parametrize(("text", "operator"), OUTSIZE)
def test_no_operator_takes_the_memory(text: str, operator: str) -> None:
    with pytest.raises(RenderError) as caught:
        Expression.parse(text).value({"payload": 10**9})
    assert str(caught.value) == f"what '{operator}' would come to is larger than {MAX_SIZE} characters, items or bits"


@pytest.mark.parametrize("payload", ["%999999999d", "%" * 100_000, "%(" * 100_000, b"\xff%999999999d"])
def test_a_payload_that_should_be_a_number_is_no_format(payload: object) -> None:
    with pytest.raises(RenderError):
        Expression.parse("payload % 3").value({"payload": payload})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("'=' * 8", "========"),
        ("3 * [1]", [1, 1, 1]),
        ("payload * 2.5", 12.5),
        ("2 ** 10 + 2 ** -1 + 1 ** 10000000 + 4 ** 0.5", 1027.5),
        ("payload % 3", 2),
        ("'*%5.1f %s* 100%%' % (payload, 'V')", "*  5.0 V* 100%"),
        ("'%(a)s' % {'a': payload}", "5"),
    ],
)
def test_an_operator_within_its_bounds_does_what_jinjas_does(text: str, value: object) -> None:
    assert Expression.parse(text).value({"payload": 5}) == value


def test_a_template_without_end_is_stopped_while_it_goes_on() -> None:
    """Written out it would be 2.4 TB."""
    with pytest.raises(RenderError, match=f"came to more than {MAX_OUTPUT} characters"):
        Text.parse("{% for a in range(100000) %}{% for b in range(100000) %}{{ 'x' * 240 }}{% endfor %}{% endfor %}").render({})
    assert len(Text.parse("{{ 'x' * payload }}{{ 'x' * payload }}").render({"payload": MAX_OUTPUT // 2})) == MAX_OUTPUT


def test_a_reason_quotes_the_beginning_of_a_value_only() -> None:
    for text in ("payload|float", "payload|from_json", "payload|filesizeformat", "payload > 3", "payload|regex_search(payload)", "payload|base64_decode"):
        with pytest.raises(RenderError) as caught:
            Expression.parse(text).value({"payload": "(" * 100_000})
        assert len(str(caught.value)) < 300
