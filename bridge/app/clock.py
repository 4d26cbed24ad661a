"""The bridge's clock: it goes on steadily from its start, whatever the machine's is set to meanwhile.

A Pi has no clock of its own: it starts in 1970, or at its last shutdown, and jumps once the network has told it the time.
By the steady clock nothing is late, due or too old because of a jump. The machine's own date is what signatures bear and
are judged by: until that can be right, what is signed waits, and who signs a time is asked to come again.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

from bridge.outbox.courier import Clock

logger = logging.getLogger(__name__)

SURELY_PAST = 1_735_689_600.0  # 2025-01-01: a clock that says less was never set
PLAUSIBLE_S = 86_400.0  # what the outbox remembers may be so far ahead; more was a wrong clock's doing, and counts no more
HOLD_S = 120.0  # a Pi on a slow line has the time within a minute; one that has no network goes on without
LOOK_S = 1.0
STEP_S = 2.0  # NTP slews what is less than half a second; a jump beyond this is told


class HouseClock:
    """The clock of one run, which began not before *mark*: the latest instant that the outbox knows (unix seconds, 0 for none)."""

    def __init__(self, mark: float, *, date: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._date, self._monotonic = date, monotonic
        now = date()
        self._floor = max(SURELY_PAST, mark if now < SURELY_PAST or mark - now < PLAUSIBLE_S else 0.0)
        self._began, self._base = monotonic(), max(now, self._floor)
        self.clock = Clock(monotonic=monotonic, wall=self._steady, date=date, chance=random.random)

    def is_set(self) -> bool:
        """Return True if the machine's date can be right, or has had its time to become so; False if it surely is wrong."""
        return self._date() >= self._floor - STEP_S or self._monotonic() - self._began >= HOLD_S

    async def run(self, allow: Callable[[], None]) -> None:
        """Call *allow* once the date can be right; then tell of each jump that it makes, for ever."""
        if not self.is_set():
            logger.warning("the clock of this machine is not set date=%s; webhooks wait for it, %.0f s at most", _written(self._date()), HOLD_S)
        while not self.is_set():  # noqa: ASYNC110 - the kernel tells nobody that its date was set
            await asyncio.sleep(LOOK_S)
        if self._date() < self._floor - STEP_S:
            logger.warning("the clock of this machine is still not set date=%s: receivers may refuse what is signed with it", _written(self._date()))
        allow()
        ahead_s = self._date() - self._steady()
        while True:
            await asyncio.sleep(10 * LOOK_S)
            now_s = self._date() - self._steady()
            if abs(now_s - ahead_s) > STEP_S:
                logger.warning("the clock of this machine was set by_s=%+.0f; nothing is late or due because of that", now_s - ahead_s)
                ahead_s = now_s

    def _steady(self) -> float:
        return self._base + (self._monotonic() - self._began)


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
