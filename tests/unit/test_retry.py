"""What an answer means and when to try again: the whole table, and the bounds of every delay."""

import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.model import Outcome, Reply, Verdict
from bridge.rules.expressions import Expression
from bridge.rules.retry import AWAY_S, JITTER, MAX_PAUSE_S, Judging, RetryPolicy, delay, judge, judge_publish, retry_after

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the instant of RFC 9110 section 5.6.7

POLICY = RetryPolicy()

# The product, "Judging an answer": about the event, gone, and about the endpoint. Every other 4xx is dead.
DEAD_AT_ONCE = {400, 413, 414, 415, 422}
RETRIED = {401, 403, 404, 405, 407, 408, 425, 429, *range(300, 400), *range(500, 600)}

POLICIES = st.builds(
    lambda first_s, factor, longest_s, for_s: RetryPolicy.model_validate({"first": f"{min(first_s, longest_s)}s", "factor": factor, "max": f"{longest_s}s", "for": f"{for_s}s"}),
    st.integers(1, 10**5),
    st.floats(1, 100),
    st.integers(1, 10**6),
    st.integers(1, 10**7),
)
CHANCES = st.floats(0, 1, exclude_max=True)


def judged(status: int | None, *, headers: dict[str, str] | None = None, policy: RetryPolicy = POLICY, attempt: int = 1, age_s: float = 0.0, now: float = NOW, u: float = 0.0) -> Outcome:
    error, detail = ("timeout", "no answer within 15 s") if status is None else (None, None)
    return judge(Reply(status=status, headers=headers or {}, error=error, detail=detail), Judging(policy=policy), attempt=attempt, age_s=age_s, now=now, u=u)


def expected(status: int) -> tuple[Verdict, bool]:
    """Return what the product promises for a status: the verdict, and whether the destination is disabled."""
    if 200 <= status < 300:
        return Verdict.DELIVERED, False
    return (Verdict.RETRY, False) if status in RETRIED else (Verdict.DEAD, status == 410)


# Judging


@pytest.mark.parametrize("status", range(200, 600))
def test_every_status_is_judged_as_the_table_says(status: int) -> None:
    outcome = judged(status)
    assert (outcome.verdict, outcome.disable) == expected(status)
    assert outcome.reason.startswith(f"status {status}")
    assert outcome.reply is not None
    assert outcome.reply.status == status
    assert outcome.pause_s is None
    assert outcome.delay_s == (POLICY.first if outcome.verdict is Verdict.RETRY else 0)


@pytest.mark.parametrize("status", [100, 199, 600, 999])
def test_a_status_beyond_the_known_ones_is_about_the_endpoint(status: int) -> None:
    # RFC 9110 section 15: outside of 100 to 599 is a server's error
    assert judged(status).verdict is Verdict.RETRY


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (204, "status 204"),
        (300, "status 300: a redirect is never followed, set the URL to where it leads"),
        (302, "status 302: a redirect is never followed, set the URL to where it leads"),
        (399, "status 399: a redirect is never followed, set the URL to where it leads"),
        (400, "status 400: the receiver refuses this event"),
        (401, "status 401"),
        (410, "status 410: the receiver is gone for good"),
        (418, "status 418: the receiver refuses this event"),
        (422, "status 422: the receiver refuses this event"),
        (503, "status 503"),
    ],
)
def test_the_reason_says_what_a_person_can_do(status: int, reason: str) -> None:
    assert judged(status).reason == reason


def test_no_answer_at_all_is_retried_with_its_reason() -> None:
    outcome = judged(None)
    assert (outcome.verdict, outcome.delay_s, outcome.reason) == (Verdict.RETRY, POLICY.first, "timeout: no answer within 15 s")


@pytest.mark.parametrize("status", range(200, 600))
@pytest.mark.parametrize(("wish", "disabled"), [("abort-message", False), ("disable", True), (" Disable ", True)])
def test_the_receivers_own_wish_is_obeyed_unless_it_accepted(status: int, wish: str, disabled: bool) -> None:
    outcome = judged(status, headers={"webhook-delivery": wish})
    assert outcome.verdict is (Verdict.DELIVERED if status < 300 else Verdict.DEAD)
    assert outcome.disable is (disabled and status >= 300)


