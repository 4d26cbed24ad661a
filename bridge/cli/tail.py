"""`mqtthook tail`: what happens now, live."""

import json
from contextlib import suppress
from typing import Any

import click

from bridge.cli.common import complain, config_option, control_socket, fail, json_option
from bridge.cli.control import follow

_COLOURS = {"received": "blue", "delivered": "green", "retry": "yellow", "dead": "red", "expired": "red", "dropped": "red", "refused": "magenta"}
_OWN_PLACE = ("at", "what")


@click.command("tail")
@click.option("--mapping", metavar="NAME", help="Only of this mapping or hook.")
@click.option("--destination", metavar="NAME", help="Only of this destination; commands have the destination mqtt.")
@json_option
@config_option
@click.pass_context
def command(ctx: click.Context, mapping: str | None, destination: str | None, as_json: bool, config: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Show what happens in the running daemon, as it happens: received, delivered, retried, dead, refused.

    What messages hold is not shown. Ctrl-C ends it.

    \b
    Examples:
      mqtthook tail
      mqtthook tail --mapping hall-motion
      mqtthook tail --destination crm --json
    """
    where, _ = control_socket(config)
    lines = follow(where, "/tail", {"mapping": mapping, "destination": destination})
    if lines is None:
        fail(f"no daemon runs in {where.parent}; start it with `mqtthook run` or `systemctl start mqtthook`")
        return
    with suppress(KeyboardInterrupt):
        for line in lines:
            if line["what"] == "end":
                complain(line["reason"])
                ctx.exit(1)
            click.echo(json.dumps(line, ensure_ascii=False) if as_json else _shown(line))
        complain("the daemon has ended")
        ctx.exit(1)


def _shown(line: dict[str, Any]) -> str:
    clock = line["at"].partition("T")[2].rstrip("Z")
    told = " ".join(f"{name}={_value(value)}" for name, value in line.items() if name not in _OWN_PLACE)
    what = click.style(f"{line['what']:9}", fg=_COLOURS.get(line["what"]))
    return f"{click.style(clock, dim=True)} {what} {told}"


def _value(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text else repr(text)  # a topic can't move the cursor, nor look like a field
