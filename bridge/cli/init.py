"""`mqtthook init`: a first config, asked for question by question, and written whole or not at all."""

import os
import shlex
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import click

from bridge.cli.common import title
from bridge.cli.given import create_file, taken
from bridge.cli.secret import SECRET_BYTES
from bridge.config import first
from bridge.config.first import Answers
from bridge.config.load import PREFIX, Loaded, find, load
from bridge.edges.mqtt.tap import messages
from bridge.errors import BridgeError, ConfigError
from bridge.rules.signing import new_secret
from bridge.rules.specimen import topic_for
from bridge.rules.topics import Filter

Check = Callable[[str], str]


@click.command("init")
@click.option("--broker", metavar="URL", help=f"The broker; by default {first.BROKER}.")
@click.option("--username", metavar="NAME", help="The user to be known as there; by default none.")
@click.option("--topic", metavar="FILTER", help=f"The messages that become webhooks; by default {first.TOPIC}.")
@click.option("--url", metavar="URL", help=f"The receiver of these; by default {first.URL}.")
@click.option("--signed/--unsigned", default=None, help="Whether the receiver checks signatures; by default it does.")
@click.option("--yes", is_flag=True, help="Ask nothing: what isn't given is as by default.")
@click.option("--config", metavar="FILE", help="Where to write it; else $MQTTHOOK_CONFIG, ./config.toml.")
def command(config: str | None, yes: bool, signed: bool | None, **given: str | None) -> None:  # noqa: FBT001 - click passes them by name
    """Write a first config, and overwrite nothing.

    It leads the messages of one topic to one receiver, and asks for what isn't given. Secrets go into files of their own
    beside the config, which only you can read.

    \b
    Examples:
      mqtthook init
      mqtthook init --yes --topic 'zigbee2mqtt/{room}/contact' --url http://192.168.1.20:9000/doors
    """
    path = _place(config)
    answers = _answers(given, yes=yes, signed=signed)
    files = first.files(answers, path, secret=new_secret(os.urandom(SECRET_BYTES)))
    found = _written(files)
    # Where the other commands find it by themselves, they need not be told.
    where = "" if Path(os.path.abspath(find(None, os.environ))) == path else f" --config {shlex.quote(str(path))}"
    click.echo("\n".join(_written_lines(files, found)))
    click.echo(_broker_line(found, answers, where))  # a broker that hangs is given some seconds
    click.echo("\n".join(_next_lines(answers, where)))


def _place(config: str | None) -> Path:
    """Return where the config is to be, absolute; raise BridgeError where it can't be."""
    path = Path(os.path.abspath(config or os.environ.get(PREFIX + "CONFIG") or "config.toml"))
    try:
        first.printable(str(path))
    except ValueError as exc:
        raise BridgeError(f"{str(path)!r}: a config can't name files there: {exc}") from exc
    if os.path.lexists(path):
        raise BridgeError(taken(path, elsewhere="--config"))
    if not path.parent.is_dir():
        raise BridgeError(f"there is no directory {path.parent}; make it first: mkdir -p {shlex.quote(str(path.parent))}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise BridgeError(f"this user can't write in {path.parent}; try with sudo, or name another place with --config")
    return path


# --- questions ---


def _answers(given: dict[str, str | None], *, yes: bool, signed: bool | None) -> Answers:
    def answer(name: str, question: str, default: str, check: Check) -> str:
        if (text := given[name]) is not None or yes:
            return _checked(default if text is None else text, check, f"--{name}")
        return _asked(question, default, check)

    broker = answer("broker", "The broker's URL", first.BROKER, first.broker)
    username = answer("username", "Your user name there (empty: none)", "", first.printable)
    password = _password() if username and not yes else ""
    topic = answer("topic", "The topic whose messages become webhooks", first.TOPIC, first.topic)
    url = answer("url", "The receiver's URL", first.URL, lambda text: first.url(text, topic=topic))
    if signed is None:
        signed = yes or click.confirm("Does the receiver check signatures (Standard Webhooks)?", default=True)
    return Answers(broker=broker, username=username or None, password=password or None, topic=topic, url=url, signed=signed)


def _asked(question: str, default: str, check: Check) -> str:
    """Ask until the answer is valid."""
    return click.prompt(question, default=default, show_default=bool(default), value_proc=lambda text: _checked(text, check, None))


def _password() -> str:
    # click keeps to itself what is wrong with a hidden answer.
    while True:
        try:
            return first.password(click.prompt("The password (empty: none)", default="", show_default=False, hide_input=True))
        except ValueError as exc:
            click.echo(f"Error: {exc}")


def _checked(text: str, check: Check, option: str | None) -> str:
    try:
        return check(text)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint=option) from exc


# --- writing ---


def _written(files: dict[Path, str]) -> Loaded:
    """Write the files, all or none of them, and return what the bridge reads in the config, which is the last."""
    with _undisturbed(), ExitStack() as undo:
        for path, text in files.items():
            create_file(path, text, elsewhere="--config")
            undo.callback(path.unlink)
        try:
            found = load(path, os.environ)
        except ConfigError as exc:
            raise ConfigError([*exc.problems, "nothing was written"]) from exc
        undo.pop_all()
        return found


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let signals wait: neither Ctrl-C nor a closed terminal comes between one file and the next."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# --- what it says ---


def _written_lines(files: dict[Path, str], found: Loaded) -> Iterator[str]:
    for path in reversed(files):
        known = "; the receiver needs the same secret" if path.suffix == ".secret" else ""
        yield f"{click.style('wrote', fg='green')} {path}{known}"
    yield from (f"{click.style('note', fg='yellow')}  {warning}" for warning in found.warnings)


def _broker_line(found: Loaded, answers: Answers, where: str) -> str:
    """Return whether the broker lets us listen to the topic, after one attempt."""
    mqtt = found.settings.mqtt
    try:
        with closing(messages(mqtt, Filter.parse(answers.topic))) as came:
            next(came)
    except BridgeError as exc:
        return f"{click.style('note', fg='yellow')}  {exc}. Put that right; then `mqtthook listen{where}` shows what comes"
    return f"{click.style('ok', fg='green')}    the broker answers at {mqtt.url}"


def _next_lines(answers: Answers, where: str) -> Iterator[str]:
    filter = Filter.parse(answers.topic)
    example = f"--topic {shlex.quote(topic_for(filter))} --payload {shlex.quote(first.example(answers.topic)[1])}"
    steps = {
        "is it all right?": "check",
        "what would be sent?": f"try {example}",
        "a test event": f"send {first.name_of(filter)}",
        "what comes?": f"listen {shlex.quote(answers.topic)}",
        "run it": "run",
    }
    yield from ("", title("next"))
    yield from (f"  {what:21}mqtthook {step}{where}" for what, step in steps.items())
    yield f"  {'as a service':21}docs/install.md"
