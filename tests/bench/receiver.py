"""The receiver: a web server that counts events and how long each took. A process of its own.

As much HTTP/1.1 as a webhook needs, parsed by hand: it must cost far less than what it measures. It prints its port,
then answers each line on stdin with a line on stdout, both JSON:

    {"reset": {"delay_ms": 20}}     forget everything, and answer each request after 20 ms from now on
    {"report": {"expected": 5000}}  what has come so far
"""

import asyncio
import base64
import gc
import hashlib
import hmac
import json
import math
import mmap
import re
import sys
import time
from dataclasses import dataclass, field
from typing import Any

SECRET = b"thirty-two bytes for a benchmark"
CHECKED = 100  # one in so many signatures is verified: a sign of life, at a cost that isn't seen

_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_STAMP = re.compile(rb'"id":(\d+),"t":(\d+)')


@dataclass(slots=True)
class Tally:
    """What has come since the last reset; instants and latencies in nanoseconds of the monotonic clock."""

    delay_s: float = 0.0
    requests: int = 0
    forged: int = 0
    seen: set[int] = field(default_factory=set)
    latencies: list[int] = field(default_factory=list)
    first_at: int = 0
    last_at: int = 0

    def count(self, head: bytes, body: bytes) -> None:
        """Count one request."""
        now = time.monotonic_ns()
        self.requests += 1
        if self.requests % CHECKED == 1 and not signed(head, body):
            self.forged += 1
        stamp = _STAMP.search(body)
        if stamp is None or (id := int(stamp[1])) in self.seen:
            return
        self.seen.add(id)
        self.latencies.append(now - int(stamp[2]))
        self.first_at = self.first_at or now
        self.last_at = now

    def report(self, expected: int) -> dict[str, float]:
        """Return the figures; *expected* ids were published, from 0 on."""
        span_s = (self.last_at - self.first_at) / 1e9
        return {
            "requests": self.requests,
            "delivered": len(self.seen),
            "lost": expected - sum(1 for id in self.seen if id < expected),
            "repeated": self.requests - len(self.seen),
            "forged": self.forged,
            "rate": (len(self.seen) - 1) / span_s if span_s else 0.0,
            "median_ms": percentile(self.latencies, 0.5) / 1e6,
            "p99_ms": percentile(self.latencies, 0.99) / 1e6,
            "max_ms": percentile(self.latencies, 1.0) / 1e6,
        }


def percentile(values: list[int], share: float) -> float:
    """Return the value that *share* of them don't exceed (nearest rank), 0 for none."""
    ordered = sorted(values)
    return float(ordered[max(math.ceil(share * len(ordered)) - 1, 0)]) if ordered else 0.0


def signed(head: bytes, body: bytes) -> bool:
    """Return True if the request bears the signature of Standard Webhooks 1.0.0, False if not."""
    id, timestamp, signature = (_header(head, name) for name in (b"webhook-id", b"webhook-timestamp", b"webhook-signature"))
    mac = hmac.digest(SECRET, b"%b.%b.%b" % (id, timestamp, body), hashlib.sha256)
    return signature == b"v1," + base64.b64encode(mac)


def _header(head: bytes, name: bytes) -> bytes:
    found = re.search(rb"\r\n%b: *([^\r]+)" % name, head, re.IGNORECASE)
    return found[1] if found else b""


class Connection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self, receiver: "Receiver") -> None:
        self._receiver = receiver
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            length = _LENGTH.search(buffer, 0, end)
            whole = end + 4 + (int(length[1]) if length else 0)
            if len(buffer) < whole:
                break
            self._receiver.take(self._transport, buffer[:end], buffer[end + 4 : whole])
            buffer = buffer[whole:]
        self._buffer = buffer


class Receiver:
    """The server; *progress* is a file that shows the publisher how many events have come."""

    def __init__(self, progress: mmap.mmap) -> None:
        self._progress = progress
        self._loop = asyncio.get_running_loop()
        self._tally = Tally()

    def take(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Count a request and answer it."""
        tally = self._tally
        tally.count(head, body)
        self._progress[:8] = len(tally.seen).to_bytes(8, "little")
        if tally.delay_s:
            self._loop.call_later(tally.delay_s, transport.write, _ANSWER)
        else:
            transport.write(_ANSWER)

    def obey(self, line: str) -> dict[str, Any]:
        """Do what a line on stdin says, and return the answer."""
        order = json.loads(line)
        if "reset" in order:
            self._tally = Tally(delay_s=order["reset"]["delay_ms"] / 1000)
            self._progress[:8] = bytes(8)
            return {}
        return self._tally.report(order["report"]["expected"])


async def main(progress: mmap.mmap) -> None:
    """Serve until stdin ends."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    receiver = Receiver(progress)

    def ordered() -> None:
        line = sys.stdin.readline()
        if line:
            print(json.dumps(receiver.obey(line)), flush=True)
        else:
            loop.remove_reader(sys.stdin)
            ended.set_result(None)

    server = await loop.create_server(lambda: Connection(receiver), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    loop.add_reader(sys.stdin, ordered)
    await ended


if __name__ == "__main__":
    gc.disable()  # nothing here goes in circles; a pause would be taken for the daemon's
    with open(sys.argv[1], "r+b") as shared, mmap.mmap(shared.fileno(), 8) as counted:
        asyncio.run(main(counted))
