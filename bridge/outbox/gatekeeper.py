"""The gatekeeper: lets events through their mapping's gates, holds what they hold back, and wakes when one is due.

What a gate decides is the business of `rules.gates`; here is only when it is asked. Held letters are in the outbox's
pen, what gates remember in its memories; a debounced key, a batch or a silent key is no more than a timer here.
"""

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import count

from bridge.model import Event, Headers, Letter, Message, State
from bridge.outbox.courier import Clock
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import Receipt, no_receipt
from bridge.rules import gates
from bridge.rules.bodies import batched, joint_of
from bridge.rules.events import KEY, Place, Weighed, expected_keys, fates_of, letter_of, silence_of, weighed
from bridge.rules.outbound import Outbound, Route, Routes

logger = logging.getLogger(__name__)

HELD_LETTERS, HELD_BYTES = 4_096, 8 << 20  # in the pen at once; past it everything held is let go early

LATE_S = 2.0  # a timer that fires so much later: the bridge itself was stopped, and can't tell what it would have heard
PROMPT_S = 0.5  # a broker that is there answers in milliseconds, over a mobile network in some hundred

BatchKey = tuple[str, str, str, str, Headers]  # mapping, destination, method, URL, headers: all that a request has but its body


@dataclass(slots=True)
class _Debounced:
    """A key that isn't quiet yet: its last letters, one for each destination, and when they go."""

    letters: list[Letter]
    first_at: float
    due_at: float


@dataclass(slots=True)
class _Batch:
    """Letters that will go as one, and when at the latest."""

    letters: list[Letter]
    due_at: float


