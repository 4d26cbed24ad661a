"""Topics and filters: what a filter takes, what it captures, and what may be published to.

MQTT 5.0 section 4.7: `+` is one level, `#` the rest; a filter that starts with a wildcard takes no
topic that starts with `$`. Ours adds names: `{room}` is a `+` that is captured, `{rest...}` a `#`.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

MAX_TOPIC_BYTES = 65_535  # the length of an MQTT string, MQTT 5.0 section 1.5.4
MAX_LEVELS = 200  # Mosquitto hangs up on more (measured)

_CAPTURE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(\.\.\.)?\}", re.ASCII)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Filter:
    """A topic filter: its levels as the broker knows them, and each level's name, if it has one."""

    text: str
    levels: tuple[str, ...]
    names: tuple[str | None, ...]

    @classmethod
    def parse(cls, text: str) -> "Filter":
        """Return the filter written as *text*; raise ValueError with what is wrong."""
        if not isinstance(text, str):
            raise ValueError('expected a topic filter such as "zigbee2mqtt/{room}/motion"')
        if text.startswith("$share/"):
            raise ValueError(f"filter {text!r}: a shared subscription is set by `share` in [mqtt]")
        parts = text.split("/")
        pairs = [_level(text, part, last=n == len(parts) - 1) for n, part in enumerate(parts)]
        names = [name for _, name in pairs if name]
        if len(set(names)) < len(names):
            raise ValueError(f"filter {text!r}: the same name captures two levels")
        if problem := topic_problem(text, wildcards=True):
            raise ValueError(f"filter {text!r}: {problem}")
        return cls(text, tuple(level for level, _ in pairs), tuple(name for _, name in pairs))

    @classmethod
    def literal(cls, topic: str) -> "Filter":
        """Return the filter that takes this topic alone, in which braces are nothing special."""
        levels = tuple(topic.split("/"))
        return cls(topic, levels, (None,) * len(levels))

    @property
    def plain(self) -> str:
        """Return the filter as a broker understands it."""
        return "/".join(self.levels)

    @property
    def captures(self) -> tuple[str, ...]:
        """Return the names it captures, in the order of the levels."""
        return tuple(name for name in self.names if name)

    def captured(self, levels: tuple[str, ...]) -> dict[str, str] | None:
        """Return what each name captures of a topic's *levels*, or None if the filter doesn't take it."""
        if not self.takes(levels):
            return None
        return {
            name: "/".join(levels[n:]) if self.levels[n] == "#" else levels[n]
            for n, name in enumerate(self.names)
            if name
        }

    def takes(self, levels: tuple[str, ...]) -> bool:
        """Return True if a topic of these *levels* matches, False if not."""
        if levels[0].startswith("$") and self.levels[0] in "+#":
            return False
        for n, level in enumerate(self.levels):
            if level == "#":
                return True  # also the parent level itself: "sport/#" takes "sport", section 4.7.1.2
            if n >= len(levels) or level not in ("+", levels[n]):
                return False
        return len(self.levels) == len(levels)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)


