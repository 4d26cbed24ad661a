"""`mqtthook run`: the daemon."""

import asyncio
import logging
import os

import click

from bridge import log
from bridge.cli.common import config_option, loaded
from bridge.config.load import load
from bridge.config.settings import state_directory


@click.command("run")
@config_option
def command(config: str | None) -> None:
    """Run the bridge until it is told to stop (SIGTERM or Ctrl-C).

    \b
    Example:
      mqtthook run --config config.toml
    """
    from bridge import app  # here: `mqtthook --help` loads every command, and need not wait for the whole program

    found = loaded(config)
    log.configure(found.settings.log)
    for warning in found.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    source = app.Source(found.path, lambda: load(found.path, os.environ))
    asyncio.run(app.run(found.settings, state_directory(os.environ), source=source))
