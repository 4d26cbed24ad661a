"""The proof: each step of the demo is held against what really came, or ends it.

It waits for what takes milliseconds, and knows no other way to be satisfied than that it came.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from bridge.errors import BridgeError

STEP_S = 10.0  # for what takes milliseconds: longer means that it failed, not that the machine is slow
LOOK_S = 0.05  # between two looks at what can't tell us by itself

T = TypeVar("T")


class Missed(BridgeError):
    """A step did not come out."""

    def __init__(self, step: str, *, expected: object, came: object) -> None:
        super().__init__(f"the demo failed: {step}\n  expected: {expected}\n  came:     {came}")


def check(step: str, *, expected: object, came: object) -> None:
    """Raise Missed unless what came is what was expected."""
    if came != expected:
        raise Missed(step, expected=expected, came=came)


async def arrival(queue: asyncio.Queue[T], step: str) -> T:
    """Return what arrives next; raise Missed if nothing does within STEP_S."""
    try:
        async with asyncio.timeout(STEP_S):
            return await queue.get()
    except TimeoutError:
        raise Missed(step, expected="it arrives", came=f"nothing within {STEP_S:g} s") from None


async def until(look: Callable[[], Awaitable[T]], is_so: Callable[[T], bool], step: str, *, expected: str) -> T:
    """Return what *look* returns once it is so; raise Missed with the last look if it isn't within STEP_S."""
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + STEP_S
    while not is_so(seen := await look()):
        if loop.time() > give_up_at:
            raise Missed(step, expected=expected, came=f"after {STEP_S:g} s still {seen}")
        await asyncio.sleep(LOOK_S)
    return seen
