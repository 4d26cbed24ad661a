"""`mqtthook secret`: make secrets."""

import os

import click

from bridge.cli.common import json_option, print_json, unread_config_option
from bridge.rules.signing import new_secret

SECRET_BYTES = 32  # what Standard Webhooks' own tools make; GitLab takes exactly this many


@click.group("secret")
def command() -> None:
    """Make secrets.

    \b
    Example:
      mqtthook secret new
    """


@command.command("new")
@unread_config_option
@json_option
def new(as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Print a new secret, for a `secret` in the config and for the other side.

    \b
    Example:
      mqtthook secret new > motion.secret && chmod 600 motion.secret
    """
    secret = new_secret(os.urandom(SECRET_BYTES))
    if as_json:
        print_json({"secret": secret})
    else:
        click.echo(secret)
