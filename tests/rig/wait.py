"""Wait for a condition, never for a time."""

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

UNIT_S = float(os.environ.get("TEST_TIME_UNIT_S", "1"))  # slower machines take a larger one
TURN_S = 0.01


def until(condition: Callable[[], T], what: str, *, within: float = 20.0) -> T:
    """Return what *condition* returns once that counts as true; fail with *what* after *within* units of time."""
    deadline = time.monotonic() + within * UNIT_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain for: {what}"
        time.sleep(TURN_S)
    return value
