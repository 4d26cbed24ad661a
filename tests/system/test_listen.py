"""`mqtthook listen`: what it shows is what comes; what it learns is a config that works."""

import base64
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from tests.rig.client import device
from tests.rig.daemon import COMMAND, OF_THE_TERMINAL, ROOT, SECRET, Daemon
from tests.rig.misbehaving import Connection, Misbehaving
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver
from tests.rig.wait import until

MAPPINGS = f"""
[outbound.hall]
topic = "zigbee2mqtt/{{room}}/motion"
when = "payload.occupancy"
on_change = "payload.occupancy"
url = "http://127.0.0.1:9/hall"
secret = "{SECRET}"

[outbound.all]
topic = "zigbee2mqtt/#"
retained = "use"
url = "http://127.0.0.1:9/all"
secret = "credential:only-the-service-has-it"

[outbound.broken]
topic = "broken"
url = "http://127.0.0.1:9/broken"
sign = "none"
json = {{ battery = "{{{{ payload.battery }}}}" }}
"""

SAMPLES_FILE = ROOT.parent / "shared" / "data" / "device-samples.json"

OWN_SAMPLES: list[dict[str, Any]] = [  # of the same shape, for a tree that stands alone
    {"topic": "zigbee2mqtt/hall_motion", "payload": '{"occupancy":true,"battery":80,"update":{"state":"idle"}}'},
    {"topic": "zigbee2mqtt/door", "payload": '{"contact":false,"battery":15}'},
    {"topic": "zigbee2mqtt/lamp/availability", "payload": '{"state":"online"}', "retain": True},
    {"topic": "zigbee2mqtt/plug/availability", "payload": '{"state":"offline"}', "retain": True},
    {"topic": "zigbee2mqtt/lamp/set", "payload": '{"state":"ON"}'},
    {"topic": "zigbee2mqtt/bridge/logging", "payload": '{"level":"info","message":"a\\nb"}'},
    {"topic": "tele/plug/SENSOR", "payload": '{"Time":"2026-11-24T10:00:00","ENERGY":{"Power":3.5}}'},
    {"topic": "tele/%topic%/LWT", "payload": "Online", "retain": True},
    {"topic": "stat/plug/RESULT", "payload": '{"MqttPassword":"hunter2hunter2"}'},
    {"topic": "shelly1-a8032a/events/rpc", "payload": '{"method":"NotifyEvent","params":{"events":[{"event":"btn_up"}]}}'},
    {"topic": "frigate/door/person/snapshot", "payload": base64.b64encode(b"\xff\xd8\xff\xe0").decode(), "encoding": "base64", "retain": True},
    {"topic": "zwave/Living Room/Switch/currentValue", "payload": "99", "retain": True},
    {"topic": "homeassistant/binary_sensor/x/config", "payload": "not json", "retain": True},
    {"topic": "wled/desk/v", "payload": '<?xml version="1.0" ?><vs>"\'</vs>'},
    {"topic": "evcc/loadpoints/1/vehicleName", "payload": ""},
]
SAMPLES: list[dict[str, Any]] = json.loads(SAMPLES_FILE.read_text()) if SAMPLES_FILE.exists() else OWN_SAMPLES


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    with Mosquitto(tmp_path / "mosquitto", lines=("log_type all",)) as running:
        yield running


def listeners(broker: Mosquitto) -> int:
    """Return how many have been granted a subscription so far."""
    return (broker.directory / "mosquitto.log").read_text().count("Sending SUBACK to mqtthook-listen-")


def environment(directory: Path, **more: str) -> dict[str, str]:
    directory.mkdir(exist_ok=True)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MQTTHOOK_") and name not in OF_THE_TERMINAL}
    return {**plain, "PYTHONPATH": str(ROOT), "TZ": "UTC", "PYTHONWARNINGS": "error", **more}


