"""What pydantic found, said so that a person can mend it: the value, what was expected, what was probably meant."""

import difflib
import re
from collections.abc import Iterable
from typing import Any, NamedTuple, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

MAX_SHOWN = 60  # characters of a value

_HIDDEN = frozenset({"secret", "password", "token", "auth", "apprise", "heartbeat"})

_ADDRESS = re.compile(r"(?P<scheme>[A-Za-z0-9+.-]*:/*)?(?P<user>[^/?#]*@)?(?P<host>[^/?#@]*)(?P<rest>(?:[/?#].*)?)", re.DOTALL)

_KINDS = {str: "text", int: "a number", float: "a number", bool: "true or false", list: "a list"}

_EXPECTED = {
    "string_type": "expected text in quotes",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "tuple_type": "expected a list",
    "list_type": "expected a list",
    "greater_than_equal": "expected {ge} or more",
    "less_than_equal": "expected {le} or less",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "too_short": "expected at least {min_length}",
    "literal_error": "expected {expected}",
    "enum": "expected {expected}",
    "int_parsing_size": "expected a smaller number",
    "finite_number": "expected a number that has an end",
}


class Mistake(NamedTuple):
    """The key path of what is wrong, a sentence about it, and the key that was probably meant, None where there is none."""

    path: tuple[str, ...]
    what: str
    meant: str | None = None


def mistake(error: ErrorDetails, model: type[BaseModel]) -> Mistake:
    """Return what pydantic found, so said that a person can mend it."""
    path = tuple(str(part) for part in error["loc"] if not isinstance(part, int))
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "missing":
        return Mistake(path, f"is missing{_purpose(path)}")
    if kind == "extra_forbidden":
        return _unknown_key(path, model)
    if kind == "value_error":
        return _placed(path, str(context.get("error", error["msg"])), given, model)
    if kind in ("dict_type", "model_type", "model_attributes_type"):
        return Mistake(path, f"expected a table, not {_KINDS.get(type(given), 'this')}")  # which itself may hold a secret
    expected = _EXPECTED.get(kind)
    return Mistake(path, f"{_shown(path, given)}: {expected.format(**context) if expected else error['msg']}")


def _placed(path: tuple[str, ...], text: str, given: Any, model: type[BaseModel]) -> Mistake:
    """Return what a value or a whole table complains of; what begins with `key: ` is about that key of the table."""
    found = re.match(r"([a-z_]+)((?:\.[A-Za-z0-9_-]+)*): ", text)
    if found is not None and found[1] in _keys_at(path, model):
        return Mistake((*path, found[1], *filter(None, found[2].split("."))), text[found.end() :])
    is_about_a_value = text.startswith("expected") and isinstance(given, str | int | float)
    return Mistake(path, f"{_shown(path, given)}: {text}" if is_about_a_value else text)


def _purpose(path: tuple[str, ...]) -> str:
    purposes = {"version": "; write `version = 1` on top", "topic": ": which topic this is about", "verify": ': how the sender is known; "none" has to be written out'}
    return purposes.get(path[-1], "")


def _unknown_key(path: tuple[str, ...], model: type[BaseModel]) -> Mistake:
    known = _keys_at(path[:-1], model)
    meant = next(iter(difflib.get_close_matches(path[-1], known, 1)), None)
    hint = f"did you mean `{meant}`?" if meant else f"known here: {', '.join(known)}"
    return Mistake(path, f"there is no such key; {hint}", meant)


def _keys_at(path: Iterable[str], model: type[BaseModel]) -> list[str]:
    """Return the keys that the table at *path* may have, as they are written in the config."""
    at: Any = model
    for key in path:
        if isinstance(at, type) and issubclass(at, BaseModel):
            field = next((field for name, field in at.model_fields.items() if key in (name, field.alias)), None)
            at = field.annotation if field is not None else None
        elif getattr(at, "__origin__", None) is dict:
            at = get_args(at)[1]
        at = _model_in(at)
    if isinstance(at, type) and issubclass(at, BaseModel):
        return sorted(field.alias or name for name, field in at.model_fields.items())
    return []


def _without_credentials(url: str) -> str:
    """Return what of an address is no secret: neither user and password, nor the path, which for some receivers is the key."""
    found = _ADDRESS.fullmatch(url)
    return "…" if found is None else f"{found['scheme'] or ''}{'…@' if found['user'] else ''}{found['host']}{'/…' if found['rest'].strip('/') else found['rest']}"


def _model_in(annotation: Any) -> Any:
    if isinstance(annotation, type) or getattr(annotation, "__origin__", None) is dict:
        return annotation
    return next((found for argument in get_args(annotation) if (found := _model_in(argument)) is not None), None)


def _shown(path: tuple[str, ...], value: Any) -> str:
    if _HIDDEN & set(path):
        return "the value (not shown)"
    text = repr(_without_credentials(value) if path[-1:] and path[-1].endswith("url") and isinstance(value, str) else value)
    return text if len(text) <= MAX_SHOWN else text[:MAX_SHOWN] + "…"
