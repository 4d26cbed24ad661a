"""Quantities as people write them in the config, and the base of every slice of it.

Pure: text in, numbers out. A written form that doesn't fit raises ValueError with what was expected.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr

MAX_DURATION_S = 36_500 * 86_400.0  # a hundred years: past it the calendar ends before the number does
MAX_DIGITS = 18  # of a whole number in a variable

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+)(B|KiB|MiB|GiB)", re.ASCII)
_BYTES = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_RATE = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)/(s|min|h)", re.ASCII)
_PERIODS = {"s": 1.0, "min": 60.0, "h": 3600.0}


class Slice(BaseModel):
    """A frozen part of the settings, owned by the module that uses it."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # pydantic prints secrets otherwise
        arbitrary_types_allowed=True,
        validate_default=False,
    )


def seconds(text: object) -> float:
    """Return the seconds of a duration like "250ms", "10s", "5m", "1h" or "3d"."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError('expected a duration such as "250ms", "10s", "5m", "1h" or "3d"')
    length_s = float(found[1]) * _SECONDS[found[2]]
    if length_s > MAX_DURATION_S:
        raise ValueError(f'expected a duration of at most {MAX_DURATION_S / 86_400:.0f} days, such as "3d"')
    return length_s


def some_seconds(text: object) -> float:
    """Return the seconds of a duration that is longer than nothing."""
    if not (length_s := seconds(text)):
        raise ValueError('expected a duration longer than nothing, such as "10s"')
    return length_s


def size_bytes(text: object) -> int:
    """Return the bytes of a size like "256KiB" or "64MiB"."""
    found = _SIZE.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError('expected a size such as "256KiB" or "64MiB"')
    return int(found[1]) * _BYTES[found[2]]


def per_second(text: object) -> float:
    """Return the times a second of a rate like "10/s", "60/min" or "500/h"."""
    found = _RATE.fullmatch(text) if isinstance(text, str) else None
    if found is None or not float(found[1]):
        raise ValueError('expected a rate such as "10/s", "60/min" or "500/h"')
    return float(found[1]) / _PERIODS[found[2]]


@dataclass(frozen=True, slots=True)
class Quota:
    """So many times within so many seconds: all of them at once, if need be."""

    count: float
    within_s: float

    @property
    def per_second(self) -> float:
        """Return how many times a second that is in the long run."""
        return self.count / self.within_s


def quota(text: object) -> Quota:
    """Return the quota of a rate like "10/s", "60/min" or "500/h"."""
    rate = per_second(text)
    within_s = _PERIODS[str(text).rpartition("/")[2]]
    return Quota(max(round(rate * within_s, 6), 1.0), max(within_s, 1.0 / rate))


def duration_text(length_s: float) -> str:
    """Return a duration as a person would say it: "45s", "5m", "2h 10m", "3d"."""
    if length_s < 1:
        return f"{length_s * 1000:.0f}ms"
    left, parts = round(length_s), []
    for unit, unit_s in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, unit_s)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def one_or_more(given: Any) -> Any:
    """Return a list for what may be written as one thing or as a list of them."""
    return given if isinstance(given, list | tuple) else [given]


def whole(given: Any) -> Any:
    """Return the number of a text of digits, as an environment variable holds it; anything else as it is."""
    return int(given) if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < MAX_DIGITS else given


Duration = Annotated[float, BeforeValidator(some_seconds)]
DurationOrZero = Annotated[float, BeforeValidator(seconds)]
Rate = Annotated[float, BeforeValidator(per_second)]
Allowance = Annotated[Quota, BeforeValidator(quota)]
Size = Annotated[int, BeforeValidator(size_bytes)]
Secrets = Annotated[tuple[SecretStr, ...], BeforeValidator(one_or_more)]
