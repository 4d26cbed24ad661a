"""systemd/mqtthook.service: every directive says why it is there, and systemd agrees with all of them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from bridge.app.teller import WATCH_EVERY_S
from bridge.cli import main
from bridge.cli.common import CONFIG_EXIT, SYSTEM_STATE
from bridge.config.load import SYSTEM_CONFIG
from bridge.rules.units import seconds
from bridge.service.plan import CONFIG, PLACE, STATE, USER
from bridge.service.unit import OLDEST, suited
from tests.rig.unit_file import DIRECTIVE, UNIT, directives

ROOT = Path(__file__).parents[2]

ANALYZE = shutil.which("systemd-analyze")


def value(name: str, *, systemd: int = OLDEST) -> str:
    """Return what a directive comes to: the last that counts for that systemd, of a list its lines together."""
    found = [directive.value for directive in directives(UNIT.read_text()) if directive.name == name and (directive.since or 0) <= systemd]
    return " ".join(found) if name == "SystemCallFilter" else found[-1] if found else ""


def without_reason(text: str) -> list[str]:
    return [directive.name for directive in directives(text) if directive.reason is None]


def test_every_directive_has_its_reason_on_the_line_above() -> None:
    assert len(directives(UNIT.read_text())) > 40
    assert without_reason(UNIT.read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        "# why\nType=notify\nRestartSec=5s\n",  # a reason counts once
        "# why\n\nRestartSec=5s\n",
        "#\nRestartSec=5s\n",
        "# TimeoutSec=5s\nRestartSec=5s\n",  # a directive that is switched off is no reason
    ],
)
def test_a_directive_without_a_reason_is_noticed(text: str) -> None:
    assert without_reason(text) == ["RestartSec"]


def test_every_line_is_a_directive_a_comment_or_a_section() -> None:
    assert [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#[" and not DIRECTIVE.fullmatch(line)] == []


def test_it_starts_a_command_that_exists_from_where_the_install_page_puts_it() -> None:
    program, *arguments = value("ExecStart").split()
    page = (ROOT / "docs" / "install.md").read_text()
    assert f"python3 -m venv {Path(program).parents[1]}\n" in page
    assert str(Path(program).parents[1]) == PLACE
    name, *options = arguments
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.make_context(name, options).params == {"config": str(SYSTEM_CONFIG)}


def test_a_reload_is_a_signal_whoever_sends_it() -> None:
    assert (value("Type"), value("ExecReload")) == ("notify", "/bin/kill -HUP $MAINPID")
    assert (value("Type", systemd=252), value("ExecReload", systemd=252)) == ("notify", "/bin/kill -HUP $MAINPID")
    assert (value("Type", systemd=253), value("ExecReload", systemd=253)) == ("notify-reload", "")


def test_it_comes_again_later_each_time_where_systemd_can() -> None:
    assert seconds(value("RestartSec")) >= 5
    assert not value("RestartSteps", systemd=253)
    assert int(value("RestartSteps", systemd=254)) > 1
    assert value("RestartMaxDelaySec", systemd=254) == "1min", "it is never forgotten by itself: https://github.com/systemd/systemd/issues/43813"
    assert value("StartLimitIntervalSec") == "0"


def test_systemd_is_told_what_the_program_does() -> None:
    assert seconds(value("WatchdogSec")) >= 3 * WATCH_EVERY_S
    assert value("Restart") == "on-failure"
    assert value("RestartPreventExitStatus") == str(CONFIG_EXIT)
    assert SYSTEM_STATE.name == value("StateDirectory")
    assert SYSTEM_CONFIG.parent.name == value("ConfigurationDirectory")
    assert (CONFIG, STATE) == (SYSTEM_CONFIG, SYSTEM_STATE)
    assert value("User") == value("Group") == USER


def test_it_waits_for_neither_broker_nor_network() -> None:
    assert not value("Wants") + value("Requires") + value("BindsTo")
    assert not {"network-online.target", "time-sync.target"} & set(value("After").split())


def test_it_brings_no_secret_and_shows_how_one_is_brought() -> None:
    names = {directive.name for directive in directives(UNIT.read_text())}
    assert not names & {"LoadCredential", "SetCredential", "Environment", "EnvironmentFile"}
    assert re.search(r"^# +LoadCredential=\S+:/etc/mqtthook/credentials/\S+$", UNIT.read_text(), re.MULTILINE)


@pytest.fixture(params=["as it stands", "as this systemd knows it"])
def installed(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give the unit with a program that is there: systemd looks for it."""
    unit = tmp_path / UNIT.name
    if request.param == "as it stands":
        unit.write_text(UNIT.read_text().replace(value("ExecStart").split()[0], sys.executable))
    else:
        version = int(re.findall(r"\d+", analyze("--version").stdout)[0])
        unit.write_text(suited(UNIT.read_text(), systemd=version, program=sys.executable, credentials=["motion"]))
    return unit


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_it(installed: Path) -> None:
    found = analyze("verify", str(installed))
    assert found.returncode == 0, found.stderr
    assert "mqtthook" not in found.stderr


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_its_exposure_is_the_lowest_that_is_practical(installed: Path) -> None:
    # 1.1 of 10, where Mosquitto's own unit has 9.6; what is left is the network that it is there for.
    found = analyze("security", "--offline=true", "--threshold=12", str(installed))
    if "unrecognized option" in found.stderr:
        pytest.skip("this systemd can't judge a unit that isn't running")
    assert found.returncode == 0, found.stdout + found.stderr


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    assert ANALYZE is not None
    return subprocess.run([ANALYZE, "--no-pager", *arguments], capture_output=True, text=True, timeout=60, check=False)
