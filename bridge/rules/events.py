"""From a message to its events: what each mapping that takes it makes of it.

Pure. A message that no mapping takes has no fate; one that a mapping takes has exactly one fate per destination of
that mapping: an event, a dead letter with its reason, or an end with its reason. What gates remember is handed in
and handed back; ids and instants come from outside.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bridge.errors import RenderError
from bridge.model import Event, Headers, Lane, Letter, Message, Priority, Result, State
from bridge.rules import gates
from bridge.rules.bodies import Occasion, batched, body_of, joint_of
from bridge.rules.gates import NOTHING, Memory
from bridge.rules.loops import HOP, loop_in, onward
from bridge.rules.notices import notice
from bridge.rules.outbound import Destination, Outbound, Route, Routes
from bridge.rules.payloads import decoded, moment, timestamp, utf8
from bridge.rules.reasons import Names

KEY, TOPIC = "key", "topic"  # what a memory is of

Place = tuple[str, str, str]  # of a memory: the mapping, KEY or TOPIC, and which
Recall = Callable[[Place], Memory]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighed:
    """What a mapping's conditions and gates say of one message.

    `result` is how it ends at once (DEAD: its event can't be made), with the reason; None where it goes on to an event.
    `key` is what its gates go by. `learnt` is what they remember from now on. `silent_for` is set where silence fires.
    `now` is the gates' steady time, `wall` the clock's, which templates see. `loops` tells that it has been here before, `failed` that
    a condition could not be evaluated: `reason` says which and why.
    """

    message: Message
    route: Route
    key: str
    names: Names
    now: float
    wall: float
    result: Result | None = None
    reason: str | None = None
    learnt: Mapping[Place, Memory]
    silent_for: int | None = None
    loops: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What becomes of one message for one destination of one mapping.

    `content` is the event, or the message itself where the event could not be made (then `reason` says why), or None
    where there is none to make (`result` and `reason` say how that is counted and why). `key` is None where no order
    is kept.
    """

    mapping: str
    destination: str
    id: str
    key: str | None
    content: Event | Message | None
    result: Result | None = None
    reason: str | None = None
    expires_s: float | None = None
    priority: Priority = Priority.NORMAL


def nothing_known(_place: Place) -> Memory:
    """Return the memory of a bridge that has seen nothing yet."""
    return NOTHING


def fates_for(message: Message, routes: Routes, *, wall: float, new_id: Callable[[], str], recall: Recall = nothing_known) -> list[Fate]:
    """Return what becomes of *message*: one fate for each destination of each mapping that takes it."""
    return [fate for route in routes.of(message.topic) for fate in fates_of(weighed(message, route, now=wall, wall=wall, recall=recall), new_id=new_id)]


def weighed(message: Message, route: Route, *, now: float, wall: float, recall: Recall = nothing_known) -> Weighed:
    """Return what the mapping *route*, which takes the message's topic, says of it at *now*, which is *wall* on the clock."""
    rule = route.rule
    plain = Weighed(message=message, route=route, key=message.topic, names={}, now=now, wall=wall, learnt={})
    if (loop := loop_in(message.properties.get(HOP), route.mapping)) is not None:
        return replace(_ended(plain, loop), loops=True)
    plain, refusal = _after_replay(plain, recall)
    if refusal is not None:
        return _ended(plain, refusal)
    try:
        names = names_of(message, rule, wall=wall)
    except RenderError as exc:
        return _unfit(plain, str(exc))
    unwanted, failed = _unwanted(rule, names)
    plain = replace(plain, names=names, failed=failed)
    if not rule.remembers:
        return plain if unwanted is None else _ended(plain, unwanted)
    try:
        plain = replace(plain, key=rule.key.render(plain.names))
    except RenderError as exc:
        return _unfit(plain, str(exc)) if unwanted is None else _ended(plain, unwanted)
    return _through_gates(plain, unwanted, recall)


def fates_of(found: Weighed, *, new_id: Callable[[], str]) -> list[Fate]:
    """Return what becomes of a weighed message: one fate for each destination of its mapping."""
    if found.result is None:
        return [_rendered(found, name, destination, new_id()) for name, destination in found.route.destinations.items()]
    content = found.message if found.result is Result.DEAD else None
    return [
        Fate(mapping=found.route.mapping, destination=name, id=new_id(), key=found.key, content=content, result=found.result, reason=found.reason)
        for name in found.route.destinations
    ]


def expected_keys(rule: Outbound) -> tuple[str, ...]:
    """Return the keys that a mapping's topics name without a message: those written out, where the key is the topic."""
    is_topic = rule.key == Outbound.model_fields["key"].default
    return tuple(filter.plain for filter in rule.topic if is_topic and not {"+", "#"} & set(filter.levels))


def silence_of(route: Route, key: str, memory: Memory, *, now: float, wall: float) -> Weighed:
    """Return what a key that has been silent comes to: its last message, and for how long it has been."""
    assert memory.last is not None
    assert memory.heard_at is not None
    silent_for = max(round(now - memory.heard_at), round(route.rule.silence or 0))
    learnt = {(route.mapping, KEY, key): gates.silenced(memory)}
    plain = Weighed(message=memory.last, route=route, key=key, names={}, now=now, wall=wall, learnt=learnt, silent_for=silent_for)
    try:
        return replace(plain, names=names_of(memory.last, route.rule, wall=wall) | {"silent_for": silent_for})
    except RenderError as exc:
        return _ended(plain, str(exc), Result.DEAD)


def event_for(message: Message, route: Route, destination: str, *, id: str, wall: float) -> Event:
    """Return the event of a message that could not be rendered when it came; raise RenderError where it still can't.

    Gates had their say then; conditions are asked again, as the mapping may have been mended since.
    """
    if destination not in route.destinations:
        raise RenderError(f"the mapping does not lead to {destination!r} any more")
    rule, silent_for = route.rule, None
    names = names_of(message, rule, wall=wall)
    if rule.silence is not None:  # only its silence was to be told
        silent_for = names["silent_for"] = max(round(wall - message.received_at), round(rule.silence))
    if (unwanted := _unwanted(rule, names)[0]) is not None:
        raise RenderError(unwanted)
    plain = Weighed(message=message, route=route, key=message.topic, names=names, now=wall, wall=wall, learnt={}, silent_for=silent_for)
    event = _event(plain, route.destinations[destination], id)
    joint = joint_of(rule.shape)
    return event if rule.batch is None or joint is None else batched([event], joint=joint)


def names_of(message: Message, rule: Outbound, *, wall: float) -> dict[str, Any]:
    """Return the names that the mapping's expressions see; raise RenderError if the payload can't be decoded."""
    levels = tuple(message.topic.split("/"))
    names: dict[str, Any] = {
        "payload": decoded(message.payload, rule.decode),
        "topic": message.topic,
        "levels": list(levels),
        "retained": message.retained,
        "qos": message.qos,
        "properties": dict(message.properties),
        "received_at": timestamp(message.received_at),
        "now": moment(wall),
    }
    if (value := utf8(message.payload)) is not None:
        names["value"] = value
    return names | captures_of(levels, rule)


def captures_of(levels: Sequence[str], rule: Outbound) -> dict[str, str]:
    """Return what the first filter that takes these *levels* captures of them."""
    return next((found for filter in rule.topic if (found := filter.captured(tuple(levels))) is not None), {})


def plain_event(destination: Destination, content_type: str, body: bytes) -> Event:
    """Return an event of our own making, for a destination whose templates need no message; raise RenderError otherwise."""
    return request_of(destination, {}, content_type, body)


def request_of(destination: Destination, names: Names, content_type: str, body: bytes) -> Event:
    """Return the request to a destination that says *body*; raise RenderError where its templates need a name that *names* don't give."""
    headers: Headers = tuple((name, value.render(names)) for name, value in destination.headers.items())
    if destination.apprise is not None:
        return notice(headers, body)
    assert destination.url is not None, "checked when the settings were read"
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers = (("Content-Type", content_type), *headers)
    return Event(method=destination.method.render(names), url=destination.url.render(names), headers=headers, body=body)


def letter_of(fate: Fate, *, created_at: float, origin: str | None) -> Letter:
    """Return the letter that carries a fate's event, or that keeps what could not become one as dead."""
    assert fate.content is not None, "what has ended needs no letter"
    dead = isinstance(fate.content, Message)
    return Letter(
        id=fate.id,
        lane=Lane.WEBHOOK,
        mapping=fate.mapping,
        destination=fate.destination,
        key=fate.id if fate.key is None else fate.key,
        content=fate.content,
        created_at=created_at,
        expires_at=None if fate.expires_s is None else created_at + fate.expires_s,
        state=State.DEAD if dead else State.WAITING,
        dead_at=created_at if dead else None,
        reason=fate.reason,
        origin=origin,
        priority=fate.priority,
    )


# --- conditions and gates ---


def _after_replay(plain: Weighed, recall: Recall) -> tuple[Weighed, str | None]:
    """Return what is known after the gate `retained`, and why it refuses the message, or None."""
    rule, place = plain.route.rule, (plain.route.mapping, TOPIC, plain.message.topic)
    if rule.retained != "changed":
        return plain, gates.replayed(rule, NOTHING, plain.message)[1] if plain.message.retained else None
    before = recall(place)
    after, refusal = gates.replayed(rule, before, plain.message)
    return plain if after == before else replace(plain, learnt={place: after}), refusal


def _unwanted(rule: Outbound, names: Names) -> tuple[str | None, bool]:
    """Return why `when` doesn't want a message, None if it does; and True where it could not be evaluated, else False."""
    try:
        return None if rule.when is None or rule.when.holds(names) else f"`when` is false: {rule.when.text}", False
    except RenderError as exc:
        return f"`when` counts as false: {exc}", True


def _through_gates(plain: Weighed, unwanted: str | None, recall: Recall) -> Weighed:
    """Return what the gates that remember say.

    What `on_change` compares is noted of every message, also of one that `when` doesn't want: a motion sensor that says
    "no motion" in between has changed when it says "motion" again.
    """
    rule, place = plain.route.rule, (plain.route.mapping, KEY, plain.key)
    memory = before = recall(place)
    refusal, result = unwanted, Result.FILTERED
    if rule.on_change is not None:
        memory, unchanged, failed = _after_change(rule, memory, plain.names)
        if refusal is None:
            refusal, plain = unchanged, replace(plain, failed=failed)
    if rule.silence is not None and refusal is None:
        memory, refusal = _after_word(memory, plain)
    if rule.debounce is None and refusal is None:
        memory, refusal = gates.cooled(rule, memory, plain.now)
        if refusal is not None:
            memory, result = before, Result.COALESCED  # a change that isn't told is told when it is reported again
    found = plain if memory == before else replace(plain, learnt={**plain.learnt, place: memory})
    return found if refusal is None else _ended(found, refusal, result)


def _after_word(memory: Memory, plain: Weighed) -> tuple[Memory, str]:
    """Return what is remembered of a key that speaks, and that this makes no event."""
    if plain.message.retained and memory.heard_at is not None:
        return memory, "it is a retained message that the broker replayed: no sign of life"
    return gates.heard(memory, plain.message, plain.now), "it is a sign of life: the mapping makes an event of silence only"


def _after_change(rule: Outbound, memory: Memory, names: Names) -> tuple[Memory, str | None, bool]:
    """Return what is remembered, why `on_change` refuses the message or None, and True where it could not be evaluated, else False."""
    assert rule.on_change is not None
    try:
        return *gates.changed(memory, gates.mark(rule.on_change.value(names))), False
    except RenderError as exc:
        return memory, f"`on_change` counts as unchanged: {exc}", True


def _unfit(plain: Weighed, reason: str) -> Weighed:
    """Return what a message that its mapping can't read comes to: a dead letter, but where no event was to be made of it."""
    return _ended(plain, reason, Result.DEAD if plain.route.rule.silence is None else Result.FILTERED)


def _ended(plain: Weighed, reason: str, result: Result = Result.FILTERED) -> Weighed:
    return replace(plain, result=result, reason=reason)


# --- the event ---


def _rendered(found: Weighed, name: str, destination: Destination, id: str) -> Fate:
    route, rule = found.route, found.route.rule
    try:
        event = _event(found, destination, id)
        key = rule.key.render(found.names) if rule.order == "key" else None
    except RenderError as exc:
        return Fate(mapping=route.mapping, destination=name, id=id, key=found.message.topic, content=found.message, result=Result.DEAD, reason=str(exc))
    return Fate(mapping=route.mapping, destination=name, id=id, key=key, content=event, expires_s=rule.expires, priority=rule.priority)


def _event(found: Weighed, destination: Destination, id: str) -> Event:
    rule, names, message = found.route.rule, found.names, found.message
    captures = captures_of(names["levels"], rule)
    occasion = Occasion(message=message, mapping=found.route.mapping, captures=captures, id=id, wall=found.wall, silent_for=found.silent_for)
    event = request_of(destination, names, *body_of(rule.shape, occasion, names))
    hop = () if destination.apprise is not None else ((HOP, onward(message.properties.get(HOP), found.route.mapping)),)
    return replace(event, headers=(*event.headers, *hop), topic=message.topic if rule.reply is not None else "")
