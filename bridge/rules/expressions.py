"""Expressions and templates: Jinja2, sandboxed and strict, over names that the caller gives.

A missing value is an error, never a silent false or true. A payload's own key wins over a method of
the same name. Templates come from the owner of the config only; data is never a template. Whatever an
expression raises while it runs leaves here as RenderError, with the reason in the user's own words.
"""

import re
from collections.abc import Collection
from difflib import get_close_matches
from functools import lru_cache
from types import GeneratorType
from typing import Any, ClassVar, NoReturn, Self
from urllib.parse import quote

from jinja2 import StrictUndefined, Template, meta, nodes
from jinja2.environment import TemplateExpression
from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from bridge.errors import RenderError
from bridge.rules.helpers import PATTERNED, Unfit, expect_pattern
from bridge.rules.reasons import Names, explained, shown
from bridge.rules.sandbox import Environment, environment
from bridge.rules.topics import level_problem

_LONE = re.compile(r"\s*\{\{-?(.*?)-?\}\}\s*", re.DOTALL)

_SLIPS = {  # what Jinja calls them, and what people meant who know other languages
    "chunk after expression": "to compare, write ==",
    "unexpected char '&'": "write `and`",
    "unexpected char '|'": "write `or`",
    "unexpected char '!'": "write `not`",
}

MAX_TREES = 64  # kept parsed, some 20 KB each: the conditions that fail for what is missing are few
MAX_OUTPUT = 1 << 20  # characters; four times the largest body that a hook takes by default


def _one_level(value: Any) -> str:
    text = str(value)
    if problem := level_problem(text):
        raise RenderError(f"the value {shown(text)} can't be one level of a topic: {problem}")
    return text


def _percent_encoded(value: Any) -> str:
    return quote(str(value).encode("utf-8", "strict"), safe="")


_TEXT = environment()
_LEVEL = environment(_one_level)
_URL = environment(_percent_encoded)


@lru_cache(maxsize=MAX_TREES)
def _parsed(environment: Environment, text: str) -> tuple[nodes.Template, frozenset[str]]:
    """Return the tree of a template and the names that it has to be given. A report without a value fails again and again."""
    tree = environment.parse(text)
    return tree, frozenset(meta.find_undeclared_variables(tree))


class Source:
    """What expressions and templates share: their text, their names, and how they fail."""

    environment: ClassVar[Environment] = _TEXT

    def __init__(self, text: str) -> None:
        self.text = text

    @property
    def _written(self) -> str:
        """Return it as a template: what it is parsed as where its names or its failure are asked for."""
        return self.text

    @property
    def names(self) -> set[str]:
        """Return the names that the caller has to give."""
        return set(_parsed(self.environment, self._written)[1])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return it compiled; raise ValueError with what is wrong with *text*."""
        if not isinstance(text, str):
            raise ValueError("expected text")
        try:
            source = cls(text)
            source.expect_patterns()
            return source
        except ValueError:
            raise
        except Exception as exc:  # Jinja works out what is constant at once, and that may raise anything at all
            raise ValueError(f"template {shown(text)}: {_mended(getattr(exc, 'message', None) or str(exc))}") from exc

    def expect_patterns(self) -> None:
        """Raise ValueError where a pattern that stands in the text can't be used; one that is worked out is looked at when it is there."""
        if not any(name in self.text for name in PATTERNED):
            return
        for node in _parsed(self.environment, self._written)[0].find_all((nodes.Filter, nodes.Test)):
            find = next(iter((*node.args, *(pair.value for pair in node.kwargs if pair.key == "find"))), None)
            if node.name in PATTERNED and isinstance(find, nodes.Const) and isinstance(find.value, str):
                try:
                    expect_pattern(find.value)
                except Unfit as exc:
                    raise ValueError(f"template {shown(self.text)}: {shown(find.value)} is {exc.wanted}") from exc

    def _fail(self, exc: Exception, names: Names) -> NoReturn:
        if isinstance(exc, RenderError):
            raise exc
        tree, given = _parsed(self.environment, self._written)
        raise RenderError(explained(tree, given, names, exc, self.environment)) from exc

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(cls.parse)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.__dict__.get("text") == self.text

    def __hash__(self) -> int:
        return hash(self.text)


def _mended(message: str) -> str:
    """Return what Jinja says of a slip, and what is written instead."""
    return message + next((f"; {hint}" for words, hint in _SLIPS.items() if words in message), "")


class Expression(Source):
    """A Jinja2 expression, such as a `when`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._compiled: TemplateExpression = self.environment.compile_expression(text, undefined_to_none=False)

    @property
    def _written(self) -> str:
        return "{{ (" + self.text + ") }}"

    def value(self, names: Names) -> Any:
        """Return what it comes to, with its type kept; raise RenderError."""
        try:
            value = _whole(self._compiled(names))
        except Exception as exc:  # a user's expression may raise anything at all
            self._fail(exc, names)
        return value

    def holds(self, names: Names) -> bool:
        """Return True if its value counts as true, False if not; raise RenderError if it can't be told."""
        value = self.value(names)
        try:
            return bool(value)
        except Exception as exc:  # as above
            self._fail(exc, names)


