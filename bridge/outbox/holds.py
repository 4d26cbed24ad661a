"""Holds: what keeps a destination from being sent to, as it is noted in the outbox, so that it lasts over a restart.

Instants are the wall's: another run has another monotonic clock.
"""

import json
from dataclasses import asdict, dataclass, fields
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """What holds a destination back, and the URL that it had then.

    `disabled` is what its receiver said, `halted` a person's word. `open_until` is when its breaker tries again, after so
    many `failures` in a row and for that `reason`; `paused_until` is what the receiver asked for.
    """

    url: str = ""
    disabled: str | None = None
    halted: bool = False
    open_until: float | None = None
    failures: int = 0
    reason: str | None = None
    paused_until: float | None = None

    @classmethod
    def read(cls, text: str | None) -> Self:
        """Return what was written so, by this version or an earlier one, which knew less; None and "" are nothing."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in json.loads(text or "{}").items() if name in known})

    def written(self) -> str:
        """Return it as it is noted: empty where nothing holds."""
        holds = (self.disabled, self.halted or None, self.open_until, self.paused_until)
        return "" if all(each is None for each in holds) else json.dumps(asdict(self))

    def retried(self) -> Self:
        """Return what is left of it once a person retries a letter: a person's pause, with all the rest, or nothing."""
        return self if self.halted else type(self)()


def note_of(destination: str) -> str:
    """Return the name under which a destination's hold is noted."""
    return f"destination {destination}"
