"""Replies and loops, as a user sees them: what a receiver answers is published, and nothing goes round."""

import json
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until
from tests.system.test_outbound import FAST, counted, mapping

BELL = '"shellies/{button}/input_event/0"'


def bell(url: str, *lines: str, name: str = "bell", topic: str = BELL) -> str:
    return mapping(url, *lines, FAST, name=name, topic=topic)


def answering(**document: object) -> Reply:
    return Reply(headers={"Content-Type": "application/json"}, body=json.dumps(document).encode())


REPLY = 'reply = { topic = "zigbee2mqtt/{{ button }}_lamp/set", json = { state = "{{ response.json.state | upper }}", status = "{{ response.status }}" }, when = "response.json.state is defined" }'


def test_what_the_receiver_answers_is_published(tmp_path: Path, broker: Mosquitto) -> None:
    answers = iter([answering(state="on"), answering(other=1), Reply(body=b"not JSON")])
    with Receiver(lambda *_: next(answers)) as receiver, device(broker.port, "zigbee2mqtt/#") as lamp, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=bell(receiver.url, REPLY)) as bridge:
            sensor.publish("shellies/door/input_event/0", '{"event": "S"}')
            until(lambda: lamp.heard, "the reply")
            heard = lamp.heard[0]
            assert (heard.topic, json.loads(heard.payload)) == ("zigbee2mqtt/door_lamp/set", {"state": "ON", "status": 200})
            assert (heard.retained, heard.qos) == (False, 1)
            assert heard.expiry_s is not None
            assert heard.expiry_s <= 60, "a command is never late, whoever sends it"
            for _ in range(2):
                sensor.publish("shellies/door/input_event/0", '{"event": "S"}')
            until(lambda: counted(bridge, "bell.reply", "filtered") == 2, "what the answer's condition refuses")
            assert len(lamp.heard) == 1
            assert counted(bridge, "bell", "delivered") == 3
            assert counted(bridge, "bell.reply", "delivered") == 1
            assert ledger_adds_up(bridge.metrics(), "bell")
            assert ledger_adds_up(bridge.metrics(), "bell.reply")


def test_only_an_accepted_event_has_a_reply(tmp_path: Path, broker: Mosquitto) -> None:
    answers = iter([Reply(503, body=b'{"state": "on"}'), answering(state="off")])
    with Receiver(lambda *_: next(answers)) as receiver, device(broker.port, "zigbee2mqtt/#") as lamp, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=bell(receiver.url, REPLY)):
            sensor.publish("shellies/door/input_event/0", "1")
            until(lambda: lamp.heard, "the reply")
            assert [json.loads(heard.payload)["state"] for heard in lamp.heard] == ["OFF"]


def test_a_reply_that_cannot_be_made_is_counted_and_the_event_is_still_delivered(tmp_path: Path, broker: Mosquitto) -> None:
    reply = 'reply = { topic = "lamps/{{ response.json.room }}", text = "on" }'
    with Receiver(lambda *_: answering(room="a/#")) as receiver, device(broker.port, "lamps/#") as lamp, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=bell(receiver.url, reply)) as bridge:
            sensor.publish("shellies/door/input_event/0", "1")
            until(lambda: counted(bridge, "bell.reply", "dropped") == 1, "it to be counted")
            assert counted(bridge, "bell", "delivered") == 1
            assert "no reply mapping=bell" in bridge.log
            assert not lamp.heard


def test_a_reply_outlives_a_kill_and_is_published_once(tmp_path: Path) -> None:
    """The broker goes away while the receiver answers; then the bridge is killed, with the reply waiting."""
    with Mosquitto(tmp_path / "mosquitto", lines=("persistence true",)) as broker:

        def answer(*_: object) -> Reply:
            if len(receiver.received) == 0:
                broker.stop()
            return answering(state="on")

        receiver = Receiver(answer)
        with receiver, Daemon(tmp_path / "bridge", broker=broker.url, mappings=bell(receiver.url, REPLY)) as bridge:
            with device(broker.port, "zigbee2mqtt/#", client_id="lamp", persistent=True):
                pass  # the broker keeps for the lamp what it misses
            with device(broker.port) as sensor:
                sensor.publish("shellies/door/input_event/0", "1", wait=False)
                until(lambda: receiver.received, "the event")
            until(lambda: bridge.json("queue", "list", "--mapping", "bell.reply"), "the reply to wait")
            bridge.kill()
            bridge.launch()
            broker.start()
            with device(broker.port, "zigbee2mqtt/#", client_id="lamp", persistent=True) as lamp:
                until(bridge.is_ready, "the bridge to be back")
                until(lambda: lamp.heard, "the reply")
                until(lambda: bridge.metrics()["mqtthook_ledger_waiting{mapping=\"bell\"}"] == 0, "the event to be done with")
                assert len({received.id for received in receiver.received}) == 1, "sent again or not, it is one event"
                assert len(lamp.heard) == 1


