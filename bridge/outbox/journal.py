"""The journal: gathers what has to be written, and commits it in groups on the store's one thread.

What is lost by waiting decides how long a change may wait: a letter that nobody has delivered a tenth of a
second, what costs only a duplicate a second, counts and what gates remember a minute. Where the outbox is full, what could
not be written stays here and is tried again; nothing is forgotten. What makes room, and what became of letters that are on
disk, is then written without the new ones.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TypeVar, TypeVarTuple

from bridge.errors import StoreFull
from bridge.model import Answer, Letter, Result, State
from bridge.outbox.history import History
from bridge.outbox.ledger import IN, Counts, Ledger
from bridge.outbox.lookups import Name
from bridge.outbox.memory import Memories
from bridge.outbox.receipts import Receipt
from bridge.outbox.store import Changes, Store, reading

logger = logging.getLogger(__name__)

GROUP = 16  # unsaved letters that are worth a commit: most of Mosquitto's window of 20
GROUP_S = 0.1  # the longest that a letter stays unsaved and undelivered
LAZY_S = 1.0  # for what costs only a duplicate if it is lost: completions, rescheduling
LEDGER_S = 60.0  # promise 6: counts and memories alone are written at most once a minute
FULL_RETRY_S = 1.0  # how soon a full outbox is tried again
FULL_BYTES = 4 << 10  # a full outbox has room again when a letter fits: most are smaller than a page

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@dataclass(slots=True)
class Entry:
    """A letter that is not on disk yet.

    `receipts` are settled once it is safe. One that is `held_back` goes to its courier only after its commit;
    `saved` is for who waits for that commit, and is told if the outbox is full. `seen` are names of a hook that are
    remembered with it, and what they are answered where that is known.
    """

    letter: Letter
    since: float
    receipts: list[Receipt] = field(default_factory=list)
    held_back: bool = False
    saved: asyncio.Future[None] | None = None
    seen: Mapping[Name, Answer | None] = field(default_factory=dict)

    def settle(self) -> None:
        """Note that it is safe."""
        for receipt in self.receipts:
            receipt.settle()
        self.receipts = []


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Whom the journal tells: that a commit begins, what is on disk now, what was refused, and that room is needed."""

    begins: Callable[[], None]
    saved: Callable[[Changes, Iterable[Entry]], None]
    refused: Callable[[Entry], None]
    make_room: Callable[[], Awaitable[bool]]


