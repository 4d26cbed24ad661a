"""Selections: which letters a person means, and how SQL is asked for them."""

from dataclasses import dataclass
from typing import Any

from bridge.model import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which letters a person means: every filter that is set has to agree."""

    ids: tuple[str, ...] = ()
    state: State | None = None
    mapping: str | None = None
    destination: str | None = None
    key: str | None = None
    reason: str | None = None
    before: float | None = None
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
        return " AND ".join(text for text, _ in tests) or "TRUE", [value for _, values in tests for value in values]
