"""What is made of traffic: a summary that stays small, groups that belong together, and a config that always loads."""

import base64
import json
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config.load import load
from bridge.model import Event, Message
from bridge.rules.events import Place, fates_of, weighed
from bridge.rules.expressions import Expression
from bridge.rules.gates import NOTHING, Memory
from bridge.rules.learn.draft import config_text, document, heard, toml_string
from bridge.rules.learn.layouts import is_id
from bridge.rules.learn.learning import MAX_FIELDS, MAX_TOPIC, MAX_TOPIC_FIELDS, MAX_TOPICS, MAX_VALUES, Survey
from bridge.rules.learn.proposal import MAX_TABLES, Proposal, Proposals, proposals
from bridge.rules.learn.wishes import escaped, written
from bridge.rules.outbound import Outbound, Route
from bridge.rules.topics import Filter

OWN = "mqtthook/status"
BASE = "http://127.0.0.1:9000"

SAMPLES_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "device-samples.json"
SAMPLES = json.loads(SAMPLES_FILE.read_text()) if SAMPLES_FILE.exists() else []

Said = tuple[str, bytes | str | dict[str, Any]]


def message(topic: str, payload: bytes | str | dict[str, Any], *, retained: bool = False) -> Message:
    data = payload if isinstance(payload, bytes) else payload.encode() if isinstance(payload, str) else json.dumps(payload).encode()
    return Message(topic=topic, payload=data, qos=1, retained=retained, received_at=1_764_000_000.0)


def survey(said: Iterable[Said], *, retained: bool = False) -> Survey:
    found = Survey()
    for topic, payload in said:
        found.note(message(topic, payload, retained=retained))
    return found


def proposed(said: Iterable[Said]) -> dict[str, Proposal]:
    return {proposal.name: proposal for proposal in proposals(survey(said), own=OWN).found}


def only(*said: Said) -> Proposal:
    (found,) = proposed(said).values()
    return found


def draft(said: Iterable[Said], *, retained: bool = False, broker: tuple[str, ...] = ()) -> str:
    seen = survey(said, retained=retained)
    return config_text(proposals(seen, own=OWN), seen, broker=broker, base=BASE)


# Groups

MOTION = {"occupancy": True, "battery": 80, "linkquality": 90}
CLIMATE = {"temperature": 21.5, "humidity": 50, "battery": 80, "linkquality": 90}

