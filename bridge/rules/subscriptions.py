"""What to subscribe to, and how to tell a copy from a new message.

An MQTT 5 broker sends one copy of a message for each overlapping subscription (Mosquitto 2.0.11: three
filters, three copies; over 3.1.1 one). A filter covered by another is therefore not subscribed, and
where two merely cross, the subscription identifiers tell a copy from a repeat. MQTT 5.0 section 3.3.4.
"""

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from bridge.rules.topics import Filter, FilterTree

REMEMBERED = 64  # messages; copies come one after the other, so a few would do

MAX_IDENTIFIER = 268_435_455  # MQTT 5.0 section 3.8.2.1.2


@dataclass(frozen=True, slots=True)
class Subscription:
    """What to subscribe to: QoS 0 or 1, and whether the broker's retained messages are wanted: when it is new, or (`always`) at each connection."""

    qos: int
    retained: bool
    always: bool = False

    def joined(self, other: "Subscription") -> "Subscription":
        """Return what serves both."""
        return Subscription(max(self.qos, other.qos), self.retained or other.retained, self.always or other.always)


@dataclass(frozen=True, slots=True, order=True)
class Replay:
    """What a mapping is to be given of what the broker keeps, once, when it is new: what one of its filters takes."""

    mapping: str
    plain: str

    @property
    def identifier(self) -> int:
        """Return the subscription identifier under which it is asked for; no filter has a NUL, so none has the same name."""
        return identifier(f"{self.mapping}\0{self.plain}")


def subscriptions(filters: Iterable[tuple[Filter, Subscription]]) -> dict[str, Subscription]:
    """Return each filter that has to be subscribed, by its plain text, and how: as the neediest mapping wants it.

    QoS 2 becomes 1: nothing is lost by it, and a receiver's webhook-id takes care of repeats.
    """
    wanted: dict[str, Subscription] = {}
    tree: FilterTree[str] = FilterTree()
    levels: dict[str, tuple[str, ...]] = {}
    for filter, wish in filters:
        if filter.plain not in wanted:
            levels[filter.plain] = filter.levels
            tree.add(filter.levels, filter.plain)
        bounded = Subscription(min(wish.qos, 1), wish.retained, wish.always)
        wanted[filter.plain] = bounded.joined(wanted.get(filter.plain, bounded))
    coverers = {plain: [other for other in tree.covering(levels[plain]) if other != plain] for plain in wanted}
    kept = {plain: wish for plain, wish in wanted.items() if not coverers[plain]}
    for plain, wish in wanted.items():
        for other in coverers[plain]:
            if other in kept:
                kept[other] = kept[other].joined(wish)
    return kept


def uncovered(plains: Iterable[str], by: Iterable[str]) -> list[str]:
    """Return those filters, each once and in order, of which no filter of *by* takes all."""
    tree: FilterTree[str] = FilterTree()
    for plain in by:
        tree.add(tuple(plain.split("/")), plain)
    return [plain for plain in dict.fromkeys(plains) if not tree.covering(tuple(plain.split("/")))]


def identifier(plain: str) -> int:
    """Return the subscription identifier of a filter: the same in every run, as the broker's queue outlives us."""
    return zlib.crc32(plain.encode()) % MAX_IDENTIFIER + 1


class Copies:
    """Recognises the second and later copies of one message, one for each crossing subscription."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, int], set[int]] = OrderedDict()

    def is_copy(self, topic: str, payload: bytes, identifiers: Iterable[int]) -> bool:
        """Return True if this came already through another subscription, False if it is a message of its own."""
        fresh = set(identifiers)
        if not fresh:
            return False
        mark = (topic, hash(payload))
        seen = self._seen.get(mark)
        if seen is not None and not seen & fresh:
            seen |= fresh
            return True
        self._seen[mark] = fresh
        self._seen.move_to_end(mark)
        if len(self._seen) > REMEMBERED:
            self._seen.popitem(last=False)
        return False
