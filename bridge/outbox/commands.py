"""Commands carried to the broker: noted on disk as begun, published once, and the device's word awaited where its hook asks for it.

Nothing here is done twice: what may have been sent, and was not confirmed by the broker, is dead.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Protocol

from bridge.errors import StoreFull
from bridge.model import Command, Lane, Letter, Outcome, Reply
from bridge.outbox.courier import Clock, Courier
from bridge.outbox.devices import Devices
from bridge.outbox.outbox import Outbox
from bridge.outbox.storms import Storms
from bridge.rules.devices import Expectation
from bridge.rules.pacing import Pace
from bridge.rules.retry import FAILURE, NO_SUBSCRIBERS, judge_publish
from bridge.rules.units import duration_text

AT_ONCE = 16  # publishes that the broker has not confirmed: below the 20 that one lets a client have under way
AWAITED = 240  # commands beside them whose device is waited for: they hold up no other


class Publisher(Protocol):
    """The broker, as commands need it."""

    def publish(self, command: Command, *, expires_s: float | None = None, answer: tuple[str, str] | None = None) -> Awaitable[Reply]:
        """Publish once, and return what the broker says; *answer* is where the device is asked to answer, and under which name."""


class Commands:
    """Sends what the couriers of commands carry."""

    def __init__(self, outbox: Outbox, broker: Publisher, devices: Devices, storms: Storms, *, clock: Clock) -> None:
        self._outbox, self._broker, self._devices, self._storms, self._clock = outbox, broker, devices, storms, clock
        self._one_by_one = asyncio.Lock()  # what waited goes singly: a crash then leaves one in doubt at most, not as many as go at once
        self._unconfirmed = asyncio.Semaphore(AT_ONCE)

    def courier(self) -> Courier:
        """Return the courier of all commands; it waits until it is told that the broker is there."""
        pace = Pace(concurrency=AT_ONCE + AWAITED)
        courier = Courier(Lane.MQTT, "mqtt", outbox=self._outbox, clock=self._clock, send=self.send, judge=_judged, pace=pace)
        courier.allow(ready=False)
        return courier

    async def send(self, letter: Letter) -> Reply:
        """Publish a letter's command, and return what came of it."""
        expected = self._devices.expected_of(letter)
        reply = await self._begun(letter, expected)
        if expected is None or reply.status is None or reply.status >= FAILURE:
            return reply
        word = await self._devices.word_on(expected)
        if word is None:
            within = duration_text(expected.rule.timeout)
            detail = f"the device did not confirm it within {within}" if self._devices.expected_of(letter) is expected else "nobody waited any more for the device to confirm it"
            return replace(reply, confirmed=False, detail=detail)
        return replace(reply, confirmed=True, body=word.payload)

    async def _begun(self, letter: Letter, expected: Expectation | None) -> Reply:
        if letter.begun_at is not None:
            async with self._unconfirmed:
                return await self._published(letter, expected)
        async with self._one_by_one, self._unconfirmed:
            try:
                await self._outbox.begin(letter)
            except StoreFull as exc:
                return Reply(error="away", detail=str(exc))
            return await self._published(letter, expected)

    async def _published(self, letter: Letter, expected: Expectation | None) -> Reply:
        assert isinstance(letter.content, Command)
        answer = None if expected is None else (expected.topic, letter.id)
        expires_at = None if letter.expires_at is None else letter.expires_at - self._clock.missed_s(letter.created_at)
        replies: list[Reply] = []
        for command in (letter.content, *letter.content.then):
            reply = await self._publish(command, expires_at, answer)
            if reply.status is None:
                return _broken_off(reply, after=len(replies), of=1 + len(letter.content.then))
            replies.append(reply)
        return max(replies, key=lambda reply: (_gravity(reply), reply.took_s))

    async def _publish(self, command: Command, expires_at: float | None, answer: tuple[str, str] | None) -> Reply:
        left_s = None if expires_at is None else expires_at - self._clock.wall()
        if left_s is not None and left_s <= 0:
            return Reply(error="expired", detail="it expired before it could be published")
        self._storms.published(command.topic)
        return await self._broker.publish(command, expires_s=left_s, answer=answer)


def _broken_off(reply: Reply, *, after: int, of: int) -> Reply:
    """Return what came of several publishes of which one was not sent, or not confirmed: those before it were, and are not repeated."""
    return reply if after == 0 else Reply(error="doubt", detail=f"{after} of {of} were published; then: {reply.detail}; it is not repeated")


def _gravity(reply: Reply) -> int:
    """Return how bad it is: of several, the worst is told."""
    status = reply.status or 0
    return 2 if status >= FAILURE else 1 if status == NO_SUBSCRIBERS else 0


def _judged(letter: Letter, reply: Reply, now: float, u: float, *, probe: bool) -> Outcome:  # noqa: ARG001 - what the broker says is enough
    return judge_publish(reply)
