"""The teller: says what has changed to the status topics, and to whom `[alerts]` names."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

from bridge.config.settings import Settings
from bridge.edges.mqtt.session import Broker
from bridge.model import Command
from bridge.outbox.courier import Clock
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import no_receipt
from bridge.rules.home_assistant import LAST_DELIVERY
from bridge.rules.payloads import timestamp
from bridge.watch.alerts import Alert, Told, alert_letter, alerts, config_status, destination_status, problem_status, queue_status
from bridge.watch.figures import Figures

WATCH_EVERY_S = 10.0
SOONEST_S = 1.0  # after a look: however often anything changes, a look at the outbox and a handful of publishes a second at most


class Teller:
    """Looks at the figures now and then, at once where something changes, and tells."""

    def __init__(self, outbox: Outbox, broker: Broker, figures: Callable[[], Awaitable[Figures]], *, clock: Clock, new_id: Callable[[], str]) -> None:
        self._outbox, self._broker, self._figures, self._clock, self._new_id = outbox, broker, figures, clock, new_id
        self._shown: dict[str, bytes] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look now: something that people watch has just changed."""
        self._wake.set()

    async def run(self, settings: Callable[[], Settings]) -> None:
        """Tell what is new, for ever, as the *settings* of the moment say."""
        told = Told()
        while True:
            self._wake.clear()
            figures = await self._figures()
            told, due = alerts(told, figures, now=self._clock.wall())
            for alert in due:
                self._raise(alert, settings())
            await self._show(figures.dated(self._clock.date_of), settings())
            await asyncio.sleep(SOONEST_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(WATCH_EVERY_S - SOONEST_S):
                    await self._wake.wait()

    async def _show(self, figures: Figures, settings: Settings) -> None:
        if not self._broker.connected:
            self._shown.clear()
            return
        tree = {f"{settings.mqtt.status_topic}/{place}": json.dumps(document).encode() for place, document in self._status_tree(figures)}
        if settings.home_assistant.enabled and figures.delivered_at is not None:
            tree[f"{settings.mqtt.status_topic}/{LAST_DELIVERY}"] = timestamp(figures.delivered_at).encode()
        for gone in self._shown.keys() - tree.keys():
            tree[gone] = b""  # of a destination that is not there any more: an empty one takes away what the broker keeps
        for topic, payload in tree.items():
            if self._shown.get(topic, b"") != payload and self._broker.connected:
                self._shown[topic] = payload
                await self._broker.publish(Command(topic=topic, payload=payload, qos=1, retain=True))

    def _status_tree(self, figures: Figures) -> Iterator[tuple[str, dict[str, Any]]]:
        now = self._clock.date_of(self._clock.wall())
        yield "queue", queue_status(figures, now=now)
        yield "problem", problem_status(figures, now=now)
        yield "config", config_status(figures.config)
        for name, destination in figures.destinations.items():
            yield f"destination/{name}", destination_status(destination)

    def _raise(self, alert: Alert, settings: Settings) -> None:
        """Send an alert to the destination that `[alerts]` names, unless it is about that one itself."""
        if settings.alerts is None or alert.subject == settings.alerts.to:
            return
        destination = settings.destination[settings.alerts.to]
        letter = alert_letter(alert, settings.alerts, destination, id=self._new_id(), now=self._clock.date())
        self._outbox.put([replace(letter, created_at=self._clock.wall())], no_receipt())
