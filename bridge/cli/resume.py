"""`mqtthook resume`: let a disabled destination be sent to again."""

import click

from bridge.cli.common import config_option, fail, loaded, state
from bridge.cli.control import ask


@click.command("resume")
@click.argument("name")
@config_option
def command(name: str, config: str | None) -> None:
    """Let the destination NAME be sent to again, after it was disabled by a 410 or by the receiver's wish.

    \b
    Example:
      mqtthook resume crm
    """
    settings = loaded(config, with_secrets=False).settings
    answer = ask(settings.control_socket(state()), "POST", "/resume", {"destination": name})
    if answer is None:
        fail("no daemon runs here; start it first")
    elif not answer["resumed"]:
        fail(f"there is no destination {name!r}; known: {', '.join(settings.destinations()) or 'none'}", 2)
    else:
        click.echo(f"resumed {name}")
