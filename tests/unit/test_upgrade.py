"""An outbox of an earlier version: brought up to date whole or not at all, with a copy of it as it was."""

import hashlib
import os
import resource
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from bridge.errors import StoreBroken
from bridge.outbox import copies, schema
from bridge.outbox.connection import SCHEMA_VERSION
from bridge.outbox.copies import checked
from bridge.outbox.schema import _FIRST
from bridge.outbox.selection import Selection
from bridge.outbox.soundness import APPLICATION_ID
from bridge.outbox.store import Store

ROOT = Path(__file__).parents[2]
SIZE = 64 << 20
LETTERS = 40

# Opens the outbox, and is killed at the Nth line that runs in the modules which bring it up to date. With N = 0 it
# only counts them. Within one of SQLite's own calls it is SQLite's promise that holds.
DYING = """
import os, signal, sys
from pathlib import Path
from bridge.outbox import copies, schema
from bridge.outbox.store import Store
import sqlite_utils.db, sqlite_utils.migrations

count, last = 0, int(sys.argv[2])
traced = {module.__file__ for module in (copies, schema, sqlite_utils.migrations)}

def turn(frame, event, _arg):
    global count
    if frame.f_code.co_filename not in traced:
        return None
    if event == "line":
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)
    return turn

sys.settrace(turn)
store = Store.open(Path(sys.argv[1]), max_size=64 << 20)
sys.settrace(None)
print(count)
os._exit(0)
"""


def first_version(path: Path, *, letters: int = LETTERS) -> None:
    """Write an outbox as version 0.1.0 did: its tables by its own statements, its numbers after them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("CREATE TABLE _sqlite_migrations (id INTEGER PRIMARY KEY, migration_set TEXT, name TEXT, applied_at TEXT)")
        db.execute("CREATE UNIQUE INDEX idx__sqlite_migrations_migration_set_name ON _sqlite_migrations (migration_set, name)")
        for statement in _FIRST:
            db.execute(statement)
        db.execute("INSERT INTO _sqlite_migrations VALUES (1, 'mqtthook', 'first_tables', '2026-01-01 00:00:00+00:00')")
        envelope = '{"event": ["POST", "http://crm/x", []]}'
        row = "(?, ?, 'webhook', 'hall', 'crm', 'k', ?, 1.5, NULL, NULL, NULL, NULL, 3, 'status 500', NULL, ?, ?)"
        db.executemany(f"INSERT INTO letter VALUES {row}", [(n, f"evt_{n}", "dead" if n % 4 == 0 else "waiting", envelope, b"{}" * 500) for n in range(1, letters + 1)])
        db.execute("INSERT INTO ledger VALUES ('hall', 'in', ?)", (letters,))
        db.execute("""INSERT INTO note VALUES ('disabled crm', '{"url":"http://crm/x","reason":"status 410"}')""")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    path = tmp_path / "outbox.db"
    first_version(path)
    return path


def state(path: Path) -> tuple[int, list[str], list[tuple[str, ...]]]:
    """Return a file's version, its letters and its tables and indexes, its log folded in."""
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        letters = [id for (id,) in db.execute("SELECT id FROM letter ORDER BY seq")]
        return db.execute("PRAGMA user_version").fetchone()[0], letters, sorted(db.execute("SELECT type, name, sql FROM sqlite_master WHERE sql NOT NULL"))


def test_there_is_a_file_of_every_earlier_version() -> None:
    released = hashlib.sha256("\n".join(_FIRST).encode()).hexdigest()
    assert released == "cab17e6c290bddf928e6d6e46b8bdf17de0abdfbfa2c3e4e257da18e29331034", "what 0.1.0 wrote can't be changed any more"
    assert SCHEMA_VERSION == 2, "a newer version: build a file of the one before it here, too"


def test_it_is_brought_up_to_date_and_kept_as_it_was(old: Path) -> None:
    before = state(old)
    store = Store.open(old, max_size=SIZE)
    letters = store.select(Selection())
    assert [letter.id for letter in letters] == [f"evt_{n}" for n in range(1, LETTERS + 1)]
    assert {letter.priority for letter in letters} == {"normal"}
    assert store.note("destination crm") == '{"url":"http://crm/x","disabled":"status 410","halted":false,"open_until":null,"failures":0}'
    store.close()
    copy = old.with_name("outbox.db.v1")
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert state(old)[0] == SCHEMA_VERSION
    assert state(copy) == before
    assert sorted(file.name for file in old.parent.iterdir()) == ["outbox.db", "outbox.db.lock", "outbox.db.v1"]


