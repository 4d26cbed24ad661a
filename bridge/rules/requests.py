"""Requests: what a caller sent, its path in segments, its body read as its content type says. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_to_bytes

from bridge.errors import HookError
from bridge.rules.callers import UNKNOWN
from bridge.rules.markup import strict_xml
from bridge.rules.payloads import decoded, one_meaning

MAX_FIELDS = 200  # of a query or form: no sender has as many, and each costs time

# A text's charset (RFC 9110 section 8.3.2), where it isn't UTF-8, which us-ascii is as well: what old senders write. Python's others may take long.
_CHARSETS = {"iso-8859-1": "latin-1", "latin1": "latin-1", "latin-1": "latin-1", "windows-1252": "cp1252", "cp1252": "cp1252"}
_CHARSET = re.compile(r'\s*text/[^;]*;(?:.*;)?\s*charset="?([A-Za-z0-9_-]+)"?\s*(?:;.*)?', re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What came to a hook, the body whole; *client* is the address that it came from, as far as that can be told."""

    path: str
    query: str
    headers: Mapping[str, tuple[str, ...]]
    body: bytes
    received_at: float
    client: str = UNKNOWN


def segments(raw_path: str) -> tuple[str, ...]:
    """Return a path's segments, percent-decoded once; raise HookError 400 where one isn't UTF-8."""
    try:
        return tuple(unquote_to_bytes(segment).decode() for segment in raw_path.removeprefix("/").split("/"))
    except UnicodeError as exc:
        raise HookError(400, "the path is not UTF-8") from exc


def body_of(request: Request) -> Any:
    """Return the body as its content type says; raise HookError 400 where it isn't that, 415 where it is of several parts."""
    kind = (request.headers.get("content-type") or ("",))[0].split(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        raise HookError(415, "a body of several parts (multipart) is not taken: send JSON, XML, a form (application/x-www-form-urlencoded), text or bytes")
    if kind == "application/json" or kind.endswith("+json"):
        try:
            return one_meaning(request.body) if request.body else None
        except ValueError as exc:
            raise HookError(400, f"the body is not JSON: {exc}") from exc
    if kind in ("application/xml", "text/xml") or kind.endswith("+xml"):
        try:
            return strict_xml(request.body) if request.body else None
        except ValueError as exc:
            raise HookError(400, f"the body is not XML: {exc}") from exc
    if kind == "application/x-www-form-urlencoded" and not request.body.lstrip().startswith(b"{"):  # `curl -d '{...}'` calls JSON a form
        return form_fields(request.body.decode("utf-8", "replace"))
    return decoded(_in_utf8(request), "auto")


def form_fields(text: str) -> dict[str, str]:
    """Return the fields of a form or a query, of one that came twice the last; raise HookError 400 where there are too many."""
    try:
        return dict(parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS))
    except ValueError as exc:
        raise HookError(400, f"more than {MAX_FIELDS} fields") from exc


def _in_utf8(request: Request) -> bytes:
    """Return a text in UTF-8, where it came in a charset that is known; anything else as it came."""
    charset = _CHARSET.fullmatch((request.headers.get("content-type") or ("",))[0])
    known = _CHARSETS.get(charset[1].lower()) if charset else None
    try:
        return request.body if known is None else request.body.decode(known).encode()
    except UnicodeDecodeError:  # windows-1252 has no sign for some bytes
        return request.body