GROUPS: list[tuple[str, list[Said], list[str]]] = [  # why, what came, the filters that are proposed
    ("Zigbee2MQTT: devices of one sort", [("zigbee2mqtt/hall", MOTION), ("zigbee2mqtt/stairs", MOTION)], ["zigbee2mqtt/{device}"]),
    ("one device only", [("zigbee2mqtt/hall", MOTION)], ["zigbee2mqtt/hall"]),
    ("devices of different sorts", [("zigbee2mqtt/hall", MOTION), ("zigbee2mqtt/bath", CLIMATE)], ["zigbee2mqtt/bath", "zigbee2mqtt/hall"]),
    ("the bridge is no device", [("zigbee2mqtt/bridge/state", {"state": "online"}), ("zigbee2mqtt/hall/state", {"state": "online"})], ["zigbee2mqtt/bridge/state", "zigbee2mqtt/hall/state"]),
    ("availability", [("zigbee2mqtt/a/availability", {"state": "online"}), ("zigbee2mqtt/b/availability", {"state": "offline"})], ["zigbee2mqtt/{device}/availability"]),
    ("Tasmota: a report of different sensors", [("tele/a/SENSOR", {"AM2301": {"Temperature": 20}}), ("tele/b/SENSOR", {"ENERGY": {"Power": 3}})], ["tele/a/SENSOR", "tele/b/SENSOR"]),
    ("Tasmota: plugs of two makes", [("tele/a/SENSOR", {"Time": "x", "ENERGY": {"Power": 3}}), ("tele/b/SENSOR", {"ENERGY": {"Power": 3, "Today": 1}})], ["tele/{device}/SENSOR"]),
    ("Tasmota: different reports of a device", [("tele/a/STATE", {"POWER": "ON"}), ("tele/a/SENSOR", {"POWER": "ON"})], ["tele/a/SENSOR", "tele/a/STATE"]),
    ("Tasmota: tele and stat are no devices", [("tele/a/RESULT", {"POWER": "ON"}), ("stat/a/RESULT", {"POWER": "ON"})], ["stat/a/RESULT", "tele/a/RESULT"]),
    ("Tasmota: a device may be called tasmota", [("stat/tasmota/POWER", "ON"), ("stat/plug/POWER", "OFF")], ["stat/{device}/POWER"]),
    (
        "Shelly Gen1: devices and their channels",
        [("shellies/a/relay/0", "on"), ("shellies/b/relay/0", "off"), ("shellies/a/relay/1", "on")],
        ["shellies/{device}/relay/{channel}"],
    ),
    ("Shelly Gen1: relay and light are no devices", [("shellies/a/relay/0", "on"), ("shellies/a/light/0", "off")], ["shellies/a/light/0", "shellies/a/relay/0"]),
    (
        "a device that is known from elsewhere",
        [("shellies/a/online", "true"), ("shellies/b/online", "true"), ("shellies/a/sensor/battery", "88")],
        ["shellies/{device}/online", "shellies/{device}/sensor/battery"],
    ),
    ("Shelly Gen1: what is measured has a name", [("shellies/a/sensor/temperature", "20"), ("shellies/a/sensor/battery", "90")], ["shellies/a/sensor/battery", "shellies/a/sensor/temperature"]),
    ("Shelly Gen2: the device comes first", [("shelly1-a/events/rpc", {"method": "NotifyEvent"}), ("shelly2-b/events/rpc", {"method": "NotifyEvent"})], ["{device}/events/rpc"]),
    ("rooms", [("home/kitchen/temperature", "20"), ("home/bath/temperature", "21")], ["home/{room}/temperature"]),
    ("places behind what is measured", [("temperature/kitchen", "20"), ("temperature/bath", "21")], ["temperature/{place}"]),
    ("ESPHome: two texts alone prove nothing", [("a/text_sensor/x/state", "cool"), ("b/text_sensor/x/state", "warm")], ["a/text_sensor/x/state", "b/text_sensor/x/state"]),
    ("ESPHome: three do", [(f"{name}/text_sensor/x/state", "cool") for name in "abc"], ["{device}/text_sensor/x/state"]),
    ("OpenMQTTGateway: by MAC, whatever they tell", [("home/gw/BTtoMQTT/45E174126E00", {"rssi": -89}), ("home/gw/BTtoMQTT/4C33A6603C79", {"tempc": 19})], ["home/gw/BTtoMQTT/{device}"]),
    ("OwnTracks: two levels vary", [(f"owntracks/{who}/{what}/event", {"event": "enter"}) for who in ("jane", "joe") for what in ("phone", "watch")], ["owntracks/{user}/{device}/event"]),
    ("two levels of words", [(f"{one}/x/{other}/humidity", "5") for one in ("p", "q") for other in ("r", "s")], ["{device}/x/{part}/humidity"]),
    ("evcc: many values beside each other", [(f"evcc/site/{name}Power", "12") for name in ("grid", "pv", "home", "a", "b", "c")], ["evcc/site/{field}"]),
    ("evcc: numbered things", [(f"evcc/loadpoints/{n}/charging", "true") for n in (1, 2)], ["evcc/loadpoints/{loadpoint}/charging"]),
    ("numbers at the end", [("counters/1", "5"), ("counters/2", "6")], ["counters/{counter}"]),
    ("a plural that means something else", [("values/1", "5"), ("values/2", "6")], ["values/{id}"]),
    ("lists", [("a/1/zones", "[]"), ("a/2/zones", "[1]")], ["a/{id}/zones"]),
    ("one level: nothing fixed would remain", [("lamp", "on"), ("fan", "off")], ["fan", "lamp"]),
    ("empty levels", [("/a//x", "1"), ("/b//x", "2"), ("/c//x", "3")], ["/{device}//x"]),
    ("deeper than any device", [("/".join(["a"] * 20 + [str(n)]), {"x": 1}) for n in (1, 2)], ["/".join(["a"] * 20 + ["1"]), "/".join(["a"] * 20 + ["2"])]),
]


@pytest.mark.parametrize(("said", "filters"), [row[1:] for row in GROUPS], ids=[row[0] for row in GROUPS])
def test_topics_that_are_one_thing_become_one_filter(said: list[Said], filters: list[str]) -> None:
    assert sorted(str(proposal.topic) for proposal in proposed(said).values()) == sorted(filters)


def test_tables_of_different_sorts_beside_each_other_have_one_filter_and_a_name_each() -> None:
    said: list[Said] = [("zigbee2mqtt/hall", MOTION), ("zigbee2mqtt/stairs", MOTION), ("zigbee2mqtt/bath", CLIMATE), ("zigbee2mqtt/bed", CLIMATE)]
    assert {name: proposal.topic for name, proposal in proposed(said).items()} == {
        "zigbee2mqtt-occupancy": "zigbee2mqtt/{device}",
        "zigbee2mqtt-temperature": "zigbee2mqtt/{device}",
    }


HOUSE: list[Said] = [
    ("zigbee2mqtt/door", {"battery": 97, "battery_low": False, "contact": True, "linkquality": 90, "tamper": False, "voltage": 3000}),
    ("zigbee2mqtt/window", {"battery": 90, "contact": True, "linkquality": 80, "voltage": 2900}),
    ("zigbee2mqtt/sink", {"battery": 97, "battery_low": False, "linkquality": 90, "tamper": False, "voltage": 3000, "water_leak": False}),
    ("zigbee2mqtt/washer", {"battery": 90, "battery_low": False, "linkquality": 90, "tamper": False, "voltage": 3000, "water_leak": False}),
    ("zigbee2mqtt/0x00158d0001a2b3c4", {"battery": 90, "linkquality": 90, "tamper": False, "voltage": 3000, "occupancy": False, "illuminance": 12}),
    ("zigbee2mqtt/0x00158d0001a2b3c5", {"battery": 90, "linkquality": 90, "tamper": False, "voltage": 3000, "occupancy": False}),
    *((f"tele/{name}/SENSOR", {"Time": "2026-11-24T10:00:00", sensor: told}) for name, sensor, told in (
        ("a", "ENERGY", {"Power": 3.5}), ("b", "ENERGY", {"Power": 3}), ("c", "AM2301", {"Temperature": 20.5}), ("d", "AM2301", {"Temperature": 20}),
        ("e", "DS18B20", {"Temperature": 20.5}), ("f", "DS18B20", {"Temperature": 20}),
    )),
    *(("tele/" + name + "/SENSOR", {"ZbReceived": {short: {"Device": short, "Temperature": 26.27}}}) for name, short in (("g", "0x2916"), ("h", "0x4AD6"))),
]  # fmt: skip


