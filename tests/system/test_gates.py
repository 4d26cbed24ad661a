"""Gates, as a user sees them: a real broker, a real receiver, restarts and kills in between."""

import json
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.rig.client import Device, device
from tests.rig.daemon import Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until
from tests.system.test_outbound import FAST, counted, mapping

DOOR = "zigbee2mqtt/front/door"
ENDED = ("delivered", "filtered", "coalesced", "dead", "expired", "dropped")


def door(url: str, *lines: str, name: str = "door") -> str:
    return mapping(url, *lines, FAST, name=name, topic='"zigbee2mqtt/{place}/door"')


def says(sensor: Device, *, contact: bool, topic: str = DOOR, retain: bool = False) -> None:
    sensor.publish(topic, json.dumps({"contact": contact, "battery": 97}), retain=retain)


def contacts(receiver: Receiver) -> list[bool]:
    return [json.loads(received.body)["data"]["payload"]["contact"] for received in receiver.accepted]


def is_remembered(bridge: Daemon, name: str) -> bool:
    """Return True if what a mapping's gates remember is on disk, False if not."""
    with closing(sqlite3.connect(f"file:{bridge.directory / 'outbox.db'}?mode=ro", uri=True)) as db:
        return bool(db.execute("SELECT count(*) FROM memory WHERE mapping = ?", (name,)).fetchone()[0])


def handled(bridge: Daemon, name: str, count: int) -> None:
    """Wait until a mapping has come to an end with so many messages."""
    until(lambda: sum(counted(bridge, name, outcome) for outcome in ENDED) == count, f"{name} to be done with {count}")


# --- on_change ---


def test_only_a_change_makes_an_event_also_after_a_restart(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'on_change = "payload.contact"')) as bridge:
            for contact in (True, True, False, False, False, True):
                says(sensor, contact=contact)
            handled(bridge, "door", 6)
            assert contacts(receiver) == [True, False, True]
            assert counted(bridge, "door", "filtered") == 3
            bridge.stop()
            bridge.start()
            says(sensor, contact=True)
            handled(bridge, "door", 7)
            says(sensor, contact=False)
            until(lambda: len(receiver.accepted) == 4, "the change")
            assert contacts(receiver) == [True, False, True, False]
            assert ledger_adds_up(bridge.metrics(), "door")


def test_a_state_in_between_that_when_does_not_want_is_a_change_too(tmp_path: Path, broker: Mosquitto) -> None:
    """The product's own example: `when` and `on_change` on the same value; each motion makes an event, not only the first ever."""
    with Receiver() as receiver, device(broker.port) as sensor:
        lines = ('when = "payload.contact"', 'on_change = "payload.contact"')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, *lines)) as bridge:
            for contact in (True, True, False, True):
                says(sensor, contact=contact)
            handled(bridge, "door", 4)
            assert contacts(receiver) == [True, True]


def test_what_gates_remember_survives_a_kill_once_it_was_quiet_for_a_moment(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'on_change = "payload.contact"')) as bridge:
            says(sensor, contact=True)
            until(lambda: is_remembered(bridge, "door"), "the memory to be written")
            bridge.kill()
            bridge.start()
            says(sensor, contact=True)
            handled(bridge, "door", 2)
            assert contacts(receiver) == [True]


def test_states_that_are_published_anew_after_a_broker_restart_make_no_event(tmp_path: Path) -> None:
    """Zigbee2MQTT re-publishes its retained states as live messages when the broker lost them."""
    topics = [f"zigbee2mqtt/{n}/door" for n in range(50)]
    with Receiver() as receiver, Mosquitto(tmp_path / "mosquitto") as broker:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'on_change = "payload.contact"')) as bridge:
            with device(broker.port) as sensor:
                for topic in topics:
                    says(sensor, contact=True, topic=topic)
                until(lambda: len(receiver.accepted) == 50, "the first states")
            broker.kill()
            broker.start()
            until(bridge.is_ready, "the bridge to be back")
            with device(broker.port) as sensor:
                for topic in topics:
                    says(sensor, contact=True, topic=topic)
                handled(bridge, "door", 100)
            assert len(receiver.accepted) == 50


