"""The program in the sandbox of its unit file, as far as that can be had without systemd; tests/rig/sandbox.py says how far.

What must be possible in there is the round trip; what must not is tried by a probe in the same place.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import ROOT, SECRET, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver
from tests.rig.sandbox import KNOWN, USER
from tests.rig.unit_file import UNIT, directives
from tests.rig.wait import until

MAPPINGS = """
[outbound.hall]
topic = "hall/{name}"
url = "{url}/events"
secret = "credential:motion"
[inbound.lamp]
verify = "bearer"
secret = "credential:lamp"
topic = "lamp/set"
"""

PROBE = """
import ctypes, json, mmap, os, socket
def outcome(act):
    try:
        return repr(act())
    except Exception as exc:
        return type(exc).__name__ + ' ' + str(getattr(exc, 'errno', ''))
libc = ctypes.CDLL(None, use_errno=True)
libc.sbrk.restype = ctypes.c_ssize_t
def call(name, *arguments):
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), name)
    return 'done'
def clone(flags):
    pid = libc.syscall({clone}, flags | 17, None, None, None, None)
    if pid == 0:
        os._exit(0)
    if pid == -1:
        raise OSError(ctypes.get_errno(), 'clone')
    os.waitpid(pid, 0)
    return 'done'
state = '{state}'
open(state + '/mode', 'w').close()
print(json.dumps({{
    'writes its state': outcome(lambda: open(state + '/x', 'w').write('x')),
    'writes a file of its own in /tmp': outcome(lambda: open('/tmp/x', 'w').write('x')),
    'opens a socket for IPv6': outcome(lambda: socket.socket(socket.AF_INET6).close()),
    'starts a process': outcome(lambda: clone(0)),
    'is the user': outcome(os.getuid),
    'may do': outcome(lambda: [line.split()[1] for line in open('/proc/self/status') if line.startswith(('CapEff', 'CapBnd', 'NoNewPrivs'))]),
    'mask': outcome(lambda: oct(os.stat(state + '/mode').st_mode & 0o777)),
    'devices': outcome(lambda: [name for name in os.listdir('/dev') if name not in ('null', 'zero', 'full', 'random', 'urandom', 'tty')]),
    'homes': outcome(lambda: oct(os.stat('/root').st_mode & 0o777)),
    'processes of others': outcome(lambda: os.listdir('/proc/1')),
    'the kernel in /proc': outcome(lambda: os.listdir('/proc/sys')),
    'writes /etc': outcome(lambda: open('/etc/x', 'w')),
    'writes beside its state': outcome(lambda: open(state + '/../x', 'w')),
    'writes /sys': outcome(lambda: open('/sys/kernel/uevent_helper', 'w')),
    'netlink': outcome(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)),
    'packets': outcome(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    'code that can be written': outcome(lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)),
    'memory that becomes code': outcome(lambda: call('mprotect', ctypes.c_void_p(libc.sbrk(0) & ~4095), 4096, 4)),
    'knows other users': outcome(lambda: os.stat(state + '/of-another').st_uid),
    'namespaces': outcome(lambda: call('unshare', 0x10000000)),
    'a child in a namespace': outcome(lambda: clone(0x10000000)),
    'mounts': outcome(lambda: call('mount', b'x', b'/tmp', b'tmpfs', 0, None)),
    'watches others': outcome(lambda: call('ptrace', 0, 0, 0, 0)),
    'changes owners': outcome(lambda: os.chown(state + '/mode', os.getuid(), os.getgid())),
    'takes the processor': outcome(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    'runs as another': outcome(lambda: os.chmod(state + '/mode', 0o4755)),
    'another personality': outcome(lambda: call('personality', 8)),
    'the clock': outcome(lambda: __import__('time').clock_settime(0, 1e9)),
}}))
"""

# What the probe says; 1 is EPERM, 2 ENOENT, 13 EACCES, 30 EROFS, 97 EAFNOSUPPORT. To give a file of one's own to oneself is forbidden by the filter alone.
MAY = {"writes its state": "1", "writes a file of its own in /tmp": "1", "opens a socket for IPv6": "None", "starts a process": "'done'", "is the user": str(USER)}
MAY_NOT = {
    "may do": "['0000000000000000', '0000000000000000', '1']",
    "mask": "'0o600'",
    "devices": "[]",
    "homes": "'0o0'",
    "processes of others": "FileNotFoundError 2",
    "the kernel in /proc": "FileNotFoundError 2",
    "writes /etc": "OSError 30",
    "writes beside its state": "OSError 30",
    "writes /sys": "OSError 30",
    "netlink": "OSError 97",
    "packets": "OSError 97",
    "code that can be written": "PermissionError 1",
    "memory that becomes code": "PermissionError 1",
    "knows other users": "65534",
    "namespaces": "PermissionError 1",
    "a child in a namespace": "PermissionError 1",
    "mounts": "PermissionError 1",
    "watches others": "PermissionError 1",
    "changes owners": "PermissionError 1",
    "takes the processor": "PermissionError 1",
    "runs as another": "PermissionError 1",
    "another personality": "PermissionError 1",
    "the clock": "PermissionError 1",
}


def why_not() -> str | None:
    """Return why this machine can't have the sandbox, or None if it can."""
    if os.geteuid() != 0:
        return "only root can build the sandbox"
    if shutil.which("systemd-analyze") is None:
        return "systemd-analyze is not installed: it knows which system calls @system-service means"
    tried = subprocess.run(["unshare", "--mount", "--user", "true"], capture_output=True, check=False)
    return f"no namespaces here: {tried.stderr.decode().strip()}" if tried.returncode else None