def test_it_ends_with_the_tables_that_a_new_file_has(old: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.db"
    for path in (old, new):
        Store.open(path, max_size=SIZE).close()

    def shapes(path: Path) -> set[str]:
        with closing(sqlite3.connect(path)) as db:
            tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '_sqlite%'")]
            return {f"{table}: {db.execute(f'PRAGMA table_info({table})').fetchall()} {db.execute(f'PRAGMA index_list({table})').fetchall()}" for table in tables}

    assert shapes(old) == shapes(new)


def test_a_file_that_is_up_to_date_is_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    Store.open(path, max_size=SIZE).close()
    Store.open(path, max_size=SIZE).close()
    assert sorted(file.name for file in tmp_path.iterdir()) == ["outbox.db", "outbox.db.lock"]


def test_without_room_for_the_copy_it_stays_as_it_is(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(old)
    monkeypatch.setattr(schema, "room_for", lambda size, directory: copies.room_for(1 << 60, directory))
    with pytest.raises(StoreBroken, match=r"earlier version.*it needs \d+\.\d MiB, and \d+\.\d MiB are free in .*make room"):
        Store.open(old, max_size=SIZE)
    assert state(old) == before
    assert not old.with_name("outbox.db.v1").exists()


def test_a_disk_that_fills_up_meanwhile_leaves_it_as_it_was(old: Path) -> None:
    """A file that may not grow stands for a disk that has no room: the copy fails in its middle."""
    before, limit = state(old), old.stat().st_size // 2
    limited = subprocess.run(
        [sys.executable, "-c", DYING, str(old), "0"],
        capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert "bridge.errors.StoreBroken: the outbox" in limited.stderr, limited.stderr
    assert state(old) == before
    assert not list(old.parent.glob(".*.part*"))
    assert not old.with_name("outbox.db.v1").exists()


def test_a_copy_that_an_earlier_try_left_gives_way(old: Path) -> None:
    for name in ("outbox.db.v1", ".outbox.db.v1.part", ".outbox.db.v1.part-journal"):
        old.with_name(name).write_bytes(b"half")
    before = state(old)
    Store.open(old, max_size=SIZE).close()
    assert state(old.with_name("outbox.db.v1")) == before
    assert not list(old.parent.glob(".*.part*"))


def test_a_damaged_file_is_not_brought_up_to_date(old: Path) -> None:
    content = bytearray(old.read_bytes())
    content[4096 * 3 : 4096 * 6] = b"\xa5" * 4096 * 3
    old.write_bytes(content)
    with pytest.raises(StoreBroken, match=r"outbox\.db.*(damaged|malformed)"):
        Store.open(old, max_size=SIZE)
    assert not old.with_name("outbox.db.v1").exists()


def test_a_database_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "photos.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE photo (name TEXT)")
    with pytest.raises(StoreBroken, match=r"photos\.db is a database of something else"):
        Store.open(path, max_size=SIZE)
    with closing(sqlite3.connect(path)) as db:
        assert [name for (name,) in db.execute("SELECT name FROM sqlite_master")] == ["photo"]


def dying(path: Path, at: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", DYING, str(path), str(at)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60, check=False)


def points(lines: int, wanted: int = 50) -> Iterator[int]:
    """Yield *wanted* of so many lines, evenly: fewer would leave steps out, more take their time."""
    yield from sorted({1 + round(n * (lines - 1) / (wanted - 1)) for n in range(wanted)})


def test_killed_at_any_step_it_is_as_it_was_or_done(tmp_path: Path) -> None:
    """FAULTS F43: 50 of 50."""
    source = tmp_path / "source.db"
    first_version(source, letters=400)  # more pages than one step of the copy takes would be slow: two is what there are
    counted = tmp_path / "counted.db"
    shutil.copy(source, counted)
    lines = int(dying(counted, 0).stdout)
    assert lines > 100
    before, after = state(source), state(counted)
    assert (before[0], after[0]) == (1, SCHEMA_VERSION)
    ends = set()
    for at in points(lines):
        path = tmp_path / str(at) / "outbox.db"
        path.parent.mkdir()
        shutil.copy(source, path)
        assert dying(path, at).returncode == -signal.SIGKILL
        ended = state(path)
        assert ended in (before, after), f"killed at line {at} of {lines}"
        if ended == after:
            assert state(path.with_name("outbox.db.v1")) == before, "the copy was there before anything was changed"
        if path.with_name("outbox.db.v1").exists():
            assert checked(path.with_name("outbox.db.v1")).version == 1, "what bears the name is whole"
        ends.add(ended[0])
        store = Store.open(path, max_size=SIZE)
        store.close()
        assert state(path) == after, "the next start finishes it"
        assert not list(path.parent.glob(".*.part*"))
    assert ends == {1, SCHEMA_VERSION}, "some were killed before, some after it counted"
