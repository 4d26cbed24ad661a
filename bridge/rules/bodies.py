"""Bodies: what an event says, in the form that its mapping chose.

`event` is the shape of Standard Webhooks' example payloads, `cloudevents` the structured mode of CloudEvents 1.0
(cloudevents/spec, bindings/http-protocol-binding.md section 3.2), `raw` the payload as it came; `json`, `text` and
`form` are the mapping's own. Several events become one body as each form has it: a JSON list, or lines of text.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlencode

from bridge.errors import RenderError
from bridge.model import Event, Message
from bridge.rules.expressions import Text
from bridge.rules.payloads import timestamp
from bridge.rules.reasons import Names
from bridge.rules.structures import Form, Structure, json_bytes

Format = Literal["event", "raw", "cloudevents"]

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"
FORM = "application/x-www-form-urlencoded"
CLOUD_EVENT = "application/cloudevents+json"
CLOUD_EVENTS = "application/cloudevents-batch+json"  # the same binding, section 3.3
SOURCE = "mqtthook"  # CloudEvents' `source`: a relative URI reference; with `id` it names an event

LIST, LINES = ",", "\n"
_BRACKETS = {LIST: ("[", "]"), LINES: ("", "")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The body that a mapping writes: one of its own, else a format."""

    format: Format = "event"
    json: Structure | None = None
    text: Text | None = None
    form: Form | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Occasion:
    """What a body is about: a message, the mapping that takes it, the id of its event, and what the clock says."""

    message: Message
    mapping: str
    captures: Mapping[str, str]
    id: str
    wall: float
    silent_for: int | None = None


def body_of(shape: Shape, occasion: Occasion, names: Names) -> tuple[str, bytes]:
    """Return the content type and the body of an event; raise RenderError."""
    if shape.json is not None:
        return JSON, shape.json.render(names)
    if shape.text is not None:
        return TEXT, _encoded(shape.text.render(names))
    if shape.form is not None:
        return FORM, urlencode(shape.form.render(names)).encode()
    if shape.format == "raw":
        return media_type(names["payload"]), occasion.message.payload
    if shape.format == "cloudevents":
        return CLOUD_EVENT, cloud_event(occasion, names["payload"])
    return JSON, event_body(occasion, names["payload"])


def event_body(occasion: Occasion, payload: Any) -> bytes:
    """Return the body of the default format."""
    message = occasion.message
    shown = {"payload_base64": base64.b64encode(payload).decode()} if isinstance(payload, bytes) else {"payload": payload}
    data = {"topic": message.topic, **shown, "retained": message.retained, "qos": message.qos, "captures": occasion.captures}
    if occasion.silent_for is not None:
        data["silent_for"] = occasion.silent_for
    return json_bytes({"type": occasion.mapping, "timestamp": timestamp(_at(occasion)), "data": data})


def cloud_event(occasion: Occasion, payload: Any) -> bytes:
    """Return a CloudEvents 1.0 event in JSON: `data` for JSON and text, `data_base64` for bytes."""
    message = occasion.message
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": occasion.id,
        "source": SOURCE,
        "type": occasion.mapping,
        "subject": message.topic,
        "time": timestamp(_at(occasion)),
        "datacontenttype": media_type(payload).partition(";")[0],
        # Extension attributes: lower-case letters and digits only, section 3.1 of the specification.
        "retained": message.retained,
        "qos": message.qos,
    }
    if occasion.silent_for is not None:
        event["silentfor"] = occasion.silent_for
    event |= {"data_base64": base64.b64encode(payload).decode()} if isinstance(payload, bytes) else {"data": payload}
    return json_bytes(event)


def media_type(payload: Any) -> str:
    """Return the type of a payload as it came."""
    if isinstance(payload, bytes):
        return "application/octet-stream"
    return TEXT if isinstance(payload, str) else JSON


def batched(events: Sequence[Event], *, joint: str) -> Event:
    """Return one event that carries the bodies of several, which agree in all else; *joint* is what stands between them."""
    opening, closing = _BRACKETS[joint]
    headers = tuple((name, CLOUD_EVENTS if value == CLOUD_EVENT else value) for name, value in events[0].headers)
    body = opening.encode() + joint.encode().join(event.body for event in events) + closing.encode()
    return replace(events[0], headers=headers, body=body, joint=joint, parts=tuple(len(event.body) for event in events))


def unbatched(event: Event) -> list[Event]:
    """Return the events that a batch carries, each a batch of its own; one that is no batch as it is."""
    if not event.parts:
        return [event]
    opening, closing = (sign.encode() for sign in _BRACKETS[event.joint])
    found, at = [], len(opening)
    for length in event.parts:
        found.append(replace(event, body=opening + event.body[at : at + length] + closing, parts=(length,)))
        at += length + len(event.joint)
    return found


def joint_of(shape: Shape) -> str | None:
    """Return what stands between such bodies where several are one, or None if they can't be.

    A form knows no list, and raw bytes no seam.
    """
    if shape.form is not None or (shape.format == "raw" and shape.json is None and shape.text is None):
        return None
    return LINES if shape.text is not None else LIST


def _at(occasion: Occasion) -> float:
    return occasion.message.received_at if occasion.silent_for is None else occasion.wall


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise RenderError(f"the text can't be sent as UTF-8: {exc.reason}") from exc
