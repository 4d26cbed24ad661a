"""`mqtthook check`: read the config, and say everything that is wrong with it."""

import click

from bridge.cli.common import config_option, json_option, loaded, print_json
from bridge.errors import ConfigError


@click.command("check")
@config_option
@json_option
def command(config: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Check the config: every error at once, each with its line. Exits 78 if there is one.

    \b
    Example:
      mqtthook check --config /etc/mqtthook/config.toml
    """
    try:
        found = loaded(config)
    except ConfigError as exc:
        if as_json:
            print_json({"ok": False, "problems": exc.problems})
        raise
    settings = found.settings
    if as_json:
        print_json({"config": str(found.path), "ok": True, "warnings": list(found.warnings), "outbound": list(settings.outbound), "inbound": list(settings.inbound)})
        return
    for warning in found.warnings:
        click.echo(f"{click.style('warning', fg='yellow')} {warning}")
    counts = f"{_counted(len(settings.outbound), 'outbound mapping')}, {_counted(len(settings.inbound), 'hook')}"
    click.echo(f"{click.style('ok', fg='green')} {found.path}: {counts}, broker {settings.mqtt.url}")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
