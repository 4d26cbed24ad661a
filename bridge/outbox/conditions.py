"""Conditions that could not be evaluated: counted, and their reasons said; never on disk.

One that can't be told counts as false, so a slip in it is a mapping that does nothing, for a reason that nobody sees. It
may be no slip either: not every report of a device has every value. So a reason is written to the log once and no more.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

REASONS = 8  # of one mapping that are logged: some quote what a device said, and so there is no end to them
MAX_REASON = 300  # characters that are kept of one


@dataclass(slots=True)
class Failures:
    """How often a mapping's or a hook's conditions could not be evaluated since the start, and why the last time."""

    count: int = 0
    last: str | None = None
    logged: set[str] = field(default_factory=set)


class Conditions:
    """The failures of every mapping and hook, by name; those of a mapping's reply under `NAME.reply`."""

    def __init__(self) -> None:
        self._failures: dict[str, Failures] = {}

    def failed(self, name: str, reason: str) -> None:
        """Count a condition that could not be evaluated; *reason* says which and why."""
        found = self._failures.setdefault(name, Failures())
        found.count += 1
        found.last = reason[:MAX_REASON]
        if found.last not in found.logged and len(found.logged) < REASONS:
            found.logged.add(found.last)
            logger.info("condition not evaluated mapping=%s reason=%r", name, found.last)

    def failures(self) -> Mapping[str, Failures]:
        """Return what failed, by name; what never did is not in it."""
        return self._failures
