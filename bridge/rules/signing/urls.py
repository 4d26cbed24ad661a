"""Signatures over a request's address: Twilio's and HubSpot's.

The address is the one under which the sender calls, which a proxy may have changed: `public_url` says it. Without one it
is put together of the Host header, for https and for http. Sources: twilio.com/docs, "Webhooks Security"; twilio-python,
twilio/request_validator.py; developers.hubspot.com, "Validating requests".
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator

from bridge.errors import SignatureError
from bridge.model import Headers
from bridge.rules.signing.reading import bytes_of, checked_milliseconds, expect_agreement, expect_fresh, fields, is_form, only, sealed, sender_id
from bridge.rules.signing.ways import Attempt, Evidence

TWILIO, TWILIO_ID, TWILIO_SETTINGS = "X-Twilio-Signature", "I-Twilio-Idempotency-Token", "X-Twilio-Webhooks-Signature-Settings"
HUBSPOT, HUBSPOT_TIME = "X-HubSpot-Signature-v3", "X-HubSpot-Request-Timestamp"
HUBSPOT_OLD, HUBSPOT_VERSION = "X-HubSpot-Signature", "X-HubSpot-Signature-Version"

BODY_HASH = "bodySHA256"  # Twilio's parameter, for bodies that are no form

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+)(?::[0-9]{1,5})?", re.ASCII)
_PARTS = re.compile(r"(https?)://(\[[^\]]*\]|[^/:?]+)(?::([0-9]+))?(.*)", re.DOTALL)
_PORTS = {"https": "443", "http": "80"}
_PLAIN = re.compile(r"%(3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)  # HubSpot signs these decoded


def urls_of(evidence: Evidence) -> list[str]:
    """Return each address under which the sender may have called."""
    query = f"?{evidence.query}" if evidence.query else ""
    if evidence.how.public_url is not None:
        return [address(evidence.how.public_url, evidence.path) + query]
    host = only(evidence.headers, "host")
    if not _HOST.fullmatch(host):
        raise SignatureError("host is not the name of a host")
    return [f"{kind}://{host}{evidence.path}{query}" for kind in _PORTS]


def address(public_url: str, path: str) -> str:
    """Return a hook's public address without its query: a host alone, or what ends in a slash, stands before the hook's own path."""
    whole = public_url.partition("?")[0]
    before = whole if "/" in whole.partition("://")[2] else whole + "/"
    return before + path.removeprefix("/") if before.endswith("/") else whole


# --- Twilio ---


def sign_twilio(attempt: Attempt) -> Headers:
    """Return the signature of the first key, over the fields of a body that is a form; of another body its hash is in the URL."""
    mac = _twilio(attempt.keys[0], attempt.url, b"" if BODY_HASH in attempt.url else _sorted_fields(attempt.body))
    return ((TWILIO, mac), (TWILIO_ID, attempt.id))


def verify_twilio(evidence: Evidence) -> str | None:
    """Return the sender's id. A body counts as signed by its fields, or by its hash in the URL."""
    given = only(evidence.headers, TWILIO.lower())
    hash = _twilio_hash(evidence)
    signed = _twilio_fields(evidence)
    urls = [variant for url in urls_of(evidence) for variant in _with_and_without_port(url)]
    expect_agreement([given], [_twilio(key, url, signed, hash) for key in evidence.keys for url in urls])
    return sender_id(evidence.headers, TWILIO_ID.lower())


def body_hash(body: bytes) -> str:
    """Return what Twilio puts into the URL for a body that is no form."""
    return hashlib.sha256(body).hexdigest()


def _twilio_fields(evidence: Evidence) -> bytes:
    hashes = [value for name, value in fields(evidence.query, "the query") if name == BODY_HASH]
    if not hashes and (is_form(evidence) or not evidence.body):
        return _sorted_fields(evidence.body)
    if len(hashes) != 1:
        raise SignatureError(f"{BODY_HASH} came {len(hashes)} times in the query, expected once: the body is no form")
    expect_agreement(hashes, [body_hash(evidence.body)])
    return b""


