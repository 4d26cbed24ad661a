"""The intake: from a message to its letters, and from a verified request to its command.

Both ways end in the outbox before anything is acknowledged or answered, and both are counted to the last.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from bridge.errors import HookError, SignatureError, StoreFull
from bridge.model import Answer, Command, Letter, Message, Result
from bridge.outbox.courier import Clock
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import Receipt
from bridge.rules.answers import Response, json_response, problem
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.inbound import Hook, Hooks, Request, command_for, names_of, queued
from bridge.rules.inbound import letter_of as letter_of_command
from bridge.rules.outbound import Fate, Route, Routes, fates_of, letter_of
from bridge.rules.signing import Evidence, verify

logger = logging.getLogger(__name__)

UNSAVED_QOS_0 = 10_000  # messages that no broker keeps for us, held in memory while the outbox is full
ANSWER_S = 8.0  # a little more than a broker gets to confirm a publish
BUSY_S = 5  # when a caller may try a full outbox again


@dataclass(slots=True)
class Counters:
    """What came, before any mapping had its say; since the start of the program."""

    received: int = 0
    unmatched: int = 0
    refused: int = 0


class MessageIntake:
    """Takes in what the broker sends."""

    def __init__(self, outbox: Outbox, routes: Routes, *, clock: Clock, chance_bytes: Callable[[int], bytes]) -> None:
        self._outbox, self.routes, self._clock, self._chance_bytes = outbox, routes, clock, chance_bytes
        self.counters = Counters()

    def take(self, message: Message, receipt: Receipt, mark: str | None) -> None:
        """Give a message to every mapping that takes its topic; the receipt is settled when all of that is safe."""
        self.counters.received += 1
        routes = self.routes.of(message.topic)
        if not routes:
            self.counters.unmatched += 1
            return
        letters: list[Letter] = []
        for route in routes:
            for fate in _fates(message, route):
                if fate.content is None:
                    self._outbox.passed(fate.mapping, Result.FILTERED)
                    logger.debug("filtered mapping=%s topic=%r reason=%s", fate.mapping, message.topic, fate.reason)
                elif message.qos == 0 and self._outbox.full and self._outbox.unsaved >= UNSAVED_QOS_0:
                    self._outbox.passed(fate.mapping, Result.DROPPED)
                    logger.error("dropped mapping=%s topic=%r reason='the outbox is full, and the message came at QoS 0'", fate.mapping, message.topic)
                else:
                    letters.append(letter_of(fate, id=self._id(), created_at=message.received_at, origin=mark))
        self._outbox.put(letters, receipt)

    def _id(self) -> str:
        return "evt_" + ulid(self._clock.wall(), self._chance_bytes(RANDOM_BYTES))


class RequestIntake:
    """Takes in what is posted to the hooks."""

    def __init__(self, outbox: Outbox, hooks: Hooks, *, clock: Clock, chance_bytes: Callable[[int], bytes], is_connected: Callable[[], bool]) -> None:
        self._outbox, self.hooks, self._clock, self._chance_bytes = outbox, hooks, clock, chance_bytes
        self._is_connected = is_connected
        self.counters = Counters()

    async def answer(self, method: str, request: Request) -> Response:
        """Return the answer to a request; raises HookError where it is an error."""
        self.counters.received += 1
        hook = self.hooks.of(request.path)
        if method not in hook.rule.methods:
            return problem(405, f"this hook takes {', '.join(hook.rule.methods)}", headers={"Allow": ", ".join(hook.rule.methods)})
        try:
            sender_id = verify(Evidence(how=hook.verify, keys=hook.keys, headers=request.headers, body=request.body, now=self._clock.wall()))
        except SignatureError as exc:
            self.counters.refused += 1
            logger.warning("refused hook=%s reason=%s", hook.name, str(exc))
            return problem(401)
        return await self._command(hook, request, sender_id)

    async def _command(self, hook: Hook, request: Request, sender_id: str | None) -> Response:
        id = sender_id or "cmd_" + ulid(self._clock.wall(), self._chance_bytes(RANDOM_BYTES))
        try:
            command = command_for(hook, names_of(hook, request), request.body)
        except HookError as exc:
            self._outbox.passed(hook.name, Result.DROPPED)
            logger.warning("refused hook=%s id=%s status=%d reason=%r", hook.name, id, exc.status, exc.detail)
            raise
        if command is None:
            self._outbox.passed(hook.name, Result.FILTERED)
            return json_response(200, {"id": id, "status": "filtered"})
        return _written(await self._submitted(hook, command, id))

    async def _submitted(self, hook: Hook, command: Command, id: str) -> Answer:
        begun = hook.rule.answer == "published" and self._is_connected()
        letter = letter_of_command(hook, command, id=id, now=self._clock.wall(), begun=begun)
        try:
            async with asyncio.timeout(ANSWER_S):
                answer, repeated = await self._outbox.submit(letter, queued(id))
        except TimeoutError:
            return queued(id)  # it is safe, and goes out when the broker is back, or expires
        except StoreFull as exc:
            raise HookError(503, "the outbox is full; try again later", retry_after_s=BUSY_S) from exc
        if repeated:
            self._outbox.passed(hook.name, Result.COALESCED)
            logger.info("repeated hook=%s id=%s status=%d", hook.name, id, answer.status)
        return answer


def _fates(message: Message, route: Route) -> list[Fate]:
    try:
        return fates_of(message, route)
    except Exception as exc:  # a message that breaks its mapping must be seen, and must not stop the others
        logger.exception("poison message mapping=%s topic=%r", route.mapping, message.topic)
        reason = f"{type(exc).__name__} in the mapping"
        return [Fate(mapping=route.mapping, destination=name, key=message.topic, content=message, reason=reason) for name in route.destinations]


def _written(answer: Answer) -> Response:
    if answer.status < 400:
        return json_response(answer.status, answer.document)
    return problem(answer.status, str(answer.document.get("detail", "")), id=answer.document.get("id"))
