"""The connection to an outbox file: how SQLite is told to use it, brought to this version's tables, looked through, bounded.

WAL with synchronous=FULL: in simulated power cuts it lost nothing, where NORMAL lost rows.
"""

import os
import sqlite3
from pathlib import Path

from bridge.errors import ConfigError
from bridge.outbox.soundness import STRANGE_VERSION, examine

SCHEMA_VERSION = 2

PAGE_BYTES = 4096  # SQLite's default, and an SD card's smallest write
CACHE_KIB = 2048  # SQLite's default cache, written out: memory stays the same however many rows wait
WAL_LIMIT = 4 << 20  # the log is cut back to this after a checkpoint


def connected(path: Path, max_size: int) -> sqlite3.Connection:
    """Return the open file at *path*, of at most *max_size* bytes; raise sqlite3.Error, ConfigError where it is too new, StoreBroken."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=64)
    try:
        if not db.execute("PRAGMA page_count").fetchone()[0]:
            db.execute("PRAGMA auto_vacuum = INCREMENTAL")  # of a file that is there it would be a write
        for pragma in (
            "journal_mode = WAL",
            "synchronous = FULL",
            "busy_timeout = 5000",
            "trusted_schema = OFF",
            "cell_size_check = ON",
            "temp_store = MEMORY",
            f"cache_size = -{CACHE_KIB}",
            f"journal_size_limit = {WAL_LIMIT}",
        ):
            db.execute(f"PRAGMA {pragma}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > STRANGE_VERSION:
            raise sqlite3.DatabaseError(f"its version is {version}")
        if version > SCHEMA_VERSION:
            raise too_new(path, version)
        if version < SCHEMA_VERSION:
            from bridge.outbox.schema import migrate  # here: see the law of that module

            migrate(db, path)
        examine(db, os.stat(path).st_size)
        limit(db, max_size)
    except BaseException:
        db.close()
        raise
    return db


def too_new(path: Path, version: int) -> ConfigError:
    """Return what to raise of an outbox whose tables this program doesn't know."""
    return ConfigError([f"the outbox {path} was written by a newer mqtthook (its version is {version}, this one knows {SCHEMA_VERSION}): upgrade, or choose another file"])


def limit(db: sqlite3.Connection, max_size: int) -> None:
    """Let the file grow up to *max_size* bytes; one that is larger stays as large as it is."""
    db.execute(f"PRAGMA max_page_count = {max(max_size // PAGE_BYTES, 64)}")
