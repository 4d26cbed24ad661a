"""What an answer means, and when to try again. Pure: `now` and `u` in [0, 1) come in from outside."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from functools import partial

from pydantic import Field, model_validator

from bridge.errors import RenderError
from bridge.model import Outcome, Reply, Verdict
from bridge.rules.expressions import Expression
from bridge.rules.responses import response_of
from bridge.rules.units import Duration, Slice, duration_text

MAX_PAUSE_S = 86_400.0  # Retry-After is obeyed up to a day: longer is a receiver's mistake
JITTER = 0.2  # the share of a delay that is left to chance, as Svix does it
MAX_EXPONENT = 64  # factor ** 64 is past any `max`; keeps a float from overflowing at attempt 10,000

_ABOUT_THE_EVENT = frozenset({400, 413, 414, 415, 422})
_ABOUT_THE_ENDPOINT = frozenset({401, 403, 404, 405, 407, 408, 425, 429})
_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?", re.ASCII)

AWAY_S = 1.0  # before a command that surely was not sent is tried again; usually the broker's return is what it waits for

NO_SUBSCRIBERS = 0x10  # PUBACK "No matching subscribers", MQTT 5.0 section 3.4.2.1
NOT_AUTHORIZED = 0x87  # PUBACK "Not authorized", same place
FAILURE = 0x80  # reason codes from here on are failures, MQTT 5.0 section 2.4


class RetryPolicy(Slice):
    """When the next attempt comes: exponential, or the pauses of a schedule one after the other."""

    first: Duration = 5.0
    factor: float = Field(default=3.0, ge=1.0, le=100.0)
    max: Duration = 3600.0
    for_: Duration = Field(default=259_200.0, alias="for")  # three days: a weekend away, and Standard Webhooks' span
    schedule: tuple[Duration, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> "RetryPolicy":
        if self.schedule is not None:
            if others := self.model_fields_set - {"schedule"}:
                raise ValueError(f"`schedule` stands alone: remove {', '.join(sorted(others)).replace('for_', 'for')}")
        elif self.first > self.max:
            raise ValueError("`first` is longer than `max`")
        return self


def delay(policy: RetryPolicy, attempt: int, *, age_s: float, u: float) -> float | None:
    """Return the seconds to wait after attempt *attempt* (1 or more) failed, or None to give up.

    Clamped to `max` first, then shortened by up to a fifth by *u* in [0, 1): so that what failed
    together doesn't come back together. *age_s* is how long ago the event was made.
    """
    if policy.schedule is not None:
        plain = policy.schedule[attempt - 1] if attempt <= len(policy.schedule) else None
    else:
        plain = min(policy.max, policy.first * policy.factor ** min(attempt - 1, MAX_EXPONENT))
        if age_s + plain > policy.for_:
            plain = None
    return None if plain is None else plain * (1 - JITTER * u)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """What a destination's answers are judged by: when it is tried again, what counts as success, and where a wait is written."""

    policy: RetryPolicy
    success: Expression | None = None
    retry_after: Expression | None = None


def judge(reply: Reply, by: Judging, *, attempt: int, age_s: float, now: float, u: float, probe: bool = False) -> Outcome:
    """Return what the answer to attempt *attempt* of a webhook means.

    | answer                                        | outcome                                          |
    |-----------------------------------------------|--------------------------------------------------|
    | 2xx, and `success` holds if there is one      | delivered                                        |
    | 2xx, but `success` doesn't hold               | retry on the policy; dead when that is used up   |
    | `webhook-delivery: abort-message`, not 2xx    | dead                                             |
    | `webhook-delivery: disable`, not 2xx          | dead, destination disabled                       |
    | 400, 413, 414, 415, 422                       | dead: it is about the event                      |
    | 410                                           | dead, destination disabled                       |
    | 3xx, 401, 403, 404, 405, 407, 408, 425, 429,  | retry on the policy; dead when that is used up   |
    | 5xx, anything beyond, no answer at all        |                                                  |
    | 429 and 503 with Retry-After, or whatever the | as above, not before then, for the destination   |
    | expression `retry_after` finds in an answer   |                                                  |
    | any other 4xx                                 | dead                                             |

    A *probe* of a breaker that fails spends no attempt: only the age that its policy allows ends it.

    Sources: Standard Webhooks, "Deliverability and reliability"; RFC 9110 sections 10.2.3 and 15.
    """
    status = reply.status
    again = partial(_again, reply, policy=by.policy, attempt=attempt, age_s=age_s, u=u, probe=probe)
    if status is None:
        return again(f"{reply.error}: {reply.detail}")
    if 200 <= status < 300:
        if (failure := _failure(by.success, reply)) is not None:
            return again(f"status {status}, but {failure}", pause_s=_told_wait(by.retry_after, reply))
        return Outcome(verdict=Verdict.DELIVERED, reason=f"status {status}", reply=reply)
    wish = reply.headers.get("webhook-delivery", "").strip().lower()
    if wish in ("abort-message", "disable"):
        return Outcome(verdict=Verdict.DEAD, reason=f"status {status}, webhook-delivery: {wish}", disable=wish == "disable", reply=reply)
    if status == 410:
        return Outcome(verdict=Verdict.DEAD, reason="status 410: the receiver is gone for good", disable=True, reply=reply)
    if status in _ABOUT_THE_EVENT or (400 <= status < 500 and status not in _ABOUT_THE_ENDPOINT):
        return Outcome(verdict=Verdict.DEAD, reason=f"status {status}: the receiver refuses this event", reply=reply)
    waits = [retry_after(reply.headers, now) if status in (429, 503) else None, _told_wait(by.retry_after, reply)]
    return again(_told(reply), pause_s=max((wait_s for wait_s in waits if wait_s is not None), default=None))


