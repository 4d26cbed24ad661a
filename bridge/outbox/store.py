"""The outbox file: SQLite, one writer, explicit transactions, durable at every commit.

Used from one thread at a time. Nothing here opens the file but SQLite: closing another handle would drop its locks.
"""

import json
import logging
import os
import sqlite3
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

from bridge.errors import StoreBroken, StoreDamaged, StoreFull
from bridge.model import Answer, Event, Lane, Letter, Priority, State
from bridge.outbox.connection import PAGE_BYTES, WAL_LIMIT, connected, limit
from bridge.outbox.history import Attempt, attempt_of
from bridge.outbox.ledger import Counts
from bridge.outbox.lock import closed, locked, opened, tell_losses
from bridge.outbox.rows import COLUMNS, UNREADABLE, letter_of, row_of, storable
from bridge.outbox.selection import Past, Selection
from bridge.outbox.soundness import STRANGE, is_damage, is_misread
from bridge.rules.bodies import unbatched

logger = logging.getLogger(__name__)

COMMIT_BYTES = 128 << 10  # what a commit writes beside its letters: the pages of seven indexes, those of tables, and of what is free
SPARE_BYTES = 256 << 10  # of the disk that new letters leave: enough to delete some of them, and to fold the log into the file

FULL = "the outbox is full: `store.max_size` is reached, or its disk has no space left"

_PUT = f"""INSERT INTO letter ({COLUMNS}) VALUES ({", ".join("?" * 19)})
    ON CONFLICT (seq) DO UPDATE SET state = excluded.state, due_at = excluded.due_at, begun_at = excluded.begun_at,
    dead_at = excluded.dead_at, attempts = excluded.attempts, reason = excluded.reason"""

_BURY = """UPDATE letter SET state = 'dead', dead_at = ?, due_at = NULL, begun_at = NULL, priority = 'normal', count = 1, reason = ?, body = CAST(envelope AS BLOB),
    envelope = json_object('message', json_array('', 0, json('false'), json_object(), ?)) WHERE seq = ?"""

_ATTEMPT = "event, mapping, destination, at, received_at, number, verdict, status, took_ms, reason, answer, count"

_REVIVE = """UPDATE letter SET state = 'waiting', created_at = ?, attempts = 0, due_at = NULL, begun_at = NULL, dead_at = NULL,
    expires_at = CASE lane WHEN 'mqtt' THEN expires_at END WHERE seq = ?"""


class Sum(NamedTuple):
    """How many letters, and how many messages those carry."""

    letters: int = 0
    messages: int = 0

    def plus(self, letters: int, messages: int) -> "Sum":
        """Return it with more."""
        return Sum(self.letters + letters, self.messages + messages)


Tally = dict[tuple[Lane, str, str], Sum]  # by lane, destination and mapping
Place = tuple[str, str, str]  # of what a gate remembers: mapping, kind and name


@dataclass(slots=True)
class Changes:
    """What one commit writes."""

    letters: dict[int, Letter] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)
    seen: dict[tuple[str, str], float] = field(default_factory=dict)
    answers: dict[tuple[str, str], Answer] = field(default_factory=dict)
    counts: Counts = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    memories: dict[Place, str | None] = field(default_factory=dict)  # None: it is forgotten
    attempts: list[Attempt] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any((self.letters, self.gone, self.seen, self.answers, self.counts, self.notes, self.memories, self.attempts))


