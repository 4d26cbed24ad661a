"""Meanings: what the fields of payloads are called, and how telling each of them is.

Pure. Tables of names, read off the devices of 17 families. A field tells of an event, of a device itself, or nothing;
of those that tell equally much, the one that changed while we listened goes first.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum, auto

from bridge.rules.learn.layouts import is_id
from bridge.rules.learn.learning import TAME, Field, Kind, Path

NUMBERS = frozenset({Kind.NUMBER, Kind.DIGITS})
SILENT = frozenset({Kind.NOTHING, Kind.EMPTY})

BATTERIES = ("battery", "batt")
TYPES = ("event", "type", "_type", "method")  # which of several things a message tells
MOMENTS = ("action", "click", "press")  # told once, when it happens
POWERS = ("power", "apower", "act_power", "active_power", "total_act_power")  # in watts
TEMPERATURES = ("temperature", "tempc", "temperature_c")

# Said by devices of every sort: it tells nothing of the sort.
OFTEN = frozenset({
    "battery", "battery_low", "batt", "voltage", "linkquality", "last_seen", "update", "update_available", "time", "tempunit", "tamper",
    "device_temperature", "power_outage_count",
})  # fmt: skip
# Tables that tell of the device itself, or of what was.
_INNER = frozenset({"update", "wifi", "device", "dev", "before", "config"})

_BEGINNINGS = ("smoke", "gas", "carbon_monoxide", "water_leak", "leak", "alarm", "sos", "vibration", "occupancy", "presence", "motion", "moving")
_DOORS = ("contact", "open", "opening", "door", "dooropen", "window", "lock", "lock_state")
_TURNS = ("state", "power", "switch", "output", "charging", "running")
_MEASUREMENTS = (
    "co2", "pm25", "humidity", "hum", "soil_moisture", "moi", "energy", "total", "illuminance", "illuminance_lux", "pressure", "distance", "position", "brightness", "level",
)  # fmt: skip
_TROUBLES = ("tamper", "battery_low", "low_battery")

SURE = 1  # up to this rank a name tells the sort of a device by itself: a door is a door, whoever made it


class Way(Enum):
    """How an event is made of a field."""

    HELD = auto()  # each time that it holds something
    BEGUN = auto()  # once each time that it becomes true
    CHANGED = auto()
    STEPPED = auto()  # when a measurement is another, but for its jitter
    CROSSED = auto()  # when a power says that something runs, or doesn't any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Meaning:
    """Fields of these names and kinds, and how telling they are: 0 is the most."""

    rank: int
    names: tuple[str, ...]
    kinds: frozenset[Kind]
    way: Way


_TRUTH, _TEXT, _EITHER = frozenset({Kind.TRUTH}), frozenset({Kind.TEXT}), frozenset({Kind.TRUTH, Kind.TEXT})

_MEANINGS = (
    Meaning(rank=0, names=MOMENTS, kinds=_TEXT, way=Way.HELD),
    Meaning(rank=1, names=_BEGINNINGS, kinds=_TRUTH, way=Way.BEGUN),
    Meaning(rank=1, names=_DOORS, kinds=_EITHER, way=Way.CHANGED),
    Meaning(rank=2, names=_TURNS, kinds=_EITHER, way=Way.CHANGED),
    Meaning(rank=2, names=POWERS, kinds=NUMBERS, way=Way.CROSSED),
    Meaning(rank=2, names=_BEGINNINGS, kinds=_TEXT, way=Way.CHANGED),
    Meaning(rank=3, names=TEMPERATURES, kinds=NUMBERS, way=Way.STEPPED),
    Meaning(rank=4, names=_MEASUREMENTS, kinds=NUMBERS, way=Way.STEPPED),
    Meaning(rank=5, names=_TROUBLES, kinds=_TRUTH, way=Way.BEGUN),
    Meaning(rank=5, names=("device_temperature",), kinds=NUMBERS, way=Way.STEPPED),
)
_KNOWN = frozenset(name for meaning in _MEANINGS for name in meaning.names)

Found = tuple[Meaning, Path]


def told_by(fields: Mapping[Path, Field], messages: int, *, changing_first: bool) -> list[Found]:
    """Return the fields that are in most of the messages and tell of events, the most telling first.

    With *changing_first*, of those of one rank what has changed goes before what hasn't.
    """
    found = [(meaning, path) for path, field in fields.items() if 2 * field.count >= messages and (meaning := meaning_of(path, field))]

    def order(one: Found) -> tuple[int, bool, int, int, int]:
        meaning, path = one
        still = changing_first and not fields[path].varied
        return meaning.rank, still, _MEANINGS.index(meaning), meaning.names.index(name_of(path)), len(path)

    return sorted(found, key=order)


def meaning_of(path: Path, field: Field) -> Meaning | None:
    """Return what a field tells of, or None if that is nothing."""
    told = field.kinds - SILENT
    if not told or not is_tame(path) or is_inner(path):
        return None
    return next((meaning for meaning in _MEANINGS if name_of(path) in meaning.names and told <= meaning.kinds and (told <= NUMBERS or field.known is not None)), None)


def family(path: Path) -> tuple[str, ...]:
    """Return what fields of one sort have in common: their table without serial numbers, or their name."""
    return tuple(str(step) for step in path[:-1] if not is_id(str(step))) or (name_of(path),)


def name_of(path: Path) -> str:
    """Return a field's name as the tables have it: POWER1 and Switch2 are a power and a switch."""
    name = str(path[-1]).casefold() if path else ""
    return name if name in _KNOWN else name.rstrip("0123456789")


def is_tame(path: Path) -> bool:
    """Return True if an expression can name a field as it is, False if its name has signs that would have to be escaped."""
    return all(isinstance(step, int) or TAME.fullmatch(step) for step in path)


def is_inner(path: Path) -> bool:
    """Return True if a field tells of the device itself, or of what was; False if of what is."""
    return any(str(step).casefold() in _INNER for step in path[:-1])


def ranks(fields: Mapping[Path, Field]) -> Iterator[tuple[Path, int]]:
    """Yield each field with how telling it is: 0 is the most, past all ranks what tells nothing, and last what is inner."""
    for path, field in fields.items():
        meaning = meaning_of(path, field)
        yield path, len(_MEANINGS) + is_inner(path) if meaning is None else meaning.rank
