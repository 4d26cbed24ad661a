"""Gates: what holds an event back, told from what a user was promised, whatever comes in whatever order."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from bridge.model import Event, Result
from bridge.outbox.memory import Memories
from bridge.rules import gates
from bridge.rules.events import KEY, TOPIC, Weighed, fates_of, silence_of, weighed
from bridge.rules.gates import NOTHING, PATIENCE, Gates, Memory, heard, mark, release_at, settled, silent_at
from bridge.rules.outbound import Outbound
from tests.rig.mappings import AT, mapping, message, new_id, route

MINUTE, HALF_AN_HOUR = 60.0, 1800.0


class House:
    """A mapping's sensors in the course of time: what they say, a broker that goes away, and a bridge that starts anew.

    `now` is what the bridge takes for the time; `passed` is the time that really passed.
    """

    def __init__(self, rule: Outbound) -> None:
        self.route = route(rule)
        self.now, self.passed = AT, 0.0
        self.connected_at: float | None = AT
        self.disk: dict[tuple[str, str, str], str] = {}
        self.memories = Memories({}, now=AT)

    def says(self, payload: Any, *, room: str = "hall", retained: bool = False) -> Weighed:
        """Return what the mapping makes of a message; what isn't bytes is sent as JSON."""
        body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        came = message(body, topic=f"zigbee2mqtt/{room}/motion", retained=retained, at=self.now)
        return self._learnt(weighed(came, self.route, now=self.now, wall=self.now, recall=self.memories.of))

    def fires(self, payload: Any, *, room: str = "hall", retained: bool = False) -> bool:
        """Return True if a message makes an event."""
        return self.says(payload, room=room, retained=retained).result is None

    def waits(self, length_s: float) -> None:
        self.now += length_s
        self.passed += length_s

    def restarts(self, *, clock_s: float = 0.0) -> None:
        """End the bridge and start it again, the clock having been put forward by *clock_s*, or back."""
        for place, text in self.memories.take().items():
            if text is None:
                self.disk.pop(place, None)
            else:
                self.disk[place] = text
        self.now += clock_s
        self.memories = Memories(dict(self.disk), now=self.now)
        self.connected_at = None if self.connected_at is None else self.now

    def loses_the_broker(self) -> None:
        self.connected_at = None

    def finds_the_broker(self) -> None:
        self.connected_at = self.now if self.connected_at is None else self.connected_at

    def silences(self) -> list[Weighed]:
        """Return the reports of silence that are due."""
        due = []
        for place, memory in self.memories.of_mapping(self.route.mapping).items():
            at = silent_at(self.route.rule, memory, connected_at=self.connected_at)
            if place[1] == KEY and at is not None and at <= self.now:
                due.append(self._learnt(silence_of(self.route, place[2], memory, now=self.now, wall=self.now)))
        return due

    def _learnt(self, found: Weighed) -> Weighed:
        for place, memory in found.learnt.items():
            self.memories.learn(place, memory)
        return found


def data_of(found: Weighed) -> dict[str, Any]:
    """Return the `data` of the only event of a weighed message."""
    (fate,) = fates_of(found, new_id=new_id)
    assert isinstance(fate.content, Event), fate.reason
    data: dict[str, Any] = json.loads(fate.content.body)["data"]
    return data


# on_change

LONG = "x" * 200

