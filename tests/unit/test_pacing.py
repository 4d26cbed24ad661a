"""Pacing: the breaker's three states, the way back to full, and a rate that nobody exceeds."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.rules.pacing import JITTER, Breaker, BreakerRule, Bucket, failed, full_bucket, refilled, room, room_at, succeeded, token_at

RULE = BreakerRule()
RAMP_S = 10.0  # the product: "after an outage the concurrency ramps up to full within 10 s"
NOW = 5_000.0

CHANCES = st.floats(0, 1, exclude_max=True)
CLOCKS = st.one_of(st.just(0.0), st.floats(0, 1e8))  # three years of a machine's clock
CONCURRENCIES = st.integers(1, 1024)
RATES = st.one_of(st.sampled_from([10.0, 1.0, 0.5, 1.5, 500 / 3600, 1 / 3600, 999.0]), st.floats(1e-4, 1e3))


def tripped(*, now: float = NOW, u: float = 0.0, rule: BreakerRule = RULE) -> Breaker:
    """Return a breaker that has just opened."""
    breaker = Breaker()
    for _ in range(rule.failures):
        breaker = failed(breaker, rule, now=now, u=u)
    return breaker


def opened_until(breaker: Breaker) -> float:
    assert breaker.open_until is not None
    return breaker.open_until


def back(*, now: float = NOW) -> Breaker:
    """Return a breaker that has just closed, after it was open."""
    breaker = tripped(now=now - 100)
    return succeeded(breaker, now=now)


def allowed(breaker: Breaker, now: float, *, concurrency: int = 8) -> int:
    """Return how many may be under way at once."""
    return room(breaker, concurrency=concurrency, in_flight=0, now=now)


# The rule


def test_the_default_is_five_failures_and_thirty_seconds() -> None:
    assert (RULE.failures, RULE.pause) == (5, 30.0)


@pytest.mark.parametrize(
    ("written", "words"),
    [({"failures": 0}, "greater than or equal to 1"), ({"failures": 1001}, "less than or equal to 1000"), ({"pause": "0s"}, "longer than nothing"), ({"pause": 30}, "expected a duration"), ({"after": 5}, "not permitted")],
)
def test_a_breaker_that_makes_no_sense_is_refused(written: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        BreakerRule.model_validate(written)


# Opening


@given(st.integers(1, 50), CHANCES)
def test_it_opens_at_exactly_the_last_of_so_many_failures_in_a_row(failures: int, u: float) -> None:
    rule, breaker = BreakerRule(failures=failures), Breaker()
    for n in range(1, failures + 1):
        assert not breaker.is_open, f"after {n - 1}"
        assert allowed(breaker, NOW) == 8
        breaker = failed(breaker, rule, now=NOW, u=u)
    assert breaker.is_open
    assert breaker.failures == failures
    assert allowed(breaker, NOW) == 0


@given(st.integers(2, 10), st.lists(st.integers(1, 9), max_size=10))
def test_a_success_in_between_starts_the_count_anew(failures: int, runs: list[int]) -> None:
    rule, breaker = BreakerRule(failures=failures), Breaker()
    for run in runs:
        for _ in range(min(run, failures - 1)):
            breaker = failed(breaker, rule, now=NOW, u=0.0)
        breaker = succeeded(breaker, now=NOW)
        assert breaker == Breaker(), "as if nothing had been"


@given(CHANCES)
def test_a_pause_is_shortened_by_chance_by_up_to_a_fifth(u: float) -> None:
    assert NOW + RULE.pause * (1 - JITTER) <= opened_until(tripped(u=u)) <= NOW + RULE.pause


def test_chance_makes_a_difference() -> None:
    """What failed together would come back together."""
    assert opened_until(tripped(u=0.0)) == NOW + 30
    assert opened_until(tripped(u=0.5)) == pytest.approx(NOW + 27)


@pytest.mark.parametrize(
    ("at_s", "opens"),
    [
        ([0, 1, 2, 3, 9.9], False),
        ([0, 1, 2, 3, 10], True),
        ([0, 0, 0, 0, 0, 0, 0], False),  # a burst that failed together is one failure, not many
        ([0, 0, 0, 0, 0, 0, 10], True),
        ([0, 20, 40, 60], False),  # long enough, but too few
        ([0, 20, 40, 60, 80], True),
    ],
)
def test_where_they_have_to_take_a_while_it_opens_when_there_were_enough_of_them_for_long_enough(at_s: list[float], opens: bool) -> None:
    breaker = Breaker()
    for after_s in at_s:
        assert not breaker.is_open
        breaker = failed(breaker, RULE, now=NOW + after_s, u=0.0, span_s=10.0)
    assert breaker.is_open is opens


def test_a_success_in_between_starts_that_while_anew() -> None:
    breaker = failed(Breaker(), RULE, now=NOW, u=0.0, span_s=10.0)
    breaker = succeeded(breaker, now=NOW + 9)
    for _ in range(RULE.failures):
        breaker = failed(breaker, RULE, now=NOW + 11, u=0.0, span_s=10.0)
    assert not breaker.is_open


def test_a_failed_probe_needs_no_while() -> None:
    assert failed(Breaker(failures=5, open_until=NOW), RULE, now=NOW, u=0.0, span_s=10.0).open_until == NOW + 30


# While it is open


@given(st.integers(0, 2000), CONCURRENCIES, st.floats(0, 30, exclude_max=True))
def test_while_it_is_open_nothing_may_start_whatever_is_under_way(in_flight: int, concurrency: int, after_s: float) -> None:
    breaker = tripped()
    now = NOW + after_s
    if now < opened_until(breaker):
        assert room(breaker, concurrency=concurrency, in_flight=in_flight, now=now) <= 0
        assert room_at(breaker, concurrency=concurrency, now=now) == NOW + 30


@given(st.lists(st.floats(0, 29.9), max_size=50))
def test_what_was_under_way_when_it_opened_and_fails_while_it_is_open_does_not_prolong_it(at_s: list[float]) -> None:
    breaker = tripped()
    for after_s in sorted(at_s):
        breaker = failed(breaker, RULE, now=NOW + after_s, u=0.5)
    assert opened_until(breaker) == NOW + 30


@given(st.lists(st.floats(0, 1e4), min_size=1, max_size=50), CHANCES)
def test_however_late_the_last_of_them_fails_it_is_tried_again_a_pause_after_that(at_s: list[float], u: float) -> None:
    breaker = tripped()
    for after_s in sorted(at_s):
        breaker = failed(breaker, RULE, now=NOW + after_s, u=u)
    assert opened_until(breaker) <= NOW + max(*at_s, 0.0) + RULE.pause
    assert allowed(breaker, NOW + max(at_s) + RULE.pause) == 1


def test_a_success_of_what_was_under_way_closes_it_at_once() -> None:
    assert not succeeded(tripped(), now=NOW + 1).is_open


# Half open


@given(st.integers(1, 2000), CONCURRENCIES, st.floats(0, 1e6))
def test_half_open_lets_exactly_one_through(in_flight: int, concurrency: int, late_s: float) -> None:
    breaker = tripped()
    now = opened_until(breaker) + late_s
    assert breaker.is_open, "until an answer says otherwise"
    assert room(breaker, concurrency=concurrency, in_flight=0, now=now) == 1
    assert room(breaker, concurrency=concurrency, in_flight=in_flight, now=now) == 0
    assert room_at(breaker, concurrency=concurrency, now=now) is None, "it depends on that one"


@given(CHANCES)
def test_one_failure_of_the_probe_opens_it_for_another_pause(u: float) -> None:
    breaker = tripped()
    now = opened_until(breaker) + 3
    again = failed(breaker, RULE, now=now, u=u)
    assert now + RULE.pause * (1 - JITTER) <= opened_until(again) <= now + RULE.pause
    assert again.failures == RULE.failures + 1
    assert allowed(again, now) == 0


def test_a_failed_probe_opens_it_again_also_where_more_failures_are_allowed_by_now() -> None:
    """As after a reload of the config, or a restart."""
    again = failed(Breaker(failures=2, open_until=NOW), RULE, now=NOW + 1, u=0.0)
    assert opened_until(again) == NOW + 31


def test_a_success_of_the_probe_closes_it_and_the_count_starts_anew() -> None:
    breaker = tripped()
    now = opened_until(breaker) + 3
    closed = succeeded(breaker, now=now)
    assert (closed.is_open, closed.failures) == (False, 0)
    for _ in range(RULE.failures - 1):
        closed = failed(closed, RULE, now=now, u=0.0)
    assert not closed.is_open
    assert failed(closed, RULE, now=now, u=0.0).is_open


# The way back


@given(CLOCKS, CONCURRENCIES, st.lists(st.floats(0, 20), min_size=2, max_size=20))
def test_after_an_outage_it_is_one_at_first_and_never_fewer_and_all_within_ten_seconds(now: float, concurrency: int, later_s: list[float]) -> None:
    breaker = succeeded(Breaker(failures=5, open_until=now), now=now)
    steps = [allowed(breaker, now + after_s, concurrency=concurrency) for after_s in sorted(later_s)]
    assert allowed(breaker, now, concurrency=concurrency) == 1
    assert steps == sorted(steps)
    assert all(1 <= step <= concurrency for step in steps)
    assert allowed(breaker, now + RAMP_S, concurrency=concurrency) == concurrency


def test_the_way_back_is_no_jump() -> None:
    steps = [allowed(back(), NOW + tenths / 10, concurrency=64) for tenths in range(101)]
    assert max(later - sooner for sooner, later in itertools.pairwise(steps)) <= 2
    assert 16 <= steps[40] <= 40, "about half of it after about half the time"


def test_a_few_failures_on_the_way_back_change_nothing_and_enough_of_them_open_it_again() -> None:
    breaker = back()
    for _ in range(RULE.failures - 1):
        breaker = failed(breaker, RULE, now=NOW + 4, u=0.0)
    assert allowed(breaker, NOW + 4) == allowed(back(), NOW + 4)
    breaker = failed(breaker, RULE, now=NOW + 4, u=0.0)
    assert allowed(breaker, NOW + 4) == 0
    assert allowed(succeeded(breaker, now=NOW + 90), NOW + 90) == 1, "and then the way back begins anew"


def test_success_after_success_does_not_begin_the_way_back_anew() -> None:
    breaker = back()
    for tenths in range(100):
        breaker = succeeded(breaker, now=NOW + tenths / 10)
        if tenths % 10 == 0:
            breaker = failed(breaker, RULE, now=NOW + tenths / 10, u=0.0)
        assert allowed(breaker, NOW + tenths / 10) == allowed(back(), NOW + tenths / 10), "nor cut it short"
    assert allowed(breaker, NOW + RAMP_S) == 8


@given(st.integers(0, 100), CONCURRENCIES, st.floats(0, 20))
def test_what_is_under_way_takes_its_room(in_flight: int, concurrency: int, after_s: float) -> None:
    for breaker in (Breaker(), back(), Breaker(failures=3)):
        free = room(breaker, concurrency=concurrency, in_flight=in_flight, now=NOW + after_s)
        assert free == allowed(breaker, NOW + after_s, concurrency=concurrency) - in_flight


# When there will be more room: whoever waits for it must neither sleep too long nor spin


STATES: dict[str, Callable[[float], Breaker]] = {
    "closed": lambda at: Breaker(),
    "failing": lambda at: Breaker(failures=3),
    "open": lambda at: Breaker(failures=5, open_until=at + 15),
    "coming back": lambda at: Breaker(back_at=at),
    "failing again": lambda at: Breaker(failures=2, back_at=at),
    "open again": lambda at: Breaker(failures=7, back_at=at - 20, open_until=at + 15),
}


@pytest.mark.parametrize("state", STATES)
@given(CLOCKS, st.floats(0, 30), CONCURRENCIES)
def test_the_instant_at_which_there_is_more_room_is_to_come_and_there_is_more_room_then(state: str, at: float, after_s: float, concurrency: int) -> None:
    breaker, now = STATES[state](at), at + after_s
    then = room_at(breaker, concurrency=concurrency, now=now)
    if then is None:
        assert allowed(breaker, now, concurrency=concurrency) == allowed(breaker, now + 1e6, concurrency=concurrency), "there would have been more, later"
    else:
        assert then > now
        assert allowed(breaker, then, concurrency=concurrency) > allowed(breaker, now, concurrency=concurrency)


@given(CLOCKS, CONCURRENCIES)
def test_who_wakes_whenever_there_is_more_room_soon_has_all_of_it_and_wakes_no_oftener_than_there_are_requests(at: float, concurrency: int) -> None:
    breaker, now, woken = Breaker(back_at=at), at, 0
    while (then := room_at(breaker, concurrency=concurrency, now=now)) is not None:
        assert then > now
        now, woken = then, woken + 1
        assert woken <= concurrency
    assert now <= at + RAMP_S
    assert allowed(breaker, now, concurrency=concurrency) == concurrency


# The rate


def sent(rate: float, asked: list[float], *, start: float = NOW) -> list[float]:
    """Return the instants at which requests go, one who asks at each of these instants, as a courier does it."""
    bucket, went = full_bucket(rate, start), []
    for now in asked:
        bucket = refilled(bucket, rate, now)
        if token_at(bucket, rate) <= now:
            bucket = replace(bucket, tokens=bucket.tokens - 1)
            went.append(now)
    return went


def at_full_speed(rate: float, count: int, *, start: float = NOW) -> list[float]:
    """Return the instants at which so many requests go that wait for nothing but the rate."""
    bucket, now, went, turns = full_bucket(rate, start), start, list[float](), 0
    while len(went) < count:
        turns += 1
        assert turns <= 4 * count, "it spins"
        bucket = refilled(bucket, rate, now)
        if (then := token_at(bucket, rate)) <= now:
            bucket = replace(bucket, tokens=bucket.tokens - 1)
            went.append(now)
        else:
            now = then
    return went


def exceeded(went: list[float], rate: float) -> float:
    """Return by how many requests the worst window was over the rate and one second's worth."""
    return max((n - m + 1 - rate * (went[n] - went[m]) - max(rate, 1.0) for n in range(len(went)) for m in range(n + 1)), default=0.0)