def test_the_telling_field_decides_whatever_else_devices_share() -> None:
    assert {name: (proposal.topic, len(proposal.group.topics)) for name, proposal in proposed(HOUSE).items()} == {
        "zigbee2mqtt-contact": ("zigbee2mqtt/{device}", 2),
        "zigbee2mqtt-water_leak": ("zigbee2mqtt/{device}", 2),
        "zigbee2mqtt-occupancy": ("zigbee2mqtt/{device}", 2),
        "tele-sensor-energy": ("tele/{device}/SENSOR", 2),
        "tele-sensor-am2301": ("tele/{device}/SENSOR", 2),
        "tele-sensor-ds18b20": ("tele/{device}/SENSOR", 2),
        "tele-sensor-zbreceived": ("tele/{device}/SENSOR", 2),
    }


def test_the_telling_field_is_shown_first_and_the_gates_before_all() -> None:
    lines = draft(HOUSE[:1]).splitlines()
    assert next(line for line in lines if "payload." in line and "number" not in line and "   an event" not in line).split() == ["#", "payload.contact", "true"]
    for gate in ("on_change", "cooldown", "debounce", "silence", "keep", "batch"):
        assert sum(line.startswith(f"#   {gate} = ") for line in lines) == 1


def test_topics_are_written_out_where_a_filter_without_a_condition_would_take_others() -> None:
    said: list[Said] = [("zigbee2mqtt/hall", MOTION), ("zigbee2mqtt/stairs", MOTION), ("zigbee2mqtt/x", {"foo": 1}), ("zigbee2mqtt/y", {"foo": 2})]
    found = proposed(said)
    assert found["zigbee2mqtt-device"].topic == ("zigbee2mqtt/x", "zigbee2mqtt/y")
    assert tomllib.loads(draft(said))["outbound"]["zigbee2mqtt-device"]["topic"] == ["zigbee2mqtt/x", "zigbee2mqtt/y"]


def test_a_serial_number_is_told_from_a_word() -> None:
    assert all(map(is_id, ["0", "582D3433AADF", "AABBCCDDEEFF", "0x2916", "shelly1minig3-54320464a1d0", "iBeacon:426c7565-4368"]))
    assert not any(map(is_id, ["kitchen", "facade", "ev1", "OpenMQTTGateway", "tasmota_XXXXXX", ""]))


ASIDE: list[tuple[str, bytes | str, str]] = [  # topic, payload, why
    ("zigbee2mqtt/bulb/set", "{}", "commands to devices"),
    ("zigbee2mqtt/bulb/set/color", "#64C80A", "commands to devices"),
    ("zigbee2mqtt/bulb/get", "{}", "commands to devices"),
    ("zigbee2mqtt/bridge/request/permit_join", "{}", "commands to devices"),
    ("cmnd/tasmota/POWER", "TOGGLE", "commands to devices"),
    ("shellies/shelly1/relay/0/command", "on", "commands to devices"),
    ("shellyplus1-ABC/rpc", "{}", "commands to devices"),
    ("home/gw/commands/MQTTto433", "{}", "commands to devices"),
    ("owntracks/jane/phone/cmd", "{}", "commands to devices"),
    ("wled/desk/api", "FX=73", "commands to devices"),
    ("homeassistant/device/a/config", "{}", "discovery"),
    ("homeassistant/binary_sensor/a/config", "{}", "discovery"),
    ("homeassistant/sensor/node/a/config", "{}", "discovery"),
    ("tasmota/discovery/AABB/config", "{}", "discovery"),
    ("zigbee2mqtt/bridge/logging", "{}", "what a gateway says of itself"),
    ("zigbee2mqtt/bridge/devices", "[]", "what a gateway says of itself"),
    ("zwave/_CLIENTS/x/version", "{}", "what a gateway says of itself"),
    ("$SYS/broker/uptime", "1 s", "what the broker says of itself"),
    (OWN, "online", "what this bridge says of itself"),
    ("frigate/door/person/snapshot", b"\xff\xd8\xff\xe0", "pictures and other bytes"),
    ("evcc/loadpoints/1/vehicleName", "", "nothing but empty payloads"),
    ("a/{b}/c", "1", "names that can't stand in a filter"),
    ("a/\x07", "1", "names that can't stand in a filter"),
    ("", "1", "names that can't stand in a filter"),
]


@pytest.mark.parametrize(("topic", "payload", "why"), ASIDE, ids=[row[0] for row in ASIDE])
def test_what_is_nobodys_event_is_listed_with_the_reason(topic: str, payload: bytes | str, why: str) -> None:
    seen = survey([(topic, payload)])
    found = proposals(seen, own=OWN)
    assert (found.found, found.aside) == ((), {why: (topic,)})
    text = config_text(found, seen, broker=(), base=BASE)
    assert f"#   {why}: {escaped(topic)}" in text
    assert tomllib.loads(text) == {"version": 1}
    assert document(found, seen, base=BASE)["not_proposed"] == [{"reason": why, "topics": [topic]}]


