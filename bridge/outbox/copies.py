"""Copies of an outbox file: each of one moment, checked, and on disk before it bears its name.

SQLite itself makes them, page by page within one read transaction: a daemon goes on writing meanwhile, and nothing of
what it commits after the first page gets into the copy. A copy is one file, without a log beside it.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from bridge.errors import StoreBroken
from bridge.outbox.connection import SCHEMA_VERSION, too_new
from bridge.outbox.soundness import APPLICATION_ID

PAGES_AT_ONCE = 1_024  # 4 MiB: a progress bar moves several times a second on an SD card
PATIENCE_S = 30.0  # with a daemon that has the file to itself for a moment, as at its start

Progress = Callable[[int], None]  # is given the bytes that came since the last call


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """What an outbox file holds: the version of its tables, and how many letters."""

    version: int
    waiting: int
    dead: int


def copied(source: Path, to: Path, *, progress: Progress = lambda _: None) -> Holding:
    """Copy the outbox *source* to the new file *to*, and return what the copy holds.

    Raises StoreBroken where *source* can't be read or is damaged, ConfigError where it is a newer mqtthook's, OSError where *to* can't be written; *to* is then gone.
    """
    try:
        with closing(_reading(source)) as db:
            _expect_known(db, source, to)
            return copy_of(db, to, progress=progress)
    except sqlite3.Error as exc:
        raise StoreBroken(f"the outbox {source} can't be read: {exc}") from exc


def copy_of(db: sqlite3.Connection, to: Path, *, progress: Progress = lambda _: None) -> Holding:
    """Copy an open outbox to the new file *to*, and return what the copy holds; raises as `copied`, and sqlite3.Error."""
    os.close(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))  # before SQLite: so that nobody else may read it
    try:
        _copy(db, to, progress)
        holding = checked(to)
        sync(to)
    except BaseException:
        to.unlink()
        raise
    return holding


def _expect_known(db: sqlite3.Connection, source: Path, to: Path) -> None:
    try:
        version = _one(db, "PRAGMA user_version")
    except sqlite3.OperationalError as exc:
        raise _of_the_disk(exc, to) from exc  # a full disk fails here already: what is read needs a file beside it
    if version > SCHEMA_VERSION:
        raise too_new(source, version)


def _copy(db: sqlite3.Connection, to: Path, progress: Progress) -> None:
    page_bytes = int(db.execute("PRAGMA page_size").fetchone()[0])
    left: int | None = None

    def turned(_status: int, remaining: int, total: int) -> None:
        nonlocal left
        progress(((total if left is None else left) - remaining) * page_bytes)
        left = remaining

    with closing(sqlite3.connect(to, isolation_level=None)) as target:
        db.execute("BEGIN")
        try:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it reads this moment, whatever is written
            db.backup(target, pages=PAGES_AT_ONCE, progress=turned)
        except sqlite3.OperationalError as exc:
            raise _of_the_disk(exc, to) from exc
        finally:
            db.execute("ROLLBACK")
        target.execute("PRAGMA journal_mode = DELETE")  # so that nothing lies beside it


def _of_the_disk(exc: sqlite3.OperationalError, to: Path) -> Exception:
    """Return what to raise for what SQLite said while it wrote *to*."""
    if exc.sqlite_errorname == "SQLITE_FULL":
        return OSError(28, "No space left on device", str(to))  # errno.ENOSPC, as who wrote without SQLite would be told
    return OSError(5, f"Input/output error ({exc})", str(to)) if exc.sqlite_errorname.startswith("SQLITE_IOERR") else exc


def checked(path: Path) -> Holding:
    """Return what the outbox file at *path* holds, which nobody has open; raise StoreBroken where it is damaged, or is none of ours."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as db:
            db.execute("PRAGMA trusted_schema = OFF")
            db.execute("PRAGMA cell_size_check = ON")
            return _holding(db)
    except sqlite3.Error as exc:
        raise StoreBroken(f"the outbox is damaged: {exc}") from exc


def _holding(db: sqlite3.Connection) -> Holding:
    if _one(db, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreBroken("this is no outbox of mqtthook, though it is a database")
    if (version := _one(db, "PRAGMA user_version")) > SCHEMA_VERSION:
        raise StoreBroken(f"the outbox was written by a newer mqtthook (its version is {version}, this one knows {SCHEMA_VERSION}): upgrade first")
    if strange := db.execute("SELECT type, name FROM sqlite_master WHERE type IN ('trigger', 'view')").fetchone():
        raise StoreBroken(f"the outbox holds a {strange[0]} ({strange[1]}), which no mqtthook has made")
    if (found := db.execute("PRAGMA integrity_check(1)").fetchone()[0]) != "ok":
        raise StoreBroken(f"the outbox is damaged: {found}")
    return _counted(db, version)


def glanced(path: Path) -> Holding | None:
    """Return what an outbox holds that no daemon has open, without a thorough look; None where it can't be read."""
    try:
        with closing(_reading(path)) as db:
            return _counted(db, _one(db, "PRAGMA user_version"))
    except sqlite3.Error:
        return None


def _counted(db: sqlite3.Connection, version: int) -> Holding:
    count = "SELECT count(*) FROM letter WHERE state {} 'dead'"
    return Holding(version=version, waiting=_one(db, count.format("!=")), dead=_one(db, count.format("=")))


def _one(db: sqlite3.Connection, query: str) -> int:
    return int(db.execute(query).fetchone()[0])


def _reading(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=PATIENCE_S)


def sync(path: Path) -> None:
    """Let a file, or the names in a directory, outlive a power cut; a disk that knows no such thing has to do without."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        if path.is_dir():
            with suppress(OSError):  # FAT through some drivers, network shares
                os.fsync(descriptor)
        else:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def making(path: Path) -> Iterator[Path]:
    """Give a place beside *path* for what becomes it; whatever is left there at the end, or by an earlier try, is deleted."""
    part = path.with_name(f".{path.name}.part")
    beside = [part, *(Path(f"{part}-{kind}") for kind in ("journal", "wal", "shm"))]  # SQLite's own files
    for file in beside:
        file.unlink(missing_ok=True)
    try:
        yield part
    finally:
        for file in beside:
            with suppress(OSError):
                file.unlink(missing_ok=True)


def created(path: Path, mode: int = 0o600) -> BinaryIO:
    """Return a new file open for writing, which nobody else can read."""
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, mode), "w+b")


def aside(path: Path, name: str) -> Path:
    """Let what bears a name, and for an outbox its log, bear another beside it; return that."""
    kept = path.with_name(name)
    for kind in ("-wal", "-shm", ""):  # the log first: beside another outbox it would be taken for that one's
        with suppress(FileNotFoundError):
            Path(f"{path}{kind}").replace(f"{kept}{kind}")
    sync(path.parent)
    return kept


def given_to(path: Path, owner: os.stat_result) -> None:
    """Let a file belong to whom another belongs, where root acts: the service is somebody else."""
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def renamed(path: Path, to: Path) -> None:
    """Give a finished file its name, in the place of what had it, in a way that outlives a power cut."""
    path.replace(to)
    sync(to.parent)


def room_for(size: int, directory: Path) -> str | None:
    """Return None if *size* bytes more fit into a directory, else how many are needed and how many there are."""
    found = os.statvfs(directory)
    free = found.f_bavail * found.f_frsize
    return None if size <= free else f"it needs {size_text(size)}, and {size_text(free)} are free"


def size_text(size: int) -> str:
    """Return a size as a person reads it."""
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"
