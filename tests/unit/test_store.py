"""The store: what is committed is there, whole, and nobody else's."""

import json
import os
import sqlite3
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import AlreadyRunning, ConfigError, StoreBroken, StoreFull
from bridge.model import Answer, Command, Content, Event, Lane, Letter, Message, Priority, State, Verdict
from bridge.outbox.connection import SCHEMA_VERSION
from bridge.outbox.history import Attempt
from bridge.outbox.lock import locked
from bridge.outbox.rows import opened, sealed
from bridge.outbox.selection import Past, Selection
from bridge.outbox.store import Changes, Store, Sum
from bridge.rules.bodies import LINES, LIST, batched
from tests.rig.disks import small_disk

SIZE = 64 << 20

EVENT = Event(method="POST", url="http://crm/x?y=1", headers=(("Content-Type", "application/json"), ("X", "ü")), body=b'{"a":1}')


def letter(seq: int, content: Content = EVENT, **more: object) -> Letter:
    base = Letter(seq=seq, id=f"evt_{seq}", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key="k", content=content, created_at=float(seq))
    return replace(base, **more)  # type: ignore[arg-type]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "outbox.db", max_size=SIZE)
    yield opened
    opened.close()


def numbered(found: tuple[list[Letter], bool]) -> tuple[list[int], bool]:
    letters, exhausted = found
    return [one.seq for one in letters], exhausted


def put(store: Store, *letters: Letter) -> None:
    store.write(Changes(letters={one.seq: one for one in letters}))


@pytest.mark.parametrize(
    "content",
    [
        EVENT,
        Command(topic="a/b", payload=b"\x00\xff", qos=1, retain=False),
        Message(topic="a/b", payload=b"raw", qos=1, retained=True, properties={"who": "me"}, received_at=1.5),
    ],
)
def test_what_is_written_is_read_back_the_same(store: Store, content: Content) -> None:
    written = letter(1, content, attempts=3, due_at=5.0, expires_at=9.0, begun_at=2.0, reason="status 500", origin="7:ab")
    put(store, written)
    assert store.select(Selection()) == [written]


@given(st.binary(max_size=200), st.text(max_size=50), st.lists(st.tuples(st.text(max_size=10), st.text(max_size=10)), max_size=3))
def test_any_content_survives_its_form_on_disk(body: bytes, url: str, headers: list[tuple[str, str]]) -> None:
    event = Event(method="PUT", url=url, headers=tuple(headers), body=body)
    assert opened(*sealed(event)) == event


def test_it_is_there_after_the_next_start_and_only_for_this_user(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    first = Store.open(path, max_size=SIZE)
    put(first, letter(1))
    first.close()
    second = Store.open(path, max_size=SIZE)
    assert [one.seq for one in second.select(Selection())] == [1]
    assert second.last_seq() == 1
    second.close()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_second_program_is_refused(tmp_path: Path, store: Store) -> None:
    with pytest.raises(AlreadyRunning, match="in use by another mqtthook"):
        Store.open(tmp_path / "outbox.db", max_size=SIZE)


def test_a_second_program_is_refused_whatever_link_leads_there(tmp_path: Path, store: Store) -> None:
    link, directory = tmp_path / "link.db", tmp_path / "elsewhere"
    link.symlink_to("outbox.db")
    directory.symlink_to(tmp_path)
    for path in (link, directory / "outbox.db", directory / "link.db"):
        with pytest.raises(AlreadyRunning, match="in use by another mqtthook"):
            Store.open(path, max_size=SIZE)


def test_a_file_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(ConfigError, match="newer mqtthook"):
        Store.open(path, max_size=SIZE)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for somebody else")
@pytest.mark.parametrize("is_there", [True, False])
def test_a_lock_that_root_makes_is_its_outbox_s_owner_s(tmp_path: Path, *, is_there: bool) -> None:
    """As `sudo mqtthook queue list` does while the service is stopped, which could not start any more else."""
    path, (user, group) = tmp_path / "outbox.db", (4_711, 4_712)
    os.chown(tmp_path, user, group)
    if is_there:
        path.touch()
        os.chown(path, user, group)
    os.close(locked(path))
    found = (tmp_path / "outbox.db.lock").stat()
    assert (found.st_uid, found.st_gid, found.st_mode & 0o777) == (user, group, 0o600)


@pytest.mark.skipif(os.geteuid() != 0, reason="as above")
def test_a_lock_that_was_there_stays_whose_it_is(tmp_path: Path) -> None:
    """Else whoever owns the directory could have root give him any file, by a link."""
    path, other = tmp_path / "outbox.db", tmp_path / "other"
    other.touch()
    os.chown(tmp_path, 4_711, 4_712)
    (tmp_path / "outbox.db.lock").symlink_to(other)
    os.close(locked(path))
    assert other.stat().st_uid == 0


@pytest.mark.parametrize("content", [b"this is no database, but long enough to be read as one" * 100])
def test_a_file_that_is_no_outbox_is_refused_with_a_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(content)
    with pytest.raises(StoreBroken, match="can't be used"):
        Store.open(path, max_size=SIZE)
    assert path.read_bytes() == content, "it is not ours to change"


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreBroken, match="is its directory there"):
        Store.open(tmp_path / "nowhere" / "outbox.db", max_size=SIZE)


