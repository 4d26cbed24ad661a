"""Free ports on loopback: each process of the tests has a range of its own, so that none is given out twice.

A port is free until its server listens on it, which may be seconds later: looking whether it is free isn't enough.
"""

import itertools
import socket
from functools import cache

# Below those that the kernel lends to clients (32768 and up), or a connection of another test could take one before its server does.
FIRST, LAST = 10_000, 32_000
# More than one test ever has at once, by far, and enough ranges for forty processes.
RANGE = 500


def free_port() -> int:
    """Return a port that nobody listens on now, and that nobody else is given before 499 others."""
    return next(port for port in _own_ports() if _can_bind(port))


def is_open(port: int) -> bool:
    """Return True if somebody listens on *port* of loopback, False if not."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@cache
def _own_ports() -> "itertools.cycle[int]":
    """Return this process's ports, taken for as long as it lives: an abstract name ends with its process, however that ends."""
    for first in range(FIRST, LAST, RANGE):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0mqtthook-tests-ports-{first}")
        except OSError:
            claim.close()
            continue
        claim.detach()  # stays open
        return itertools.cycle(range(first, first + RANGE))
    raise RuntimeError(f"all ranges of {RANGE} ports are taken: do more than {(LAST - FIRST) // RANGE} processes test at once?")


def _can_bind(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
