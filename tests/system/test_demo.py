"""The demo tells its story, and only when it is true."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig.daemon import COMMAND
from tests.rig.wait import UNIT_S, until

WITHIN_S = 60 * UNIT_S
ID = r"evt_[0-9A-Z]{26}"

# What has to be told, in this order; other lines may come between. `lamp` and the bridge's answer to the
# receiver come on two connections: neither has to be first.
STORY = [
    r"    \[outbound\.hall-motion\]",
    r"bridge +connected to the broker, subscribed to zigbee2mqtt/\+/motion",
    r'sensor +zigbee2mqtt/hall/motion \{"occupancy": true, "illuminance": 14\}',
    rf"receiver +signature verified, webhook-id {ID}",
    r'receiver +POST /hooks/hall-light \{"state": "on"\}, signed',
    r'lamp +zigbee2mqtt/hall_light/set \{"state":"ON"\}',
    r"lamp +is ON, \d+ ms after the motion",
    r"bridge +hall-motion: 1 filtered, 1 delivered",
    r"stranger +POST /hooks/hall-light .*, without a signature",
    r"bridge +answers 401 ",
    r"receiver +is down",
    r'sensor .*"illuminance": 11\}',
    r'sensor .*"illuminance": 8\}',
    r'sensor .*"illuminance": 5\}',
    r"bridge +3 events wait, on disk; \d+ failed attempts? so far",
    r"bridge +3 events wait, on disk; \d+ failed attempts so far",
    r"receiver +is back",
    r'receiver +POST /motion, hall: .*"illuminance": 11\}',
    r'receiver +POST /motion, hall: .*"illuminance": 8\}',
    r'receiver +POST /motion, hall: .*"illuminance": 5\}',
    r"lamp +is ON again",
    r"bridge +hall-motion: 5 in = 1 filtered \+ 4 delivered, 0 waiting",
    r"bridge +hall-light: 4 in = 4 delivered, 0 waiting",
]


def test_demo_tells_the_whole_story_and_leaves_nothing_behind(tmp_path: Path) -> None:
    run = _finished(_started(tmp_path, "--fast"))
    assert (run.returncode, run.stderr) == (0, "")
    _assert_story(run.stdout)
    assert "\x1b" not in run.stdout, "colour without a terminal"
    assert max(map(len, run.stdout.splitlines())) <= 80, "wider than a terminal"
    assert not list(tmp_path.iterdir())


def test_two_demos_at_once_do_not_meet(tmp_path: Path) -> None:
    both = [_started(tmp_path, "--fast") for _ in range(2)]
    for run in map(_finished, both):
        assert (run.returncode, run.stderr) == (0, "")
        _assert_story(run.stdout)


def test_settings_in_the_environment_do_not_reach_the_demo(tmp_path: Path) -> None:
    environment = {"MQTTHOOK_MQTT__URL": "mqtt://127.0.0.1:9", "MQTTHOOK_CONFIG": "/nowhere", "STATE_DIRECTORY": "/nowhere", "http_proxy": "http://127.0.0.1:9"}
    run = _finished(_started(tmp_path, "--fast", environment=environment))
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize(
    ("right", "wrong", "step", "expected", "came"),
    [
        ("body.state | upper", "'OFF'", "the lamp is on", "True", "False"),
        ("verify = \"standard-webhooks\"\nsecret = \"env:LIGHT_SECRET\"", 'verify = "none"', "the answer to the stranger", "401", "200"),
        ("[outbound.hall-motion] ", "[outbound.hall-moves] ", "which mapping sent it", "hall-motion", "hall-moves"),
        ("env:LIGHT_SECRET", "env:MOTION_SECRET", "the hook's answer", "200", "401"),
    ],
)
def test_step_that_does_not_come_out_is_told_and_exits_1(tmp_path: Path, right: str, wrong: str, step: str, expected: str, came: str) -> None:
    changed = f"""
from string import Template
from bridge.demo import stage
assert {right!r} in stage.CONFIG.template
stage.CONFIG = Template(stage.CONFIG.template.replace({right!r}, {wrong!r}))
"""
    run = _finished(_started(tmp_path, "--fast", before=changed))
    assert run.returncode == 1
    assert f"the demo failed: {step}\n  expected: {expected}\n  came:     {came}\n" in run.stderr
    assert "Traceback" not in run.stderr
    assert "Your turn" not in run.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["amqtt", "standardwebhooks"])
def test_missing_extra_is_one_sentence(tmp_path: Path, missing: str) -> None:
    run = _finished(_started(tmp_path, before=f"import sys; sys.modules[{missing!r}] = None"))
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "mqtthook: the demo needs two more packages: pip install 'mqtthook[demo]'\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupted_demo_ends_quietly_and_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    demo = _started(tmp_path)
    assert demo.stdout is not None
    told = iter(demo.stdout.readline, "")
    until(lambda: "connected to the broker" in next(told), "the story to begin")
    demo.send_signal(number)
    run = _finished(demo)
    assert (run.returncode, run.stderr) == (130, "")
    assert not list(tmp_path.iterdir())


def test_reader_who_leaves_early_gets_no_traceback(tmp_path: Path) -> None:
    demo = _started(tmp_path, "--fast")
    assert demo.stdout is not None
    assert demo.stderr is not None
    demo.stdout.readline()
    demo.stdout.close()
    assert demo.wait(WITHIN_S) == 1
    with demo.stderr:
        assert demo.stderr.read() == ""
    assert not list(tmp_path.iterdir())


def test_help_of_the_demo_does_not_wait_for_its_parts() -> None:
    heavy = ("amqtt", "standardwebhooks", "aiohttp", "paho", "bridge.app")
    script = f"""
import sys
from bridge.cli import main
main(["demo", "--help"], standalone_mode=False)
assert not [name for name in {heavy!r} if name in sys.modules]
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WITHIN_S, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert "Example:\n    pip install 'mqtthook[demo]'\n    mqtthook demo" in run.stdout


def _started(directory: Path, *arguments: str, before: str = "", environment: dict[str, str] | None = None) -> "subprocess.Popen[str]":
    """Start the demo with its temporary files in *directory*; *before* is Python that runs first in its process."""
    command = [sys.executable, "-c", f"{before}\nfrom bridge.cli import main\nmain()", "demo"] if before else [*COMMAND, "demo"]
    return subprocess.Popen(
        [*command, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=directory, env={**os.environ, "TMPDIR": str(directory), **(environment or {})}
    )


def _finished(demo: "subprocess.Popen[str]") -> "subprocess.CompletedProcess[str]":
    try:
        out, err = demo.communicate(timeout=WITHIN_S)
    finally:
        demo.kill()
    return subprocess.CompletedProcess(demo.args, demo.returncode, out, err)


def _assert_story(told: str) -> None:
    lines = iter(told.splitlines())
    for wanted in STORY:
        assert any(re.search(wanted, line) for line in lines), f"not told, or not in its turn: {wanted}\n{told}"
    times = [float(seconds) for seconds in re.findall(r"^ *(\d+\.\d\d) s ", told, re.MULTILINE)]
    assert times == sorted(times)
    assert len(set(re.findall(ID, told))) == 4, "each motion has an id of its own"
