"""The outbox: makes letters safe, hands them to their courier, and keeps the books.

Write elision ("balanced"): a new letter goes to its courier at once *and* joins the next commit. What is
delivered before that commit is never written. The broker's message is acknowledged when the first of
both has happened, so nothing is lost and a quiet house costs its SD card nothing. "strict": commit first.

Everything but the commits runs on the loop; the commits run one after the other on the store's one thread.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar, TypeVarTuple

from bridge.errors import StoreFull
from bridge.model import Answer, Lane, Letter, Outcome, Reply, Result, State, Verdict
from bridge.outbox.ledger import Ledger
from bridge.outbox.receipts import Receipt
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Selection, Store
from bridge.outbox.window import Fetch
from bridge.rules.inbound import answer_for
from bridge.rules.retry import judge_publish

logger = logging.getLogger(__name__)

GROUP = 16  # unsaved letters that are worth a commit: most of Mosquitto's window of 20
GROUP_S = 0.1  # the longest that a letter stays unsaved and undelivered
LAZY_S = 1.0  # for what costs only a duplicate if it is lost: completions, rescheduling
LEDGER_S = 60.0  # promise 6: counts alone are written at most once a minute
FULL_RETRY_S = 1.0  # how soon a full outbox is tried again
SEEN_S = 4 * 86_400.0  # senders retry for up to three days
ORIGINS = 1_000  # how many messages a re-delivery is looked for among: twice the widest window that is asked for

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Receiver(Protocol):
    """Who takes letters off the outbox: a courier."""

    @property
    def troubled(self) -> bool:
        """Return True while its destination fails, False while all is well."""

    def offer(self, letter: Letter) -> bool:
        """Take a letter into memory and return True, or leave it to the disk and return False."""

    def holds(self, seq: int) -> bool:
        """Return True if it has that letter in memory, False if not."""

    def discard(self, numbers: set[int]) -> set[int]:
        """Forget letters, but for those in flight; return the latter."""

    def look_again(self) -> None:
        """Look at the disk again, and let everything be due now."""


@dataclass(slots=True)
class _Unsaved:
    """A letter that is not on disk yet. `saved` is set for a command, which goes out only after its commit."""

    letter: Letter
    since: float
    receipt: Receipt | None = None
    held_back: bool = False
    saved: asyncio.Future[None] | None = None


class Outbox:
    """The one place where letters wait."""

    def __init__(self, store: Store, settings: StoreSettings, *, monotonic: Callable[[], float], wall: Callable[[], float]) -> None:
        self._store = store
        self._strict = settings.durability == "strict"
        self._monotonic, self._wall = monotonic, wall
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._lock = asyncio.Lock()
        self._wake = asyncio.Event()
        self._receivers: dict[tuple[Lane, str], Receiver] = {}
        self._answers: dict[tuple[str, str], asyncio.Future[Answer]] = {}
        self._unsaved: dict[int, _Unsaved] = {}
        self._changes = Changes()
        self._writing: tuple[Changes, dict[int, _Unsaved]] = (Changes(), {})
        self._dropping: set[int] = set()
        self._urgent = False
        self._lazy_at: float | None = None
        self._ledger_at: float | None = None
        self._not_before = 0.0
        self.full = False
        self.commits = 0
        self.waiting: dict[tuple[Lane, str], int] = {}
        self._load()

    def _load(self) -> None:
        by_mapping: dict[str, int] = {}
        for (lane, destination, mapping), count in self._store.waiting_counts().items():
            by_mapping[mapping] = by_mapping.get(mapping, 0) + count
            self.waiting[lane, destination] = self.waiting.get((lane, destination), 0) + count
        self._seq = self._store.last_seq()
        self.dead = self._store.dead_counts()
        self.origins = frozenset(self._store.origins(ORIGINS))
        self.ledger = Ledger(self._store.counts(), by_mapping)
        if imbalance := self.ledger.imbalance():
            logger.error("ledger does not add up: the last run lost count imbalance=%d", imbalance)
        self._bury_begun()

    def _bury_begun(self) -> None:
        """Let no command be published twice: one whose publishing may have started when the last run ended is dead."""
        for letter in self._store.begun():
            outcome = judge_publish(Reply(error="doubt", detail="the bridge stopped while it was being published"))
            logger.warning("dead command=%s hook=%s reason=%r", letter.id, letter.mapping, outcome.reason)
            self._changes.answers[letter.mapping, letter.id] = answer_for(letter.id, outcome)
            self._bury(letter, outcome.reason)
        if self._changes:
            self._changes.counts = self.ledger.take()
            self._store.write(self._changes)
            self._changes = Changes()

    def register(self, lane: Lane, destination: str, receiver: Receiver) -> bool:
        """Let *receiver* be offered a destination's letters; return True if some wait on disk already."""
        self._receivers[lane, destination] = receiver
        return self.waiting.get((lane, destination), 0) > 0

    @property
    def unsaved(self) -> int:
        """Return how many letters are in memory only."""
        return len(self._unsaved)

    # --- what comes in ---

    def passed(self, mapping: str, result: Result) -> None:
        """Count what came for a mapping and ended at once, without a letter."""
        self.ledger.passed(mapping, result)
        if self._ledger_at is None:
            self._ledger_at = self._monotonic() + LEDGER_S
            self._wake.set()

    def put(self, letters: Iterable[Letter], receipt: Receipt) -> None:
        """Take on what one message came to: count it, make it safe, let it be delivered.

        *receipt* is settled once for each letter, when it is on disk or needs no disk any more.
        """
        for letter in letters:
            letter = self._numbered(letter)
            receipt.add()
            self._unsaved[letter.seq] = _Unsaved(letter, self._monotonic(), receipt, held_back=self._strict)
            if letter.state is State.DEAD:
                self._count_end(letter, Result.DEAD)
                self.dead[letter.mapping] = self.dead.get(letter.mapping, 0) + 1
                logger.warning("dead event=%s mapping=%s destination=%s reason=%r", letter.id, letter.mapping, letter.destination, letter.reason)
            elif not self._strict:
                self._offer(letter)
        if self._strict or len(self._unsaved) >= GROUP:
            self._urgent = True
        self._wake.set()

    async def submit(self, letter: Letter, queued: Answer) -> tuple[Answer, bool]:
        """Make a command safe and its id remembered; return its answer, and True if the id is a repeated one.

        A letter that is begun is published as soon as it is safe, and answered with what came of that.
        One that isn't waits for the broker, and is answered with *queued*. An id that its hook has met
        before changes nothing and gets the first answer again. Raises StoreFull.
        """
        name = (letter.mapping, letter.id)
        if (coming := self._answers.get(name)) is not None:
            return await asyncio.shield(coming), True
        coming = self._answers[name] = asyncio.get_running_loop().create_future()
        try:
            if (answer := await self._on_thread(self._store.answered, *name)) is not None:
                coming.set_result(answer)
                return answer, True
            await self._saved(letter, None if letter.begun_at else queued)
            if letter.begun_at is None and not coming.done():
                coming.set_result(queued)
            return await asyncio.shield(coming), False
        except StoreFull as exc:
            coming.set_exception(exc)
            coming.exception()  # it may be that nobody else waits for it
            raise
        finally:
            if coming.done():
                self._answers.pop(name, None)

    async def _saved(self, letter: Letter, queued: Answer | None) -> None:
        letter = self._numbered(letter)
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        name = (letter.mapping, letter.id)
        self._unsaved[letter.seq] = _Unsaved(letter, self._monotonic(), held_back=True, saved=saved)
        self._changes.seen[name] = letter.created_at
        if queued is not None:
            self._changes.answers[name] = queued
        self._urgent = True
        self._wake.set()
        await saved

    def _numbered(self, letter: Letter) -> Letter:
        self._seq += 1
        self.ledger.received(letter.mapping)
        place = (letter.lane, letter.destination)
        self.waiting[place] = self.waiting.get(place, 0) + 1
        return replace(letter, seq=self._seq)

    def _offer(self, letter: Letter) -> None:
        receiver = self._receivers.get((letter.lane, letter.destination))
        if receiver is None or not receiver.offer(letter) or receiver.troubled:
            self._urgent = True

    async def begin(self, letter: Letter) -> None:
        """Note on disk that a command's publishing starts, so that no crash lets it happen twice; raises StoreFull."""
        self._changes.letters.pop(letter.seq, None)
        await self._on_thread(self._store.write, Changes(letters={letter.seq: replace(letter, begun_at=self._wall())}))

    # --- what comes of it ---

    def record(self, letter: Letter, outcome: Outcome) -> None:
        """Note what an attempt came to: done and gone, due again later, or dead."""
        match outcome.verdict:
            case Verdict.DELIVERED:
                self._finish(letter, Result.DELIVERED)
            case Verdict.EXPIRED:
                self._finish(letter, Result.EXPIRED)
            case Verdict.DEAD:
                self._bury(replace(letter, attempts=letter.attempts + 1), outcome.reason)
            case Verdict.RETRY:
                due_at = self._wall() + outcome.delay_s
                self._update(replace(letter, attempts=letter.attempts + 1, due_at=due_at, begun_at=None, reason=outcome.reason))
        if letter.lane is Lane.MQTT and letter.begun_at is not None:
            self._answer(letter, outcome)

    def _finish(self, letter: Letter, result: Result) -> None:
        self._count_end(letter, result)
        if (unsaved := self._unsaved.pop(letter.seq, None)) is not None:
            _settle(unsaved)  # it never has to be written at all
            return
        self._changes.letters.pop(letter.seq, None)
        self._changes.gone.add(letter.seq)
        self._lazily()

    def _bury(self, letter: Letter, reason: str) -> None:
        self._count_end(letter, Result.DEAD)
        self.dead[letter.mapping] = self.dead.get(letter.mapping, 0) + 1
        self._update(replace(letter, state=State.DEAD, dead_at=self._wall(), due_at=None, reason=reason))

    def _update(self, letter: Letter) -> None:
        if (unsaved := self._unsaved.get(letter.seq)) is not None:
            unsaved.letter = letter
            self._urgent = True  # its destination is down or slow: nothing is won by waiting
            self._wake.set()
        else:
            self._changes.letters[letter.seq] = letter
            self._lazily()

    def _answer(self, letter: Letter, outcome: Outcome) -> None:
        name = (letter.mapping, letter.id)
        self._changes.answers[name] = answer_for(letter.id, outcome)
        self._urgent = True  # the caller is told only what a crash can't undo
        self._wake.set()

    def _count_end(self, letter: Letter, result: Result) -> None:
        self.ledger.ended(letter.mapping, result)
        self.waiting[letter.lane, letter.destination] -= 1
        if self._ledger_at is None:
            self._ledger_at = self._monotonic() + LEDGER_S

    def _lazily(self) -> None:
        if self._lazy_at is None:
            self._lazy_at = self._monotonic() + LAZY_S
            self._wake.set()

    # --- commits ---

    async def run(self) -> None:
        """Commit whatever is due, for ever."""
        while True:
            due_at = self._due_at()
            now = self._monotonic()
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
            changes, saving = self._taken()
            if not changes:
                return
            self._writing = (changes, saving)
            try:
                await self._on_thread(self._store.write, changes)
            except StoreFull as exc:
                self._give_back(changes, saving, exc)
                await self._relieve()
            else:
                self._written(changes, saving)
            finally:
                self._writing = (Changes(), {})

    def shut(self) -> None:
        """Wait for the commit that is under way, and start no other."""
        self._thread.shutdown(cancel_futures=True)

    async def ping(self) -> None:
        """Return when the store's thread has answered."""
        await self._on_thread(self._store.last_seq)

    def _due_at(self) -> float | None:
        if self._urgent or len(self._unsaved) >= GROUP:
            return max(0.0, self._not_before)
        oldest = next((unsaved.since + GROUP_S for unsaved in self._unsaved.values()), None)
        dues = [at for at in (oldest, self._lazy_at, self._ledger_at) if at is not None]
        return max(min(dues), self._not_before) if dues else None

    def _taken(self) -> tuple[Changes, dict[int, _Unsaved]]:
        changes, self._changes = self._changes, Changes()
        saving, self._unsaved = self._unsaved, {}
        changes.letters.update((seq, unsaved.letter) for seq, unsaved in saving.items())
        # Taken in the same breath as the letters: what is on disk adds up at every commit.
        changes.counts = self.ledger.take()
        self._urgent, self._lazy_at, self._ledger_at = False, None, None
        return changes, saving

    def _written(self, changes: Changes, saving: dict[int, _Unsaved]) -> None:
        self.commits += 1
        self._not_before = 0.0
        if self.full:
            self.full = False
            logger.info("outbox has room again")
        for unsaved in saving.values():
            _settle(unsaved)
            if unsaved.saved is not None and not unsaved.saved.done():
                unsaved.saved.set_result(None)
            if unsaved.held_back and unsaved.letter.state is State.WAITING:
                self._offer(unsaved.letter)
        for name, answer in changes.answers.items():
            if (coming := self._answers.pop(name, None)) is not None and not coming.done():
                coming.set_result(answer)

    def _give_back(self, changes: Changes, saving: dict[int, _Unsaved], exc: StoreFull) -> None:
        """Let everything that could not be written wait again, beside what came in the meantime."""
        if not self.full:
            self.full = True
            logger.error("%s; messages stay with the broker, hooks answer 503, deliveries go on", exc)
        self.ledger.put_back(changes.counts)
        newer, self._changes = self._changes, changes
        for seq, unsaved in saving.items():
            self._changes.letters.pop(seq, None)
            if seq in newer.gone:
                newer.gone.discard(seq)
                _settle(unsaved)
            elif unsaved.saved is not None:
                self._refuse(unsaved, exc)
            else:
                unsaved.letter = newer.letters.pop(seq, unsaved.letter)
                self._unsaved[seq] = unsaved
        self._unsaved = dict(sorted(self._unsaved.items()))
        self._changes.letters.update(newer.letters)
        self._changes.gone |= newer.gone
        self._changes.seen.update(newer.seen)
        self._changes.answers.update(newer.answers)
        self._changes.notes.update(newer.notes)

    def _refuse(self, unsaved: _Unsaved, exc: StoreFull) -> None:
        letter = unsaved.letter
        self._count_end(letter, Result.DROPPED)
        self._changes.seen.pop((letter.mapping, letter.id), None)
        self._changes.answers.pop((letter.mapping, letter.id), None)
        if unsaved.saved is not None and not unsaved.saved.done():
            unsaved.saved.set_exception(exc)

    async def _relieve(self) -> None:
        """Delete what is done and what has expired; then the next commit may fit."""
        self._not_before = self._monotonic() + FULL_RETRY_S
        self._lazy_at = self._not_before
        gone, self._changes.gone = self._changes.gone, set()
        try:
            await self._on_thread(self._store.write, Changes(gone=gone))
            expired = await self._on_thread(self._store.expired, self._wall())
            free = [letter for letter in expired if not self._is_held(letter)]
            self._dropping |= {letter.seq for letter in free}
            await self._on_thread(self._store.drop, [letter.seq for letter in free], State.WAITING)
        except StoreFull:
            self._changes.gone |= gone  # a full disk, not a full file: even deleting needs space
            return
        finally:
            self._dropping.clear()
        for letter in free:
            self._count_end(letter, Result.EXPIRED)
            logger.warning("expired event=%s mapping=%s destination=%s", letter.id, letter.mapping, letter.destination)
        if gone or free:
            self._not_before = 0.0

    def _is_held(self, letter: Letter) -> bool:
        receiver = self._receivers.get((letter.lane, letter.destination))
        return receiver is not None and receiver.holds(letter.seq)

    # --- what couriers and people ask of the disk ---

    async def fetch(self, lane: Lane, destination: str, fetch: Fetch) -> tuple[list[Letter], bool]:
        """Return the letters that a lane wishes for, in order, and True if there were no more of them."""
        if fetch.key is None:
            stored = await self._on_thread(self._store.waiting, lane, destination, fetch.after, fetch.limit)
        else:
            stored = await self._on_thread(self._store.waiting_of_key, lane, destination, fetch.key, fetch.limit)
        exhausted = len(stored) < fetch.limit
        letters = {letter.seq: letter for letter in stored}
        # What the disk doesn't show yet: the commit on its way, then what came after it.
        for changes, unsaved in (self._writing, (self._changes, self._unsaved)):
            if exhausted:
                letters |= {seq: entry.letter for seq, entry in unsaved.items() if seq > fetch.after and not entry.held_back}
            letters |= {seq: letter for seq, letter in changes.letters.items() if seq in letters}
            letters = {seq: letter for seq, letter in letters.items() if seq not in changes.gone}
        return [letter for _, letter in sorted(letters.items()) if self._belongs(letter, lane, destination, fetch.key)], exhausted

    def _belongs(self, letter: Letter, lane: Lane, destination: str, key: str | None) -> bool:
        here = letter.lane is lane and letter.destination == destination and key in (None, letter.key)
        return here and letter.state is State.WAITING and letter.seq not in self._dropping

    async def select(self, wanted: Selection) -> list[Letter]:
        """Return the letters that a person means, oldest first."""
        await self.flush()
        return await self._on_thread(self._store.select, wanted)

    async def retry(self, wanted: Selection) -> int:
        """Let the letters that a person means be tried now, dead ones as if they came now; return how many."""
        await self.flush()
        numbers = await self._on_thread(self._store.numbers, wanted)
        revived = await self._on_thread(self._store.revive, numbers, self._wall())
        hastened = await self._on_thread(self._store.hasten, numbers)
        for (lane, destination, mapping), count in revived.items():
            self.ledger.received(mapping, count)
            self.dead[mapping] -= count
            self.waiting[lane, destination] = self.waiting.get((lane, destination), 0) + count
        for lane, destination, _ in {*revived, *hastened}:
            if (receiver := self._receivers.get((lane, destination))) is not None:
                receiver.look_again()
        await self.flush()
        return sum(hastened.values())

    async def drop(self, wanted: Selection) -> int:
        """Delete the letters that a person means, but for those in flight; return how many."""
        await self.flush()
        numbers = set(await self._on_thread(self._store.numbers, wanted))
        for receiver in self._receivers.values():
            numbers -= receiver.discard(numbers)
        self._dropping |= numbers
        try:
            waiting = await self._on_thread(self._store.drop, sorted(numbers), State.WAITING)
            dead = await self._on_thread(self._store.drop, sorted(numbers), State.DEAD)
        finally:
            self._dropping -= numbers
        for (lane, destination, mapping), count in waiting.items():
            self.ledger.ended(mapping, Result.DROPPED, count)
            self.waiting[lane, destination] -= count
        for (_, _, mapping), count in dead.items():
            self.dead[mapping] -= count
        await self.flush()
        return sum(waiting.values()) + sum(dead.values())

    def remember(self, name: str, value: str) -> None:
        """Keep a note over restarts; written with the next commit."""
        self._changes.notes[name] = value
        self._lazily()

    async def size(self) -> tuple[int, int]:
        """Return the bytes in use, and the most there may be."""
        return await self._on_thread(self._store.pages)

    async def oldest(self) -> dict[tuple[Lane, str], float]:
        """Return when the oldest waiting letter on disk came, by lane and destination."""
        return await self._on_thread(self._store.oldest_waiting)

    async def forget_seen(self) -> None:
        """Let go of the ids that no sender repeats any more."""
        with suppress(StoreFull):  # then another time
            await self._on_thread(self._store.forget_seen, self._wall() - SEEN_S)

    def _on_thread(self, call: Callable[[*Ts], T], *values: *Ts) -> asyncio.Future[T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *values)


def _settle(unsaved: _Unsaved) -> None:
    if unsaved.receipt is not None:
        unsaved.receipt.settle()