class Store:
    """An open outbox file."""

    def __init__(self, connection: sqlite3.Connection, lock: int, path: Path) -> None:
        self._db = connection
        self._lock = lock
        self._path = path
        self.unreadable: dict[int, str] = {}  # numbers of letters that were met and could not be read, and why; until they are buried

    @classmethod
    def open(cls, path: Path, *, max_size: int) -> Self:
        """Return the outbox at *path*, made or migrated if need be, at most *max_size* bytes.

        Raises AlreadyRunning where another process has it open, StoreDamaged where it is an outbox and can't be read,
        StoreBroken where it can't be used.
        """
        lock = locked(path)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)  # before SQLite: so that nobody else may read it
            os.close(descriptor)
            tell_losses(path, lock)
            store = cls(connected(path, max_size), lock, path)
            opened(lock)
            return store
        except (OSError, sqlite3.Error, UnicodeDecodeError) as exc:
            os.close(lock)
            if not isinstance(exc, OSError) and is_misread(exc, path):
                raise StoreDamaged(f"the outbox {path} is damaged: {exc}; the daemon puts it aside when it starts") from exc
            raise StoreBroken(f"the outbox {path} can't be used: {exc}") from exc
        except BaseException:
            os.close(lock)
            raise

    def close(self) -> None:
        """Close the file, its log folded in."""
        with suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            closed(self._lock)  # before the log goes: only where there should be one is it missed
        self._db.close()
        os.close(self._lock)

    def limit(self, max_size: int) -> None:
        """Let the file grow up to *max_size* bytes; one that is larger stays as large as it is."""
        limit(self._db, max_size)

    def write(self, changes: Changes, growth: int = 0) -> None:
        """Commit *changes*, all or nothing; raise StoreFull (nothing written) or StoreBroken.

        *growth* are the bytes of new letters, which are refused where they would leave no room to delete them again.
        """
        if growth:
            self._require_room(growth)
        with self._transaction() as db:
            db.executemany("DELETE FROM letter WHERE seq = ?", ((seq,) for seq in changes.gone))
            db.executemany(_PUT, (row_of(letter) for letter in changes.letters.values()))
            db.executemany("INSERT OR IGNORE INTO seen (hook, id, at) VALUES (?, ?, ?)", ((*name, at) for name, at in changes.seen.items()))
            db.executemany(
                "UPDATE seen SET status = ?, document = ? WHERE hook = ? AND id = ?",
                ((answer.status, json.dumps(answer.document), *name) for name, answer in changes.answers.items()),
            )
            db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", changes.notes.items())
            db.executemany("DELETE FROM memory WHERE mapping = ? AND kind = ? AND name = ?", [place for place, text in changes.memories.items() if text is None])
            db.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?, ?, ?)", [(*place, text) for place, text in changes.memories.items() if text is not None])
            db.executemany(f"INSERT INTO attempt ({_ATTEMPT}) VALUES (:{_ATTEMPT.replace(', ', ', :')})", (attempt.document() for attempt in changes.attempts))
            _save_counts(db, changes.counts)

    def relieve(self, changes: Changes) -> None:
        """Commit *changes* that bring no new letters, in as many steps as the disk needs; raise StoreFull where there is room for none.

        What is deleted is deleted first. After StoreFull some of it may be done: to commit all of it again does no harm.
        """
        left: list[tuple[int, Letter | None]] = [*((seq, None) for seq in sorted(changes.gone)), *changes.letters.items()]
        step = max(len(left), 1)
        while True:
            gone, letters = {seq for seq, letter in left[:step] if letter is None}, {seq: letter for seq, letter in left[:step] if letter is not None}
            try:
                self.write(Changes(gone=gone, letters=letters) if left[step:] else replace(changes, gone=gone, letters=letters))
            except StoreFull:
                self._fold_in()
                if step == 1:
                    raise
                step //= 2
                continue
            if self._free_bytes() < WAL_LIMIT:
                self._fold_in()
            left = left[step:]
            if not left:
                return

    def _require_room(self, growth: int) -> None:
        """Raise StoreFull where letters of so many bytes don't fit, or would leave too little of the disk.

        What is written goes into the log, and later into the file as well, as far as that has no free pages; only then is the
        log's space used again. So much of it stays the log's that letters can be deleted though somebody else fills the disk.
        """
        free = int(self._one("PRAGMA freelist_count")) * PAGE_BYTES
        left = (int(self._one("PRAGMA max_page_count")) - int(self._one("PRAGMA page_count"))) * PAGE_BYTES + free
        if growth > left:
            raise StoreFull(FULL)
        written = growth + COMMIT_BYTES
        if self._free_bytes() >= SPARE_BYTES + written + max(written + self._log_bytes() - free, 0):
            return
        grown = max(written - free, 0)
        if not self._fold_in() or self._free_bytes() + self._log_bytes() < SPARE_BYTES + written + grown or self._free_bytes() < grown:
            raise StoreFull(FULL)

    def _free_bytes(self) -> int:
        found = os.statvfs(self._path.parent)
        return found.f_bavail * found.f_frsize if found.f_blocks else sys.maxsize  # some disks don't tell

    def _log_bytes(self) -> int:
        try:
            return os.stat(f"{self._path}-wal").st_size
        except FileNotFoundError:
            return 0

    def _fold_in(self) -> bool:
        """Fold the log into the file, and have it cut back soon; return False where that can't be now, as the disk has no room for it."""
        try:
            self._db.execute(f"PRAGMA journal_size_limit = {SPARE_BYTES}")  # it is cut back at the next commit
            _, pages, folded = self._db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        except sqlite3.Error as exc:
            if exc.sqlite_errorname != "SQLITE_FULL":
                raise _broken(exc) from exc
            return False
        return bool(pages == folded)

    def history(self, wanted: Past) -> list[Attempt]:
        """Return the attempts that a person means, the newest of them in the order in which they were made."""
        where, values = wanted.where()
        rows = self._db.execute(f"SELECT {_ATTEMPT} FROM attempt WHERE {where} ORDER BY at DESC, rowid DESC LIMIT ?", (*values, wanted.limit)).fetchall()
        return [attempt_of(dict(zip(_ATTEMPT.split(", "), row, strict=True))) for row in reversed(rows)]

    def forget_history(self, before: float, most: int) -> None:
        """Delete the attempts that were made before an instant, and the oldest of more than *most*."""
        with self._transaction() as db:
            db.execute("DELETE FROM attempt WHERE at < ?", (before,))
            db.execute("DELETE FROM attempt WHERE rowid <= (SELECT max(rowid) FROM attempt) - ?", (most,))

    def expired(self, now: float, limit: int = 1_000) -> list[Letter]:
        """Return what waits and has expired."""
        return self._letters("state = 'waiting' AND expires_at <= ? LIMIT ?", now, limit)

    def last_seq(self) -> int:
        """Return the highest number that a letter here has, 0 if there is none."""
        return int(self._one("SELECT coalesce(max(seq), 0) FROM letter"))

    def latest_instant(self) -> float:
        """Return the latest instant at which something came or was tried that is still here, 0 if there is none."""
        letter = "SELECT max(created_at) FROM (SELECT created_at FROM letter ORDER BY seq DESC LIMIT 1)"
        attempt = "SELECT max(at) FROM (SELECT at FROM attempt ORDER BY rowid DESC LIMIT 1)"
        return max(float(self._one(query) or 0.0) for query in (letter, attempt, "SELECT max(at) FROM seen"))

    def waiting(self, lane: Lane, destination: str, priority: Priority, after: int, limit: int, most_bytes: int) -> tuple[list[Letter], bool]:
        """Return what waits for a destination with one priority past number *after*, in order, and True if that is all of it.

        It ends with letter number *limit*, or with the one that brings their bodies to *most_bytes*.
        """
        where = "lane = ? AND destination = ? AND priority = ? AND state = 'waiting' AND seq > ? ORDER BY seq LIMIT ?"
        return self._some(limit, most_bytes, where, lane, destination, priority, after, limit)

    def waiting_of_key(self, lane: Lane, destination: str, priority: Priority, key: str, after: int, limit: int, most_bytes: int) -> tuple[list[Letter], bool]:
        """Return what waits for a destination under one key with one priority past number *after*, as `waiting` does."""
        where = "lane = ? AND destination = ? AND key = ? AND priority = ? AND state = 'waiting' AND seq > ? ORDER BY seq LIMIT ?"
        return self._some(limit, most_bytes, where, lane, destination, key, priority, after, limit)

    def held(self) -> list[Letter]:
        """Return what gates held when the last run ended, in order of receipt."""
        return self._letters("state = 'held' ORDER BY seq")

    def newest_waiting(self, mappings: Collection[str]) -> list[tuple[str, str, str, int]]:
        """Return mapping, destination, key and number of the newest waiting letter of each key of *mappings*."""
        rows: list[tuple[str, str, str, int]] = []
        for mapping in mappings:
            rows += self._db.execute("SELECT mapping, destination, key, max(seq) FROM letter WHERE state = 'waiting' AND mapping = ? GROUP BY destination, key", (mapping,))
        return rows

    def waiting_counts(self) -> Tally:
        """Return how much waits or is held, by lane, destination and mapping."""
        found: Tally = {}
        # One by one, each by its own index: together they would be looked for among the dead as well.
        for index, state in (("letter_tally", State.WAITING), ("letter_held", State.HELD)):
            query = f"SELECT lane, destination, mapping, count(*), sum(count) FROM letter INDEXED BY {index} WHERE state = '{state}' GROUP BY lane, destination, mapping"
            for lane, destination, mapping, letters, messages in self._db.execute(query):
                place = (Lane(lane), destination, mapping)
                found[place] = found.get(place, Sum()).plus(letters, messages)
        return found

    def memories(self) -> dict[Place, str]:
        """Return what gates remembered when it was last written, what was learnt last at the end."""
        return {(mapping, kind, name): text for mapping, kind, name, text in self._db.execute("SELECT mapping, kind, name, state FROM memory ORDER BY rowid")}

    def dead_counts(self) -> dict[str, int]:
        """Return how many dead letters each mapping has."""
        return dict(self._db.execute("SELECT mapping, count(*) FROM letter WHERE state = 'dead' GROUP BY mapping"))

    def oldest_waiting(self) -> dict[tuple[Lane, str], float]:
        """Return when the oldest waiting letter of each lane and destination came."""
        rows = self._db.execute("SELECT lane, destination, min(seq) FROM letter WHERE state = 'waiting' GROUP BY lane, destination").fetchall()
        return {(Lane(lane), destination): float(self._one("SELECT created_at FROM letter WHERE seq = ?", seq)) for lane, destination, seq in rows}

    def origins(self, limit: int) -> list[str]:
        """Return what recognises the last *limit* messages that made letters which are still here."""
        rows = self._db.execute("SELECT origin FROM letter WHERE seq > (SELECT max(seq) FROM letter) - ? AND origin IS NOT NULL", (limit,))
        return [mark for (origins,) in rows for mark in origins.split(" ")]  # a batch has as many as events

    def begun(self) -> list[Letter]:
        """Return the commands that were being published when the last run ended."""
        return self._letters("lane = ? AND destination = 'mqtt' AND state = 'waiting' AND begun_at IS NOT NULL", Lane.MQTT)

    def answered(self, hook: str, id: str) -> Answer | None:
        """Return what a hook answered when it met this id first, or None if it never has."""
        row = self._db.execute("SELECT status, document FROM seen WHERE hook = ? AND id = ?", (hook, id)).fetchone()
        return None if row is None else Answer(status=row[0], document=json.loads(row[1]))

    def first_answers(self, names: Sequence[tuple[str, str]]) -> list[Answer | None]:
        """Return what `answered` says of each hook and id, in their order."""
        return [self.answered(*name) for name in names]

    def forget_seen(self, before: float, most: int) -> int:
        """Delete the ids that were met before an instant, and the oldest of more than *most*; return how many."""
        with self._transaction() as db:
            gone = db.execute("DELETE FROM seen WHERE at < ?", (before,)).rowcount
            excess = int(self._one("SELECT count(*) FROM seen")) - most
            if excess > 0:
                gone += db.execute("DELETE FROM seen WHERE (hook, id) IN (SELECT hook, id FROM seen ORDER BY at LIMIT ?)", (excess,)).rowcount
        return gone

    def select(self, wanted: Selection) -> list[Letter]:
        """Return the letters that a person means, oldest first."""
        where, values = wanted.where()
        return self._letters(f"{where} ORDER BY seq LIMIT ?", *values, -1 if wanted.limit is None else wanted.limit)

    def numbers(self, wanted: Selection) -> list[int]:
        """Return the numbers of the letters that a person means."""
        where, values = wanted.where()
        rows = self._db.execute(f"SELECT seq FROM letter WHERE {where} ORDER BY seq LIMIT ?", (*values, -1 if wanted.limit is None else wanted.limit))
        return [seq for (seq,) in rows]

    def parts(self, wanted: Selection, size: int) -> list[tuple[int, int]]:
        """Return how the letters that a person means fall into parts of *size*: of each its last number, and how many they are."""
        where, values = wanted.where()
        found: list[tuple[int, int]] = []
        for (seq,) in self._db.execute(f"SELECT seq FROM letter WHERE {where} ORDER BY seq", values):
            if found and found[-1][1] < size:
                found[-1] = (seq, found[-1][1] + 1)
            else:
                found.append((seq, 1))
        return found

    def revive(self, numbers: list[int], now: float) -> Tally:
        """Let dead letters wait again as if they came now; return how many of each place and mapping.

        An event may be late, so it doesn't expire any more. A command may not: its end stays.
        """
        return self._change(numbers, State.DEAD, _REVIVE, now)

    def hasten(self, numbers: list[int]) -> Tally:
        """Let waiting letters be due now; return how many of each place and mapping."""
        return self._change(numbers, State.WAITING, "UPDATE letter SET due_at = NULL, attempts = 0 WHERE seq = ?")

    def drop(self, numbers: list[int], state: State) -> Tally:
        """Delete letters that are in *state*; return how many of each place and mapping."""
        return self._change(numbers, state, "DELETE FROM letter WHERE seq = ?")

    def split(self, numbers: Collection[int], last_seq: int, now: float) -> tuple[int, Tally]:
        """Let each event of these batches be a letter of its own that waits, with the batch's id and a number after it.

        They are numbered from *last_seq* on. Return how many came of it, and which of them were dead.
        """
        made, revived = 0, dict[tuple[Lane, str, str], Sum]()
        with self._transaction() as db:
            for letter in (letter for seq in sorted(numbers) for letter in self._letters("seq = ?", seq)):
                if not isinstance(letter.content, Event) or letter.count == 1:
                    continue
                db.execute("DELETE FROM letter WHERE seq = ?", (letter.seq,))
                for n, event in enumerate(unbatched(letter.content), 1):
                    last_seq += 1
                    part = replace(letter, seq=last_seq, id=f"{letter.id}-{n}", content=event, state=State.WAITING, attempts=0, due_at=None, dead_at=None, created_at=now)
                    if letter.state is State.DEAD:
                        part = replace(part, expires_at=None)  # as any dead event that is tried again
                    db.execute(_PUT, row_of(part))
                made += letter.count
                if letter.state is State.DEAD:
                    place = (letter.lane, letter.destination, letter.mapping)
                    revived[place] = revived.get(place, Sum()).plus(1, letter.count)
        return made, revived

    def move(self, numbers: Collection[int], to: str, readdress: Callable[[Letter, Event], Event]) -> Tally:
        """Let waiting and dead events go to the destination *to* instead; return how many of those that wait came from where."""
        moved: Tally = {}
        with self._transaction() as db:
            for letter in (letter for seq in sorted(numbers) for letter in self._letters("seq = ? AND lane = 'webhook' AND state != 'held'", seq)):
                content = readdress(letter, letter.content) if isinstance(letter.content, Event) else letter.content
                db.execute("DELETE FROM letter WHERE seq = ?", (letter.seq,))
                db.execute(_PUT, row_of(replace(letter, destination=to, content=content, attempts=0, due_at=None)))
                place = (letter.lane, letter.destination, letter.mapping)
                weight = letter.count if letter.state is State.WAITING else 0
                moved[place] = moved.get(place, Sum()).plus(1, weight)
        return moved

    def counts(self) -> Counts:
        """Return the ledger as it was last written."""
        counts: Counts = {}
        for mapping, entry, count in self._db.execute("SELECT mapping, entry, count FROM ledger"):
            counts.setdefault(mapping, {})[entry] = count
        return counts

    def save_counts(self, counts: Counts) -> None:
        """Write the ledger."""
        with self._transaction() as db:
            _save_counts(db, counts)

    def purge(self) -> None:
        """Delete what no version has written."""
        with self._transaction() as db:
            for table, condition in STRANGE:
                db.execute(f"DELETE FROM {table} WHERE {condition}")

    def adopt(self, table: str, columns: str, rows: Iterable[Sequence[Any]]) -> None:
        """Take rows of another outbox's table over, but for those that are here already, or fit no table."""
        with self._transaction() as db:
            for row in rows:
                with suppress(sqlite3.IntegrityError, UnicodeEncodeError):
                    db.execute(f"INSERT OR IGNORE INTO {table} ({columns}) VALUES ({', '.join('?' * len(row))})", row)

    def note(self, name: str) -> str | None:
        """Return what was noted under a name, or None."""
        row = self._db.execute("SELECT value FROM note WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def pages(self) -> tuple[int, int]:
        """Return the bytes in use, and the most that the file may have."""
        used = int(self._one("PRAGMA page_count")) - int(self._one("PRAGMA freelist_count"))
        return used * PAGE_BYTES, int(self._one("PRAGMA max_page_count")) * PAGE_BYTES

    def _change(self, numbers: list[int], state: State, statement: str, *values: Any) -> Tally:
        changed: Tally = {}
        with self._transaction() as db:
            for seq in numbers:
                row = db.execute("SELECT lane, destination, mapping, count FROM letter WHERE seq = ? AND state = ?", (seq, state)).fetchone()
                if row is not None:
                    db.execute(statement, (*values, seq))
                    place = (Lane(row[0]), row[1], row[2])
                    changed[place] = changed.get(place, Sum()).plus(1, row[3])
        return changed

    def _letters(self, where: str, *values: Any) -> list[Letter]:
        letters = (self._read(row) for row in self._db.execute(f"SELECT {COLUMNS} FROM letter WHERE {where}", values))
        return [letter for letter in letters if letter is not None]

    def _read(self, row: tuple[Any, ...]) -> Letter | None:
        """Return the letter of a row, None where it can't be read: the others go on."""
        try:
            return letter_of(row)
        except UNREADABLE as exc:
            self.unreadable[row[0]] = f"{type(exc).__name__}: {exc}"
            return None

    def bury_unreadable(self, now: float) -> Tally:
        """Let letters that were met and could not be read be dead ones, which can; return how many of those that waited came of each place and mapping."""
        buried: Tally = {}
        with self._transaction() as db:
            for seq, why in self.unreadable.items():
                row = db.execute("SELECT lane, destination, mapping, count FROM letter WHERE seq = ? AND state IN ('waiting', 'held')", (seq,)).fetchone()
                db.execute(_BURY, (now, storable(f"it can't be read: {why}"), now, seq))
                if row is not None:
                    place = (Lane(row[0]), row[1], row[2])
                    buried[place] = buried.get(place, Sum()).plus(1, row[3])
        self.unreadable = {}
        return buried

    def _some(self, limit: int, most_bytes: int, where: str, *values: Any) -> tuple[list[Letter], bool]:
        found: list[Letter] = []
        with closing(self._db.execute(f"SELECT {COLUMNS} FROM letter WHERE {where}", values)) as rows:
            for row in rows:
                if (letter := self._read(row)) is None:
                    continue
                found.append(letter)
                most_bytes -= letter.size
                if most_bytes <= 0:
                    return found, False
        return found, len(found) < limit

    def _one(self, query: str, *values: Any) -> Any:
        return self._db.execute(query, values).fetchone()[0]

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            # IMMEDIATE: a read lock that has to be upgraded could fail at once.
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as exc:
            self._roll_back()
            if exc.sqlite_errorname == "SQLITE_FULL":
                raise StoreFull(FULL) from exc
            raise _broken(exc) from exc
        except BaseException:
            self._roll_back()  # text that can't be stored, say: the next one must find nothing open
            raise

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            with suppress(sqlite3.Error):
                self._db.execute("ROLLBACK")


@contextmanager
def reading() -> Iterator[None]:
    """Raise what goes wrong with the file within as StoreDamaged or StoreBroken."""
    try:
        yield
    except sqlite3.Error as exc:
        raise _broken(exc) from exc


def _broken(exc: sqlite3.Error) -> StoreBroken:
    if is_damage(exc):
        return StoreDamaged(f"the outbox is damaged: {exc}")
    # After a failed fsync a retry may succeed without the data: only a new start can tell what is there.
    return StoreBroken(f"the outbox can't be written: {exc} ({getattr(exc, 'sqlite_errorname', 'no code')})")


def _save_counts(db: sqlite3.Connection, counts: Mapping[str, Mapping[str, int]]) -> None:
    rows = ((mapping, entry, count) for mapping, entries in counts.items() for entry, count in entries.items())
    db.executemany("INSERT OR REPLACE INTO ledger VALUES (?, ?, ?)", rows)
