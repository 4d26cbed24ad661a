"""`mqtthook queue`: what waits and what died, while the daemon runs and while it doesn't."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from bridge.admin.queries import selection
from bridge.app.clock import HouseClock
from bridge.cli.common import Function, complain, config_option, fail, json_option, loaded, print_json, progress_bar, state, title
from bridge.cli.control import ask
from bridge.cli.given import since
from bridge.config.settings import Settings
from bridge.errors import BridgeError, RenderError
from bridge.outbox.desk import Desk
from bridge.outbox.selection import PART
from bridge.outbox.view import letter_document, letter_summary
from bridge.rules.forwarding import forwarding
from bridge.rules.outbound import Destination
from bridge.rules.units import duration_text, seconds

DEFAULT_LIMIT = 50
PAGE = 200  # letters in one answer of the daemon; with bodies of 256 KiB the most that a letter has, 50 MB


@click.group("queue")
def command() -> None:
    """See and handle what waits in the outbox, and its dead letters.

    \b
    Examples:
      mqtthook queue list --dead
      mqtthook queue show evt_01JX...
      mqtthook queue retry --all --mapping hall-motion
    """


def _older(_ctx: click.Context, _param: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else time.time() - seconds(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


def _filters(function: Function) -> Function:
    for option in (
        click.option("--reason", metavar="TEXT", help="Whose reason holds this text."),
        click.option("--since", metavar="WHEN", callback=since, help='Died, or came, since then: "tuesday", "2026-11-24", "3d".'),
        click.option("--older", "before", metavar="1h", callback=_older, help="Older than this."),
        click.option("--key", help="Of this key (by default, of this topic)."),
        click.option("--destination", help="For this destination."),
        click.option("--mapping", help="Of this mapping or hook."),
        click.option("--held", "state", flag_value="held", help="Only what debounce and batch hold."),
        click.option("--waiting", "state", flag_value="waiting", help="Only what waits."),
        click.option("--dead", "state", flag_value="dead", help="Only dead letters."),
        json_option,
        config_option,
    ):
        function = option(function)
    return function


@command.command("list")
@_filters
@click.option("--limit", type=click.IntRange(1, 100_000), default=DEFAULT_LIMIT, show_default=True, help="At most this many.")
def list_letters(config: str | None, as_json: bool, limit: int, **asked: Any) -> None:  # noqa: FBT001 - click passes it by name
    """List letters, oldest first.

    \b
    Example:
      mqtthook queue list --dead --mapping hall-motion --older 1h
    """
    letters = _asked(config, "list", asked | {"limit": limit + 1})
    if as_json:
        print_json(letters[:limit])
        return
    if not letters:
        click.echo("nothing here" if _given(asked) else "nothing waits, and there are no dead letters")
        return
    click.echo(title(f"{'id':31} {'state':8} {'mapping':20} {'age':>8} {'tries':>5}  reason"))
    for letter in letters[:limit]:
        click.echo(f"{letter['id']:31} {letter['state']:8} {letter['mapping']:20} {duration_text(letter['age_s']):>8} {letter['attempts']:>5}  {letter['reason'] or ''}")
    if len(letters) > limit:
        click.echo(f"... and more; see them with --limit {limit * 10}")


@command.command("export")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All letters, or all that the filters leave.")
@_filters
def export(ids: tuple[str, ...], everything: bool, config: str | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001, ARG001 - click passes it by name; it is JSON anyway
    """Print letters whole, one JSON object a line.

    \b
    Examples:
      mqtthook queue export --all --dead > dead.jsonl
      mqtthook queue export --dead --destination crm --since tuesday
    """
    _named(ids, "export", everything=everything, asked=asked)
    with _counter("exported") as count:
        for letter in _pages(config, asked | ({"ids": ids} if ids else {})):
            click.echo(json.dumps(letter, ensure_ascii=False))
            count(1)


def _pages(config: str | None, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield letters whole, some at a time: there may be a million."""
    after = 0
    while letters := _asked(config, "show", asked | {"after": after, "limit": PAGE}):
        yield from letters
        after = letters[-1]["number"]


@contextmanager
def _counter(done: str) -> Iterator[Callable[[int], None]]:
    """Give a function that counts what is done, and show it where a person watches."""
    total, watched = 0, sys.stderr.isatty() and not sys.stdout.isatty()

    def count(more: int) -> None:
        nonlocal total
        total += more
        if watched and total % PAGE == 0:
            click.echo(f"\r{total} {done}", err=True, nl=False)

    yield count
    if watched:
        click.echo(f"\r{total} {done}", err=True)


