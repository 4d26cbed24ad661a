"""Subscribing: the filters that the session is to have, what is asked for of them once, and what the broker has confirmed.

Over MQTT 3.1.1 each subscription brings what the broker keeps (its retained messages), asked or not, and nothing tells for
whom it comes. Over MQTT 5 it comes where it is asked for, and bears the name of who asked.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

import paho.mqtt.client as paho
from paho.mqtt.reasoncodes import ReasonCode

from bridge.edges.mqtt import wire
from bridge.edges.mqtt.wire import MQTT_5
from bridge.rules.subscriptions import Replay, Subscription, identifier, uncovered

logger = logging.getLogger(__name__)

Wanted = Mapping[str, Subscription]


class Subscriptions:
    """What the session is subscribed to."""

    def __init__(self, wanted: Wanted, replays: Collection[Replay], *, share: str | None, former: Collection[str], replayed: Collection[Replay] | None) -> None:
        """Prepare them: *wanted* always, and once what the broker keeps for *replays*.

        *share* is the group with which they are shared. *former* are the filters that the session may still have from an
        earlier run, *replayed* what was replayed by then (None where nobody knows).
        """
        self._wanted, self._share = wanted, share
        self._replays = {replay.identifier: replay for replay in replays}
        self._replayed = None if replayed is None else set(replayed)
        self._former = set(former)
        self._coming: dict[int, str] = {}
        self.confirmed = asyncio.Event()  # while the broker has confirmed all that was asked for
        self.on_confirmed: Callable[[list[str], list[Replay]], None] = lambda _, __: None

    def all(self, client: paho.Client, protocol: int, *, session_present: bool) -> None:
        """Subscribe to everything on a new connection."""
        self._subscribe(client, protocol, self._wanted, fresh=protocol != MQTT_5 or not session_present or self._replayed is None)

    def adopt(self, wanted: Wanted, replays: Collection[Replay]) -> Wanted | None:
        """Want these from now on; return what is new of them, None if nothing is different."""
        before, self._wanted = self._wanted, dict(wanted)
        former, self._replays = self._replays, {replay.identifier: replay for replay in replays}
        self._former |= set(before)
        if before == self._wanted and former == self._replays:
            return None
        return {plain: wish for plain, wish in self._wanted.items() if plain not in before or (before[plain].qos, before[plain].always) != (wish.qos, wish.always)}

    def renew(self, client: paho.Client, protocol: int, new: Wanted) -> bool:
        """Subscribe to what is *new* first, so that nothing falls in between; return True if the broker has something to confirm."""
        self._subscribe(client, protocol, new, fresh=False)
        return bool(self._coming)

    def answered(self, packet_id: int, reasons: Iterable[ReasonCode]) -> None:
        """Note the broker's answer to one of them."""
        plain = self._coming.pop(packet_id, None)
        for reason in reasons:
            if reason.is_failure:
                logger.error("broker refuses the subscription filter=%r reason=%r: its access list has to allow it", plain, str(reason))
        if not self._coming:
            self._all_confirmed()

    def disconnected(self) -> None:
        """Wait for no answer any more."""
        self._coming.clear()

    def asker(self, identifiers: Iterable[int]) -> str | None:
        """Return the mapping for which alone comes what bears these subscription identifiers, None if it is for all."""
        return next((self._replays[one].mapping for one in identifiers if one in self._replays), None)

    def _subscribe(self, client: paho.Client, protocol: int, new: Wanted, *, fresh: bool) -> None:
        """Subscribe to what is *new*; where not all is *fresh*, what the broker keeps is given to the mappings that are new, and to no other."""
        self.confirmed.clear()
        asked = () if fresh else self._asked(protocol, new)
        for plain, wish in new.items():
            self._ask_for(client, protocol, plain, self._shared(plain), wish if fresh else replace(wish, retained=wish.always), identifier(plain))
        for plain, named in asked:
            # Once more, to what is subscribed already, or covered by what is: what comes of it bears the name of who asks.
            qos = self._wanted[plain].qos if plain in self._wanted else 1
            self._ask_for(client, protocol, plain, plain, Subscription(qos, retained=True, always=True), named)
        if gone := sorted((self._former | {plain for plain, _ in asked}) - set(self._wanted)):
            client.unsubscribe([self._shared(plain) for plain in gone])
        self._former = set(self._wanted)
        if not self._coming and client.socket() is not None:
            self._all_confirmed()

    def _asked(self, protocol: int, new: Collection[str]) -> list[tuple[str, int]]:
        """Return the filters to ask for what the broker keeps, and under which identifier, for mappings that didn't get it yet.

        Over MQTT 3.1.1 who takes it gets it, and what subscribing to *new* ones brings is enough.
        """
        asking = sorted(set(self._replays.values()) - (self._replayed or set()))
        if self._share is not None:
            return []  # to who shares a subscription nothing is replayed: MQTT 5.0 section 4.8.2
        if protocol == MQTT_5:
            return [(replay.plain, replay.identifier) for replay in asking]
        return [(plain, identifier(plain)) for plain in uncovered((replay.plain for replay in asking), by=new)]

    def _ask_for(self, client: paho.Client, protocol: int, plain: str, topic: str, wish: Subscription, named: int) -> None:
        packet_id = wire.subscribe(client, protocol, topic, wish, named)
        if packet_id is not None:
            self._coming[packet_id] = plain

    def _all_confirmed(self) -> None:
        self._replayed = set(self._replays.values())
        self.confirmed.set()
        self.on_confirmed(sorted(self._wanted), sorted(self._replayed))

    def _shared(self, plain: str) -> str:
        return plain if self._share is None else f"$share/{self._share}/{plain}"
