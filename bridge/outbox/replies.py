"""Replies taken in: what a receiver answered becomes a command in the outbox before its event counts as delivered.

A crash in between sends the event again, with the same id; the answer to that is known by it, and published once.
"""

import logging
from collections.abc import Callable

from bridge.errors import RenderError, StoreFull
from bridge.model import Event, Letter, Reply, Result
from bridge.outbox.outbox import Outbox
from bridge.rules.events import captures_of
from bridge.rules.inbound import queued
from bridge.rules.loops import HOP
from bridge.rules.outbound import Outbound, Routes
from bridge.rules.replies import ReplyRule, account, command_for, letter_of, names_of

logger = logging.getLogger(__name__)


class ReplyIntake:
    """Takes in what receivers answer, for the mappings that publish it."""

    def __init__(self, outbox: Outbox, routes: Routes, *, wall: Callable[[], float], date: Callable[[], float]) -> None:
        self._outbox, self.routes, self._wall, self._date = outbox, routes, wall, date

    async def follow(self, event: Letter, reply: Reply) -> None:
        """Let an accepted event's answer be published as its mapping says, if it does; what can't be is counted and told."""
        route = self.routes.named(event.mapping)
        if route is None or route.rule.reply is None or not isinstance(event.content, Event):
            return
        counted = account(event.mapping)
        try:
            letter = self._letter(event, event.content, route.rule, route.rule.reply, reply)
            if letter is None:
                self._outbox.passed(counted, Result.FILTERED)
                return
            _, repeated = await self._outbox.answers.submit(letter, queued(letter.id))
        except (RenderError, StoreFull) as exc:
            self._outbox.passed(counted, Result.DROPPED)
            logger.error("no reply mapping=%s event=%s reason=%r", event.mapping, event.id, str(exc))
            return
        if repeated:
            self._outbox.passed(counted, Result.COALESCED)

    def _letter(self, event: Letter, content: Event, mapping: Outbound, rule: ReplyRule, reply: Reply) -> Letter | None:
        names = names_of(reply, content.topic, captures_of(content.topic.split("/"), mapping), self._date())
        command = command_for(rule, names, filters=mapping.topic, hop=dict(content.headers).get(HOP, ""))
        if command is None and rule.when is not None and (failure := rule.when.failure(names)) is not None:
            self._outbox.conditions.failed(account(event.mapping), f"`when` counts as false: {failure}")
        return None if command is None else letter_of(event, rule, command, now=self._wall())
