"""The log: the only module that configures it. One line per record, whatever a payload holds.

Text for people, JSON for machines, and the journal's own protocol where the journal listens. What a line says of a mapping,
an event or a destination is a field of its own in the latter two. A field's name is never taken from a value: it stands
in the constant text of the call, as in `mapping=%s`.
"""

import json
import logging
import os
import re
import socket
import sys
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Literal, TextIO

from bridge.rules.units import Slice

MAX_LINE = 2_000  # characters: a value from outside can't flood the log

MAX_TRACE = 20_000  # the same for where an error came from, which is ours and longer

# sd-daemon(3): the journal takes the priority from the line's start
_PRIORITIES = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>", logging.CRITICAL: "<2>"}

MAX_FIELD = 256  # characters of a field; an id that a sender chose may be longer than ours

JOURNAL = Path("/run/systemd/journal/socket")  # systemd.io/JOURNAL_NATIVE_PROTOCOL

# What stands before a value in the text of a call, and the field that it becomes; a hook is counted as a mapping, too.
_FIELDS = {"mapping": "mapping", "hook": "mapping", "event": "event_id", "command": "event_id", "letter": "event_id", "id": "event_id", "destination": "destination"}
_VALUE = re.compile(r"(?:(%s|\w+)=)?%(?:%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])", re.ASCII)  # printf-style; `%s=%s` is a name that is a value, too
_TEXTS = 256  # calls whose text has been looked at; there are fewer


class LogSettings(Slice):
    """`[log]`: how much is said, and in which form."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class _TextFormatter(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def line(self, record: logging.LogRecord) -> str:
        line = _one_line(record.getMessage())
        if record.exc_info:
            line += " | " + _one_line(self.formatException(record.exc_info))
        return line

    def format(self, record: logging.LogRecord) -> str:
        line = self.line(record)
        if self._journal:
            return _priority(record) + line
        return f"{_timestamp(record)} {record.levelname.lower():7} {line}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _timestamp(record), "level": record.levelname.lower(), "part": record.name, "message": record.getMessage()[:MAX_LINE], **fields(record)}
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)[:MAX_TRACE]
        return json.dumps(entry, ensure_ascii=True)


class _JournalHandler(logging.StreamHandler[TextIO]):
    """Speaks the journal's protocol; a record that the journal doesn't take goes to stderr, which it reads as well."""

    def __init__(self, stream: TextIO, journal: Path) -> None:
        super().__init__(stream)
        self._journal = str(journal)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)  # a journal that hangs must not hold us up

    def emit(self, record: logging.LogRecord) -> None:
        assert isinstance(self.formatter, _TextFormatter)
        entry = {"MESSAGE": self.formatter.line(record), "PRIORITY": _priority(record)[1:2], "SYSLOG_IDENTIFIER": "mqtthook"}
        entry |= {name.upper(): value for name, value in fields(record).items()}
        try:  # to its address each time: it may have been started anew, with another socket
            self._socket.sendto("".join(f"{name}={value}\n" for name, value in entry.items()).encode("utf-8", "replace"), self._journal)
        except OSError:
            super().emit(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def fields(record: logging.LogRecord) -> dict[str, str]:
    """Return what a record says of a mapping, an event and a destination, by the fields' names in lower case; each value is one line."""
    args = record.args
    if not isinstance(args, tuple):
        return {}
    found: dict[str, str] = {}
    for name, place in _places(record.msg):
        field = _FIELDS.get(name if isinstance(name, str) else str(args[name]))
        if field is not None and args[place] is not None:
            found[field] = _one_line(str(args[place])[:MAX_FIELD])
    return found


def configure(settings: LogSettings, *, journal_socket: Path = JOURNAL) -> None:
    """Let the whole program log as *settings* say: to stderr, or to the journal where that reads stderr anyway."""
    journal = settings.format == "auto" and "JOURNAL_STREAM" in os.environ and not sys.stderr.isatty()
    handler: logging.Handler = _JournalHandler(sys.stderr, journal_socket) if journal and _reads(sys.stderr) and journal_socket.exists() else logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter(journal=journal))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging._srcfile = None  # the documented way not to look for the caller's file and line
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nobody prints them, each costs a call
    # Every bad request of a stranger would be a traceback at ERROR; the answer says it all.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


@lru_cache(maxsize=_TEXTS)
def _places(text: object) -> tuple[tuple[str | int, int], ...]:
    """Return the `name=value` pairs in the text of a call: the name, or which argument it is, and which argument the value is."""
    found: list[tuple[str | int, int]] = []
    n = 0
    for value in _VALUE.finditer(str(text)):
        if value[0].endswith("%%"):
            continue
        if value[1] == "%s":
            found.append((n, n + 1))
            n += 1
        elif value[1] is not None:
            found.append((value[1], n))
        n += 1
    return tuple(found)


def _reads(stream: TextIO) -> bool:
    """Return True if it is the journal that reads this stream, False if $JOURNAL_STREAM speaks of another, as behind a pipe; systemd.exec(5)."""
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _priority(record: logging.LogRecord) -> str:
    return _PRIORITIES.get(record.levelno, "<6>")


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    if text.isprintable():
        return text[:MAX_LINE]
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[:MAX_LINE])
