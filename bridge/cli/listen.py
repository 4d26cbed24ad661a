"""`mqtthook listen`: what the broker says right now, which mappings take it, and what mappings it would be worth."""

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import click
from pydantic import ValidationError

from bridge.cli.common import complain, config_option, json_option, loaded, print_json
from bridge.cli.message_lines import Judge, message_document, message_line, verdict_line
from bridge.config.load import PREFIX, find, load
from bridge.config.settings import Settings
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.tap import messages
from bridge.errors import BridgeError, ConfigError
from bridge.model import Message
from bridge.rules.expressions import UrlText
from bridge.rules.learn.draft import config_text, document, heard, toml_string
from bridge.rules.learn.learning import Survey
from bridge.rules.learn.proposal import proposals
from bridge.rules.topics import Filter
from bridge.rules.units import duration_text, some_seconds

LEARN = "60s"  # long enough for what reports once a minute
RECEIVER = "http://127.0.0.1:9000"
STEPS_S = 10  # steps of the progress bar in a second

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


_FILTER, _DURATION, _RECEIVER = _parsed(Filter.parse), _parsed(some_seconds), _parsed(_receiver)
_BROKER = _parsed(lambda url: MqttSettings(url=url).url)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """What to listen to, and when to end."""

    mqtt: MqttSettings
    filter: Filter
    for_s: float | None
    count: int | None
    replays: bool


@click.command("listen")
@click.argument("filter", callback=_FILTER, default="#")
@click.option("--learn", "learn_s", callback=_DURATION, is_flag=False, flag_value=LEARN, metavar=LEARN, help="Listen that long, then print a config made for what came.")
@click.option("--for", "for_s", callback=_DURATION, metavar="30s", help="End after this time.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many messages.")
@click.option("--no-retained", is_flag=True, help="Leave out what the broker replays.")
@click.option("--broker", callback=_BROKER, metavar="URL", help="Ask this broker instead of the config's.")
@click.option("--url", callback=_RECEIVER, default=RECEIVER, show_default=True, help="With --learn: where events are to go.")
@json_option
@config_option
def command(config: str | None, broker: str | None, learn_s: float | None, url: str, as_json: bool, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Show what comes on FILTER (on all topics, if none is given), and which mappings take it.

    It needs no config, and doesn't disturb a running bridge. "R" marks what the broker replays, "q1" a QoS of 1. Ctrl-C ends it.

    \b
    Examples:
      mqtthook listen
      mqtthook listen 'zigbee2mqtt/{device}' --no-retained
      mqtthook listen '#' --learn 60s > config.toml
      mqtthook listen --count 1 --json | mqtthook try --message -
    """
    if learn_s is not None and more["for_s"] is not None:
        raise click.UsageError("--learn says already how long: leave out --for")
    settings = _settings(config)
    mqtt = settings.mqtt if broker is None else settings.mqtt.model_copy(update={"url": broker})
    wanted = _Wanted(mqtt=mqtt, filter=more["filter"], for_s=learn_s or more["for_s"], count=more["count"], replays=not more["no_retained"])
    if sys.stderr.isatty():
        ends = "Ctrl-C ends it" if wanted.for_s is None else f"for {duration_text(wanted.for_s)}, Ctrl-C ends it earlier"
        click.echo(f"listening to {wanted.filter.text} at {mqtt.url}, {ends}", err=True)
    if learn_s is None:
        _show(wanted, Judge(settings.routes()), as_json=as_json)
    else:
        _learn(wanted, url, as_json=as_json)


def _settings(config: str | None) -> Settings:
    """Return the settings; without any config, those that a new user has: the defaults, and the environment's."""
    path, named = find(config, os.environ), config or os.environ.get(PREFIX + "CONFIG")
    # A file is empty where a shell has just made it for what is going to be printed.
    is_new = path.stat().st_size == 0 if path.is_file() else not named
    if is_new:
        return load(Path(os.devnull), {PREFIX + "VERSION": "1", **os.environ}).settings
    try:
        return loaded(config).settings
    except ConfigError as exc:
        if any("mqtt.password" in problem for problem in exc.problems):
            raise
        # The webhooks' secrets may be where only the service can read them, and nothing is signed here.
        return loaded(config, with_secrets=False).settings


def _wanted_of(came: Iterable[Message | None], wanted: _Wanted) -> Iterator[Message | None]:
    """Yield the messages that are wanted, as many as are, and None in between."""
    count = 0
    for message in came:
        if message is None or wanted.replays or not message.retained:
            yield message
            count += message is not None
        if count == wanted.count:
            return


# --- showing ---


def _show(wanted: _Wanted, judge: Judge, *, as_json: bool) -> None:
    with suppress(KeyboardInterrupt), closing(messages(wanted.mqtt, wanted.filter, for_s=wanted.for_s)) as came:
        for message in _wanted_of(came, wanted):
            if message is not None:
                _print(message, judge, as_json=as_json)


def _print(message: Message, judge: Judge, *, as_json: bool) -> None:
    verdicts = judge.verdicts(message)
    if as_json:
        click.echo(json.dumps(message_document(message) | {"mappings": verdicts}, ensure_ascii=False))
        return
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    click.echo(message_line(message, width))
    for verdict in verdicts:
        click.echo(verdict_line(verdict))
    if judge.knows_mappings and not verdicts:
        click.echo(click.style("    no mapping takes it", dim=True))


# --- learning ---


def _learn(wanted: _Wanted, base: str, *, as_json: bool) -> None:
    """Print a config for what came; also if the broker goes away in between, and then say so."""
    survey, broken = Survey(), None
    try:
        _survey(wanted, survey)
    except BridgeError as exc:
        if not survey.messages:
            raise
        broken = exc
    found = proposals(survey, own=wanted.mqtt.status_topic)
    if as_json:
        print_json(document(found, survey, base=base))
    else:
        # As bytes: a config is UTF-8, whatever this terminal speaks.
        click.echo(config_text(found, survey, broker=_broker_lines(wanted.mqtt), base=base).encode(), nl=False)
    if broken is not None:
        raise broken
    if not survey.messages:
        complain(f"nothing came on {wanted.filter.text} at {wanted.mqtt.url}")


def _survey(wanted: _Wanted, survey: Survey) -> None:
    with suppress(KeyboardInterrupt), closing(messages(wanted.mqtt, wanted.filter, for_s=wanted.for_s)) as came, _progress(wanted.for_s or 0, survey) as show:
        for message in _wanted_of(came, wanted):
            if message is not None:
                survey.note(message)
            show()


@contextmanager
def _progress(for_s: float, survey: Survey) -> Iterator[Callable[[], None]]:
    """Give a function that moves the progress bar on; it does nothing where nobody would see it."""
    if not sys.stderr.isatty():
        yield lambda: None
        return
    began, done = monotonic(), 0
    length = round(for_s * STEPS_S)
    with click.progressbar(range(length), length=length, show_percent=False, show_eta=False, item_show_func=lambda _: heard(survey), file=sys.stderr) as bar:

        def show() -> None:
            nonlocal done
            if (steps := int((monotonic() - began) * STEPS_S)) > done:
                bar.update(steps - done, 0)
                done = steps

        yield show


def _broker_lines(mqtt: MqttSettings) -> list[str]:
    """Return what a config needs to find this broker; nothing where the defaults do."""
    lines = [] if mqtt.url == MqttSettings.model_fields["url"].default else [f"url = {toml_string(mqtt.url)}"]
    others = sorted(mqtt.model_fields_set - {"url", "client_id"})
    return [*lines, *([f"# and what your config or environment says besides: {', '.join(others)}"] if others else [])]
