"""The history: every attempt is noted, none is forgotten before its time, and an SD card hardly notices."""

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import StoreFull
from bridge.model import Event, Lane, Letter, Outcome, Reply, Verdict
from bridge.outbox import history
from bridge.outbox.history import EXCERPT, KEPT, Attempt, History, attempt_of
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import no_receipt
from bridge.outbox.selection import Past
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Store

EVENT = Event(method="POST", url="http://crm/", headers=(), body=b"{}")
LETTER = Letter(id="evt_1", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key="k", content=EVENT, created_at=100.0)
OK = Outcome(verdict=Verdict.DELIVERED, reason="status 200", reply=Reply(status=200, body=b"thanks", took_s=0.25))
FAILED = Outcome(verdict=Verdict.RETRY, reason="status 503", delay_s=5.0, alive=False, reply=Reply(status=503, body=b"busy", took_s=0.0421))


def noted(letter: Letter = LETTER, outcome: Outcome = OK, *, at: float = 101.0) -> Attempt:
    """Return what is kept of one attempt."""
    kept = History()
    kept.note(letter, outcome, at=at)
    (attempt,) = kept.take(0.0)
    return attempt


# What is kept of an attempt


def test_an_attempt_is_noted_with_all_that_a_person_asks_for() -> None:
    attempt = noted(replace(LETTER, attempts=2), FAILED, at=160.5)
    assert attempt == Attempt(
        event="evt_1", mapping="hall", destination="crm", at=160.5, received_at=100.0, number=3, verdict=Verdict.RETRY,
        status=503, took_ms=42.1, reason="status 503", answer="busy", count=1,
    )  # fmt: skip


def test_an_attempt_without_an_answer_has_no_status() -> None:
    attempt = noted(LETTER, Outcome(verdict=Verdict.RETRY, reason="dns: no such name", reply=Reply(error="dns", detail="no such name", took_s=0.001)))
    assert (attempt.status, attempt.answer, attempt.took_ms, attempt.reason) == (None, "", 1.0, "dns: no such name")


def test_one_that_never_got_as_far_as_a_request_has_neither_answer_nor_time() -> None:
    attempt = noted(LETTER, Outcome(verdict=Verdict.DEAD, reason="payload.x is missing"))
    assert (attempt.status, attempt.answer, attempt.took_ms) == (None, "", 0.0)


@pytest.mark.parametrize(("body", "answer"), [(b"x" * (EXCERPT + 1), "x" * EXCERPT), ("ü".encode() * EXCERPT, "ü" * EXCERPT), (b"gr\xfcn", "gr�n"), (b"\0\n", "\0\n"), (b"", "")])
def test_of_an_answer_the_beginning_is_kept_whatever_it_is(body: bytes, answer: str) -> None:
    assert noted(LETTER, replace(OK, reply=Reply(status=200, body=body))).answer == answer


def test_an_attempt_can_be_shown_as_json() -> None:
    shown = json.loads(json.dumps(noted().document()))
    assert (shown["event"], shown["verdict"], shown["number"], shown["count"]) == ("evt_1", "delivered", 1, 1)


# How many are kept, and when they are written


def test_the_first_are_written_at_once_and_then_at_most_once_a_minute() -> None:
    kept = History()
    assert not kept.is_due(0.0), "there is nothing to write"
    kept.note(LETTER, OK, at=1.0)
    assert kept.is_due(0.0)
    kept.take(0.0)
    assert not kept.is_due(1e6), "an idle bridge writes nothing"
    kept.note(LETTER, OK, at=1.0)
    assert not kept.is_due(59.9)
    assert kept.is_due(60.0)


def test_whoever_asks_does_not_wait_for_the_minute() -> None:
    kept = History()
    kept.note(LETTER, OK, at=1.0)
    kept.take(0.0)
    kept.note(LETTER, OK, at=2.0)
    kept.hurry()
    assert kept.is_due(1.0)
    kept.take(1.0)
    kept.note(LETTER, OK, at=3.0)
    assert not kept.is_due(2.0), "once"


