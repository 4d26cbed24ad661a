"""What the bench of the hooks needs: a daemon with a signed hook, the device that it commands, and callers in processes of their own."""

import base64
import json
import math
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from tests.bench.caller import SECRET, Calls
from tests.bench.rig import Daemon, Report, Rig, free_port, running, wait_until

TOPIC = "home/door/set"
STATUSES = ("200", "202", "401", "429")


class Device:
    """A subscribed device: how long each command took to reach it, from when its request went out."""

    def __init__(self, port: int) -> None:
        self._took_ms: list[float] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_connect = lambda client, *_more: client.subscribe(TOPIC, 1)
        self._client.on_subscribe = lambda *_more: self._subscribed.set()
        self._client.on_message = self._heard
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._subscribed.wait(10)

    def _heard(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        self._took_ms.append((time.monotonic_ns() - json.loads(message.payload)["sent"]) / 1e6)

    def reset(self) -> None:
        """Forget what came."""
        self._took_ms.clear()

    def report(self, expected: int) -> Report:
        """Return how long commands took, once all have come or no more do."""
        deadline = time.monotonic() + 5
        while len(self._took_ms) < expected and time.monotonic() < deadline:
            time.sleep(0.05)
        took_ms = sorted(self._took_ms)
        return {"device_median_ms": took_ms[len(took_ms) // 2], "device_p99_ms": took_ms[math.ceil(len(took_ms) * 0.99) - 1], "missing": expected - len(took_ms)}

    def leave(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()


class Asked:
    """Callers at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def report(self) -> Report:
        """Return how it went, once all is asked."""
        assert self._process.stdout is not None
        found = json.loads(self._process.stdout.read())
        statuses = found.pop("statuses")
        return {**found, "count": sum(statuses.values()), **{status: statuses.get(status, 0) for status in STATUSES}}


class CalledHook:
    """A running daemon with a hook, and the device behind it."""

    def __init__(self, daemon: Daemon, port: int, device: Device) -> None:
        self.daemon, self.port, self._device = daemon, port, device

    def call(self, *, count: int, connections: int, name: str, rate: float = 0.0) -> Report:
        """Call the hook so often, and return how that went; raise RuntimeError where a call is not answered with 200."""
        self._device.reset()
        with asked(Calls(port=self.port, count=count, connections=connections, rate=rate, name=name)) as callers:
            report = callers.report()
        if report["200"] != count:
            raise RuntimeError(f"of {count} calls {report} were answered")
        return {**report, **self._device.report(count)}


@contextmanager
def asked(calls: Calls) -> Iterator[Asked]:
    """Let callers work in a process of their own."""
    with running([sys.executable, "-m", "tests.bench.caller", json.dumps(asdict(calls))], stdout=subprocess.PIPE) as process:
        yield Asked(process)


@contextmanager
def calling(parts: Rig) -> Iterator[CalledHook]:
    """Run a daemon with a signed hook, and its device."""
    port, secret = free_port(), "whsec_" + base64.b64encode(SECRET).decode()
    hook = f'[http]\nlisten = "127.0.0.1:{port}"\n[inbound.door]\nverify = "standard-webhooks"\nsecret = "{secret}"\ntopic = "{TOPIC}"\njson = {{ sent = "{{{{ body.sent }}}}" }}\n'
    device = Device(parts.mqtt_port)
    try:
        with parts.daemon(more=hook) as daemon:
            wait_until(lambda: daemon.metric("mqtthook_broker_connected") == 1, "the daemon to be connected")
            yield CalledHook(daemon, port, device)
    finally:
        device.leave()
