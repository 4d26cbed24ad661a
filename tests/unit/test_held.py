"""What gates hold back: nothing is lost and nothing is forgotten, whenever the program is killed.

A house in small: a real outbox file, the real gatekeeper and intake, a clock that the test moves, and a broker that
sends again what it got no acknowledgement for. Hypothesis chooses what happens.
"""

import asyncio
import json
import sqlite3
from collections import deque
from contextlib import closing
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlite_utils import Database

from bridge.model import Event, Lane, Letter, Message, Outcome, State, Verdict
from bridge.outbox.courier import Clock
from bridge.outbox.gatekeeper import Gatekeeper
from bridge.outbox.intake import MessageIntake
from bridge.outbox.outbox import Outbox
from bridge.outbox.pen import HOLD_S
from bridge.outbox.receipts import MAX_BYTES, Receipts, no_receipt
from bridge.outbox.schema import migrations
from bridge.outbox.selection import Selection
from bridge.outbox.settings import StoreSettings
from bridge.outbox.soundness import APPLICATION_ID
from bridge.outbox.store import Changes, Store
from bridge.outbox.storms import Storms
from bridge.rules.outbound import Routes
from tests.rig.mappings import STATUS, mapping, route

NAME = "hall-motion"
DELIVERED = Outcome(verdict=Verdict.DELIVERED, reason="status 200")


class Desk:
    """A destination: it takes every letter, and delivers when it is told to."""

    def __init__(self) -> None:
        self.letters: deque[Letter] = deque()
        self.troubled = False

    def offer(self, letter: Letter) -> bool:
        self.letters.append(letter)
        return True

    def holds(self, seq: int) -> bool:
        return any(letter.seq == seq for letter in self.letters)

    def discard(self, numbers: set[int]) -> set[int]:
        self.letters = deque(letter for letter in self.letters if letter.seq not in numbers)
        return set()

    def withdraw(self, letter: Letter, seq: int) -> bool:
        return not self.discard({seq} if letter.seq != seq else set())

    def look_again(self) -> None:
        return None


class House:
    """The parts of a bridge around a file, and the broker's memory of what it was not told."""

    def __init__(self, place: Path, **keys: Any) -> None:
        self.place, self.keys = place, keys
        self.time_s, self.delivered, self.unacknowledged = 1_000.0, list[Letter](), dict[int, Message]()
        self._numbers, self._ids = count(1), count(1)
        self.asked, self.answers_s = 0, list[float | None]()
        self.start()

    def start(self) -> None:
        self.store = Store.open(self.place / "outbox.db", max_size=64 << 20)
        clock = Clock(monotonic=lambda: self.time_s, wall=lambda: self.time_s + 1e9, date=lambda: self.time_s + 1e9, chance=lambda: 0.0)
        self.outbox = Outbox(self.store, StoreSettings(), monotonic=clock.monotonic, wall=clock.wall)
        routes = Routes([route(mapping(topic="door/+", **self.keys))], own=STATUS)
        self.gatekeeper = Gatekeeper(self.outbox, routes, clock=clock, new_id=self._new_id, is_there=self._is_there)
        storms = Storms(self.gatekeeper.now)
        self.intake = MessageIntake(self.outbox, self.gatekeeper, routes, storms=storms, new_id=self._new_id, is_pressed=lambda: len(self.receipts) >= 10, hear=lambda _: False, wall=clock.wall)
        self.outbox.keep_latest([NAME] if self.keys.get("keep") == "latest" else [])
        self.desk = Desk()
        if self.outbox.register(Lane.WEBHOOK, NAME, self.desk):
            self.desk.letters.extend(letter for letter in self.store.select(Selection(state=State.WAITING)))
        self.receipts = Receipts(self.outbox.origins, self._acknowledged)
        self.gatekeeper.connected(on=True)
        for packet_id, message in list(self.unacknowledged.items()):
            self._hand_over(packet_id, message, dup=True)

    def _acknowledged(self, packet_id: int) -> None:
        self.unacknowledged.pop(packet_id, None)

    def _new_id(self) -> str:
        return f"evt_{next(self._ids)}"

    async def _is_there(self) -> bool:
        """Answer as the broker would, after the seconds that the test says, None for never."""
        self.asked += 1
        answer_s = self.answers_s.pop(0) if self.answers_s else 0.0
        self.time_s += 3.0 if answer_s is None else answer_s
        return answer_s is not None

    def message(self, key: str, value: int) -> None:
        packet_id = next(self._numbers)
        message = Message(topic=f"door/{key}", payload=json.dumps({"n": value, "id": packet_id}).encode(), qos=1, received_at=self.time_s + 1e9)
        self.unacknowledged[packet_id] = message
        self._hand_over(packet_id, message, dup=False)

    def _hand_over(self, packet_id: int, message: Message, *, dup: bool) -> None:
        taken = self.receipts.take(packet_id, message.topic, message.payload, dup=dup)
        if taken is not None:
            receipt, mark = taken
            self.intake.take(message, receipt, mark)
            receipt.settle()

    def deliver(self, most: int = 1_000) -> None:
        while self.desk.letters and most:
            letter = self.desk.letters.popleft()
            self.delivered.append(letter)
            self.outbox.record(letter, DELIVERED)
            most -= 1

    def wait(self, seconds: float) -> None:
        self.time_s += seconds
        self.gatekeeper._turn()

    async def silence(self, seconds: float) -> list[int]:
        """Wait, report what is silent then, and return the numbers of all that was delivered."""
        self.wait(seconds)
        await self.gatekeeper._report_due()
        self.deliver()
        return self.numbers()

    async def commit(self) -> None:
        await self.outbox._journal.flush()

    def adopt(self, **keys: Any) -> None:
        """Go on with another config."""
        self.keys = keys
        routes = Routes([route(mapping(topic="door/+", **keys))], own=STATUS)
        self.gatekeeper.adopt(routes)
        self.intake.routes = routes

    def kill(self) -> None:
        """Stop as SIGKILL would: what is in memory is gone, and nothing more is written."""
        self.outbox.shut()
        self.store.close()
        self.start()

    def numbers(self) -> list[int]:
        """Return the ids of all messages that were delivered, in order."""
        return [entry["data"]["payload"]["id"] for letter in self.delivered for entry in _entries(letter)]