def test_a_flood_is_kept_one_by_one_up_to_a_bound_and_counted_past_it() -> None:
    kept = History()
    for n in range(KEPT + 300):
        kept.note(replace(LETTER, id=f"evt_{n}", mapping="door" if n % 3 == 0 else "hall"), FAILED if n % 2 == 0 else OK, at=float(n))
    taken = kept.take(0.0)
    single, counted = taken[:KEPT], taken[KEPT:]
    assert [attempt.event for attempt in single] == [f"evt_{n}" for n in range(KEPT)]
    assert {(attempt.mapping, attempt.destination, attempt.verdict): attempt.count for attempt in counted} == {
        ("door", "crm", Verdict.RETRY): 50, ("door", "crm", Verdict.DELIVERED): 50, ("hall", "crm", Verdict.RETRY): 100, ("hall", "crm", Verdict.DELIVERED): 100,
    }  # fmt: skip
    for attempt in counted:
        assert (attempt.event, attempt.number, attempt.status) == ("", 0, None), "no event's own"
        assert attempt.reason == f"and {attempt.count} more"
        assert KEPT <= attempt.at < KEPT + 300
    kept.note(LETTER, OK, at=9e9)
    assert [attempt.number for attempt in kept.take(60.0)] == [1], "the next minute begins anew"


def test_what_could_not_be_written_is_written_with_what_came_since_in_order() -> None:
    kept = History()
    for n in (1, 2):
        kept.note(replace(LETTER, id=f"evt_{n}"), OK, at=float(n))
    taken = kept.take(0.0)
    kept.note(replace(LETTER, id="evt_3"), OK, at=3.0)
    kept.put_back(taken)
    assert [attempt.event for attempt in kept.take(60.0)] == ["evt_1", "evt_2", "evt_3"]


STEPS = st.lists(st.one_of(st.tuples(st.just("note"), st.integers(1, 12)), st.just(("written", 0)), st.tuples(st.just("failed"), st.integers(0, 9))), max_size=30)


def counts_of(steps: list[tuple[str, int]], most: int, monkeypatch: pytest.MonkeyPatch) -> tuple[int, int, int]:
    """Live through *steps* with a bound of *most*; return how many attempts were made, and were told of, and the longest list there was.

    A commit that fails does so while so many more attempts are made.
    """
    kept, made, told, longest = History(), 0, 0, 0
    with monkeypatch.context() as patched:
        patched.setattr(history, "KEPT", most)
        for step, count in [*steps, ("written", 0)]:
            taken = [] if step == "note" else kept.take(0.0)
            for _ in range(count):
                made += 1
                kept.note(LETTER, OK, at=float(made))
            longest = max(longest, len(taken))
            if step == "written":
                told += sum(attempt.count for attempt in taken)
            if step == "failed":
                kept.put_back(taken)
    return made, told, longest


@given(STEPS)
def test_every_attempt_is_told_of_or_counted_and_what_is_kept_is_bounded(steps: list[tuple[str, int]]) -> None:
    made, told, longest = counts_of([step for step in steps if step[0] != "failed"], 5, pytest.MonkeyPatch())
    assert told == made
    assert longest <= 5 + 1


@given(STEPS)
def test_commits_that_fail_lose_no_attempt_and_keep_what_is_kept_bounded(steps: list[tuple[str, int]]) -> None:
    made, told, longest = counts_of(steps, 5, pytest.MonkeyPatch())
    assert told == made
    assert longest <= 5 + 1


def test_a_commit_that_fails_loses_no_count_of_what_was_only_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    made, told, _ = counts_of([("note", 8), ("failed", 7), ("note", 4)], 5, monkeypatch)
    assert told == made


# Over the file

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
INSTANTS = st.floats(0, 4e9)
ATTEMPTS = st.builds(
    Attempt, event=TEXTS, mapping=TEXTS, destination=TEXTS, at=INSTANTS, received_at=INSTANTS, number=st.integers(0, 10_000), verdict=st.sampled_from(Verdict),
    status=st.none() | st.integers(0, 999), took_ms=st.floats(0, 1e6), reason=TEXTS, answer=TEXTS, count=st.integers(1, 2**40),
)  # fmt: skip


@given(ATTEMPTS)
def test_an_attempt_is_read_as_it_was_shown(attempt: Attempt) -> None:
    assert attempt_of(attempt.document()) == attempt
    assert type(attempt_of(json.loads(json.dumps(attempt.document()))).verdict) is Verdict


