"""What systemd is told, against a real datagram socket."""

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.edges.systemd import notify, reloading, watchdog_s


def bound(address: str) -> socket.socket:
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(address)
    manager.settimeout(10)
    return manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Give the manager's socket, at a path or in the abstract namespace, where the environment names it with an @ (sd_notify(3))."""
    if request.param == "path":
        socket_address = name = str(tmp_path / "notify")
    else:
        socket_address, name = f"\0mqtthook-test-{tmp_path}"[:100], f"@mqtthook-test-{tmp_path}"[:100]
    with bound(socket_address) as manager:
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield manager


def test_the_manager_is_told(manager: socket.socket) -> None:
    notify("READY=1")
    notify("STATUS=the broker is away: Küche", "WATCHDOG=1")
    assert manager.recv(1000) == b"READY=1"
    assert manager.recv(1000) == "STATUS=the broker is away: Küche\nWATCHDOG=1".encode()


def test_it_is_told_when_the_config_is_read_again(manager: socket.socket) -> None:
    before = time.monotonic_ns() // 1000
    reloading()
    word, _, at = manager.recv(1000).decode().partition("\nMONOTONIC_USEC=")
    assert word == "RELOADING=1"
    assert before <= int(at) <= time.monotonic_ns() // 1000


def test_without_a_manager_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is there, so that a word to it would be heard."""
    with bound(str(tmp_path / "notify")) as manager:
        manager.setblocking(False)
        for name in (None, ""):
            monkeypatch.delenv("NOTIFY_SOCKET", raising=False) if name is None else monkeypatch.setenv("NOTIFY_SOCKET", name)
            notify("READY=1")
        with pytest.raises(BlockingIOError):
            manager.recv(1000)


@pytest.mark.parametrize("address", ["/nowhere/at/all", "@nobody-listens-here", "vsock:2:1234", "relative", "/" + "x" * 200])
def test_a_manager_that_is_not_there_is_no_trouble(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_a_manager_that_went_away_is_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bound(str(tmp_path / "notify")).close()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    notify("READY=1")


WATCHDOGS = [  # WATCHDOG_USEC, WATCHDOG_PID (ME: our own), seconds; sd_watchdog_enabled(3)
    ("30000000", None, 30.0),
    ("30000000", "", 30.0),
    ("30000000", "ME", 30.0),
    ("500000", "ME", 0.5),
    ("1", "ME", 0.000_001),
    ("30000000", "1", None),  # meant for another process, which handed its environment on
    ("30000000", "no number", None),
    (None, None, None),
    ("", "ME", None),
    ("soon", "ME", None),
    ("-1", "ME", None),
    ("1.5", "ME", None),
    ("0", "ME", None),  # a watchdog of no time at all is none: the manual calls it invalid
    ("²", "ME", None),  # isdigit() takes it for a digit, int() doesn't
]


@pytest.mark.parametrize(("usec", "pid", "due_s"), WATCHDOGS)
def test_the_watchdog_is_ours_or_none(usec: str | None, pid: str | None, due_s: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", str(os.getpid()) if pid == "ME" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert watchdog_s() == due_s
