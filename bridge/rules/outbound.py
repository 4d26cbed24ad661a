"""From a message to its events: which mappings take it, and the request that each destination gets.

Pure. A message that no mapping takes has no fate; one that a mapping takes has exactly one fate per
destination of that mapping: an event, a dead letter with its reason, or filtered with its reason.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bridge.errors import RenderError
from bridge.model import Event, Headers, Lane, Letter, Message, State
from bridge.rules.expressions import Expression, HeaderText, Structure, Text, UrlText, json_bytes, unknown_names
from bridge.rules.payloads import decoded, timestamp, utf8
from bridge.rules.reasons import Names
from bridge.rules.retry import RetryPolicy
from bridge.rules.signing import Sign, keys
from bridge.rules.topics import Filter, FilterTree
from bridge.rules.units import Duration, Secrets, Slice, one_or_more, whole

NAMES = ("payload", "value", "topic", "levels", "retained", "qos", "properties", "received_at")

# The bridge writes these itself: an own value would break the request or its signature.
_RESERVED_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "webhook-id", "webhook-timestamp", "webhook-signature"})


class Destination(Slice):
    """Where events go, and how: a `[destination.NAME]`, or what a mapping holds inline beside its `url`."""

    url: UrlText | None = None
    method: Annotated[str, Field(pattern=r"^[A-Z]{3,10}$")] = "POST"
    headers: dict[str, HeaderText] = Field(default_factory=dict)
    sign: Sign = "standard-webhooks"
    secret: Secrets = ()
    timeout: Duration = 15.0  # Standard Webhooks asks for 15 to 30 s
    retry: RetryPolicy = RetryPolicy()
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8

    @field_validator("headers")
    @classmethod
    def _own_headers(cls, headers: dict[str, HeaderText]) -> dict[str, HeaderText]:
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("two of them have the same name: upper and lower case make no difference")
        for name in headers:
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is not a header's name")
            if name.lower() in _RESERVED_HEADERS:
                raise ValueError(f"the header {name!r} is written by the bridge itself")
        return headers

    def signing_keys(self) -> tuple[bytes, ...]:
        """Return the keys to sign with; raise ValueError where the secret is missing or unfit."""
        return keys(self.sign, [secret.get_secret_value() for secret in self.secret])


class Outbound(Destination):
    """An `[outbound.NAME]`: the topics it takes, when, and what it makes of them."""

    topic: Annotated[tuple[Filter, ...], BeforeValidator(one_or_more), Field(min_length=1)]
    when: Expression | None = None
    to: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = ()
    qos: Annotated[Literal[0, 1, 2], BeforeValidator(whole)] = 1
    decode: Literal["auto", "json", "text", "bytes"] = "auto"
    retained: Literal["ignore", "use"] = "ignore"
    key: Text = Text("{{ topic }}")
    order: Literal["key", "none"] = "key"
    expires: Duration | None = None
    format: Literal["event", "raw"] = "event"
    json_body: Structure | None = Field(default=None, alias="json")
    text: Text | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> "Outbound":
        if bool(self.to) == (self.url is not None):
            raise ValueError("expected one of `url` and `to`: where the events go")
        if self.to and (inline := sorted(self.model_fields_set & (set(Destination.model_fields) - {"url"}))):
            raise ValueError(f"`{inline[0]}` belongs beside a `url`; with `to`, put it into the destination")
        shapes = [name for name in ("format", "json_body", "text") if name in self.model_fields_set]
        if len(shapes) > 1:
            raise ValueError("expected one of `format`, `json` and `text`")
        captures = {name for filter in self.topic for name in filter.captures}
        if clash := captures & set(NAMES):
            raise ValueError(f"topic: the capture {{{min(clash)}}} has the name of something else, choose another")
        for field, source in self._templates():
            if problem := unknown_names(source.names, {*NAMES, *captures}):
                raise ValueError(f"{field}: {problem}")
        return self

    def _templates(self) -> Iterator[tuple[str, Expression | Text | Structure]]:
        own = {"when": self.when, "key": self.key, "json": self.json_body, "text": self.text, "url": self.url}
        own |= {f"headers.{name}": value for name, value in self.headers.items()}
        return ((field, source) for field, source in own.items() if source is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A mapping with its name and its destinations found."""

    mapping: str
    rule: Outbound
    destinations: Mapping[str, Destination]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of one message for one destination of one mapping.

    `content` is the event, or the message itself where the event could not be made (then `reason`
    says why), or None where the mapping doesn't want it (`reason` says why). `key` is None where no order
    is kept.
    """

    mapping: str
    destination: str
    key: str | None
    content: Event | Message | None
    reason: str | None = None
    expires_s: float | None = None


class Routes:
    """Every mapping that is switched on, found by topic."""

    def __init__(self, routes: list[Route]) -> None:
        self.all = [route for route in routes if route.rule.enabled]
        self._order = {route.mapping: n for n, route in enumerate(self.all)}
        self._tree: FilterTree[Route] = FilterTree()
        for route in self.all:
            for filter in route.rule.topic:
                self._tree.add(filter.levels, route)

    def of(self, topic: str) -> list[Route]:
        """Return the mappings that take *topic*, each once, in the order of the config."""
        found = {route.mapping: route for route in self._tree.of(tuple(topic.split("/")))}
        return sorted(found.values(), key=lambda route: self._order[route.mapping])

    def named(self, mapping: str) -> Route | None:
        """Return the mapping of that name, or None."""
        return next((route for route in self.all if route.mapping == mapping), None)


def fates_for(message: Message, routes: Routes) -> list[Fate]:
    """Return what becomes of *message*: one fate for each destination of each mapping that takes it."""
    return [fate for route in routes.of(message.topic) for fate in fates_of(message, route)]


def fates_of(message: Message, route: Route) -> list[Fate]:
    """Return what becomes of *message* under one mapping, which takes its topic."""
    rule = route.rule
    if message.retained and rule.retained == "ignore":
        return _all(route, message, content=None, reason="it is a retained message that the broker replayed, and `retained` is \"ignore\"")
    try:
        names = names_of(message, rule)
    except RenderError as exc:
        return _all(route, message, content=message, reason=str(exc))
    try:
        if rule.when is not None and not rule.when.holds(names):
            return _all(route, message, content=None, reason=f"`when` is false: {rule.when.text}")
    except RenderError as exc:
        return _all(route, message, content=None, reason=f"`when` counts as false: {exc}")
    return [_rendered(message, route, name, destination, names) for name, destination in route.destinations.items()]


def names_of(message: Message, rule: Outbound) -> dict[str, Any]:
    """Return the names that the mapping's expressions see; raise RenderError if the payload can't be decoded."""
    levels = tuple(message.topic.split("/"))
    names: dict[str, Any] = {
        "payload": decoded(message.payload, rule.decode),
        "topic": message.topic,
        "levels": list(levels),
        "retained": message.retained,
        "qos": message.qos,
        "properties": dict(message.properties),
        "received_at": timestamp(message.received_at),
    }
    if (value := utf8(message.payload)) is not None:
        names["value"] = value
    return names | captures_of(levels, rule)


def captures_of(levels: tuple[str, ...], rule: Outbound) -> dict[str, str]:
    """Return what the first filter that takes these *levels* captures of them."""
    return next((found for filter in rule.topic if (found := filter.captured(levels)) is not None), {})


def letter_of(fate: Fate, *, id: str, created_at: float, origin: str | None) -> Letter:
    """Return the letter that carries a fate's event, or that keeps what could not become one as dead."""
    dead = isinstance(fate.content, Message)
    assert fate.content is not None, "what is filtered needs no letter"
    return Letter(
        id=id,
        lane=Lane.WEBHOOK,
        mapping=fate.mapping,
        destination=fate.destination,
        key=id if fate.key is None else fate.key,
        content=fate.content,
        created_at=created_at,
        expires_at=None if fate.expires_s is None else created_at + fate.expires_s,
        state=State.DEAD if dead else State.WAITING,
        dead_at=created_at if dead else None,
        reason=fate.reason,
        origin=origin,
    )


