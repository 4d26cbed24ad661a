"""Tokens: a secret that the request brings along, or none. They protect neither the body nor against replays."""

import hashlib
import hmac

from bridge.errors import SignatureError
from bridge.rules.signing.reading import only, sender_id
from bridge.rules.signing.ways import Evidence


def verify_bearer(evidence: Evidence) -> str | None:
    """Return the sender's id. The word's case doesn't matter (RFC 9110 section 11.1)."""
    kind, _, token = only(evidence.headers, "authorization").partition(" ")
    if kind.lower() != "bearer":
        raise SignatureError("authorization is not a bearer token")
    return _verified(token.strip(" "), evidence)


def verify_header(evidence: Evidence) -> str | None:
    """Return the sender's id, where the header that the config names holds the secret."""
    return _verified(only(evidence.headers, str(evidence.how.header).lower()), evidence)


def verify_none(evidence: Evidence) -> str | None:
    """Return the sender's id: anybody may be the sender."""
    return sender_id(evidence.headers)


def _verified(token: str, evidence: Evidence) -> str | None:
    # Hashed first: the comparison then takes the same time for a token of any length.
    given = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
    agreed = sum(hmac.compare_digest(given, hashlib.sha256(key).digest()) for key in evidence.keys)
    if not agreed:
        raise SignatureError("the token agrees with no secret")
    return sender_id(evidence.headers)
