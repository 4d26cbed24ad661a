"""From a request to its command: which hook it meets, and the publish that comes of it.

Pure. By the time these are asked, the request is verified and its body is whole and bounded.
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from bridge.errors import HookError, RenderError
from bridge.model import Answer, Command, Lane, Letter, Outcome, Verdict
from bridge.rules.callers import AllowFrom
from bridge.rules.devices import SAID, Available, Confirm, Expectation, listening_problem
from bridge.rules.expressions import Expression, Source, Text, TopicText, unknown_names
from bridge.rules.loops import HOP, any_level_is_open, loop_in, onward, overlaps
from bridge.rules.payloads import decoded, moment, timestamp
from bridge.rules.publishes import Publish, Qos
from bridge.rules.requests import Request, body_of, form_fields, segments
from bridge.rules.retry import NO_SUBSCRIBERS, NOT_AUTHORIZED
from bridge.rules.signing import SCHEMES, Evidence, Verification, Verify, keys
from bridge.rules.structures import Structure
from bridge.rules.topics import Filter, FilterTree, level_problem
from bridge.rules.units import Allowance, Duration, Secrets, Slice, one_or_more

NAMES = ("body", "headers", "query", "hook", "received_at", "now")
ID = "id"  # the request's own; a capture of that name is meant instead, as in /hooks/lamps/{id}

_WIDTH = {"+": 1, "#": 2}  # of what a level takes; the closest hook answers

TOKENS = frozenset({"bearer", "basic", "header", "query", "gitlab"})  # schemes that send the secret itself along, and sign neither body nor time

# How little the schemes prove that sign no body.
_PROOFS = dict.fromkeys(("none", *TOKENS), "proves neither what is asked nor when:") | {
    "mailgun": "proves when it is asked, but not what: Mailgun signs no more of the body than a time and a token;"
}

# What guards a house, or can burn it down, as people name its topics; a "clock" and "delegate" are none of it.
_GUARDS = re.compile(
    r"(?<![a-z])(?:(?:un)?lock(?:s|ed)?|(?:door|smart)lock|deadbolt|garage\w*|gate|opener|alarm\w*|(?:dis)?arm|siren|valve|gas|oven|stove)(?![a-z])", re.IGNORECASE
)

EXPIRES_S = 60.0  # a light that goes on a minute late frightens somebody
MAX_PUBLISHES = 64  # of one request: a house's lights; each is one round trip to the broker before the answer
MAX_REPLY = 16 * 1024  # bytes of a device's answer that are passed on and remembered


def _not_empty(token: SecretStr) -> SecretStr:
    keys("bearer", [token.get_secret_value()])  # ValueError where it is
    return token


def _in_capitals(given: Any) -> list[Any]:
    """Return methods as they are written in HTTP, which tells their case apart; each once."""
    return list(dict.fromkeys(method.upper() if isinstance(method, str) else str(method) for method in one_or_more(given)))


def _by_one_name(challenge: Any) -> Any:
    """Return what asks first: Microsoft Graph by its short name."""
    return "graph" if challenge == "msgraph" else challenge


class Inbound(Slice):
    """An `[inbound.NAME]`: who may call it, and what is then published."""

    path: str | None = None
    verify: Verify
    secret: Secrets = ()
    verify_token: Annotated[SecretStr, AfterValidator(_not_empty)] | None = None
    challenge: Annotated[Literal["graph", "cloudevents", "slack", "zoom", "discord", "meta"], BeforeValidator(_by_one_name)] | None = None
    topic: TopicText | None = None
    json_body: Structure | None = Field(default=None, alias="json")
    text: Text | None = None
    qos: Qos = 1
    retain: bool = False
    publish: Annotated[tuple[Publish, ...], Field(max_length=MAX_PUBLISHES)] = ()
    topics: tuple[Filter, ...] = ()
    when: Expression | None = None
    available: Available | None = None
    confirm: Confirm | None = None
    methods: Annotated[tuple[Literal["POST", "PUT", "GET", "PATCH", "DELETE"], ...], BeforeValidator(_in_capitals), Field(min_length=1)] = ("POST",)
    expires: Duration = EXPIRES_S
    answer: Literal["published", "accepted", "confirmed"] = "published"
    rate: Allowance | None = None
    allow_from: AllowFrom | None = None
    enabled: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> "Inbound":
        if self.verify_token is not None and self.verify.scheme != "meta":
            raise ValueError('verify_token: it goes with verify = "meta"; the token of another sender is its `secret`')
        self._check_the_challenge()
        if self.path is not None and (not self.path.startswith("/") or any(sign in self.path for sign in "+#?%")):
            raise ValueError('path: expected a path such as "/hooks/light/{room}"')
        self._check_names()
        self._check_the_device()
        self._check_what_is_published()  # the last: what a whole table complains of hides what is wrong with its keys
        return self

    def _check_the_challenge(self) -> None:
        scheme = self.verify.scheme
        if self.challenge not in (None, "graph", "cloudevents", scheme):
            raise ValueError(f'challenge: "{self.challenge}" goes with verify = "{self.challenge}", which answers it by itself; here it is "{scheme}"')
        if self.challenge == "meta" and self.verify_token is None:
            raise ValueError('challenge: "meta" needs `verify_token`, by which Meta shows that it asks')

    def _check_what_is_published(self) -> None:
        if (self.topic is None) == (not self.publish):
            raise ValueError("expected one of `topic` and `publish`: what is published")
        if self.publish and (stray := self.model_fields_set & {"json_body", "text", "qos", "retain"}):
            raise ValueError(f"{min(stray).removesuffix('_body')}: with `publish` it stands in each of its tables")
        for publish in self.publishes:
            publish.check()
            if not publish.topic.names and self.topics and not self.may_publish(publish.topic.text):
                raise ValueError(f"topics: {publish.topic.text!r} is none of them")

    def _check_the_device(self) -> None:
        if self.confirm is None and self.answer == "confirmed":
            raise ValueError('answer: "confirmed" needs `confirm`: where the device answers, as in confirm = { topic = "zigbee2mqtt/hall", when = "payload.state == \'ON\'" }')
        if self.confirm is not None and "answer" in self.model_fields_set and self.answer != "confirmed":
            raise ValueError(f'answer: {self.answer!r} does not wait for the device: remove `answer`, or `confirm`')

    def _check_names(self) -> None:
        captures = set(self.pattern("x").captures)
        own = {*NAMES, *(SAID if self.confirm or self.available else ())}
        if clash := captures & own:
            raise ValueError(f"path: the capture {{{min(clash)}}} has the name of something else, choose another")
        known = {*NAMES, ID, *captures}
        sources: dict[str, tuple[Source | Structure | None, set[str]]] = {"when": (self.when, known)}
        for n, publish in enumerate(self.publishes):
            before = f"publish.{n}." if self.publish else ""
            sources |= {f"{before}{key}": (source, known) for key, source in publish.sources.items()}
        for key, rule in (("available", self.available), ("confirm", self.confirm)):
            if rule is not None:
                sources |= {f"{key}.topic": (rule.topic, known), f"{key}.when": (rule.when, {*known, *SAID})}
        for key, (source, names) in sources.items():
            if source is not None and (problem := unknown_names(source.names, names)):
                raise ValueError(f"{key}: {problem}")

    @property
    def publishes(self) -> tuple[Publish, ...]:
        """Return what is published, one after the other."""
        if self.topic is None:
            return self.publish
        return (Publish.model_construct(topic=self.topic, json_body=self.json_body, text=self.text, qos=self.qos, retain=self.retain),)

    @property
    def retains(self) -> bool:
        """Return True if any of its publishes is retained, False if none is."""
        return any(publish.retain for publish in self.publishes)

    @property
    def listens_to(self) -> tuple[TopicText, ...]:
        """Return the topics at which it wants to hear its device."""
        return tuple(rule.topic for rule in (self.available, self.confirm) if rule is not None)

    def may_publish(self, topic: str) -> bool:
        """Return True if `topics`, where it is written, lets it publish to a topic; False if not."""
        return not self.topics or any(filter.takes(tuple(topic.split("/"))) for filter in self.topics)

    def pattern(self, name: str) -> Filter:
        """Return the path it listens on, a level for each segment."""
        return Filter.parse((self.path or f"/hooks/{name}").lstrip("/"))

    def verifying_keys(self) -> tuple[bytes, ...]:
        """Return the keys to verify with; raise ValueError where the secret is missing or unfit."""
        return keys(self.verify.scheme, [secret.get_secret_value() for secret in self.secret])


@dataclass(frozen=True, slots=True, kw_only=True)
class Hook:
    """A hook with its name, and the keys of its secrets."""

    name: str
    rule: Inbound
    pattern: Filter
    keys: tuple[bytes, ...]

    @property
    def signs_a_time(self) -> bool:
        """Return True if its sender signs the time, which has to be about now; False if not."""
        return "tolerance" in SCHEMES[self.rule.verify.scheme].options

    @property
    def verify(self) -> Verification:
        """Return how it knows its sender."""
        return self.rule.verify


class Hooks:
    """Every hook that is switched on, found by path."""

    def __init__(self, hooks: list[Hook]) -> None:
        self.all = [hook for hook in hooks if hook.rule.enabled]
        self._tree: FilterTree[Hook] = FilterTree()
        for hook in self.all:
            self._tree.add(hook.pattern.levels, hook)

    def of(self, raw_path: str) -> Hook:
        """Return the hook at a path; one written out goes before one that captures. Raise HookError 404 or 400."""
        levels = segments(raw_path)
        found = self._tree.of(levels)
        if not found:
            raise HookError(404, "there is no hook at this path")
        return min(found, key=lambda hook: [_WIDTH.get(level, 0) for level in hook.pattern.levels])


def evidence_of(hook: Hook, method: str, request: Request, *, now: float) -> Evidence:
    """Return what a request to a hook is judged by."""
    return Evidence(how=hook.verify, keys=hook.keys, method=method, path=request.path, query=request.query, headers=request.headers, body=request.body, now=now)


def names_of(hook: Hook, request: Request, *, id: str) -> dict[str, Any]:
    """Return the names that the hook's expressions see; raise HookError 400 or 415 where the request can't be read."""
    levels = segments(request.path)
    captures = hook.pattern.captured(levels) or {}
    for level in levels:
        # Each segment by itself: one that holds a slash would be two levels, and nobody could tell.
        if captures and (problem := level_problem(level)):
            raise HookError(400, f"a part of the path can't be used: {problem}")
    return {
        "body": body_of(request),
        "headers": {name: ", ".join(values) for name, values in request.headers.items()},
        "query": form_fields(request.query),
        "hook": hook.name,
        ID: id,
        "received_at": timestamp(request.received_at),
        "now": moment(request.received_at),
        **captures,
    }


def hop_of(hook: Hook, request: Request) -> str:
    """Return the `webhook-hop` of what the hook publishes; raise HookError 508 where the request came of it before."""
    text = (request.headers.get(HOP) or (None,))[0]
    if (loop := loop_in(text, hook.name)) is not None:
        raise HookError(508, loop)
    return onward(text, hook.name)


def command_for(hook: Hook, names: Mapping[str, Any], body: bytes, *, hop: str = "") -> Command | None:
    """Return what is to be published, or None where `when` is false; raise HookError 422 where it can't be rendered."""
    rule = hook.rule
    try:
        if rule.when is not None and not rule.when.holds(names):
            return None
    except RenderError:
        return None
    try:
        first, *then = (publish.command(names, body, hop=hop) for publish in rule.publishes)
    except RenderError as exc:
        raise HookError(422, f"the request doesn't fit the mapping: {exc}") from exc
    if not all(rule.may_publish(command.topic) for command in (first, *then)):
        raise HookError(403, "this hook may not publish to that topic")
    return replace(first, then=tuple(then))


