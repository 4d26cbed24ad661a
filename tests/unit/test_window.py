"""The window: order per key, nothing lost between memory and disk, memory bounded."""

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.model import Event, Lane, Letter
from bridge.outbox.window import BYTES, FRESH_KEYS, KEY_SHARE, LETTERS, Fetch, Window


def letter(seq: int, key: str = "k", *, due_at: float | None = None, size: int = 1) -> Letter:
    event = Event(method="POST", url="http://x/", headers=(), body=bytes(size))
    return Letter(seq=seq, id=f"evt_{seq}", lane=Lane.WEBHOOK, mapping="m", destination="d", key=key, content=event, created_at=0.0, due_at=due_at)


def test_letters_of_one_key_go_one_after_the_other() -> None:
    window = Window(backlog=False)
    assert window.offer(letter(1))
    assert window.offer(letter(2))
    first = window.next(0.0)
    assert first is not None
    assert window.next(0.0) is None
    window.done(first)
    second = window.next(0.0)
    assert second is not None
    assert (first.seq, second.seq) == (1, 2)


def test_keys_pass_each_other() -> None:
    window = Window(backlog=False)
    for seq, key in enumerate("aab", 1):
        window.offer(letter(seq, key))
    taken = [window.next(0.0), window.next(0.0), window.next(0.0)]
    assert [found.seq if found else None for found in taken] == [1, 3, None]


def test_a_failed_head_holds_back_its_own_key_only() -> None:
    window = Window(backlog=False)
    window.offer(letter(1, "a"))
    head = window.next(0.0)
    assert head is not None
    window.rest(head, until=10.0)
    assert not window.offer(letter(2, "a")), "order would be lost if it went before the head"
    assert window.offer(letter(3, "b"))
    other = window.next(0.0)
    assert other is not None
    assert other.seq == 3
    assert window.next_at() == 10.0
    assert window.wish() is None, "nothing has to be fetched before the key wakes"
    window.next(10.0)
    assert window.wish() == Fetch("a", 0, KEY_SHARE, 2)


def test_a_full_window_leaves_the_rest_to_the_disk() -> None:
    window = Window(backlog=False)
    taken = [window.offer(letter(seq, f"k{seq}")) for seq in range(1, LETTERS + 3)]
    assert taken.count(True) == LETTERS
    assert not any(taken[LETTERS:])


def test_one_key_gets_no_more_than_its_share() -> None:
    window = Window(backlog=False)
    taken = [window.offer(letter(seq, "loud")) for seq in range(1, KEY_SHARE + 5)]
    assert taken.count(True) == KEY_SHARE
    assert window.offer(letter(KEY_SHARE + 5, "quiet"))


def test_what_is_done_is_not_read_again_though_the_disk_has_it_still() -> None:
    window = Window(backlog=False)
    for seq in range(1, 3 * KEY_SHARE + 1):
        window.offer(letter(seq, "loud"))
    for last in (KEY_SHARE, 2 * KEY_SHARE):
        for found in iter(lambda: window.next(0.0), None):
            window.done(found)
        fetch = asked(window)
        assert (fetch.key, fetch.after) == ("loud", last)
        answer(window, fetch, *(letter(seq, "loud") for seq in range(last + 1, last + KEY_SHARE + 1)), exhausted=False)


def test_a_key_that_rests_is_read_from_the_first_that_is_left_on_though_an_older_one_came_back_behind_it() -> None:
    window = Window(backlog=False)
    window.offer(letter(10, "a"))
    window.offer(letter(11, "a"))
    head = window.next(0.0)
    assert head is not None
    window.rescan()
    answer(window, asked(window), letter(5, "a"), letter(10, "a"), letter(11, "a"))
    window.rest(head, until=1.0)
    assert window.next(1.0) is None
    assert asked(window).after == 4


def test_a_backlog_is_asked_for_at_the_start() -> None:
    assert Window(backlog=True).wish() == Fetch(None, 0, LETTERS, 0)
    assert Window(backlog=False).wish() is None


def test_a_letter_that_is_due_later_rests_from_the_start() -> None:
    window = Window(backlog=True)
    fetch = window.wish()
    assert fetch is not None
    window.fetched(fetch, [letter(1, "a", due_at=1_010.0), letter(2, "a"), letter(3, "b")], exhausted=True, now=0.0, wall=1_000.0)
    found = window.next(0.0)
    assert found is not None
    assert found.seq == 3
    assert window.next(0.0) is None
    assert window.next_at() == 10.0


