"""From a request to its command: which hook it meets, and the publish that comes of it.

Pure. By the time these are asked, the request is verified and its body is whole and bounded.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal
from urllib.parse import parse_qsl, unquote_to_bytes

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from bridge.errors import HookError, RenderError
from bridge.model import Answer, Command, Lane, Letter, Outcome, Verdict
from bridge.rules.expressions import Expression, Text, TopicText, unknown_names
from bridge.rules.loops import HOP, loop_in, onward
from bridge.rules.payloads import decoded, moment, strict_json, timestamp
from bridge.rules.retry import NO_SUBSCRIBERS, NOT_AUTHORIZED
from bridge.rules.signing import Evidence, Verification, Verify, keys
from bridge.rules.structures import Structure
from bridge.rules.topics import Filter, FilterTree, level_problem, topic_problem
from bridge.rules.units import Duration, Secrets, Slice, one_or_more, whole

NAMES = ("body", "headers", "query", "hook", "received_at", "now")

_WIDTH = {"+": 1, "#": 2}  # of what a level takes; the closest hook answers

EXPIRES_S = 60.0  # a light that goes on a minute late frightens somebody


def _long_enough(token: SecretStr) -> SecretStr:
    keys("bearer", [token.get_secret_value()])  # ValueError where it is short
    return token


class Inbound(Slice):
    """An `[inbound.NAME]`: who may call it, and what is then published."""

    path: str | None = None
    verify: Verify
    secret: Secrets = ()
    verify_token: Annotated[SecretStr, AfterValidator(_long_enough)] | None = None
    challenge: Literal["graph", "cloudevents"] | None = None
    topic: TopicText
    json_body: Structure | None = Field(default=None, alias="json")
    text: Text | None = None
    when: Expression | None = None
    qos: Annotated[Literal[0, 1], BeforeValidator(whole)] = 1
    retain: bool = False
    methods: Annotated[tuple[Literal["POST", "PUT", "GET", "PATCH", "DELETE"], ...], BeforeValidator(one_or_more), Field(min_length=1)] = ("POST",)
    expires: Duration = EXPIRES_S
    answer: Literal["published", "accepted"] = "published"
    enabled: bool = True

    @model_validator(mode="after")
    def _fits_together(self) -> "Inbound":
        if self.json_body is not None and self.text is not None:
            raise ValueError("expected one of `json` and `text`")
        if self.verify_token is not None and self.verify.scheme != "meta":
            raise ValueError('verify_token: it goes with verify = "meta"; the token of another sender is its `secret`')
        if self.path is not None and (not self.path.startswith("/") or any(sign in self.path for sign in "+#?%")):
            raise ValueError('path: expected a path such as "/hooks/light/{room}"')
        captures = set(self.pattern("x").captures)
        if clash := captures & set(NAMES):
            raise ValueError(f"path: the capture {{{min(clash)}}} has the name of something else, choose another")
        own = {"topic": self.topic, "json": self.json_body, "text": self.text, "when": self.when}
        for field, source in own.items():
            if source is not None and (problem := unknown_names(source.names, {*NAMES, *captures})):
                raise ValueError(f"{field}: {problem}")
        if self.topic.names == set() and (problem := topic_problem(self.topic.text)):
            raise ValueError(f"topic: nothing can be published to {self.topic.text!r}: {problem}")
        return self

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
    def verify(self) -> Verification:
        """Return how it knows its sender."""
        return self.rule.verify


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came to a hook, the body whole."""

    path: str
    query: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    received_at: float


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


def segments(raw_path: str) -> tuple[str, ...]:
    """Return a path's segments, percent-decoded once; raise HookError 400 where one isn't UTF-8."""
    try:
        return tuple(unquote_to_bytes(segment).decode() for segment in raw_path.removeprefix("/").split("/"))
    except UnicodeError as exc:
        raise HookError(400, "the path is not UTF-8") from exc


def evidence_of(hook: Hook, method: str, request: Request, *, now: float) -> Evidence:
    """Return what a request to a hook is judged by."""
    return Evidence(how=hook.verify, keys=hook.keys, method=method, path=request.path, query=request.query, headers=request.headers, body=request.body, now=now)


def names_of(hook: Hook, request: Request) -> dict[str, Any]:
    """Return the names that the hook's expressions see; raise HookError 400 where the request can't be read."""
    levels = segments(request.path)
    captures = hook.pattern.captured(levels) or {}
    for level in levels:
        # Each segment by itself: one that holds a slash would be two levels, and nobody could tell.
        if captures and (problem := level_problem(level)):
            raise HookError(400, f"a part of the path can't be used: {problem}")
    return {
        "body": body_of(request),
        "headers": {name: ", ".join(values) for name, values in request.headers.items()},
        "query": _form(request.query),
        "hook": hook.name,
        "received_at": timestamp(request.received_at),
        "now": moment(request.received_at),
        **captures,
    }


def body_of(request: Request) -> Any:
    """Return the body as its content type says; raise HookError 400 where it isn't that."""
    kind = (request.headers.get("content-type") or ("",))[0].split(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return strict_json(request.body) if request.body else None
        except ValueError as exc:
            raise HookError(400, f"the body is not JSON: {exc}") from exc
    if kind == "application/x-www-form-urlencoded" and not request.body.lstrip().startswith(b"{"):  # `curl -d '{...}'` calls JSON a form
        return _form(request.body.decode("utf-8", "replace"))
    return decoded(request.body, "auto")


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
        topic = rule.topic.render(names)
        payload = _payload(rule, names, body)
    except (RenderError, UnicodeEncodeError) as exc:
        raise HookError(422, f"the request doesn't fit the mapping: {exc}") from exc
    if problem := topic_problem(topic):
        raise HookError(422, f"nothing can be published to this topic: {problem}")
    return Command(topic=topic, payload=payload, qos=rule.qos, retain=rule.retain, hop=hop)


def letter_of(hook: Hook, command: Command, *, id: str, now: float, begun: bool) -> Letter:
    """Return the letter that carries a command; *begun* if it is going to be published at once."""
    return Letter(
        id=id,
        lane=Lane.MQTT,
        mapping=hook.name,
        destination="mqtt",
        key=id,  # the connection keeps the order; one command never waits for another's answer
        content=command,
        created_at=now,
        expires_at=now + hook.rule.expires,
        begun_at=now if begun else None,
    )


def queued(id: str) -> Answer:
    """Return the answer to a command that is safe and waits."""
    return Answer(status=202, document={"id": id, "status": "queued"})


def answer_for(id: str, outcome: Outcome) -> Answer:
    """Return the answer to a command whose publishing came to *outcome*."""
    status = None if outcome.reply is None else outcome.reply.status
    match outcome.verdict:
        case Verdict.DELIVERED:
            heard = {} if status != NO_SUBSCRIBERS else {"heard": False}
            return Answer(status=200, document={"id": id, "status": "published", **heard})
        case Verdict.RETRY:
            return queued(id)
        case Verdict.EXPIRED:
            return Answer(status=504, document={"id": id, "detail": "it expired before it could be published"})
        case Verdict.DEAD:
            return Answer(status=403 if status == NOT_AUTHORIZED else 502, document={"id": id, "detail": outcome.reason})


def _payload(rule: Inbound, names: Mapping[str, Any], body: bytes) -> bytes:
    if rule.json_body is not None:
        return rule.json_body.render(names)
    return body if rule.text is None else rule.text.render(names).encode()


def _form(text: str) -> dict[str, str]:
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=200))
    except ValueError as exc:
        raise HookError(400, "more than 200 fields") from exc