def test_an_empty_payload_among_others_says_nothing() -> None:
    assert only(("a/state", "on"), ("a/state", ""), ("a/state", "")).topic == "a/state"


# Wishes

SELDOM = {"cooldown": "1m"}

WISHES: list[tuple[str, list[Said], dict[str, str]]] = [  # what it is, what came, when it makes an event
    ("a motion sensor", [("z/m", MOTION)], {"when": "payload.occupancy", "on_change": "payload.occupancy"}),
    ("a leak before a temperature", [("z/l", {"temperature": 20, "water_leak": False})], {"when": "payload.water_leak", "on_change": "payload.water_leak"}),
    ("a door", [("z/d", {"contact": True, "battery": 3})], {"on_change": "payload.contact"}),
    ("a button", [("z/b", {"action": "single_left"}), ("z/b", {"action": ""})], {"when": "payload.action"}),
    ("a button of Tasmota", [("stat/t/RESULT", {"Button1": {"Action": "SINGLE"}})], {"when": "payload.Button1.Action"}),
    ("a lamp before its brightness", [("z/l", {"brightness": 3, "state": "ON"})], {"on_change": "payload.state"}),
    ("the state of an update is none", [("z/u", {"update": {"state": "idle"}, "linkquality": 3})], SELDOM),
    ("a thermometer", [("z/t", CLIMATE)], {"on_change": "payload.temperature|round"}),
    ("a thermometer that writes text", [("h/t", {"hum": "52.6", "tempc": "19.2"})], {"on_change": "payload.tempc|float|round"}),
    ("a meter of Tasmota", [("tele/t/SENSOR", {"ENERGY": {"Power": 3, "Total": 1.5}})], {"on_change": "payload.ENERGY.Power > 10"}),
    ("odd names", [("s/rpc/x", {"switch:0": {"apower": 3.5}})], {"on_change": 'payload["switch:0"].apower > 10'}),
    ("a name that can't stand in an expression", [("s/x", {'a"b': {"temperature": 3}})], SELDOM),
    ("a field that is in few messages", [("z/t", {"temperature": 20}), ("z/t", {"x": 1}), ("z/t", {"x": 2})], SELDOM),
    ("a state with too many values", [("z/s", {"state": f"at {n}"}) for n in range(20)], SELDOM),
    ("a battery alone", [("z/s", {"battery": 30})], SELDOM),
    ("a plain relay", [("shellies/a/relay/0", "on")], {"on_change": "payload"}),
    ("a plain number", [("a/b", "29.62")], {"on_change": "payload|round"}),
    ("a plain whole number", [("wled/desk/g", "128")], {"on_change": "payload"}),
    ("a plain number that is quoted", [("a/b", '"29.62"')], {"on_change": "payload|float|round"}),
    ("plain watts", [("evcc/site/grid/power", "-1234.5")], {"on_change": "payload > 10"}),
    ("numbers among texts", [("a/b", "29.62"), ("a/b", "off")], {"on_change": "payload", "cooldown": "1m"}),
    ("a plain button: each press counts", [("wled/desk/button/0", "on")], {}),
    ("a secret: it isn't to be remembered", [("a/password", "hunter2")], SELDOM),
    ("a list", [("a/b", "[1,2]")], SELDOM),
    ("a door, though there is a tamper", [("z/d", {"contact": shut, "tamper": False, "battery_low": False}) for shut in (True, False)], {"on_change": "payload.contact"}),
    ("a door that nobody opened meanwhile", [("z/d", {"tamper": False, "contact": True, "update": {"state": "idle"}})], {"on_change": "payload.contact"}),
    ("a tamper where there is nothing else", [("z/d", {"tamper": False, "linkquality": 3})], {"when": "payload.tamper", "on_change": "payload.tamper"}),
    ("of two that tell alike, the one that changed", [("z/d", {"smoke": False, "vibration": on}) for on in (True, False)], {"when": "payload.vibration", "on_change": "payload.vibration"}),
    ("a leak, though only its temperature changed", [("z/l", {"water_leak": False, "temperature": n}) for n in (20.1, 20.2)], {"when": "payload.water_leak", "on_change": "payload.water_leak"}),
    ("a plug by its power, which changed", [("z/p", {"state": "ON", "power": watts}) for watts in (0.4, 2100.5)], {"on_change": "payload.power > 10"}),
    ("a plug that was switched", [("z/p", {"state": state, "power": 3}) for state in ("ON", "OFF")], {"on_change": "payload.state"}),
    ("a pump that never sleeps", [("z/p", {"power": watts}) for watts in (60, 900)], {"on_change": "payload.power > 100"}),
    ("watts that only jitter", [("z/p", {"power": watts}) for watts in (170.1, 171.3)], {"on_change": "payload.power > 10"}),
    ("a new Shelly plug", [("shellyplusplugs-a8032a/status/switch:0", {"id": 0, "output": True, "apower": w, "aenergy": {"total": 3.1}}) for w in (1.5, 80)], {"on_change": "payload.apower > 10"}),
    ("air", [("z/a", {"co2": 612, "humidity": 40.5})], {"on_change": "payload.co2|round(-2)"}),
    ("light", [("z/a", {"illuminance": 612})], {"on_change": "payload.illuminance|round(-2)"}),
    ("a lamp that somebody dims", [("z/a", {"brightness": 61})], {"on_change": "payload.brightness"}),
    ("codes of a remote", [("tele/t/RESULT", {"RfReceived": {"Data": "0x7028D2", "Bits": 24}})], SELDOM),
    ("Tasmota's availability", [("tele/t/LWT", "Online")], {"when": "payload|lower == 'offline'"}),
    ("availability in every spelling", [(f"tele/{n}/LWT", word) for n, word in enumerate(["online", "Online", "ONLINE", "oNline", "Offline", "offline", "OFFLINE", "oFFline", "onLine"])], {"when": "payload|lower == 'offline'"}),
    ("Shelly's availability", [("shellies/s/online", "true")], {"when": "payload|lower == 'false'"}),
    ("true is no availability elsewhere", [("evcc/loadpoints/1/charging", "true")], {"on_change": "payload"}),
    ("Zigbee2MQTT's availability", [("z/d/availability", {"state": "online"})], {"when": "payload.state|lower == 'offline'"}),
    ("Frigate's availability", [("frigate/available", "online"), ("frigate/available", "stopped")], {"when": "payload|lower in ['offline', 'stopped']"}),
]


