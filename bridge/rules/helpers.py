"""Helpers: what Home Assistant's users expect of a template, under the names that it gave them, made strict.

What a helper can't take is an error, never a silent 0 or false; a default is returned only where one is written.
They know no clock. Their arguments stand in the order of Home Assistant's, as its users write them without names.
"""

import base64
import binascii
import hashlib
import json
import math
import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from functools import lru_cache
from typing import Any, NoReturn

from pydantic_core import SchemaError, SchemaValidator, core_schema

from bridge.rules.payloads import strict_json, written

MAX_DIGITS = 15  # to round to, on either side of the point: what a double holds (sys.float_info.dig)
MAX_PATTERNS = 64  # kept compiled; more than a config has, and each takes up to 10 MiB

_REQUIRED: Any = object()  # stands where no default is written: null may be one

_ISO = re.compile(r"\d{4}-\d\d-\d\d([Tt ]\d.*)?", re.ASCII)  # fromisoformat reads "1710101012345" as a day, too
_ENCODINGS = ("utf-8", "ascii", "latin-1")  # Python's others may take a time that grows with the square

_ROUNDINGS: dict[str, Callable[[float, int], float]] = {
    "common": round,
    "ceil": lambda number, digits: math.ceil(number * 10.0**digits) / 10.0**digits,
    "floor": lambda number, digits: math.floor(number * 10.0**digits) / 10.0**digits,
    "half": lambda number, _: round(number * 2) / 2,
}


class Unfit(ValueError):
    """A value that a helper can't take. What it is called, and so the sentence about it, is found out elsewhere."""

    def __init__(self, value: Any, wanted: str) -> None:
        super().__init__(wanted)
        self.value = value
        self.wanted = wanted  # "not a number"


def as_float(value: Any, default: Any = _REQUIRED) -> Any:
    """Return a number, or a text that is one, as float. Source: Home Assistant; nan, inf and 1_000 are none here."""
    number = _number(value)
    return _otherwise(default, value, _not_a_number(value)) if number is None else number


def as_int(value: Any, default: Any = _REQUIRED, base: int = 10) -> Any:
    """Return a number, or a text that is one in *base*, cut to an int: "21.9" is 21. Source: Home Assistant."""
    whole = _whole(value, base)
    return _otherwise(default, value, _not_a_number(value)) if whole is None else whole


def rounded(value: Any, precision: int = 0, method: str = "common", default: Any = _REQUIRED) -> Any:
    """Return a number rounded to *precision* digits; an int for 0 of them, but for "half", whose halves would be lost.

    Source: Home Assistant. "common" rounds a half to the even neighbour; an unknown method is an error.
    """
    if not (isinstance(method, str) and method in _ROUNDINGS):
        _refuse(method, f"not one of {', '.join(_ROUNDINGS)}")
    if not (isinstance(precision, int) and abs(precision) <= MAX_DIGITS):
        _refuse(precision, f"not a whole number from -{MAX_DIGITS} to {MAX_DIGITS}")
    number = _number(value)
    if number is None:
        return _otherwise(default, value, _not_a_number(value))
    try:
        result = _ROUNDINGS[method](number, precision)
    except OverflowError:
        return _otherwise(default, value, "too large to be rounded so")
    return int(result) if precision == 0 and method != "half" else result


def is_number(value: Any) -> bool:
    """Return True for what `float` takes, False for anything else, a missing value included."""
    return _number(value) is not None


def iif(value: Any, if_true: Any = True, if_false: Any = False, if_none: Any = _REQUIRED) -> Any:  # noqa: FBT002 - Home Assistant's order
    """Return *if_true* or *if_false*, as Jinja counts truth, or *if_none* for null where one is written."""
    if value is None and if_none is not _REQUIRED:
        return if_none
    return if_true if value else if_false


