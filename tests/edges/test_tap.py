"""A look at the broker, against real ones and such as misbehave: it sees everything, disturbs nobody, and always ends."""

import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest

from bridge.edges.mqtt import tap
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.tap import messages
from bridge.errors import BridgeError
from bridge.model import Message
from bridge.rules.topics import Filter
from tests.edges.test_broker import OLD_BROKER
from tests.rig.certificates import make_authority
from tests.rig.client import device
from tests.rig.misbehaving import Connection, Misbehaving
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port, is_open
from tests.rig.wait import until

ALL = Filter.parse("#")

# paho leaves the socket of a handshake that failed to the garbage collector.
LEAKING = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto", lines=("log_type all",)) as running:
        yield running


def settings(url: str, **keys: Any) -> MqttSettings:
    return MqttSettings.model_validate({"url": url, **keys})


def seen(mqtt: MqttSettings, count: int, *, filter: Filter = ALL) -> list[Message]:
    """Return the first messages that come."""
    with closing(messages(mqtt, filter, for_s=20)) as came:
        return list(islice((message for message in came if message is not None), count))


def refusal(mqtt: MqttSettings) -> str:
    with pytest.raises(BridgeError) as raised:
        list(messages(mqtt, ALL, for_s=5))
    text = str(raised.value)
    assert "\n" not in text
    return text


@pytest.mark.parametrize("protocol", ["auto", "5", "3.1.1"])
def test_it_yields_what_is_retained_and_what_comes(broker: Mosquitto, protocol: str) -> None:
    with device(broker.port) as sensor:
        sensor.publish("hall/door", "open", retain=True)
        with closing(messages(settings(broker.url, protocol=protocol), Filter.parse("hall/{what}"))) as came:
            assert next(came) is None, "the subscription stands"
            replay = next(message for message in came if message is not None)
            assert (replay.topic, replay.payload, replay.qos, replay.retained) == ("hall/door", b"open", 1, True)
            sensor.publish("hall/lamp", b"\xff\x00", qos=0)
            sensor.publish("kitchen/lamp", "not asked for")
            sensor.publish("hall/fan", "", retain=True)
            live = list(islice((message for message in came if message is not None), 2))
            assert [(message.topic, message.payload, message.qos, message.retained) for message in live] == [("hall/lamp", b"\xff\x00", 0, False), ("hall/fan", b"", 1, False)]
            assert replay.received_at <= live[0].received_at


def test_user_properties_come_along(broker: Mosquitto) -> None:
    with closing(messages(settings(broker.url), ALL)) as came:
        next(came)
        command = ["mosquitto_pub", "-p", str(broker.port), "-V", "5", "-t", "a", "-m", "1", "-D", "publish", "user-property", "unit", "C"]
        subprocess.run(command, check=True, timeout=20)
        assert next(message for message in came if message is not None).properties == {"unit": "C"}


def test_it_ends_in_time_though_nothing_comes_and_says_so_all_the_while(broker: Mosquitto) -> None:
    turns = list(messages(settings(broker.url), ALL, for_s=0.5))
    assert turns == [None] * len(turns)
    assert len(turns) >= 3


def test_more_than_a_broker_sends_without_acknowledgement(broker: Mosquitto) -> None:
    with closing(messages(settings(broker.url), ALL)) as came, device(broker.port) as sensor:
        next(came)
        for n in range(500):
            sensor.publish("a", str(n), wait=False)
        got = [message.payload for message in islice((message for message in came if message is not None), 500)]
        assert got == [str(n).encode() for n in range(500)]


def test_it_leaves_no_session_no_will_and_nothing_published(broker: Mosquitto) -> None:
    with device(broker.port, "#") as witness:
        list(messages(settings(broker.url), ALL, for_s=0.2))
        log = broker.directory / "mosquitto.log"
        until(lambda: "Received DISCONNECT from mqtthook-listen-" in log.read_text(), "it to take leave")
        connect = next(line for line in log.read_text().splitlines() if "New client connected" in line and "mqtthook-listen-" in line)
        assert "(p5, c1," in connect, "a clean start"
        assert "Will" not in log.read_text().partition("mqtthook-listen-")[2].splitlines()[0]
        list(messages(settings(broker.url, protocol="3.1.1"), ALL, for_s=0.2))
        assert "(p2, c1," in log.read_text()
        assert witness.heard == []