def test_dropped_letters_are_forgotten_but_for_those_in_flight() -> None:
    window = Window(backlog=False)
    for seq, key in enumerate("aab", 1):
        window.offer(letter(seq, key))
    flying = window.next(0.0)
    assert flying is not None
    assert window.discard({1, 2, 3}) == {1}
    window.done(flying)
    assert window.next(0.0) is None


def test_a_letter_behind_another_rests_when_its_turn_comes() -> None:
    window = Window(backlog=True)
    answer(window, asked(window), letter(1), letter(2, due_at=100.0), letter(3))
    (first,) = taken(window, 9)
    window.done(first)
    fetch = asked(window)
    assert fetch.key == "k"
    answer(window, fetch, letter(2, due_at=100.0), letter(3))
    assert taken(window, 9) == []
    assert window.next_at() == 100.0


def test_what_rested_is_due_when_its_rest_is_over_whatever_the_disk_and_the_wall_s_clock_say() -> None:
    """The clock was set back meanwhile, by a day."""
    window = Window(backlog=False)
    window.offer(letter(1))
    window.rest(taken(window, 1)[0], until=10.0)
    assert window.next(10.0) is None
    window.fetched(asked(window), [letter(1, due_at=86_410.0)], exhausted=True, now=10.0, wall=11.0)
    found = window.next(10.0)
    assert found is not None
    window.rest(found, until=40.0)
    assert window.next(39.0) is None, "its next rest is its own"
    assert window.next_at() == 40.0


def test_all_that_rests_is_due_when_it_is_woken_though_the_disk_says_later() -> None:
    window = Window(backlog=False)
    for seq in range(1, 4):
        window.offer(letter(seq, f"k{seq}"))
    for found in taken(window, 3):
        window.rest(found, until=3_600.0)
    window.wake_all()
    assert window.next(0.0) is None
    for seq in range(1, 4):
        answer(window, asked(window), letter(seq, f"k{seq}", due_at=3_600.0), letter(seq + 10, f"k{seq}"))
    assert [found.seq for found in taken(window, 9)] == [1, 2, 3]


# Fresh keys: those that speak while others have a backlog on disk


def backlogged() -> Window:
    """Return a window that is full, one letter of each key, with more of one of them on disk."""
    window = Window(backlog=False)
    for seq in range(1, LETTERS + 1):
        assert window.offer(letter(seq, f"old{seq}"))
    assert not window.offer(letter(LETTERS + 1, "old1"))
    assert window.wish() is None
    return window


def asked(window: Window) -> Fetch:
    fetch = window.wish()
    assert fetch is not None, "nothing is fetched"
    return fetch


def answer(window: Window, fetch: Fetch, *letters: Letter, exhausted: bool = True) -> None:
    window.fetched(fetch, list(letters), exhausted=exhausted, now=0.0, wall=0.0)


def speak(window: Window, seq: int, key: str) -> None:
    """Let a key say something that goes to disk and is fetched from there."""
    assert not window.offer(letter(seq, key))
    fetch = asked(window)
    assert (fetch.key, fetch.tail) == (key, seq)
    assert fetch.after == LETTERS, "all that the scan has read is in memory or gone"
    answer(window, fetch, letter(seq, key))


def taken(window: Window, count: int) -> list[Letter]:
    """Return the next so many letters that go, or as many as may."""
    return [found for found in (window.next(0.0) for _ in range(count)) if found is not None]


def test_a_key_that_speaks_beside_a_backlog_does_not_wait_for_it() -> None:
    window = backlogged()
    assert not window.offer(letter(1_000, "new"))
    fetch = asked(window)
    assert (fetch.key, fetch.after) == ("new", LETTERS), "all of the key that nobody has read, oldest first"
    answer(window, fetch, letter(1_000, "new"))
    assert window.holds(1_000)
    assert "new" in [found.key for found in taken(window, 2)]


def test_what_such_a_key_has_in_the_backlog_goes_first() -> None:
    window = backlogged()
    assert not window.offer(letter(1_000, "new"))
    answer(window, asked(window), letter(500, "new"), letter(1_000, "new"))
    sent = []
    for _ in range(4):
        found = window.next(0.0)
        assert found is not None
        sent.append(found)
        window.done(found)
    assert [found.seq for found in sent if found.key == "new"] == [500, 1_000]


def test_what_such_a_key_says_next_does_not_wait_for_the_backlog_either() -> None:
    """While its first letter is on its way, or after that."""
    window = backlogged()
    speak(window, 1_000, "new")
    first = next(found for found in taken(window, 2) if found.key == "new")
    assert not window.offer(letter(1_001, "new")), "it comes while the first is under way"
    window.done(first)
    fetch = asked(window)
    assert fetch.key == "new"
    answer(window, fetch, letter(1_001, "new"))
    assert "new" in [found.key for found in taken(window, 2)]