CHANGES = [  # the expression, what comes one after the other, whether it fires, source
    ("payload.occupancy", [b'{"occupancy":true}', b'{"occupancy":true}', b'{"occupancy":false}', b'{"occupancy":true}'], [1, 0, 1, 1], "the product: the first value was unknown"),
    ("payload", [b"21", b"21.0", b"2.1e1", b"22", b"21"], [1, 0, 0, 1, 1], "a number is the same however it is written"),
    ("payload", [b"0", b"-0.0", b"0.0"], [1, 0, 0], "a number is the same however it is written"),
    ("payload", [b"1", b"true", b"1.0", b"true"], [1, 1, 1, 1], "true is no number"),
    ("payload", [b"0", b"false", b"null", b'""', b"[]", b"{}"], [1] * 6, "nothing has many forms"),
    ("payload", [b"21", b'"21"', b"null", b'"null"', b"true", b'"true"'], [1] * 6, "a text is no number, null or truth"),
    ("payload", [b"ON", b"ON", b"on", b"OFF"], [1, 0, 1, 1], "Tasmota"),
    ("payload", [b"", b"", b"x", b""], [1, 0, 1, 1], "evcc: an empty payload is a value"),
    ("payload", [b'{"a":1,"b":2}', b'{"b":2,"a":1}', b'{"a":1.0,"b":2}', b'{"a":1}', b'{"a":true}'], [1, 0, 0, 1, 1], "a table has no order"),
    ("payload", [b"[1,2]", b"[1.0,2]", b"[2,1]", b"[2,true]", b"[[2],1]"], [1, 0, 1, 1, 1], "a list has one"),
    ("payload", [b"[" * 100 + b"]" * 100] * 2, [1, 0], "as deep as a payload may be"),
    ("payload", [f'"{LONG}"'.encode(), f'"{LONG}"'.encode(), f'"{LONG}y"'.encode(), b'"x"'], [1, 0, 1, 1], "what is long is told apart as well"),
    ("payload", [b"1e300", b"1e300", b"1e301"], [1, 0, 1], "as large as a number may be"),
    ("payload", [b"\xff\x00", b"\xff\x00", b"\xff\x01", b"b'\\xff\\x01'"], [1, 0, 1, 1], "Valetudo's maps are bytes; a text that looks like them isn't"),
    ("payload", ['"\ud800"'.encode("utf-8", "surrogatepass")] * 2, [1, 0], "bytes that are nearly text"),
    ("payload|round", [b"21.4", b"21.3", b"21.6", b"22.4"], [1, 0, 1, 0], "only whole steps"),
    ("payload.action", [b'{"action":"on"}', b"{}", b'{"action":"on"}', b'{"action":"off"}'], [1, 0, 0, 1], "a heartbeat without the key changes nothing"),
    ("payload.action", [b"{}", b'{"action":"on"}'], [0, 1], "nor is it a first value"),
    ("payload.items", [b'{"items":1}', b"{}", b'{"items":1}'], [1, 0, 0], "a method is no value"),
    ("[payload.state, payload.level]", [b'{"state":1,"level":2}', b'{"state":1,"level":2}', b'{"state":1,"level":3}'], [1, 0, 1], "several fields"),
    ("payload.l|map('abs')", [b'{"l":[1]}', b'{"l":[1]}', b'{"l":[1]}'], [1, 0, 0], "what Jinja's filters make of a list, without |list"),
]


@pytest.mark.parametrize(("expression", "payloads", "fired", "source"), CHANGES, ids=lambda value: str(value)[:40])
def test_on_change_fires_where_the_value_differs_from_the_last_one(expression: str, payloads: list[bytes], fired: list[int], source: str) -> None:
    house = House(mapping(on_change=expression))
    assert [int(house.fires(payload)) for payload in payloads] == fired, source


def test_what_is_unchanged_is_filtered_and_says_what_it_still_is() -> None:
    house = House(mapping(on_change="payload.contact"))
    house.says({"contact": True})
    found = house.says({"contact": True})
    assert (found.result, found.reason) == (Result.FILTERED, "`on_change`: it is still true")


UNTELLABLE = [  # the expression, words of the reason
    ("payload.voltage", "payload.voltage is missing"),
    ("payload.temperature > 20", "payload.temperature is the text"),
    ("[payload.state, payload.voltage]", "missing"),
    ("{'state': payload.state, 'volts': payload.voltage}", "missing"),
    ("[payload.items]", "missing"),
    ("10 ** 5000", ""),
]


@pytest.mark.parametrize(("expression", "words"), UNTELLABLE)
def test_a_value_that_cant_be_evaluated_changes_nothing_and_has_a_reason(expression: str, words: str) -> None:
    """PRODUCT.md: a missing value is an error, never a silent false or true; also where it stands in a list of several."""
    house = House(mapping(on_change=expression))
    found = house.says({"state": "on", "temperature": "21.5"})
    assert found.result is Result.FILTERED
    assert str(found.reason).startswith("`on_change` counts as unchanged: ")
    assert words in str(found.reason)
    assert found.learnt == {}


