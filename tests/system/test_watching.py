"""Somebody watches: from outside by a heartbeat that stops when something is wrong, in the house by Home Assistant."""

import asyncio
import json
import re
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from time import monotonic, time
from typing import Any

from jinja2 import Environment
from pydantic import SecretStr

from bridge.app.heartbeat import Heartbeat
from bridge.edges.outlet import Outlet
from bridge.outbox.courier import Clock
from bridge.watch.figures import Figures
from tests.rig.client import Device, device
from tests.rig.daemon import COMMAND, SECRET, Daemon
from tests.rig.figures import FIGURES
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until
from tests.system.test_reload import House, hook, mapping, payloads, post

TOKEN = "d1f6c0a2-not-for-anybody"
SECOND_TOKEN = "e2a7-not-for-anybody-either"


def paths(receiver: Receiver) -> list[tuple[str, str]]:
    return [(received.method, received.path) for received in receiver.received]


def test_a_heartbeat_goes_out_while_all_is_well_and_is_silent_otherwise(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as service:
        made = House(tmp_path / "bridge", broker, mapping("hall", service.url), top=f'heartbeat = "{service.url}/{TOKEN}"\n')
        bridge = made.bridge
        broker.stop()
        bridge.launch()
        until(lambda: "no heartbeat until all is well" in bridge.log, "it to say that the broker is away")
        assert paths(service) == []
        broker.start()
        until(lambda: paths(service) == [("GET", f"/{TOKEN}")], "the first ping")
        assert service.received[0].body == b""
        until(lambda: "heartbeat taken" in bridge.log, "it to say so")
        broker.stop()
        until(lambda: bridge.log.count("no heartbeat until all is well") == 2, "it to stop")
        before = len(service.received)
        broker.start()
        until(lambda: len(service.received) > before, "it to go on", within=30)
        made.top = f'heartbeat = "{service.url}/{SECOND_TOKEN}"\n'
        made.write(mapping("hall", service.url))
        assert bridge.json("reload")["changed"] == ["heartbeat"]
        until(lambda: paths(service)[-1] == ("GET", f"/{SECOND_TOKEN}"), "a reload to count")
        told = bridge.log + bridge.command("status") + bridge.command("status", "--json") + bridge.command("check") + bridge.get("/healthz")[1] + bridge.get("/metrics")[1]
        assert TOKEN not in told
        assert SECOND_TOKEN not in told
        assert bridge.stop() == 0


def test_a_service_that_refuses_the_heartbeat_is_told_of_once_and_no_redirect_is_followed(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as elsewhere, Receiver(lambda path, headers, body: Reply(302, {"Location": f"{elsewhere.url}/"})) as service:
        made = House(tmp_path / "bridge", broker, mapping("hall", service.url), top=f'heartbeat = "{service.url}/{TOKEN}"\n')
        with made.bridge as bridge:
            until(lambda: "heartbeat not taken reason='status 302'" in bridge.log, "it to be told")
            assert elsewhere.received == []
            assert TOKEN not in bridge.log


def test_pings_go_on_for_as_long_as_all_is_well_and_only_then() -> None:
    """With a period that a test can wait for."""
    found, looked = [FIGURES], []

    async def figures() -> Figures:
        looked.append(found[0])
        return found[0]

    async def watched() -> None:
        with Receiver() as service:
            async with Outlet() as outlet:
                heart = Heartbeat(outlet, figures, clock=Clock(monotonic=monotonic, wall=time, date=time, chance=lambda: 0.0), every_s=0.05, soonest_s=0.01)
                beating = asyncio.create_task(heart.run(lambda: SecretStr(service.url + "/x")))
                await asyncio.to_thread(until, lambda: len(service.received) > 5, "several pings")
                found[0] = replace(FIGURES, full=True)
                seen = len(looked)
                await asyncio.to_thread(until, lambda: len(looked) > seen + 1, "it to look again")
                before = len(service.received)
                await asyncio.to_thread(until, lambda: len(looked) > seen + 10, "it to look often")
                assert len(service.received) == before
                found[0] = FIGURES
                await asyncio.to_thread(until, lambda: len(service.received) > before, "it to go on")
                beating.cancel()

    asyncio.run(watched())


def test_without_a_heartbeat_nothing_is_looked_at() -> None:
    looked = []

    async def figures() -> Figures:
        looked.append(1)
        return FIGURES

    async def watched() -> None:
        async with Outlet() as outlet:
            heart = Heartbeat(outlet, figures, clock=Clock(monotonic=monotonic, wall=time, date=time, chance=lambda: 0.0), every_s=0.0)
            beating = asyncio.create_task(heart.run(lambda: None))
            for _ in range(10):
                heart.wake()
                await asyncio.sleep(0)
            beating.cancel()

    asyncio.run(watched())
    assert looked == []


# --- Home Assistant ---

SWITCHED_ON = "\n[home_assistant]\nenabled = true\n"


class Shown:
    """What Home Assistant knows of the bridge, by what it heard."""

    def __init__(self, device: Device, client_id: str) -> None:
        self._device, self.topic = device, f"homeassistant/device/{client_id}/config"

    @property
    def documents(self) -> list[bytes]:
        return self._device.payloads(self.topic)

    @property
    def components(self) -> dict[str, Any]:
        found = json.loads(self.documents[-1])["cmps"]
        assert isinstance(found, dict)
        return found

    def state(self, key: str) -> str:
        """Return a sensor's state, "" while it is unknown."""
        component = self.components[key]
        heard = self._device.payloads(component["state_topic"])
        if not heard or not heard[-1]:
            return ""
        text = heard[-1].decode()
        value_json = json.loads(text) if text[0] == "{" else None
        return Environment(autoescape=False).from_string(component["value_template"]).render(value=text, value_json=value_json)

    def press(self, key: str, *, retain: bool = False) -> None:
        component = self.components[key]
        self._device.publish(component["command_topic"], component["payload_press"], retain=retain)


def test_home_assistant_shows_the_bridge_and_its_buttons_do_what_they_say(tmp_path: Path, broker: Mosquitto) -> None:
    down = [True]
    with (
        Receiver(lambda path, headers, body: Reply(400 if down[0] else 200)) as receiver,
        device(broker.port, "homeassistant/#", "mqtthook/#") as ear,
        Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping("hall", receiver.url) + mapping("door", receiver.url) + SWITCHED_ON) as bridge,
    ):
        shown = Shown(ear, "bridge-bridge")
        until(lambda: shown.documents, "the device")
        assert {"waiting", "last_delivery", "problem", "destination_hall", "destination_door", "retry", "pause", "resume"} <= set(shown.components)
        until(lambda: [shown.state(key) for key in ("waiting", "oldest", "dead_letters", "last_delivery", "problem", "destination_hall")] == ["0", "0", "0", "", "OFF", "OFF"], "its states")
        ear.publish("hall/x", "1")
        until(lambda: shown.state("dead_letters") == "1", "a dead letter to be shown", within=30)
        down[0] = False
        shown.press("retry")
        until(lambda: receiver.accepted, "the dead letter to be tried again")
        until(lambda: shown.state("dead_letters") == "0" and shown.state("last_delivery"), "that to be shown", within=30)
        shown.press("pause")
        until(lambda: json.loads(ear.payloads("mqtthook/status/destination/hall")[-1])["state"] == "paused", "the pause to be shown")
        assert bridge.json("status")["destinations"]["door"]["state"] == "paused"
        ear.publish("hall/x", "2")
        until(lambda: bridge.json("queue", "list"), "an event to wait")
        shown.press("resume")
        until(lambda: len(receiver.accepted) == 2, "it to go on")
        assert bridge.metrics()["mqtthook_messages_unmatched_total"] == 0


def test_a_press_that_is_retained_or_no_press_does_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "homeassistant/#", "mqtthook/#") as ear, Receiver() as receiver:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url) + SWITCHED_ON)
        for payload in ("PRESS", "press"):
            ear.publish("mqtthook/status/command/pause", payload, retain=True)
        with made.bridge as bridge:
            shown = Shown(ear, "bridge-bridge")
            until(lambda: shown.documents, "the device")
            ear.publish("mqtthook/status/command/pause", "", retain=False)
            ear.publish("mqtthook/status/command/drop", "PRESS")
            shown.press("resume")
            until(lambda: "home assistant button=resume" in bridge.log, "the press that is one")
            assert "button=pause" not in bridge.log


