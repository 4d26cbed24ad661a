"""The session with the broker, against real ones: each way to reach it, and each way it goes wrong."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.certificates import make_authority
from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port, is_open
from tests.rig.receiver import Receiver
from tests.rig.wait import until


def events(receiver: Receiver, topic: str = "hall/#") -> str:
    return f'[outbound.hall]\ntopic = "{topic}"\nurl = "{receiver.url}"\nsecret = "{SECRET}"\n'


def delivered(receiver: Receiver) -> list[object]:
    return [json.loads(received.body)["data"]["payload"] for received in receiver.accepted]


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_either_version_of_mqtt(tmp_path: Path, protocol: str) -> None:
    with Mosquitto(tmp_path / "mosquitto") as broker, Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver), mqtt=f'protocol = "{protocol}"') as bridge:
            sensor.publish("hall/x", "1")
            until(lambda: delivered(receiver) == [1], "the event")
            assert ("mqtt=3.1.1" if protocol == "3.1.1" else "mqtt=5") in bridge.log
            until(lambda: bridge.metrics()["mqtthook_broker_unacknowledged"] == 0, "the broker to have heard of it")
            bridge.kill()
            sensor.publish("hall/x", "2")
            bridge.start()
            until(lambda: delivered(receiver) == [1, 2], "what came while it was away: the session is kept")


OLD_BROKER = """
import asyncio
from amqtt.broker import Broker

async def main():
    listener = {{"type": "{kind}", "bind": "127.0.0.1:{port}"}}
    plugins = {{"amqtt.plugins.authentication.AnonymousAuthPlugin": {{"allow_anonymous": True}}}}
    await Broker({{"listeners": {{"default": listener}}, "plugins": plugins}}).start()
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize(("kind", "scheme"), [("tcp", "mqtt"), ("ws", "ws")])
def test_a_broker_without_mqtt_5_is_spoken_to_in_the_version_before(tmp_path: Path, kind: str, scheme: str) -> None:
    """amqtt speaks 3.1.1 only, and over WebSockets too."""
    port = free_port()
    program = OLD_BROKER.format(kind=kind, port=port)
    with (tmp_path / "old-broker.log").open("wb") as log, subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log) as old:
        try:
            until(lambda: is_open(port), "the old broker to listen")
            with Daemon(tmp_path / "bridge", broker=f"{scheme}://127.0.0.1:{port}/", mappings="") as bridge:
                assert "mqtt=3.1.1" in bridge.log
        finally:
            old.terminate()


def test_a_wrong_password_is_said_and_not_tried_all_the_time(tmp_path: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "bridge", "right"], check=True, env={"PATH": "/usr/bin:/usr/sbin:/usr/local/bin"})
    passwords.chmod(0o644)
    with Mosquitto(tmp_path / "mosquitto", lines=("allow_anonymous false", f"password_file {passwords}")) as broker:
        with Daemon(tmp_path / "wrong", broker=broker.url, mappings="", mqtt='username = "bridge"\npassword = "wrong"').launch() as bridge:
            until(lambda: "the broker refuses us" in bridge.log, "the refusal to be told")
            assert "check username, password and client_id" in bridge.log
            assert bridge.log.count("the broker refuses us") == 1
            assert "wrong" not in bridge.log.replace(str(tmp_path), "")
        with Daemon(tmp_path / "right", broker=broker.url, mappings="", mqtt='username = "bridge"\npassword = "right"') as bridge:
            assert bridge.is_ready()


def test_tls_with_an_own_authority_and_never_without_trust(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "tls")
    port = free_port()
    lines = (f"cafile {authority.ca}", f"certfile {authority.cert}", f"keyfile {authority.key}")
    with Mosquitto(tmp_path / "mosquitto", listener=f"listener {port} 127.0.0.1", lines=lines):
        until(lambda: is_open(port), "the broker to listen")
        url = f"mqtts://localhost:{port}"
        with Daemon(tmp_path / "trusted", broker=url, mappings="", mqtt=f'tls = {{ ca = "{authority.ca}" }}') as bridge:
            assert bridge.is_ready()
        with Daemon(tmp_path / "untrusted", broker=url, mappings="").launch() as bridge:
            until(lambda: "can't be trusted" in bridge.log, "the distrust to be told")
        with Daemon(tmp_path / "unchecked", broker=url, mappings="", mqtt="tls = { verify = false }") as bridge:
            assert "isn't checked" in bridge.command("check")


