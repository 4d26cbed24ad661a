"""The log: the only module that configures it. One line per record, whatever a payload holds.

Text for people (with priorities for the journal where that reads it), JSON for machines.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Literal

from bridge.rules.units import Slice

MAX_LINE = 2_000  # characters: a value from outside can't flood the log

MAX_TRACE = 20_000  # the same for where an error came from, which is ours and longer

# sd-daemon(3): the journal takes the priority from the line's start
_PRIORITIES = {logging.DEBUG: "<7>", logging.INFO: "<6>", logging.WARNING: "<4>", logging.ERROR: "<3>", logging.CRITICAL: "<2>"}


class LogSettings(Slice):
    """`[log]`: how much is said, and in which form."""

    format: Literal["auto", "text", "json"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class _TextFormatter(logging.Formatter):
    def __init__(self, *, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        line = _one_line(record.getMessage())
        if record.exc_info:
            line += " | " + _one_line(self.formatException(record.exc_info))
        if self._journal:
            return _PRIORITIES.get(record.levelno, "<6>") + line
        return f"{_timestamp(record)} {record.levelname.lower():7} {line}"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": _timestamp(record), "level": record.levelname.lower(), "part": record.name, "message": record.getMessage()[:MAX_LINE]}
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)[:MAX_TRACE]
        return json.dumps(entry, ensure_ascii=True)


def configure(settings: LogSettings) -> None:
    """Let the whole program log to stderr as *settings* say."""
    handler = logging.StreamHandler(sys.stderr)
    journal = settings.format == "auto" and "JOURNAL_STREAM" in os.environ and not sys.stderr.isatty()
    handler.setFormatter(_JsonFormatter() if settings.format == "json" else _TextFormatter(journal=journal))
    logging.basicConfig(level=settings.level.upper(), handlers=[handler], force=True)
    logging._srcfile = None  # the documented way not to look for the caller's file and line
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # nobody prints them, each costs a call
    # Every bad request of a stranger would be a traceback at ERROR; the answer says it all.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    logging.getLogger("asyncio").setLevel(logging.WARNING)


def _timestamp(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _one_line(text: str) -> str:
    if text.isprintable():
        return text[:MAX_LINE]
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text[:MAX_LINE])
