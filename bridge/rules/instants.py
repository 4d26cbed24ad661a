"""Instants as people say them: "3d" ago, "2026-11-24", "tuesday". Pure: what time it is comes in from outside."""

from datetime import datetime, timedelta

from bridge.rules.units import seconds

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def instant(text: str, now: float) -> float:
    """Return the unix seconds of an instant in the past, in the local time zone; raise ValueError with what was expected.

    A duration is so long ago; a day is its first moment; a weekday is the last one, today included.
    """
    # Without a zone: what such a day's midnight is, daylight saving and all, is worked out at the end.
    today = datetime.fromtimestamp(now).replace(hour=0, minute=0, second=0, microsecond=0)  # noqa: DTZ006 - as said
    word = text.strip().lower()
    if word in ("today", "yesterday"):
        return (today - timedelta(days=int(word == "yesterday"))).timestamp()
    if word in _DAYS:
        return (today - timedelta(days=(today.weekday() - _DAYS.index(word)) % 7)).timestamp()
    try:
        return now - seconds(word)
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text.strip()).timestamp()
    except (ValueError, OverflowError, OSError) as exc:
        raise ValueError('expected "3d" (so long ago), "2026-11-24", "2026-11-24T18:30", "tuesday", "today" or "yesterday"') from exc