def test_a_full_file_takes_nothing_more_and_has_room_again_after_a_delete(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "outbox.db", max_size=300 * 1024)
    written = 0
    with pytest.raises(StoreFull):
        for seq in range(1, 1_000):
            put(store, letter(seq, replace(EVENT, body=bytes(2_000))))
            written = seq
    assert written > 50
    assert len(store.numbers(Selection())) == written, "what failed left nothing behind"
    store.write(Changes(gone=set(range(1, 20))))
    put(store, letter(5_000, replace(EVENT, body=bytes(2_000))))
    store.close()


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as place:
        yield place


@pytest.mark.parametrize("size", [1_000, 3_000, 40_000])
@pytest.mark.parametrize("at_once", [1, 16, 100])
def test_new_letters_leave_so_much_of_the_disk_that_they_can_be_deleted_again(small: Path, size: int, at_once: int) -> None:
    store = Store.open(small / "outbox.db", max_size=SIZE)
    for _ in range(3):
        waiting: list[int] = []
        with pytest.raises(StoreFull):
            for first in range(1, 20_000, at_once):
                group = {seq: letter(seq, replace(EVENT, body=bytes(size))) for seq in range(first, first + at_once)}
                store.write(Changes(letters=group), size * at_once)
                waiting += group
        assert waiting or size * at_once > 1 << 20
        changed = {seq: letter(seq, replace(EVENT, body=bytes(size)), attempts=1) for seq in waiting[: len(waiting) // 2]}
        store.relieve(Changes(letters=changed, counts={"hall": {"in": len(waiting)}}))
        store.relieve(Changes(gone=set(waiting), counts={"hall": {"in": 0}}))
        assert not store.numbers(Selection())
        assert store.counts() == {"hall": {"in": 0}}
    store.close()


def test_letters_are_deleted_though_somebody_else_fills_the_disk(small: Path) -> None:
    """What the log has of the disk stays its own, once it has it."""
    store = Store.open(small / "outbox.db", max_size=SIZE)
    waiting = range(1, 201)
    for seq in waiting:
        store.write(Changes(letters={seq: letter(seq)}), 500)
    store.relieve(Changes())
    with (small / "filler").open("wb", buffering=0) as filler, suppress(OSError):
        while filler.write(bytes(4_096)):
            pass
    assert not os.statvfs(small).f_bavail
    store.relieve(Changes(gone=set(waiting)))
    assert not store.numbers(Selection())
    store.close()


def test_waiting_letters_come_in_order_and_by_key(store: Store) -> None:
    put(store, letter(3, key="a"), letter(1, key="b"), letter(2, key="a"), letter(4, state=State.DEAD), letter(5, destination="other"))
    assert numbered(store.waiting(Lane.WEBHOOK, "crm", Priority.NORMAL, 0, 10, 1_000)) == ([1, 2, 3], True)
    assert numbered(store.waiting(Lane.WEBHOOK, "crm", Priority.NORMAL, 1, 1, 1_000)) == ([2], False)
    assert numbered(store.waiting(Lane.WEBHOOK, "crm", Priority.NORMAL, 0, 10, 1)) == ([1], False), "its body alone is as much"
    assert numbered(store.waiting_of_key(Lane.WEBHOOK, "crm", Priority.NORMAL, "a", 0, 10, 1_000)) == ([2, 3], True)
    assert numbered(store.waiting_of_key(Lane.WEBHOOK, "crm", Priority.NORMAL, "a", 2, 10, 1_000)) == ([3], True)
    assert numbered(store.waiting_of_key(Lane.WEBHOOK, "crm", Priority.NORMAL, "a", 0, 10, 1)) == ([2], False)
    assert store.waiting_counts() == {(Lane.WEBHOOK, "crm", "hall"): Sum(3, 3), (Lane.WEBHOOK, "other", "hall"): Sum(1, 1)}
    assert store.dead_counts() == {"hall": 1}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (Selection(), [1, 2, 3]),
        (Selection(ids=("evt_2",)), [2]),
        (Selection(state=State.DEAD), [2]),
        (Selection(mapping="door"), [3]),
        (Selection(destination="crm"), [1, 2, 3]),
        (Selection(key="k'; DROP TABLE letter; --"), []),
        (Selection(reason="STATUS 4"), [2]),
        (Selection(before=2.5), [1, 2]),
        (Selection(limit=1), [1]),
        (Selection(state=State.WAITING, mapping="hall"), [1]),
        (Selection(since=2.0), [2, 3]),  # one that lives: when it came
        (Selection(since=7.0), [2]),  # one that is dead: when it died
        (Selection(since=7.5), []),
        (Selection(since=2.0, before=3.0), [2]),
        (Selection(before=1.0), []),
        (Selection(before=1.5, since=1.0), [1]),
        (Selection(after=1), [2, 3]),
        (Selection(after=3), []),
        (Selection(after=0, limit=2), [1, 2]),
        (Selection(after=2, limit=2), [3]),
        (Selection(until=2), [1, 2]),
        (Selection(after=1, until=2), [2]),
        (Selection(ids=("evt_1", "evt_3"), after=1), [3]),
        (Selection(ids=("evt_3", "evt_1")), [1, 3]),
    ],
)
def test_a_selection_finds_what_a_person_means(store: Store, wanted: Selection, found: list[int]) -> None:
    put(store, letter(1), letter(2, state=State.DEAD, reason="status 400", dead_at=7.0), letter(3, mapping="door"))
    assert [one.seq for one in store.select(wanted)] == found
    assert store.numbers(wanted) == found


