"""Wishes: what people want an event of, told by the names and values of fields.

Pure. A motion sensor is wanted when it sees somebody, a thermometer when it reads something else, a device when it is
gone. Where nothing tells, every message makes an event. Names come from real devices of 17 families.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from bridge.rules.learn.groups import Group, Sort
from bridge.rules.learn.layouts import DOWN, UP
from bridge.rules.learn.learning import Field, Kind, Path

CHATTY = 20  # messages of one topic while somebody waits for a proposal: one in three seconds or more
LOW_BATTERY = 20  # percent: time enough to buy a new one
SMALLEST_PERCENT = 5  # a "battery" that never exceeds it is told in volts

_MOMENTS = ("action", "click", "press")  # told once, when it happens
_BEGINNINGS = ("smoke", "gas", "carbon_monoxide", "water_leak", "leak", "alarm", "sos", "tamper", "vibration", "occupancy", "presence", "motion", "moving")
_TURNS = (*_BEGINNINGS, "contact", "open", "opening", "door", "dooropen", "window", "lock", "lock_state", "state", "power", "switch", "output", "charging", "running")
_MEASUREMENTS = (
    "temperature", "tempc", "temperature_c", "humidity", "hum", "power", "apower", "co2", "pm25", "soil_moisture", "moi", "energy", "illuminance",
    "pressure", "distance", "position", "brightness", "level", "device_temperature",
)  # fmt: skip
_BATTERIES = ("battery", "batt")
_TYPES = ("event", "type", "_type", "method")  # which of several things a message tells

# Tables that tell of the device itself, or of what was.
_INNER = frozenset({"update", "wifi", "device", "dev", "before", "config"})
# Levels whose messages count each, also the same one twice.
_BUTTONS = frozenset({"button", "action", "event", "events", "click", "press", "scene", "announce"})

_OPPOSITE = {"online": "offline", "connected": "disconnected", "ready": "lost", "alive": "dead", "available": "unavailable", "true": "false"}

_TAME = re.compile(r"[A-Za-z0-9_:@. -]+", re.ASCII)  # such a name or word can stand in an expression as it is
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_NUMBERS = frozenset({Kind.NUMBER, Kind.DIGITS})
_SILENT = frozenset({Kind.NOTHING, Kind.EMPTY})


@dataclass(frozen=True, slots=True, kw_only=True)
class Hint:
    """A key that stands in the config as a comment: another way, and what it is good for."""

    key: str
    value: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """When a group's messages make an event, and that in words; `subject` is the field that this goes by, if it is one."""

    keys: dict[str, str]
    meaning: str = ""
    subject: str | None = None
    hints: tuple[Hint, ...] = ()


def wish_of(group: Group) -> Wish:
    """Return when the group's messages make an event."""
    wish = _WISHES[group.sort](group)
    return replace(wish, hints=(*wish.hints, *_gates(group)))


def written(path: Path) -> str:
    """Return how an expression names a field: `payload.battery`, `payload["switch:0"].apower`."""
    return "payload" + "".join(_step(step) for step in path)


def is_inner(path: Path) -> bool:
    """Return True if a field tells of the device itself, or of what was; False if of what is."""
    return any(str(step).casefold() in _INNER for step in path[:-1])