def test_the_device_is_described_again_when_home_assistant_is_born(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "homeassistant/#") as ear, Daemon(tmp_path / "bridge", broker=broker.url, mappings=SWITCHED_ON) as bridge:
        shown = Shown(ear, "bridge-bridge")
        until(lambda: len(shown.documents) == 1, "the device")
        bridge.command("queue", "list")  # all that there is to write is on disk then
        commits = bridge.metrics()["mqtthook_outbox_commits_total"]
        ear.publish("homeassistant/status", "offline")
        ear.publish("homeassistant/status", "online")
        until(lambda: len(shown.documents) == 2, "it to be described again")
        assert shown.documents[0] == shown.documents[1]
        bridge.command("queue", "list")
        assert bridge.metrics()["mqtthook_outbox_commits_total"] == commits, "what is known already is not noted again"
        assert bridge.metrics()["mqtthook_messages_unmatched_total"] == 0


def retained_topics(broker: Mosquitto, *filters: str) -> set[str]:
    """Return the topics that the broker keeps something of."""
    with device(broker.port, *filters, "mark") as fresh:
        fresh.publish("mark", "x")
        until(lambda: fresh.payloads("mark"), "the broker to have handed out what it keeps")
        return {heard.topic for heard in fresh.heard if heard.retained}


