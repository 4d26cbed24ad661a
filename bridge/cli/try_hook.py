"""What `mqtthook try --hook` does: a request to a hook without a sender: what it would publish, and what the daemon answers to it."""

import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote_plus

import click

from bridge.cli.calling import reply_of
from bridge.cli.given import FORM, is_form
from bridge.cli.requests import side_of, target
from bridge.cli.signed import came_as, signed, unsigned
from bridge.config.settings import Settings
from bridge.errors import HookError, RenderError
from bridge.model import Event, Headers, Reply
from bridge.rules.inbound import TOKENS, Hook, command_for, names_of
from bridge.rules.requests import Request

HIDDEN = "(the secret)"


def tried_hook(settings: Settings, name: str, *, body: bytes, headers: Headers, url: str | None, send: bool) -> dict[str, Any]:
    """Return what would become of a request; raise click's UsageError where there is no such hook, or it can't be sent as it would have to be."""
    hook = _hook(settings, name)
    by = side_of(settings, name)
    plain = unsigned(by, body=body, headers=headers, content_type=_content_type(body), url=None if url is None else target(url))
    _expect_its_path(settings, hook, plain)
    entry: dict[str, Any] = {"mapping": name, "takes": True, "path": f"/{hook.pattern.text}", "verify": hook.verify.scheme}
    event, added = plain, Headers()
    try:
        event, added = signed(by, plain)
    except click.UsageError as exc:
        if send:
            raise
        entry["unsigned"] = exc.message
    entry["request"] = _shown(hook, plain, event, added, by.secrets)
    try:
        entry |= _published(hook, event, added)
    except HookError as exc:
        entry |= {"reason": f"{exc.status}: {exc.detail}", "error": True}
    if send:
        entry |= _sent(reply_of(settings.http, event, added))
    return {"hook": name, "mappings": [entry]}


def _hook(settings: Settings, name: str) -> Hook:
    hook = next((hook for hook in settings.hooks().all if hook.name == name), None)
    if hook is None:
        raise click.UsageError(f"there is no hook {name!r} that is switched on; known: {', '.join(settings.inbound) or 'none'}")
    return hook


def _expect_its_path(settings: Settings, hook: Hook, event: Event) -> None:
    path = target(event.url).partition("?")[0]
    try:
        found = settings.hooks().of(path)
    except HookError as exc:
        raise click.UsageError(f"--url: {exc.detail}: {path}; {hook.name} listens at /{hook.pattern.text}") from exc
    if found.name != hook.name:
        raise click.UsageError(f"--url: {path} is the path of the hook {found.name}; {hook.name} listens at /{hook.pattern.text}")


def _content_type(body: bytes) -> str:
    """Return what a sender would call a body: JSON where it is, or is meant to be, and a form where it looks like one; "" where there is none."""
    if is_form(body):
        return FORM
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return "application/json" if body.lstrip()[:1] in (b"{", b"[") else "text/plain" if body else ""
    return "application/json"


def _shown(hook: Hook, plain: Event, event: Event, added: Headers, secrets: tuple[str, ...]) -> dict[str, Any]:
    """Return the request without the secret, where that goes along as it is: `mqtthook sign` shows it."""
    tells = hook.verify.scheme in TOKENS
    url = event.url.replace(quote_plus(secrets[0]), HIDDEN) if tells and event.url != plain.url else event.url
    proof = {name: HIDDEN if tells and not name.startswith("webhook-") else value for name, value in added}
    return {"method": event.method, "url": url, "headers": dict(event.headers) | proof, "body": event.body.decode("utf-8", "replace")}


def _published(hook: Hook, event: Event, added: Headers) -> dict[str, Any]:
    path, _, query = target(event.url).partition("?")
    request = Request(path=path, query=query, headers=came_as(event, added), body=event.body, received_at=time.time())
    names = names_of(hook, request, id="cmd_dry_run")
    command = command_for(hook, names, event.body)
    if command is None:
        return {"reason": _why_filtered(hook, names)}
    first, *then = ({"topic": one.topic, "payload": one.payload.decode("utf-8", "replace"), "qos": one.qos, "retain": one.retain} for one in (command, *command.then))
    return {"publish": first | {"expires_s": hook.rule.expires}} | ({"then": then} if then else {})


def _why_filtered(hook: Hook, names: Mapping[str, Any]) -> str:
    assert hook.rule.when is not None
    try:
        hook.rule.when.holds(names)
    except RenderError as exc:
        return f"`when` counts as false: {exc}"
    return f"`when` is false: {hook.rule.when.text}"


def _sent(reply: Reply) -> dict[str, Any]:
    body = reply.body.decode("utf-8", "replace")
    return {
        "sent": {"status": reply.status, "took_s": round(reply.took_s, 3), "body": body, "error": reply.detail},
        "error": reply.status is None or not 200 <= reply.status < 300,
    }
