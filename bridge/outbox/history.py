"""The history: every attempt, kept for a while, for a person who asks what became of an event.

It is gathered in memory and written at most once a minute, so that a healthy house's SD card hardly notices. In that
minute so many attempts are kept one by one; past it they are counted, so that a flood of events is no flood of writes.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from bridge.model import Letter, Outcome, Verdict
from bridge.outbox.rows import storable

WRITE_S = 60.0  # promise 6: at most once a minute
KEPT = 1_000  # attempts of one such minute, some 200 bytes each; ten a second with room to spare
EXCERPT = 512  # characters of an answer; where it says why, it says so at the start


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try, and what came of it.

    `number` is 1 or more; 0 stands for `count` attempts that were only counted, and have no event of their own.
    `received_at` is when the event came in.
    """

    event: str
    mapping: str
    destination: str
    at: float
    received_at: float
    number: int
    verdict: Verdict
    status: int | None
    took_ms: float
    reason: str
    answer: str
    count: int = 1

    def document(self) -> dict[str, Any]:
        """Return it for JSON, and for the file."""
        return asdict(self) | {"reason": storable(self.reason), "answer": storable(self.answer)}


class History:
    """What was tried since it was written last."""

    def __init__(self) -> None:
        self._attempts: list[Attempt] = []
        self._counted: dict[tuple[str, str, Verdict], int] = {}
        self._counted_at = 0.0
        self._written_at = -WRITE_S

    def note(self, letter: Letter, outcome: Outcome, *, at: float) -> None:
        """Take in what an attempt at *at* (unix seconds) came to."""
        if len(self._attempts) >= KEPT:
            place = (letter.mapping, letter.destination, outcome.verdict)
            self._counted[place] = self._counted.get(place, 0) + 1
            self._counted_at = at
            return
        reply = outcome.reply
        self._attempts.append(
            Attempt(
                event=letter.id,
                mapping=letter.mapping,
                destination=letter.destination,
                at=at,
                received_at=letter.created_at,
                number=letter.attempts + 1,
                verdict=outcome.verdict,
                status=None if reply is None else reply.status,
                took_ms=round(reply.took_s * 1000, 1) if reply is not None else 0.0,
                reason=outcome.reason,
                answer=reply.body.decode("utf-8", "replace")[:EXCERPT] if reply is not None else "",
            )
        )

    @property
    def due_at(self) -> float | None:
        """Return when it is to be written, in monotonic seconds: a minute after the last time, or None if there is nothing to write."""
        return self._written_at + WRITE_S if self._attempts or self._counted else None

    def is_due(self, now: float) -> bool:
        """Return True if it is to be written now, False if not yet or if there is nothing to write; *now* is monotonic."""
        return self.due_at is not None and self.due_at <= now

    def hurry(self) -> None:
        """Let it be due at once: a person asks, or the program ends."""
        self._written_at = -math.inf

    def take(self, now: float) -> list[Attempt]:
        """Return what isn't written yet, and consider it written."""
        counted = [
            Attempt(
                event="", mapping=mapping, destination=destination, at=self._counted_at, received_at=self._counted_at, number=0, verdict=verdict,
                status=None, took_ms=0.0, reason=f"and {count} more", answer="", count=count,
            )
            for (mapping, destination, verdict), count in self._counted.items()
        ]  # fmt: skip
        taken, self._attempts, self._counted, self._written_at = self._attempts + counted, [], {}, now
        return taken

    def put_back(self, attempts: list[Attempt]) -> None:
        """Consider attempts unwritten again, after a commit failed; past the bound they are only counted."""
        back = attempts + self._attempts
        single = [attempt for attempt in back if attempt.number]
        self._attempts = single[:KEPT]
        for attempt in (*single[KEPT:], *(attempt for attempt in back if not attempt.number)):
            place = (attempt.mapping, attempt.destination, attempt.verdict)
            self._counted[place] = self._counted.get(place, 0) + attempt.count
            self._counted_at = attempt.at


def attempt_of(row: Mapping[str, Any]) -> Attempt:
    """Return the attempt that a row of the file holds."""
    return Attempt(**dict(row) | {"verdict": Verdict(row["verdict"])})