@pytest.mark.parametrize(
    ("wanted", "size", "parts"),
    [
        (Selection(mapping="nobody"), 2, []),
        (Selection(), 2, [(2, 2), (4, 2), (5, 1)]),
        (Selection(), 5, [(5, 5)]),
        (Selection(), 1_000, [(5, 5)]),
        (Selection(state=State.DEAD), 1, [(2, 1), (4, 1)]),
        (Selection(state=State.DEAD), 2, [(4, 2)]),
        (Selection(after=2, until=4), 1, [(3, 1), (4, 1)]),
    ],
)
def test_a_selection_falls_into_parts_that_hold_all_of_it(store: Store, wanted: Selection, size: int, parts: list[tuple[int, int]]) -> None:
    put(store, *(letter(n, state=State.DEAD if n % 2 == 0 else State.WAITING) for n in range(1, 6)))
    assert store.parts(wanted, size) == parts


def test_a_revived_event_waits_as_if_it_came_now_and_a_command_still_expires(store: Store) -> None:
    command = Command(topic="a", payload=b"", qos=1, retain=False)
    put(
        store,
        letter(1, state=State.DEAD, attempts=9, dead_at=5.0, expires_at=10.0),
        letter(2, command, lane=Lane.MQTT, destination="mqtt", state=State.DEAD, expires_at=10.0, begun_at=1.0),
        letter(3),
    )
    assert store.revive([1, 2, 3], 100.0) == {(Lane.WEBHOOK, "crm", "hall"): Sum(1, 1), (Lane.MQTT, "mqtt", "hall"): Sum(1, 1)}
    event, old_command, untouched = store.select(Selection())
    assert (event.state, event.attempts, event.created_at, event.expires_at) == (State.WAITING, 0, 100.0, None)
    assert (old_command.expires_at, old_command.begun_at) == (10.0, None)
    assert untouched.created_at == 3.0


