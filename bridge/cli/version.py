"""`mqtthook version`: what is installed."""

import platform
import sqlite3
from importlib.metadata import version

import click

from bridge import __version__
from bridge.cli.common import json_option, print_json, unread_config_option

PARTS = ("aiohttp", "paho-mqtt", "pydantic", "Jinja2", "sqlite-utils")


@click.command("version")
@unread_config_option
@json_option
def command(as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Print the version, and those of the parts that matter in a bug report.

    \b
    Example:
      mqtthook version
    """
    parts = {"mqtthook": __version__, "python": platform.python_version(), "sqlite": sqlite3.sqlite_version} | {name: version(name) for name in PARTS}
    if as_json:
        print_json(parts)
        return
    for name, number in parts.items():
        click.echo(f"{name} {number}")
