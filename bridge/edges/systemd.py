"""What systemd is told, by its own protocol (sd_notify(3)); without systemd every call does nothing."""

import os
import socket
import time


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
