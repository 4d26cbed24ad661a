"""Outbound mappings: what an `[outbound.NAME]` and a `[destination.NAME]` say, and which mapping takes which topic.

What is made of a message is the business of `events`, when of `gates`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from bridge.model import Priority
from bridge.rules.bodies import Format, Shape, joint_of
from bridge.rules.expressions import Expression, HeaderText, MethodText, Source, Text, UrlText, unknown_names
from bridge.rules.gates import Gates
from bridge.rules.loops import HOP
from bridge.rules.replies import NAMES as REPLY_NAMES
from bridge.rules.replies import ReplyRule
from bridge.rules.retry import RetryPolicy
from bridge.rules.signing import Sign, keys
from bridge.rules.structures import Form, Structure
from bridge.rules.topics import Filter, FilterTree
from bridge.rules.units import Duration, Secrets, Slice, one_or_more, whole

NAMES = ("payload", "value", "topic", "levels", "retained", "qos", "properties", "received_at", "now")
SILENCE_NAMES = ("silent_for",)

_TAKEN = frozenset({*NAMES, *SILENCE_NAMES, *REPLY_NAMES})  # no capture may bear one of these

# The bridge writes these itself: an own value would break the request or its signature.
_RESERVED_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "webhook-id", "webhook-timestamp", "webhook-signature", HOP})

MAX_BATCH = 1_000  # events; with 300 bytes each as large as most receivers take


class Destination(Slice):
    """Where events go, and how: a `[destination.NAME]`, or what a mapping holds inline beside its `url`."""

    url: UrlText | None = None
    method: MethodText = MethodText("POST")
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


class BatchRule(Slice):
    """`batch`: how many events go in one request at most, and how long the first of them waits for the others."""

    size: Annotated[int, Field(ge=1, le=MAX_BATCH)] = 50
    wait: Duration = 1.0


class Outbound(Destination, Gates):
    """An `[outbound.NAME]`: the topics it takes, when, and what it makes of them."""

    topic: Annotated[tuple[Filter, ...], BeforeValidator(one_or_more), Field(min_length=1)]
    when: Expression | None = None
    to: Annotated[tuple[str, ...], BeforeValidator(one_or_more)] = ()
    qos: Annotated[Literal[0, 1, 2], BeforeValidator(whole)] = 1
    decode: Literal["auto", "json", "text", "bytes"] = "auto"
    key: Text = Text("{{ topic }}")
    order: Literal["key", "none"] = "key"
    keep: Literal["all", "latest"] = "all"
    expires: Duration | None = None
    priority: Priority = Priority.NORMAL
    format: Format = "event"
    json_body: Structure | None = Field(default=None, alias="json")
    text: Text | None = None
    form: Form | None = None
    batch: BatchRule | None = None
    reply: ReplyRule | None = None
    enabled: bool = True

    @cached_property
    def shape(self) -> Shape:
        """Return the body that it writes."""
        return Shape(format=self.format, json=self.json_body, text=self.text, form=self.form)

    @cached_property
    def captures(self) -> set[str]:
        """Return the names that its filters capture."""
        return {name for filter in self.topic for name in filter.captures}

    @model_validator(mode="after")
    def _fits_together(self) -> "Outbound":
        if bool(self.to) == (self.url is not None):
            raise ValueError("expected one of `url` and `to`: where the events go")
        if self.to and (inline := sorted(self.model_fields_set & (set(Destination.model_fields) - {"url"}))):
            raise ValueError(f"`{inline[0]}` belongs beside a `url`; with `to`, put it into the destination")
        if len([name for name in ("format", "json_body", "text", "form") if name in self.model_fields_set]) > 1:
            raise ValueError("expected one of `format`, `json`, `text` and `form`")
        if clash := self.captures & _TAKEN:
            raise ValueError(f"topic: the capture {{{min(clash)}}} has the name of something else, choose another")
        return self

    @model_validator(mode="after")
    def _can_wait_so(self) -> "Outbound":
        if self.order == "none" and self.keep == "latest":
            raise ValueError('keep: "latest" goes by key, and `order = "none"` knows none')
        if self.batch is None:
            return self
        if joint_of(self.shape) is None:
            raise ValueError("batch: a form, or a payload as it came, can't stand in a list; use `json`, `text` or another format")
        if self.keep == "latest" or self.reply is not None:
            raise ValueError(f"batch: not with `{'reply' if self.reply else 'keep'}`, which is about one event")
        return self

    @model_validator(mode="after")
    def _knows_its_names(self) -> "Outbound":
        for field, source in self._templates():
            known = NAMES if field in ("when", "on_change", "key") else self.names  # these are asked of messages, not of silence
            if problem := unknown_names(source.names, {*known, *self.captures}):
                raise ValueError(f"{field}: {problem}")
        for field, source in self._reply_templates():
            if problem := unknown_names(source.names, {*REPLY_NAMES, *self.captures}):
                raise ValueError(f"reply.{field}: {problem}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names that its templates may use, beside the captures."""
        return NAMES if self.silence is None else (*NAMES, *SILENCE_NAMES)

    def _templates(self) -> Iterator[tuple[str, Source | Structure | Form]]:
        own: dict[str, Source | Structure | Form | None] = {"when": self.when, "on_change": self.on_change, "key": self.key}
        own |= {"json": self.json_body, "text": self.text, "form": self.form, "url": self.url, "method": self.method}
        own |= {f"headers.{name}": value for name, value in self.headers.items()}
        return ((field, source) for field, source in own.items() if source is not None)

    def _reply_templates(self) -> Iterator[tuple[str, Source | Structure]]:
        if self.reply is None:
            return iter(())
        own = {"topic": self.reply.topic, "json": self.reply.json_body, "text": self.reply.text, "when": self.reply.when}
        return ((field, source) for field, source in own.items() if source is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A mapping with its name and its destinations found."""

    mapping: str
    rule: Outbound
    destinations: Mapping[str, Destination]


class Routes:
    """Every mapping that is switched on, found by topic."""

    def __init__(self, routes: list[Route]) -> None:
        self.all = [route for route in routes if route.rule.enabled]
        self._order = {route.mapping: n for n, route in enumerate(self.all)}
        self._named = {route.mapping: route for route in self.all}
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
        return self._named.get(mapping)
