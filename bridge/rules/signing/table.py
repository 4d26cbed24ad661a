"""The table of schemes, and what is asked of it. A new scheme is one row; what no row knows is one good error at start."""

import difflib
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from bridge.model import Headers
from bridge.rules.loops import HOP
from bridge.rules.signing import ed25519, macs, stamped, standard, tokens, urls
from bridge.rules.signing.reading import text_key
from bridge.rules.signing.ways import Attempt, Evidence, Scheme, Signing, Verification, Way

# The bridge writes these itself, whatever signs: an own value would break the request or its signature.
OWN_HEADERS = frozenset({"host", "content-length", "transfer-encoding", "connection", "webhook-id", "webhook-timestamp", "webhook-signature", HOP})

def _body_mac(row: macs.BodyMac, *, outbound: bool = False) -> Scheme:
    return Scheme(key=text_key, verify=row.verify, sign=row.sign, outbound=outbound, writes=row.writes)


def _versioned(row: stamped.Versioned, *, outbound: bool = False) -> Scheme:
    return Scheme(key=text_key, verify=row.verify, seal=row.seal, sign=row.sign, outbound=outbound, options=("tolerance",), writes=row.writes)


SCHEMES = {
    "standard-webhooks": Scheme(
        key=standard.standard_key,
        verify=standard.verify_v1,
        sign=standard.sign_v1,
        outbound=True,
        options=("tolerance",),
        writes=("webhook-signature",),
    ),
    "standard-webhooks-v1a": Scheme(
        key=standard.public_key,
        signing_key=standard.private_key,
        verify=standard.verify_v1a,
        sign=standard.sign_v1a,
        outbound=True,
        options=("tolerance",),
        writes=("webhook-signature",),
        available=ed25519.library,
        without="needs a secret: whsk_ and base64 to sign, whpk_ and base64 to verify",
    ),
    "svix": Scheme(
        key=standard.standard_key,
        verify=standard.verify_svix,
        sign=standard.sign_svix,
        options=("tolerance",),
        writes=(standard.SVIX, "svix-id", "svix-timestamp"),
    ),
    "github": _body_mac(macs.GITHUB, outbound=True),
    "gitlab": Scheme(key=tokens.gitlab_key, verify=tokens.verify_gitlab, sign=tokens.sign_gitlab, options=("tolerance",), writes=(tokens.GITLAB,)),
    "gitea": _body_mac(macs.GITEA),
    "stripe": Scheme(
        key=text_key,
        verify=stamped.verify_stripe,
        seal=stamped.seal_stripe,
        sign=stamped.sign_stripe,
        outbound=True,
        options=("tolerance",),
        writes=(stamped.STRIPE,),
    ),
    "slack": _versioned(stamped.SLACK, outbound=True),
    "shopify": _body_mac(macs.SHOPIFY),
    "twilio": Scheme(key=text_key, verify=urls.verify_twilio, sign=urls.sign_twilio, options=("public_url",), writes=(urls.TWILIO, urls.TWILIO_ID)),
    "discord": Scheme(
        key=stamped.discord_key,
        signing_key=stamped.discord_seed,
        verify=stamped.verify_discord,
        seal=stamped.seal_discord,
        sign=stamped.sign_discord,
        options=("tolerance",),
        writes=(stamped.DISCORD, stamped.DISCORD_TIME),
        available=ed25519.library,
        without="needs a secret: the application's public key, 64 hexadecimal digits",
    ),
    "hubspot": Scheme(
        key=text_key,
        verify=urls.verify_hubspot,
        seal=urls.seal_hubspot,
        sign=urls.sign_hubspot,
        options=("tolerance", "public_url"),
        writes=(urls.HUBSPOT, urls.HUBSPOT_TIME),
    ),
    "linear": Scheme(
        key=text_key,
        verify=stamped.verify_linear,
        seal=stamped.seal_linear,
        sign=stamped.sign_linear,
        options=("tolerance",),
        writes=(stamped.LINEAR, stamped.LINEAR_ID),
    ),
    "pagerduty": _body_mac(macs.PAGERDUTY),
    "mailgun": Scheme(key=text_key, verify=stamped.verify_mailgun, options=("tolerance",)),
    "typeform": _body_mac(macs.TYPEFORM),
    "zoom": _versioned(stamped.ZOOM),
    "meta": _body_mac(macs.META),
    "hmac": Scheme(
        key=text_key,
        verify=macs.verify_hmac,
        sign=macs.sign_hmac,
        outbound=True,
        options=("header", "hash", "encoding", "prefix"),
        writes=(macs.HMAC_HEADER,),
    ),
    "bearer": Scheme(key=text_key, verify=tokens.verify_bearer, sign=tokens.sign_bearer, writes=(tokens.AUTHORIZATION,)),
    "basic": Scheme(
        key=tokens.basic_key,
        verify=tokens.verify_basic,
        sign=tokens.sign_basic,
        writes=(tokens.AUTHORIZATION,),
        without='needs a secret: user and password as "user:password"',
    ),
    "header": Scheme(
        key=text_key,
        verify=tokens.verify_header,
        sign=tokens.sign_header,
        options=("header",),
        needs={"header": 'expected the name of the header, as in verify = { scheme = "header", header = "X-Api-Key" }'},
    ),
    "query": Scheme(
        key=text_key,
        verify=tokens.verify_query,
        options=("param",),
        needs={"param": 'expected the name of the parameter, as in verify = { scheme = "query", param = "token" }'},
    ),
    "none": Scheme(key=text_key, verify=tokens.verify_none, sign=lambda _attempt: (), outbound=True),
}