# --- cooldown ---


def test_what_comes_within_the_cooldown_is_coalesced_per_key_and_over_a_restart(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'cooldown = "1h"')) as bridge:
            says(sensor, contact=True)
            says(sensor, contact=False)
            says(sensor, contact=False, topic="zigbee2mqtt/back/door")
            handled(bridge, "door", 3)
            assert sorted(contacts(receiver)) == [False, True]  # of two doors: keys have no order between them
            assert counted(bridge, "door", "coalesced") == 1
            bridge.stop()
            bridge.start()
            says(sensor, contact=False)
            handled(bridge, "door", 4)
            assert len(receiver.accepted) == 2


def test_after_the_cooldown_the_next_one_goes(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'cooldown = "250ms"')):

            def again() -> bool:
                says(sensor, contact=True)
                return len(receiver.accepted) >= 3

            until(again, "three events in spite of the cooldown")


# --- debounce ---


def test_a_chattering_door_makes_one_event_of_its_last_word(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'debounce = "3s"', 'debounce_max = "1h"')) as bridge:
            commits = bridge.metrics()["mqtthook_outbox_commits_total"]
            for n in range(9):
                says(sensor, contact=n % 2 == 1)
            assert not receiver.accepted
            until(lambda: receiver.accepted, "the last word")
            handled(bridge, "door", 9)
            assert contacts(receiver) == [False]
            assert counted(bridge, "door", "coalesced") == 8
            metrics = bridge.metrics()
            assert metrics["mqtthook_outbox_held"] == metrics["mqtthook_broker_unacknowledged"] == 0
            assert metrics["mqtthook_outbox_commits_total"] - commits <= 1, "at most what is written of the start: holding costs no write"


def test_a_sensor_that_never_rests_is_heard_at_the_latest_after_debounce_max(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = door("http://127.0.0.1:1/", 'debounce = "1h"', 'debounce_max = "1h"')
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings += door(receiver.url, 'debounce = "900ms"', 'debounce_max = "1s"', name="max")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings):

            def chatters() -> bool:
                says(sensor, contact=True)
                return len(receiver.accepted) >= 2

            until(chatters, "events while it goes on and on")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_is_held_outlives_a_restart_and_goes_once(tmp_path: Path, broker: Mosquitto, number: signal.Signals) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'debounce = "1h"')) as bridge:
            says(sensor, contact=True)
            says(sensor, contact=False)
            until(lambda: bridge.metrics()["mqtthook_outbox_held"] == 1, "it to be held")
            bridge.end(number)
            assert not receiver.accepted
            bridge.config.write_text(bridge.config.read_text().replace('debounce = "1h"', 'debounce = "1s"'))
            bridge.start()
            until(lambda: receiver.accepted, "what was held")
            until(lambda: bridge.metrics()["mqtthook_ledger_waiting{mapping=\"door\"}"] == 0, "nothing to be left")
            assert contacts(receiver)[-1] is False
            assert len(receiver.accepted) <= (1 if number is signal.SIGTERM else 2)
            assert ledger_adds_up(bridge.metrics(), "door")


def test_what_is_held_keeps_nothing_else_waiting(tmp_path: Path) -> None:
    """Over MQTT 3.1.1 Mosquitto lets 20 messages be unacknowledged: one that is held must not stop the others."""
    with Receiver() as receiver, Mosquitto(tmp_path / "mosquitto") as broker, device(broker.port) as sensor:
        mappings = door(receiver.url + "/held", 'debounce = "1h"', 'debounce_max = "1h"') + mapping(receiver.url + "/plain", name="plain", topic='"plain/#"')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings, mqtt='protocol = "3.1.1"') as bridge:
            says(sensor, contact=True)
            for n in range(100):
                sensor.publish(f"plain/{n}", "x", wait=False)
            until(lambda: len(receiver.accepted) == 100, "everything else")
            until(lambda: bridge.metrics()["mqtthook_broker_unacknowledged"] == 0, "all of it to be acknowledged")
            assert bridge.json("queue", "list", "--held")[0]["mapping"] == "door"
            bridge.kill()
            bridge.start()
            assert bridge.json("queue", "list", "--held")[0]["mapping"] == "door", "it was acknowledged, so it is on disk"