REASON = why_not()

pytestmark = pytest.mark.skipif(REASON is not None, reason=REASON or "")


class Service(Daemon):
    """The daemon in the sandbox."""

    def __init__(self, directory: Path, *, broker: str, mappings: str) -> None:
        super().__init__(directory / "state", broker=broker, mappings=mappings)
        for name in ("python", "libraries", "program", "dev"):
            (directory / name).mkdir()
        (self.directory / "credentials").mkdir()
        for name, secret in (("motion", SECRET), ("lamp", "the-secret-of-the-lamp")):
            (self.directory / "credentials" / name).write_text(secret)
        for path in (self.directory, *self.directory.rglob("*")):
            os.chown(path, USER, USER)
        (self.directory / "of-another").touch()
        os.chown(self.directory / "of-another", USER + 1, USER + 1)
        self.sandbox = [sys.executable, "-m", "tests.rig.sandbox", str(UNIT), str(directory), f"{directory}/python/bin/python{sys.version_info.major}.{sys.version_info.minor}"]
        self.program = [*self.sandbox, "-m", "bridge"]
        self.environment |= {
            "PYTHONPATH": f"{directory}/program:{directory}/libraries:{ROOT}",
            "LD_LIBRARY_PATH": f"{directory}/python/lib",  # a Python that was built elsewhere looks for its library there
            "CREDENTIALS_DIRECTORY": f"{self.directory}/credentials",
        }

    def probe(self) -> dict[str, str]:
        """Return what a program in the sandbox could do."""
        clone = {"x86_64": 56}.get(os.uname().machine, 220)  # asm-generic/unistd.h; Arm's 32 bits have 120
        code = PROBE.format(state=self.directory, clone=clone)
        run = subprocess.run([*self.sandbox, "-c", code], capture_output=True, text=True, cwd=self.directory, env=self.environment, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
        found: dict[str, str] = json.loads(run.stdout)
        return found


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory that the sandbox doesn't hide."""
    place = Path(tempfile.mkdtemp(prefix="mqtthook-test-", dir="/run"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_each_directive_of_the_unit_is_carried_out_or_is_known_to_need_systemd() -> None:
    said = {directive.name for directive in directives(UNIT.read_text()) if directive.section == "Service"}
    assert said == KNOWN


def test_the_sandbox_lets_nothing_out(directory: Path) -> None:
    """Without this, the round trip would prove nothing."""
    assert Service(directory, broker="mqtt://127.0.0.1:1", mappings="").probe() == MAY | MAY_NOT


def test_the_round_trip_is_possible_in_the_sandbox(directory: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port, "lamp/set") as sensor, Service(directory, broker=broker.url, mappings=MAPPINGS.replace("{url}", receiver.url)) as bridge:
        sensor.publish("hall/motion", '{"occupancy": true}')
        until(lambda: len(receiver.accepted) == 1, "the webhook")
        assert bridge.post("/hooks/lamp", b'"on"', Authorization="Bearer the-secret-of-the-lamp")[0] == 200
        until(lambda: sensor.payloads("lamp/set") == [b'"on"'], "the command")
        assert "ready" in bridge.command("status")
        assert "nothing waits" in bridge.command("queue", "list")
        broker.kill()
        until(lambda: bridge.get("/readyz")[0] == 503, "the broker to be missed")
        assert bridge.post("/hooks/lamp", b'"off"', Authorization="Bearer the-secret-of-the-lamp")[0] == 202
        assert len(bridge.json("queue", "list")) == 1, "the outbox can be written in there"
        assert (directory / "state" / "outbox.db").stat().st_uid == USER
        assert bridge.stop() == 0
        assert "Traceback" not in bridge.log
