"""One destination's letters in memory: which may go next. No clock, no loop, no disk: `now` is monotonic seconds.

Letters of one key go one after the other; keys pass each other. A window bounds what is in memory; the
rest is on disk, and this remembers where:

- past `_cursor`, when the window was full (`_behind`): fetched by number, in order;
- under a key whose head failed (the key *rests*), or which has more than its share: fetched by key;
- under some *fresh* keys, which spoke while others have a backlog: fetched by key as well, oldest first, beside the scan.

A key with letters on disk only takes no new one into memory, or order would be lost.
"""

import heapq
import math
from collections import deque
from dataclasses import dataclass, field

from bridge.model import Letter

LETTERS = 256  # letters in memory per destination at least; enough to keep 64 in flight while the next are fetched
BYTES = 4 << 20  # and their bodies
KEY_SHARE = 64  # of the window, for one key: the others must have room
FULL_SHARE = 2  # of one key, where the window is full: the one under way, and the next
FRESH_KEYS = 32  # that are fetched beside a backlog of other keys, at once
MAX_RESTING = 10_000  # keys that wait for their next attempt; beyond it nothing new is tried


@dataclass(frozen=True, slots=True)
class Fetch:
    """A wish for letters from disk past a number: of one key, or (key None) of all.

    `tail` and `turn` tell what was known when it was made: an answer that is older than what happened since
    proves nothing about the rest.
    """

    key: str | None
    after: int
    limit: int
    tail: int
    turn: int = 0


@dataclass(slots=True)
class _Line:
    """The letters of one key that are in memory, head first. `beyond` is the last one that is on disk only, 0 for none.

    No letter before `first` is on disk only: what is done, and not deleted yet, is not read again and again.
    """

    queue: deque[Letter] = field(default_factory=deque)
    in_flight: bool = False
    fresh: bool = False
    resting: bool = False
    first: int = 0
    beyond: int = 0

    def leave(self, first: int, last: int) -> None:
        """Know of letters that are on disk only, from number *first* on, *last* the last of them."""
        self.first = min(self.first, first) if self.beyond else first
        self.beyond = max(self.beyond, last)


