"""Groups: which topics are the same thing said by different devices.

Pure. Topics of a group have the same number of levels and the same kind of payload, and differ only in levels that
name a device, a room or a number. What merely looks alike stays apart: a level with a meaning of its own ("bridge",
"relay", "temperature") is never one that varies.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property

from bridge.rules.learn.layouts import DOWN, MEASURES, UP, WHETHER, has_meaning, is_id
from bridge.rules.learn.learning import Field, Kind, Path, Topic
from bridge.rules.learn.meanings import OFTEN, SURE, Found, family, told_by

MAX_CAPTURES = 2  # as in shellies/{device}/relay/{channel}; with more a filter takes almost anything
MAX_POSITION = 12  # of a level that may vary; no layout read has more than 8 levels
SHELF = 6  # plain topics beside each other that become one group: nobody wants so many mappings for one thing
MAX_SORTS = 50  # of devices beside each other; what comes after them stays alone, or it would take minutes to tell
WEAK = 3  # plain topics that have to look alike where nothing else tells that they are

# What a switch, a door or a lock says.
_TURNS = frozenset({"on", "off", "open", "closed", "opened", "close", "locked", "unlocked", "true", "false", "detected", "clear"})


class Sort(StrEnum):
    """What a group's messages tell."""

    AVAILABILITY = "availability"
    TURN = "on or off"
    PLAIN = "plain values"
    TABLE = "table"
    LIST = "list"

    @property
    def is_plain(self) -> bool:
        """Return True if a message is one value, False if it has fields."""
        return self in (Sort.PLAIN, Sort.TURN, Sort.AVAILABILITY)


@dataclass(frozen=True)
class Group:
    """Topics that are one thing; a level of the pattern is None where it varies."""

    pattern: tuple[str | None, ...]
    topics: tuple[Topic, ...]
    sort: Sort

    @property
    def messages(self) -> int:
        """Return how many messages came."""
        return sum(topic.messages for topic in self.topics)

    @property
    def retained(self) -> int:
        """Return how many of them the broker replayed."""
        return sum(topic.retained for topic in self.topics)

    @cached_property
    def fields(self) -> dict[Path, Field]:
        """Return the fields of all its topics, joined."""
        joined: dict[Path, Field] = {}
        for topic in self.topics:
            for path, field in topic.fields.items():
                joined.setdefault(path, Field()).join(field)
        return joined

    @cached_property
    def telling(self) -> frozenset[str | int]:
        """Return the names of its first fields that tell of what sort the device is."""
        keys = frozenset(path[0] for path in self.fields if path)
        return frozenset(key for key in keys if str(key).casefold() not in OFTEN) or keys

    @cached_property
    def most_telling(self) -> Found | None:
        """Return the field that tells best of what sort the device is, whatever its values are."""
        return next(iter(told_by(self.fields, self.messages, changing_first=False)), None)

    @property
    def family(self) -> tuple[str, ...]:
        """Return what that field has in common with those of its like; nothing if there is none."""
        return family(self.most_telling[1]) if self.most_telling else ()

    @property
    def varying(self) -> list[int]:
        """Return the positions of the levels that vary."""
        return [position for position, level in enumerate(self.pattern) if level is None]

    def values_at(self, position: int) -> set[str]:
        """Return what its topics have at a level."""
        return {topic.levels[position] for topic in self.topics}


def grouped(topics: Iterable[Topic]) -> list[Group]:
    """Return the topics in groups."""
    groups = _shelved([Group(topic.levels, (topic,), _sort(topic)) for topic in topics])
    for _ in range(MAX_CAPTURES):
        for position in range(MAX_POSITION):
            groups = _merged(groups, position)
    return sorted((_exact(group) for group in groups), key=lambda group: [level or "" for level in group.pattern])


def _sort(topic: Topic) -> Sort:
    plain = topic.fields.get(()) or topic.fields.get(("state",)) if topic.keys <= {"state"} else None
    words = plain.known if plain is not None else None
    last = topic.levels[-1].casefold()
    if words is not None and words <= UP | DOWN and (last in WHETHER or not words <= {"true", "false"}):
        return Sort.AVAILABILITY
    if topic.kind in (Kind.TABLE, Kind.LIST):
        return Sort(topic.kind.value)
    return Sort.TURN if words is not None and words <= _TURNS else Sort.PLAIN


# --- from topics to groups ---