class Books:
    """An outbox over a file, a clock that the test moves, and nobody who sends."""

    def __init__(self, place: Path, *, max_size: int = 64 << 20) -> None:
        self.time_s, self.seq = 1_000.0, 0
        self.store = Store.open(place / "outbox.db", max_size=max_size)
        self.outbox = Outbox(self.store, StoreSettings(), monotonic=lambda: self.time_s, wall=lambda: self.time_s + 1e9)

    def put(self, body: bytes = b"{}") -> Letter:
        self.seq += 1
        letter = replace(LETTER, id=f"evt_{self.seq}", content=replace(EVENT, body=body), created_at=self.time_s + 1e9)
        self.outbox.put([letter], no_receipt())
        return replace(letter, seq=self.outbox._seq)

    async def commit(self) -> None:
        await self.outbox._journal.flush()

    def on_disk(self) -> list[Attempt]:
        return self.store.history(Past(limit=100_000))


def kept(place: Path, life: Callable[[Books], Awaitable[None]], *, max_size: int = 64 << 20) -> None:
    async def whole() -> None:
        books = Books(place, max_size=max_size)
        try:
            await life(books)
        finally:
            books.outbox.shut()
            books.store.close()

    asyncio.run(whole())


def test_the_life_of_an_event_is_told_in_order_and_is_there_after_the_next_start(tmp_path: Path) -> None:
    async def first(books: Books) -> None:
        letter = books.put()
        for n, outcome in enumerate([FAILED, FAILED, OK]):
            books.time_s += 10
            books.outbox.record(replace(letter, attempts=n), outcome)
        books.outbox.record(books.put(), OK)
        await books.outbox.flush()

    async def second(books: Books) -> None:
        life = await books.outbox.handling.history(Past(event="evt_1"))
        assert [(attempt.number, attempt.verdict, attempt.at - attempt.received_at) for attempt in life] == [(1, "retry", 10), (2, "retry", 20), (3, "delivered", 30)]
        assert len(await books.outbox.handling.history(Past())) == 4

    kept(tmp_path, first)
    kept(tmp_path, second)


def test_a_person_who_asks_sees_what_is_in_memory_only_too(tmp_path: Path) -> None:
    async def life(books: Books) -> None:
        for n in range(5):
            books.outbox.record(books.put(), OK)
            assert len(await books.outbox.handling.history(Past())) == n + 1

    kept(tmp_path, life)


def test_attempts_are_written_at_most_once_a_minute_however_often_there_are_commits(tmp_path: Path) -> None:
    async def life(books: Books) -> None:
        writes, before = [], 0
        for _ in range(120):
            books.time_s += 5
            books.outbox.record(books.put(), FAILED)
            await books.commit()
            if (now := len(books.on_disk())) != before:
                writes.append(books.time_s)
                before = now
        assert 9 <= len(writes) <= 11, "of ten minutes"
        assert all(later - sooner >= 60 for sooner, later in itertools.pairwise(writes))
        await books.outbox.flush()
        assert len(books.on_disk()) == 120, "and none is missing in the end"

    kept(tmp_path, life)


def test_what_a_full_outbox_could_not_take_is_there_once_when_it_has_room_again(tmp_path: Path) -> None:
    async def life(books: Books) -> None:
        with suppress(StoreFull):
            while True:
                books.seq += 1
                letter = replace(LETTER, seq=10_000 + books.seq, content=replace(EVENT, body=bytes(3_000)))
                books.store.write(Changes(letters={letter.seq: letter}))
        for n in range(50):
            outcome = replace(FAILED, reply=Reply(status=503, body=bytes([65 + n % 26]) * EXCERPT))
            books.outbox.record(replace(LETTER, id=f"try_{n}", seq=10_001 + n), outcome)
        await books.outbox.flush()
        assert books.outbox.full
        assert not books.on_disk()
        books.store.write(Changes(gone=set(range(10_051, 10_001 + books.seq))))
        books.time_s += 61
        await books.outbox.flush()
        assert not books.outbox.full
        assert [attempt.event for attempt in books.on_disk()] == [f"try_{n}" for n in range(50)]

    kept(tmp_path, life, max_size=600 * 1024)


def test_old_attempts_are_forgotten_after_the_time_that_is_set_and_no_others(tmp_path: Path) -> None:
    async def life(books: Books) -> None:
        for _ in range(10):
            books.outbox.record(books.put(), OK)
            books.time_s += 86_400
        await books.outbox.flush()
        await books.outbox.forget(7 * 86_400.0)
        assert [attempt.event for attempt in books.on_disk()] == [f"evt_{n}" for n in range(4, 11)]

    kept(tmp_path, life)
