"""`mqtthook sign`: sign a request as a sender would, to try a hook by hand."""

import time
from typing import Any

import click

from bridge.cli.common import config_option, json_option, print_json
from bridge.cli.given import FORM, body_of, headers_given, is_form, new_event_id
from bridge.cli.requests import Side, moment, side, side_options, target
from bridge.model import Event, Headers
from bridge.rules.showing import curl
from bridge.rules.signing import SCHEMES, Signing, sign, signing_keys
from bridge.rules.signing.urls import BODY_HASH, address, body_hash


@click.command("sign")
@side_options
@click.option("--body", metavar="FILE", help="What is sent: a file, - for standard input, or the body itself.")
@click.option("--header", "headers", multiple=True, callback=headers_given, metavar="'NAME: VALUE'", help="A header to send along; may be given again.")
@click.option("--type", "content_type", help="The body's Content-Type; by default application/json, or a form's where the body looks like one.")
@click.option("--id", "id", help="The request's id; by default a new one.")
@click.option("--url", help="Where to; by default where the hook listens.")
@click.option("--method", help="The method; by default the hook's first one.")
@click.option("--at", callback=moment, metavar="TIME", help="The time of the signature: unix seconds, an instant, or so long ago; by default now.")
@click.option("--curl", "as_curl", is_flag=True, help="Print a whole curl command instead of the headers.")
@json_option
@config_option
def command(hook: str | None, scheme: str | None, secrets: tuple[str, ...], config: str | None, as_json: bool, as_curl: bool, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Print the headers of a request that a hook takes, or with --curl the whole command.

    \b
    Examples:
      mqtthook sign --hook garden --body '{"state": "on"}' --curl
      mqtthook sign --hook release --body push.json --header 'X-GitHub-Event: push' --curl
      mqtthook sign --scheme stripe --secret env:STRIPE_SECRET --body event.json
    """
    by = side(hook, scheme, secrets, config)
    event, signed = _signed(by, **more)
    headers = (*event.headers, *signed)
    if as_json:
        print_json({"method": event.method, "url": event.url, "headers": dict(headers), "curl": curl(event, signed)})
    elif as_curl:
        click.echo(curl(event, signed))
    else:
        for name, value in headers:
            click.echo(f"{name}: {value}")


def _signed(
    by: Side, *, body: str | None, headers: Headers, content_type: str | None, id: str | None, url: str | None, method: str | None, at: float | None
) -> tuple[Event, Headers]:
    how = by.how
    if SCHEMES[how.scheme].sign is None:
        raise click.UsageError(f"requests for verify = \"{how.scheme}\" can't be signed with headers: {_UNSIGNED[how.scheme]}")
    if SCHEMES[how.scheme].signing_key is not None and not by.by_hand:
        raise click.UsageError(f"the hook holds the public key, and {how.scheme} signs with the private one: give it with --secret")
    try:
        secret_keys = signing_keys(how.scheme, by.secrets, shortest=0)
    except ValueError as exc:
        raise click.UsageError(f"--secret: {exc}") from exc
    sent = body_of(body)
    content_type = content_type or (FORM if is_form(sent) else "application/json")
    way = Signing.model_validate(how.model_dump(include={"scheme", "header", "hash", "encoding", "prefix"}))
    to = url or by.base + by.path
    if how.scheme == "twilio" and sent and content_type != FORM and BODY_HASH not in to:
        to += f"{'&' if '?' in to else '?'}{BODY_HASH}={body_hash(sent)}"
    path, asks, query = target(to).partition("?")
    signed_url = to if how.public_url is None else address(how.public_url, path) + asks + query
    name = method or by.method
    signed = sign(way, secret_keys, id=id or new_event_id(), now=time.time() if at is None else at, body=sent, method=name, url=signed_url)
    event = Event(method=name, url=to, headers=(("Content-Type", content_type), *headers), body=sent)
    return event, signed


_UNSIGNED = {"mailgun": "the signature stands in the body", "query": "the token stands in the URL"}
