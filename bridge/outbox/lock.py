"""The lock of an outbox: one program at a time works on it; and what was known of the outbox when it was closed last.

Nothing here opens the outbox itself: SQLite loses its locks where another handle of the same process is closed.
"""

import fcntl
import logging
import os
from contextlib import suppress
from pathlib import Path
from threading import Event as Pause
from time import monotonic

from bridge.errors import AlreadyRunning, StoreBroken

logger = logging.getLogger(__name__)

LOCK_PATIENCE_S, LOCK_TURN_S = 3.0, 0.05  # a command of the queue has the file for a moment; a daemon that starts then waits for it

OPEN, CLOSED = b"o", b"c"  # what the lock says of the outbox


def lock_of(path: Path) -> Path:
    """Return the lock of the outbox at *path*: beside the file itself, however many links lead to it."""
    return Path(f"{os.path.realpath(path)}.lock")


def locked(path: Path) -> int:
    """Return the open lock beside the outbox at *path*; it falls with the process, however that ends.

    Raises AlreadyRunning where another process has it, StoreBroken where it can't be made.
    """
    try:
        lock = _lock_file(path)
    except OSError as exc:
        raise StoreBroken(f"the outbox {path} can't be used: {exc.strerror}; is its directory there, and writable for this user?") from exc
    deadline = monotonic() + LOCK_PATIENCE_S
    while not _flocked(lock):
        if monotonic() > deadline:
            os.close(lock)
            raise AlreadyRunning(f"the outbox {path} is in use by another mqtthook; two of them would send everything twice")
        Pause().wait(LOCK_TURN_S)
    return lock


def _lock_file(path: Path) -> int:
    """Return the open lock file; one that root makes is its outbox's owner's, as the service would be locked out else."""
    name = lock_of(path)
    try:
        lock = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return os.open(name, os.O_RDWR | os.O_CREAT, 0o600)
    if os.geteuid() == 0:
        owner = (path if path.exists() else path.parent).stat()
        with suppress(OSError):  # a disk that knows no owners
            os.fchown(lock, owner.st_uid, owner.st_gid)
    return lock


def _flocked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def opened(lock: int) -> None:
    """Note that the outbox is open from now on: should its log be missing later, something was lost."""
    os.pwrite(lock, OPEN, 0)


def closed(lock: int) -> None:
    """Note that the outbox is whole without its log."""
    os.pwrite(lock, CLOSED, 0)


def tell_losses(path: Path, lock: int) -> None:
    """Say what of the outbox at *path* is not there though its lock knows of it."""
    mark = os.pread(lock, 1, 0)
    if mark in (OPEN, CLOSED) and not os.stat(path).st_size:
        logger.error("the outbox was lost: there was one before, and %s was empty or not there; what waited in it is gone, and a new one is made", path)
    elif mark == OPEN and not os.path.exists(f"{os.path.realpath(path)}-wal"):
        logger.error("the outbox's log was lost: %s was not closed, and its -wal is not there; what was written to it last is gone", path)