def event_body(message: Message, mapping: str, payload: Any, captures: Mapping[str, str]) -> bytes:
    """Return the body of the default format, in the shape of Standard Webhooks' example payloads."""
    shown = {"payload_base64": base64.b64encode(payload).decode()} if isinstance(payload, bytes) else {"payload": payload}
    data = {"topic": message.topic, **shown, "retained": message.retained, "qos": message.qos, "captures": captures}
    return json_bytes({"type": mapping, "timestamp": timestamp(message.received_at), "data": data})


def _rendered(message: Message, route: Route, name: str, destination: Destination, names: Names) -> Fate:
    rule = route.rule
    try:
        event = _event(message, route, destination, names)
        key = rule.key.render(names) if rule.order == "key" else None
    except RenderError as exc:
        return Fate(mapping=route.mapping, destination=name, key=message.topic, content=message, reason=str(exc))
    return Fate(mapping=route.mapping, destination=name, key=key, content=event, expires_s=rule.expires)


def _event(message: Message, route: Route, destination: Destination, names: Names) -> Event:
    assert destination.url is not None, "checked when the settings were read"
    content_type, body = _body(message, route, names)
    headers: Headers = tuple((name, value.render(names)) for name, value in destination.headers.items())
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers = (("Content-Type", content_type), *headers)
    return Event(method=destination.method, url=destination.url.render(names), headers=headers, body=body)


def _body(message: Message, route: Route, names: Names) -> tuple[str, bytes]:
    rule, payload = route.rule, names["payload"]
    if rule.json_body is not None:
        return "application/json", rule.json_body.render(names)
    if rule.text is not None:
        return "text/plain; charset=utf-8", _encoded(rule.text.render(names))
    if rule.format == "raw":
        return _media_type(payload), message.payload
    return "application/json", event_body(message, route.mapping, payload, captures_of(tuple(names["levels"]), rule))


def _media_type(payload: Any) -> str:
    if isinstance(payload, bytes):
        return "application/octet-stream"
    return "text/plain; charset=utf-8" if isinstance(payload, str) else "application/json"


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError as exc:
        raise RenderError(f"the text can't be sent as UTF-8: {exc.reason}") from exc


def _all(route: Route, message: Message, *, content: Message | None, reason: str) -> list[Fate]:
    return [Fate(mapping=route.mapping, destination=name, key=message.topic, content=content, reason=reason) for name in route.destinations]


def curl(event: Event, signed: Headers) -> str:
    """Return the request as a line for a shell, to try it by hand."""
    parts = ["curl", "-i", "-X", event.method]
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


def _mismatch(filter: Filter, levels: tuple[str, ...]) -> str:
    if levels[0].startswith("$") and filter.levels[0] in "+#":
        return f"{filter.text}: a wildcard at the start takes no topic that starts with '$'"
    for n, (wanted, given) in enumerate(zip(filter.levels, levels, strict=False), 1):
        if wanted not in ("+", given):
            return f"{filter.text}: level {n} is {json.dumps(given, ensure_ascii=False)}, not {json.dumps(wanted)}"
    takes = f"{len(filter.levels) - 1} or more" if filter.levels[-1] == "#" else str(len(filter.levels))
    return f"{filter.text}: it takes {takes} levels, the topic has {len(levels)}"
