"""Rows: how a letter lies in the outbox file, and is read from it, also as an earlier version wrote it."""

import base64
import json
from typing import Any

from bridge.model import Command, Content, Event, Lane, Letter, Message, Priority, State

# What reading a row raises where that is not what a version of ours wrote.
UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)

COLUMNS = "seq, id, lane, mapping, destination, key, state, created_at, due_at, expires_at, begun_at, dead_at, attempts, reason, origin, priority, count, envelope, body"



def row_of(letter: Letter) -> tuple[Any, ...]:
    """Return a letter as a row of COLUMNS."""
    envelope, body = sealed(letter.content)
    return (
        letter.seq,
        letter.id,
        letter.lane,
        letter.mapping,
        letter.destination,
        letter.key,
        letter.state,
        letter.created_at,
        letter.due_at,
        letter.expires_at,
        letter.begun_at,
        letter.dead_at,
        letter.attempts,
        storable(letter.reason),
        letter.origin,
        letter.priority,
        letter.count,
        envelope,
        body,
    )


def letter_of(row: tuple[Any, ...]) -> Letter:
    """Return the letter that a row of COLUMNS holds."""
    values = dict(zip(COLUMNS.split(", "), row, strict=True))
    content = opened(values.pop("envelope"), values.pop("body"))
    del values["count"]  # of the content, for SQL to sum
    return Letter(**values | {"lane": Lane(values["lane"]), "state": State(values["state"]), "priority": Priority(values["priority"]), "content": content})


def storable(text: str | None) -> str | None:
    """Return a text as SQLite takes it: half a character, as a stranger's header may hold it, becomes a question mark."""
    return None if text is None else text.encode("utf-8", "replace").decode()


def sealed(content: Content) -> tuple[str, bytes]:
    """Return a content as its envelope, JSON, and its body."""
    match content:
        case Event(method=method, url=url, headers=headers, body=body, topic=topic, parts=parts, joint=joint):
            return json.dumps({"event": [method, url, headers, topic, parts, joint]}), body
        case Command(topic=topic, payload=payload, qos=qos, retain=retain, hop=hop, then=then):
            more = [[one.topic, one.qos, one.retain, base64.b64encode(one.payload).decode()] for one in then]
            return json.dumps({"command": [topic, qos, retain, hop, more]}), payload
        case Message(topic=topic, payload=payload, qos=qos, retained=retained, properties=properties, received_at=at):
            return json.dumps({"message": [topic, qos, retained, dict(properties), at]}), payload


def _further(sealed: tuple[str, int, bool, str], hop: str) -> Command:
    topic, qos, retain, payload = sealed
    return Command(topic=topic, payload=base64.b64decode(payload), qos=qos, retain=retain, hop=hop)


def opened(envelope: str, body: bytes) -> Content:
    """Return the content that was sealed so, by this version or an earlier one."""
    ((kind, rest),) = json.loads(envelope).items()
    if kind == "event":
        method, url, headers, *more = rest
        topic, parts, joint = more or ("", (), "")  # an earlier version wrote three values, and knew no more
        pairs = tuple((name, value) for name, value in headers)
        return Event(method=method, url=url, headers=pairs, body=body, topic=topic, parts=tuple(parts), joint=joint)
    if kind == "command":
        written = dict(zip(("topic", "qos", "retain", "hop", "then"), rest, strict=False))  # earlier versions wrote three values, or four
        hop = written.get("hop", "")
        return Command(**written | {"payload": body, "then": tuple(_further(one, hop) for one in written.get("then", ()))})
    topic, qos, retained, properties, at = rest
    return Message(topic=topic, payload=body, qos=qos, retained=retained, properties=properties, received_at=at)
