"""Receipts: what may be acknowledged to the broker, and in which order. No MQTT library, no clock.

A message is acknowledged when everything it came to is safe, never before one that came earlier
[MQTT-4.6.0-2]. After a broken connection the broker sends again what it got no acknowledgement for; what is
known here already is acknowledged without becoming a second event. Only a message marked as a duplicate (DUP)
is taken for one: a broker that lost its memory gives old packet ids to new messages.
"""

import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from dataclasses import dataclass

MAX_UNACKED = 4_096  # Mosquitto 2.0.11 overruns its window (1,261 seen); past this nothing more is taken in
MAX_BYTES = 32 << 20  # of payloads whose events are in memory only: two of the largest messages, and a tenth of the smallest Pi with what else they take
REMEMBERED = 2 * MAX_UNACKED  # acknowledged messages whose acknowledgement may have been lost: all of one connection's, and more


class Receipt:
    """What has to be safe before one message may be acknowledged."""

    __slots__ = ("_open", "_settled")

    def __init__(self, settled: Callable[[], None]) -> None:
        self._open = 1
        self._settled = settled

    def add(self) -> None:
        """Wait for one thing more."""
        self._open += 1

    def settle(self) -> None:
        """Note that one thing is safe; when nothing is left, say so."""
        self._open -= 1
        if self._open == 0:
            self._settled()


def no_receipt() -> Receipt:
    """Return the receipt of what no broker waits to hear of."""
    return Receipt(lambda: None)


@dataclass(slots=True)
class _Open:
    packet_id: int
    mark: str
    size: int = 0  # of what is in memory for it
    settled: bool = False


class Receipts:
    """The messages of one session that are not acknowledged yet, in the order of receipt."""

    def __init__(self, stored: Collection[str], acknowledge: Callable[[int], None]) -> None:
        """Start a session; *stored* are the marks of messages that are safe from an earlier run."""
        self._acknowledge = acknowledge
        self._open: deque[_Open] = deque()
        self._adrift: dict[str, _Open] = {}
        self._known: OrderedDict[str, None] = OrderedDict.fromkeys(stored)
        self._bytes = 0
        self.shedding = False
        self.redelivered = 0

    def __len__(self) -> int:
        return len(self._open)

    def take(self, packet_id: int, topic: str, payload: bytes, *, dup: bool) -> tuple[Receipt, str] | None:
        """Return a receipt for a message and the mark that recognises it, or None if nothing is to be done with it.

        That is so for a re-delivery, and for whatever comes once too much is open: that one stays with the
        broker until the next connection.
        """
        if self.shedding or len(self._open) >= MAX_UNACKED:
            self.shedding = True
            return None
        mark = f"{packet_id}:{hashlib.blake2b(topic.encode('utf-8', 'replace') + bytes(1) + payload, digest_size=12).hexdigest()}"
        if dup and self._is_redelivery(packet_id, mark):
            return None
        if self._open and self._bytes + len(payload) > MAX_BYTES:  # a single one is always taken, or it would stay with the broker for ever
            self.shedding = True
            return None
        entry = _Open(packet_id, mark, len(payload))
        self._open.append(entry)
        self._bytes += entry.size
        return Receipt(lambda: self._settle(entry)), mark

    def disconnected(self) -> None:
        """Let nothing be acknowledged on a connection that it didn't come by."""
        self._adrift |= {entry.mark: entry for entry in self._open}
        self._open.clear()
        self.shedding = False

    def connected(self, *, session_present: bool) -> None:
        """Start with a new connection; without its session the broker knows none of the old messages."""
        if not session_present:
            self._adrift.clear()
            self._known.clear()

    def _is_redelivery(self, packet_id: int, mark: str) -> bool:
        entry = self._adrift.pop(mark, None)
        if entry is None and mark not in self._known:
            return False
        if entry is None:
            entry = _Open(packet_id, mark, settled=True)
        self.redelivered += 1
        self._open.append(entry)
        self._acknowledge_ready()
        return True

    def _settle(self, entry: _Open) -> None:
        entry.settled = True
        self._bytes -= entry.size
        self._adrift.pop(entry.mark, None)
        self._known[entry.mark] = None
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        self._acknowledge_ready()

    def _acknowledge_ready(self) -> None:
        while self._open and self._open[0].settled:
            self._acknowledge(self._open.popleft().packet_id)
