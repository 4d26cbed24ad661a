"""Guests: the connections that there are, and what one may cost while nobody has asked anything yet, or reads no answer.

Never more than so many, in all and of one address. One that is idle goes for one that comes.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from bridge.rules.answers import Response, problem

KEEPALIVE_S = 15.0  # aiohttp's own default is an hour; also bounds how long headers may take
UNREAD_S = 15.0  # how long answers may wait for a caller who doesn't read them: as for the other direction

CONNECTIONS = 256  # in all: with the largest bodies in each, 64 MiB
CONNECTIONS_OF_ONE = 32  # of one address: a browser opens 6; a proxy that the config names doesn't count
LINE_BYTES = 8_190  # of a request's line, aiohttp's own default
FIELD_BYTES = 8_192  # of a header: another number, by which an error tells which of the two it was

SPOKEN = "HTTP/1.1 is spoken here"  # and 1.0
_NO_VERSION = "Bad status line:\n  Invalid HTTP version"  # how aiohttp's parser says so; the request's own line comes after it


class Guest(web.RequestHandler):
    """aiohttp's own protocol for one connection, which knows who is at its other end, and whether it could be given up.

    What it answers to a request that it can't read has no echo of it, and no versions.
    """

    def __init__(self, server: web.Server, *, peer: str, counted_as: str | None, gone: Callable[["Guest"], None]) -> None:
        """Prepare it; *counted_as* is the address whose connections are bounded, None where none is."""
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type] # None is what its documentation says
            keepalive_timeout=KEEPALIVE_S,
            auto_decompress=False,
            lingering_time=1.0,
            max_line_size=LINE_BYTES,
            max_field_size=FIELD_BYTES,
        )
        self.peer, self.counted_as, self._gone = peer, counted_as, gone
        self.is_last = False  # its next answer is the last one
        self.busy = False  # a whole request is being answered
        self.since = self._loop.time()  # it came, began a request, or was answered
        self.coming = self._loop.create_future()  # done while no request is under way to us
        self.welcome: asyncio.Task[None] | None = None
        self._wire: asyncio.BaseTransport | None = None  # aiohttp forgets its own as soon as it closes, though there may be more to send
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for its first request."""
        self._wire = transport
        super().connection_made(transport)

    def expect(self) -> None:
        """Note that a request has begun to come."""
        self.since = self._loop.time()
        if self.coming.done():
            self.coming = self._loop.create_future()

    def begin(self) -> None:
        """Note that it came, and is being answered."""
        self.busy = True
        self._no_more_to_come()

    def end(self) -> None:
        """Note that it is answered."""
        self.busy, self.since = False, self._loop.time()
        self._no_more_to_come()

    def leave(self) -> None:
        """End the connection at once, whatever is under way."""
        if isinstance(self._wire, asyncio.Transport):
            self._wire.abort()
        elif self.welcome is not None:
            self.welcome.cancel()

    def handle_error(self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None) -> web.StreamResponse:  # noqa: ARG002 - its own signature
        """Return a problem document."""
        found = _status(status, exc)
        answer = written(problem(found, SPOKEN if found == 505 else None))
        answer.force_close()
        return answer

    def pause_writing(self) -> None:
        """Wait for a caller to read his answers, but not for ever."""
        super().pause_writing()
        self._unread = self._loop.call_later(UNREAD_S, self.leave)

    def resume_writing(self) -> None:
        """Go on: he read."""
        super().resume_writing()
        self._stop_waiting()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Let another one have its place."""
        super().connection_lost(exc)
        self._stop_waiting()
        self._no_more_to_come()
        self._gone(self)

    def _no_more_to_come(self) -> None:
        if not self.coming.done():
            self.coming.set_result(None)

    def _stop_waiting(self) -> None:
        if self._unread is not None:
            self._unread.cancel()
            self._unread = None


class Guests:
    """The connections that there are: never more than CONNECTIONS, nor more than CONNECTIONS_OF_ONE of one address."""

    def __init__(self) -> None:
        self.all: set[Guest] = set()
        self._of: Counter[str] = Counter()

    def have_room(self, counted_as: str | None) -> bool:
        """Return True if one more may come, though another one that was idle for long has to go for it; False if all are busy."""
        if counted_as is not None and self._of[counted_as] >= CONNECTIONS_OF_ONE:
            return self._make_room([guest for guest in self.all if guest.counted_as == counted_as])
        return len(self.all) < CONNECTIONS or self._make_room(self.all)

    def add(self, guest: Guest) -> None:
        self.all.add(guest)
        if guest.counted_as is not None:
            self._of[guest.counted_as] += 1

    def remove(self, guest: Guest) -> None:
        """Forget one; again is nothing."""
        if guest not in self.all:
            return
        self.all.remove(guest)
        if guest.counted_as is not None:
            self._of[guest.counted_as] -= 1
            if not self._of[guest.counted_as]:
                del self._of[guest.counted_as]

    def _make_room(self, among: Collection[Guest]) -> bool:
        idle = min((guest for guest in among if not guest.busy), key=lambda guest: guest.since, default=None)
        if idle is None:
            return False
        idle.leave()
        self.remove(idle)
        return True


def written(response: Response) -> web.Response:
    """Return a response as aiohttp writes it."""
    return web.Response(status=response.status, body=response.body, headers={"Content-Type": response.content_type, "Server": "mqtthook", **response.headers})


def _status(status: int, exc: BaseException | None) -> int:
    """Return the status that says best what was wrong with a request that couldn't be read (RFC 9110 sections 15.5 and 15.6.6, RFC 6585 section 5)."""
    if isinstance(exc, LineTooLong):
        return 431 if FIELD_BYTES in exc.args else 414
    if isinstance(exc, HttpProcessingError) and exc.message.startswith("Too many headers"):
        return 431
    if isinstance(exc, HttpProcessingError) and exc.message.startswith(_NO_VERSION):
        return 505
    return status
