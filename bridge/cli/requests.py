"""A request as a person gives it to `verify` and `sign`: which hook, which secrets, which headers, which body."""

import json
import os
import re
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import click
from pydantic import TypeAdapter, ValidationError

from bridge.cli.common import loaded
from bridge.cli.given import data, file_data
from bridge.config.secrets import resolve
from bridge.config.settings import Settings
from bridge.rules.instants import instant
from bridge.rules.requests import Request
from bridge.rules.signing import Verification, Verify
from bridge.rules.topics import Filter

LISTEN = "http://127.0.0.1:8080"  # where a hook listens if nothing else is said

Function = TypeVar("Function", bound=Callable[..., Any])

_WRITTEN_SO = "%/:?#[]@!$&'()*+,;=~"  # RFC 3986 section 2; whatever else is in a URL that was typed is encoded

_LINE = re.compile(r"[<>*\s]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*(.*?)\s*")
_REQUEST_LINE = re.compile(r"[<>*\s]*([A-Z]+) (\S+) HTTP/[0-9.]+\s*")
_UNIX = re.compile(r"[0-9]{9,11}(?:\.[0-9]+)?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """How a request is signed and verified: by a hook of the config, or by what the options say; `by_hand`: the secrets are the options'."""

    how: Verification
    secrets: tuple[str, ...]
    by_hand: bool
    path: str = "/"
    method: str = "POST"
    base: str = LISTEN
    socket_file: str | None = None

    def address(self, url: str | None) -> str:
        """Return the whole URL of a request: *url* may lack its host, and be None."""
        written = quote(self.path if url is None else url, safe=_WRITTEN_SO)
        return written if "://" in written else f"{self.base}/{written.removeprefix('/')}"

    def reached_in(self, url: str | None) -> str | None:
        """Return the socket file in which such a request is to be sent, or None if its URL says where."""
        return None if url is not None and "://" in url else self.socket_file


def side_options(function: Function) -> Function:
    """Give a command `--hook`, `--scheme` and `--secret`."""
    options = (
        click.option("--hook", help="The name of a hook in the config."),
        click.option("--scheme", help="Instead of a hook: a scheme, or a table as it stands behind `verify =`."),
        click.option("--secret", "secrets", multiple=True, help="The secret, or env:NAME, or file:PATH; may be given again; by default the hook's own."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def side(hook: str | None, scheme: str | None, secrets: tuple[str, ...], config: str | None) -> Side:
    """Return the side that the options mean; raise click's UsageError where they mean none, and ConfigError."""
    if (hook is None) == (scheme is None):
        raise click.UsageError("give one of --hook and --scheme")
    given = tuple(_secrets(secrets))
    if scheme is not None:
        return Side(how=_way(scheme), secrets=given, by_hand=True)
    settings = loaded(config, with_secrets=not given).settings
    return side_of(settings, str(hook), given)


def side_of(settings: Settings, hook: str, given: tuple[str, ...] = ()) -> Side:
    """Return a hook's side, with the secrets *given* instead of its own; raise click's UsageError where there is none of that name."""
    rule = settings.inbound.get(hook)
    if rule is None:
        raise click.UsageError(f"there is no hook {hook!r}; known: {', '.join(settings.inbound) or 'none'}")
    return Side(
        how=rule.verify,
        secrets=given or tuple(secret.get_secret_value() for secret in rule.secret),
        by_hand=bool(given),
        path=_path(rule.pattern(hook)),
        method=rule.methods[0],
        base=settings.http.base,
        socket_file=settings.http.socket_file,
    )


def moment(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return the unix seconds of `--at`, or None."""
    if value is None or _UNIX.fullmatch(value):
        return None if value is None else float(value)
    try:
        return instant(value, time.time())
    except ValueError as exc:
        raise click.BadParameter(f"{exc}, or unix seconds") from exc


def request_of(side: Side, *, headers: Iterable[str], file: str | None, body: bytes, url: str | None, method: str | None, at: float) -> tuple[str, Request]:
    """Return method and request as they came; lines of a log may say which, options say it last."""
    found: dict[str, tuple[str, ...]] = {}
    asked_for = side.path
    lines = [] if file is None else _lines(data(file) if file == "-" else file_data(Path(file)))
    for line in (*lines, *headers):
        if asked := _REQUEST_LINE.fullmatch(line):
            method, asked_for = method or asked[1], asked[2]
        elif header := _LINE.fullmatch(line):
            found[header[1].lower()] = (*found.get(header[1].lower(), ()), header[2])
        elif line in headers:
            raise click.BadParameter(f"--header {line!r}: expected a header such as 'X-Signature: abc'")
    path, _, query = target(url if url is not None else asked_for).partition("?")
    found.setdefault("host", (url.partition("://")[2].partition("/")[0] if url and "://" in url else side.base.partition("://")[2],))
    return method or side.method, Request(path=path, query=query, headers=found, body=body, received_at=at)


def target(url: str) -> str:
    """Return path and query of a URL, or of what is written without its host."""
    return "/" + url.partition("://")[2].partition("/")[2] if "://" in url else url


def _lines(text: bytes) -> list[str]:
    """Return the header lines in a log; a JSON table of headers will do too."""
    try:
        document = json.loads(text)
    except ValueError:
        return text.decode("utf-8", "surrogateescape").splitlines()
    if not isinstance(document, Mapping):
        raise click.BadParameter("--headers: expected header lines, or a JSON table of them")
    return [f"{name}: {value}" for name, values in document.items() for value in (values if isinstance(values, list) else [values])]


def _path(pattern: Filter) -> str:
    names = (capture or level for level, capture in zip(pattern.levels, pattern.names, strict=True))
    return "/" + "/".join(names)


def _way(text: str) -> Verification:
    try:
        written = tomllib.loads(f"way = {text}")["way"] if text.startswith("{") else text
        way: Verification = TypeAdapter(Verify).validate_python(written)
    except tomllib.TOMLDecodeError as exc:
        raise click.BadParameter(f"--scheme: expected a name, or a table such as '{{ scheme = \"hmac\", header = \"X-Signature\" }}': {exc}") from exc
    except ValidationError as exc:
        raise click.BadParameter("--scheme: " + "; ".join(error["msg"].removeprefix("Value error, ") for error in exc.errors())) from exc
    return way


def _secrets(written: tuple[str, ...]) -> Iterable[str]:
    problems: list[str] = []
    tree: dict[str, Any] = {"inbound": {"given": {"secret": list(written)}}}
    resolve(tree, os.environ, lambda _path, problem: problems.append(problem))
    if problems:
        raise click.BadParameter(f"--secret: {problems[0]}")
    return list(tree["inbound"]["given"]["secret"])