def test_what_when_doesnt_want_is_noted_so_that_motion_fires_each_time_it_begins() -> None:
    house = House(mapping(when="payload.occupancy", on_change="payload.occupancy"))
    assert [house.fires({"occupancy": seen}) for seen in (True, True, False, False, True)] == [True, False, False, False, True]
    assert str(house.says({"occupancy": False}).reason).startswith("`when` is false"), "which is what a person wants to know first"


def test_a_value_is_noted_also_where_when_cant_be_told() -> None:
    house = House(mapping(when="payload.battery > 20 and payload.occupancy", on_change="payload.occupancy"))
    assert house.fires({"occupancy": True, "battery": 55})
    assert str(house.says({"occupancy": False}).reason).startswith("`when` counts as false")
    assert house.fires({"occupancy": True, "battery": 55})


def test_each_key_has_a_last_value_of_its_own() -> None:
    house = House(mapping(on_change="payload"))
    assert [house.fires(1, room=room) for room in ("hall", "attic", "hall", "attic")] == [True, True, False, False]
    house = House(mapping(on_change="payload.v", key="{{ payload.id }}"))
    assert [house.fires({"id": id, "v": 1}, room=room) for id, room in (("a", "hall"), ("a", "attic"), ("b", "hall"))] == [True, False, True]


def test_the_last_value_is_kept_over_restarts() -> None:
    house = House(mapping(on_change="payload"))
    assert house.fires({"long": LONG})
    house.restarts()
    assert not house.fires({"long": LONG})
    assert house.fires({"long": LONG + "y"})


def test_a_message_that_cant_be_read_is_a_dead_letter_and_teaches_nothing() -> None:
    house = House(mapping(on_change="payload.a", decode="json", cooldown="60s"))
    found = house.says(b"no json")
    assert (found.result, found.learnt) == (Result.DEAD, {})


ATOMS = st.sampled_from([None, True, False, 0, 1, 2, 0.0, -0.0, 1.0, 1.5, 10**20, 1e20, 1e300, "", "0", "1", "true", "null", "[]", "é", LONG])
JSONS: st.SearchStrategy[Any] = st.recursive(ATOMS | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2), max_leaves=5)


