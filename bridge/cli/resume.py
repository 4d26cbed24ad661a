"""`mqtthook pause` and `mqtthook resume`: stop sending to a destination, and start again."""

import click

from bridge.cli.common import config_option, fail, loaded, state
from bridge.cli.control import ask


def _act(action: str, name: str | None, config: str | None, *, everything: bool, done: str) -> None:
    if (name is None) != everything:
        raise click.UsageError("give the name of a destination, or --all")
    settings = loaded(config, with_secrets=False).settings
    answer = ask(settings.control_socket(state()), "POST", f"/{action}", {"destination": name})
    if answer is None:
        fail("no daemon runs here; start it first")
    elif not answer["destinations"]:
        fail(f"there is no destination {name!r}; known: {', '.join(settings.destinations()) or 'none'}", 2)
    else:
        click.echo(f"{done} {', '.join(answer['destinations'])}")


@click.command("resume")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every destination.")
@config_option
def command(name: str | None, everything: bool, config: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Send to the destination NAME again: after `pause`, after a 410 or the receiver's own wish, or before its breaker would.

    \b
    Examples:
      mqtthook resume crm
      mqtthook resume --all
    """
    _act("resume", name, config, everything=everything, done="resumed")


@click.command("pause")
@click.argument("name", required=False)
@click.option("--all", "everything", is_flag=True, help="Every destination.")
@config_option
def pause(name: str | None, everything: bool, config: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Send nothing to the destination NAME until `resume`, also after a restart; its events wait.

    \b
    Examples:
      mqtthook pause crm
      mqtthook pause --all
    """
    _act("pause", name, config, everything=everything, done="paused")