@pytest.mark.parametrize("status", [200, 400, 410, 503])
def test_a_wish_that_nobody_knows_changes_nothing(status: int) -> None:
    outcome = judged(status, headers={"webhook-delivery": "later"})
    assert (outcome.verdict, outcome.disable) == expected(status)


@pytest.mark.parametrize("status", range(300, 600))
def test_retry_after_counts_on_429_and_503_only(status: int) -> None:
    # RFC 9110 section 10.2.3, RFC 6585 section 4
    outcome = judged(status, headers={"retry-after": "120"})
    paused = status in (429, 503)
    assert outcome.pause_s == (120 if paused else None)
    if outcome.verdict is Verdict.RETRY:
        assert outcome.delay_s == (120 if paused else POLICY.first)


def test_retry_after_is_a_lower_bound_and_not_capped_by_the_policys_max() -> None:
    assert judged(503, headers={"retry-after": "1"}).delay_s == POLICY.first
    assert judged(503, headers={"retry-after": "7200"}).delay_s == 7200 > POLICY.max
    assert judged(503, headers={"retry-after": "9999999"}).delay_s == MAX_PAUSE_S


@pytest.mark.parametrize(
    ("attempt", "age_s", "words"),
    [(1, 259_200, "status 503; gave up after 1 attempt in 3d"), (9, 266_400, "status 503; gave up after 9 attempts in 3d 2h"), (1, 259_199.9, "gave up after 1 attempt in 3d")],
)
def test_an_event_that_is_too_old_is_given_up_with_what_was_tried(attempt: int, age_s: float, words: str) -> None:
    outcome = judged(503, attempt=attempt, age_s=age_s, headers={"retry-after": "60"})
    assert outcome.verdict is Verdict.DEAD
    assert words in outcome.reason
    assert (outcome.pause_s, outcome.disable) == (60, False), "the destination's others still wait as it asked"


def test_a_schedule_that_is_used_up_gives_up() -> None:
    policy = RetryPolicy.model_validate({"schedule": ["5s", "5m"]})
    assert [judged(503, policy=policy, attempt=attempt).verdict for attempt in (1, 2, 3)] == [Verdict.RETRY, Verdict.RETRY, Verdict.DEAD]
    assert judged(503, policy=policy, attempt=3, age_s=0.2).reason == "status 503; gave up after 3 attempts in 1s"


@given(st.one_of(st.none(), st.integers(100, 999)), st.dictionaries(st.sampled_from(["retry-after", "webhook-delivery"]), st.text()), POLICIES, st.integers(1, 10_000), st.floats(0, 1e9), CHANCES)
def test_judging_is_total_and_never_waits_backwards(status: int | None, headers: dict[str, str], policy: RetryPolicy, attempt: int, age_s: float, u: float) -> None:
    outcome = judged(status, headers=headers, policy=policy, attempt=attempt, age_s=age_s, u=u)
    assert outcome.reason
    assert outcome.delay_s >= (outcome.pause_s or 0) or outcome.verdict is not Verdict.RETRY
    assert not outcome.disable or outcome.verdict is Verdict.DEAD


# What counts as success, and how long an answer asks to wait


def asked(status: int | None, body: bytes, *, success: str | None = None, wait: str | None = None, attempt: int = 1, age_s: float = 0.0, u: float = 0.0, **headers: str) -> Outcome:
    """Return what is judged of an answer with these keys of a destination."""
    by = Judging(policy=POLICY, success=Expression.parse(success) if success else None, retry_after=Expression.parse(wait) if wait else None)
    reply = Reply(status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}, body=body)
    return judge(reply, by, attempt=attempt, age_s=age_s, now=NOW, u=u)


@pytest.mark.parametrize("status", range(200, 600))
def test_only_an_answer_about_the_endpoint_says_that_it_does_not_work(status: int) -> None:
    assert judged(status).alive is (expected(status)[0] is not Verdict.RETRY)


def test_an_endpoint_that_does_not_answer_does_not_work_also_when_its_event_is_given_up() -> None:
    assert not judged(None).alive
    given_up = judged(503, age_s=1e9)
    assert (given_up.verdict, given_up.alive) == (Verdict.DEAD, False)


