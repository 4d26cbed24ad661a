"""What gates remember: nothing gets lost between a run and the next, and never more than fits."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Message, Result
from bridge.outbox.memory import KEYS, Memories, document_of, memory_of, written
from bridge.outbox.store import Changes, Place, Store
from bridge.rules.calendar import Calendar
from bridge.rules.events import KEY, TOPIC, weighed
from bridge.rules.gates import NOTHING, Memory
from tests.rig.mappings import AT, mapping, message, route

INSTANTS = st.floats(0, 4e9)
MESSAGES = st.builds(
    Message,
    topic=st.text(min_size=1),
    payload=st.binary(),
    qos=st.sampled_from([0, 1, 2]),
    retained=st.booleans(),
    properties=st.dictionaries(st.text(), st.text(), max_size=3),
    received_at=INSTANTS,
)
MEMORIES = st.builds(
    Memory,
    seen=st.none() | st.text(),
    value=st.none() | st.text(),
    fired_at=st.none() | INSTANTS,
    heard_at=st.none() | INSTANTS,
    last=st.none() | MESSAGES,
    silent=st.booleans(),
)
PLACES: st.SearchStrategy[Place] = st.tuples(st.sampled_from(["a", "b"]), st.sampled_from([KEY, TOPIC]), st.text(max_size=3))


def place(name: str, mapping: str = "hall") -> Place:
    return mapping, KEY, name


def full(memories: Memories) -> None:
    """Fill it to the last key that it holds."""
    for n in range(KEYS - len(memories)):
        memories.learn(place(f"beacon{n:06}"), Memory(value=str(n)))


# As JSON


@given(PLACES, MEMORIES)
def test_a_memory_is_the_same_after_it_was_written(where: Place, memory: Memory) -> None:
    assert Memories({where: written(memory)}, now=4e9).of(where) == memory
    assert memory_of(json.loads(json.dumps(document_of(where, memory)))) == (where, memory)


def test_what_isnt_known_takes_no_room() -> None:
    assert written(NOTHING) == "{}"
    assert json.loads(written(Memory(fired_at=0.0, value=""))) == {"fired_at": 0.0, "value": ""}, "0 and nothing are known"


def test_a_document_shows_the_place_and_what_is_known_of_it() -> None:
    last = Message(topic="a/b", payload=b"\xff", qos=1, properties={"unit": "C"}, received_at=AT)
    assert document_of(("hall", KEY, "a/b"), Memory(heard_at=AT, last=last, silent=True)) == {
        "mapping": "hall",
        "kind": "key",
        "name": "a/b",
        "state": {
            "heard_at": AT,
            "last": {"topic": "a/b", "payload": "/w==", "qos": 1, "retained": False, "properties": {"unit": "C"}, "received_at": AT},
            "silent": True,
        },
    }


GOOD = document_of(place("a"), Memory(value="1", heard_at=AT, last=message(b"x")))


@pytest.mark.parametrize(
    "change",
    [
        {"state": None},
        {"state": []},
        {"state": "last"},
        {"state": {"colour": "red"}},
        {"state": {"last": None}},
        {"state": {"last": {}}},
        {"state": {"last": {"payload": "x"}}},
        {"state": {"last": {"payload": 5, "topic": "a", "received_at": 1}}},
        {"state": {"fired_at": "yesterday"}},
        {"state": {"heard_at": [1]}},
        {"state": {"last": {"payload": "", "topic": 5, "received_at": AT}}},
    ],
    ids=str,
)
def test_what_shows_no_memory_is_refused(change: dict[str, Any]) -> None:
    """`mqtthook try --state` is given what a person wrote: it has to say so, and not to fail once a message meets it."""
    with pytest.raises((KeyError, TypeError, ValueError)):
        memory_of(GOOD | change)


@pytest.mark.parametrize("document", [{}, [], "x", None, {"mapping": "a", "kind": "key"}])
def test_what_is_no_document_is_refused(document: Any) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        memory_of(document)


# What is known


def test_what_was_learnt_is_known_until_it_is_forgotten() -> None:
    memories = Memories({}, now=AT)
    assert memories.of(place("a")) == NOTHING
    memories.learn(place("a"), Memory(value="1"))
    memories.learn(place("b", "attic"), Memory(value="2"))
    memories.learn(place("a"), Memory(value="3"))
    assert (memories.of(place("a")), len(memories)) == (Memory(value="3"), 2)
    assert memories.of_mapping("hall") == {place("a"): Memory(value="3")}
    assert memories.documents(Calendar()) == [document_of(place("b", "attic"), Memory(value="2")), document_of(place("a"), Memory(value="3"))]
    memories.forget(place("a"))
    memories.forget(place("never known"))
    assert (memories.of(place("a")), len(memories), memories.of_mapping("hall")) == (NOTHING, 1, {})


def test_what_lies_in_the_future_was_just_now_and_is_so_for_the_next_run_too() -> None:
    memories = Memories({place("a"): written(Memory(fired_at=AT + 3600)), place("b"): written(Memory(fired_at=AT - 1))}, now=AT)
    assert memories.of(place("a")) == Memory(fired_at=AT)
    assert memories.take() == {place("a"): written(Memory(fired_at=AT))}, "else each start would begin the cooldown anew"


# What is written


def test_only_what_changed_is_written_and_again_after_a_failure() -> None:
    memories = Memories({place("old"): written(Memory(value="0"))}, now=AT)
    assert (memories.changed, memories.take()) == (False, {})
    memories.learn(place("a"), Memory(value="1"))
    memories.forget(place("old"))
    memories.forget(place("never known"))
    assert memories.changed
    taken = memories.take()
    assert taken == {place("a"): '{"value": "1"}', place("old"): None}
    assert (memories.changed, memories.take()) == (False, {})
    memories.learn(place("b"), Memory(value="2"))
    memories.put_back(taken)
    memories.learn(place("a"), Memory(value="3"))
    assert memories.changed
    assert memories.take() == {place("a"): '{"value": "3"}', place("old"): None, place("b"): '{"value": "2"}'}, "as it is by now"


STEPS = st.lists(st.tuples(st.sampled_from(["learn", "forget", "write", "fail"]), PLACES, MEMORIES), max_size=30)


@given(STEPS)
def test_a_file_that_got_every_change_knows_all_of_it(steps: list[tuple[str, Place, Memory]]) -> None:
    memories, file, expected = Memories({}, now=4e9), dict[Place, str](), dict[Place, Memory]()
    for what, where, memory in [*steps, ("write", ("a", KEY, ""), NOTHING)]:
        match what:
            case "learn":
                memories.learn(where, memory)
                expected[where] = memory
            case "forget":
                memories.forget(where)
                expected.pop(where, None)
            case "fail":
                memories.put_back(memories.take())
            case _:
                taken = memories.take()
                file = {known: text for known, text in (file | {key: text or "" for key, text in taken.items()}).items() if text}
    assert {where: memory_of({"mapping": where[0], "kind": where[1], "name": where[2], "state": json.loads(text)})[1] for where, text in file.items()} == expected
    assert Memories(file, now=4e9).documents(Calendar()) == [document_of(where, expected[where]) for where in file]


# Never more than fits


def test_past_the_bound_the_key_that_spoke_longest_ago_is_forgotten() -> None:
    memories = Memories({}, now=AT)
    memories.learn(place("first"), Memory(value="1"))
    memories.learn(place("second"), Memory(value="2"))
    full(memories)
    memories.take()
    memories.learn(place("first"), Memory(value="3"))
    assert (len(memories), memories.take()) == (KEYS, {place("first"): '{"value": "3"}'}), "one that is known needs no room"
    memories.learn(place("new"), Memory(value="4"))
    assert len(memories) == KEYS
    assert memories.of(place("second")) == NOTHING
    assert memories.of(place("first")) == Memory(value="3"), "it spoke a moment ago"
    assert memories.take() == {place("second"): None, place("new"): '{"value": "4"}'}, "nor does the file keep it"


def test_a_key_that_says_the_same_over_and_over_spoke_last() -> None:
    """Else a door that stays closed would be forgotten for the beacons that pass by, and fire again while it stays closed."""
    memories, door = Memories({}, now=AT), route(mapping(on_change="payload"), name="hall")

    def says(payload: bytes) -> Result | None:
        found = weighed(message(payload), door, now=AT, wall=AT, recall=memories.of)
        for where, memory in found.learnt.items():
            memories.learn(where, memory)
        return found.result

    assert says(b"closed") is None
    for n in range(2 * KEYS):
        memories.learn(place(f"beacon{n}"), Memory(value="1"))
        if n % 1_000 == 0:
            assert says(b"closed") is Result.FILTERED
    assert says(b"closed") is Result.FILTERED


def test_after_a_restart_it_is_still_the_key_that_spoke_longest_ago(tmp_path: Path) -> None:
    memories = Memories({}, now=AT)
    for n in range(KEYS):
        memories.learn(place(f"beacon{KEYS - n:06}"), Memory(value=str(n)))
    store = Store.open(tmp_path / "outbox.db", max_size=64 << 20)
    try:
        store.write(Changes(memories=memories.take()))
        again = Memories(store.memories(), now=AT)
    finally:
        store.close()
    again.learn(place("new"), Memory(value="1"))
    assert again.of(place(f"beacon{KEYS:06}")) == NOTHING, "the first to speak"
    assert again.of(place("beacon000001")) != NOTHING, "the last to speak before the new one"


def test_to_forget_is_told_at_each_power_of_two(caplog: pytest.LogCaptureFixture) -> None:
    memories = Memories({}, now=AT)
    full(memories)
    assert not caplog.records
    for n in range(9):
        memories.learn(place(f"new{n}"), Memory(value="1"))
    told = [record.getMessage().partition("; ")[0] for record in caplog.records]
    assert told == [f"forgot a key mapping=hall key='beacon{n - 1:06}' keys={KEYS} forgotten={n}" for n in (1, 2, 4, 8)]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