@pytest.mark.parametrize(
    ("rate", "times"),
    [
        (10.0, [0.0] * 10 + [0.1, 0.2, 0.3]),  # "10/s"
        (1.0, [0, 1, 2, 3]),  # "60/min": one at once, not sixty
        (0.5, [0, 2, 4, 6]),  # "0.5/s"
        (1.5, [0, 1 / 3, 1, 5 / 3]),  # "90/min"
        (500 / 3600, [0, 7.2, 14.4]),  # "500/h"
        (1 / 3600, [0, 3600, 7200]),
    ],
)
def test_a_second_s_worth_goes_at_once_and_then_the_rate_counts(rate: float, times: list[float]) -> None:
    assert [now - NOW for now in at_full_speed(rate, len(times))] == pytest.approx(times, abs=0.01)


@given(RATES, st.lists(st.one_of(st.just(0.0), st.floats(0, 3), st.floats(0, 5_000)), min_size=1, max_size=60), CLOCKS)
def test_in_no_stretch_of_time_more_goes_than_the_rate_and_one_second_s_worth(rate: float, waits: list[float], start: float) -> None:
    now, asked = start, list[float]()
    for wait in waits:
        now += wait
        asked.append(now)
    assert exceeded(sent(rate, asked, start=start), rate) <= 1e-3


