"""The bridge's clock: it goes on steadily, over restarts as well, whatever the machine's is set to meanwhile.

A Pi has no clock of its own: it starts in 1970, or at its last shutdown, and jumps once the network has told it the time.
By the steady clock nothing is late, due or too old because of a jump, and all that is stored bears its time. The machine's
own date is what signatures bear and are judged by, and what people are shown: until that can be right, what is signed
waits, and who signs a time is asked to come again.
"""

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from bridge.outbox.courier import Clock
from bridge.outbox.store import Store
from bridge.rules.calendar import STEP_S, SURELY_PAST, Calendar, Page, beginning, reckoning_of

logger = logging.getLogger(__name__)

NOTE = "clock"
HOLD_S = 120.0  # a Pi on a slow line has the time within a minute; one that has no network goes on without
LOOK_S = 1.0
MOST_UP_S = 20 * 365 * 86_400.0  # of a machine; where more is told, it is a date in disguise, which jumps as dates do
TIMESYNC = Path("/run/systemd/timesync")  # systemd-timesyncd.service(8): a file `synchronized` is in it once the network has told the time
BOOT = Path("/proc/sys/kernel/random/boot_id")  # random(4): another one after each start of the machine


def _uptime_s() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)  # goes on while the machine sleeps: a command gets late in that time too


def _boot() -> str:
    try:
        return BOOT.read_text().strip()
    except OSError:
        return ""


def _is_waited_for() -> bool:
    """Return True while a date that looks right may be that of the last shutdown; False where it was set since, or nobody would say so."""
    return TIMESYNC.exists() and not (TIMESYNC / "synchronized").exists()


class HouseClock:
    """The clock of one run: *noted* is what an earlier run kept of it, *latest* the latest instant that the outbox knows (0 for none)."""

    def __init__(
        self,
        noted: str | None,
        latest: float,
        *,
        date: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        uptime_s: Callable[[], float] = _uptime_s,
        boot: Callable[[], str] = _boot,
    ) -> None:
        self._date, self._monotonic, self._uptime_s = date, monotonic, uptime_s
        up_s = uptime_s()
        kept = reckoning_of(noted) if noted else None
        begun = beginning(kept, latest, boot=boot() if up_s < MOST_UP_S else "", uptime_s=up_s, date=date())
        self._base_s, self._floor, self._reckoning = begun.at - up_s, begun.floor, begun.reckoning
        self._wrong_since = None if begun.is_right else monotonic()
        self._ahead_s = date() - begun.at
        self.clock = Clock(monotonic=monotonic, wall=self.wall, date=date, chance=random.random, date_of=lambda at: self.calendar().date_of(at), missed_s=self.missed_s)

    @classmethod
    def of(cls, store: Store) -> Self:
        """Return the clock by which *store* is told the time."""
        return cls(store.note(NOTE), store.latest_instant())

    def wall(self) -> float:
        """Return the steady time, in seconds."""
        return self._base_s + self._uptime_s()

    def is_set(self) -> bool:
        """Return True if the machine's date can be right, or has had its time to become so; False if it surely is wrong."""
        if self._is_right():
            self._wrong_since = None
            return True
        if self._wrong_since is None:
            self._wrong_since = self._monotonic()
        return self._monotonic() - self._wrong_since >= HOLD_S

    def calendar(self) -> Calendar:
        """Return which date each instant was; while the date surely is wrong, in terms of that, so that what is shown has its right age."""
        last = Page(self._reckoning.calendar.pages[-1].since, self._look())
        return Calendar((*self._reckoning.calendar.pages[:-1], last)) if self.is_set() else Calendar((last,))

    def missed_s(self, at: float) -> float:
        """Return the seconds since the instant *at* that the steady time doesn't know of: the machine was off. Infinite where nobody can tell."""
        if at >= self._reckoning.began:
            return 0.0
        then_s = self._reckoning.calendar.page_of(at).ahead_s
        return math.inf if then_s is None or not self._is_right() or _is_waited_for() else max(self._look() - then_s, 0.0)

    def note(self) -> str:
        """Return what has to be kept of it over restarts."""
        ahead_s, before = self._look(), self._reckoning
        calendar = before.calendar.corrected(ahead_s) if self._is_right() else before.calendar  # what surely is wrong tells nothing about what was
        had_its_time = self._date() >= SURELY_PAST and self.is_set()
        self._reckoning = replace(before, uptime_s=self._uptime_s(), at=self.wall(), mark=self._date() if had_its_time else before.mark, calendar=calendar)
        return self._reckoning.text()

    async def run(self, allow: Callable[[], None], keep: Callable[[str], None]) -> None:
        """Call *allow* once the date can be right; then tell of each jump that it makes, and have noted what it says, for ever."""
        if not self.is_set():
            logger.warning("the clock of this machine is not set date=%s; webhooks wait for it, %.0f s at most", _written(self._date()), HOLD_S)
        while not self.is_set():  # noqa: ASYNC110 - the kernel tells nobody that its date was set
            await asyncio.sleep(LOOK_S)
        if not self._is_right():
            logger.warning("the clock of this machine is still not set date=%s: receivers may refuse what is signed with it", _written(self._date()))
        allow()
        told_s = self._look()
        keep(self.note())
        while True:
            await asyncio.sleep(LOOK_S)
            self.is_set()  # from when on it is not is counted from the look that saw it
            if (ahead_s := self._look()) != told_s:
                logger.warning("the clock of this machine was set by_s=%+.0f; nothing is late or due because of that", ahead_s - told_s)
                told_s = ahead_s
                keep(self.note())

    def _is_right(self) -> bool:
        return self._date() >= self._floor - STEP_S

    def _look(self) -> float:
        """Return by how many seconds the date is ahead of the steady time: the same for as long as it makes no jump."""
        ahead_s = self._date() - self.wall()
        if abs(ahead_s - self._ahead_s) > STEP_S:
            self._ahead_s = ahead_s
        return self._ahead_s


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
