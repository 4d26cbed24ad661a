"""Signatures over a body with its time: Stripe, Slack, Zoom, Linear, Mailgun; and Discord's, with ed25519.

What is signed is checked before its time is, so that a time tells nothing about a signature. Sources: docs.stripe.com,
"Verify webhook signatures manually"; docs.slack.dev, "Verifying requests from Slack"; developers.zoom.us, "Verify with
Zoom's header"; linear.app/developers, "Webhooks"; documentation.mailgun.com, "Securing webhooks"; Discord's developer
docs, "Validating Security Request Headers".
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bridge.errors import SignatureError
from bridge.model import Headers
from bridge.rules.signing import ed25519
from bridge.rules.signing.reading import (
    bytes_of,
    checked_id,
    checked_timestamp,
    expect_agreement,
    expect_few,
    expect_fresh,
    fields,
    id_in,
    is_form,
    json_in,
    only,
    sealed,
    sender_id,
    text_key,
)
from bridge.rules.signing.ways import Attempt, Evidence

STRIPE = "Stripe-Signature"
LINEAR, LINEAR_ID = "Linear-Signature", "Linear-Delivery"
DISCORD, DISCORD_TIME = "X-Signature-Ed25519", "X-Signature-Timestamp"

LINEAR_TOLERANCE_S = 60.0  # what Linear's own page says
MAX_MILLISECONDS = 10**15  # thirty thousand years: past it a float says less than a second

# A body of another sender, or of another bridge, may hold an `id` that means its device: only what can be theirs is taken.
_STRIPE_EVENT = re.compile(r"evt_[0-9A-Za-z_]+", re.ASCII)
_SLACK_EVENT = re.compile(r"Ev[0-9A-Z]+", re.ASCII)
_SNOWFLAKE = re.compile(r"[0-9]{15,20}", re.ASCII)
_KEY = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}", re.ASCII)  # Discord's; bytes.fromhex would take blanks in between


def sign_stripe(attempt: Attempt) -> Headers:
    """Return time and signatures, one for each key."""
    signatures = ",".join(f"v1={_hex(key, _stamped(attempt.timestamp, attempt.body))}" for key in attempt.keys)
    return ((STRIPE, f"t={attempt.timestamp},{signatures}"),)


def verify_stripe(evidence: Evidence) -> str | None:
    """Return the event's id, or the sender's; what is neither `t` nor `v1` is another version, and passed over."""
    name = STRIPE.lower()
    parts = _stripe_parts(evidence)
    timestamp = checked_timestamp(_stripe_time(parts), f"the time in {name}")
    given = expect_few([value for key, value in parts if key == "v1"], name)
    expect_agreement(given, [_hex(key, _stamped(timestamp, evidence.body)) for key in evidence.keys])
    expect_fresh(evidence, int(timestamp), f"the time in {name}")
    return id_in(evidence.body, ("id",), _STRIPE_EVENT) or sender_id(evidence.headers)


def seal_stripe(evidence: Evidence) -> str | None:
    """Return the seal of a request without an event's id."""
    return None if id_in(evidence.body, ("id",), _STRIPE_EVENT) else sealed(_stripe_time(_stripe_parts(evidence)), evidence.body)


def _stripe_parts(evidence: Evidence) -> list[tuple[str, str]]:
    parts = (part.strip(" ").partition("=") for part in only(evidence.headers, STRIPE.lower()).split(","))
    return [(key, value) for key, _, value in parts]