def test_two_of_them_and_a_client_of_the_same_settings_do_not_meet(broker: Mosquitto) -> None:
    mqtt = settings(broker.url, client_id="bridge")
    with device(broker.port, client_id="bridge"), closing(messages(mqtt, ALL)) as one, closing(messages(mqtt, ALL)) as other, device(broker.port) as sensor:
        next(one), next(other)
        sensor.publish("a", "1")
        assert all(next(message for message in came if message is not None).payload == b"1" for came in (one, other))
        assert "already connected" not in (broker.directory / "mosquitto.log").read_text()


# Ways to the broker


@LEAKING
def test_tls_is_trusted_or_said_not_to_be(tmp_path: Path) -> None:
    authority = make_authority(tmp_path / "tls")
    port = free_port()
    lines = (f"cafile {authority.ca}", f"certfile {authority.cert}", f"keyfile {authority.key}")
    with Mosquitto(tmp_path / "mosquitto", listener=f"listener {port} 127.0.0.1", lines=lines):
        until(lambda: is_open(port), "the broker to listen")
        url = f"mqtts://localhost:{port}"
        assert list(messages(settings(url, tls={"ca": str(authority.ca)}), ALL, for_s=0.1))
        assert "can't be trusted" in refusal(settings(url))


@LEAKING
def test_a_socket_file(tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    with Mosquitto(tmp_path / "mosquitto", listener=f"listener 0 {path}"):
        until(path.exists, "the socket file")
        assert list(messages(settings(f"unix://{path}"), ALL, for_s=0.1))
    assert "broker.sock" in refusal(settings(f"unix://{path}"))


def test_websockets_and_a_broker_without_mqtt_5(tmp_path: Path) -> None:
    """Debian's Mosquitto has no WebSockets; amqtt has, and speaks 3.1.1 only."""
    port = free_port()
    program = OLD_BROKER.format(kind="ws", port=port)
    with (tmp_path / "old-broker.log").open("wb") as log, subprocess.Popen([sys.executable, "-c", program], stdout=log, stderr=log) as old:
        try:
            until(lambda: is_open(port), "the old broker to listen")
            assert list(messages(settings(f"ws://127.0.0.1:{port}/"), ALL, for_s=0.1))
        finally:
            old.terminate()


# Ways that lead nowhere


def test_a_broker_that_is_not_there() -> None:
    port = free_port()
    assert refusal(settings(f"mqtt://127.0.0.1:{port}")) == f"no connection to 127.0.0.1:{port}: Connection refused"
    assert "can't be found" in refusal(settings("mqtt://broker.invalid"))


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_a_wrong_password_is_said_and_tried_once(tmp_path: Path, protocol: str) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "me", "right"], check=True, env={"PATH": "/usr/bin:/usr/sbin:/usr/local/bin"})
    passwords.chmod(0o644)
    with Mosquitto(tmp_path / "mosquitto", lines=("allow_anonymous false", f"password_file {passwords}", "log_type all")) as broker:
        assert list(messages(settings(broker.url, username="me", password="right", protocol=protocol), ALL, for_s=0.1))
        text = refusal(settings(broker.url, username="me", password="wrong", protocol=protocol))
        assert f"the broker at 127.0.0.1:{broker.port} refuses us: Not authorized; check username and password in [mqtt]" == text
        assert (broker.directory / "mosquitto.log").read_text().count("Sending CONNACK to mqtthook-listen-") <= 2


def test_a_broker_that_goes_away(broker: Mosquitto) -> None:
    came = messages(settings(broker.url), ALL)
    next(came)
    broker.kill()
    with pytest.raises(BridgeError, match=f"the connection to 127.0.0.1:{broker.port} broke"):
        list(came)


# Brokers that misbehave: what they answer to CONNECT, and then to SUBSCRIBE

ACCEPTED_5, ACCEPTED_3 = b"\x20\x03\x00\x00\x00", b"\x20\x02\x00\x00"
GRANTED_3 = b"\x90\x03\x00\x01\x01"


