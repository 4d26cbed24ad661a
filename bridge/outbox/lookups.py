"""Look-ups: what is asked of the store in the same turn of the loop takes one trip to its thread, not one each.

Under many requests at once these trips were the largest part of what a command cost.
"""

import asyncio
from collections.abc import Callable, Sequence

from bridge.model import Answer

Name = tuple[str, str]  # a hook and the id that it met
Asking = Callable[[Sequence[Name]], asyncio.Future[list[Answer | None]]]


class Lookups:
    """The first answers to ids, as the disk has them."""

    def __init__(self, ask: Asking) -> None:
        """Prepare it; *ask* returns the future of what the store says of so many names, in their order."""
        self._ask = ask
        self._asked: list[tuple[Name, asyncio.Future[Answer | None]]] = []

    def of(self, name: Name) -> asyncio.Future[Answer | None]:
        """Return the future of what an id was answered first, None where its hook never met it."""
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._go)
        coming: asyncio.Future[Answer | None] = loop.create_future()
        self._asked.append((name, coming))
        return coming

    def _go(self) -> None:
        asked, self._asked = self._asked, []
        try:
            told = self._ask([name for name, _ in asked])
        except RuntimeError as exc:  # the store's thread has ended
            for _, coming in asked:
                _fail(coming, exc)
            return
        told.add_done_callback(lambda told: _hand_out(told, [coming for _, coming in asked]))


def _hand_out(told: asyncio.Future[list[Answer | None]], to: list[asyncio.Future[Answer | None]]) -> None:
    if told.cancelled():
        for coming in to:
            coming.cancel()
        return
    if (exc := told.exception()) is not None:
        for coming in to:
            _fail(coming, exc)
        return
    for coming, answer in zip(to, told.result(), strict=True):
        if not coming.done():  # who asked may have gone
            coming.set_result(answer)


def _fail(coming: asyncio.Future[Answer | None], exc: BaseException) -> None:
    if not coming.done():
        coming.set_exception(exc)
