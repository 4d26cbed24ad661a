"""The rig: broker, receiver, publisher and daemon as processes, each started afresh and stopped by its own pid.

All of it on 127.0.0.1, in a temporary directory that goes away with it.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tests.bench.publisher import Order
from tests.bench.receiver import SECRET

ROOT = Path(__file__).resolve().parents[2]
SLOWSYNC = Path(__file__).with_name("slowsync.c")

START_S = 60.0  # how long a process may take to come up; a slow small computer included
QUIET_S = 5.0  # after so long without a delivery what is missing is lost
POLL_S = 0.05  # often enough for the wait, too seldom to be felt

# Mosquitto queues 1,000 messages for a client by default and drops the rest: this many may be published and undelivered.
AHEAD = 800

CONFIG = """version = 1

[mqtt]
url = "mqtt://127.0.0.1:{mqtt_port}"
client_id = "mqtthook-bench"

[store]
durability = "{durability}"
max_size = "2GiB"

[admin]
listen = "127.0.0.1:{admin_port}"

[outbound.sensors]
topic = "sensors/+/state"
url = "http://127.0.0.1:{hook_port}/hooks/sensors"
secret = "{secret}"
"""

Report = dict[str, float]

_TICK = os.sysconf("SC_CLK_TCK")
_LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy of the environment's stands between


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


@contextmanager
def running(command: list[str], **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a process, and end it in the end."""
    process = subprocess.Popen(command, cwd=ROOT, text=True, **options)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def broker(place: Path, *, unlimited: bool) -> Iterator[int]:
    """Run Mosquitto and yield its port; it queues as many messages as docs/reliability.md asks for, or (*unlimited*) any number."""
    port = free_port()
    config = place / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_queued_messages {0 if unlimited else 10_000}\n")
    with running(["mosquitto", "-c", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
        wait_until(lambda: _listens(port), "Mosquitto listens")
        yield port


class Receiver:
    """The receiver's process."""

    def __init__(self, process: subprocess.Popen[str], progress: Path) -> None:
        self._process, self.progress = process, progress
        self.port = int(self._line())

    def reset(self, *, delay_ms: float = 0.0) -> None:
        """Let it forget what came, and answer after *delay_ms* from now on."""
        self._ask({"reset": {"delay_ms": delay_ms}})

    def report(self, expected: int) -> Report:
        """Return what has come of *expected* events."""
        report: Report = self._ask({"report": {"expected": expected}})
        return report

    def delivered(self) -> int:
        """Return how many events have come."""
        return int.from_bytes(self.progress.read_bytes()[:8], "little")

    def _ask(self, order: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        print(json.dumps(order), file=self._process.stdin, flush=True)
        return json.loads(self._line())

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the receiver ended")
        return line


@contextmanager
def receiver(place: Path) -> Iterator[Receiver]:
    """Run the receiver."""
    progress = place / "progress"
    progress.write_bytes(bytes(8))
    with running([sys.executable, "-m", "tests.bench.receiver", str(progress)], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Receiver(process, progress)


class Daemon:
    """The process of `mqtthook run`, and what /proc and /metrics tell of it."""

    def __init__(self, process: subprocess.Popen[str], admin_port: int, state: Path) -> None:
        self._process, self._admin_port, self.state = process, admin_port, state
        began = time.monotonic()
        wait_until(self._is_ready, f"the daemon is ready (its log is {state}/log)", poll_s=0.005)
        self.startup_s = time.monotonic() - began

    def rss_mb(self) -> float:
        """Return the memory it has now."""
        return self._memory("VmRSS")

    def peak_mb(self) -> float:
        """Return the most memory that it had since it started."""
        return self._memory("VmHWM")

    def cpu_s(self) -> float:
        """Return the processor time it has used, to a hundredth of a second."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICK  # utime and stime, proc(5)

    def command(self, *arguments: str) -> float:
        """Run another command beside it, and return how many seconds that took."""
        began = time.monotonic()
        line = [sys.executable, "-m", "bridge", *arguments, "--config", str(self.state / "config.toml")]
        subprocess.run(line, env={**os.environ, "STATE_DIRECTORY": str(self.state)}, stdout=subprocess.DEVNULL, check=True, timeout=START_S)
        return time.monotonic() - began

    def metric(self, name: str) -> float:
        """Return a metric, by its name and labels as they are written."""
        with _LOCAL.open(f"http://127.0.0.1:{self._admin_port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    def _memory(self, field: str) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(field)) * 1024 / 1e6

    def _is_ready(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"the daemon ended with exit code {self._process.returncode}: {(self.state / 'log').read_text()[-2000:]}")
        try:
            with _LOCAL.open(f"http://127.0.0.1:{self._admin_port}/readyz", timeout=10) as answer:
                return bool(answer.status == 200)
        except OSError:  # not listening yet, or 503
            return False


class Rig:
    """Broker and receiver, for the daemons that are started between them."""

    def __init__(self, place: Path, mqtt_port: int, receiver: Receiver) -> None:
        self.place, self.mqtt_port, self.receiver = place, mqtt_port, receiver

    def config(self, state: Path, *, strict: bool = False, more: str = "") -> tuple[Path, int]:
        """Write the config of a daemon, with *more* at its end, into its state directory; return its path and the port of the admin side."""
        admin_port, path = free_port(), state / "config.toml"
        secret = "whsec_" + base64.b64encode(SECRET).decode()
        durability = "strict" if strict else "balanced"
        text = CONFIG.format(mqtt_port=self.mqtt_port, admin_port=admin_port, hook_port=self.receiver.port, secret=secret, durability=durability)
        path.write_text(text + more)
        path.chmod(0o600)
        return path, admin_port

    @contextmanager
    def daemon(self, *, state: Path | None = None, strict: bool = False, slow_fsync_ms: float = 0.0, more: str = "") -> Iterator[Daemon]:
        """Run the daemon, with the outbox in *state* or with a new one, until it is ready and then until the end.

        *more* stands in its config below the one mapping, whose table it may go on with.
        """
        state = state or Path(tempfile.mkdtemp(prefix="state-", dir=self.place))
        path, admin_port = self.config(state, strict=strict, more=more)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MQTTHOOK_")}
        environment["STATE_DIRECTORY"] = str(state)
        if slow_fsync_ms:
            environment |= {"LD_PRELOAD": str(slowsync(self.place)), "SLOWSYNC_MS": str(slow_fsync_ms)}
        with (state / "log").open("w") as log, running([sys.executable, "-m", "bridge", "run", "--config", str(path)], env=environment, stderr=log) as process:
            yield Daemon(process, admin_port, state)

    def publish(self, count: int, *, rate: float = 0.0, ahead: int = AHEAD) -> Report:
        """Publish *count* events and return what the receiver saw of them, once that is complete or nothing more comes.

        *rate* 0 is as fast as may be, with at most *ahead* events published and not delivered (0: no bound).
        """
        order = Order(port=self.mqtt_port, count=count, rate=rate, ahead=ahead, progress=str(self.receiver.progress))
        with running([sys.executable, "-m", "tests.bench.publisher", json.dumps(asdict(order))], stdout=subprocess.PIPE) as process:
            self.await_delivery(count)
            if process.poll() is None and self.receiver.delivered() < count:
                raise RuntimeError(f"deliveries stopped after {self.receiver.delivered()} of {count} events, while more were to be published")
            assert process.stdout is not None
            late_ms = json.loads(process.stdout.read())["late_ms"]
        return {**self.receiver.report(count), "late_ms": late_ms}

    def publish_only(self, count: int, *, rate: float) -> None:
        """Publish *count* events, whatever becomes of them, and return when the last one is out."""
        order = Order(port=self.mqtt_port, count=count, rate=rate, ahead=0, progress=str(self.receiver.progress))
        with running([sys.executable, "-m", "tests.bench.publisher", json.dumps(asdict(order))], stdout=subprocess.PIPE) as process:
            process.wait(START_S + count / rate)

    def await_delivery(self, count: int) -> None:
        """Return when *count* events have come, or none has come for QUIET_S."""
        before, since = -1, time.monotonic()
        while (delivered := self.receiver.delivered()) < count:
            if delivered != before:
                before, since = delivered, time.monotonic()
            if time.monotonic() - since > QUIET_S:
                return
            time.sleep(POLL_S)


@contextmanager
def rig(*, flood: bool = False) -> Iterator[Rig]:
    """Run a broker and a receiver; *flood* lets the broker queue without bound."""
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mqtthook-bench-")))
        yield Rig(place, stack.enter_context(broker(place, unlimited=flood)), stack.enter_context(receiver(place)))


def slowsync(place: Path) -> Path:
    """Return the preloaded library, compiled if need be."""
    library = place / "slowsync.so"
    if not library.exists():
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SLOWSYNC), "-ldl"], check=True)
    return library


def wait_until(holds: Callable[[], bool], what: str, *, poll_s: float = POLL_S) -> None:
    """Return when a condition holds; raise TimeoutError if it takes too long."""
    deadline = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {START_S:g} s: {what}")
        time.sleep(poll_s)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
