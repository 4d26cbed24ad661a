"""What the README and the recipes tell a newcomer to do, done; and what they say a receiver sees, seen."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from bridge.model import Message
from bridge.rules.bodies import Occasion, event_body
from bridge.rules.signing import keys, sign
from tests.rig.client import device
from tests.rig.daemon import COMMAND, ROOT, SECRET, Daemon, request
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port, is_open
from tests.rig.receiver import Receiver
from tests.rig.wait import until

README = (ROOT / "README.md").read_text()
RECIPES = ROOT / "docs" / "recipes"
MOTION = '{"occupancy":true,"battery":97}'


def block(text: str, language: str, n: int = 0) -> str:
    """Return the n-th block of a language."""
    return str(re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[n])


def after(marker: str) -> str:
    assert README.count(marker) == 1, marker
    return README.partition(marker)[2]


# --- the two lines ---

DEMO_LINE = block(after("<!-- demo line -->"), "sh")
TEST_LINE = block(after("<!-- test line -->"), "sh")


@pytest.mark.parametrize("line", [DEMO_LINE, TEST_LINE], ids=["demo", "test"])
@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_a_line_of_the_readme_is_one_line_that_a_shell_can_read(shell: str, line: str) -> None:
    assert line.count("\n") == 1
    assert line.endswith("\n")
    subprocess.run([shell, "-n", "-c", line], check=True, timeout=10)


@pytest.mark.parametrize("shell", ["sh", "bash"])
def test_the_test_line_installs_nothing_where_mosquitto_is_there_already(shell: str) -> None:
    setup = TEST_LINE.partition(" && python3 -m venv ")[0]
    assert setup != TEST_LINE
    # As a user's PATH is on Debian: without /usr/sbin, where Mosquitto is.
    ran = subprocess.run([shell, "-c", setup], env={"PATH": "/usr/local/bin:/usr/bin:/bin"}, capture_output=True, text=True, timeout=10, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


# --- .ci/run ---

PASSES = "def test_one() -> None:\n    assert True\n"
TOOLS = Path(sys.executable).parent

PROJECT = """[tool.mypy]
packages = ["tests"]
[tool.pytest.ini_options]
testpaths = ["tests"]
"""


@pytest.mark.skipif(not all((TOOLS / tool).exists() for tool in ("pytest", "ruff", "mypy")), reason="the tools are not beside this Python")
@pytest.mark.parametrize(
    ("tests", "passes", "summary"),
    [
        pytest.param(PASSES, True, "1 passed", id="all is well"),
        pytest.param(PASSES + "\n\ndef test_two() -> None:\n    raise AssertionError\n", False, "1 failed, 1 passed", id="a test fails"),
        pytest.param("", False, "no tests ran", id="no test"),
        pytest.param("import pytest\n\n\n@pytest.mark.skip\n" + PASSES, False, "1 skipped", id="every test skipped"),
        pytest.param("import os\n\n\n" + PASSES, False, "1 passed", id="ruff complains"),
        pytest.param('NUMBER: int = "one"\n\n\n' + PASSES, False, "1 passed", id="mypy complains"),
    ],
)
def test_ci_fails_when_anything_does_and_ends_with_the_summary(tmp_path: Path, tests: str, passes: bool, summary: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / ".venv").symlink_to(TOOLS.parent)
    (tmp_path / "README.md").write_text("<!-- test line -->\n```sh\ntrue && .venv/bin/pytest\n```\n")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").touch()
    (tmp_path / "tests" / "test_it.py").write_text(tests)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | {"CI": "true"}
    ran = subprocess.run([tmp_path / ".ci" / "run"], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert (ran.returncode == 0) is passes, ran.stdout + ran.stderr
    assert re.fullmatch(rf"=+ {summary} in [\d.]+s =+", ran.stdout.splitlines()[-1])


def test_ci_fails_without_the_line(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(ROOT / ".ci" / "run", tmp_path / ".ci" / "run")
    (tmp_path / "README.md").write_text("Nothing here.\n")
    ran = subprocess.run([tmp_path / ".ci" / "run"], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=False)
    assert (ran.returncode, ran.stderr) == (1, ".ci/run: README.md has no test line\n")


# --- the quick start, and the request ---

CONFIG = block(after("<!-- quick start -->"), "toml")
STEPS = block(after("<!-- quick start -->"), "sh").splitlines()
SHOWN = block(after("<!-- request -->"), "http")


def parsed(text: str) -> tuple[str, dict[str, str], bytes]:
    """Return first line, headers (names in lower case) and body of a request."""
    head, _, body = text.partition("\n\n")
    first, *lines = head.splitlines()
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}, body.strip().encode()


@contextmanager
def followed(directory: Path, environment: dict[str, str], admin_port: int) -> Iterator[list[str]]:
    """Follow the quick start, give what each step printed, and let the last one run meanwhile."""
    *before, run = [step.replace(".venv/bin/mqtthook", " ".join(COMMAND)) for step in STEPS]
    printed = [subprocess.run(["bash", "-c", step], cwd=directory, env=environment, capture_output=True, text=True, timeout=60, check=True).stdout for step in before]
    bridge = subprocess.Popen(run.split(), cwd=directory, env=environment, stderr=subprocess.DEVNULL)
    try:
        until(lambda: request("GET", f"http://127.0.0.1:{admin_port}/readyz")[0] == 200, "the bridge to be ready")
        yield printed
    finally:
        bridge.terminate()
        bridge.wait(15)


def test_quick_start_leads_to_the_request_that_is_shown(tmp_path: Path, broker: Mosquitto) -> None:
    admin_port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MQTTHOOK_MQTT__URL": broker.url, "MQTTHOOK_ADMIN__LISTEN": f"127.0.0.1:{admin_port}"}
    environment.pop("STATE_DIRECTORY", None)
    with Receiver() as receiver, device(broker.port) as sensor:
        (tmp_path / "config.toml").write_text(CONFIG.replace("https://example.com", receiver.url))
        with followed(tmp_path, environment, admin_port) as (secret, checked, tried):
            assert secret == ""
            assert checked.startswith("ok config.toml: 1 outbound mapping")
            assert tried.startswith("yes   hall-motion\n")
            sensor.publish("zigbee2mqtt/hall/motion", MOTION)
            (received,) = until(lambda: receiver.accepted, "the request")
    first, headers, body = parsed(SHOWN)
    assert f"{received.method} {received.path} HTTP/1.1" == first
    assert received.headers.keys() == headers.keys()
    varying = {"host", "webhook-id", "webhook-timestamp", "webhook-signature"}
    assert {name: received.headers[name] for name in headers.keys() - varying} == {name: headers[name] for name in headers.keys() - varying}
    assert json.loads(received.body) | {"timestamp": ""} == json.loads(body) | {"timestamp": ""}
    assert len(received.body) == len(body)
    Webhook((tmp_path / "motion.secret").read_text().strip()).verify(received.body, received.headers)


def test_the_request_that_is_shown_is_signed_with_the_secret_that_is_shown() -> None:
    _, headers, body = parsed(SHOWN)
    (secret,) = re.findall(r"`(whsec_[^`]+)`", after("## What your receiver sees"))
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    assert headers["webhook-signature"] == Webhook(secret).sign(headers["webhook-id"], at, body.decode())
    signed = dict(sign("standard-webhooks", keys("standard-webhooks", [secret]), id=headers["webhook-id"], now=at.timestamp(), body=body))
    assert signed.items() <= headers.items()
    assert int(headers["content-length"]) == len(body)
    received_at = datetime.fromisoformat(json.loads(body)["timestamp"]).timestamp()
    message = Message(topic="zigbee2mqtt/hall/motion", payload=MOTION.encode(), qos=1, received_at=received_at)
    occasion = Occasion(message=message, mapping="hall-motion", captures={"room": "hall"}, id=headers["webhook-id"], wall=received_at)
    assert event_body(occasion, json.loads(MOTION)) == body


# --- the table of files ---


def test_the_table_of_files_names_every_part_of_the_program() -> None:
    rows = re.findall(r"^\| ((?:`[\w./]+`(?:, )?)+) \| (.*) \|$", after("| where under `bridge/` | what it is |"), re.MULTILINE)
    named = {place: told for places, told in rows for place in re.findall(r"`([\w./]+)`", places)}
    modules = {path.relative_to(ROOT / "bridge") for path in (ROOT / "bridge").rglob("*.py") if path.name != "__init__.py"}
    assert set(named) == {f"{module.parts[0]}/" if len(module.parts) > 1 else str(module) for module in modules}
    for place, told in named.items():
        # A row that names one module of a folder names all of them.
        if inside := set(re.findall(r"`([\w/]+\.py)`", told)):
            assert inside == {str(module.relative_to(place)) for module in modules if place == f"{module.parts[0]}/"}


# --- the recipes ---


def test_recipe_from_a_motion_sensor_to_a_web_service(tmp_path: Path, broker: Mosquitto) -> None:
    recipe = (RECIPES / "motion-to-webhook.md").read_text()
    port = free_port()
    (tmp_path / "receiver.py").write_text(block(recipe, "python").replace("9000", str(port)))
    mapping = block(recipe, "toml").removeprefix("version = 1\n").replace("9000", str(port))
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping)
    bridge.environment["MOTION_SECRET"] = SECRET
    printed = tmp_path / "receiver.log"
    with printed.open("wb") as log:
        receiver = subprocess.Popen([sys.executable, str(tmp_path / "receiver.py")], stdout=log, stderr=subprocess.DEVNULL, env={**os.environ, "MOTION_SECRET": SECRET})
    try:
        until(lambda: is_open(port), "the receiver to listen")
        with bridge, device(broker.port) as sensor:
            sensor.publish("zigbee2mqtt/hall/motion", '{"occupancy":false,"battery":97}')
            sensor.publish("zigbee2mqtt/kitchen/motion", MOTION)
            until(lambda: printed.read_text() == "motion in the kitchen\n", "the receiver to say so")
            until(lambda: bridge.metrics()['mqtthook_ledger_out_total{mapping="hall-motion",outcome="delivered"}'] == 1, "it to be delivered")
    finally:
        receiver.kill()
        receiver.wait()


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="the recipe uses curl and openssl")
@pytest.mark.parametrize(("n", "state"), [(0, b'{"state":"ON"}'), (1, b'{"state":"OFF"}')], ids=["signed", "token"])
def test_recipe_from_a_hook_to_a_lamp(tmp_path: Path, broker: Mosquitto, n: int, state: bytes) -> None:
    recipe = (RECIPES / "hook-to-lamp.md").read_text()
    mapping = block(recipe, "toml", n).removeprefix("version = 1\n")
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mapping)
    bridge.environment["LIGHT_SECRET"] = SECRET
    script = block(recipe, "bash", n).replace("8080", str(bridge.hooks_port))
    with device(broker.port, "zigbee2mqtt/hall/light/set") as lamp, bridge:
        called = subprocess.run(["bash", "-c", script], env=bridge.environment, capture_output=True, text=True, timeout=30, check=True)
        assert json.loads(called.stdout)["status"] == "published", called.stdout
        until(lambda: lamp.payloads("zigbee2mqtt/hall/light/set") == [state], "the lamp to be switched")


def test_recipe_for_commands_without_an_open_port(tmp_path: Path, broker: Mosquitto) -> None:
    recipe = (RECIPES / "commands-without-a-port.md").read_text()
    port = free_port()
    (tmp_path / "server.py").write_text(block(recipe, "python").replace("9000", str(port)))
    mappings = block(recipe, "toml").removeprefix("version = 1\n").replace("https://example.com", f"http://127.0.0.1:{port}")
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings)
    bridge.environment["HOUSE_SECRET"] = SECRET
    server = subprocess.Popen([sys.executable, str(tmp_path / "server.py")], stderr=subprocess.DEVNULL, env={**os.environ, "HOUSE_SECRET": SECRET})
    try:
        until(lambda: is_open(port), "the server to listen")
        with device(broker.port, "shellies/shelly1-gate/#") as gate, bridge, device(broker.port) as house:
            house.publish("tele/hall-plug/STATE", '{"POWER":"ON"}')
            until(lambda: bridge.metrics()['mqtthook_ledger_out_total{mapping="poll.reply",outcome="filtered"}'] == 1, "an answer that opens nothing")
            house.publish("shellies/shellybutton1-3C6105/input_event/0", '{"event":"S","event_cnt":1}')
            until(lambda: gate.payloads("shellies/shelly1-gate/relay/0/command") == [b"on"], "the gate to open")
    finally:
        server.kill()
        server.wait()