@pytest.mark.parametrize(
    ("success", "body"),
    [
        ("response.json.ok", b'{"ok": true}'),
        ("response.json.ok == 'yes' or response.json.count > 2", b'{"ok": "no", "count": 3}'),
        ("response.text == 'ok'", b"ok"),
        ("'error' not in response.text", b""),
        ("response.status == 200", b""),
        ("response.headers['x-state'] == 'fine'", b""),
        ("response.json.errors|length == 0", b'{"errors": []}'),
    ],
)
def test_a_2xx_whose_success_holds_is_delivered(success: str, body: bytes) -> None:
    outcome = asked(200, body, success=success, x_state="fine")
    assert (outcome.verdict, outcome.reason, outcome.alive) == (Verdict.DELIVERED, "status 200", True)


NOT_SO = [  # `success`, the body, what the reason has to say
    ("response.json.ok", b'{"ok": false}', "response.json.ok"),
    ("response.json.ok", b'{"ok": null}', "response.json.ok"),
    ("response.json.ok", b"{}", "response.json.ok is missing"),
    ("response.json.ok", b"<html>", "response.json is missing"),
    ("response.json.ok", b"", "response.json is missing"),
    ("response.json.count > 2", b'{"count": 2}', "response.json.count > 2"),
    ("response.json.count > 2", b'{"count": "3"}', "response.json.count is the text '3', not a number"),
    ("response.headers['x-nothing'] == ''", b"", "is missing"),
    ("1 / response.json.n > 0", b'{"n": 0}', "division by zero"),
]


@pytest.mark.parametrize("status", [200, 201, 204, 299])
@pytest.mark.parametrize(("success", "body", "told"), NOT_SO)
def test_a_2xx_whose_success_is_false_or_can_not_be_told_is_tried_again_and_the_reason_says_why(status: int, success: str, body: bytes, told: str) -> None:
    outcome = asked(status, body, success=success)
    assert (outcome.verdict, outcome.delay_s, outcome.pause_s, outcome.alive, outcome.disable) == (Verdict.RETRY, POLICY.first, None, False, False)
    assert outcome.reason.startswith(f"status {status}")
    assert "`success`" in outcome.reason
    assert told in outcome.reason


def test_a_success_that_stays_false_is_given_up_as_any_failure_is() -> None:
    outcome = asked(200, b'{"ok": false}', success="response.json.ok", attempt=3, age_s=259_200)
    assert outcome.verdict is Verdict.DEAD
    assert "`success` is false: response.json.ok; gave up after 3 attempts in 3d" in outcome.reason
    assert not outcome.alive


@pytest.mark.parametrize("status", range(300, 600))
def test_success_makes_no_failure_good(status: int) -> None:
    """It is asked beyond a 2xx, and not in place of one."""
    outcome = asked(status, b'{"ok": true}', success="response.json.ok")
    assert (outcome.verdict, outcome.disable) == expected(status)
    assert outcome.reason == judged(status).reason


@pytest.mark.parametrize("wish", ["abort-message", "disable"])
def test_the_receivers_wish_counts_in_no_2xx_also_where_success_is_false(wish: str) -> None:
    outcome = asked(200, b"{}", success="response.json.ok", webhook_delivery=wish)
    assert (outcome.verdict, outcome.disable) == (Verdict.RETRY, False)


def test_retry_after_in_the_header_of_a_2xx_is_not_obeyed_either() -> None:
    assert asked(200, b"{}", success="response.json.ok", retry_after="120").pause_s is None


TOLD = [  # what `response.json.wait` is, and the seconds that the destination rests
    (b"30", 30.0),
    (b"0.5", 0.5),
    (b'"30"', 30.0),
    (b'"2.5"', 2.5),
    (b"0", 0.0),
    (b"-5", 0.0),
    (b'"-5"', 0.0),
    (b"86400", 86_400.0),
    (b"1000000", MAX_PAUSE_S),  # a day at most
    (b'"1000000"', MAX_PAUSE_S),
    (b"1e300", MAX_PAUSE_S),
    (b'"soon"', None),
    (b'""', None),
    (b'"nan"', None),
    (b'"-inf"', None),
    (b"null", None),
    (b"[30]", None),
    (b'{"s": 30}', None),
    (b'"Sun, 06 Nov 1994 08:51:37 GMT"', None),
    (b"nothing that is JSON", None),
]