def test_an_id_is_remembered_with_its_first_answer(store: Store) -> None:
    assert store.answered("lamp", "x") is None
    first = Answer(status=202, document={"id": "x", "status": "queued"})
    store.write(Changes(seen={("lamp", "x"): 1.0}, answers={("lamp", "x"): first}))
    assert store.answered("lamp", "x") == first
    assert store.answered("other", "x") is None
    store.forget_seen(2.0, 100)
    assert store.answered("lamp", "x") is None


def test_no_more_ids_are_remembered_than_there_is_room_for_and_the_newest_stay(store: Store) -> None:
    store.write(Changes(seen={("lamp", f"x{n}"): float(n) for n in range(10)}, answers={("lamp", f"x{n}"): Answer(status=200, document={}) for n in range(10)}))
    assert store.forget_seen(2.0, 100) == 2
    assert store.forget_seen(0.0, 100) == 0
    assert store.forget_seen(0.0, 3) == 5
    assert [n for n in range(10) if store.answered("lamp", f"x{n}")] == [7, 8, 9]


def test_marks_of_the_last_messages_are_found(store: Store) -> None:
    put(store, letter(1, origin="old"), letter(2_000, origin="new"), letter(2_001))
    assert store.origins(1_000) == ["new"]


def test_expired_letters_are_found(store: Store) -> None:
    put(store, letter(1, expires_at=5.0), letter(2, expires_at=50.0), letter(3), letter(4, expires_at=5.0, state=State.DEAD))
    assert [one.seq for one in store.expired(10.0)] == [1]


# What is asked of it at a start, and by people


def test_what_a_start_has_to_know_is_found(store: Store) -> None:
    command = Command(topic="a", payload=b"", qos=1, retain=False)
    put(
        store,
        letter(1, key="a"),
        letter(2, key="a"),
        letter(3, key="b", mapping="door"),
        letter(4, key="a", state=State.HELD),
        letter(5, key="a", state=State.DEAD),
        letter(6, command, lane=Lane.MQTT, destination="mqtt", begun_at=6.5),
        letter(7, command, lane=Lane.MQTT, destination="mqtt"),
    )
    assert [one.seq for one in store.held()] == [4]
    assert [one.seq for one in store.begun()] == [6]
    assert store.newest_waiting(["hall", "none"]) == [("hall", "crm", "a", 2), ("hall", "mqtt", "k", 7)]
    assert store.oldest_waiting() == {(Lane.WEBHOOK, "crm"): 1.0, (Lane.MQTT, "mqtt"): 6.0}


def test_what_waits_is_hastened_and_what_is_meant_is_dropped(store: Store) -> None:
    put(store, letter(1, due_at=9.0, attempts=4), letter(2, state=State.DEAD, due_at=9.0), letter(3))
    here = (Lane.WEBHOOK, "crm", "hall")
    assert store.hasten([1, 2]) == {here: Sum(1, 1)}
    assert [(one.due_at, one.attempts) for one in store.select(Selection())] == [(None, 0), (9.0, 0), (None, 0)]
    assert store.drop([1, 2, 3, 4], State.WAITING) == {here: Sum(2, 2)}
    assert store.drop([2], State.DEAD) == {here: Sum(1, 1)}
    assert store.select(Selection()) == []


def test_notes_memories_and_counts_are_kept(store: Store) -> None:
    assert store.note("x") is None
    first, second = ("hall", "key", "a"), ("hall", "topic", "b")
    store.write(Changes(notes={"x": "1"}, memories={first: "old", second: "new"}, counts={"hall": {"in": 3, "dead": 1}}))
    store.write(Changes(memories={first: "newer"}))
    store.save_counts({"hall": {"in": 4}})
    assert store.note("x") == "1"
    assert list(store.memories().items()) == [(second, "new"), (first, "newer")], "what was learnt last at the end"
    assert store.counts() == {"hall": {"in": 4, "dead": 1}}
    store.write(Changes(memories={first: None}))
    assert store.memories() == {second: "new"}


def test_the_room_that_is_used_grows_and_comes_back(store: Store) -> None:
    empty, most = store.pages()
    put(store, letter(1, replace(EVENT, body=bytes(1 << 20))))
    full, _ = store.pages()
    store.write(Changes(gone={1}))
    assert most == SIZE
    assert full - empty >= 1 << 20
    assert store.pages()[0] < full - (1 << 19)


