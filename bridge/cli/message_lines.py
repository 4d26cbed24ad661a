"""A message and what the mappings make of it, as a person and a script see it.

Whatever a payload or a topic holds, nothing of it reaches the terminal but what can be printed.
"""

import base64
import time
from typing import Any

import click

from bridge.model import Event, Message
from bridge.rules.events import KEY, Place, fates_of, weighed
from bridge.rules.gates import NOTHING, Memory
from bridge.rules.learn.wishes import escaped
from bridge.rules.outbound import Route, Routes
from bridge.rules.payloads import decoded, timestamp, utf8

SHOWN_BYTES = 16  # of a binary payload: enough to tell a picture from what is compressed
MAX_MEMORIES = 10_000  # of gates; about a kilobyte each


class Judge:
    """Tells which mappings take a message; it remembers for their gates what it has seen itself, from nothing on."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._memories: dict[Place, Memory] = {}
        self.knows_mappings = bool(routes.all)

    def verdicts(self, message: Message) -> list[dict[str, Any]]:
        """Return for each mapping whose filter takes the topic whether the message makes an event of it, and if not, why."""
        return [self._verdict(message, route) for route in self._routes.of(message.topic)]

    def _verdict(self, message: Message, route: Route) -> dict[str, Any]:
        found = weighed(message, route, now=message.received_at, wall=message.received_at, recall=lambda place: self._memories.get(place, NOTHING))
        fates = fates_of(found, new_id=lambda: "evt_preview")
        self._memories |= found.learnt
        while len(self._memories) > MAX_MEMORIES:
            del self._memories[next(iter(self._memories))]
        takes = any(isinstance(fate.content, Event) for fate in fates)
        reason = None if takes else next((fate.reason for fate in fates), None)
        # Under `silence` all that is learnt of a key is that it spoke.
        alive = {"sign_of_life": True} if route.rule.silence is not None and (route.mapping, KEY, found.key) in found.learnt else {}
        return {"mapping": route.mapping, "takes": takes, "reason": reason, **alive}


def message_document(message: Message) -> dict[str, Any]:
    """Return a message as JSON's types; `mqtthook try --message` reads it back."""
    payload, value = decoded(message.payload, "auto"), utf8(message.payload)
    shown = {"payload_base64": base64.b64encode(payload).decode()} if isinstance(payload, bytes) else {"payload": payload}
    return {
        "topic": message.topic,
        **shown,
        **({} if value is None else {"value": value}),
        "qos": message.qos,
        "retained": message.retained,
        "received_at": timestamp(message.received_at),
        "properties": dict(message.properties),
    }


def message_line(message: Message, width: int | None) -> str:
    """Return a message as one line, cut to *width* characters if there is one."""
    clock = time.strftime("%H:%M:%S", time.localtime(message.received_at))
    topic = escaped(message.topic)
    room = None if width is None else max(width - len(clock) - len(" R q1 "), 0)
    rest = _cut(f"{topic}  {_payload(message.payload, room)}", room)
    mark = click.style("R", fg="yellow") if message.retained else " "
    return f"{click.style(clock, dim=True)} {mark} q{message.qos} {click.style(rest[: len(topic)], bold=True)}{rest[len(topic) :]}"


def verdict_line(verdict: dict[str, Any]) -> str:
    """Return what one mapping makes of a message, as one line."""
    if verdict["takes"]:
        return f"    {click.style('->', fg='green')} {verdict['mapping']}"
    if verdict.get("sign_of_life"):
        return f"    {click.style('.', fg='green')}  {verdict['mapping']}: sign of life"
    return f"    {click.style('x', fg='yellow')}  {verdict['mapping']}: {escaped(str(verdict['reason']))}"


def _payload(payload: bytes, room: int | None) -> str:
    if not payload:
        return "(empty)"
    if (text := utf8(payload)) is None:
        more = "..." if len(payload) > SHOWN_BYTES else ""
        return f"<{len(payload)} bytes: {payload[:SHOWN_BYTES].hex()}{more}>"
    return escaped(text if room is None else text[: room + 1])  # escapes only make it longer


def _cut(text: str, room: int | None) -> str:
    return text if room is None or len(text) <= room else text[: max(room - 1, 0)] + "…"
