"""Specimens: a message such as a mapping takes, and the events that it would make, to test a receiver with.

Pure. It asks neither the conditions nor the gates: whether the receiver is right is not theirs to say.
"""

from collections.abc import Callable
from dataclasses import replace

from bridge.errors import RenderError
from bridge.model import Event, Message, Result
from bridge.rules.bodies import batched, joint_of
from bridge.rules.events import Fate, Weighed, fates_of, names_of
from bridge.rules.outbound import Route
from bridge.rules.topics import Filter

FILLER = "test"  # stands for a level that has no name


def topic_for(filter: Filter) -> str:
    """Return a topic that *filter* takes: each level that it leaves open bears the name of its capture, or "test"."""
    return "/".join((name or FILLER) if level in ("+", "#") else level for level, name in zip(filter.levels, filter.names, strict=True))


def specimens(message: Message, route: Route, *, wall: float, new_id: Callable[[], str]) -> list[Fate]:
    """Return what the mapping makes of *message* for each of its destinations, as if all its conditions held.

    Under `silence` it has lasted just as long as the mapping asks for; under `batch` each body is a list of one.
    """
    rule = route.rule
    found = Weighed(message=message, route=route, key=message.topic, names={}, now=wall, wall=wall, learnt={})
    if rule.silence is not None:
        found = replace(found, silent_for=round(rule.silence))
    try:
        found = replace(found, names=names_of(message, rule, wall=wall) | {"silent_for": found.silent_for})
    except RenderError as exc:
        found = replace(found, result=Result.DEAD, reason=str(exc))
    return [_as_sent(fate, route) for fate in fates_of(found, new_id=new_id)]


def _as_sent(fate: Fate, route: Route) -> Fate:
    joint = joint_of(route.rule.shape)
    if route.rule.batch is None or joint is None or not isinstance(fate.content, Event):
        return fate
    return replace(fate, content=batched([fate.content], joint=joint))