class Journal:
    """What is not written yet, and when it will be."""

    def __init__(self, store: Store, ledger: Ledger, memories: Memories, history: History, *, monotonic: Callable[[], float], told: Told) -> None:
        self._store, self._ledger, self._memories, self._history, self._monotonic, self._told = store, ledger, memories, history, monotonic, told
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._entries: dict[int, Entry] = {}
        self._changes = Changes()
        self._writing: tuple[Changes, dict[int, Entry]] = (Changes(), {})
        self._taken_back: dict[int, Letter] = {}  # on disk still, and only to go with the letter that takes its place
        self._urgent = False
        self._lazy_at: float | None = None
        self._ledger_at: float | None = None
        self._written_at = -LEDGER_S
        self._not_before = 0.0
        self._at_once: int | None = None  # the new letters that a commit takes; None: all
        self.full = False
        self.commits = 0

    def __len__(self) -> int:
        return len(self._entries)

    # --- what has to be written ---

    def add(self, entry: Entry) -> None:
        """Write a new letter with the next group."""
        self._entries[entry.letter.seq] = entry
        self._changes.seen |= dict.fromkeys(entry.seen, entry.letter.created_at)
        self._changes.answers |= {name: answer for name, answer in entry.seen.items() if answer is not None}
        if entry.held_back or len(self._entries) >= GROUP:
            self.hurry()
        elif len(self._entries) == 1:
            self._wake.set()

    def end(self, seq: int) -> None:
        """Write that the letter of that number is done; one that was never written never has to be."""
        if (entry := self._entries.pop(seq, None)) is not None:
            entry.settle()
            return
        self._changes.letters.pop(seq, None)
        self._changes.gone.add(seq)
        self._take_time()

    def take_back(self, letter: Letter) -> list[Receipt]:
        """Let a letter be on disk no more, as another takes its place; return the receipts that now wait for that one."""
        if (entry := self._entries.pop(letter.seq, None)) is not None:
            receipts, entry.receipts = entry.receipts, []
            return receipts
        self._changes.letters.pop(letter.seq, None)
        self._changes.gone.add(letter.seq)
        self._taken_back[letter.seq] = letter
        self._take_time()
        if (entry := self._writing[1].get(letter.seq)) is None:
            return []
        for receipt in entry.receipts:  # its commit is under way, and may still fail
            receipt.add()
        return list(entry.receipts)

    def update(self, letter: Letter) -> None:
        """Write what became of a letter that stays."""
        if (entry := self._entries.get(letter.seq)) is not None:
            entry.letter = letter
            self.hurry()  # its destination is down or slow: nothing is won by waiting
        else:
            self._changes.letters[letter.seq] = letter
            self._take_time()

    def begin(self, letter: Letter, at: float) -> asyncio.Future[None]:
        """Write at once that a command's publishing starts; the future raises StoreFull."""
        self._changes.letters.pop(letter.seq, None)
        return self.on_thread(self._store.write, Changes(letters={letter.seq: replace(letter, begun_at=at)}))

    def answer(self, name: Name, answer: Answer) -> None:
        """Remember what an id is answered, at once: the caller is told only what a crash can't undo."""
        self._changes.answers[name] = answer
        self.hurry()

    def note(self, name: str, value: str) -> None:
        """Keep a note over restarts."""
        self._changes.notes[name] = value
        self._take_time()

    def count(self) -> None:
        """Write counts that changed, within a minute."""
        if self._ledger_at is None:
            self._ledger_at = self._monotonic() + LEDGER_S
            self._wake.set()

    def remember(self) -> None:
        """Write what gates remember: soon after a minute without any write, else when that minute is over."""
        due_at = max(self._monotonic() + LAZY_S, self._written_at + LEDGER_S)
        if self._ledger_at is None or due_at < self._ledger_at:
            self._ledger_at = due_at
            self._wake.set()

    def hurry(self) -> None:
        """Commit as soon as the one under way is done."""
        self._urgent = True
        self._wake.set()

    @property
    def unwritten(self) -> set[int]:
        """Return the numbers of the letters of which the disk doesn't say what became of them."""
        return {seq for changes in (self._writing[0], self._changes) for seq in (*changes.gone, *changes.letters)}

    def is_gone(self, seq: int) -> bool:
        """Return True if that letter has ended, and is to be deleted; False if not, or if that is done."""
        return seq in self._changes.gone or seq in self._writing[0].gone

    def over(self, stored: dict[int, Letter], *, after: int, exhausted: bool) -> dict[int, Letter]:
        """Return letters as they are, given what the disk said: with what it doesn't show yet laid over it.

        Letters that are not on disk join only where the disk had no more (*exhausted*), and past *after*.
        """
        letters = dict(stored)
        for changes, entries in (self._writing, (self._changes, self._entries)):
            if exhausted:
                letters |= {seq: entry.letter for seq, entry in entries.items() if seq > after and not entry.held_back}
            letters |= {seq: letter for seq, letter in changes.letters.items() if seq in letters}
            letters = {seq: letter for seq, letter in letters.items() if seq not in changes.gone}
        return letters

    # --- commits ---

    async def run(self) -> None:
        """Commit whatever is due, for ever."""
        while True:
            due_at, now = self._due_at(), self._monotonic()
            if due_at is not None and due_at <= now:
                await self.flush()
                continue
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(None if due_at is None else due_at - now):
                    await self._wake.wait()

    async def flush(self) -> None:
        """Commit all that there is to write; where the outbox is full, make what room can be made."""
        async with self._lock:
            if self._memories.changed or self._ledger.changed:
                self._told.begins()  # what counts and memories speak of has to be on disk with them
            changes, entries = self._taken(self._at_once)
            if not changes and not self.full:
                return
            growth = max(sum(entry.letter.size for entry in entries.values()), FULL_BYTES if self.full else 0)
            self._writing = (changes, entries)
            try:
                await self.on_thread(self._store.write, changes, growth)
            except StoreFull as exc:
                self._give_back(changes, entries, exc)
                await self._relieve()
            else:
                self._written(changes, entries)
                self._has_room()
            finally:
                self._writing = (Changes(), {})

    def shut(self) -> None:
        """Wait for the commit that is under way, and start no other."""
        self._thread.shutdown(cancel_futures=True)

    def on_thread(self, call: Callable[[*Ts], T], *values: *Ts) -> asyncio.Future[T]:
        """Return the future of a call to the store, made on its thread after those before it."""
        return asyncio.get_running_loop().run_in_executor(self._thread, _read, call, *values)

    def _due_at(self) -> float | None:
        if self._urgent or len(self._entries) >= GROUP:
            return self._not_before
        oldest = next((entry.since + GROUP_S for entry in self._entries.values()), None)
        dues = [at for at in (oldest, self._lazy_at, self._ledger_at) if at is not None]
        return max(min(dues), self._not_before) if dues else None

    def _taken(self, at_once: int | None) -> tuple[Changes, dict[int, Entry]]:
        """Return what to write now, with so many of the new letters at most, the oldest; None: with all of them."""
        entries = dict(islice(self._entries.items(), at_once))
        self._entries = {seq: entry for seq, entry in self._entries.items() if seq not in entries}
        changes, self._changes = self._changes, Changes()
        changes.letters.update((seq, entry.letter) for seq, entry in entries.items())
        # Taken in the same breath as the letters: what is on disk adds up at every commit.
        if self._entries:
            self._changes.gone = changes.gone & self._taken_back.keys()
            changes.gone -= self._changes.gone
            changes.counts = self._counts_on_disk()
        else:
            changes.counts, changes.memories = self._ledger.take(), self._memories.take()
        self._urgent, self._lazy_at, self._ledger_at = False, None, None
        if at_once != 0 and self._history.is_due(self._monotonic()):  # of what makes room it is no part
            changes.attempts += self._history.take(self._monotonic())
        self._ledger_at = self._history.due_at  # what is left comes with the next minute's counts
        return changes, entries

    def _counts_on_disk(self) -> Counts:
        """Return the counts without the letters that stay in memory, and with those that stay on disk because of them."""
        counts = self._ledger.take()
        new = [entry.letter for entry in self._entries.values()]
        for letter in new:
            _add(counts, letter, IN, -letter.count)
            if letter.state is State.DEAD:
                _add(counts, letter, Result.DEAD, -letter.count)
        for letter in self._taken_back.values():
            _add(counts, letter, IN, letter.count)
        self._ledger.put_back({letter.mapping: {} for letter in new})  # once they are on disk the counts are others
        return counts

    def _written(self, changes: Changes, entries: dict[int, Entry]) -> None:
        self.commits += 1
        self._written_at = self._monotonic()
        for seq in changes.gone:
            self._taken_back.pop(seq, None)
        for entry in entries.values():
            entry.settle()
            if entry.saved is not None and not entry.saved.done():
                entry.saved.set_result(None)
        self._told.saved(changes, entries.values())

    def _has_room(self) -> None:
        self._not_before = 0.0
        if self.full and not self._entries:
            self.full, self._at_once = False, None
            logger.info("outbox has room again")

    def _give_back(self, changes: Changes, entries: dict[int, Entry], exc: StoreFull) -> None:
        """Let everything that could not be written wait again, beside what came in the meantime."""
        if not self.full:
            self.full = True
            logger.error("%s; messages stay with the broker, hooks answer 503, deliveries go on", exc)
        self._at_once = GROUP if self._at_once is None else max(self._at_once // 2, 1)
        for seq in entries:
            changes.letters.pop(seq, None)
        self._put_back(changes)
        for seq, entry in entries.items():
            if seq in self._changes.gone:
                self._changes.gone.discard(seq)
                self._taken_back.pop(seq, None)
                entry.settle()
            else:
                entry.letter = self._changes.letters.pop(seq, entry.letter)
                self._entries[seq] = entry
        for entry in [entry for entry in self._entries.values() if entry.saved is not None]:
            del self._entries[entry.letter.seq]
            self._refuse(entry, exc)
        self._entries = dict(sorted(self._entries.items()))
        self._writing = (Changes(), {})

    def _put_back(self, older: Changes) -> None:
        """Let what could not be written wait beside what came in the meantime; of what is gone since, nothing is written any more."""
        self._ledger.put_back(older.counts)
        self._memories.put_back(older.memories)
        self._history.put_back(older.attempts)
        newer = self._changes
        self._changes = Changes(
            letters={seq: letter for seq, letter in (older.letters | newer.letters).items() if seq not in newer.gone},
            gone=older.gone | newer.gone,
            seen=older.seen | newer.seen,
            answers=older.answers | newer.answers,
            notes=older.notes | newer.notes,
        )

    def _refuse(self, entry: Entry, exc: StoreFull) -> None:
        for name in entry.seen:
            self._changes.seen.pop(name, None)
            self._changes.answers.pop(name, None)
        self._told.refused(entry)
        if entry.saved is not None and not entry.saved.done():
            entry.saved.set_exception(exc)

    async def _relieve(self) -> None:
        """Write all but new letters: delete what is done above all, and have room made; then the next commit may fit."""
        self._told.begins()  # what is held in memory only is counted, and has to be known here as not written
        changes, entries = self._taken(0)
        self._not_before = self._lazy_at = self._monotonic() + FULL_RETRY_S
        self._writing = (changes, entries)
        try:
            await self.on_thread(self._store.relieve, changes)
        except StoreFull:  # a full disk, not a full file: even deleting needs space
            self._put_back(changes)
            return
        finally:
            self._writing = (Changes(), {})
        self._written(changes, entries)
        if await self._told.make_room() or changes.gone:
            self._not_before = 0.0

    def _take_time(self) -> None:
        if self._lazy_at is None:
            self._lazy_at = self._monotonic() + LAZY_S
            self._wake.set()


def _read(call: Callable[[*Ts], T], *values: *Ts) -> T:
    with reading():
        return call(*values)


def _add(counts: Counts, letter: Letter, entry: str, count: int) -> None:
    if letter.mapping in counts:  # else nothing of it is written
        counts[letter.mapping][entry] = counts[letter.mapping].get(entry, 0) + count