def timestamp_custom(value: Any, format: str = "%Y-%m-%d %H:%M:%S", local: bool = True, default: Any = _REQUIRED) -> Any:  # noqa: FBT001, FBT002 - as above
    """Return unix seconds as strftime writes them, in local time or else in UTC. Source: Home Assistant."""
    if not isinstance(format, str):
        _refuse(format, "not a text")
    seconds = _plain_seconds(value)
    try:
        at = None if seconds is None else datetime.fromtimestamp(seconds, UTC).astimezone(None if local else UTC)
    except (ValueError, OverflowError, OSError):
        at = None
    return _otherwise(default, value, "not a number of seconds since 1970") if at is None else at.strftime(format)


def as_timestamp(value: Any, default: Any = _REQUIRED) -> Any:
    """Return unix seconds of an instant, ISO 8601 text (without a zone: local time) or number. Source: Home Assistant."""
    seconds = _seconds(value)
    return _otherwise(default, value, "not an instant as 2024-02-03T09:10:24+01:00") if seconds is None else seconds


def from_json(value: Any, default: Any = _REQUIRED) -> Any:
    """Return the value of a JSON text, read as strictly as a payload."""
    if not isinstance(value, str | bytes):
        return _otherwise(default, value, "not JSON text")
    try:
        return strict_json(value.encode() if isinstance(value, str) else value)
    except ValueError as exc:
        return _otherwise(default, value, f"not JSON: {exc}")


def to_json(value: Any, *, ensure_ascii: bool = False, pretty_print: bool = False, sort_keys: bool = False) -> str:
    """Return JSON text, compact unless *pretty_print*; raise ValueError for NaN and infinity (RFC 8259 section 6)."""
    indent, separators = (2, (",", ": ")) if pretty_print else (None, (",", ":"))
    return json.dumps(value, ensure_ascii=ensure_ascii, allow_nan=False, indent=indent, separators=separators, sort_keys=sort_keys, default=in_json)


def in_json(value: Any) -> str:
    """Return the text of an instant, a day or a time; raise Unfit for any other value that JSON doesn't know. Source: RFC 3339 section 5.6.

    What an encoder asks for as its `default`.
    """
    if isinstance(value, datetime):
        try:
            return written(value)
        except (ValueError, OverflowError):
            _refuse(value, "not an instant that can be written")
    if isinstance(value, date | time):
        return value.isoformat()
    return _refuse(value, "not a value that JSON knows" + (": base64_encode makes a text of it" if isinstance(value, bytes) else ""))


def regex_search(value: Any, find: str = "", ignorecase: bool = False) -> bool:  # noqa: FBT001, FBT002 - as above
    """Return True if a pattern is found anywhere in a text, False if not; raise Unfit if it can't be used.

    The engine is Rust's, linear in the text whatever the pattern: no look-around and no back references, and `$` is
    the very end. Source: docs.rs/regex, "Untrusted input".
    """
    return _found(value, find, find, ignorecase=ignorecase)


def regex_match(value: Any, find: str = "", ignorecase: bool = False) -> bool:  # noqa: FBT001, FBT002 - as above
    """Return True if a text begins with a pattern, False if not; otherwise as `regex_search`."""
    return _found(value, find, f"^(?:{find})", ignorecase=ignorecase)


def length(value: Any) -> int:
    """Return how many items, keys or characters there are. One that is missing is an error, where Jinja counts it."""
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        bool(item)  # a missing value raises at this, as at any use
    return len(value)


def base64_encode(value: Any) -> str:
    """Return a text's UTF-8, or bytes, in base64."""
    return base64.b64encode(_bytes(value)).decode()


def base64_decode(value: Any, encoding: str | None = "utf-8") -> Any:
    """Return what base64 holds, as a text in *encoding*, or as bytes for none. Source: RFC 4648 section 3, all of it."""
    if encoding is not None and encoding not in _ENCODINGS:
        _refuse(encoding, f"not one of {', '.join(_ENCODINGS)}")
    _bytes(value)
    try:
        held = binascii.a2b_base64(value, strict_mode=True)
        return held if encoding is None else held.decode(encoding)
    except UnicodeDecodeError:
        _refuse(value, f"not base64 of a text in {encoding}")
    except ValueError:
        _refuse(value, "not base64")


