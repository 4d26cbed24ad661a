"""What is left of a config once what is wrong is taken out: it is looked at again, so that every mistake is said at once.

A mistake that is only there because something was taken out is none.
"""

import re
from collections.abc import Mapping
from typing import Any

Path = tuple[str, ...]

# What can't be left out, so that the rest of its table is looked at, and who names it isn't wrong as well.
_STAND_INS: Mapping[Path, Any] = {
    ("version",): 1,
    ("destination", "*"): {"url": "https://mqtthook.invalid/", "sign": "none"},  # RFC 6761 section 6.4: a name that is nobody's
    ("inbound", "*", "verify"): "none",
}

_INSTEAD = {"apprise": ("url", "secret")}  # what is missing where this is


class Rest:
    """A config that becomes smaller."""

    def __init__(self, tree: Mapping[str, Any]) -> None:
        """Begin with all of it; *tree* itself stays as it is."""
        self.tree = dict(tree)
        self._gone: set[Path] = set()

    def take_out(self, path: Path, meant: str | None = None) -> bool:
        """Take out what stands at *path*, or the nearest table above it, and return True; False where nothing is left to take.

        *meant* is how the key is really spelled, if it was probably a slip: it is missing from now on, too.
        """
        tables = self._tables(path)
        while len(tables) > 1 and path[len(tables) - 1] not in tables[-1] and _stand_in(path[: len(tables)]) is None:
            tables.pop()
        place = path[: len(tables)]
        if not place:
            return False
        self._gone |= {place, path, *((*path[:-1], key) for key in (meant, *_INSTEAD.get(path[-1], ())) if key is not None)}
        was_there, stand_in = tables[-1].pop(place[-1], None), _stand_in(place)
        if stand_in is not None:
            tables[-1][place[-1]] = stand_in
        return bool(was_there != stand_in)

    def explains(self, path: Path, what: str) -> bool:
        """Return True if a mistake at *path* comes of what was taken out: it is that, or lies in it, or speaks of it."""
        return any(path[: len(gone)] == gone or (path[: len(gone) - 1] == gone[:-1] and _speaks_of(what, gone[-1])) for gone in self._gone)

    def _tables(self, path: Path) -> list[dict[str, Any]]:
        """Return the tables on the way to *path*, from the outermost on, each a copy that may be changed."""
        tables = [self.tree]
        for part in path[:-1]:
            inner = tables[-1].get(part)
            if not isinstance(inner, dict):
                break
            tables[-1][part] = dict(inner)
            tables.append(tables[-1][part])
        return tables


def _stand_in(path: Path) -> Any:
    return _STAND_INS.get(path) or _STAND_INS.get((*path[:1], "*", *path[2:]))


def _speaks_of(what: str, key: str) -> bool:
    return re.search(rf"`{re.escape(key)}\b|\b{re.escape(key)} =", what) is not None
