"""The queue while no daemon runs: the same questions, asked of the file itself, the ledger kept in step."""

from collections.abc import Callable
from pathlib import Path

from bridge.model import Letter, Result, State
from bridge.outbox.ledger import Ledger
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Selection, Store


class Desk:
    """An outbox file opened for a person."""

    def __init__(self, path: Path, settings: StoreSettings, *, wall: Callable[[], float]) -> None:
        """Open the file; raises AlreadyRunning or StoreBroken."""
        self._store = Store.open(path, max_size=settings.max_size)
        self._wall = wall

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def select(self, wanted: Selection) -> list[Letter]:
        """Return the letters that are meant, oldest first."""
        return self._store.select(wanted)

    def retry(self, wanted: Selection) -> int:
        """Let them be due when the daemon starts, dead ones as if they came now; return how many."""
        numbers = self._store.numbers(wanted)
        ledger = self._ledger()
        for (_, _, mapping), count in self._store.revive(numbers, self._wall()).items():
            ledger.received(mapping, count)
        hastened = self._store.hasten(numbers)
        self._store.save_counts(ledger.take())
        return sum(hastened.values())

    def drop(self, wanted: Selection) -> int:
        """Delete them; return how many."""
        numbers = self._store.numbers(wanted)
        ledger = self._ledger()
        waiting = self._store.drop(numbers, State.WAITING)
        for (_, _, mapping), count in waiting.items():
            ledger.ended(mapping, Result.DROPPED, count)
        dead = self._store.drop(numbers, State.DEAD)
        self._store.save_counts(ledger.take())
        return sum(waiting.values()) + sum(dead.values())

    def _ledger(self) -> Ledger:
        waiting: dict[str, int] = {}
        for (_, _, mapping), count in self._store.waiting_counts().items():
            waiting[mapping] = waiting.get(mapping, 0) + count
        return Ledger(self._store.counts(), waiting)
