"""Loops: how a message that goes round is noticed, and cut.

Three nets, one behind the other. The *trail*: each event says in the header `webhook-hop`, each publish in the MQTT 5
user property of that name, which mappings and hooks led to it (as `CDN-Loop` does, RFC 8586); what meets itself ends.
The *lint*: filters and topics of one config that lead back to each other, found before anything runs. The *storm*:
what comes back of our own publishes faster than a house speaks stops its mapping for a while, also where a broker
or a device hands no user properties on.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from bridge.rules.topics import Filter

HOP = "webhook-hop"
MAX_TRAIL = 16  # names; a chain of so many mappings and hooks that is no loop has not been seen

STORM_ECHOES, STORM_S = 60, 30.0  # a loop over a slow card still makes ten a second; a hand on a dimmer no more than ten, and not for long
STORM_PAUSE_S = 60.0  # then it is tried again

_TRAIL = re.compile(r"[A-Za-z0-9_-]{1,64}(?:, ?[A-Za-z0-9_-]{1,64})*", re.ASCII)

# What devices publish their state to, told from their command topic: Zigbee2MQTT, Z-Wave JS UI, evcc, Valetudo; Tasmota;
# Shelly, ESPHome.
_STATES = (
    (re.compile(r"(.+)/set(?:/[^/]+)?"), r"\1"),
    (re.compile(r"cmnd/([^/]+)/(.+)"), r"stat/\1/\2"),
    (re.compile(r"(.+)/command"), r"\1"),
    (re.compile(r"(.+)/command"), r"\1/state"),
)


# --- the trail ---


def trail(text: str | None) -> tuple[str, ...]:
    """Return the names in a `webhook-hop`; nothing where it isn't one."""
    if text is None or len(text) > MAX_TRAIL * 68 or not _TRAIL.fullmatch(text):
        return ()
    return tuple(name.strip() for name in text.split(","))


def onward(text: str | None, name: str) -> str:
    """Return the `webhook-hop` of what *name* makes of what bore *text*."""
    return ", ".join((*trail(text), name))


def loop_in(text: str | None, name: str) -> str | None:
    """Return why *name* must not take what bears the `webhook-hop` *text*, or None if it may."""
    names = trail(text)
    if name in names:
        return f"a loop: it has come through {name} before ({HOP}: {text})"
    return f"a loop: it has come through {len(names)} mappings and hooks ({HOP}: {text})" if len(names) >= MAX_TRAIL else None


# --- the lint ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A mapping or a hook as the lint sees it: what it takes, and what it leads to.

    A mapping takes `filters` and posts to `urls`, or to hooks of this bridge by their path; a hook takes requests and
    publishes to `topic`, as a mapping with a reply does.
    """

    name: str
    kind: str
    filters: tuple[Filter, ...] = ()
    hooks: tuple[str, ...] = ()
    topic: str | None = None


def loops(places: Iterable[Place]) -> list[tuple[Place, ...]]:
    """Return ways that lead back to where they began, each once, as the places on it: the first from every place."""
    known = list(places)
    after = {place.name: list(_after(place, known)) for place in known if place.hooks or place.topic is not None}
    found: dict[frozenset[str], tuple[Place, ...]] = {}
    for start in known:
        if start.name in after and (way := _way_back(start, after)):
            found.setdefault(frozenset(place.name for place in way), way)
    return list(found.values())


def overlaps(filter: Filter, topic: str) -> bool:
    """Return True if a topic written as *topic*, templates and all, may be one that *filter* takes, False if it never is."""
    levels = tuple("+" if "{" in level else level for level in re.sub(r"\{\{.*?\}\}|\{%.*?%\}", "{", topic).split("/"))
    return _may_meet(filter.levels, levels)


def own_hooks(url: str, *, listen: str, paths: Mapping[str, Filter]) -> tuple[str, ...]:
    """Return the names of this bridge's hooks, by their *paths*, that *url* leads to when they listen at *listen*."""
    parts = urlsplit(re.sub(r"\{\{.*?\}\}", "x", url))
    host, _, port = listen.rpartition(":")
    local = {"localhost", "127.0.0.1", "::1", host.strip("[]")}
    default = 443 if parts.scheme == "https" else 80
    if parts.hostname not in local or (parts.port or default) != int(port):
        return ()
    levels = tuple(parts.path.removeprefix("/").split("/"))
    return tuple(name for name, pattern in paths.items() if pattern.takes(levels))


def state_topics(topic: str) -> tuple[str, ...]:
    """Return the topics at which a device that is commanded at *topic* tells what it then does."""
    return tuple(found.expand(state) for command, state in _STATES if (found := command.fullmatch(topic)))


def _way_back(start: Place, after: Mapping[str, list[Place]]) -> tuple[Place, ...] | None:
    """Return the shortest way from a place to itself, or None if there is none."""
    ways: deque[tuple[Place, ...]] = deque([(start,)])
    met = {start.name}
    while ways:
        way = ways.popleft()
        for following in after.get(way[-1].name, ()):
            if following is start:
                return way
            if following.name not in met:
                met.add(following.name)
                ways.append((*way, following))
    return None


def _after(place: Place, known: list[Place]) -> Iterator[Place]:
    topics = () if place.topic is None else (place.topic, *state_topics(place.topic))
    for other in known:
        if other.name in place.hooks or any(overlaps(filter, topic) for filter in other.filters for topic in topics):
            yield other


def _may_meet(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    for n, level in enumerate(one):
        if level == "#":
            return not other[0].startswith("$") or n > 0
        if n >= len(other) or (level not in ("+", other[n]) and other[n] != "+"):
            return False
    return len(one) == len(other)


# --- the storm ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """How many echoes of our own publishes a mapping got since `began_at`; `until` is set while it is stopped."""

    began_at: float
    count: int = 0
    until: float | None = None


def gust(storm: Storm | None, now: float) -> Storm:
    """Return a mapping's storm after one echo more at *now*; one that is stopped stays so until its pause is over."""
    if storm is None or now >= (storm.until or storm.began_at + STORM_S):
        return Storm(began_at=now, count=1)
    if storm.until is not None:
        return storm
    grown = replace(storm, count=storm.count + 1)
    return replace(grown, until=now + STORM_PAUSE_S) if grown.count > STORM_ECHOES else grown