# The history


def attempt(n: int, **more: object) -> Attempt:
    base = Attempt(event=f"evt_{n}", mapping="hall", destination="crm", at=float(n), received_at=0.5, number=1, verdict=Verdict.DELIVERED, status=200, took_ms=1.5, reason="status 200", answer="")
    return replace(base, **more)  # type: ignore[arg-type]


def tell(store: Store, *attempts: Attempt) -> None:
    store.write(Changes(attempts=list(attempts)))


def told(store: Store, **wanted: object) -> list[str]:
    return [one.event for one in store.history(Past(**wanted))]  # type: ignore[arg-type]


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.lists(st.builds(attempt, st.integers(0, 10**9), answer=TEXTS, reason=TEXTS, status=st.none() | st.integers(0, 999), verdict=st.sampled_from(Verdict), took_ms=st.floats(0, 1e9), count=st.integers(1, 10**6)), max_size=5))
def test_attempts_survive_their_form_on_disk(attempts: list[Attempt]) -> None:
    with TemporaryDirectory() as place:
        first = Store.open(Path(place) / "outbox.db", max_size=SIZE)
        tell(first, *attempts)
        first.close()
        second = Store.open(Path(place) / "outbox.db", max_size=SIZE)
        assert second.history(Past()) == sorted(attempts, key=lambda one: one.at)
        second.close()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["evt_1", "evt_2", "evt_2", "evt_3"]),
        ({"event": "evt_2"}, ["evt_2", "evt_2"]),
        ({"event": "evt_9"}, []),
        ({"event": "' OR 1=1 --"}, []),
        ({"mapping": "door"}, ["evt_3"]),
        ({"destination": "crm", "mapping": "hall"}, ["evt_1", "evt_2", "evt_2"]),
        ({"destination": "other"}, []),
        ({"verdict": "retry"}, ["evt_2"]),
        ({"verdict": Verdict.DELIVERED}, ["evt_1", "evt_2", "evt_3"]),
        ({"since": 2.0}, ["evt_2", "evt_2", "evt_3"]),
        ({"since": 2.1}, ["evt_2", "evt_3"]),
        ({"limit": 2}, ["evt_2", "evt_3"]),  # the newest, in the order in which they were made
        ({"mapping": "hall", "limit": 1}, ["evt_2"]),
    ],
)
def test_the_history_tells_what_a_person_means(store: Store, wanted: dict[str, object], found: list[str]) -> None:
    tell(store, attempt(1), attempt(2, verdict=Verdict.RETRY), attempt(3, mapping="door", at=9.0), attempt(2, at=7.0, number=2))
    assert told(store, **wanted) == found


def test_attempts_of_the_same_instant_are_told_in_the_order_in_which_they_were_made(store: Store) -> None:
    tell(store, *(attempt(n, at=5.0) for n in range(1, 6)))
    assert told(store) == [f"evt_{n}" for n in range(1, 6)]
    assert told(store, limit=2) == ["evt_4", "evt_5"]


def test_the_history_is_forgotten_by_age_and_by_number_the_oldest_first(store: Store) -> None:
    tell(store, *(attempt(n) for n in range(1, 11)))
    store.forget_history(4.0, 100)
    assert told(store) == [f"evt_{n}" for n in range(4, 11)]
    store.forget_history(0.0, 3)
    assert told(store) == ["evt_8", "evt_9", "evt_10"]
    store.forget_history(0.0, 3)
    assert told(store) == ["evt_8", "evt_9", "evt_10"], "no more than too many"
    tell(store, attempt(11))
    store.forget_history(99.0, 3)
    assert told(store) == []
    tell(store, attempt(12))
    store.forget_history(0.0, 3)
    assert told(store) == ["evt_12"], "and it goes on"


def test_attempts_that_could_not_be_written_leave_nothing_behind(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "outbox.db", max_size=300 * 1024)
    with pytest.raises(StoreFull):
        tell(store, *(attempt(n, answer="x" * 500) for n in range(1_000)))
    assert told(store) == []
    tell(store, attempt(1))
    assert told(store) == ["evt_1"]
    store.close()


