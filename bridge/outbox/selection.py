"""Selections: which letters, and which attempts, a person means, and how SQL is asked for them."""

from dataclasses import dataclass
from typing import Any

from bridge.model import State

PART = 1_000  # letters in one transaction of retry, drop, split and move: events that come meanwhile wait a part of a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which letters a person means: every filter that is set has to agree.

    `before` is about when it came, `since` about when it died or, if it lives, came; `after` (not with it) and
    `until` (with it) are numbers.
    """

    ids: tuple[str, ...] = ()
    state: State | None = None
    mapping: str | None = None
    destination: str | None = None
    key: str | None = None
    reason: str | None = None
    before: float | None = None
    since: float | None = None
    after: int | None = None
    until: int | None = None
    limit: int | None = None

    def where(self) -> tuple[str, list[Any]]:
        """Return the SQL condition and its parameters."""
        tests: list[tuple[str, list[Any]]] = []
        if self.ids:
            tests.append((f"id IN ({', '.join('?' * len(self.ids))})", list(self.ids)))
        for column, value in (("state", self.state), ("mapping", self.mapping), ("destination", self.destination), ("key", self.key)):
            if value is not None:
                tests.append((f"{column} = ?", [str(value)]))
        if self.reason is not None:
            tests.append(("instr(lower(reason), lower(?)) > 0", [self.reason]))
        if self.before is not None:
            tests.append(("created_at < ?", [self.before]))
        if self.since is not None:
            tests.append(("coalesce(dead_at, created_at) >= ?", [self.since]))
        if self.after is not None:
            tests.append(("seq > ?", [self.after]))
        if self.until is not None:
            tests.append(("seq <= ?", [self.until]))
        return " AND ".join(text for text, _ in tests) or "TRUE", [value for _, values in tests for value in values]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """Which attempts a person means: every filter that is set has to agree."""

    event: str | None = None
    mapping: str | None = None
    destination: str | None = None
    verdict: str | None = None
    since: float | None = None
    limit: int = 100

    def where(self) -> tuple[str, list[Any]]:
        """Return the SQL condition and its parameters."""
        columns = (("event = ?", self.event), ("mapping = ?", self.mapping), ("destination = ?", self.destination), ("verdict = ?", self.verdict), ("at >= ?", self.since))
        tests = [(text, value) for text, value in columns if value is not None]
        return " AND ".join(text for text, _ in tests) or "TRUE", [value for _, value in tests]
