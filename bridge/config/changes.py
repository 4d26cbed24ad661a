"""Changes: what a config that is read anew changes of the one that runs.

All but two change while everything else goes on: another broker, or another session with it, and another outbox file
make the parts start anew. Pure.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge.config.settings import Settings

NAMED = ("outbound", "inbound", "destination")
ANEW: Mapping[str, Callable[[Settings], object]] = {"mqtt": lambda settings: settings.mqtt, "store": lambda settings: settings.store.path}  # what can't be another one in passing


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What is there now and was not, what was and is not any more, what is another, and which tables make parts start anew.

    Mappings, hooks and destinations are written as in the config: "outbound.hall-motion".
    """

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    anew: tuple[str, ...]

    def __bool__(self) -> bool:
        """Return True if anything is different, False if nothing is."""
        return bool(self.added or self.removed or self.changed or self.anew)

    def document(self) -> dict[str, list[str]]:
        """Return it for JSON."""
        return {"added": list(self.added), "removed": list(self.removed), "changed": list(self.changed), "anew": list(self.anew)}

    def __str__(self) -> str:
        """Return it as a person reads it."""
        parts = {"added": self.added, "removed": self.removed, "changed": self.changed, "started anew for": self.anew}
        return "; ".join(f"{what} {', '.join(names)}" for what, names in parts.items() if names) or "nothing has changed"


def changes(old: Settings, new: Settings) -> Changes:
    """Return what *new* changes of *old*."""
    added: list[str] = []
    removed: list[str] = []
    changed: list[str] = []
    for kind in NAMED:
        before, after = _table(old, kind), _table(new, kind)
        added += [f"{kind}.{name}" for name in after if name not in before]
        removed += [f"{kind}.{name}" for name in before if name not in after]
        changed += [f"{kind}.{name}" for name in after if name in before and before[name] != after[name]]
    others = [name for name in Settings.model_fields if name not in NAMED and getattr(old, name) != getattr(new, name)]
    anew = [name for name in others if name in ANEW and ANEW[name](old) != ANEW[name](new)]
    changed += [name for name in others if name not in anew]
    return Changes(added=tuple(added), removed=tuple(removed), changed=tuple(changed), anew=tuple(anew))


def _table(settings: Settings, kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(settings, kind)
    return found
