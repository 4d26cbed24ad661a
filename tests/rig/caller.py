"""An HTTP client that writes what it likes, byte by byte, and reads what really comes back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.rig.wait import TURN_S, UNIT_S

T = TypeVar("T")

DEADLINE_S = 20.0 * UNIT_S
SHORT_S = 0.2  # for what a test waits for in vain, on every machine


@dataclass(frozen=True)
class Answer:
    """An answer as it came."""

    version: str
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        """Return its JSON."""
        return json.loads(self.body)


class Caller:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer, self._ahead = reader, writer, b""

    async def send(self, raw: bytes) -> None:
        self._writer.write(raw)
        await self._writer.drain()

    async def answer(self, *, without_body: bool = False) -> Answer:
        """Read one answer."""
        head = self._ahead + await self._reader.readuntil(b"\r\n\r\n")
        self._ahead = b""
        line, *lines = head.decode().rstrip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        body = b"" if without_body else await self._reader.readexactly(int(headers["content-length"]))
        return Answer(line.split()[0], int(line.split()[1]), headers, body)

    async def rest(self) -> bytes:
        """Return what else comes before the server closes."""
        with suppress(ConnectionResetError):
            return await self._reader.read()
        return b""

    async def drip(self, sign: bytes) -> None:
        """Send this again and again, a little at a time, until anything comes back or the server closes."""
        coming = asyncio.create_task(self._reader.read(1))
        with suppress(ConnectionError):
            while not coming.done():
                await self.send(sign)
                await asyncio.wait([coming], timeout=SHORT_S / 10)
        with suppress(ConnectionError):  # a server that closes on what it has not read resets the connection
            self._ahead += await coming

    def leave(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, and not for ever."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


@asynccontextmanager
async def calling(port: int) -> AsyncIterator[Caller]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def until_true(condition: Callable[[], object]) -> None:
    """Return when *condition* holds; `run` bounds how long that may take."""
    while not condition():  # noqa: ASYNC110 - what is waited for is not ours to set an event
        await asyncio.sleep(TURN_S)


def request(line: str = "POST /hooks/door HTTP/1.1", *headers: str, body: bytes = b"") -> bytes:
    """Return a request with a Host, and a length unless the headers tell of one."""
    length = [] if any(header.lower().startswith(("content-length", "transfer-encoding")) for header in headers) else [f"Content-Length: {len(body)}"]
    return "\r\n".join([line, "Host: hall.example", *headers, *length, "", ""]).encode("utf-8", "surrogateescape") + body


def chunked(*chunks: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