def answering(*answers: bytes) -> Callable[[Connection], None]:
    """Return the behaviour of a broker that answers each packet with the next of these, and hangs up where they end."""

    def behave(link: Connection) -> None:
        for answer in answers:
            link.first_bytes()
            link.send(answer)
        if answers[-1:] != (b"",):
            link.drain()

    return behave


REFUSALS: list[tuple[tuple[bytes, ...], str, str]] = [  # answers, protocol, what is said
    ((ACCEPTED_5, b"\x90\x04\x00\x01\x00\x87"), "auto", "refuses the subscription to '#': Not authorized; its access list has to allow it"),
    ((ACCEPTED_3, b"\x90\x03\x00\x01\x80"), "3.1.1", "refuses the subscription to '#'"),
    ((b"\x20\x02\x00\x05",), "3.1.1", "refuses us: Not authorized"),
    ((b"",), "3.1.1", "broke"),
    ((b"\x20\x01\x00",), "5", "ended the connection: Protocol error"),
    ((ACCEPTED_5, b"\x90\x04\x00\x01\x00\x01\xe0\x02\x8b\x00"), "5", "ended the connection: Server shutting down"),
]


@pytest.mark.parametrize(("answers", "protocol", "said"), REFUSALS, ids=[row[2] for row in REFUSALS])
def test_a_refusal_is_one_sentence(answers: tuple[bytes, ...], protocol: str, said: str) -> None:
    with Misbehaving(answering(*answers)) as server:
        assert said in refusal(settings(f"mqtt://127.0.0.1:{server.port}", protocol=protocol))
        assert server.connections == 1


@pytest.mark.parametrize("first", [b"\x20\x02\x00\x01", b"\x20\x03\x00\x84\x00", b"\x20\x01\x00", b""], ids=["refused as in 3.1.1", "refused", "nonsense", "hung up"])
def test_a_broker_without_mqtt_5_is_asked_again_in_the_version_before(first: bytes) -> None:
    def behave(link: Connection) -> None:
        answering(*((first,) if server.connections == 1 else (ACCEPTED_3, GRANTED_3)))(link)

    with Misbehaving(behave) as server:
        assert list(messages(settings(f"mqtt://127.0.0.1:{server.port}"), ALL, for_s=0.1))
        assert server.connections == 2


def test_a_broker_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "PROBE_S", 0.1)
    monkeypatch.setattr(tap, "CONNACK_S", 0.2)
    with Misbehaving(Connection.drain) as server:
        assert refusal(settings(f"mqtt://127.0.0.1:{server.port}")) == f"the broker at 127.0.0.1:{server.port} did not answer within 0.2 s"
        assert server.connections == 2


def test_what_paho_can_not_read_ends_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """paho before 2.2 raises what a malformed packet raises in it."""

    def unread(self: paho.Client, timeout: float) -> None:
        raise struct.error("unpack requires a buffer of 2 bytes")

    monkeypatch.setattr(paho.Client, "loop", unread)
    with Misbehaving(Connection.drain) as server:
        said = refusal(settings(f"mqtt://127.0.0.1:{server.port}"))
    assert said == f"the broker at 127.0.0.1:{server.port} sent what can't be read: error: unpack requires a buffer of 2 bytes"


def test_a_message_whose_topic_is_not_text_is_skipped() -> None:
    def publish(topic: bytes, payload: bytes) -> bytes:
        return struct.pack("!BBH", 0x30, 2 + len(topic) + len(payload), len(topic)) + topic + payload

    with Misbehaving(answering(ACCEPTED_3, GRANTED_3 + publish(b"\xff\xfe", b"no") + publish(b"a", b"yes"))) as server:
        assert [message.payload for message in seen(settings(f"mqtt://127.0.0.1:{server.port}", protocol="3.1.1"), 1)] == [b"yes"]


def test_ctrl_c_while_it_connects_leaves_nothing_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: tap.Tap, wait_s: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tap.Tap, "turn", interrupted)
    with Misbehaving(Connection.drain) as server, pytest.raises(KeyboardInterrupt):
        list(messages(settings(f"mqtt://127.0.0.1:{server.port}"), ALL))
