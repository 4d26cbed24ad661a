"""Wishes: what people want an event of, told by the names and values of fields.

Pure. A motion sensor is wanted when it sees somebody, a plug when what hangs on it runs, a thermometer when it reads
something else, a device when it is gone. Where nothing tells, there is an event a minute and no more.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bridge.rules.learn.groups import Group, Sort
from bridge.rules.learn.layouts import DOWN, UP
from bridge.rules.learn.learning import TAME, Field, Kind, Path
from bridge.rules.learn.meanings import BATTERIES, MOMENTS, NUMBERS, POWERS, SILENT, TEMPERATURES, TYPES, Found, Way, is_tame, name_of, told_by

CHATTY = 20  # messages of one topic while somebody waits for a proposal: one in three seconds or more
LOW_BATTERY = 20  # percent: time enough to buy a new one
SMALLEST_PERCENT = 5  # a "battery" that never exceeds it is told in volts
COOLDOWN = "1m"
SILENCE = "3h"  # thermometers on batteries report once an hour
RUNNING_W = 10  # most of what sleeps takes less, what runs takes more
_MORE_W = (20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
_APART = 1.5  # so many times what was seen a threshold lies away from it, so that jitter doesn't cross it

# Measurements whose whole steps are jitter: how they are rounded.
_STEPS = {"co2": -2, "illuminance": -2, "illuminance_lux": -2, "lux": -2, "pm25": -1}
_STEP_WORDS = {0: "whole steps", -1: "steps of 10", -2: "steps of 100"}
_SET = frozenset({"position", "brightness", "level"})  # whole numbers that somebody sets: they don't jitter

# Levels whose messages count each, also the same one twice.
_BUTTONS = frozenset({"button", "action", "event", "events", "click", "press", "scene", "announce"})

_OPPOSITE = {"online": "offline", "connected": "disconnected", "ready": "lost", "alive": "dead", "available": "unavailable", "true": "false"}

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


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

    @property
    def picks(self) -> bool:
        """Return True if it takes some messages for what they say, False if any is as good as another."""
        return not self.keys.keys().isdisjoint(("when", "on_change"))

    @property
    def is_idle(self) -> bool:
        """Return True if nothing tells what its messages are good for, False if something does."""
        return self.keys.keys() == {"cooldown"}


def wish_of(group: Group) -> Wish:
    """Return when the group's messages make an event."""
    wish = _WISHES[group.sort](group)
    return replace(wish, hints=(*wish.hints, *_gates(group, wish)))


def written(path: Path) -> str:
    """Return how an expression names a field: `payload.battery`, `payload["switch:0"].apower`."""
    return "payload" + "".join(_step(step) for step in path)


def escaped(text: str) -> str:
    """Return a stranger's text with all that isn't printable written out: it can't end a line or a comment, nor move a cursor."""
    return text if text.isprintable() else "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


# --- by what a group tells ---


def _when_gone(group: Group) -> Wish:
    path, field = max(group.fields.items(), key=lambda item: item[1].count)
    seen = {word.casefold() for word in field.values}
    gone = sorted((seen & DOWN) | {_OPPOSITE[word] for word in seen & UP})
    words = f"== '{gone[0]}'" if len(gone) == 1 else f"in [{', '.join(map(repr, gone))}]"
    back = Hint(key="on_change", value=written(path), reason="instead of `when`: also when it is back")
    silent = Hint(key="silence", value=SILENCE, reason="or, if it repeats itself, instead of `when`: tell when it falls silent")
    return Wish(keys={"when": f"{written(path)}|lower {words}"}, meaning="when it is gone", hints=(back, silent))


def _when_changed(group: Group) -> Wish:
    """Return the wish of plain values: when they change, but each press of a button."""
    field, name = group.fields.get((), Field()), (group.pattern[-1] or "").casefold()
    if Kind.HIDDEN in field.kinds:
        return _seldom(group)
    if _is_moment(group):
        return Wish(keys={})
    low = tuple(_low((), field, known=name in BATTERIES))
    told = field.kinds - SILENT
    if told and told <= NUMBERS:
        wish = _WAYS[Way.CROSSED if name.endswith(POWERS) else Way.STEPPED]((), field, name)
        silent = _falls_silent("on_change") if name in TEMPERATURES else ()
        return replace(wish, hints=(*wish.hints, *low, *silent))
    wish = _changed((), field, name)
    # Where numbers are among texts, they can't be rounded.
    return replace(wish, keys=wish.keys | {"cooldown": COOLDOWN}, meaning="at most one a minute of each topic, if it differs") if told & NUMBERS else wish


def _by_field(group: Group) -> Wish:
    found = told_by(group.fields, group.messages, changing_first=True)
    low = [hint for path, field in group.fields.items() if is_tame(path) for hint in _low(path, field, known=name_of(path) in BATTERIES)][:2]
    if not found:
        only = tuple(_only_one(group, TYPES))
        wish = Wish(keys={}) if only or _is_moment(group) else _seldom(group)
        return replace(wish, hints=(*only, *low, *wish.hints))
    meaning, path = found[0]
    wish = _WAYS[meaning.way](path, group.fields[path], name_of(path))
    moments = _only_one(group, MOMENTS) if meaning.way is Way.HELD else ()
    # A filter for several devices may take others too, which aren't to be missed.
    beside = f' and with `when = "{written(path)} is defined"`' if group.varying else ""
    silent = _falls_silent("on_change", beside) if meaning.way is Way.STEPPED else ()
    return replace(wish, subject=name_of(path), hints=(*wish.hints, *moments, *_second(group, found), *low, *silent))


