"""Standard Webhooks 1.0.0: v1 (HMAC-SHA256) and v1a (ed25519), over `id.timestamp.body`; and Svix, which names the headers otherwise.

Source: standard-webhooks/standard-webhooks, spec/standard-webhooks.md, "Signature scheme" and "Webhook headers". What is
in `whsk_` the specification leaves open: it is as in Svix' server, docs of `default_signature_type`, the seed and the
public key behind it; a seed alone, as `openssl` gives it out, will do too.
"""

import base64
import hashlib
import hmac
from collections.abc import Callable, Sequence

from bridge.errors import SignatureError
from bridge.model import Headers
from bridge.rules.signing import ed25519
from bridge.rules.signing.reading import checked_id, checked_timestamp, expect_few, expect_fresh, from_base64, only
from bridge.rules.signing.ways import Attempt, Evidence

KEY_BYTES = (24, 64)  # the specification's bounds
SVIX = "svix-signature"
SEED_BYTES = PUBLIC_BYTES = 32  # RFC 8032 section 5.1.5


def standard_key(secret: str) -> bytes:
    """Return the key of a Standard Webhooks secret: base64 of 24 to 64 bytes, `whsec_` before it."""
    key = _decoded(secret.removeprefix("whsec_"))
    if key is None:
        raise ValueError("expected whsec_ and base64 after it: make one with `mqtthook secret new`")
    low, high = KEY_BYTES
    if not low <= len(key) <= high:
        raise ValueError(f"this secret has {len(key)} bytes, expected {low} to {high}: make one with `mqtthook secret new`")
    return key


def new_secret(random_bytes: bytes) -> str:
    """Return a Standard Webhooks secret made of *random_bytes* (24 to 64 of them)."""
    return "whsec_" + base64.b64encode(random_bytes).decode()


def private_key(secret: str) -> bytes:
    """Return the seed of an ed25519 private key: `whsk_` and base64 of the seed, or of seed and public key."""
    key = _key_after("whsk_", secret, "an ed25519 private key, 32 or 64 bytes")
    seed, public = key[:SEED_BYTES], key[SEED_BYTES:]
    if len(seed) != SEED_BYTES or len(public) not in (0, PUBLIC_BYTES):
        raise ValueError(f"this key has {len(key)} bytes, expected {SEED_BYTES} (the seed) or {SEED_BYTES + PUBLIC_BYTES} (seed and public key)")
    if public and public != ed25519.public_of(seed):
        raise ValueError("the second half of this key is not the public key of the first: it is damaged")
    return seed


def public_key(secret: str) -> bytes:
    """Return an ed25519 public key: `whpk_` and base64 of its 32 bytes."""
    key = _key_after("whpk_", secret, "the sender's ed25519 public key, 32 bytes")
    if len(key) != PUBLIC_BYTES:
        raise ValueError(f"this key has {len(key)} bytes, expected {PUBLIC_BYTES}")
    return key


def sign_v1(attempt: Attempt) -> Headers:
    """Return the header with a signature for each key."""
    return (("webhook-signature", _signatures_v1(attempt)),)


def verify_v1(evidence: Evidence) -> str:
    """Return the id of a request that one of the keys has signed."""
    return _verified(evidence, "v1", _agreements_v1)


def sign_svix(attempt: Attempt) -> Headers:
    """Return Svix' own three headers."""
    return (("svix-id", attempt.id), ("svix-timestamp", attempt.timestamp), (SVIX, _signatures_v1(attempt)))


def verify_svix(evidence: Evidence) -> str:
    """Return the id of a request that one of the keys has signed; Svix' own headers count where its signature came in them."""
    return _verified(evidence, "v1", _agreements_v1, names="svix" if SVIX in evidence.headers else "webhook")


def sign_v1a(attempt: Attempt) -> Headers:
    """Return the header with an ed25519 signature for each key."""
    message = _message(attempt.id, attempt.timestamp, attempt.body)
    return (("webhook-signature", _written("v1a", [ed25519.signature_of(key, message) for key in attempt.keys])),)


def verify_v1a(evidence: Evidence) -> str:
    """Return the id of a request that the owner of one of the public keys has signed."""
    return _verified(evidence, "v1a", _agreements_v1a)


def _verified(evidence: Evidence, version: str, agreements: Callable[[bytes, bytes, Sequence[bytes]], int], *, names: str = "webhook") -> str:
    id = checked_id(only(evidence.headers, f"{names}-id"), f"{names}-id")
    timestamp = checked_timestamp(only(evidence.headers, f"{names}-timestamp"), f"{names}-timestamp")
    signatures = expect_few(only(evidence.headers, f"{names}-signature").split(" "), f"{names}-signature")
    start = f"{version},"
    given = [from_base64(signature.removeprefix(start)) for signature in signatures if signature.startswith(start)]
    message = _message(id, timestamp, evidence.body)
    # Every pair is compared: the time taken tells nothing about which of them agreed.
    if not sum(agreements(key, message, given) for key in evidence.keys):
        raise SignatureError("no signature agrees with a secret")
    expect_fresh(evidence, int(timestamp), f"{names}-timestamp")
    return id


def _agreements_v1(key: bytes, message: bytes, given: Sequence[bytes]) -> int:
    wanted = _mac(key, message)
    return sum(hmac.compare_digest(one, wanted) for one in given)


def _agreements_v1a(key: bytes, message: bytes, given: Sequence[bytes]) -> int:
    return sum(ed25519.agrees(key, message, one) for one in given)


def _signatures_v1(attempt: Attempt) -> str:
    message = _message(attempt.id, attempt.timestamp, attempt.body)
    return _written("v1", [_mac(key, message) for key in attempt.keys])


def _written(version: str, signatures: Sequence[bytes]) -> str:
    return " ".join(f"{version},{base64.b64encode(signature).decode()}" for signature in signatures)


def _message(id: str, timestamp: str, body: bytes) -> bytes:
    return f"{id}.{timestamp}.".encode() + body


def _mac(key: bytes, message: bytes) -> bytes:
    return hmac.digest(key, message, hashlib.sha256)


def _key_after(start: str, secret: str, what: str) -> bytes:
    key = _decoded(secret.removeprefix(start)) if secret.startswith(start) else None
    if key is None:
        raise ValueError(f"expected {start} and base64 after it: {what}")
    return key


def _decoded(text: str) -> bytes | None:
    """Return the bytes of base64, its padding left out or not, or None where it isn't that."""
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        return None
