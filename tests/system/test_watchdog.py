"""What systemd is told, and that it is told no sign of life by a program of which a part is stuck.

A thread is stuck by the kernel's own means: as a debugger stops one, while the others go on (ptrace(2)).
"""

import ctypes
import os
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.rig.daemon import Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import UNIT_S

ATTACH, DETACH = 16, 17  # linux/ptrace.h
ALL_CHILDREN = 0x40000000  # __WALL: a thread is waited for like a process

FED_S = 0.1  # a third of what WATCHDOG_USEC says below

libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def stuck(threads: list[int]) -> Iterator[None]:
    """Let these threads stand still meanwhile."""
    for thread in threads:
        if libc.ptrace(ATTACH, thread, None, None) != 0:
            pytest.skip(f"this machine lets no thread be stopped: {os.strerror(ctypes.get_errno())}")
        os.waitpid(thread, ALL_CHILDREN)
    try:
        yield
    finally:
        for thread in threads:
            libc.ptrace(DETACH, thread, None, None)


class Manager:
    """The service manager's end."""

    def __init__(self, path: Path) -> None:
        self.address = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.address)

    def hear(self, word: bytes) -> bytes:
        """Return the next thing that holds *word*."""
        self._socket.settimeout(20 * UNIT_S)
        while word not in (said := self._socket.recv(4096)):
            pass
        return said

    def silent_after(self) -> int:
        """Return how many things are said until there is silence for twenty times as long as there should be."""
        self._socket.settimeout(20 * FED_S)
        for count in range(100):
            try:
                self._socket.recv(4096)
            except TimeoutError:
                return count
        return 100

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    """Give a service manager."""
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


@pytest.fixture
def bridge(tmp_path: Path, broker: Mosquitto, manager: Manager) -> Iterator[Daemon]:
    """Give a daemon that is watched, and has given its first sign of life."""
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings="").start(NOTIFY_SOCKET=manager.address, WATCHDOG_USEC=str(round(3 * FED_S * 1e6))) as running:
        manager.hear(b"WATCHDOG=1")
        yield running


@pytest.mark.parametrize("part", ["loop", "store"])
def test_a_part_that_is_stuck_ends_the_signs_of_life(part: str, bridge: Daemon, manager: Manager) -> None:
    assert bridge.process is not None
    loop = bridge.process.pid  # its first thread
    others = [int(name) for name in os.listdir(f"/proc/{loop}/task") if int(name) != loop]
    assert others
    with stuck([loop] if part == "loop" else others):
        assert manager.silent_after() < 100
    manager.hear(b"WATCHDOG=1")


def test_a_wish_to_read_the_config_again_is_answered_in_systemd_s_own_way(bridge: Daemon, manager: Manager) -> None:
    """Type=notify-reload: `systemctl reload` waits for both, and the first tells when (systemd.service(5))."""
    assert bridge.process is not None
    bridge.process.send_signal(signal.SIGHUP)
    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", manager.hear(b"RELOADING=1"))
    manager.hear(b"READY=1")
    manager.hear(b"WATCHDOG=1")
