"""A request to a hook as its sender would make it: unsigned, and signed so that the hook takes it, or not at all."""

import time
from collections.abc import Mapping
from dataclasses import replace
from urllib.parse import parse_qsl, quote_plus, urlsplit

import click

from bridge.cli.given import FORM, new_event_id
from bridge.cli.requests import Side, target
from bridge.errors import SignatureError
from bridge.model import Event, Headers
from bridge.rules.signing import SCHEMES, Evidence, Signing, Verification, keys, sign, signing_keys, verify
from bridge.rules.signing.urls import BODY_HASH, address, body_hash

_UNSIGNED = {"mailgun": "the signature stands in the body"}


def unsigned(by: Side, *, body: bytes, headers: Headers, content_type: str, url: str | None, method: str | None = None) -> Event:
    """Return the request; *content_type* is what it says of its body where *headers* don't, "" for nothing."""
    said = content_type and not any(name.lower() == "content-type" for name, _ in headers)
    return Event(method=method or by.method, url=by.address(url), headers=((("Content-Type", content_type),) if said else ()) + headers, body=body)


def signed(by: Side, event: Event, *, id: str | None = None, at: float | None = None) -> tuple[Event, Headers]:
    """Return a request with what the signature adds to its URL, and the headers that sign it *at* a time, by default now.

    They replace those of the request, as of one that was captured; an id that stands there is kept, unless *id* is given.
    Raises click's UsageError where it can't be signed, or where the hook would refuse it all the same.
    """
    scheme, now = by.how.scheme, time.time() if at is None else at
    secret_keys = _keys(by)
    url = _url(by, event)
    way = Signing(scheme="none") if scheme == "query" else Signing.model_validate(by.how.model_dump(include={"scheme", "header", "hash", "encoding", "prefix"}))

    def added_with(id: str) -> Headers:
        return sign(way, secret_keys, id=id, now=now, body=event.body, method=event.method, url=_signed_url(by.how, url))

    new = new_event_id()
    named = {name.lower() for name, value in added_with(new) if value == new}  # headers with the id
    added = added_with(id or next((value for name, value in event.headers if name.lower() in named), new))
    replaced = {name.lower() for name, _ in added}
    event = replace(event, url=url, headers=tuple(header for header in event.headers if header[0].lower() not in replaced))
    if SCHEMES[scheme].signing_key is None:  # else what it is verified with isn't here
        _expect_taken(by, event, added, now)
    return event, added


def came_as(event: Event, added: Headers) -> Mapping[str, tuple[str, ...]]:
    """Return a request's headers as a hook sees them."""
    found: dict[str, tuple[str, ...]] = {}
    for name, value in (*event.headers, *added):
        found[name.lower()] = (*found.get(name.lower(), ()), value)
    return {"host": (urlsplit(event.url).netloc,)} | found


def _keys(by: Side) -> tuple[bytes, ...]:
    scheme = by.how.scheme
    if scheme in _UNSIGNED:
        raise click.UsageError(f"requests for verify = \"{scheme}\" can't be signed with headers: {_UNSIGNED[scheme]}")
    if SCHEMES[scheme].signing_key is not None and not by.by_hand:
        raise click.UsageError(f"the hook holds the public key, and {scheme} signs with the private one: give it with --secret to `mqtthook sign`")
    try:
        return signing_keys(scheme, by.secrets, shortest=0)
    except ValueError as exc:
        raise click.UsageError(f"--secret: {exc}") from exc


def _url(by: Side, event: Event) -> str:
    """Return the URL with what the scheme adds to its query: the token, or the hash of a body that is no form."""
    given = {name for name, _ in parse_qsl(urlsplit(event.url).query, keep_blank_values=True)}
    name, value = "", ""
    if by.how.scheme == "query":
        name, value = str(by.how.param), by.secrets[0]
    elif by.how.scheme == "twilio" and event.body and not _is_form(event.headers):
        name, value = BODY_HASH, body_hash(event.body)
    if not name or name in given:
        return event.url
    return f"{event.url}{'&' if '?' in event.url else '?'}{quote_plus(name)}={quote_plus(value)}"


def _is_form(headers: Headers) -> bool:
    return any(name.lower() == "content-type" and value.split(";")[0].strip().lower() == FORM for name, value in headers)


def _signed_url(how: Verification, url: str) -> str:
    """Return the URL as the sender has it."""
    path, asks, query = target(url).partition("?")
    return url if how.public_url is None else address(how.public_url, path) + asks + query


def _expect_taken(by: Side, event: Event, added: Headers, now: float) -> None:
    path, _, query = target(event.url).partition("?")
    evidence = Evidence(
        how=by.how,
        keys=keys(by.how.scheme, by.secrets, shortest=0),
        method=event.method,
        path=path,
        query=query,
        headers=came_as(event, added),
        body=event.body,
        now=now,
    )
    try:
        verify(evidence)
    except SignatureError as exc:
        in_time = f'; put the time into the body, in milliseconds: "webhookTimestamp": {int(now * 1000)}' if by.how.scheme == "linear" else ""
        raise click.UsageError(f"the hook would refuse this request: {exc}{in_time}") from exc
