"""Sending through a real outlet, in a loop of one's own."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiohttp.abc import AbstractResolver

from bridge.edges.outlet import Outlet
from bridge.model import Event, Headers, Reply
from bridge.rules.access import Access
from tests.rig.misbehaving import DEADLINE_S

T = TypeVar("T")

SHORT_S = 0.3  # for a server that keeps us waiting for ever: every machine waits so long in vain
SECRETS = ("PATH-TOKEN", "QUERY-TOKEN")
PATH = "/hooks/PATH-TOKEN?key=QUERY-TOKEN"


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, and not for ever."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def event(url: str, *, method: str = "POST", headers: Headers = (), body: bytes = b"{}") -> Event:
    return Event(method=method, url=url, headers=headers, body=body)


def seconds(length_s: float) -> str:
    """Write a duration as the config does."""
    return f"{length_s * 1000:.0f}ms"


def access(**keys: Any) -> Access:
    """Return how a destination with these keys of the config is reached; it waits for half as long as a test."""
    return Access.model_validate({"timeout": seconds(DEADLINE_S / 2)} | keys)


def sent(*events: Event, signed: Headers = (), resolver: AbstractResolver | None = None, **keys: Any) -> list[Reply]:
    """Send them one after the other to a destination with these keys of the config."""

    async def work() -> list[Reply]:
        async with Outlet(resolver=resolver) as outlet:
            channel = outlet.channel(access(**keys))
            return [await channel.send(each, signed) for each in events]

    return run(work())
