"""Alerts: each problem is told once when it begins and once when it is over, however it flaps, and none is kept from a person for good."""

import itertools
from dataclasses import replace

from bridge.watch.alerts import AGAIN_S, Told, alerts, destination_status
from bridge.watch.figures import DestinationFigures, Figures
from tests.rig.figures import FIGURES

LOOK_S = 10


def crm(state: str) -> Figures:
    found = DestinationFigures(waiting=1, failures=3, state=state, disabled=None)
    return replace(FIGURES, destinations={"crm": found})


def told_of(*outages: tuple[int, int], until: int = 3_600) -> list[tuple[int, bool]]:
    """Return when what is told and whether that is an end, where a breaker is open from each first to each second instant."""
    told, found = Told(), list[tuple[int, bool]]()
    for now in range(0, until, LOOK_S):
        is_open = any(first <= now < last for first, last in outages)
        told, due = alerts(told, crm("breaker open" if is_open else "ok"), now=float(now))
        found += [(now, alert.over) for alert in due]
    return found


def test_an_outage_is_told_when_it_begins_and_when_it_is_over() -> None:
    assert told_of((100, 1_000)) == [(100, False), (1_000, True)]


def test_a_second_outage_soon_after_the_first_is_told_once_five_minutes_are_over() -> None:
    again = 140 + int(AGAIN_S)
    assert told_of((100, 140), (200, 2_000)) == [(100, False), (140, True), (again, False), (2_000, True)]


def test_one_that_is_over_before_it_is_told_is_not_told_at_all() -> None:
    assert told_of((100, 140), (200, 300)) == [(100, False), (140, True)]


def test_one_that_flaps_for_an_hour_is_told_every_five_minutes_at_most() -> None:
    found = told_of(*((first, first + 20) for first in range(0, 3_600, 40)))
    assert 2 <= len(found) <= 2 * 3_600 / AGAIN_S
    assert [over for _, over in found] == [False, True] * (len(found) // 2), "and each end after its beginning"
    begins = [at for at, over in found if not over]
    assert all(later - sooner >= AGAIN_S for sooner, later in itertools.pairwise(begins))


def test_the_status_topic_of_a_destination_says_why_where_there_is_a_reason() -> None:
    assert destination_status(crm("ok").destinations["crm"]) == {"state": "ok"}
    found = replace(crm("breaker open").destinations["crm"], reason="status 503")
    assert destination_status(found) == {"state": "breaker open", "reason": "status 503"}
