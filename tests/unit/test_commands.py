"""The front door: what is so of every command."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from bridge.cli import main


def commands(name: tuple[str, ...] = (), group: click.Command = main) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if not isinstance(group, click.Group):
        yield name, group
        return
    context = click.Context(group)
    for word in group.list_commands(context):
        found = group.get_command(context, word)
        assert found is not None
        yield from commands((*name, word), found)


ALL = dict(commands())


@pytest.mark.parametrize("name", ALL, ids=" ".join)
def test_every_command_takes_a_config(name: tuple[str, ...]) -> None:
    """Scripts pass it to all of them; what a command does with it, its help says."""
    assert "--config" in {text for parameter in ALL[name].params for text in parameter.opts}


@pytest.mark.parametrize("name", [("version",), ("secret", "new")])
def test_a_config_that_means_nothing_to_a_command_is_not_even_looked_for(name: tuple[str, ...], tmp_path: Path) -> None:
    run = CliRunner().invoke(main, [*name, "--config", str(tmp_path / "nowhere.toml")])
    assert (run.exit_code, run.output == "") == (0, False)


@pytest.mark.parametrize("name", ["install-service", "uninstall-service"])
def test_the_service_has_one_config_and_no_other_is_silently_left_out(name: str, tmp_path: Path) -> None:
    run = CliRunner().invoke(main, [name, "--dry-run", "--root", str(tmp_path), "--config", "/home/pi/config.toml"])
    assert run.exit_code == 2
    assert "the service's config is /etc/mqtthook/config.toml, not /home/pi/config.toml" in " ".join(run.output.replace("│", " ").split())
    assert CliRunner().invoke(main, [name, "--dry-run", "--root", str(tmp_path), "--config", "/etc/mqtthook/config.toml"]).exit_code == 0
