"""Soundness: whether what is in an outbox file is what was written to it, and whether a file is an outbox at all.

It only looks. What is done about it is the business of the store and of the rescue.
"""

import json
import mmap
import os
import sqlite3
from pathlib import Path
from time import monotonic

APPLICATION_ID = 0x6D716874  # "mqht", so that file(1) can tell

EXAMINED_BYTES, EXAMINED_S = 32 << 20, 2.0  # what a Pi reads through at a start without being noticed; most outboxes are a hundredth of that
STRANGE_VERSION = 1_000  # no version will be so high: it is damage
DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
MISREAD = (*DAMAGE, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_FORMAT)  # while it is opened: our statements are right, so the file is not
OURS = (b"CREATE TABLE letter", b"first_tables")  # in each outbox, on different pages of it

# What no version has written, though it may be sound as a database.
STRANGE = (
    ("letter", "lane NOT IN ('webhook', 'mqtt') OR priority NOT IN ('high', 'normal') OR state NOT IN ('waiting', 'held', 'dead') OR NOT is_json(envelope)"),
    ("memory", "NOT is_json(state)"),
    ("attempt", "verdict NOT IN ('delivered', 'retry', 'dead', 'expired')"),
    ("note", "value != '' AND NOT is_json(value)"),
    ("seen", "document IS NOT NULL AND NOT is_json(document)"),
)


def examine(db: sqlite3.Connection, size: int) -> None:
    """Raise sqlite3.DatabaseError where the file is not sound, as far as that is found soon."""
    db.create_function("is_json", 1, _is_json, deterministic=True)  # SQLite's own knows no Infinity, which ours may write
    if size > EXAMINED_BYTES:
        return  # what is met later is dealt with then
    deadline = monotonic() + EXAMINED_S
    db.set_progress_handler(lambda: monotonic() > deadline, 10_000)
    try:
        if (found := str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])) != "ok":
            raise sqlite3.DatabaseError(found)
        for table, condition in STRANGE:
            if db.execute(f"SELECT 0 FROM {table} WHERE {condition} LIMIT 1").fetchone() is not None:  # noqa: S608 - our own names
                raise sqlite3.DatabaseError(f"in its table {table} is what no mqtthook has written")
    except sqlite3.OperationalError as exc:
        if _code(exc) != sqlite3.SQLITE_INTERRUPT:
            raise
    finally:
        db.set_progress_handler(None, 0)


def is_damage(exc: Exception) -> bool:
    """Return True where SQLite says that what it read can't be right, False for all else that goes wrong."""
    return _code(exc) in DAMAGE


def is_misread(exc: Exception, path: Path) -> bool:
    """Return True where an outbox could not be opened because of what is in it; False where it is no outbox, or the disk's fault."""
    # A file of which SQLite only knows that a later version of itself may have written it is opened for reading.
    is_strange = _code(exc) in MISREAD or (_code(exc) == sqlite3.SQLITE_READONLY and os.access(path, os.W_OK))
    return is_strange and _is_ours(path)


def _is_ours(path: Path) -> bool:
    """Return True if an outbox is recognised in a file; only asked where SQLite has it open no more."""
    with path.open("rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return False
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return content[68:72] == APPLICATION_ID.to_bytes(4, "big") or any(content.find(mark) >= 0 for mark in OURS)  # sqlite.org/fileformat2, 1.3


def _code(exc: Exception) -> int:
    """Return SQLite's primary code for an error; Python's own, that a text is no UTF-8, counts as damage."""
    return int(getattr(exc, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT)) & 0xFF


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
