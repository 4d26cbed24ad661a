"""Commands whose device has a say: whether it is there, and whether it did what it was told."""

import http.client
import json
import time
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from tests.rig.client import Answer, Device, device
from tests.rig.daemon import Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import until

TOKEN = "correct-horse-battery"

HOOK = f"""
[inbound.lamp]
verify = "bearer"
secret = "{TOKEN}"
path = "/hooks/lamp/{{room}}"
"""

ZIGBEE2MQTT = """topic = "zigbee2mqtt/{{ room }}/set"
json = { state = "{{ body.state }}" }
confirm = { topic = "zigbee2mqtt/{{ room }}", when = "payload.state == body.state" }
"""
TASMOTA = """topic = "cmnd/{{ room }}/POWER"
text = "{{ body.state }}"
confirm = { topic = "stat/{{ room }}/RESULT", when = "payload.POWER == body.state" }
"""
SHELLY = """topic = "shellyplus1-{{ room }}/rpc"
json = { id = "{{ id }}", src = "mqtthook", method = "Switch.Set", params = { id = 0, on = "{{ body.state == 'ON' }}" } }
confirm = { topic = "mqtthook/rpc", when = "payload.id == id" }
"""


def zigbee2mqtt(heard: paho.MQTTMessage) -> tuple[str, bytes, None] | None:
    told = json.loads(heard.payload)
    return heard.topic.removesuffix("/set"), json.dumps({"state": told["state"], "linkquality": 87}).encode(), None


def tasmota(heard: paho.MQTTMessage) -> tuple[str, bytes, None]:
    return heard.topic.replace("cmnd/", "stat/").replace("POWER", "RESULT"), b'{"POWER":"%s"}' % heard.payload, None


def shelly(heard: paho.MQTTMessage) -> tuple[str, bytes, None]:
    asked = json.loads(heard.payload)
    return f"{asked['src']}/rpc", json.dumps({"id": asked["id"], "src": "shellyplus1-hall", "dst": asked["src"], "result": {"was_on": False}}).encode(), None


def asks(bridge: Daemon, state: str = "ON", *, room: str = "hall", key: str | None = None) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"} | ({"Idempotency-Key": key} if key else {})
    status, text = bridge.post(f"/hooks/lamp/{room}", json.dumps({"state": state}).encode(), **headers)
    return status, json.loads(text)


# --- confirm ---


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
@pytest.mark.parametrize(("hook", "command", "answer"), [(ZIGBEE2MQTT, "zigbee2mqtt/+/set", zigbee2mqtt), (TASMOTA, "cmnd/#", tasmota), (SHELLY, "+/rpc", shelly)], ids=["zigbee2mqtt", "tasmota", "shelly"])
def test_the_answer_waits_for_the_devices_own_word(tmp_path: Path, broker: Mosquitto, hook: str, command: str, answer: Answer, protocol: str) -> None:
    def only_commands(heard: paho.MQTTMessage) -> Any:
        return None if heard.topic.startswith("mqtthook/") else answer(heard)

    with device(broker.port, command, answer=only_commands) as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mqtt=f'protocol = "{protocol}"', mappings=HOOK + hook) as bridge:
        status, document = asks(bridge, key="first")
        assert (status, document["id"], document["status"]) == (200, "first", "confirmed")
        assert document["reply"] in ({"state": "ON", "linkquality": 87}, {"POWER": "ON"}, {"id": "first", "src": "shellyplus1-hall", "dst": "mqtthook", "result": {"was_on": False}})
        bridge.kill()
        bridge.start()
        assert asks(bridge, key="first") == (status, document), "the first answer again, and nothing published"
        assert asks(bridge, "OFF", key="second")[1]["status"] == "confirmed"
        assert len([heard for heard in lamp.heard if not heard.topic.startswith("mqtthook/")]) == 2
        assert bridge.metrics()["mqtthook_messages_unmatched_total"] == 0
        assert ledger_adds_up(bridge.metrics(), "lamp")


def test_a_device_that_knows_mqtt_5_is_told_where_to_answer_and_only_its_answer_to_this_counts(tmp_path: Path, broker: Mosquitto) -> None:
    def answer(heard: paho.MQTTMessage) -> tuple[str, bytes, bytes]:
        asked: Any = heard.properties
        return asked.ResponseTopic, b"moved", asked.CorrelationData if heard.payload == b"up" else b"somebody's"

    hook = HOOK + 'topic = "home/{{ room }}/blinds"\ntext = "{{ body.state }}"\nconfirm = { topic = "answers/{{ room }}", timeout = "300ms" }\n'
    with device(broker.port, "home/#", answer=answer), Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge:
        assert asks(bridge, "up", key="a") == (200, {"id": "a", "status": "confirmed", "reply": "moved"})
        assert asks(bridge, "down", key="b")[0] == 504