def test_switched_off_it_is_taken_away_by_a_reload_and_by_the_next_start(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "homeassistant/#", "mqtthook/#") as ear, Receiver() as receiver:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url) + mapping("door", receiver.url) + SWITCHED_ON)
        with made.bridge as bridge:
            shown = Shown(ear, "bridge-bridge")
            until(lambda: shown.documents, "the device")
            ear.publish("hall/x", "1")
            until(lambda: shown.state("last_delivery"), "a delivery to be shown", within=30)
            made.write(mapping("hall", receiver.url) + SWITCHED_ON)
            bridge.command("reload")
            until(lambda: shown.components["destination_door"] == {"p": "binary_sensor"}, "a destination to go")
            made.write(mapping("hall", receiver.url))
            assert bridge.json("reload")["changed"] == ["home_assistant"]
            until(lambda: shown.documents[-1] == b"", "the device to go")
            until(lambda: ear.payloads("mqtthook/status/last_delivery")[-1] == b"", "its topic to go too")
            made.write(mapping("hall", receiver.url) + SWITCHED_ON)
            bridge.command("reload")
            until(lambda: shown.documents[-1] != b"", "the device to come back")
            assert bridge.stop() == 0
            made.write(mapping("hall", receiver.url))
            bridge.start()
            until(lambda: shown.documents[-1] == b"", "the device to go")
            until(lambda: not [topic for topic in retained_topics(broker, "homeassistant/#", "mqtthook/#") if "homeassistant" in topic or "last_delivery" in topic], "nothing to be kept")


def test_a_mapping_that_takes_everything_is_not_fed_by_what_is_told_of_its_own_deliveries(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "homeassistant/#", "mqtthook/#") as ear, Receiver() as receiver:
        everything = mapping("hall", receiver.url).replace("hall/#", "#")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=everything + SWITCHED_ON) as bridge:
            ear.publish("hall/x", "1")
            until(lambda: ear.payloads("mqtthook/status/last_delivery"), "a delivery to be told of", within=30)
            ear.publish("hall/x", "2")
            until(lambda: 2 in payloads(receiver), "what came after it")
            assert not [received for received in receiver.accepted if json.loads(received.body)["data"]["topic"].startswith("mqtthook/status")]


def test_nothing_of_it_is_there_unless_it_is_wanted(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "homeassistant/#", "mqtthook/#") as ear, Receiver() as receiver, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping("hall", receiver.url)) as bridge:
        ear.publish("hall/x", "1")
        until(lambda: receiver.accepted, "a delivery")
        bridge.stop()
        assert not [heard for heard in ear.heard if heard.topic.startswith("homeassistant") or "last_delivery" in heard.topic]


# --- tail ---