def _shelved(groups: list[Group]) -> list[Group]:
    """Put plain topics together of which there are many beside each other, as evcc has them."""
    shelves: dict[tuple[str | None, ...], list[Group]] = defaultdict(list)
    for group in groups:
        if group.sort in (Sort.PLAIN, Sort.TURN) and len(group.pattern) > 1 and not is_id(str(group.pattern[-1])):
            shelves[group.pattern[:-1]].append(group)
    full = {parent: found for parent, found in shelves.items() if len(found) >= SHELF}
    taken = {id(group) for found in full.values() for group in found}
    return [group for group in groups if id(group) not in taken] + [_joined(found, (*parent, None)) for parent, found in full.items()]


def _merged(groups: list[Group], position: int) -> list[Group]:
    """Merge the groups that differ at one level only, where that level may vary."""
    rows: dict[tuple[Sort, tuple[str | None, ...]], list[Group]] = defaultdict(list)
    merged: list[Group] = []
    for group in groups:
        if _may_vary(group, position):
            rows[group.sort, _with_gap(group.pattern, position)].append(group)
        else:
            merged.append(group)
    instances: dict[tuple[str | None, ...], set[str]] = defaultdict(set)
    for (_, pattern), row in rows.items():
        for alike in _clusters(row, position):
            merged.append(_joined(alike, pattern) if len(alike) > 1 else alike[0])
            if len(alike) > 1:
                instances[pattern[:position]] |= merged[-1].values_at(position)
    return [_known(group, position, instances) for group in merged]


def _may_vary(group: Group, position: int) -> bool:
    """Return True if the level there could be a device's or a room's, and something fixed would remain; False if not."""
    if position >= len(group.pattern) or len(group.varying) == MAX_CAPTURES:
        return False
    level = group.pattern[position]
    fixed = [other for n, other in enumerate(group.pattern) if n != position and other]
    return bool(level) and bool(fixed) and not has_meaning(str(level), position)


def _clusters(row: list[Group], position: int) -> list[list[Group]]:
    """Return the groups of a row in clusters of those that belong together."""
    if row[0].sort is not Sort.TABLE:
        return [row] if _plainly_alike(row, position) else [[group] for group in row]
    clusters: list[list[Group]] = []
    for group in sorted(row, key=lambda group: -len(group.fields)):
        found = next((cluster for cluster in clusters[:MAX_SORTS] if _tables_alike(cluster[0], group, position)), None)
        if found is None:
            clusters.append([group])
        else:
            found.append(group)
    return clusters


def _plainly_alike(row: list[Group], position: int) -> bool:
    """Return True if plain values that differ in a level's name are the same thing, False if nothing tells so."""
    values = {level for group in row if (level := group.pattern[position])}
    before, last = row[0].pattern[position - 1] if position else None, row[0].pattern[-1]
    if all(is_id(level) for level in values):
        return True
    if position == len(row[0].pattern) - 1:
        # The last level of a plain value is its name, as a rule: "kitchen" only after "temperature".
        return before is not None and before.casefold() in MEASURES | WHETHER
    if last is not None and last.casefold() in MEASURES:
        return True
    return row[0].sort in (Sort.AVAILABILITY, Sort.TURN) or len(values) >= WEAK


def _tables_alike(one: Group, other: Group, position: int) -> bool:
    """Return True if two tables are of the same sort of device, False if not: the most telling field goes before all that they share."""
    if one.most_telling and other.most_telling:
        if one.family != other.family:
            return False
        if max(one.most_telling[0].rank, other.most_telling[0].rank) <= SURE:
            return True
    if is_id(str(one.pattern[position])) and is_id(str(other.pattern[position])):
        return True
    return 2 * len(one.telling & other.telling) >= max(len(one.telling), len(other.telling))


def _known(group: Group, position: int, instances: dict[tuple[str | None, ...], set[str]]) -> Group:
    """Let a level vary that names a device which other topics made known, even if no other has this topic."""
    if not _may_vary(group, position) or group.pattern[position] not in instances.get(group.pattern[:position], ()):
        return group
    return replace(group, pattern=_with_gap(group.pattern, position))


def _exact(group: Group) -> Group:
    """Name a single topic as it is where only its last level varies: a filter would take its siblings too."""
    alone = len(group.topics) == 1 and group.pattern[-1] is None
    return replace(group, pattern=group.topics[0].levels) if alone else group


def _joined(groups: list[Group], pattern: tuple[str | None, ...]) -> Group:
    sorts = {group.sort for group in groups}
    return Group(pattern, tuple(topic for group in groups for topic in group.topics), groups[0].sort if len(sorts) == 1 else Sort.PLAIN)


def _with_gap(pattern: tuple[str | None, ...], position: int) -> tuple[str | None, ...]:
    return (*pattern[:position], None, *pattern[position + 1 :])