def test_a_person_drops_what_is_held(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'debounce = "6s"')) as bridge:
            says(sensor, contact=True)
            until(lambda: bridge.metrics()["mqtthook_outbox_held"] == 1, "it to be held")
            assert "1 letter dropped" in bridge.command("queue", "drop", "--held")
            says(sensor, contact=False)
            until(lambda: receiver.accepted, "the next one")
            assert contacts(receiver) == [False]
            assert counted(bridge, "door", "dropped") == 1
            assert ledger_adds_up(bridge.metrics(), "door")


# --- silence ---


def silent(url: str, *lines: str) -> str:
    return mapping(url, 'silence = "1s"', *lines, FAST, name="freezer", topic='"zigbee2mqtt/{place}/freezer"')


def test_silence_is_reported_once_and_again_only_after_a_word(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=silent(receiver.url)) as bridge:
            sensor.publish("zigbee2mqtt/cellar/freezer", '{"temperature": -18.5}')
            until(lambda: receiver.accepted, "the silence")
            body = json.loads(receiver.accepted[0].body)
            assert body["data"]["payload"] == {"temperature": -18.5}
            assert body["data"]["silent_for"] >= 1
            bridge.stop()
            bridge.start()
            sensor.publish("zigbee2mqtt/attic/freezer", '{"temperature": -20}')
            until(lambda: len(receiver.accepted) == 2, "the silence of another")
            assert json.loads(receiver.accepted[1].body)["data"]["topic"] == "zigbee2mqtt/attic/freezer"
            sensor.publish("zigbee2mqtt/cellar/freezer", '{"temperature": -18.0}')
            until(lambda: len(receiver.accepted) == 3, "silence after a word")
            assert counted(bridge, "freezer", "filtered") == 3
            assert ledger_adds_up(bridge.metrics(), "freezer")


def test_silence_goes_on_counting_after_a_restart_without_a_word(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=silent(receiver.url).replace("1s", "3s")) as bridge:
            sensor.publish("zigbee2mqtt/cellar/freezer", '{"temperature": -18.5}')
            handled(bridge, "freezer", 1)
            bridge.stop()
            bridge.start()
            until(lambda: receiver.accepted, "the silence")
            assert json.loads(receiver.accepted[0].body)["data"]["silent_for"] >= 3


def test_a_broker_that_is_away_is_no_silence(tmp_path: Path) -> None:
    with Receiver() as receiver, Mosquitto(tmp_path / "mosquitto") as broker:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=silent(receiver.url)) as bridge:
            with device(broker.port) as sensor:
                sensor.publish("zigbee2mqtt/cellar/freezer", "1")
                handled(bridge, "freezer", 1)
            broker.stop()
            gone_at = time.monotonic()
            until(lambda: time.monotonic() - gone_at > 2, "longer than the silence")
            assert not receiver.received
            broker.start()
            until(bridge.is_ready, "the bridge to be back")
            back_at = time.monotonic()
            with device(broker.port) as sensor:

                def it_speaks() -> bool:
                    sensor.publish("zigbee2mqtt/cellar/freezer", "2")
                    return time.monotonic() - back_at > 2

                until(it_speaks, "the sensor to speak for a while")
                assert not receiver.received
                until(lambda: receiver.accepted, "the silence after that")


