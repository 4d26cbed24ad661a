"""Callers: whose address counts, how often it may come, and when it is locked out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bridge.rules.callers import (
    LOCKED_S,
    UNKNOWN,
    WRONG_S,
    WRONG_SIGNATURES,
    AllowFrom,
    TrustedProxies,
    Wrongs,
    client_of,
    household,
    locked_s,
    one_more_wrong,
    plain,
    proxies,
    taken,
    within,
)
from bridge.rules.pacing import Bucket
from bridge.rules.units import Quota, quota

PROXY = ("127.0.0.1", "10.0.0.0/8", "fd00::/8")

CLIENTS = [  # peer, X-Forwarded-For lines, Forwarded lines, client, source
    ("192.168.1.5", (), (), "192.168.1.5", "nobody tells anything"),
    ("192.168.1.5", ("203.0.113.9",), (), "192.168.1.5", "a peer that is no trusted proxy is not believed"),
    ("192.168.1.5", (), ("for=203.0.113.9",), "192.168.1.5", "nor by the other header"),
    ("127.0.0.1", (), (), "127.0.0.1", "a trusted proxy that tells nothing is the caller itself"),
    ("127.0.0.1", ("203.0.113.9",), (), "203.0.113.9", "one hop"),
    ("127.0.0.1", ("1.1.1.1, 203.0.113.9",), (), "203.0.113.9", "what the caller wrote himself stands to the left"),
    ("127.0.0.1", ("1.1.1.1, 203.0.113.9, 10.2.3.4",), (), "203.0.113.9", "two trusted proxies, one behind the other"),
    ("127.0.0.1", ("1.1.1.1", "203.0.113.9,10.2.3.4"), (), "203.0.113.9", "RFC 9110 5.3: two lines are one list"),
    ("127.0.0.1", ("10.9.9.9, 10.2.3.4",), (), "10.9.9.9", "a caller from the proxies' own network"),
    ("127.0.0.1", ("203.0.113.9:4711",), (), "203.0.113.9", "Azure's gateway writes the port too"),
    ("127.0.0.1", ("[2001:db8::17]:4711",), (), "2001:db8::17", "and with brackets"),
    ("127.0.0.1", ("2001:DB8::0017",), (), "2001:db8::17", "RFC 5952: one way to write it"),
    ("127.0.0.1", ("::ffff:203.0.113.9",), (), "203.0.113.9", "RFC 4291 2.5.5.2: IPv4 in IPv6"),
    ("127.0.0.1", ("203.0.113.9, unknown",), (), UNKNOWN, "the proxy itself does not know"),
    ("127.0.0.1", ("203.0.113.9, ",), (), UNKNOWN, "an empty hop is none"),
    ("127.0.0.1", ("203.0.113.9\n",), (), "203.0.113.9", "white space around it"),
    ("127.0.0.1", ("1.2.3",), (), UNKNOWN, "three numbers are no address"),
    ("127.0.0.1", ("１.2.3.4",), (), UNKNOWN, "nor are full-width digits"),
    ("127.0.0.1", (), ("for=192.0.2.60;proto=http;by=203.0.113.43",), "192.0.2.60", "RFC 7239 4"),
    ("127.0.0.1", (), ('For="[2001:db8:cafe::17]:4711"',), "2001:db8:cafe::17", "RFC 7239 4: quoted, with brackets and port"),
    ("127.0.0.1", (), ("for=192.0.2.43, for=198.51.100.17",), "198.51.100.17", "RFC 7239 4: several hops"),
    ("127.0.0.1", (), ("for=192.0.2.43", "for=198.51.100.17;by=10.0.0.1"), "198.51.100.17", "RFC 7239 4: several lines"),
    ("127.0.0.1", (), ('for="_gazonk"',), UNKNOWN, "RFC 7239 6.3: an obfuscated identifier"),
    ("127.0.0.1", (), ("for=unknown",), UNKNOWN, "RFC 7239 6.2"),
    ("127.0.0.1", (), ("proto=https",), UNKNOWN, "a hop without an address"),
    ("127.0.0.1", (), ("for=1.1.1.1;for=203.0.113.9",), UNKNOWN, "RFC 7239 4: a parameter may stand once in a hop"),
    ("127.0.0.1", (), ('for=203.0.113.9;host="a, for=1.1.1.1"',), "203.0.113.9", "RFC 7239 4: a comma in quotes"),
    ("127.0.0.1", ("203.0.113.9",), ("for=203.0.113.9",), "203.0.113.9", "both say the same"),
    ("127.0.0.1", ("203.0.113.9",), ("for=1.1.1.1",), UNKNOWN, "they differ: one of them is the caller's own invention"),
    ("", ("203.0.113.9",), (), UNKNOWN, "a socket file is no trusted proxy by itself"),
]


@pytest.mark.parametrize(("peer", "forwarded_for", "forwarded", "client", "source"), CLIENTS, ids=[row[-1] for row in CLIENTS])
def test_the_right_most_address_that_no_trusted_proxy_has_is_the_client(peer: str, forwarded_for: tuple[str, ...], forwarded: tuple[str, ...], client: str, source: str) -> None:
    headers = {name: lines for name, lines in (("x-forwarded-for", forwarded_for), ("forwarded", forwarded)) if lines}
    assert client_of(peer, headers, proxies(PROXY)) == client, source


def test_who_comes_by_a_socket_file_may_be_a_trusted_proxy() -> None:
    assert client_of(UNKNOWN, {"x-forwarded-for": ("1.1.1.1, 203.0.113.9",)}, proxies(("unix",))) == "203.0.113.9"
    assert client_of(UNKNOWN, {}, proxies(("unix",))) == UNKNOWN


@given(st.lists(st.text(max_size=30), max_size=3), st.lists(st.text(max_size=30), max_size=3))
def test_whatever_a_proxy_tells_comes_to_an_address_or_to_none(forwarded_for: list[str], forwarded: list[str]) -> None:
    client = client_of("127.0.0.1", {"x-forwarded-for": tuple(forwarded_for), "forwarded": tuple(forwarded)}, proxies(PROXY))
    assert client == UNKNOWN or plain(client) == client


@given(st.ip_addresses().map(str), st.text(alphabet="0123456789abcdef.:, ", max_size=40))
def test_what_a_caller_writes_himself_never_changes_what_the_proxy_saw(seen: str, invented: str) -> None:
    told = {"x-forwarded-for": (f"{invented}, {seen}",)}
    assert client_of("127.0.0.1", told, proxies(("127.0.0.1",))) == plain(seen) or plain(seen) == "127.0.0.1"


HOUSEHOLDS = [  # address, what counts as one caller, source
    ("192.168.1.5", "192.168.1.5", "IPv4: an address is a household already"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64", "RFC 6177 2: a customer has a /64 at least"),
    ("2001:db8:1:2::1", "2001:db8:1:2::/64", "the same one"),
    ("2001:db8:1:3::1", "2001:db8:1:3::/64", "its neighbour"),
    (UNKNOWN, UNKNOWN, "all whom nobody knows are one"),
]


@pytest.mark.parametrize(("address", "one", "source"), HOUSEHOLDS)
def test_the_addresses_of_one_customer_count_as_one_caller(address: str, one: str, source: str) -> None:
    assert household(address) == one, source


@pytest.mark.parametrize(("address", "is_in"), [("192.168.7.1", True), ("::ffff:192.168.7.1", True), ("192.169.0.1", False), ("fe80::1%eth0", True), ("2001:db8::1", False), ("", False), ("192.168.1", False)])
def test_an_address_is_within_the_networks_or_not(address: str, is_in: bool) -> None:
    networks = TypeAdapter(AllowFrom).validate_python(["192.168.0.0/16", "fe80::/10"])
    assert within(address, networks) is is_in


WRITTEN_WRONG = [
    (["192.168.1.5/16"], '"192.168.0.0/16"'),
    (["home"], "expected an address or a network"),
    ([12], "expected an address or a network"),
    (["1.2.3.4/33"], "expected an address or a network"),
    ([], "one network at least"),
]


@pytest.mark.parametrize(("written", "words"), WRITTEN_WRONG)
def test_what_is_no_network_is_told_with_what_was_meant(written: list[object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TypeAdapter(AllowFrom).validate_python(written)


def test_trusted_proxies_are_addresses_networks_and_the_socket_file() -> None:
    assert TypeAdapter(TrustedProxies).validate_python(["127.0.0.1", "unix", "fd00::/8"]) == ("127.0.0.1/32", "unix", "fd00::/8")
    assert TypeAdapter(TrustedProxies).validate_python([]) == ()
    with pytest.raises(ValidationError, match="expected an address or a network"):
        TypeAdapter(TrustedProxies).validate_python(["localhost"])


QUOTAS = [  # rate, how many at once, seconds until the next after that
    ("10/s", 10, 1),
    ("60/min", 60, 1),
    ("6/min", 6, 10),
    ("1/h", 1, 3600),
    ("0.5/min", 1, 120),
    ("7/min", 7, 9),
]


@pytest.mark.parametrize(("rate", "at_once", "wait_s"), QUOTAS)
def test_a_quota_lets_its_number_through_at_once_and_then_one_by_one(rate: str, at_once: int, wait_s: int) -> None:
    bucket, waits, now = None, [], 1_000.0
    for _ in range(at_once + 1):
        bucket, wait = taken(bucket, quota(rate), now)
        waits.append(wait)
    assert waits == [0] * at_once + [wait_s]
    assert taken(bucket, quota(rate), now + wait_s)[1] == 0, "after Retry-After it may come"


@given(st.floats(0.001, 1000), st.lists(st.floats(0, 100), max_size=60))
def test_nobody_gets_more_than_the_quota_and_what_it_fills_up_with(count: float, gaps: list[float]) -> None:
    allowed = Quota(max(count, 1.0), 60.0)
    bucket: Bucket | None = None
    now, let_in = 0.0, 0
    for gap in gaps:
        now += gap
        bucket, wait_s = taken(bucket, allowed, now)
        let_in += wait_s == 0
        assert wait_s >= 0
    assert let_in <= allowed.count + now * allowed.per_second + 1e-6


def wrong(times: int, *, every_s: float = 0.0, start: float = 0.0) -> Wrongs:
    wrongs = Wrongs()
    for n in range(times):
        wrongs = one_more_wrong(wrongs, start + n * every_s)
    return wrongs


def test_twenty_wrong_signatures_within_a_minute_lock_out_for_a_minute() -> None:
    """The product: "after 20 wrong signatures within a minute one address gets 429 on that hook for a minute"."""
    assert locked_s(wrong(WRONG_SIGNATURES - 1), 0.0) == 0
    assert locked_s(wrong(WRONG_SIGNATURES), 0.0) == LOCKED_S
    assert locked_s(wrong(WRONG_SIGNATURES), LOCKED_S - 0.5) == 1
    assert locked_s(wrong(WRONG_SIGNATURES), LOCKED_S) == 0


def test_after_a_lock_out_the_count_begins_anew() -> None:
    after = one_more_wrong(wrong(WRONG_SIGNATURES), LOCKED_S + 1)
    assert locked_s(after, LOCKED_S + 1) == 0
    assert len(after.at) == 1


def test_wrong_ones_that_are_older_than_a_minute_do_not_count() -> None:
    assert locked_s(wrong(100, every_s=WRONG_S / (WRONG_SIGNATURES - 1)), 1e9) == 0
    seldom = wrong(100, every_s=WRONG_S / (WRONG_SIGNATURES - 1) + 0.001)
    assert seldom.locked_until < 0
    assert len(seldom.at) < WRONG_SIGNATURES
