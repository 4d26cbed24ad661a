"""The rescue: whatever is done to an outbox file, the next start goes on, and nothing of the file is lost."""

import asyncio
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from bridge.errors import StoreBroken, StoreDamaged
from bridge.model import Event, Lane, Letter, Priority, State, Verdict
from bridge.outbox.history import Attempt
from bridge.outbox.outbox import Outbox
from bridge.outbox.rescue import NOTE, opened, told
from bridge.outbox.selection import Past, Selection
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Store, reading
from bridge.outbox.window import Fetch

SIZE, PAGE = 64 << 20, 4_096
LETTERS, DEAD_EACH = 150, 10
EVENT = Event(method="POST", url="http://crm/x", headers=(("A", "b"),), body=b'{"a":1}' * 30)
ATTEMPT = Attempt(event="e", mapping="m", destination="d", at=1.0, received_at=1.0, number=1, verdict=Verdict.RETRY, status=500, took_ms=1.0, reason="r", answer="")
LINE = (Lane.WEBHOOK, "crm", Priority.NORMAL)

Damage = Callable[[bytearray, Random], bytearray]


def letter(seq: int) -> Letter:
    one = Letter(seq=seq, id=f"evt_{seq}", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key=f"k{seq % 7}", content=EVENT, created_at=1e9 + seq)
    return one if seq % DEAD_EACH else replace(one, state=State.DEAD, dead_at=1e9)