@pytest.mark.parametrize(("said", "keys"), [row[1:] for row in WISHES], ids=[row[0] for row in WISHES])
def test_an_event_is_made_when_people_want_one(said: list[Said], keys: dict[str, str]) -> None:
    assert only(*said).wish.keys == keys


HINTS: list[tuple[list[Said], bool, str]] = [  # what came, whether retained, the other way that is shown
    ([("z/t", CLIMATE)], False, '# when = "payload.battery < 20"   # or: low batteries'),
    ([("z/t", CLIMATE)], False, '# silence = "3h"                  # or, instead of `on_change`: tell when it falls silent'),
    (
        [(f"z/{n}", CLIMATE) for n in "ab"],
        False,
        '# silence = "3h"                  # or, instead of `on_change` and with `when = "payload.temperature is defined"`: tell when it falls silent',
    ),
    ([("a/temperature", "20.5")], False, '# silence = "3h"   # or, instead of `on_change`: tell when it falls silent'),
    ([("tele/t/SENSOR", {"Uptime": 5})], False, '# silence = "3h"   # or, instead of `cooldown`: tell when it falls silent'),
    ([("tele/t/LWT", "Online")], False, '# silence = "3h"          # or, if it repeats itself, instead of `when`: tell when it falls silent'),
    ([("tele/w/SENSOR", {"ENERGY": {"Power": 3}})], False, '# when = "payload.ENERGY.Power > 10"   # with it: only when it starts'),
    ([("z/p", {"state": "ON", "power": w}) for w in (1, 99)], False, '# on_change = "payload.state"   # or: when it is switched'),
    ([("z/p", {"state": s, "power": 9}) for s in ("ON", "OFF")], False, '# on_change = "payload.power > 10"   # or: running or not'),
    ([("s/sensor/battery", "55")], False, '# when = "payload < 20"   # or: low batteries'),
    ([("h/t", {"batt": "55"})], False, '# when = "payload.batt|float < 20"   # or: low batteries'),
    ([("z/b", {"action": "single_left"})], False, "# when = \"payload.action == 'single_left'\"   # or: only this one"),
    ([("s/events/rpc", {"method": "NotifyEvent", "params": {"events": [{"event": "btn_up"}]}})], False, "# when = \"payload.params.events[0].event == 'btn_up'\"   # or: only this one"),
    ([("tele/t/LWT", "Online")], True, '# retained = "changed"    # also what the broker replays at a start, if it is news'),
    ([("tele/t/LWT", "Online")], True, '# on_change = "payload"   # instead of `when`: also when it is back'),
    ([("a/b", "1")] * 20, False, '# cooldown = "1m"   # at most one a minute for each topic'),
]


@pytest.mark.parametrize(("said", "retained", "line"), HINTS, ids=[row[2] for row in HINTS])
def test_another_way_is_shown_as_a_comment(said: list[Said], retained: bool, line: str) -> None:
    assert line in draft(said, retained=retained).splitlines()


@pytest.mark.parametrize("said", [[("z/t", {"battery": 2.9})], [("z/t", {"battery_ok": 1})], [("z/b", {"action": "it's"})], [("a/b", "1")] * 19], ids=str)
def test_no_other_way_is_shown_where_it_makes_no_sense(said: list[Said]) -> None:
    assert [hint for hint in only(*said).wish.hints if hint.key != "silence"] == []


def events_of(proposal: Proposal, said: Iterable[Said]) -> int:
    """Return how many events the proposed mapping makes of messages."""
    rule = Outbound.model_validate({"topic": proposal.topic, "url": BASE, "sign": "none", **proposal.wish.keys})
    route = Route(mapping=proposal.name, rule=rule, destinations={proposal.name: rule})
    memories: dict[Place, Memory] = {}
    count = 0

    def recall(place: Place) -> Memory:
        return memories.get(place, NOTHING)

    for topic, payload in said:
        found = weighed(message(topic, payload), route, now=0.0, wall=0.0, recall=recall)
        memories |= found.learnt
        count += sum(isinstance(fate.content, Event) for fate in fates_of(found, new_id=lambda: "evt_x"))
    return count


