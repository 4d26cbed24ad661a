"""What devices say of themselves: whether they are there, and whether they did what they were told."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Command, Lane, Letter, Message
from bridge.outbox.devices import MAX_BYTES, MAX_WORDS, Devices
from bridge.rules.devices import Available, Confirm, Expectation, filter_of, is_away
from bridge.rules.expressions import TopicText
from bridge.rules.inbound import Hook, Inbound

AT = 1_764_000_000.0


def message(payload: bytes, topic: str = "zigbee2mqtt/hall", **more: Any) -> Message:
    return Message(topic=topic, payload=payload, received_at=AT, **more)


def available(**keys: Any) -> Available:
    return Available.model_validate({"topic": "a", **keys})


def expectation(when: str | None = None, *, of: str = "hall", id: str = "cmd_1", **names: Any) -> Expectation:
    rule = Confirm.model_validate({"topic": "zigbee2mqtt/hall"} | ({} if when is None else {"when": when}))
    return Expectation(hook=of, id=id, topic="zigbee2mqtt/hall", rule=rule, names={"id": id, **names})


# Whether a device is there

WORDS = [  # payload, whether it is away, source
    (b'{"state":"online"}', False, "Zigbee2MQTT 2: zigbee2mqtt/bulb/availability"),
    (b'{"state":"offline"}', True, "Zigbee2MQTT 2: zigbee2mqtt/remote/availability"),
    (b"online", False, "Zigbee2MQTT 1, ESPHome, Frigate, Home Assistant"),
    (b"offline", True, "the same: their last will"),
    (b"Online", False, "Tasmota: tele/x/LWT"),
    (b"Offline", True, "Tasmota: tele/x/LWT"),
    (b"true", False, "Shelly: shellies/shelly1/online"),
    (b"false", True, "Shelly: its will"),
    (b"stopped", True, "Frigate: frigate/available after a clean stop"),
    (b"ready", False, "Valetudo (Homie 4 $state)"),
    (b"sleeping", False, "Homie 4 $state: it will wake up"),
    (b"lost", True, "Homie 4 $state: its will"),
    (b"disconnected", True, "Homie 4 $state"),
    (b'{"time":1764000000000,"value":true,"status":"Alive","nodeId":7}', False, "Z-Wave JS UI: zwave/hall/status"),
    (b'{"time":1764000000000,"value":false,"status":"Dead","nodeId":7}', True, "the same"),
    (b'{"_type":"lwt","tst":1706856298}', True, "OwnTracks: its will, at the topic of its locations"),
    (b'{"_type":"location","lat":1,"lon":2}', False, "OwnTracks: a location"),
    (b"1", False, "home-made devices"),
    (b"0", True, "home-made devices"),
    (b" OFFLINE\n", True, "home-made devices"),
    (b'{"online":false}', True, "home-made devices"),
    (b'{"battery":5}', False, "it says nothing about being away"),
    (b"[]", False, "it says nothing that is known"),
    (b"\xff\xd8", False, "it says nothing that can be read"),
    (b"", False, "the topic was cleared: nothing is known"),
]


@pytest.mark.parametrize(("payload", "away", "source"), WORDS, ids=lambda value: repr(value)[:40])
def test_a_device_is_away_in_any_of_the_spellings_that_real_ones_use(payload: bytes, away: bool, source: str) -> None:
    assert is_away(available(), message(payload), {}) is away, source


def test_a_device_that_has_said_nothing_is_not_away() -> None:
    assert not is_away(available(), None, {})
    assert not is_away(available(when="false"), None, {})


@pytest.mark.parametrize(
    ("when", "payload", "away"),
    [
        ("payload.battery > 10", b'{"battery":50}', False),
        ("payload.battery > 10", b'{"battery":5}', True),
        ("payload.battery > 10", b"offline", True),  # what can't be told counts as away
        ("value == 'awake'", b"awake", False),
        ("value == 'awake'", b"online", True),  # the plain spellings don't count beside it
        ("topic == 'zigbee2mqtt/' ~ room", b"x", False),
    ],
)
def test_a_condition_of_ones_own_decides(when: str, payload: bytes, away: bool) -> None:
    assert is_away(available(when=when), message(payload), {"room": "hall"}) is away


@given(st.binary(max_size=200))
def test_whatever_a_device_says_it_is_there_or_not(payload: bytes) -> None:
    assert is_away(available(), message(payload), {}) in (True, False)


# Whether it did what it was told

ANSWERS = [  # when, message, whether it is the word on the command, source
    ("payload.state == body.state", message(b'{"state":"ON","brightness":254}'), True, "Zigbee2MQTT: the state, after .../set"),
    ("payload.state == body.state", message(b'{"state":"OFF"}'), False, "the same, of another command"),
    ("payload.transaction == id", message(b'{"status":"ok","transaction":"cmd_1"}'), True, "Zigbee2MQTT: bridge/response/... echoes `transaction`"),
    ("payload.transaction == id", message(b'{"status":"ok","transaction":"cmd_2"}'), False, "the same, of another request"),
    ("payload.POWER == body.state", message(b'{"POWER":"ON"}'), True, "Tasmota: stat/x/RESULT"),
    ("payload.id == id", message(b'{"id":"cmd_1","src":"shellyplus1","dst":"mqtthook","result":{"was_on":false}}'), True, "Shelly Gen2: RPC response"),
    ("payload.id == id", message(b'{"id":"cmd_9","result":{}}'), False, "the same, of another request"),
    ("payload.state == body.state", message(b'{"state":"ON"}', retained=True), False, "what the broker kept is from before"),
    ("payload.state == body.state", message(b"ON"), False, "a condition that can't be told"),
    (None, message(b"anything"), True, "without a condition: whatever comes"),
    (None, message(b"anything", correlation=b"cmd_1"), True, "MQTT 5.0 section 4.10: the same correlation data"),
    (None, message(b"anything", correlation=b"cmd_2"), False, "the same: an answer to somebody else"),
    ("payload.state == 'ON'", message(b'{"state":"ON"}', correlation=b"cmd_2"), False, "the same, whatever it says"),
]


@pytest.mark.parametrize(("when", "heard", "met", "source"), ANSWERS, ids=lambda value: repr(value)[:40])
def test_a_devices_word_is_told_from_others(when: str | None, heard: Message, met: bool, source: str) -> None:
    assert expectation(when, body={"state": "ON"}).is_met_by(heard) is met, source


@pytest.mark.parametrize(
    ("topic", "levels"),
    [
        ("zigbee2mqtt/hall/availability", ("zigbee2mqtt", "hall", "availability")),
        ("zigbee2mqtt/{{ room }}/availability", ("zigbee2mqtt", "+", "availability")),
        ("stat/lamp-{{ n }}/RESULT", ("stat", "+", "RESULT")),
    ],
)
def test_a_templates_topic_is_listened_to_whatever_its_values(topic: str, levels: tuple[str, ...]) -> None:
    assert filter_of(TopicText.parse(topic)) == levels


# What is remembered of it


def hook(**keys: Any) -> Hook:
    rule = Inbound.model_validate({"verify": "none", "topic": "zigbee2mqtt/hall/set", **keys})
    return Hook(name="hall", rule=rule, pattern=rule.pattern("hall"), keys=())


def letter(of: str = "hall") -> Letter:
    return Letter(id="cmd_1", lane=Lane.MQTT, mapping=of, destination="mqtt", key="cmd_1", content=Command(topic="x", payload=b"", qos=1, retain=False), created_at=AT)


def test_only_what_a_hook_wants_to_hear_is_heard_and_the_last_word_counts() -> None:
    async def work() -> None:
        devices = Devices([hook(available={"topic": "zigbee2mqtt/hall/availability"})])
        devices.listening(on=True)
        assert devices.hear(message(b"online", "zigbee2mqtt/hall/availability"))
        assert devices.hear(message(b"offline", "zigbee2mqtt/hall/availability"))
        assert not devices.hear(message(b"online", "zigbee2mqtt/kitchen/availability"))
        last = await devices.last_word("zigbee2mqtt/hall/availability")
        assert last is not None
        assert last.payload == b"offline"
        assert await devices.last_word("zigbee2mqtt/kitchen/availability") is None

    asyncio.run(work())


def test_what_the_broker_keeps_is_waited_for_before_nothing_is_known_of_a_device() -> None:
    async def work() -> None:
        devices = Devices([hook(available={"topic": "a"})])
        devices.listening(on=False)
        asked = asyncio.ensure_future(devices.last_word("a"))
        await asyncio.sleep(0)
        assert not asked.done()
        devices.listening(on=True)
        devices.hear(message(b"offline", "a", retained=True))
        last = await asked
        assert last is not None
        assert last.payload == b"offline"

    asyncio.run(work())


def test_a_flood_of_topics_is_not_kept_for_ever() -> None:
    async def work() -> None:
        devices = Devices([hook(path="/hooks/{room}", available={"topic": "home/{{ room }}/status"})])
        devices.listening(on=True)
        for n in range(MAX_WORDS + 10):
            devices.hear(message(b"online", f"home/{n}/status"))
        assert await devices.last_word("home/9/status") is None
        assert await devices.last_word("home/10/status") is not None

    asyncio.run(work())


def test_a_word_that_comes_before_it_is_asked_for_counts_and_after_the_time_it_does_not() -> None:
    async def work() -> None:
        devices = Devices([hook(confirm={"topic": "zigbee2mqtt/hall", "timeout": "20ms"})])
        expected = Expectation(hook="hall", id="cmd_1", topic="zigbee2mqtt/hall", rule=Confirm.model_validate({"topic": "zigbee2mqtt/hall", "timeout": "20ms"}), names={})
        assert devices.expected_of(letter()) is None
        with devices.expecting(expected):
            assert devices.expected_of(letter()) is expected
            assert await devices.word_on(expected) is None
        with devices.expecting(expected):
            devices.hear(message(b"kitchen", "zigbee2mqtt/kitchen"))
            devices.hear(message(b"first"))  # a device may be faster than the broker's acknowledgement
            devices.hear(message(b"second"))
            word = await devices.word_on(expected)
            assert word is not None
            assert word.payload == b"first"
        assert await devices.word_on(expected) is None
        with devices.expecting(None):
            pass

    asyncio.run(work())


def test_one_id_is_waited_for_once_by_whoever_asked_first() -> None:
    async def work() -> None:
        devices = Devices([hook(confirm={"topic": "zigbee2mqtt/hall"})])
        with devices.expecting(expectation()):
            with devices.expecting(expectation()):
                pass
            assert devices.expected_of(letter()) is not None

    asyncio.run(work())


def test_two_hooks_that_meet_the_same_id_each_wait_for_their_own_device() -> None:
    async def work() -> None:
        devices = Devices([hook(confirm={"topic": "zigbee2mqtt/hall"})])
        with devices.expecting(expectation(of="hall")), devices.expecting(expectation("payload == 'cellar'", of="cellar")):
            cellar = devices.expected_of(letter("cellar"))
            assert cellar is not None
            assert cellar.hook == "cellar"
            devices.hear(message(b"cellar"))
            word = await devices.word_on(cellar)
            assert word is not None
            assert word.payload == b"cellar"

    asyncio.run(work())


def test_where_nobody_waits_any_more_the_device_is_not_waited_for() -> None:
    async def work() -> None:
        devices = Devices([hook(confirm={"topic": "zigbee2mqtt/hall"})])
        with devices.expecting(expectation()):
            coming = asyncio.ensure_future(devices.word_on(expectation()))
            await asyncio.sleep(0)
        async with asyncio.timeout(2):
            assert await coming is None

    asyncio.run(work())


def test_a_broker_that_goes_away_before_it_tells_what_it_keeps_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bridge.outbox.devices.HEAR_S", 0.02)

    async def work() -> None:
        devices = Devices([hook(available={"topic": "a"})])
        devices.listening(on=False)
        async with asyncio.timeout(2):
            assert await devices.last_word("a") is None

    asyncio.run(work())


def test_large_words_are_not_kept_for_ever_either() -> None:
    async def work() -> None:
        devices = Devices([hook(path="/hooks/{room}", available={"topic": "home/{{ room }}/status"})])
        devices.listening(on=True)
        for n in (0, 1, 1, 2, 3, 4):
            devices.hear(message(bytes(MAX_BYTES // 4), f"home/{n}/status"))
        assert [await devices.last_word(f"home/{n}/status") is not None for n in range(5)] == [False, True, True, True, True]

    asyncio.run(work())