def escaped(text: str) -> str:
    """Return a stranger's text with all that isn't printable written out: it can't end a line or a comment, nor move a cursor."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


# --- by what a group tells ---


def _when_gone(group: Group) -> Wish:
    path, field = max(group.fields.items(), key=lambda item: item[1].count)
    seen = {word.casefold() for word in field.values}
    gone = sorted((seen & DOWN) | {_OPPOSITE[word] for word in seen & UP})
    words = f"== '{gone[0]}'" if len(gone) == 1 else f"in [{', '.join(map(repr, gone))}]"
    hint = Hint(key="on_change", value=written(path), reason="instead of `when`: also when it is back")
    return Wish(keys={"when": f"{written(path)}|lower {words}"}, meaning="when it is gone", hints=(hint,))


def _when_changed(group: Group) -> Wish:
    """Return the wish of plain values: when they change, but each press of a button."""
    field = group.fields.get((), Field())
    if Kind.HIDDEN in field.kinds or any(level.casefold() in _BUTTONS for level in group.pattern if level):
        return Wish(keys={})
    battery = (group.pattern[-1] or "").casefold() in _BATTERIES
    return Wish(keys={"on_change": "payload"}, meaning="when it differs from the last", hints=(*_low((), field, known=battery), *_rounded((), field)))


def _by_field(group: Group) -> Wish:
    found = next(_wanted(group), None)
    hints = [hint for path, field in group.fields.items() if _is_tame(path) for hint in _low(path, field, known=_name(path) in _BATTERIES)][:2]
    if found is None:
        return Wish(keys={}, hints=(*_only_one(group, _TYPES), *hints))
    want, path = found
    keys = dict.fromkeys(want.keys, written(path))
    if want.names is _MOMENTS:
        hints = [*_only_one(group, _MOMENTS), *hints]
    return Wish(keys=keys, meaning=want.meaning, subject=_name(path), hints=(*_rounded(path, group.fields[path]), *hints))


def _every(_group: Group) -> Wish:
    return Wish(keys={})


_WISHES: dict[Sort, Callable[[Group], Wish]] = {
    Sort.AVAILABILITY: _when_gone,
    Sort.TURN: _when_changed,
    Sort.PLAIN: _when_changed,
    Sort.TABLE: _by_field,
    Sort.LIST: _every,
}


# --- by the names of fields ---


@dataclass(frozen=True, slots=True)
class _Want:
    """Fields of these names and kinds, the most wanted first, and the keys that go by them."""

    names: tuple[str, ...]
    kinds: frozenset[Kind]
    keys: tuple[str, ...]
    meaning: str


_WANTS = (
    _Want(_MOMENTS, frozenset({Kind.TEXT}), ("when",), "each time it holds one"),
    _Want(_BEGINNINGS, frozenset({Kind.TRUTH}), ("when", "on_change"), "both: once each time it begins"),
    _Want(_TURNS, frozenset({Kind.TRUTH, Kind.TEXT}), ("on_change",), "when it differs from the last"),
    _Want(_MEASUREMENTS, _NUMBERS, ("on_change",), "when it differs from the last"),
)


def _wanted(group: Group) -> Iterator[tuple[_Want, Path]]:
    """Yield the fields that are in most of the messages and make a mapping worth having, the most wanted first."""
    named: dict[str, list[Path]] = {}
    for path, field in sorted(group.fields.items(), key=lambda item: len(item[0])):
        if 2 * field.count >= group.messages and _is_tame(path) and not is_inner(path):
            named.setdefault(_name(path), []).append(path)
    for want in _WANTS:
        for path in (path for name in want.names for path in named.get(name, ())):
            field = group.fields[path]
            told = field.kinds - _SILENT
            if told and told <= want.kinds and (want.kinds is _NUMBERS or field.known is not None):
                yield want, path


def _name(path: Path) -> str:
    """Return a field's name as the tables above have it: POWER1 and Switch2 are a power and a switch."""
    return str(path[-1]).casefold().rstrip("0123456789") if path else ""


def _is_tame(path: Path) -> bool:
    return all(isinstance(step, int) or _TAME.fullmatch(step) for step in path)


# --- hints ---


def _low(path: Path, field: Field, *, known: bool) -> Iterator[Hint]:
    if known and field.highest is not None and field.highest > SMALLEST_PERCENT:
        number = "|float" if Kind.DIGITS in field.kinds else ""
        yield Hint(key="when", value=f"{written(path)}{number} < {LOW_BATTERY}", reason="or: low batteries")


def _rounded(path: Path, field: Field) -> Iterator[Hint]:
    bounds = [bound for bound in (field.lowest, field.highest) if bound is not None]
    if field.kinds == {Kind.NUMBER} and any(isinstance(bound, float) for bound in bounds):
        yield Hint(key="on_change", value=f"{written(path)}|round", reason="or: only whole steps of it")


def _only_one(group: Group, names: tuple[str, ...]) -> Iterator[Hint]:
    """Yield the condition for one of several things that a message tells: by the field that told most."""
    told: list[tuple[int, int, Path, str]] = []
    for path, field in group.fields.items():
        word = next((word for word in field.values if _TAME.fullmatch(word)), None)
        if word and _name(path) in names and _is_tame(path) and field.kinds == {Kind.TEXT}:
            told.append((-len(field.values), names.index(_name(path)), path, word))
    for *_, path, word in sorted(told, key=lambda found: found[:2])[:1]:
        yield Hint(key="when", value=f"{written(path)} == '{word}'", reason="or: only this one")


def _gates(group: Group) -> Iterator[Hint]:
    if group.retained:
        yield Hint(key="retained", value="changed", reason="also what the broker replays at a start, if it is news")
    if group.messages >= CHATTY * len(group.topics):
        yield Hint(key="cooldown", value="60s", reason="at most one a minute for each topic")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _IDENTIFIER.fullmatch(step):
        return f".{step}"
    return '["' + escaped(step.replace("\\", "\\\\").replace('"', '\\"')) + '"]'
