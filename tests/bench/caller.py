"""The caller: signed requests to a hook over kept connections, at a rate or as fast as answers come; good ones or wrong ones.

A process of its own, so that what it costs isn't counted as the daemon's. The payload tells when a request went out, by
the machine's monotonic clock, which all processes share.
"""

import asyncio
import base64
import hmac
import json
import math
import sys
import time
from collections import Counter
from dataclasses import dataclass

SECRET = b"mqtthook bench uses this key!"
HOOK = "/hooks/door"


@dataclass(frozen=True)
class Calls:
    """What is to be asked: *rate* 0 is as fast as answers come. Of the wrong ones each connection has an address of its own."""

    port: int
    count: int
    connections: int
    rate: float = 0.0
    wrong: bool = False
    name: str = "good"


class Connection(asyncio.Protocol):
    """One kept connection, with one request under way."""

    def __init__(self) -> None:
        self._came, self._answered = b"", asyncio.Event()
        self.status = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        head, end, body = self._came.partition(b"\r\n\r\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self.status, self._came = int(self._came[9:12]), b""
            self._answered.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.status = -1
        self._answered.set()

    async def ask(self, raw: bytes) -> int:
        self._answered.clear()
        self._transport.write(raw)
        await self._answered.wait()
        return self.status


def request(id: str, *, wrong: bool) -> bytes:
    """Return a signed request; a wrong one is signed with another key."""
    body = b'{"sent":%d}' % time.monotonic_ns()
    stamp = str(int(time.time()))
    mac = hmac.digest(b"another key, which is as long" if wrong else SECRET, f"{id}.{stamp}.".encode() + body, "sha256")
    return (
        f"POST {HOOK} HTTP/1.1\r\nHost: pi\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"webhook-id: {id}\r\nwebhook-timestamp: {stamp}\r\nwebhook-signature: v1,{base64.b64encode(mac).decode()}\r\n\r\n"
    ).encode() + body


async def carried_out(calls: Calls) -> dict[str, object]:
    """Carry out all calls, and return how they went."""
    loop = asyncio.get_running_loop()
    took_ms: list[float] = []
    statuses: Counter[int] = Counter()
    numbers = iter(range(calls.count))
    began = loop.time()

    async def one(n: int) -> None:
        address = (f"127.1.{n // 250}.{n % 250 + 1}", 0) if calls.wrong else None
        _, connection = await loop.create_connection(Connection, "127.0.0.1", calls.port, local_addr=address)
        for number in numbers:  # those that no other connection has taken yet
            if calls.rate:
                await asyncio.sleep(began + number / calls.rate - loop.time())
            sent = time.perf_counter()
            statuses[await connection.ask(request(f"{calls.name}_{number}", wrong=calls.wrong))] += 1
            took_ms.append((time.perf_counter() - sent) * 1000)

    await asyncio.gather(*(one(n) for n in range(calls.connections)))
    took_ms.sort()
    return {
        "rate": calls.count / (loop.time() - began),
        "median_ms": took_ms[len(took_ms) // 2],
        "p99_ms": took_ms[math.ceil(len(took_ms) * 0.99) - 1],
        "statuses": {str(status): count for status, count in statuses.items()},
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(carried_out(Calls(**json.loads(sys.argv[1]))))), flush=True)
