"""The heartbeat: pings a URL once a minute while all is well, so that somebody elsewhere notices when nothing comes any more.

It says nothing when something is wrong: silence is what its other side listens for, as it is all that a dead machine has.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from pydantic import SecretStr

from bridge.edges.outlet import Outlet
from bridge.outbox.courier import Clock
from bridge.rules.access import Access
from bridge.watch.alerts import troubles
from bridge.watch.figures import Figures
from bridge.watch.heartbeat import EVERY_S, NETWORK, SOONEST_S, ping

logger = logging.getLogger(__name__)


class Heartbeat:
    """Pings while all is well."""

    def __init__(self, outlet: Outlet, figures: Callable[[], Awaitable[Figures]], *, clock: Clock, every_s: float = EVERY_S, soonest_s: float = SOONEST_S) -> None:
        """Prepare it; it pings each *every_s*, and when all is well again *soonest_s* after the last ping."""
        self._channel = outlet.channel(Access(network=NETWORK))
        self._figures, self._clock, self._every_s, self._soonest_s = figures, clock, every_s, soonest_s
        self._wake = asyncio.Event()
        self._url: SecretStr | None = None
        self._pinged_at: float | None = None
        self._said: object = None

    def wake(self) -> None:
        """Look now: the broker came or went, or the config is another."""
        self._wake.set()

    async def run(self, url: Callable[[], SecretStr | None]) -> None:
        """Ping for ever, while there is a *url* and all is well."""
        while True:
            self._wake.clear()
            wait_s = await self._turn(url())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    async def _turn(self, url: SecretStr | None) -> float | None:
        """Ping if it is time to; return the seconds until the next look, None where nothing is wanted."""
        if url != self._url:
            self._url, self._pinged_at, self._said = url, None, None
        if url is None:
            return None
        found = troubles(await self._figures(), now=self._clock.wall())
        if found:
            trouble, text = next(iter(found.items()))
            self._say(trouble, logging.WARNING, "no heartbeat until all is well reason=%r", text)
            return self._every_s
        pause_s = self._every_s if self._said is True else self._soonest_s
        if self._pinged_at is not None and (left_s := self._pinged_at + pause_s - self._clock.monotonic()) > 0:
            return left_s
        await self._ping(url)
        return self._every_s

    async def _ping(self, url: SecretStr) -> None:
        self._pinged_at = self._clock.monotonic()
        reply = await self._channel.send(ping(url), ())
        if reply.status is not None and 200 <= reply.status < 300:
            self._say(True, logging.INFO, "heartbeat taken; a ping goes out each %.0f s while all is well", self._every_s)  # noqa: FBT003 - what it stands for is a state
        else:
            self._say(reply.status or reply.error, logging.WARNING, "heartbeat not taken reason=%r", reply.detail or f"status {reply.status}")

    def _say(self, state: object, level: int, what: str, *values: object) -> None:
        """Write a line, once for each change."""
        if state != self._said:
            self._said = state
            logger.log(level, what, *values)
