"""`mqtthook try`: a message without a broker: which mappings take it, why others don't, what would be sent."""

import asyncio
import json
import re
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from bridge.app.clock import HouseClock
from bridge.cli.common import config_option, json_option, loaded, print_json, state
from bridge.cli.control import ask
from bridge.cli.given import data, file_data, headers_given, new_event_id, topic_given
from bridge.cli.trial_lines import lines
from bridge.cli.try_hook import tried_hook
from bridge.config.settings import Settings
from bridge.edges.apprise import Notifier
from bridge.model import Event, Headers, Message, Reply
from bridge.outbox.desk import Desk
from bridge.outbox.memory import document_of, memory_of
from bridge.rules import gates
from bridge.rules.events import Fate, Place, Weighed, fates_of, weighed
from bridge.rules.outbound import Destination, Outbound, Route
from bridge.rules.showing import curl, explain_topic, message_of, nearness
from bridge.rules.signing import sign
from bridge.rules.topics import topic_problem
from bridge.rules.units import duration_text

LIVE = "live"

_FILE_NAME = re.compile(r"[\w./~-]+\.(?:json|xml|txt|form)")  # where there is no such file, that is the mistake: nobody posts this text


@click.command("try")
@click.option("--topic", callback=topic_given, help="The message's topic.")
@click.option("--payload", default="", help="Its payload; @FILE reads a file, - standard input.")
@click.option("--qos", type=click.IntRange(0, 2), default=1, show_default=True, help="Its QoS.")
@click.option("--retained", is_flag=True, help="As if the broker replayed it.")
@click.option("--message", metavar="JSON", help="Instead: a line of `mqtthook listen --json`; @FILE reads a file, - standard input.")
@click.option("--state", "given_state", is_flag=False, flag_value=LIVE, metavar="[JSON]", help="With what the gates remember now, or what an earlier try printed as `state`.")
@click.option("--hook", help="Try a hook instead: its name.")
@click.option("--body", default="", metavar="FILE", help="What is posted to it: a file, - for standard input, or the text itself.")
@click.option("--header", "headers", multiple=True, callback=headers_given, metavar="'NAME: VALUE'", help="A header that comes along; may be given again.")
@click.option("--url", help="Its URL, or path and query, as in '/hooks/room/kitchen?x=1'; the host doesn't count. By default the hook's own path.")
@click.option("--send", is_flag=True, help="Really send the requests, once each, without the outbox; a hook's to the daemon that runs here.")
@json_option
@config_option
def command(config: str | None, as_json: bool, hook: str | None, body: str, headers: Headers, url: str | None, send: bool, given_state: str | None, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Show what would become of a message, or of a request to a hook. Nothing is sent without --send.

    It exits 1 where a template fails, or what was sent was not answered with 2xx. JSON: mappings, each with mapping, takes, and what
    there is of reason, error, request, unsigned, curl, publish, then, sent; of a message state, for --state.

    \b
    Examples:
      mqtthook try --topic zigbee2mqtt/hall/motion --payload '{"occupancy": true, "battery": 80}'
      mqtthook try --topic zigbee2mqtt/hall/motion --payload '{"occupancy": true}' --state
      mqtthook listen --count 1 --json | mqtthook try --message -
      mqtthook try --hook hall-light --body '{"state": "on"}'
      mqtthook try --hook release --body push.json --header 'X-GitHub-Event: push' --send
      mqtthook try --hook room --url '/hooks/room/kitchen?level=20' --body '{"state": "on"}'
    """
    if sum(given is not None for given in (more["topic"], more["message"], hook)) != 1:
        raise click.UsageError("give one of --topic, --message and --hook")
    if url is not None and hook is None:
        raise click.UsageError("--url goes with --hook")
    settings = loaded(config).settings
    if hook is not None:
        tried = tried_hook(settings, hook, body=_body(body), headers=headers, url=url, send=send)
    else:
        tried = _tried_message(settings, _message(**more), _memories(settings, given_state), send=send)
    if as_json:
        print_json(tried)
    else:
        for line in lines(tried):
            click.echo(line)
    if any(entry.get("error") for entry in tried["mappings"]):
        sys.exit(1)


# --- what is tried ---


def _message(*, topic: str | None, payload: str, qos: int, retained: bool, message: str | None) -> Message:
    if message is None:
        return Message(topic=str(topic), payload=data(payload), qos=qos, retained=retained, received_at=time.time())
    try:
        found = message_of(json.loads(data(message)), received_at=time.time())
        if problem := topic_problem(found.topic.removeprefix("$")):
            raise ValueError(f"its topic: {problem}")
    except (ValueError, KeyError, TypeError) as exc:
        raise click.BadParameter(f"--message: this is no message as `mqtthook listen --json` prints one: {exc}") from exc
    return found


def _memories(settings: Settings, given: str | None) -> dict[Place, gates.Memory]:
    """Return what the gates remember: nothing, what the bridge does now, or what was given."""
    if given is None:
        return {}
    if given != LIVE:
        return _parsed(data(given))
    found = ask(settings.control_socket(state()), "GET", "/memories")
    return dict(map(memory_of, _stored(settings) if found is None else found))


def _stored(settings: Settings) -> list[dict[str, Any]]:
    path = settings.outbox(state())
    if not path.exists():
        return []
    desk = Desk(path, settings.store, clock=HouseClock.of)
    try:
        return desk.memories()
    finally:
        desk.close()


def _parsed(given: bytes) -> dict[Place, gates.Memory]:
    try:
        return dict(map(memory_of, json.loads(given)))
    except (ValueError, KeyError, TypeError) as exc:
        raise click.BadParameter(f"--state: this is no `state` as `mqtthook try --json` prints one: {exc}") from exc


def _tried_message(settings: Settings, message: Message, memories: Mapping[Place, gates.Memory], *, send: bool) -> dict[str, Any]:
    routes, now = settings.routes(), time.time()
    taking = {route.mapping: route for route in routes.of(message.topic)}
    entries: list[dict[str, Any]] = []
    learnt = dict(memories)
    for name, rule in settings.outbound.items():
        if name not in taking:
            entries.append({"mapping": name, "takes": False} | _why_not(rule, message.topic))
            continue
        found = weighed(message, taking[name], now=now, wall=now, recall=lambda place: memories.get(place, gates.NOTHING))
        learnt |= found.learnt
        entries += _entries(found, send=send)
    return {"topic": message.topic, "mappings": entries, "state": [document_of(place, memory) for place, memory in learnt.items()]}


def _entries(found: Weighed, *, send: bool) -> Iterator[dict[str, Any]]:
    for fate in fates_of(found, new_id=new_event_id):
        yield _entry(fate, found.route, send=send)


def _entry(fate: Fate, route: Route, *, send: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"mapping": fate.mapping, "destination": fate.destination, "takes": True}
    if not isinstance(fate.content, Event):
        return entry | {"outcome": fate.result, "reason": fate.reason, "error": fate.content is not None}
    destination = route.destinations[fate.destination]
    signed = () if destination.apprise else sign(destination.signing, destination.signing_keys(), id=fate.id, now=time.time(), body=fate.content.body)
    by_hand = None if destination.apprise else curl(fate.content, signed)
    entry |= {"key": fate.key, "request": _request(fate.content, signed), "curl": by_hand, "then": list(_then(route.rule))}
    if send:
        reply = asyncio.run(_sent(fate.content, signed, destination))
        entry["sent"] = {"status": reply.status, "took_s": round(reply.took_s, 3), "body": reply.body.decode("utf-8", "replace"), "error": reply.detail if reply.error else None}
        entry["error"] = reply.status is None or reply.status >= 300
    return entry


def _then(rule: Outbound) -> Iterator[str]:
    """Yield what else happens to an event before or after it goes."""
    if rule.on_change is not None:
        yield f"on_change: the next of its key makes an event only where this differs: {rule.on_change.text}"
    if rule.debounce is not None:
        yield f"debounce: it goes once its key is quiet for {duration_text(rule.debounce)}, at the latest after {duration_text(rule.longest_hold_s)}"
    if rule.cooldown is not None:
        yield f"cooldown: the next of its key within {duration_text(rule.cooldown)} makes no event"
    if rule.batch is not None:
        yield f"batch: it goes in a list of up to {rule.batch.size}, at the latest after {duration_text(rule.batch.wait)}"
    if rule.reply is not None:
        yield f"reply: the answer is published to {rule.reply.topic.text}"


async def _sent(event: Event, signed: Headers, destination: Destination) -> Reply:
    from bridge.edges.outlet import Outlet  # here: a dry run need not wait for an HTTP client

    if destination.apprise:
        return await Notifier(destination).send(event)
    async with Outlet() as outlet:
        return await outlet.channel(destination).send(event, signed)


def _why_not(rule: Outbound, topic: str) -> dict[str, Any]:
    if not rule.enabled and any(filter.takes(tuple(topic.split("/"))) for filter in rule.topic):
        return {"reason": "it takes this topic, but it is switched off (enabled = false)"}
    off = "" if rule.enabled else "; and it is switched off (enabled = false)"
    return {"reason": explain_topic(rule, topic) + off, "nearness": round(nearness(rule, topic), 2)}


def _request(event: Event, signed: Headers) -> dict[str, Any]:
    return {"method": event.method, "url": event.url, "headers": dict((*event.headers, *signed)), "body": event.body.decode("utf-8", "replace")}


def _body(text: str) -> bytes:
    names_a_file = 0 < len(text) < 256 and (Path(text).is_file() or _FILE_NAME.fullmatch(text))
    return file_data(Path(text)) if names_a_file else data(text)
