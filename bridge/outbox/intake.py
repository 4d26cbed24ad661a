"""The intake: from a message to its letters, and from a verified request to its command.

Both ways end in the outbox before anything is acknowledged or answered, and both are counted to the last.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import HookError, SignatureError, StoreFull, UnusableId
from bridge.model import Answer, Command, Message, Result
from bridge.outbox.courier import Clock
from bridge.outbox.devices import Devices
from bridge.outbox.door import Door
from bridge.outbox.gatekeeper import Gatekeeper
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import MAX_BYTES, Receipt
from bridge.outbox.storms import Storms
from bridge.rules.answers import Response, json_response, problem
from bridge.rules.challenges import challenged, greeted
from bridge.rules.devices import Expectation, is_away
from bridge.rules.events import Fate, Weighed, fates_of, letter_of
from bridge.rules.inbound import Hook, Hooks, availability_topic, command_for, evidence_of, expectation_of, hop_of, names_of, queued
from bridge.rules.inbound import letter_of as letter_of_command
from bridge.rules.outbound import Route, Routes
from bridge.rules.requests import Request
from bridge.rules.signing import seal, verify
from bridge.rules.slash import shown

logger = logging.getLogger(__name__)

UNSAVED_QOS_0 = 10_000  # messages that no broker keeps for us, held in memory while the outbox is full
ANSWER_S = 8.0  # a little more than a broker gets to confirm a publish
BUSY_S = 5  # when a caller may try a full outbox again
UNSET_S = 30  # when it may try again where the clock is not set: a Pi has the time within a minute


@dataclass(slots=True)
class Counters:
    """What came, before any mapping had its say; since the start of the program."""

    received: int = 0
    unmatched: int = 0
    looped: int = 0
    lost: int = 0


class MessageIntake:
    """Takes in what the broker sends."""

    def __init__(
        self,
        outbox: Outbox,
        gatekeeper: Gatekeeper,
        routes: Routes,
        *,
        storms: Storms,
        new_id: Callable[[], str],
        is_pressed: Callable[[], bool],
        hear: Callable[[Message], bool],
        wall: Callable[[], float],
    ) -> None:
        """Prepare it; *is_pressed* tells when the broker has given us so much unacknowledged that it may soon give no more.

        *hear* is what listens to devices for the hooks; it tells if it wanted the message.
        """
        self._outbox, self._gatekeeper, self.routes, self._storms = outbox, gatekeeper, routes, storms
        self._new_id, self._is_pressed, self._hear, self._wall = new_id, is_pressed, hear, wall
        self.counters = Counters()
        self._unkept_bytes = 0  # of messages at QoS 0 whose events are in memory only
        self.aside = ""  # the topic of our own word on deliveries: an event made of it would lead to the next one, for ever

    def take(self, message: Message, receipt: Receipt, mark: str | None, mapping: str | None = None) -> None:
        """Give a message to every mapping that takes its topic, or to this *mapping* alone; the receipt is settled when all of that is safe."""
        self.counters.received += 1
        if message.topic == self.aside:
            return
        heard, routes = self._hear(message), [route for route in self.routes.of(message.topic) if mapping in (None, route.mapping)]
        if self._outbox.onlookers:
            self._outbox.onlookers.tell_received(message, [route.mapping for route in routes])
        if not routes:
            self.counters.unmatched += not heard
            return
        own = receipt if message.qos else self._unkept(message)
        for route in routes:
            self._take_for(route, message, own, mark)
        if own is not receipt:
            own.settle()
        if self._outbox.pen.unsaved and self._is_pressed():
            self._outbox.save_held()

    def _take_for(self, route: Route, message: Message, receipt: Receipt, mark: str | None) -> None:
        if message.qos == 0 and (why := self._no_room(message)) is not None:
            self._end(route, Result.DROPPED)
            self._tell_onlookers(route, message, Result.DROPPED, why)
            self.counters.lost += 1
            if self.counters.lost & (self.counters.lost - 1) == 0:  # at first and then at each power of two
                logger.error("dropped mapping=%s topic=%r lost=%d reason='%s, and the message came at QoS 0'", route.mapping, message.topic, self.counters.lost, why)
            return
        found, fates = self._fates(message, route)
        if found is not None and found.result is None and self._storms.stopped(route.mapping, message.topic):
            self._end(route, Result.DROPPED)
            self._tell_onlookers(route, message, Result.DROPPED, "a storm of its own stops the mapping")
            return
        if found is not None:
            self._gatekeeper.learn(found)
        if fates and fates[0].content is None:
            self._end(route, fates[0].result or Result.FILTERED)
            if found is not None and found.failed:
                self._outbox.conditions.failed(route.mapping, str(found.reason))
            self._tell_end(route, message, fates[0], loops=found is not None and found.loops)
            return
        letters = [letter_of(fate, created_at=self._wall(), origin=mark) for fate in fates]
        if found is None:
            self._outbox.put(letters, receipt)
        else:
            self._gatekeeper.passed(found, letters, receipt)

    def _unkept(self, message: Message) -> Receipt:
        """Return the receipt of a message that no broker keeps for us, so that it is known how much there is of such."""
        size = len(message.payload)
        self._unkept_bytes += size

        def safe() -> None:
            self._unkept_bytes -= size

        return Receipt(safe)

    def _no_room(self, message: Message) -> str | None:
        """Return why a message that no broker keeps for us can't be held in memory, or None if it can."""
        if self._outbox.full and self._outbox.unsaved >= UNSAVED_QOS_0:
            return "the outbox is full"
        return "more came at once than fits in memory" if self._unkept_bytes > max(MAX_BYTES, len(message.payload)) else None

    def _tell_end(self, route: Route, message: Message, fate: Fate, *, loops: bool) -> None:
        """Write why there is no event: to whoever asks for it; of a loop, to everybody, at first and then at each power of two."""
        self._tell_onlookers(route, message, fate.result or Result.FILTERED, fate.reason)
        if not loops:
            logger.debug("%s mapping=%s topic=%r reason=%s", fate.result, route.mapping, message.topic, fate.reason)
            return
        self.counters.looped += 1
        if self.counters.looped & (self.counters.looped - 1) == 0:
            logger.warning("cut mapping=%s topic=%r loops=%d reason=%r", route.mapping, message.topic, self.counters.looped, fate.reason)

    def _tell_onlookers(self, route: Route, message: Message, result: Result, reason: str | None) -> None:
        if self._outbox.onlookers:
            self._outbox.onlookers.tell(str(result), mapping=route.mapping, topic=message.topic, reason=reason)

    def _fates(self, message: Message, route: Route) -> tuple[Weighed | None, list[Fate]]:
        try:
            found = self._gatekeeper.weighed(message, route)
            return found, fates_of(found, new_id=self._new_id)
        except Exception as exc:  # a message that breaks its mapping must be seen, and must not stop the others
            logger.exception("poison message mapping=%s topic=%r", route.mapping, message.topic)
            reason = f"{type(exc).__name__} in the mapping"
            return None, [
                Fate(mapping=route.mapping, destination=name, id=self._new_id(), key=message.topic, content=message, result=Result.DEAD, reason=reason)
                for name in route.destinations
            ]

    def _end(self, route: Route, result: Result) -> None:
        """Count a message that makes no event, once for each destination that would have got one."""
        for _ in route.destinations:
            self._outbox.passed(route.mapping, result)


