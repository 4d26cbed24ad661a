"""`mqtthook routes`: what leads where, and how much of it there was."""

import contextlib
import json
import re
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import COMMAND, SECRET, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

TOKEN = "a-long-enough-token"
NOBODY = "mqtt://127.0.0.1:1"

MAPPINGS = f"""
[destination.crm]
url = "https://crm.example.com/hooks/{{{{ room }}}}?token=t0p"
headers = {{ Authorization = "Bearer h1dden" }}
secret = ["{SECRET}", "env:OLD_SECRET"]

[destination.log]
url = "http://192.168.1.20:9000/log"
method = "PUT"
sign = "none"

[outbound.hall]
topic = ["zigbee2mqtt/{{room}}/motion", "zigbee2mqtt/{{room}}/contact"]
when = "payload.occupancy and payload.battery > 20 and not payload.tamper and payload.linkquality > 10"
retained = "changed"
on_change = "payload.contact"
debounce = "2s"
cooldown = "60s"
to = ["crm", "log"]
order = "key"
expires = "1h"
priority = "high"
batch = {{ size = 50, wait = "30s" }}

[outbound.freezer]
topic = "zigbee2mqtt/freezer"
silence = "3h"
keep = "latest"
url = "https://ntfy.example.com/freezer"
sign = "none"
text = "silent"
reply = {{ topic = "siren/set", text = "on" }}

[outbound.off]
topic = "#"
url = "https://example.com/off"
secret = "file:/nowhere/at/all"
enabled = false

[inbound.lamp]
path = "/hooks/lamp/{{room}}"
methods = ["POST", "PUT"]
verify = "bearer"
secret = "{TOKEN}"
topic = "zigbee2mqtt/{{{{ room }}}}/set"
when = "body.state is defined"
"""

SHOWN = """\
outbound: an MQTT message becomes a webhook

hall
  topic    zigbee2mqtt/{room}/motion
           zigbee2mqtt/{room}/contact
  when     payload.occupancy and payload.battery > 20 and not payload.tamper and payload.linkquality > 10
  gates    retained changed, on_change payload.contact, debounce 2s, cooldown 1m
  waits    expires 1h, priority high, batch of up to 50 within 30s
  to       crm: POST https://crm.example.com/hooks/{{ room }}?token=t0p, signed standard-webhooks
           log: PUT http://192.168.1.20:9000/log, not signed

freezer
  topic    zigbee2mqtt/freezer
  gates    silence 3h
  waits    keep latest
  to       POST https://ntfy.example.com/freezer, not signed
  reply    siren/set

off  switched off
  topic    #
  to       POST https://example.com/off, signed standard-webhooks

inbound: a webhook becomes an MQTT command

lamp
  at       POST PUT /hooks/lamp/{room}
  verify   bearer
  topic    zigbee2mqtt/{{ room }}/set
  when     body.state is defined

the counts are shown while the daemon runs
"""


@pytest.fixture
def tool(tmp_path: Path) -> Daemon:
    """Give a bridge that doesn't run."""
    return Daemon(tmp_path / "bridge", broker=NOBODY, mappings=MAPPINGS)


def test_it_shows_all_that_decides_where_something_goes(tool: Daemon) -> None:
    assert tool.command("routes") == SHOWN


def test_it_needs_no_secret_and_shows_none(tool: Daemon) -> None:
    for text in (tool.command("routes"), tool.command("routes", "--json")):
        assert not any(secret in text for secret in (SECRET, TOKEN, "OLD_SECRET", "/nowhere", "h1dden"))


def test_scripts_get_the_same(tool: Daemon) -> None:
    found = tool.json("routes")
    hall, freezer, off = found["outbound"]
    (lamp,) = found["inbound"]
    assert found["running"] is False
    assert hall["gates"] == {"retained": "changed", "on_change": "payload.contact", "debounce": 2, "cooldown": 60}
    assert hall["waiting"] == {"expires": 3600, "priority": "high", "batch": {"size": 50, "wait": 30}}
    assert hall["destinations"][1] == {"destination": "log", "method": "PUT", "url": "http://192.168.1.20:9000/log", "sign": "none"}
    assert (freezer["reply"], freezer["counts"], freezer["reply_counts"], off["enabled"]) == ("siren/set", None, None, False)
    assert lamp == {
        "hook": "lamp", "enabled": True, "methods": ["POST", "PUT"], "path": "/hooks/lamp/{room}", "verify": "bearer", "topic": "zigbee2mqtt/{{ room }}/set",
        "when": "body.state is defined", "counts": None, "failed": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("topic", "names"),
    [
        ("zigbee2mqtt/hall/motion", ["hall", "off"]),
        ("zigbee2mqtt/freezer", ["freezer", "off"]),
        ("elsewhere", ["off"]),
        ("$SYS/broker/uptime", []),
    ],
)
def test_only_what_takes_a_topic_is_shown_on_request(tool: Daemon, topic: str, names: list[str]) -> None:
    found = tool.json("routes", "--topic", topic)
    assert [mapping["mapping"] for mapping in found["outbound"]] == names
    assert found["inbound"] == []


def test_nothing_to_show_is_said(tool: Daemon, tmp_path: Path) -> None:
    assert tool.command("routes", "--topic", "$SYS/a b") == "no mapping takes $SYS/a b; `mqtthook try --topic '$SYS/a b'` says why\n"
    assert "there are no mappings in this config yet" in Daemon(tmp_path / "empty", broker=NOBODY, mappings="").command("routes")


