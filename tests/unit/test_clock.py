"""The bridge's own clock: steady, whatever the machine's does, and sure of what can't be right."""

import asyncio
import logging

import pytest

from bridge.app import clock as house
from bridge.app.clock import HOLD_S, PLAUSIBLE_S, SURELY_PAST, HouseClock

NOW = 1_795_000_000.0


class Machine:
    """A machine whose date is set now and then, and whose monotonic clock is not."""

    def __init__(self, date: float) -> None:
        self.date_s, self.passed_s = date, 100.0

    def passes(self, seconds: float) -> None:
        self.date_s += seconds
        self.passed_s += seconds

    def clock(self, mark: float = 0.0) -> HouseClock:
        return HouseClock(mark, date=lambda: self.date_s, monotonic=lambda: self.passed_s)


ROWS = [  # the date at the start, what the outbox knows, whether the date can be right, what the steady clock begins with
    (NOW, 0.0, True, NOW),
    (NOW, NOW - 3_600, True, NOW),
    (NOW, NOW + 1.0, True, NOW + 1.0),  # a second is nothing
    (NOW, NOW + 3_600, False, NOW + 3_600),  # restored from the last shutdown, before what was written since
    (NOW, NOW + PLAUSIBLE_S + 1, True, NOW),  # that was written by a wrong clock
    (0.0, 0.0, False, SURELY_PAST),  # a Pi without a network
    (10.0, NOW, False, NOW),  # the same, that has run before
    (SURELY_PAST, 0.0, True, SURELY_PAST),
]


@pytest.mark.parametrize(("date", "mark", "is_set", "begins"), ROWS)
def test_what_can_not_be_right_is_known(date: float, mark: float, is_set: bool, begins: float) -> None:
    found = Machine(date).clock(mark)
    assert found.is_set() is is_set
    assert found.clock.wall() == begins


def test_a_date_that_is_never_set_is_taken_after_a_while() -> None:
    machine = Machine(0.0)
    found = machine.clock()
    machine.passes(HOLD_S - 1)
    assert not found.is_set()
    machine.passes(1)
    assert found.is_set()


@pytest.mark.parametrize("jump", [-10 * 365 * 86_400.0, -3_600.0, 3_600.0, 10 * 365 * 86_400.0])
def test_a_jump_of_the_date_moves_nothing_but_the_date(jump: float) -> None:
    machine = Machine(NOW)
    found = machine.clock()
    machine.passes(5.0)
    machine.date_s += jump
    assert found.clock.wall() == NOW + 5.0
    assert found.clock.date() == NOW + 5.0 + jump
    assert found.clock.monotonic() == 105.0


def test_what_waited_for_the_date_goes_and_a_jump_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(house, "LOOK_S", 0.001)
    machine, allowed = Machine(0.0), list[bool]()

    async def work() -> None:
        found = machine.clock()
        task = asyncio.create_task(found.run(lambda: allowed.append(True)))
        await asyncio.sleep(0.02)
        assert not allowed
        machine.date_s = NOW
        async with asyncio.timeout(10):
            while not allowed:  # noqa: ASYNC110 - what it waits for is the code under test
                await asyncio.sleep(0.001)
            machine.date_s += 3_600
            while "was set by_s=+3600" not in caplog.text:  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
        task.cancel()

    with caplog.at_level(logging.WARNING):
        asyncio.run(work())
    assert allowed == [True]
    assert "is not set date=1970-01-01T00:00:00" in caplog.text
