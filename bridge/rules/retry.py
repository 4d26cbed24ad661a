"""What an answer means, and when to try again. Pure: `now` and `u` in [0, 1) come in from outside."""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

from pydantic import Field, model_validator

from bridge.model import Outcome, Reply, Verdict
from bridge.rules.units import Duration, Slice, duration_text

MAX_PAUSE_S = 86_400.0  # Retry-After is obeyed up to a day: longer is a receiver's mistake
JITTER = 0.2  # the share of a delay that is left to chance, as Svix does it
MAX_EXPONENT = 64  # factor ** 64 is past any `max`; keeps a float from overflowing at attempt 10,000

_ABOUT_THE_EVENT = frozenset({400, 413, 414, 415, 422})
_ABOUT_THE_ENDPOINT = frozenset({401, 403, 404, 405, 407, 408, 425, 429})
_SECONDS = re.compile(r"[0-9]{1,12}(\.[0-9]{1,9})?", re.ASCII)

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


def judge(reply: Reply, *, policy: RetryPolicy, attempt: int, age_s: float, now: float, u: float) -> Outcome:
    """Return what the answer to attempt *attempt* of a webhook means.

    | answer                                        | outcome                                          |
    |-----------------------------------------------|--------------------------------------------------|
    | 2xx                                           | delivered                                        |
    | `webhook-delivery: abort-message`, not 2xx    | dead                                             |
    | `webhook-delivery: disable`, not 2xx          | dead, destination disabled                       |
    | 400, 413, 414, 415, 422                       | dead: it is about the event                      |
    | 410                                           | dead, destination disabled                       |
    | 3xx, 401, 403, 404, 405, 407, 408, 425, 429,  | retry on the policy; dead when that is used up   |
    | 5xx, anything beyond, no answer at all        |                                                  |
    | 429 and 503 with Retry-After                  | as above, not before then, for the destination   |
    | any other 4xx                                 | dead                                             |

    Sources: Standard Webhooks, "Deliverability and reliability"; RFC 9110 sections 10.2.3 and 15.
    """
    status = reply.status
    if status is None:
        return _again(reply, f"{reply.error}: {reply.detail}", policy, attempt, age_s, u)
    if 200 <= status < 300:
        return Outcome(verdict=Verdict.DELIVERED, reason=f"status {status}", reply=reply)
    wish = reply.headers.get("webhook-delivery", "").strip().lower()
    if wish in ("abort-message", "disable"):
        return Outcome(verdict=Verdict.DEAD, reason=f"status {status}, webhook-delivery: {wish}", disable=wish == "disable", reply=reply)
    if status == 410:
        return Outcome(verdict=Verdict.DEAD, reason="status 410: the receiver is gone for good", disable=True, reply=reply)
    if status in _ABOUT_THE_EVENT or (400 <= status < 500 and status not in _ABOUT_THE_ENDPOINT):
        return Outcome(verdict=Verdict.DEAD, reason=f"status {status}: the receiver refuses this event", reply=reply)
    pause_s = retry_after(reply.headers, now) if status in (429, 503) else None
    return _again(reply, _told(reply), policy, attempt, age_s, u, pause_s=pause_s)


def judge_publish(reply: Reply) -> Outcome:
    """Return what the broker's answer to a publish means.

    | answer                              | outcome                                                       |
    |-------------------------------------|---------------------------------------------------------------|
    | PUBACK below 0x80                   | delivered (0x10: nobody is subscribed)                        |
    | PUBACK 0x80 or more                 | dead: the broker refuses it                                   |
    | "away": surely not sent             | retry, once the broker is back                                |
    | "expired": not sent                 | expired                                                       |
    | "doubt": sent, and no PUBACK came   | dead: a repeat could move the device twice                    |
    """
    if reply.status is None:
        verdict = {"away": Verdict.RETRY, "expired": Verdict.EXPIRED}.get(str(reply.error), Verdict.DEAD)
        return Outcome(verdict=verdict, reason=f"{reply.error}: {reply.detail}", delay_s=AWAY_S, reply=reply)
    if reply.status >= FAILURE:
        return Outcome(verdict=Verdict.DEAD, reason=f"the broker refuses it: {reply.detail or hex(reply.status)}", reply=reply)
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


def _again(reply: Reply, reason: str, policy: RetryPolicy, attempt: int, age_s: float, u: float, *, pause_s: float | None = None) -> Outcome:
    wait_s = delay(policy, attempt, age_s=age_s, u=u)
    if wait_s is None:
        tries = "1 attempt" if attempt == 1 else f"{attempt} attempts"
        return Outcome(verdict=Verdict.DEAD, reason=f"{reason}; gave up after {tries} in {duration_text(max(age_s, 1.0))}", pause_s=pause_s, reply=reply)
    return Outcome(verdict=Verdict.RETRY, reason=reason, delay_s=max(wait_s, pause_s or 0.0), pause_s=pause_s, reply=reply)


def _told(reply: Reply) -> str:
    if reply.status is not None and 300 <= reply.status < 400:
        return f"status {reply.status}: a redirect is never followed, set the URL to where it leads"
    return f"status {reply.status}"
