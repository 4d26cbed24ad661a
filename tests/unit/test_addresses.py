"""The table of addresses: what each network lets a destination be at, with a source for each row."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.addresses import Network, refusal, refusal_of_host

EVERY: tuple[Network, ...] = ("public", "lan", "any")

# Which networks let it through: all, all but public, only any, none.
ALL, HOUSE, ANY, NONE = set(EVERY), {"lan", "any"}, {"any"}, set[str]()

ROWS = [  # address, who lets it through, source
    ("1.1.1.1", ALL, "RFC 791"),
    ("9.255.255.255", ALL, "the one below 10/8"),
    ("10.0.0.0", HOUSE, "RFC 1918"),
    ("10.255.255.255", HOUSE, "RFC 1918"),
    ("11.0.0.0", ALL, "the one above 10/8"),
    ("172.15.255.255", ALL, "the one below 172.16/12"),
    ("172.16.0.1", HOUSE, "RFC 1918"),
    ("172.31.255.255", HOUSE, "RFC 1918"),
    ("172.32.0.0", ALL, "the one above 172.16/12"),
    ("192.167.255.255", ALL, "the one below 192.168/16"),
    ("192.168.1.40", HOUSE, "RFC 1918"),
    ("192.169.0.0", ALL, "the one above 192.168/16"),
    ("127.0.0.1", HOUSE, "RFC 1122 3.2.1.3"),
    ("127.255.255.254", HOUSE, "RFC 1122 3.2.1.3"),
    ("128.0.0.0", ALL, "the one above 127/8"),
    ("100.63.255.255", ALL, "the one below 100.64/10"),
    ("100.64.0.1", HOUSE, "RFC 6598"),
    ("100.100.100.100", HOUSE, "Tailscale's name server"),
    ("100.100.100.200", ANY, "Alibaba Cloud's metadata"),
    ("100.128.0.0", ALL, "the one above 100.64/10"),
    ("198.18.0.1", HOUSE, "RFC 2544"),
    ("198.20.0.0", ALL, "the one above 198.18/15"),
    ("169.254.169.254", ANY, "AWS, Azure, Google Cloud and others' metadata"),
    ("169.254.170.2", ANY, "AWS ECS's keys"),
    ("169.254.0.1", ANY, "RFC 3927"),
    ("169.255.0.0", ALL, "the one above 169.254/16"),
    ("168.63.129.16", ANY, "Azure's own"),
    ("192.0.0.1", ANY, "RFC 6890 2.1"),
    ("192.0.0.9", ALL, "RFC 7723"),
    ("192.0.0.10", ALL, "RFC 8155"),
    ("192.0.0.192", ANY, "Oracle Cloud's metadata"),
    ("192.0.1.0", ALL, "the one above 192.0.0/24"),
    ("192.0.2.1", ANY, "RFC 5737"),
    ("198.51.100.1", ANY, "RFC 5737"),
    ("203.0.113.1", ANY, "RFC 5737"),
    ("192.88.99.1", ANY, "RFC 7526"),
    ("192.31.196.1", ALL, "RFC 7535"),
    ("192.175.48.1", ALL, "RFC 7534"),
    ("240.0.0.1", ANY, "RFC 1112 4"),
    ("255.255.255.254", ANY, "RFC 1112 4"),
    ("223.255.255.255", ALL, "the one below 224/4"),
    ("0.0.0.0", NONE, "RFC 1122 3.2.1.3"),
    ("0.1.2.3", NONE, "RFC 1122 3.2.1.3"),
    ("224.0.0.1", NONE, "RFC 1112 4"),
    ("239.255.255.255", NONE, "RFC 1112 4"),
    ("255.255.255.255", NONE, "RFC 919 7"),
    ("2606:4700:4700::1111", ALL, "RFC 4291 2.4"),
    ("3ffe::1", ALL, "RFC 3701: given back, and may be handed out again"),
    ("::", NONE, "RFC 4291 2.5.2"),
    ("::1", HOUSE, "RFC 4291 2.5.3"),
    ("::2", ANY, "RFC 4291 2.5.5.1"),
    ("fd12:3456:789a::1", HOUSE, "RFC 4193"),
    ("fc00::1", HOUSE, "RFC 4193"),
    ("fe00::1", ANY, "IPv6 Address Space: reserved"),
    ("fe80::1", ANY, "RFC 4291 2.5.6"),
    ("fe80::1%eth0", ANY, "RFC 4007 11: with its cable"),
    ("febf::1", ANY, "RFC 4291 2.5.6"),
    ("fec0::1", ANY, "RFC 3879"),
    ("fd00:ec2::254", ANY, "AWS's metadata"),
    ("fd00:ec2::23", ANY, "AWS EKS's keys"),
    ("fd00:ec3::254", HOUSE, "the one above AWS's"),
    ("fd20:ce::254", ANY, "Google Cloud's metadata"),
    ("fd00:42::42", ANY, "Scaleway's metadata"),
    ("ff02::1", NONE, "RFC 4291 2.7"),
    ("ff0e::1", NONE, "RFC 4291 2.7"),
    ("100::1", ANY, "RFC 6666"),
    ("2001::1", NONE, "RFC 4380: from the server 0.0.0.0"),
    ("2001:1::1", ALL, "RFC 7723"),
    ("2001:1::2", ALL, "RFC 8155"),
    ("2001:2::1", ANY, "RFC 5180"),
    ("2001:3::1", ALL, "RFC 7450"),
    ("2001:4:112::1", ALL, "RFC 7535"),
    ("2001:10::1", ANY, "RFC 4843"),
    ("2001:20::1", ALL, "RFC 7343"),
    ("2001:30::1", ALL, "RFC 9374"),
    ("2001:200::1", ALL, "the one above 2001::/23"),
    ("2001:db8::1", ANY, "RFC 3849"),
    ("3fff::1", ANY, "RFC 9637"),
    ("3fff:1000::1", ALL, "the one above 3fff::/20"),
    ("4000::1", ANY, "IPv6 Address Space: reserved"),
    ("5f00::1", ANY, "RFC 9602"),
    ("::ffff:1.1.1.1", ALL, "RFC 4291 2.5.5.2"),
    ("::ffff:192.168.1.1", HOUSE, "RFC 4291 2.5.5.2"),
    ("::ffff:169.254.169.254", ANY, "RFC 4291 2.5.5.2"),
    ("::ffff:0.0.0.0", NONE, "RFC 4291 2.5.5.2"),
    ("::ffff:0:127.0.0.1", ANY, "RFC 2765 2.1"),
    ("::127.0.0.1", ANY, "RFC 4291 2.5.5.1"),
    ("::1.1.1.1", ANY, "RFC 4291 2.5.5.1"),
    ("64:ff9b::1.1.1.1", ALL, "RFC 6052 2.1"),
    ("64:ff9b::127.0.0.1", HOUSE, "RFC 6052 2.1"),
    ("64:ff9b::169.254.169.254", ANY, "RFC 6052 2.1"),
    ("64:ff9b:1::1.1.1.1", HOUSE, "RFC 8215"),
    ("64:ff9b:1:2:3:4:169.254.169.254", ANY, "RFC 8215"),
    ("64:ff9b:2::1", ANY, "IPv6 Address Space: reserved"),
    ("2002:0101:0101::1", ALL, "RFC 3056 2"),
    ("2002:7f00:1::", HOUSE, "RFC 3056 2"),
    ("2002:a9fe:a9fe::", ANY, "RFC 3056 2"),
    ("2001:0:102:304:0:0:fefe:fefe", ALL, "RFC 4380 4: 1.2.3.4 and 1.1.1.1"),
    ("2001:0:102:304:0:0:3f57:fefe", HOUSE, "RFC 4380 4: 1.2.3.4 and 192.168.1.1"),
    ("2001:0:7f00:1:0:0:fefe:fefe", HOUSE, "RFC 4380 4: 127.0.0.1 and 1.1.1.1"),
    ("127.1", NONE, "no address as a socket gives one"),
    ("metadata.example", NONE, "a name"),
    ("", NONE, "nothing"),
]


@pytest.mark.parametrize(("address", "through", "source"), ROWS)
def test_an_address_is_let_through_or_refused(address: str, through: set[str], source: str) -> None:
    assert {network for network in EVERY if refusal(address, network) is None} == through


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@given(ADDRESSES)
def test_what_a_stricter_network_lets_through_a_wider_one_does_too(address: IPv4Address | IPv6Address) -> None:
    told = [refusal(str(address), network) for network in EVERY]
    assert sorted(told, key=lambda problem: problem is None) == told


@given(ADDRESSES, st.sampled_from(EVERY))
def test_a_refusal_names_the_address_and_the_setting(address: IPv4Address | IPv6Address, network: Network) -> None:
    if (problem := refusal(str(address), network)) is not None:
        assert problem.startswith(f"{address} ")
        assert problem.endswith(f'; `network = "{network}"` refuses it')


WRAPPINGS = {  # RFC 4291 2.5.5, RFC 2765, RFC 6052, RFC 8215, RFC 3056, RFC 4380
    "mapped": lambda v4: (0xFFFF << 32) + v4,
    "compatible": lambda v4: v4,
    "translated": lambda v4: (0xFFFF << 48) + v4,
    "NAT64": lambda v4: (0x64FF9B << 96) + v4,
    "local NAT64": lambda v4: (0x64FF9B0001 << 80) + v4,
    "6to4": lambda v4: (0x2002 << 112) + (v4 << 80),
    "Teredo": lambda v4: (0x20010000 << 96) + (0x01010101 << 64) + (v4 ^ 0xFFFFFFFF),
    "Teredo's server": lambda v4: (0x20010000 << 96) + (v4 << 64) + 0xFEFEFEFE,
}


@given(st.ip_addresses(v=4).filter(lambda address: int(address) > 255), st.sampled_from(list(WRAPPINGS)), st.sampled_from(EVERY))
def test_nothing_that_is_refused_gets_through_in_other_clothes(address: IPv4Address, wrapping: str, network: Network) -> None:
    if refusal(str(address), network) is not None:
        assert refusal(str(IPv6Address(WRAPPINGS[wrapping](int(address)))), network) is not None


@given(st.ip_addresses(v=4).filter(lambda address: str(address) not in ("192.0.0.9", "192.0.0.10")))
def test_what_a_public_destination_may_be_at_is_nothing_that_python_finds_private(address: IPv4Address) -> None:
    """An opinion of somebody else, which is wider here and there; the two are RFC 7723's and RFC 8155's."""
    if refusal(str(address), "public") is None:
        assert not any((address.is_private, address.is_loopback, address.is_link_local, address.is_multicast, address.is_reserved, address.is_unspecified))


@given(st.text(), st.sampled_from(EVERY))
def test_whatever_stands_there_it_is_judged(text: str, network: Network) -> None:
    for problem in (refusal(text, network), refusal_of_host(text, network), refusal_of_host(f"http://{text}", network)):
        assert problem is None or "refuses it" in problem or "no address" in problem


HOSTS = [  # URL, network, a part of the refusal, or None
    ("http://example.com/{{ topic }}", "public", None),
    ("http://localhost/", "public", None),  # a name: only its addresses tell
    ("http://1.1.1.1:8080/x", "public", None),
    ("http://127.0.0.1:8080/x", "lan", None),
    ("http://127.0.0.1:8080/x", "public", "127.0.0.1 is this machine itself"),
    ("HTTPS://127.0.0.1", "public", "127.0.0.1 is this machine itself"),
    ("http://127.0.0.1./", "public", "127.0.0.1 is this machine itself"),
    ("http://①②⑦.0.0.1/", "public", "127.0.0.1 is this machine itself"),
    ("http://[::1]:8080/{{ levels[1] }}", "public", "::1 is this machine itself"),
    ("http://[::1]?x", "public", "::1 is this machine itself"),
    ("http://[::zz]/", "lan", "'::zz' is no address"),
    ("http://169.254.169.254/", "lan", "a cloud's metadata service"),
    ("http://169.254.169.254/", "any", None),
    ("http://0.0.0.0:9000/", "any", "no address to connect to"),
    ("http://2130706433/", "any", "'2130706433' ends in a number, but is no address"),
    ("http://127.1/", "any", "'127.1' ends in a number, but is no address"),
    ("http://0x7f.1/", "any", "'0x7f.1' ends in a number, but is no address"),
    ("http://0x7F000001/", "any", "'0x7f000001' ends in a number, but is no address"),
    ("http://0177.0.0.1/", "any", "'0177.0.0.1' ends in a number, but is no address"),
    ("http://10.0.0.0.1/", "any", "'10.0.0.0.1' ends in a number, but is no address"),
    ("http://example.0x/", "any", "'example.0x' ends in a number, but is no address"),
    ("http://10.example/", "public", None),
    ("http://1password/", "public", None),
    ("ftp://127.0.0.1/", "public", None),  # said elsewhere
    ("", "public", None),
]


@pytest.mark.parametrize(("url", "network", "told"), HOSTS)
def test_an_address_that_is_written_in_a_url_is_judged_before_anything_is_sent(url: str, network: Network, told: str | None) -> None:
    problem = refusal_of_host(url, network)
    assert problem is None if told is None else told in str(problem)
