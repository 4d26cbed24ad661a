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
        self._dropped: dict[str, int] = {}  # of each mapping that is stopped

    def published(self, topic: str) -> None:
        """Note that we publish to a topic: what comes from it, or from where its device tells its state, may be an echo."""
        for echo in (topic, *_state_topics(topic)):
            self._published[echo] = self._now()
            self._published.move_to_end(echo)
        while len(self._published) > TOPICS:
            self._published.popitem(last=False)

    def stopped(self, mapping: str, topic: str) -> bool:
        """Return True if a mapping must not take a message from *topic* now, False if it may."""
        self._end()
        at = self._published.get(topic)
        if at is not None and mapping in self._dropped:
            self._dropped[mapping] += 1
            return True
        if at is None or self._now() - at > STORM_S:
            return False
        storm = self._storms[mapping] = gust(self._storms.get(mapping), self._now())
        if storm.until is None:
            return False
        self._dropped[mapping] = 1
        logger.error(
            "storm mapping=%s topic=%r echoes=%d; it is stopped for %.0f s: what it makes seems to come back to it, see `mqtthook check`",
            mapping, topic, STORM_ECHOES, STORM_PAUSE_S,
        )  # fmt: skip
        return True

    def now_stopped(self) -> frozenset[str]:
        """Return the mappings that are stopped now; asked now and then, so that a storm's end is told although nothing comes any more."""
        self._end()
        return frozenset(self._dropped)

    def _end(self) -> None:
        """Let those go on whose pause is over."""
        for mapping in [mapping for mapping in self._dropped if self._now() >= (self._storms[mapping].until or 0.0)]:
            del self._storms[mapping]
            logger.warning("storm over mapping=%s dropped=%d; it goes on", mapping, self._dropped.pop(mapping))
