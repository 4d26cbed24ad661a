"""The sandbox: Jinja2 as strict as a house needs it, with a payload's own keys before everything else.

A missing value is an error at any use. A key wins over a method of the same name, and a method counts only
where it is called: `payload.items` without such a key is missing, `payload.items()` is not. No number in a payload
makes an operator take the memory.
"""

from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from jinja2 import StrictUndefined
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from bridge.errors import RenderError
from bridge.rules.helpers import FILTERS, GLOBALS, TESTS, in_json, regex_search

MAX_SIZE = 1 << 20  # characters, items or bits that an operator makes: as many characters as a template may come to

_DICT_METHODS = frozenset({"get", "items", "keys", "values"})
_WIDE = r"(?s)%(\(.*\))?[-+ #0-9.]*(\*|[0-9]{5})"  # what in a format asks for 10,000 characters, or as many as a value says


class _Missing(StrictUndefined):
    """A key that isn't there: any use of it raises."""

    __slots__ = ()


class _Method(_Missing):
    """A value's method, where no key has that name: it can be called; any other use of it is a missing value's."""

    __slots__ = ("_method",)

    # What Jinja asks of a thing before it calls it; as a missing value it would raise at the question.
    unsafe_callable = alters_data = False
    jinja_pass_arg = None

    def __init__(self, obj: Any, name: str, method: Callable[..., Any]) -> None:
        super().__init__(obj=obj, name=name)
        self._method = method

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._method(*args, **kwargs)


def _is_long(left: Any, right: Any) -> bool:
    if isinstance(left, int) and isinstance(right, int):
        return left.bit_length() + right.bit_length() > MAX_SIZE
    repeated, times = (left, right) if isinstance(right, int) else (right, left)
    return isinstance(repeated, str | bytes | list | tuple) and isinstance(times, int) and len(repeated) * times > MAX_SIZE


def _is_high(left: Any, right: Any) -> bool:
    return isinstance(left, int) and isinstance(right, int) and abs(left) > 1 and left.bit_length() * right > MAX_SIZE


def _is_wide(left: Any, _: Any) -> bool:
    return isinstance(left, bytes) or (isinstance(left, str) and regex_search(left, _WIDE))


# Operators whose value may be far larger than their operands, and what says so before it is made.
_OUTSIZE: dict[str, Callable[[Any, Any], bool]] = {"*": _is_long, "**": _is_high, "%": _is_wide}


class Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, that changes nothing it is given, with our way of looking things up."""

    intercepted_binops = frozenset(_OUTSIZE)  # nor are these worked out while a template is compiled

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Return what an operator comes to; raise RenderError where that would be too large."""
        if _OUTSIZE[operator](left, right):
            raise RenderError(f"what '{operator}' would come to is larger than {MAX_SIZE} characters, items or bits")
        return super().call_binop(context, operator, left, right)

    def make_globals(self, d: MutableMapping[str, Any] | None) -> MutableMapping[str, Any]:
        """Return the names that every template has. Jinja's chain of dicts, copied at each use, costs more than a condition."""
        return {**self.globals, **(d or {})}

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Return what `obj.attribute` is."""
        if not isinstance(obj, Mapping):
            return _careful(obj, attribute, super().getattr(obj, attribute))
        if attribute in obj:
            return obj[attribute]
        return _Method(obj, attribute, getattr(obj, attribute)) if attribute in _DICT_METHODS else _Missing(obj=obj, name=attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return what `obj[argument]` is."""
        if isinstance(obj, Mapping) and isinstance(argument, str) and argument not in obj:
            return _Missing(obj=obj, name=argument)
        return _careful(obj, argument, super().getitem(obj, argument))


def _careful(obj: Any, name: Any, value: Any) -> Any:
    """Return a value as it is, but a plain value's method so that only a call of it counts."""
    plain = isinstance(obj, str | bytes | list | int | float | None)
    return _Method(obj, str(name), value) if plain and callable(value) and not isinstance(value, StrictUndefined) else value


def environment(finalize: Callable[[Any], Any] | None = None) -> Environment:
    """Return an environment whose expressions' values go through *finalize* before they stand in a text."""
    made = Environment(undefined=_Missing, finalize=finalize, keep_trailing_newline=True, autoescape=False, cache_size=0)
    made.filters |= FILTERS
    made.tests |= TESTS
    made.globals |= GLOBALS
    del made.globals["lipsum"]  # as long as it is told to be, and another text at each use
    made.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False, "default": in_json}  # what `tojson` takes
    return made