def alike(one: Any, other: Any) -> bool:
    """Return True if a person would call two JSON values the same."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    numbers = {int, float}
    return bool(one == other) and (type(one) is type(other) or {type(one), type(other)} <= numbers)


def as_floats(value: Any) -> Any:
    """Return a value with each whole number in it as a float, where one can hold it."""
    if isinstance(value, dict):
        return {key: as_floats(inner) for key, inner in reversed(value.items())}
    if isinstance(value, list):
        return [as_floats(inner) for inner in value]
    return float(value) if type(value) is int and abs(value) < 2**53 else value


@given(JSONS, JSONS)
def test_marks_are_equal_exactly_where_values_are(one: Any, other: Any) -> None:
    assert (mark(one) == mark(other)) is alike(one, other)
    assert mark(one) == mark(as_floats(one))
    assert len(mark(one)) <= len("sha256:") + 64, "what is remembered of a value is short"


# cooldown


def test_the_first_wins_and_what_comes_within_is_coalesced_up_to_exactly_its_end() -> None:
    house = House(mapping(cooldown="60s"))
    fired = []
    for wait_s in (0.0, 0.0, 59.5, 0.5, 59.75, 0.25):
        house.waits(wait_s)
        fired.append(house.fires(b"ON"))
    assert fired == [True, False, False, True, False, True]
    house.waits(15.0)
    found = house.says(b"ON")
    assert (found.result, found.reason) == (Result.COALESCED, "`cooldown`: the last event was less than 1m ago, 45s are left")
    assert found.learnt == {}, "one that is refused doesn't make it longer"


def test_what_another_gate_refuses_neither_begins_a_cooldown_nor_is_coalesced() -> None:
    house = House(mapping(cooldown="60s", when="payload.occupancy", on_change="payload.occupancy"))
    assert house.says({"occupancy": False}).result is Result.FILTERED
    assert house.fires({"occupancy": True}), "nothing had fired before"
    assert house.says({"occupancy": False}).result is Result.FILTERED, "not coalesced: it would not have been an event"


def test_each_key_cools_down_by_itself_also_over_a_restart() -> None:
    house = House(mapping(cooldown="60s"))
    assert house.fires(b"ON")
    assert house.fires(b"ON", room="attic")
    house.waits(30.0)
    house.restarts()
    assert not house.fires(b"ON")
    assert house.fires(b"ON", room="cellar")
    house.waits(30.0)
    assert house.fires(b"ON")


def test_a_clock_that_was_set_back_blocks_for_one_cooldown_at_most() -> None:
    house = House(mapping(cooldown="60s"))
    assert house.fires(b"ON")
    house.restarts(clock_s=-365 * 86_400.0)
    house.waits(59.0)
    assert not house.fires(b"ON")
    house.waits(1.0)
    assert house.fires(b"ON")


def test_a_clock_that_was_set_back_blocks_for_one_cooldown_at_most_however_often_the_bridge_starts_since() -> None:
    house = House(mapping(cooldown="60s"))
    assert house.fires(b"ON")
    house.restarts(clock_s=-365 * 86_400.0)
    house.waits(50.0)
    house.restarts()
    house.waits(50.0)
    assert house.fires(b"ON"), "100 s have passed"


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (NOTHING, NOTHING),
        (Memory(fired_at=AT + 1, heard_at=AT + 1, value="1", silent=True), Memory(fired_at=AT, heard_at=AT, value="1", silent=True)),
        (Memory(fired_at=AT, heard_at=AT), Memory(fired_at=AT, heard_at=AT)),
        (Memory(fired_at=AT - 1, heard_at=0.0), Memory(fired_at=AT - 1, heard_at=0.0)),
    ],
)
def test_what_lies_in_the_future_was_just_now(memory: Memory, expected: Memory) -> None:
    assert settled(memory, AT) == expected


# debounce


@pytest.mark.parametrize(
    ("keys", "first_s", "expected_s", "source"),
    [
        ({"debounce": "2s"}, 0.0, 2.0, "the first: once it is quiet"),
        ({"debounce": "2s"}, -1.0, 2.0, "the next one begins the quiet anew"),
        ({"debounce": "2s"}, -8.0, 2.0, "just not longer than five times `debounce`"),
        ({"debounce": "2s"}, -9.5, 0.5, "five times `debounce` at most"),
        ({"debounce": "2s", "debounce_max": "3s"}, 0.0, 2.0, "once it is quiet"),
        ({"debounce": "2s", "debounce_max": "3s"}, -2.5, 0.5, "at the latest after `debounce_max`"),
        ({"debounce": "2s", "debounce_max": "2s"}, -1.0, 1.0, "`debounce_max` may be as short as `debounce`"),
        ({"debounce": "2s", "debounce_max": "1h"}, -3000.0, 2.0, "and longer than five times it"),
    ],
)
def test_debounce_lets_go_once_it_is_quiet_and_never_later_than_promised(keys: dict[str, Any], first_s: float, expected_s: float, source: str) -> None:
    assert release_at(mapping(**keys), first_at=AT + first_s, now=AT) == AT + expected_s, source


@given(st.lists(st.integers(0, 40), min_size=1, max_size=40), st.integers(1, 5), st.none() | st.integers(5, 60))
def test_a_burst_is_let_go_when_it_was_quiet_or_has_been_held_for_the_longest(gaps: list[int], quiet_s: int, longest_s: int | None) -> None:
    rule = mapping(debounce=f"{quiet_s}s", **({} if longest_s is None else {"debounce_max": f"{longest_s}s"}))
    held: list[float] = []
    at = due_at = 0.0
    for gap in gaps:
        at += gap
        if held and at >= due_at:
            assert due_at - held[-1] == quiet_s or due_at - held[0] == (longest_s or PATIENCE * quiet_s)
            held = []
        held.append(at)
        due_at = release_at(rule, first_at=held[0], now=at)
        assert at <= due_at <= at + quiet_s
        assert due_at - held[0] <= (longest_s or PATIENCE * quiet_s)


def test_with_debounce_the_cooldown_is_asked_when_the_message_is_let_go() -> None:
    house = House(mapping(debounce="2s", cooldown="60s"))
    assert [house.fires(b"ON"), house.fires(b"OFF")] == [True, True], "the later one takes the place of the one before it"
    memory = house.memories.of(("hall-motion", KEY, "zigbee2mqtt/hall/motion"))
    memory, refusal = gates.cooled(house.route.rule, memory, AT)
    assert (memory.fired_at, refusal) == (AT, None)
    assert gates.cooled(house.route.rule, memory, AT + 59)[1] is not None


# silence


@pytest.mark.parametrize(
    ("memory", "connected_at", "at", "source"),
    [
        (Memory(heard_at=AT), AT - 9000, AT + HALF_AN_HOUR, "since it spoke"),
        (Memory(heard_at=AT), AT + 600, AT + 600 + HALF_AN_HOUR, "the broker was away in between: since it is back"),
        (Memory(heard_at=AT), None, None, "the broker is away: nobody could be heard"),
        (Memory(heard_at=AT, silent=True), AT, None, "it has been reported"),
        (NOTHING, AT, None, "it never spoke"),
        (Memory(value="1", fired_at=AT), AT, None, "it never spoke while the mapping listened for silence"),
    ],
)
def test_a_key_counts_as_silent_only_after_time_in_which_it_would_have_been_heard(memory: Memory, connected_at: float | None, at: float | None, source: str) -> None:
    assert silent_at(mapping(silence="30m"), memory, connected_at=connected_at) == at, source


def test_without_the_gate_nothing_is_ever_silent() -> None:
    assert silent_at(mapping(), Memory(heard_at=AT), connected_at=AT) is None


def test_silence_fires_once_and_again_only_after_the_key_spoke() -> None:
    house = House(mapping(silence="30m"))
    found = house.says({"temperature": 4})
    assert (found.result, str(found.reason)[:22]) == (Result.FILTERED, "it is a sign of life: ")
    house.waits(HALF_AN_HOUR - 0.5)
    assert house.silences() == []
    house.waits(0.5)
    (report,) = house.silences()
    assert data_of(report)["payload"] == {"temperature": 4}, "the product: with the last payload"
    assert data_of(report)["silent_for"] == 1800
    for _ in range(3):
        house.waits(HALF_AN_HOUR)
        assert house.silences() == []
    house.says({"temperature": 5})
    house.waits(HALF_AN_HOUR)
    (report,) = house.silences()
    assert data_of(report)["payload"] == {"temperature": 5}


def test_a_key_that_goes_on_speaking_is_never_silent() -> None:
    house = House(mapping(silence="30m"))
    for _ in range(10):
        house.says(b"1")
        house.waits(HALF_AN_HOUR - 1)
        assert house.silences() == []


def test_only_messages_that_when_wants_are_signs_of_life() -> None:
    house = House(mapping(silence="30m", when="payload.state == 'online'"))
    house.says({"state": "online"})
    house.waits(HALF_AN_HOUR - 1)
    assert str(house.says({"state": "offline"}).reason).startswith("`when` is false")
    assert str(house.says({}).reason).startswith("`when` counts as false")
    house.waits(1)
    (report,) = house.silences()
    assert data_of(report)["payload"] == {"state": "online"}
    house.says({"state": "offline"})
    house.waits(2 * HALF_AN_HOUR)
    assert house.silences() == [], "what isn't wanted doesn't begin it anew either"


def test_what_the_broker_replays_is_no_sign_of_life() -> None:
    house = House(mapping(silence="30m"))
    house.says(b"ON", retained=True)
    house.waits(HALF_AN_HOUR)
    assert house.silences() == []
    house.says(b"ON")
    house.waits(HALF_AN_HOUR - 1)
    house.says(b"ON", retained=True)
    house.waits(1)
    assert len(house.silences()) == 1


def test_a_report_waits_until_the_broker_has_been_back_for_as_long() -> None:
    house = House(mapping(silence="30m"))
    house.says(b"ON")
    house.loses_the_broker()
    house.waits(10 * HALF_AN_HOUR)
    assert house.silences() == []
    house.finds_the_broker()
    house.waits(HALF_AN_HOUR - 1)
    assert house.silences() == []
    house.waits(1)
    (report,) = house.silences()
    assert data_of(report)["silent_for"] == 11 * 1800, "since it spoke"


def test_silence_is_kept_over_restarts_before_and_after_it_is_reported() -> None:
    house = House(mapping(silence="30m"))
    house.says({"v": "last"})
    house.waits(60)
    house.restarts()
    house.waits(HALF_AN_HOUR)
    (report,) = house.silences()
    assert (data_of(report)["payload"], data_of(report)["silent_for"]) == ({"v": "last"}, 1860)
    house.restarts()
    house.waits(HALF_AN_HOUR)
    assert house.silences() == []


def test_after_a_clock_that_was_set_back_silence_is_told_as_long_as_it_must_have_been() -> None:
    house = House(mapping(silence="30m"))
    house.says(b"ON")
    house.restarts(clock_s=-86_400.0)
    house.waits(HALF_AN_HOUR)
    (report,) = house.silences()
    assert data_of(report)["silent_for"] == 1800


def test_each_key_is_silent_by_itself() -> None:
    house = House(mapping(silence="30m"))
    house.says(b"ON")
    house.waits(HALF_AN_HOUR / 2)
    house.says(b"ON", room="attic")
    house.waits(HALF_AN_HOUR / 2)
    (report,) = house.silences()
    assert (report.key, data_of(report)["captures"]) == ("zigbee2mqtt/hall/motion", {"room": "hall"})


def test_to_speak_ends_the_silence() -> None:
    spoke = message()
    assert heard(Memory(heard_at=1.0, silent=True, value="1", fired_at=2.0), spoke, AT) == Memory(heard_at=AT, last=spoke, value="1", fired_at=2.0)


# retained


@pytest.mark.parametrize("setting", ["ignore", "changed", "use"])
def test_a_live_message_always_passes_the_gate_of_replays(setting: str) -> None:
    house = House(mapping(retained=setting))
    assert [house.fires(b"ON") for _ in range(3)] == [True] * 3


@pytest.mark.parametrize(
    ("setting", "comes", "fired", "source"),
    [
        ("ignore", ["r:1", "r:2", "l:3", "r:4"], [0, 0, 1, 0], "the default"),
        ("use", ["r:1", "r:1", "l:1", "r:1"], [1, 1, 1, 1], "treats it like any other"),
        ("changed", ["r:1", "r:1", "r:2", "r:2", "r:1"], [1, 0, 1, 0, 1], "the first, and what differs from the last one handled"),
        ("changed", ["l:1", "r:1", "l:1", "r:2"], [1, 0, 1, 1], "a live one was handled, too"),
        ("changed", ["r:1", "l:2", "r:1"], [1, 1, 1], "the last one, not any before"),
        ("changed", ["r:", "r:", "r:x", "r:"], [1, 0, 1, 1], "an empty payload is one"),
        ("changed", ["r:1", "restart", "r:1", "r:2"], [1, 0, 1], "kept over restarts"),
    ],
)
def test_replays_pass_as_retained_says(setting: str, comes: list[str], fired: list[int], source: str) -> None:
    house = House(mapping(retained=setting))
    found = []
    for what in comes:
        kind, _, payload = what.partition(":")
        if kind == "restart":
            house.restarts()
        else:
            found.append(int(house.fires(payload.encode(), retained=kind == "r")))
    assert found == fired, source


def test_a_replay_is_marked_as_one_in_the_body_and_live_messages_are_not() -> None:
    house = House(mapping(retained="changed"))
    assert data_of(house.says(b"1"))["retained"] is False
    assert data_of(house.says(b"2", retained=True))["retained"] is True


def test_replays_are_told_apart_by_topic_whatever_the_key() -> None:
    house = House(mapping(retained="changed", key="all"))
    assert [house.fires(b"1", room=room, retained=True) for room in ("hall", "attic", "hall", "attic")] == [True, True, False, False]


def test_a_refused_replay_says_why_and_touches_no_other_gate() -> None:
    for setting, words in (("ignore", '`retained` is "ignore"'), ("changed", "the same as the last one")):
        house = House(mapping(retained=setting, on_change="payload", cooldown="60s"))
        house.says(b"1")
        house.waits(MINUTE)
        found = house.says(b"1", retained=True)
        assert (found.result, found.learnt) == (Result.FILTERED, {})
        assert words in str(found.reason)
    house = House(mapping(retained="ignore", on_change="payload"))
    house.says(b"1")
    house.says(b"2", retained=True)
    assert house.fires(b"2"), "it was not looked at before"


def test_a_message_that_ends_as_a_dead_letter_was_handled_too() -> None:
    house = House(mapping(retained="changed", decode="json"))
    assert house.says(b"no json", retained=True).result is Result.DEAD
    assert house.says(b"no json", retained=True).result is Result.FILTERED


# what is remembered


@pytest.mark.parametrize(
    ("keys", "kinds"),
    [
        ({}, set()),
        ({"retained": "use"}, set()),
        ({"retained": "changed"}, {TOPIC}),
        ({"on_change": "payload"}, {KEY}),
        ({"cooldown": "1s"}, {KEY}),
        ({"silence": "1s"}, {KEY}),
        ({"debounce": "1s"}, set()),
        ({"retained": "changed", "on_change": "payload"}, {KEY, TOPIC}),
    ],
)
def test_only_what_a_gate_needs_is_remembered(keys: dict[str, Any], kinds: set[str]) -> None:
    assert {place[1] for place in House(mapping(**keys)).says(b"1").learnt} == kinds


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"debounce_max": "2s"}, "expected `debounce` beside it"),
        ({"debounce": "2s", "debounce_max": "1s"}, "no longer than this"),
        ({"silence": "2s", "on_change": "payload"}, "on_change: a mapping with `silence`"),
        ({"silence": "2s", "debounce": "1s"}, "debounce: a mapping with `silence`"),
        ({"silence": "2s", "cooldown": "1s"}, "cooldown: a mapping with `silence`"),
        ({"retained": "changes"}, "Input should be"),
        ({"cooldown": "0s"}, "longer than nothing"),
    ],
)
def test_gates_that_dont_fit_together_are_refused(keys: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Gates.model_validate(keys)


# Whatever comes

ROOMS, VALUES = st.sampled_from(["hall", "attic"]), st.sampled_from([0, 1, 2])
SAYS = st.tuples(st.just("says"), ROOMS, VALUES, st.booleans())
WAITS = st.tuples(st.just("waits"), st.sampled_from([0, 1, 29, 30, 59, 60, 61]))
RESTARTS = st.tuples(st.just("restarts"))
BACK = st.tuples(st.just("restarts"), st.sampled_from([0, -1, -59, -60, -3600]))
ANYWHEN = st.tuples(st.just("restarts"), st.sampled_from([0, -3600, 3600]))
BROKER = st.sampled_from([("loses",), ("finds",)])

Step = tuple[Any, ...]


def steps(*kinds: st.SearchStrategy[Step]) -> st.SearchStrategy[list[Step]]:
    return st.lists(st.one_of(SAYS, WAITS, *kinds), max_size=40)


def walk(house: House, step: Step) -> Weighed | None:
    """Take a step; return what became of the message that it was, if it was one."""
    match step:
        case ("says", room, value, retained):
            return house.says(value, room=room, retained=retained)
        case ("waits", length_s):
            house.waits(length_s)
        case ("restarts", *clock_s):
            house.restarts(clock_s=sum(clock_s))
        case ("loses",):
            house.loses_the_broker()
        case ("finds",):
            house.finds_the_broker()
    return None


@given(steps(RESTARTS, BROKER))
def test_under_on_change_two_events_of_a_key_never_have_the_same_value_and_no_change_is_missed(taken: list[Step]) -> None:
    house = House(mapping(on_change="payload", retained="use"))
    last: dict[str, int] = {}
    for step in taken:
        if (found := walk(house, step)) is not None:
            _, room, value, _ = step
            assert (found.result is None) is (last.get(room) != value)
            last[room] = value


@given(steps(RESTARTS, BACK))
def test_under_cooldown_two_events_of_a_key_are_never_closer_and_none_is_blocked_for_longer(taken: list[Step]) -> None:
    house = House(mapping(cooldown="60s", retained="use"))
    fired: dict[str, float] = {}
    began = -MINUTE
    for step in taken:
        if step[0] == "restarts" and sum(step[1:]) < 0:
            began = house.passed
        if (found := walk(house, step)) is None:
            continue
        since_s = house.passed - fired.get(step[1], -MINUTE)
        if found.result is None:
            assert since_s >= MINUTE
            fired[step[1]] = house.passed
        else:
            assert since_s < MINUTE or house.passed - began < MINUTE


@given(steps(RESTARTS))
def test_a_replay_fires_exactly_where_it_differs_from_the_last_message_of_its_topic(taken: list[Step]) -> None:
    house = House(mapping(retained="changed"))
    last: dict[str, int] = {}
    for step in taken:
        if (found := walk(house, step)) is not None:
            _, room, value, retained = step
            assert (found.result is None) is (not retained or last.get(room) != value)
            last[room] = value


@given(steps(ANYWHEN, BROKER))
def test_silence_is_never_told_twice_nor_too_early_nor_missed(taken: list[Step]) -> None:
    house = House(mapping(silence="60s"))
    spoke: dict[str, float] = {}
    connected = 0.0
    for step in taken:
        was_away = house.connected_at is None
        if walk(house, step) is not None and not step[3]:
            spoke[step[1]] = house.passed
        if step[0] == "restarts" or (step[0] == "finds" and was_away):
            connected = house.passed
        due = {room for room, at in spoke.items() if house.connected_at is not None and house.passed >= max(at, connected) + MINUTE}
        told = house.silences()
        assert {data_of(report)["captures"]["room"] for report in told} == due
        assert all(data_of(report)["silent_for"] >= MINUTE for report in told)
        assert house.silences() == [], "each is told once"
        for room in due:
            del spoke[room]


@given(steps(RESTARTS, BACK, BROKER))
def test_gates_together_never_fire_twice_for_one_cause(taken: list[Step]) -> None:
    house = House(mapping(on_change="payload", when="payload != 2", cooldown="60s", retained="changed"))
    values: dict[str, int] = {}
    payloads: dict[str, int] = {}
    fired: dict[str, float] = {}
    for step in taken:
        if (found := walk(house, step)) is None:
            continue
        _, room, value, retained = step
        is_repeat = retained and payloads.get(room) == value
        if found.result is None:
            assert not is_repeat
            assert value != 2
            assert values.get(room) != value
            assert house.passed - fired.get(room, -MINUTE) >= MINUTE
            fired[room] = house.passed
        payloads[room] = value
        if not is_repeat and found.result is not Result.COALESCED:  # a change that cooldown let go is told when it is reported again
            values[room] = value


@given(st.lists(st.tuples(ROOMS, JSONS), max_size=20), st.sampled_from([(), ("on_change",), ("on_change", "cooldown"), ("cooldown",)]))
def test_each_message_has_an_end_or_an_event_and_a_reason_for_its_end(said: Sequence[tuple[str, Any]], names: tuple[str, ...]) -> None:
    house = House(mapping(**{name: {"on_change": "payload.a", "cooldown": "60s"}[name] for name in names}))
    for room, value in said:
        found = house.says(value, room=room)
        assert (found.result is None) is (found.reason is None)
        assert found.result in (None, Result.FILTERED, Result.COALESCED)
