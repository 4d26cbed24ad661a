"""The delivery engine, as a user sees it: rate, breaker, success, pause, history, export."""

import json
import threading
import time
from pathlib import Path

from tests.rig.client import device
from tests.rig.daemon import Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until
from tests.system.test_outbound import FAST, counted, mapping

QUICK = 'retry = { first = "100ms", factor = 1, max = "200ms", for = "1h" }'


def state_of(bridge: Daemon, name: str) -> str:
    return str(bridge.json("status")["destinations"][name]["state"])


# --- breaker ---


def test_a_destination_that_fails_is_left_alone_and_then_tried_once(tmp_path: Path, broker: Mosquitto) -> None:
    down = [True]
    with Receiver(lambda *_: Reply(503) if down[0] else Reply()) as receiver, device(broker.port) as sensor:
        lines = (QUICK, 'breaker = { failures = 3, pause = "1s" }')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, *lines, topic='"z/+"')) as bridge:
            for n in range(40):
                sensor.publish(f"z/{n}", "x")
            until(lambda: state_of(bridge, "hall") == "breaker open", "the breaker to open")
            tried = len(receiver.received)
            assert tried <= 3 + 8, "what was under way when it opened, and no more"
            until(lambda: len(receiver.received) > tried, "a probe")
            assert len(receiver.received) == tried + 1
            assert counted(bridge, "hall", "dead") == 0
            down[0] = False
            until(lambda: counted(bridge, "hall", "delivered") == 40, "all of it")
            assert state_of(bridge, "hall") == "ok"
            assert ledger_adds_up(bridge.metrics(), "hall")
            assert "breaker open destination=hall" in bridge.log
            assert "breaker closed destination=hall" in bridge.log


def test_an_open_breaker_is_open_after_a_restart_too(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(lambda *_: Reply(503)) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, QUICK, 'breaker = { failures = 2, pause = "1h" }')) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: state_of(bridge, "hall") == "breaker open", "the breaker to open")
            tried = len(receiver.received)
            bridge.stop()
            bridge.start()
            assert state_of(bridge, "hall") == "breaker open"
            sensor.publish("zigbee2mqtt/cellar/motion", "x")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 2, "it to wait")
            assert len(receiver.received) == tried
            bridge.command("resume", "hall")
            until(lambda: len(receiver.received) > tried, "a person to be obeyed")


def test_what_a_receiver_asked_for_is_kept_to_after_a_restart_too(tmp_path: Path, broker: Mosquitto) -> None:
    status = [429]
    with Receiver(lambda *_: Reply(status[0], {"Retry-After": "3600"})) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, QUICK)) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: bridge.json("history"), "an attempt")
            bridge.stop()
            status[0] = 200
            bridge.start()
            sensor.publish("zigbee2mqtt/cellar/motion", "x")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 2, "it to wait")
            assert len(receiver.received) == 1
            bridge.command("resume", "hall")
            until(lambda: counted(bridge, "hall", "delivered") == 2, "a person to be obeyed")
            bridge.stop()
            bridge.start()
            sensor.publish("zigbee2mqtt/attic/motion", "x")
            until(lambda: counted(bridge, "hall", "delivered") == 3, "it to be over for good")


# --- rate ---


def test_no_more_than_the_rate_is_sent(tmp_path: Path, broker: Mosquitto) -> None:
    at: list[float] = []

    def answer(*_: object) -> Reply:
        at.append(time.monotonic())
        return Reply()

    with Receiver(answer) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, 'rate = "10/s"', topic='"z/+"')) as bridge:
            for n in range(25):
                sensor.publish(f"z/{n}", "x", wait=False)
            until(lambda: counted(bridge, "hall", "delivered") == 25, "all of them")
    assert at[9] - at[0] < 1.0, "a second's worth goes at once"
    assert at[24] - at[0] > 1.3, "and the other fifteen at ten a second"


# --- success ---


def test_a_2xx_that_says_no_is_tried_again_when_it_asks_to(tmp_path: Path, broker: Mosquitto) -> None:
    """As Telegram answers where too much comes."""
    answers = iter([{"ok": False, "parameters": {"retry_after": 1.5}}, {"ok": True}])
    at: list[float] = []

    def answer(*_: object) -> Reply:
        at.append(time.monotonic())
        return Reply(body=json.dumps(next(answers)).encode())

    lines = (QUICK, 'success = "response.json.ok"', 'retry_after = "response.json.parameters.retry_after"')
    with Receiver(answer) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, *lines)) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: counted(bridge, "hall", "delivered") == 1, "it to be accepted")
            assert at[1] - at[0] > 1.4
            (first, second) = bridge.json("history")
            assert (first["verdict"], first["number"], first["status"]) == ("retry", 1, 200)
            assert "`success` is false: response.json.ok" in first["reason"]
            assert (second["verdict"], second["number"]) == ("delivered", 2)
            assert first["event"] == second["event"]