class RequestIntake:
    """Takes in what is posted to the hooks."""

    def __init__(
        self,
        outbox: Outbox,
        hooks: Hooks,
        devices: Devices,
        *,
        clock: Clock,
        new_id: Callable[[], str],
        is_connected: Callable[[], bool],
        is_clock_set: Callable[[], bool],
    ) -> None:
        self._outbox, self.hooks, self._devices, self._clock, self._new_id = outbox, hooks, devices, clock, new_id
        self._is_connected, self._is_clock_set = is_connected, is_clock_set
        self.counters = Counters()
        self._door = Door(clock.monotonic, self._refused)

    def admit(self, request: Request) -> None:
        """Return if the body of a request is worth reading; raise HookError if not. Asked once for each, before `answer`."""
        self._door.admit(self.hooks.of(request.path), request.client)

    @property
    def refused(self) -> int:
        """Return how many requests were not let in, could not be verified, or bore an id that can't be used."""
        return self._door.refused

    async def answer(self, method: str, request: Request) -> Response:
        """Return the answer to a request; raises HookError where it is an error."""
        self.counters.received += 1
        hook = self.hooks.of(request.path)
        try:
            if (greeting := greeted(hook, method, request)) is not None:
                return greeting
            if method not in hook.rule.methods:
                return problem(405, f"this hook takes {', '.join(hook.rule.methods)}", headers={"Allow": ", ".join(hook.rule.methods)})
            if hook.signs_a_time and not self._is_clock_set():
                raise HookError(503, "the clock of this machine is not set yet; try again later", retry_after_s=UNSET_S)
            evidence = evidence_of(hook, method, request, now=self._clock.date())
            sender_id = verify(evidence)
            answer = challenged(evidence, hook.rule.challenge)
            return await self._command(hook, request, sender_id, seal(evidence)) if answer is None else answer
        except UnusableId as exc:
            self._outbox.passed(hook.name, Result.DROPPED)
            self._door.refuse(hook.name, request.client, exc.status, str(exc))
            return problem(exc.status, str(exc))
        except SignatureError as exc:
            self._door.wrong(hook.name, request.client, str(exc))
            return problem(exc.status)

    async def _command(self, hook: Hook, request: Request, sender_id: str | None, seal: str | None) -> Response:
        id = sender_id or self._new_id()
        try:
            names = names_of(hook, request, id=id)
            command = command_for(hook, names, request.body, hop=hop_of(hook, request))
            expected = expectation_of(hook, names, id=id)
            if command is not None:
                await self._expect_there(hook, names, id)
        except HookError as exc:
            self._outbox.passed(hook.name, Result.DROPPED)
            self._door.tell(hook.name, "id=%s status=%d reason=%r", id, exc.status, exc.detail)
            self._refused(hook.name, exc.status, exc.detail or "", id)
            raise
        failure = None if command is not None or hook.rule.when is None else hook.rule.when.failure(names)
        if failure is not None:
            self._outbox.conditions.failed(hook.name, f"`when` counts as false: {failure}")
        if self._outbox.onlookers:
            self._outbox.onlookers.tell("received" if command is not None else str(Result.FILTERED), mapping=hook.name, command=id, reason=failure)
        if command is None:
            self._outbox.passed(hook.name, Result.FILTERED)
            return json_response(200, shown(hook, names["body"], {"id": id, "status": "filtered"}))
        answer = await self._submitted(hook, command, id, seal, expected)
        return _written(replace(answer, document=shown(hook, names["body"], answer.document)))

    def _refused(self, hook: str, status: int, reason: str, id: str | None = None) -> None:
        if self._outbox.onlookers:
            self._outbox.onlookers.tell("refused", mapping=hook, status=status, reason=reason, command=id)

    async def _expect_there(self, hook: Hook, names: Mapping[str, Any], id: str) -> None:
        """Raise HookError 409 where the device says that it is away, unless this is a repetition: that gets the first answer."""
        topic = availability_topic(hook, names)
        if hook.rule.available is None or topic is None or not self._is_connected():  # without the broker nobody can tell: it waits
            return
        if not is_away(hook.rule.available, await self._devices.last_word(topic), names):
            return
        if not await self._outbox.answers.has(hook.name, id):
            raise HookError(409, "the device says that it is offline")

    async def _submitted(self, hook: Hook, command: Command, id: str, seal: str | None, expected: Expectation | None) -> Answer:
        begun = hook.rule.answer != "accepted" and self._is_connected()
        letter = letter_of_command(hook, command, id=id, now=self._clock.wall(), begun=begun)
        wait_s = ANSWER_S if expected is None else ANSWER_S + expected.rule.timeout
        try:
            with self._devices.expecting(expected if begun else None):
                answer, repeated = await self._outbox.answers.submit(letter, queued(id), seal=seal, within_s=wait_s)
        except StoreFull as exc:
            raise HookError(503, "the outbox is full; try again later", retry_after_s=BUSY_S) from exc
        if repeated:
            self._outbox.passed(hook.name, Result.COALESCED)
            logger.info("repeated hook=%s id=%s status=%d", hook.name, id, answer.status)
        return answer


def _written(answer: Answer) -> Response:
    if answer.status < 400:
        return json_response(answer.status, answer.document)
    return problem(answer.status, str(answer.document.get("detail", "")), id=answer.document.get("id"))
