"""Payloads: bytes into values, and instants into text.

JSON is read strictly: no NaN and no infinity however it is written, no lone surrogate, nothing so deep that
it could not be written out again.
"""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from pydantic_core import from_json

from bridge.errors import RenderError

MAX_DEPTH = 100  # no device nests deeper; json.dumps gives up at about 1,000


def decoded(payload: bytes, how: str) -> Any:
    """Return a payload as a value; raise RenderError if it isn't what *how* says.

    "auto" never fails: JSON, else text, else bytes. JSON is read strictly (no NaN, no lone surrogates). An empty payload,
    which clears a retained topic (MQTT 5.0 section 3.3.1.3) and so says nothing that could be wrong, is an empty text.
    """
    if how == "bytes":
        return payload
    if not payload:
        return ""
    text = utf8(payload)
    if how in ("json", "auto"):
        try:
            return strict_json(payload)
        except ValueError as exc:
            if how == "json":
                raise RenderError(f"the payload is not JSON: {exc}") from exc
    if text is None and how == "text":
        raise RenderError("the payload is not UTF-8 text")
    return payload if text is None else text


def timestamp(at: float) -> str:
    """Return an instant as RFC 3339 in UTC, to the millisecond."""
    return written(datetime.fromtimestamp(at, UTC))


def written(at: datetime) -> str:
    """Return an instant as `timestamp` does; one without a zone is in the local one. Raise ValueError or OverflowError near the ends of time."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def moment(at: float) -> Callable[[], datetime]:
    """Return what templates call `now`: it returns the instant *at* in the local time zone."""
    return lambda: datetime.fromtimestamp(at).astimezone()


def strict_json(text: bytes) -> Any:
    """Return the value of a JSON text; raise ValueError where it is none that could be written out again."""
    value = from_json(text, allow_inf_nan=False)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number is larger than any that can be held")
    level, depth = [value] if isinstance(value, dict | list) else [], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
        level = [inner for outer in level for inner in _inner(outer)]
    return value


def one_meaning(text: bytes) -> Any:
    """Return the value of a JSON text as `strict_json` does; raise ValueError also where a key stands twice in a table.

    Readers differ in which of the two they take (RFC 8259 section 4): what the sender meant can't be told.
    """
    strict_json(text)
    return json.loads(text, object_pairs_hook=_table)


def utf8(payload: bytes) -> str | None:
    """Return a payload as text, or None if it is none."""
    try:
        return payload.decode()
    except UnicodeDecodeError:
        return None


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("a key stands in it twice")
    return table


def _inner(outer: Any) -> list[Any]:
    """Return the tables and lists in one; raise ValueError where a number in it has no end (1e400 reads as infinity)."""
    found = []
    for value in outer.values() if isinstance(outer, dict) else outer:
        if isinstance(value, dict | list):
            found.append(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError("a number is larger than any that can be held")
    return found
