"""The sandbox: Jinja2 as strict as a house needs it, with a payload's own keys before everything else.

A missing value is an error at any use. A key wins over a method of the same name, and a method counts only
where it is called: `payload.items` without such a key is missing, `payload.items()` is not.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jinja2 import StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

_DICT_METHODS = frozenset({"get", "items", "keys", "values"})


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


class Environment(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, that changes nothing it is given, with our way of looking things up."""

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
    return Environment(undefined=_Missing, finalize=finalize, keep_trailing_newline=True, autoescape=False, cache_size=0)
