"""Reasons: why an expression failed, in the words of whoever wrote it.

Asked only after a failure: the expression is walked again, with the values that it had, until the path that is
missing or the value of the wrong kind is found.
"""

from collections.abc import Collection, Iterator, Mapping
from inspect import signature
from types import NoneType
from typing import Any, NamedTuple

from jinja2 import StrictUndefined, UndefinedError, nodes
from jinja2.exceptions import SecurityError

from bridge.rules.helpers import FILTERS, Unfit
from bridge.rules.sandbox import Environment

Names = Mapping[str, Any]

NO_TEXT = "not a text: base64_encode makes one of it"  # of bytes

SHOWN = 40  # characters of a value that a reason quotes
MAX_WORDS = 200  # characters of a reason that isn't ours, which may quote a whole value

_GUARDS = frozenset({"default", "d", "defined", "undefined", "is_number"})  # filters and tests that take a missing value
_ORDERINGS = frozenset({"gt", "gteq", "lt", "lteq"})  # Jinja's words
_ARITHMETIC = (nodes.Add, nodes.Sub, nodes.Mul, nodes.Div, nodes.FloorDiv, nodes.Mod, nodes.Pow, nodes.Neg, nodes.Pos)
_WORDS = {NoneType: "null", dict: "a table", list: "a list", tuple: "a list", bytes: "bytes"}

# Where the default stands among a filter's arguments: what has one takes a missing value, too.
_DEFAULT_AT = {name: list(signature(helper).parameters).index("default") - 1 for name, helper in FILTERS.items() if "default" in signature(helper).parameters}


class _Use(NamedTuple):
    """A filter, test or function in an expression, with what it takes."""

    name: str
    taken: nodes.Node | None
    args: list[nodes.Expr]
    named: list[nodes.Keyword] | list[nodes.Pair]


def explained(tree: nodes.Template, given: Collection[str], names: Names, exc: Exception, environment: Environment) -> str:
    """Return why *exc* came about: the path that is missing, or the value of the wrong type. *given* are the names that *tree* uses."""
    if isinstance(exc, Unfit):
        return _unfit(tree, names, exc, environment)
    reason = None
    if isinstance(exc, UndefinedError | SecurityError):
        reason = _absent(tree, given, names, environment)
    if isinstance(exc, TypeError):
        reason = next(filter(None, (_mixed(node, names, environment) for node in tree.find_all((nodes.Compare, *_ARITHMETIC)))), None) or _no_text(tree, given, names, environment)
    return reason or f"{type(exc).__name__}: {_beginning(str(exc), MAX_WORDS)}"


def _absent(tree: nodes.Template, given: Collection[str], names: Names, environment: Environment) -> str | None:
    guarded = [use.taken for use in _uses(tree) if _takes_missing(use)]
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
        path = _path(node)
        if path and path[0] in given and node not in guarded and (missing := _missing(path, names, environment)):
            return f"{missing} is missing{_no_table(path[0], names)}"
    return None


def _no_text(tree: nodes.Template, given: Collection[str], names: Names, environment: Environment) -> str | None:
    """Return which value is bytes, of which Python's own words say too little; None where none is."""
    for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
        path = _path(node)
        if path and path[0] in given and isinstance(_follow(path, names, environment), bytes):
            return f"{_written(path)} is bytes, {NO_TEXT}"
    return None


def _no_table(name: str, names: Names) -> str:
    """Return what is odd about a payload or body that has no keys because it is a text that was to be JSON."""
    value = names.get(str(name))
    return f": the {name} is no JSON, it is the text {shown(value)}" if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else ""


def _unfit(tree: nodes.Template, names: Names, exc: Unfit, environment: Environment) -> str:
    for node in _taken(tree):
        if (path := _path(node)) and _follow(path, names, environment) is exc.value:
            return f"{_written(path)} is {described(exc.value)}, {exc.wanted}"
    return f"{described(exc.value)} is {exc.wanted}"


def _taken(tree: nodes.Template) -> Iterator[nodes.Node]:
    """Yield what filters, tests and functions take, and what stands in the text."""
    for use in _uses(tree):
        yield from [] if use.taken is None or _takes_missing(use) else [use.taken]
        yield from (*use.args, *(keyword.value for keyword in use.named))
    for output in tree.find_all(nodes.Output):
        yield from output.nodes