def judge_publish(reply: Reply) -> Outcome:
    """Return what the broker's answer to a publish means.

    | answer                              | outcome                                                       |
    |-------------------------------------|---------------------------------------------------------------|
    | PUBACK below 0x80                   | delivered (0x10: nobody is subscribed)                        |
    | PUBACK 0x80 or more                 | dead: the broker refuses it                                   |
    | "away": surely not sent             | retry, once the broker is back                                |
    | "expired": not sent                 | expired                                                       |
    | "doubt": sent, and no PUBACK came   | dead: a repeat could move the device twice                    |

    A device that did not confirm changes nothing of that: it was told.
    """
    if reply.status is None:
        verdict = {"away": Verdict.RETRY, "expired": Verdict.EXPIRED}.get(str(reply.error), Verdict.DEAD)
        return Outcome(verdict=verdict, reason=f"{reply.error}: {reply.detail}", delay_s=AWAY_S, reply=reply)
    if reply.status >= FAILURE:
        return Outcome(verdict=Verdict.DEAD, reason=f"the broker refuses it: {reply.detail or hex(reply.status)}", reply=reply)
    if reply.confirmed is not None:
        return Outcome(verdict=Verdict.DELIVERED, reason="confirmed by the device" if reply.confirmed else f"published, but {reply.detail}", reply=reply)
    reason = "published, but nobody is subscribed" if reply.status == NO_SUBSCRIBERS else "published"
    return Outcome(verdict=Verdict.DELIVERED, reason=reason, reply=reply)


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Return the seconds that Retry-After asks for, 0 to a day, or None if it isn't there or can't be read.

    Takes seconds, fractions of them, and the three date forms of RFC 9110 section 5.6.7.
    """
    text = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return min(float(text), MAX_PAUSE_S)
    try:
        at = parsedate_to_datetime(text)
        # Some valid forms come back without a zone; HTTP's dates are always GMT.
        wait_s = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_PAUSE_S)


def _again(reply: Reply, reason: str, *, policy: RetryPolicy, attempt: int, age_s: float, u: float, probe: bool, pause_s: float | None = None) -> Outcome:
    wait_s = 0.0 if probe and policy.schedule is not None else delay(policy, attempt, age_s=age_s, u=u)
    if wait_s is None:
        tries = "1 attempt" if attempt == 1 else f"{attempt} attempts"
        reason = f"{reason}; gave up after {tries} in {duration_text(max(age_s, 1.0))}"
        return Outcome(verdict=Verdict.DEAD, reason=reason, pause_s=pause_s, alive=False, reply=reply)
    return Outcome(verdict=Verdict.RETRY, reason=reason, delay_s=max(wait_s, pause_s or 0.0), pause_s=pause_s, alive=False, spends=not probe, reply=reply)


def _failure(success: Expression | None, reply: Reply) -> str | None:
    """Return why `success` doesn't hold of a 2xx answer, or None if it does."""
    try:
        return None if success is None or success.holds({"response": response_of(reply)}) else f"`success` is false: {success.text}"
    except RenderError as exc:
        return f"`success` counts as false: {exc}"


def _told_wait(expression: Expression | None, reply: Reply) -> float | None:
    """Return the seconds that an answer asks to wait in its body, 0 to a day, or None if it doesn't."""
    if expression is None:
        return None
    try:
        wait_s = float(expression.value({"response": response_of(reply)}))
    except (RenderError, TypeError, ValueError, OverflowError):
        return None
    return min(max(wait_s, 0.0), MAX_PAUSE_S) if math.isfinite(wait_s) else None


def _told(reply: Reply) -> str:
    if reply.status is not None and 300 <= reply.status < 400:
        return f"status {reply.status}: a redirect is never followed, set the URL to where it leads"
    return f"status {reply.status}"
