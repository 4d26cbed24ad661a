"""The queue while no daemon runs: the same questions, asked of the file itself, the ledger kept in step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from bridge.model import Event, Lane, Letter, Result, State
from bridge.outbox.dates import dated, dated_attempt, steady_past, steady_selection
from bridge.outbox.history import Attempt
from bridge.outbox.holds import Hold, note_of
from bridge.outbox.ledger import Ledger
from bridge.outbox.memory import Memories
from bridge.outbox.selection import Past, Selection
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Store
from bridge.rules.calendar import Calendar


class Timepiece(Protocol):
    """What tells the outbox the time."""

    def wall(self) -> float:
        """Return the steady time."""

    def calendar(self) -> Calendar:
        """Return which date each instant was."""


class Desk:
    """An outbox file opened for a person."""

    def __init__(self, path: Path, settings: StoreSettings, *, clock: Callable[[Store], Timepiece]) -> None:
        """Open the file, which *clock* tells the time; raises AlreadyRunning or StoreBroken."""
        self._store = Store.open(path, max_size=settings.max_size)
        self._clock = clock(self._store)

    def close(self) -> None:
        """Close the file."""
        self._store.close()

    def now(self) -> float:
        """Return the date by which all that is here is told."""
        return self._clock.calendar().date_of(self._clock.wall())

    def select(self, wanted: Selection) -> list[Letter]:
        """Return the letters that are meant, oldest first."""
        calendar = self._clock.calendar()
        return [dated(letter, calendar) for letter in self._store.select(steady_selection(wanted, calendar))]

    def parts(self, wanted: Selection, size: int) -> list[tuple[int, int]]:
        """Return how they fall into parts of *size*: of each its last number, and how many they are."""
        return self._store.parts(self._steady(wanted), size)

    def retry(self, wanted: Selection) -> int:
        """Let them be due when the daemon starts, dead ones as if they came now, and resume their destinations; return how many."""
        numbers = self._store.numbers(self._steady(wanted))
        ledger = self._ledger()
        for (_, _, mapping), revived in self._store.revive(numbers, self._clock.wall()).items():
            ledger.received(mapping, revived.messages)
        hastened = self._store.hasten(numbers)
        names = {note_of(destination) for lane, destination, _ in hastened if lane is Lane.WEBHOOK}
        notes = {name: Hold.read(self._store.note(name)).retried().written() for name in names}
        self._store.write(Changes(counts=ledger.take(), notes=notes))
        return sum(found.letters for found in hastened.values())

    def split(self, wanted: Selection) -> int:
        """Let each event of the batches that are meant be a letter of its own; return how many come of it."""
        ledger = self._ledger()
        made, revived = self._store.split(self._store.numbers(self._steady(wanted)), self._store.last_seq(), self._clock.wall())
        for (_, _, mapping), found in revived.items():
            ledger.received(mapping, found.messages)
        self._store.save_counts(ledger.take())
        return made

    def move(self, wanted: Selection, to: str, readdress: Callable[[Letter, Event], Event]) -> int:
        """Let them go to the destination *to* instead; return how many. Raises RenderError where they can't."""
        moved = self._store.move(self._store.numbers(self._steady(wanted)), to, readdress)
        return sum(found.letters for found in moved.values())

    def drop(self, wanted: Selection) -> int:
        """Delete them; return how many."""
        numbers = self._store.numbers(self._steady(wanted))
        ledger = self._ledger()
        for state in (State.WAITING, State.HELD):
            for (_, _, mapping), dropped in self._store.drop(numbers, state).items():
                ledger.ended(mapping, Result.DROPPED, dropped.messages)
        self._store.drop(numbers, State.DEAD)
        self._store.save_counts(ledger.take())
        return len(numbers)

    def history(self, wanted: Past) -> list[Attempt]:
        """Return the attempts that are meant, in the order in which they were made."""
        calendar = self._clock.calendar()
        return [dated_attempt(attempt, calendar) for attempt in self._store.history(steady_past(wanted, calendar))]

    def memories(self) -> list[dict[str, Any]]:
        """Return what gates remembered when the daemon ended."""
        return Memories(self._store.memories(), now=self._clock.wall()).documents(self._clock.calendar())

    def _steady(self, wanted: Selection) -> Selection:
        return steady_selection(wanted, self._clock.calendar())

    def _ledger(self) -> Ledger:
        waiting: dict[str, int] = {}
        for (_, _, mapping), found in self._store.waiting_counts().items():
            waiting[mapping] = waiting.get(mapping, 0) + found.messages
        return Ledger(self._store.counts(), waiting)
