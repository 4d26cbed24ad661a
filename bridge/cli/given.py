"""What people give to commands, read: payloads, files, instants; and what commands make anew: ids, files of their own."""

import os
import re
import sys
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from bridge.errors import BridgeError
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.instants import instant
from bridge.rules.topics import topic_problem

FORM = "application/x-www-form-urlencoded"

_IS_FORM = re.compile(rb"[\w.%+\[\]-]+=")
_IS_WRITTEN_OUT = re.compile(r"\s*[\[{<]|[\w.%+\[\]-]+=")  # no file is called so; whatever else names none is a mistake in its name
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)\s*:\s*(.*)")


def data(text: str) -> bytes:
    """Return the bytes that an option gives: @FILE a file's, - those of standard input, else the text's own."""
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return file_data(Path(text[1:]))
    return text.encode("utf-8", "surrogateescape")


def file_data(path: Path) -> bytes:
    """Return a file's bytes; raise click's BadParameter where it can't be read."""
    try:
        return path.read_bytes()
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}") from exc


def body_of(text: str | None) -> bytes:
    """Return the bytes of `--body`: a file's, those of standard input (-), or a body that is written out; without it none."""
    if text is None:
        return b""
    written_out = text != "-" and _IS_WRITTEN_OUT.match(text) and not (len(text) < 256 and Path(text).is_file())  # 255 bytes is the longest name
    return data(text) if text == "-" or written_out else file_data(Path(text))


def is_form(body: bytes) -> bool:
    """Return True if a body looks like a form's fields, False if like JSON or anything else."""
    return _IS_FORM.match(body) is not None


def headers_given(_ctx: click.Context, _param: click.Parameter, lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return name and value of each `--header`."""
    found = [_HEADER.fullmatch(line.strip()) for line in lines]
    if None in found:
        raise click.BadParameter(f"{lines[found.index(None)]!r}: expected a header such as 'X-GitHub-Event: push'")
    return tuple((header[1], header[2]) for header in found if header is not None)


def topic_given(_ctx: click.Context, _param: click.Parameter, topic: str | None) -> str | None:
    """Return the topic that an option names, None if it isn't given."""
    # Nothing may be published to $SYS, but the broker itself does.
    if topic is not None and (problem := topic_problem(topic.removeprefix("$"))):
        raise click.BadParameter(f"expected a topic, not a filter: {problem}")
    return topic


def since(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    """Return the unix seconds of an option that names an instant, None if it isn't given."""
    try:
        return None if value is None else instant(value, time.time())
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def new_event_id() -> str:
    """Return an id as the daemon gives its events."""
    return "evt_" + ulid(time.time(), os.urandom(RANDOM_BYTES))


def create_file(path: Path, text: str, *, elsewhere: str) -> None:
    """Create a file that only its owner can read, whole or not at all; raise BridgeError where that can't be.

    *elsewhere* is the option that names another place.
    """
    try:
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.link(file.name, path)  # a rename would overwrite what came there in the meantime
    except FileExistsError as exc:
        raise BridgeError(taken(path, elsewhere=elsewhere)) from exc
    except OSError as exc:
        raise BridgeError(f"{path}: the file can't be written: {exc.strerror}; nothing was written") from exc


def taken(path: Path, *, elsewhere: str) -> str:
    """Return what is said where a file is there already."""
    return f"{path} is there already, and stays as it is; move it away, or name another place with {elsewhere}"
