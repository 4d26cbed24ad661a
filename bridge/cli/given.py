"""What people give to commands, read: payloads, files, instants; and what commands make anew: ids, files of their own."""

import os
import sys
import time
from pathlib import Path
from tempfile import NamedTemporaryFile

import click

from bridge.errors import BridgeError
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.instants import instant


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