def test_only_so_many_keys_are_fetched_beside_a_backlog_and_each_that_is_served_makes_place_for_another() -> None:
    window = backlogged()
    for n in range(FRESH_KEYS):
        speak(window, 1_000 + n, f"new{n}")
    window.offer(letter(2_000, "late"))
    assert window.wish() is None, "one too many: it waits for the backlog"
    window.done(next(found for found in taken(window, 2) if found.key == "new0"))
    speak(window, 2_001, "later")


def test_a_key_that_rests_keeps_no_place_among_them() -> None:
    window = backlogged()
    for n in range(FRESH_KEYS):
        speak(window, 1_000 + n, f"new{n}")
    window.rest(next(found for found in taken(window, 2) if found.key == "new0"), until=99.0)
    speak(window, 2_000, "later")


def test_a_key_whose_older_letter_is_due_later_keeps_no_place_among_them() -> None:
    """As after a restart: it failed before, and rests as any key that failed."""
    window = backlogged()
    for n in range(FRESH_KEYS):
        assert not window.offer(letter(1_000 + n, f"new{n}"))
        answer(window, asked(window), letter(500 + n, f"new{n}", due_at=3_600.0), letter(1_000 + n, f"new{n}"))
    assert window.resting == FRESH_KEYS
    speak(window, 2_000, "later")


def test_a_key_whose_letters_are_gone_keeps_no_place_among_them() -> None:
    window = backlogged()
    for n in range(2 * FRESH_KEYS):
        assert not window.offer(letter(1_000 + n, f"new{n}"))
        answer(window, asked(window))  # dropped by a person in the meantime
    speak(window, 2_000, "later")


def test_the_backlog_and_those_beside_it_go_in_turn() -> None:
    window = backlogged()
    for n in range(FRESH_KEYS):
        speak(window, 1_000 + n, f"new{n}")
    kinds = Counter(found.key[:3] for found in taken(window, 20))
    assert kinds == {"new": 10, "old": 10}
    assert len(taken(window, 10_000)) == LETTERS + FRESH_KEYS - 20, "and in the end all of them"


def test_neither_the_backlog_nor_those_beside_it_keep_the_other_from_the_disk() -> None:
    window = Window(backlog=True)
    kinds = []
    for n in range(20):
        window.offer(letter(10_000 + n, f"new{n}"))
        fetch = asked(window)
        kinds.append("new" if fetch.key else "scan")
        answer(window, fetch, letter(n + 1, f"old{n}") if fetch.key is None else letter(10_000 + int(fetch.key[3:]), fetch.key), exhausted=False)
    assert Counter(kinds) == {"new": 10, "scan": 10}


# Memory is bounded, whatever waits