def test_what_is_proposed_makes_the_events_that_it_promises() -> None:
    motion: list[Said] = [("z/m", {"occupancy": seen}) for seen in (False, True, True, False, False, True)]
    assert events_of(only(*motion), motion) == 2
    gone: list[Said] = [("tele/t/LWT", word) for word in ("Online", "Offline", "Online")]
    assert events_of(only(*gone), gone) == 1
    odd: list[Said] = [("s/x", {"switch:0": {"temperature": degrees}}) for degrees in (20, 20, 21)]
    assert events_of(only(*odd), odd) == 2


def test_a_plug_makes_one_event_when_it_starts_and_one_when_it_ends() -> None:
    washer: list[Said] = [("tele/washer/SENSOR", {"ENERGY": {"Power": watts}}) for watts in (2, 3, 2100, 80, 1900, 3, 2)]
    assert events_of(only(*washer), washer) == 3, "the first one ever, and each change"
    others: list[Said] = [("tele/washer/SENSOR", {"AM2301": {"Temperature": 20}})] * 3
    assert events_of(only(*washer), others) == 0


# Names

NAMES: list[tuple[list[Said], str]] = [
    ([("zigbee2mqtt/power_plug", {"state": "ON"})], "zigbee2mqtt-power_plug"),
    ([("tele/a/LWT", "Online"), ("tele/b/LWT", "Online")], "tele-lwt"),
    ([("Küche/Wärme", "1")], "kuche-warme"),
    ([("zwave/Living Room Lights/Multilevel Switch/endpoint_0/targetValue", "99")], "zwave-endpoint_0-targetvalue"),
    ([("_-x-_/y", "1")], "x-y"),
    ([("厨房", "1")], "mapping"),
    ([("x" * 100, "1")], "x" * 40),
]


@pytest.mark.parametrize(("said", "name"), NAMES, ids=[row[1] for row in NAMES])
def test_a_name_is_readable_and_one_that_the_config_takes(said: list[Said], name: str) -> None:
    assert only(*said).name == name


def test_no_two_mappings_have_one_name() -> None:
    assert set(proposed([("厨房", "1"), ("寝室", "on"), ("a-b", "1"), ("a/b", "on"), ("a.b", "{}")])) == {"mapping", "mapping-2", "a-b", "a-b-2", "a-b-3"}


@pytest.mark.parametrize("before", ["payloads", "topics", "values", "nows", "responses", "ins", "nots", "trues", "selfs", "loops"])
def test_no_capture_has_the_name_of_something_else(before: str) -> None:
    found = only((f"{before}/1", {"x": 1}), (f"{before}/2", {"x": 1}))
    assert Filter.parse(str(found.topic)).captures in (("id",), ("device",))


# What is shown


SHOWN: list[tuple[list[Said], str]] = [  # what came, the line about the field
    ([("a", {"b": 55}), ("a", {"b": 100})], "payload.b   number   55 to 100"),
    ([("a", {"b": 5.34})], "payload.b   number   5.34"),
    ([("a", {"b": True}), ("a", {"b": False})], "payload.b   true or false"),
    ([("a", {"b": True})], "payload.b   true"),
    ([("a", {"b": "x"}), ("a", {"b": "y"})], 'payload.b   text   "x", "y"'),
    ([("a", {"b": f"v{n}"}) for n in range(7)], 'payload.b   text   "v0", "v1", "v2", "v3", "v4", and 2 more'),
    ([("a", {"b": f"v{n}"}) for n in range(20)], 'payload.b   text   "v0", "v1", "v2", "v3", "v4", and others of up to 3 characters'),
    ([("a", {"b": "x" * 500})], "payload.b   text   up to 500 characters"),
    ([("a", {"b": "2026-11-24T10:00:00"}), ("a", {"b": "2026-11-24T10:00:09"})], 'payload.b   text   a time such as "2026-11-24T10:00:00"'),
    ([("a", {"b": "19.2"}), ("a", {"b": "20"})], "payload.b   number as text   19.2 to 20"),
    ([("a", {"b": "021528603314"})], "payload.b   number as text   21528603314"),
    ([("a", {"b": None})], "payload.b   null"),
    ([("a", {"b": None}), ("a", {"b": 3})], "payload.b   null or number   3"),
    ([("a", {"b": True}), ("a", {"b": 3})], "payload.b   number or true or false   3"),
    ([("a", {"b": []})], "payload.b   list   empty"),
    ([("a", {"b": [1, 2]})], "payload.b   list   up to 2 items"),
    ([("a", {"b": {}})], "payload.b   table"),
    ([("a", {"b": ""})], "payload.b   empty"),
    ([("a", {"b": 1, "c": 1}), ("a", {"c": 1})], "payload.b   number   1, in 1 of 2"),
    ([("a", {"b": 10**400})], "payload.b   number"),
    ([("a", {"switch:0": {"apower": 1}})], 'payload["switch:0"].apower   number   1'),
    ([("a", {"b": [{"c": 1}, {"d": 1}]})], "payload.b[0].c   number   1"),
    ([("a", "ON")], 'payload   text   "ON"'),
    ([("a", {"a\nb": "\x1b[31m\n[x]"})], 'payload["a\\nb"]   text   "\\x1b[31m\\n[x]"'),
]