def _whole(value: Any) -> Any:
    """Return a value with nothing missing in it, and what filters like `map` give drip by drip as a list; raise UndefinedError."""
    if isinstance(value, StrictUndefined):
        str(value)  # raises, as any use of a missing value does
    if isinstance(value, GeneratorType):
        value = list(value)
    if isinstance(value, dict | list | tuple):
        for inner in value.values() if isinstance(value, dict) else value:
            if isinstance(inner, StrictUndefined | dict | list | tuple | GeneratorType):
                _whole(inner)
    return value


class Text(Source):
    """A template whose values stand in it as they are."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._compiled: Template | None = self.environment.from_string(text) if "{" in text else None

    def render(self, names: Names) -> str:
        """Return the text with its values in place; raise RenderError."""
        if self._compiled is None:
            return self.text
        pieces: list[str] = []
        left = MAX_OUTPUT
        try:
            for piece in self._compiled.root_render_func(self._compiled.new_context(dict(names))):
                left -= len(piece)
                if left < 0:  # while it goes on, as a loop in it may have no near end
                    raise RenderError(f"template {shown(self.text)} came to more than {MAX_OUTPUT} characters")
                pieces.append(piece)
        except Exception as exc:  # a user's template may raise anything at all
            self._fail(exc, names)
        return "".join(pieces)


class MethodText(Text):
    """An HTTP method, written in capitals."""

    _METHOD = re.compile(r"[A-Z]{3,10}", re.ASCII)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if self._compiled is None and not self._METHOD.fullmatch(text):
            raise ValueError(f"{shown(text)} is not a method: expected one in capitals, such as POST or PUT")

    def render(self, names: Names) -> str:
        method = super().render(names)
        if not self._METHOD.fullmatch(method):
            raise RenderError(f"{shown(method)} is not a method: expected one in capitals, such as POST or PUT")
        return method


class TopicText(Text):
    """A topic: each value in it is one level."""

    environment = _LEVEL


class HeaderText(Text):
    """A header's value: no control character can enter it."""

    @property
    def problem(self) -> str | None:
        """Return why it could never be sent, whatever is said; None where it may be, as one with a template may."""
        try:
            if self._compiled is None:
                self.render({})
        except RenderError as exc:
            return str(exc)
        return None

    def render(self, names: Names) -> str:
        text = super().render(names)
        if any(ord(sign) < 32 or ord(sign) == 127 for sign in text):
            raise RenderError(f"the header value {shown(text)} holds a control character")
        try:
            text.encode()
        except UnicodeEncodeError as exc:
            raise RenderError(f"the header value {shown(text)} can't be sent as UTF-8") from exc
        return text


class UrlText(Text):
    """An http or https URL: scheme, host and port are fixed; each value in path and query is percent-encoded."""

    environment = _URL
    _FIXED = re.compile(r"(https?)://([^/?#{}%\s\\]+)(?=[/?]|$)", re.IGNORECASE)

    def __init__(self, text: str) -> None:
        super().__init__(text)
        fixed = self._FIXED.match(text)
        if "@" in re.split(r"[/?#]", text.partition("://")[2] or text, maxsplit=1)[0]:
            raise ValueError("a URL can't hold a user or password; it starts with http:// or https:// and a host")
        if not re.match(r"https?://", text, re.IGNORECASE):
            raise ValueError(f"the URL {shown(text)} doesn't start with http:// or https://")
        if fixed is None:
            raise ValueError(f"the URL {shown(text)}: its host and port are written out; a template may stand only after them")
        host, _, port = fixed[2].rpartition(":") if re.search(r":[^\]]*$", fixed[2]) else (fixed[2], "", "")
        if not host or (port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)):
            raise ValueError(f"the URL {shown(text)}: expected a host and, if any, a port from 1 to 65535")
        if single := re.search(r"\{(\w+)\}", _without_templates(text)):
            raise ValueError(f"the URL {shown(text)}: write {{{{ {single[1]} }}}} with two braces; one is for `topic` only")
        if "#" in _without_templates(text):
            raise ValueError(f"the URL {shown(text)}: a fragment is never sent")

    def render(self, names: Names) -> str:
        url = super().render(names)
        if any(segment in (".", "..") for segment in url.split("?", 1)[0].split("/")[3:]):
            raise RenderError("a value would make the URL's path climb with '.' or '..'")
        if any(ord(sign) <= 32 or ord(sign) == 127 for sign in url):
            raise RenderError("the URL holds a blank or a control character")
        return url


def lone_expression(text: str) -> Expression | None:
    """Return the expression that *text* is nothing but, as in "{{ payload.battery }}", or None if it is more or less."""
    lone = _LONE.fullmatch(text)
    if lone is None:
        return None
    body = _TEXT.parse(text.strip()).body
    alone = len(body) == 1 and isinstance(body[0], nodes.Output) and len(body[0].nodes) == 1
    return Expression.parse(lone[1]) if alone else None


def unknown_names(used: set[str], known: Collection[str]) -> str | None:
    """Return a sentence about the first name in *used* that nothing gives, or None."""
    for name in sorted(used - set(known) - set(_TEXT.globals)):
        if close := get_close_matches(name, known, 1):
            return f"{name!r} is not a name that can be used here; did you mean {close[0]!r}?"
        guess = f"payload.{name} or the text '{name}'" if "payload" in known else f"the text '{name}'"
        return f"{name!r} is not a name that can be used here; did you mean {guess}? Known here: {', '.join(sorted(known))}"
    return None


def _without_templates(text: str) -> str:
    return re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
