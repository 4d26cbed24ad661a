"""From a message to a webhook, as a user sees it."""

import json
import threading
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

FAST = 'retry = { first = "100ms", factor = 1, max = "200ms", for = "1h" }\nbreaker = { failures = 1000, pause = "100ms" }'


def mapping(url: str, *lines: str, name: str = "hall", topic: str = '"zigbee2mqtt/{room}/motion"') -> str:
    own = "\n".join(lines)
    secret = "" if "sign =" in own or "to =" in own else f'secret = "{SECRET}"'
    where = "" if "to =" in own else f'url = "{url}"'
    return f"[outbound.{name}]\ntopic = {topic}\n{where}\n{secret}\n{own}\n"


def counted(bridge: Daemon, name: str, outcome: str) -> float:
    return bridge.metrics()[f'mqtthook_ledger_out_total{{mapping="{name}",outcome="{outcome}"}}']


def test_a_message_becomes_a_signed_webhook(tmp_path: Path, broker: Mosquitto) -> None:
    lines = ('when = "payload.occupancy and payload.battery > 20"', 'headers = { "X-Room" = "{{ room }}" }')
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = mapping(receiver.url + "/hooks/{{ room }}?b={{ payload.battery }}", *lines)
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            sensor.publish("zigbee2mqtt/living room/motion", json.dumps({"occupancy": False, "battery": 80}))
            sensor.publish("zigbee2mqtt/living room/motion", json.dumps({"occupancy": True}))
            sensor.publish("zigbee2mqtt/living room/motion", json.dumps({"occupancy": True, "battery": 80}))
            until(lambda: receiver.received, "the event")
            found = receiver.received[0]
            assert (found.method, found.path) == ("POST", "/hooks/living%20room?b=80")
            assert found.headers["x-room"] == "living room"
            assert found.headers["content-type"] == "application/json"
            body = Webhook(SECRET).verify(found.body, found.headers)
            assert body["type"] == "hall"
            payload = {"occupancy": True, "battery": 80}
            assert body["data"] == {"topic": "zigbee2mqtt/living room/motion", "payload": payload, "retained": False, "qos": 1, "captures": {"room": "living room"}}
            assert counted(bridge, "hall", "filtered") == 2
            assert ledger_adds_up(bridge.metrics(), "hall")
            assert len(receiver.received) == 1


def test_what_no_mapping_takes_is_counted(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = mapping(receiver.url, topic='"a/#"', name="all") + mapping(receiver.url, "enabled = false", topic='"b/#"', name="off")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            sensor.publish("b/x", "1")
            sensor.publish("a/x", "1")
            until(lambda: len(receiver.received) == 1, "the event")
            assert bridge.metrics()["mqtthook_messages_received_total"] == 1, "what is switched off is not subscribed"


@pytest.mark.parametrize(
    ("payload", "lines", "expected"),
    [
        (b"ON", (), {"payload": "ON"}),
        (b"", (), {"payload": ""}),
        (b"21.5", (), {"payload": 21.5}),
        (b"\xff\xd8\xff", (), {"payload_base64": "/9j/"}),
        (b'{"a": NaN}', (), {"payload": '{"a": NaN}'}),
        (b'{"a": 1}', ('decode = "text"',), {"payload": '{"a": 1}'}),
        (b"x" * 200_000, (), {"payload": "x" * 200_000}),
    ],
    ids=["text", "empty", "number", "binary", "nearly json", "told to be text", "200 KB"],
)
def test_any_payload_arrives(tmp_path: Path, broker: Mosquitto, payload: bytes, lines: tuple[str, ...], expected: dict[str, object]) -> None:
    with Receiver() as receiver, device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, *lines)):
        sensor.publish("zigbee2mqtt/hall/motion", payload)
        until(lambda: receiver.received, "the event")
        data = json.loads(receiver.received[0].body)["data"]
        assert {name: value for name, value in data.items() if name.startswith("payload")} == expected


