"""A broker examined: real ones, with limits, with lists of who may what, and with nobody there."""

import time
from pathlib import Path
from typing import Any

import pytest

from bridge.edges.mqtt.examination import examined
from bridge.edges.mqtt.settings import MqttSettings
from tests.edges.test_tap import ACCEPTED_5, answering
from tests.rig.certificates import certificate
from tests.rig.client import device
from tests.rig.misbehaving import Misbehaving
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port


def settings(url: str, **keys: Any) -> MqttSettings:
    return MqttSettings.model_validate({"url": url, **keys})


@pytest.mark.parametrize("protocol", ["auto", "3.1.1"])
def test_it_tells_what_the_broker_keeps_and_at_which_qos(tmp_path: Path, protocol: str) -> None:
    with Mosquitto(tmp_path / "m") as broker, device(broker.port) as sensor:
        sensor.publish("hall/door", "open", retain=True, qos=1)
        sensor.publish("hall/lamp", "on", retain=True, qos=0, wait=False)
        sensor.publish("hall/last", "x", qos=1)  # after it, the one before is there
        seen = examined(settings(broker.url, protocol=protocol), ["hall/#", "$SYS/broker/version"], listen_s=0.1)
    found = {message.topic: (message.qos, message.retained) for message in seen.heard}
    assert found["hall/door"] == (1, True)
    assert found["hall/lamp"] == (0, True)
    assert "$SYS/broker/version" in found
    assert (seen.problem, seen.refused, seen.certificate_ends_at) == (None, (), None)


def test_it_tells_the_brokers_limits(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "m", lines=("max_qos 0", "retain_available false", "max_packet_size 2000", "max_inflight_messages 5")) as broker:
        seen = examined(settings(broker.url, protocol="5"), [], listen_s=0.1)
    assert seen.properties == {"MaximumQoS": 0, "RetainAvailable": 0, "MaximumPacketSize": 2_000, "ReceiveMaximum": 5}


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    port = free_port()
    seen = examined(settings(f"mqtt://127.0.0.1:{port}"), ["#"], listen_s=0.1)
    assert seen.problem == f"no connection to 127.0.0.1:{port}: Connection refused"


def test_a_wrong_password_is_said(tmp_path: Path) -> None:
    with Mosquitto(tmp_path / "m", lines=("allow_anonymous false",)) as broker:
        seen = examined(settings(broker.url, username="me", password="x"), ["#"], listen_s=0.1)
    assert seen.problem is not None
    assert "refuses us" in seen.problem


def test_a_refused_subscription_is_noted_unless_it_is_about_the_broker_itself() -> None:
    refused = b"\x90\x04\x00\x01\x00\x87"  # SUBACK "Not authorized", MQTT 5.0 section 3.9.3
    for filter, expected in (("hall/#", ("hall/#",)), ("$SYS/broker/version", ())):
        with Misbehaving(answering(ACCEPTED_5, refused)) as broker:
            seen = examined(settings(f"mqtt://127.0.0.1:{broker.port}", protocol="5"), [filter], listen_s=0.1)
        assert (seen.problem, seen.refused) == (None, expected)


def test_the_certificate_of_the_broker_tells_when_it_ends(tmp_path: Path) -> None:
    certificate(tmp_path, "own", ends_in_days=3)
    for file in tmp_path.glob("own.*"):
        file.chmod(0o644)
    with Mosquitto(tmp_path / "m", lines=(f"certfile {tmp_path}/own.pem", f"keyfile {tmp_path}/own.key")) as broker:
        seen = examined(settings(f"mqtts://localhost:{broker.port}", tls={"ca": str(tmp_path / "own.pem")}), ["#"], listen_s=0.1)
    assert seen.certificate_ends_at is not None
    assert abs(seen.certificate_ends_at - time.time() - 3 * 86_400) < 3_600
