"""Forwarding: where an event goes that was addressed to where its destination isn't any more.

Pure. What a template would need of the message is known only as far as the letter still tells it: its topic, where its
key is the topic, and with it the levels and what its mapping captures of them.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from bridge.errors import RenderError
from bridge.model import Event, Letter
from bridge.rules.events import captures_of, request_of
from bridge.rules.loops import HOP
from bridge.rules.notices import notice
from bridge.rules.outbound import Destination, Outbound, Routes

_OF_THE_TOPIC = frozenset({"topic", "levels"})


def forwarding(destination: Destination, routes: Routes) -> Callable[[Letter, Event], Event]:
    """Return what readdresses a letter's event to *destination*."""
    return lambda letter, event: readdressed(letter, event, destination, _rule_of(letter, routes))


def unknown_at(name: str, routes: Routes) -> set[str]:
    """Return the names in the URL of the destination *name* that what waits for it doesn't tell any more."""
    return set[str]().union(*(_unknown_of(route.destinations[name], route.rule) for route in routes.all if name in route.destinations))


def readdressed(letter: Letter, event: Event, destination: Destination, rule: Outbound | None) -> Event:
    """Return a letter's event for another destination: its address, method and headers, and the body as it is; raise RenderError.

    *rule* is the letter's mapping, None where it isn't there any more.
    """
    if destination.apprise is not None:
        return notice((), event.body)
    own = tuple((name, value) for name, value in event.headers if name.lower() in ("content-type", HOP))
    try:
        new = request_of(destination, known_of(letter, event, rule), dict(own).get("Content-Type", "application/json"), event.body)
    except RenderError as exc:
        raise RenderError(f"{letter.id}: {exc}; what waits tells its topic at most: choose a destination whose templates need no more, or drop it") from exc
    return replace(event, method=new.method, url=new.url, headers=(*new.headers, *(pair for pair in own if pair[0] == HOP)))


def forwarded(letter: Letter, event: Event, destination: Destination, rule: Outbound | None) -> Event:
    """Return a letter's event as it is sent now: where its destination's URL is another one by now, to that one.

    One whose new URL can't be told keeps its own, and one whose new headers can't be told keeps those.
    """
    if destination.url is None or event.url == destination.url.text:
        return event
    needed = destination.url.names
    known = known_of(letter, event, rule) if needed else {}
    if needed - known.keys():
        return event
    try:
        url = destination.url.render(known)
    except RenderError:
        return event
    if event.url == url:
        return event
    try:
        return readdressed(letter, event, destination, rule)
    except RenderError:
        return replace(event, url=url)


def leads_elsewhere(event: Event, destination: Destination) -> bool:
    """Return True if an event's URL surely is not one that its destination has now, False if it may be."""
    return destination.url is not None and not event.url.startswith(destination.url.text.partition("{")[0])


def known_of(letter: Letter, event: Event, rule: Outbound | None) -> Mapping[str, Any]:
    """Return the values that a letter still gives to templates, none where it doesn't tell its topic."""
    topic = event.topic or (letter.key if rule is not None and _has_topic_as_key(rule) else "")
    levels = tuple(topic.split("/"))
    if not topic or (rule is not None and not any(filter.captured(levels) is not None for filter in rule.topic)):
        return {}
    return {"topic": topic, "levels": list(levels), **({} if rule is None else captures_of(levels, rule))}


def _has_topic_as_key(rule: Outbound) -> bool:
    return rule.order == "key" and rule.key == Outbound.model_fields["key"].default


def _unknown_of(destination: Destination, rule: Outbound) -> set[str]:
    names = set[str]() if destination.url is None else destination.url.names
    return names - _OF_THE_TOPIC - rule.captures if _has_topic_as_key(rule) or rule.reply is not None else names


def _rule_of(letter: Letter, routes: Routes) -> Outbound | None:
    route = routes.named(letter.mapping)
    return None if route is None else route.rule
