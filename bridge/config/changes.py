"""Changes: what a config that is read anew changes of the one that runs.

Mappings, hooks, destinations and whom alerts tell change while everything else goes on. What is behind the other tables,
connections, listeners and the outbox, starts anew. Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bridge.config.settings import Settings

NAMED = ("outbound", "inbound", "destination")
IN_PASSING = (*NAMED, "alerts", "home_assistant", "log", "auto_reload", "heartbeat")  # changes of these touch nothing that is connected or open


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
    changed += [name for name in others if name in IN_PASSING]
    return Changes(added=tuple(added), removed=tuple(removed), changed=tuple(changed), anew=tuple(name for name in others if name not in IN_PASSING))


def _table(settings: Settings, kind: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = getattr(settings, kind)
    return found