@contextmanager
def started(tmp_path: Path, broker: Mosquitto, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Give the running command once it listens; it has no config but its environment."""
    before, where = listeners(broker), tmp_path / "alone"
    run = subprocess.Popen(
        [*COMMAND, "listen", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, env=environment(where, MQTTHOOK_MQTT__URL=broker.url)
    )
    try:
        until(lambda: run.poll() is not None or listeners(broker) > before, "the command to listen")
        yield run
    finally:
        run.kill()
        run.communicate()


def ended(run: subprocess.Popen[bytes], *, code: int = 0) -> tuple[str, str]:
    """Return what the command printed to the end."""
    out, err = (text.decode() for text in run.communicate(timeout=30))
    assert run.returncode == code, out + err
    return out, err


def called(directory: Path, *arguments: str, code: int = 0, **variables: str) -> str:
    """Run `mqtthook listen` in a directory, and return all that it printed."""
    run = subprocess.run([*COMMAND, "listen", *arguments], capture_output=True, text=True, cwd=directory, env=environment(directory, **variables), timeout=60, check=False)
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def tool(tmp_path: Path, broker: Mosquitto) -> Daemon:
    return Daemon(tmp_path / "bridge", broker=broker.url, mappings=MAPPINGS)


# Showing


def test_messages_are_shown_as_they_come(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port) as sensor:
        sensor.publish("hall/lamp", "on", retain=True)
        with started(tmp_path, broker, "hall/{what}", "--count", "6") as run:
            for payload in ('{"a": 1}', "", b"\xff\xd8" * 1024, b"\xff", "\x1b[31mred\x07\nüber", "x" * 300):
                sensor.publish("hall/lamp", payload, qos=0)
            out, err = ended(run)
        lines = out.splitlines()
        assert [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in lines] == [
            "R q1 hall/lamp  on",
            '  q0 hall/lamp  {"a": 1}',
            "  q0 hall/lamp  (empty)",
            "  q0 hall/lamp  <2048 bytes: ffd8ffd8ffd8ffd8ffd8ffd8ffd8ffd8...>",
            "  q0 hall/lamp  <1 bytes: ff>",
            r"  q0 hall/lamp  \x1b[31mred\x07\nüber",
        ]
        assert err == "", "nothing but messages where nobody looks"


def test_it_says_what_each_mapping_makes_of_a_message(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = tool(tmp_path, broker)
    with device(broker.port) as sensor:
        sensor.publish("zigbee2mqtt/hall/motion", '{"occupancy": true}', retain=True)
        sensor.publish("broken", "{}", retain=True)
        sensor.publish("other", "1", retain=True)
        lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in bridge.command("listen", "--count", "3").splitlines()]
    by_topic = {lines[n].split()[2]: lines[n:] for n, line in enumerate(lines) if line[:1] == "R"}
    assert by_topic["zigbee2mqtt/hall/motion"][1:3] == [
        '    x  hall: it is a retained message that the broker replayed, and `retained` is "ignore"',
        "    -> all",
    ]
    assert by_topic["broken"][1].startswith("    x  broken: it is a retained message")
    assert by_topic["other"][1] == "    no mapping takes it"


def test_gates_are_judged_by_what_was_seen(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = tool(tmp_path, broker)
    with started(tmp_path, broker, "--config", str(bridge.config), "--json", "--count", "4") as run, device(broker.port) as sensor:
        for payload in ('{"occupancy": true}', '{"occupancy": true}', '{"occupancy": false}'):
            sensor.publish("zigbee2mqtt/hall/motion", payload)
        sensor.publish("broken", "{}")
        documents = [json.loads(line) for line in ended(run)[0].splitlines()]
    hall = [next(entry for entry in document["mappings"] if entry["mapping"] == "hall") for document in documents[:3]]
    assert [entry["takes"] for entry in hall] == [True, False, False]
    assert [entry["reason"] for entry in hall] == [None, "`on_change`: it is still true", "`when` is false: payload.occupancy"]
    assert documents[3]["mappings"] == [{"mapping": "broken", "takes": False, "reason": "payload.battery is missing"}]


def test_a_healthy_sign_of_life_is_no_error_and_those_that_are_taken_can_be_seen_alone(tmp_path: Path, broker: Mosquitto) -> None:
    silence = '[outbound.freezer]\ntopic = "freezer"\nwhen = "payload.ok"\nsilence = "3h"\nurl = "http://127.0.0.1:9/"\nsign = "none"\n'
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=MAPPINGS + silence)
    said = (("freezer", '{"ok": true}'), ("freezer", '{"ok": false}'), ("other", "1"), ("broken", "{}"), ("zigbee2mqtt/lamp", "1"))

    def heard(*arguments: str) -> list[str]:
        with started(tmp_path, broker, "--config", str(bridge.config), *arguments) as run, device(broker.port) as sensor:
            for topic, payload in said:
                sensor.publish(topic, payload)
            return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in ended(run)[0].splitlines()]

    everything = heard("--count", "5")
    assert everything[1] == "    .  freezer: sign of life"
    assert everything[3] == "    x  freezer: `when` is false: payload.ok"
    assert heard("--taken", "--count", "1") == ["  q1 zigbee2mqtt/lamp  1", "    -> all"]
    assert "no mapping is configured" in called(tmp_path / "there", "--taken", code=1, MQTTHOOK_MQTT__URL=broker.url)


def test_json_can_be_tried(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = tool(tmp_path, broker)
    bridge.config.write_text(bridge.config.read_text().replace("credential:only-the-service-has-it", SECRET))
    with device(broker.port) as sensor:
        sensor.publish("zigbee2mqtt/hall/motion", '{"occupancy": true}', retain=True)
        sensor.publish("picture", b"\xff\xd8", retain=True)
    lines = bridge.command("listen", "--json", "--count", "2").splitlines()
    found = {document["topic"]: document for document in map(json.loads, lines)}
    text, picture = found["zigbee2mqtt/hall/motion"], found["picture"]
    assert (text["payload"], text["value"], text["qos"], text["retained"], text["properties"]) == ({"occupancy": True}, '{"occupancy": true}', 1, True, {})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text["received_at"])
    assert (picture["payload_base64"], picture["mappings"]) == ("/9g=", [])
    assert "value" not in picture
    assert "payload" not in picture
    tried = bridge.json("try", "--message", json.dumps(text))
    assert {entry["mapping"]: entry["takes"] for entry in tried["mappings"]} == {"hall": True, "all": True, "broken": False}


def test_replays_can_be_left_out(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port) as sensor:
        sensor.publish("a", "old", retain=True)
        with started(tmp_path, broker, "--no-retained", "--count", "1") as run:
            sensor.publish("a", "new")
            out, _ = ended(run)
    assert re.fullmatch(r"\d\d:\d\d:\d\d   q1 a  new\n", out)


def test_ctrl_c_ends_it_at_once(tmp_path: Path, broker: Mosquitto) -> None:
    with started(tmp_path, broker) as run:
        run.send_signal(signal.SIGINT)
        assert ended(run) == ("", "")


def test_a_running_bridge_is_not_disturbed(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        mappings = f'[outbound.hall]\ntopic = "hall/#"\nurl = "{receiver.url}"\nsecret = "{SECRET}"\n'
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings, mqtt='share = "bridges"') as bridge:
            with started(tmp_path, broker, "--config", str(bridge.config), "hall/#", "--count", "20") as run:
                for n in range(20):
                    sensor.publish("hall/x", str(n))
                assert ended(run)[0].count("    -> hall") == 20
            until(lambda: len(receiver.accepted) == 20, "every event")
            assert "client_id" not in bridge.log
            assert bridge.log.count("broker connected") == 1


# Where it can't


def test_what_is_wrong_is_said_in_one_line_with_its_exit_code(tmp_path: Path, broker: Mosquitto) -> None:
    port = free_port()
    where = tmp_path / "there"
    assert called(where, code=1, MQTTHOOK_MQTT__URL=f"mqtt://127.0.0.1:{port}") == f"mqtthook: no connection to 127.0.0.1:{port}: Connection refused\n"
    assert called(where, "--learn", code=1, MQTTHOOK_MQTT__URL=f"mqtt://127.0.0.1:{port}").count("\n") == 1
    for arguments, said in (
        (["a/#/b"], "must be the last level"),
        (["--learn", "soon"], "expected a duration"),
        (["--learn", "60"], "60 of what? For seconds: --learn 60s"),
        (["--for", "5"], "--for 5s"),
        (["--learn", "1s", "--taken"], "leave out one of them"),
        (["--output", "x.toml"], "add --learn 60s"),
        (["--learn", "1s", "--for", "1s"], "leave out --for"),
        (["--for", "0s"], "longer than nothing"),
        (["--count", "0"], "--count"),
        (["--broker", "http://x"], "expected mqtt://"),
        (["--broker", "mqtt://me:secret@x"], "stand in `username` and `password`"),
        (["--url", "ftp://x"], "doesn't start with http://"),
        (["--url", "http://x/?a=b"], "without query and templates"),
    ):
        assert said in called(where, *arguments, code=2)


def test_a_config_with_errors_is_complained_about_and_one_that_is_named_must_exist(tmp_path: Path, broker: Mosquitto) -> None:
    where = tmp_path / "there"
    where.mkdir()
    (where / "config.toml").write_text("version = 1\nmqt = 1\n")
    assert "did you mean" in called(where, code=78)
    assert "no such file" in called(where, "--config", "other.toml", code=78)
    assert "no such file" in called(where, code=78, MQTTHOOK_CONFIG="other.toml")
    (where / "config.toml").write_text(f'version = 1\n[mqtt]\nurl = "{broker.url}"\nusername = "me"\npassword = "env:NOT_SET"\n')
    assert "mqtt.password: 'env:NOT_SET': the environment variable NOT_SET is not set" in called(where, code=78)
    assert called(where, "--for", "1ms", NOT_SET="it is") == ""


def test_another_broker_than_the_configs_is_asked(tmp_path: Path, broker: Mosquitto) -> None:
    nowhere = f"mqtt://127.0.0.1:{free_port()}"
    assert called(tmp_path, "--broker", broker.url, "--for", "1ms", MQTTHOOK_MQTT__URL=nowhere) == ""


def test_a_named_broker_is_asked_though_the_config_that_lies_here_is_broken(tmp_path: Path, broker: Mosquitto) -> None:
    where = tmp_path / "there"
    where.mkdir()
    (where / "config.toml").write_text("version = 1\nmqt = 1\n[outbound.x]\n")
    said = called(where, "--broker", broker.url, "--for", "1ms")
    assert re.fullmatch(r"mqtthook: config.toml isn't used, as it has \d errors?: `mqtthook check` says more\n", said)
    assert "did you mean" in called(where, "--broker", broker.url, "--config", "config.toml", code=78)
    assert "did you mean" in called(where, "--broker", broker.url, code=78, MQTTHOOK_MQTT__URI="x")


def test_a_broker_that_never_answers_holds_a_short_look_up_for_a_short_time_only(tmp_path: Path) -> None:
    with Misbehaving(Connection.drain) as server:
        began = monotonic()
        assert "did not answer within 2 s" in called(tmp_path / "there", "--broker", f"mqtt://127.0.0.1:{server.port}", "--for", "3s", code=1)
        assert monotonic() - began < 9, "twice 2 s, and the start of the program; not 13 s"


# Learning


def publish_samples(port: int, *, retained: bool) -> int:
    """Publish the samples that a broker keeps, or the others, and return how many are still to be heard of them."""
    chosen = [row for row in SAMPLES if bool(row.get("retain")) is retained]
    with device(port) as house:
        for row in chosen:
            payload = base64.b64decode(row["payload"]) if row.get("encoding") == "base64" else row["payload"]
            house.publish(row["topic"], payload, qos=row.get("qos") or 0, retain=retained)
    return len({row["topic"] for row in chosen if row["payload"]} if retained else chosen)


def test_what_real_devices_say_becomes_a_config_that_works(tmp_path: Path, broker: Mosquitto) -> None:
    kept = publish_samples(broker.port, retained=True)
    live = sum(not row.get("retain") for row in SAMPLES)
    with started(tmp_path, broker, "--learn", "30s", "--count", str(kept + live), "--url", "http://pi.local:8000/") as run:
        publish_samples(broker.port, retained=False)
        out, err = ended(run)
    where = tmp_path / "new"
    where.mkdir()
    (where / "config.toml").write_text(out)
    check = subprocess.run([*COMMAND, "check", "--json"], capture_output=True, text=True, cwd=where, env=environment(where), timeout=60, check=True)
    tables = tomllib.loads(out)["outbound"]
    assert json.loads(check.stdout)["outbound"] == list(tables)
    assert json.loads(check.stdout)["warnings"] == []
    assert f'[mqtt]\nurl = "{broker.url}"\n' in out
    assert all(table["url"] == f"http://pi.local:8000/{name}" for name, table in tables.items())
    assert tables["zigbee2mqtt-availability"]["topic"] == "zigbee2mqtt/{device}/availability"
    assert tables["zigbee2mqtt-availability"]["when"] == "payload.state|lower == 'offline'"
    assert "commands to devices: " in out
    assert not any("set" in str(table["topic"]).split("/") for table in tables.values())
    secrets = [json.loads(row["payload"])["MqttPassword"] for row in SAMPLES if "MqttPassword" in row["payload"]]
    assert secrets
    assert not any(secret in out + err for secret in secrets)


def in_a_shell(where: Path, broker: Mosquitto, redirection: str) -> subprocess.CompletedProcess[str]:
    line = " ".join([*COMMAND, "listen", "'#'", "--learn", "1s", redirection])
    return subprocess.run(["sh", "-c", line], capture_output=True, text=True, cwd=where, env=environment(where, MQTTHOOK_MQTT__URL=broker.url), timeout=60, check=False)


def test_a_shell_does_not_write_it_into_the_very_config_but_beside_it(tmp_path: Path, broker: Mosquitto) -> None:
    where = tmp_path / "new"
    where.mkdir()
    with device(broker.port) as sensor:
        sensor.publish("tele/plug/LWT", "Online", retain=True)
    config = where / "config.toml"
    config.write_text("version = 1\n")
    appended = in_a_shell(where, broker, ">> config.toml")
    assert (appended.returncode, config.read_text()) == (1, "version = 1\n")
    assert "nothing was written" in appended.stderr
    emptied = in_a_shell(where, broker, "> config.toml")
    assert (emptied.returncode, config.read_text(), emptied.stderr.count("\n")) == (1, "", 1)
    assert "the output goes into config.toml, the config that this command reads: the shell has emptied it already" in emptied.stderr
    assert "-o learned.toml" in emptied.stderr
    beside = in_a_shell(where, broker, f"> learned.toml && {' '.join(COMMAND)} check --config learned.toml")
    assert beside.returncode == 0, beside.stderr
    assert "1 outbound mapping" in beside.stdout
    assert in_a_shell(where, broker, ">&-").returncode in (0, 1), "no stdout at all"


def test_it_is_written_into_a_new_file_and_into_no_other(tmp_path: Path, broker: Mosquitto) -> None:
    where = tmp_path / "new"
    where.mkdir()
    with device(broker.port) as sensor:
        sensor.publish("tele/plug/LWT", "Online", retain=True)
    arguments = ("--broker", broker.url, "--learn", "1s", "-o", "learned.toml")
    said = called(where, *arguments)
    assert said == "wrote learned.toml: look at it, and move what you want into config.toml; then `mqtthook check`\n"
    assert "tele-plug-lwt" in tomllib.loads((where / "learned.toml").read_text())["outbound"]
    (where / "learned.toml").write_text("mine")
    assert "learned.toml is there already, and stays as it is" in called(where, *arguments, code=1)
    assert (where / "learned.toml").read_text() == "mine"
    assert "there is no directory" in called(where, "--learn", "1s", "-o", "no/x.toml", code=1)
    called(where, "--broker", broker.url, "nothing/#", "--learn", "1ms", "-o", "empty.toml", code=1)
    assert sorted(path.name for path in where.iterdir()) == ["learned.toml"]


def test_ctrl_c_ends_learning_early_and_still_proposes(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port) as sensor:
        sensor.publish("tele/plug/LWT", "Online", retain=True)
    with started(tmp_path, broker, "--learn", "--json", "--count", "1") as run:
        learnt = json.loads(ended(run)[0])
    assert learnt["groups"][0]["config"] == {
        "topic": "tele/plug/LWT",
        "when": "payload|lower == 'offline'",
        "url": "http://127.0.0.1:9000/tele-plug-lwt",
        "sign": "none",
    }
    with started(tmp_path, broker, "nothing/#", "--learn", "10m") as run:
        run.send_signal(signal.SIGINT)
        out, err = ended(run, code=1)
    assert out == ""
    assert err.startswith(f"mqtthook: nothing came on 'nothing/#' so far at {broker.url}: is the filter right? ")


def test_that_nothing_came_is_said_and_no_config_made_of_it(tmp_path: Path, broker: Mosquitto) -> None:
    for more in ([], ["--json"]):
        said = called(tmp_path, "x/#", "--learn", "500ms", *more, code=1, MQTTHOOK_MQTT__URL=broker.url)
        assert said.startswith(f"mqtthook: nothing came on 'x/#' within 500ms at {broker.url}: is the filter right?")
        assert said.count("\n") == 1
    assert "right?" not in called(tmp_path, "--learn", "1ms", code=1, MQTTHOOK_MQTT__URL=broker.url)


def test_a_broker_that_goes_away_while_it_learns_is_said_and_what_came_is_not_lost(tmp_path: Path, broker: Mosquitto) -> None:
    with started(tmp_path, broker, "--learn", "10m") as run, device(broker.port, "#") as sensor:
        for _ in range(3):
            sensor.publish("tele/plug/LWT", "Online")
        until(lambda: (broker.directory / "mosquitto.log").read_text().count("Received PUBACK from mqtthook-listen-") == 3, "it to have heard")
        broker.kill()
        out, err = ended(run, code=1)
    assert "tele-plug-lwt" in tomllib.loads(out)["outbound"]
    assert err == f"mqtthook: the connection to 127.0.0.1:{broker.port} broke\n"


def test_what_else_the_broker_needs_is_named_but_not_written_down(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port) as sensor:
        sensor.publish("tele/plug/LWT", "Online", retain=True)
    out = called(tmp_path, "--learn", "1s", MQTTHOOK_MQTT__URL=broker.url, MQTTHOOK_MQTT__USERNAME="me", MQTTHOOK_MQTT__PASSWORD="hunter2")
    assert "# and what your config or environment says besides: password, username\n" in out
    assert "hunter2" not in out


# On a terminal


def on_terminal(broker: Mosquitto, directory: Path, *arguments: str, columns: int = 60) -> str:
    """Return what the command writes to a terminal of that width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = environment(directory, MQTTHOOK_MQTT__URL=broker.url, TERM="xterm")
    run = subprocess.Popen([*COMMAND, "listen", *arguments], stdin=theirs, stdout=theirs, stderr=theirs, cwd=directory, env=variables)
    os.close(theirs)
    written = b""
    try:
        while piece := os.read(ours, 65_536):
            written += piece
    except OSError:
        pass  # EIO: the command has ended, and the terminal with it
    os.close(ours)
    assert run.wait(30) == 0, written
    return written.decode()


def test_on_a_terminal_lines_are_cut_and_coloured(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port) as sensor:
        sensor.publish("hall/lamp", "x" * 100, retain=True)
    screen = on_terminal(broker, tmp_path, "--count", "1").replace("\r\n", "\n").splitlines()
    assert screen[0] == f"listening to # at {broker.url}, Ctrl-C ends it"
    assert "\x1b[33mR\x1b[0m" in screen[1]
    plain = re.sub(r"\x1b\[\d*m", "", screen[1])
    assert (len(plain), plain[-1]) == (60, "…")


def test_on_a_terminal_learning_shows_how_far_it_is(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port) as sensor:
        sensor.publish("hall/lamp", "on", retain=True)
    screen = on_terminal(broker, tmp_path, "--learn", "1s", columns=100)
    assert f"listening to # at {broker.url}, for 1s, Ctrl-C ends it earlier" in screen
    assert "1 message on 1 topic" in screen
    assert "#####" in screen
    assert "[outbound.hall-lamp]" in screen