def test_bodies_of_other_shapes(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = (
            mapping(receiver.url + "/json", 'json = { room = "{{ room }}", on = "{{ payload.on }}", note = "in {{ room }}" }', name="json")
            + mapping(receiver.url + "/text", 'text = "{{ room }}: {{ value }}"', name="text")
            + mapping(receiver.url + "/raw", 'format = "raw"', 'method = "PUT"', 'sign = "none"', name="raw")
        )
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings):
            sensor.publish("zigbee2mqtt/hall/motion", '{"on": true}')
            until(lambda: len(receiver.received) == 3, "three events")
            found = {received.path: received for received in receiver.received}
            assert json.loads(found["/json"].body) == {"room": "hall", "on": True, "note": "in hall"}
            assert (found["/text"].body, found["/text"].headers["content-type"]) == (b'hall: {"on": true}', "text/plain; charset=utf-8")
            assert (found["/raw"].method, found["/raw"].body) == ("PUT", b'{"on": true}')
            assert "webhook-signature" not in found["/raw"].headers


def test_filters_that_cross_bring_each_message_once(tmp_path: Path, broker: Mosquitto) -> None:
    """Mosquitto sends a copy for each over MQTT 5."""
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = mapping(receiver.url + "/1", topic='["a/+/c", "a/b/+"]', name="one") + mapping(receiver.url + "/2", topic='"a/{x...}"', name="two")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            for _ in range(3):
                sensor.publish("a/b/c", "same")
            until(lambda: len(receiver.received) >= 6, "six events")
            sensor.publish("a/z", "last")
            until(lambda: len(receiver.received) >= 7, "the last event")
            assert sorted(received.path for received in receiver.received) == ["/1"] * 3 + ["/2"] * 4
            assert bridge.metrics()["mqtthook_ledger_imbalance"] == 0


def test_filters_that_merely_cross_are_told_apart_by_their_identifiers(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = mapping(receiver.url + "/1", topic='"a/+/c"', name="one") + mapping(receiver.url + "/2", topic='"a/b/+"', name="two")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings):
            for _ in range(5):
                sensor.publish("a/b/c", "same")
            sensor.publish("a/b/last", "x")
            until(lambda: any(b"last" in received.body for received in receiver.received) and len(receiver.received) >= 11, "eleven events")
            assert len(receiver.received) == 11


def test_what_the_bridge_says_of_itself_feeds_no_mapping_that_takes_everything(tmp_path: Path, broker: Mosquitto) -> None:
    """Of an event that can't be delivered it tells in its status: a `#` would make the next event of that, and so on."""
    mappings = mapping(f"http://127.0.0.1:{free_port()}", topic='"#"') + mapping(f"http://127.0.0.1:{free_port()}", topic='"mqtthook/status/queue"', name="named")
    with device(broker.port, "mqtthook/status/#") as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
        until(lambda: sensor.payloads("mqtthook/status/destination/named"), "the bridge to have told how its destinations do")
        sensor.publish("a/x", "1")
        until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'], "the event")
        metrics = bridge.metrics()
        assert metrics['mqtthook_ledger_in_total{mapping="hall"}'] == 1
        assert metrics['mqtthook_ledger_in_total{mapping="named"}'] >= 1, "who names it has it"
        assert all(ledger_adds_up(metrics, name) for name in ("hall", "named"))


@pytest.mark.parametrize(("how", "expected"), [("ignore", [b"live"]), ("use", [b"kept", b"live"])])
def test_retained_messages_fire_only_when_asked(tmp_path: Path, broker: Mosquitto, how: str, expected: list[bytes]) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        sensor.publish("zigbee2mqtt/hall/motion", "kept", retain=True)
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, f'retained = "{how}"', 'format = "raw"')):
            sensor.publish("zigbee2mqtt/hall/motion", "live")
            until(lambda: any(received.body == b"live" for received in receiver.received), "the live one")
            assert [received.body for received in receiver.received] == expected


