"""The heartbeat: what may be pinged, what keeps it from going out, and that its URL is shown nowhere."""

from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from bridge.config.load import load
from bridge.errors import ConfigError
from bridge.watch.alerts import troubles
from bridge.watch.figures import Figures
from bridge.watch.heartbeat import ping, problem_with_url
from tests.rig.figures import CONFIG, DESTINATION, FIGURES, MAPPING

NOW = 1_768_462_200.0
TOKEN = "d1f6c0a2-not-for-anybody"


@pytest.mark.parametrize("url", [f"https://hc-ping.com/{TOKEN}", "http://192.168.1.20:3001/api/push/x?status=up&msg=OK", "https://[fd00::1]/x"])
def test_a_url_is_pinged_as_it_is_written(url: str) -> None:
    assert problem_with_url(url) is None
    found = ping(SecretStr(url))
    assert (found.method, found.url, found.headers, found.body) == ("GET", url, (), b"")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"hc-ping.com/{TOKEN}", "is no URL"),
        (f"ftp://hc-ping.com/{TOKEN}", "is no URL"),
        (f"https://user:{TOKEN}@hc-ping.com/", "is no URL"),
        (f"https://hc-ping.com/{{{{ topic }}}}/{TOKEN}", "no template"),
        (f"https://hc-ping.com/{{{{ 1 + 1 }}}}/{TOKEN}", "no template"),
        (f"http://169.254.169.254/{TOKEN}", "nothing is ever sent to"),
        (f"http://0xA9FEA9FE/{TOKEN}", "nothing is ever sent to"),
        ("", "is no URL"),
    ],
)
def test_what_cant_be_pinged_is_a_config_error_that_doesnt_show_it(url: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'version = 1\nheartbeat = "{url}"\n')
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    (problem,) = caught.value.problems
    assert said in problem
    assert f"{config}:2: heartbeat: " in problem
    assert TOKEN not in problem


@pytest.mark.parametrize("written", ["5", "[1]", f'["https://hc-ping.com/{TOKEN}"]', f'{{ url = "https://hc-ping.com/{TOKEN}" }}'])
def test_what_is_no_text_isnt_shown_either(written: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"version = 1\nheartbeat = {written}\n")
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    assert "heartbeat" in caught.value.problems[0]
    assert TOKEN not in caught.value.problems[0]


def test_it_may_stand_elsewhere_and_a_command_without_secrets_does_without(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('version = 1\nheartbeat = "env:HEARTBEAT_URL"\n')
    config.chmod(0o644)
    found = load(config, {"HEARTBEAT_URL": f"https://hc-ping.com/{TOKEN}"})
    assert found.settings.heartbeat == SecretStr(f"https://hc-ping.com/{TOKEN}")
    assert found.warnings == ()
    assert TOKEN not in repr(found.settings)
    load(config, {}, with_secrets=False)


def test_one_that_is_written_out_is_a_secret_that_others_can_read(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'version = 1\nheartbeat = "https://hc-ping.com/{TOKEN}"\n')
    config.chmod(0o644)
    (warning,) = load(config, {}).warnings
    assert "it holds secrets (heartbeat)" in warning
    assert TOKEN not in warning


def test_nothing_is_wrong_in_a_quiet_house() -> None:
    assert troubles(FIGURES, now=NOW) == {}


@pytest.mark.parametrize(
    ("figures", "trouble"),
    [
        (replace(FIGURES, connected=False, broker="nobody listens there"), ("broker away", "mqtt")),
        (replace(FIGURES, full=True), ("full", "outbox")),
        (replace(FIGURES, imbalance=-1), ("ledger", "outbox")),
        (replace(FIGURES, oldest_at=NOW - 3_601), ("old", "outbox")),
        (replace(FIGURES, config=replace(CONFIG, problems=("config.toml:1: no",))), ("config", "file")),
        (replace(FIGURES, destinations={"crm": replace(DESTINATION, state="breaker open")}), ("breaker open", "crm")),
        (replace(FIGURES, destinations={"crm": replace(DESTINATION, state="disabled", disabled="410")}), ("disabled", "crm")),
        (replace(FIGURES, mappings={"hall": replace(MAPPING, stopped=True)}), ("storm", "hall")),
    ],
)
def test_each_of_these_is_trouble(figures: Figures, trouble: tuple[str, str]) -> None:
    assert list(troubles(figures, now=NOW)) == [trouble]


@pytest.mark.parametrize(
    "figures",
    [
        replace(FIGURES, oldest_at=NOW - 60),
        replace(FIGURES, destinations={"crm": replace(DESTINATION, state="failing", failures=2)}),
        replace(FIGURES, destinations={"crm": replace(DESTINATION, state="paused")}),
        replace(FIGURES, mappings={"hall": replace(MAPPING, dead_letters=5)}),
    ],
)
def test_none_of_these_is(figures: Figures) -> None:
    assert troubles(figures, now=NOW) == {}