@pytest.mark.parametrize(("status", "success"), [(200, "response.json.ok"), (204, "response.status == 200"), (429, None), (429, "response.json.ok"), (500, None), (503, None), (404, None)])
@pytest.mark.parametrize(("wait", "pause_s"), TOLD)
def test_what_an_answer_asks_for_in_its_body_holds_the_whole_destination_back(wait: bytes, pause_s: float | None, status: int, success: str | None) -> None:
    outcome = asked(status, b'{"ok": false, "wait": ' + wait + b"}", success=success, wait="response.json.wait")
    assert outcome.verdict is Verdict.RETRY
    assert outcome.pause_s == pause_s
    assert outcome.delay_s == max(POLICY.first, pause_s or 0.0)


@pytest.mark.parametrize(("status", "body"), [(200, b'{"ok": true, "wait": 30}'), (400, b'{"wait": 30}'), (410, b'{"wait": 30}'), (418, b'{"wait": 30}')])
def test_an_endpoint_that_works_is_not_waited_for(status: int, body: bytes) -> None:
    assert asked(status, body, success="response.json.ok", wait="response.json.wait").pause_s is None


@pytest.mark.parametrize(("header", "wait", "pause_s"), [("120", b"30", 120.0), ("30", b"120", 120.0), ("soon", b"30", 30.0), ("30", b'"soon"', 30.0), ("9999999", b"1", MAX_PAUSE_S)])
def test_of_two_waits_the_longer_one_counts_each_is_a_lower_bound(header: str, wait: bytes, pause_s: float) -> None:
    outcome = asked(429, b'{"wait": ' + wait + b"}", wait="response.json.wait", retry_after=header)
    assert outcome.pause_s == pause_s
    assert outcome.delay_s == max(POLICY.first, pause_s)


def test_the_header_of_another_status_is_not_obeyed_beside_the_body() -> None:
    assert asked(500, b'{"wait": 30}', wait="response.json.wait", retry_after="120").pause_s == 30


def test_an_event_that_is_given_up_still_holds_the_others_back_as_its_answer_asks() -> None:
    outcome = asked(200, b'{"ok": false, "wait": 30}', success="response.json.ok", wait="response.json.wait", age_s=1e9)
    assert (outcome.verdict, outcome.pause_s) == (Verdict.DEAD, 30)


def test_a_wait_needs_an_answer() -> None:
    by = Judging(policy=POLICY, retry_after=Expression.parse("30"))
    assert judge(Reply(error="dns", detail="no such name"), by, attempt=1, age_s=0.0, now=NOW, u=0.0).pause_s is None


@given(st.one_of(st.none(), st.integers(100, 999)), st.binary(), st.sampled_from(["response.json.ok", "response.text|int > 0", "response.json[0] + 1 > response.status", "response.headers.a"]), CHANCES)
def test_judging_is_total_whatever_an_answer_holds(status: int | None, body: bytes, expression: str, u: float) -> None:
    outcome = asked(status, body, success=expression, wait=expression, u=u)
    assert outcome.reason
    assert outcome.pause_s is None or 0 <= outcome.pause_s <= MAX_PAUSE_S
    assert outcome.delay_s >= (outcome.pause_s or 0) or outcome.verdict is not Verdict.RETRY


# Judging a publish


@pytest.mark.parametrize(
    ("code", "verdict", "reason"),
    [
        (0x00, Verdict.DELIVERED, "published"),
        (0x10, Verdict.DELIVERED, "published, but nobody is subscribed"),
        (0x7F, Verdict.DELIVERED, "published"),
        (0x80, Verdict.DEAD, "the broker refuses it: 0x80"),
        (0x87, Verdict.DEAD, "the broker refuses it: 0x87"),
        (0x97, Verdict.DEAD, "the broker refuses it: 0x97"),
    ],
)
def test_a_puback_is_judged_by_its_reason_code(code: int, verdict: Verdict, reason: str) -> None:
    # MQTT 5.0 sections 2.4 and 3.4.2.1
    outcome = judge_publish(Reply(status=code))
    assert (outcome.verdict, outcome.reason, outcome.disable) == (verdict, reason, False)


def test_a_refusal_is_told_in_the_brokers_words_where_it_has_some() -> None:
    assert judge_publish(Reply(status=0x87, detail="Not authorized")).reason == "the broker refuses it: Not authorized"


