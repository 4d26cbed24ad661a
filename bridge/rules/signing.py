"""Signatures, both ways, from one table of schemes.

Exactly the bytes sent are signed, exactly the bytes received are verified. `verify` is total: whatever
comes, it returns or raises SignatureError, and what it raises is for the log, never for the answer.
Source: Standard Webhooks 1.0.0 (standardwebhooks.com, spec/standard-webhooks.md).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from bridge.errors import SignatureError
from bridge.model import Headers
from bridge.rules.units import Duration, Slice

TOLERANCE_S = 300.0  # the specification's five minutes, to both sides
KEY_BYTES = (24, 64)  # the specification's bounds
TOKEN_BYTES = 8  # the shortest token that isn't guessed in an afternoon at the rate a hook allows
MAX_SIGNATURES = 8  # more than a rotation needs; bounds what one request can cost

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)  # int() would take "1_000", " 12" and full-width digits
_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # a header's name, RFC 9110 section 5.6.2

RequestHeaders = Mapping[str, Sequence[str]]  # names in lower case, each with every value that came


class Verification(Slice):
    """How a hook knows its sender; written as the scheme's name, or as a table with its options."""

    scheme: Literal["standard-webhooks", "bearer", "header", "none"]
    header: str | None = None
    tolerance: Duration = TOLERANCE_S

    @model_validator(mode="after")
    def _header_is_named(self) -> "Verification":
        if self.scheme == "header" and (self.header is None or not _TOKEN.fullmatch(self.header)):
            raise ValueError('expected the name of the header, as in verify = { scheme = "header", header = "X-Api-Key" }')
        if self.scheme != "header" and self.header is not None:
            raise ValueError('`header` goes with scheme = "header" only')
        return self


def _named(written: Any) -> Any:
    return {"scheme": written} if isinstance(written, str) else written


