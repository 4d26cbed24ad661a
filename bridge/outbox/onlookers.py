"""Onlookers: who watches live what happens to messages, requests and letters; no payload is told of.

While nobody watches, all of it costs one look at an empty set. One who reads too slowly is sent away, and told so.
"""

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, Callable, Sequence

from bridge.errors import BridgeError
from bridge.model import Lane, Letter, Message, Outcome, Verdict
from bridge.rules.payloads import timestamp

MOST = 16  # that watch at once; each is a person at a terminal
LINES = 1_000  # that wait for one reader: 200 KB, some seconds of a busy house
SIGN_S = 15.0  # between signs of life: they show when one has gone who does not say so
MAX_REASON = 500  # characters; a reason may hold what a device or a receiver wrote

SIGN = b"\n"


class _Onlooker:
    """One who watches: what he wants to see, and what he has not read yet."""

    def __init__(self, mapping: str | None, destination: str | None) -> None:
        self._mapping, self._destination = mapping, destination
        self.unread: deque[bytes] = deque()
        self.woken = asyncio.Event()
        self.last: bytes | None = None  # what he is told when it is over for him

    def wants(self, mapping: str | None, destination: str | None) -> bool:
        return self._mapping in (None, mapping) and self._destination in (None, destination)

    def end(self, why: str) -> None:
        self.last = _line({"what": "end", "reason": why})
        self.woken.set()


class Onlookers:
    """All who watch."""

    def __init__(self, wall: Callable[[], float]) -> None:
        self._wall = wall
        self._all: set[_Onlooker] = set()

    def __bool__(self) -> bool:
        """Return True while anybody watches, False while nobody does."""
        return bool(self._all)

    def tell(self, what: str, *, mapping: str | None = None, destination: str | None = None, **more: object) -> None:
        """Tell whoever wants to see that mapping and that destination; what is None is left out."""
        wanted = [each for each in self._all if each.last is None and each.wants(mapping, destination)]
        if not wanted:
            return
        found = {"at": timestamp(self._wall()), "what": what, "mapping": mapping, "destination": destination, **more}
        line = _line({name: value[:MAX_REASON] if name == "reason" and isinstance(value, str) else value for name, value in found.items() if value is not None})
        for each in wanted:
            each.unread.append(line)
            each.woken.set()
            if len(each.unread) >= LINES:
                each.end("more happens than is read here: watch a single mapping or destination")

    def tell_received(self, message: Message, mappings: Sequence[str]) -> None:
        """Tell that a message came, and which mappings take it: a line for each, or one without a mapping where none does."""
        for name in mappings or (None,):
            self.tell("received", mapping=name, topic=message.topic, retained=message.retained or None)

    def tell_outcome(self, letter: Letter, outcome: Outcome) -> None:
        """Tell what an attempt came to."""
        kind = "command" if letter.lane is Lane.MQTT else "event"
        is_delivered = outcome.verdict is Verdict.DELIVERED
        more = {
            kind: letter.id,
            "attempt": letter.attempts + 1,
            "status": None if outcome.reply is None else outcome.reply.status,
            "took_s": None if outcome.reply is None else round(outcome.reply.took_s, 3),
            "next_s": round(outcome.delay_s, 1) if outcome.verdict is Verdict.RETRY else None,
            "reason": None if is_delivered else outcome.reason,
        }
        self.tell(str(outcome.verdict), mapping=letter.mapping, destination=letter.destination, **more)

    def watch(self, *, mapping: str | None, destination: str | None) -> AsyncGenerator[bytes, None]:
        """Return what happens from now on, as lines of JSON; the first one is a sign that it has begun. Raises BridgeError where too many watch."""
        if len(self._all) >= MOST:
            raise BridgeError(f"{MOST} watch already: end one of these first")
        return self._seen_by(_Onlooker(mapping, destination))

    async def _seen_by(self, onlooker: _Onlooker) -> AsyncGenerator[bytes, None]:
        self._all.add(onlooker)
        try:
            yield SIGN
            while True:
                try:
                    async with asyncio.timeout(SIGN_S):
                        await onlooker.woken.wait()
                except TimeoutError:
                    yield SIGN
                    continue
                onlooker.woken.clear()
                if unread := b"".join(onlooker.unread):
                    onlooker.unread.clear()
                    yield unread
                if onlooker.last is not None and not onlooker.unread:
                    yield onlooker.last
                    return
        finally:
            self._all.discard(onlooker)

    def close(self) -> None:
        """Let it be over for all, as the program ends."""
        for each in self._all:
            each.end("the daemon ends")


def _line(document: object) -> bytes:
    return json.dumps(document).encode() + b"\n"
