"""The outlet's guard: what a destination's network refuses is never connected to, however it is written or found."""

import asyncio
import socket
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.edges.outlet import Outlet
from bridge.edges.outlet.guard import Guard, Refused
from bridge.model import Reply
from bridge.rules.addresses import Network
from tests.rig.misbehaving import OK, Misbehaving, answers, answers_once, closes
from tests.rig.sending import PATH, SECRETS, access, event, run, sent


class Names(AbstractResolver):
    """A name server that answers every question with the next of its answers, and then with the last again."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, host: str, port: int = 0, *_args: Any) -> list[ResolveResult]:
        self.asked.append(host)
        found = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return [ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET6 if ":" in address else socket.AF_INET, proto=0, flags=0) for address in found]

    async def close(self) -> None:
        pass


SPELLINGS = [  # of 127.0.0.1, all but the last two of which some library takes for it
    "127.0.0.1",
    "127.0.0.1.",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[64:ff9b::7f00:1]",
    "[2002:7f00:1::]",
    "①②⑦.⓪.⓪.①",
    "１２７.０.０.１",
    "0x7f.1",
    "0x7f000001",
    "2130706433",
    "127.1",
    "0177.0.0.1",
    "localhost",
    "LOCALHOST.",
    "[::1]",
    "[::]",
    "0.0.0.0",
]


@pytest.mark.parametrize("host", SPELLINGS)
def test_this_machine_is_refused_to_a_public_destination_however_it_is_spelled(host: str) -> None:
    with Misbehaving(answers(OK)) as server:
        [reply] = sent(event(f"http://{host}:{server.port}{PATH}"), network="public")
        assert (reply.status, server.connections) == (None, 0)
        assert reply.error in ("address", "url", "dns")
        assert not [secret for secret in SECRETS if secret in f"{reply.error}{reply.detail}"]


@pytest.mark.parametrize("network", ["lan", "any"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "①②⑦.⓪.⓪.①"])
def test_this_machine_is_not_refused_to_others(network: Network, host: str) -> None:
    """Without this one, the refusals above would prove nothing."""
    with Misbehaving(answers(OK)) as server:
        assert [reply.status for reply in sent(event(f"http://{host}:{server.port}{PATH}"), network=network)] == [200]


REFUSED = [  # host, network, the whole sentence
    ("127.0.0.1", "public", '127.0.0.1 is this machine itself; `network = "public"` refuses it'),
    ("[::1]", "public", '::1 is this machine itself; `network = "public"` refuses it'),
    ("192.168.1.40", "public", '192.168.1.40 is in a private network; `network = "public"` refuses it'),
    ("169.254.169.254", "lan", '169.254.169.254 is a cloud\'s metadata service; `network = "lan"` refuses it'),
    ("[fd00:ec2::254]", "lan", 'fd00:ec2::254 is AWS\'s metadata and other services; `network = "lan"` refuses it'),
    ("[fe80::1]", "lan", 'fe80::1 is link-local; `network = "lan"` refuses it'),
    ("[::ffff:169.254.169.254]", "lan", '::ffff:169.254.169.254 stands for 169.254.169.254, which is a cloud\'s metadata service; `network = "lan"` refuses it'),
    ("0.0.0.0", "any", '0.0.0.0 is no address to connect to; `network = "any"` refuses it'),
    ("224.0.0.1", "any", '224.0.0.1 is a multicast group; `network = "any"` refuses it'),
]


@pytest.mark.parametrize(("host", "network", "told"), REFUSED)
def test_a_refusal_is_told_with_the_address_what_it_is_and_the_setting(host: str, network: Network, told: str) -> None:
    [reply] = sent(event(f"http://{host}:9{PATH}"), network=network)
    assert (reply.status, reply.error, reply.detail) == (None, "address", told)


def test_a_name_that_leads_nowhere_else_is_told_with_its_address() -> None:
    names = Names(["169.254.169.254", "fd00:ec2::254"])
    [reply] = sent(event(f"http://metadata.example{PATH}"), resolver=names)
    assert (reply.error, names.asked) == ("address", ["metadata.example"])
    assert reply.detail == 'the name metadata.example leads nowhere else: 169.254.169.254 is a cloud\'s metadata service; `network = "lan"` refuses it'


def test_of_a_names_addresses_only_those_that_may_be_are_tried() -> None:
    """A machine in the house has a link-local address beside its own."""
    with Misbehaving(answers(OK)) as server:
        names = Names(["fe80::1%lo", "169.254.1.1", "127.0.0.1", "fe80::2"])
        [reply] = sent(event(f"http://nas.local:{server.port}/"), resolver=names)
        assert reply.status == 200


def test_a_connection_to_one_of_several_addresses_is_known_to_be_new() -> None:
    """aiohttp tries them in tasks of their own; what is lost on a new connection must not go again."""
    with Misbehaving(closes) as server:
        [reply] = sent(event(f"http://nas.local:{server.port}/"), resolver=Names(["127.0.0.1", "127.0.0.1"]))
        assert (reply.error, len(server.requests)) == ("disconnected", 1)


def test_a_failure_is_told_of_the_address_that_may_be() -> None:
    [reply] = sent(event("http://nas.local:9/"), resolver=Names(["127.0.0.1", "fe80::1", "169.254.1.1"]))
    assert reply.error == "connect"


@pytest.mark.parametrize("network", ["lan", "public"])
def test_a_name_that_first_led_elsewhere_is_judged_by_where_it_leads_now(network: Network) -> None:
    """DNS rebinding: what was checked before must not be what is trusted later."""
    with Misbehaving(answers_once(OK)) as server:
        names = Names(["169.254.169.254"], ["127.0.0.1"])
        replies = [sent(event(f"http://turn.example:{server.port}/"), resolver=names, network=network)[0] for _ in range(2)]
        assert [(reply.status, reply.error) for reply in replies] == [(None, "address"), (200, None) if network == "lan" else (None, "address")]
        assert server.connections == (1 if network == "lan" else 0)


def test_a_connection_of_another_network_is_not_used() -> None:
    """A connection that is open already passes no guard any more."""

    async def work(url: str) -> list[Reply]:
        async with Outlet() as outlet:
            channels = [outlet.channel(access(network=network)) for network in ("lan", "public", "lan")]
            return [await channel.send(event(url), ()) for channel in channels]

    with Misbehaving(answers(OK)) as server:
        assert [(reply.status, reply.error) for reply in run(work(server.url))] == [(200, None), (None, "address"), (200, None)]
        assert server.connections == 1


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "fe80::1%eth0", "metadata.example", "127.1", ""])
def test_whatever_a_resolver_says_no_socket_is_opened_for_what_is_refused(address: str) -> None:
    """The last word is where a socket is opened, whoever found the address."""
    guard = Guard("public", Names([address]))
    with pytest.raises(Refused):
        guard.open((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, 80)))


def test_a_name_without_an_address_is_no_refusal() -> None:
    assert asyncio.run(Guard("public", Names([])).resolve("nobody.example")) == []
