"""The table of schemes, and what is asked of it. A new scheme is one row; what no row knows is one good error at start."""

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from bridge.model import Headers
from bridge.rules.loops import HOP
from bridge.rules.signing import ed25519, macs, standard, tokens
from bridge.rules.signing.reading import text_key
from bridge.rules.signing.ways import Attempt, Evidence, Scheme, Signing, Verification, Way

# The bridge writes these itself, whatever signs: an own value would break the request or its signature.
OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "webhook-id", "webhook-timestamp", "webhook-signature", HOP})

SCHEMES = {
    "standard-webhooks": Scheme(
        key=standard.standard_key,
        verify=standard.verify_v1,
        sign=standard.sign_v1,
        options=("tolerance",),
        writes=("webhook-signature",),
    ),
    "standard-webhooks-v1a": Scheme(
        key=standard.public_key,
        signing_key=standard.private_key,
        verify=standard.verify_v1a,
        sign=standard.sign_v1a,
        options=("tolerance",),
        writes=("webhook-signature",),
        available=ed25519.library,
        without="needs a secret: whsk_ and base64 to sign, whpk_ and base64 to verify",
    ),
    "github": Scheme(key=text_key, verify=macs.verify_github, sign=macs.sign_github, writes=(macs.GITHUB.header, macs.GITHUB_ID)),
    "stripe": Scheme(key=text_key, verify=macs.verify_stripe, sign=macs.sign_stripe, options=("tolerance",), writes=(macs.STRIPE,)),
    "slack": Scheme(key=text_key, verify=macs.verify_slack, sign=macs.sign_slack, options=("tolerance",), writes=(macs.SLACK, macs.SLACK_TIME)),
    "hmac": Scheme(key=text_key, verify=macs.verify_hmac, sign=macs.sign_hmac, options=("header", "hash", "encoding", "prefix"), writes=(macs.HMAC_HEADER,)),
    "bearer": Scheme(key=text_key, verify=tokens.verify_bearer),
    "header": Scheme(
        key=text_key,
        verify=tokens.verify_header,
        options=("header",),
        needs={"header": 'expected the name of the header, as in verify = { scheme = "header", header = "X-Api-Key" }'},
    ),
    "none": Scheme(key=text_key, verify=tokens.verify_none, sign=lambda _attempt: ()),
}

_SIGNING = tuple(name for name, scheme in SCHEMES.items() if scheme.sign is not None)
_VERIFYING = tuple(SCHEMES)


def keys(scheme: str, secrets: Sequence[str]) -> tuple[bytes, ...]:
    """Return the keys to verify with, of *secrets* as *scheme* reads them; raise ValueError with what was expected."""
    return _keys(scheme, secrets, SCHEMES[scheme].key)


def signing_keys(scheme: str, secrets: Sequence[str]) -> tuple[bytes, ...]:
    """Return the keys to sign with, of *secrets* as *scheme* reads them; raise ValueError with what was expected."""
    return _keys(scheme, secrets, SCHEMES[scheme].signing_key or SCHEMES[scheme].key)


def sign(how: Signing | str, secret_keys: Sequence[bytes], *, id: str, now: float, body: bytes) -> Headers:
    """Return the headers that sign one attempt: the id, the time of this attempt, and what the scheme writes.

    *how* is a scheme's name, or a scheme with its options.
    """
    way = Signing(scheme=how) if isinstance(how, str) else how
    signer = SCHEMES[way.scheme].sign
    assert signer is not None, "checked when the settings were read"
    timestamp = str(int(now))
    attempt = Attempt(how=way, keys=secret_keys, id=id, timestamp=timestamp, body=body)
    return (("webhook-id", id), ("webhook-timestamp", timestamp), *signer(attempt))


def verify(evidence: Evidence) -> str | None:
    """Return the id that the sender gave its request, or None; raise SignatureError and nothing else."""
    return SCHEMES[evidence.how.scheme].verify(evidence)


def written_headers(how: Signing) -> frozenset[str]:
    """Return the names, in lower case, of every header that the bridge writes to a request that is signed so."""
    own = SCHEMES[how.scheme].writes if how.header is None else (how.header,)
    return OWN_HEADERS | {name.lower() for name in own}


def _keys(scheme: str, secrets: Sequence[str], read: Callable[[str], bytes]) -> tuple[bytes, ...]:
    if scheme == "none":
        return ()
    if not secrets:
        raise ValueError(f"{scheme} {SCHEMES[scheme].without}")
    return tuple(read(secret) for secret in secrets)


# --- what the config may say ---


def _named(written: Any) -> Any:
    # A number or `false` too: what is then said is that a scheme's name is expected, not a table.
    return {"scheme": written} if isinstance(written, str | int | float) else written


def _may_sign(how: Signing) -> Signing:
    _fits_together(how, _SIGNING)
    if how.header is not None and how.header.lower() in {*OWN_HEADERS, "content-type"}:
        raise ValueError(f"header: {how.header!r} is written by the bridge itself; choose another, such as {macs.HMAC_HEADER!r}")
    return how


def _may_verify(how: Verification) -> Verification:
    _fits_together(how, _VERIFYING)
    return how


def _fits_together(how: Way, known: Sequence[str]) -> None:
    if how.scheme not in known:
        raise ValueError(_unknown(how.scheme, known))
    scheme = SCHEMES[how.scheme]
    for option in sorted(how.model_fields_set - {"scheme", *scheme.options}):
        takers = " or ".join(f'"{name}"' for name in known if option in SCHEMES[name].options)
        raise ValueError(f'{option}: it doesn\'t go with scheme = "{how.scheme}"; did you mean scheme = {takers}?')
    for option, expected in scheme.needs.items():
        if getattr(how, option) is None:
            raise ValueError(expected)
    if scheme.available is not None:
        scheme.available()


def _unknown(scheme: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(scheme, known, 1)
    # Only what resembles a scheme is shown: what stands in its place may be a secret.
    return f'there is no scheme "{scheme}"; did you mean "{close[0]}"?' if close else f"there is no such scheme; known here: {', '.join(known)}"


Sign = Annotated[Signing, BeforeValidator(_named), AfterValidator(_may_sign)]
Verify = Annotated[Verification, BeforeValidator(_named), AfterValidator(_may_verify)]
