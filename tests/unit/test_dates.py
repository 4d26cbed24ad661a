"""What people are shown of the outbox bears dates, and what they ask for by date is found."""

from dataclasses import replace

from bridge.model import Event, Lane, Letter, Verdict
from bridge.outbox.dates import dated, dated_attempt, dated_memory, steady_past, steady_selection
from bridge.outbox.history import Attempt
from bridge.outbox.selection import Past, Selection
from bridge.rules.calendar import Calendar, Page
from bridge.rules.gates import NOTHING, Memory

NOW = 1_795_000_000.0
HOUR = 3_600.0
CALENDAR = Calendar((Page(NOW - 1_000, 0.0), Page(NOW, HOUR)))  # it was off for an hour, and did not know
LETTER = Letter(id="evt_1", lane=Lane.WEBHOOK, mapping="hall", destination="hall", key="hall/x", content=Event(method="POST", url="http://x.lan/", headers=(), body=b""), created_at=NOW - 10)


def test_a_letter_is_shown_with_dates() -> None:
    found = dated(replace(LETTER, expires_at=NOW + 50, due_at=NOW + 5, begun_at=NOW + 1, dead_at=NOW + 2), CALENDAR)
    assert (found.created_at, found.due_at, found.begun_at, found.dead_at) == (NOW - 10, NOW + 5 + HOUR, NOW + 1 + HOUR, NOW + 2 + HOUR)
    assert found.expires_at == NOW + 50, "a minute after it came, in which the machine was off"
    assert dated(LETTER, CALENDAR) == LETTER


def test_an_attempt_is_shown_with_dates() -> None:
    attempt = Attempt(
        event="evt_1", mapping="hall", destination="hall", at=NOW + 1, received_at=NOW - 1, number=1, verdict=Verdict.RETRY, status=503, took_ms=1.0, reason="", answer=""
    )  # fmt: skip
    found = dated_attempt(attempt, CALENDAR)
    assert (found.at, found.received_at) == (NOW + 1 + HOUR, NOW - 1)


def test_what_a_gate_remembers_is_shown_with_dates() -> None:
    assert dated_memory(Memory(fired_at=NOW - 1, heard_at=NOW + 1), CALENDAR) == Memory(fired_at=NOW - 1, heard_at=NOW + 1 + HOUR)
    assert dated_memory(NOTHING, CALENDAR) == NOTHING


def test_what_is_asked_for_by_date_is_found() -> None:
    assert steady_selection(Selection(before=NOW - 1, since=NOW + HOUR + 1), CALENDAR) == Selection(before=NOW - 1, since=NOW + 1)
    assert steady_selection(Selection(), CALENDAR) == Selection()
    assert steady_past(Past(since=NOW + HOUR + 1), CALENDAR) == Past(since=NOW + 1)
