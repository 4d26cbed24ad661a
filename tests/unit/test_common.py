"""bridge/cli/common.py: where a command that a person types finds what the service has."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bridge.cli import common
from bridge.cli.common import loaded, state
from bridge.errors import ConfigError

SECRET = "whsec_" + "bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE="
CONFIG = 'version = 1\n[outbound.hall]\ntopic = "hall/{name}"\nurl = "http://127.0.0.1:9000/"\nsecret = "credential:motion"\n'
NOBODY = 65_534


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the directory where the service has its things, on a machine on which it is installed."""
    place = tmp_path / "system"
    (place / "credentials").mkdir(parents=True)
    (place / "config.toml").write_text(CONFIG)
    (place / "credentials" / "motion").write_text(SECRET)
    monkeypatch.setattr(common, "SYSTEM_CONFIG", place / "config.toml")
    monkeypatch.setattr(common, "SYSTEM_CREDENTIALS", place / "credentials")
    monkeypatch.setattr(common, "SYSTEM_STATE", place)
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return place


@contextmanager
def a_person(closed: Path) -> Iterator[None]:
    """Be somebody who may not enter a directory."""
    closed.chmod(0o700 if os.geteuid() == 0 else 0)
    if was_root := os.geteuid() == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)
        closed.chmod(0o700)


def test_the_service_s_config_is_read_with_the_service_s_credentials(system: Path) -> None:
    assert list(loaded(str(system / "config.toml")).settings.outbound) == ["hall"]


def test_another_config_gets_none_of_them(system: Path, tmp_path: Path) -> None:
    other = tmp_path / "config.toml"
    other.write_text(CONFIG)
    with pytest.raises(ConfigError, match="systemd gave no credentials"):
        loaded(str(other))


def test_what_systemd_gave_goes_before(system: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "here"))
    with pytest.raises(ConfigError, match="the file can't be read: No such file"):
        loaded(str(system / "config.toml"))


def test_who_may_not_read_the_config_is_told_to_try_with_sudo(system: Path) -> None:
    with a_person(system), pytest.raises(ConfigError, match="this user can't read the file; try with sudo"):
        loaded(str(system / "config.toml"))


def test_the_outbox_is_here_unless_only_the_service_has_one(system: Path) -> None:
    assert state() == Path()
    (system / "outbox.db").touch()
    assert state() == system
    Path("outbox.db").touch()
    assert state() == Path()


def test_an_outbox_that_may_not_be_looked_at_counts_as_there(system: Path) -> None:
    with a_person(system):
        assert state() == system
