"""The sockets to listen on: at an address, or in a file."""

import errno
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

BACKLOG = 128  # who waits to be accepted: asyncio's own default is 100


def listening_tcp(address: str, *, beside: Sequence[socket.socket] = ()) -> socket.socket:
    """Return a socket that listens on an address like "127.0.0.1:8080"; raises OSError.

    *beside* are listening sockets of ours that may be in its way, as 127.0.0.1 is in that of 0.0.0.0 on the same port: they go on until they are closed.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family, kind, proto, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, proto)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind(where)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not beside:
                raise
            with _sharing([listening, *beside]):
                listening.bind(where)
                listening.listen(BACKLOG)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listening


@contextmanager
def _sharing(ours: Sequence[socket.socket]) -> Iterator[None]:
    """Let our own sockets, which are none of another program's, have one port for a moment (socket(7), SO_REUSEPORT)."""
    inet = [one for one in ours if one.family != socket.AF_UNIX]
    for one in inet:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for one in inet:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def listening_unix(path: Path, *, mode: int = 0o600) -> socket.socket:
    """Return a socket that listens at *path*, by default for this user alone; raises OSError.

    What an earlier run left there is replaced; where somebody listens, it is EADDRINUSE, as of a port.
    """
    directory = os.open(path.parent, os.O_PATH)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o777 & ~mode)
    try:
        # Through the open directory: a path of its own may be longer than the 107 bytes that a socket's may have.
        name = f"/proc/self/fd/{directory}/{path.name}"
        with suppress(FileNotFoundError):
            if not stat.S_ISSOCK(path.lstat().st_mode):
                raise FileExistsError(errno.EEXIST, "there is another file")
            _expect_nobody(name)
            path.unlink()
        listening.bind(name)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(umask)
        os.close(directory)
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listening


def _expect_nobody(name: str) -> None:
    """Raise OSError where somebody listens at a socket's file, or where that can't be told."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller, suppress(ConnectionRefusedError):
        caller.setblocking(False)  # noqa: FBT003 - the library's own signature
        with suppress(BlockingIOError):  # somebody does, and as many wait for him as may
            caller.connect(name)
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
