"""The rescue of a damaged outbox: what can be read of it goes into a new one, and the file itself is kept beside.

Nothing of the damaged file is changed, and no file that was kept is ever overwritten. What can't be read is counted as
dropped, so that the ledger of the new one adds up.
"""

import json
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bridge.errors import StoreBroken, StoreDamaged
from bridge.model import Result
from bridge.outbox.copies import aside, making, renamed, room_for
from bridge.outbox.ledger import IN, Counts
from bridge.outbox.lock import lock_of, locked
from bridge.outbox.rows import COLUMNS, UNREADABLE, letter_of, row_of
from bridge.outbox.selection import Selection
from bridge.outbox.store import Changes, Store

logger = logging.getLogger(__name__)

NOTE = "rescued"
ROOM = 2  # times its size: the new one, and as much again in the log of its transactions

# What is carried over beside letters and ledger.
_TABLES = (
    ("seen", "hook, id, at, status, document"),
    ("memory", "mapping, kind, name, state"),
    ("note", "name, value"),
    ("attempt", "event, mapping, destination, at, received_at, number, verdict, status, took_ms, reason, answer, count"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """What came of it: letters that were carried over, messages that are lost, and where the damaged file is."""

    kept: str
    why: str
    carried: int
    lost: int

    def __str__(self) -> str:
        return f"the outbox was damaged, and a new one is used: {self.carried} letters were carried over, {self.lost} messages are lost; the damaged file is kept as {self.kept}"


def opened(path: Path, *, max_size: int, damage: str | None = None) -> Store:
    """Return the outbox at *path* as `Store.open` does; where it is damaged, or *damage* says so, a new one in its place.

    Raises as `Store.open`, but StoreDamaged only where no new one can be used either.
    """
    if damage is None:
        try:
            return Store.open(path, max_size=max_size)
        except StoreDamaged as exc:
            damage = cause(exc)
    rescue = _rescued(path, damage, max_size)
    logger.error(
        "the outbox was damaged: %s; a new one is used, with carried=%d letters, lost=%d messages; the damaged file is kept=%s: look at the disk, then delete it",
        rescue.why, rescue.carried, rescue.lost, rescue.kept,
    )  # fmt: skip
    return Store.open(path, max_size=max_size)


def cause(damage: StoreDamaged) -> str:
    """Return in one line what SQLite says of it."""
    return " ".join(str(damage.__cause__ or damage).split())


def told(note: str | None) -> str | None:
    """Return what an outbox's *note* says of its rescue, for as long as the damaged file is kept; else None."""
    if note is None:
        return None
    rescue = Rescue(**json.loads(note))
    return f"{rescue}: look at the disk, then delete that file" if os.path.exists(rescue.kept) else None


def _rescued(path: Path, damage: str, max_size: int) -> Rescue:
    path = Path(os.path.realpath(path))
    if shortage := room_for(ROOM * path.stat().st_size, path.parent):
        raise StoreBroken(f"the outbox {path} is damaged ({damage}), and what can be read of it is carried over: {shortage} in {path.parent}; make room, and start again")
    lock = locked(path)
    try:
        kept = _free_name(path)
        with making(path) as part:
            new = Store.open(part, max_size=max_size)
            try:
                carried, lost = _carried_over(path, new)
                rescue = Rescue(kept=str(kept), why=damage, carried=carried, lost=lost)
                new.write(Changes(notes={NOTE: json.dumps(asdict(rescue))}))
            finally:
                new.close()
                lock_of(part).unlink()
            aside(path, kept.name)
            Path(f"{kept}-shm").unlink(missing_ok=True)  # an index of the log only, made anew where it is wanted
            if (log := Path(f"{kept}-wal")).exists() and not log.stat().st_size:
                log.unlink()
            renamed(part, path)
        os.truncate(lock, 0)  # what it knows is of the old one
    finally:
        os.close(lock)
    return rescue


def _free_name(path: Path) -> Path:
    name = f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}"
    names = (name, *(f"{name}-{n}" for n in range(2, 1_000)))
    return next(path.with_name(each) for each in names if not path.with_name(each).exists())


def _carried_over(path: Path, new: Store) -> tuple[int, int]:
    """Copy what can be read into a new outbox; return how many letters that are, and how many messages are lost."""
    counts: Counts = {}
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, isolation_level=None)) as old:
        old.execute("PRAGMA writable_schema = ON")  # what is left of a file that was cut off, or of its schema, is then read all the same
        old.text_factory = lambda text: text.decode("utf-8", "surrogateescape")  # one row at a time is refused for what is no text, not all
        new.adopt("letter", COLUMNS, _letters(old))
        for table, columns in _TABLES:
            new.adopt(table, columns, _rows(old, table, columns))
        for mapping, entry, count in _rows(old, "ledger", "mapping, entry, count"):
            if entry in (IN, *Result) and isinstance(count, int):
                counts.setdefault(mapping, {})[entry] = count
    new.purge()
    waiting: dict[str, int] = {}
    for (_, _, mapping), found in new.waiting_counts().items():
        waiting[mapping] = waiting.get(mapping, 0) + found.messages
    lost = _settled(counts, waiting)
    new.save_counts(counts)
    return len(new.numbers(Selection())), lost


def _letters(old: sqlite3.Connection) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of the letters that can be read."""
    for row in _rows(old, "letter", COLUMNS):
        try:
            readable = row_of(letter_of(row))
        except UNREADABLE:
            continue  # it is counted as lost, with all that are
        yield readable


def _settled(counts: Counts, waiting: dict[str, int]) -> int:
    """Let counts add up with what waits; return how many messages are dropped for that."""
    lost = 0
    for mapping in {*counts, *waiting}:
        entries = counts.setdefault(mapping, {})
        missing = entries.get(IN, 0) - sum(entries.get(result, 0) for result in Result) - waiting.get(mapping, 0)
        if missing > 0:
            entries[Result.DROPPED] = entries.get(Result.DROPPED, 0) + missing
            lost += missing
        else:
            entries[IN] = entries.get(IN, 0) - missing
    return lost


def _rows(db: sqlite3.Connection, table: str, columns: str) -> Iterator[tuple[Any, ...]]:
    """Yield a table's rows, from its start until one can't be read, and then from its end; some may come twice."""
    last: tuple[Any, ...] | None = None
    try:
        for row in db.execute(f"SELECT {columns} FROM {table} NOT INDEXED"):  # noqa: S608 - our own names
            last = row
            yield row
    except (sqlite3.Error, UnicodeDecodeError):  # the latter is Python's, where SQLite's own sentence quotes what is no text
        with suppress(sqlite3.Error, UnicodeDecodeError):  # of a table without rowid nothing more
            for row in db.execute(f"SELECT {columns} FROM {table} NOT INDEXED ORDER BY rowid DESC"):  # noqa: S608 - as above
                if row == last:
                    return
                yield row
