"""Pacing: how fast a destination is sent to. Its rate, its breaker, and how it comes back after an outage.

Pure: `now` is monotonic seconds, `u` in [0, 1) is chance. The breaker follows the usual three states (closed, open,
half open): after so many failures in a row nothing is tried for a while, then one attempt is; what waits meanwhile
spends no attempts.
"""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field

from bridge.rules.units import Duration, Slice

JITTER = 0.2  # the share of a pause that is left to chance: what failed together doesn't come back together
RAMP_S = 8.0  # from one request at a time to all of them after an outage; the contract's ten seconds, less the pause of the last probe
SPAN_S = 1.0  # without a success, before the breaker that nobody wrote out opens: a receiver that fails now and then isn't dead
SLACK = 1e-6  # of a request: the rate's own rounding


class BreakerRule(Slice):
    """`breaker` of a destination: after how many failures in a row it opens, and for how long."""

    failures: Annotated[int, Field(ge=1, le=1000)] = 5
    pause: Duration = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast a destination may be sent to: requests under way at once, and a second (None: any); and its breaker, if it has one."""

    concurrency: int
    rate: float | None = None
    breaker: BreakerRule | None = None
    span_s: float = 0.0  # that its failures in a row have to take


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker:
    """How a destination has done lately.

    `failures` are those in a row, the first of them at `failing_since`. While `open_until` is set it is open, and from that instant half open.
    `back_at` is when it came back from being open; None if it never was.
    """

    failures: int = 0
    open_until: float | None = None
    back_at: float | None = None
    failing_since: float | None = field(default=None, compare=False)

    @property
    def is_open(self) -> bool:
        """Return True while it is open or half open, False while it is closed."""
        return self.open_until is not None


@dataclass(frozen=True, slots=True)
class Bucket:
    """How many requests a rate lets through at once: `tokens` of them at an instant."""

    tokens: float
    at: float


def failed(breaker: Breaker, rule: BreakerRule, *, now: float, u: float, span_s: float = 0.0) -> Breaker:
    """Return the breaker after an attempt that failed by the endpoint's fault.

    It opens after `failures` in a row that took *span_s* seconds at least.
    """
    failures, since = breaker.failures + 1, now if breaker.failing_since is None else breaker.failing_since
    breaker = replace(breaker, failing_since=since)
    if not breaker.is_open and (failures < rule.failures or now - since < span_s):
        return replace(breaker, failures=failures)
    if breaker.open_until is not None and now < breaker.open_until:
        return replace(breaker, failures=failures)  # it was under way when the breaker opened
    return replace(breaker, failures=failures, open_until=now + rule.pause * (1 - JITTER * u))


def succeeded(breaker: Breaker, *, now: float) -> Breaker:
    """Return the breaker after an answer of an endpoint that works."""
    if not breaker.failures and not breaker.is_open:
        return breaker
    return Breaker(back_at=now if breaker.is_open else breaker.back_at)


def room(breaker: Breaker, *, concurrency: int, in_flight: int, now: float) -> int:
    """Return how many more requests may start: none while it is open, one while it is half open, and more as it comes back."""
    if breaker.open_until is not None:
        return 0 if now < breaker.open_until else max(1 - in_flight, 0)
    if breaker.back_at is not None and now < breaker.back_at + RAMP_S:
        share = (now - breaker.back_at) / RAMP_S
        return max(math.ceil(concurrency * share), 1) - in_flight
    return concurrency - in_flight


def room_at(breaker: Breaker, *, concurrency: int, now: float) -> float | None:
    """Return when there may be more room than now without anything having come back, or None if never."""
    if breaker.open_until is not None:
        return breaker.open_until if now < breaker.open_until else None
    if breaker.back_at is not None and now < breaker.back_at + RAMP_S:
        steps = max(math.ceil(concurrency * (now - breaker.back_at) / RAMP_S), 1)
        return breaker.back_at + RAMP_S * steps / concurrency + SLACK if steps < concurrency else None
    return None


def full_bucket(rate: float, now: float) -> Bucket:
    """Return the bucket of a rate, in requests a second, that let nothing through yet: a second's worth goes at once."""
    return Bucket(max(rate, 1.0), now)


def refilled(bucket: Bucket, rate: float, now: float) -> Bucket:
    """Return the bucket as it is at *now*."""
    return Bucket(min(bucket.tokens + (now - bucket.at) * rate, max(rate, 1.0)), now)


def token_at(bucket: Bucket, rate: float) -> float:
    """Return when the next request may go."""
    return bucket.at + max(1.0 - SLACK - bucket.tokens, 0.0) / rate
