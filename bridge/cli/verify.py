"""`mqtthook verify`: why a signature is refused; and test vectors, judged as hooks judge requests."""

import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import click

from bridge.cli.common import config_option, json_option, print_json
from bridge.cli.given import body_of, file_data
from bridge.cli.requests import Side, moment, request_of, side, side_options
from bridge.errors import BridgeError, SignatureError
from bridge.rules.signing import Evidence, keys, verify
from bridge.rules.signing.diagnosis import hints
from bridge.rules.vectors import Finding, Result, findings


@click.command("verify")
@side_options
@click.option("--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="A header that came; may be given again.")
@click.option("--headers", "headers_file", metavar="FILE", help="Headers from a file: lines as `curl -v` or a sender's log show them, or JSON; - for standard input.")
@click.option("--body", metavar="FILE", help="The body that came, byte for byte: a file, - for standard input, or the body itself.")
@click.option("--url", help="The URL that was called, or its path and query.")
@click.option("--method", help="The method; by default the hook's own.")
@click.option("--at", callback=moment, metavar="TIME", help="When it came: unix seconds, an instant, or so long ago; by default now.")
@click.option("--vectors", metavar="FILE", help="Instead of one request: a JSON list of test vectors.")
@json_option
@config_option
def command(vectors: str | None, hook: str | None, scheme: str | None, secrets: tuple[str, ...], config: str | None, as_json: bool, at: float | None, **more: Any) -> None:  # noqa: FBT001 - click passes them by name
    """Tell whether a hook takes a request's signature, and why not. It exits 1 if it doesn't, or if a vector failed.

    JSON: scheme, method, path, headers and body_bytes (how many came), accepted, id, reason, hints; of --vectors passed, failed,
    skipped, and findings (id, scheme, result, reason) of those that did not pass.

    \b
    Examples:
      mqtthook verify --hook garden --headers came.txt --body came.json
      mqtthook verify --hook garden --header 'X-Hub-Signature-256: sha256=...' --body came.json --at 1764000000
      mqtthook verify --scheme stripe --secret env:STRIPE_SECRET --headers came.txt --body came.json
      mqtthook verify --vectors signature-vectors.json
    """
    if vectors is not None:
        if hook is not None or scheme is not None:
            raise click.UsageError("give --vectors alone")
        sys.exit(_told(_judged(Path(vectors)), as_json=as_json))
    if more["headers_file"] == more["body"] == "-":
        raise click.UsageError("only one of --headers and --body can be standard input")
    found = _explained(side(hook, scheme, secrets, config), at=time.time() if at is None else at, **more)
    if as_json:
        print_json(found)
    else:
        _print(found)
    sys.exit(0 if found["accepted"] else 1)


def _explained(by: Side, *, headers: tuple[str, ...], headers_file: str | None, body: str | None, url: str | None, method: str | None, at: float) -> dict[str, Any]:
    came_by, request = request_of(by, headers=headers, file=headers_file, body=body_of(body), url=url, method=method, at=at)
    try:
        secret_keys = keys(by.how.scheme, by.secrets, shortest=0)
    except ValueError as exc:
        raise click.BadParameter(f"--secret: {exc}") from exc
    evidence = Evidence(
        how=by.how, keys=secret_keys, method=came_by, path=request.path, query=request.query, headers=request.headers, body=request.body, now=request.received_at
    )
    told = {"scheme": by.how.scheme, "method": came_by, "path": request.path, "headers": len(request.headers), "body_bytes": len(request.body)}
    try:
        return told | {"accepted": True, "id": verify(evidence), "reason": None, "hints": []}
    except SignatureError as exc:
        return told | {"accepted": False, "id": None, "reason": str(exc), "hints": hints(evidence, by.secrets)}


def _print(found: dict[str, Any]) -> None:
    if found["accepted"]:
        counts = f"its id is {found['id']}" if found["id"] else "it has no id, so a repeat would count as a new one"
        click.echo(f"accepted: the request is right for {found['scheme']}; {counts}")
        return
    click.echo(f"refused: {found['reason']}")
    for hint in found["hints"]:
        click.echo(f"  - {hint}")


def _judged(path: Path) -> list[Finding]:
    try:
        return findings(json.loads(file_data(path)))
    except RecursionError as exc:
        raise BridgeError(f"{path}: it nests too deep") from exc
    except ValueError as exc:
        what = "it is not JSON: " if isinstance(exc, json.JSONDecodeError | UnicodeDecodeError) else ""
        raise BridgeError(f"{path}: {what}{exc}") from exc


def _told(found: list[Finding], *, as_json: bool) -> int:
    """Print what came of the vectors, and return the exit code."""
    counts = Counter(finding.result for finding in found)
    if as_json:
        wrong = [{"id": finding.id, "scheme": finding.scheme, "result": finding.result, "reason": finding.reason} for finding in found if finding.result is not Result.PASSED]
        print_json({"passed": counts[Result.PASSED], "failed": counts[Result.FAILED], "skipped": counts[Result.SKIPPED], "findings": wrong})
        return int(counts[Result.FAILED] > 0)
    for finding in found:
        if finding.result is Result.FAILED:
            click.echo(f"{finding.id} ({finding.scheme}): {finding.reason}" if finding.scheme else f"{finding.id}: {finding.reason}")
    for reason, count in Counter(finding.reason for finding in found if finding.result is Result.SKIPPED).items():
        click.echo(f"skipped {count}: {reason}")
    click.echo(f"{counts[Result.PASSED]} passed, {counts[Result.FAILED]} failed, {counts[Result.SKIPPED]} skipped")
    return int(counts[Result.FAILED] > 0)
