"""Free ports on loopback."""

import socket


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_open(port: int) -> bool:
    """Return True if somebody listens on *port* of loopback, False if not."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
