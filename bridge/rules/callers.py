"""Callers: from which address a request came, how often it may come again, and when it is locked out.

Pure: `now` is monotonic seconds. An address is told by the connection; only a proxy that the config names may tell
another one, in X-Forwarded-For or in Forwarded (RFC 7239).
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from bridge.rules.pacing import Bucket
from bridge.rules.units import Quota, one_or_more

UNIX = "unix"  # who comes by a socket file, in `trusted_proxies`
UNKNOWN = ""  # the address of one who came by a socket file, or whose proxy told nothing that could be believed

WRONG_SIGNATURES = 20  # within WRONG_S lock an address out: the contract's figures
WRONG_S = 60.0
LOCKED_S = 60.0

_OWN_BITS = 64  # of an IPv6 address that one customer has to himself at least: RFC 6177 section 2

_PAIR = re.compile(r'\s*for\s*=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*)\s*', re.IGNORECASE)
_PORT = re.compile(r"(?:\[([^\]]*)\]|([0-9.]+))(?::[0-9]{1,5})?")

Networks = tuple[IPv4Network | IPv6Network, ...]


def _network(text: Any) -> Any:
    if not isinstance(text, str):
        raise ValueError('expected an address or a network, such as "192.168.1.20" or "192.168.0.0/16"')
    try:
        return ip_network(text)
    except ValueError as exc:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError(f'{text!r}: expected an address or a network, such as "192.168.1.20" or "192.168.0.0/16"') from exc
        raise ValueError(f'{text!r} is an address within a network: did you mean "{meant}", or "{text.partition("/")[0]}" alone?') from exc


def _networks(given: Any) -> Any:
    return tuple(_network(text) for text in one_or_more(given))


def _proxies(given: Any) -> Any:
    return tuple(text if text == UNIX else str(_network(text)) for text in one_or_more(given))


def _some(networks: Networks) -> Networks:
    if not networks:
        raise ValueError("expected one network at least: with none, nobody could call; leave it out to let everybody")
    return networks


AllowFrom = Annotated[Networks, BeforeValidator(_networks), AfterValidator(_some)]
TrustedProxies = Annotated[tuple[str, ...], BeforeValidator(_proxies)]


@dataclass(frozen=True, slots=True)
class Proxies:
    """Whose word about an address is believed."""

    networks: Networks = ()
    unix: bool = False

    def trust(self, address: str) -> bool:
        """Return True if *address* is one of them, False if not."""
        return self.unix if address == UNKNOWN else within(address, self.networks)


def proxies(written: tuple[str, ...]) -> Proxies:
    """Return the proxies that `trusted_proxies` names."""
    return Proxies(networks=tuple(ip_network(text) for text in written if text != UNIX), unix=UNIX in written)


def within(address: str, networks: Networks) -> bool:
    """Return True if *address* is in one of the networks, False if not or if it is unknown."""
    found = _address(address) if networks else None  # most of the time there are none: this is asked for each request
    return found is not None and any(found.version == network.version and found in network for network in networks)


def plain(address: str) -> str:
    """Return an address as it is compared: an IPv4 one without IPv6 around it, none with the name of a cable; UNKNOWN if it is none."""
    found = _address(address)
    return UNKNOWN if found is None else str(found)


def household(address: str) -> str:
    """Return what counts as one caller: an IPv4 address, or the /64 of an IPv6 one, whose owner has them all."""
    found = _address(address) if ":" in address else None
    if isinstance(found, IPv6Address):
        return str(IPv6Network((int(found) >> _OWN_BITS << _OWN_BITS, _OWN_BITS)))
    return address


def client_of(peer: str, headers: Mapping[str, tuple[str, ...]], trusted: Proxies) -> str:
    """Return the address that a request came from: the right-most one that no trusted proxy has, or *peer* itself.

    UNKNOWN where a trusted proxy told something that can't be read, or two different things: a caller may write either
    header himself, and a proxy takes care of one of them only.
    """
    if not trusted.trust(peer):
        return peer
    told = [way for way in (_forwarded_for(headers), _forwarded(headers)) if way]
    clients = {_right_most(way, trusted) for way in told}
    if not clients:
        return peer
    return clients.pop() if len(clients) == 1 else UNKNOWN


def taken(bucket: Bucket | None, quota: Quota, now: float) -> tuple[Bucket, int]:
    """Return a quota's bucket after one more request (None: before the first), and the seconds to wait: 0 if it may go."""
    tokens = quota.count if bucket is None else min(bucket.tokens + (now - bucket.at) * quota.per_second, quota.count)
    if tokens >= 1.0:
        return Bucket(tokens - 1.0, now), 0
    return Bucket(tokens, now), max(math.ceil((1.0 - tokens) / quota.per_second), 1)


@dataclass(frozen=True, slots=True)
class Wrongs:
    """What an address got wrong at a hook: when, and until when it is locked out for it."""

    at: tuple[float, ...] = ()
    locked_until: float = -math.inf


def one_more_wrong(wrongs: Wrongs, now: float) -> Wrongs:
    """Return them with one more wrong signature: the last one that is let through in WRONG_S locks out."""
    at = (*(earlier for earlier in wrongs.at if earlier > now - WRONG_S), now)
    return Wrongs(at) if len(at) < WRONG_SIGNATURES else Wrongs(locked_until=now + LOCKED_S)


def locked_s(wrongs: Wrongs, now: float) -> int:
    """Return for how many seconds an address is locked out yet, 0 if it isn't."""
    return max(math.ceil(wrongs.locked_until - now), 0) if wrongs.locked_until > now else 0


def _right_most(way: list[str], trusted: Proxies) -> str:
    for address in reversed(way):
        if not within(address, trusted.networks):
            return address
    return way[0]


def _forwarded_for(headers: Mapping[str, tuple[str, ...]]) -> list[str]:
    lines = headers.get("x-forwarded-for", ())
    return [_told(text.strip()) for line in lines for text in line.split(",")]


def _forwarded(headers: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return the way that Forwarded tells (RFC 7239 section 4); a hop that hides itself, or can't be read, is UNKNOWN."""
    way = []
    for line in headers.get("forwarded", ()):
        for hop in _split(line, ","):
            found = [pair for text in _split(hop, ";") if (pair := _PAIR.fullmatch(text))]
            way.append(_told(found[0][1].strip('"')) if len(found) == 1 else UNKNOWN)
    return way


def _split(text: str, sign: str) -> list[str]:
    """Return the parts between the *sign*s that stand outside quotes."""
    return [part for part in re.findall(rf'(?:"(?:[^"\\]|\\.)*"|[^"{sign}]|")+', text) if part.strip()]


def _told(text: str) -> str:
    """Return the address that a proxy wrote, perhaps with a port."""
    if address := plain(text):
        return address
    found = _PORT.fullmatch(text)
    return UNKNOWN if found is None else plain(found[1] or found[2])


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
