"""A real HTTP receiver in threads: it remembers what came, and answers as it is told."""

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.rig.ports import free_port


@dataclass(frozen=True)
class Received:
    """One request as it came, and what it was answered with."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    status: int

    @property
    def id(self) -> str:
        """Return the webhook-id."""
        return self.headers["webhook-id"]


@dataclass(frozen=True)
class Reply:
    """What to answer."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"ok"


class Receiver:
    """A webhook receiver."""

    def __init__(self, answer: Callable[[str, dict[str, str], bytes], Reply] = lambda path, headers, body: Reply(), *, port: int | None = None) -> None:
        """Prepare it; *answer* is given path, headers (names in lower case) and body of each request."""
        self.answer = answer
        self.port = port or free_port()
        self.received: list[Received] = []
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """Return its URL, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def accepted(self) -> list[Received]:
        """Return what was answered with a 2xx."""
        with self._lock:
            return [received for received in self.received if 200 <= received.status < 300]

    def start(self) -> Self:
        """Listen."""
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # its headers and its body are two writes: the second would wait 40 ms for an acknowledgement

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True  # the other side was killed: that is what these tests are about

            def do_POST(self) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                reply = receiver.answer(self.path, headers, body)
                with receiver._lock:
                    receiver.received.append(Received(self.command, self.path, headers, body, reply.status))
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(reply.body)

            do_PUT = do_POST  # noqa: N815 - http.server's own names
            do_GET = do_POST  # noqa: N815 - as above

            def log_message(self, *_args: Any) -> None:
                return None

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, *_args: Any) -> None:
                return None

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()


def failing(share: float, chance: random.Random) -> Callable[[str, dict[str, str], bytes], Reply]:
    """Return an answer that is a 500 for *share* of the requests."""
    return lambda path, headers, body: Reply(500) if chance.random() < share else Reply()
