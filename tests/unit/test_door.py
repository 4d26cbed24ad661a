"""The door of the hooks: who is let in, who is told to wait, and what a flood costs."""

import logging
from typing import Any

import pytest

from bridge.errors import HookError
from bridge.outbox import door as module
from bridge.outbox.door import Door
from bridge.rules.inbound import Hook, Inbound

GOOD, BAD = "192.168.1.5", "203.0.113.9"


class Clock:
    """A monotonic clock that is set by hand."""

    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def hook(name: str = "door", **keys: Any) -> Hook:
    rule = Inbound.model_validate({"verify": "none", "topic": "home/door/set", **keys})
    return Hook(name=name, rule=rule, pattern=rule.pattern(name), keys=())


def asked(door: Door, at: Hook, client: str) -> tuple[int, int | None]:
    """Return the status and Retry-After of what is not let in, 0 for what is."""
    try:
        door.admit(at, client)
    except HookError as exc:
        return exc.status, exc.retry_after_s
    return 0, None


def wrong(door: Door, client: str, times: int, *, at: str = "door") -> None:
    for _ in range(times):
        door.wrong(at, client, "no signature agrees with a secret")


def test_by_default_everybody_may_knock() -> None:
    door = Door(Clock())
    assert {asked(door, hook(), client)[0] for client in (GOOD, BAD, "", "2001:db8::1") for _ in range(500)} == {0}


def test_who_is_not_in_allow_from_learns_nothing() -> None:
    door, closed = Door(Clock()), hook(allow_from=["192.168.0.0/16"])
    assert asked(door, closed, GOOD) == (0, None)
    assert asked(door, closed, BAD) == (403, None)
    assert asked(door, closed, "") == (403, None), "whom nobody knows isn't let in either"
    with pytest.raises(HookError) as refusal:
        door.admit(closed, BAD)
    assert refusal.value.detail is None


def test_a_rate_is_of_one_address_at_one_hook() -> None:
    clock = Clock()
    door, slow, other = Door(clock), hook(rate="3/min"), hook("other", rate="3/min")
    assert [asked(door, slow, BAD) for _ in range(4)] == [(0, None)] * 3 + [(429, 20)]
    assert asked(door, slow, GOOD) == (0, None)
    assert asked(door, other, BAD) == (0, None)
    clock.now += 20
    assert [asked(door, slow, BAD) for _ in range(2)] == [(0, None), (429, 20)]


def test_after_twenty_wrong_signatures_one_address_waits_for_a_minute_at_that_hook() -> None:
    clock = Clock()
    door = Door(clock)
    wrong(door, BAD, 19)
    assert asked(door, hook(), BAD) == (0, None)
    wrong(door, BAD, 1)
    assert asked(door, hook(), BAD) == (429, 60)
    assert asked(door, hook(), GOOD) == (0, None)
    assert asked(door, hook("other"), BAD) == (0, None)
    clock.now += 60
    assert asked(door, hook(), BAD) == (0, None)


def test_an_ipv6_network_is_one_caller() -> None:
    door = Door(Clock())
    for n in range(20):
        door.wrong("door", f"2001:db8::{n:x}", "no")
    assert asked(door, hook(), "2001:db8::ffff") == (429, 60)
    assert asked(door, hook(), "2001:db8:0:1::1") == (0, None)


def test_a_flood_of_addresses_grows_nothing_and_leaves_those_that_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 100)
    door, limited = Door(Clock()), hook(rate="1000/h")
    wrong(door, BAD, 20)
    for n in range(99):
        door.wrong("door", f"10.0.0.{n}", "no")
        assert asked(door, limited, f"10.0.0.{n}") == (0, None)
    assert asked(door, hook(), BAD) == (429, 60)
    for n in range(1_000):
        door.wrong("door", f"10.1.{n // 250}.{n % 250}", "no")
        asked(door, limited, f"10.1.{n // 250}.{n % 250}")
    assert door.remembered <= 200


def test_refusals_are_counted_and_a_flood_of_them_is_a_line_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """FAULTS S39: at most a line a second, and how many were left out."""
    clock = Clock()
    door = Door(clock)
    with caplog.at_level(logging.WARNING):
        for n in range(1_000):
            clock.now += 0.01
            door.wrong("door", f"10.1.{n // 250}.{n % 250}", "no signature agrees with a secret")
    lines = [record.getMessage() for record in caplog.records]
    assert door.refused == 1_000
    assert lines[0] == "refused hook=door status=401 client=10.1.0.0 reason=no signature agrees with a secret"
    assert 10 <= len(lines) <= 20
    assert sum(int(line.rpartition("and_before=")[2]) for line in lines if "and_before=" in line) + len(lines) > 850