def test_a_window_that_is_full_of_large_bodies_asks_for_no_more() -> None:
    """Else the same letters would be read again and again, all the time, for as long as nothing can be sent."""
    window = Window(backlog=True)
    answer(window, asked(window), *(letter(seq, f"k{seq}", size=BYTES // 8) for seq in range(1, 20)), exhausted=False)
    assert sum(window.holds(seq) for seq in range(1, 20)) == 8
    assert window.wish() is None
    for found in taken(window, 8):
        window.done(found)
    fetch = asked(window)
    assert (fetch.key, fetch.after) == (None, 8), "and goes on where it was when they are gone"


def held(window: Window, upto: int) -> int:
    return sum(window.holds(seq) for seq in range(upto + 1))


def test_keys_that_all_wake_at_once_are_not_all_taken_into_memory() -> None:
    """As after an outage, when every key rests and has more behind it."""
    window, keys, each = Window(backlog=False), 100, 20
    for seq in range(1, keys + 1):
        window.offer(letter(seq, f"k{seq}"))
        window.rest(taken(window, 1)[0], until=10.0)
    for n in range(1, each):
        for seq in range(1, keys + 1):
            assert not window.offer(letter(n * keys + seq, f"k{seq}"))
    assert window.next(10.0) is None
    for _ in range(keys):
        if (fetch := window.wish()) is None:
            break
        assert fetch.key is not None
        first = int(fetch.key[1:])
        answer(window, fetch, *(letter(n * keys + first, fetch.key) for n in range(each)))
    assert held(window, keys * each) <= LETTERS + KEY_SHARE


def test_a_loud_key_beside_a_backlog_comes_into_a_full_window_little_by_little() -> None:
    window = backlogged()
    for n in range(FRESH_KEYS):
        assert not window.offer(letter(10_000 + n, f"new{n}"))
        if (fetch := window.wish()) is not None:
            assert fetch.key is not None
            answer(window, fetch, *(letter(1_000 + n * KEY_SHARE + m, fetch.key) for m in range(fetch.limit)), exhausted=False)
    assert held(window, 20_000) <= LETTERS + KEY_SHARE + FRESH_KEYS


def test_large_bodies_beside_a_backlog_are_not_all_taken_into_memory() -> None:
    window, size = backlogged(), BYTES // 16
    for n in range(FRESH_KEYS):
        assert not window.offer(letter(10_000 + n, f"new{n}", size=size))
        if (fetch := window.wish()) is not None:
            assert fetch.key is not None
            answer(window, fetch, *(letter(1_000 + n * 64 + m, fetch.key, size=size) for m in range(fetch.limit)), exhausted=False)
    assert sum(size for seq in range(1_000, 20_000) if window.holds(seq)) <= 2 * BYTES + KEY_SHARE * size


class TheWindowAndItsDisk(RuleBasedStateMachine):
    """A disk that has every letter, a window over it, and a world that delivers, fails, restarts and waits at random."""

    letters = LETTERS

    @initialize(backlog=st.lists(st.sampled_from("abcdef"), max_size=40))
    def start(self, backlog: list[str]) -> None:
        self.disk: dict[int, Letter] = {}
        self.seq = 0
        self.now = 0.0
        self.in_flight: dict[str, Letter] = {}
        self.delivered: dict[str, list[int]] = {}
        self.dead: dict[int, Letter] = {}
        self.revived: set[int] = set()
        self.fetches: list[tuple[Fetch, list[Letter], bool]] = []
        self.keys = set("abcdef")
        self.woken: set[int] = set()
        for key in backlog:
            self.seq += 1
            self.disk[self.seq] = letter(self.seq, key)
        self.window = Window(backlog=bool(backlog), letters=self.letters)

    @rule(key=st.sampled_from("abcdef"), count=st.integers(1, 90))
    def arrive(self, key: str, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            new = letter(self.seq, key)
            self.disk[self.seq] = new
            self.window.offer(new)

    @precondition(lambda self: len(self.keys) < FRESH_KEYS)
    @rule()
    def somebody_new_speaks(self) -> None:
        """It is at hand when no more than a memory full of others has ended, whatever they have on disk."""
        self.seq += 1
        new = letter(self.seq, f"new{self.seq}")
        self.keys.add(new.key)
        self.disk[new.seq] = new
        self.window.offer(new)
        for _ in range(self.letters + KEY_SHARE):
            for _ in range(4 * len(self.keys)):  # those before it, and the backlog in turn with them
                self.ask()
                while self.fetches:
                    self.answer()
            if self.window.holds(new.seq):
                return
            self.send()
            if self.in_flight:
                self.end(min(self.in_flight))
        raise AssertionError("it waits for the backlog of others")

    def end(self, key: str) -> None:
        done = self.in_flight.pop(key)
        del self.disk[done.seq]
        self.delivered.setdefault(key, []).append(done.seq)
        self.window.done(done)

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def somebody_drops(self, data: st.DataObject) -> None:
        numbers = set(data.draw(st.lists(st.sampled_from(sorted(self.disk)), max_size=5)))
        flying = self.window.discard(numbers)
        assert flying == {found.seq for found in self.in_flight.values()} & numbers
        for seq in numbers - flying:
            del self.disk[seq]

    @precondition(lambda self: self.disk)
    @rule(data=st.data())
    def a_newer_one_takes_its_place(self, data: st.DataObject) -> None:
        old = self.disk[data.draw(st.sampled_from(sorted(self.disk)))]
        flying = self.in_flight.get(old.key)
        is_flying = flying is not None and flying.seq == old.seq
        assert self.window.withdraw(old.key, old.seq) is not is_flying
        if not is_flying:
            del self.disk[old.seq]
        self.arrive(old.key, 1)

    @rule()
    def send(self) -> None:
        found = self.window.next(self.now)
        if found is not None:
            assert found.key not in self.in_flight, "two of one key in flight"
            assert found.seq in self.disk, "sent again after it had ended"
            if found.seq not in self.revived:
                others = [seq for seq, other in self.disk.items() if other.key == found.key and seq not in self.revived]
                assert found.seq == min(others), "not the first of its key"
            due_at = self.disk[found.seq].due_at
            assert due_at is None or due_at <= self.now or found.seq in self.woken, "before it was due"
            self.in_flight[found.key] = found

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.in_flight))))

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), delay=st.floats(0.0, 20.0))
    def fail(self, data: st.DataObject, delay: float) -> None:
        failed = self.in_flight.pop(data.draw(st.sampled_from(sorted(self.in_flight))))
        self.disk[failed.seq] = replace(failed, due_at=self.now + delay)
        self.woken.discard(failed.seq)
        self.window.rest(failed, self.now + delay)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def give_up(self, data: st.DataObject) -> None:
        given_up = self.in_flight.pop(data.draw(st.sampled_from(sorted(self.in_flight))))
        self.dead[given_up.seq] = self.disk.pop(given_up.seq)
        self.window.done(given_up)

    @precondition(lambda self: self.dead)
    @rule()
    def somebody_revives_the_dead(self) -> None:
        self.disk |= {seq: replace(row, due_at=None) for seq, row in self.dead.items()}
        self.revived |= set(self.dead)
        self.dead.clear()
        self.woken |= set(self.disk)
        self.window.wake_all()
        self.window.rescan()

    @rule()
    def ask(self) -> None:
        """The answer is read from disk now, and reaches the window some steps later."""
        fetch = self.window.wish()
        if fetch is not None:
            rows = [row for seq, row in sorted(self.disk.items()) if seq > fetch.after and fetch.key in (None, row.key)]
            self.fetches.append((fetch, rows[: fetch.limit], len(rows) < fetch.limit))

    @precondition(lambda self: self.fetches)
    @rule()
    def answer(self) -> None:
        fetch, rows, exhausted = self.fetches.pop(0)
        # As the outbox does it: what has ended or changed since it was read is known.
        current = [self.disk[row.seq] for row in rows if row.seq in self.disk]
        self.window.fetched(fetch, current, exhausted=exhausted, now=self.now, wall=self.now)

    @rule(wait=st.floats(0.1, 30.0))
    def time_passes(self, wait: float) -> None:
        self.now += wait

    @rule()
    def somebody_retries_all(self) -> None:
        self.disk = {seq: replace(row, due_at=None) for seq, row in self.disk.items()}
        self.window.wake_all()
        self.window.rescan()

    @rule()
    def the_destination_is_back(self) -> None:
        """All that rests may go, and nobody changes the disk for it."""
        self.woken |= set(self.disk)
        self.window.wake_all()

    @invariant()
    def memory_is_bounded(self) -> None:
        if self.letters == LETTERS:  # a key's share is more than all of a small one
            assert sum(self.window.holds(seq) for seq in range(1, getattr(self, "seq", 0) + 1)) <= LETTERS + KEY_SHARE + FRESH_KEYS

    def teardown(self) -> None:
        """In the end everything is delivered, each once, each key in order."""
        for _ in range(20 * (self.seq + 10)):
            if not self.disk:
                break
            self.now += 1.0
            self.send()
            for key in sorted(self.in_flight):
                self.end(key)
            self.ask()
            while self.fetches:
                self.answer()
        assert not self.disk, f"never sent: {sorted(self.disk)[:5]}"
        for sent in self.delivered.values():
            assert len(sent) == len(set(sent)), "sent twice"
            untouched = [seq for seq in sent if seq not in self.revived]
            assert untouched == sorted(untouched)