def _stripe_time(parts: Sequence[tuple[str, str]]) -> str:
    times = [value for key, value in parts if key == "t"]
    if len(times) != 1:
        raise SignatureError(f"{STRIPE.lower()} holds {len(times)} times, expected one")
    return times[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versioned:
    """A sender that signs `v0:time:body`, and writes time and signature into a header each."""

    header: str
    time: str
    id_path: tuple[str, ...] = ()

    def sign(self, attempt: Attempt) -> Headers:
        """Return time and signature of the first key."""
        return ((self.header, self._of(attempt.keys[0], attempt.timestamp, attempt.body)), (self.time, attempt.timestamp))

    def verify(self, evidence: Evidence) -> str | None:
        """Return the event's id, or the sender's."""
        name = self.time.lower()
        timestamp = checked_timestamp(only(evidence.headers, name), name)
        expect_agreement([only(evidence.headers, self.header.lower())], [self._of(key, timestamp, evidence.body) for key in evidence.keys])
        expect_fresh(evidence, int(timestamp), name)
        return self._signed_id(evidence) or sender_id(evidence.headers)

    def seal(self, evidence: Evidence) -> str | None:
        """Return the seal of a request without an event's id."""
        return None if self._signed_id(evidence) else sealed(only(evidence.headers, self.time.lower()), evidence.body)

    def _signed_id(self, evidence: Evidence) -> str | None:
        return id_in(evidence.body, self.id_path, _SLACK_EVENT) if self.id_path else None

    @property
    def writes(self) -> tuple[str, ...]:
        """Return the headers that it writes."""
        return (self.header, self.time)

    def _of(self, key: bytes, timestamp: str, body: bytes) -> str:
        return "v0=" + _hex(key, b"v0:" + timestamp.encode() + b":" + body)


SLACK = Versioned(header="X-Slack-Signature", time="X-Slack-Request-Timestamp", id_path=("event_id",))
ZOOM = Versioned(header="x-zm-signature", time="x-zm-request-timestamp")


def sign_linear(attempt: Attempt) -> Headers:
    """Return the signature of the first key, and the delivery's id; the time is in the body, if it is to be accepted."""
    return ((LINEAR, _hex(attempt.keys[0], attempt.body)), (LINEAR_ID, attempt.id))


def verify_linear(evidence: Evidence) -> str | None:
    """Return the delivery's id. The time counts that is signed, in the body: Linear-Timestamp isn't."""
    expect_agreement([only(evidence.headers, LINEAR.lower())], [_hex(key, evidence.body) for key in evidence.keys])
    body = json_in(evidence.body)
    at_ms = body.get("webhookTimestamp") if isinstance(body, dict) else None
    if type(at_ms) is not int or not 0 <= at_ms < MAX_MILLISECONDS:
        raise SignatureError("webhookTimestamp in the body is not a number of milliseconds")
    expect_fresh(evidence, at_ms / 1000, "webhookTimestamp in the body", within=LINEAR_TOLERANCE_S)
    return sender_id(evidence.headers, LINEAR_ID.lower())


def seal_linear(evidence: Evidence) -> str:
    """Return the seal of a request: its body holds the time."""
    return sealed("", evidence.body)


def verify_mailgun(evidence: Evidence) -> str:
    """Return the token: Mailgun signs it with the time, both in the body, and nothing else of the body."""
    found = _mailgun(evidence)
    timestamp, token, signature = (_text_of(found.get(name)) for name in ("timestamp", "token", "signature"))
    checked_timestamp(timestamp, "the timestamp in the body")
    checked_id(token, "the token in the body")
    expect_agreement([signature], [_hex(key, bytes_of(timestamp + token)) for key in evidence.keys])
    expect_fresh(evidence, int(timestamp), "the timestamp in the body")
    return token


def discord_key(secret: str) -> bytes:
    """Return an application's public key: 32 bytes in hexadecimal, as Discord's portal shows it."""
    if not _KEY.fullmatch(secret):
        raise ValueError("expected the application's public key, 64 hexadecimal digits")
    return bytes.fromhex(secret)


def discord_seed(secret: str) -> bytes:
    """Return the seed of a private key: 32 bytes in hexadecimal. Discord keeps its own; this is for trying a hook out."""
    if not _KEY.fullmatch(secret):
        raise ValueError("expected the seed of a private key, 64 hexadecimal digits")
    return bytes.fromhex(secret)


def sign_discord(attempt: Attempt) -> Headers:
    """Return time and signature of the first key, which is a seed here."""
    signature = ed25519.signature_of(attempt.keys[0], text_key(attempt.timestamp) + attempt.body)
    return ((DISCORD, signature.hex()), (DISCORD_TIME, attempt.timestamp))


def verify_discord(evidence: Evidence) -> str | None:
    """Return the interaction's id, or the sender's."""
    name = DISCORD_TIME.lower()
    timestamp = checked_timestamp(only(evidence.headers, name), name)
    given = only(evidence.headers, DISCORD.lower())
    signature = bytes.fromhex(given) if _SIGNATURE.fullmatch(given) else b""
    if not sum(ed25519.agrees(key, text_key(timestamp) + evidence.body, signature) for key in evidence.keys):
        raise SignatureError("no signature agrees with a secret")
    expect_fresh(evidence, int(timestamp), name)
    return id_in(evidence.body, ("id",), _SNOWFLAKE) or sender_id(evidence.headers)


def seal_discord(evidence: Evidence) -> str | None:
    """Return the seal of a request without an interaction's id."""
    return None if id_in(evidence.body, ("id",), _SNOWFLAKE) else sealed(only(evidence.headers, DISCORD_TIME.lower()), evidence.body)


def _mailgun(evidence: Evidence) -> Mapping[str, object]:
    """Return what holds the signature: a form's fields (routes, older webhooks), or a table in the JSON."""
    if is_form(evidence):
        pairs = fields(evidence.body.decode("utf-8", "surrogateescape"), "the form")
        if len(pairs) != len(dict(pairs)):
            raise SignatureError("a field came twice in the form")
        return dict(pairs)
    body = json_in(evidence.body)
    found = body.get("signature") if isinstance(body, dict) else None
    if not isinstance(found, dict):
        raise SignatureError("the body holds no signature")
    return found


def _text_of(value: object) -> str:
    """Return a text as it is and a number's digits; of anything else, and of a number of many digits, nothing."""
    return value if isinstance(value, str) else str(value) if type(value) is int and 0 <= value < MAX_MILLISECONDS else ""


def _stamped(timestamp: str, body: bytes) -> bytes:
    return timestamp.encode() + b"." + body


def _hex(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()
