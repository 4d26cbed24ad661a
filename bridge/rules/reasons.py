"""Reasons: why an expression failed, in the words of whoever wrote it.

Asked only after a failure: the expression is walked again, with the values that it had, until the path that is
missing or the value of the wrong kind is found.
"""

from collections.abc import Mapping
from typing import Any

from jinja2 import StrictUndefined, UndefinedError, meta, nodes
from jinja2.exceptions import SecurityError

from bridge.rules.sandbox import Environment

Names = Mapping[str, Any]

SHOWN = 40  # characters of a value that a reason quotes

_GUARDS = frozenset({"default", "d", "defined", "undefined"})  # filters and tests that take a missing value


def explained(tree: nodes.Template, names: Names, exc: Exception, environment: Environment) -> str:
    """Return why *exc* came about: the path that is missing, or the value of the wrong type."""
    if isinstance(exc, UndefinedError | SecurityError):
        given = meta.find_undeclared_variables(tree)
        guarded = [node.node for node in tree.find_all((nodes.Filter, nodes.Test)) if node.name in _GUARDS]
        for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Name)):
            path = _path(node)
            if path and path[0] in given and node not in guarded and (missing := _missing(path, names, environment)):
                return f"{missing} is missing"
    if isinstance(exc, TypeError):
        for node in tree.find_all((nodes.Compare, nodes.BinExpr)):
            if reason := _mixed(node, names, environment):
                return reason
    return f"{type(exc).__name__}: {exc}"


def _mixed(node: nodes.Node, names: Names, environment: Environment) -> str | None:
    sides = [node.expr, *(op.expr for op in node.ops)] if isinstance(node, nodes.Compare) else list(node.iter_child_nodes())
    for side in sides:
        if not (path := _path(side)):
            continue
        value = _follow(path, names, environment)
        if isinstance(value, str):
            return f"{_written(path)} is the text {shown(value)}, not a number: write {_written(path)}|float"
        if value is None:
            return f"{_written(path)} is null, not a number"
    return None


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
    value: Any = names.get(path[0], environment.undefined(name=path[0])) if path[0] not in environment.globals else ""
    for key in path[1:]:
        if isinstance(value, StrictUndefined):
            return value
        value = environment.getattr(value, key) if isinstance(key, str) else environment.getitem(value, key)
    return value


def _written(path: list[Any]) -> str:
    return str(path[0]) + "".join(f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]" for key in path[1:])


def shown(text: str) -> str:
    """Return the beginning of a text, quoted."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")