class Gatekeeper:
    """The gates of every mapping."""

    def __init__(self, outbox: Outbox, routes: Routes, *, clock: Clock, new_id: Callable[[], str], is_there: Callable[[], Awaitable[bool]]) -> None:
        """Let the mappings' gates be those of *routes*.

        *is_there* asks the broker, and returns True once all has come that it had sent before its answer, False if none comes.
        """
        self._outbox, self._routes, self._clock, self._new_id, self._is_there = outbox, routes, clock, new_id, is_there
        self._ahead_s = clock.wall() - clock.monotonic()
        self._debounced: dict[tuple[str, str], _Debounced] = {}
        self._batches: dict[BatchKey, _Batch] = {}
        self._timers: list[tuple[float, int, Callable[[], float | None]]] = []
        self._turns = count()
        self._listened: set[Place] = set()
        self._quiet_places: dict[Place, None] = {}  # whose silence would be due, in order
        self._silence_due = asyncio.Event()
        self._connected_at: float | None = None
        self._wake = asyncio.Event()
        self._early = 0
        for letter in outbox.pen.letters:
            self._resume(letter)

    def now(self) -> float:
        """Return steady unix seconds: the wall clock's at the start, and from then on without a jump."""
        return self._clock.monotonic() + self._ahead_s

    def weighed(self, message: Message, route: Route) -> Weighed:
        """Return what a mapping's conditions and gates say of a message now."""
        return weighed(message, route, now=self.now(), wall=self._clock.date(), recall=self._outbox.memories.of)

    # --- what comes in ---

    def passed(self, found: Weighed, letters: Sequence[Letter], receipt: Receipt) -> None:
        """Take on what a mapping made of a message that its gates let through or hold."""
        rule = found.route.rule
        dead = [letter for letter in letters if letter.state is State.DEAD]
        living = [letter for letter in letters if letter.state is State.WAITING]
        self._outbox.put(dead, receipt)
        if rule.debounce is not None and living:
            self._debounce(found, living, receipt)
        elif rule.batch is not None:
            for letter in living:
                self._gather(rule, self._outbox.hold(letter, receipt))
            self._wake.set()
        else:
            self._outbox.put(living, receipt)

    def learn(self, found: Weighed) -> None:
        """Remember what the gates learnt of a message."""
        for place, memory in found.learnt.items():
            self._outbox.memories.learn(place, memory)
            if found.route.rule.silence is not None and place[1] == KEY:
                self._listen_for(place)
        if found.learnt:
            self._outbox.remember()

    def connected(self, *, on: bool) -> None:
        """Note that the broker is there, or away: only while it is there can a key be silent."""
        self._connected_at = self.now() if on else None
        self._listen_to_all()

    def adopt(self, routes: Routes) -> None:
        """Let the gates be those of *routes* from now on; what no gate holds any more goes at once, before anything newer, the rest when it was to go."""
        self._routes = routes
        for line in [line for line in self._debounced if (rule := self._rule(line[0])) is None or rule.debounce is None]:
            self._quiet(line)
        for key in [key for key in self._batches if (rule := self._rule(key[0])) is None or rule.batch is None]:
            self._close(key)
        self._listened = set()  # with timers of its own; those of the former one end by themselves
        self._listen_to_all()

    def _rule(self, mapping: str) -> Outbound | None:
        route = self._routes.named(mapping)
        return None if route is None else route.rule

    def _listen_to_all(self) -> None:
        for route in self._routes.all if self._connected_at is not None else ():
            if route.rule.silence is not None:
                self._expect(route)
                for place in self._outbox.memories.of_mapping(route.mapping):
                    self._listen_for(place)

    def _expect(self, route: Route) -> None:
        """Let the keys that the config itself names be silent although they never spoke: a device may be dead already."""
        for key in expected_keys(route.rule):
            place = (route.mapping, KEY, key)
            if self._outbox.memories.look_up(place).heard_at is None:
                nothing = Message(topic=key, payload=b"", received_at=self._clock.date())
                self._outbox.memories.learn(place, gates.heard(self._outbox.memories.look_up(place), nothing, self.now()))
                self._outbox.remember()

    # --- what is due ---

    async def run(self) -> None:
        """Let go of what is due, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._let_go_for_ever(), name="gates in time")
            tasks.create_task(self._report_for_ever(), name="silence")

    async def _let_go_for_ever(self) -> None:
        while True:
            self._wake.clear()
            self._turn()
            at, now = self._next_at(), self._clock.monotonic()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if at is None else max(at - now, 0.0)):
                    await self._wake.wait()
            if at is not None and self._clock.monotonic() - max(at, now) > LATE_S:
                self._hear_anew()

    def _turn(self) -> None:
        while self._timers and self._timers[0][0] <= self.now():
            _, _, timer = heapq.heappop(self._timers)
            self._after(timer(), timer)
        save_at = self._outbox.pen.save_at
        if save_at is not None and save_at <= self._clock.monotonic():
            self._outbox.save_held()
        if len(self._outbox.pen) > HELD_LETTERS or self._outbox.pen.bytes > HELD_BYTES:
            self._let_all_go()

    def _next_at(self) -> float | None:
        due = [] if not self._timers else [self._timers[0][0] - self._ahead_s]
        save_at = self._outbox.pen.save_at
        return min(due if save_at is None else [*due, save_at], default=None)

    def _after(self, at: float | None, timer: Callable[[], float | None]) -> None:
        """Let *timer* be asked at an instant, None for never; it returns when it wants to be asked again."""
        if at is not None:
            heapq.heappush(self._timers, (at, next(self._turns), timer))
            self._wake.set()

    def _let_all_go(self) -> None:
        self._early += 1
        if self._early & (self._early - 1) == 0:
            logger.warning("more is held by debounce and batch than fits in memory held=%d: all of it goes now", len(self._outbox.pen))
        for line in list(self._debounced):
            self._quiet(line)
        for key in list(self._batches):
            self._close(key)

    # --- debounce ---

    def _debounce(self, found: Weighed, letters: Sequence[Letter], receipt: Receipt) -> None:
        rule, line, now = found.route.rule, (found.route.mapping, found.key), self.now()
        before = self._debounced.get(line)
        first_at = now if before is None else before.first_at
        due_at = gates.release_at(rule, first_at=first_at, now=now)
        held = [self._outbox.hold(replace(letter, due_at=due_at), receipt) for letter in letters]
        self._debounced[line] = _Debounced(held, first_at, due_at)
        for letter in before.letters if before is not None else ():
            if self._outbox.pen.holds(letter):
                self._outbox.coalesce(letter)
        if before is None:
            self._after(due_at, lambda: self._quiet_if_due(line))
        self._wake.set()

    def _quiet_if_due(self, line: tuple[str, str]) -> float | None:
        debounced = self._debounced.get(line)
        if debounced is None:
            return None
        if debounced.due_at > self.now():
            return debounced.due_at
        self._quiet(line)
        return None

    def _quiet(self, line: tuple[str, str]) -> None:
        """Let go of what a key said last, unless its mapping cools down."""
        letters = [letter for letter in self._debounced.pop(line).letters if self._outbox.pen.holds(letter)]
        route, place = self._routes.named(line[0]), (line[0], KEY, line[1])
        if route is None:
            self._let_go(letters)
            return
        before = self._outbox.memories.look_up(place)
        memory, refusal = gates.cooled(route.rule, before, self.now())
        if refusal is not None:
            for letter in letters:
                self._outbox.coalesce(letter)
            return
        if memory != before:
            self._outbox.memories.learn(place, memory)
            self._outbox.remember()
        if route.rule.batch is None:
            self._let_go(letters)
        for letter in letters if route.rule.batch is not None else ():
            self._gather(route.rule, letter)

    def _let_go(self, letters: Sequence[Letter]) -> None:
        for letter in letters:
            self._outbox.release([letter], letter)

    # --- batch ---

    def _gather(self, rule: Outbound, letter: Letter) -> None:
        assert rule.batch is not None
        assert isinstance(letter.content, Event)
        event = letter.content
        key = (letter.mapping, letter.destination, event.method, event.url, event.headers)
        batch = self._batches.get(key)
        if batch is None:
            batch = self._batches[key] = _Batch([], self.now() + rule.batch.wait)
            self._after(batch.due_at, lambda: self._close_if_due(key, batch))
        batch.letters.append(letter)
        if len(batch.letters) >= rule.batch.size:
            self._close(key)

    def _close_if_due(self, key: BatchKey, batch: _Batch) -> None:
        if self._batches.get(key) is batch:
            self._close(key)

    def _close(self, key: BatchKey) -> None:
        """Let the letters of a batch go as one."""
        letters = [letter for letter in self._batches.pop(key).letters if self._outbox.pen.holds(letter)]
        route = self._routes.named(key[0])
        joint = None if route is None or route.rule.batch is None else joint_of(route.rule.shape)
        if route is None or joint is None:
            self._let_go(letters)
        elif letters:
            self._outbox.release(letters, self._merged(route.rule, letters, joint))

    def _merged(self, rule: Outbound, letters: Sequence[Letter], joint: str) -> Letter:
        id = self._new_id()
        ends = [letter.expires_at for letter in letters if letter.expires_at is not None]
        return replace(
            letters[0],
            id=id,
            key=letters[0].mapping if rule.order == "key" else id,  # batches of a mapping go in order, and so do their events
            content=batched([letter.content for letter in letters if isinstance(letter.content, Event)], joint=joint),
            expires_at=max(ends, default=None),
            origin=" ".join(letter.origin for letter in letters if letter.origin is not None) or None,
        )

    # --- silence ---

    def _listen_for(self, place: Place) -> None:
        if place not in self._listened and (at := self._silent_at(place)) is not None:
            listened = self._listened
            listened.add(place)
            self._after(at, lambda: self._silent_if_due(place, listened))

    def _silent_at(self, place: Place) -> float | None:
        route = self._routes.named(place[0])
        return None if route is None else gates.silent_at(route.rule, self._outbox.memories.look_up(place), connected_at=self._connected_at)

    def _silent_if_due(self, place: Place, listened: set[Place]) -> float | None:
        if listened is not self._listened:
            return None
        at = self._silent_at(place)
        if at is not None and at > self.now():
            return at
        self._listened.discard(place)
        if at is not None:
            self._quiet_places[place] = None
            self._silence_due.set()
        return None

    async def _report_for_ever(self) -> None:
        while True:
            await self._silence_due.wait()
            await self._report_due()

    async def _report_due(self) -> None:
        """Report the silence that is due, once it is sure that nothing is under way to us: one question for all that is due at once."""
        self._silence_due.clear()
        places, self._quiet_places = self._quiet_places, {}
        if not await self._has_all():
            self._hear_anew()
        for place in places:
            self._report_if_silent(place)

    async def _has_all(self) -> bool:
        """Return True once all has come that the broker had for us, False if it was away.

        One that answers late was stopped, and what devices said meanwhile may lie before it unread: it is asked once more.
        """
        for _ in range(2):
            asked_at = self._clock.monotonic()
            if not await self._is_there():
                return False
            if self._clock.monotonic() - asked_at < PROMPT_S:
                return True
        return False

    def _hear_anew(self) -> None:
        """Let silence begin now: what was said until now may not have reached us."""
        if self._connected_at is not None:
            self._connected_at = self.now()

    def _report_if_silent(self, place: Place) -> None:
        route, at = self._routes.named(place[0]), self._silent_at(place)
        if route is not None and at is not None and at <= self.now():
            self._report_silence(route, place)
        else:
            self._listen_for(place)

    def _report_silence(self, route: Route, place: Place) -> None:
        found = silence_of(route, place[2], self._outbox.memories.look_up(place), now=self.now(), wall=self._clock.date())
        self.learn(found)
        logger.info("silent mapping=%s key=%r silent_for=%s", route.mapping, place[2], found.silent_for)
        letters = [letter_of(fate, created_at=self._clock.wall(), origin=None) for fate in fates_of(found, new_id=self._new_id)]
        self.passed(found, letters, no_receipt())

    # --- what the last run left ---

    def _resume(self, letter: Letter) -> None:
        """Go on holding a letter as the config has it now; what no gate holds any more goes at once."""
        rule = self._rule(letter.mapping)
        if rule is not None and rule.debounce is not None:
            self._resume_debounced(rule, letter)
        elif rule is not None and rule.batch is not None and isinstance(letter.content, Event):
            self._gather(rule, letter)
        else:
            self._after(self.now(), lambda: self._let_go([letter]))

    def _resume_debounced(self, rule: Outbound, letter: Letter) -> None:
        line, now = (letter.mapping, letter.key), self.now()
        debounced = self._debounced.get(line)
        if debounced is not None:
            for older in [one for one in debounced.letters if one.destination == letter.destination]:
                debounced.letters.remove(older)
                self._outbox.coalesce(older)  # the last run ended before this was written
            debounced.letters.append(letter)
            return
        due_at = min(letter.due_at or now, now + (rule.debounce or 0.0))
        self._debounced[line] = _Debounced([letter], now, due_at)
        self._after(due_at, lambda: self._quiet_if_due(line))
