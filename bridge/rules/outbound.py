"""Outbound mappings: what an `[outbound.NAME]` and a `[destination.NAME]` say, and which mapping takes which topic.

What is made of a message is the business of `events`, when of `gates`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, SecretStr, field_validator, model_validator

from bridge.model import Priority
from bridge.rules.access import Access
from bridge.rules.addresses import refusal_of_host
from bridge.rules.bodies import Format, Shape, joint_of
from bridge.rules.expressions import Expression, HeaderText, MethodText, Source, Text, UrlText, unknown_names
from bridge.rules.gates import Gates
from bridge.rules.notices import problem_with_headers
from bridge.rules.pacing import BreakerRule
from bridge.rules.replies import NAMES as REPLY_NAMES
from bridge.rules.replies import ReplyRule
from bridge.rules.responses import NAMES as RESPONSE_NAMES
from bridge.rules.retry import Judging, RetryPolicy
from bridge.rules.signing import OWN_HEADERS, Sign, Signing, signing_keys, written_headers
from bridge.rules.structures import Form, Structure
from bridge.rules.topics import Filter, FilterTree
from bridge.rules.units import Duration, Rate, Secrets, Slice, one_or_more, whole

NAMES = ("payload", "value", "topic", "levels", "retained", "qos", "properties", "received_at", "now")
SILENCE_NAMES = ("silent_for",)

_TAKEN = frozenset({*NAMES, *SILENCE_NAMES, *REPLY_NAMES})  # no capture may bear one of these

_FOR_APPRISE = frozenset({"apprise", "url", "headers", "timeout", "retry", "concurrency", "rate", "breaker"})  # `url` has a sentence of its own

MAX_BATCH = 1_000  # events; with 300 bytes each as large as most receivers take


class Destination(Access):
    """Where events go, and how: a `[destination.NAME]`, or what a mapping holds inline beside its `url`."""

    url: UrlText | None = None
    apprise: SecretStr | None = None
    method: MethodText = MethodText("POST")
    headers: dict[str, HeaderText] = Field(default_factory=dict)
    signing: Sign = Field(default=Signing(scheme="standard-webhooks"), alias="sign")
    secret: Secrets = ()
    retry: RetryPolicy = RetryPolicy()
    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    rate: Rate | None = None
    breaker: BreakerRule = BreakerRule()
    success: Expression | None = None
    retry_after: Expression | None = None

    @field_validator("headers")
    @classmethod
    def _own_headers(cls, headers: dict[str, HeaderText]) -> dict[str, HeaderText]:
        if len({name.lower() for name in headers}) < len(headers):
            raise ValueError("two of them have the same name: upper and lower case make no difference")
        for name in headers:
            if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"{name!r} is not a header's name")
            if name.lower() in OWN_HEADERS:
                raise ValueError(f"the header {name!r} is written by the bridge itself")
        return headers

    @property
    def template_names(self) -> set[str]:
        """Return the names that its templates have to be given."""
        return set[str]().union(*(source.names for source in (self.url, self.method, *self.headers.values()) if source is not None))

    @property
    def judging(self) -> Judging:
        """Return what its answers are judged by."""
        return Judging(policy=self.retry, success=self.success, retry_after=self.retry_after)

    @model_validator(mode="after")
    def _reads_answers(self) -> "Destination":
        for field, source in {"success": self.success, "retry_after": self.retry_after}.items():
            if source is not None and (problem := unknown_names(source.names, RESPONSE_NAMES)):
                raise ValueError(f"{field}: {problem}")
        return self

    @model_validator(mode="after")
    def _signature_stands_alone(self) -> "Destination":
        if taken := written_headers(self.signing) & {name.lower() for name in self.headers}:
            raise ValueError(f"headers: the header {min(taken)!r} is written by the bridge itself: it goes with the signature")
        return self

    @model_validator(mode="after")
    def _credentials_stand_alone(self) -> "Destination":
        name = self.auth.header_name if self.auth else None
        if name is None:
            return self
        if name.lower() in OWN_HEADERS | written_headers(self.signing) | {"content-type"}:
            raise ValueError(f"auth.header: the header {name!r} is written by the bridge itself")
        if name.lower() in {written.lower() for written in self.headers}:
            raise ValueError(f"auth: the header {name!r} stands in `headers` as well")
        return self

    @model_validator(mode="after")
    def _may_be_there(self) -> "Destination":
        token_url = self.auth.oauth2.token_url if self.auth and self.auth.oauth2 else ""
        for field, url in {"url": self.url.text if self.url else "", "auth.oauth2.token_url": token_url}.items():
            if problem := refusal_of_host(url, self.network):
                raise ValueError(f"{field}: {problem}")
        return self

    @model_validator(mode="after")
    def _says_what_apprise_takes(self) -> "Destination":
        if self.apprise is None:
            return self
        if webhooks := sorted(self.model_fields_set & (set(Destination.model_fields) - _FOR_APPRISE)):
            raise ValueError(f"{Destination.model_fields[webhooks[0]].alias or webhooks[0]}: it makes no sense with `apprise`: it is about a web request")
        if self.timeout.connect is not None:
            raise ValueError("timeout.connect: makes no sense with `apprise`, which takes `total` for everything")
        if problem := problem_with_headers(self.headers):
            raise ValueError(f"headers: {problem}")
        return self

    @property
    def sign(self) -> str:
        """Return the name of the scheme that it signs by."""
        return self.signing.scheme

    def signing_keys(self) -> tuple[bytes, ...]:
        """Return the keys to sign with, none for a notice; raise ValueError where the secret is missing or unfit."""
        if self.apprise is not None:
            return ()
        return signing_keys(self.sign, [secret.get_secret_value() for secret in self.secret])


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

    @model_validator(mode="after")
    def _fits_together(self) -> "Outbound":
        # The last: what a whole table complains of hides what is wrong with its keys.
        if [bool(self.to), self.url is not None, self.apprise is not None].count(True) != 1:
            raise ValueError("expected one of `url`, `to` and `apprise`: where the events go")
        if self.to and (inline := sorted(self.model_fields_set & (set(Destination.model_fields) - {"url"}))):
            raise ValueError(f"{Destination.model_fields[inline[0]].alias or inline[0]}: it belongs beside a `url`; with `to`, put it into the destination")
        if len([name for name in ("format", "json_body", "text", "form") if name in self.model_fields_set]) > 1:
            raise ValueError("expected one of `format`, `json`, `text` and `form`")
        if clash := self.captures & _TAKEN:
            raise ValueError(f"topic: the capture {{{min(clash)}}} has the name of something else, choose another")
        return self

    def takes(self, topic: str, *, own: str) -> bool:
        """Return True if one of its filters takes *topic*, False if not.

        What this bridge says of itself, at and below *own*, is taken only where a filter names it: an event that can't be
        delivered changes what is said there, and a `#` would make the next event of that, for as long as the receiver is down.
        """
        levels = tuple(topic.split("/"))
        named = tuple(own.split("/")) if topic == own or topic.startswith(own + "/") else ()
        return any(filter.levels[: len(named)] == named and filter.takes(levels) for filter in self.topic)

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

    def __init__(self, routes: list[Route], *, own: str) -> None:
        """Prepare them; *own* is the topic at and below which this bridge tells of itself."""
        self._own = own
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
        if topic.startswith(self._own):
            found = {mapping: route for mapping, route in found.items() if route.rule.takes(topic, own=self._own)}
        return sorted(found.values(), key=lambda route: self._order[route.mapping])

    def named(self, mapping: str) -> Route | None:
        """Return the mapping of that name, or None."""
        return self._named.get(mapping)
