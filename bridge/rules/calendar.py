"""The calendar: which date an instant of the outbox's own time was. Pure.

What waits, is due or is late is told by a time that goes on steadily, over restarts as well. A machine's date doesn't: a Pi
begins in 1970 or at its last shutdown, learns the date later, and may learn it twice. So what is stored bears the steady
time only; by how much the date was ahead of it is known for each boot, and may be put right afterwards without
touching a single letter.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

SURELY_PAST = 1_735_689_600.0  # 2025-01-01: a clock that says less was never set
PLAUSIBLE_S = 86_400.0  # what the outbox remembers may be so far ahead of a date within one boot; more was a wrong clock's doing, set right since
STEP_S = 2.0  # NTP slews what is less than half a second; a jump beyond this is told
MOST_PAGES = 32  # boots whose date turned out to be another than it seemed; of those before, the oldest page that is left stands in


@dataclass(frozen=True, slots=True)
class Page:
    """From which steady instant on the date is how many seconds ahead of the steady time; None while nobody knows."""

    since: float
    ahead_s: float | None


@dataclass(frozen=True, slots=True)
class Calendar:
    """The pages of one outbox, in order; without any, the steady time is the date."""

    pages: tuple[Page, ...] = ()

    @property
    def ahead_s(self) -> float | None:
        """Return by how much the date is ahead now, None if nobody knows."""
        return self.pages[-1].ahead_s if self.pages else 0.0

    def page_of(self, at: float) -> Page:
        """Return the page on which a steady instant is: the first one where it is older than that."""
        return next((page for page in reversed(self.pages) if page.since <= at), self.pages[0] if self.pages else Page(at, 0.0))

    def date_of(self, at: float) -> float:
        """Return the date of a steady instant."""
        return at + next(ahead_s for since, until, ahead_s in self._spans() if since <= at < until)

    def steady_of(self, date: float) -> float:
        """Return the first steady instant whose date is *date* or later."""
        return next(max(date - ahead_s, since) for since, until, ahead_s in self._spans() if date - ahead_s < until)

    def _spans(self) -> Iterator[tuple[float, float, float]]:
        """Yield from when until when the date is how far ahead; where nobody knows, it is told by the next page that is known, or the last before."""
        known_s = [page.ahead_s for page in self.pages]
        for n in range(max(len(self.pages), 1)):
            since = self.pages[n].since if n else -math.inf
            until = self.pages[n + 1].since if n + 1 < len(self.pages) else math.inf
            yield since, until, next((ahead_s for ahead_s in (*known_s[n:], *reversed(known_s[:n])) if ahead_s is not None), 0.0)

    def with_page(self, page: Page) -> "Calendar":
        """Return it with one more page; of two before it that agree only the first is left, and none on which nothing can be."""
        pages: list[Page] = []
        for one in self.pages:
            if one.since < page.since and (not pages or not _agree(pages[-1].ahead_s, one.ahead_s)):
                pages.append(one)
        return Calendar((*pages[1 - MOST_PAGES :], page))

    def corrected(self, ahead_s: float | None) -> "Calendar":
        """Return it with another date for all of its last page."""
        return Calendar((*self.pages[:-1], Page(self.pages[-1].since, ahead_s)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """What is kept of the time over restarts: which instant (`at`) it was so many seconds after the start of which boot.

    `began` is the steady instant at which the outbox was first used in that boot, `mark` the latest date that was believed.
    """

    boot: str
    uptime_s: float
    at: float
    began: float
    mark: float
    calendar: Calendar

    def text(self) -> str:
        """Return it as it is noted."""
        return json.dumps(asdict(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Beginning:
    """How a run begins: at which steady instant, and before which date (`floor`) its machine's can't be right."""

    at: float
    floor: float
    is_right: bool
    reckoning: Reckoning


def reckoning_of(text: str) -> Reckoning:
    """Return what was noted."""
    found: dict[str, Any] = json.loads(text)
    pages = tuple(Page(**page) for page in found.pop("calendar")["pages"])
    return Reckoning(**found, calendar=Calendar(pages))


def beginning(kept: Reckoning | None, latest: float, *, boot: str, uptime_s: float, date: float) -> Beginning:
    """Return how a run begins of which an earlier one *kept* so much; *latest* is the latest instant that is stored, 0 for none.

    Within a boot (`""` is none that could be told) it is measured what time has passed, and the date is not asked. Over a
    reboot it is read off the date, if that can be right and was known before; else the time goes on from where it was.
    """
    calendar, latest = (kept.calendar, max(latest, kept.at)) if kept is not None else (Calendar(), latest)
    is_same = kept is not None and boot == kept.boot != "" and uptime_s >= kept.uptime_s
    before_s = calendar.ahead_s
    mark = max(kept.mark if kept is not None else 0.0, 0.0 if before_s is None or not latest else latest + before_s)
    # Within a boot a date that is much earlier than before was set right by somebody; after a reboot it is one that nobody has set yet.
    counts = date < SURELY_PAST or mark - date < PLAUSIBLE_S or (kept is not None and not is_same)
    floor = max(SURELY_PAST, mark if counts else 0.0)
    is_right = date >= floor - STEP_S
    if kept is not None and is_same:
        at = max(kept.at + uptime_s - kept.uptime_s, latest)
        began, calendar = kept.began, calendar.corrected(date - at if is_right else before_s)
    else:
        after = math.nextafter(latest, math.inf) if latest and counts else 0.0  # so that what is stored is before it
        known = after or (0.0 if is_right else SURELY_PAST)
        at = began = max(date - before_s, known) if is_right and before_s is not None else known
        calendar = calendar.with_page(Page(at, date - at if is_right else None))
    reckoning = Reckoning(boot=boot, uptime_s=uptime_s, at=at, began=began, mark=date if is_right else mark, calendar=calendar)
    return Beginning(at=at, floor=floor, is_right=is_right, reckoning=reckoning)


def _agree(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and abs(one - other) <= STEP_S
