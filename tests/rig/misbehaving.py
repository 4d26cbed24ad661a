"""HTTP servers that misbehave, on real sockets in threads; what arrives is kept as the bytes that came.

A behaviour is a function that is given one connection and does with it what it likes. It never closes
by accident: a connection ends when its behaviour returns, or when the server stops.
"""

import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Self

from tests.rig.wait import UNIT_S

HEAD_END = b"\r\n\r\n"
DEADLINE_S = 20.0 * UNIT_S  # no connection outlives it, so no test hangs on one
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Connection:
    """One accepted connection, the server's end."""

    def __init__(self, link: socket.socket, server: "Misbehaving") -> None:
        self._link, self._server, self._ahead = link, server, b""
        link.settimeout(DEADLINE_S)

    def head(self) -> bytes:
        """Read a request's line and headers, and remember them; return b"" if none come any more."""
        while HEAD_END not in self._ahead:
            if not self._read():
                return b""
        head, _, self._ahead = self._ahead.partition(HEAD_END)
        self._server.requests.append(head + HEAD_END)
        return head + HEAD_END

    def request(self) -> bytes:
        """Read a whole request, and remember it; return b"" if none comes any more."""
        head = self.head()
        if not head:
            return b""
        length = next((int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        while len(self._ahead) < length and self._read():
            pass
        body, self._ahead = self._ahead[:length], self._ahead[length:]
        self._server.requests[-1] = head + body
        return head + body

    def first_bytes(self) -> None:
        """Wait until anything came, and forget it."""
        self._read()
        self._ahead = b""

    def send(self, data: bytes) -> None:
        """Send these bytes."""
        self._link.sendall(data)

    def drain(self) -> None:
        """Take whatever comes until the other side has closed."""
        while self._read():
            self._ahead = b""

    def reset(self) -> None:
        """End it with a reset, not with an orderly close."""
        self._link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def pause(self, seconds: float) -> bool:
        """Stay silent for so long; return True while the server runs, False once it stops."""
        return not self._server.stopping.wait(seconds)

    def close(self) -> None:
        """End it."""
        self._link.close()

    def _read(self) -> bool:
        came = self._link.recv(65_536)
        self._ahead += came
        return bool(came)


Behaviour = Callable[[Connection], None]


class Misbehaving:
    """A server on loopback that gives each connection to its behaviour."""

    def __init__(self, behaviour: Behaviour, *, tls: ssl.SSLContext | None = None) -> None:
        self.behaviour, self._tls = behaviour, tls
        self.requests: list[bytes] = []
        self.connections = 0
        self.ended = threading.Semaphore(0)
        self.stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._links: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = int(self._listening.getsockname()[1])
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stopping.set()
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(DEADLINE_S)
        self._listening.close()
        for link in self._links:
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE_S)

    @property
    def url(self) -> str:
        """Return its URL, without a slash at the end."""
        return f"{'https' if self._tls else 'http'}://{'localhost' if self._tls else '127.0.0.1'}:{self.port}"

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                link, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self._links.append(link)
            self._threads.append(threading.Thread(target=self._serve, args=(link,)))
            self._threads[-1].start()

    def _serve(self, link: socket.socket) -> None:
        # The other side may end a connection at any point: that is what these tests are about.
        with link, suppress(OSError):
            if self._tls is None:
                self.behaviour(Connection(link, self))
            else:
                with self._tls.wrap_socket(link, server_side=True, do_handshake_on_connect=False) as secure:
                    if _agreed(secure):
                        self.behaviour(Connection(secure, self))
        self.ended.release()


def _agreed(secure: ssl.SSLSocket) -> bool:
    """Return True once the handshake is done; False if it failed, and the other side has then read why and left.

    It is what web servers call a lingering close: one with bytes unread is a reset, which overtakes the alert.
    """
    try:
        secure.do_handshake()
    except ssl.SSLError:
        while socket.socket.recv(secure, 65_536):  # the bytes beneath TLS
            pass
        return False
    return True


def answers(*raw: bytes) -> Behaviour:
    """Answer every request of a connection with these bytes, and keep it open."""

    def behave(connection: Connection) -> None:
        while connection.request():
            for part in raw:
                connection.send(part)

    return behave


def answers_once(*raw: bytes) -> Behaviour:
    """Answer one request with these bytes, and close."""

    def behave(connection: Connection) -> None:
        connection.request()
        for part in raw:
            connection.send(part)

    return behave


def drips(raw: Iterable[int], *, head: bytes = b"", every_s: float = 1.0) -> Behaviour:
    """Answer at once with *head*, then with one byte of *raw* at a time."""

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(head)
        for sign in raw:
            connection.send(bytes([sign]))
            if not connection.pause(every_s):
                return

    return behave


def floods(head: bytes, chunk: bytes) -> Behaviour:
    """Answer with *head*, then with *chunk* again and again for ever."""

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(head)
        while connection.pause(0):
            connection.send(chunk)

    return behave


def answers_early(raw: bytes) -> Behaviour:
    """Answer before the body is read, and only then take the rest."""

    def behave(connection: Connection) -> None:
        connection.head()
        connection.send(raw)
        connection.drain()

    return behave


def resets_mid_answer(raw: bytes) -> Behaviour:
    """Send the start of an answer, then reset; the pause lets the start arrive before the reset overtakes it."""

    def behave(connection: Connection) -> None:
        connection.request()
        connection.send(raw)
        connection.pause(0.05)
        connection.reset()

    return behave


def never_answers(connection: Connection) -> None:
    """Take the request, and say nothing for ever."""
    connection.request()
    connection.pause(DEADLINE_S)


def never_speaks(connection: Connection) -> None:
    """Accept, read nothing and say nothing for ever."""
    connection.pause(DEADLINE_S)


def closes(connection: Connection) -> None:
    """Take the request, and close without an answer."""
    connection.request()


def resets_unread(connection: Connection) -> None:
    """Reset once the headers came, before the body is read."""
    connection.head()
    connection.reset()


def resets_after_request(connection: Connection) -> None:
    """Take the request, and reset without an answer."""
    connection.request()
    connection.reset()


def answers_anything(raw: bytes) -> Behaviour:
    """Answer the first bytes that come, whatever they are, and close."""

    def behave(connection: Connection) -> None:
        connection.first_bytes()
        connection.send(raw)

    return behave


def echoes(connection: Connection) -> None:
    """Send the request back as if it were an answer, as a port of another protocol may."""
    connection.send(connection.request())
