"""`mqtthook reload`: let the running bridge read its config anew."""

import time
from pathlib import Path
from typing import Any

import click

from bridge.cli.common import config_option, control_socket, fail, json_option, print_json, title
from bridge.cli.control import ControlError, ask

START_S = 30.0  # a stop takes 5 at most, and a start the time to read the outbox
LOOK_EVERY_S = 0.1


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
    before = ask(where, "GET", "/status")
    if before is None:
        fail("no daemon runs here: the config counts when it starts")
        return
    changes = ask(where, "POST", "/reload")
    if changes is None:
        fail("the daemon has just ended: the config counts when it starts again")
        return
    if changes["anew"]:
        _expect_start(where, before["config"])
    if as_json:
        print_json(changes)
        return
    for what, names in changes.items():
        for name in names:
            click.echo(f"{title('starts anew for') if what == 'anew' else title(f'{what:8}')} {name}")
    if not any(changes.values()):
        click.echo("nothing has changed")


def _expect_start(where: Path, before: dict[str, Any]) -> None:
    """Return when the parts run with the new config; end where they can't, or don't in time. *before* tells how often that came about until now."""
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            now = ask(where, "GET", "/status", answer_s=START_S)
        except ControlError:  # it closes just now
            now = None
        if now is not None and now["config"]["refused"] > before["refused"]:
            fail(f"it can't start so, and goes on as before: {'; '.join(now['config']['problems'])}")
        if now is not None and now["config"]["applied"] > before["applied"]:
            return
        time.sleep(LOOK_EVERY_S)
    fail(f"it has not started again within {START_S:g} s; what it logs tells why: journalctl -u mqtthook")
