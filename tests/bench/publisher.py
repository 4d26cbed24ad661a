"""The publisher: a device with a hundred sensors, at a set rate or as fast as it may. A process of its own.

MQTT 3.1.1 by hand, QoS 1, many publishes under way at once: it must not be what limits a run. The payload is JSON of
200 bytes with an id and, in nanoseconds of the monotonic clock, the instant at which it was to be published: a
publisher that is late doesn't make the daemon look fast.
"""

import gc
import json
import mmap
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

TOPICS = 100
PAYLOAD = 200  # bytes
UNCONFIRMED = 1_000  # publishes under way; the broker answers each within a fraction of a millisecond
BURST = 50  # packets in one write
NAP_S = 0.0005  # while the receiver is behind


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to publish. `rate` 0: as fast as it may. `ahead` is the most that may be published and not yet delivered, 0 for no bound."""

    port: int
    count: int
    rate: float
    ahead: int
    progress: str


class Session:
    """A connection to the broker that counts what was sent and confirmed."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.settimeout(None)  # with one, Python would wait even where MSG_DONTWAIT says not to
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # CONNECT, MQTT 3.1.1 section 3.1: clean session, no keepalive, the broker makes up a client id.
        self._socket.sendall(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x00\x00\x00")
        if self._socket.recv(4) != b"\x20\x02\x00\x00":
            raise ConnectionError("the broker refuses the publisher")
        self.sent = 0
        self._confirmed_bytes = 0

    @property
    def unconfirmed(self) -> int:
        """Return how many publishes the broker has not answered: a PUBACK has four bytes."""
        return self.sent - self._confirmed_bytes // 4

    def send(self, packets: list[bytes]) -> None:
        """Send some PUBLISH packets."""
        self._socket.sendall(b"".join(packets))
        self.sent += len(packets)

    def confirm(self, *, wait: bool) -> None:
        """Read the answers that are here; with *wait*, at least one."""
        try:
            answers = self._socket.recv(65_536, 0 if wait else socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        if not answers:
            raise ConnectionError("the broker hung up on the publisher")
        self._confirmed_bytes += len(answers)


def message(number: int, at: int) -> tuple[bytes, bytes]:
    """Return topic and payload of one event; *at* is in nanoseconds."""
    payload = b'{"id":%d,"t":%d,"pad":"' % (number, at)
    return b"sensors/%d/state" % (number % TOPICS), payload + b"x" * (PAYLOAD - len(payload) - 2) + b'"}'


def packet(number: int, at: int) -> bytes:
    """Return the PUBLISH packet of one event, QoS 1 (MQTT 3.1.1 section 3.3)."""
    topic, payload = message(number, at)
    rest = len(topic).to_bytes(2, "big") + topic + (number % 65_535 + 1).to_bytes(2, "big") + payload
    return bytes((0x32, len(rest) & 127 | 128, len(rest) >> 7)) + rest


def publish(order: Order) -> dict[str, float]:
    """Publish it all, and return how that went once the broker has confirmed the last."""
    session = Session(order.port)
    began = time.monotonic()
    late_s = _at_rate(session, order) if order.rate else _flat_out(session, order)
    while session.unconfirmed:
        session.confirm(wait=True)
    took_s = time.monotonic() - began
    return {"published": session.sent, "rate": session.sent / took_s, "late_ms": late_s * 1000}


def _at_rate(session: Session, order: Order) -> float:
    """Publish at the order's rate; return the seconds by which the latest one was late."""
    late_s = 0.0
    for number, at in enumerate(_instants(order)):
        if (ahead_s := at - time.monotonic()) > 0:
            time.sleep(ahead_s)
        late_s = max(late_s, time.monotonic() - at)
        session.send([packet(number, int(at * 1e9))])
        session.confirm(wait=False)
    return late_s


def _instants(order: Order) -> Iterator[float]:
    began = time.monotonic()
    return (began + number / order.rate for number in range(order.count))


def _flat_out(session: Session, order: Order) -> float:
    with open(order.progress, "rb") as file, mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ) as progress:
        while session.sent < order.count:
            room = min(order.count - session.sent, BURST, UNCONFIRMED - session.unconfirmed)
            if order.ahead:
                room = min(room, order.ahead + int.from_bytes(progress[:8], "little") - session.sent)
            if room > 0:
                session.send([packet(number, time.monotonic_ns()) for number in range(session.sent, session.sent + room)])
            elif session.unconfirmed < UNCONFIRMED:
                time.sleep(NAP_S)
            session.confirm(wait=session.unconfirmed >= UNCONFIRMED)
    return 0.0


if __name__ == "__main__":
    gc.disable()
    print(json.dumps(publish(Order(**json.loads(sys.argv[1])))), flush=True)
