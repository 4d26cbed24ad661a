"""The courier of one destination: takes what may go, sends it, has the answer judged, records the outcome.

Only it repeats. `send` sends once and returns a Reply, `judge` is a pure rule; whatever else is raised on the
way is a poison event's doing, and ends with that event, not with the courier.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from bridge.errors import RenderError
from bridge.model import Lane, Letter, Outcome, Priority, Reply, Verdict
from bridge.outbox.outbox import Outbox
from bridge.outbox.window import LETTERS, Fetch, Window
from bridge.rules import pacing
from bridge.rules.pacing import Breaker, Pace

logger = logging.getLogger(__name__)

CLOCK_SLACK_S = 2.0  # what a clock may be set back without casting doubt on a command's age
AHEAD = 3  # times what may be under way: in memory, so that a landing is followed by a start, not by a look at the disk
DRAIN_S = 3.0  # how long what is in flight may take when the program ends; the rest is sent again later


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """Where time and chance come from: monotonic seconds, unix seconds, and a number in [0, 1).

    `wall` goes on steadily, over restarts as well: what is late, due or old is told by it. `date` is what the machine's
    clock says now, wherever that has jumped to: signatures bear it. `date_of` is which date an instant of `wall` was, for
    people; `missed_s` how long the machine was off since that instant without `wall` knowing, infinite if nobody can tell.
    """

    monotonic: Callable[[], float]
    wall: Callable[[], float]
    date: Callable[[], float]
    chance: Callable[[], float]
    date_of: Callable[[float], float] = lambda at: at
    missed_s: Callable[[float], float] = lambda _: 0.0


Send = Callable[[Letter], Awaitable[Reply]]


class Judge(Protocol):
    """What tells the meaning of an answer, at *now* (unix seconds) and by the chance *u*; *probe*: it is a breaker's, whose failure spends no attempt."""

    def __call__(self, letter: Letter, reply: Reply, now: float, u: float, /, *, probe: bool) -> Outcome: ...


