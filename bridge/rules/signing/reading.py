"""How the parts of a request are read: strictly, and whatever comes ends in a value or a SignatureError.

Texts are compared as bytes, in constant time: `hmac.compare_digest` raises on a text that isn't ASCII.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

from bridge.errors import SignatureError, UnusableId
from bridge.rules.payloads import strict_json
from bridge.rules.signing.ways import TOLERANCE_S, Evidence, RequestHeaders

TOKEN_BYTES = 8  # a shorter secret is guessed in an afternoon at the rate a hook allows; it is warned about: some senders give no choice
MAX_SIGNATURES = 8  # more than a rotation needs; bounds what one request can cost
MAX_FIELDS = 200  # of a form or a query; a hook's own reading takes no more either
ID_DIGITS = 32  # 128 bits: no two requests meet by chance

_TIMESTAMP = re.compile(r"[0-9]{1,12}", re.ASCII)  # int() would take "1_000", " 12" and full-width digits
_MILLISECONDS = re.compile(r"[0-9]{1,15}", re.ASCII)
_ID = re.compile(r"[\x21-\x7e]{1,256}", re.ASCII)


def text_key(secret: str) -> bytes:
    """Return the key of a secret that is used as it stands, in UTF-8."""
    return secret.encode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    """Return the bytes that a server has read a text from; of a text that no server reads, any bytes."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def only(headers: RequestHeaders, name: str) -> str:
    """Return the value of a header that came exactly once."""
    values = headers.get(name, ())
    if len(values) != 1:
        raise SignatureError(f"{name} came {len(values)} times, expected once")
    return values[0]


def fields(text: str, what: str) -> list[tuple[str, str]]:
    """Return the fields of a form or a query, in their order; *what* is the text's name in the log."""
    try:
        return parse_qsl(text, keep_blank_values=True, max_num_fields=MAX_FIELDS, errors="surrogateescape")
    except ValueError as exc:  # of text that is no text (a lone surrogate), too
        raise SignatureError(f"{what} can't be read, or holds more than {MAX_FIELDS} fields") from exc


def is_form(evidence: Evidence) -> bool:
    """Return True if the body says that it is a form's fields, else False."""
    kind = (evidence.headers.get("content-type") or ("",))[0]
    return kind.split(";")[0].strip().lower() == "application/x-www-form-urlencoded"


def json_in(body: bytes) -> Any:
    """Return the value of a body that is JSON, or None where it isn't."""
    try:
        return strict_json(body)
    except ValueError:
        return None


def checked_id(id: str, name: str) -> str:
    """Return an id that can be kept, logged and answered with."""
    if not _ID.fullmatch(id):
        raise SignatureError(f"{name} is not 1 to 256 printable ASCII characters without a blank")
    return id


def sender_id(headers: RequestHeaders, *own: str) -> str | None:
    """Return the id under which the sender wants its request to count once, from its *own* header or one of everybody's.

    No signature covers it: for schemes that sign no id. Asked last, of a request that is right in all else: raise UnusableId
    where the id can't be kept.
    """
    for name in (*own, "webhook-id", "idempotency-key"):
        if name in headers:
            try:
                return checked_id(only(headers, name), name)
            except SignatureError as exc:
                raise UnusableId(str(exc)) from exc
    return None


def id_in(body: bytes, path: Sequence[str], form: re.Pattern[str] = _ID) -> str | None:
    """Return the id that stands in a signed body at *path* and has this form, or None."""
    value = json_in(body)
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, str) and form.fullmatch(value) and _ID.fullmatch(value) else None


def sealed(timestamp: str, body: bytes) -> str:
    """Return the seal of a request whose time is signed: a copy of it that somebody sends again has the same, whatever id it bears."""
    return "sig_" + hashlib.sha256(timestamp.encode() + b"." + body).hexdigest()[:ID_DIGITS]


def checked_timestamp(timestamp: str, name: str) -> str:
    """Return a timestamp that is a whole number of seconds, as text: that is what is signed."""
    if not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureError(f"{name} is not a number of seconds")
    return timestamp


def checked_milliseconds(timestamp: str, name: str) -> str:
    """Return a timestamp that is a whole number of milliseconds, as text."""
    if not _MILLISECONDS.fullmatch(timestamp):
        raise SignatureError(f"{name} is not a number of milliseconds")
    return timestamp


def expect_fresh(evidence: Evidence, at: float, name: str, *, within: float = TOLERANCE_S) -> None:
    """Raise SignatureError where an instant (unix seconds) is too far from now, to either side.

    *within* is the scheme's own tolerance, for hooks that name none.
    """
    age_s = evidence.now - at
    if abs(age_s) > (within if evidence.how.tolerance is None else evidence.how.tolerance):
        raise SignatureError(f"{name} is {age_s:+.0f} s away from the clock here")


def expect_few(signatures: Sequence[str], name: str) -> Sequence[str]:
    """Return the signatures of a list; raise SignatureError where there are more than anybody needs."""
    if len(signatures) > MAX_SIGNATURES:
        raise SignatureError(f"{name} holds more than {MAX_SIGNATURES} signatures")
    return signatures


def expect_agreement(given: Sequence[str], wanted: Sequence[str]) -> None:
    """Raise SignatureError where none of the *given* signatures is one of the *wanted*."""
    # Every pair is compared: the time taken tells nothing about which of them agreed.
    if not sum(hmac.compare_digest(bytes_of(one), other.encode()) for one in given for other in wanted):
        raise SignatureError("no signature agrees with a secret")


def from_base64(text: str) -> bytes:
    """Return the bytes of strict base64, or none where it isn't that."""
    try:
        return base64.b64decode(text.encode("ascii", "replace"), validate=True)
    except ValueError:
        return b""