def _entries(letter: Letter) -> list[Any]:
    assert isinstance(letter.content, Event)
    body = json.loads(letter.content.body)
    return body if isinstance(body, list) else [body]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("message"), st.sampled_from("ab"), st.integers(0, 1)),
        st.tuples(st.just("wait"), st.sampled_from([0.2, 1.5, 6.0, HOLD_S])),
        st.tuples(st.just("deliver"), st.integers(1, 3)),
        st.just(("commit",)),
        st.just(("kill",)),
    ),
    max_size=40,
)


async def lived(house: House, steps: list[Any]) -> None:
    for step in steps:
        match step:
            case ("message", key, value):
                house.message(key, value)
            case ("wait", seconds):
                house.wait(seconds)
            case ("deliver", most):
                house.deliver(most)
            case ("commit",):
                await house.commit()
            case ("kill",):
                house.kill()
        assert house.outbox.accounts.ledger.imbalance() == 0
    for _ in range(4):
        house.wait(100.0)
        house.deliver()
        await house.commit()
    assert house.outbox.accounts.ledger.imbalance() == 0
    assert not house.outbox.accounts.ledger.waiting().get(NAME), "everything has come to an end"
    assert not len(house.outbox.pen)
    assert not house.unacknowledged, "and the broker knows it"
    house.outbox.shut()
    house.store.close()


def live(steps: list[Any], **keys: Any) -> House:
    with TemporaryDirectory() as place:

        async def whole() -> House:
            house = House(Path(place), **keys)
            await lived(house, steps)
            return house

        return asyncio.run(whole())


def last_of_each_key(steps: list[Any]) -> set[int]:
    """Return the id of the last message of each key."""
    numbers = count(1)
    return set({step[1]: next(numbers) for step in steps if step[0] == "message"}.values())


@settings(max_examples=60)
@given(STEPS)
def test_the_last_word_of_each_key_goes_whatever_happens(steps: list[Any]) -> None:
    house = live(steps, debounce="1s", debounce_max="5s")
    assert last_of_each_key(steps) <= set(house.numbers())


@settings(max_examples=60)
@given(STEPS)
def test_every_event_of_a_batch_goes_in_order_whatever_happens(steps: list[Any]) -> None:
    house = live(steps, batch={"size": 3, "wait": "1s"})
    sent = sum(step[0] == "message" for step in steps)
    firsts = list(dict.fromkeys(house.numbers()))
    assert firsts == list(range(1, sent + 1))
    if ("kill",) not in steps:
        assert len(house.numbers()) == sent, "and once"


@settings(max_examples=60)
@given(STEPS)
def test_a_change_is_never_lost_in_what_is_held_nor_told_twice_without_a_kill(steps: list[Any]) -> None:
    house = live(steps, on_change="payload.n", debounce="1s", batch={"size": 2, "wait": "1s"})
    values: dict[str, int] = {}
    for letter in house.delivered:
        for entry in _entries(letter):
            values[entry["data"]["topic"]] = entry["data"]["payload"]["n"]
    if ("kill",) not in steps:
        assert values == {f"door/{step[1]}": step[2] for step in steps if step[0] == "message"}


