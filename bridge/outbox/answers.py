"""Answers: what a hook meets under one id is carried out once, and what it was answered first is its answer ever after.

Where a sender signs a time but no id, a copy of a request could come in under another id: such a request has a seal
beside its id, which counts once as well. What is remembered is on disk before anybody is answered.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

from bridge.errors import SignatureError, StoreFull
from bridge.model import Answer, Letter
from bridge.outbox.lookups import Lookups, Name

SEALED = Answer(status=401, document={})  # what is remembered of a seal: there is no answer to it but this
COPY = "it is a copy of a request that came before, under another id"

Commit = Callable[[Letter, Mapping[Name, Answer | None]], Awaitable[None]]


class _Coming(NamedTuple):
    """An answer that a command will get, and whether the command is safe."""

    safe: asyncio.Event
    answer: asyncio.Future[Answer]


class Answers:
    """The answers of all hooks."""

    def __init__(self, lookups: Lookups, commit: Commit) -> None:
        """Prepare it; *commit* makes a letter safe, and names with their answers remembered, None where one is still to come."""
        self._lookups, self._commit = lookups, commit
        self._coming: dict[Name, _Coming] = {}
        self._sealing: set[Name] = set()

    async def submit(self, letter: Letter, queued: Answer, *, seal: str | None = None, within_s: float | None = None) -> tuple[Answer, bool]:
        """Make a command safe and its id remembered; return its answer, and True if the id is a repeated one.

        A letter that is begun is published as soon as it is safe, and answered with what came of that; with *queued* where
        that isn't known *within_s* seconds after it was safe. One that isn't begun waits for the broker, and is answered
        with *queued* as well. However long the disk takes, nothing is answered before it is safe. An id that its hook has
        met before changes nothing and gets the first answer again. A *seal* that its hook has met under another id is a
        copy's: SignatureError. Raises StoreFull.
        """
        name = (letter.mapping, letter.id)
        seals = set() if seal in (None, letter.id) else {(letter.mapping, str(seal))}
        if (before := self._coming.get(name)) is not None:
            await before.safe.wait()
            return await _in_time(before.answer, queued, within_s), True
        if name in self._sealing or seals & (self._sealing | self._coming.keys()):
            raise SignatureError(COPY)
        coming = self._coming[name] = _Coming(asyncio.Event(), asyncio.get_running_loop().create_future())
        self._sealing |= seals
        try:
            if (answer := await self._first(name, seals)) is not None:
                coming.answer.set_result(answer)
                return answer, True
            await self._commit(letter, {name: queued if letter.begun_at is None else None, **dict.fromkeys(seals, SEALED)})
            coming.safe.set()
            if letter.begun_at is None and not coming.answer.done():
                coming.answer.set_result(queued)
            return await _in_time(coming.answer, queued, within_s), False
        except (SignatureError, StoreFull) as exc:
            coming.answer.set_exception(exc)
            coming.answer.exception()  # it may be that nobody else waits for it
            raise
        finally:
            coming.safe.set()
            self._sealing -= seals
            if coming.answer.done():
                self._coming.pop(name, None)

    async def has(self, hook: str, id: str) -> bool:
        """Return True if a hook has met this id before, or is at it now; False if it never has."""
        return (hook, id) in self._coming or await self._lookups.of((hook, id)) is not None

    def came(self, answers: Mapping[Name, Answer]) -> None:
        """Give those who wait the answers that are on disk now."""
        for name, answer in answers.items():
            if (coming := self._coming.pop(name, None)) is not None and not coming.answer.done():
                coming.answer.set_result(answer)

    async def _first(self, name: Name, seals: set[Name]) -> Answer | None:
        """Return what a name was answered first, None where it is new; raise SignatureError for a copy."""
        answer = await self._lookups.of(name)
        if answer == SEALED or (answer is None and any([await self._lookups.of(seal) for seal in seals])):
            raise SignatureError(COPY)
        return answer


async def _in_time(coming: asyncio.Future[Answer], queued: Answer, within_s: float | None) -> Answer:
    """Return the answer that is coming, or *queued* where it does not come within so many seconds."""
    with suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            return await asyncio.shield(coming)
    return queued  # it is safe, and goes out when the broker is back, or expires
