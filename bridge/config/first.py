"""A first config: what a new user answered, as files that the bridge can start with.

Pure. An answer stands in TOML as a string, and is refused where it couldn't; a secret stands in a file of its own.
"""

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from bridge.config.sentences import mistake
from bridge.edges.mqtt.settings import MqttSettings
from bridge.rules.learn.draft import GATES, toml_string
from bridge.rules.outbound import Outbound
from bridge.rules.topics import Filter, unprintable

BROKER = "mqtt://localhost:1883"  # these three as in config.example.toml
TOPIC = "zigbee2mqtt/{room}/motion"
URL = "http://127.0.0.1:9000/motion"

MAX_NAME = 40  # characters of a mapping's name, as `listen --learn` proposes it; the config takes 64
COLUMN = 44  # where comments begin, as in config.example.toml

_PRESENCE = re.compile(r"motion|occupancy|presence", re.IGNORECASE)

_HEADING = """\
# mqtthook: a first config, made by `mqtthook init`. See what it comes to with `mqtthook check` and `mqtthook try`.
#
# A line like `# key = value` is a setting that is switched off: take the `# ` away and it counts. Every setting there
# is, with its default, stands in config.example.toml; docs/mappings.md and docs/hooks.md tell what they do.

version = 1
"""

_WAY_BACK = """
# The way back: an HTTP request becomes an MQTT command. It needs a secret that only you and its caller know.

# [inbound.hall-light]                      # POST http://127.0.0.1:8080/hooks/hall-light
# verify = "bearer"                         # the caller sends the header "Authorization: Bearer <the secret>"
# secret = "env:LIGHT_SECRET"               # make one with `mqtthook secret new`
# topic = "zigbee2mqtt/hall/light/set"
# json = { state = "{{ body.state | upper }}" }  # without it the body is published as it came
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What was answered, each of it valid; None where there is no user or no password."""

    broker: str
    username: str | None
    password: str | None
    topic: str
    url: str
    signed: bool


# --- is an answer valid? Each returns it, or raises ValueError with what is wrong ---


def broker(text: str) -> str:
    """Check the broker's URL."""
    try:
        return MqttSettings(url=printable(text)).url
    except ValidationError as exc:
        raise ValueError(mistake(exc.errors()[0], MqttSettings).what) from exc


def printable(text: str) -> str:
    """Check a text that goes into the config as it is."""
    if (bad := unprintable(text)) is not None:
        raise ValueError(f"it holds {bad}, which can't stand there")
    return text


def password(text: str) -> str:
    """Check a password."""
    if text != text.strip():
        raise ValueError("it starts or ends with a blank, which a secret's file can't keep")
    return printable(text)


def topic(text: str) -> str:
    """Check the topic: a filter, and captures whose names mean nothing else."""
    return _fitting(text, URL)[0]


def url(text: str, *, topic: str) -> str:
    """Check the receiver's URL; its templates may use what *topic* captures."""
    return _fitting(topic, text)[1]


def _fitting(topic: str, url: str) -> tuple[str, str]:
    try:
        Outbound.model_validate({"topic": printable(topic), "url": printable(url), "sign": "none"})
    except ValidationError as exc:
        raise ValueError(mistake(exc.errors()[0], Outbound).what) from exc
    return topic, url


# --- the files ---


def files(answers: Answers, config: Path, *, secret: str) -> dict[Path, str]:
    """Return the files by their path, absolute as *config* is; the config comes last, as it refers to the others."""
    name = name_of(Filter.parse(answers.topic))
    secret_file, password_file = config.with_name(f"{name}.secret"), config.with_name("mqtt.password")
    found: dict[Path, str] = {}
    if answers.password is not None:
        found[password_file] = answers.password + "\n"
    if answers.signed:
        found[secret_file] = secret + "\n"
    parts = (_HEADING, *_broker_lines(answers, password_file), "", *_mapping_lines(answers, name, secret_file), "", GATES, _WAY_BACK)
    return found | {config: "\n".join(parts)}


def name_of(filter: Filter) -> str:
    """Return a mapping's name: the levels that are written out, but for the first, which names a program; else the captures."""
    levels = [level for level in filter.levels if level not in ("+", "#")]
    slugs = [_slug(level) for level in levels[1:] or levels or filter.captures]
    return "-".join(slug for slug in slugs if slug)[:MAX_NAME].strip("-_") or "mapping"


def example(topic: str) -> tuple[str, str]:
    """Return a condition as it may suit the messages of *topic*, and a payload for which it holds."""
    return ("payload.occupancy", '{"occupancy": true}') if _PRESENCE.search(topic) else ("payload.state == 'on'", '{"state": "on"}')


def _slug(text: str) -> str:
    bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", bare.casefold()).strip("-_")


def _broker_lines(answers: Answers, password_file: Path) -> list[str]:
    user = '# username = "bridge"' if answers.username is None else f"username = {toml_string(answers.username)}"
    pointer = f"password = {toml_string(f'file:{password_file}')}"
    return [
        _line("[mqtt]", "the broker"),
        _line(f"url = {toml_string(answers.broker)}", "mqtt://, mqtts://, ws://, wss:// or unix:///run/mosquitto.sock"),
        _line(user, "if the broker asks for one"),
        _line(pointer if answers.password is not None else f"# {pointer}", "a file that others can't read"),
    ]


def _mapping_lines(answers: Answers, name: str, secret_file: Path) -> list[str]:
    condition, _ = example(answers.topic)
    pointer = f"secret = {toml_string(f'file:{secret_file}')}"
    signed = _line(pointer, "signs each request; the receiver has the same one")
    unsigned = _line('sign = "none"', "on your own network only; else leave it out and set a `secret`")
    return [
        _line(f"[outbound.{name}]", "each message on this topic becomes a request"),
        _line(f"topic = {toml_string(answers.topic)}", "+ and # as ever; {name} is a + and {name...} a # that templates can use"),
        _line(f"# when = {toml_string(condition)}", "example: only if this is so; what is missing counts as false"),
        _line('# cooldown = "60s"', "example: at most one a minute of each topic"),
        _line(f"url = {toml_string(answers.url)}", "where it goes; {{ topic }} in its path is the message's topic"),
        signed if answers.signed else unsigned,
    ]


def _line(setting: str, comment: str) -> str:
    return f"{setting:<{COLUMN - 1}} # {comment}"