# --- pause, resume, history, export ---


def test_a_paused_destination_waits_for_a_person_also_over_a_restart(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url)) as bridge:
            assert "paused hall" in bridge.command("pause", "hall")
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 1, "it to wait")
            bridge.stop()
            bridge.start()
            assert state_of(bridge, "hall") == "paused"
            assert not receiver.received
            assert "resumed hall" in bridge.command("resume", "--all")
            until(lambda: receiver.received, "it to go")
            assert "there is no destination 'hal'" in bridge.command("pause", "hal", code=2)


def test_a_retry_while_no_daemon_runs_resumes_a_disabled_destination_but_not_one_that_a_person_paused(tmp_path: Path, broker: Mosquitto) -> None:
    status = [410]
    with Receiver(lambda *_: Reply(status[0])) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url)) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: state_of(bridge, "hall") == "disabled", "it to be disabled")
            bridge.command("pause", "hall")
            bridge.stop()
            assert "1 letter to be tried now" in bridge.command("queue", "retry", "--dead")
            bridge.start()
            assert state_of(bridge, "hall") == "disabled"
            bridge.command("resume", "hall")
            until(lambda: state_of(bridge, "hall") == "disabled" and len(receiver.received) == 2, "it to be disabled again")
            status[0] = 200
            bridge.stop()
            assert "1 letter to be tried now" in bridge.command("queue", "retry", "--dead")
            bridge.start()
            until(lambda: counted(bridge, "hall", "delivered") == 1, "it to go")
            assert state_of(bridge, "hall") == "ok"
            assert ledger_adds_up(bridge.metrics(), "hall")


def test_the_history_tells_the_life_of_an_event_while_the_daemon_runs_and_after(tmp_path: Path, broker: Mosquitto) -> None:
    answers = iter([Reply(503, body=b"busy"), Reply(422, body=b"no such field")])
    with Receiver(lambda *_: next(answers)) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, FAST)) as bridge:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: counted(bridge, "hall", "dead") == 1, "it to be refused")
            id = receiver.received[0].id
            told = bridge.command("history", id)
            assert "received 20" in told
            assert "attempt 1" in told
            assert "'busy'" in told
            assert "status 422: the receiver refuses this event" in told
            assert [attempt["status"] for attempt in bridge.json("history", id)] == [503, 422]
            bridge.stop()
            assert [attempt["status"] for attempt in bridge.json("history", "--mapping", "hall", "--since", "today")] == [503, 422]
            assert bridge.json("history", "--verdict", "delivered") == []


def test_letters_are_exported_as_lines_of_json(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(lambda *_: Reply(400)) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(receiver.url, topic='"z/+"')) as bridge:
            for n in range(450):
                sensor.publish(f"z/{n}", json.dumps({"n": n}), wait=False)
            until(lambda: counted(bridge, "hall", "dead") == 450, "all to be refused")
            lines = [json.loads(line) for line in bridge.command("queue", "export", "--dead", "--since", "yesterday").splitlines()]
            assert sorted(json.loads(line["content"]["body"])["data"]["payload"]["n"] for line in lines) == list(range(450))
            bridge.stop()
            assert len(bridge.command("queue", "export", "--all").splitlines()) == 450


# --- live traffic beside a backlog ---