@pytest.mark.parametrize("stopped", ["bridge", "broker"])
def test_what_could_not_be_heard_because_the_bridge_or_the_broker_stood_still_is_no_silence(tmp_path: Path, broker: Mosquitto, stopped: str) -> None:
    """What a device said meanwhile lies in a socket; what others said may lie before it, more than a broker sends at once."""
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = silent(receiver.url).replace("1s", "2s") + mapping(receiver.url, name="others", topic='"others/#"')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings, mqtt='protocol = "3.1.1"') as bridge:
            assert bridge.process is not None
            send = bridge.process.send_signal if stopped == "bridge" else broker.send

            def speaks(until_at: float) -> bool:
                sensor.publish("others/x", "1", wait=False)
                sensor.publish("zigbee2mqtt/cellar/freezer", "2", wait=False)
                return time.monotonic() > until_at

            sensor.publish("zigbee2mqtt/cellar/freezer", "1")
            handled(bridge, "freezer", 1)
            send(signal.SIGSTOP)
            stopped_at = time.monotonic()
            until(lambda: speaks(stopped_at + 6), "the device to have spoken for longer than the silence")
            send(signal.SIGCONT)
            gone_on_at = time.monotonic()
            until(lambda: speaks(gone_on_at + 2), "the device to speak on")
            assert not [received for received in receiver.received if b"silent_for" in received.body]
            until(lambda: [received for received in receiver.received if b"silent_for" in received.body], "the silence after that")


# --- retained ---


def test_a_retained_message_counts_once_and_again_when_it_differs(tmp_path: Path, broker: Mosquitto) -> None:
    """Each connection over MQTT 3.1.1 has the broker replay what is retained."""
    with Receiver() as receiver, device(broker.port) as sensor:
        says(sensor, contact=True, retain=True)
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'retained = "changed"'), mqtt='protocol = "3.1.1"') as bridge:
            until(lambda: receiver.accepted, "the first replay")
            assert json.loads(receiver.accepted[0].body)["data"]["retained"] is True
            bridge.stop()
            bridge.start()
            handled(bridge, "door", 2)
            assert counted(bridge, "door", "filtered") == 1
            bridge.stop()
            says(sensor, contact=False, retain=True)
            with device(broker.port, client_id=f"bridge-{bridge.directory.name}"):
                pass  # whatever was queued for the session is gone with it: only the replay tells
            bridge.start()
            until(lambda: len(receiver.accepted) == 2, "the one that differs")
            says(sensor, contact=False)
            until(lambda: len(receiver.accepted) == 3, "a live one, the same or not")


# --- keep, priority, batch ---


def test_while_a_destination_is_down_only_the_newest_of_each_key_waits(tmp_path: Path, broker: Mosquitto) -> None:
    port = free_port()
    with device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(f"http://127.0.0.1:{port}", 'keep = "latest"')) as bridge:
        for n in range(30):
            sensor.publish(f"zigbee2mqtt/{'ab'[n % 2]}/door", json.dumps({"n": n}))
        until(lambda: counted(bridge, "door", "coalesced") >= 26, "the older ones to be let go")
        bridge.kill()
        bridge.start()
        for n in range(30, 40):
            sensor.publish(f"zigbee2mqtt/{'ab'[n % 2]}/door", json.dumps({"n": n}))
        until(lambda: bridge.metrics()["mqtthook_messages_received_total"] >= 10, "them to be taken in")
        with Receiver(port=port) as receiver:
            until(lambda: bridge.metrics()["mqtthook_ledger_waiting{mapping=\"door\"}"] == 0, "it to be empty")
            numbers = [json.loads(one.body)["data"]["payload"]["n"] for one in receiver.accepted]
            assert sorted(numbers)[-2:] == [38, 39], "the newest of each key went"
            assert len(numbers) <= 4, "with at most one that was under way when the next of its key came"
        assert ledger_adds_up(bridge.metrics(), "door")