@given(RATES, st.integers(1, 60), CLOCKS)
def test_at_full_speed_neither_more_nor_less_goes_than_the_rate(rate: float, count: int, start: float) -> None:
    went = at_full_speed(rate, count, start=start)
    assert exceeded(went, rate) <= 1e-3
    assert (went[-1] - went[0]) * rate <= count - 1 + 1e-3
    assert (went[-1] - went[0]) * rate >= count - max(rate, 1.0) - 1 - 1e-3


@given(RATES, st.floats(-1, 1000), CLOCKS, st.floats(0, 1e5))
def test_the_next_token_is_there_when_it_is_said_to_be_and_not_before(rate: float, tokens: float, at: float, after_s: float) -> None:
    bucket = Bucket(min(tokens, max(rate, 1.0)), at)
    then, now = token_at(bucket, rate), at + after_s
    assert then >= at
    if now >= then + 1e-6:
        assert refilled(bucket, rate, now).tokens >= 1 - 1e-5
    if now < then - 1e-6:
        assert refilled(bucket, rate, now).tokens < 1
    assert token_at(refilled(bucket, rate, now), rate) == pytest.approx(max(then, now), abs=1e-3), "whenever it is asked"


@given(RATES, st.lists(st.floats(0, 1e4), max_size=20))
def test_a_bucket_that_is_filled_bit_by_bit_holds_what_one_filled_at_once_does(rate: float, waits: list[float]) -> None:
    bit_by_bit, now = Bucket(-0.5, NOW), NOW
    for wait in waits:
        now += wait
        bit_by_bit = refilled(bit_by_bit, rate, now)
    at_once = refilled(Bucket(-0.5, NOW), rate, now)
    assert bit_by_bit.tokens == pytest.approx(at_once.tokens, abs=1e-4)
    assert math.isfinite(bit_by_bit.tokens)
    assert bit_by_bit.tokens <= max(rate, 1.0)
