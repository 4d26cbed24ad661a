"""The inlet: the HTTP server, for hooks and for the admin side. The only module that imports aiohttp's server.

It bounds what a request may cost (size, time, encoding), turns it into our own Request, and writes what
comes back; who may call, and what that does, is decided elsewhere. Errors are problem documents (RFC 9457).
"""

import asyncio
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from time import time
from types import TracebackType
from typing import Self

from aiohttp import web

from bridge.errors import HookError
from bridge.rules.answers import Response, problem
from bridge.rules.inbound import Request

logger = logging.getLogger(__name__)

KEEPALIVE_S = 15.0  # aiohttp's own default is an hour; also bounds how long headers may take
BODY_S = 10.0  # aiohttp alone would wait for a slow body for ever
SHUTDOWN_S = 1.0  # of the 5 s in which the program has to end; aiohttp takes it twice for an answer that hangs


Answering = Callable[[str, Request], Awaitable[Response]]


class _Protocol(web.RequestHandler):
    """aiohttp's own protocol, but for what it answers to a request that it can't read: no echo of it, and no versions."""

    def handle_error(self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None) -> web.StreamResponse:  # noqa: ARG002 - its own signature
        """Return a problem document."""
        written = _written(problem(status))
        written.force_close()
        return written


class _Server(web.Server):
    """aiohttp's own server, with our protocol: it has no other way to choose one."""

    def __call__(self) -> web.RequestHandler:
        return _Protocol(self, loop=self._loop, **self._kwargs)


class Inlet:
    """A listening HTTP server that hands every request to one function."""

    def __init__(self, listening: socket.socket, answer: Answering, *, max_body: int) -> None:
        self._listening, self._answer, self._max_body = listening, answer, max_body

    async def __aenter__(self) -> Self:
        server = _Server(self._handle, access_log=None, keepalive_timeout=KEEPALIVE_S, auto_decompress=False, lingering_time=1.0)
        self._runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_S)
        await self._runner.setup()
        await web.SockSite(self._runner, self._listening).start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._runner.cleanup()
        self._listening.close()

    @property
    def port(self) -> int:
        """Return the port it listens on."""
        return int(self._listening.getsockname()[1])

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request.method, await self._whole(request))
        except HookError as exc:
            headers = {} if exc.retry_after_s is None else {"Retry-After": str(exc.retry_after_s)}
            response = problem(exc.status, exc.detail, headers=headers)
        except (ConnectionError, web.RequestPayloadError) as exc:
            raise ConnectionResetError from exc  # the caller is gone: there is nobody to answer, and nothing to log
        except Exception:  # one request must not be answered with our insides
            logger.exception("a request could not be answered path=%r", request.path[:200])
            response = problem(500)
        written = _written(response)
        if not request._payload.is_eof():
            written.force_close()  # nobody reads what is left of the body
        return written

    async def _whole(self, request: web.BaseRequest) -> Request:
        if _is_compressed(request):
            raise HookError(415, "a compressed body is not taken")
        if request.content_length is not None and request.content_length > self._max_body:
            raise HookError(413, f"the body is larger than {self._max_body} bytes")
        headers: dict[str, tuple[str, ...]] = {}
        for name, value in request.headers.items():
            headers[name.lower()] = (*headers.get(name.lower(), ()), value)
        path, query = _target(request.raw_path)
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")  # RFC 9110 section 10.1.1; the caller waits for it
            request.writer.output_size = 0
        return Request(path=path, query=query, headers=headers, body=await self._body(request), received_at=time())

    async def _body(self, request: web.BaseRequest) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_S):
                async for chunk in request.content.iter_any():
                    body += chunk
                    if len(body) > self._max_body:
                        raise HookError(413, f"the body is larger than {self._max_body} bytes")
        except TimeoutError as exc:
            raise HookError(408, f"the body did not come within {BODY_S:g} s") from exc
        return bytes(body)


def _written(response: Response) -> web.Response:
    return web.Response(status=response.status, body=response.body, headers={"Content-Type": response.content_type, "Server": "mqtthook", **response.headers})


def _is_compressed(request: web.BaseRequest) -> bool:
    codings = request.headers.getall("Content-Encoding", []) + request.headers.getall("Transfer-Encoding", [])
    return any(coding.lower() not in ("identity", "chunked") for coding in codings)


def _target(raw: str) -> tuple[str, str]:
    """Return path and query of a request's target, also of one in absolute form (RFC 9112 section 3.2.2)."""
    path, _, query = raw.partition("#")[0].partition("?")
    if not path.startswith(("/", "*")):
        path = "/" + path.partition("://")[2].partition("/")[2]
    return path, query


def listening_tcp(address: str) -> socket.socket:
    """Return a socket that listens on an address like "127.0.0.1:8080"; raises OSError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family, kind, proto, _, where = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, proto)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(128)
    except BaseException:
        listening.close()
        raise
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listening


def listening_unix(path: Path) -> socket.socket:
    """Return a socket that listens at *path*, for this user alone; what an earlier run left there is replaced."""
    directory = os.open(path.parent, os.O_PATH)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    umask = os.umask(0o177)
    try:
        with suppress(FileNotFoundError):
            path.unlink()
        # Through the open directory: a path of its own may be longer than the 107 bytes that a socket's may have.
        listening.bind(f"/proc/self/fd/{directory}/{path.name}")
        listening.listen(16)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(umask)
        os.close(directory)
    listening.setblocking(False)  # noqa: FBT003 - the library's own signature
    return listening
