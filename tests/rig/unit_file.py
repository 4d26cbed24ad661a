"""Unit files, read: the directives of one, each with its reason."""

import re
from dataclasses import dataclass
from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd" / "mqtthook.service"

DIRECTIVE = re.compile(r"(?:#(\d{3}) )?([A-Z][A-Za-z0-9]+)=(.*)")


@dataclass(frozen=True)
class Directive:
    """One line of a unit; `reason` is the comment right above it, `since` the systemd from which on it counts, None for all."""

    since: int | None
    section: str
    name: str
    value: str
    reason: str | None


def directives(text: str) -> list[Directive]:
    """Return what a unit file says, line by line."""
    found: list[Directive] = []
    section, above = "", ""
    for line in text.splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif (directive := DIRECTIVE.fullmatch(line)) is not None:
            comment = above.removeprefix("#").strip() if above.startswith("#") else ""
            is_reason = bool(comment) and DIRECTIVE.fullmatch(comment) is None
            since = None if directive[1] is None else int(directive[1])
            found.append(Directive(since, section, directive[2], directive[3], comment if is_reason else None))
        above = line
    return found
