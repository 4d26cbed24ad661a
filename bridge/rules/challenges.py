"""Challenges: what senders ask before they send, to see that the hook is theirs to use, and what is answered.

Nothing is echoed to a stranger: a challenge that its sender signs is answered once its signature is verified, Meta's by its
own token, and the others only where the config asks for them. Echoes are bounded, plain text, and never anything a browser
would run. Sources: docs.slack.dev, `url_verification`; developers.zoom.us, "Validate your webhook endpoint"; Discord's
developer docs, "Receiving Interactions" and "Webhook Events"; Meta for Developers, "Webhooks, Getting Started";
learn.microsoft.com, "Change notifications"; cloudevents/spec, http-webhook.md section 4.
"""

import hmac
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridge.errors import HookError, SignatureError
from bridge.rules.answers import Response, json_response
from bridge.rules.inbound import Hook
from bridge.rules.requests import Request
from bridge.rules.signing import Evidence, verify
from bridge.rules.signing.reading import bytes_of, fields, json_in

MAX_ECHO = 2_048  # characters; Microsoft's tokens have some hundred, the others fewer

# Zoom's answer is a MAC of this: with a colon or a dot in it, it could be the message of a signature.
_PLAIN_TOKEN = re.compile(r"[0-9A-Za-z_=+/-]{1,256}", re.ASCII)
_ORIGIN = re.compile(r"[0-9A-Za-z.-]{1,253}", re.ASCII)  # a DNS name, as the specification says; it goes into a header


def greeted(hook: Hook, method: str, request: Request) -> Response | None:
    """Return the answer to what a sender asks without a signature, whatever the hook's `methods`, or None if it asks nothing.

    Raise SignatureError where Meta's token is wrong, and HookError 400 where the question can't be read.
    """
    if method == "GET" and hook.rule.verify_token is not None:
        return _meta(request.query, bytes_of(hook.rule.verify_token.get_secret_value()))
    if method == "OPTIONS" and hook.rule.challenge == "cloudevents":
        return _cloudevents(request.headers, hook.rule.methods)
    return None


def challenged(evidence: Evidence, challenge: str | None) -> Response | None:
    """Return the answer to a verified request that is a challenge, or None where it is none.

    *challenge* is what the config asks for beside what the scheme's own sender does, or the scheme's own name, which changes nothing.
    """
    if challenge == "graph":
        return _graph(evidence.query)
    answer = _OF_SCHEMES.get(evidence.how.scheme)
    if answer is None:
        return None
    body = json_in(evidence.body)
    return answer(evidence, body) if isinstance(body, dict) else None


def _meta(query: str, token: bytes) -> Response | None:
    asked = _query(query)
    if asked.get("hub.mode") != "subscribe":
        return None
    if not hmac.compare_digest(bytes_of(asked.get("hub.verify_token", "")), token):
        raise SignatureError("hub.verify_token is not the verify_token", status=403)
    return _echo(asked.get("hub.challenge", ""))


def _graph(query: str) -> Response | None:
    token = _query(query).get("validationToken")
    return None if token is None else _echo(token)


def _cloudevents(headers: Mapping[str, tuple[str, ...]], methods: tuple[str, ...]) -> Response:
    origins = headers.get("webhook-request-origin", ())
    if len(origins) != 1 or not _ORIGIN.fullmatch(origins[0]):
        raise HookError(400, "expected one WebHook-Request-Origin, the name of a host")
    return Response(status=200, body=b"", content_type="text/plain", headers={"Allow": ", ".join(methods), "WebHook-Allowed-Origin": origins[0], "WebHook-Allowed-Rate": "*"})


def _slack(_evidence: Evidence, body: Mapping[str, Any]) -> Response | None:
    challenge = body.get("challenge")
    return _echo(challenge) if body.get("type") == "url_verification" and isinstance(challenge, str) else None


def _zoom(evidence: Evidence, body: Mapping[str, Any]) -> Response | None:
    if body.get("event") != "endpoint.url_validation":
        return None
    payload = body.get("payload")
    token = payload.get("plainToken") if isinstance(payload, dict) else None
    if not isinstance(token, str) or not _PLAIN_TOKEN.fullmatch(token):
        raise HookError(400, "expected a plainToken of letters and digits")
    return json_response(200, {"plainToken": token, "encryptedToken": hmac.digest(_key_of(evidence), token.encode(), "sha256").hex()})


def _discord(_evidence: Evidence, body: Mapping[str, Any]) -> Response | None:
    match body:
        case {"type": 0}:  # the ping of webhook events, whose events are of type 1
            return Response(status=204, body=b"", content_type="text/plain")
        case {"type": 1} if "event" not in body:  # the ping of interactions
            return json_response(200, {"type": 1})
    return None


def _key_of(evidence: Evidence) -> bytes:
    """Return the key that signed a request: in a rotation the answer has to be made with the same."""
    for key in evidence.keys:
        try:
            verify(replace(evidence, keys=[key]))
        except SignatureError:
            continue
        return key
    raise SignatureError("no signature agrees with a secret")


def _query(query: str) -> dict[str, str]:
    """Return the parameters of a query; one that came twice is none."""
    pairs = fields(query, "the query")
    times = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if times[name] == 1}


def _echo(text: str) -> Response:
    if not 0 < len(text) <= MAX_ECHO:
        raise HookError(400, f"expected a challenge of 1 to {MAX_ECHO} characters")
    return Response(status=200, body=bytes_of(text), content_type="text/plain; charset=utf-8", headers={"X-Content-Type-Options": "nosniff"})


_OF_SCHEMES: Mapping[str, Callable[[Evidence, Mapping[str, Any]], Response | None]] = {"slack": _slack, "zoom": _zoom, "discord": _discord}
