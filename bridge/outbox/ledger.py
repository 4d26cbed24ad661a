"""The ledger: for each mapping, what came in and how it ended. Nothing may be missing.

in = the sum of all outcomes + what waits. `waiting` is counted by itself, not derived, so that the sum can
prove something; `imbalance` is what doesn't add up, and is 0.
"""

from collections import defaultdict
from collections.abc import Mapping

from bridge.model import Result

Counts = dict[str, dict[str, int]]

IN = "in"


class Ledger:
    """The counts in memory; the outbox writes them with what they count."""

    def __init__(self, counts: Mapping[str, Mapping[str, int]], waiting: Mapping[str, int]) -> None:
        self._counts: defaultdict[str, defaultdict[str, int]] = defaultdict(lambda: defaultdict(int))
        for mapping, entries in counts.items():
            self._counts[mapping].update(entries)
        self._waiting: defaultdict[str, int] = defaultdict(int, waiting)
        self._changed: set[str] = set()

    def received(self, mapping: str, count: int = 1) -> None:
        """Count what a mapping took in, and let it wait."""
        self._counts[mapping][IN] += count
        self._waiting[mapping] += count
        self._changed.add(mapping)

    def ended(self, mapping: str, result: Result, count: int = 1) -> None:
        """Count how what waited ended."""
        self._counts[mapping][result] += count
        self._waiting[mapping] -= count
        self._changed.add(mapping)

    def passed(self, mapping: str, result: Result) -> None:
        """Count what came in and ended at once."""
        self.received(mapping)
        self.ended(mapping, result)

    @property
    def changed(self) -> bool:
        """Return True if there are counts that aren't written yet, False if not."""
        return bool(self._changed)

    def take(self) -> Counts:
        """Return the counts that aren't written yet, and consider them written."""
        counts = {mapping: dict(self._counts[mapping]) for mapping in self._changed}
        self._changed.clear()
        return counts

    def put_back(self, counts: Counts) -> None:
        """Consider counts unwritten again, after a commit failed."""
        self._changed |= counts.keys()

    def counts(self) -> Counts:
        """Return every count."""
        return {mapping: dict(entries) for mapping, entries in self._counts.items()}

    def waiting(self) -> dict[str, int]:
        """Return how much waits, by mapping."""
        return dict(self._waiting)

    def imbalance(self) -> int:
        """Return how far the counts are from adding up, over all mappings; 0 is right."""
        return sum(abs(self._counts[mapping][IN] - _ended(self._counts[mapping]) - self._waiting[mapping]) for mapping in {*self._counts, *self._waiting})


def _ended(entries: Mapping[str, int]) -> int:
    return sum(entries.get(result, 0) for result in Result)