def sha256(value: Any) -> str:
    """Return the SHA-256 of a text's UTF-8, or of bytes, in hex."""
    return hashlib.sha256(_bytes(value)).hexdigest()


FILTERS: dict[str, Callable[..., Any]] = {
    "as_timestamp": as_timestamp,
    "base64_decode": base64_decode,
    "base64_encode": base64_encode,
    "count": length,
    "float": as_float,
    "from_json": from_json,
    "iif": iif,
    "int": as_int,
    "is_number": is_number,
    "length": length,
    "regex_match": regex_match,
    "regex_search": regex_search,
    "round": rounded,
    "sha256": sha256,
    "timestamp_custom": timestamp_custom,
    "to_json": to_json,
}

GLOBALS = {name: FILTERS[name] for name in ("as_timestamp", "float", "iif", "int", "is_number", "sha256")}

TESTS: dict[str, Callable[..., bool]] = {"is_number": is_number, "match": regex_match, "search": regex_search}

PATTERNED = frozenset({"regex_match", "regex_search", "match", "search"})  # filters and tests whose first argument is a pattern


def expect_pattern(find: str) -> None:
    """Raise Unfit where *find* is no pattern that the engine takes."""
    _usable(find, find)


def _otherwise(default: Any, value: Any, wanted: str) -> Any:
    return _refuse(value, wanted) if default is _REQUIRED else default


def _refuse(value: Any, wanted: str) -> NoReturn:
    bool(value)  # a missing value raises at this, as at any use, and says so better
    raise Unfit(value, wanted)


def _not_a_number(value: Any) -> str:
    return "not a number that can be held" if isinstance(value, int | float) else "not a number"


def _number(value: Any) -> float | None:
    """Return a finite number or a text that is one, or None. A bool is one, as in Home Assistant."""
    if not isinstance(value, int | float) and not _is_plain(value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _whole(value: Any, base: int) -> int | None:
    """Return what *value* is without its fraction, or None. Only in base 10 has a text one."""
    if isinstance(value, int):
        return int(value)
    if _is_plain(value):
        try:
            return int(value, base)
        except ValueError:
            if base != 10:
                return None
    number = _number(value)
    return None if number is None else int(number)


def _is_plain(value: Any) -> bool:
    """Return True for a text that float and int read as people do: they take 1_000 and the digits of any script."""
    return isinstance(value, str) and value.isascii() and "_" not in value


def _seconds(value: Any) -> float | None:
    try:
        at = datetime.fromisoformat(value) if isinstance(value, str) and _ISO.fullmatch(value) else value
        if isinstance(at, datetime):
            return at.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    return _plain_seconds(at)


def _plain_seconds(value: Any) -> float | None:
    return None if isinstance(value, str | bool) else _number(value)


def _bytes(value: Any) -> bytes:
    if not isinstance(value, str | bytes):
        _refuse(value, "not a text")
    return value.encode() if isinstance(value, str) else value


def _found(value: Any, find: Any, pattern: str, *, ignorecase: bool) -> bool:
    if not isinstance(find, str):
        _refuse(find, "not a pattern")
    if not isinstance(value, str | int | float) or isinstance(value, bool):
        _refuse(value, "not a text")
    text = str(value)
    text.encode()  # raises for a lone surrogate, of which the engine would say that nothing matches
    return _usable(find, f"(?i){pattern}" if ignorecase else pattern).isinstance_python(text)


def _usable(find: str, pattern: str) -> SchemaValidator:
    """Return what says whether a text holds *pattern*, which came of *find*."""
    try:
        return _compiled(pattern)
    except SchemaError as exc:
        raise Unfit(find, f"not a pattern that can be used: {str(exc).splitlines()[-1].split(': ', 1)[-1]}") from exc


@lru_cache(MAX_PATTERNS)
def _compiled(pattern: str) -> SchemaValidator:
    """Return it compiled: the way to Rust's engine that pydantic brings along."""
    return SchemaValidator(core_schema.str_schema(pattern=pattern, regex_engine="rust-regex"))
