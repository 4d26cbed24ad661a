"""Payloads: JSON read strictly, and by itself every payload is something."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.rules.payloads import MAX_DEPTH, decoded, one_meaning, strict_json, timestamp, utf8

STRICT = [  # text, what is wrong with it or None, source
    (b'{"a":[1,2.5,true,null,"x"]}', None, "RFC 8259"),
    (b" 1 ", None, "RFC 8259 2: white space around a value"),
    (b"1e308", None, "IEEE 754: the largest power of ten in a double"),
    (b"1e-400", None, "rounds to nothing"),
    (b"[" * MAX_DEPTH + b"]" * MAX_DEPTH, None, "as deep as may be"),
    (b'{"a":' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH, None, "as deep as may be"),
    (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), "it nests deeper than 100 levels", "RFC 8259 9: nesting may be bounded"),
    (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), "it nests deeper than 100 levels", "RFC 8259 9"),
    (b"[" * 100_000, "recursion limit exceeded", "RFC 8259 9"),
    (b"1e400", "a number is larger than any that can be held", "RFC 8259 6: range may be bounded"),
    (b"-1e400", "a number is larger than any that can be held", "RFC 8259 6"),
    (b'{"a":{"b":1e400}}', "a number is larger than any that can be held", "RFC 8259 6"),
    (b'[{"a":[1,[1e400]]}]', "a number is larger than any that can be held", "RFC 8259 6"),
    (b"NaN", "expected value", "RFC 8259 6: not permitted"),
    (b"[Infinity]", "expected value", "RFC 8259 6: not permitted"),
    (b'"\\ud800"', "unexpected end of hex escape", "RFC 8259 8.2: a lone surrogate"),
    (b"'a'", "expected value", "RFC 8259 7: double quotes"),
    (b"[1,]", "trailing comma", "RFC 8259 5"),
    (b"1 2", "trailing characters", "RFC 8259 2: one value"),
    (b"01", "invalid number", "RFC 8259 6: no leading zeros"),
    (b"\xff", "expected value", "RFC 8259 8.1: UTF-8"),
    (b"", "EOF while parsing", "RFC 8259 2: one value"),
]


@pytest.mark.parametrize(("text", "words", "source"), STRICT, ids=lambda value: repr(value)[:30])
def test_json_is_read_strictly(text: bytes, words: str | None, source: str) -> None:
    if words is None:
        assert strict_json(text) == json.loads(text), source
        return
    with pytest.raises(ValueError, match=words):
        strict_json(text)


TWICE = [b'{"a":1,"a":1}', b'{"a":1,"\\u0061":2}', b'[{"b":{"a":1,"c":2,"a":3}}]', b'{"":0,"":1}']


@pytest.mark.parametrize("text", TWICE)
def test_a_key_that_stands_twice_has_no_one_meaning(text: bytes) -> None:
    """RFC 8259 section 4: what readers then do is unpredictable. A device's message is still read, as it always was."""
    with pytest.raises(ValueError, match="a key stands in it twice"):
        one_meaning(text)
    assert strict_json(text) == json.loads(text)


@pytest.mark.parametrize(("text", "words", "source"), STRICT, ids=lambda value: repr(value)[:30])
def test_what_has_one_meaning_is_strict_json(text: bytes, words: str | None, source: str) -> None:
    if words is None:
        assert one_meaning(text) == strict_json(text), source
        return
    with pytest.raises(ValueError, match=words):
        one_meaning(text)


@pytest.mark.parametrize("payload", [b"1e400", b"-1e400", b'{"power":1e400}', b"[1e999]"])
def test_a_number_beyond_every_float_is_no_json_to_us(payload: bytes) -> None:
    """Read as infinity it could not be written out again, and the event would be a dead letter."""
    assert decoded(payload, "auto") == payload.decode()
    with pytest.raises(RenderError, match="is not JSON"):
        decoded(payload, "json")


@given(st.one_of(st.binary(), st.text().map(str.encode), st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)).map(lambda value: json.dumps(value).encode())))
def test_decoding_by_itself_is_total_and_what_it_gives_can_be_written_out_again(payload: bytes) -> None:
    value = decoded(payload, "auto")
    if isinstance(value, bytes):
        assert value == payload
        with pytest.raises(UnicodeDecodeError):
            payload.decode()
    else:
        json.dumps(value, allow_nan=False).encode()


@pytest.mark.parametrize(
    ("how", "value"),
    [("auto", {"a": 1}), ("json", {"a": 1}), ("text", '{"a":1}'), ("bytes", b'{"a":1}')],
)
def test_a_payload_is_what_the_mapping_says_it_is(how: str, value: object) -> None:
    assert decoded(b'{"a":1}', how) == value


@pytest.mark.parametrize(
    ("payload", "how", "reason"),
    [
        (b"ON", "json", "the payload is not JSON: expected value at line 1 column 1"),
        (b"1e400", "json", "the payload is not JSON: a number is larger than any that can be held"),
        (b"\xff", "text", "the payload is not UTF-8 text"),
    ],
)
def test_a_payload_that_isnt_what_the_mapping_says_is_told(payload: bytes, how: str, reason: str) -> None:
    with pytest.raises(RenderError) as caught:
        decoded(payload, how)
    assert str(caught.value) == reason


@given(st.binary(), st.sampled_from(["auto", "json", "text", "bytes"]))
def test_decoding_returns_a_value_or_raises_a_render_error(payload: bytes, how: str) -> None:
    try:
        value = decoded(payload, how)
    except RenderError as exc:
        assert str(exc)
        assert how in ("json", "text")
        return
    assert how != "bytes" or value == payload
    assert how != "text" or value == payload.decode()


@pytest.mark.parametrize(("payload", "text"), [(b"ON", "ON"), (b"", ""), ("Küche".encode(), "Küche"), (b"\xff", None), (b"\xed\xa0\x80", None)])
def test_a_payload_is_text_where_it_is_utf_8(payload: bytes, text: str | None) -> None:
    # RFC 3629 section 3: surrogates have no UTF-8
    assert utf8(payload) == text


@pytest.mark.parametrize(("at", "text"), [(0, "1970-01-01T00:00:00.000Z"), (1_764_000_000.25, "2025-11-24T16:00:00.250Z"), (1_764_000_000.2506, "2025-11-24T16:00:00.250Z")])
def test_an_instant_is_written_as_rfc_3339_says(at: float, text: str) -> None:
    assert timestamp(at) == text
