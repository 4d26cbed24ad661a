"""Gates: whether what a mapping wants makes an event now, later, or not at all.

Each is a step of a state machine over what is remembered of a key, what came, and `now`: pure. `now` is steady unix
seconds: they follow the wall clock between runs, and no jump of it within one.

A message meets them in this order: `retained`, (the mapping's `when`), `on_change`, `debounce`, `cooldown`. Under
`silence` no message makes an event; the lack of one does.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

from pydantic import model_validator

from bridge.errors import RenderError
from bridge.model import Message
from bridge.rules.expressions import Expression
from bridge.rules.units import Duration, Slice, duration_text

MAX_MARK = 64  # characters of a value that are remembered as they are; of a longer one its digest
PATIENCE = 5  # times `debounce`: the longest that a sensor which never rests is held, unless `debounce_max` says otherwise


class Gates(Slice):
    """The keys of an `[outbound.NAME]` that hold events back."""

    retained: Literal["ignore", "changed", "use"] = "ignore"
    on_change: Expression | None = None
    debounce: Duration | None = None
    debounce_max: Duration | None = None
    cooldown: Duration | None = None
    silence: Duration | None = None

    @model_validator(mode="after")
    def _gates_agree(self) -> "Gates":
        if self.debounce_max is not None and (self.debounce is None or self.debounce_max < self.debounce):
            raise ValueError("debounce_max: expected `debounce` beside it, and no longer than this")
        if self.silence is not None:
            others = sorted({"on_change", "debounce", "cooldown"} & self.model_fields_set)
            if others:
                raise ValueError(f"{others[0]}: a mapping with `silence` makes no event of a message; put this into a mapping of its own")
        return self

    @cached_property
    def remembers(self) -> bool:
        """Return True if anything is remembered of its keys, False if each message stands for itself."""
        return any(gate is not None for gate in (self.on_change, self.debounce, self.cooldown, self.silence))

    @property
    def longest_hold_s(self) -> float:
        """Return the longest that one message may be held for the next."""
        return self.debounce_max or PATIENCE * (self.debounce or 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of one key of a mapping, or (`seen`) of one topic; None where nothing is known yet.

    `value` and `seen` are marks. `silent` tells that silence has been reported since the key last spoke.
    """

    seen: str | None = None
    value: str | None = None
    fired_at: float | None = None
    heard_at: float | None = None
    last: Message | None = None
    silent: bool = False


NOTHING = Memory()


def mark(value: Any) -> str:
    """Return what recognises a value: equal for equal values, 21 and 21.0 alike, and short; raise RenderError if none does."""
    try:
        try:
            text = json.dumps(_plain(value), sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        except TypeError:  # a date, say
            text = repr(value)
    except (ValueError, RecursionError) as exc:
        raise RenderError(f"the value can't be compared: {exc}") from exc
    return text if len(text) <= MAX_MARK else "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def payload_mark(message: Message) -> str:
    """Return what recognises a message's payload."""
    return hashlib.blake2b(message.payload, digest_size=12).hexdigest()


def replayed(gates: Gates, memory: Memory, message: Message) -> tuple[Memory, str | None]:
    """Return a topic's memory after *message*, and why its gate `retained` refuses it, or None if it doesn't."""
    if gates.retained == "ignore":
        return memory, 'it is a retained message that the broker replayed, and `retained` is "ignore"' if message.retained else None
    if gates.retained == "use":
        return memory, None
    found = payload_mark(message)
    if message.retained and found == memory.seen:
        return memory, "it is a retained message that the broker replayed, the same as the last one"
    return replace(memory, seen=found), None


def changed(memory: Memory, value: str) -> tuple[Memory, str | None]:
    """Return a key's memory after *value* came, and why `on_change` refuses it, or None if it differs from the last."""
    if memory.value == value:
        return memory, f"`on_change`: it is still {value}"
    return replace(memory, value=value), None


def cooled(gates: Gates, memory: Memory, now: float) -> tuple[Memory, str | None]:
    """Return a key's memory after an event at *now*, and why `cooldown` refuses that event, or None if it doesn't."""
    if gates.cooldown is None:
        return memory, None
    left_s = 0.0 if memory.fired_at is None else memory.fired_at + gates.cooldown - now
    if left_s > 0:
        return memory, f"`cooldown`: the last event was less than {duration_text(gates.cooldown)} ago, {duration_text(left_s)} are left"
    return replace(memory, fired_at=now), None


def release_at(gates: Gates, *, first_at: float, now: float) -> float:
    """Return when a message of *now* is let go by `debounce`, the first of those held having come at *first_at*."""
    assert gates.debounce is not None, "asked of mappings with `debounce` only"
    return min(now + gates.debounce, first_at + gates.longest_hold_s)


def heard(memory: Memory, message: Message, now: float) -> Memory:
    """Return a key's memory after it spoke: silence begins anew."""
    return replace(memory, heard_at=now, last=message, silent=False)


def silent_at(gates: Gates, memory: Memory, *, connected_at: float | None) -> float | None:
    """Return when a key counts as silent, or None while it can't: it has been reported, or never spoke.

    Only time in which we would have heard it counts: *connected_at* is since when, None while the broker is away.
    """
    if gates.silence is None or connected_at is None or memory.silent or memory.heard_at is None:
        return None
    return max(memory.heard_at, connected_at) + gates.silence


def silenced(memory: Memory) -> Memory:
    """Return a key's memory once its silence is reported: not again until it spoke."""
    return replace(memory, silent=True)


def settled(memory: Memory, now: float) -> Memory:
    """Return a memory of an earlier run: what it puts into the future, by a clock that was set back since, was just now."""
    return replace(
        memory,
        fired_at=None if memory.fired_at is None else min(memory.fired_at, now),
        heard_at=None if memory.heard_at is None else min(memory.heard_at, now),
    )


def _plain(value: Any) -> Any:
    """Return a value in which equal numbers look alike."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
