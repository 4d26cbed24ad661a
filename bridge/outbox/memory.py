"""What gates remember: in memory at once, on disk in groups, a bounded number of keys.

It is written as the ledger is, with whatever is written anyway, else at most once a minute. What a power cut takes of
it is that last minute.
"""

import base64
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import TypeAdapter

from bridge.model import Message
from bridge.outbox.dates import dated_memory
from bridge.outbox.store import Place
from bridge.rules.calendar import Calendar
from bridge.rules.gates import NOTHING, Memory, settled

logger = logging.getLogger(__name__)

KEYS = 20_000  # remembered over all mappings, some 400 bytes each but for silence, which keeps a payload; phones change their ids each quarter of an hour

_MEMORY, _MESSAGE = TypeAdapter(Memory), TypeAdapter(Message)  # a person may have written what is read


class Memories:
    """The memory of every key, the one that spoke longest ago first."""

    def __init__(self, stored: Mapping[Place, str], *, now: float) -> None:
        """Start with what is *stored*; what that puts into the future of *now* was just now."""
        before = {place: _read(text) for place, text in stored.items()}
        self._known = {place: settled(memory, now) for place, memory in before.items()}
        self._changed = {place: None for place, memory in before.items() if self._known[place] != memory}  # in order
        self._forgotten = 0
        for place in list(self._known)[: max(len(self._known) - KEYS, 0)]:
            self.forget(place)

    def __len__(self) -> int:
        return len(self._known)

    def of(self, place: Place) -> Memory:
        """Return what is remembered of a place, which speaks now."""
        memory = self._known.pop(place, None)
        if memory is None:
            return NOTHING
        self._known[place] = memory
        return memory

    def look_up(self, place: Place) -> Memory:
        """Return what is remembered of a place that does not speak now."""
        return self._known.get(place, NOTHING)

    def of_mapping(self, mapping: str) -> dict[Place, Memory]:
        """Return all that is remembered of a mapping."""
        return {place: memory for place, memory in self._known.items() if place[0] == mapping}

    def learn(self, place: Place, memory: Memory) -> None:
        """Remember this of a place from now on; where there are too many, forget the one that spoke longest ago."""
        self._known.pop(place, None)
        self._known[place] = memory
        self._changed.pop(place, None)
        self._changed[place] = None
        if len(self._known) > KEYS:
            oldest = next(iter(self._known))
            self.forget(oldest)
            self._forgotten += 1
            if self._forgotten & (self._forgotten - 1) == 0:
                logger.warning("forgot a key mapping=%s key=%r keys=%d forgotten=%d; a `key` with fewer values would help", oldest[0], oldest[2], KEYS, self._forgotten)

    def forget(self, place: Place) -> None:
        """Remember nothing of a place any more."""
        if self._known.pop(place, None) is not None:
            self._changed[place] = None

    def documents(self, calendar: Calendar) -> list[dict[str, Any]]:
        """Return all of it as JSON shows it, with dates."""
        return [document_of(place, dated_memory(memory, calendar)) for place, memory in self._known.items()]

    @property
    def changed(self) -> bool:
        """Return True if there is something that isn't written yet, False if not."""
        return bool(self._changed)

    def take(self) -> dict[Place, str | None]:
        """Return what isn't written yet, and consider it written; None for what is forgotten."""
        taken = {place: written(self._known[place]) if place in self._known else None for place in self._changed}
        self._changed.clear()
        return taken

    def put_back(self, taken: Mapping[Place, str | None]) -> None:
        """Consider it unwritten again, after a commit failed."""
        self._changed = dict.fromkeys(taken) | self._changed


def written(memory: Memory) -> str:
    """Return a memory as JSON, without what it doesn't know."""
    known: dict[str, Any] = {name: value for name, value in asdict(memory).items() if value is not None and value is not False}
    if memory.last is not None:
        known["last"] |= {"payload": base64.b64encode(memory.last.payload).decode()}
        del known["last"]["correlation"]  # only whoever waited for an answer asks for it
    return json.dumps(known)


def document_of(place: Place, memory: Memory) -> dict[str, Any]:
    """Return a memory and its place as JSON shows them."""
    mapping, kind, name = place
    return {"mapping": mapping, "kind": kind, "name": name, "state": json.loads(written(memory))}


def memory_of(document: Mapping[str, Any]) -> tuple[Place, Memory]:
    """Return the place and memory that a document shows; raise KeyError, TypeError or ValueError where it shows none."""
    place = (str(document["mapping"]), str(document["kind"]), str(document["name"]))
    return place, _read(json.dumps(document["state"]))


def _read(text: str) -> Memory:
    known = json.loads(text)
    if "last" in known:
        known["last"] = _MESSAGE.validate_python(known["last"] | {"payload": base64.b64decode(known["last"]["payload"])})
    Memory(**known)  # a name that it does not know is a TypeError
    return _MEMORY.validate_python(known)