def test_a_failure_is_retried_with_the_same_id_and_a_new_signature(tmp_path: Path, broker: Mosquitto) -> None:
    answers = iter([500, 429, 302])
    with Receiver(lambda path, headers, body: Reply(next(answers, 200), {"Location": "/elsewhere"})) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url + "/hook", FAST)) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: receiver.accepted, "the event to be accepted")
            assert len({received.id for received in receiver.received}) == 1
            assert [received.path for received in receiver.received] == ["/hook"] * 4, "a redirect is never followed"
            for received in receiver.received:
                Webhook(SECRET).verify(received.body, received.headers)
            until(lambda: counted(bridge, "hall", "delivered") == 1, "it to be counted")


def test_a_dead_destination_and_a_poison_event_hold_up_nobody(tmp_path: Path, broker: Mosquitto) -> None:
    def answer(path: str, headers: dict[str, str], body: bytes) -> Reply:
        return Reply(400) if b"poison" in body else Reply(503) if b'"stuck"' in body else Reply()

    with Receiver(answer) as receiver, device(broker.port) as sensor:
        dead = f"http://127.0.0.1:{free_port()}/"
        mappings = mapping(dead, FAST, name="dead", topic='"a/{x}"') + mapping(receiver.url, FAST, name="alive", topic='"a/{x}"')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            for n in range(50):
                sensor.publish("a/stuck", "stuck", wait=False)
                sensor.publish(f"a/{n}", "poison" if n % 10 == 0 else str(n), wait=False)
            until(lambda: counted(bridge, "alive", "delivered") == 45, "the others to be delivered")
            assert counted(bridge, "alive", "dead") == 5
            metrics = bridge.metrics()
            assert metrics['mqtthook_ledger_waiting{mapping="dead"}'] == 100
            assert metrics['mqtthook_ledger_waiting{mapping="alive"}'] == 50
            assert ledger_adds_up(metrics, "dead")
            assert ledger_adds_up(metrics, "alive")
            reasons = [letter["reason"] for letter in bridge.json("queue", "list", "--dead")]
            assert reasons == ["status 400: the receiver refuses this event"] * 5


def test_a_gone_receiver_is_disabled_over_restarts_until_it_is_resumed(tmp_path: Path, broker: Mosquitto) -> None:
    gone = threading.Event()
    gone.set()
    with Receiver(lambda path, headers, body: Reply(410 if gone.is_set() else 200)) as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, FAST))
        with bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "1")
            until(lambda: counted(bridge, "hall", "dead") == 1, "it to be dead")
            sensor.publish("zigbee2mqtt/hall/motion", "2")
            until(lambda: bridge.json("status")["destinations"]["hall"]["waiting"] == 1, "the next to wait")
            bridge.stop()
            bridge.start()
            assert "410" in bridge.json("status")["destinations"]["hall"]["disabled"]
            assert len(receiver.received) == 1
            gone.clear()
            bridge.command("resume", "hall")
            until(lambda: receiver.accepted, "the second")
            bridge.command("resume", "nobody", code=2)
            bridge.stop()
            bridge.start()
            assert bridge.json("status")["destinations"]["hall"]["disabled"] is None


@pytest.mark.parametrize("wait", [lambda: "2", lambda: formatdate(time.time() + 3, usegmt=True)], ids=["seconds", "date"])
def test_retry_after_holds_the_whole_destination_back(tmp_path: Path, broker: Mosquitto, wait: Callable[[], str]) -> None:
    asked: list[float] = []

    def answer(path: str, headers: dict[str, str], body: bytes) -> Reply:
        asked.append(time.monotonic())
        return Reply(503, {"Retry-After": wait()}) if len(asked) == 1 else Reply()

    with Receiver(answer) as receiver, device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, FAST)):
        sensor.publish("zigbee2mqtt/hall/motion", "1")
        until(lambda: asked, "the first attempt")
        sensor.publish("zigbee2mqtt/kitchen/motion", "2")
        until(lambda: len(receiver.accepted) == 2, "both")
        assert all(at - asked[0] > 1.5 for at in asked[1:])