@command.command("show")
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
@config_option
def show(ids: tuple[str, ...], as_json: bool, config: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Show letters whole, with the body that is sent.

    \b
    Example:
      mqtthook queue show evt_01JX8Q3M5W0000000000000000
    """
    letters = _asked(config, "show", {"ids": ids})
    if not letters:
        fail(f"there is no letter {ids[0]!r} here; `mqtthook queue list` shows what there is")
    if as_json:
        print_json(letters)
        return
    for letter in letters:
        content = letter.pop("content")
        for name, value in (letter | content).items():
            click.echo(f"{title(f'{name:12}')} {value}")


@command.command("retry")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All letters, or all that the filters leave.")
@_filters
def retry(ids: tuple[str, ...], everything: bool, config: str | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001 - click passes it by name
    """Try letters now, dead ones too. Each keeps its webhook-id.

    \b
    Examples:
      mqtthook queue retry evt_01JX8Q3M5W0000000000000000
      mqtthook queue retry --all --dead --mapping hall-motion
    """
    _act(config, "retry", ids, everything=everything, as_json=as_json, asked=asked, done="to be tried now")


@command.command("drop")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All letters, or all that the filters leave.")
@_filters
def drop(ids: tuple[str, ...], everything: bool, config: str | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001 - click passes it by name
    """Delete letters for good.

    \b
    Examples:
      mqtthook queue drop evt_01JX8Q3M5W0000000000000000
      mqtthook queue drop --all --dead --older 7d
    """
    _act(config, "drop", ids, everything=everything, as_json=as_json, asked=asked, done="dropped")


@command.command("split")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="All batches, or all that the filters leave.")
@_filters
def split(ids: tuple[str, ...], everything: bool, config: str | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001 - click passes it by name
    """Let each event of a batch be a letter of its own, and try it now: so that one bad event spoils no others.

    \b
    Examples:
      mqtthook queue split evt_01JX8Q3M5W0000000000000000
      mqtthook queue split --all --dead --mapping climate
    """
    _act(config, "split", ids, everything=everything, as_json=as_json, asked=asked, done="made of batches")


@command.command("move")
@click.argument("ids", metavar="[ID...]", nargs=-1)
@click.option("--to", required=True, metavar="NAME", help="The destination that they go to from now on.")
@click.option("--all", "everything", is_flag=True, help="All letters, or all that the filters leave.")
@_filters
def move(ids: tuple[str, ...], to: str, everything: bool, config: str | None, as_json: bool, **asked: Any) -> None:  # noqa: FBT001 - click passes it by name
    """Let events go to another destination, as when theirs is not in the config any more. Dead ones stay dead until `retry`.

    \b
    Example:
      mqtthook queue move --destination old-crm --to crm
    """
    _act(config, "move", ids, everything=everything, as_json=as_json, asked=asked, done=f"moved to {to}", more={"to": to})


def _act(config: str | None, action: str, ids: tuple[str, ...], *, everything: bool, as_json: bool, asked: dict[str, Any], done: str, more: dict[str, Any] | None = None) -> None:
    _named(ids, action, everything=everything, asked=asked)
    parts = [{"ids": ids}] if ids else _parts(config, asked)
    count = 0
    try:
        for part in parts:
            count += _asked(config, action, part | (more or {}))["count"]
    except (BridgeError, KeyboardInterrupt):
        if count:
            complain(f"{count} letters {done} before this:")
        raise
    if as_json:
        print_json({"count": count})
    else:
        click.echo(f"{count} {'letter' if count == 1 else 'letters'} {done}")
    if ids and not count:
        what = "batch" if action == "split" else "letter"
        complain(f"there is no {what} {ids[0]!r} here; `mqtthook queue list` shows what there is")
        click.get_current_context().exit(1)


def _parts(config: str | None, asked: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield what is asked for part by part, and show a person who watches how far it is. What comes meanwhile is not meant."""
    parts = _asked(config, "parts", asked | {"size": PART}) or [(0, 0)]  # asked for nothing, it still says if it can't be
    after = 0
    with progress_bar(sum(size for _, size in parts), least=PART) as move_on:
        for until, size in parts:
            yield asked | {"after": after, "until": until}
            after = until
            move_on(size)


def _named(ids: tuple[str, ...], action: str, *, everything: bool, asked: dict[str, Any]) -> None:
    """Refuse a command that doesn't say which letters it means."""
    if ids and (everything or _given(asked)):
        raise click.UsageError("give ids, or --all with filters, not both")
    if not ids and not everything and not _given(asked):
        raise click.UsageError(f"which letters? give ids, filters, or --all; `mqtthook queue {action} --help` has examples")


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _asked(config: str | None, action: str, asked: dict[str, Any]) -> Any:
    """Ask the daemon, or the file where none runs."""
    settings = loaded(config, with_secrets=False).settings
    answer = ask(settings.control_socket(state()), "POST", f"/queue/{action}", _given(asked))
    return answer if answer is not None else _of_file(settings, action, _given(asked))


def _of_file(settings: Settings, action: str, asked: dict[str, Any]) -> Any:
    path = settings.outbox(state())
    if not path.exists():
        return [] if action in ("list", "show", "parts") else {"count": 0}
    desk = Desk(path, settings.store, clock=HouseClock.of)
    to, size = asked.pop("to", ""), asked.pop("size", PART)
    wanted = selection(asked)
    actions: dict[str, Callable[[], Any]] = {
        "list": lambda: [letter_summary(letter, now=desk.now()) for letter in desk.select(wanted)],
        "show": lambda: [letter_document(letter, now=desk.now()) for letter in desk.select(wanted)],
        "parts": lambda: desk.parts(wanted, size),
        "retry": lambda: {"count": desk.retry(wanted)},
        "drop": lambda: {"count": desk.drop(wanted)},
        "split": lambda: {"count": desk.split(wanted)},
        "move": lambda: {"count": desk.move(wanted, to, forwarding(_destination(settings, to), settings.routes()))},
    }
    try:
        return actions[action]()
    finally:
        desk.close()


def _destination(settings: Settings, name: str) -> Destination:
    if (found := settings.destinations().get(name)) is None:
        raise RenderError(f"there is no destination {name!r}; known: {', '.join(settings.destinations()) or 'none'}")
    return found
