"""What `mqtthook listen --learn` does: it hears for a while, and makes a config of that. An existing file is never written to."""

import json
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import click

from bridge.cli.given import create_file, taken
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.tap import messages
from bridge.errors import BridgeError
from bridge.model import Message
from bridge.rules.learn.draft import config_text, document, heard, toml_string
from bridge.rules.learn.learning import Survey
from bridge.rules.learn.proposal import proposals
from bridge.rules.topics import Filter
from bridge.rules.units import duration_text

STEPS_S = 10  # steps of the progress bar in a second


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What to listen to, and when to end."""

    mqtt: MqttSettings
    filter: Filter
    for_s: float | None
    count: int | None
    replays: bool

    def takes(self, message: Message) -> bool:
        """Return True if a message is wanted, False if it is a replay that is to be left out."""
        return self.replays or not message.retained


def free_place(output: str) -> Path:
    """Return where the config is to be written; raise BridgeError where it can't be, before anybody waits for it."""
    path = Path(output)
    if os.path.lexists(path):
        raise BridgeError(taken(path, elsewhere="--output"))
    if not path.parent.is_dir():
        raise BridgeError(f"there is no directory {path.parent}; make it first: mkdir -p {shlex.quote(str(path.parent))}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise BridgeError(f"this user can't write in {path.parent}; name another place with --output")
    return path


def learn(wanted: Wanted, base: str, *, output: Path | None, as_json: bool) -> None:
    """Give a config for what came; also if the broker goes away in between, and then say so."""
    survey, broken = Survey(), None
    try:
        ended_early = _survey(wanted, survey)
    except BridgeError as exc:
        if not survey.messages:
            raise
        # Not the exception itself: its traceback would hold the connection.
        broken, ended_early = str(exc), True
    if not survey.messages:
        raise BridgeError(_nothing(wanted, ended_early=ended_early))
    found = proposals(survey, own=wanted.mqtt.status_topic)
    if as_json:
        text = json.dumps(document(found, survey, base=base), ensure_ascii=False, indent=2) + "\n"
    else:
        text = config_text(found, survey, broker=_broker_lines(wanted.mqtt), base=base)
    if output is None:
        # As bytes: a config is UTF-8, whatever this terminal speaks.
        click.echo(text.encode(), nl=False)
    else:
        create_file(output, text, elsewhere="--output")
        click.echo(f"{click.style('wrote', fg='green')} {output}: look at it, and move what you want into config.toml; then `mqtthook check`")
    if broken is not None:
        raise BridgeError(broken)


def _nothing(wanted: Wanted, *, ended_early: bool) -> str:
    when = "so far" if ended_early or wanted.for_s is None else f"within {duration_text(wanted.for_s)}"
    everything = "" if wanted.filter.plain == "#" else " is the filter right? `mqtthook listen '#'` shows every topic."
    return f"nothing came on '{wanted.filter.text}' {when} at {wanted.mqtt.url}:{everything} What runs on a battery may report once an hour only: listen longer"


def _survey(wanted: Wanted, survey: Survey) -> bool:
    """Take in what comes; return True if somebody ended it before its time, False if not."""
    try:
        with closing(messages(wanted.mqtt, wanted.filter, for_s=wanted.for_s)) as came, _progress(wanted.for_s or 0, survey) as show:
            for message in _wanted_of(came, wanted):
                if message is not None:
                    survey.note(message)
                show()
    except KeyboardInterrupt:
        return True
    return False


def _wanted_of(came: Iterable[Message | None], wanted: Wanted) -> Iterator[Message | None]:
    """Yield the messages that are wanted, as many as are, and None in between."""
    count = 0
    for message in came:
        if message is None or wanted.takes(message):
            yield message
            count += message is not None
        if count == wanted.count:
            return


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
