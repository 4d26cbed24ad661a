"""Responses: a receiver's answer as expressions see it, for `success`, `retry_after` and `reply`."""

from typing import Any

from bridge.model import Reply
from bridge.rules.payloads import strict_json

NAMES = ("response",)


def response_of(reply: Reply) -> dict[str, Any]:
    """Return what expressions see of a receiver's answer; `json` is there only where its body is JSON."""
    response: dict[str, Any] = {"status": reply.status, "headers": dict(reply.headers), "text": reply.body.decode("utf-8", "replace")}
    try:
        response["json"] = strict_json(reply.body)
    except ValueError:
        return response
    return response
