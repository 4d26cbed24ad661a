"""Secrets that the config only refers to: `env:NAME`, `file:/path`, `credential:NAME`, or the secret itself.

A file that others can read is refused. No message ever holds a secret.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Report = Callable[[tuple[str, ...], str], None]

MAX_FILE = 64 * 1024  # bytes; a secret is a line

STAND_IN = "whsec_" + "A" * 43 + "="  # for a secret that was reported already, so that it isn't reported twice

# Where a secret may stand; `*` is any one key, a number a place in a list.
PLACES: tuple[tuple[str | int, ...], ...] = (
    ("heartbeat",),
    ("mqtt", "password"),
    ("admin", "token"),
    ("destination", "*", "secret"),
    ("destination", "*", "apprise"),
    ("destination", "*", "auth", "bearer"),
    ("destination", "*", "auth", "basic", 1),
    ("destination", "*", "auth", "value"),
    ("destination", "*", "auth", "oauth2", "client_secret"),
    ("outbound", "*", "secret"),
    ("outbound", "*", "apprise"),
    ("outbound", "*", "auth", "bearer"),
    ("outbound", "*", "auth", "basic", 1),
    ("outbound", "*", "auth", "value"),
    ("outbound", "*", "auth", "oauth2", "client_secret"),
    ("inbound", "*", "secret"),
    ("inbound", "*", "verify_token"),
)

# What is often kept beside a secret and may be referred to like one, but is none where it is written out.
NAMES: tuple[tuple[str | int, ...], ...] = (
    ("destination", "*", "auth", "basic", 0),
    ("destination", "*", "auth", "oauth2", "client_id"),
    ("outbound", "*", "auth", "basic", 0),
    ("outbound", "*", "auth", "oauth2", "client_id"),
)


def resolve(tree: dict[str, Any], environment: Mapping[str, str], report: Report) -> set[tuple[str, ...]]:
    """Put the secrets into *tree* that it refers to, report what can't be, and return the paths of those written out."""
    literal: set[tuple[str, ...]] = set()
    for place in PLACES:
        _resolve_at(tree, place, (), environment, report, literal)
    for place in NAMES:
        _resolve_at(tree, place, (), environment, report, set())
    return literal


def references(tree: Any) -> list[tuple[str, str]]:
    """Return the key path and the text of each secret that *tree* only refers to, as in `file:/path`; no secret is looked at."""
    found: list[tuple[str, str]] = []
    for place in (*PLACES, *NAMES):
        _gather(tree, place, (), found)
    return found


def _gather(tree: Any, place: tuple[str | int, ...], path: tuple[str, ...], found: list[tuple[str, str]]) -> None:
    for name in _found(tree, place[0]):
        here = path if isinstance(name, int) else (*path, name)
        if place[1:]:
            _gather(tree[name], place[1:], here, found)
            continue
        values = tree[name] if isinstance(tree[name], list) else [tree[name]]
        found += [(".".join(here), value) for value in values if isinstance(value, str) and value.partition(":")[0] in _KINDS]


def _resolve_at(
    tree: Any, place: tuple[str | int, ...], path: tuple[str, ...], environment: Mapping[str, str], report: Report, literal: set[tuple[str, ...]]
) -> None:
    key, *rest = place
    for name in _found(tree, key):
        here = path if isinstance(name, int) else (*path, name)
        if rest:
            _resolve_at(tree[name], tuple(rest), here, environment, report, literal)
        elif isinstance(tree[name], list):
            tree[name] = [_resolved(value, here, environment, report, literal) for value in tree[name]]
        else:
            tree[name] = _resolved(tree[name], here, environment, report, literal)


def _found(tree: Any, key: str | int) -> list[Any]:
    """Return the keys of a table, or the places in a list, that *key* means."""
    if isinstance(tree, dict):
        return list(tree) if key == "*" else [key] if key in tree else []
    return [key] if isinstance(tree, list) and isinstance(key, int) and key < len(tree) else []


def _resolved(written: Any, path: tuple[str, ...], environment: Mapping[str, str], report: Report, literal: set[tuple[str, ...]]) -> Any:
    kind, colon, where = written.partition(":") if isinstance(written, str) else ("", "", "")
    if not colon or kind not in _KINDS:
        literal.add(path)
        return written
    try:
        return _KINDS[kind](where, environment)
    except ValueError as exc:
        report(path, f"{written!r}: {exc}")
        return STAND_IN


def _from_environment(name: str, environment: Mapping[str, str]) -> str:
    if not environment.get(name):
        raise ValueError(f"the environment variable {name} is not set")
    return environment[name]


def _from_file(path: str, environment: Mapping[str, str]) -> str:  # noqa: ARG001 - one shape for all kinds
    return _read(Path(path), may_be_shared=False)


def _from_credential(name: str, environment: Mapping[str, str]) -> str:
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if not directory:
        raise ValueError("systemd gave no credentials: $CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit")
    if "/" in name or name in ("", ".", ".."):
        raise ValueError("expected the name of a credential, without a path")
    return _read(Path(directory) / name, may_be_shared=True)


def _read(path: Path, *, may_be_shared: bool) -> str:
    try:
        with path.open("rb") as file:
            if not may_be_shared and os.fstat(file.fileno()).st_mode & 0o007:
                raise ValueError(f"others can read this file: chmod 600 {path}")
            text = file.read(MAX_FILE + 1)
    except OSError as exc:
        beside = "" if path.is_absolute() else f"; it was looked for from {Path.cwd()}, where this was started: write its whole path"
        raise ValueError(f"the file can't be read: {exc.strerror}{beside}") from exc
    if len(text) > MAX_FILE:
        raise ValueError("the file is too large to be a secret")
    try:
        secret = text.decode().strip()
    except UnicodeDecodeError as exc:
        raise ValueError("the file is not UTF-8 text") from exc
    if not secret:
        raise ValueError("the file is empty")
    return secret


_KINDS = {"env": _from_environment, "file": _from_file, "credential": _from_credential}
