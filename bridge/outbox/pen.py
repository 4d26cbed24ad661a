"""The pen: letters that a gate holds back for a while, for the next of their key or for the rest of their batch.

A letter in it is counted as waiting, and its message is not acknowledged before it is on disk or replaced: for
HOLD_S the broker keeps it for us, so that a sensor that chatters costs the SD card nothing; then, or when much else
waits to be acknowledged behind it, it is written.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bridge.model import Letter
from bridge.outbox.journal import Entry, Journal
from bridge.outbox.receipts import Receipt

HOLD_S = 10.0  # longer than most doors bounce, shorter than anybody would wait for the rest of the house's acknowledgements


@dataclass(slots=True)
class _Held:
    letter: Letter
    receipt: Receipt | None
    since: float


class Pen:
    """What is held, in order of receipt."""

    def __init__(self, journal: Journal, *, monotonic: Callable[[], float], stored: Iterable[Letter]) -> None:
        """Start with what the last run left held on disk."""
        self._journal, self._monotonic = journal, monotonic
        self._held = {letter.seq: _Held(letter, None, monotonic()) for letter in stored}
        self._unsaved: dict[int, _Held] = {}
        self.bytes = sum(held.letter.size for held in self._held.values())

    def __len__(self) -> int:
        return len(self._held)

    def holds(self, letter: Letter) -> bool:
        """Return True if it is held here, False if not."""
        return letter.seq in self._held

    @property
    def letters(self) -> list[Letter]:
        """Return every letter that is held, in order of receipt."""
        return [held.letter for held in self._held.values()]

    @property
    def unsaved(self) -> int:
        """Return how many are in memory only."""
        return len(self._unsaved)

    @property
    def save_at(self) -> float | None:
        """Return when the oldest that is in memory only should be written, in monotonic seconds; None if there is none."""
        return next((held.since + HOLD_S for held in self._unsaved.values()), None)

    def add(self, letter: Letter, receipt: Receipt) -> None:
        """Hold a letter, and its message's receipt with it."""
        receipt.add()
        held = _Held(letter, receipt, self._monotonic())
        self._held[letter.seq] = self._unsaved[letter.seq] = held
        self.bytes += letter.size

    def save(self) -> None:
        """Write what is in memory only, with the next commit."""
        for held in self._unsaved.values():
            receipts = [] if held.receipt is None else [held.receipt]
            self._journal.add(Entry(held.letter, self._monotonic(), receipts, held_back=True))
        self._unsaved.clear()

    def take(self, letter: Letter) -> list[Receipt]:
        """Let go of a letter; return the receipts that wait for whatever takes its place."""
        held = self._held.pop(letter.seq)
        self.bytes -= letter.size
        if self._unsaved.pop(letter.seq, None) is not None:
            return [] if held.receipt is None else [held.receipt]
        return self._journal.take_back(letter)

    def drop(self, numbers: set[int]) -> list[Letter]:
        """Forget letters that a person dropped, which are gone from disk already; return those that were here."""
        found = [self._held.pop(seq).letter for seq in numbers & self._held.keys()]
        self.bytes -= sum(letter.size for letter in found)
        return found