class Tail:
    """`mqtthook tail` in a process of its own."""

    def __init__(self, bridge: Daemon, *options: str) -> None:
        self._file = bridge.directory / f"tail-{len(list(bridge.directory.glob('tail-*')))}"
        with self._file.open("wb") as out:
            arguments = [*COMMAND, "tail", *options, "--config", str(bridge.config)]
            self.process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.PIPE, cwd=bridge.directory, env=bridge.environment | {"PYTHONUNBUFFERED": "1"})

    @property
    def text(self) -> str:
        return self._file.read_text()

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines(keepends=True) if line.endswith("\n")]

    def whats(self, **wanted: str) -> list[str]:
        return [line["what"] for line in self.lines if wanted.items() <= line.items()]

    def end(self, number: signal.Signals | None = None) -> tuple[int, str]:
        """Return its exit code, and what it complained of."""
        if number is not None:
            self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said.decode()


def test_tail_shows_what_happens_live_and_ends_with_the_daemon(tmp_path: Path, broker: Mosquitto) -> None:
    answers = [Reply(503), Reply(200), Reply(400)]
    with Receiver(lambda path, headers, body: answers.pop(0) if answers else Reply()) as receiver, device(broker.port) as house:
        mappings = mapping("hall", receiver.url, more='when = "payload"') + mapping("door", receiver.url) + hook("lamp", "lamp/set")
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            everything, of_hall, of_door = Tail(bridge, "--json"), Tail(bridge, "--json", "--mapping", "hall"), Tail(bridge, "--json", "--destination", "door")
            # Each begins at a moment of its own: what is shown first tells that it has.
            until(lambda: house.publish("hall/x", "0") and all(tail.lines for tail in (everything, of_hall)), "them to watch")
            house.publish("hall/x", "1")
            until(lambda: of_hall.whats()[-2:] == ["retry", "delivered"], "a retry and a delivery")
            until(lambda: house.publish("door/x", "hush") and "dead" in everything.whats(mapping="door"), "a dead letter")
            assert post(bridge, "lamp") == 200
            assert bridge.post("/hooks/lamp", b"x", Authorization="Bearer wrong")[0] == 401
            until(lambda: everything.whats(mapping="lamp") == ["received", "delivered", "refused"], "a command and a refusal")
            until(lambda: house.publish("door/x", "hush") and "delivered" in of_door.whats(), "the deliveries of one destination")
            assert {"received", "filtered"} <= set(of_hall.whats())
            assert {line["mapping"] for line in of_hall.lines} == {"hall"}
            assert {line["destination"] for line in of_door.lines} == {"door"}
            assert "hush" not in str(everything.lines)
            assert SECRET not in str(everything.lines)
            assert of_hall.end(signal.SIGINT)[0] in (0, -signal.SIGINT)
            assert bridge.stop() == 0
            assert everything.end() == (1, "mqtthook: the daemon ends\n")
            assert of_door.end()[0] == 1


def test_tail_says_so_when_the_daemon_is_killed_or_there_is_none(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as house, Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping("hall", receiver.url)) as bridge:
        tail = Tail(bridge)
        until(lambda: house.publish("hall/\u202e x", "0") and re.search("received.*delivered", tail.text, re.DOTALL), "it to watch")
        assert re.search(r"^\d\d:\d\d:\d\d\.\d{3} received  mapping=hall topic='hall/\\u202e x'$", tail.text, re.MULTILINE), tail.text
        assert re.search(r"^[\d:.]+ delivered mapping=hall destination=hall event=evt_\w+ attempt=1 status=200 took_s=[\d.]+$", tail.text, re.MULTILINE), tail.text
        assert "\x1b" not in tail.text, "there is no terminal"
        bridge.kill()
        assert tail.end() == (1, "mqtthook: the daemon has ended\n")
        assert "no daemon runs" in bridge.command("tail", code=1)


def test_tail_does_not_wait_for_what_can_not_come(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping("hall", "http://127.0.0.1:9/") + hook("lamp", "lamp/set")) as bridge:
        assert bridge.command("tail", "--mapping", "nope", code=1) == "mqtthook: there is no mapping or hook 'nope'; known: hall, lamp\n"
        assert bridge.command("tail", "--destination", "nope", code=1) == "mqtthook: there is no destination 'nope'; known: hall, mqtt\n"