# --- loops ---


def test_a_reply_never_triggers_its_own_mapping(tmp_path: Path, broker: Mosquitto) -> None:
    reply = 'reply = { topic = "house/{{ response.json.to }}", text = "on" }'
    with Receiver(lambda *_: answering(to="bell")) as receiver, device(broker.port, "house/#") as ear, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=bell(receiver.url, reply, topic='"house/+"')) as bridge:
            sensor.publish("house/door", "1")
            until(lambda: counted(bridge, "bell.reply", "dropped") == 1, "the reply to be refused")
            assert "a loop" in bridge.log
            assert len(receiver.received) == 1
            assert [heard.topic for heard in ear.heard] == ["house/door"]


def test_two_mappings_whose_replies_lead_to_each_other_go_round_once(tmp_path: Path, broker: Mosquitto) -> None:
    one = 'reply = { topic = "two/{{ levels[1] }}", text = "x" }'
    two = 'reply = { topic = "one/{{ levels[1] }}", text = "x" }'
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = bell(receiver.url + "/1", one, name="first", topic='"one/+"') + bell(receiver.url + "/2", two, name="second", topic='"two/+"')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            sensor.publish("one/x", "1")
            until(lambda: counted(bridge, "first", "filtered") == 1, "it to come back and be cut")
            assert [received.path for received in receiver.received] == ["/1", "/2"]
            assert receiver.received[1].headers["webhook-hop"] == "first, second"
            assert "this may be a loop: then outbound.second, and back" in bridge.command("check")


def round_trip(hooks_port: int) -> str:
    return f"""
[outbound.state]
topic = "zigbee2mqtt/lamp/set"
url = "http://127.0.0.1:{hooks_port}/hooks/lamp"
secret = "{SECRET}"
format = "raw"
{FAST}
[inbound.lamp]
verify = "standard-webhooks"
secret = "{SECRET}"
topic = "zigbee2mqtt/lamp/set"
"""


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_mapping_that_posts_to_a_hook_that_publishes_to_it_is_cut(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    """Over MQTT 5 by what the message bears; over 3.1.1, which bears nothing, by the storm that it makes."""
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings="", mqtt=f'protocol = "{protocol}"')
    bridge.config.write_text(bridge.config.read_text() + round_trip(bridge.hooks_port))
    with device(broker.port, "zigbee2mqtt/lamp/set") as lamp, device(broker.port) as sensor, bridge.start():
        assert "this may be a loop" in bridge.command("check")
        sensor.publish("zigbee2mqtt/lamp/set", '{"state": "ON"}')
        if protocol == "5":
            until(lambda: counted(bridge, "state", "filtered") == 1, "it to be cut")
            assert len(lamp.heard) == 2
        else:
            until(lambda: counted(bridge, "state", "dropped") == 1, "the storm to be stopped", within=60)
            assert bridge.metrics()['mqtthook_mapping_stopped{mapping="state"}'] == 1
            assert "storm mapping=state" in bridge.log
            assert "stopped by a storm" in bridge.command("status")
        assert ledger_adds_up(bridge.metrics(), "state")


def test_a_request_that_came_of_its_own_hook_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    hook = '[inbound.lamp]\nverify = "bearer"\nsecret = "a-long-enough-token"\ntopic = "lamp/set"\n'
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=hook) as bridge, device(broker.port, "lamp/set") as lamp:
        assert bridge.post("/hooks/lamp", b"{}", Authorization="Bearer a-long-enough-token", webhook_hop="state, lamp")[0] == 508
        assert bridge.post("/hooks/lamp", b"{}", Authorization="Bearer a-long-enough-token", webhook_hop="state")[0] == 200
        until(lambda: lamp.heard, "the command")
        assert len(lamp.heard) == 1


def test_a_reply_whose_topic_the_mapping_takes_is_refused_by_check(tmp_path: Path) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=f"mqtt://127.0.0.1:{free_port()}", mappings=bell("http://127.0.0.1:1/", 'reply = { topic = "house/bell", text = "x" }', topic='"house/+"'))
    assert "outbound.bell.reply.topic: a loop: 'house/bell' is a topic that the mapping itself takes" in bridge.command("check", code=78)