@pytest.mark.parametrize("topic", ["zigbee2mqtt/+/motion", "#", "", "a\nb"])
def test_a_filter_is_no_topic(tool: Daemon, topic: str) -> None:
    assert "expected a topic, not a filter" in tool.command("routes", "--topic", topic, code=2)


def test_counts_stand_beside_what_they_count_while_the_daemon_runs(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(lambda path, headers, body: Reply(400 if b"dead" in body else 200)) as receiver:
        mappings = f"""
[outbound.door]
topic = "door/{{name}}"
when = "payload != 'no'"
url = "{receiver.url}/door"
sign = "none"
reply = {{ topic = "lamp/set", text = "on" }}

[inbound.lamp]
verify = "bearer"
secret = "{TOKEN}"
topic = "lamp/set"
"""
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge, device(broker.port) as door:
            for payload in ("open", "no", "dead"):
                door.publish("door/front", payload)
            assert bridge.post("/hooks/lamp", b"{}", Authorization=f"Bearer {TOKEN}")[0] == 200
            until(lambda: bridge.json("routes")["outbound"][0]["reply_counts"]["delivered"] == 1, "the reply")
            until(lambda: bridge.json("routes")["outbound"][0]["counts"]["dead"] == 1, "the dead letter")
            text = bridge.command("routes")
            assert "  counts   in 3, waiting 0, delivered 1, filtered 1, dead letters 1\n" in text
            assert "  replies  in 1, waiting 0, delivered 1, filtered 0, dead letters 0\n" in text
            assert text.rstrip().endswith("counts   in 1, waiting 0, delivered 1, filtered 0, dead letters 0")
            assert bridge.json("routes")["running"] is True


def test_a_condition_that_cannot_be_evaluated_is_counted_and_shown_with_its_reason(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        mappings = f"""
[outbound.door]
topic = "door/{{name}}"
when = "payload.batery > 3"
url = "{receiver.url}/door"
sign = "none"

[outbound.bell]
topic = "bell"
on_change = "payload.count"
url = "{receiver.url}/bell"
sign = "none"
reply = {{ topic = "lamp/set", text = "on", when = "response.json.state" }}

[inbound.lamp]
verify = "bearer"
secret = "{TOKEN}"
topic = "lamp/set"
when = "body.state == 'on'"
"""
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge, device(broker.port) as door:
            for n in range(3):
                door.publish(f"door/{n}", '{"battery": 5}')
            door.publish("bell", '{"count": 1}')
            door.publish("bell", '{"times": 2}')
            status, answer = bridge.post("/hooks/lamp", b"{}", Authorization=f"Bearer {TOKEN}", **{"Content-Type": "application/json"})
            assert (status, json.loads(answer)["status"]) == (200, "filtered")
            names = {"door": 3, "bell": 1, "bell.reply": 1, "lamp": 1}
            until(lambda: [bridge.metrics().get(f'mqtthook_conditions_failed_total{{mapping="{name}"}}') for name in names] == [*names.values()], "them to be counted")
            said = {
                "door": "3 conditions could not be evaluated, last: `when` counts as false: payload.batery is missing",
                "bell": "1 condition could not be evaluated, last: `on_change` counts as unchanged: payload.count is missing",
                "bell.reply": "1 condition could not be evaluated, last: `when` counts as false: response.json is missing",
                "lamp": "1 condition could not be evaluated, last: `when` counts as false: body.state is missing",
            }
            status_lines, routes_lines = bridge.command("status").splitlines(), bridge.command("routes").splitlines()
            assert [f"{name}: {sentence}" for name, sentence in said.items()] == [line for line in status_lines if "could not be evaluated" in line]
            assert [f"  failed   {sentence}" for sentence in said.values()] == [line for line in routes_lines if "could not be evaluated" in line]
            figures, found = bridge.json("status")["mappings"]["door"], bridge.json("routes")
            assert (figures["conditions_failed"], figures["last_failure"]) == (3, "`when` counts as false: payload.batery is missing")
            assert found["outbound"][0]["failed"] == {"conditions": 3, "last": "`when` counts as false: payload.batery is missing"}
            assert found["outbound"][1]["reply_failed"]["conditions"] == found["inbound"][0]["failed"]["conditions"] == 1
            assert bridge.log.count("condition not evaluated mapping=door") == 1, "once for each reason"
            assert "condition not evaluated mapping=lamp reason='`when` counts as false: body.state is missing'" in bridge.log


def test_a_daemon_that_does_not_answer_costs_the_counts_only(tool: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        with contextlib.chdir(tool.directory):
            server.bind("mqtthook.sock")
        server.listen()
        threading.Thread(target=lambda: server.accept()[0].close(), daemon=True).start()
        text = tool.command("routes")
    assert text.startswith(SHOWN)
    assert "mqtthook: the daemon did not answer" in text


@pytest.mark.parametrize("width", [80, 60])
def test_on_a_terminal_it_keeps_to_its_width(tool: Daemon, width: int) -> None:
    line = f"stty cols {width}; " + " ".join([*COMMAND, "routes", "--config", str(tool.config)])
    run = subprocess.run(["script", "-qec", line, "/dev/null"], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=tool.environment, cwd=tool.directory, timeout=60, check=True)
    assert "\x1b[" in run.stdout
    plain = re.sub(r"\x1b\[[0-9;]*m", "", run.stdout).replace("\r\n", "\n")
    assert not [line for line in plain.splitlines() if len(line) > width and " " in line.strip()]
    assert plain.split() == SHOWN.split()
