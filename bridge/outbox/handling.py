"""The handling of the queue by people while the daemon runs: they see, retry, split, move and drop letters, and see what was tried.

Each first has everything written, then asks the file, then brings in step what is in memory: the accounts, the windows of
couriers, what gates hold. What is in flight goes its way, and so does what has come back from there and isn't written yet.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass

from bridge.model import Event, Lane, Letter, State
from bridge.outbox.accounts import Accounts
from bridge.outbox.dates import dated, dated_attempt, steady_past, steady_selection
from bridge.outbox.history import Attempt
from bridge.outbox.journal import Journal
from bridge.outbox.newest import Newest
from bridge.outbox.pen import Pen
from bridge.outbox.receiver import Receiver
from bridge.outbox.selection import Past, Selection
from bridge.outbox.store import Store
from bridge.rules.calendar import Calendar


@dataclass(frozen=True, slots=True, kw_only=True)
class Shelf:
    """What of the outbox people's wishes reach into.

    `dropping` are the numbers of letters that are on their way out; `number_off` gives out so many new numbers and returns
    the one before the first.
    """

    store: Store
    journal: Journal
    accounts: Accounts
    newest: Newest
    pen: Pen
    receivers: Mapping[tuple[Lane, str], Receiver]
    dropping: set[int]
    flush: Callable[[], Awaitable[None]]
    unsaved: Callable[[], int]
    number_off: Callable[[int], int]
    wall: Callable[[], float]
    calendar: Callable[[], Calendar]


class Handling:
    """The queue in people's hands."""

    def __init__(self, shelf: Shelf) -> None:
        self._store, self._journal, self._on_thread, self._accounts = shelf.store, shelf.journal, shelf.journal.on_thread, shelf.accounts
        self._newest, self._pen, self._receivers, self._dropping = shelf.newest, shelf.pen, shelf.receivers, shelf.dropping
        self._flush, self._unsaved, self._number_off, self._wall, self._calendar = shelf.flush, shelf.unsaved, shelf.number_off, shelf.wall, shelf.calendar

    @property
    def unsaved(self) -> int:
        """Return how many letters are in memory only."""
        return self._unsaved()

    async def flush(self) -> None:
        """Write what is in memory only, as far as there is room."""
        await self._flush()

    async def history(self, wanted: Past) -> list[Attempt]:
        """Return the attempts that a person means, in the order in which they were made."""
        await self._flush()
        calendar = self._calendar()
        return [dated_attempt(attempt, calendar) for attempt in await self._on_thread(self._store.history, steady_past(wanted, calendar))]

    async def select(self, wanted: Selection) -> list[Letter]:
        """Return the letters that a person means, oldest first."""
        await self._flush()
        calendar = self._calendar()
        return [dated(letter, calendar) for letter in await self._on_thread(self._store.select, steady_selection(wanted, calendar))]

    async def parts(self, wanted: Selection, size: int) -> list[tuple[int, int]]:
        """Return how the letters that a person means fall into parts of *size*: of each its last number, and how many they are."""
        await self._flush()
        return await self._on_thread(self._store.parts, self._steady(wanted), size)

    async def retry(self, wanted: Selection) -> int:
        """Let the letters that a person means be tried now, dead ones as if they came now; return how many."""
        await self._flush()
        numbers = await self._on_thread(self._store.numbers, self._steady(wanted))
        revived = await self._on_thread(self._store.revive, numbers, self._wall())
        hastened = await self._on_thread(self._store.hasten, numbers)
        self._accounts.revived(revived)
        self._look_again({(lane, destination) for lane, destination, _ in {*revived, *hastened}})
        await self._flush()
        return sum(found.letters for found in hastened.values())

    def _steady(self, wanted: Selection) -> Selection:
        return steady_selection(wanted, self._calendar())

    def _look_again(self, places: Iterable[tuple[Lane, str]]) -> None:
        for place in places:
            if (receiver := self._receivers.get(place)) is not None:
                receiver.look_again()

    async def move(self, wanted: Selection, to: str, readdress: Callable[[Letter, Event], Event]) -> int:
        """Let the events that a person means go to the destination *to* instead; return how many. Raises RenderError where they can't."""
        await self._flush()
        numbers = set(await self._on_thread(self._store.numbers, self._steady(wanted))) - self._journal.unwritten
        for receiver in self._receivers.values():
            numbers -= receiver.discard(numbers)
        self._newest.forget(numbers)
        self._dropping |= numbers
        try:
            moved = await self._on_thread(self._store.move, numbers, to, readdress)
        finally:
            self._dropping -= numbers
        self._accounts.moved(moved, to)
        self._look_again([(Lane.WEBHOOK, to)])
        return sum(found.letters for found in moved.values())

    async def split(self, wanted: Selection) -> int:
        """Let each event of the batches that a person means be a letter of its own, due now; return how many come of it."""
        await self._flush()
        batches = {letter.seq: letter for letter in await self._on_thread(self._store.select, self._steady(wanted)) if letter.count > 1}
        numbers = set(batches) - self._journal.unwritten
        for receiver in self._receivers.values():
            numbers -= receiver.discard(numbers)
        first = self._number_off(sum(batches[seq].count for seq in numbers))
        self._dropping |= numbers
        try:
            split, revived = await self._on_thread(self._store.split, numbers, first, self._wall())
        finally:
            self._dropping -= numbers
        self._accounts.revived(revived)
        self._look_again({(batches[seq].lane, batches[seq].destination) for seq in numbers})
        await self._flush()
        return split

    async def drop(self, wanted: Selection) -> int:
        """Delete the letters that a person means, but for those in flight; return how many."""
        await self._flush()
        numbers = set(await self._on_thread(self._store.numbers, self._steady(wanted))) - self._journal.unwritten
        for receiver in self._receivers.values():
            numbers -= receiver.discard(numbers)
        self._dropping |= numbers
        try:
            waiting = await self._on_thread(self._store.drop, sorted(numbers), State.WAITING)
            held = await self._on_thread(self._store.drop, sorted(numbers), State.HELD)
            dead = await self._on_thread(self._store.drop, sorted(numbers), State.DEAD)
        finally:
            self._dropping -= numbers
        self._pen.drop(numbers)
        self._newest.forget(numbers)
        self._accounts.dropped(living=waiting, dead=dead)
        self._accounts.dropped(living=held, dead={})
        await self._flush()
        return sum(found.letters for tally in (waiting, held, dead) for found in tally.values())
