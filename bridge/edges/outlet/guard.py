"""The guard: between a class of network and every address. What it refuses, nothing is ever sent to.

It stands where a socket is opened, so it sees each address that is really connected to: one that is written in a URL,
in whatever spelling, and one that a name server made up a moment ago. Nothing is looked up after it.
"""

import socket
from contextvars import ContextVar

from aiohttp import AddrInfoType
from aiohttp.abc import AbstractResolver, ResolveResult

from bridge.rules.addresses import Network, refusal


class Refused(OSError):
    """An address that the destination's network doesn't let it be at."""


class Trip:
    """One request on its way, and whether a connection was opened for it; False: it goes over one that was used before."""

    opened = False


# Which request a socket is opened for: aiohttp tells its socket factory only the address. The tasks in which it tries
# several addresses at once are children of the request's own, and so see the same trip.
current: ContextVar[Trip | None] = ContextVar("current", default=None)


class Guard(AbstractResolver):
    """The resolver and the socket factory of the destinations of one network."""

    def __init__(self, network: Network, resolver: AbstractResolver) -> None:
        self._network, self._resolver = network, resolver

    def open(self, info: AddrInfoType) -> socket.socket:
        """Return a socket for an address; raise Refused."""
        family, kind, protocol, _, address = info
        if problem := refusal(address[0], self._network):
            raise Refused(problem)
        if trip := current.get():
            trip.opened = True
        return socket.socket(family, kind, protocol)

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Return the addresses of a name that may be connected to; raise Refused if it has no other.

        A machine in the house often has a link-local address beside its own: that one is passed over, and what is said
        of a failure is about the one that counts.
        """
        found = await self._resolver.resolve(host, port, family)
        problems = [refusal(each["host"], self._network) for each in found]
        if found and all(problems):
            raise Refused(problems[0])
        return [each for each, problem in zip(found, problems, strict=True) if problem is None]

    async def close(self) -> None:
        """Let go of nothing: the resolver is shared."""
