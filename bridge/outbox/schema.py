"""The outbox file's tables, as the migrations that made them.

Imported only where a file is new or old: a running daemon needs nothing of sqlite-utils. A file is brought up to date in
one transaction: whenever that ends, it is either as it was or done. A copy of it as it was stays beside it.
"""

import logging
import sqlite3
from pathlib import Path

from sqlite_utils import Database, Migrations

from bridge.errors import StoreBroken
from bridge.outbox.connection import SCHEMA_VERSION
from bridge.outbox.copies import copy_of, making, renamed, room_for, size_text
from bridge.outbox.soundness import APPLICATION_ID

logger = logging.getLogger(__name__)

ROOM = 2  # times its size: its copy, and at most as much again in the log of the transaction

migrations = Migrations("mqtthook")


@migrations()
def first_tables(db: Database) -> None:
    """Make the letters, the ids that hooks remember, the ledger, and the notes of the bridge itself."""
    for statement in _FIRST:
        db.execute(statement)


@migrations()
def gates_and_priorities(db: Database) -> None:
    """Let letters be held, go first, and carry several messages; remember what gates know of each key."""
    for statement in _SECOND:
        db.execute(statement)


_FIRST = (
    """CREATE TABLE letter (
        seq INTEGER PRIMARY KEY,            -- order of receipt
        id TEXT NOT NULL,                   -- webhook-id
        lane TEXT NOT NULL,
        mapping TEXT NOT NULL,
        destination TEXT NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,                -- waiting or dead; what is done has no row
        created_at REAL NOT NULL,
        due_at REAL,                        -- null: as soon as its turn comes
        expires_at REAL,
        begun_at REAL,                      -- a command that may have been published
        dead_at REAL,
        attempts INTEGER NOT NULL,
        reason TEXT,
        origin TEXT,                        -- recognises the broker's re-delivery
        envelope TEXT NOT NULL,             -- all of the content but its body, JSON
        body BLOB NOT NULL
    ) STRICT""",
    # What waits, per courier in order of receipt, and per key within it.
    "CREATE INDEX letter_waiting ON letter (lane, destination, seq) WHERE state = 'waiting'",
    "CREATE INDEX letter_key ON letter (lane, destination, key, seq) WHERE state = 'waiting'",
    "CREATE INDEX letter_expiry ON letter (expires_at) WHERE state = 'waiting' AND expires_at IS NOT NULL",
    "CREATE INDEX letter_dead ON letter (seq) WHERE state = 'dead'",
    "CREATE INDEX letter_id ON letter (id)",
    """CREATE TABLE seen (
        hook TEXT NOT NULL,
        id TEXT NOT NULL,
        at REAL NOT NULL,
        status INTEGER,                     -- null: not answered yet
        document TEXT,
        PRIMARY KEY (hook, id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX seen_at ON seen (at)",
    """CREATE TABLE ledger (
        mapping TEXT NOT NULL,
        entry TEXT NOT NULL,                -- in, or an outcome
        count INTEGER NOT NULL,
        PRIMARY KEY (mapping, entry)
    ) STRICT, WITHOUT ROWID""",
    "CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
)

_SECOND = (
    "ALTER TABLE letter ADD COLUMN priority TEXT NOT NULL DEFAULT 'normal'",
    "ALTER TABLE letter ADD COLUMN count INTEGER NOT NULL DEFAULT 1",  # the messages it carries: those of a batch
    # As before, but each priority by itself; the second begins as a lookup of all of one key does.
    "DROP INDEX letter_waiting",
    "DROP INDEX letter_key",
    "CREATE INDEX letter_waiting ON letter (lane, destination, priority, seq) WHERE state = 'waiting'",
    "CREATE INDEX letter_key ON letter (lane, destination, key, seq) WHERE state = 'waiting'",
    # All that is asked at the start: without it a million rows would be sorted in memory.
    "CREATE INDEX letter_tally ON letter (lane, destination, mapping, count) WHERE state = 'waiting'",
    "CREATE INDEX letter_held ON letter (seq) WHERE state = 'held'",
    # What held a destination back had a note of its own.
    """INSERT INTO note SELECT 'destination ' || substr(name, 10), json_object('url', value ->> 'url', 'disabled', value ->> 'reason',
        'halted', json('false'), 'open_until', NULL, 'failures', 0) FROM note WHERE name LIKE 'disabled %' AND value != ''""",
    "DELETE FROM note WHERE name LIKE 'disabled %'",
    """CREATE TABLE memory (
        mapping TEXT NOT NULL,
        kind TEXT NOT NULL,                 -- key or topic
        name TEXT NOT NULL,
        state TEXT NOT NULL,                -- what is remembered of it, JSON
        PRIMARY KEY (mapping, kind, name)
    ) STRICT""",                            # with its rowid: what was learnt last comes last
    """CREATE TABLE attempt (
        event TEXT NOT NULL,                -- webhook-id; empty where attempts were only counted
        mapping TEXT NOT NULL,
        destination TEXT NOT NULL,
        at REAL NOT NULL,
        received_at REAL NOT NULL,
        number INTEGER NOT NULL,
        verdict TEXT NOT NULL,
        status INTEGER,
        took_ms REAL NOT NULL,
        reason TEXT NOT NULL,
        answer TEXT NOT NULL,               -- its beginning
        count INTEGER NOT NULL
    ) STRICT""",
    "CREATE INDEX attempt_event ON attempt (event)",
    "CREATE INDEX attempt_at ON attempt (at)",
)


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Bring the open file at *path* to this version's tables; raise StoreBroken where there is no room for it, and sqlite3.Error."""
    version = _one(connection, "PRAGMA user_version")
    if not version and _one(connection, "SELECT count(*) FROM sqlite_master") and not Database(connection, execute_plugins=False)["_sqlite_migrations"].exists():
        raise StoreBroken(f"{path} is a database of something else, and stays as it is: name another file in `store.path`")
    copy = _keep(connection, path, version) if version else None  # one that was never finished holds nothing
    connection.execute("BEGIN IMMEDIATE")
    try:
        migrations.apply(Database(connection, execute_plugins=False))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    if copy is not None:
        logger.info("outbox brought up to date from=%d to=%d; as it was: %s, delete that once this version has run well", version, SCHEMA_VERSION, copy)


def _keep(connection: sqlite3.Connection, path: Path, version: int) -> Path:
    """Keep a copy of the file as it is, and return it; one of an earlier try gives way."""
    size = _one(connection, "PRAGMA page_count") * _one(connection, "PRAGMA page_size")
    if shortage := room_for(ROOM * size, path.parent):
        what = f"the outbox {path} ({size_text(size)}) is of an earlier version, and is copied before it is brought up to date"
        raise StoreBroken(f"{what}: {shortage} in {path.parent}; make room, and start again")
    copy = Path(f"{path}.v{version}")
    try:
        with making(copy) as part:
            copy_of(connection, part)
            renamed(part, copy)
    except StoreBroken as exc:
        raise StoreBroken(f"{path}: {exc}") from exc
    return copy


def _one(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