def test_a_command_that_surely_was_not_sent_is_retried_and_one_in_doubt_is_never_repeated() -> None:
    away = judge_publish(Reply(error="away", detail="the broker is away"))
    assert (away.verdict, away.delay_s, away.reason) == (Verdict.RETRY, AWAY_S, "away: the broker is away")
    assert judge_publish(Reply(error="doubt", detail="no PUBACK came")).verdict is Verdict.DEAD


# Delays


def test_the_delays_are_the_policys_own() -> None:
    delays = [delay(POLICY, attempt, age_s=0, u=0) for attempt in range(1, 9)]
    assert delays == [5, 15, 45, 135, 405, 1215, 3600, 3600]


def test_a_schedule_is_gone_through_one_pause_after_the_other() -> None:
    # Standard Webhooks 1.0.0, "Deliverability and reliability": an example of a schedule
    policy = RetryPolicy.model_validate({"schedule": ["5s", "5m", "30m", "2h", "5h", "10h"]})
    assert [delay(policy, attempt, age_s=1e9, u=0) for attempt in range(1, 8)] == [5, 300, 1800, 7200, 18_000, 36_000, None]


def test_an_empty_schedule_never_tries_again() -> None:
    assert delay(RetryPolicy.model_validate({"schedule": []}), 1, age_s=0, u=0) is None


@given(POLICIES, st.integers(1, 10_000), CHANCES)
def test_a_delay_stays_between_four_fifths_of_the_plain_one_and_max(policy: RetryPolicy, attempt: int, u: float) -> None:
    plain, shortened = delay(policy, attempt, age_s=-1e9, u=0), delay(policy, attempt, age_s=-1e9, u=u)
    assert plain is not None
    assert shortened is not None
    assert policy.first <= plain <= policy.max
    assert plain * (1 - JITTER) <= shortened <= plain


@given(POLICIES, st.integers(1, 200))
def test_delays_never_shrink_before_jitter(policy: RetryPolicy, attempt: int) -> None:
    sooner, later = delay(policy, attempt, age_s=-1e9, u=0), delay(policy, attempt + 1, age_s=-1e9, u=0)
    assert sooner is not None
    assert later is not None
    assert sooner <= later


@given(st.lists(CHANCES, min_size=2, max_size=2, unique=True))
def test_jitter_works_at_the_cap_too(chances: list[float]) -> None:
    """What failed together at the cap would come back together, were the jitter cut off there."""
    one, other = (delay(POLICY, 50, age_s=0, u=u) for u in chances)
    assert one is not None
    assert other is not None
    assert abs(chances[0] - chances[1]) < 1e-9 or one != other


@pytest.mark.parametrize("factor", [1.0, 3.0, 100.0])
def test_the_ten_thousandth_attempt_does_not_overflow(factor: float) -> None:
    policy = RetryPolicy.model_validate({"factor": factor})
    assert delay(policy, 10_000, age_s=0, u=0) == (5 if factor == 1 else 3600)


