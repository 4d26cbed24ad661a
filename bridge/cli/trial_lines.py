"""What `mqtthook try` found out, as a person reads it."""

import json
from typing import Any

import click

from bridge.cli.common import title

ELSEWHERE = 20  # mappings that don't take the topic: as many as a screen holds; of more the nearest


def lines(tried: dict[str, Any]) -> list[str]:
    """Return the lines to print."""
    if not tried["mappings"]:
        return ["there are no mappings in this config yet"]
    elsewhere = sorted((entry for entry in tried["mappings"] if "nearness" in entry), key=lambda entry: -entry["nearness"])
    shown = [entry for entry in tried["mappings"] if "nearness" not in entry] + elsewhere[:ELSEWHERE]
    more = len(elsewhere) - ELSEWHERE
    rest = [f"{more} more {'mappings don' if more > 1 else 'mapping doesn'}'t take this topic; --json tells why"] if more > 0 else []
    return [line for entry in shown for line in _entry_lines(entry)] + rest


def _entry_lines(entry: dict[str, Any]) -> list[str]:
    name = title(entry["mapping"])
    if "reason" in entry:
        word = click.style("error", fg="red") if entry.get("error") else click.style("no   ", fg="yellow")
        return [f"{word} {name}: {entry['reason']}", *(_request_lines(entry["request"]) if "sent" in entry else []), *_answer_lines(entry)]
    lines = [f"{click.style('yes  ', fg='green')} {name}" + (f" -> {entry['destination']}" if entry.get("destination", entry["mapping"]) != entry["mapping"] else "")]
    lines += _request_lines(entry["request"])
    lines += _publish_lines(entry) if "publish" in entry else [f"      {then}" for then in entry["then"]]
    if entry.get("curl") is not None:
        lines.append(f"      {entry['curl']}")
    return lines + _answer_lines(entry)


def _request_lines(request: dict[str, Any]) -> list[str]:
    headers = [f"      {header}: {value}" for header, value in request["headers"].items()]
    return [f"      {request['method']} {request['url']}", *headers, "", *(f"      {line}" for line in _pretty(request["body"])), ""]


def _publish_lines(entry: dict[str, Any]) -> list[str]:
    publish = entry["publish"]
    how = f"qos {publish['qos']}{', retained' if publish['retain'] else ''}, within {publish['expires_s']:g} s"
    then = [line for one in entry.get("then", ()) for line in (f"      then to {one['topic']}", f"      {one['payload']}")]
    return [f"      publishes to {publish['topic']} ({how})", f"      {publish['payload']}", *then]


def _answer_lines(entry: dict[str, Any]) -> list[str]:
    if "unsigned" in entry:
        return [f"      {click.style('note', fg='yellow')} it can't be signed here: {entry['unsigned']}"]
    if "sent" not in entry:
        return []
    sent = entry["sent"]
    return [f"      {title('answer')} {sent['status'] if sent['error'] is None else sent['error']} after {sent['took_s']} s {sent['body'][:200]}"]


def _pretty(body: str) -> list[str]:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False).splitlines()
    except ValueError:
        return body.splitlines() or ["(empty)"]
