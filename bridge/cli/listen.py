"""`mqtthook listen`: what the broker says right now, which mappings take it, and (learn.py) what mappings it would be worth."""

import json
import os
import shutil
import stat
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from bridge.cli.common import complain, config_option, json_option, loaded
from bridge.cli.learn import Wanted, free_place, learn
from bridge.cli.message_lines import Judge, message_document, message_line, verdict_line
from bridge.config.load import PREFIX, find, load
from bridge.config.settings import Settings
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.tap import messages
from bridge.errors import BridgeError, ConfigError
from bridge.model import Message
from bridge.rules.expressions import UrlText
from bridge.rules.learn.draft import counted
from bridge.rules.topics import Filter
from bridge.rules.units import duration_text, some_seconds

LEARN = "60s"  # long enough for what reports once a minute
RECEIVER = "http://127.0.0.1:9000"


def _parsed(parse: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """Return what gives click the value that one of our own parsers reads."""

    def value(_ctx: click.Context, _param: click.Parameter, text: str | None) -> Any:
        try:
            return None if text is None else parse(text)
        except ValidationError as exc:
            raise click.BadParameter(exc.errors()[0]["msg"].removeprefix("Value error, ")) from exc
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc

    return value


def _receiver(base: str) -> str:
    if "?" in base or UrlText.parse(base).names:
        raise ValueError("expected a URL without query and templates: each mapping's name goes behind it")
    return base.rstrip("/")


def _duration(ctx: click.Context, param: click.Parameter, text: str | None) -> float | None:
    if text is not None and text.isdecimal():
        raise click.BadParameter(f"{text} of what? For seconds: {param.opts[0]} {text}s")
    found: float | None = _parsed(some_seconds)(ctx, param, text)
    return found


_FILTER, _RECEIVER = _parsed(Filter.parse), _parsed(_receiver)
_BROKER = _parsed(lambda url: MqttSettings(url=url).url)


@click.command("listen")
@click.argument("filter", callback=_FILTER, default="#")
@click.option("--learn", "learn_s", callback=_duration, is_flag=False, flag_value=LEARN, metavar=LEARN, help="Listen that long, then print a config made for what came.")
@click.option("-o", "--output", "output", metavar="FILE", help="With --learn: write it there, into a new file.")
@click.option("--for", "for_s", callback=_duration, metavar="30s", help="End after this time.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option("--no-retained", is_flag=True, help="Leave out what the broker replays.")
@click.option("--taken", is_flag=True, help="Show only messages that a mapping takes.")
@click.option("--broker", callback=_BROKER, metavar="URL", help="Ask this broker instead of the config's.")
@click.option("--url", callback=_RECEIVER, default=RECEIVER, show_default=True, help="With --learn: where events are to go.")
@json_option
@config_option
def command(config: str | None, broker: str | None, learn_s: float | None, output: str | None, taken: bool, as_json: bool, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Show what comes on FILTER (on all topics, if none is given), and which mappings take it.

    It needs no config, and doesn't disturb a running bridge. "R" marks what the broker replays, "q1" a QoS of 1. Ctrl-C ends it.

    \b
    Examples:
      mqtthook listen
      mqtthook listen 'zigbee2mqtt/{device}' --no-retained
      mqtthook listen --taken
      mqtthook listen '#' --learn 60s -o learned.toml
      mqtthook listen --count 1 --json | mqtthook try --message -
    """
    _check_usage(learns=learn_s is not None, for_s=more["for_s"], output=output, taken=taken)
    _check_stdout(find(config, os.environ))
    place = None if output is None else free_place(output)
    settings = _settings(config) if broker is None else _settings_beside(config)
    mqtt = settings.mqtt if broker is None else settings.mqtt.model_copy(update={"url": broker})
    wanted = Wanted(mqtt=mqtt, filter=more["filter"], for_s=learn_s or more["for_s"], count=more["count"], replays=not more["no_retained"])
    if sys.stderr.isatty():
        ends = "Ctrl-C ends it" if wanted.for_s is None else f"for {duration_text(wanted.for_s)}, Ctrl-C ends it earlier"
        click.echo(f"listening to {wanted.filter.text} at {mqtt.url}, {ends}", err=True)
    if learn_s is None:
        _show(wanted, Judge(settings.routes()), only_taken=taken, as_json=as_json)
    else:
        learn(wanted, more["url"], output=place, as_json=as_json)


def _check_usage(*, learns: bool, for_s: float | None, output: str | None, taken: bool) -> None:
    """Raise click's error where options don't go together."""
    if learns and for_s is not None:
        raise click.UsageError("--learn says already how long: leave out --for")
    if learns and taken:
        raise click.UsageError("--taken is for looking, not for --learn: leave out one of them")
    if output is not None and not learns:
        raise click.UsageError("--output is where the config goes that --learn makes: add --learn 60s")


def _check_stdout(config: Path) -> None:
    """Raise BridgeError where what is printed would go into the very config that is read: a shell's `> config.toml`."""
    try:
        ours, its = os.fstat(sys.stdout.fileno()), config.stat()
    except (OSError, ValueError):  # there is no such file, or no stdout
        return
    if (ours.st_dev, ours.st_ino) != (its.st_dev, its.st_ino) or not stat.S_ISREG(its.st_mode):
        return
    lost = f"the shell has emptied it already (or has just made it); what was in {config} is lost" if its.st_size == 0 else "nothing was written"
    raise BridgeError(f"the output goes into {config}, the config that this command reads: {lost}. Let it go elsewhere: `mqtthook listen --learn 60s -o learned.toml`")


def _settings(config: str | None) -> Settings:
    """Return the settings; without any config, those that a new user has: the defaults, and the environment's."""
    path, named = find(config, os.environ), config or os.environ.get(PREFIX + "CONFIG")
    # An empty file is as good as none.
    is_new = path.stat().st_size == 0 if path.is_file() else not named
    if is_new:
        return _defaults()
    try:
        return loaded(config).settings
    except ConfigError as exc:
        if any("mqtt.password" in problem for problem in exc.problems):
            raise
        # The webhooks' secrets may be where only the service can read them, and nothing is signed here.
        return loaded(config, with_secrets=False).settings


def _settings_beside(config: str | None) -> Settings:
    """Return the settings for a broker that was named; a config that merely lies here and is broken is done without."""
    try:
        return _settings(config)
    except ConfigError as exc:
        if config or os.environ.get(PREFIX + "CONFIG"):
            raise
        found = _defaults()  # first: what is wrong in the environment is wrong here too
        complain(f"{find(None, os.environ)} isn't used, as it has {counted(len(exc.problems), 'error')}: `mqtthook check` says more")
        return found


def _defaults() -> Settings:
    return load(Path(os.devnull), {PREFIX + "VERSION": "1", **os.environ}).settings


# --- showing ---


def _show(wanted: Wanted, judge: Judge, *, only_taken: bool, as_json: bool) -> None:
    if only_taken and not judge.knows_mappings:
        raise BridgeError("no mapping is configured that could take a message: leave out --taken, or see `mqtthook listen --learn 60s`")
    shown = 0
    with suppress(KeyboardInterrupt), closing(messages(wanted.mqtt, wanted.filter, for_s=wanted.for_s)) as came:
        for message in came:
            if message is None or not wanted.takes(message):
                continue
            verdicts = judge.verdicts(message)
            if only_taken and not any(verdict["takes"] for verdict in verdicts):
                continue
            _print(message, verdicts, knows_mappings=judge.knows_mappings, as_json=as_json)
            shown += 1
            if shown == wanted.count:
                return


def _print(message: Message, verdicts: list[dict[str, Any]], *, knows_mappings: bool, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(message_document(message) | {"mappings": verdicts}, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(message_line(message, width))
    for verdict in verdicts:
        click.echo(verdict_line(verdict))
    if knows_mappings and not verdicts:
        click.echo(click.style("    no mapping takes it", dim=True))