@given(POLICIES, st.integers(1, 1000), st.floats(0, 1e8), CHANCES)
def test_nothing_is_tried_again_after_the_policys_span(policy: RetryPolicy, attempt: int, age_s: float, u: float) -> None:
    wait_s = delay(policy, attempt, age_s=age_s, u=u)
    if wait_s is not None:
        assert age_s + wait_s <= policy.for_ * (1 + 1e-9)
    else:
        assert age_s + policy.max > policy.for_


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({"schedule": ["5s"], "for": "3d"}, "`schedule` stands alone: remove for"),
        ({"schedule": ["5s"], "factor": 2, "first": "1s"}, "`schedule` stands alone: remove factor, first"),
        ({"first": "2h"}, "`first` is longer than `max`"),
        ({"factor": 0.5}, "greater than or equal to 1"),
        ({"factor": 101}, "less than or equal to 100"),
        ({"first": "0s"}, "longer than nothing"),
        ({"schedule": ["5s", 5]}, "expected a duration"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(written: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        RetryPolicy.model_validate(written)


# Retry-After

ASKED = [  # the header, seconds, source
    ("120", 120.0, "RFC 9110 10.2.3"),
    ("0", 0.0, "RFC 9110 10.2.3"),
    (" 5 ", 5.0, "RFC 9110 5.5: blanks around a value"),
    ("1.5", 1.5, "fractions, as Discord sends them"),
    ("999999999999", MAX_PAUSE_S, "a day at most"),
    ("Sun, 06 Nov 1994 08:51:37 GMT", 120.0, "RFC 9110 5.6.7: IMF-fixdate"),
    ("Sunday, 06-Nov-94 08:51:37 GMT", 120.0, "RFC 9110 5.6.7: obsolete RFC 850"),
    ("Sun Nov  6 08:51:37 1994", 120.0, "RFC 9110 5.6.7: ANSI C's asctime()"),
    ("Sun, 06 Nov 1994 10:51:37 +0200", 120.0, "a zone of its own"),
    ("Sun, 06 Nov 1994 08:51:37 -0000", 120.0, "comes back without a zone"),
    ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0, "in the past"),
    ("Tue, 07 Nov 2094 08:49:37 GMT", MAX_PAUSE_S, "a day at most"),
    ("", None, "nothing"),
    ("soon", None, "not readable"),
    ("-5", None, "RFC 9110 10.2.3: non-negative"),
    ("1_000", None, "int() would take it"),
    ("１２０", None, "int() would take it"),
    ("1e3", None, "float() would take it"),
    ("nan", None, "float() would take it"),
    ("inf", None, "float() would take it"),
    ("9" * 5000, MAX_PAUSE_S, "a day at most; int() would refuse it, and float() calls it infinite"),
    ("1764000000000.123456789012", MAX_PAUSE_S, "an instant in milliseconds: a day at most"),
    ("0.00000000000000000001", 1e-20, "next to nothing"),
    ("Sun, 32 Nov 1994 08:49:37 GMT", None, "no such day"),
    ("Sun, 06 Nov 1994 08:49:37 +9999999999", None, "no such zone"),
    ("Mon, 01 Jan 0101 00:00:00 +2359", 0.0, "long before the epoch"),
    ("Fri, 31 Dec 9999 23:59:59 -2359", MAX_PAUSE_S, "past the last instant that a date can hold"),
    (",", None, "an IndexError in some versions of email.utils"),
]


@pytest.mark.parametrize(("text", "wait_s", "source"), ASKED, ids=lambda value: repr(value)[:30])
def test_retry_after_is_read_in_each_of_its_forms(text: str, wait_s: float | None, source: str) -> None:
    assert retry_after({"retry-after": text}, NOW) == wait_s, source


def test_a_date_without_a_zone_is_gmt_wherever_the_bridge_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    # RFC 9110 section 5.6.7: a recipient must take it as UTC
    monkeypatch.setenv("TZ", "XYZ+7")
    time.tzset()
    try:
        assert retry_after({"retry-after": "Sun Nov  6 08:51:37 1994"}, NOW) == 120
    finally:
        monkeypatch.undo()
        time.tzset()


def test_without_the_header_nothing_is_asked() -> None:
    assert retry_after({}, NOW) is None


DATES = st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2100, 1, 1)).map(lambda at: at.strftime("%a, %d %b %Y %H:%M:%S GMT"))  # noqa: DTZ001 - hypothesis wants them without a zone
GARBAGE = st.lists(st.sampled_from(["Sun", ",", " ", "06", "Nov", "-", "99999999999", "08:49:37", ":", "GMT", "+", "(", ")", '"', "\0", "\ud800", "1994", "EST", "am"]), max_size=10).map("".join)


@given(st.one_of(st.text(st.characters()), DATES, GARBAGE, st.from_regex(r"\d+(\.\d+)?")), st.floats(0, 4e9))
def test_retry_after_never_raises_and_stays_within_a_day(text: str, now: float) -> None:
    wait_s = retry_after({"retry-after": text}, now)
    assert wait_s is None or 0 <= wait_s <= 86_400


@given(DATES)
def test_a_date_says_how_long_to_wait(text: str) -> None:
    at = datetime.strptime(text, "%a, %d %b %Y %H:%M:%S GMT").replace(tzinfo=UTC).timestamp()
    assert retry_after({"retry-after": text}, at - 60) == 60


def test_a_command_that_expired_on_its_way_to_the_broker_is_expired_and_not_dead() -> None:
    assert judge_publish(Reply(error="expired", detail="too late")).verdict is Verdict.EXPIRED
