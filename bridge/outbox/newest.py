"""`keep = "latest"`: of each key only the newest letter waits. What the next one replaces is known here."""

from collections.abc import Collection, Iterable

from bridge.model import Letter

Line = tuple[str, str, str]  # mapping, destination, key


class Newest:
    """The number of the newest waiting letter of each key, for the mappings that keep no other."""

    def __init__(self) -> None:
        self._mappings: frozenset[str] = frozenset()
        self._numbers: dict[Line, int] = {}

    def watch(self, mappings: Collection[str], waiting: Iterable[tuple[str, str, str, int]]) -> None:
        """Keep the newest of these mappings from now on; *waiting* are those that are on disk already."""
        self._mappings = frozenset(mappings)
        self._numbers = {(mapping, destination, key): seq for mapping, destination, key, seq in waiting}

    def adopt(self, mappings: Collection[str]) -> None:
        """Keep the newest of these mappings from now on; of one that did so before, what is known stays."""
        self._mappings = frozenset(mappings)
        self._numbers = {line: seq for line, seq in self._numbers.items() if line[0] in self._mappings}

    def replaced(self, letter: Letter) -> int | None:
        """Return the number of the letter that a new one replaces, or None."""
        if letter.mapping not in self._mappings:
            return None
        line = _line(letter)
        older = self._numbers.get(line)
        self._numbers[line] = letter.seq
        return older

    def is_outdated(self, letter: Letter) -> bool:
        """Return True if a newer one waits, False if not."""
        return self._numbers.get(_line(letter), letter.seq) != letter.seq

    def ended(self, letter: Letter) -> None:
        """Let go of a letter that waits no more."""
        if self._mappings and self._numbers.get(_line(letter)) == letter.seq:
            del self._numbers[_line(letter)]

    def forget(self, numbers: set[int]) -> None:
        """Let go of letters that a person dropped."""
        self._numbers = {line: seq for line, seq in self._numbers.items() if seq not in numbers}


def _line(letter: Letter) -> Line:
    return letter.mapping, letter.destination, letter.key
