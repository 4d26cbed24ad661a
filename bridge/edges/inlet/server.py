"""The inlet: the HTTP server, for hooks and for the admin side.

It bounds what connections and requests may cost (number, size, time, encoding), turns a request into our own Request, and
writes what comes back; who may call, and what that does, is decided elsewhere. Errors are problem documents (RFC 9457).
Connections are accepted here and not by asyncio: its server takes any number, and counts none before TLS is agreed on.
"""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from time import time
from types import TracebackType
from typing import Self

from aiohttp import HttpVersion10, HttpVersion11, web

from bridge.edges.inlet.guests import SPOKEN, Guest, Guests, written
from bridge.errors import HookError
from bridge.rules.answers import Response, problem
from bridge.rules.callers import UNKNOWN, Proxies, client_of, household, plain
from bridge.rules.requests import Request

logger = logging.getLogger(__name__)

BODY_S = 10.0  # aiohttp alone would wait for a slow body for ever
HANDSHAKE_S = 5.0  # TLS; asyncio's own default is a minute
GOODBYE_S = 1.0  # for the other side's last word in TLS, of which nothing depends; asyncio's own default is 30 s
SHUTDOWN_S = 1.0  # of the 5 s in which the program has to end; aiohttp takes it twice for an answer that hangs
FRESH_S = 1.0  # how long after its connection a caller's first request is sure to come, where it is let in just before the end

ACCEPTED_AT_ONCE = 32  # before the loop turns to others
PAUSE_S = 1.0  # until connections are taken again where there is no descriptor left: as asyncio's own server has it


Admitting = Callable[[Request], None]
Answering = Callable[[str, Request], Awaitable[Response]]


