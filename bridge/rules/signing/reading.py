"""How the parts of a request are read: strictly, and whatever comes ends in a value or a SignatureError.

Texts are compared as bytes, in constant time: `hmac.compare_digest` raises on a text that isn't ASCII.
"""

import base64
import hmac
import re
from collections.abc import Sequence

from bridge.errors import SignatureError
from bridge.rules.signing.ways import Evidence, RequestHeaders

TOKEN_BYTES = 8  # the shortest secret that isn't guessed in an afternoon at the rate a hook allows
MAX_SIGNATURES = 8  # more than a rotation needs; bounds what one request can cost

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)  # int() would take "1_000", " 12" and full-width digits
_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


def text_key(secret: str) -> bytes:
    """Return the key of a secret that is used as it stands, in UTF-8; raise ValueError where it is short."""
    key = secret.encode("utf-8", "surrogateescape")
    if len(key) < TOKEN_BYTES:
        raise ValueError(f"this secret has {len(key)} bytes, expected at least {TOKEN_BYTES}: make one with `mqtthook secret new`")
    return key


def only(headers: RequestHeaders, name: str) -> str:
    """Return the value of a header that came exactly once."""
    values = headers.get(name, ())
    if len(values) != 1:
        raise SignatureError(f"{name} came {len(values)} times, expected once")
    return values[0]


def checked_id(id: str, name: str) -> str:
    """Return an id that can be kept, logged and answered with."""
    if not _ID.fullmatch(id):
        raise SignatureError(f"{name} is not 1 to 256 printable characters")
    return id


def sender_id(headers: RequestHeaders, *own: str) -> str | None:
    """Return the id under which the sender wants its request to count once, from its *own* header or one of everybody's.

    No signature covers it: for schemes that sign no id.
    """
    for name in (*own, "webhook-id", "idempotency-key"):
        if name in headers:
            return checked_id(only(headers, name), name)
    return None


def checked_timestamp(timestamp: str, name: str) -> str:
    """Return a timestamp that is a whole number of seconds, as text: that is what is signed."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureError(f"{name} is not a number of seconds")
    return timestamp


def expect_fresh(evidence: Evidence, timestamp: str, name: str) -> None:
    """Raise SignatureError where a timestamp is too far from now, to either side."""
    age_s = evidence.now - int(timestamp)
    if abs(age_s) > evidence.how.tolerance:
        raise SignatureError(f"{name} is {age_s:+.0f} s away from the clock here")


def expect_few(signatures: Sequence[str], name: str) -> Sequence[str]:
    """Return the signatures of a list; raise SignatureError where there are more than anybody needs."""
    if len(signatures) > MAX_SIGNATURES:
        raise SignatureError(f"{name} holds more than {MAX_SIGNATURES} signatures")
    return signatures


def expect_agreement(given: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise SignatureError where none of the *given* signatures is one of the *wanted*."""
    # Every pair is compared: the time taken tells nothing about which of them agreed.
    if not sum(hmac.compare_digest(one.encode("utf-8", "surrogatepass"), other.encode()) for one in given for other in wanted):
        raise SignatureError("no signature agrees with a secret")


def from_base64(text: str) -> bytes:
    """Return the bytes of strict base64, or none where it isn't that."""
    try:
        return base64.b64decode(text.encode("ascii", "replace"), validate=True)
    except ValueError:
        return b""
