"""Test vectors: requests in a JSON list, each with its secret and whether it is to be accepted, judged as a hook would.

A vector has `id`, `scheme`, `secret`, `headers` (a table, each value a text or a list of them; or a list of pairs), `method`, `url`,
`body` (null: empty), `body_encoding` ("utf-8" or "base64"), `now` (unix seconds; null: no time is checked), `tolerance` (seconds; null:
the scheme's own), `valid`, and where it has any `options` and `expect_response`. Its secrets may be shorter than a hook's.

Each vector is counted: one that asks for what no hook knows is skipped, one that can't be read has failed. Pure.
"""

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, get_args

from pydantic import SecretStr, ValidationError

from bridge.errors import HookError, SignatureError
from bridge.rules.answers import Response, problem
from bridge.rules.challenges import challenged, greeted
from bridge.rules.inbound import Hook, Inbound, evidence_of
from bridge.rules.requests import Request
from bridge.rules.signing import SCHEMES, Verification, keys, verify
from bridge.rules.signing.reading import bytes_of, json_in
from bridge.rules.signing.tokens import GITLAB
from bridge.rules.topics import Filter
from bridge.rules.units import MAX_DURATION_S

NAMES = {"header-token": "header", "query-token": "query"}  # as the vectors call them, where that isn't our name

MAX_SECONDS = 2.0**53  # past it a number of seconds says less than one; no float is needed for infinity or what is no number

_REQUIRED = ("scheme", "secret", "headers", "body", "valid")
_MAY_BE_NULL = frozenset({"secret", "body"})  # beside what may be missing
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("scheme", "method", "url", "body", "body_encoding"), str),
    **dict.fromkeys(("options", "expect_response"), dict),
    **dict.fromkeys(("now", "tolerance"), (int, float)),
    "secret": (str, list),
    "headers": (dict, list),
    "valid": bool,
}
_NAMED: Mapping[Any, str] = {
    str: "a text",
    dict: "a table",
    bool: "true or false",
    (int, float): "a number",
    (str, list): "a text or a list of texts",
    (dict, list): "a table or a list of pairs",
}
_OPTIONS = ("header", "hash", "encoding", "prefix", "param", "public_url")
_CHOICES = {name: get_args(Verification.model_fields[name].annotation) for name in ("hash", "encoding")}
_DEFAULTS = {"header": {"header": GITLAB}, "query": {"param": "access_token"}}  # GitLab's, and CloudEvents' (http-webhook.md, section 3.2)

# Who asks, by what only its requests hold: a header, or a parameter in the URL.
_CHALLENGERS = {"x-signature-ed25519": "discord", "x-slack-signature": "slack", "x-zm-signature": "zoom"}


class Result(StrEnum):
    """What came of a vector."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What came of a vector, and why; no reason where it passed."""

    id: str
    scheme: str
    result: Result
    reason: str = ""


def findings(document: Any) -> list[Finding]:
    """Return what came of every vector in a list; raise ValueError where it is none."""
    if not isinstance(document, list):
        raise ValueError(f"expected a list of vectors, found {_kind(document)}")
    return [_found(vector, n) for n, vector in enumerate(document, 1)]


def _found(vector: Any, n: int) -> Finding:
    id, scheme = f"number {n}", ""
    try:
        if not isinstance(vector, dict):
            raise ValueError(f"expected a table, found {_kind(vector)}")
        id = str(vector.get("id", id))
        scheme = _scheme(vector)
        result, reason = _judged(vector, scheme)
    except ValidationError as exc:
        result, reason = Result.FAILED, "; ".join(error["msg"].removeprefix("Value error, ") for error in exc.errors())
    except ValueError as exc:
        result, reason = Result.FAILED, str(exc)
    return Finding(id=id, scheme=scheme, result=result, reason=reason)


