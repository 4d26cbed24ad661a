"""`mqtthook history`: what was tried, and what came of it."""

from datetime import datetime
from typing import Any

import click

from bridge.admin.queries import past
from bridge.app.clock import HouseClock
from bridge.cli.common import config_option, json_option, loaded, print_json, state, title
from bridge.cli.control import ask
from bridge.cli.given import since
from bridge.config.settings import Settings
from bridge.outbox.desk import Desk
from bridge.rules.units import duration_text

COLOURS = {"delivered": "green", "retry": "yellow", "dead": "red", "expired": "red"}


@click.command("history")
@click.argument("event", metavar="[ID]", required=False)
@click.option("--mapping", help="Of this mapping or hook.")
@click.option("--destination", help="For this destination.")
@click.option("--verdict", type=click.Choice(list(COLOURS)), help="That came to this.")
@click.option("--since", metavar="WHEN", callback=since, help='Since then: "tuesday", "2026-11-24", "3d".')
@click.option("--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="The newest so many.")
@json_option
@config_option
def command(config: str | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001 - click passes it by name
    """Show the attempts that were made, the newest last; with an ID the life of that event.

    \b
    Examples:
      mqtthook history --destination crm --since yesterday
      mqtthook history evt_01JX8Q3M5W0000000000000000
    """
    attempts = _asked(config, {name: value for name, value in asked.items() if value is not None})
    if as_json:
        print_json(attempts)
        return
    if not attempts:
        click.echo("nothing was tried that would fit this")
        return
    if asked["event"] is not None:
        first = attempts[0]
        click.echo(f"{title(first['event'])} of {first['mapping']}, received {_clock(first['received_at'])}")
    for attempt in attempts:
        click.echo(_line(attempt))


def _line(attempt: dict[str, Any]) -> str:
    word = click.style(f"{attempt['verdict']:9}", fg=COLOURS[attempt["verdict"]])
    if not attempt["number"]:
        return f"{_clock(attempt['at'])}  {word} {attempt['mapping']} -> {attempt['destination']}: {attempt['reason']}"
    after = duration_text(max(attempt["at"] - attempt["received_at"], 0.0))
    what = f"{attempt['mapping']} -> {attempt['destination']}" if attempt["destination"] != attempt["mapping"] else attempt["mapping"]
    said = f"  {attempt['answer'][:60]!r}" if attempt["answer"] and attempt["verdict"] != "delivered" else ""
    return f"{_clock(attempt['at'])}  {word} {what}  {attempt['event']}  attempt {attempt['number']}, {after} after it came, {attempt['took_ms']:.0f} ms: {attempt['reason']}{said}"


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _asked(config: str | None, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Ask the daemon, or the file where none runs."""
    settings = loaded(config, with_secrets=False).settings
    answer = ask(settings.control_socket(state()), "POST", "/history", asked)
    return answer if answer is not None else _of_file(settings, asked)


def _of_file(settings: Settings, asked: dict[str, Any]) -> list[dict[str, Any]]:
    path = settings.outbox(state())
    if not path.exists():
        return []
    desk = Desk(path, settings.store, clock=HouseClock.of)
    try:
        return [attempt.document() for attempt in desk.history(past(asked))]
    finally:
        desk.close()