def _sorted_fields(body: bytes) -> bytes:
    pairs = fields(body.decode("utf-8", "surrogateescape"), "the form")
    return bytes_of("".join(name + value for name, value in sorted(set(pairs))))


def _twilio_hash(evidence: Evidence) -> str:
    """Return the hash of a signature; that of a shared key, instead of the auth token, may be SHA-256."""
    if TWILIO_SETTINGS.lower() not in evidence.headers:
        return "sha1"
    parts = [part.strip(" ") for part in only(evidence.headers, TWILIO_SETTINGS.lower()).split(",")]
    return "sha256" if "algorithm=HMAC_SHA256" in parts else "sha1"


def _twilio(key: bytes, url: str, signed: bytes, hash: str = "sha1") -> str:
    return base64.b64encode(hmac.digest(key, bytes_of(url) + signed, hash)).decode()


def _with_and_without_port(url: str) -> Iterator[str]:
    """Yield an address with its port and without: Twilio signs either."""
    if (found := _PARTS.fullmatch(url)) is None:
        yield url
        return
    kind, host, port, rest = found.groups()
    yield f"{kind}://{host}:{port or _PORTS[kind]}{rest}"
    yield f"{kind}://{host}{rest}"


# --- HubSpot ---


def sign_hubspot(attempt: Attempt) -> Headers:
    """Return time and signature (v3) of the first key."""
    timestamp = attempt.timestamp + "000"
    return ((HUBSPOT, _hubspot(attempt.keys[0], attempt.method, _plain(attempt.url), attempt.body, timestamp)), (HUBSPOT_TIME, timestamp))


def verify_hubspot(evidence: Evidence) -> str | None:
    """Return the sender's id. v3 counts where it came; else v2 or v1, whichever the request says it is.

    Those two hold no time: a hook that sets a tolerance takes v3 alone.
    """
    if HUBSPOT.lower() in evidence.headers or evidence.how.tolerance is not None:
        _verify_v3(evidence)
    else:
        _verify_older(evidence)
    return sender_id(evidence.headers)


def seal_hubspot(evidence: Evidence) -> str | None:
    """Return the seal of a request in v3."""
    return sealed(only(evidence.headers, HUBSPOT_TIME.lower()), evidence.body) if HUBSPOT.lower() in evidence.headers else None


def _verify_v3(evidence: Evidence) -> None:
    name = HUBSPOT_TIME.lower()
    timestamp = checked_milliseconds(only(evidence.headers, name), name)
    given = only(evidence.headers, HUBSPOT.lower())
    urls = [variant for url in urls_of(evidence) for variant in (url, _plain(url))]
    expect_agreement([given], [_hubspot(key, evidence.method, url, evidence.body, timestamp) for key in evidence.keys for url in urls])
    expect_fresh(evidence, int(timestamp) / 1000, name)


def _verify_older(evidence: Evidence) -> None:
    given = only(evidence.headers, HUBSPOT_OLD.lower())
    version = only(evidence.headers, HUBSPOT_VERSION.lower()) if HUBSPOT_VERSION.lower() in evidence.headers else "v1"
    if version not in ("v1", "v2"):
        raise SignatureError(f"{HUBSPOT_VERSION.lower()} is neither v1 nor v2")
    starts = [b""] if version == "v1" else [bytes_of(evidence.method + url) for url in urls_of(evidence)]
    expect_agreement([given], [hashlib.sha256(key + start + evidence.body).hexdigest() for key in evidence.keys for start in starts])


def _hubspot(key: bytes, method: str, url: str, body: bytes, timestamp: str) -> str:
    return base64.b64encode(hmac.digest(key, bytes_of(method + url) + body + timestamp.encode(), "sha256")).decode()


def _plain(url: str) -> str:
    return _PLAIN.sub(lambda found: chr(int(found[1], 16)), url)
