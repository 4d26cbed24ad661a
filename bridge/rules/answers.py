"""What goes back over HTTP: JSON, or a problem document (RFC 9457)."""

import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A status, a body and its type; `stream` is what follows the body for as long as it comes, None for nothing."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncGenerator[bytes, None] | None = None


def json_response(status: int, document: object, *, headers: Mapping[str, str] | None = None) -> Response:
    """Return *document* as JSON."""
    return Response(status=status, body=json.dumps(document, ensure_ascii=False).encode("utf-8", "replace"), headers=headers or {})


def problem(status: int, detail: str | None = None, *, headers: Mapping[str, str] | None = None, **more: object) -> Response:
    """Return a problem document; without *detail* it tells nothing but its status."""
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, **more}
    if detail is not None:
        document["detail"] = detail
    body = json.dumps(document, ensure_ascii=False).encode("utf-8", "replace")
    return Response(status=status, body=body, content_type="application/problem+json", headers=headers or {})