@settings(max_examples=60)
@given(STEPS)
def test_of_what_waits_only_the_newest_is_kept_and_it_goes(steps: list[Any]) -> None:
    house = live(steps, keep="latest")
    assert last_of_each_key(steps) <= set(house.numbers())


# --- single cases ---


def test_a_held_message_is_not_acknowledged_before_it_is_safe(tmp_path: Path) -> None:
    async def whole() -> None:
        house = House(tmp_path, debounce="1h", debounce_max="1h")
        house.message("a", 1)
        assert house.unacknowledged, "neither delivered nor on disk"
        house.wait(HOLD_S - 1)
        assert house.outbox._journal._due_at() is None, "for a while it costs no write"
        house.wait(1)
        await house.commit()
        assert not house.unacknowledged
        assert [letter.state for letter in house.store.select(Selection())] == [State.HELD]

    asyncio.run(whole())


def test_what_much_else_waits_behind_is_written_at_once(tmp_path: Path) -> None:
    async def whole() -> None:
        house = House(tmp_path, debounce="1h", debounce_max="1h")
        for n in range(12):
            house.message(f"{n}", n)
        await house.commit()
        assert len(house.unacknowledged) < 10

    asyncio.run(whole())


def test_what_gates_remember_is_never_on_disk_without_what_is_held(tmp_path: Path) -> None:
    """Else a message that comes again after a crash would be no change, and its event lost."""

    async def whole() -> None:
        house = House(tmp_path, on_change="payload.n", debounce="1h", debounce_max="1h")
        house.message("a", 1)
        await house.commit()
        assert house.store.memories()
        assert len(house.store.held()) == 1

    asyncio.run(whole())