class Courier:
    """Carries one destination's letters, several at a time, in order for each key."""

    def __init__(self, lane: Lane, destination: str, *, outbox: Outbox, clock: Clock, send: Send, judge: Judge, pace: Pace) -> None:
        self.lane, self.destination = lane, destination
        self._outbox, self._clock, self._send, self._judge = outbox, clock, send, judge
        self._pace = pace
        self._bucket = pacing.full_bucket(pace.rate, clock.monotonic()) if pace.rate is not None else None
        self.breaker = Breaker()
        backlog = outbox.register(lane, destination, self)
        letters = max(LETTERS, AHEAD * pace.concurrency)
        self._windows = {priority: Window(backlog=backlog, letters=letters) for priority in Priority}  # the high one first
        self._wake = asyncio.Event()
        self._flights: set[asyncio.Task[None]] = set()
        self.paused_until = 0.0  # as the receiver asked, in monotonic seconds
        self._ready = True
        self._stopping = False
        self.failures = 0
        self.delivered_at: float | None = None
        self.disabled: str | None = None
        self.broken: str | None = None  # what its breaker opened for
        self.halted = False  # by a person
        self.on_change: Callable[[Courier], None] = lambda _: None  # what holds it back is another, or nothing
        self.follow: Callable[[Letter, Reply], Awaitable[None]] | None = None  # what a delivery leads to, before it is recorded

    def adopt(self, *, send: Send, judge: Judge, pace: Pace) -> None:
        """Send, judge and pace so from now on."""
        if pace.rate != self._pace.rate:
            self._bucket = pacing.full_bucket(pace.rate, self._clock.monotonic()) if pace.rate is not None else None
        self._send, self._judge, self._pace = send, judge, pace
        self._wake.set()

    # --- as the outbox sees it ---

    @property
    def troubled(self) -> bool:
        """Return True while its destination fails or is held back, False while all is well."""
        return self.failures > 0 or not self._is_open_for_business()

    def offer(self, letter: Letter) -> bool:
        """Take a new letter into memory and return True, or leave it to the disk and return False."""
        self._wake.set()
        return self._windows[letter.priority].offer(letter)

    def holds(self, seq: int) -> bool:
        """Return True if that letter is in memory here, False if not."""
        return any(window.holds(seq) for window in self._windows.values())

    def discard(self, numbers: set[int]) -> set[int]:
        """Forget letters that a person dropped, but for those in flight; return the latter."""
        return set[int]().union(*(window.discard(numbers) for window in self._windows.values()))

    def withdraw(self, letter: Letter, seq: int) -> bool:
        """Forget the letter of that number, of the same key and priority as *letter*; return False if it is in flight."""
        return self._windows[letter.priority].withdraw(letter.key, seq)

    def look_again(self) -> None:
        """Look at the disk again, and let everything be due now; resume if the destination was disabled, but not if it is paused."""
        for window in self._windows.values():
            window.wake_all()
            window.rescan()
        if not self.halted:  # a person's word against a person's
            self.resume()

    # --- as people and the program see it ---

    def resume(self) -> None:
        """Send again, whatever held it back: one request at first, and then more and more."""
        was_held = self.disabled is not None or self.halted or self.breaker.is_open
        was_paused = self.paused_until > self._clock.monotonic()
        self.disabled, self.halted, self.paused_until = None, False, 0.0
        if was_held:
            self.breaker, self.broken = Breaker(back_at=self._clock.monotonic()), None
        if was_held or was_paused:
            for window in self._windows.values():
                window.wake_all()
            logger.info("resumed destination=%s", self.destination)
            self.on_change(self)
        self._wake.set()

    def halt(self) -> None:
        """Send nothing until `resume`; what comes waits."""
        if not self.halted:
            self.halted = True
            logger.info("paused destination=%s; its events wait until `mqtthook resume %s`", self.destination, self.destination)
            self.on_change(self)

    def _is_open_for_business(self) -> bool:
        return self._ready and self.disabled is None and not self.halted

    def allow(self, *, ready: bool) -> None:
        """Hold everything back while the way to the destination is not *ready*."""
        self._ready = ready
        self._wake.set()

    def stop(self) -> None:
        """Start nothing more; `run` returns once what is in flight has come back, or after DRAIN_S."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Carry letters until `stop`."""
        async with asyncio.TaskGroup() as tasks:
            while not self._stopping:
                self._wake.clear()
                self._start(tasks)
                await self._wait_until(self._next_at())
            await self._drain()

    # --- the round ---

    def _start(self, tasks: asyncio.TaskGroup) -> None:
        now = self._clock.monotonic()
        if self._is_open_for_business() and now >= self.paused_until:
            while self._room(now) > 0 and self._has_token(now) and (letter := self._next(now)) is not None:
                if self._has_expired(letter):
                    self._conclude(letter, Outcome(verdict=Verdict.EXPIRED, reason="it expired before it could be sent"))
                else:
                    self._take_token()
                    self._fly(tasks, self._carry(letter, probe=self.breaker.is_open), letter.id)
        for priority, window in self._windows.items():
            if (fetch := window.wish()) is not None:
                tasks.create_task(self._fetch(priority, fetch), name=f"fetch for {self.destination}")

    def _room(self, now: float) -> int:
        return pacing.room(self.breaker, concurrency=self._pace.concurrency, in_flight=len(self._flights), now=now)

    def _has_token(self, now: float) -> bool:
        if self._bucket is None or self._pace.rate is None:
            return True
        self._bucket = pacing.refilled(self._bucket, self._pace.rate, now)
        return pacing.token_at(self._bucket, self._pace.rate) <= now

    def _take_token(self) -> None:
        if self._bucket is not None:
            self._bucket = replace(self._bucket, tokens=self._bucket.tokens - 1)

    def _next(self, now: float) -> Letter | None:
        letter = next((letter for window in self._windows.values() if (letter := window.next(now)) is not None), None)
        if letter is None and self.breaker.is_open:  # half open, as there is room: it doesn't wait until anything is due
            any(window.wake_first() for window in self._windows.values())
        return letter

    def _fly(self, tasks: asyncio.TaskGroup, carrying: Coroutine[None, None, None], id: str) -> None:
        flight = tasks.create_task(carrying, name=f"letter {id}")
        self._flights.add(flight)
        flight.add_done_callback(self._landed)

    def _landed(self, flight: asyncio.Task[None]) -> None:
        self._flights.discard(flight)
        self._wake.set()

    async def _fetch(self, priority: Priority, fetch: Fetch) -> None:
        letters, exhausted = await self._outbox.fetch((self.lane, self.destination, priority), fetch)
        self._windows[priority].fetched(fetch, letters, exhausted=exhausted, now=self._clock.monotonic(), wall=self._clock.wall())
        self._wake.set()

    async def _carry(self, letter: Letter, *, probe: bool) -> None:
        send, judge = self._send, self._judge  # of one time: what comes back is judged by what it was sent as
        try:
            reply = await send(letter)
            outcome = judge(letter, reply, self._clock.wall(), self._clock.chance(), probe=probe)
            if self.follow is not None and outcome.verdict is Verdict.DELIVERED:
                await self.follow(letter, reply)
        except RenderError as exc:
            outcome = Outcome(verdict=Verdict.DEAD, reason=str(exc))
        except Exception as exc:  # a poison event must end itself, not its courier
            logger.exception("poison letter=%s destination=%s", letter.id, letter.destination)
            outcome = Outcome(verdict=Verdict.DEAD, reason=f"{type(exc).__name__} while it was sent")
        self._conclude(letter, outcome)

    def _conclude(self, letter: Letter, outcome: Outcome) -> None:
        if not outcome.spends:
            outcome = replace(outcome, delay_s=max((letter.due_at or 0.0) - self._clock.wall(), 0.0))
        self._outbox.record(letter, outcome)
        now = self._clock.monotonic()
        if outcome.verdict is Verdict.RETRY:
            self._windows[letter.priority].rest(letter, now + outcome.delay_s)
        else:
            self._windows[letter.priority].done(letter)
        self._tell(letter, outcome)
        if not outcome.elsewhere:
            self._hold_back(outcome, now)
            self._trip(outcome, now)

    def _hold_back(self, outcome: Outcome, now: float) -> None:
        if outcome.pause_s is not None and now + outcome.pause_s > self.paused_until:
            self.paused_until = now + outcome.pause_s
            self.on_change(self)
        if outcome.disable and self.disabled is None:
            self.disabled = outcome.reason
            logger.error("disabled destination=%s reason=%r; its events wait until `mqtthook resume %s`", self.destination, self.disabled, self.destination)
            self.on_change(self)

    def _trip(self, outcome: Outcome, now: float) -> None:
        """Let the breaker have its say on an answer, or the lack of one."""
        rule, before = self._pace.breaker, self.breaker
        if rule is None or outcome.reply is None:
            return
        if outcome.alive:
            self.breaker = pacing.succeeded(before, now=now)
        else:
            self.breaker = pacing.failed(before, rule, now=now, u=self._clock.chance(), span_s=self._pace.span_s)
        if before.is_open and not self.breaker.is_open:
            logger.info("breaker closed destination=%s; all of it is sent to again within %.0f s", self.destination, pacing.RAMP_S)
            self.broken = None
            for window in self._windows.values():
                window.wake_all()
            self.on_change(self)
        if not before.is_open and self.breaker.is_open:
            logger.warning("breaker open destination=%s failures=%d pause_s=%.0f reason=%r", self.destination, self.breaker.failures, rule.pause, outcome.reason)
            self.broken = outcome.reason
            self.on_change(self)

    def _tell(self, letter: Letter, outcome: Outcome) -> None:
        """Write one line for an outcome; for a failure that goes on, when it begins and then at each power of two."""
        kind = "command" if letter.lane is Lane.MQTT else "event"
        what = (kind, letter.id, letter.mapping, letter.destination, letter.attempts + 1)
        took_s = outcome.reply.took_s if outcome.reply else 0.0
        if outcome.verdict is Verdict.DELIVERED:
            if self.failures:
                logger.info("recovered destination=%s after_failures=%d", letter.destination, self.failures)
            self.failures, self.delivered_at = 0, self._clock.wall()
            if outcome.reply is not None and outcome.reply.confirmed is False:
                logger.warning("unconfirmed %s=%s mapping=%s destination=%s attempt=%d reason=%r", *what, outcome.reason)
            else:
                logger.info("delivered %s=%s mapping=%s destination=%s attempt=%d took_s=%.3f", *what, took_s)
            return
        if outcome.verdict is Verdict.RETRY:
            self.failures += 1
            if self.failures & (self.failures - 1) == 0:
                logger.warning(
                    "retry %s=%s mapping=%s destination=%s attempt=%d next_s=%.1f failures=%d reason=%r", *what, outcome.delay_s, self.failures, outcome.reason
                )
            return
        if not outcome.alive and not outcome.elsewhere:
            self.failures += 1
        logger.warning("%s %s=%s mapping=%s destination=%s attempt=%d reason=%r", outcome.verdict, *what, outcome.reason)

    def _has_expired(self, letter: Letter) -> bool:
        if letter.expires_at is None:
            return False
        now = self._clock.wall()
        if letter.lane is not Lane.MQTT:
            return now >= letter.expires_at
        # Where nobody can tell how old a command is: better not on time than late.
        return now + self._clock.missed_s(letter.created_at) >= letter.expires_at or now < letter.created_at - CLOCK_SLACK_S

    def _next_at(self) -> float | None:
        now = self._clock.monotonic()
        if not self._is_open_for_business():
            return None
        if self.paused_until > now:
            return self.paused_until
        if self._room(now) <= 0:
            return pacing.room_at(self.breaker, concurrency=self._pace.concurrency, now=now)
        if self._bucket is not None and self._pace.rate is not None and not self._has_token(now):
            return pacing.token_at(self._bucket, self._pace.rate)
        return self._rest_at()

    def _rest_at(self) -> float | None:
        return min((at for window in self._windows.values() if (at := window.next_at()) is not None), default=None)

    async def _wait_until(self, at: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(None if at is None else max(at - self._clock.monotonic(), 0.0)):
                await self._wake.wait()

    async def _drain(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                while self._flights:
                    self._wake.clear()
                    await self._wake.wait()
        for flight in self._flights:
            flight.cancel()
