"""Which date an instant of the outbox's own time was, and how a run begins whose machine may not know the date."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.calendar import MOST_PAGES, PLAUSIBLE_S, SURELY_PAST, Beginning, Calendar, Page, Reckoning, beginning, reckoning_of

NOW = 1_795_000_000.0
HOUR, DAY, YEAR = 3_600.0, 86_400.0, 365 * 86_400.0

AHEAD = st.floats(-YEAR, YEAR)


def calendars() -> st.SearchStrategy[Calendar]:
    pages = st.lists(st.tuples(st.floats(NOW, NOW + YEAR), AHEAD | st.none()), max_size=5, unique_by=lambda page: page[0])
    return pages.map(lambda found: Calendar(tuple(Page(since, ahead_s) for since, ahead_s in sorted(found))))


# --- the calendar ---

DATES = [  # pages (since, how far ahead), an instant, its date
    ((), NOW, NOW),
    (((NOW, HOUR),), NOW + 1, NOW + HOUR + 1),
    (((NOW, HOUR),), NOW - 1, NOW + HOUR - 1),  # older than the first page: that is the nearest
    (((NOW, 0.0), (NOW + 10, HOUR)), NOW + 9, NOW + 9),
    (((NOW, 0.0), (NOW + 10, HOUR)), NOW + 10, NOW + 10 + HOUR),
    (((NOW, None), (NOW + 10, HOUR)), NOW + 1, NOW + 1 + HOUR),  # nobody knows: as if the machine had not been off since
    (((NOW, HOUR), (NOW + 10, None)), NOW + 11, NOW + 11 + HOUR),
    (((NOW, None),), NOW + 1, NOW + 1),
]


@pytest.mark.parametrize(("pages", "at", "date"), DATES)
def test_an_instant_has_a_date(pages: tuple[tuple[float, float | None], ...], at: float, date: float) -> None:
    assert Calendar(tuple(Page(*page) for page in pages)).date_of(at) == date


STEADY = [  # the machine was off for an hour after ten seconds: a date, the first instant that is not before it
    (NOW - 5, NOW - 5),
    (NOW + 5, NOW + 5),
    (NOW + 600, NOW + 10),  # nothing can be of a date at which it was off
    (NOW + 10 + HOUR, NOW + 10),
    (NOW + 20 + HOUR, NOW + 20),
]


@pytest.mark.parametrize(("date", "at"), STEADY)
def test_a_date_has_an_instant(date: float, at: float) -> None:
    assert Calendar((Page(NOW, 0.0), Page(NOW + 10, HOUR))).steady_of(date) == at


@given(calendars(), st.floats(NOW - YEAR, NOW + 2 * YEAR))
def test_a_date_is_found_again(calendar: Calendar, at: float) -> None:
    date = calendar.date_of(at)
    assert calendar.steady_of(date) <= at + 0.001
    assert calendar.date_of(calendar.steady_of(date)) >= date - 0.001


def test_pages_that_agree_are_one_and_there_are_never_many() -> None:
    calendar = Calendar()
    for n in range(100):
        calendar = calendar.with_page(Page(NOW + n, n // 2 * HOUR))
    assert len(calendar.pages) == MOST_PAGES
    assert calendar.date_of(NOW + 99) == NOW + 99 + 49 * HOUR
    assert calendar.date_of(NOW + 91) == NOW + 91 + 45 * HOUR


# --- how a run begins ---

KNOWN = Reckoning(boot="a", uptime_s=100.0, at=NOW, began=NOW - 50, mark=NOW, calendar=Calendar((Page(NOW - 50, 0.0),)))
UNKNOWN = replace(KNOWN, mark=0.0, calendar=Calendar((Page(NOW - 50, None),)))
BEHIND = replace(KNOWN, mark=NOW + YEAR, calendar=Calendar((Page(NOW - 50, YEAR),)))  # its first run began with a date of a year ago
LATER = 3_600.0

BEGINNINGS = [  # what was kept, the boot, the date an hour later; whether that can be right, the steady time, by how much the date is ahead of it
    (KNOWN, "a", NOW + LATER, True, NOW + LATER, 0.0),
    (KNOWN, "a", 10.0, False, NOW + LATER, 0.0),  # within a boot it is measured
    (KNOWN, "a", NOW + LATER - DAY, False, NOW + LATER, 0.0),  # F47
    (KNOWN, "a", NOW + LATER - 2 * DAY, True, NOW + LATER, -2 * DAY),  # it was set right by somebody: before, it was two days ahead
    (KNOWN, "a", NOW + LATER + YEAR, True, NOW + LATER, YEAR),  # before, it was behind
    (KNOWN, "b", NOW + LATER, True, NOW + LATER, 0.0),  # it was off, and has a clock of its own
    (KNOWN, "b", 10.0, False, NOW, None),
    (KNOWN, "b", NOW - DAY, False, NOW, None),
    (KNOWN, "b", NOW - 300 * DAY, False, NOW, None),  # the day on which its system was built
    (KNOWN, "b", NOW, True, NOW, 0.0),  # the date of the last shutdown
    (UNKNOWN, "a", NOW + LATER, True, NOW + LATER, 0.0),
    (UNKNOWN, "a", 10.0, False, NOW + LATER, None),
    (UNKNOWN, "b", NOW + YEAR, True, NOW, YEAR),  # how long it was off can't be told
    (UNKNOWN, "b", 10.0, False, NOW, None),
    (BEHIND, "a", NOW + LATER + YEAR, True, NOW + LATER, YEAR),
    (BEHIND, "b", NOW + LATER + YEAR, True, NOW + LATER, YEAR),
    (BEHIND, "b", NOW + LATER, False, NOW, None),
]


def begun(kept: Reckoning | None, boot: str, date: float, latest: float = NOW - 10) -> Beginning:
    return beginning(kept, latest, boot=boot, uptime_s=100.0 + LATER, date=date)


@pytest.mark.parametrize(("kept", "boot", "date", "is_right", "at", "ahead_s"), BEGINNINGS)
def test_a_run_goes_on_with_the_time_of_the_last(kept: Reckoning, boot: str, date: float, is_right: bool, at: float, ahead_s: float | None) -> None:
    found = begun(kept, boot, date)
    assert found.is_right is is_right
    assert found.at == pytest.approx(at, abs=0.001)
    assert found.reckoning.calendar.ahead_s == (None if ahead_s is None else pytest.approx(ahead_s, abs=0.001))
    assert (date >= found.floor - 2) is is_right


@pytest.mark.parametrize("date", [10.0, NOW - DAY, NOW, NOW + HOUR])
def test_what_is_stored_is_of_an_earlier_boot(date: float) -> None:
    """The last command too: how late it is can only be told by its page."""
    found = begun(KNOWN, "b", date, latest=NOW + 1)
    assert found.at == found.reckoning.began > NOW + 1
    assert found.reckoning.calendar.page_of(NOW + 1) == KNOWN.calendar.pages[0]


def test_no_boot_is_not_the_same_boot() -> None:
    assert begun(replace(KNOWN, boot=""), "", NOW + YEAR).at == NOW + YEAR


def test_a_boot_in_which_less_time_has_passed_is_another() -> None:
    """A copy of a machine may bear the same boot's name."""
    assert begun(replace(KNOWN, uptime_s=1e6), "a", NOW + YEAR).at == NOW + YEAR


def test_the_outbox_of_an_earlier_version_is_told_by_the_date() -> None:
    assert begun(None, "a", NOW).at == NOW
    assert begun(None, "a", NOW, latest=NOW + 2 * PLAUSIBLE_S).at == NOW
    assert begun(None, "a", 10.0, latest=0.0).at == SURELY_PAST


@given(st.sampled_from([KNOWN, UNKNOWN, BEHIND]), st.sampled_from("ab"), st.floats(0, 2 * NOW), st.floats(0, 3 * YEAR))
def test_the_time_never_goes_back_and_what_is_written_is_read(kept: Reckoning, boot: str, date: float, passed_s: float) -> None:
    found = beginning(kept, NOW - 10, boot=boot, uptime_s=100.0 + passed_s, date=date)
    assert found.at >= kept.at
    assert [page.since for page in found.reckoning.calendar.pages] == sorted(page.since for page in found.reckoning.calendar.pages)
    assert reckoning_of(found.reckoning.text()) == found.reckoning
    assert found.floor >= SURELY_PAST