class ASmallWindow(TheWindowAndItsDisk):
    """The same, with more on disk than at hand nearly all the time."""

    letters = 12

    @rule(wait=st.floats(0.0, 5.0))
    def all_that_may_go_is_delivered(self, wait: float) -> None:
        self.now += wait
        self.send()
        for key in sorted(self.in_flight):
            self.end(key)


TestTheWindowAndItsDisk = TheWindowAndItsDisk.TestCase
TestASmallWindow = ASmallWindow.TestCase


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_without_failures_the_order_of_receipt_is_the_order_of_sending(keys: list[str]) -> None:
    window = Window(backlog=False)
    for seq, key in enumerate(keys, 1):
        window.offer(letter(seq, key))
    sent: list[int] = []
    while (found := window.next(0.0)) is not None:
        sent.append(found.seq)
        window.done(found)
    assert [seq for seq in sent if keys[seq - 1] == "a"] == [seq for seq, key in enumerate(keys, 1) if key == "a"]


def test_an_answer_from_before_a_change_does_not_end_the_search_that_the_change_began() -> None:
    window = Window(backlog=True)
    fetch = window.wish()
    assert fetch is not None
    window.rescan()
    window.fetched(fetch, [], exhausted=True, now=0.0, wall=0.0)
    assert window.wish() == Fetch(None, 0, LETTERS, 0, 1)