def availability_topic(hook: Hook, names: Mapping[str, Any]) -> str | None:
    """Return the topic at which the device of a request says that it is there, None where that isn't asked; raise HookError 422."""
    return None if hook.rule.available is None else _device_topic(hook.rule.available.topic, names)


def expectation_of(hook: Hook, names: Mapping[str, Any], *, id: str) -> Expectation | None:
    """Return what the device of a request is waited for to say, None where it isn't waited for; raise HookError 422."""
    rule = hook.rule.confirm
    return None if rule is None else Expectation(hook=hook.name, id=id, topic=_device_topic(rule.topic, names), rule=rule, names=names)


def _device_topic(topic: TopicText, names: Mapping[str, Any]) -> str:
    try:
        rendered = topic.render(names)
    except RenderError as exc:
        raise HookError(422, f"the request doesn't fit the mapping: {exc}") from exc
    if problem := listening_problem(rendered):
        raise HookError(422, f"the request doesn't fit the mapping: no device can be heard at {rendered!r}: {problem}")
    return rendered


def letter_of(hook: Hook, command: Command, *, id: str, now: float, begun: bool) -> Letter:
    """Return the letter that carries a command; *begun* if it is going to be published at once."""
    return Letter(
        id=id,
        lane=Lane.MQTT,
        mapping=hook.name,
        destination="mqtt",
        key=f"{hook.name} {id}",  # the connection keeps the order; one command never waits for another's answer, and two hooks may meet the same id
        content=command,
        created_at=now,
        expires_at=now + hook.rule.expires,
        begun_at=now if begun else None,
    )


