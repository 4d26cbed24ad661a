"""Addresses: which of them each class of network lets a destination be at.

Pure. An address is what the narrowest row that holds it says, as routes are chosen; one that carries an IPv4 address in
itself is what that one is as well. The table is our own: `ipaddress.is_global` of Python 3.11 lets NAT64, 6to4,
multicast and more through, and says something else in other versions. Its rows are those of the IANA registries
"IPv4 Special-Purpose Address Space" (RFC 6890), "IPv6 Special-Purpose Address Space" and "IPv6 Address Space".
"""

import re
import unicodedata
from collections.abc import Iterator
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Literal

Network = Literal["lan", "public", "any"]
Address = IPv4Address | IPv6Address


class Kind(Enum):
    """What an address is for, as far as the guard cares."""

    GLOBAL = 1  # leads to one place from everywhere
    HERE = 2  # loopback
    HOME = 3  # means something within one network only
    LINK = 4  # means something on one cable only, and is where clouds put their metadata
    METADATA = 5  # hands out a cloud machine's keys to whoever asks on it
    RESERVED = 6  # nobody's: documentation, the future, the past
    NOWHERE = 7  # TCP can't go there: RFC 1122 sections 3.2.1.3 and 4.2.3.10


# What a destination may be at. `lan` is for a house: its own machines, but nothing that tells a machine's secrets.
_LET = {
    "public": {Kind.GLOBAL},
    "lan": {Kind.GLOBAL, Kind.HERE, Kind.HOME},
    "any": set(Kind) - {Kind.NOWHERE},
}

_ROWS = (  # network, kind, what it is, source
    ("0.0.0.0/0", Kind.GLOBAL, "a public address", "RFC 791"),
    ("0.0.0.0/8", Kind.NOWHERE, "no address to connect to", "RFC 1122 3.2.1.3"),
    ("10.0.0.0/8", Kind.HOME, "in a private network", "RFC 1918"),
    ("100.64.0.0/10", Kind.HOME, "in a provider's or VPN's network", "RFC 6598; Tailscale uses it too"),
    ("100.100.100.200/32", Kind.METADATA, "Alibaba Cloud's metadata service", "Alibaba ECS, View instance metadata"),
    ("127.0.0.0/8", Kind.HERE, "this machine itself", "RFC 1122 3.2.1.3"),
    ("168.63.129.16/32", Kind.METADATA, "Azure's service for its machines", "Azure, What is IP address 168.63.129.16"),
    ("169.254.0.0/16", Kind.LINK, "link-local", "RFC 3927"),
    ("169.254.169.254/32", Kind.METADATA, "a cloud's metadata service", "AWS, Azure, Google Cloud, OpenStack and others"),
    ("169.254.170.2/32", Kind.METADATA, "AWS's service for containers' keys", "AWS ECS, Task IAM role"),
    ("172.16.0.0/12", Kind.HOME, "in a private network", "RFC 1918"),
    ("192.0.0.0/24", Kind.RESERVED, "reserved for protocols", "RFC 6890 2.1"),
    ("192.0.0.9/32", Kind.GLOBAL, "a public address", "RFC 7723"),
    ("192.0.0.10/32", Kind.GLOBAL, "a public address", "RFC 8155"),
    ("192.0.0.192/32", Kind.METADATA, "Oracle Cloud's metadata service", "Oracle Cloud Classic, instance metadata"),
    ("192.0.2.0/24", Kind.RESERVED, "reserved for documentation", "RFC 5737"),
    ("192.88.99.0/24", Kind.RESERVED, "a relay of 6to4, which is gone", "RFC 7526"),
    ("192.168.0.0/16", Kind.HOME, "in a private network", "RFC 1918"),
    ("198.18.0.0/15", Kind.HOME, "in a network for measurements", "RFC 2544; forwardable, and proxies for a house hand it out"),
    ("198.51.100.0/24", Kind.RESERVED, "reserved for documentation", "RFC 5737"),
    ("203.0.113.0/24", Kind.RESERVED, "reserved for documentation", "RFC 5737"),
    ("224.0.0.0/4", Kind.NOWHERE, "a multicast group", "RFC 1112 4"),
    ("240.0.0.0/4", Kind.RESERVED, "reserved for the future", "RFC 1112 4"),
    ("255.255.255.255/32", Kind.NOWHERE, "the broadcast address", "RFC 919 7"),
    ("::/0", Kind.RESERVED, "reserved for the future", "IPv6 Address Space: only 2000::/3 is handed out"),
    ("::/96", Kind.RESERVED, "an IPv4-compatible address, which is gone", "RFC 4291 2.5.5.1"),
    ("::/128", Kind.NOWHERE, "no address to connect to", "RFC 4291 2.5.2"),
    ("::1/128", Kind.HERE, "this machine itself", "RFC 4291 2.5.3"),
    ("::ffff:0:0/96", Kind.GLOBAL, "an IPv4 address", "RFC 4291 2.5.5.2; the one inside counts"),
    ("64:ff9b::/96", Kind.GLOBAL, "an IPv4 address", "RFC 6052; the one inside counts"),
    ("64:ff9b:1::/48", Kind.HOME, "an IPv4 address by way of a local NAT64", "RFC 8215"),
    ("100::/64", Kind.RESERVED, "where packets are discarded", "RFC 6666"),
    ("2000::/3", Kind.GLOBAL, "a public address", "RFC 4291 2.4"),
    ("2001::/23", Kind.RESERVED, "reserved for protocols", "RFC 2928"),
    ("2001::/32", Kind.GLOBAL, "a Teredo address", "RFC 4380; the ones inside count"),
    ("2001:1::1/128", Kind.GLOBAL, "a public address", "RFC 7723"),
    ("2001:1::2/128", Kind.GLOBAL, "a public address", "RFC 8155"),
    ("2001:3::/32", Kind.GLOBAL, "a public address", "RFC 7450"),
    ("2001:4:112::/48", Kind.GLOBAL, "a public address", "RFC 7535"),
    ("2001:20::/28", Kind.GLOBAL, "a public address", "RFC 7343"),
    ("2001:30::/28", Kind.GLOBAL, "a public address", "RFC 9374"),
    ("2001:db8::/32", Kind.RESERVED, "reserved for documentation", "RFC 3849"),
    ("2002::/16", Kind.GLOBAL, "a 6to4 address", "RFC 3056; the one inside counts"),
    ("3fff::/20", Kind.RESERVED, "reserved for documentation", "RFC 9637"),
    ("fc00::/7", Kind.HOME, "in a private network", "RFC 4193"),
    ("fd00:42::42/128", Kind.METADATA, "Scaleway's metadata service", "Scaleway, Instance metadata"),
    ("fd00:ec2::/32", Kind.METADATA, "AWS's metadata and other services", "AWS EC2, IMDS: fd00:ec2::254; ::23 has containers' keys"),
    ("fd20:ce::254/128", Kind.METADATA, "Google Cloud's metadata service", "Google Cloud, Access VM metadata"),
    ("fe80::/10", Kind.LINK, "link-local", "RFC 4291 2.5.6"),
    ("fec0::/10", Kind.RESERVED, "site-local, which is gone", "RFC 3879"),
    ("ff00::/8", Kind.NOWHERE, "a multicast group", "RFC 4291 2.7"),
)

