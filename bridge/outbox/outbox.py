"""The outbox: makes letters safe, hands them to their courier, and keeps the books.

Write elision ("balanced"): a new letter goes to its courier at once *and* joins the next commit. What is
delivered before that commit is never written. The broker's message is acknowledged when the first of
both has happened, so nothing is lost and a quiet house costs its SD card nothing. "strict": commit first.

Everything but the commits runs on the loop; when and how they are made is the journal's business.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from bridge.errors import StoreFull
from bridge.model import Answer, Event, Lane, Letter, Outcome, Priority, Reply, Result, State, Verdict
from bridge.outbox.accounts import Accounts
from bridge.outbox.answers import Answers
from bridge.outbox.conditions import Conditions
from bridge.outbox.handling import Handling, Shelf
from bridge.outbox.history import History
from bridge.outbox.journal import FULL_RETRY_S, Entry, Journal, Told
from bridge.outbox.lookups import Lookups, Name
from bridge.outbox.memory import Memories
from bridge.outbox.newest import Newest
from bridge.outbox.onlookers import Onlookers
from bridge.outbox.pen import Pen
from bridge.outbox.receipts import Receipt
from bridge.outbox.receiver import Receiver
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Store, Tally
from bridge.outbox.window import BYTES, Fetch
from bridge.rules.calendar import Calendar
from bridge.rules.inbound import answer_for
from bridge.rules.retry import judge_publish

logger = logging.getLogger(__name__)

SEEN_S = 4 * 86_400.0  # senders retry for up to three days
SEEN_SHARE, SEEN_BYTES = 4, 256  # ids that hooks have met take a quarter of the file at most; one takes about so much, its answer with it
ATTEMPTS = 100_000  # that the history has at most: 20 MB, of an outbox of 256
ORIGINS = 1_000  # how many messages a re-delivery is looked for among: twice the widest window that is asked for


class Outbox:
    """The one place where letters wait."""

    def __init__(self, store: Store, settings: StoreSettings, *, monotonic: Callable[[], float], wall: Callable[[], float], calendar: Callable[[], Calendar] = Calendar) -> None:
        self._store = store
        self._obey(settings)
        self._monotonic, self._wall = monotonic, wall
        self.onlookers = Onlookers(lambda: calendar().date_of(wall()))
        self.conditions = Conditions()
        self._receivers: dict[tuple[Lane, str], Receiver] = {}
        self._dropping: set[int] = set()
        self._seq = store.last_seq()
        self.accounts = Accounts(store)
        self.origins = frozenset(store.origins(ORIGINS))
        self.memories = Memories(store.memories(), now=wall())
        told = Told(begins=self.save_held, saved=self._saved, refused=self._refused, make_room=self._make_room)
        self._history = History()
        self._journal = Journal(store, self.accounts.ledger, self.memories, self._history, monotonic=monotonic, told=told)
        self.answers = Answers(Lookups(lambda names: self._journal.on_thread(self._store.first_answers, names)), self._commit)
        self.pen = Pen(self._journal, monotonic=monotonic, stored=store.held())
        self._newest = Newest()
        self.handling = Handling(
            Shelf(
                store=store,
                journal=self._journal,
                accounts=self.accounts,
                newest=self._newest,
                pen=self.pen,
                receivers=self._receivers,
                dropping=self._dropping,
                flush=self.flush,
                unsaved=lambda: self.unsaved,
                number_off=self._number_off,
                wall=wall,
                calendar=calendar,
            )
        )
        self._bury_begun()
        if store.unreadable:
            self._tell_unreadable(store.unreadable, store.bury_unreadable(wall()))

    def _bury_begun(self) -> None:
        """Let no command be published twice: one whose publishing may have started when the last run ended is dead."""
        changes = Changes()
        for letter in self._store.begun():
            outcome = judge_publish(Reply(error="doubt", detail="the bridge stopped while it was being published"))
            logger.warning("dead command=%s hook=%s reason=%r", letter.id, letter.mapping, outcome.reason)
            changes.answers[letter.mapping, letter.id] = answer_for(letter.id, outcome)
            changes.letters[letter.seq] = self._dead(letter, outcome.reason)
        if changes:
            changes.counts = self.accounts.ledger.take()
            self._store.write(changes)

    async def adopt(self, settings: StoreSettings) -> None:
        """Go on with other bounds and another durability; of a smaller size the file keeps what is in it."""
        await self._journal.on_thread(self._store.limit, settings.max_size)
        self._obey(settings)

    def _obey(self, settings: StoreSettings) -> None:
        self._strict = settings.durability == "strict"
        self._most_seen = settings.max_size // SEEN_SHARE // SEEN_BYTES

    def unregister(self, lane: Lane, destination: str) -> None:
        """Offer a destination's letters to nobody: they wait on disk."""
        self._receivers.pop((lane, destination), None)
        self._journal.hurry()

    def register(self, lane: Lane, destination: str, receiver: Receiver) -> bool:
        """Let *receiver* be offered a destination's letters; return True if some wait on disk already."""
        self._receivers[lane, destination] = receiver
        return self.accounts.waiting.get((lane, destination), 0) > 0

    @property
    def unsaved(self) -> int:
        """Return how many letters are in memory only."""
        return len(self._journal) + self.pen.unsaved

    @property
    def full(self) -> bool:
        """Return True while nothing more can be made safe, False while all is well."""
        return self._journal.full

    @property
    def commits(self) -> int:
        """Return how often the file was written."""
        return self._journal.commits

    # --- what comes in ---

    def passed(self, mapping: str, result: Result) -> None:
        """Count what came for a mapping and ended at once, without a letter."""
        self.accounts.ledger.passed(mapping, result)
        self._journal.count()

    def put(self, letters: Iterable[Letter], receipt: Receipt) -> None:
        """Take on what one message came to: count it, make it safe, let it be delivered.

        *receipt* is settled once for each letter, when it is on disk or needs no disk any more.
        """
        for letter in letters:
            letter = self._numbered(letter)
            receipt.add()
            if letter.state is State.DEAD:
                letter = self._dead(letter, letter.reason or "")
                logger.warning("dead event=%s mapping=%s destination=%s reason=%r", letter.id, letter.mapping, letter.destination, letter.reason)
            self._post(letter, [receipt])

    def _post(self, letter: Letter, receipts: list[Receipt]) -> None:
        if letter.state is State.WAITING and (older := self._newest.replaced(letter)) is not None:
            self._replace(older, letter)
        # One whose answer commands a device is on disk first: sent again after a crash it bears the same id, and is answered for once.
        held_back = self._strict or (isinstance(letter.content, Event) and bool(letter.content.topic))
        self._journal.add(Entry(letter, self._monotonic(), receipts, held_back=held_back))
        if letter.state is State.WAITING and not held_back:
            self._offer(letter)

    # --- what gates hold back ---

    def hold(self, letter: Letter, receipt: Receipt) -> Letter:
        """Take on a letter that its gate holds back, and return it with its number."""
        letter = replace(self._numbered(letter), state=State.HELD)
        self.pen.add(letter, receipt)
        if self._strict:
            self.pen.save()
        return letter

    def release(self, held: Sequence[Letter], letter: Letter) -> None:
        """Let *letter* be delivered in the place of those that were *held*: it carries as many messages as they do."""
        receipts = [receipt for one in held for receipt in self.pen.take(one)]
        self._seq += 1
        self._post(replace(letter, seq=self._seq, state=State.WAITING, due_at=None), receipts)

    def coalesce(self, held: Letter) -> None:
        """Let a newer letter stand for one that was held."""
        for receipt in self.pen.take(held):
            receipt.settle()
        self._count_end(held, Result.COALESCED)

    def save_held(self) -> None:
        """Write what is held in memory only, with the next commit."""
        self.pen.save()

    def remember(self) -> None:
        """Write soon what gates have learnt."""
        self._journal.remember()

    def keep_latest(self, mappings: Collection[str]) -> None:
        """Let only the newest letter of each key of these mappings wait, from now on."""
        self._newest.watch(mappings, self._store.newest_waiting(mappings))

    def adopt_latest(self, mappings: Collection[str]) -> None:
        """Let these be the mappings of which only the newest letter of each key waits; what waits already counts once it is replaced."""
        self._newest.adopt(mappings)

    def _replace(self, older: int, letter: Letter) -> None:
        """End the letter of number *older* as coalesced, *letter* being the newest of its key; one in flight goes its way."""
        receiver = self._receivers.get((letter.lane, letter.destination))
        if receiver is None or receiver.withdraw(letter, older):
            self._count_end(replace(letter, seq=older), Result.COALESCED)
            self._journal.end(older)

    async def begin(self, letter: Letter) -> None:
        """Note on disk that a command's publishing starts, so that no crash lets it happen twice; raises StoreFull."""
        await self._journal.begin(letter, self._wall())

    async def _commit(self, letter: Letter, seen: Mapping[Name, Answer | None]) -> None:
        saved: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._journal.add(Entry(self._numbered(letter), self._monotonic(), held_back=True, saved=saved, seen=seen))
        await saved

    def _number_off(self, count: int) -> int:
        self._seq += count
        return self._seq - count

    def _numbered(self, letter: Letter) -> Letter:
        self._number_off(1)
        self.accounts.received(letter)
        return replace(letter, seq=self._seq)

    def _offer(self, letter: Letter) -> None:
        receiver = self._receivers.get((letter.lane, letter.destination))
        if receiver is None or not receiver.offer(letter) or receiver.troubled:
            self._journal.hurry()

    # --- what comes of it ---

    def record(self, letter: Letter, outcome: Outcome) -> None:
        """Note what an attempt came to: done and gone, due again later, or dead. Of what has ended already, nothing is counted again."""
        if self._journal.is_gone(letter.seq):
            return
        self._history.note(letter, outcome, at=self._wall())
        if self.onlookers:
            self.onlookers.tell_outcome(letter, outcome)
        match outcome.verdict:
            case Verdict.DELIVERED:
                self._end(letter, Result.DELIVERED)
            case Verdict.EXPIRED:
                self._end(letter, Result.EXPIRED)
            case Verdict.DEAD:
                self._journal.update(self._dead(replace(letter, attempts=letter.attempts + 1), outcome.reason))
            case Verdict.RETRY if self._newest.is_outdated(letter):
                self._end(letter, Result.COALESCED)
            case Verdict.RETRY:
                self._try_again(letter, outcome)
        if letter.lane is Lane.MQTT and letter.begun_at is not None:
            self._journal.answer((letter.mapping, letter.id), answer_for(letter.id, outcome))

    def _try_again(self, letter: Letter, outcome: Outcome) -> None:
        if outcome.spends:
            due_at = self._wall() + outcome.delay_s
            self._journal.update(replace(letter, attempts=letter.attempts + 1, due_at=due_at, begun_at=None, reason=outcome.reason))
        elif outcome.reason != letter.reason:  # else the disk knows it: an outage of a night is no write each half minute
            self._journal.update(replace(letter, reason=outcome.reason))

    def _end(self, letter: Letter, result: Result) -> None:
        self._count_end(letter, result)
        self._journal.end(letter.seq)

    def _dead(self, letter: Letter, reason: str) -> Letter:
        self.accounts.buried(letter)
        self._let_go(letter)
        return replace(letter, state=State.DEAD, dead_at=self._wall(), due_at=None, reason=reason)

    def _count_end(self, letter: Letter, result: Result) -> None:
        self.accounts.ended(letter, result)
        self._let_go(letter)

    def _let_go(self, letter: Letter) -> None:
        self._newest.ended(letter)
        self._journal.count()

    # --- what the journal tells ---

    def _saved(self, changes: Changes, entries: Iterable[Entry]) -> None:
        for entry in entries:
            if entry.held_back and entry.letter.state is State.WAITING:
                self._offer(entry.letter)
        self.answers.came(changes.answers)

    def _refused(self, entry: Entry) -> None:
        self._count_end(entry.letter, Result.DROPPED)

    async def _make_room(self) -> bool:
        """Delete what has expired and is in nobody's hands, and ids beyond their share; return True if there was any."""
        expired = await self._journal.on_thread(self._store.expired, self._wall())
        current = self._journal.over({letter.seq: letter for letter in expired}, after=0, exhausted=False)
        free = [letter for letter in current.values() if letter.state is State.WAITING and not self._is_held(letter)]
        self._dropping |= {letter.seq for letter in free}
        try:
            await self._journal.on_thread(self._store.drop, [letter.seq for letter in free], State.WAITING)
            forgotten = await self._forget_seen()
        except StoreFull:
            return False
        finally:
            self._dropping.clear()
        for letter in free:
            self._end(letter, Result.EXPIRED)
            logger.warning("expired event=%s mapping=%s destination=%s", letter.id, letter.mapping, letter.destination)
        return bool(free or forgotten)

    def _is_held(self, letter: Letter) -> bool:
        receiver = self._receivers.get((letter.lane, letter.destination))
        return receiver is not None and receiver.holds(letter.seq)

    async def run(self) -> None:
        """Commit whatever is due, for ever."""
        await self._journal.run()

    async def flush(self) -> None:
        """Commit all that there is to write, what is held and what was tried too."""
        self.pen.save()
        self._history.hurry()
        await self._journal.flush()

    def shut(self) -> None:
        """Wait for the commit that is under way, and start no other."""
        self._journal.shut()

    async def ping(self) -> None:
        """Return when the store's thread has answered."""
        await self._journal.on_thread(self._store.last_seq)

    # --- what couriers ask of the disk ---

    async def fetch(self, line: tuple[Lane, str, Priority], fetch: Fetch) -> tuple[list[Letter], bool]:
        """Return the letters that a window wishes for, in order, and True if there were no more of them.

        *line* is whose window it is: a lane, a destination and a priority.
        """
        after = fetch.after
        while True:
            if fetch.key is None:
                stored, exhausted = await self._journal.on_thread(self._store.waiting, *line, after, fetch.limit, BYTES)
            else:
                stored, exhausted = await self._journal.on_thread(self._store.waiting_of_key, *line, fetch.key, after, fetch.limit, BYTES)
            if self._store.unreadable:
                await self._bury_unreadable()
                continue
            letters = self._journal.over({letter.seq: letter for letter in stored}, after=after, exhausted=exhausted)
            here = [letter for _, letter in sorted(letters.items()) if self._belongs(letter, line, fetch.key)]
            if here or exhausted:
                return here, exhausted
            after = stored[-1].seq  # all of it is done, and waits to be deleted: what is behind it must not wait for that

    async def _bury_unreadable(self) -> None:
        """Let what was met on disk and can't be read be dead, so that nobody meets it again."""
        unreadable = dict(self._store.unreadable)
        try:
            self._tell_unreadable(unreadable, await self._journal.on_thread(self._store.bury_unreadable, self._wall()))
        except StoreFull:
            await asyncio.sleep(FULL_RETRY_S)

    def _tell_unreadable(self, unreadable: Mapping[int, str], buried: Tally) -> None:
        self.accounts.unreadable(buried)
        self._journal.count()
        for number, reason in unreadable.items():
            logger.error("unreadable letter number=%d reason=%r; it is dead now, with what stood in its row", number, reason)

    def _belongs(self, letter: Letter, line: tuple[Lane, str, Priority], key: str | None) -> bool:
        here = (letter.lane, letter.destination, letter.priority) == line and key in (None, letter.key)
        return here and letter.state is State.WAITING and letter.seq not in self._dropping

    async def forget(self, history_s: float) -> None:
        """Let go of the ids that no sender repeats any more, and of attempts older than *history_s* seconds."""
        with suppress(StoreFull):  # then another time
            await self._forget_seen()
            await self._journal.on_thread(self._store.forget_history, self._wall() - history_s, ATTEMPTS)

    async def _forget_seen(self) -> int:
        return await self._journal.on_thread(self._store.forget_seen, self._wall() - SEEN_S, self._most_seen)

    async def noted(self, name: str) -> str | None:
        """Return what was noted under a name, None if nothing was."""
        await self.flush()
        return await self._journal.on_thread(self._store.note, name)

    def note(self, name: str, value: str) -> None:
        """Keep a note over restarts; written with the next commit."""
        self._journal.note(name, value)

    async def size(self) -> tuple[int, int]:
        """Return the bytes in use, and the most there may be."""
        return await self._journal.on_thread(self._store.pages)

    async def oldest(self) -> dict[tuple[Lane, str], float]:
        """Return when the oldest waiting letter on disk came, by lane and destination."""
        return await self._journal.on_thread(self._store.oldest_waiting)