def unguarded(rule: Inbound) -> str | None:
    """Return why a hook may let a stranger at what guards the house, None where its requests are signed whole or it reaches no such thing."""
    if (proof := _PROOFS.get(rule.verify.scheme)) is None:
        return None
    remedy = f'`verify = "{rule.verify.scheme}"` {proof} sign the requests, as with verify = "standard-webhooks"'
    for publish in rule.publishes:
        may_become = [filter.text for filter in rule.topics if overlaps(filter, publish.topic.text)]
        if guard := next((text for text in (publish.topic.text, *may_become) if _GUARDS.search(text)), None):
            return f"{guard!r} looks like a lock, a garage door, an alarm or the like, and {remedy}"
        if not rule.topics and any_level_is_open(publish.topic.text):
            return f"{publish.topic.text!r} may become the topic of any device, a lock's too, and {remedy}; or write in `topics` what it may be"
    return None


def queued(id: str) -> Answer:
    """Return the answer to a command that is safe and waits."""
    return Answer(status=202, document={"id": id, "status": "queued"})


def answer_for(id: str, outcome: Outcome) -> Answer:
    """Return the answer to a command whose publishing came to *outcome*."""
    status = None if outcome.reply is None else outcome.reply.status
    match outcome.verdict:
        case Verdict.DELIVERED if outcome.reply is not None and outcome.reply.confirmed is not None:
            if not outcome.reply.confirmed:
                return Answer(status=504, document={"id": id, "detail": outcome.reason})
            return Answer(status=200, document={"id": id, "status": "confirmed", "reply": _shown(outcome.reply.body)})
        case Verdict.DELIVERED:
            heard = {} if status != NO_SUBSCRIBERS else {"heard": False}
            return Answer(status=200, document={"id": id, "status": "published", **heard})
        case Verdict.RETRY:
            return queued(id)
        case Verdict.EXPIRED:
            return Answer(status=504, document={"id": id, "detail": "it expired before it could be published"})
        case Verdict.DEAD:
            return Answer(status=403 if status == NOT_AUTHORIZED else 502, document={"id": id, "detail": outcome.reason})


def _shown(payload: bytes) -> Any:
    """Return a device's answer as JSON can carry it; None where it is too large to be passed on."""
    if len(payload) > MAX_REPLY:
        return None
    value = decoded(payload, "auto")
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value