_SIGNING = tuple(name for name, scheme in SCHEMES.items() if scheme.outbound)
_VERIFYING = tuple(SCHEMES)


def keys(scheme: str, secrets: Sequence[str], *, shortest: int = 1) -> tuple[bytes, ...]:
    """Return the keys to verify with, of *secrets* as *scheme* reads them; raise ValueError with what was expected.

    A key of less than *shortest* bytes is refused.
    """
    return _keys(scheme, secrets, SCHEMES[scheme].key, shortest)


def signing_keys(scheme: str, secrets: Sequence[str], *, shortest: int = 1) -> tuple[bytes, ...]:
    """Return the keys to sign with, of *secrets* as *scheme* reads them; raise ValueError with what was expected."""
    return _keys(scheme, secrets, SCHEMES[scheme].signing_key or SCHEMES[scheme].key, shortest)


def sign(how: Signing | str, secret_keys: Sequence[bytes], *, id: str, now: float, body: bytes, method: str = "POST", url: str = "") -> Headers:
    """Return the headers that sign one attempt: the id, the time of this attempt, and what the scheme writes.

    *how* is a scheme's name, or a scheme with its options. Method and URL count for schemes that sign them, none of a destination's.
    """
    way = Signing(scheme=how) if isinstance(how, str) else how
    signer = SCHEMES[way.scheme].sign
    assert signer is not None, "checked when the settings or the options were read"
    timestamp = str(int(now))
    attempt = Attempt(how=way, keys=secret_keys, id=id, timestamp=timestamp, body=body, method=method, url=url)
    return (("webhook-id", id), ("webhook-timestamp", timestamp), *signer(attempt))


def verify(evidence: Evidence) -> str | None:
    """Return the id that the sender gave its request, or its seal, or None; raise SignatureError and nothing else."""
    scheme = SCHEMES[evidence.how.scheme]
    return scheme.verify(evidence) or scheme.seal(evidence)


def seal(evidence: Evidence) -> str | None:
    """Return what a request that is verified has in common with each copy of it, whatever id that bears.

    None where the id is signed, so that no copy can bear another, and where no time is, so that two requests may be alike.
    """
    return SCHEMES[evidence.how.scheme].seal(evidence)


def written_headers(how: Signing) -> frozenset[str]:
    """Return the names, in lower case, of every header that the bridge writes to a request that is signed so."""
    own = SCHEMES[how.scheme].writes if how.header is None else (how.header,)
    return OWN_HEADERS | {name.lower() for name in own}


def _keys(scheme: str, secrets: Sequence[str], read: Callable[[str], bytes], shortest: int) -> tuple[bytes, ...]:
    if scheme == "none":
        return ()
    if not secrets:
        raise ValueError(f"{scheme} {SCHEMES[scheme].without}")
    found = tuple(read(secret) for secret in secrets)
    if any(len(key) < shortest for key in found):
        raise ValueError("this secret is empty: make one with `mqtthook secret new`")
    return found


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
