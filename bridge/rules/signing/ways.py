"""The nouns of signing: a scheme with its options, what an attempt signs, what a request is judged by, a row of the table.

What fits together is the table's to say: here an option is only checked by itself.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import field_validator

from bridge.model import Headers
from bridge.rules.units import Duration, Slice

TOLERANCE_S = 300.0  # Standard Webhooks' five minutes, to both sides; Stripe's and Slack's too

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # a header's name, RFC 9110 section 5.6.2
_PREFIX = re.compile(r"(?:[!-+\--~][ -+\--~]{0,31})?", re.ASCII)  # no comma, which parts signatures; no blank in front, which HTTP takes off
_URL = re.compile(r"https?://(?:\[[0-9A-Fa-f:.]+\]|[^\s/?#@:\[\]]+)(?::[0-9]{1,5})?(?:/[^\s?#]*)?(?:\?[^\s#]*)?")

RequestHeaders = Mapping[str, Sequence[str]]  # names in lower case, each with every value that came


class Way(Slice):
    """A scheme, and the options with which it is written: in which header, of which hash, in which letters, after which prefix."""

    scheme: str
    header: str | None = None
    hash: Literal["sha256", "sha1", "sha512"] = "sha256"
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""

    @field_validator("hash", mode="before")
    @classmethod
    def _in_small_letters(cls, hash: Any) -> Any:
        return hash.lower() if isinstance(hash, str) else hash  # many senders' pages write SHA256

    @field_validator("header")
    @classmethod
    def _is_a_name(cls, header: str | None) -> str | None:
        if header is not None and not _NAME.fullmatch(header):
            raise ValueError('expected the name of a header, such as "X-Signature"')
        return header

    @field_validator("prefix")
    @classmethod
    def _can_stand_in_a_header(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError('expected at most 32 printable ASCII characters without a comma, such as "sha256="')
        return prefix


class Signing(Way):
    """How a destination signs."""


class Verification(Way):
    """How a hook knows its sender; without a `tolerance` the scheme's own counts."""

    tolerance: Duration | None = None
    param: str | None = None
    public_url: str | None = None

    @field_validator("param")
    @classmethod
    def _is_not_empty(cls, param: str | None) -> str | None:
        if param == "":
            raise ValueError('expected the name of a query parameter, such as "token"')
        return param

    @field_validator("public_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and not _URL.fullmatch(url):
            raise ValueError('expected the address under which the sender calls, such as "https://hooks.example.com"')
        return url


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What one attempt signs: `timestamp` is its own, in seconds; `id` is the same on every attempt; `url` is whole."""

    how: Signing
    keys: Sequence[bytes]
    id: str
    timestamp: str
    body: bytes
    method: str = "POST"
    url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What a request is judged by: the hook's way and keys, and what came, when; path and query as they were sent."""

    how: Verification
    keys: Sequence[bytes]
    method: str
    path: str
    query: str
    headers: RequestHeaders
    body: bytes
    now: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One row: how its secret becomes a key, how it verifies, and how it signs (None: it doesn't, by headers alone).

    Only where `outbound` is set may a destination sign so; the others sign for `mqtthook sign` alone. `signing_key` stands
    where signing takes another key than verifying. `seal` returns what a request that is verified can't be told from a copy of
itself by, or None where the id is signed, or no time is. `options` are the keys that its table may hold in the config, `needs`
    those that it must, with what to say where one is missing. `writes` are the headers with its signature. `available`
    raises ValueError where a library that it needs isn't installed; `without` is said where there is no secret.
    """

    key: Callable[[str], bytes]
    verify: Callable[[Evidence], str | None]
    seal: Callable[[Evidence], str | None] = lambda _evidence: None
    sign: Callable[[Attempt], Headers] | None = None
    outbound: bool = False
    signing_key: Callable[[str], bytes] | None = None
    options: tuple[str, ...] = ()
    needs: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()
    available: Callable[[], object] | None = None
    without: str = 'needs a secret: make one with `mqtthook secret new`, or write out sign = "none" (of a hook: verify = "none")'