def _scheme(vector: Mapping[str, Any]) -> str:
    """Return our name of a vector's scheme; raise ValueError where something that every vector has is missing."""
    if missing := [name for name in _REQUIRED if name not in vector]:
        raise ValueError(f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    _expect_kind("scheme", vector["scheme"])
    return NAMES.get(vector["scheme"], str(vector["scheme"]))


def _expect_kinds(vector: Mapping[str, Any]) -> None:
    for name in _KINDS:
        if vector.get(name) is not None or (name in _REQUIRED and name not in _MAY_BE_NULL):
            _expect_kind(name, vector[name])
    if vector.get("body_encoding") not in (None, "utf-8", "base64"):
        raise ValueError('body_encoding: expected "utf-8" or "base64"')
    if (named := (vector.get("expect_response") or {}).get("headers")) is not None and not isinstance(named, dict):
        raise ValueError(f"expect_response.headers: expected a table, found {_kind(named)}")


def _expect_kind(name: str, value: object) -> None:
    kinds = _KINDS[name]
    if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
        raise ValueError(f"{name}: expected {_NAMED[kinds]}, found {_kind(value)}")
    if isinstance(value, int | float) and not -MAX_SECONDS <= value <= MAX_SECONDS:  # of what is no number, too
        raise ValueError(f"{name}: expected a number of seconds")


def _judged(vector: Mapping[str, Any], scheme: str) -> tuple[Result, str]:
    if scheme != "challenge" and scheme not in SCHEMES:  # whose vectors may look otherwise
        return Result.SKIPPED, f'no hook knows the scheme "{scheme}"'
    _expect_kinds(vector)
    if scheme == "challenge":
        return _judged_challenge(vector)
    if (lacking := _lacking(scheme) or _unknown(vector, scheme)) is not None:
        return Result.SKIPPED, lacking
    hook, request = hook_of(vector, scheme), request_of(vector)
    try:
        id = verify(evidence_of(hook, vector.get("method") or "POST", request, now=request.received_at))
    except SignatureError as exc:
        return (Result.FAILED, f"expected to be accepted, was refused: {exc}") if vector["valid"] else (Result.PASSED, "")
    return (Result.PASSED, "") if vector["valid"] else (Result.FAILED, f"expected to be refused, was accepted{f' as {id}' if id else ''}")


def _judged_challenge(vector: Mapping[str, Any]) -> tuple[Result, str]:
    request, method = request_of(vector), vector.get("method") or "POST"
    asker = next((asker for name, asker in _CHALLENGERS.items() if name in request.headers), None)
    asker = asker or ("meta" if "hub.mode=" in request.query else "graph" if "validationToken=" in request.query else "cloudevents" if method == "OPTIONS" else None)
    if asker is None:
        return Result.SKIPPED, "nobody asks such a challenge"
    if (lacking := _lacking(asker)) is not None:
        return Result.SKIPPED, lacking
    answer = _answer(hook_of(vector, asker), method, request)
    differs = "; ".join(_differences(vector.get("expect_response") or {}, answer))
    return (Result.FAILED, f"as a challenge of {asker}: {differs}") if differs else (Result.PASSED, "")


def _lacking(scheme: str) -> str | None:
    """Return what has to be installed for a scheme, None if nothing is missing."""
    available = SCHEMES[scheme].available if scheme in SCHEMES else None
    try:
        if available is not None:
            available()
    except ValueError as exc:
        return str(exc)
    return None


def _unknown(vector: Mapping[str, Any], scheme: str) -> str | None:
    """Return which of a vector's options asks for what no hook knows, None if none does."""
    given = dict(_options(vector, scheme))
    written = {"hash": str(given.get("hash", "sha256")).lower(), "encoding": given.get("encoding", "hex")}
    return next((f'no hook knows the {name} "{given[name]}"' for name, known in _CHOICES.items() if written[name] not in known), None)


def _answer(hook: Hook, method: str, request: Request) -> Response:
    try:
        if (greeting := greeted(hook, method, request)) is not None:
            return greeting
        evidence = evidence_of(hook, method, request, now=request.received_at)
        verify(evidence)
        return challenged(evidence, hook.rule.challenge) or problem(404, "it is no challenge")
    except SignatureError as exc:
        return problem(exc.status)
    except HookError as exc:
        return problem(exc.status, exc.detail)


def _differences(expected: Mapping[str, Any], answer: Response) -> Iterator[str]:
    if (status := expected.get("status", answer.status)) != answer.status:
        yield f"expected the status {status}, was {answer.status}"
    if not answer.content_type.startswith(str(expected.get("content_type", ""))):
        yield f"expected the type {expected['content_type']}, was {answer.content_type}"
    given = {name.lower(): value for name, value in answer.headers.items()}
    for name, value in (expected.get("headers") or {}).items():
        if given.get(name.lower()) != value:
            yield f"expected {name}: {value}, was {given.get(name.lower())}"
    if (body := expected.get("body")) is not None and str(body).encode() != answer.body:
        yield f"expected the body {body!r}, was {answer.body!r}"
    if (document := expected.get("json")) is not None and document != json_in(answer.body):
        yield f"expected the JSON {document}, was {answer.body!r}"


# --- what a vector describes ---


def hook_of(vector: Mapping[str, Any], scheme: str) -> Hook:
    """Return the hook that a vector means, past the config's own bound for the length of secrets."""
    secret = vector["secret"]
    secrets = [] if secret is None else [str(one) for one in secret] if isinstance(secret, list) else [str(secret)]
    if scheme not in SCHEMES:  # the one who asks isn't a scheme: it signs nothing
        rule = Inbound.model_validate({"verify": "none", "topic": "vectors", "challenge": scheme})
        return Hook(name="vector", rule=rule, pattern=Filter.parse("vector"), keys=())
    rule = Inbound.model_validate({"verify": {"scheme": scheme, **dict(_options(vector, scheme))}, "topic": "vectors"})
    update: dict[str, Any] = {"verify": rule.verify.model_copy(update=dict(_more(vector, scheme)))}
    if scheme == "meta" and (tokens := [(vector.get("options") or {}).get("verify_token"), *secrets]):
        update["verify_token"] = next((SecretStr(str(token)) for token in tokens if token is not None), None)
    return Hook(name="vector", rule=rule.model_copy(update=update), pattern=Filter.parse("vector"), keys=_keys(scheme, secrets))


def _options(vector: Mapping[str, Any], scheme: str) -> Iterator[tuple[str, Any]]:
    given = {name: value for name, value in (vector.get("options") or {}).items() if value is not None}
    for name, value in (_DEFAULTS.get(scheme, {}) | given).items():
        if name in _OPTIONS and name in SCHEMES[scheme].options:
            yield name, str(value).partition(" (")[0] if name == "prefix" else value  # prose may follow a prefix


def _more(vector: Mapping[str, Any], scheme: str) -> Iterator[tuple[str, Any]]:
    known = SCHEMES[scheme].options
    if "public_url" in known and (vector.get("options") or {}).get("public_url") is None:
        whole = (vector.get("url") or "").partition("?")[0]
        yield "public_url", whole if not whole.endswith("/") else "/".join(whole.split("/")[:3])
    if "tolerance" in known and vector.get("tolerance") is not None:
        yield "tolerance", float(vector["tolerance"])
    elif "tolerance" in known and vector.get("now") is None and scheme != "hubspot":  # whose older versions hold no time, and are refused where there is a tolerance
        yield "tolerance", MAX_DURATION_S


def _keys(scheme: str, secrets: list[str]) -> tuple[bytes, ...]:
    """Return the keys; none where a secret is unfit, so that nothing agrees with it."""
    try:
        return keys(scheme, secrets, shortest=0)
    except ValueError:
        return ()


def request_of(vector: Mapping[str, Any]) -> Request:
    """Return the request of a vector; raise ValueError where its headers or its body aren't what they say."""
    path, _, query = ("/" + (vector.get("url") or "").partition("://")[2].partition("/")[2]).partition("?")
    headers: dict[str, tuple[str, ...]] = {}
    for name, value in _headers(vector["headers"]):
        headers[name.lower()] = (*headers.get(name.lower(), ()), value)
    return Request(path=path, query=query, headers=headers, body=_body(vector), received_at=float(vector.get("now") or 0))


def _headers(written: Mapping[str, Any] | list[Any]) -> Iterator[tuple[str, str]]:
    for pair in written.items() if isinstance(written, Mapping) else written:
        name, values = pair if isinstance(pair, tuple | list) and len(pair) == 2 else (None, None)
        for value in values if isinstance(values, list) else [values]:
            if not (isinstance(name, str) and isinstance(value, str | int | float)):
                raise ValueError("headers: expected pairs of a name and a value, both texts")
            yield name, str(value)


def _body(vector: Mapping[str, Any]) -> bytes:
    if vector["body"] is None:
        return b""
    if vector.get("body_encoding") != "base64":
        return bytes_of(vector["body"])
    try:
        return base64.b64decode(vector["body"], validate=True)
    except ValueError as exc:
        raise ValueError("body: it is not base64") from exc


def _kind(value: object) -> str:
    return {dict: "a table", list: "a list", str: "a text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