def _uses(tree: nodes.Template) -> Iterator[_Use]:
    for node in tree.find_all((nodes.Filter, nodes.Test, nodes.Call)):
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.args:
            yield _Use(node.node.name, node.args[0], node.args[1:], node.kwargs)
        elif isinstance(node, nodes.Filter | nodes.Test):
            yield _Use(node.name, node.node, node.args, node.kwargs)


def _takes_missing(use: _Use) -> bool:
    at = _DEFAULT_AT.get(use.name)
    return use.name in _GUARDS or (at is not None and (len(use.args) > at or any(keyword.key == "default" for keyword in use.named)))


def _mixed(node: nodes.Node, names: Names, environment: Environment) -> str | None:
    """Return which side of an operator is no number, or in `'text' + side` no text; None where all goes together."""
    sides = [(_path(side), _known(side, names, environment)) for side in _sides(node)]
    if isinstance(node, nodes.Compare | nodes.Add) and {type(value) for _, value in sides} in ({str}, {list}):
        return None
    joins = isinstance(node, nodes.Add) and any(isinstance(value, str) for path, value in sides if not path)
    for path, value in sides:
        if not path and isinstance(value, str) and isinstance(node, nodes.Compare) and any(way and isinstance(other, int | float) for way, other in sides):
            return f"{shown(value)} is a text, not a number: write it without quotes"
        if not path or isinstance(value, StrictUndefined):
            continue
        if joins:
            return f"{_written(path)} is {described(value)}, not a text: write ~ in place of +"
        if not isinstance(value, int | float):
            hint = f": write {_written(path)}|float" if isinstance(value, str) else ""
            return f"{_written(path)} is {described(value)}, not a number{hint}"
    return None


def _sides(node: nodes.Node) -> list[nodes.Node]:
    if not isinstance(node, nodes.Compare):
        return list(node.iter_child_nodes())
    ordered = [operand.expr for operand in node.ops if operand.op in _ORDERINGS]
    return [node.expr, *ordered] if ordered else []


def _known(node: nodes.Node, names: Names, environment: Environment) -> Any:
    """Return a side's value where it is written out or a path; what is worked out is taken for a number."""
    if isinstance(node, nodes.Const):
        return node.value
    return _follow(path, names, environment) if (path := _path(node)) else 0


def _path(node: nodes.Node) -> list[Any]:
    """Return the name and keys of a chain like `payload.a['b']`, or nothing if it isn't one."""
    if isinstance(node, nodes.Name):
        return [node.name]
    if isinstance(node, nodes.Getattr) and (path := _path(node.node)):
        return [*path, node.attr]
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const) and (path := _path(node.node)):
        return [*path, node.arg.value]
    return []


def _missing(path: list[Any], names: Names, environment: Environment) -> str | None:
    for length in range(1, len(path) + 1):
        if isinstance(_follow(path[:length], names, environment), StrictUndefined):
            return _written(path[:length])
    return None


def _follow(path: list[Any], names: Names, environment: Environment) -> Any:
    value: Any = names[path[0]] if path[0] in names else environment.globals.get(path[0], environment.undefined(name=path[0]))
    for key in path[1:]:
        if isinstance(value, StrictUndefined):
            return value
        value = environment.getattr(value, key) if isinstance(key, str) else environment.getitem(value, key)
    return value


def _written(path: list[Any]) -> str:
    return str(path[0]) + "".join(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in path[1:])


def described(value: Any) -> str:
    """Return what a value is, in a config's words, and no more than the beginning of it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f"the text {shown(value)}"
    if isinstance(value, float) or (isinstance(value, int) and value.bit_length() <= SHOWN):
        return f"the number {value}"
    return _WORDS.get(type(value)) or ("a large number" if isinstance(value, int) else f"a {type(value).__name__}")


def shown(text: str) -> str:
    """Return the beginning of a text, quoted."""
    return repr(_beginning(text, SHOWN))


def _beginning(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + "…"