class Inlet:
    """A listening HTTP server that hands every request to one function."""

    def __init__(
        self,
        listening: Sequence[socket.socket],
        answer: Answering,
        *,
        max_body: int | None,
        admit: Admitting | None = None,
        trusted: Proxies | None = None,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """Prepare it; *admit* is asked before a body is read, *tls* for each connection, and *trusted* tell other addresses than their own.

        With *max_body* None bodies are not read at all.
        """
        self._listening, self._answer, self._max_body, self._admit, self._tls = listening, answer, max_body, admit, tls
        self._trusted = trusted or Proxies()
        self._guests, self._refused, self._pauses, self._closing, self._hinted = Guests(), 0, 0, False, False

    async def __aenter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        """Take connections."""
        self._loop, self._server = asyncio.get_running_loop(), web.Server(self._handle)
        for listening in self._listening:
            self._loop.add_reader(listening, self._accept, listening)

    def adopt(self, *, max_body: int | None, trusted: Proxies, tls: Callable[[], ssl.SSLContext] | None) -> None:
        """Go on with other bounds, in one step; a connection of before that agreed on other *tls* ends with its next answer."""
        if (tls is None) is not (self._tls is None):
            for guest in self._guests.all:
                guest.is_last = True
        self._max_body, self._trusted, self._tls = max_body, trusted, tls

    def retire(self) -> None:
        """Take no more connections; those that there are get the answers that are due, and end by themselves. Again is nothing."""
        if self._closing:
            return
        self._closing = True
        for listening in self._listening:
            self.let_in(listening)
            self._loop.remove_reader(listening)
            listening.close()

    def let_in(self, listening: socket.socket) -> None:
        """Let in all who have knocked already, at a socket that will not be listened on any more."""
        while self._accept(listening):
            pass

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Take no more connections, answer what came or is sure to come, and close."""
        await self.close()

    async def close(self) -> None:
        """Take no more connections, answer what came or is sure to come, and close."""
        self.retire()
        now = self._loop.time()
        if coming := [guest.coming for guest in self._guests.all if not guest.coming.done() and guest.since > now - FRESH_S]:
            await asyncio.wait(coming, timeout=min(SHUTDOWN_S, FRESH_S))
        self._server.pre_shutdown()
        await self._server.shutdown(SHUTDOWN_S)
        for guest in list(self._guests.all):
            guest.leave()

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self._listening[0].getsockname()[1])

    @property
    def connections(self) -> int:
        """Return how many connections there are."""
        return len(self._guests.all)

    # --- connections ---

    def _accept(self, listening: socket.socket) -> bool:
        """Let in who knocks; return True where there may be more of them, False where not, or not now."""
        for _ in range(ACCEPTED_AT_ONCE):
            try:
                accepted, address = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return False
            except OSError as exc:
                self._pause(listening, exc)
                return False
            accepted.setblocking(False)  # noqa: FBT003 - the library's own signature
            self._let_in(accepted, plain(address[0]) if isinstance(address, tuple) else UNKNOWN)
        return True

    def _pause(self, listening: socket.socket, exc: OSError) -> None:
        """Take no connections for a while: with no descriptor or memory left, the next try would fail as well, and at once."""
        if self._closing:
            return
        self._pauses += 1
        if self._pauses & (self._pauses - 1) == 0:  # at first and then at each power of two
            logger.error("connections are not taken for %g s: %s pauses=%d", PAUSE_S, exc.strerror, self._pauses)
        self._loop.remove_reader(listening)
        self._loop.call_later(PAUSE_S, self._go_on, listening)

    def _go_on(self, listening: socket.socket) -> None:
        if not self._closing and listening.fileno() >= 0:  # a socket that was only emptied is closed by now
            self._loop.add_reader(listening, self._accept, listening)

    def _let_in(self, accepted: socket.socket, peer: str) -> None:
        counted_as = None if peer == UNKNOWN or self._trusted.trust(peer) else household(peer)
        if not self._guests.have_room(counted_as):
            accepted.close()
            self._refused += 1
            if self._refused & (self._refused - 1) == 0:  # at first and then at each power of two
                logger.warning("refused connections=%d address=%s reason='as many as may be are busy'", self._refused, peer or "unknown")
            return
        guest = Guest(self._server, peer=peer, counted_as=counted_as, gone=self._guests.remove)
        self._guests.add(guest)
        guest.welcome = self._loop.create_task(self._welcome(guest, accepted), name="connection")

    async def _welcome(self, guest: Guest, accepted: socket.socket) -> None:
        """Give a connection its protocol, which from then on carries it; before, agree on TLS if need be."""
        arrived, tls = False, None if self._tls is None else self._tls()
        try:
            bounds = {} if tls is None else {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": GOODBYE_S}
            await self._loop.connect_accepted_socket(lambda: guest, accepted, ssl=tls, **bounds)
            arrived = True
        except OSError as exc:  # as by a caller who speaks no TLS, or another one: nothing that a person here could mend
            logger.debug("no connection address=%s reason=%r", guest.peer, str(exc))
        finally:
            if not arrived:
                self._guests.remove(guest)

    # --- requests ---

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        guest = request.protocol
        assert isinstance(guest, Guest)
        guest.expect()
        try:
            whole = await self._whole(request, guest.peer)
            guest.begin()
            response = await self._answer(request.method, whole)
            if response.stream is not None:
                return await _streamed(request, response, response.stream)
        except HookError as exc:
            headers = {} if exc.retry_after_s is None else {"Retry-After": str(exc.retry_after_s)}
            response = problem(exc.status, exc.detail, headers=headers)
        except (ConnectionError, web.RequestPayloadError) as exc:
            raise ConnectionResetError from exc  # the caller is gone: there is nobody to answer, and nothing to log
        except Exception:  # one request must not be answered with our insides
            logger.exception("a request could not be answered path=%r", request.path[:200])
            response = problem(500)
        finally:
            guest.end()
        answer = written(response)
        if self._closing or guest.is_last or not request._payload.is_eof() or _misread(request) is not None:  # nobody reads what is left of the body
            answer.force_close()
        return answer

    async def _whole(self, request: web.BaseRequest, peer: str) -> Request:
        if (misread := _misread(request)) is not None:
            raise misread
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in request.headers.items():
            headers[name.lower()] = (*headers.get(name.lower(), ()), value)
        path, query = _target(request.raw_path)
        head = Request(path=path, query=query, headers=headers, body=b"", received_at=time(), client=client_of(peer, headers, self._trusted))
        if self._admit is not None:
            self._hint(peer, headers)
            self._admit(head)
        if _is_compressed(request):
            raise HookError(415, "a compressed body is not taken")
        if self._max_body is None:
            return head
        if request.content_length is not None and request.content_length > self._max_body:
            raise HookError(413, f"the body is larger than {self._max_body} bytes")
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # RFC 9110 section 10.1.1; the caller waits for it
            request.writer.output_size = 0
        return replace(head, body=await self._body(request, self._max_body))

    async def _body(self, request: web.BaseRequest, max_body: int) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > max_body:
                        raise HookError(413, f"the body is larger than {max_body} bytes")
        except TimeoutError as exc:
            raise HookError(408, f"the body did not come within {BODY_S:g} s") from exc
        return bytes(body)

    def _hint(self, peer: str, headers: Mapping[str, tuple[str, ...]]) -> None:
        """Tell once of what may be a proxy that nobody named: all its callers would be locked out for each other's mistakes."""
        if not self._hinted and not self._trusted.trust(peer) and "x-forwarded-for" in headers and peer in ("127.0.0.1", "::1"):
            self._hinted = True
            logger.warning("a request from %s has X-Forwarded-For, which is not believed: if a proxy runs there, set http.trusted_proxies = [\"%s\"]", peer, peer)


async def _streamed(request: web.BaseRequest, response: Response, stream: AsyncGenerator[bytes, None]) -> web.StreamResponse:
    """Write a response whose end is not known yet; one who has gone ends it with ConnectionError."""
    answer = web.StreamResponse(status=response.status, headers={"Content-Type": response.content_type, "Server": "mqtthook"})
    answer.force_close()
    await answer.prepare(request)
    try:
        async for chunk in stream:
            await answer.write(chunk)
    finally:
        await stream.aclose()
    await answer.write_eof()
    return answer


def _misread(request: web.BaseRequest) -> HookError | None:
    """Return what is said of a request of whose end two readers may think differently, None of any other. Its connection has to be closed."""
    if request.version not in (HttpVersion10, HttpVersion11):
        return HookError(505, SPOKEN)
    if request.version == HttpVersion10 and "Transfer-Encoding" in request.headers:
        return HookError(400, "HTTP/1.0 knows no Transfer-Encoding")  # RFC 9112 section 6.1
    return None


def _is_compressed(request: web.BaseRequest) -> bool:
    codings = request.headers.getall("Content-Encoding", []) + request.headers.getall("Transfer-Encoding", [])
    return any(coding.lower() not in ("identity", "chunked") for coding in codings)


def _target(raw: str) -> tuple[str, str]:
    """Return path and query of a request's target, also of one in absolute form (RFC 9112 section 3.2.2)."""
    path, _, query = raw.partition("#")[0].partition("?")
    if not path.startswith(("/", "*")):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path, query