def test_what_cannot_be_rendered_is_a_dead_letter_that_a_better_mapping_revives(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, 'json = { b = "{{ payload.battery }}" }'))
        with bridge:
            sensor.publish("zigbee2mqtt/hall/motion", '{"charge": 7}')
            until(lambda: counted(bridge, "hall", "dead") == 1, "it to be dead")
            (letter,) = bridge.json("queue", "list", "--dead")
            assert letter["reason"] == "payload.battery is missing"
            bridge.stop()
            bridge.config.write_text(bridge.config.read_text().replace("payload.battery", "payload.charge"))
            bridge.command("queue", "retry", letter["id"])
            bridge.start()
            until(lambda: receiver.accepted, "the mended event")
            assert json.loads(receiver.accepted[0].body) == {"b": 7}
            assert receiver.accepted[0].id == letter["id"]
            assert ledger_adds_up(bridge.metrics(), "hall")


def test_an_event_that_expires_is_counted_and_not_sent(tmp_path: Path, broker: Mosquitto) -> None:
    down = threading.Event()
    down.set()
    with Receiver(lambda path, headers, body: Reply(503 if down.is_set() else 200)) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, FAST, 'expires = "1s"')) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "1")
            until(lambda: counted(bridge, "hall", "expired") == 1, "it to expire")
            down.clear()
            sensor.publish("zigbee2mqtt/hall/motion", "2")
            until(lambda: receiver.accepted, "the next one")
            assert b'"payload":2' in receiver.accepted[0].body


def test_one_event_goes_to_several_destinations_each_with_its_own_fate(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(lambda path, headers, body: Reply(400 if path == "/b" else 200)) as receiver, device(broker.port) as sensor:
        destinations = "".join(f'[destination.{name}]\nurl = "{receiver.url}/{name}"\nsecret = "{SECRET}"\n' for name in "ab")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=destinations + mapping("", 'to = ["a", "b"]')) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "1")
            until(lambda: counted(bridge, "hall", "delivered") == 1 and counted(bridge, "hall", "dead") == 1, "both to end")
            assert ledger_adds_up(bridge.metrics(), "hall")


def test_in_the_quiet_case_events_are_not_written(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url)) as bridge:
        sensor.publish("zigbee2mqtt/hall/motion", "first")
        until(lambda: receiver.accepted, "the first")
        until(lambda: bridge.metrics()["mqtthook_outbox_commits_total"] >= 1, "the subscription to be noted")
        before = bridge.metrics()["mqtthook_outbox_commits_total"]
        for n in range(2, 102):
            sensor.publish("zigbee2mqtt/hall/motion", str(n))
            until(lambda n=n: len(receiver.accepted) == n, "the next")  # type: ignore[misc]
        # Only an event that takes longer than the group waits is written: on a busy machine that may be a few.
        assert bridge.metrics()["mqtthook_outbox_commits_total"] - before <= 10


def test_without_an_order_one_topic_goes_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    together = threading.Barrier(4, timeout=20)

    def answer(path: str, headers: dict[str, str], body: bytes) -> Reply:
        together.wait()
        return Reply()

    with Receiver(answer) as receiver, device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, 'order = "none"')):
        for n in range(4):
            sensor.publish("zigbee2mqtt/hall/motion", str(n))
        until(lambda: len(receiver.accepted) == 4, "all four, which wait for each other")


def test_strict_writes_each_event_before_it_goes(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url), store='durability = "strict"') as bridge:
            before = bridge.metrics()["mqtthook_outbox_commits_total"]
            for n in range(1, 11):
                sensor.publish("zigbee2mqtt/hall/motion", str(n), qos=0)
                until(lambda n=n: len(receiver.accepted) == n, "the next")  # type: ignore[misc]
            assert bridge.metrics()["mqtthook_outbox_commits_total"] - before >= 10
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 0, "nothing to wait")
            assert ledger_adds_up(bridge.metrics(), "hall")
