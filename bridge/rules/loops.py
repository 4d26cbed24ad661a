"""Loops: how a message that goes round is noticed, and cut.

Three nets, one behind the other. The *trail*: each event says in the header `webhook-hop`, each publish in the MQTT 5
user property of that name, which mappings and hooks led to it (as `CDN-Loop` does, RFC 8586); what meets itself ends.
The *lint*: filters and topics of one config that lead back to each other, found before anything runs. The *storm*:
what comes back of our own publishes faster than a house speaks stops its mapping for a while, also where a broker
or a device hands no user properties on.
"""

import re
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from urllib.parse import unquote, urlsplit

from bridge.rules.topics import Filter, FilterTree

HOP = "webhook-hop"
MAX_TRAIL = 16  # names; a chain of so many mappings and hooks that is no loop has not been seen

STORM_ECHOES, STORM_S = 150, 30.0  # five a second for half a minute: a loop over a slow card still makes ten, a hand on a dimmer tires
STORM_PAUSE_S = 60.0  # then it is tried again

_VALUE, _COMMENT = re.compile(r"\{\{.*?\}\}", re.DOTALL), re.compile(r"\{#.*?#\}", re.DOTALL)
_TAG = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_TRAIL = re.compile(r"[A-Za-z0-9_-]{1,64}(?:, ?[A-Za-z0-9_-]{1,64})*", re.ASCII)

# What devices publish their state to, told from their command topic: Zigbee2MQTT, Z-Wave JS UI, evcc, Valetudo; Frigate;
# Tasmota, twice; Shelly; ESPHome.
_STATES = (
    (re.compile(r"(.+)/set(?:/[^/]+)?"), r"\1"),
    (re.compile(r"(.+)/set"), r"\1/state"),
    (re.compile(r"cmnd/([^/]+)/(.+)"), r"stat/\1/\2"),
    (re.compile(r"cmnd/([^/]+)/(.+)"), r"stat/\1/RESULT"),
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

    A mapping takes `filters` and may post to `hooks` of this bridge; a hook publishes to `topics`, as a mapping with a
    reply does.
    """

    name: str
    kind: str
    filters: tuple[Filter, ...] = ()
    hooks: tuple[str, ...] = ()
    topics: tuple[str, ...] = ()


def loops(places: Iterable[Place]) -> list[tuple[Place, ...]]:
    """Return ways that lead back to where they began, each once, as the places on it: the shortest from every place."""
    known = {place.name: place for place in places}
    taking = _taking(known.values())
    after = {place.name: _after(place, known, taking) for place in known.values() if place.hooks or place.topics}
    found: dict[frozenset[str], tuple[Place, ...]] = {}
    for name in after:
        if way := _way_back(known[name], after):
            found.setdefault(frozenset(place.name for place in way), way)
    return list(found.values())


def heard(places: Iterable[Place], ways: Iterable[tuple[Place, ...]]) -> list[tuple[Place, tuple[Place, ...]]]:
    """Return each mapping that takes what others publish, with these others; not those that are on one of the *ways* together.

    Whether its receiver calls them, and so makes a loop of it, stands in no config.
    """
    known = {place.name: place for place in places}
    taking = _taking(known.values())
    told: dict[str, set[str]] = {}
    for way in ways:
        for place in way:
            told.setdefault(place.name, set()).update(other.name for other in way)
    found: dict[str, dict[str, Place]] = {}
    for place in known.values():
        for taker in (taker for topic in place.topics for taker in taking.meeting(levels_of(topic))):
            if taker.name not in told.get(place.name, ()):
                found.setdefault(taker.name, {})[place.name] = place
    return [(known[name], tuple(publishing.values())) for name, publishing in found.items()]


def overlaps(filter: Filter, topic: str) -> bool:
    """Return True if a topic written as *topic*, templates and all, may be one that *filter* takes, False if it never is."""
    tree: FilterTree[Filter] = FilterTree()
    tree.add(filter.levels, filter)
    return bool(tree.meeting(levels_of(topic)))


def levels_of(topic: str) -> tuple[str, ...]:
    """Return the levels of a topic that a template makes: a value is any one level, and behind a block all is possible."""
    plain = _COMMENT.sub("", topic)
    before, block, _ = plain.partition("{%")
    levels = ["+" if "\0" in level else level for level in _VALUE.sub("\0", before).split("/")]
    return tuple(levels) if not block else (*levels[:-1], "#")


def any_level_is_open(topic: str) -> bool:
    """Return True if a level of a template's topic is nothing but a value, or whatever a block makes of it; False if each is bound by what is written."""
    plain = _VALUE.sub("", _COMMENT.sub("", topic))
    return "{%" in plain or "" in plain.split("/")


def own_hooks(url: str, *, listen: str, paths: Mapping[str, Filter]) -> tuple[str, ...]:
    """Return the names of this bridge's hooks, by their *paths*, that *url* may lead to when they listen at *listen*."""
    if listen.startswith("unix:"):
        return ()  # no URL leads to a socket file
    plain = _TAG.sub("+", _COMMENT.sub("", url))
    parts = urlsplit(plain)
    host, _, port = listen.rpartition(":")
    local = {"localhost", "127.0.0.1", "::1", host.strip("[]")}
    default = 443 if parts.scheme == "https" else 80
    if parts.hostname not in local or (parts.port or default) != int(port):
        return ()
    levels = tuple("+" if "+" in segment else unquote(segment) for segment in parts.path.removeprefix("/").split("/"))
    return tuple(name for name, pattern in paths.items() if _may_meet(pattern, levels))


def state_topics(topic: str) -> tuple[str, ...]:
    """Return the topics at which a device that is commanded at *topic* tells what it then does."""
    return tuple(found.expand(state) for command, state in _STATES if (found := command.fullmatch(topic)))


def _taking(places: Iterable[Place]) -> FilterTree[Place]:
    """Return the mappings among them by what they take."""
    taking: FilterTree[Place] = FilterTree()
    for place in places:
        for filter in place.filters:
            taking.add(filter.levels, place)
    return taking


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


def _after(place: Place, known: Mapping[str, Place], taking: FilterTree[Place]) -> list[Place]:
    """Return where a place leads to: the hooks that it posts to, and what takes the topics that it, or its device, publishes to."""
    found = {name: known[name] for name in place.hooks if name in known}
    for topic in (one for own in place.topics for one in (own, *state_topics(own))):
        found |= {other.name: other for other in taking.meeting(levels_of(topic))}
    return list(found.values())


def _may_meet(pattern: Filter, levels: tuple[str, ...]) -> bool:
    tree: FilterTree[Filter] = FilterTree()
    tree.add(pattern.levels, pattern)
    return bool(tree.meeting(levels))


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