@pytest.mark.parametrize(("said", "line"), SHOWN, ids=[row[1] for row in SHOWN])
def test_a_field_is_described_by_what_it_held(said: list[Said], line: str) -> None:
    lines = [" ".join(shown.removeprefix("#").split()) for shown in draft(said).splitlines()]
    assert " ".join(line.split()) in lines


def test_the_head_of_a_table_says_what_came() -> None:
    assert "# 1 message:\n" in draft([("a", "1")])
    assert "# 1 message, retained:\n" in draft([("a", "1")], retained=True)
    assert "# 2 messages, all retained:\n" in draft([("a", "1"), ("a", "2")], retained=True)
    seen = survey([("a", "1")])
    seen.note(message("a", "2", retained=True))
    assert "# 2 messages, 1 of them retained:\n" in config_text(proposals(seen, own=OWN), seen, broker=(), base=BASE)
    text = draft([(f"tele/dev{n}/LWT", "Online") for n in range(6)], broker=('url = "mqtt://x"',))
    assert "# 6 messages on 6 topics:\n#   tele/dev0/LWT\n#   tele/dev1/LWT\n#   tele/dev2/LWT\n#   tele/dev3/LWT\n#   and 2 more\n#\n" in text
    assert '\nversion = 1\n\n[mqtt]\nurl = "mqtt://x"\n\n' in text


def test_of_many_fields_those_that_tell_of_now_are_shown_first() -> None:
    text = draft([("frigate/events", {"before": {f"b{n}": n for n in range(20)}, "type": "new", "after": {"label": "person"}})])
    assert text.index("payload.after.label") < text.index("payload.before.b0")
    assert "#   and 6 fields more\n" in text


SECRETS = ["MqttPassword", "password", "pwd", "client_secret", "API_TOKEN", "apiKey", "wifi_psk", "Authorization", "action_code", "pin", "alarm-pin"]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_never_shown(name: str) -> None:
    for said in ([("a/b", {name: "hunter2"})], [("a/b", {"x": {name: {"inner": "hunter2"}}})], [("a/b", {"x": [{name: "hunter2"}]})], [(f"a/{name}", "hunter2")]):
        seen = survey(said)
        found = proposals(seen, own=OWN)
        text = config_text(found, seen, broker=(), base=BASE)
        assert "hunter2" not in text + json.dumps(document(found, seen, base=BASE))
        assert "not shown" in text
        assert "has the name of a secret" in text


def test_names_that_only_contain_a_pin_are_shown() -> None:
    assert '"open"' in draft([("a", {"opening": "open", "spin": "fast"})])


# Bounds


def test_the_summary_stays_small_whatever_a_broker_sends() -> None:
    seen = survey((f"t/{n}/x", {"a": n}) for n in range(MAX_TOPICS + 10))
    seen.note(message("x" * (MAX_TOPIC + 1), "1"))
    assert (len(seen.topics), seen.messages, seen.left_out) == (MAX_TOPICS, MAX_TOPICS + 11, 11)
    assert "# And 11 messages on topics that are too many, or too long.\n" in config_text(proposals(seen, own=OWN), seen, broker=(), base=BASE)
    assert heard(seen) == "5011 messages on 5000 topics"


