"""The bridge in Home Assistant: describes it there, takes it away again, and does what its buttons ask for, which is three things.

What was described is noted in the outbox, so that it can be taken away by a run that doesn't want it any more.
"""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Mapping

from bridge import __version__
from bridge.config.settings import Settings
from bridge.edges.mqtt.session import Broker
from bridge.errors import BridgeError
from bridge.model import Command, Message
from bridge.outbox.courier import Clock
from bridge.outbox.outbox import Outbox
from bridge.rules.home_assistant import BIRTH_S, components, device_of, discovery, platforms, retained, stale

logger = logging.getLogger(__name__)

NOTE = "home assistant"  # the name under which the outbox keeps what was described


class HomeAssistant:
    """The device that Home Assistant shows, or none."""

    def __init__(self, outbox: Outbox, noted: str | None, settings: Settings, *, clock: Clock, orders: Mapping[str, Callable[[], Awaitable[None]]]) -> None:
        """Prepare it; *noted* is what was kept under NOTE, *orders* are what the buttons do."""
        self._outbox, self._noted, self._clock, self._orders = outbox, noted or "", clock, orders
        self._ordered: dict[str, None] = {}
        self._untold = False
        self._wake = asyncio.Event()
        self._become(settings)

    def adopt(self, settings: Settings) -> None:
        """Be the device that the settings make of the bridge."""
        self._become(settings)
        self.tell()

    def tell(self) -> None:
        """Describe the device soon, or take it away."""
        if self.device is not None or self._noted:
            self._untold = True
            self._wake.set()

    def hear(self, message: Message) -> bool:
        """Take in a message; return True if it is meant for the device, False if not."""
        device = self.device
        if device is None or message.topic not in self._heard:
            return False
        if device.is_born(message):
            asyncio.get_running_loop().call_later(self._clock.chance() * BIRTH_S, self.tell)
        elif (order := device.order_in(message)) is not None:
            logger.info("home assistant button=%s", order)
            self._ordered[order] = None
            self._wake.set()
        return True

    async def run(self, broker: Broker) -> None:
        """Describe the device, and do what its buttons ask for, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._untold and broker.connected:
                self._untold = False
                await self._describe(broker)
            for order in list(self._ordered):
                del self._ordered[order]
                try:
                    await self._orders[order]()
                except BridgeError as exc:
                    logger.warning("home assistant button=%s reason=%r", order, str(exc))

    async def _describe(self, broker: Broker) -> None:
        device, noted = self.device, json.loads(self._noted or "{}")
        parts = {} if device is None else components(device, self._destinations)
        for topic in stale(noted.get("topics", ()), device):
            await _publish(broker, topic, b"")
        if device is None:
            self._note("")
            return
        before = noted.get("components", {}) if device.topic in noted.get("topics", ()) else {}
        # Noted first: what may have been described has to be taken away one day.
        self._note(json.dumps({"topics": retained(device), "components": platforms(parts)}))
        await _publish(broker, device.topic, json.dumps(discovery(device, parts, version=__version__, gone=before)).encode())

    def _become(self, settings: Settings) -> None:
        self._destinations = list(settings.destinations())
        self.device = device_of(settings.home_assistant, client_id=settings.mqtt.client_id, status_topic=settings.mqtt.status_topic)
        self._heard = frozenset() if self.device is None else self.device.heard

    def _note(self, value: str) -> None:
        if value != self._noted:
            self._noted = value
            self._outbox.note(NOTE, value)


async def _publish(broker: Broker, topic: str, payload: bytes) -> None:
    reply = await broker.publish(Command(topic=topic, payload=payload, qos=1, retain=True))
    if reply.error is not None or (reply.status or 0) >= 0x80:  # MQTT 5.0 section 3.4.2.1; of a lost connection the next one makes good
        logger.warning("home assistant isn't told topic=%r reason=%r", topic, reply.detail)