def test_a_house_that_holds_too_much_lets_it_go_early(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.outbox.gatekeeper.HELD_LETTERS", 3)

    async def whole() -> None:
        house = House(tmp_path, debounce="1h", debounce_max="1h")
        for n in range(5):
            house.message(f"{n}", n)
        house.wait(0.0)
        house.deliver()
        assert len(house.numbers()) == 5

    asyncio.run(whole())


def test_what_no_gate_holds_any_more_goes_at_the_next_start(tmp_path: Path) -> None:
    async def whole() -> None:
        house = House(tmp_path, debounce="1h", debounce_max="1h")
        house.message("a", 1)
        house.wait(HOLD_S)
        await house.commit()
        house.keys = {}
        house.kill()
        house.wait(0.0)
        house.deliver()
        assert house.numbers() == [1]

    asyncio.run(whole())


def test_a_batch_is_recognised_by_each_of_its_messages_when_their_acknowledgement_was_lost(tmp_path: Path) -> None:
    async def whole() -> None:
        house = House(tmp_path, batch={"size": 2, "wait": "1h"})
        house.message("a", 1)
        house.message("a", 2)
        again = dict(house.unacknowledged)
        await house.commit()
        assert not house.unacknowledged
        house.unacknowledged = again  # the broker never heard of it
        house.kill()
        assert not house.unacknowledged
        house.deliver()
        assert house.numbers() == [1, 2]

    asyncio.run(whole())


def test_an_older_file_is_brought_up_to_date_with_what_waits_in_it(tmp_path: Path) -> None:
    """As the first version left it: three values of an event, no priority, no count."""
    path = tmp_path / "outbox.db"
    event = Event(method="POST", url="http://crm/", headers=(("A", "b"),), body=b"x")
    letter = Letter(seq=1, id="evt_1", lane=Lane.WEBHOOK, mapping="m", destination="d", key="k", content=event, created_at=1.0)
    with closing(sqlite3.connect(path)) as db:
        migrations.apply(Database(db, execute_plugins=False), stop_before="gates_and_priorities")
        db.execute(
            "INSERT INTO letter (seq, id, lane, mapping, destination, key, state, created_at, attempts, envelope, body) VALUES"
            """ (1, 'evt_1', 'webhook', 'm', 'd', 'k', 'waiting', 1.0, 0, '{"event": ["POST", "http://crm/", [["A", "b"]]]}', x'78')"""
        )
        db.execute("""INSERT INTO note VALUES ('disabled d', '{"url": "http://crm/", "reason": "status 410"}')""")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("PRAGMA user_version = 1")
        db.commit()
    again = Store.open(path, max_size=64 << 20)
    assert again.select(Selection()) == [letter]
    assert again.waiting_counts()[Lane.WEBHOOK, "d", "m"].messages == 1
    assert json.loads(again.note("destination d") or "")["disabled"] == "status 410"
    again.write(Changes(letters={1: replace(letter, attempts=1)}))
    again.close()



# --- another config while something is held ---


@pytest.mark.parametrize("gate", [{"debounce": "20s"}, {"batch": {"size": 10, "wait": "20s"}}], ids=["debounce", "batch"])
def test_what_a_new_config_holds_no_more_goes_before_anything_newer_and_by_itself(tmp_path: Path, gate: dict[str, Any]) -> None:
    async def life() -> None:
        house = House(tmp_path, **gate)
        house.message("a", 1)
        if "batch" in gate:
            house.message("a", 2)
        house.adopt()
        house.message("a", 3)
        house.deliver()
        assert house.numbers() == ([1, 2] if "debounce" in gate else [1, 2, 3])
        assert len(house.delivered) == len(house.numbers()), "an array is not what the mapping makes now"
        await lived(house, [])

    asyncio.run(life())


def test_what_a_mapping_held_goes_when_there_is_no_such_mapping_any_more(tmp_path: Path) -> None:
    async def life() -> None:
        house = House(tmp_path, debounce="20s")
        house.message("a", 1)
        house.gatekeeper.adopt(Routes([], own=STATUS))
        house.deliver()
        assert house.numbers() == [1]
        await lived(house, [])

    asyncio.run(life())


def test_what_a_new_config_holds_as_well_goes_when_it_was_to_go(tmp_path: Path) -> None:
    async def life() -> None:
        house = House(tmp_path, debounce="20s")
        house.message("a", 1)
        house.adopt(debounce="60s")
        house.wait(19)
        house.deliver()
        assert house.numbers() == []
        house.wait(1)
        house.deliver()
        assert house.numbers() == [1]
        await lived(house, [])

    asyncio.run(life())


def test_however_often_the_config_is_read_anew_a_silent_key_is_asked_after_once(tmp_path: Path) -> None:
    async def life() -> None:
        house = House(tmp_path, silence="100s")
        house.message("a", 1)
        for seconds in range(1, 6):
            house.adopt(silence=f"{100 - seconds}s")
        house.wait(90)
        house.message("a", 2)
        house.wait(15)
        assert len(house.gatekeeper._timers) == 1, "those of the configs before have ended"
        assert await house.silence(0) == []
        assert await house.silence(80) == [2]
        await lived(house, [])

    asyncio.run(life())


def test_of_what_no_broker_keeps_no_more_is_held_in_memory_than_fits_and_the_rest_is_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def life() -> None:
        house = House(tmp_path)

        def comes(size: int) -> float:
            house.intake.take(Message(topic="door/a", payload=b"x" * size, qos=0, received_at=house.time_s + 1e9), no_receipt(), None)
            return house.outbox.accounts.ledger.counts()[NAME].get("dropped", 0)

        assert comes(MAX_BYTES + 1) == 0, "one alone is taken whatever its size"
        assert [comes(1), comes(1)] == [1, 2]
        assert "lost=2 reason='more came at once than fits in memory, and the message came at QoS 0'" in caplog.text
        house.deliver()
        assert [comes(MAX_BYTES // 2), comes(MAX_BYTES // 2), comes(1)] == [2, 2, 3]
        await house.commit()
        assert comes(1) == 3, "what is on disk is not in memory only"
        house.deliver()
        await lived(house, [])

    asyncio.run(life())


@pytest.mark.parametrize(
    ("answers_s", "asked", "reported", "source"),
    [
        ([0.01], 1, True, "it was there all along"),
        ([2.5, 0.01], 2, True, "it was stopped: what it had for us has come with the second answer"),
        ([2.5, 2.5], 2, False, "it is stopped again and again"),
        ([None], 1, False, "it is stopped"),
        ([2.5, None], 2, False, "it is gone now"),
    ],
)
def test_silence_is_reported_once_the_broker_has_answered(tmp_path: Path, answers_s: list[float | None], asked: int, reported: bool, source: str) -> None:
    async def life() -> None:
        house = House(tmp_path, silence="100s")
        for number, key in enumerate("abc", 1):
            house.message(key, number)
        house.answers_s = answers_s
        assert await house.silence(100) == ([1, 2, 3] if reported else []), source
        assert house.asked == asked, "one question for all"
        if not reported:
            assert await house.silence(99) == []
            assert await house.silence(1) == [1, 2, 3], "it began anew"
        await lived(house, [])

    asyncio.run(life())


def test_who_is_heard_while_the_broker_is_asked_is_not_silent(tmp_path: Path) -> None:
    async def life() -> None:
        house = House(tmp_path, silence="100s")
        house.message("a", 1)
        house.message("b", 2)

        async def answers() -> bool:
            if house.time_s < 1_150:
                house.message("a", 3)
            return True

        house.gatekeeper._is_there = answers
        assert await house.silence(100) == [2]
        assert await house.silence(100) == [2, 3]
        await lived(house, [])

    asyncio.run(life())