_TABLE = sorted(((ip_network(network), kind, words) for network, kind, words, _ in _ROWS), key=lambda row: -row[0].prefixlen)

# Where an IPv4 address lies in an IPv6 one: in which octets, and whether its bits are turned round.
_INSIDE = tuple(
    (IPv6Network(network), start, turned)
    for network, start, turned in (
        ("::/96", 12, False),  # RFC 4291 2.5.5.1
        ("::ffff:0:0/96", 12, False),  # RFC 4291 2.5.5.2
        ("::ffff:0:0:0/96", 12, False),  # RFC 2765 2.1
        ("64:ff9b::/96", 12, False),  # RFC 6052 2.1
        ("64:ff9b:1::/48", 12, False),  # RFC 8215: a local NAT64, by far most often with a prefix of 96 bits
        ("2001::/32", 4, False),  # RFC 4380 4: the server's
        ("2001::/32", 12, True),  # RFC 4380 4: the client's
        ("2002::/16", 2, False),  # RFC 3056 2
    )
)

_HOST = re.compile(r"https?://(\[[^\]]*\]|[^/?:]*)", re.IGNORECASE)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def refusal(text: str, network: Network) -> str | None:
    """Return why the address *text* may not be connected to from a destination in *network*, or None if it may."""
    try:
        address = ip_address(text.partition("%")[0])  # fe80::1%eth0: the rest names a cable
    except ValueError:
        return f"{text!r} is no address"
    for inner in (address, *_inside(address)):
        kind, words = _row(inner)
        if kind not in _LET[network]:
            carried = "" if inner == address else f"stands for {inner}, which "
            return f"{text} {carried}is {words}; `network = \"{network}\"` refuses it"
    return None


def refusal_of_host(url: str, network: Network) -> str | None:
    """Return why the host that is written in *url* can never be connected to, or None: of a name only its addresses tell."""
    found = _HOST.match(url)
    host = unicodedata.normalize("NFKC", found[1]).rstrip(".").lower() if found else ""
    if host.startswith("["):
        return refusal(host.strip("[]"), network)
    if not _NUMBER.fullmatch(host.rpartition(".")[2]):
        return None
    try:
        return refusal(str(IPv4Address(host)), network)
    except ValueError:
        # URL Standard section 3.5, "ends in a number": such a host is never a name, and each program reads it its own way.
        return f"{host!r} ends in a number, but is no address: expected four numbers such as 192.168.1.20, or a name"


def _row(address: Address) -> tuple[Kind, str]:
    return next((kind, words) for network, kind, words in _TABLE if network.version == address.version and address in network)


def _inside(address: Address) -> Iterator[IPv4Address]:
    """Yield the IPv4 addresses that an IPv6 one carries."""
    if isinstance(address, IPv4Address) or address.packed[:15] == bytes(15):  # :: and ::1 carry none
        return
    for network, start, turned in _INSIDE:
        if address in network:
            octets = address.packed[start : start + 4]
            yield IPv4Address(bytes(octet ^ 0xFF for octet in octets) if turned else octets)
