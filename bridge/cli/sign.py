"""`mqtthook sign`: sign a request as a sender would, to try a hook by hand."""

from typing import Any

import click

from bridge.cli.common import config_option, json_option, print_json
from bridge.cli.given import FORM, body_of, headers_given, is_form
from bridge.cli.requests import Side, moment, side, side_options
from bridge.cli.signed import signed, unsigned
from bridge.model import Event, Headers
from bridge.rules.showing import curl


@click.command("sign")
@side_options
@click.option("--body", metavar="FILE", help="What is sent: a file, - for standard input, or the body itself.")
@click.option("--header", "headers", multiple=True, callback=headers_given, metavar="'NAME: VALUE'", help="A header to send along; may be given again.")
@click.option("--type", "content_type", help="The body's Content-Type; by default application/json, or a form's where the body looks like one.")
@click.option("--id", "id", help="The request's id; by default a new one.")
@click.option("--url", help="Where to: a URL, or its path and query; by default where the hook listens.")
@click.option("--method", help="The method; by default the hook's first one.")
@click.option("--at", callback=moment, metavar="TIME", help="The time of the signature: unix seconds, an instant, or so long ago; by default now.")
@click.option("--curl", "as_curl", is_flag=True, help="Print a whole curl command instead of the headers.")
@json_option
@config_option
def command(hook: str | None, scheme: str | None, secrets: tuple[str, ...], config: str | None, as_json: bool, as_curl: bool, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Print the headers of a request that a hook takes, or with --curl the whole command.

    Where a part of the proof stands in the URL, that comes first. JSON: method, url, headers, curl.

    \b
    Examples:
      mqtthook sign --hook garden --body '{"state": "on"}' --curl
      mqtthook sign --hook release --body push.json --header 'X-GitHub-Event: push' --curl
      mqtthook sign --scheme stripe --secret env:STRIPE_SECRET --body event.json
    """
    by = side(hook, scheme, secrets, config)
    plain, event, added = _signed(by, **more)
    headers = (*event.headers, *added)
    by_hand = curl(event, added, socket_file=by.reached_in(more["url"]))
    if as_json:
        print_json({"method": event.method, "url": event.url, "headers": dict(headers), "curl": by_hand})
    elif as_curl:
        click.echo(by_hand)
    else:
        if event.url != plain.url:  # it holds a part of the proof
            click.echo(f"{event.method} {event.url} HTTP/1.1")
        for name, value in headers:
            click.echo(f"{name}: {value}")


def _signed(
    by: Side, *, body: str | None, headers: Headers, content_type: str | None, id: str | None, url: str | None, method: str | None, at: float | None
) -> tuple[Event, Event, Headers]:
    """Return the request before it was signed, as it is then, and the headers that sign it."""
    sent = body_of(body)
    plain = unsigned(by, body=sent, headers=headers, content_type=content_type or (FORM if is_form(sent) else "application/json"), url=url, method=method)
    return plain, *signed(by, plain, id=id, at=at)