def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    with Mosquitto(tmp_path / "mosquitto", listener=f"listener 0 {path}"):
        until(path.exists, "the broker to listen")
        with Daemon(tmp_path / "bridge", broker=f"unix://{path}", mappings="") as bridge:
            assert bridge.is_ready()


def test_messages_published_with_qos_0_and_2_arrive(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "mosquitto") as broker, Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver) + "qos = 2\n") as bridge:
            for qos in (0, 1, 2):
                sensor.publish("hall/x", str(qos), qos=qos)
            until(lambda: delivered(receiver) == [0, 1, 2], "all three")
            until(lambda: bridge.metrics()["mqtthook_broker_unacknowledged"] == 0, "all to be acknowledged")
            assert "subscribed with QoS 1" in bridge.command("check")


def test_topics_that_only_a_broker_would_take_arrive(tmp_path: Path) -> None:
    topics = ["hall/ spaces and ümlauts ", "hall//empty", "hall/{{ 7*7 }}", "hall/a'b\"c", "hall/" + "x" * 1_000, "hall/$inner", "hall/日本"]
    with Mosquitto(tmp_path / "mosquitto") as broker, Receiver() as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver)):
            for topic in topics:
                sensor.publish(topic, "1")
            until(lambda: len(receiver.accepted) == len(topics), "all of them")
            assert {json.loads(received.body)["data"]["topic"] for received in receiver.accepted} == set(topics)


def test_a_restart_of_the_broker_is_outlived_and_a_lost_session_is_said(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "mosquitto") as broker, Receiver() as receiver:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver)) as bridge:
            broker.kill()
            until(lambda: not bridge.is_ready(), "the loss to be noticed")
            broker.start()
            until(bridge.is_ready, "it to be connected again")
            assert "broker lost our session" in bridge.log
            with device(broker.port) as sensor:
                sensor.publish("hall/x", "1")
                until(lambda: delivered(receiver) == [1], "the event")


def test_somebody_else_with_our_client_id_is_named_and_not_fought_for_ever(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "mosquitto") as broker:
        with Daemon(tmp_path / "one", broker=broker.url, mappings="", mqtt='#') as one:
            one.stop()
            one.config.write_text(one.config.read_text().replace('"bridge-one"', '"same"'))
            with Daemon(tmp_path / "two", broker=broker.url, mappings="") as two:
                two.stop()
                two.config.write_text(two.config.read_text().replace('"bridge-two"', '"same"'))
                one.launch()
                two.launch()
                until(lambda: "another client seems to use the client_id 'same'" in one.log + two.log, "the quarrel to be named", within=40)


def test_a_message_is_not_acknowledged_before_it_is_safe(tmp_path: Path) -> None:
    """The disk is full and the receiver is down: what is unacknowledged comes again after a kill."""
    with Mosquitto(tmp_path / "mosquitto") as broker, device(broker.port) as sensor:
        dead = Receiver()
        mappings = events(dead) + 'retry = { first = "100ms", max = "200ms" }\n'
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings, store='max_size = "300KiB"') as bridge:
            for n in range(150):
                sensor.publish(f"hall/{n}", json.dumps({"n": n, "pad": "x" * 4_000}), wait=False)
            until(lambda: bridge.metrics()["mqtthook_outbox_full"] == 1, "it to be full")
            bridge.kill()
            with dead as receiver:
                bridge.start()
                until(lambda: len(receiver.accepted) >= 150 and {payload["n"] for payload in delivered(receiver) if isinstance(payload, dict)} == set(range(150)), "all of them", within=60)
