"""Replies: what a receiver answers becomes an MQTT publish. A house behind NAT is commanded so, without an open port.

A reply is a command like a hook's: it expires, is never retained unless asked, and is published once for each event.
It can never trigger the mapping that it came of.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import model_validator

from bridge.errors import RenderError
from bridge.model import Command, Lane, Letter, Reply
from bridge.rules.expressions import Expression
from bridge.rules.payloads import moment
from bridge.rules.publishes import Publish
from bridge.rules.responses import response_of
from bridge.rules.topics import Filter
from bridge.rules.units import Duration

NAMES = ("response", "topic", "levels", "now")

EXPIRES_S = 60.0  # as a hook's command: a light that goes on a minute late frightens somebody


class ReplyRule(Publish):
    """`reply` of an `[outbound.NAME]`: what is published of the receiver's answer, and when."""

    when: Expression | None = None
    expires: Duration = EXPIRES_S

    @model_validator(mode="after")
    def _says_something(self) -> "ReplyRule":
        if self.json_body is None and self.text is None:
            raise ValueError("expected one of `json` and `text`: what is published")
        return self


def names_of(reply: Reply, topic: str, captures: Mapping[str, str], now: float) -> dict[str, Any]:
    """Return the names that a reply's expressions see."""
    return {"response": response_of(reply), "topic": topic, "levels": topic.split("/"), "now": moment(now), **captures}


def command_for(rule: ReplyRule, names: Mapping[str, Any], *, filters: Sequence[Filter], hop: str) -> Command | None:
    """Return what is published of an answer, or None where `when` doesn't hold; raise RenderError.

    *filters* are those of the mapping itself: what they take is never published, on no broker.
    """
    if not _is_wanted(rule, names):
        return None
    command = rule.command(names, b"", hop=hop)
    if any(filter.takes(tuple(command.topic.split("/"))) for filter in filters):
        raise RenderError(f"a loop: {command.topic!r} is a topic that the mapping itself takes")
    return command


def letter_of(event: Letter, rule: ReplyRule, command: Command, *, now: float) -> Letter:
    """Return the letter that carries a reply: known by its event's id, so that a repeated answer changes nothing."""
    return Letter(
        id=event.id,
        lane=Lane.MQTT,
        mapping=account(event.mapping),
        destination="mqtt",
        key=event.id,
        content=command,
        created_at=now,
        expires_at=now + rule.expires,
    )


def account(mapping: str) -> str:
    """Return the name under which a mapping's replies are counted; no mapping's own name holds a dot."""
    return f"{mapping}.reply"


def _is_wanted(rule: ReplyRule, names: Mapping[str, Any]) -> bool:
    try:
        return rule.when is None or rule.when.holds(names)
    except RenderError:  # a condition that can't be told counts as false
        return False
