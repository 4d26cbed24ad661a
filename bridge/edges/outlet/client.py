"""The client: one attempt at one destination, as one request.

Beside it there are only these: a token is fetched where one is needed, a request whose token was refused goes again
with another one, and one that was lost because the receiver had just closed an idle connection goes again at once.
All of them bear the same webhook-id, and end within the attempt's time.
"""

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Self, get_args

import aiohttp
from aiohttp.abc import AbstractResolver
from aiohttp.http import HttpProcessingError
from yarl import URL

from bridge import __version__
from bridge.edges.outlet.bearer import Bearer
from bridge.edges.outlet.failures import failure
from bridge.edges.outlet.guard import Guard, Trip, current
from bridge.edges.outlet.heads import Connector
from bridge.model import Event, Headers, Reply
from bridge.rules.access import Access, Timeout, TlsSettings
from bridge.rules.addresses import Network
from bridge.rules.tokens import Token
from bridge.tls import client_context

MAX_RESPONSE = 64 * 1024  # bytes of an answer that are read; more than any receiver's own words about an event
MAX_IDLE_S = 4.0  # less than the 5 s after which Node's server and others close an idle connection
STALE_S = 1.0  # a connection that was closed while idle is noticed within a round trip; by satellite that is 0.6 s
URLS = 256  # parsed URLs that are kept; a house has a few dozen

UNAUTHORIZED = 401  # RFC 6750 section 3.1: what a token that is no longer good is answered with


class Outlet:
    """An open HTTP client. Each class of network has connections of its own."""

    def __init__(self, *, resolver: AbstractResolver | None = None) -> None:
        """Open nothing yet; *resolver* stands in for the system's, which knows `.local` and /etc/hosts too."""
        self._resolver = resolver
        self._sessions: dict[Network, aiohttp.ClientSession] = {}

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as opening:
            resolver = self._resolver or aiohttp.ThreadedResolver()
            for network in get_args(Network):
                self._sessions[network] = await opening.enter_async_context(_session(Guard(network, resolver)))
            self._open = opening.pop_all()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._open.aclose()

    def channel(self, access: Access) -> "Channel":
        """Return the channel to a destination; raise ConfigError where a file of its `tls` can't be used."""
        return Channel(access, self._sessions[access.network])


