"""The door of the hooks: who may come in, how often, and who is locked out; asked before any signature is looked at.

What it remembers of callers is bounded: a flood of addresses pushes out those that were quiet the longest.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

from bridge.errors import HookError
from bridge.rules.callers import LOCKED_S, Wrongs, household, locked_s, one_more_wrong, taken, within
from bridge.rules.inbound import Hook
from bridge.rules.pacing import Bucket
from bridge.rules.units import Quota

logger = logging.getLogger(__name__)

REMEMBERED = 4_096  # callers, each at one hook: about 3 MB when every one of them is one wrong signature short of a lock-out
LINES = Quota(10, 10.0)  # of a hook's refusals: a person who tries sees each of his; a flood gets one line a second

V = TypeVar("V")


class _Recent(Generic[V]):
    """The values of the callers that came last."""

    def __init__(self) -> None:
        self._values: OrderedDict[tuple[str, str], V] = OrderedDict()

    def of(self, hook: str, caller: str) -> V | None:
        return self._values.get((hook, caller))

    def keep(self, hook: str, caller: str, value: V) -> None:
        self._values[hook, caller] = value
        self._values.move_to_end((hook, caller))
        if len(self._values) > REMEMBERED:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)


class Door:
    """Stands before the hooks."""

    def __init__(self, monotonic: Callable[[], float], refused: Callable[[str, int, str], None] = lambda *_: None) -> None:
        """Prepare it; *refused* is told the hook, the status and why, each time."""
        self._monotonic, self._told = monotonic, refused
        self._buckets: _Recent[Bucket] = _Recent()
        self._wrongs: _Recent[Wrongs] = _Recent()
        self._lines: dict[str, Bucket] = {}
        self._unsaid: dict[str, int] = {}
        self.refused = 0

    @property
    def remembered(self) -> int:
        """Return how much is remembered of callers."""
        return len(self._buckets) + len(self._wrongs)

    def admit(self, hook: Hook, client: str) -> None:
        """Return if a request may be looked at; raise HookError 403 or 429 if not."""
        if hook.rule.allow_from is not None and not within(client, hook.rule.allow_from):
            self.refuse(hook.name, client, 403, "the address is not in allow_from")
            raise HookError(403)  # not a word about who else may
        now, caller = self._monotonic(), household(client)
        wrongs = self._wrongs.of(hook.name, caller)
        if wrongs is not None and (wait_s := locked_s(wrongs, now)):
            self.refuse(hook.name, client, 429, "too many wrong signatures")
            raise HookError(429, "too many requests that could not be verified; try again later", retry_after_s=wait_s)
        if hook.rule.rate is not None:
            bucket, wait_s = taken(self._buckets.of(hook.name, caller), hook.rule.rate, now)
            self._buckets.keep(hook.name, caller, bucket)
            if wait_s:
                self.refuse(hook.name, client, 429, "more requests than `rate` lets in")
                raise HookError(429, "too many requests; try again later", retry_after_s=wait_s)

    def wrong(self, hook: str, client: str, reason: str) -> None:
        """Note that a signature was wrong, for *reason*, which is for the log alone."""
        caller = household(client)
        wrongs = one_more_wrong(self._wrongs.of(hook, caller) or Wrongs(), self._monotonic())
        self._wrongs.keep(hook, caller, wrongs)
        self.refuse(hook, client, 401, reason)
        if not wrongs.at:
            logger.warning("locked out hook=%s client=%s for_s=%g reason='too many wrong signatures'", hook, client or "unknown", LOCKED_S)

    def refuse(self, hook: str, client: str, status: int, reason: str) -> None:
        """Count a request that is not let in, can't be verified or has no usable id, and write why."""
        self.refused += 1
        self._told(hook, status, reason)
        self.tell(hook, "status=%d client=%s reason=%s", status, client or "unknown", reason)

    def tell(self, hook: str, what: str, *values: object) -> None:
        """Write that a request is refused; of a flood one line a second, which tells how many were left out."""
        self._lines[hook], wait_s = taken(self._lines.get(hook), LINES, self._monotonic())
        if wait_s:
            self._unsaid[hook] = self._unsaid.get(hook, 0) + 1
            return
        unsaid = self._unsaid.pop(hook, 0)
        logger.warning("refused hook=%s " + what + ("" if not unsaid else f" and_before={unsaid}"), hook, *values)
