"""HMAC as GitHub, Stripe and Slack write it, and as a table in the config says; secrets are text, in UTF-8.

Letters are compared as they are written, lower-case hexadecimal or canonical base64: nothing is decoded, so that
nothing can be decoded leniently. Sources: docs.github.com, "Validating webhook deliveries"; docs.stripe.com, "Verify
webhook signatures manually"; docs.slack.dev, "Verifying requests from Slack".
"""

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.errors import SignatureError
from bridge.model import Headers
from bridge.rules.signing.reading import checked_timestamp, expect_agreement, expect_few, expect_fresh, only, sender_id
from bridge.rules.signing.ways import Attempt, Evidence, Way

HMAC_HEADER = "X-Signature"  # what senders with no name of their own call it

STRIPE, SLACK, SLACK_TIME = "Stripe-Signature", "X-Slack-Signature", "X-Slack-Request-Timestamp"
GITHUB_ID = "X-GitHub-Delivery"

_LETTERS: Mapping[str, Callable[[bytes], str]] = {"hex": bytes.hex, "base64": lambda mac: base64.b64encode(mac).decode()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mac:
    """How the MAC of a whole body is written."""

    header: str
    hash: str = "sha256"
    encoding: str = "hex"
    prefix: str = ""

    def of(self, key: bytes, body: bytes) -> str:
        """Return the value of the header."""
        return self.prefix + _LETTERS[self.encoding](hmac.digest(key, body, self.hash))


GITHUB = Mac(header="X-Hub-Signature-256", prefix="sha256=")
GITHUB_SHA1 = Mac(header="X-Hub-Signature", hash="sha1", prefix="sha1=")  # GitHub Enterprise before 2.22, and many who copied it


def sign_github(attempt: Attempt) -> Headers:
    """Return the signature of the first key, and the id where GitHub's receivers look for it."""
    return ((GITHUB.header, GITHUB.of(attempt.keys[0], attempt.body)), (GITHUB_ID, attempt.id))


def verify_github(evidence: Evidence) -> str | None:
    """Return the delivery's id. A request that has only the old SHA-1 signature is judged by that one."""
    names = evidence.headers
    mac = GITHUB_SHA1 if GITHUB_SHA1.header.lower() in names and GITHUB.header.lower() not in names else GITHUB
    expect_agreement([only(names, mac.header.lower())], [mac.of(key, evidence.body) for key in evidence.keys])
    return sender_id(names, GITHUB_ID.lower())


def sign_stripe(attempt: Attempt) -> Headers:
    """Return time and signatures, one for each key."""
    signatures = ",".join(f"v1={_hex(key, _stamped(attempt.timestamp, attempt.body))}" for key in attempt.keys)
    return ((STRIPE, f"t={attempt.timestamp},{signatures}"),)


def verify_stripe(evidence: Evidence) -> str | None:
    """Return the sender's id; what is neither `t` nor `v1` is another version, and passed over."""
    name = STRIPE.lower()
    parts = [part.strip(" ").partition("=") for part in only(evidence.headers, name).split(",")]
    times = [value for key, _, value in parts if key == "t"]
    if len(times) != 1:
        raise SignatureError(f"{name} holds {len(times)} times, expected one")
    timestamp = checked_timestamp(times[0], f"the time in {name}")
    given = expect_few([value for key, _, value in parts if key == "v1"], name)
    expect_agreement(given, [_hex(key, _stamped(timestamp, evidence.body)) for key in evidence.keys])
    expect_fresh(evidence, timestamp, f"the time in {name}")
    return sender_id(evidence.headers)


def sign_slack(attempt: Attempt) -> Headers:
    """Return time and signature of the first key."""
    return ((SLACK, _slack(attempt.keys[0], attempt.timestamp, attempt.body)), (SLACK_TIME, attempt.timestamp))


def verify_slack(evidence: Evidence) -> str | None:
    """Return the sender's id."""
    timestamp = checked_timestamp(only(evidence.headers, SLACK_TIME.lower()), SLACK_TIME.lower())
    expect_agreement([only(evidence.headers, SLACK.lower())], [_slack(key, timestamp, evidence.body) for key in evidence.keys])
    expect_fresh(evidence, timestamp, SLACK_TIME.lower())
    return sender_id(evidence.headers)


def sign_hmac(attempt: Attempt) -> Headers:
    """Return the signature of the first key, written as the config says."""
    mac = _mac_of(attempt.how)
    return ((mac.header, mac.of(attempt.keys[0], attempt.body)),)


def verify_hmac(evidence: Evidence) -> str | None:
    """Return the sender's id. Several signatures may stand in the header, parted by commas, each with its prefix or without."""
    mac = _mac_of(evidence.how)
    name = mac.header.lower()
    parts = expect_few(only(evidence.headers, name).split(","), name)
    # The hash is the config's, not the prefix's: to leave the prefix out weakens nothing. Source: adnanh/webhook, payload-hmac-sha256.
    given = [mac.prefix + part.strip(" ").removeprefix(mac.prefix) for part in parts]
    expect_agreement(given, [mac.of(key, evidence.body) for key in evidence.keys])
    return sender_id(evidence.headers)


def _mac_of(how: Way) -> Mac:
    return Mac(header=how.header or HMAC_HEADER, hash=how.hash, encoding=how.encoding, prefix=how.prefix)


def _stamped(timestamp: str, body: bytes) -> bytes:
    return timestamp.encode() + b"." + body


def _slack(key: bytes, timestamp: str, body: bytes) -> str:
    return "v0=" + _hex(key, b"v0:" + timestamp.encode() + b":" + body)


def _hex(key: bytes, message: bytes) -> str:
    return hmac.digest(key, message, "sha256").hex()
