"""Storms: mappings that are fed by our own publishes faster than a house speaks are stopped for a while.

The last net for loops: where neither broker nor device hands on what names the mappings a message has come through.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache

from bridge.rules.loops import STORM_ECHOES, STORM_PAUSE_S, STORM_S, Storm, gust, state_topics

logger = logging.getLogger(__name__)

TOPICS = 1_000  # published to lately; a house has a few hundred command topics


_state_topics = lru_cache(maxsize=TOPICS)(state_topics)  # asked for each command


class Storms:
    """What we published to lately, and how much of it came back to which mapping."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._published: OrderedDict[str, float] = OrderedDict()
        self._storms: dict[str, Storm] = {}

    def published(self, topic: str) -> None:
        """Note that we publish to a topic: what comes from it, or from where its device tells its state, may be an echo."""
        for echo in (topic, *_state_topics(topic)):
            self._published[echo] = self._now()
            self._published.move_to_end(echo)
        while len(self._published) > TOPICS:
            self._published.popitem(last=False)

    def stopped(self, mapping: str, topic: str) -> bool:
        """Return True if a mapping must not take a message from *topic* now, False if it may."""
        at, before = self._published.get(topic), self._storms.get(mapping)
        if at is not None and before is not None and before.until is not None and self._now() < before.until:
            return True
        if at is None or self._now() - at > STORM_S:
            return False
        after = self._storms[mapping] = gust(before, self._now())
        if after.until is not None and (before is None or before.until is None):
            logger.error(
                "storm mapping=%s topic=%r echoes=%d; it is stopped for %.0f s: what it makes seems to come back to it, see `mqtthook check`",
                mapping, topic, STORM_ECHOES, STORM_PAUSE_S,
            )  # fmt: skip
        if after.until is None and before is not None and before.until is not None:
            logger.info("storm over mapping=%s", mapping)
        return after.until is not None

    def now_stopped(self) -> frozenset[str]:
        """Return the mappings that are stopped now."""
        return frozenset(mapping for mapping, storm in self._storms.items() if storm.until is not None and self._now() < storm.until)
