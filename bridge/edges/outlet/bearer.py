"""The bearer: holds the token of one destination, and has it renewed before it ends. In memory only."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from bridge.model import Event, Reply
from bridge.rules.access import OAuth2
from bridge.rules.tokens import Token, token_of, token_request


class Bearer:
    """The token of one destination, shared by everything that is on its way there."""

    def __init__(self, oauth2: OAuth2, fetch: Callable[[Event], Awaitable[Reply]]) -> None:
        self._request, self._fetch = token_request(oauth2), fetch
        self._last: Token | Reply | None = None
        self._fetches = 0
        self._one_by_one = asyncio.Lock()

    async def token(self, *, refused: Token | None = None) -> Token | Reply:
        """Return a token other than *refused*, or a Reply that says why there is none.

        Who had to wait for somebody else's fetch takes what came of it, a failure too: an endpoint that is down is
        not asked once more for each of them.
        """
        if token := self._good(refused):
            return token
        before = self._fetches
        async with self._one_by_one:
            if token := self._good(refused):
                return token
            if self._last is None or self._fetches == before:
                self._last = token_of(await self._fetch(self._request), now=monotonic())
                self._fetches += 1
            return self._last

    def _good(self, refused: Token | None) -> Token | None:
        fits = isinstance(self._last, Token) and self._last is not refused and monotonic() < self._last.renew_at
        return self._last if fits and isinstance(self._last, Token) else None
