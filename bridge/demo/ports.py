"""Ports of loopback that stay ours: two demos at the same time never take each other's.

A socket that is bound and doesn't listen keeps a port from everybody who asks for any free one, while
somebody who names it and sets SO_REUSEADDR, as a server does, may listen on it. socket(7)
"""

import socket
from typing import Self

LOOPBACK = "127.0.0.1"


class Port:
    """A port that nobody else is given; a connection to it is refused while nobody listens."""

    def __init__(self) -> None:
        self._holding = _bound(0)
        self.number = int(self._holding.getsockname()[1])

    def listening(self) -> socket.socket:
        """Return a socket that listens here."""
        listening = _bound(self.number)
        listening.listen()
        listening.setblocking(False)  # noqa: FBT003 - the library's own signature
        return listening

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._holding.close()


def _bound(number: int) -> socket.socket:
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((LOOPBACK, number))
    except BaseException:
        bound.close()
        raise
    return bound
