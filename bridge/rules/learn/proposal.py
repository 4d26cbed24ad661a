"""Proposals: a mapping for each group of topics, with its name, its filter, and when it makes an event.

Pure. A name of ours is made of letters, digits, "-" and "_" only, whatever the topics are called; a capture never
bears a name that the templates give to something else.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bridge.rules.learn.groups import Group, grouped
from bridge.rules.learn.layouts import MEASURES, aside
from bridge.rules.learn.learning import Survey, Topic
from bridge.rules.learn.wishes import Wish, wish_of
from bridge.rules.topics import Filter

MAX_TABLES = 60  # more nobody reads; of a larger house a narrower filter shows one floor
MAX_LISTED = 10  # topics written out in a mapping that no filter fits
MAX_NAME = 40  # characters of a proposed name; the config takes 64, and a number may follow

# What the bridge's templates know by these names, and Jinja's own words.
_RESERVED = frozenset({
    "payload", "value", "topic", "levels", "retained", "qos", "properties", "received_at", "now", "response", "silent_for", "hook", "body", "headers",
    "query", "path", "and", "or", "not", "in", "is", "if", "else", "elif", "true", "false", "none", "self", "loop", "caller", "range", "dict", "lipsum",
    "cycler", "joiner", "namespace",
})  # fmt: skip

_AFTER = {  # the level before, and what comes after it
    "zigbee2mqtt": "device", "tele": "device", "stat": "device", "shellies": "device", "wled": "device", "frigate": "camera", "owntracks": "user",
    "rtl_433": "receiver", "companion": "device", "bttomqtt": "device", "relay": "channel", "light": "channel", "input": "channel", "roller": "channel",
    "emeter": "channel", **dict.fromkeys(MEASURES, "place"),
}  # fmt: skip
_ROOMS = frozenset({
    "kitchen", "hall", "hallway", "livingroom", "living_room", "bedroom", "bathroom", "office", "garage", "garden", "cellar", "basement", "attic",
    "study", "nursery", "terrace", "balcony",
})  # fmt: skip
_PLURAL = re.compile(r"([a-z]{3,16}[a-rt-z])s", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A mapping as it would stand in the config: its filter, or its topics where a filter would take too many."""

    name: str
    topic: str | tuple[str, ...]
    group: Group
    wish: Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposals:
    """All of them, the topics that none is for by the reason why, and how many were too many."""

    found: tuple[Proposal, ...]
    aside: dict[str, tuple[str, ...]]
    too_many: int


def proposals(survey: Survey, *, own: str) -> Proposals:
    """Return a mapping for each group that was seen; *own* is the bridge's own status topic."""
    left: dict[str, list[str]] = defaultdict(list)
    wanted: list[Topic] = []
    for topic in survey.topics.values():
        if (why := aside(topic, own)) is None:
            wanted.append(topic)
        else:
            left[why].append(topic.text)
    wishes = [(group, wish_of(group)) for group in grouped(wanted)]
    # Where they are too many, those stay that tell something, that several topics have, that go by a field with a name.
    kept = sorted(wishes, key=lambda pair: (pair[1].is_idle, -len(pair[0].topics), pair[1].subject is None))[:MAX_TABLES]
    shown = [pair for pair in wishes if any(pair is other for other in kept)]
    return Proposals(
        found=tuple(_named(shown)),
        aside={why: tuple(sorted(topics)) for why, topics in sorted(left.items())},
        too_many=len(wishes) - len(shown),
    )


def _named(wishes: Sequence[tuple[Group, Wish]]) -> Iterator[Proposal]:
    filters = [Filter.parse(_filter(group)) for group, _ in wishes]
    used: set[str] = set()
    for (group, wish), filter in zip(wishes, filters, strict=True):
        shared = sum(other.plain == filter.plain for other in filters) > 1
        name = _name(group, wish, filter, shared=shared)
        unique = next(unique for unique in (name, *(f"{name}-{n}" for n in range(2, MAX_TABLES + 2))) if unique not in used)
        used.add(unique)
        listed = shared and not wish.picks and len(group.topics) <= MAX_LISTED
        yield Proposal(name=unique, topic=tuple(topic.text for topic in group.topics) if listed else filter.text, group=group, wish=wish)


# --- filters ---


def _filter(group: Group) -> str:
    names: dict[int, str] = {}
    for position in group.varying:
        names[position] = next(name for name in _capture_names(group, position) if name not in _RESERVED and name not in names.values())
    return "/".join(f"{{{names[position]}}}" if level is None else level for position, level in enumerate(group.pattern))


def _capture_names(group: Group, position: int) -> Iterator[str]:
    """Yield names for a level that varies, the best first."""
    before = (group.pattern[position - 1] or "").casefold() if position else ""
    values = group.values_at(position)
    if before in _AFTER:
        yield _AFTER[before]
    if {value.casefold() for value in values} & _ROOMS:
        yield "room"
    if plural := _PLURAL.fullmatch(before):
        yield plural[1]
    if position == len(group.pattern) - 1 and group.sort.is_plain and not all(value.isdigit() for value in values):
        yield "field"
    yield "id" if all(value.isdigit() for value in values) else "device"
    yield from ("part", "id", "device")


# --- names ---


def _name(group: Group, wish: Wish, filter: Filter, *, shared: bool) -> str:
    parts = [level for level in group.pattern if level]
    if group.pattern[-1] is None and not group.sort.is_plain:
        parts.append(wish.subject or filter.captures[-1])
    elif shared:
        parts.extend(group.family[-1:])
    slugs = [slug for part in parts if (slug := _slug(part))]
    while len(slugs) > 2 and len("-".join(slugs)) > MAX_NAME:
        del slugs[1]  # the first and the last level tell most
    return "-".join(slugs)[:MAX_NAME].strip("-_") or "mapping"


def _slug(text: str) -> str:
    """Return a text with what a name can't hold left out; "Küche" becomes "kuche"."""
    bare = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[^a-z0-9_]+", "-", bare.casefold()).strip("-_")
