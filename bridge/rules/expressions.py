"""Expressions and templates: Jinja2, sandboxed and strict, over names that the caller gives.

A missing value is an error, never a silent false or true. A payload's own key wins over a method of
the same name. Templates come from the owner of the config only; data is never a template. Whatever an
expression raises while it runs leaves here as RenderError, with the reason in the user's own words.
"""

import re
from collections.abc import Collection, Iterator
from datetime import date, time
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
from bridge.rules.reasons import NO_TEXT, Names, explained, shown
from bridge.rules.sandbox import Environment, environment
from bridge.rules.topics import level_problem

_LONE = re.compile(r"\s*\{\{-?(.*?)-?\}\}\s*", re.DOTALL)

_SLIPS = {  # what Jinja calls them, and what people meant who know other languages
    "chunk after expression": "to compare, write ==",
    "unexpected char '&'": "write `and`",
    "unexpected char '|'": "write `or`",
    "unexpected char '!'": "write `not`",
}

# What has one form as text, so that it can stand where nothing else tells what it is; a null would read "None" there.
_PLAIN = (str, int, float, date, time)

_BRACES = "an expression stands without {{ }} or {% %}, as in payload.battery < 20"

_ELSEWHERE = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)
_SET_ASIDE = (nodes.FilterBlock, nodes.AssignBlock, nodes.CallBlock, nodes.Macro)  # what stands in these is a value, not the text itself

_CONTROL = r"\x00-\x1f\x7f-\x9f\u2028\u2029"  # Unicode's category Cc, and the two that end a line without being in it (UAX 14: LS, PS)
_NO_HEADER = re.compile(f"[{_CONTROL}]")
_NO_URL = re.compile(rf"[\s{_CONTROL}]")

MAX_TREES = 64  # kept parsed, some 20 KB each: the conditions that fail for what is missing are few
MAX_OUTPUT = 1 << 20  # characters; four times the largest body that a hook takes by default


def _in_text(value: Any) -> Any:
    if isinstance(value, bytes):
        raise Unfit(value, NO_TEXT)
    return value


def _one_level(value: Any) -> str:
    text = str(value)  # raises where it is missing
    if isinstance(value, bool) or not isinstance(value, _PLAIN):
        raise Unfit(value, "not one level of a topic: expected a text or a number")
    if problem := level_problem(text):
        raise RenderError(f"the value {shown(text)} can't be one level of a topic: {problem}")
    return text


def _percent_encoded(value: Any) -> str:
    text = str(value)
    if not isinstance(value, _PLAIN):
        raise Unfit(value, "not a part of a URL: expected a text or a number")
    return quote(text.encode("utf-8", "strict"), safe="")


_TEXT = environment(_in_text)
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
            source.expect_alone()
            source.expect_patterns()
            return source
        except ValueError:
            raise
        except Exception as exc:  # Jinja works out what is constant at once, and that may raise anything at all
            raise ValueError(f"template {shown(text)}: {cls._mended(text, getattr(exc, 'message', None) or str(exc))}") from exc

    @classmethod
    def _mended(cls, _text: str, message: str) -> str:
        """Return what Jinja says of a slip, and what is written instead."""
        return message + next((f"; {hint}" for words, hint in _SLIPS.items() if words in message), "")

    def expect_alone(self) -> None:
        """Raise ValueError where it needs another template: there is none."""
        if "{%" in self.text and any(_parsed(self.environment, self._written)[0].find_all(_ELSEWHERE)):
            raise ValueError(f"template {shown(self.text)}: there are no other templates here: write out what it needs")

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


class Expression(Source):
    """A Jinja2 expression, such as a `when`."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if not text.strip():
            raise ValueError("it is empty: expected an expression such as payload.battery < 20")
        self._compiled: TemplateExpression = self.environment.compile_expression(text, undefined_to_none=False)

    @property
    def _written(self) -> str:
        return "{{ (" + self.text + ") }}"

    @classmethod
    def _mended(cls, text: str, message: str) -> str:
        return _BRACES if re.search(r"\{[{%]", text) else super()._mended(text, message)

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

    def failure(self, names: Names) -> str | None:
        """Return why it can't be told whether it holds, or None if it can be."""
        try:
            self.holds(names)
        except RenderError as exc:
            return str(exc)
        return None


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

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if single := _with_one_brace(text):
            raise ValueError(f"the topic {shown(text)}: write {{{{ {single} }}}} with two braces; one is for a mapping's `topic` and a hook's `path` only")


class HeaderText(Text):
    """A header's value: no control character can enter it."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        if self._compiled is None and _NO_HEADER.search(text):
            raise ValueError(f"the header value {shown(text)} holds a control character")

    def render(self, names: Names) -> str:
        text = super().render(names)
        if _NO_HEADER.search(text):
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
        if single := _with_one_brace(text):
            raise ValueError(f"the URL {shown(text)}: write {{{{ {single} }}}} with two braces; one is for `topic` only")
        if "#" in _without_templates(text):
            raise ValueError(f"the URL {shown(text)}: a fragment is never sent")
        if bad := next((found[0] for literal in self._literals() if (found := _NO_URL.search(literal))), None):
            raise ValueError(f"the URL {shown(text)} holds {bad!r}: write it percent-encoded, as {quote(bad)}")
        if "urlencode" in text and any(use.name == "urlencode" for use in _parsed(self.environment, text)[0].find_all(nodes.Filter)):
            raise ValueError(f"the URL {shown(text)}: each value in a URL is percent-encoded already: leave `urlencode` out")

    def _literals(self) -> Iterator[str]:
        """Yield what stands in the URL as it is written."""
        if self._compiled is None:
            yield self.text
        elif _NO_URL.search(_without_templates(self.text)):
            yield from _literals_in(_parsed(self.environment, self.text)[0])

    def render(self, names: Names) -> str:
        url = super().render(names)
        if any(segment in (".", "..") for segment in url.split("?", 1)[0].split("/")[3:]):
            raise RenderError("a value would make the URL's path climb with '.' or '..'")
        if _NO_URL.search(url):
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


def _with_one_brace(text: str) -> str | None:
    """Return the name that stands in a template as captures are written in a filter, {name} or {name...}; None where none does."""
    single = re.search(r"\{(\w+)(?:\.\.\.)?\}", _without_templates(text))
    return single[1] if single else None


def _literals_in(node: nodes.Node) -> Iterator[str]:
    """Yield the texts between the tags of a template, but not those that come to a value first."""
    for child in node.iter_child_nodes():
        if isinstance(child, nodes.TemplateData):
            yield child.data
        elif not isinstance(child, _SET_ASIDE):
            yield from _literals_in(child)


def _without_templates(text: str) -> str:
    return re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "", text, flags=re.DOTALL)
