"""The courier: what it sends and when, over a real outbox file, in a time that nobody has to wait for.

A destination in small: the courier, its outbox and store, and a receiver that answers as the test says. The loop's time
stands still while anything can be done, and then skips to the next thing that is due; a loop that spins is caught.
"""

import asyncio
import inspect
import itertools
import logging
import math
import selectors
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, TypeVarTuple, Unpack

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.model import Command, Event, Lane, Letter, Outcome, Priority, Reply, State, Verdict
from bridge.outbox.courier import DRAIN_S, Clock, Courier
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import Receipt
from bridge.outbox.selection import Past, Selection
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Store
from bridge.rules.bodies import LIST, batched
from bridge.rules.expressions import Expression
from bridge.rules.pacing import BreakerRule, Pace
from bridge.rules.retry import Judging, RetryPolicy, judge, judge_publish

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START_S = 1_000.0
EPOCH_S = 1_764_000_000.0  # the wall's clock is so far ahead of the loop's
WAKE_S = 1e-6  # how late a loop wakes at best
TURNS = 3_000  # of the loop at one instant: what needs more spins

WHOLE_RAMP_S = 10.0  # the product: full within 10 s after an outage


class Skipping(selectors.SelectSelector):
    """Waits for nothing but the store's thread: where a loop would sleep, its time skips ahead."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s, self.at_work, self.turns, self.still, self.most_still = START_S, 0, 0, 0, TURNS

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.turns, self.still = self.turns + 1, self.still + 1
        if self.still >= self.most_still:
            self.still = -TURNS  # for all that has to be cleared away
            raise AssertionError(f"the loop spins, {self.now_s - START_S:.6f} s after the start")
        if self.at_work:
            return super().select(0 if timeout is not None and timeout <= 0 else None)
        assert timeout is not None, "everybody waits for ever"
        found = super().select(0)
        if not found and timeout > 0:
            self.now_s, self.still = self.now_s + timeout + WAKE_S, 0
        return found


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose time is not the world's."""

    def __init__(self) -> None:
        self.skipping = Skipping()
        super().__init__(self.skipping)

    def time(self) -> float:
        return self.skipping.now_s

    def run_in_executor(self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self.skipping.at_work += 1
        future.add_done_callback(self._worked)
        return future

    def _worked(self, _future: asyncio.Future[Any]) -> None:
        self.skipping.at_work -= 1


class Receiver:
    """The other side: answers as it is told, after as long as it is told, and remembers who asked when."""

    def __init__(self) -> None:
        self.requests: list[tuple[float, Letter]] = []
        self.under_way: dict[str, int] = {}
        self.most = 0
        self.answer: Callable[[Letter], Reply] = lambda letter: Reply(status=200)
        self.takes: Callable[[Letter], float] = lambda letter: 0.01
        self.at_start: Callable[[Letter], None] = lambda letter: None

    async def send(self, letter: Letter) -> Reply:
        self.at_start(letter)
        self.requests.append((now(), letter))
        assert letter.key not in self.under_way, "two of one key at once"
        self.under_way[letter.key] = letter.seq
        self.most = max(self.most, len(self.under_way))
        try:
            await asyncio.sleep(self.takes(letter))
            return self.answer(letter)
        finally:
            del self.under_way[letter.key]

    def says(self, status: int | None, body: bytes = b"", **headers: str) -> None:
        """Answer everything so from now on; None: with nothing at all."""
        written = {name.replace("_", "-"): value for name, value in headers.items()}
        reply = Reply(error="connect", detail="refused") if status is None else Reply(status=status, headers=written, body=body)
        self.answer = lambda letter: reply

    def takes_s(self, seconds: float) -> None:
        self.takes = lambda letter: seconds

    @property
    def ids(self) -> list[str]:
        return [letter.id for _, letter in self.requests]

    @property
    def times(self) -> list[float]:
        return [at for at, _ in self.requests]


def skipping() -> Skipping:
    """Return what the loop's time is made of."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return loop.skipping


def now() -> float:
    """Return the seconds since the start."""
    return skipping().now_s - START_S


def letter(n: int, key: str | None = None, *, destination: str = "crm", **more: Any) -> Letter:
    event = Event(method="POST", url="http://crm/", headers=(), body=b"{}")
    base = Letter(id=f"evt_{n}", lane=Lane.WEBHOOK, mapping="hall", destination=destination, key=key or f"k{n}", content=event, created_at=0.0)
    return replace(base, **more)


class House:
    """An outbox over a file, and its couriers with their receivers."""

    def __init__(self, place: Path, *, backlog: list[Letter] | None = None) -> None:
        self.wall_ahead_s, self.chance, self.letters = EPOCH_S, 0.0, 0
        self.store = Store.open(place / "outbox.db", max_size=64 << 20)
        stored = {one.seq: replace(one, created_at=self.wall()) for one in backlog or []}
        counts = {"hall": {"in": len(stored)}} if stored else {}
        self.store.write(Changes(letters=stored, counts=counts))
        self.clock = Clock(monotonic=lambda: now() + START_S, wall=self.wall, date=self.wall, chance=lambda: self.chance)
        self.outbox = Outbox(self.store, StoreSettings(), monotonic=self.clock.monotonic, wall=self.clock.wall)
        self.couriers: dict[str, Courier] = {}
        self.receivers: dict[str, Receiver] = {}
        self.tasks: list[asyncio.Task[None]] = []
        self.changes: list[tuple[str, bool, bool, bool]] = []

    def wall(self) -> float:
        return now() + self.wall_ahead_s

    def opens(
        self, name: str = "crm", *, retry: dict[str, Any] | None = None, success: str | None = None, retry_after: str | None = None, breaker: dict[str, Any] | None = None, concurrency: int = 8,
        rate: float | None = None, lane: Lane = Lane.WEBHOOK, is_breaking: bool = True,
    ) -> tuple[Courier, Receiver]:  # fmt: skip
        """Open a destination, with the product's defaults where nothing else is said."""
        by = Judging(policy=RetryPolicy.model_validate(retry or {}), success=Expression.parse(success) if success else None, retry_after=Expression.parse(retry_after) if retry_after else None)

        def judged(letter: Letter, reply: Reply, wall: float, u: float, *, probe: bool) -> Outcome:
            if lane is Lane.MQTT:
                return judge_publish(reply)
            return judge(reply, by, attempt=letter.attempts + 1, age_s=max(wall - letter.created_at, 0.0), now=wall, u=u, probe=probe)

        receiver = self.receivers[name] = Receiver()
        pace = Pace(concurrency=concurrency, rate=rate, breaker=BreakerRule.model_validate(breaker or {}) if is_breaking else None)
        courier = self.couriers[name] = Courier(lane, name, outbox=self.outbox, clock=self.clock, send=receiver.send, judge=judged, pace=pace)
        courier.on_change = lambda changed: self.changes.append((changed.destination, changed.disabled is not None, changed.halted, changed.breaker.is_open))
        self.tasks.append(asyncio.create_task(courier.run()))
        return courier, receiver

    def put(self, count: int = 1, key: str | None = None, *, expires_s: float | None = None, **more: Any) -> None:
        """Let so many letters come in, each of a key of its own if none is said."""
        expires_at = None if expires_s is None else self.wall() + expires_s
        for _ in range(count):
            self.letters += 1
            receipt = Receipt(lambda: None)
            self.outbox.put([letter(self.letters, key, **({"created_at": self.wall(), "expires_at": expires_at} | more))], receipt)
            receipt.settle()

    async def passes(self, seconds: float) -> None:
        """Let so much time pass, and a moment more, for what is due then to be done."""
        await asyncio.sleep(seconds + 0.001)

    async def stored(self, **wanted: Any) -> list[Letter]:
        return await self.outbox.handling.select(Selection(**wanted))

    def ended(self, result: str) -> int:
        return self.outbox.accounts.ledger.counts().get("hall", {}).get(result, 0)

    @property
    def waiting(self) -> int:
        return self.outbox.accounts.ledger.waiting().get("hall", 0)


Life = Callable[[House], Awaitable[None]]


def live(place: Path, life: Life, *, backlog: list[Letter] | None = None) -> None:
    """Let a house live, and end it as the bridge does; nothing in it may have died, and its books have to be right."""

    async def whole() -> None:
        house = House(place, backlog=backlog)
        writer = asyncio.create_task(house.outbox.run())
        try:
            await life(house)
        finally:
            for courier in house.couriers.values():
                courier.stop()
            ended = await asyncio.gather(*house.tasks, return_exceptions=True)
            await house.outbox.flush()
            writer.cancel()
            ended += await asyncio.gather(writer, return_exceptions=True)
            house.outbox.shut()
            house.store.close()
        assert not [exc for exc in ended if not isinstance(exc, asyncio.CancelledError | None)]
        assert house.outbox.accounts.ledger.imbalance() == 0

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(whole())


def lived(life: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Make a test of what happens in a house: it stands in a directory of its own."""

    @wraps(life)
    def test(tmp_path: Path, **more: Any) -> None:
        live(tmp_path, partial(life, **more))

    first, *others = inspect.signature(life).parameters.values()
    test.__signature__ = inspect.Signature([first.replace(name="tmp_path"), *others])  # type: ignore[attr-defined]  # pytest reads it
    return test


# The breaker


@pytest.mark.parametrize("failures", [1, 2, 5])
@pytest.mark.parametrize("status", [503, 404, None])
@lived
async def test_after_exactly_so_many_failures_in_a_row_nothing_more_is_tried_and_no_attempt_is_spent(house: House, failures: int, status: int | None) -> None:
    courier, receiver = house.opens(concurrency=1, breaker={"failures": failures}, retry={"first": "1h"})
    receiver.says(status)
    house.put(20)
    await house.passes(20)
    house.put(20)
    await house.passes(9)
    assert len(receiver.requests) == failures
    assert courier.breaker.is_open
    assert courier.troubled
    assert sorted(found.attempts for found in await house.stored()) == [0] * (40 - failures) + [1] * failures
    assert house.changes == [("crm", False, False, True)], "told once"


@pytest.mark.parametrize("between", [200, 400, 413, 422, 418])
@lived
async def test_an_answer_about_the_event_shows_that_the_endpoint_works_and_keeps_the_breaker_closed(house: House, between: int) -> None:
    courier, receiver = house.opens(concurrency=1, retry={"first": "1h"})
    statuses = iter([503, 503, 503, 503, between] * 10)
    receiver.answer = lambda letter: Reply(status=next(statuses))
    house.put(50)
    await house.passes(5)
    assert len(receiver.requests) == 50
    assert not courier.breaker.is_open
    assert house.changes == []


@lived
async def test_a_2xx_whose_success_is_false_counts_as_a_failure(house: House) -> None:
    _courier, receiver = house.opens(concurrency=1, retry={"first": "1h"}, success="response.json.ok")
    receiver.says(200, b'{"ok": false}')
    house.put(20)
    await house.passes(20)
    assert len(receiver.requests) == 5
    assert all("`success`" in (found.reason or "") for found in await house.stored() if found.attempts)


@lived
async def test_half_open_it_tries_one_and_while_that_fails_one_more_after_each_pause(house: House) -> None:
    _, receiver = house.opens(retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    house.put(100)
    await house.passes(29)
    before = len(receiver.requests)
    assert 5 <= before <= 5 + 8, "those under way when it opened came back by themselves"
    receiver.takes_s(7.0)
    house.chance = 0.5
    await house.passes(200)
    probes = receiver.times[before:]
    assert receiver.most == 8
    assert [later - sooner for sooner, later in itertools.pairwise(probes)] == pytest.approx([7 + 30 * 0.9] * (len(probes) - 1), abs=0.01)
    assert 5 <= len(probes) <= 6
    assert probes[0] == pytest.approx(30, abs=0.1)


@lived
async def test_two_destinations_that_broke_together_are_not_tried_together(house: House) -> None:
    house.clock = replace(house.clock, chance=Random(1).random)
    for name in ("one", "two"):
        _, receiver = house.opens(name, concurrency=1, breaker={"failures": 1}, retry={"schedule": []})
        receiver.says(503)
        house.put(2, destination=name)
    await house.passes(31)
    (_, one), (_, two) = (house.receivers[name].times for name in ("one", "two"))
    assert abs(one - two) > 0.1


@lived
async def test_a_success_closes_it_and_all_that_rested_is_due(house: House) -> None:
    courier, receiver = house.opens(retry={"first": "1h", "max": "1h"})
    receiver.says(503)
    house.put(8)
    await house.passes(29)
    assert len(receiver.requests) == 8
    receiver.says(200)
    await house.passes(2)
    assert not courier.breaker.is_open, "though nothing is due but in an hour"
    assert house.changes[-1] == ("crm", False, False, False)
    await house.passes(WHOLE_RAMP_S)
    assert house.ended("delivered") == 8, "and not in an hour"


@pytest.mark.parametrize("retry", [{"first": "20m"}, {"schedule": ["20m"] * 2}, {"schedule": []}], ids=str)
@lived
async def test_half_open_the_one_that_rests_the_shortest_is_tried_and_spends_no_attempt_by_it(house: House, retry: dict[str, Any]) -> None:
    courier, receiver = house.opens(concurrency=1, breaker={"failures": 2, "pause": "30s"}, retry=retry)
    receiver.says(503)
    house.put(2)
    await house.passes(1)
    house.put(key="k")
    house.put(key="k")
    before = [(found.id, found.attempts, found.due_at) for found in await house.stored(state=State.WAITING)]
    await house.passes(3_000)
    probes = receiver.requests[2:]
    assert 95 <= len(probes) <= 100, "one request each half minute, whatever is due"
    assert [(found.id, found.attempts, found.due_at) for found in await house.stored(state=State.WAITING)] == before
    assert house.changes == [("crm", False, False, True)]
    receiver.says(200)
    await house.passes(31 + WHOLE_RAMP_S)
    assert not courier.breaker.is_open
    assert house.ended("delivered") == len(before)
    assert receiver.ids.index("evt_3") < receiver.ids.index("evt_4")


@lived
async def test_with_a_short_pause_it_is_tried_as_often_though_all_of_it_rests_long(house: House) -> None:
    """Three of a house that is quiet otherwise: the next is due in half a minute, the pause is two seconds."""
    courier, receiver = house.opens(breaker={"failures": 3, "pause": "2s"}, retry={"first": "30s"})
    receiver.says(503)
    house.put(3)
    await house.passes(7)
    assert len(receiver.requests) == 3 + 3
    receiver.says(200)
    await house.passes(2)
    assert not courier.breaker.is_open


@lived
async def test_probes_go_on_after_a_restart_with_what_rests_on_disk(house: House) -> None:
    courier, receiver = house.opens(retry={"first": "1h", "max": "1h"})
    receiver.says(503)
    house.put(8)
    await house.passes(10)
    courier.stop()
    await asyncio.wait(house.tasks)
    again, receiver = house.opens(retry={"first": "1h", "max": "1h"})
    again.breaker = courier.breaker
    await house.passes(19)
    assert receiver.requests == []
    await house.passes(10)
    assert not again.breaker.is_open


@lived
async def test_where_the_receiver_asked_to_be_left_alone_nothing_is_tried_before_that_is_over(house: House) -> None:
    _, receiver = house.opens(concurrency=1, breaker={"failures": 1}, retry={"first": "1h"})
    receiver.says(503, retry_after="600")
    house.put(3)
    await house.passes(599)
    assert len(receiver.requests) == 1
    await house.passes(31)
    assert len(receiver.requests) == 2


@lived
async def test_behind_an_open_breaker_an_event_dies_of_its_age_and_of_nothing_else(house: House) -> None:
    courier, receiver = house.opens(concurrency=1, retry={"for": "1d"})
    receiver.says(503)
    house.put(20)
    await house.passes(86_400 - 1_300)
    assert house.waiting == 20
    assert courier.breaker.is_open
    await house.passes(1_500 + 20 * 31)
    assert house.ended("dead") == 20
    assert max(found.attempts for found in await house.stored()) <= 6


async def way_back(house: House, receiver: Receiver) -> list[int]:
    """Return how many were under way at each half second of the way back, nobody coming back meanwhile."""
    steps = []
    for _ in range(20):
        await house.passes(0.499)
        steps.append(len(receiver.under_way))
    return steps


@lived
async def test_after_an_outage_it_begins_with_one_and_is_at_all_of_them_within_ten_seconds(house: House) -> None:
    """Though none of those that it starts comes back meanwhile: it doesn't wait for them to look again."""

    _, receiver = house.opens(concurrency=16, retry={"schedule": []})
    receiver.says(None)
    house.put(30)
    await house.passes(29)
    house.put(100)
    receiver.says(200)
    receiver.takes = lambda letter: 500.0 if house.ended("delivered") else 0.0
    while not house.ended("delivered"):
        await house.passes(0.01)
    assert len(receiver.under_way) <= 1
    steps = await way_back(house, receiver)
    assert steps == sorted(steps)
    assert steps[0] <= 3
    assert 6 <= steps[8] <= 12, "about half of them after about half the time"
    assert steps[-1] == 16
    await house.passes(400)
    assert receiver.most == 16, "and never more"


@lived
async def test_what_was_under_way_when_it_opened_does_not_prolong_its_pause(house: House) -> None:
    _, receiver = house.opens(retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    receiver.takes = lambda letter: 1.0 if int(letter.id[4:]) <= 5 else 20.0 + int(letter.id[4:]) / 10
    house.put(30)
    await house.passes(40)
    assert len(receiver.requests) == 9
    assert receiver.times[8] == pytest.approx(31, abs=0.01)


@lived
async def test_what_was_under_way_and_fails_after_its_pause_is_waited_for_and_prolongs_it_once(house: House) -> None:
    _, receiver = house.opens(breaker={"pause": "5s"}, retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    receiver.takes = lambda letter: 1.0 if int(letter.id[4:]) <= 5 else 14.0
    house.put(30)
    await house.passes(18.9)
    assert len(receiver.requests) == 8, "half open: one at a time, and these three are not back"
    await house.passes(0.2)
    assert len(receiver.requests) == 9


@lived
async def test_an_answer_of_one_that_was_under_way_closes_it_too(house: House) -> None:
    courier, receiver = house.opens(retry={"first": "1d", "max": "1d"})
    receiver.takes = lambda letter: 1.0 if int(letter.id[4:]) <= 5 else 3.0
    receiver.answer = lambda letter: Reply(status=503 if int(letter.id[4:]) <= 5 else 200)
    house.put(30)
    await house.passes(2)
    assert courier.breaker.is_open
    await house.passes(2)
    assert not courier.breaker.is_open


@lived
async def test_what_expired_while_it_was_open_does_not_use_up_the_probe(house: House) -> None:
    _, receiver = house.opens(concurrency=1, breaker={"failures": 1}, retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    house.put()
    await house.passes(1)
    house.put(5, expires_s=10)
    house.put()
    await house.passes(28)
    assert len(receiver.requests) == 1
    await house.passes(2)
    assert receiver.ids == ["evt_1", "evt_7"]
    assert house.ended("expired") == 5
    assert house.changes == [("crm", False, False, True)]


@lived
async def test_what_can_not_be_sent_at_all_does_not_use_up_the_probe_either(house: House) -> None:
    _, receiver = house.opens(concurrency=1, breaker={"failures": 1}, retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    house.put()
    await house.passes(1)
    house.put(3)

    def unfit(letter: Letter) -> None:
        if letter.id in ("evt_2", "evt_3"):
            raise RenderError("payload.x is missing")

    receiver.at_start = unfit
    await house.passes(30)
    assert receiver.ids == ["evt_1", "evt_4"], "at once, one after the other, until one was really sent"
    assert house.changes == [("crm", False, False, True)], "nor does it say anything about the endpoint"
    assert house.ended("dead") == 2


@lived
async def test_a_destination_without_a_breaker_is_tried_on_the_schedule_only(house: House) -> None:
    _, receiver = house.opens(is_breaking=False, retry={"schedule": ["1m"]})
    receiver.says(503)
    house.put(50)
    await house.passes(59)
    assert len(receiver.requests) == 50
    await house.passes(2)
    assert len(receiver.requests) == 100
    assert house.ended("dead") == 50


# The rate


def exceeded(times: list[float], rate: float) -> float:
    """Return by how many requests the worst stretch of time was over the rate and one second's worth."""
    return max((n - m + 1 - rate * (times[n] - times[m]) - max(rate, 1.0) for n in range(len(times)) for m in range(n + 1)), default=0.0)


@pytest.mark.parametrize(("rate", "at_once"), [(10.0, 10), (1.0, 1), (0.5, 1), (3.5, 3)])
@lived
async def test_a_second_s_worth_goes_at_once_and_the_rest_at_the_rate(house: House, rate: float, at_once: int) -> None:
    _, receiver = house.opens(rate=rate, concurrency=64)
    house.put(40)
    await house.passes(0)
    assert len(receiver.requests) == at_once
    await house.passes((40 - rate) / rate + 0.2)
    assert len(receiver.requests) == 40, "not slower either"
    assert exceeded(receiver.times, rate) < 0.01


@lived
async def test_attempts_after_the_first_count_for_the_rate_as_well(house: House) -> None:
    _, receiver = house.opens(rate=2.0, is_breaking=False, retry={"schedule": ["1s"] * 5})
    receiver.says(503)
    house.put(10)
    await house.passes(60)
    assert len(receiver.requests) == 60
    assert exceeded(receiver.times, 2.0) < 0.01


@lived
async def test_a_rate_saves_nothing_up_while_nothing_comes_or_may_go(house: House) -> None:
    courier, receiver = house.opens(rate=5.0, concurrency=64)
    await house.passes(1_000)
    courier.halt()
    house.put(50)
    await house.passes(1_000)
    courier.resume()
    await house.passes(60)
    assert len(receiver.requests) == 50
    assert exceeded(receiver.times, 5.0) < 0.01


@lived
async def test_what_expired_takes_nothing_of_the_rate(house: House) -> None:
    courier, receiver = house.opens(rate=1.0)
    courier.halt()
    house.put(3, expires_s=1)
    house.put()
    await house.passes(5)
    courier.resume()
    await house.passes(0)
    assert receiver.ids == ["evt_4"]


# Retry-After


@pytest.mark.parametrize("status", [429, 503])
@lived
async def test_retry_after_holds_the_whole_destination_back_and_no_other(house: House, status: int) -> None:
    _, receiver = house.opens(concurrency=1)
    _, other = house.opens("other")
    receiver.says(status, retry_after="120")
    house.put(10)
    await house.passes(1)
    receiver.says(200)
    house.put(10)
    house.put(10, destination="other")
    await house.passes(118)
    assert len(receiver.requests) == 1
    assert len(other.requests) == 10
    await house.passes(10)
    assert len(receiver.requests) == 21
    assert receiver.times[1] == pytest.approx(120, abs=0.1)


@pytest.mark.parametrize(("asked", "pause_s"), [("soon", 0.0), ("-5", 0.0), ("86400", 86_400.0), ("315360000", 86_400.0), ("Sun, 06 Nov 2033 08:49:37 GMT", 86_400.0)])
@lived
async def test_retry_after_is_obeyed_up_to_a_day_and_nonsense_is_not(house: House, asked: str, pause_s: float) -> None:
    _, receiver = house.opens(concurrency=1, retry={"first": "2d", "max": "2d"})
    receiver.says(429, retry_after=asked)
    house.put()
    await house.passes(1)
    receiver.says(200)
    house.put()
    await house.passes(90_000)
    assert receiver.times[1] == pytest.approx(max(pause_s, 1), abs=0.1)


@lived
async def test_a_wait_that_the_body_tells_of_holds_it_back_too(house: House) -> None:
    _, receiver = house.opens(concurrency=1, success="response.json.ok", retry_after="response.json.wait")
    receiver.says(200, b'{"ok": false, "wait": "300"}')
    house.put(10)
    await house.passes(299)
    assert len(receiver.requests) == 1
    receiver.says(200, b'{"ok": true}')
    await house.passes(10)
    assert house.ended("delivered") == 10


@lived
async def test_the_longer_of_two_waits_counts_whichever_comes_last(house: House) -> None:
    _, receiver = house.opens(concurrency=2, is_breaking=False)
    receiver.takes = lambda letter: float(letter.id[4:])
    receiver.answer = lambda letter: Reply(status=429, headers={"retry-after": "100" if letter.id == "evt_1" else "10"})
    house.put(3)
    await house.passes(90)
    assert len(receiver.requests) == 2
    await house.passes(12)
    assert len(receiver.requests) > 2


# Paused, disabled, resumed


@lived
async def test_while_it_is_paused_nothing_is_sent_and_nothing_is_lost(house: House) -> None:
    courier, receiver = house.opens()
    receiver.takes_s(5)
    house.put()
    await house.passes(1)
    courier.halt()
    assert house.changes == [("crm", False, True, False)]
    assert courier.troubled
    house.put(300)
    await house.passes(4)
    assert house.ended("delivered") == 1, "what was under way counts"
    await house.passes(86_400)
    assert len(receiver.requests) == 1
    assert house.waiting == 300
    receiver.takes_s(0.01)
    courier.resume()
    assert house.changes[1:] == [("crm", False, False, False)]
    await house.passes(20)
    assert house.ended("delivered") == 301


@lived
async def test_what_expired_while_it_was_paused_is_expired_and_never_sent(house: House) -> None:
    courier, receiver = house.opens()
    courier.halt()
    house.put(4, key="a", expires_s=10)
    house.put(key="a")
    house.put(4, expires_s=1_000)
    await house.passes(100)
    courier.resume()
    await house.passes(10)
    assert sorted(receiver.ids) == ["evt_5", "evt_6", "evt_7", "evt_8", "evt_9"]
    assert (house.ended("expired"), house.ended("delivered"), house.waiting) == (4, 5, 0)


@lived
async def test_resumed_it_begins_with_one_and_then_more_and_more(house: House) -> None:
    courier, receiver = house.opens()
    receiver.takes_s(500)
    courier.halt()
    house.put(30)
    await house.passes(10)
    courier.resume()
    await house.passes(0)
    assert len(receiver.under_way) == 1
    steps = await way_back(house, receiver)
    assert steps == sorted(steps)
    assert steps[-1] == 8


@lived
async def test_resuming_sends_at_once_also_where_the_breaker_is_open_and_it_opens_again_after_as_many_failures(house: House) -> None:
    courier, receiver = house.opens(concurrency=1, retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    house.put(30)
    await house.passes(10)
    assert len(receiver.requests) == 5
    courier.resume()
    assert house.changes[-1] == ("crm", False, False, False)
    await house.passes(10)
    assert len(receiver.requests) == 10
    assert courier.breaker.is_open
    receiver.says(200)
    courier.resume()
    await house.passes(10)
    assert house.ended("delivered") >= 20


@lived
async def test_resuming_ends_a_pause_that_the_receiver_asked_for(house: House) -> None:
    courier, receiver = house.opens(concurrency=1)
    receiver.says(429, retry_after="3600")
    house.put(5)
    await house.passes(10)
    receiver.says(200)
    courier.resume()
    await house.passes(10)
    assert house.ended("delivered") == 5, "the one that was told to wait as well"


@lived
async def test_a_pause_that_a_receiver_asks_for_and_its_end_by_a_person_are_told(house: House) -> None:
    courier, receiver = house.opens(concurrency=1)
    receiver.says(429, retry_after="3600")
    house.put()
    await house.passes(1)
    assert house.changes == [("crm", False, False, False)]
    assert courier.paused_until == pytest.approx(house.clock.monotonic() + 3_599, abs=0.1)
    courier.resume()
    assert len(house.changes) == 2
    assert courier.paused_until == 0.0
    courier.resume()
    assert len(house.changes) == 2


@lived
async def test_resuming_what_nothing_held_back_changes_nothing(house: House) -> None:
    courier, receiver = house.opens()
    receiver.takes_s(10)
    courier.resume()
    house.put(8)
    await house.passes(0)
    assert len(receiver.under_way) == 8, "it doesn't begin with one"
    assert house.changes == []


@lived
async def test_a_pause_while_the_breaker_is_open_outlasts_it(house: House) -> None:
    courier, receiver = house.opens(concurrency=1, breaker={"failures": 1})
    receiver.says(503)
    house.put(5)
    await house.passes(1)
    courier.halt()
    await house.passes(3_600)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(("status", "headers"), [(410, {}), (500, {"webhook_delivery": "disable"})])
@lived
async def test_a_destination_that_says_it_is_gone_is_disabled_until_it_is_resumed(house: House, status: int, headers: dict[str, str]) -> None:
    courier, receiver = house.opens(concurrency=1)
    receiver.says(status, b"", **headers)
    house.put(5)
    await house.passes(100_000)
    assert len(receiver.requests) == 1
    assert (house.ended("dead"), house.waiting) == (1, 4)
    assert courier.disabled is not None
    assert str(status) in courier.disabled
    assert house.changes == [("crm", True, False, False)]
    receiver.says(200)
    courier.resume()
    await house.passes(20)
    assert house.ended("delivered") == 4


@lived
async def test_an_answer_from_where_a_destination_is_not_any_more_holds_back_nothing(house: House) -> None:
    courier, receiver = house.opens(concurrency=4, breaker={"failures": 1})
    statuses = iter([410, 503, 429])
    receiver.takes_s(5)
    receiver.answer = lambda letter: Reply(status=next(statuses), headers={"retry-after": "3600"})
    by, here = Judging(policy=RetryPolicy.model_validate({"first": "60s"})), Receiver()

    def judged(letter: Letter, reply: Reply, wall: float, u: float, *, probe: bool) -> Outcome:
        return judge(reply, by, attempt=letter.attempts + 1, age_s=0.0, now=wall, u=u, probe=probe)

    def elsewhere(letter: Letter, reply: Reply, wall: float, u: float, *, probe: bool) -> Outcome:
        return replace(judged(letter, reply, wall, u, probe=probe), elsewhere=True)

    pace = Pace(concurrency=4, breaker=BreakerRule(failures=1))
    courier.adopt(send=receiver.send, judge=elsewhere, pace=pace)
    house.put(3)
    await house.passes(1)
    courier.adopt(send=here.send, judge=judged, pace=pace)
    await house.passes(5)
    assert (courier.disabled, courier.breaker.is_open, house.changes) == (None, False, []), "what is under way is judged by what it was sent as"
    house.put(3)
    await house.passes(1)
    assert len(here.requests) == 3
    assert (house.ended("delivered"), house.ended("dead"), house.waiting) == (3, 1, 2)


@lived
async def test_a_retry_by_a_person_resumes_a_disabled_destination(house: House) -> None:
    courier, receiver = house.opens(concurrency=1)
    receiver.says(410)
    house.put(5)
    await house.passes(10)
    receiver.says(200)
    assert await house.outbox.handling.retry(Selection(state=State.DEAD)) == 1
    await house.passes(20)
    assert courier.disabled is None
    assert house.ended("delivered") == 5


@lived
async def test_a_retry_by_a_person_is_tried_at_once_however_long_it_would_have_rested(house: House) -> None:
    courier, receiver = house.opens(retry={"first": "1d", "max": "1d"})
    receiver.says(503)
    house.put(20)
    await house.passes(10)
    assert courier.breaker.is_open
    receiver.says(200)
    await house.outbox.handling.retry(Selection())
    await house.passes(20)
    assert house.ended("delivered") == 20


@lived
async def test_a_retry_by_a_person_does_not_undo_what_a_person_paused(house: House) -> None:
    """`pause`: nothing is sent until `resume`. Only a disabled destination is resumed by a retry."""

    courier, receiver = house.opens()
    courier.halt()
    house.put(5)
    await house.outbox.handling.retry(Selection())
    await house.passes(100)
    assert courier.halted
    assert receiver.requests == []


@lived
async def test_splitting_a_batch_of_one_destination_resumes_no_other(house: House) -> None:
    _, receiver = house.opens(concurrency=1, retry={"schedule": []})
    paused, quiet = house.opens("paused")
    gone, gone_receiver = house.opens("gone")
    paused.halt()
    gone_receiver.says(410)
    event = Event(method="POST", url="http://crm/", headers=(), body=b"{}")
    receiver.answer = lambda letter: Reply(status=503 if letter.count > 1 else 200)
    house.put(content=batched([event, event, event], joint=LIST))
    house.put(5, destination="paused")
    house.put(5, destination="gone", key="k")
    await house.passes(1)
    assert await house.outbox.handling.split(Selection(state=State.DEAD)) == 3
    await house.passes(100)
    assert receiver.ids == ["evt_1", "evt_1-1", "evt_1-2", "evt_1-3"]
    assert paused.halted
    assert quiet.requests == []
    assert gone.disabled is not None
    assert len(gone_receiver.requests) == 1


@lived
async def test_while_the_way_is_not_ready_nothing_is_sent(house: House) -> None:
    courier, receiver = house.opens()
    courier.allow(ready=False)
    house.put(3)
    await house.passes(1_000)
    assert receiver.requests == []
    assert courier.troubled
    courier.allow(ready=True)
    await house.passes(1)
    assert house.ended("delivered") == 3
    assert not courier.troubled


# Keys and priorities


@lived
async def test_a_key_goes_in_order_one_at_a_time_over_failures_and_no_other_waits_for_it(house: House) -> None:
    _, receiver = house.opens(is_breaking=False)
    receiver.answer = lambda letter: Reply(status=503 if letter.key == "bad" and letter.attempts < 3 else 200)
    house.put(5, key="bad")
    house.put(5, key="good")
    await house.passes(4)
    assert house.ended("delivered") == 5
    await house.passes(400)
    bad = [found.id for found in (each for _, each in receiver.requests) if found.key == "bad"]
    assert bad == [f"evt_{n}" for n in range(1, 6) for _ in range(4)]


@lived
async def test_what_is_urgent_goes_before_what_came_first(house: House) -> None:
    courier, receiver = house.opens(concurrency=1)
    courier.halt()
    house.put(5)
    house.put(5, priority=Priority.HIGH)
    courier.resume()
    await house.passes(10)
    assert receiver.ids == [f"evt_{n}" for n in (6, 7, 8, 9, 10, 1, 2, 3, 4, 5)]


def test_a_new_key_does_not_wait_behind_a_backlog_on_disk(tmp_path: Path) -> None:
    backlog = [letter(n, f"old{n % 20}", seq=n, id=f"old_{n}") for n in range(1, 1_001)]

    async def life(house: House) -> None:
        _, receiver = house.opens(rate=2.0)
        await house.passes(10)
        for n in range(3):
            house.put(key=f"new{n}")
        await house.passes(10)
        assert {"evt_1", "evt_2", "evt_3"} <= set(receiver.ids)
        assert house.waiting > 900
        await house.passes(600)
        assert house.waiting == 0
        for n in range(20):
            mine = [found.seq for found in (each for _, each in receiver.requests) if found.key == f"old{n}"]
            assert mine == sorted(set(mine)), "in order, and each once"

    live(tmp_path, life, backlog=backlog)


@pytest.mark.parametrize("keys", [1, 3])
def test_a_backlog_of_few_keys_goes_as_fast_as_it_is_taken_whenever_that_is_written(tmp_path: Path, keys: int) -> None:
    """What is done is deleted within a second: until then it is on disk, and must not stand before what is next."""
    backlog = [letter(n, f"k{n % keys}", seq=n) for n in range(1, 1_001)]

    async def life(house: House) -> None:
        _, receiver = house.opens()
        receiver.takes_s(0.001)
        await house.passes(2)
        assert house.waiting == 0, "1,000 at a millisecond each"
        assert len(receiver.ids) == len(set(receiver.ids)) == 1_000

    live(tmp_path, life, backlog=backlog)


# What people and newer letters take away


@lived
async def test_what_a_person_drops_is_not_sent_unless_it_is_under_way(house: House) -> None:
    courier, receiver = house.opens(concurrency=1)
    receiver.takes_s(1)
    house.put(400)
    await house.passes(0.5)
    assert courier.holds(1)
    assert not courier.holds(400), "it is on disk only"
    assert await house.outbox.handling.drop(Selection(ids=("evt_1", "evt_2", "evt_400"))) == 2
    assert not courier.holds(2)
    await house.passes(500)
    assert sorted(receiver.ids, key=lambda name: int(name[4:])) == ["evt_1", *(f"evt_{n}" for n in range(3, 400))]
    assert (house.ended("delivered"), house.ended("dropped"), house.waiting) == (398, 2, 0)


@lived
async def test_only_the_newest_of_a_key_is_sent_where_only_that_is_kept(house: House) -> None:
    courier, receiver = house.opens(concurrency=1)
    house.outbox.keep_latest(["hall"])
    receiver.takes_s(1)
    house.put(key="k")
    await house.passes(0.5)
    house.put(5, key="k")
    await house.passes(10)
    assert receiver.ids == ["evt_1", "evt_6"], "the first was under way"
    assert house.ended("coalesced") == 4
    courier.halt()
    house.put(5, key="k")
    courier.resume()
    await house.passes(10)
    assert receiver.ids[2:] == ["evt_11"]


# Whole outages


@lived
async def test_without_a_breaker_a_receiver_that_is_down_for_days_is_tried_on_the_schedule_and_then_the_event_is_dead_with_all_of_it_noted(house: House) -> None:
    _, receiver = house.opens(is_breaking=False)
    receiver.says(503)
    house.put()
    await house.passes(4 * 86_400)
    assert receiver.times[:8] == pytest.approx([0, 5, 20, 65, 200, 605, 1_820, 5_420], abs=1)
    assert receiver.times[-1] <= 3 * 86_400
    assert receiver.times[-1] > 3 * 86_400 - 3_601
    (dead,) = await house.stored(state=State.DEAD)
    assert dead.attempts == len(receiver.requests)
    assert 78 <= dead.attempts <= 96
    attempts = await house.outbox.handling.history(Past(event="evt_1", limit=1_000))
    assert [attempt.number for attempt in attempts] == list(range(1, dead.attempts + 1))
    assert [attempt.verdict for attempt in attempts] == [Verdict.RETRY] * (dead.attempts - 1) + [Verdict.DEAD]
    assert [attempt.at - EPOCH_S for attempt in attempts] == pytest.approx(receiver.times, abs=0.1)


def test_after_an_outage_all_of_it_is_delivered_in_order_once_and_never_too_many_at_once(tmp_path: Path) -> None:
    keys = 40

    async def life(house: House) -> None:
        _, receiver = house.opens()
        receiver.says(None)
        for n in range(1_200):
            house.put(key=f"k{n % keys}")
            if n % 10 == 9:
                await house.passes(5)
        tried = len(receiver.requests)
        assert tried < 8 + 600 / 24 + 5, "one attempt at a pause, however much waits"
        receiver.says(200)
        await house.passes(2 * 3_600)
        assert house.ended("delivered") == 1_200
        assert receiver.most <= 8
        after = receiver.requests[tried:]
        assert len(after) == 1_200
        for n in range(keys):
            mine = [found.seq for _, found in after if found.key == f"k{n}"]
            assert mine == sorted(mine)

    live(tmp_path, life)


@lived
async def test_an_endpoint_that_fails_every_other_time_costs_little_more_than_two_attempts_and_loses_nothing(house: House) -> None:
    _, receiver = house.opens()
    receiver.answer = lambda letter: Reply(status=503 if Random(f"{letter.id} {letter.attempts}").random() < 0.5 else 200)
    house.put(400)
    await house.passes(3 * 86_400)
    assert house.ended("delivered") == 400
    assert len(receiver.requests) / 400 <= 2.2


@lived
async def test_a_receiver_that_never_answers_holds_up_no_other_destination(house: House) -> None:
    _, hanging = house.opens("hanging")
    _, receiver = house.opens()
    hanging.takes_s(15)
    hanging.answer = lambda letter: Reply(error="timeout", detail="no answer within 15 s")
    house.put(500, destination="hanging")
    for _ in range(100):
        house.put()
        await house.passes(1)
    assert receiver.times == pytest.approx([n * 1.001 for n in range(100)], abs=0.01)
    assert len(hanging.requests) <= 8 + 100 / (24 + 15) + 1


# Poison, and what a delivery leads to


def test_a_poison_event_ends_itself_and_not_its_courier(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def life(house: House) -> None:
        courier, receiver = house.opens()

        def poison(letter: Letter) -> None:
            if letter.id == "evt_2":
                raise ZeroDivisionError("the secret")

        receiver.at_start = poison
        house.put(3)
        await house.passes(1)
        assert sorted(receiver.ids) == ["evt_1", "evt_3"]
        (dead,) = await house.stored(state=State.DEAD)
        assert (dead.id, dead.reason) == ("evt_2", "ZeroDivisionError while it was sent")
        assert not courier.breaker.failures

    live(tmp_path, life)
    assert any("poison" in record.message for record in caplog.records)


@lived
async def test_what_a_delivery_leads_to_comes_before_it_counts_as_delivered_and_follows_nothing_else(house: House) -> None:
    courier, receiver = house.opens(is_breaking=False)
    followed: list[tuple[str, int | None, int]] = []

    async def follow(letter: Letter, reply: Reply) -> None:
        await asyncio.sleep(1)
        followed.append((letter.id, reply.status, house.ended("delivered")))

    courier.follow = follow
    statuses = {"evt_1": 200, "evt_2": 400, "evt_3": 503}
    receiver.answer = lambda letter: Reply(status=statuses[letter.id])
    house.put(3)
    await house.passes(2)
    assert followed == [("evt_1", 200, 0)]
    assert house.ended("delivered") == 1


# Expiry and the clock


@pytest.mark.parametrize(("back_s", "is_sent"), [(0.0, True), (1.0, True), (3.0, False)])
@lived
async def test_a_command_whose_age_a_clock_that_went_back_can_not_tell_is_not_published(house: House, back_s: float, is_sent: bool) -> None:
    courier, receiver = house.opens("mqtt", lane=Lane.MQTT, is_breaking=False)
    receiver.says(0)
    courier.allow(ready=False)
    house.put(expires_s=60, lane=Lane.MQTT, destination="mqtt", content=Command(topic="a", payload=b"", qos=1, retain=False))
    house.wall_ahead_s -= back_s
    courier.allow(ready=True)
    await house.passes(0.5)
    assert len(receiver.requests) == is_sent
    assert house.ended("expired") == (not is_sent)


@pytest.mark.parametrize(("off_s", "is_sent"), [(0.0, True), (50.0, True), (60.0, False), (math.inf, False)])
@pytest.mark.parametrize("lane", [Lane.MQTT, Lane.WEBHOOK])
@lived
async def test_a_command_also_gets_late_while_the_machine_is_off(house: House, lane: Lane, off_s: float, is_sent: bool) -> None:
    """Where the steady time doesn't know of that: an event is delivered, as it is better late than lost."""
    house.clock = replace(house.clock, missed_s=lambda _: off_s)
    courier, receiver = house.opens("mqtt", lane=lane, is_breaking=False)
    receiver.says(0 if lane is Lane.MQTT else 200)
    courier.allow(ready=False)
    house.put(expires_s=60, lane=lane, destination="mqtt", content=Command(topic="a", payload=b"", qos=1, retain=False))
    courier.allow(ready=True)
    await house.passes(0.5)
    assert len(receiver.requests) == (is_sent or lane is Lane.WEBHOOK)


@pytest.mark.parametrize("jump_s", [-315_360_000.0, -86_400.0, 86_400.0])
@lived
async def test_a_clock_that_jumps_neither_hurries_nor_stops_what_rests(house: House, jump_s: float) -> None:
    _, receiver = house.opens(is_breaking=False, retry={"schedule": ["1m"] * 20})
    receiver.says(503)
    house.put(5)
    await house.passes(30)
    house.wall_ahead_s += jump_s
    await house.passes(29)
    assert len(receiver.requests) == 5
    await house.passes(3)
    assert len(receiver.requests) == 10


# The end


@lived
async def test_it_ends_when_what_is_under_way_has_come_back(house: House) -> None:
    courier, receiver = house.opens(concurrency=2)
    receiver.takes_s(2)
    house.put(10)
    await house.passes(1)
    courier.stop()
    await asyncio.wait(house.tasks)
    assert now() == pytest.approx(2, abs=0.1)
    assert (len(receiver.requests), house.ended("delivered"), house.waiting) == (2, 2, 8)


@lived
async def test_what_takes_too_long_then_is_let_go_and_waits_for_the_next_start(house: House) -> None:
    courier, receiver = house.opens()
    receiver.takes_s(1_000)
    house.put(3)
    await house.passes(1)
    courier.stop()
    await asyncio.wait(house.tasks)
    assert now() == pytest.approx(1 + DRAIN_S, abs=0.1)
    assert [(found.state, found.attempts) for found in await house.stored()] == [(State.WAITING, 0)] * 3


@pytest.mark.parametrize("state", ["breaker open", "paused", "idle", "rate", "retry-after"])
@lived
async def test_it_ends_at_once_whatever_it_waits_for(house: House, state: str) -> None:
    courier, receiver = house.opens(concurrency=1, breaker={"failures": 1} if state == "breaker open" else None, rate=0.01 if state == "rate" else None)
    if state == "paused":
        courier.halt()
    if state != "rate":
        receiver.says(429, b"", **({"retry_after": "1000"} if state == "retry-after" else {}))
    if state != "idle":
        house.put(5)
    await house.passes(4)
    courier.stop()
    await asyncio.wait(house.tasks)
    assert now() == pytest.approx(4, abs=0.1)


# What is told


def test_a_failure_that_goes_on_is_told_when_it_begins_and_at_each_power_of_two_and_so_is_its_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bridge.outbox.courier")

    async def life(house: House) -> None:
        courier, receiver = house.opens(concurrency=1)
        receiver.says(503)
        house.put()
        await house.passes(200 + 130 * 30)
        assert courier.failures == len(receiver.requests) == 134, "five attempts, and probes"
        receiver.says(200)
        await house.passes(60)
        assert courier.failures == 0

    live(tmp_path, life)
    told = [record.getMessage() for record in caplog.records if record.name == "bridge.outbox.courier"]
    assert [line.partition("failures=")[2].partition(" ")[0] for line in told if line.startswith("retry ")] == ["1", "2", "4", "8", "16", "32", "64", "128"]
    assert sum(line.startswith("breaker open destination=crm failures=5") for line in told) == 1
    assert sum(line.startswith("breaker closed destination=crm") for line in told) == 1
    assert "recovered destination=crm after_failures=134" in told
    assert len(told) == 8 + 2 + 2, "and the delivery"


@pytest.mark.parametrize(("status", "failures"), [(503, 3), (404, 3), (None, 3), (400, 0), (410, 0)])
@lived
async def test_an_attempt_that_uses_up_the_schedule_counts_as_a_failure_if_the_endpoint_is_to_blame(house: House, status: int | None, failures: int) -> None:
    courier, receiver = house.opens(is_breaking=False, concurrency=1, retry={"schedule": []})
    receiver.says(status)
    house.put(3)
    await house.passes(1)
    assert house.ended("dead") == len(receiver.requests) == (1 if status == 410 else 3)
    assert courier.failures == failures
    receiver.says(200)
    courier.resume()
    house.put()
    await house.passes(1)
    assert courier.failures == 0


@lived
async def test_attempts_are_on_disk_some_minutes_later_though_nothing_else_happens(house: House) -> None:
    """A power cut in a quiet night would take them along otherwise, though the ledger counts them."""

    _, receiver = house.opens()
    house.put()
    await house.passes(70)
    house.put()
    await house.passes(1)
    receiver.says(503)
    house.put()
    await house.passes(1)
    receiver.says(200)
    await house.passes(1_000)
    assert house.ended("delivered") == 3
    assert [attempt.event for attempt in house.store.history(Past())] == ["evt_1", "evt_2", "evt_3", "evt_3"]


@lived
async def test_an_idle_bridge_writes_nothing(house: House) -> None:
    house.opens(rate=1.0)
    house.put(5)
    await house.passes(600)
    commits, turns = house.outbox.commits, skipping().turns
    await house.passes(86_400)
    assert house.outbox.commits == commits
    assert skipping().turns - turns < 10, "and doesn't even wake"


def test_a_window_full_of_large_bodies_is_read_once_and_not_all_the_time(tmp_path: Path) -> None:
    large = Event(method="POST", url="http://crm/", headers=(), body=bytes(1 << 20))
    backlog = [letter(n, seq=n, content=large) for n in range(1, 13)]

    async def life(house: House) -> None:
        _, receiver = house.opens(concurrency=1)
        receiver.takes_s(60)
        skipping().most_still = 100  # one look at the disk is some three turns
        await house.passes(12 * 61)
        assert house.ended("delivered") == 12

    live(tmp_path, life, backlog=backlog)


# Whatever happens


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.sampled_from(["a", "b", "c", None]), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.sampled_from([0.1, 1.0, 6.0, 31.0, 400.0])),
        st.tuples(st.just("says"), st.sampled_from([200, 400, 503, 429, None])),
        st.tuples(st.just("takes"), st.sampled_from([0.0, 0.3, 20.0])),
        st.tuples(st.just("chance"), st.sampled_from([0.0, 0.7])),
        st.just(("halt",)),
        st.just(("resume",)),
        st.just(("busy",)),
    ),
    max_size=25,
)


def stepped(house: House, courier: Courier, receiver: Receiver, step: Any) -> float:
    """Do a step that takes no time; return how long to wait after it."""
    match step:
        case ("put", key, count):
            house.put(count, key=key)
        case ("wait", seconds):
            return float(seconds)
        case ("says", status):
            receiver.says(status)
        case ("takes", seconds):
            receiver.takes_s(seconds)
        case ("chance", u):
            house.chance = u
        case ("halt",):
            courier.halt()
        case ("resume",):
            courier.resume()
        case ("busy",):
            receiver.says(503, retry_after="45")
    return 0.0


@settings(max_examples=80)
@given(STEPS, st.sampled_from([1, 3, 8]), st.sampled_from([None, 2.0]))
def test_whatever_happens_nothing_is_lost_or_sent_twice_or_out_of_order_or_too_fast(steps: list[Any], concurrency: int, rate: float | None) -> None:
    async def life(house: House) -> None:
        courier, receiver = house.opens(concurrency=concurrency, rate=rate, breaker={"failures": 3}, retry={"first": "2s", "max": "1m"})
        order: dict[str, int] = {}
        probed: set[int] = set()

        def may_start(letter: Letter) -> None:
            assert not courier.halted, "it is paused"
            assert not (courier.breaker.is_open and receiver.under_way), "not the only one while half open"
            assert len(receiver.under_way) < concurrency
            assert letter.seq >= order.get(letter.key, 0), "out of order"
            assert (letter.seq == order.get(letter.key)) == (letter.attempts > 0 or letter.seq in probed), "sent again after it had ended, or skipped"
            if courier.breaker.is_open:
                probed.add(letter.seq)
            order[letter.key] = letter.seq

        problems: list[str] = []

        def watched(letter: Letter) -> None:
            try:
                may_start(letter)
            except AssertionError as exc:
                problems.append(str(exc))

        receiver.at_start = watched
        for step in steps:
            await house.passes(stepped(house, courier, receiver, step))
        receiver.says(200)
        receiver.takes_s(0.01)
        courier.resume()
        await house.passes(1_000)
        assert problems == []
        assert house.waiting == 0
        assert house.ended("delivered") + house.ended("dead") == house.letters
        assert rate is None or exceeded(receiver.times, rate) < 0.01

    with TemporaryDirectory() as place:
        live(Path(place), life)
