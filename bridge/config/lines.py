"""Where a key stands in a TOML file. tomllib tells no positions, so this reads the lines for headers and keys.

It serves error messages only: where it can't tell, it names the nearest table above.
"""

import re

_HEADER = re.compile(r"\s*\[\[?\s*([^\]]+?)\s*\]\]?\s*(?:#.*)?$")
_KEY = re.compile(r"\s*((?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*')(?:\s*\.\s*(?:[A-Za-z0-9_-]+|\"[^\"]*\"|'[^']*'))*)\s*=")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([A-Za-z0-9_-]+)")

Path = tuple[str, ...]


class Lines:
    """The lines of one file, by key path."""

    def __init__(self, text: str) -> None:
        self._found: dict[Path, int] = {}
        self._written: dict[int, str] = {}
        table: Path = ()
        quoted = ""
        for number, line in enumerate(text.split("\n"), 1):
            if quoted:
                quoted = "" if quoted in line else quoted
                continue
            if header := _HEADER.match(line):
                table = _parts(header[1])
                self._note(table, number)
                self._written[number] = f"[{header[1]}]"
            elif key := _KEY.match(line):
                self._note((*table, *_parts(key[1])), number)
                self._written[number] = key[1]
                quoted = next((sign for sign in ('"""', "'''") if line.count(sign) == 1), "")

    def line_of(self, path: Path) -> int | None:
        """Return the line of the key at *path*, or of the nearest table above it, or None."""
        for length in range(len(path), 0, -1):
            if (number := self._found.get(path[:length])) is not None:
                return number
        return None

    def key_at(self, number: int) -> str:
        """Return the header or key that begins on a line, as it is written there, or nothing."""
        return self._written.get(number, "")

    def _note(self, path: Path, number: int) -> None:
        for length in range(1, len(path) + 1):
            self._found.setdefault(path[:length], number)


def _parts(text: str) -> Path:
    return tuple(one or two or three for one, two, three in _PART.findall(text))
