"""A letter as people and programs are shown it. Bodies are shown whole only where one letter is asked for."""

import base64
from typing import Any

from bridge.model import Command, Event, Letter, Message


def letter_summary(letter: Letter, *, now: float) -> dict[str, Any]:
    """Return what a list shows of a letter; its instants, and *now*, are dates."""
    return {
        "id": letter.id,
        "number": letter.seq,
        "state": letter.state.value,
        "lane": letter.lane.value,
        "mapping": letter.mapping,
        "destination": letter.destination,
        "key": letter.key,
        "priority": letter.priority.value,
        "messages": letter.count,
        "attempts": letter.attempts,
        "created_at": letter.created_at,
        "age_s": round(max(now - letter.created_at, 0.0), 3),
        "due_at": letter.due_at,
        "expires_at": letter.expires_at,
        "dead_at": letter.dead_at,
        "reason": letter.reason,
        "bytes": letter.size,
    }


def letter_document(letter: Letter, *, now: float) -> dict[str, Any]:
    """Return all of a letter, as `letter_summary` does."""
    return letter_summary(letter, now=now) | {"begun_at": letter.begun_at, "origin": letter.origin, "content": _content(letter)}


def _content(letter: Letter) -> dict[str, Any]:
    match letter.content:
        case Event(method=method, url=url, headers=headers, body=body, parts=parts):
            return {"method": method, "url": url, "headers": dict(headers), **_shown("body", body)} | ({"parts": list(parts)} if parts else {})
        case Command(topic=topic, payload=payload, qos=qos, retain=retain, then=then):
            further = [{"topic": one.topic, "qos": one.qos, "retain": one.retain, **_shown("payload", one.payload)} for one in then]
            return {"topic": topic, "qos": qos, "retain": retain, **_shown("payload", payload)} | ({"then": further} if further else {})
        case Message(topic=topic, payload=payload, qos=qos, retained=retained, properties=properties, received_at=received_at):
            message = {"topic": topic, "qos": qos, "retained": retained, "properties": dict(properties), "received_at": received_at}
            return {"not_rendered": True, **message, **_shown("payload", payload)}


def _shown(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(data).decode()}
