"""The outlet: sends one HTTP request once. The only module that imports aiohttp's client.

It never follows a redirect (aiohttp's default turns a POST into an empty GET that ends in 200), never keeps a
cookie, never asks the environment for a proxy, never unpacks what comes back, and never raises for what
a network does: every end is a Reply.
"""

import os
import ssl
from contextlib import suppress
from functools import lru_cache
from time import monotonic
from types import TracebackType
from typing import Self

import aiohttp
from yarl import URL

from bridge import __version__
from bridge.model import Event, Headers, Reply

MAX_RESPONSE = 64 * 1024  # bytes of an answer that are read; more than any receiver's own words about an event
CONNECT_S = 5.0  # of the time that the whole may take
MAX_IDLE_S = 4.0  # less than the 5 s after which Node's server and others close an idle connection
URLS = 256  # parsed URLs that are kept; a house has a few dozen


class Outlet:
    """An open HTTP client, shared by every destination."""

    async def __aenter__(self) -> Self:
        # No limit here: each destination's concurrency is its courier's business.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=MAX_IDLE_S)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            headers={"User-Agent": f"mqtthook/{__version__}"},
            skip_auto_headers=("Accept-Encoding", "Content-Type"),
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def send(self, event: Event, signed: Headers, *, timeout_s: float) -> Reply:
        """Send *event* with the headers that sign this attempt, and return what came of it within *timeout_s*."""
        began = monotonic()
        try:
            request = self._session.request(
                event.method,
                _parsed(event.url),
                headers=[*event.headers, *signed],
                data=event.body,
                allow_redirects=False,
                timeout=_timeout(timeout_s),
                middlewares=() if event.method == "POST" else (_once,),
            )
            async with request as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                # The status is the answer: a body that drips or breaks off takes nothing of it back.
                with suppress(aiohttp.ClientError, TimeoutError, OSError):
                    body = await _bounded(response.content)
                    return Reply(status=response.status, headers=headers, body=body, took_s=monotonic() - began)
                return Reply(status=response.status, headers=headers, took_s=monotonic() - began)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            error, detail = _why(exc, timeout_s)
            return Reply(error=error, detail=detail, took_s=monotonic() - began)


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


@lru_cache(maxsize=URLS)
def _parsed(url: str) -> URL:
    return URL(url, encoded=True)


@lru_cache(maxsize=URLS)
def _timeout(timeout_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(total=timeout_s, sock_connect=min(CONNECT_S, timeout_s))


async def _bounded(content: aiohttp.StreamReader) -> bytes:
    """Return the first MAX_RESPONSE bytes; a longer answer costs the connection, not the memory."""
    chunks, left = [], MAX_RESPONSE
    while left and (chunk := await content.read(left)):
        chunks.append(chunk)
        left -= len(chunk)
    return b"".join(chunks)


def _why(exc: Exception, timeout_s: float) -> tuple[str, str]:
    """Return the class of a failure, and a sentence without the URL, which may hold a token."""
    cause = getattr(exc, "os_error", None) or exc
    if isinstance(exc, aiohttp.ClientConnectorCertificateError) or isinstance(cause, ssl.SSLCertVerificationError):
        cause = getattr(exc, "certificate_error", cause)
        return "tls", f"the certificate can't be trusted: {getattr(cause, 'verify_message', cause)}"
    if isinstance(cause, ssl.SSLError):
        return "tls", f"no secure connection: {cause.reason or 'the other side does not speak TLS'}"
    if isinstance(exc, aiohttp.ClientConnectorDNSError):
        return "dns", f"the name {exc.host} can't be found"
    if isinstance(exc, aiohttp.ClientConnectorError):
        number = getattr(cause, "errno", None)
        broke = os.strerror(number) if number else "it broke"
        return "connect", f"no connection to {exc.host}:{exc.port}: {broke}"
    if isinstance(exc, aiohttp.ConnectionTimeoutError):
        return "timeout", f"no connection within {min(CONNECT_S, timeout_s):g} s"
    if isinstance(exc, TimeoutError):
        return "timeout", f"no answer within {timeout_s:g} s"
    if isinstance(exc, aiohttp.ClientResponseError):
        # Only the first words: what follows them is the receiver's own text, and may be our request.
        return "protocol", f"the answer is not HTTP: {exc.message.splitlines()[0].partition(':')[0]}"
    if isinstance(exc, ValueError):
        return "url", "the URL or a header can't be used"
    return "disconnected", "the receiver closed the connection without an answer"
