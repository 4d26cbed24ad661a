"""Instants as people say them: in the local time zone, over the changes of the clock, and never anything but an instant or a sentence."""

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.rules.instants import instant

BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"  # POSIX: no file of time zones is needed. The last Sundays of March and October
NEW_YORK = "EST5EDT,M3.2.0,M11.1.0"
HAVANA = "CST5CDT,M3.2.0/0,M11.1.0/1"  # where the clock jumps from midnight to one
LORD_HOWE = "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0"  # where it jumps by half an hour

Zone = Callable[[str], None]


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Zone]:
    """Give a function that moves the bridge to a time zone; afterwards it is where it was."""

    def move(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield move
    monkeypatch.undo()
    time.tzset()


def at(written: str) -> float:
    """Return an instant that is written with its offset, so that no zone has to be known."""
    moment = datetime.fromisoformat(written)
    assert moment.tzinfo is not None
    return moment.timestamp()


WINTER = "2026-11-25T15:30:20+00:00"  # a Wednesday

SAID = [  # where, when, what is said, what is meant
    ("UTC0", WINTER, "today", "2026-11-25T00:00+00:00"),
    ("UTC0", WINTER, "yesterday", "2026-11-24T00:00+00:00"),
    ("UTC0", WINTER, "wednesday", "2026-11-25T00:00+00:00"),  # today included
    ("UTC0", WINTER, "tuesday", "2026-11-24T00:00+00:00"),
    ("UTC0", WINTER, "monday", "2026-11-23T00:00+00:00"),
    ("UTC0", WINTER, "sunday", "2026-11-22T00:00+00:00"),
    ("UTC0", WINTER, "saturday", "2026-11-21T00:00+00:00"),
    ("UTC0", WINTER, "friday", "2026-11-20T00:00+00:00"),
    ("UTC0", WINTER, "thursday", "2026-11-19T00:00+00:00"),
    ("UTC0", WINTER, "  Tuesday ", "2026-11-24T00:00+00:00"),
    ("UTC0", WINTER, "TODAY", "2026-11-25T00:00+00:00"),
    ("UTC0", WINTER, "3d", "2026-11-22T15:30:20+00:00"),
    ("UTC0", WINTER, " 90m", "2026-11-25T14:00:20+00:00"),
    ("UTC0", WINTER, "1H", "2026-11-25T14:30:20+00:00"),
    ("UTC0", WINTER, "250ms", "2026-11-25T15:30:19.750+00:00"),
    ("UTC0", WINTER, "0s", WINTER),
    ("UTC0", WINTER, "2026-11-24", "2026-11-24T00:00+00:00"),
    ("UTC0", WINTER, "2026-11-24T18:30", "2026-11-24T18:30+00:00"),
    ("UTC0", WINTER, "2026-11-24 18:30:15", "2026-11-24T18:30:15+00:00"),
    ("UTC0", WINTER, "2026-11-24T18:30Z", "2026-11-24T18:30+00:00"),
    ("UTC0", WINTER, "2026-11-24T18:30+05:30", "2026-11-24T13:00+00:00"),
    # The same instants are other days elsewhere.
    (BERLIN, WINTER, "2026-11-24", "2026-11-24T00:00+01:00"),
    (BERLIN, WINTER, "2026-07-24T18:30", "2026-07-24T18:30+02:00"),  # a summer's day, asked about in winter
    (BERLIN, WINTER, "2026-11-24T18:30Z", "2026-11-24T18:30+00:00"),
    (BERLIN, "2026-11-24T23:30+00:00", "today", "2026-11-25T00:00+01:00"),
    (BERLIN, "2026-11-24T23:30+00:00", "wednesday", "2026-11-25T00:00+01:00"),
    (NEW_YORK, "2026-11-25T03:00+00:00", "today", "2026-11-24T00:00-05:00"),
    (NEW_YORK, "2026-11-25T03:00+00:00", "tuesday", "2026-11-24T00:00-05:00"),
    (NEW_YORK, "2026-11-25T03:00+00:00", "wednesday", "2026-11-18T00:00-05:00"),
    ("IST-5:30", WINTER, "yesterday", "2026-11-24T00:00+05:30"),
    # A day is its first moment, also where the clock has changed since.
    (BERLIN, "2026-03-29T12:00+02:00", "today", "2026-03-29T00:00+01:00"),
    (BERLIN, "2026-03-30T12:00+02:00", "yesterday", "2026-03-29T00:00+01:00"),
    (BERLIN, "2026-03-30T12:00+02:00", "2026-03-29", "2026-03-29T00:00+01:00"),
    (BERLIN, "2026-04-01T12:00+02:00", "friday", "2026-03-27T00:00+01:00"),
    (BERLIN, "2026-10-25T12:00+01:00", "today", "2026-10-25T00:00+02:00"),
    (BERLIN, "2026-10-26T00:30+01:00", "yesterday", "2026-10-25T00:00+02:00"),  # 25 hours long: a day back is not 24 hours
    (BERLIN, "2026-10-28T12:00+01:00", "saturday", "2026-10-24T00:00+02:00"),
    (NEW_YORK, "2026-03-09T00:30-04:00", "yesterday", "2026-03-08T00:00-05:00"),  # 23 hours long
    (LORD_HOWE, "2026-10-05T09:00+11:00", "yesterday", "2026-10-04T00:00+10:30"),
    (HAVANA, "2026-03-08T12:00-04:00", "today", "2026-03-08T01:00-04:00"),  # its first moment is one o'clock
    # "1d" is so long ago, not the day before: the clock's change makes no difference.
    (BERLIN, "2026-03-29T12:00+02:00", "1d", "2026-03-28T11:00+01:00"),
]


@pytest.mark.parametrize(("where", "now", "said", "meant"), SAID)
def test_an_instant_is_what_a_person_there_and_then_means(zone: Zone, where: str, now: str, said: str, meant: str) -> None:
    zone(where)
    found = instant(said, at(now))
    assert found == pytest.approx(at(meant), abs=1e-6), f"{datetime.fromtimestamp(found, UTC)} and not {datetime.fromisoformat(meant).astimezone(UTC)}"


NOT_SAID = ["", " ", "now", "tomorrow", "tue", "last week", "3", "3 d", "-3d", "3d ago", "1d12h", "24.11.2026", "11/24/2026", "2026-11-31", "2026-11-24T25:00", "2026-3-1", "٣d", "２０２６-11-24", "\ud800", "nan", "inf", "99999d", "9" * 400 + "d"]
PAST_THE_CALENDAR = ["9999-12-31T23:59:59-23:00", "0001-01-01T00:00+23:00", "0001-01-01"]


@pytest.mark.parametrize("said", NOT_SAID, ids=ascii)
def test_what_is_no_instant_is_refused_with_what_was_expected(said: str) -> None:
    with pytest.raises(ValueError, match='expected "3d"'):
        instant(said, at(WINTER))


@pytest.mark.parametrize("said", PAST_THE_CALENDAR)
@pytest.mark.parametrize("where", ["UTC0", BERLIN, NEW_YORK])
def test_an_instant_past_the_ends_of_the_calendar_is_a_number_or_refused_in_the_same_words(zone: Zone, where: str, said: str) -> None:
    zone(where)
    try:
        assert isinstance(instant(said, at(WINTER)), float)
    except ValueError as exc:
        assert 'expected "3d"' in str(exc)


DATES = st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat())
PIECES = st.lists(st.sampled_from(["0001", "9999", "-", "01", "12", "31", "T", " ", "23", ":", "59", "+", "Z", "W", "monday", "today", "3d", ".5", "\0"]), max_size=10).map("".join)


@given(st.one_of(st.text(), DATES, PIECES), st.integers(0, 4_000_000_000))
def test_any_text_is_an_instant_or_refused_in_one_way(said: str, now: int) -> None:
    try:
        assert isinstance(instant(said, float(now)), float)
    except ValueError as exc:
        assert 'expected "3d"' in str(exc)


WORDS = ["today", "yesterday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.sampled_from([BERLIN, NEW_YORK, HAVANA, LORD_HOWE, "UTC0", "XYZ+12", "XYZ-14"]), word=st.sampled_from(WORDS), now=st.integers(1_700_000_000, 1_900_000_000))
def test_a_day_that_is_named_began_at_its_midnight_at_most_a_week_ago(zone: Zone, where: str, word: str, now: int) -> None:
    zone(where)
    began = instant(word, float(now))
    assert 0 <= now - began < 7 * 86_400 + 3_600
    before, first = time.localtime(began - 1), time.localtime(began)
    assert before.tm_mday != first.tm_mday, "the second before it was another day"
    if word == "today":
        assert first[:3] == time.localtime(now)[:3]
    elif word != "yesterday":
        assert WORDS[2 + first.tm_wday] == word
