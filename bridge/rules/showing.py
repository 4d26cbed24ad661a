"""Showing: a message, a mapping's decision and its request as people and scripts see them, and back."""

import base64
import json
from collections.abc import Mapping
from difflib import SequenceMatcher
from typing import Any

from bridge.model import Event, Headers, Message
from bridge.rules.outbound import Outbound
from bridge.rules.payloads import utf8
from bridge.rules.topics import Filter


def message_of(document: Mapping[str, Any], *, received_at: float) -> Message:
    """Return the message that a document of `mqtthook listen` shows; raise KeyError, TypeError or ValueError where it shows none."""
    if "payload_base64" in document:
        payload = base64.b64decode(document["payload_base64"])
    else:
        value = document["value"] if "value" in document else document["payload"]
        payload = (value if isinstance(value, str) else json.dumps(value)).encode()
    return Message(
        topic=str(document["topic"]),
        payload=payload,
        qos=int(document.get("qos", 1)),
        retained=bool(document.get("retained", False)),
        properties=dict(document.get("properties", {})),
        received_at=received_at,
    )


def curl(event: Event, signed: Headers, *, socket_file: str | None = None) -> str:
    """Return the request as a line for a shell, to try it by hand; *socket_file* is where it goes to instead of a host."""
    parts = ["curl", "-i", "-X", event.method] + (["--unix-socket", socket_file] if socket_file is not None else [])
    for name, value in (*event.headers, *signed):
        parts += ["-H", f"{name}: {value}"]
    body = utf8(event.body)
    # Raw: to --data-binary a payload that begins with "@" would name a file.
    parts += ["--data-binary", "@-"] if body is None else ["--data-raw", body]
    parts.append(event.url)
    return " ".join(part if part.replace("-", "").isalnum() else _quoted(part) for part in parts)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def explain_topic(rule: Outbound, topic: str) -> str:
    """Return why the mapping doesn't take *topic*, level by level."""
    levels = tuple(topic.split("/"))
    return "; ".join(_mismatch(filter, levels) for filter in rule.topic)


def nearness(rule: Outbound, topic: str) -> float:
    """Return how many levels of *topic* the nearest of the mapping's filters agrees with; a level that is nearly right counts in part."""
    levels = topic.split("/")
    return max(sum(_likeness(wanted, given) for wanted, given in zip(filter.levels, levels, strict=False)) for filter in rule.topic)


def _likeness(wanted: str, given: str) -> float:
    return 1.0 if wanted in ("+", "#", given) else SequenceMatcher(None, wanted.lower(), given.lower()).ratio()


def _mismatch(filter: Filter, levels: tuple[str, ...]) -> str:
    if levels[0].startswith("$") and filter.levels[0] in "+#":
        return f"{filter.text}: a wildcard at the start takes no topic that starts with '$'"
    if filter.takes(levels):
        return f"{filter.text}: what this bridge says of itself is taken only where the filter begins with that topic, written out"
    for n, (wanted, given) in enumerate(zip(filter.levels, levels, strict=False), 1):
        if wanted not in ("+", given):
            return f"{filter.text}: level {n} is {json.dumps(given, ensure_ascii=False)}, not {json.dumps(wanted)}"
    takes = f"{len(filter.levels) - 1} or more" if filter.levels[-1] == "#" else str(len(filter.levels))
    return f"{filter.text}: it takes {takes} levels, the topic has {len(levels)}"
