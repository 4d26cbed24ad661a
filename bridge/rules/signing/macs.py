"""HMAC of a whole body, as GitHub and many others write it, and as a table in the config says; secrets are text, in UTF-8.

Letters are compared as they are written, lower-case hexadecimal or canonical base64: nothing is decoded, so that
nothing can be decoded leniently. Sources: docs.github.com, "Validating webhook deliveries"; docs.gitea.com, "Webhooks";
shopify.dev, "Verify deliveries"; Meta for Developers, "Webhooks, Validating Payloads"; Typeform, "Secure your
webhooks"; PagerDuty, "Verifying Signatures".
"""

import base64
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from bridge.model import Headers
from bridge.rules.signing.reading import expect_agreement, expect_few, id_in, only, sender_id
from bridge.rules.signing.ways import Attempt, Evidence, Way

HMAC_HEADER = "X-Signature"  # what senders with no name of their own call it
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


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyMac:
    """A sender that writes the MAC of the body into a header.

    `macs` are the ways in which it is written, the best first: a request is judged by the first whose header came, so that
    none can be brought down to a weaker one. `ids` are the headers with the delivery's id, `id_path` leads to an id in the
    body. `several`: one signature for each key, parted by commas.
    """

    macs: tuple[Mac, ...]
    ids: tuple[str, ...] = ()
    id_path: tuple[str, ...] = ()
    several: bool = False

    def sign(self, attempt: Attempt) -> Headers:
        """Return the signature, and the id where the sender's receivers look for it."""
        mac, keys = self.macs[0], attempt.keys if self.several else attempt.keys[:1]
        own = ((self.ids[0], attempt.id),) if self.ids else ()
        return ((mac.header, ",".join(mac.of(key, attempt.body) for key in keys)), *own)

    def verify(self, evidence: Evidence) -> str | None:
        """Return the delivery's id: a signed one before one that isn't."""
        mac = next((mac for mac in self.macs if mac.header.lower() in evidence.headers), self.macs[0])
        name = mac.header.lower()
        value = only(evidence.headers, name)
        given = [part.strip(" ") for part in expect_few(value.split(","), name)] if self.several else [value]
        expect_agreement(given, [mac.of(key, evidence.body) for key in evidence.keys])
        signed = id_in(evidence.body, self.id_path) if self.id_path else None
        return signed or sender_id(evidence.headers, *(id.lower() for id in self.ids))

    @property
    def writes(self) -> tuple[str, ...]:
        """Return the headers that it writes."""
        return (self.macs[0].header, *self.ids[:1])


_HUB = Mac(header="X-Hub-Signature-256", prefix="sha256=")
_HUB_SHA1 = Mac(header="X-Hub-Signature", hash="sha1", prefix="sha1=")  # GitHub Enterprise before 2.22, and many who copied it

GITHUB = BodyMac(macs=(_HUB, _HUB_SHA1), ids=(GITHUB_ID,))
META = BodyMac(macs=(_HUB,))  # keyed with the app's secret
GITEA = BodyMac(  # the same MAC under each name; Forgejo and Gitea write the older names too
    macs=(Mac(header="X-Gitea-Signature"), Mac(header="X-Forgejo-Signature"), Mac(header="X-Gogs-Signature")),
    ids=("X-Gitea-Delivery", "X-Forgejo-Delivery", "X-Gogs-Delivery"),
)
SHOPIFY = BodyMac(
    macs=(Mac(header="X-Shopify-Hmac-Sha256", encoding="base64"), Mac(header="Shopify-Hmac-Sha256", encoding="base64")),
    ids=("X-Shopify-Webhook-Id", "Shopify-Webhook-Id"),
)
TYPEFORM = BodyMac(macs=(Mac(header="Typeform-Signature", encoding="base64", prefix="sha256="),), id_path=("event_id",))
PAGERDUTY = BodyMac(macs=(Mac(header="X-PagerDuty-Signature", prefix="v1="),), id_path=("event", "id"), several=True)


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
