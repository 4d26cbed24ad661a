"""The figures that observers are given: one frozen record, taken at one moment; its instants are of the bridge's own time, or dates."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from bridge.model import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationFigures:
    """How one destination does. `failures` are the attempts that failed since the last success, `state` a word or two.

    `reason` is why nothing is sent, None where it is or where a person paused it. `delivered_at` is when it took something last, None if it has not since the start.
    """

    waiting: int
    failures: int
    state: str
    disabled: str | None
    reason: str | None = None
    delivered_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MappingFigures:
    """The ledger of one mapping; `dead_letters` are those still kept, `stopped` is set while a storm of its own stops it.

    `conditions_failed` is how often one could not be evaluated since the start, `last_failure` which one and why the last time.
    """

    stopped: bool
    received: int
    waiting: int
    dead_letters: int
    outcomes: Mapping[str, int]
    conditions_failed: int = 0
    last_failure: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigFigures:
    """Which config runs: since when, what the last change was, and what is wrong with the file as it is now (nothing: it is what runs)."""

    loaded_at: float
    last_change: str = ""
    problems: tuple[str, ...] = ()
    applied: int = 0
    refused: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the whole bridge does. `damage` says what became of a damaged outbox, until its file is deleted."""

    version: str
    config: ConfigFigures
    started_at: float
    connected: bool
    broker: str
    unacknowledged: int
    redelivered: int
    sessions_lost: int
    messages_received: int
    messages_unmatched: int
    requests_refused: int
    imbalance: int
    full: bool
    damage: str | None = None
    unsaved: int
    held: int
    remembered: int
    commits: int
    used_bytes: int
    max_bytes: int
    oldest_at: float | None
    destinations: Mapping[str, DestinationFigures]
    mappings: Mapping[str, MappingFigures]

    @property
    def waiting(self) -> int:
        """Return how many letters wait."""
        return sum(mapping.waiting for mapping in self.mappings.values())

    @property
    def dead_letters(self) -> int:
        """Return how many dead letters are kept."""
        return sum(mapping.dead_letters for mapping in self.mappings.values())

    @property
    def delivered_at(self) -> float | None:
        """Return when anything was delivered last, None if nothing was since the start."""
        return max((destination.delivered_at for destination in self.destinations.values() if destination.delivered_at is not None), default=None)

    def dated(self, date_of: Callable[[float], float]) -> "Figures":
        """Return them as people are shown them: *date_of* is which date an instant of the bridge's own time was."""
        return replace(
            self,
            config=replace(self.config, loaded_at=date_of(self.config.loaded_at)),
            started_at=date_of(self.started_at),
            oldest_at=None if self.oldest_at is None else date_of(self.oldest_at),
            destinations={
                name: replace(one, delivered_at=None if one.delivered_at is None else date_of(one.delivered_at)) for name, one in self.destinations.items()
            },
        )

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self) | {"waiting": self.waiting, "dead_letters": self.dead_letters}


def outcomes(counts: Mapping[str, int]) -> dict[str, int]:
    """Return every outcome with its count, also those that never happened."""
    return {result.value: counts.get(result, 0) for result in Result}
