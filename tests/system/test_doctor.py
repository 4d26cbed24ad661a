"""`mqtthook doctor` in real houses: a healthy one, and such as have something wrong with them."""

import json
import os
import pty
import signal
import ssl
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from bridge.cli.doctor import _all_looked
from bridge.edges.machine import SYNCHRONIZED, THROTTLED
from bridge.rules.diagnosis import TAKEN_OVER
from bridge.rules.findings import Finding, finding
from tests.edges.test_reach import dated
from tests.rig.certificates import certificate
from tests.rig.client import device
from tests.rig.daemon import COMMAND, SECRET, Daemon
from tests.rig.misbehaving import Misbehaving, never_speaks
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import UNIT_S, until

OUTBOUND = '[outbound.hall]\ntopic = "hall/#"\nurl = "{url}"\nsecret = "{secret}"\n'
HOOK = '[inbound.lamp]\nverify = "bearer"\nsecret = "0123456789abcdef0123456789abcdef"\ntopic = "lamp/{{{{ body.n }}}}/set"\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give another machine's files: its clock is set, and that is all there is to say."""
    made = tmp_path / "root"
    (made / SYNCHRONIZED).parent.mkdir(parents=True)
    (made / SYNCHRONIZED).touch()
    return made


def daemon(directory: Path, broker: Mosquitto, url: str, *, secret: str = SECRET, more: str = "", mqtt: str = "") -> Daemon:
    return Daemon(directory, broker=broker.url, mappings=OUTBOUND.format(url=url, secret=secret) + more, mqtt=mqtt)


def doctor(house: Daemon, root: Path, *arguments: str, code: int = 1) -> dict[str, dict[str, Any]]:
    """Return what is found, notes left out, by kind."""
    document = json.loads(house.command("doctor", "--json", "--root", str(root), *arguments, code=code))
    assert document["ok"] is (code == 0)
    assert all(each["what"] and each["why"] and each["do"] for each in document["findings"])
    return {each["kind"]: each for each in document["findings"] if each["level"] != "note"}


def test_a_healthy_house_has_nothing_wrong_and_gets_no_request(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url, more=HOOK.format()) as house:
        assert doctor(house, root, code=0) == {}
        told = house.command("doctor", "--root", str(root))
        assert "ok nothing is wrong with daemon, machine, files, broker, destination hall" in told
        assert receiver.received == []


def test_it_ends_soon_though_nothing_answers(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    """A receiver and a broker that say nothing at all: looked at side by side, each for some seconds."""
    with Misbehaving(never_speaks) as silent:
        house = daemon(tmp_path / "house", broker, f"https://localhost:{silent.port}/x")
        house.config.write_text(house.config.read_text().replace(broker.url, f"mqtt://127.0.0.1:{silent.port}"))
        began = time.monotonic()
        found = doctor(house, root)
        assert time.monotonic() - began < 21 * UNIT_S
    assert set(found) == {"daemon-away", "broker-away", "receiver-away"}
    assert found["receiver-away"]["subject"] == "destination hall"


def test_a_daemon_that_is_away_and_what_waits_in_its_outbox(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver(lambda path, headers, body: Reply(503)) as receiver:
        house = daemon(tmp_path / "house", broker, receiver.url)
        with house, device(broker.port) as sensor:
            sensor.publish("hall/door", "open")
            until(lambda: receiver.received, "it to be tried")
            assert doctor(house, root)["destination-failing"]["subject"] == "destination hall"
            house.stop()
        found = doctor(house, root)
    assert found["daemon-away"]["why"] == "nothing is sent, no hook answers, and 1 letters wait in it"


def test_a_paused_destination_is_a_note(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house:
        house.command("pause", "hall")
        document = json.loads(house.command("doctor", "--json", "--root", str(root)))
        assert "destination-paused" in [each["kind"] for each in document["findings"]]


def test_dead_letters_and_a_disabled_destination(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    statuses = iter((400, 410))
    with Receiver(lambda path, headers, body: Reply(next(statuses))) as receiver, daemon(tmp_path / "house", broker, receiver.url) as house, device(broker.port) as sensor:
        sensor.publish("hall/door", "1")
        until(lambda: len(receiver.received) == 1, "the first to be tried")
        sensor.publish("hall/door", "2")
        until(lambda: len(receiver.received) == 2, "the second to be tried")
        until(lambda: "destination-disabled" in doctor(house, root), "it to be disabled")
        found = doctor(house, root)
    assert found["dead-letters"]["subject"] == "hall"
    assert found["destination-disabled"]["do"] == "mqtthook resume hall"


def test_a_client_id_that_is_used_twice(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house:
        with device(broker.port, client_id="bridge-house"):
            until(lambda: house.json("status")["broker"].startswith(TAKEN_OVER), "the daemon to notice")
            found = doctor(house, root)
    assert "'bridge-house'" in found["client-id-twice"]["what"]


def test_another_bridge_that_is_online(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "other", broker, receiver.url):
        here = daemon(tmp_path / "here", broker, receiver.url)
        assert set(doctor(here, root)) == {"daemon-away", "somebody-online"}


def test_qos_0_and_retained_commands(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url, more=HOOK.format()) as house, device(broker.port) as sensor:
        sensor.publish("hall/temperature", "21", qos=0, retain=True, wait=False)
        sensor.publish("lamp/7/set", "on", retain=True)
        sensor.publish("lamp/7/state", "on", retain=True)
        found = doctor(house, root)
    assert set(found) == {"qos-0", "retained-command"}
    assert "hall/temperature" in found["qos-0"]["what"]
    assert found["retained-command"]["do"] == "mosquitto_pub -r -n -t 'lamp/7/set'"


def test_listening_finds_what_nobody_retains(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house, device(broker.port) as sensor:
        assert doctor(house, root, code=0) == {}
        command = [*COMMAND, "doctor", "--json", "--listen", "3s", "--root", str(root), "--config", str(house.config)]
        looking = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=house.directory, env=house.environment)

        def ended() -> bool:
            sensor.publish("hall/temperature", "21", qos=0, wait=False)
            return looking.poll() is not None

        until(ended, "it to have listened")
        kinds = [each["kind"] for each in json.loads(looking.communicate()[0])["findings"]]
    assert "qos-0" in kinds


def test_a_broker_with_limits_and_a_file_that_says_them(tmp_path: Path, root: Path) -> None:
    (root / "etc/mosquitto").mkdir(parents=True)
    (root / "etc/mosquitto/mosquitto.conf").write_text("persistence false\n")
    with Mosquitto(tmp_path / "m", lines=("max_qos 0",)) as broker, Receiver() as receiver:
        found = doctor(daemon(tmp_path / "house", broker, receiver.url), root)
    assert set(found) == {"daemon-away", "broker-qos", "broker-forgets"}


def test_a_daemon_that_says_nothing(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house:
        assert house.process is not None
        house.process.send_signal(signal.SIGSTOP)
        try:
            assert set(doctor(house, root)) == {"daemon-mute"}
        finally:
            house.process.send_signal(signal.SIGCONT)


def test_a_look_that_hangs_is_not_waited_for() -> None:
    never = threading.Event()

    def hanging() -> list[Finding]:
        never.wait(30 * UNIT_S)
        return []

    began = time.monotonic()
    found = _all_looked({"broker": lambda: [finding("ledger", "ledger", imbalance=1)], "destination crm": hanging}, 0.3)
    never.set()
    assert time.monotonic() - began < 20 * UNIT_S
    assert [(each.kind, each.subject) for each in found] == [("ledger", "ledger"), ("look-hangs", "destination crm")]


def test_a_defect_in_a_look_is_not_hidden() -> None:
    def defect() -> list[Finding]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        _all_looked({"broker": defect}, 5)


def test_certificates_that_are_about_to_end(tmp_path: Path, root: Path) -> None:
    for name in ("broker", "receiver", "own"):
        certificate(tmp_path, name, ends_in_days=3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "receiver.pem", tmp_path / "receiver.key")
    for file in tmp_path.glob("broker.*"):
        file.chmod(0o644)
    with Mosquitto(tmp_path / "m", lines=(f"certfile {tmp_path}/broker.pem", f"keyfile {tmp_path}/broker.key")) as broker, Misbehaving(never_speaks, tls=context) as receiver:
        tls = f'tls = {{ ca = "{tmp_path}/receiver.pem", cert = "{tmp_path}/own.pem", key = "{tmp_path}/own.key" }}\n'
        house = daemon(tmp_path / "house", broker, receiver.url, more=tls, mqtt=f'tls = {{ ca = "{tmp_path}/broker.pem" }}')
        house.config.write_text(house.config.read_text().replace(broker.url, f"mqtts://localhost:{broker.port}"))
        document = json.loads(house.command("doctor", "--json", "--root", str(root), code=1))
    ending = {each["subject"] for each in document["findings"] if each["kind"] == "certificate-ending"}
    assert ending == {"mqtt.url", "destination hall", "mqtt.tls.ca", "outbound.hall.tls.ca", "outbound.hall.tls.cert"}


def test_secrets_that_others_can_read(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o644)
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver.url, secret=f"file:{secret}", more=HOOK.format())
        house.config.chmod(0o644)
        (house.directory / "outbox.db").touch(0o644)
        (house.directory / "outbox.db").chmod(0o644)
        found = doctor(house, root)
        assert set(found) == {"daemon-away", "secret-readable", "config-readable", "outbox-readable"}
        assert found["secret-readable"]["do"] == f"chmod 600 {secret}"
        assert "inbound.lamp.secret" in found["config-readable"]["what"]
        secret.unlink()
        assert "secret-missing" in doctor(house, root)


def test_the_machine_is_looked_at(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    (root / SYNCHRONIZED).unlink()
    (root / THROTTLED).parent.mkdir(parents=True)
    (root / THROTTLED).write_text("50005\n")
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house:
        assert set(doctor(house, root)) == {"clock-unset", "power-now"}


def test_a_config_that_was_changed_since(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house:
        later = time.time() + 5
        os.utime(house.config, (later, later))
        assert set(doctor(house, root)) == {"config-changed"}


def test_a_password_that_only_the_service_has(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver.url, mqtt='username = "me"\npassword = "credential:broker"')
        document = json.loads(house.command("doctor", "--json", "--root", str(root), code=1))
    assert {"broker-unasked", "daemon-away"} <= {each["kind"] for each in document["findings"]}
    assert "broker-away" not in {each["kind"] for each in document["findings"]}


def test_a_clock_is_asked_for_only_where_it_is_wanted(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Misbehaving(dated(-900)) as receiver, daemon(tmp_path / "house", broker, f"{receiver.url}/hooks/TOKEN") as house:
        assert doctor(house, root, code=0) == {}
        assert "clock-skew" in doctor(house, root, "--head")
        assert [request.split(b"\r\n")[0] for request in receiver.requests] == [b"HEAD / HTTP/1.1"]


def test_a_config_with_errors_is_one(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    house = daemon(tmp_path / "house", broker, "http://localhost/x", more="nonsense = 1\n")
    assert "there is no such key" in house.command("doctor", code=78)


def test_on_a_terminal_a_bar_shows_that_it_looks(tmp_path: Path, broker: Mosquitto, root: Path) -> None:
    with Receiver() as receiver, daemon(tmp_path / "house", broker, receiver.url) as house:
        ours, theirs = pty.openpty()
        command = [*COMMAND, "doctor", "--root", str(root), "--config", str(house.config)]
        looking = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=house.directory, env=house.environment | {"TERM": "xterm"})
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert looking.wait(20) == 0
    assert b"looking" in shown
    assert b"nothing is wrong" in shown
