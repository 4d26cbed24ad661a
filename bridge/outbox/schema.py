"""The outbox file's tables, as the migrations that made them.

Imported only where a file is new or old: a running daemon needs nothing of sqlite-utils.
"""

import sqlite3

from sqlite_utils import Database, Migrations

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


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file to this version's tables, one transaction for each step."""
    migrations.apply(Database(connection, execute_plugins=False))
