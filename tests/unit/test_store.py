"""The store: what is committed is there, whole, and nobody else's."""

import os
import sqlite3
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import AlreadyRunning, ConfigError, StoreBroken, StoreFull
from bridge.model import Answer, Command, Content, Event, Lane, Letter, Message, Priority, State
from bridge.outbox.rows import opened, sealed
from bridge.outbox.selection import Selection
from bridge.outbox.store import SCHEMA_VERSION, Changes, Store, Sum

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


def test_a_file_from_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(ConfigError, match="newer mqtthook"):
        Store.open(path, max_size=SIZE)


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


def test_waiting_letters_come_in_order_and_by_key(store: Store) -> None:
    put(store, letter(3, key="a"), letter(1, key="b"), letter(2, key="a"), letter(4, state=State.DEAD), letter(5, destination="other"))
    assert [one.seq for one in store.waiting(Lane.WEBHOOK, "crm", Priority.NORMAL, 0, 10)] == [1, 2, 3]
    assert [one.seq for one in store.waiting(Lane.WEBHOOK, "crm", Priority.NORMAL, 1, 1)] == [2]
    assert [one.seq for one in store.waiting_of_key(Lane.WEBHOOK, "crm", Priority.NORMAL, "a", 10)] == [2, 3]
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
    ],
)
def test_a_selection_finds_what_a_person_means(store: Store, wanted: Selection, found: list[int]) -> None:
    put(store, letter(1), letter(2, state=State.DEAD, reason="status 400"), letter(3, mapping="door"))
    assert [one.seq for one in store.select(wanted)] == found
    assert store.numbers(wanted) == found


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
    store.forget_seen(2.0)
    assert store.answered("lamp", "x") is None


def test_marks_of_the_last_messages_are_found(store: Store) -> None:
    put(store, letter(1, origin="old"), letter(2_000, origin="new"), letter(2_001))
    assert store.origins(1_000) == ["new"]


def test_expired_letters_are_found(store: Store) -> None:
    put(store, letter(1, expires_at=5.0), letter(2, expires_at=50.0), letter(3), letter(4, expires_at=5.0, state=State.DEAD))
    assert [one.seq for one in store.expired(10.0)] == [1]
