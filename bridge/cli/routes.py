"""`mqtthook routes`: which topic leads where, and while the daemon runs, how much of it there was.

It never shows a secret, nor a header, which may hold one.
"""

import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import click

from bridge.cli.common import complain, config_option, failures, json_option, loaded, print_json, stale_since, state, title
from bridge.cli.control import ControlError, ask
from bridge.cli.given import topic_given
from bridge.config.settings import Settings
from bridge.rules import notices
from bridge.rules.expressions import Source
from bridge.rules.inbound import Inbound
from bridge.rules.outbound import BatchRule, Destination, Outbound
from bridge.rules.replies import account
from bridge.rules.units import duration_text

GATES = ("retained", "on_change", "debounce", "debounce_max", "cooldown", "silence")  # in the order in which a message meets them
WAITING = ("key", "order", "keep", "expires", "priority", "batch")

USUAL = ("in", "waiting", "delivered", "filtered", "dead_letters")  # of the counts

LABEL = 9  # columns; "replies" and two blanks
NARROW = 40  # columns; on a terminal with fewer, lines are as long as on one with so many

Counts = Mapping[str, Mapping[str, Any]]
Row = tuple[str, str]


@click.command("routes")
@click.option("--topic", callback=topic_given, help="Only the mappings that take this topic.")
@json_option
@config_option
def command(config: str | None, as_json: bool, topic: str | None) -> None:  # noqa: FBT001 - click passes them by name
    """Show what leads where: each mapping and hook.

    While the daemon runs, its counts stand beside each.

    \b
    Examples:
      mqtthook routes
      mqtthook routes --topic zigbee2mqtt/hall/motion
    """
    found = loaded(config, with_secrets=False)
    settings = found.settings
    figures = _figures(settings)
    counts = None if figures is None else {name: _counted(entry) for name, entry in figures["mappings"].items()}
    failed = {} if figures is None else {name: _failed(entry) for name, entry in figures["mappings"].items() if entry["conditions_failed"]}
    outbound = [_outbound(settings, name, rule, counts or {}) for name, rule in settings.outbound.items() if topic is None or rule.takes(topic, own=settings.mqtt.status_topic)]
    inbound = [_inbound(name, hook, counts or {}) for name, hook in settings.inbound.items() if topic is None]
    for mapping in outbound:
        mapping.update({"failed": failed.get(mapping["mapping"]), "reply_failed": failed.get(account(mapping["mapping"]))})
    for hook in inbound:
        hook["failed"] = failed.get(hook["hook"])
    if as_json:
        print_json({"running": counts is not None, "outbound": outbound, "inbound": inbound})
        return
    width = max(shutil.get_terminal_size().columns, NARROW) if sys.stdout.isatty() else None
    for line in _lines(outbound, inbound, width):
        click.echo(line)
    if not outbound and not inbound:
        click.echo("there are no mappings in this config yet" if topic is None else f"no mapping takes {topic}; `mqtthook try --topic {shlex.quote(topic)}` says why")
    elif figures is None:
        click.echo(click.style("the counts are shown while the daemon runs", dim=True))
    elif stale := stale_since(found, figures["config"]["loaded_at"]):
        click.echo(f"{click.style('note', fg='yellow')} {stale}")


def _figures(settings: Settings) -> dict[str, Any] | None:
    """Return what the daemon tells of itself, or None if none runs here that would."""
    try:
        figures: dict[str, Any] | None = ask(settings.control_socket(state()), "GET", "/status")
    except ControlError as exc:
        complain(str(exc))
        return None
    return figures


def _counted(entry: Mapping[str, Any]) -> dict[str, int]:
    ends = {name: entry["outcomes"][name] for name in ("delivered", "filtered", "coalesced", "expired", "dropped", "dead")}
    return {"in": entry["received"], "waiting": entry["waiting"], **ends, "dead_letters": entry["dead_letters"]}


def _failed(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"conditions": entry["conditions_failed"], "last": entry["last_failure"]}


# --- as documents ---


def _outbound(settings: Settings, name: str, rule: Outbound, counts: Counts) -> dict[str, Any]:
    destinations = {to: settings.destination[to] for to in rule.to} or {name: rule}
    return {
        "mapping": name,
        "enabled": rule.enabled,
        "topics": [filter.text for filter in rule.topic],
        "when": _plain(rule.when),
        "gates": _unusual(rule, GATES),
        "waiting": _unusual(rule, WAITING),
        "destinations": [_destination(to, destination) for to, destination in destinations.items()],
        "reply": None if rule.reply is None else rule.reply.topic.text,
        "counts": counts.get(name),
        "reply_counts": counts.get(account(name)),
    }


