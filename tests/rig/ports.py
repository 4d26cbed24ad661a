"""Free ports on loopback."""

import random
import socket

# Below those that the kernel lends to clients (32768 and up), or a connection of another test could take one before its server does.
SERVERS = range(10_000, 32_000)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    while True:
        port = random.choice(SERVERS)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def is_open(port: int) -> bool:
    """Return True if somebody listens on *port* of loopback, False if not."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
