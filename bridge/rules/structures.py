"""Structures: JSON and forms built leaf by leaf, so that a payload can never break out of its place.

Each text in them is a template; in JSON one lone `{{ expression }}` keeps its type.
"""

import json
import math
from collections.abc import Iterator
from datetime import date, time
from typing import Any, Self

from jinja2 import TemplateSyntaxError, UndefinedError
from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from bridge.errors import RenderError
from bridge.rules.expressions import Expression, Source, Text, lone_expression
from bridge.rules.helpers import Unfit, in_json
from bridge.rules.reasons import Names, described

_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=in_json)


class _Structure:
    """What JSON and forms share: how they were written, and the names that they use."""

    def __init__(self, written: Any) -> None:
        self.written = written
        self._built = _built(written)

    @property
    def names(self) -> set[str]:
        """Return the names that the caller has to give."""
        return set[str]().union(*(leaf.names for leaf in _leaves(self._built)))

    @classmethod
    def parse(cls, written: Any) -> Self:
        """Return it compiled; raise ValueError with what is wrong."""
        try:
            return cls(written)
        except TemplateSyntaxError as exc:
            raise ValueError(f"template: {exc.message}") from exc

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__.get("written") == self.written

    def __hash__(self) -> int:
        return hash(repr(self.written))


class Structure(_Structure):
    """A JSON text."""

    def render(self, names: Names) -> bytes:
        """Return the JSON text, UTF-8; raise RenderError."""
        return json_bytes(_valued(self._built, names))


class Form(_Structure):
    """The fields of a form: each a text, or a list of texts for a field that comes several times."""

    def __init__(self, written: Any) -> None:
        if not isinstance(written, dict) or not written:
            raise ValueError('expected a table of fields, as in form = { title = "Door", message = "{{ value }}" }')
        for field, value in written.items():
            if any(isinstance(one, dict | list) for one in (value if isinstance(value, list) else [value])):
                raise ValueError(f"the field {field!r} holds a table or a list in a list: a form is flat, write it as text")
        super().__init__(written)

    def render(self, names: Names) -> list[tuple[str, str]]:
        """Return the fields and their values, not encoded yet; raise RenderError."""
        fields: dict[str, Any] = _valued(self._built, names)
        return [(field, _field_text(one)) for field, value in fields.items() for one in (value if isinstance(value, list) else [value])]


def json_bytes(value: Any) -> bytes:
    """Return *value* as JSON, UTF-8, without NaN or Infinity; raise RenderError if it can't be."""
    try:
        return _JSON.encode(value).encode()
    except Unfit as exc:
        raise RenderError(f"this can't be written as JSON: {described(exc.value)} is {exc.wanted}") from exc
    except (TypeError, ValueError, RecursionError, UndefinedError) as exc:
        raise RenderError(f"this can't be written as JSON: {exc}") from exc


def _field_text(value: Any) -> str:
    """Return a value as a form's field holds it: an instant as its text, true and false as JSON has them, tables and lists as JSON."""
    if isinstance(value, date | time):
        value = in_json(value)
    text = value if isinstance(value, str) else json_bytes(value).decode()
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise RenderError(f"the form can't be sent as UTF-8: {exc.reason}") from exc
    return text


def _built(written: Any) -> Any:
    if isinstance(written, dict):
        return {key: _built(value) for key, value in written.items()}
    if isinstance(written, list):
        return [_built(value) for value in written]
    if isinstance(written, str):
        return lone_expression(written) or Text.parse(written)
    if isinstance(written, bool | int) or (isinstance(written, float) and math.isfinite(written)):
        return written
    raise ValueError(f"{written!r} has no form in JSON: write it as text")


def _leaves(built: Any) -> Iterator[Source]:
    if isinstance(built, dict):
        built = list(built.values())
    if isinstance(built, list):
        for value in built:
            yield from _leaves(value)
    elif isinstance(built, Source):
        yield built


def _valued(built: Any, names: Names) -> Any:
    if isinstance(built, dict):
        return {key: _valued(value, names) for key, value in built.items()}
    if isinstance(built, list):
        return [_valued(value, names) for value in built]
    if isinstance(built, Expression):
        return built.value(names)
    return built.render(names) if isinstance(built, Text) else built