def fill(path: Path, *, end: bool = True) -> Store:
    store = Store.open(path, max_size=SIZE)
    for seq in range(1, LETTERS + 1):
        counts = {"hall": {"in": seq, "dead": seq // DEAD_EACH}}
        place = ("hall", "key", f"k{seq}")
        store.write(Changes(letters={seq: letter(seq)}, counts=counts, seen={("h", f"x{seq}"): 1e9}, notes={"a": '{"b": 1}'}, memories={place: "{}"}, attempts=[ATTEMPT]))
    if end:
        store.close()
    return store


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Return an outbox file with letters, as a daemon that ended in order leaves it."""
    path = tmp_path_factory.mktemp("whole") / "outbox.db"
    fill(path)
    return path.read_bytes()


def flipped(content: bytearray, chance: Random, times: int = 20) -> bytearray:
    for _ in range(times):
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    return content


def overwritten(content: bytearray, chance: Random, page: bytes | None = None) -> bytearray:
    at = chance.randrange(len(content) // PAGE) * PAGE
    content[at : at + PAGE] = chance.randbytes(PAGE) if page is None else page
    return content


DAMAGES: dict[str, Damage] = {
    "one bit": lambda content, chance: flipped(content, chance, 1),
    "20 bits": flipped,
    "a page of noise": overwritten,
    "a page of zeros": lambda content, chance: overwritten(content, chance, bytes(PAGE)),
    "cut off": lambda content, chance: content[: chance.randrange(1, len(content))],
    "the first page": lambda content, chance: bytearray(chance.randbytes(PAGE)) + content[PAGE:],
}


def used(store: Store) -> tuple[int, int]:
    """Return how many letters a daemon would find to deliver, having asked all that one asks, and by how much the ledger is off."""

    async def all_of_it() -> tuple[int, int]:
        outbox = Outbox(store, StoreSettings(), monotonic=time.monotonic, wall=time.time)
        try:
            found, _ = await outbox.fetch(LINE, Fetch(None, 0, 1_000, 0))
            for key in range(7):
                await outbox.fetch(LINE, Fetch(f"k{key}", 0, 1_000, 0))
            await outbox.handling.select(Selection())
            await outbox.handling.history(Past())
            await outbox.oldest()
            await outbox.flush()
            return len(found), outbox.accounts.ledger.imbalance()
        finally:
            outbox.shut()

    with closing(store), reading():
        return asyncio.run(all_of_it())


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_outbox_is_kept_and_what_can_be_read_goes_on(tmp_path: Path, whole: bytes, damage: Damage, seed: int) -> None:
    path = tmp_path / "outbox.db"
    damaged = bytes(damage(bytearray(whole), Random(seed)))
    path.write_bytes(damaged)
    try:
        found, imbalance = used(opened(path, max_size=SIZE))
    except StoreDamaged as exc:  # met by the daemon while it runs, which starts anew
        found, imbalance = used(opened(path, max_size=SIZE, damage=str(exc)))
    assert imbalance == 0
    kept = [file for file in tmp_path.iterdir() if ".damaged-" in file.name]
    if kept:
        assert kept[0].read_bytes() == damaged
    else:
        assert found == LETTERS - LETTERS // DEAD_EACH, "nothing is wrong with it that can be seen"
    assert used(opened(path, max_size=SIZE)) == (found, 0), "and all is well the next time"


def test_one_page_costs_no_more_than_what_is_on_it(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "outbox.db"
    left = []
    for at in range(0, len(whole), PAGE):
        path.write_bytes(whole[:at] + bytes(PAGE) + whole[at + PAGE :])
        with closing(opened(path, max_size=SIZE)) as store:
            left.append(len(store.numbers(Selection())))
    assert sum(found <= LETTERS * 0.8 for found in left) <= 3, "but for the few that say where the others are"


def test_what_became_of_it_is_told_until_the_damaged_file_is_deleted(tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(bytes(flipped(bytearray(whole), Random(1))))
    store = opened(path, max_size=SIZE)
    note = store.note(NOTE)
    store.close()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "the outbox was damaged" in record.message
    assert note is not None
    kept = Path(json.loads(note)["kept"])
    assert str(kept) in record.message
    assert str(kept) in str(told(note))
    kept.unlink()
    assert told(note) is None
    assert told(None) is None


def test_no_file_that_was_kept_is_overwritten(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "outbox.db"
    contents = [bytes(flipped(bytearray(whole), Random(seed))) for seed in range(3)]
    for content in contents:
        path.write_bytes(content)
        opened(path, max_size=SIZE).close()
    kept = [file.read_bytes() for file in tmp_path.iterdir() if ".damaged-" in file.name]
    assert sorted(kept) == sorted(contents)
    assert not [file for file in tmp_path.iterdir() if "part" in file.name]


def test_a_file_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(Random(1).randbytes(3 * PAGE))
    before = path.read_bytes()
    with pytest.raises(StoreBroken, match="can't be used"):
        opened(path, max_size=SIZE)
    assert path.read_bytes() == before


def test_what_python_alone_takes_for_json_is_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = fill(path, end=False)
    store.write(Changes(memories={("hall", "key", "k"): '{"value": Infinity}'}))
    store.close()
    opened(path, max_size=SIZE).close()
    assert not list(tmp_path.glob("*.damaged-*"))


def test_a_command_puts_nothing_aside(tmp_path: Path, whole: bytes) -> None:
    path = tmp_path / "outbox.db"
    path.write_bytes(bytes(overwritten(bytearray(whole), Random(2))))
    with pytest.raises(StoreDamaged, match="the daemon puts it aside when it starts"):
        Store.open(path, max_size=SIZE)


@pytest.mark.parametrize("is_there", [True, False])
def test_an_outbox_that_is_empty_or_gone_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture, *, is_there: bool) -> None:
    path = tmp_path / "outbox.db"
    fill(path)
    assert not caplog.records, "the first time there was none before"
    if is_there:
        os.truncate(path, 0)
    else:
        path.unlink()
    assert used(opened(path, max_size=SIZE)) == (0, 0)
    assert [record.message.partition(":")[0] for record in caplog.records] == ["the outbox was lost"]


def test_a_log_that_is_gone_is_said_and_one_that_is_there_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ended = fill(tmp_path / "outbox.db", end=False)
    there, gone = tmp_path / "there", tmp_path / "gone"
    for place in (there, gone):
        place.mkdir()
        for file in ("outbox.db", "outbox.db-wal", "outbox.db.lock"):
            (place / file).write_bytes((tmp_path / file).read_bytes())
    ended.close()
    (gone / "outbox.db-wal").unlink()
    (gone / "outbox.db").write_bytes((tmp_path / "outbox.db").read_bytes())
    opened(there / "outbox.db", max_size=SIZE).close()
    opened(tmp_path / "outbox.db", max_size=SIZE).close()
    assert not caplog.records
    opened(gone / "outbox.db", max_size=SIZE).close()
    assert [record.message.partition(":")[0] for record in caplog.records] == ["the outbox's log was lost"]


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize("envelope", ['{"evant": []}', "[]", '{"command": [1]}', '{"event": ["POST"]}'])
def test_a_letter_that_can_not_be_read_is_a_dead_one_and_the_others_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture, envelope: str, *, at_start: bool) -> None:
    path = tmp_path / "outbox.db"
    fill(path)
    living = LETTERS - LETTERS // DEAD_EACH

    def spoil(state: State) -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            db.execute("UPDATE letter SET envelope = ?, state = ? WHERE seq = 5", (envelope, state))

    async def life(store: Store) -> None:
        outbox = Outbox(store, StoreSettings(), monotonic=time.monotonic, wall=time.time)
        if not at_start:
            spoil(State.WAITING)
        for _ in range(2):
            found, exhausted = await outbox.fetch(LINE, Fetch(None, 0, living, 0))
            assert (len(found), exhausted) == (living - 1, True)
        assert outbox.accounts.dead == {"hall": LETTERS // DEAD_EACH + 1}
        assert outbox.accounts.ledger.waiting() == {"hall": living - 1}
        assert outbox.accounts.ledger.imbalance() == 0
        await outbox.flush()
        outbox.shut()

    if at_start:
        spoil(State.HELD)
    with closing(Store.open(path, max_size=SIZE)) as store:
        asyncio.run(life(store))
        assert [record.message[:26] for record in caplog.records] == ["unreadable letter number=5"]
        (dead,) = store.select(Selection(ids=("evt_5",)))
        assert (dead.state, str(dead.reason)[:16]) == (State.DEAD, "it can't be read")
        assert dead.content.payload == envelope.encode()  # type: ignore[union-attr]
    assert used(Store.open(path, max_size=SIZE)) == (living - 1, 0)