def test_live_traffic_does_not_wait_for_the_backlog_of_other_keys(tmp_path: Path, broker: Mosquitto) -> None:
    port = free_port()
    lines = (QUICK, 'breaker = { failures = 2, pause = "500ms" }', "concurrency = 8")
    with device(broker.port) as sensor, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping(f"http://127.0.0.1:{port}", *lines, topic='"z/#"')) as bridge:
        for n in range(400):
            sensor.publish(f"z/old/{n}", "x", wait=False)
        until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 400, "the backlog", within=40)

        live_is_in = threading.Event()

        def answer(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
            if len(receiver.accepted) > 20:  # else the backlog would be gone before anything else comes
                live_is_in.wait(10)
            return Reply()

        with Receiver(answer, port=port) as receiver:
            until(lambda: len(receiver.accepted) > 20, "it to be drained")
            sensor.publish("z/live", "x")
            until(lambda: bridge.metrics()["mqtthook_messages_received_total"] == 401, "the live one to be taken in")
            live_is_in.set()
            until(lambda: any(b'"z/live"' in received.body for received in receiver.accepted), "the live one")
            before = next(n for n, received in enumerate(receiver.accepted) if b'"z/live"' in received.body)
            assert before < 200, "it waited for the backlog"
            until(lambda: len(receiver.accepted) == 401, "the rest", within=60)
        assert ledger_adds_up(bridge.metrics(), "hall")


# --- told, not hidden ---


def test_problems_are_told_to_the_status_topics_and_to_another_destination(tmp_path: Path, broker: Mosquitto) -> None:
    down = [True]
    with Receiver(lambda *_: Reply(503) if down[0] else Reply()) as receiver, Receiver() as told, device(broker.port) as sensor:
        alerts = f'[alerts]\nto = "phone"\n[destination.phone]\nurl = "{told.url}"\nsign = "none"\n'
        mappings = alerts + mapping(receiver.url, QUICK, 'breaker = { failures = 2, pause = "500ms" }')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings), device(broker.port, "mqtthook/status/#") as ear:
            sensor.publish("zigbee2mqtt/hall/motion", "x")
            until(lambda: told.accepted, "the alert")
            alert = json.loads(told.accepted[0].body)
            assert (alert["type"], alert["data"]["kind"], alert["data"]["subject"]) == ("mqtthook.alert", "breaker open", "hall")
            until(lambda: b'{"state": "breaker open", "reason": "status 503"}' in ear.payloads("mqtthook/status/destination/hall"), "the status topic")
            down[0] = False
            until(lambda: len(told.accepted) == 2, "the end of it")
            assert json.loads(told.accepted[1].body)["data"]["over"] is True
            until(lambda: ear.payloads("mqtthook/status/destination/hall")[-1] == b'{"state": "ok"}', "the status topic to say so")


# --- a destination that is gone ---


def test_what_waits_for_a_destination_that_left_the_config_stays_and_can_be_moved(tmp_path: Path, broker: Mosquitto) -> None:
    def destination(name: str, url: str) -> str:
        return f'[destination.{name}]\nurl = "{url}"\nsign = "none"\nheaders = {{ X-For = "{name}" }}\n{QUICK}\n'

    rule = '[outbound.hall]\ntopic = "z/+"\nto = "{}"\n'
    with Receiver() as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=destination("old", f"http://127.0.0.1:{free_port()}/") + rule.format("old"))
        with bridge:
            for n in range(5):
                sensor.publish(f"z/{n}", str(n))
            until(lambda: bridge.metrics()['mqtthook_destination_waiting{destination="old"}'] == 5, "them to wait")
            bridge.stop()
            text = bridge.config.read_text()
            others = destination("templated", receiver.url + "/{{ levels[1] }}") + destination("told", receiver.url + "/{{ payload }}") + '[outbound.other]\ntopic = "other"\nto = ["templated", "told"]\n'
            bridge.config.write_text(text[: text.index("[destination.old]")] + destination("new", receiver.url) + rule.format("new") + others)
            bridge.start()
            assert state_of(bridge, "old") == "not in the config any more"
            assert "there is no destination 'nowhere'" in bridge.command("queue", "move", "--destination", "old", "--to", "nowhere", code=1)
            assert "payload is missing; what waits tells its topic at most" in bridge.command("queue", "move", "--destination", "old", "--to", "told", code=1)
            assert "1 letter moved to templated" in bridge.command("queue", "move", "--destination", "old", "--key", "z/0", "--to", "templated")
            assert "4 letters moved to new" in bridge.command("queue", "move", "--destination", "old", "--to", "new")
            until(lambda: len(receiver.accepted) == 5, "them to go")
            until(lambda: bridge.json("queue", "list") == [], "nothing to wait")
            assert "there is no destination 'nowhere'" in bridge.command("queue", "move", "--destination", "old", "--to", "nowhere", code=1), "where there is nothing to move as well"
            assert "0 letters moved to new" in bridge.command("queue", "move", "--destination", "old", "--to", "new")
            assert {received.headers["x-for"] for received in receiver.accepted} == {"new", "templated"}
            assert {received.path for received in receiver.accepted if received.headers["x-for"] == "templated"} == {"/0"}
            assert ledger_adds_up(bridge.metrics(), "hall")
