"""The receiver of a destination's letters, as the outbox sees it: a courier."""

from typing import Protocol

from bridge.model import Letter


class Receiver(Protocol):
    """Who takes letters off the outbox: a courier."""

    @property
    def troubled(self) -> bool:
        """Return True while its destination fails, False while all is well."""

    def offer(self, letter: Letter) -> bool:
        """Take a letter into memory and return True, or leave it to the disk and return False."""

    def holds(self, seq: int) -> bool:
        """Return True if it has that letter in memory, False if not."""

    def discard(self, numbers: set[int]) -> set[int]:
        """Forget letters, but for those in flight; return the latter."""

    def withdraw(self, letter: Letter, seq: int) -> bool:
        """Forget the letter of that number, of the same key and priority as *letter*; return False if it is in flight."""

    def look_again(self) -> None:
        """Look at the disk again, and let everything be due now."""