def test_fields_are_bounded_for_a_topic_and_for_all_of_them() -> None:
    seen = survey((f"t/{n}", {f"f{m}": m for m in range(MAX_TOPIC_FIELDS + 10)}) for n in range(MAX_FIELDS // MAX_TOPIC_FIELDS + 3))
    seen.note(message("t/0", {"other": 1}))
    counts = [len(topic.fields) for topic in seen.topics.values()]
    assert max(counts) == MAX_TOPIC_FIELDS
    assert sum(counts) == MAX_FIELDS


def test_values_names_and_depth_are_bounded() -> None:
    deep: dict[str, Any] = {"a": {"a": {"a": {"a": {"a": {"a": {"a": {"a": 1}}}}}}}}
    seen = survey([("t", {"x": f"v{n}", "y" * 100: 1, "deep": deep}) for n in range(100)])
    fields = seen.topics["t"].fields
    assert len(fields[("x",)].values) == MAX_VALUES
    assert {len(path) for path in fields} == {1, 6}
    assert not any("y" in str(path) for path in fields)


def test_more_tables_than_anybody_reads_are_counted_and_the_best_kept() -> None:
    said: list[Said] = [(f"thing{n}/{'x' * (n % 7)}{n}", {"foo": 1}) for n in range(MAX_TABLES + 5)]
    seen = survey([*said, ("zigbee2mqtt/hall", MOTION)])
    found = proposals(seen, own=OWN)
    assert (len(found.found), found.too_many) == (MAX_TABLES, 6)
    assert "zigbee2mqtt-hall" in {proposal.name for proposal in found.found}
    assert "# And 6 groups of topics more: listen to a part of them" in config_text(found, seen, broker=(), base=BASE)
    plain: list[Said] = [(f"thing{n}/{'x' * (n % 7)}{n}", "on") for n in range(MAX_TABLES + 5)]
    assert "zigbee2mqtt-hall" in proposed([*plain, ("zigbee2mqtt/hall", MOTION)]), "a field with a name before plain values"


# Whatever comes, the config loads


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("learning") / "config.toml"
    path.touch(0o600)
    return path


def loads(path: Path, text: str, found: Proposals) -> None:
    """Check that the config is what the proposals say and nothing else, and that the real loader takes it."""
    tables = {proposal.name: {"topic": proposal.topic, **proposal.wish.keys, "url": f"{BASE}/{proposal.name}", "sign": "none"} for proposal in found.found}
    written_down = tomllib.loads(text)
    assert written_down == {"version": 1} | ({"outbound": {name: keys | {"topic": _plain(keys["topic"])} for name, keys in tables.items()}} if tables else {})
    path.write_text(text)
    assert load(path, {}).warnings == ()


def _plain(topic: Any) -> Any:
    return topic if isinstance(topic, str) else list(topic)


NASTY = st.sampled_from(['"', "'", '"""', "'''", "\\", "\n", "\r", "\x00", "\x1b", "\x7f", "\u2028", "\ufeff", "#", "[", "]", "{{", "}}", "{%", "%}", "{#", "é", "寝", "🚿", "a", "state", "on"])
TEXTS = st.one_of(st.text(max_size=12), st.lists(NASTY, max_size=5).map("".join))
WORDS = st.sampled_from(["zigbee2mqtt", "tele", "a", "b", "1", "2", "kitchen", "relay", "LWT", "SENSOR", "values", "state", "button", "topics"])
TOPICS = st.lists(st.one_of(WORDS, WORDS, TEXTS), min_size=1, max_size=4).map("/".join)
KEYS = st.one_of(st.sampled_from(["action", "occupancy", "state", "temperature", "battery", "type", "event", "POWER", "password", "update"]), TEXTS)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), TEXTS, st.sampled_from(["online", "offline", "ON", "19.2"]))
VALUES = st.recursive(LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(KEYS, inner, max_size=4)), max_leaves=8)
PAYLOADS = st.one_of(VALUES.map(json.dumps).map(str.encode), TEXTS.map(lambda text: text.encode("utf-8", "replace")), st.binary(max_size=20))
SAID = st.lists(st.tuples(TOPICS, PAYLOADS), max_size=12)


@given(SAID, st.booleans())
def test_the_config_loads_whatever_topics_and_payloads_hold(config: Path, said: list[Said], retained: bool) -> None:
    seen = survey(said, retained=retained)
    found = proposals(seen, own=OWN)
    loads(config, config_text(found, seen, broker=(), base=BASE), found)
    json.dumps(document(found, seen, base=BASE))


@given(SAID)
def test_each_proposed_filter_takes_the_topics_it_was_made_of_and_every_hint_is_valid(said: list[Said]) -> None:
    for proposal in proposals(survey(said), own=OWN).found:
        keys = {"topic": proposal.topic, "url": BASE, "sign": "none"}
        filters = Outbound.model_validate(keys).topic
        assert all(any(filter.takes(topic.levels) for filter in filters) for topic in proposal.group.topics)
        for hint in proposal.wish.hints:
            Outbound.model_validate(keys | {hint.key: hint.value})


@given(st.lists(st.one_of(KEYS, st.integers(0, 3)), max_size=4).map(tuple), st.integers())
def test_a_field_is_named_as_an_expression_finds_it(path: tuple[str | int, ...], value: int) -> None:
    payload: Any = value
    for step in reversed(path):
        payload = {step: payload} if isinstance(step, str) else [payload] * (step + 1)
    assert Expression.parse(written(path)).value({"payload": payload}) == value


@given(st.text())
def test_a_text_is_the_same_in_toml_and_harmless_in_a_comment(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()  # what comes over MQTT is UTF-8
    assert tomllib.loads(f"a = {toml_string(text)}  # {escaped(text)}\nb = 1") == {"a": text, "b": 1}
    assert escaped(text).isprintable()


def test_nothing_at_all_is_a_config_too(config: Path) -> None:
    loads(config, draft([]), proposals(Survey(), own=OWN))


@pytest.mark.skipif(not SAMPLES, reason="the samples are not part of the source")
def test_what_real_devices_say_becomes_a_config(config: Path) -> None:
    said: list[Said] = [(row["topic"], base64.b64decode(row["payload"]) if row["encoding"] == "base64" else row["payload"]) for row in SAMPLES]
    seen = survey(said)
    found = proposals(seen, own=OWN)
    text = config_text(found, seen, broker=(), base=BASE)
    loads(config, text, found)
    assert "YknLuSd2tBY2HodwI" not in text
    filters = {proposal.topic for proposal in found.found}
    assert {"zigbee2mqtt/{device}/availability", "shellies/{device}/online", "{device}/events/rpc", "stat/{device}/POWER"} <= filters
    proposed_for = {topic.text for proposal in found.found for topic in proposal.group.topics}
    assert not any(topic.endswith(("/set", "/config", "/command")) or topic.startswith("cmnd/") for topic in proposed_for)