def _destination(name: str, destination: Destination) -> dict[str, Any]:
    if destination.apprise is not None:  # its own URL is a secret
        return {"destination": name, "method": notices.METHOD, "url": notices.URL, "sign": "none"}
    return {"destination": name, "method": destination.method.text, "url": _plain(destination.url), "sign": destination.sign}


def _inbound(name: str, hook: Inbound, counts: Counts) -> dict[str, Any]:
    return {
        "hook": name,
        "enabled": hook.enabled,
        "methods": list(hook.methods),
        "path": f"/{hook.pattern(name).text}",
        "verify": hook.verify.scheme,
        "topic": ", ".join(publish.topic.text for publish in hook.publishes),
        "when": _plain(hook.when),
        "counts": counts.get(name),
    }


def _unusual(rule: Outbound, keys: Iterable[str]) -> dict[str, Any]:
    """Return those of the keys that differ from their defaults; durations as seconds."""
    found = {key: getattr(rule, key) for key in keys}
    return {key: _plain(value) for key, value in found.items() if value != Outbound.model_fields[key].default}


def _plain(value: Any) -> Any:
    match value:
        case Source():
            return value.text
        case BatchRule():
            return {"size": value.size, "wait": value.wait}
        case StrEnum():
            return value.value
    return value


# --- as lines ---


def _lines(outbound: list[dict[str, Any]], inbound: list[dict[str, Any]], width: int | None) -> Iterator[str]:
    if outbound:
        yield from (title("outbound: an MQTT message becomes a webhook"), "")
    for mapping in outbound:
        yield from _block(mapping["mapping"], mapping, _outbound_rows(mapping), width)
    if inbound:
        yield from (title("inbound: a webhook becomes an MQTT command"), "")
    for hook in inbound:
        yield from _block(hook["hook"], hook, _inbound_rows(hook), width)


def _block(name: str, entry: Mapping[str, Any], rows: Iterator[Row], width: int | None) -> Iterator[str]:
    mark = "" if entry["enabled"] else "  " + click.style("switched off", fg="yellow")
    yield click.style(name, fg="cyan", bold=True) + mark
    before = ""
    for label, value in rows:
        yield from _row("" if label == before else label, value, width)
        before = label
    yield ""


def _row(label: str, value: str, width: int | None) -> Iterator[str]:
    text = " ".join(value.split())
    room = max(len(text), 1) if width is None else width - LABEL - 2
    # A URL or a topic stays whole: it is there to be copied.
    lines = textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False)
    yield from (f"  {click.style(f'{start:{LABEL}}', dim=True)}{line}" for start, line in zip((label, *[""] * len(lines)), lines, strict=False))


def _outbound_rows(mapping: Mapping[str, Any]) -> Iterator[Row]:
    yield from (("topic", topic) for topic in mapping["topics"])
    if mapping["when"] is not None:
        yield "when", mapping["when"]
    if mapping["gates"]:
        yield "gates", _said(mapping["gates"])
    if mapping["waiting"]:
        yield "waits", _said(mapping["waiting"])
    for to in mapping["destinations"]:
        name = "" if to["destination"] == mapping["mapping"] else f"{to['destination']}: "
        yield "to", f"{name}{to['method']} {to['url']}, {_signed(to['sign'])}"
    if mapping["reply"] is not None:
        yield "reply", mapping["reply"]
    yield from _count_rows("counts", mapping["counts"])
    yield from _failed_rows(mapping["failed"])
    yield from _count_rows("replies", mapping["reply_counts"])
    yield from _failed_rows(mapping["reply_failed"])


def _inbound_rows(hook: Mapping[str, Any]) -> Iterator[Row]:
    yield "at", f"{' '.join(hook['methods'])} {hook['path']}"
    yield "verify", hook["verify"]
    yield "topic", hook["topic"]
    if hook["when"] is not None:
        yield "when", hook["when"]
    yield from _count_rows("counts", hook["counts"])
    yield from _failed_rows(hook["failed"])


def _said(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {_value(value)}" for key, value in keys.items())


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return f"of up to {value['size']} within {duration_text(value['wait'])}"
    return duration_text(value) if isinstance(value, float) else str(value)


def _signed(scheme: str) -> str:
    return "not signed" if scheme == "none" else f"signed {scheme}"


def _count_rows(label: str, counts: Mapping[str, int] | None) -> Iterator[Row]:
    """Yield the counts; the rarer ends only where they happened, and of the dead those that can still be retried."""
    if counts is not None:
        shown = [name for name in counts if name in USUAL or (counts[name] and name != "dead")]
        yield label, ", ".join(f"{name.replace('_', ' ')} {counts[name]}" for name in shown)


def _failed_rows(failed: Mapping[str, Any] | None) -> Iterator[Row]:
    if failed is not None:
        yield "failed", failures(failed["conditions"], failed["last"])
