"""Dates: what the outbox holds as people are shown it, and what they ask for as the outbox holds it. Pure.

Within, all instants are of the steady time; people and their programs know dates only.
"""

from dataclasses import replace

from bridge.model import Letter
from bridge.outbox.history import Attempt
from bridge.outbox.selection import Past, Selection
from bridge.rules.calendar import Calendar
from bridge.rules.gates import Memory


def dated(letter: Letter, calendar: Calendar) -> Letter:
    """Return a letter with dates for its instants; it ends as long after it came as it did before."""
    created_at = calendar.date_of(letter.created_at)
    return replace(
        letter,
        created_at=created_at,
        expires_at=None if letter.expires_at is None else created_at + letter.expires_at - letter.created_at,
        due_at=_date_of(letter.due_at, calendar),
        begun_at=_date_of(letter.begun_at, calendar),
        dead_at=_date_of(letter.dead_at, calendar),
    )


def dated_attempt(attempt: Attempt, calendar: Calendar) -> Attempt:
    """Return an attempt with dates for its instants."""
    return replace(attempt, at=calendar.date_of(attempt.at), received_at=calendar.date_of(attempt.received_at))


def dated_memory(memory: Memory, calendar: Calendar) -> Memory:
    """Return what a gate remembers, with dates for its instants; its last message has one already."""
    return replace(memory, fired_at=_date_of(memory.fired_at, calendar), heard_at=_date_of(memory.heard_at, calendar))


def steady_selection(wanted: Selection, calendar: Calendar) -> Selection:
    """Return which letters a person means who speaks of dates."""
    return replace(wanted, before=_steady_of(wanted.before, calendar), since=_steady_of(wanted.since, calendar))


def steady_past(wanted: Past, calendar: Calendar) -> Past:
    """Return which attempts a person means who speaks of dates."""
    return replace(wanted, since=_steady_of(wanted.since, calendar))


def _date_of(at: float | None, calendar: Calendar) -> float | None:
    return None if at is None else calendar.date_of(at)


def _steady_of(date: float | None, calendar: Calendar) -> float | None:
    return None if date is None else calendar.steady_of(date)
