"""`mqtthook try`: a message without a broker: which mappings take it, why others don't, what would be sent."""

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import click

from bridge.cli.common import config_option, json_option, loaded, print_json, title
from bridge.config.settings import Settings
from bridge.errors import HookError
from bridge.model import Event, Headers, Message, Reply
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.inbound import Hook, Request, command_for, names_of
from bridge.rules.outbound import Destination, Fate, Outbound, curl, explain_topic, fates_of
from bridge.rules.signing import sign


@click.command("try")
@click.option("--topic", help="The message's topic.")
@click.option("--payload", default="", help="Its payload; @FILE reads a file, - standard input.")
@click.option("--qos", type=click.IntRange(0, 2), default=1, show_default=True, help="Its QoS.")
@click.option("--retained", is_flag=True, help="As if the broker replayed it.")
@click.option("--hook", help="Try a hook instead: its name.")
@click.option("--body", default="", metavar="FILE", help="What is posted to it: a file, - for standard input, or the text itself.")
@click.option("--send", is_flag=True, help="Really send the requests, once each, without the outbox.")
@json_option
@config_option
def command(topic: str | None, hook: str | None, payload: str, body: str, config: str | None, as_json: bool, send: bool, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Show what would become of a message, or of a request to a hook. Nothing is sent without --send.

    \b
    Examples:
      mqtthook try --topic zigbee2mqtt/hall/motion --payload '{"occupancy": true, "battery": 80}'
      mqtthook try --hook hall-light --body '{"state": "on"}'
    """
    if (topic is None) == (hook is None):
        raise click.UsageError("give one of --topic and --hook")
    settings = loaded(config).settings
    if hook is not None:
        tried = _tried_hook(settings, hook, _body(body))
    else:
        message = Message(topic=str(topic), payload=_data(payload), qos=more["qos"], retained=more["retained"], received_at=time.time())
        tried = _tried_message(settings, message, send=send)
    if as_json:
        print_json(tried)
    else:
        for line in _lines(tried):
            click.echo(line)
    if any(entry.get("error") for entry in tried["mappings"]):
        sys.exit(1)


def _tried_message(settings: Settings, message: Message, *, send: bool) -> dict[str, Any]:
    routes = settings.routes()
    taking = {route.mapping: fates_of(message, route) for route in routes.of(message.topic)}
    entries: list[dict[str, Any]] = []
    for name, rule in settings.outbound.items():
        if name not in taking:
            entries.append({"mapping": name, "takes": False, "reason": _why_not(rule, message.topic)})
        entries += [_entry(fate, settings.destinations()[fate.destination], send=send) for fate in taking.get(name, ())]
    return {"topic": message.topic, "mappings": entries}


def _entry(fate: Fate, destination: Destination, *, send: bool) -> dict[str, Any]:
    entry: dict[str, Any] = {"mapping": fate.mapping, "destination": fate.destination, "takes": True}
    if not isinstance(fate.content, Event):
        return entry | {"reason": fate.reason, "error": fate.content is not None}
    id = "evt_" + ulid(time.time(), os.urandom(RANDOM_BYTES))
    signed = sign(destination.sign, destination.signing_keys(), id=id, now=time.time(), body=fate.content.body)
    entry |= {"key": fate.key, "request": _request(fate.content, signed), "curl": curl(fate.content, signed)}
    if send:
        reply = asyncio.run(_sent(fate.content, signed, destination))
        entry["sent"] = {"status": reply.status, "took_s": round(reply.took_s, 3), "body": reply.body.decode("utf-8", "replace"), "error": reply.detail if reply.error else None}
        entry["error"] = reply.status is None or reply.status >= 300
    return entry


async def _sent(event: Event, signed: Headers, destination: Destination) -> Reply:
    from bridge.edges.outlet import Outlet  # here: a dry run need not wait for an HTTP client

    async with Outlet() as outlet:
        return await outlet.send(event, signed, timeout_s=destination.timeout)


def _tried_hook(settings: Settings, name: str, body: bytes) -> dict[str, Any]:
    hook = next((hook for hook in settings.hooks().all if hook.name == name), None)
    if hook is None:
        raise click.UsageError(f"there is no hook {name!r}; known: {', '.join(settings.inbound) or 'none'}")
    entry: dict[str, Any] = {"mapping": name, "takes": True, "path": f"/{hook.pattern.text}", "verify": hook.verify.scheme}
    try:
        entry |= _published(hook, body)
    except HookError as exc:
        entry |= {"reason": f"{exc.status}: {exc.detail}", "error": True}
    return {"hook": name, "mappings": [entry]}


def _published(hook: Hook, body: bytes) -> dict[str, Any]:
    captures = {name: name for name in hook.pattern.captures}
    path = "/" + "/".join(captures[capture] if capture else level for level, capture in zip(hook.pattern.levels, hook.pattern.names, strict=True))
    request = Request(path=path, query="", headers={}, body=body, received_at=time.time())
    command = command_for(hook, names_of(hook, request), body)
    if command is None:
        return {"reason": f"`when` is false: {hook.rule.when.text if hook.rule.when else ''}"}
    payload = command.payload.decode("utf-8", "replace")
    return {"publish": {"topic": command.topic, "payload": payload, "qos": command.qos, "retain": command.retain, "expires_s": hook.rule.expires}}


def _why_not(rule: Outbound, topic: str) -> str:
    return "it is switched off (enabled = false)" if not rule.enabled else explain_topic(rule, topic)


def _request(event: Event, signed: Headers) -> dict[str, Any]:
    return {"method": event.method, "url": event.url, "headers": dict((*event.headers, *signed)), "body": event.body.decode("utf-8", "replace")}


def _data(text: str) -> bytes:
    if text == "-":
        return sys.stdin.buffer.read()
    if text.startswith("@"):
        return _file(Path(text[1:]))
    return text.encode("utf-8", "surrogateescape")


def _body(text: str) -> bytes:
    return _file(Path(text)) if text and len(text) < 256 and Path(text).is_file() else _data(text)


def _file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise click.BadParameter(f"{path}: {exc.strerror}") from exc


def _lines(tried: dict[str, Any]) -> list[str]:
    if not tried["mappings"]:
        return ["there are no mappings in this config yet"]
    return [line for entry in tried["mappings"] for line in _entry_lines(entry)]


def _entry_lines(entry: dict[str, Any]) -> list[str]:
    name = title(entry["mapping"])
    if "reason" in entry:
        word = click.style("error", fg="red") if entry.get("error") else click.style("no   ", fg="yellow")
        return [f"{word} {name}: {entry['reason']}"]
    lines = [f"{click.style('yes  ', fg='green')} {name}" + (f" -> {entry['destination']}" if entry.get("destination", entry["mapping"]) != entry["mapping"] else "")]
    if "publish" in entry:
        publish = entry["publish"]
        how = f"qos {publish['qos']}{', retained' if publish['retain'] else ''}, within {publish['expires_s']:g} s"
        return [*lines, f"      publishes to {publish['topic']} ({how})", f"      {publish['payload']}"]
    request = entry["request"]
    lines.append(f"      {request['method']} {request['url']}")
    lines += [f"      {header}: {value}" for header, value in request["headers"].items()]
    lines += ["", *(f"      {line}" for line in _pretty(request["body"])), "", f"      {entry['curl']}"]
    if "sent" in entry:
        sent = entry["sent"]
        lines.append(f"      {title('answer')} {sent['status'] if sent['error'] is None else sent['error']} after {sent['took_s']} s {sent['body'][:200]}")
    return lines


def _pretty(body: str) -> list[str]:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        return body.splitlines() or ["(empty)"]