def test_a_device_that_does_not_answer_is_told_and_a_repetition_moves_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    hook = HOOK + ZIGBEE2MQTT.replace('body.state" }', 'body.state", timeout = "300ms" }')
    with device(broker.port, "zigbee2mqtt/+/set") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge:
        status, document = asks(bridge, key="first")
        assert (status, document["detail"]) == (504, "published, but the device did not confirm it within 300ms")
        assert asks(bridge, key="first") == (status, document)
        assert len(lamp.heard) == 1
        assert "did not confirm it" in bridge.log
        assert ledger_adds_up(bridge.metrics(), "lamp")


def test_a_state_that_the_broker_kept_from_before_confirms_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    hook = HOOK + 'topic = "zigbee2mqtt/{{ room }}/set"\ntext = "x"\nconfirm = { topic = "zigbee2mqtt/{{ room }}", timeout = "300ms" }\n'
    with device(broker.port) as lamp:
        lamp.publish("zigbee2mqtt/hall", b'{"state":"ON"}', retain=True)
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge:
            assert asks(bridge)[0] == 504


def test_devices_that_never_answer_hold_up_no_other(tmp_path: Path, broker: Mosquitto) -> None:
    hook = HOOK + ZIGBEE2MQTT.replace('body.state" }', 'body.state", timeout = "30s" }')
    other = HOOK.replace("lamp", "bell") + 'topic = "bell/{{ room }}"\ntext = "ring"\n'
    with device(broker.port, "zigbee2mqtt/+/set"), Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook + other) as bridge:
        waiting = [http.client.HTTPConnection("127.0.0.1", bridge.hooks_port) for _ in range(24)]
        for one in waiting:
            one.request("POST", "/hooks/lamp/hall", b'{"state":"ON"}', {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"})
        until(lambda: bridge.metrics()['mqtthook_ledger_in_total{mapping="lamp"}'] == 24, "all of them to be under way")
        began = time.monotonic()
        assert bridge.post("/hooks/bell/hall", b"", Authorization=f"Bearer {TOKEN}")[0] == 200
        assert time.monotonic() - began < 15, "half of what the others wait for"
        for one in waiting:
            one.close()


def test_while_the_broker_is_away_nobody_waits_for_the_device(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOK + ZIGBEE2MQTT) as bridge:
        broker.stop()
        until(lambda: not bridge.is_ready(), "the bridge to notice")
        assert asks(bridge, key="first") == (202, {"id": "first", "status": "queued"})


def test_two_hooks_may_meet_the_same_id_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    def answer(heard: paho.MQTTMessage) -> tuple[str, bytes, None] | None:
        return ("bell", b"rung", None) if heard.topic == "bell/set" else None

    hooks = "".join(f"""
[inbound.{name}]
verify = "bearer"
secret = "{TOKEN}"
topic = "{name}/set"
confirm = {{ topic = "{name}", timeout = "10s" }}
""" for name in ("lamp", "bell"))  # fmt: skip
    with device(broker.port, "+/set", answer=answer) as house, Daemon(tmp_path / "bridge", broker=broker.url, mappings=hooks) as bridge:
        lamp = http.client.HTTPConnection("127.0.0.1", bridge.hooks_port, timeout=15)
        lamp.request("POST", "/hooks/lamp", b"", {"Authorization": f"Bearer {TOKEN}", "Idempotency-Key": "same"})
        until(lambda: house.payloads("lamp/set"), "the lamp to be waited for")
        status, text = bridge.post("/hooks/bell", b"", Authorization=f"Bearer {TOKEN}", Idempotency_Key="same")
        assert (status, json.loads(text)) == (200, {"id": "same", "status": "confirmed", "reply": "rung"})
        house.publish("lamp", b"on")
        response = lamp.getresponse()
        assert (response.status, json.loads(response.read())["reply"]) == (200, "on")
        lamp.close()


def test_a_command_that_waits_for_its_device_when_the_bridge_ends_is_not_taken_for_one_in_doubt(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "zigbee2mqtt/+/set") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOK + ZIGBEE2MQTT.replace('body.state" }', 'body.state", timeout = "30s" }')) as bridge:
        waiting = http.client.HTTPConnection("127.0.0.1", bridge.hooks_port)
        waiting.request("POST", "/hooks/lamp/hall", b'{"state":"ON"}', {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json", "Idempotency-Key": "first"})
        until(lambda: lamp.heard, "the command")
        until(lambda: bridge.metrics()['mqtthook_ledger_in_total{mapping="lamp"}'] == 1, "it to be under way")
        assert bridge.stop() == 0
        waiting.close()
        bridge.start()
        status, document = asks(bridge, key="first")
        assert (status, document["detail"]) == (504, "published, but nobody waited any more for the device to confirm it")
        assert bridge.json("queue", "list") == []
        assert len(lamp.heard) == 1
        assert ledger_adds_up(bridge.metrics(), "lamp")


# --- available ---


def test_a_command_for_a_device_that_is_offline_is_refused_until_it_is_back(tmp_path: Path, broker: Mosquitto) -> None:
    hook = HOOK + 'topic = "zigbee2mqtt/{{ room }}/set"\ntext = "ON"\navailable = { topic = "zigbee2mqtt/{{ room }}/availability" }\n'
    with device(broker.port, "zigbee2mqtt/+/set") as lamp:
        lamp.publish("zigbee2mqtt/hall/availability", b'{"state":"offline"}', retain=True)
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge:
            assert asks(bridge, room="kitchen", key="a")[0] == 200, "nothing is known of this one"
            status, document = asks(bridge, key="b")
            assert (status, document["detail"]) == (409, "the device says that it is offline")
            lamp.publish("zigbee2mqtt/hall/availability", b'{"state":"online"}', retain=True)
            until(lambda: asks(bridge, key="b")[0] == 200, "the same request to be taken: nothing was done for it before")
            until(lambda: len(lamp.heard) == 2, "both commands")
            assert [heard.topic for heard in lamp.heard] == ["zigbee2mqtt/kitchen/set", "zigbee2mqtt/hall/set"]
            lamp.publish("zigbee2mqtt/hall/availability", b'{"state":"offline"}', retain=True)
            until(lambda: asks(bridge)[0] == 409, "the device to be away again")
            told = len(lamp.heard)
            assert asks(bridge, key="b")[0] == 200, "a repetition gets the first answer"
            for end in (bridge.stop, bridge.kill):
                end()
                bridge.start()
                assert asks(bridge)[0] == 409, "the broker tells again what it keeps"
            assert len(lamp.heard) == told
            assert ledger_adds_up(bridge.metrics(), "lamp")


# --- several publishes, and what they may be ---


def commands(house: Device) -> list[tuple[str, bytes]]:
    return [(heard.topic, heard.payload) for heard in house.heard if not heard.topic.startswith("mqtthook/")]


def test_one_request_makes_several_publishes_in_their_order_also_after_a_wait(tmp_path: Path, broker: Mosquitto) -> None:
    hook = HOOK + """publish = [
  { topic = "zigbee2mqtt/{{ room }}/set", json = { state = "{{ body.state }}" } },
  { topic = "cmnd/tv/POWER", text = "{{ body.state }}", qos = 0 },
  { topic = "home/{{ room }}/raw" },
]
"""
    wanted = [("zigbee2mqtt/hall/set", b'{"state":"OFF"}'), ("cmnd/tv/POWER", b"OFF"), ("home/hall/raw", b'{"state": "OFF"}')]
    with device(broker.port, "#") as house, Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge:
        assert asks(bridge, "OFF", key="first") == (200, {"id": "first", "status": "published"})
        until(lambda: len(commands(house)) == 3, "all of them")
        assert commands(house) == wanted
        broker.stop()
        until(lambda: not bridge.is_ready(), "the bridge to notice")
        assert asks(bridge, "OFF", key="second")[0] == 202
        bridge.kill()
        broker.start()
        with device(broker.port, "#") as house_again:
            bridge.start()
            until(lambda: len(commands(house_again)) == 3, "all of them again")
            assert commands(house_again) == wanted
        assert ledger_adds_up(bridge.metrics(), "lamp")


def test_a_hook_publishes_nowhere_but_where_it_may(tmp_path: Path, broker: Mosquitto) -> None:
    hook = HOOK + 'topic = "home/{{ room }}/{{ query.what | default(\'set\') }}"\ntext = "x"\ntopics = ["home/+/set", "home/garden/pump"]\n'
    with device(broker.port, "home/#") as house, Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge:
        post = {"Authorization": f"Bearer {TOKEN}"}
        assert bridge.post("/hooks/lamp/hall", b"", **post)[0] == 200
        assert bridge.post("/hooks/lamp/garden?what=pump", b"", **post)[0] == 200
        status, text = bridge.post("/hooks/lamp/hall?what=lock", b"", **post)
        assert (status, json.loads(text)["detail"]) == (403, "this hook may not publish to that topic")
        until(lambda: len(house.heard) == 2, "what it may")
        assert [heard.topic for heard in house.heard] == ["home/hall/set", "home/garden/pump"]
        assert ledger_adds_up(bridge.metrics(), "lamp")