class Window:
    """The letters of one destination that are at hand, and the order in which they go."""

    def __init__(self, *, backlog: bool, letters: int = LETTERS) -> None:
        """Start with nothing in memory and room for so many *letters*; *backlog* tells whether anything waits on disk."""
        self._letters = letters
        self._lines: dict[str, _Line] = {}
        self._ready: deque[str] = deque()
        self._ready_fresh: deque[str] = deque()
        self._fresh_next = True
        self._forgiven: set[str] = set()
        self._forgiving = False
        self._returning: deque[str] = deque()
        self._returning_fresh: deque[str] = deque()
        self._rests: list[tuple[float, str]] = []
        self._held: set[int] = set()
        self._bytes = 0
        self._cursor = 0
        self._behind = backlog
        self._tail = 0
        self._turn = 0
        self._fetching = False
        self._fresh = 0
        self._scan_next = False

    @property
    def resting(self) -> int:
        """Return how many keys wait for their next attempt."""
        return len(self._rests)

    def holds(self, seq: int) -> bool:
        """Return True if that letter is in memory here, False if not."""
        return seq in self._held

    def offer(self, letter: Letter) -> bool:
        """Take a new letter into memory and return True; or leave it to the disk and return False."""
        line = self._lines.get(letter.key)
        if line is not None and (line.resting or line.beyond or len(line.queue) >= KEY_SHARE):
            line.leave(self._unread(letter), letter.seq)
            self._account(letter.seq)
            return False
        if self._behind or self._full():
            self._behind = True
            self._tail = max(self._tail, letter.seq)
            if line is not None:
                line.leave(self._unread(letter), letter.seq)
            elif self._fresh < FRESH_KEYS:  # not for it to wait for all that other keys left on disk
                self._lines[letter.key] = _Line(first=self._unread(letter), beyond=letter.seq, fresh=True)
                self._fresh += 1
                self._returning_fresh.append(letter.key)
            return False
        self._account(letter.seq)
        self._take(letter)
        return True

    def next(self, now: float) -> Letter | None:
        """Return the next letter to send, or None if none may go now. It stays in memory until `done` or `rest`."""
        self._wake(now)
        while (key := self._next_ready()) is not None:
            line = self._lines.get(key)
            if line is not None and line.queue and not line.in_flight:
                line.in_flight = True
                return line.queue[0]
        return None

    def _next_ready(self) -> str | None:
        """Return the next key that may have its turn: a fresh one and one of the others in turn, as far as there are both."""
        self._fresh_next = not self._fresh_next
        first, second = (self._ready_fresh, self._ready) if self._fresh_next else (self._ready, self._ready_fresh)
        return first.popleft() if first else second.popleft() if second else None

    def _make_ready(self, key: str, line: _Line) -> None:
        (self._ready_fresh if line.fresh else self._ready).append(key)

    def next_at(self) -> float | None:
        """Return when the next resting key wakes, or None if none rests."""
        return self._rests[0][0] if self._rests else None

    def done(self, letter: Letter) -> None:
        """Let go of a letter that has ended; the next of its key may go."""
        line = self._lines[letter.key]
        line.in_flight = False
        self._forget(line.queue.popleft())
        self._settle(letter.key, line)

    def rest(self, letter: Letter, until: float) -> None:
        """Let a letter's key rest until an instant: all of the key goes back to disk until then."""
        line = self._lines[letter.key]
        line.in_flight = False
        line.leave(letter.seq, letter.seq)
        self._to_disk(line)
        self._rest(letter.key, line, until)

    def rescan(self) -> None:
        """Look at the disk from the start again: something there has changed."""
        self._behind, self._cursor = True, 0
        self._turn += 1

    def wake_all(self) -> None:
        """Let every resting key be due now, and what is read of a backlog too, whatever stands there."""
        self._rests = [(0.0, key) for _, key in self._rests]
        self._forgiven.update(key for _, key in self._rests)
        self._forgiving = self._behind

    def wake_first(self) -> bool:
        """Let the key that rests the shortest be due now; return False if none rests. While something is fetched that may be due, that is enough."""
        if not self._fetching and self._rests:
            self._wake(self._rests[0][0])
        return self._fetching or bool(self._returning)

    def withdraw(self, key: str, seq: int) -> bool:
        """Forget one letter of a key, wherever it is; return False if it is in flight."""
        line = self._lines.get(key)
        if line is None:
            return True
        if line.in_flight and line.queue[0].seq == seq:
            return False
        for letter in [letter for letter in line.queue if letter.seq == seq]:
            line.queue.remove(letter)
            self._forget(letter)
        if not line.in_flight and not line.resting and not line.queue:
            self._settle(key, line)
        return True

    def discard(self, numbers: set[int]) -> set[int]:
        """Forget letters that a person dropped, but for those in flight; return the latter."""
        flying = {line.queue[0].seq for line in self._lines.values() if line.in_flight} & numbers
        for key, line in list(self._lines.items()):
            for letter in [letter for letter in line.queue if letter.seq in numbers - flying]:
                line.queue.remove(letter)
                self._forget(letter)
            if not line.in_flight and not line.resting and not line.queue:
                self._settle(key, line)
        return flying

    def wish(self) -> Fetch | None:
        """Return what should be fetched from disk now, or None. One fetch at a time: answer it with `fetched`."""
        if self._fetching:
            return None
        has_room = len(self._held) <= self._letters // 2 and self._bytes <= BYTES // 2
        is_scan_wanted = self._behind and has_room and len(self._rests) < MAX_RESTING
        # Those beside a backlog come into a full window, too, one letter at a time: it is the backlog that fills it.
        while (returning := self._returning_fresh or (() if self._full() else self._returning)) and not (is_scan_wanted and self._scan_next):
            key = returning.popleft()
            line = self._lines.get(key)
            if line is not None and not line.resting and not line.queue:
                self._fetching = self._scan_next = True  # in turn: neither keeps the other from the disk
                return Fetch(key, line.first - 1, KEY_SHARE, line.beyond)
        if is_scan_wanted:
            self._fetching, self._scan_next = True, False
            return Fetch(None, self._cursor, self._letters - len(self._held), self._tail, self._turn)
        return None

    def fetched(self, fetch: Fetch, letters: list[Letter], *, exhausted: bool, now: float, wall: float) -> None:
        """Take what was fetched; *exhausted* tells that there was no more of it.

        *now* is the monotonic and *wall* the unix time that due instants are measured by.
        """
        self._fetching = False
        if fetch.key is None:
            current = self._turn == fetch.turn
            self._scanned(letters, now=now, wall=wall, current=current, complete=current and exhausted and self._tail == fetch.tail)
        else:
            self._returned(fetch.key, letters, now=now, wall=wall, complete=exhausted, fetch=fetch)

    def _scanned(self, letters: list[Letter], *, now: float, wall: float, current: bool, complete: bool) -> None:
        for letter in letters:
            if self._behind and self._full():
                return
            if current:
                self._cursor = letter.seq
            self._admit(letter, now, math.inf if self._forgiving else wall)
        if complete:
            self._behind, self._forgiving, self._cursor = False, False, max(self._cursor, self._tail)

    def _returned(self, key: str, letters: list[Letter], *, now: float, wall: float, complete: bool, fetch: Fetch) -> None:
        line = self._lines.get(key)
        if line is None:
            self._forgiven.discard(key)
            return
        beyond, line.beyond = line.beyond, 0
        for letter in letters:
            self._admit(letter, now, math.inf if key in self._forgiven else wall)
        self._forgiven.discard(key)
        if not complete or beyond != fetch.tail:
            line.leave(letters[-1].seq + 1 if letters else fetch.after + 1, beyond)
        elif line.beyond:
            line.beyond = max(beyond, line.beyond)
        if not line.queue and not line.resting:
            self._settle(key, line)

    def _admit(self, letter: Letter, now: float, wall: float) -> None:
        """Take a letter that came from disk, unless it is here already or its key has others before it on disk."""
        if letter.seq in self._held:
            return
        line = self._lines.setdefault(letter.key, _Line())
        if line.resting or line.beyond or len(line.queue) >= (FULL_SHARE if self._full() else KEY_SHARE):
            line.leave(letter.seq, letter.seq)
        elif letter.due_at is not None and letter.due_at > wall:
            line.leave(letter.seq, letter.seq)
            if not line.queue:  # else it is fetched again when those before it are done
                self._rest(letter.key, line, now + letter.due_at - wall)
        else:
            self._take(letter)

    def _take(self, letter: Letter) -> None:
        line = self._lines.setdefault(letter.key, _Line())
        self._held.add(letter.seq)
        self._bytes += letter.size
        if line.queue and letter.seq < line.queue[-1].seq:
            _insert(line, letter)
        else:
            line.queue.append(letter)
        if not line.in_flight:
            self._make_ready(letter.key, line)

    def _settle(self, key: str, line: _Line) -> None:
        if line.queue:
            self._make_ready(key, line)
        elif line.beyond:
            (self._returning_fresh if line.fresh else self._returning).append(key)
        else:
            self._stale(line)
            del self._lines[key]

    def _stale(self, line: _Line) -> None:
        """Let another key be fetched beside the backlog in a line's place."""
        self._fresh -= line.fresh
        line.fresh = False

    def _rest(self, key: str, line: _Line, until: float) -> None:
        line.resting = True
        self._stale(line)
        heapq.heappush(self._rests, (until, key))

    def _wake(self, now: float) -> None:
        while self._rests and self._rests[0][0] <= now:
            _, key = heapq.heappop(self._rests)
            line = self._lines[key]
            line.resting = False
            self._forgiven.add(key)  # its own rest is over, whatever the wall clock says since
            self._returning.append(key)

    def _to_disk(self, line: _Line) -> None:
        for letter in line.queue:
            line.leave(letter.seq, letter.seq)
            self._forget(letter)
        line.queue.clear()

    def _forget(self, letter: Letter) -> None:
        self._held.discard(letter.seq)
        self._bytes -= letter.size

    def _unread(self, letter: Letter) -> int:
        """Return the first number under which its key may have letters on disk that nobody has read yet, this new one among them."""
        return self._cursor + 1 if self._behind else letter.seq

    def _account(self, seq: int) -> None:
        if not self._behind:
            self._cursor = seq

    def _full(self) -> bool:
        return len(self._held) >= self._letters or self._bytes >= BYTES


def _insert(line: _Line, letter: Letter) -> None:
    """Put a letter where its number belongs, behind one in flight: a revived one is older than what waits."""
    first = 1 if line.in_flight else 0
    at = next((n for n in range(first, len(line.queue)) if line.queue[n].seq > letter.seq), len(line.queue))
    line.queue.insert(at, letter)
