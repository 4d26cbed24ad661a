"""What systemd is told and what it hands over, by its own protocols (sd_notify(3), sd_listen_fds(3)).

Without systemd every call does nothing.
"""

import fcntl
import os
import socket
import time
from collections.abc import Callable

from bridge.errors import ListenError

FIRST_FD = 3  # SD_LISTEN_FDS_START


def notify(*lines: str) -> None:
    """Tell the service manager, e.g. "READY=1" or "STATUS=12 waiting"; never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as link:
            link.sendto("\n".join(lines).encode("utf-8", "replace"), address)
    except OSError:
        return  # a manager that went away, or is too busy to listen, must not hold us up


def reloading() -> None:
    """Tell that the config is being read again, until the next READY=1 (systemd.service(5), Type=notify-reload)."""
    notify("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")


def watchdog_s() -> float | None:
    """Return how often a sign of life is due, or None if nobody watches (sd_watchdog_enabled(3))."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not (usec.isascii() and usec.isdigit() and int(usec)) or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1_000_000


def passed_sockets(is_wanted: Callable[[str], bool]) -> list[socket.socket]:
    """Return the listening sockets that were handed over under a name that is wanted; raise ListenError where one doesn't listen.

    A name is what the socket's unit says as `FileDescriptorName=`, by default the unit's own. No program that is started
    later inherits them.
    """
    count, pid = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    named = [(fd, names[fd - FIRST_FD] if fd - FIRST_FD < len(names) else "") for fd in range(FIRST_FD, FIRST_FD + int(count))]
    return [_handed_over(fd, name, beyond=FIRST_FD + int(count)) for fd, name in named if is_wanted(name)]


def _handed_over(fd: int, name: str, *, beyond: int) -> socket.socket:
    try:
        os.set_inheritable(fd, False)  # noqa: FBT003 - the library's own signature
        # One of our own, which is closed when listening ends; theirs is there when it begins again.
        found = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, beyond))
    except OSError as exc:
        raise ListenError(f"systemd handed over {name or 'a socket'} (file descriptor {fd}), which is no socket: {exc.strerror}") from exc
    if found.type != socket.SOCK_STREAM or not found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        found.close()
        raise ListenError(f"systemd handed over {name or 'a socket'} (file descriptor {fd}), which doesn't listen: the unit needs ListenStream= and Accept=no")
    found.setblocking(False)  # noqa: FBT003 - the library's own signature
    return found
