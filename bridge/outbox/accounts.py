"""The accounts: how much waits for each place, how much is dead for each mapping, and the ledger in step with both."""

import logging

from bridge.model import Lane, Letter, Result
from bridge.outbox.ledger import Ledger
from bridge.outbox.store import Store, Tally

logger = logging.getLogger(__name__)

Place = tuple[Lane, str]


class Accounts:
    """What is counted of every letter, from when it is taken in until it has ended."""

    def __init__(self, store: Store) -> None:
        """Go on from what the file says."""
        self.waiting: dict[Place, int] = {}
        self.dead = store.dead_counts()
        by_mapping: dict[str, int] = {}
        for (lane, destination, mapping), found in store.waiting_counts().items():
            by_mapping[mapping] = by_mapping.get(mapping, 0) + found.messages
            self._more((lane, destination), found.messages)
        self.ledger = Ledger(store.counts(), by_mapping)
        if imbalance := self.ledger.imbalance():
            logger.error("ledger does not add up: the last run lost count imbalance=%d", imbalance)

    def received(self, letter: Letter) -> None:
        """Count a letter that is taken in."""
        self.ledger.received(letter.mapping, letter.count)
        self._more((letter.lane, letter.destination), letter.count)

    def ended(self, letter: Letter, result: Result) -> None:
        """Count how a letter ended."""
        self.ledger.ended(letter.mapping, result, letter.count)
        self.waiting[letter.lane, letter.destination] -= letter.count

    def buried(self, letter: Letter) -> None:
        """Count a letter that is dead from now on."""
        self.ended(letter, Result.DEAD)
        self.dead[letter.mapping] = self.dead.get(letter.mapping, 0) + 1

    def unreadable(self, buried: Tally) -> None:
        """Count letters that are dead from now on because they can't be read."""
        for (lane, destination, mapping), found in buried.items():
            self.ledger.ended(mapping, Result.DEAD, found.messages)
            self.waiting[lane, destination] -= found.messages
            self.dead[mapping] = self.dead.get(mapping, 0) + found.letters

    def revived(self, revived: Tally) -> None:
        """Count dead letters that wait again: they are taken in anew."""
        for (lane, destination, mapping), found in revived.items():
            self.ledger.received(mapping, found.messages)
            self.dead[mapping] -= found.letters
            self._more((lane, destination), found.messages)

    def moved(self, moved: Tally, to: str) -> None:
        """Count waiting events that go to the destination *to* from now on."""
        for (lane, destination, _), found in moved.items():
            self.waiting[lane, destination] -= found.messages
            self._more((lane, to), found.messages)

    def dropped(self, *, living: Tally, dead: Tally) -> None:
        """Count letters that a person deleted, *living* and *dead* ones."""
        for (lane, destination, mapping), found in living.items():
            self.ledger.ended(mapping, Result.DROPPED, found.messages)
            self.waiting[lane, destination] -= found.messages
        for (_, _, mapping), found in dead.items():
            self.dead[mapping] -= found.letters

    def _more(self, place: Place, count: int) -> None:
        self.waiting[place] = self.waiting.get(place, 0) + count
