"""The bridge's own clock: steady, whatever the machine's does, and sure of what can't be right."""

import asyncio
import logging
import math
from pathlib import Path

import pytest

from bridge.app import clock as house
from bridge.app.clock import HOLD_S, HouseClock
from bridge.rules.calendar import PLAUSIBLE_S, SURELY_PAST, reckoning_of

NOW = 1_795_000_000.0


class Machine:
    """A machine whose date is set now and then, and whose monotonic clock is not."""

    def __init__(self, date: float) -> None:
        self.date_s, self.passed_s = date, 100.0

    def passes(self, seconds: float) -> None:
        self.date_s += seconds
        self.passed_s += seconds

    def clock(self, mark: float = 0.0, *, noted: str | None = None, boot: str = "a") -> HouseClock:
        return HouseClock(noted, mark, date=lambda: self.date_s, monotonic=lambda: self.passed_s, uptime_s=lambda: self.passed_s, boot=lambda: boot)


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
    assert found.clock.wall() == pytest.approx(begins, abs=0.001)


def test_a_date_that_is_never_set_is_taken_after_a_while() -> None:
    machine = Machine(0.0)
    found = machine.clock()
    machine.passes(HOLD_S - 1)
    assert not found.is_set()
    machine.passes(1)
    assert found.is_set()


def test_a_date_that_becomes_surely_wrong_has_its_time_from_then_on() -> None:
    machine = Machine(NOW)
    found = machine.clock()
    machine.passes(10 * HOLD_S)
    machine.date_s = 0.0
    assert not found.is_set()
    machine.passes(HOLD_S - 1)
    assert not found.is_set()
    machine.date_s = NOW
    assert found.is_set()
    machine.date_s = 0.0
    machine.passes(1)
    assert not found.is_set()
    machine.passes(HOLD_S)
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


HOUR, DAY, YEAR = 3_600.0, 86_400.0, 365 * 86_400.0


@pytest.mark.parametrize("date", [0.0, NOW - 4 * DAY, NOW - 8 * HOUR, NOW + 2 * DAY, NOW + 10 * YEAR])
@pytest.mark.parametrize("kept_after_s", [0.0, 30.0])
def test_what_was_stored_with_a_wrong_date_is_as_old_as_it_is_once_that_is_set(date: float, kept_after_s: float) -> None:
    """Also where the program ends at once, before it has noted that the date was set (0 s)."""
    machine = Machine(date)
    found = machine.clock()
    created_at, noted = found.wall(), found.note()
    machine.passes(5.0)
    assert found.calendar().date_of(created_at) == pytest.approx(date, abs=0.001), "what is wrong is at least wrong alike"
    machine.date_s = NOW
    assert found.calendar().date_of(created_at) == pytest.approx(NOW - 5, abs=0.001)
    assert found.calendar().steady_of(NOW - 5) == pytest.approx(created_at, abs=0.001)
    if kept_after_s:
        noted = found.note()
    machine.passes(kept_after_s)
    again = machine.clock(noted=noted)
    assert again.wall() == pytest.approx(created_at + 5 + kept_after_s, abs=0.001)
    assert again.is_set()
    assert again.calendar().date_of(created_at) == pytest.approx(NOW - 5, abs=0.001)


@pytest.mark.parametrize("date", [0.0, NOW - 4 * DAY, NOW - 8 * HOUR, NOW + 2 * DAY, NOW + 10 * YEAR])
def test_over_a_reboot_it_is_as_old_as_it_is_too(date: float) -> None:
    machine = Machine(date)
    found = machine.clock()
    created_at = found.wall()
    machine.date_s = NOW
    noted = found.note()
    machine.date_s, machine.passed_s = NOW + HOUR, 10.0
    again = machine.clock(noted=noted, boot="b")
    assert again.wall() == pytest.approx(created_at + HOUR, abs=0.001)
    assert again.calendar().date_of(created_at) == pytest.approx(NOW, abs=0.001)


def test_of_a_time_without_a_clock_nobody_can_tell_how_long_it_was() -> None:
    machine = Machine(NOW)
    found = machine.clock()
    machine.passes(5.0)
    before, noted = found.wall(), found.note()
    machine.date_s, machine.passed_s = 10.0, 10.0
    again = machine.clock(noted=noted, boot="b")
    assert again.missed_s(before - 1) == math.inf
    assert again.missed_s(again.wall()) == 0
    machine.passes(60.0)
    machine.date_s = before + HOUR + 60
    assert again.missed_s(before - 1) == pytest.approx(HOUR, abs=0.001), "it was off for an hour, which its time doesn't know of"
    assert again.missed_s(again.wall()) == 0
    assert [again.calendar().date_of(at) for at in (before - 1, again.wall())] == pytest.approx([before - 1, before + HOUR + 60], abs=0.001)
    noted = again.note()
    machine.passes(60.0)
    assert machine.clock(noted=noted, boot="b").missed_s(before - 1) == pytest.approx(HOUR, abs=0.001)


@pytest.mark.parametrize("files", [(), ("timesync",), ("timesync", "timesync/synchronized")])
def test_the_date_of_the_last_shutdown_tells_nothing_of_what_was_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: tuple[str, ...]) -> None:
    """It looks right; but systemd-timesyncd knows that nobody has confirmed it."""
    monkeypatch.setattr(house, "TIMESYNC", tmp_path / "timesync")
    for name in files:
        (tmp_path / name).mkdir()
    machine = Machine(NOW)
    found = machine.clock()
    machine.passes(5.0)
    before, noted = found.wall(), found.note()
    machine.passed_s = 10.0
    again = machine.clock(noted=noted, boot="b")
    assert again.missed_s(before) == (math.inf if files == ("timesync",) else 0)
    assert again.missed_s(again.wall()) == 0


def test_a_date_that_surely_is_wrong_is_never_kept() -> None:
    machine = Machine(NOW)
    found = machine.clock()
    machine.date_s = NOW - 10 * YEAR
    kept = reckoning_of(found.note())
    assert (kept.mark, kept.calendar.ahead_s) == (NOW, 0.0)
    machine.passes(HOLD_S)
    assert reckoning_of(found.note()).mark == NOW


def test_a_date_that_had_its_time_to_be_set_is_not_waited_for_again() -> None:
    machine = Machine(NOW)
    found = machine.clock(NOW + HOUR)
    machine.passes(HOLD_S)
    kept = reckoning_of(found.note())
    assert kept.calendar.ahead_s is None, "whether it is right is not known yet"
    assert machine.clock(noted=kept.text()).is_set()


def test_a_time_since_the_start_of_the_machine_that_is_a_date_is_not_believed() -> None:
    machine = Machine(NOW)
    machine.passed_s = NOW
    noted = machine.clock().note()
    machine.date_s, machine.passed_s = NOW + HOUR, NOW + YEAR
    assert machine.clock(noted=noted).wall() == NOW + HOUR


def test_the_machine_tells_its_boot() -> None:
    assert len(house._boot()) == 36
    assert house._uptime_s() > 0


def test_where_there_is_no_boot_it_has_no_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(house, "BOOT", tmp_path / "none")
    assert house._boot() == ""


def test_what_waited_for_the_date_goes_and_a_jump_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(house, "LOOK_S", 0.001)
    machine, allowed, kept = Machine(0.0), list[bool](), list[str]()

    async def work() -> None:
        found = machine.clock()
        task = asyncio.create_task(found.run(lambda: allowed.append(True), kept.append))
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
    assert [round(reckoning_of(text).mark) for text in kept] == [NOW, NOW + 3_600]
    assert "is not set date=1970-01-01T00:00:00" in caplog.text