Verify = Annotated[Verification, BeforeValidator(_named)]
Sign = Annotated[Literal["standard-webhooks", "none"], Field()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a request is judged by: the hook's way and keys, and what came, when."""

    how: Verification
    keys: Sequence[bytes]
    headers: RequestHeaders
    body: bytes
    now: float


@dataclass(frozen=True, slots=True)
class Scheme:
    """One row: how its secret becomes a key, how it verifies, and how it signs (None: it doesn't)."""

    key: Callable[[str], bytes]
    verify: Callable[[Evidence], str | None]
    sign: Callable[[Sequence[bytes], str, float, bytes], Headers] | None = None


def keys(scheme: str, secrets: Sequence[str]) -> tuple[bytes, ...]:
    """Return the keys of *secrets* as *scheme* reads them; raise ValueError with what was expected."""
    if scheme == "none":
        return ()
    if not secrets:
        raise ValueError(f'{scheme} needs a secret: make one with `mqtthook secret new`, or write out "none"')
    return tuple(SCHEMES[scheme].key(secret) for secret in secrets)


def sign(scheme: str, secret_keys: Sequence[bytes], *, id: str, now: float, body: bytes) -> Headers:
    """Return the headers that sign one attempt: the id, the time of this attempt, a signature per key."""
    signer = SCHEMES[scheme].sign
    return signer(secret_keys, id, now, body) if signer else (("webhook-id", id), ("webhook-timestamp", str(int(now))))


def verify(evidence: Evidence) -> str | None:
    """Return the id that the sender gave its request, or None; raise SignatureError and nothing else."""
    return SCHEMES[evidence.how.scheme].verify(evidence)


def standard_key(secret: str) -> bytes:
    """Return the key of a Standard Webhooks secret: base64 of 24 to 64 bytes, `whsec_` before it."""
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("expected whsec_ and base64 after it: make one with `mqtthook secret new`") from exc
    low, high = KEY_BYTES
    if not low <= len(key) <= high:
        raise ValueError(f"this secret has {len(key)} bytes, expected {low} to {high}: make one with `mqtthook secret new`")
    return key


def new_secret(random_bytes: bytes) -> str:
    """Return a Standard Webhooks secret made of *random_bytes* (24 to 64 of them)."""
    return "whsec_" + base64.b64encode(random_bytes).decode()


def _token(secret: str) -> bytes:
    key = secret.encode("utf-8", "surrogateescape")
    if len(key) < TOKEN_BYTES:
        raise ValueError(f"this secret has {len(key)} bytes, expected at least {TOKEN_BYTES}: make one with `mqtthook secret new`")
    return key


def _standard_mac(key: bytes, id: str, timestamp: str, body: bytes) -> bytes:
    return hmac.digest(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256)


def _sign_standard(secret_keys: Sequence[bytes], id: str, now: float, body: bytes) -> Headers:
    timestamp = str(int(now))
    signatures = (b"v1," + base64.b64encode(_standard_mac(key, id, timestamp, body)) for key in secret_keys)
    return (
        ("webhook-id", id),
        ("webhook-timestamp", timestamp),
        ("webhook-signature", b" ".join(signatures).decode()),
    )


def _verify_standard(evidence: Evidence) -> str:
    id = _only(evidence.headers, "webhook-id")
    timestamp = _only(evidence.headers, "webhook-timestamp")
    signatures = _only(evidence.headers, "webhook-signature").split(" ")
    if not _ID.fullmatch(id):
        raise SignatureError("webhook-id is not 1 to 256 printable characters")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureError("webhook-timestamp is not a number of seconds")
    if len(signatures) > MAX_SIGNATURES:
        raise SignatureError(f"webhook-signature holds more than {MAX_SIGNATURES} signatures")
    given = [_base64(signature[3:]) for signature in signatures if signature.startswith("v1,")]
    wanted = [_standard_mac(key, id, timestamp, evidence.body) for key in evidence.keys]
    # Every pair is compared: the time taken tells nothing about which of them agreed.
    agreed = sum(hmac.compare_digest(one, other) for one in given for other in wanted)
    if not agreed:
        raise SignatureError("no signature agrees with a secret")
    if abs(evidence.now - int(timestamp)) > evidence.how.tolerance:
        raise SignatureError(f"webhook-timestamp is {evidence.now - int(timestamp):+.0f} s away from the clock here")
    return id


def _verify_bearer(evidence: Evidence) -> str | None:
    kind, _, token = _only(evidence.headers, "authorization").partition(" ")
    if kind.lower() != "bearer":
        raise SignatureError("authorization is not a bearer token")
    return _verify_token(token.strip(" "), evidence)


def _verify_header(evidence: Evidence) -> str | None:
    return _verify_token(_only(evidence.headers, str(evidence.how.header).lower()), evidence)


def _verify_none(evidence: Evidence) -> str | None:
    return _sender_id(evidence.headers)


def _verify_token(token: str, evidence: Evidence) -> str | None:
    # Hashed first: the comparison then takes the same time for a token of any length.
    given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    agreed = sum(hmac.compare_digest(given, hashlib.sha256(key).digest()) for key in evidence.keys)
    if not agreed:
        raise SignatureError("the token agrees with no secret")
    return _sender_id(evidence.headers)


def _sender_id(headers: RequestHeaders) -> str | None:
    """Return the id under which the sender wants its request to count once; schemes without a signed id take either header."""
    for name in ("webhook-id", "idempotency-key"):
        if name in headers:
            id = _only(headers, name)
            if not _ID.fullmatch(id):
                raise SignatureError(f"{name} is not 1 to 256 printable characters")
            return id
    return None


def _only(headers: RequestHeaders, name: str) -> str:
    values = headers.get(name, ())
    if len(values) != 1:
        raise SignatureError(f"{name} came {len(values)} times, expected once")
    return values[0]


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii", "replace"), validate=True)
    except (binascii.Error, ValueError):
        return b""


SCHEMES: Mapping[str, Scheme] = {
    "standard-webhooks": Scheme(standard_key, _verify_standard, _sign_standard),
    "bearer": Scheme(_token, _verify_bearer),
    "header": Scheme(_token, _verify_header),
    "none": Scheme(_token, _verify_none),
}