def _seldom(group: Group) -> Wish:
    """Return the wish of what tells nothing: not each of its telegrams is an event."""
    is_heartbeat = group.sort is Sort.TABLE and group.pattern[-1] != "RESULT" and any(field.kinds & NUMBERS for field in group.fields.values())
    silent = _falls_silent("cooldown") if is_heartbeat else ()
    return Wish(keys={"cooldown": COOLDOWN}, meaning="at most one a minute of each topic", hints=silent)


_WISHES: dict[Sort, Callable[[Group], Wish]] = {
    Sort.AVAILABILITY: _when_gone,
    Sort.TURN: _when_changed,
    Sort.PLAIN: _when_changed,
    Sort.TABLE: _by_field,
    Sort.LIST: _seldom,
}


# --- by what a field tells ---


def _held(path: Path, _field: Field, _name: str) -> Wish:
    return Wish(keys={"when": written(path)}, meaning="each time it holds one")


def _begun(path: Path, _field: Field, _name: str) -> Wish:
    return Wish(keys=dict.fromkeys(("when", "on_change"), written(path)), meaning="both: once each time it begins")


def _changed(path: Path, _field: Field, _name: str) -> Wish:
    return Wish(keys={"on_change": written(path)}, meaning="when it differs from the last")


def _stepped(path: Path, field: Field, name: str) -> Wish:
    whole = not any(isinstance(bound, float) for bound in (field.lowest, field.highest))
    if whole and field.kinds == {Kind.NUMBER} and (name in _SET or not path):
        return _changed(path, field, name)
    digits = _STEPS.get(name, 0)
    rounding = f"|round({digits})" if digits else "|round"
    return Wish(keys={"on_change": _number(path, field) + rounding}, meaning=f"when it differs from the last, in {_STEP_WORDS[digits]}")


def _crossed(path: Path, field: Field, _name: str) -> Wish:
    condition = f"{_number(path, field)} > {_threshold(field)}"
    starts = Hint(key="when", value=condition, reason="with it: only when it starts")
    return Wish(keys={"on_change": condition}, meaning="running or not: one event at each change", hints=(starts,))


_WAYS: dict[Way, Callable[[Path, Field, str], Wish]] = {Way.HELD: _held, Way.BEGUN: _begun, Way.CHANGED: _changed, Way.STEPPED: _stepped, Way.CROSSED: _crossed}


def _threshold(field: Field) -> int:
    """Return a round number of watts between the least and the most that were seen; RUNNING_W where none lies well between."""
    low, high = field.lowest or 0.0, field.highest or 0.0
    return next((watts for watts in (RUNNING_W, *_MORE_W) if low * _APART < watts < high / _APART), RUNNING_W)


def _number(path: Path, field: Field) -> str:
    return written(path) + ("|float" if Kind.DIGITS in field.kinds else "")


def _is_moment(group: Group) -> bool:
    """Return True if each of its messages counts, as a press of a button does; False if they tell what is."""
    return any(level.casefold() in _BUTTONS for level in group.pattern if level)


# --- hints ---


def _low(path: Path, field: Field, *, known: bool) -> Iterator[Hint]:
    if known and field.highest is not None and field.highest > SMALLEST_PERCENT:
        yield Hint(key="when", value=f"{_number(path, field)} < {LOW_BATTERY}", reason="or: low batteries")


def _falls_silent(key: str, beside: str = "") -> tuple[Hint]:
    return (Hint(key="silence", value=SILENCE, reason=f"or, instead of `{key}`{beside}: tell when it falls silent"),)


def _second(group: Group, found: Sequence[Found]) -> Iterator[Hint]:
    """Yield the other way to go by a plug: its power, or whether it is switched on."""
    (meaning, _), *others = found
    if meaning.way not in (Way.CROSSED, Way.CHANGED):
        return
    for other, other_path in [(other, at) for other, at in others if other.rank == meaning.rank and other.way is not meaning.way][:1]:
        value = _WAYS[other.way](other_path, group.fields[other_path], name_of(other_path)).keys["on_change"]
        yield Hint(key="on_change", value=value, reason="or: running or not" if other.way is Way.CROSSED else "or: when it is switched")


def _only_one(group: Group, names: tuple[str, ...]) -> Iterator[Hint]:
    """Yield the condition for one of several things that a message tells: by the field that told most."""
    told: list[tuple[int, int, Path, str]] = []
    for path, field in group.fields.items():
        word = next((word for word in field.values if TAME.fullmatch(word)), None)
        if word and name_of(path) in names and is_tame(path) and field.kinds == {Kind.TEXT}:
            told.append((-len(field.values), names.index(name_of(path)), path, word))
    for *_, path, word in sorted(told, key=lambda found: found[:2])[:1]:
        yield Hint(key="when", value=f"{written(path)} == '{word}'", reason="or: only this one")


def _gates(group: Group, wish: Wish) -> Iterator[Hint]:
    if group.retained:
        yield Hint(key="retained", value="changed", reason="also what the broker replays at a start, if it is news")
    if group.messages >= CHATTY * len(group.topics) and "cooldown" not in wish.keys:
        yield Hint(key="cooldown", value=COOLDOWN, reason="at most one a minute for each topic")


def _step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    if _IDENTIFIER.fullmatch(step):
        return f".{step}"
    return '["' + escaped(step.replace("\\", "\\\\").replace('"', '\\"')) + '"]'
