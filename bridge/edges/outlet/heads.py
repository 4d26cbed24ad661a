"""Heads: an answer counts once its head is there, however the network cut it into pieces, and whatever comes after it.

aiohttp's parser gives nothing of a piece in which anything is wrong. So a head is handed to it without what follows: a
body of a 204, bytes beyond the Content-Length, a chunk that is none. Should a later aiohttp make its connections in
another way, all of it works as without this module, and tests/edges/test_outlet.py fails.
"""

import re
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from bridge.edges.outlet.guard import Guard

FINAL = 200  # RFC 9110 section 15.2: what is below is followed by another head
BODILESS = frozenset({204, 304})  # RFC 9110 sections 15.3.5 and 15.4.5; plain servers send a body all the same

_END = re.compile(rb"\n\r?\n")  # of a head, RFC 9112 section 2.2 on lines that end without CR
_CARRIED = 2  # bytes of an end that the next piece may complete


class _HeadFirst(ResponseHandler):
    """A connection whose parser is given each head by itself."""

    def __init__(self, loop: Any) -> None:
        super().__init__(loop=loop)
        self._in_head, self._carried = True, b""

    def set_response_params(self, **params: Any) -> None:
        """Expect the head of the next answer."""
        self._in_head, self._carried = True, b""
        super().set_response_params(**params)

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Take a head from the parser."""
        message, _ = data
        self._in_head = message.code < FINAL
        if message.code in BODILESS and message.headers.get("Content-Length", "0") != "0":
            self.force_close()  # what it announces may still come, and would be taken for the beginning of the next answer
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Take what came, up to the end of each head and then the rest."""
        while data and self._in_head and (end := _END.search(self._carried + data)) is not None:
            size = end.end() - len(self._carried)
            head, data, self._carried = data[:size], data[size:], b""
            super().data_received(head)
            if self.exception() is not None:
                return
        self._carried = (self._carried + data)[-_CARRIED:] if self._in_head else b""
        if data or not self._in_head:
            super().data_received(data)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        """End the body with what is wrong as well: nobody else tells whoever reads it."""
        super().set_exception(exc, *cause)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(aiohttp.ClientPayloadError("what follows the head is no body"))


class Connector(aiohttp.TCPConnector):
    """Opens connections where the guard lets it."""

    def __init__(self, guard: Guard, *, idle_s: float) -> None:
        # No limit here: each destination's concurrency is its courier's business.
        super().__init__(limit=0, keepalive_timeout=idle_s, resolver=guard, socket_factory=guard.open)
        self._factory = partial(_HeadFirst, loop=self._loop)  # type: ignore[assignment]  # of a subclass
