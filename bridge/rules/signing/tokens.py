"""Tokens: a secret that the request brings along, or none. They protect neither the body nor against replays."""

import base64
import hashlib
import hmac
from dataclasses import replace

from bridge.errors import SignatureError
from bridge.model import Headers
from bridge.rules.signing import standard
from bridge.rules.signing.reading import bytes_of, fields, from_base64, only, sender_id, text_key
from bridge.rules.signing.ways import Attempt, Evidence

GITLAB = "X-Gitlab-Token"
AUTHORIZATION = "Authorization"

_SIGNING_TOKEN = b"whsec_"  # what GitLab's signing tokens begin with


def sign_bearer(attempt: Attempt) -> Headers:
    """Return the header with the first secret."""
    return ((AUTHORIZATION, f"Bearer {_text(attempt.keys[0])}"),)


def verify_bearer(evidence: Evidence) -> str | None:
    """Return the sender's id. The word's case doesn't matter (RFC 9110 section 11.1)."""
    return _verified(_credentials(evidence, "bearer", "a bearer token"), evidence)


def basic_key(secret: str) -> bytes:
    """Return what stands in the header, encoded: user and password, with a colon between."""
    user, colon, password = secret.partition(":")
    if not (user and colon and password):
        raise ValueError('expected user and password as "user:password"')
    return text_key(secret)


def sign_basic(attempt: Attempt) -> Headers:
    """Return the header with the first user and password."""
    return ((AUTHORIZATION, "Basic " + base64.b64encode(attempt.keys[0]).decode()),)


def verify_basic(evidence: Evidence) -> str | None:
    """Return the sender's id. Source: RFC 7617, in UTF-8."""
    return _verified(from_base64(_credentials(evidence, "basic", "user and password")), evidence)


def sign_header(attempt: Attempt) -> Headers:
    """Return the header that the config names, with the first secret."""
    return ((str(attempt.how.header), _text(attempt.keys[0])),)


def verify_header(evidence: Evidence) -> str | None:
    """Return the sender's id, where the header that the config names holds the secret."""
    return _verified(only(evidence.headers, str(evidence.how.header).lower()), evidence)


def verify_query(evidence: Evidence) -> str | None:
    """Return the sender's id, where the query's parameter that the config names holds the secret."""
    param = str(evidence.how.param)
    given = [value for name, value in fields(evidence.query, "the query") if name == param]
    if len(given) != 1:
        raise SignatureError(f"the query holds {param} {len(given)} times, expected once")
    return _verified(given[0], evidence)


def gitlab_key(secret: str) -> bytes:
    """Return GitLab's secret token as it stands; a signing token is looked at, and stays as it stands too."""
    if secret.startswith(_SIGNING_TOKEN.decode()):
        standard.standard_key(secret)
    return text_key(secret)


def sign_gitlab(attempt: Attempt) -> Headers:
    """Return what the first secret asks for: the token, or a signature with the signing token."""
    if attempt.keys[0].startswith(_SIGNING_TOKEN):
        return standard.sign_v1(replace(attempt, keys=[standard.standard_key(_text(attempt.keys[0]))]))
    return ((GITLAB, _text(attempt.keys[0])),)


def verify_gitlab(evidence: Evidence) -> str | None:
    """Return the sender's id. With a signing token only a signature counts, with a secret token only that token.

    Source: docs.gitlab.com, "Webhooks": `X-Gitlab-Token`, and for signing tokens Standard Webhooks.
    """
    signing = [standard.standard_key(_text(key)) for key in evidence.keys if key.startswith(_SIGNING_TOKEN)]
    plain = [key for key in evidence.keys if not key.startswith(_SIGNING_TOKEN)]
    if signing and ("webhook-signature" in evidence.headers or not plain):
        return standard.verify_v1(replace(evidence, keys=signing))
    return _verified(only(evidence.headers, GITLAB.lower()), replace(evidence, keys=plain))


def verify_none(evidence: Evidence) -> str | None:
    """Return the sender's id: anybody may be the sender."""
    return sender_id(evidence.headers)


def _credentials(evidence: Evidence, scheme: str, what: str) -> str:
    kind, _, credentials = only(evidence.headers, AUTHORIZATION.lower()).partition(" ")
    if kind.lower() != scheme:
        raise SignatureError(f"authorization is not {what}")
    return credentials.strip(" ")


def _verified(token: str | bytes, evidence: Evidence) -> str | None:
    # Hashed first: the comparison then takes the same time for a token of any length.
    given = hashlib.sha256(bytes_of(token) if isinstance(token, str) else token).digest()
    agreed = sum(hmac.compare_digest(given, hashlib.sha256(spelling).digest()) for key in evidence.keys for spelling in _spellings(key))
    if not agreed:
        raise SignatureError("the token agrees with no secret")
    return sender_id(evidence.headers)


def _spellings(key: bytes) -> tuple[bytes, ...]:
    """Return the bytes that senders make of a secret: in UTF-8, or in Latin-1 as many HTTP libraries write headers."""
    if key.isascii():
        return (key,)
    try:
        return (key, key.decode().encode("latin-1"))
    except UnicodeError:
        return (key,)


def _text(key: bytes) -> str:
    return key.decode("utf-8", "surrogateescape")