class Channel:
    """The channel to one destination: its network, its TLS, its credentials, its time."""

    def __init__(self, access: Access, session: aiohttp.ClientSession) -> None:
        self._session, self._limits, self._tls = session, access.timeout, _tls(access.tls)
        self._timeout = _timeout(access.timeout, access.timeout.total)
        self._credentials: Headers = access.auth.fixed_headers() if access.auth else ()
        self._bearer = Bearer(access.auth.oauth2, self._fetch) if access.auth and access.auth.oauth2 else None

    async def send(self, event: Event, signed: Headers) -> Reply:
        """Send *event* with the headers that sign this attempt, and return what came of it."""
        headers = (*event.headers, *signed, *self._credentials)
        if self._bearer is None:
            return await self._attempt(event, headers, self._timeout)
        began = monotonic()
        reply = await self._with_token(self._bearer, event, headers, until=began + self._limits.total)
        return replace(reply, took_s=monotonic() - began)

    # --- tokens ---

    async def _with_token(self, bearer: Bearer, event: Event, headers: Headers, *, until: float) -> Reply:
        refused: Token | None = None
        while True:
            token = await self._token(bearer, refused, until=until)
            if isinstance(token, Reply):
                return token
            reply = await self._attempt(event, (*headers, *token.header()), _timeout(self._limits, until - monotonic()))
            if reply.status != UNAUTHORIZED or refused is not None:
                return reply
            refused = token

    async def _token(self, bearer: Bearer, refused: Token | None, *, until: float) -> Token | Reply:
        try:
            async with asyncio.timeout(until - monotonic()):
                return await bearer.token(refused=refused)
        except TimeoutError:
            return Reply(error="oauth", detail=f"the token endpoint gave no token: no answer within {self._limits.total:g} s")

    async def _fetch(self, request: Event) -> Reply:
        return await self._attempt(request, request.headers, self._timeout)

    # --- requests ---

    async def _attempt(self, event: Event, headers: Headers, within: aiohttp.ClientTimeout, *, again: bool = True) -> Reply:
        """Send one request; *again* where the first is lost on a connection that was idle before, and then no more.

        aiohttp does so by itself, but for GET, PUT and the like only; a repeat that bears the same webhook-id
        can be told from another event. RFC 9112 section 9.3.1.
        """
        began, trip = monotonic(), Trip()
        current.set(trip)
        try:
            return await self._request(event, headers, within, began)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            took_s = monotonic() - began
            if not again or trip.opened or took_s > STALE_S or not _is_lost(exc):
                error, detail = failure(exc, self._limits)
                return Reply(error=error, detail=detail, took_s=took_s)
        return await self._attempt(event, headers, _timeout(self._limits, (within.total or 0.0) - took_s), again=False)

    async def _request(self, event: Event, headers: Headers, within: aiohttp.ClientTimeout, began: float) -> Reply:
        request = self._session.request(
            event.method,
            _parsed(event.url),
            headers=headers,
            data=event.body,
            allow_redirects=False,
            timeout=within,
            ssl=self._tls,
            middlewares=() if event.method == "POST" else (_once,),
        )
        async with request as response:
            headers_of = {name.lower(): value for name, value in response.headers.items()}
            # The status is the answer: a body that drips or breaks off takes nothing of it back.
            with suppress(aiohttp.ClientError, HttpProcessingError, TimeoutError, OSError):
                body = await _bounded(response.content)
                return Reply(status=response.status, headers=headers_of, body=body, took_s=monotonic() - began)
            return Reply(status=response.status, headers=headers_of, took_s=monotonic() - began)


class _Lost(aiohttp.ClientError):
    """A connection that ended before the answer came."""


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending a PUT, GET or DELETE a second time by itself, as it does after these two errors."""
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, TimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as exc:
        raise _Lost from exc


def _is_lost(exc: Exception) -> bool:
    """Return True if a connection ended before anything of an answer came, as far as aiohttp can tell, else False."""
    cause = exc.__cause__ if isinstance(exc, _Lost) else exc
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return isinstance(cause.message, str)  # else it is the part of an answer that came
    return isinstance(cause, aiohttp.ClientOSError | aiohttp.ClientConnectionResetError) and not isinstance(cause, aiohttp.ClientConnectorError)


def _session(guard: Guard) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=Connector(guard, idle_s=MAX_IDLE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        headers={"User-Agent": f"mqtthook/{__version__}"},
        skip_auto_headers=("Accept-Encoding", "Content-Type"),
    )


def _tls(settings: TlsSettings) -> ssl.SSLContext | bool:
    """Return a context of the destination's own, so that no connection is shared beyond it, or True for aiohttp's."""
    if settings == TlsSettings():
        return True
    context = client_context(settings)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _timeout(limits: Timeout, left_s: float) -> aiohttp.ClientTimeout:
    left_s = max(left_s, 0.001)  # aiohttp takes 0 for "as long as it likes"
    return aiohttp.ClientTimeout(total=left_s, connect=min(limits.connect_s, left_s))


@lru_cache(maxsize=URLS)
def _parsed(url: str) -> URL:
    """Return a URL whose path and query are sent as they are written; a host in other letters is sent in ASCII's, RFC 5891."""
    parsed = URL(url, encoded=True)
    host = parsed.raw_host or ""
    return parsed if host.isascii() else parsed.with_host(host)


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """Return the first MAX_RESPONSE bytes; a longer answer costs the connection, not the memory."""
    chunks, left = [], MAX_RESPONSE
    while left and (chunk := await content.read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)
