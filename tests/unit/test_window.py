"""The window: order per key, nothing lost between memory and disk, memory bounded."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from bridge.model import Event, Lane, Letter
from bridge.outbox.window import KEY_SHARE, LETTERS, Fetch, Window


def letter(seq: int, key: str = "k", *, due_at: float | None = None) -> Letter:
    event = Event(method="POST", url="http://x/", headers=(), body=b"x")
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


class TheWindowAndItsDisk(RuleBasedStateMachine):
    """A disk that has every letter, a window over it, and a world that delivers, fails, restarts and waits at random."""

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
        for key in backlog:
            self.seq += 1
            self.disk[self.seq] = letter(self.seq, key)
        self.window = Window(backlog=bool(backlog))

    @rule(key=st.sampled_from("abcdef"), count=st.integers(1, 90))
    def arrive(self, key: str, count: int) -> None:
        for _ in range(count):
            self.seq += 1
            new = letter(self.seq, key)
            self.disk[self.seq] = new
            self.window.offer(new)

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
            assert due_at is None or due_at <= self.now, "before it was due"
            self.in_flight[found.key] = found

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        done = self.in_flight.pop(data.draw(st.sampled_from(sorted(self.in_flight))))
        del self.disk[done.seq]
        self.delivered.setdefault(done.key, []).append(done.seq)
        self.window.done(done)

    @precondition(lambda self: self.in_flight)
    @rule(data=st.data(), delay=st.floats(0.0, 20.0))
    def fail(self, data: st.DataObject, delay: float) -> None:
        failed = self.in_flight.pop(data.draw(st.sampled_from(sorted(self.in_flight))))
        self.disk[failed.seq] = replace(failed, due_at=self.now + delay)
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

    @invariant()
    def memory_is_bounded(self) -> None:
        assert sum(self.window.holds(seq) for seq in range(1, getattr(self, "seq", 0) + 1)) <= LETTERS + KEY_SHARE

    def teardown(self) -> None:
        """In the end everything is delivered, each once, each key in order."""
        for _ in range(20 * (self.seq + 10)):
            if not self.disk:
                break
            self.now += 1.0
            self.send()
            for key in sorted(self.in_flight):
                done = self.in_flight.pop(key)
                del self.disk[done.seq]
                self.delivered.setdefault(key, []).append(done.seq)
                self.window.done(done)
            self.ask()
            while self.fetches:
                self.answer()
        assert not self.disk, f"never sent: {sorted(self.disk)[:5]}"
        for sent in self.delivered.values():
            assert len(sent) == len(set(sent)), "sent twice"
            untouched = [seq for seq in sent if seq not in self.revived]
            assert untouched == sorted(untouched)


TestTheWindowAndItsDisk = TheWindowAndItsDisk.TestCase


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