def test_events_go_in_batches_signed_as_one(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'batch = { size = 10, wait = "3s" }')) as bridge:
            for n in range(25):
                sensor.publish(f"zigbee2mqtt/{n % 3}/door", json.dumps({"n": n}), wait=False)
            until(lambda: sum(len(json.loads(received.body)) for received in receiver.accepted) == 25, "all of them")
            bodies = [json.loads(received.body) for received in receiver.accepted]
            assert [len(body) for body in bodies] == [10, 10, 5]
            assert [one["data"]["payload"]["n"] for body in bodies for one in body] == list(range(25))
            assert len({received.id for received in receiver.accepted}) == 3
            assert counted(bridge, "door", "delivered") == 25
            assert ledger_adds_up(bridge.metrics(), "door")


def test_a_batch_that_is_refused_is_one_dead_letter_and_can_be_split(tmp_path: Path, broker: Mosquitto) -> None:
    def answer(_path: str, _headers: dict[str, str], body: bytes) -> Reply:
        return Reply(422) if any(one["data"]["payload"]["n"] == 2 for one in json.loads(body)) else Reply()

    with Receiver(answer) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'batch = { size = 5, wait = "1h" }')) as bridge:
            for n in range(5):
                sensor.publish(DOOR, json.dumps({"n": n}))
            until(lambda: counted(bridge, "door", "dead") == 5, "the batch to be refused")
            (letter,) = bridge.json("queue", "list", "--dead")
            assert letter["messages"] == 5
            assert "5 letters made of batches" in bridge.command("queue", "split", letter["id"])
            until(lambda: counted(bridge, "door", "delivered") == 4, "the good ones")
            until(lambda: len(bridge.json("queue", "list", "--dead")) == 1, "the bad one")
            (bad,) = bridge.json("queue", "list", "--dead")
            assert bad["id"] == f"{letter['id']}-3"
            assert ledger_adds_up(bridge.metrics(), "door")


def test_what_is_gathered_for_a_batch_outlives_a_kill(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=door(receiver.url, 'batch = { size = 4, wait = "1h" }')) as bridge:
            for n in range(3):
                sensor.publish(DOOR, json.dumps({"n": n}))
            until(lambda: bridge.metrics()["mqtthook_outbox_held"] == 3, "them to be held")
            bridge.kill()
            bridge.start()
            until(lambda: bridge.metrics()["mqtthook_outbox_held"] == 3, "them to be held again")
            sensor.publish(DOOR, json.dumps({"n": 3}))
            until(lambda: receiver.accepted, "the batch")
            assert [one["data"]["payload"]["n"] for one in json.loads(receiver.accepted[0].body)] == [0, 1, 2, 3]
            assert ledger_adds_up(bridge.metrics(), "door")


def test_high_priority_goes_before_a_backlog(tmp_path: Path, broker: Mosquitto) -> None:
    port = free_port()
    destination = f'[destination.crm]\nurl = "http://127.0.0.1:{port}/"\nsign = "none"\nconcurrency = 1\n{FAST}\n'
    slow = '[outbound.slow]\ntopic = "slow/#"\nto = "crm"\ntext = "slow"\nkey = "{{ payload }}"\n'
    alarm = '[outbound.alarm]\ntopic = "alarm/#"\nto = "crm"\npriority = "high"\ntext = "alarm"\n'
    with device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=destination + slow + alarm) as bridge:
        bridge.command("pause", "crm")  # so that all of them may go at the same moment: what has failed rests, whatever its priority
        for n in range(300):
            sensor.publish("slow/x", str(n), wait=False)
        until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="slow"}'] == 300, "the backlog")
        sensor.publish("alarm/x", "1")
        until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="alarm"}'] == 1, "the alarm to wait")
        with Receiver(port=port) as receiver:
            bridge.command("resume", "crm")
            until(lambda: any(received.body == b"alarm" for received in receiver.accepted), "the alarm")
            before = [received.body for received in receiver.accepted].index(b"alarm")
            until(lambda: len(receiver.accepted) == 301, "the rest")
        assert before == 0, "it did not wait for its turn"
        assert ledger_adds_up(bridge.metrics(), "alarm")