def test_text_that_can_not_be_stored_fails_that_write_and_no_other(store: Store) -> None:
    """Whatever comes of that write, the next one finds no transaction that is open."""
    with pytest.raises(UnicodeEncodeError):
        store.write(Changes(notes={"x": "\udcff"}, attempts=[attempt(1)]))
    tell(store, attempt(2))
    assert told(store) == ["evt_2"]


def test_half_a_character_in_a_reason_is_no_reason_to_fail(store: Store) -> None:
    """As a header may hold it, and a reason quote it."""
    put(store, letter(1, reason="not \udcff"))
    tell(store, attempt(1, reason="not \udcff", answer="\ud800 either"))
    assert [one.reason for one in store.select(Selection())] == ["not ?"]
    assert [(one.reason, one.answer) for one in store.history(Past())] == [("not ?", "? either")]


# Batches


def batch(seq: int, *numbers: int, joint: str = LIST, **more: object) -> Letter:
    events = [replace(EVENT, body=json.dumps({"n": n}).encode()) for n in numbers]
    return letter(seq, batched(events, joint=joint), **more)


@pytest.mark.parametrize("joint", [LIST, LINES])
def test_the_events_of_a_batch_become_letters_of_their_own_in_order(store: Store, joint: str) -> None:
    put(store, batch(1, 5, 6, 7, joint=joint, priority=Priority.HIGH, key="a", due_at=9.0, attempts=3, reason="status 503", expires_at=99.0, origin="1:a 2:b 3:c"), letter(2))
    assert store.split([1, 2], 10, 50.0) == (3, {})
    rest, *parts = store.select(Selection())
    assert rest == letter(2), "what is no batch stays as it is"
    assert [(part.seq, part.id) for part in parts] == [(11, "evt_1-1"), (12, "evt_1-2"), (13, "evt_1-3")]
    for part, n in zip(parts, (5, 6, 7), strict=True):
        assert isinstance(part.content, Event)
        read = json.loads(part.content.body)
        assert (read[0] if joint == LIST else read) == {"n": n}
        assert (part.content.method, part.content.url) == (EVENT.method, EVENT.url)
        assert (part.count, part.state, part.attempts, part.due_at, part.created_at) == (1, State.WAITING, 0, None, 50.0)
        assert (part.mapping, part.destination, part.key, part.priority, part.expires_at) == ("hall", "crm", "a", Priority.HIGH, 99.0)
    assert store.waiting_counts() == {(Lane.WEBHOOK, "crm", "hall"): Sum(4, 4)}
    assert store.last_seq() == 13


def test_batches_are_numbered_in_order_of_receipt_and_the_dead_ones_are_told(store: Store) -> None:
    put(store, batch(1, 1, 2), batch(2, 3, 4, 5, state=State.DEAD, dead_at=5.0), batch(3, 6, 7, state=State.DEAD, mapping="door"), batch(4, 8, 9))
    assert store.split([3, 2, 1], 4, 50.0) == (7, {(Lane.WEBHOOK, "crm", "hall"): Sum(1, 3), (Lane.WEBHOOK, "crm", "door"): Sum(1, 2)})
    assert [one.id for one in store.select(Selection(after=4))] == ["evt_1-1", "evt_1-2", "evt_2-1", "evt_2-2", "evt_2-3", "evt_3-1", "evt_3-2"]
    assert [one.id for one in store.select(Selection(after=0, limit=1))] == ["evt_4"]
    assert store.dead_counts() == {}
    assert all(one.dead_at is None for one in store.select(Selection()))


def test_the_events_of_a_dead_batch_do_not_expire_any_more(store: Store) -> None:
    """As with any dead event that is tried again: else the person who wants them rescued would see them go."""
    put(store, batch(1, 1, 2, state=State.DEAD, dead_at=5.0, expires_at=10.0))
    store.split([1], 1, 50.0)
    assert [one.expires_at for one in store.select(Selection())] == [None, None]
    assert store.expired(50.0) == []


def test_a_split_that_does_not_fit_leaves_the_batch_whole(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "outbox.db", max_size=300 * 1024)
    large = letter(1, batched([replace(EVENT, headers=(("X", "y" * 3_000),), body=b"1") for _ in range(100)], joint=LIST))
    put(store, large)
    with pytest.raises(StoreFull):
        store.split([1], 1, 50.0)
    assert store.select(Selection()) == [large]
    store.close()
