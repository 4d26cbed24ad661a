"""What systemd is told, against a real datagram socket; and what it hands over, in a process that gets it."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge.edges.systemd import notify, reloading, watchdog_s
from tests.rig.activation import handing_over


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


HANDED_OVER = """
import sys
from bridge.edges.systemd import passed_sockets
from bridge.errors import ListenError
try:
    for wanted in (lambda name: name == "admin", lambda name: name != "admin"):
        print([found.getsockname()[1] for found in passed_sockets(wanted)])
except ListenError as exc:
    print(exc)
"""

ROOT = Path(__file__).parents[2]


def handed_over(sockets: list[socket.socket], *, names: str | None, pid: str = "$$", count: str | None = None) -> str:
    """Return what a process says that gets these sockets from file descriptor 3 on, as systemd hands them over."""
    fds = [one.fileno() for one in sockets]
    command = handing_over(fds, [sys.executable, "-c", HANDED_OVER], names=names, pid=pid, count=count)
    return subprocess.run(command, pass_fds=fds, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT).stdout


@pytest.fixture
def sockets() -> Iterator[list[socket.socket]]:
    """Give two sockets that listen."""
    found = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    yield found
    for one in found:
        one.close()


def test_sockets_are_taken_by_their_names(sockets: list[socket.socket]) -> None:
    """sd_listen_fds_with_names(3)."""
    hooks, admin = (one.getsockname()[1] for one in sockets)
    assert handed_over(sockets, names="hooks:admin") == f"[{admin}]\n[{hooks}]\n"
    assert handed_over(sockets, names="mqtthook.socket:mqtthook.socket") == f"[]\n[{hooks}, {admin}]\n"
    assert handed_over(sockets, names=None) == f"[]\n[{hooks}, {admin}]\n"


@pytest.mark.parametrize(("pid", "count"), [("1", None), ("", None), ("$$", "0"), ("$$", ""), ("$$", "two"), ("$$", "-1")])
def test_what_is_meant_for_another_process_or_is_no_number_is_nothing(sockets: list[socket.socket], pid: str, count: str | None) -> None:
    assert handed_over(sockets, names=None, pid=pid, count=count) == "[]\n[]\n"


def test_what_does_not_listen_is_told(sockets: list[socket.socket]) -> None:
    with socket.socket() as silent, socket.socket(type=socket.SOCK_DGRAM) as datagrams:
        for one in (silent, datagrams):
            assert handed_over([one], names="hooks") == "[]\nsystemd handed over hooks (file descriptor 3), which doesn't listen: the unit needs ListenStream= and Accept=no\n"
    assert "file descriptor 5), which is no socket" in handed_over(sockets, names=None, count="3")