class FilterTree(Generic[T]):
    """Filters and what they lead to, found by walking a topic's levels: its cost doesn't grow with their number."""

    __slots__ = ("_branches", "_here", "_rest")

    def __init__(self) -> None:
        self._branches: dict[str, FilterTree[T]] = {}
        self._here: list[T] = []
        self._rest: list[T] = []

    def add(self, levels: tuple[str, ...], value: T) -> None:
        """Let every topic that the filter of these *levels* takes lead to *value*."""
        if not levels:
            self._here.append(value)
        elif levels[0] == "#":
            self._rest.append(value)
        else:
            self._branches.setdefault(levels[0], FilterTree()).add(levels[1:], value)

    def of(self, levels: tuple[str, ...]) -> list[T]:
        """Return the values that a topic of these *levels* leads to, in no set order."""
        return list(self._walk(levels, 0))

    def covering(self, levels: tuple[str, ...]) -> list[T]:
        """Return the values of every filter that takes all that the filter of these *levels* takes, itself included."""
        return list(self._cover(levels, 0))

    def meeting(self, levels: tuple[str, ...]) -> list[T]:
        """Return the values of every filter that takes any topic which the filter of these *levels* takes, too."""
        return list(self._meet(levels, 0))

    def _meet(self, levels: tuple[str, ...], n: int) -> Iterator[T]:
        system = n == 0 and levels[0].startswith("$")
        if not system:
            yield from self._rest
        if n == len(levels):
            yield from self._here
        elif levels[n] == "#":
            yield from (value for level, branch in self._branches.items() if n or not level.startswith("$") for value in branch._all())
            yield from self._here if n else ()
        elif levels[n] == "+":
            yield from (value for level, branch in self._branches.items() if n or not level.startswith("$") for value in branch._meet(levels, n + 1))
        else:
            for level in (levels[n],) if system else (levels[n], "+"):
                if (branch := self._branches.get(level)) is not None:
                    yield from branch._meet(levels, n + 1)

    def _all(self) -> Iterator[T]:
        yield from self._here
        yield from self._rest
        for branch in self._branches.values():
            yield from branch._all()

    def _cover(self, levels: tuple[str, ...], n: int) -> Iterator[T]:
        if not (n == 0 and levels[0].startswith("$")):
            yield from self._rest
        if n == len(levels):
            yield from self._here
        elif levels[n] != "#":  # only another "#" covers that
            for level in {levels[n], "+"} if n or not levels[0].startswith("$") else {levels[n]}:
                if (branch := self._branches.get(level)) is not None:
                    yield from branch._cover(levels, n + 1)

    def _walk(self, levels: tuple[str, ...], n: int) -> Iterator[T]:
        system = n == 0 and levels[0].startswith("$")
        if not system:
            yield from self._rest
        if n == len(levels):
            yield from self._here
            return
        for level in (levels[n],) if system else (levels[n], "+"):
            if (branch := self._branches.get(level)) is not None:
                yield from branch._walk(levels, n + 1)


def topic_problem(topic: str, *, wildcards: bool = False) -> str | None:
    """Return why nothing may be published to *topic*, or None if it may.

    Brokers hang up on such topics, and a client that repeats them never gets out of the loop again.
    With *wildcards* the same is asked of a filter.
    """
    if not topic:
        return "it is empty"
    if not wildcards and topic.startswith("$"):
        return "it starts with '$', which belongs to the broker"
    if not wildcards and (found := next((sign for sign in "+#" if sign in topic), None)):
        return f"it holds the wildcard {found!r}"
    if (bad := unprintable(topic)) is not None:
        return f"it holds {bad}, which no broker takes"
    if len(topic.encode()) > MAX_TOPIC_BYTES:
        return f"it is longer than {MAX_TOPIC_BYTES} bytes"
    if topic.count("/") >= MAX_LEVELS:
        return f"it has more than {MAX_LEVELS} levels"
    return None


def level_problem(value: str) -> str | None:
    """Return why *value* can't be one level of a topic, or None if it can."""
    if not value:
        return "it is empty"
    if value.startswith("$"):
        return "it starts with '$'"
    if found := next((sign for sign in "/+#" if sign in value), None):
        return f"it holds {found!r}"
    if (bad := unprintable(value)) is not None:
        return f"it holds {bad}"
    return None


def unprintable(text: str) -> str | None:
    """Return the name of the first control character, surrogate or non-character in *text*, or None."""
    if text.isprintable() and text.isascii():
        return None
    for sign in text:
        code = ord(sign)
        if unicodedata.category(sign) in ("Cc", "Cs") or code & 0xFFFE == 0xFFFE or 0xFDD0 <= code <= 0xFDEF or code == 0xFEFF:
            return f"U+{code:04X}"
    return None


def _level(text: str, part: str, *, last: bool) -> tuple[str, str | None]:
    found = _CAPTURE.fullmatch(part)
    if found is None:
        if "{" in part or "}" in part:
            raise ValueError(f"filter {text!r}: a capture is a whole level, such as {{room}} or {{rest...}}")
        level, name = part, None
    else:
        level, name = ("#" if found[2] else "+"), found[1]
    if level != "+" and "+" in level:
        raise ValueError(f"filter {text!r}: '+' must be a whole level")
    if level != "#" and "#" in level:
        raise ValueError(f"filter {text!r}: '#' must be a whole level")
    if level == "#" and not last:
        raise ValueError(f"filter {text!r}: {part!r} must be the last level")
    return level, name
