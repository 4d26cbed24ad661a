"""`mqtthook reload`: let the running bridge read its config anew."""

import click

from bridge.cli.common import config_option, control_socket, fail, json_option, print_json, title
from bridge.cli.control import ask


@click.command("reload")
@config_option
@json_option
def command(config: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Let the running bridge go on with the config as it is now, without a message, a request or a waiting event lost.

    A config with errors changes nothing: they are shown, and the bridge goes on as before. `systemctl reload mqtthook` and
    SIGHUP do the same.

    \b
    Example:
      mqtthook reload
    """
    where, _ = control_socket(config)
    changes = ask(where, "POST", "/reload")
    if changes is None:
        fail("no daemon runs here: the config counts when it starts")
    if as_json:
        print_json(changes)
        return
    for what, names in changes.items():
        for name in names:
            click.echo(f"{title('starts anew for') if what == 'anew' else title(f'{what:8}')} {name}")
    if not any(changes.values()):
        click.echo("nothing has changed")
