"""The bridge: opens the parts, introduces them to each other, lets them go on with another config, and closes them in reverse.

The only module that knows everybody. A part that dies takes the program down: with this outbox an abrupt end
is safe, and systemd starts anew.
"""

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from bridge import __version__
from bridge.admin.api import Watched
from bridge.app.clock import NOTE as CLOCK_NOTE
from bridge.app.clock import HouseClock
from bridge.app.destinations import Destinations, reason_of, state_of
from bridge.app.heartbeat import Heartbeat
from bridge.app.home_assistant import NOTE, HomeAssistant
from bridge.app.listeners import Listeners, Sockets
from bridge.app.teller import WATCH_EVERY_S, Teller
from bridge.config.changes import Changes
from bridge.config.settings import Settings
from bridge.edges import systemd
from bridge.edges.mqtt.session import Broker
from bridge.edges.outlet import Outlet
from bridge.errors import BridgeError, RenderError, StoreFull
from bridge.model import Lane, Message, State
from bridge.outbox import rescue
from bridge.outbox.commands import Commands
from bridge.outbox.courier import Courier
from bridge.outbox.devices import Devices
from bridge.outbox.gatekeeper import Gatekeeper
from bridge.outbox.holds import note_of
from bridge.outbox.intake import MessageIntake, RequestIntake
from bridge.outbox.outbox import Outbox
from bridge.outbox.replies import ReplyIntake
from bridge.outbox.selection import PART, Selection
from bridge.outbox.store import Changes as Written
from bridge.outbox.store import Store
from bridge.outbox.storms import Storms
from bridge.rules.devices import filter_of
from bridge.rules.forwarding import forwarding
from bridge.rules.home_assistant import Device
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.inbound import Hooks
from bridge.rules.outbound import Routes
from bridge.rules.replies import account
from bridge.rules.subscriptions import Replay, Subscription, subscriptions
from bridge.rules.topics import Filter
from bridge.watch.figures import ConfigFigures, DestinationFigures, Figures, MappingFigures, outcomes

logger = logging.getLogger(__name__)

SUBSCRIBED_S = 2.0  # in which a broker confirms new subscriptions; one on a Pi takes some milliseconds
FORGET_EVERY_S = 3_600.0  # how often ids that no sender repeats any more are cleared away


class Bridge:
    """The parts of one running bridge."""

    def __init__(
        self, settings: Settings, store: Store, outlet: Outlet, control: Path, sockets: Sockets, *, config: Callable[[], ConfigFigures], reload: Callable[[], Awaitable[Changes]]
    ) -> None:
        """Open the parts; *config* tells which config runs, *reload* reads it anew."""
        self._settings, self._store, self._config = settings, store, config
        self._subscribed_before, self._replayed_before = self._subscribed_by_then()
        self._rescue = store.note(rescue.NOTE)
        self._house_clock = HouseClock.of(store)
        clock = self._clock = self._house_clock.clock
        self._started_at, self._ahead_s = clock.wall(), clock.wall() - clock.monotonic()
        with suppress(StoreFull):  # then with the first commit that finds room
            store.write(Written(notes={CLOCK_NOTE: self._house_clock.note()}))
        self.outbox = Outbox(store, settings.store, monotonic=clock.monotonic, wall=clock.wall, calendar=self._house_clock.calendar)
        self._routes, self._hooks = settings.routes(), settings.hooks()
        self._gatekeeper = Gatekeeper(self.outbox, self._routes, clock=clock, new_id=_new_event_id, is_there=lambda: self._broker.is_there())
        self._storms, self._devices = Storms(self._gatekeeper.now), Devices(self._hooks.all)
        orders = {"retry": self._retry_dead, "pause": self._pause_all, "resume": self._resume_all}
        self._home_assistant = HomeAssistant(self.outbox, store.note(NOTE), settings, clock=clock, orders=orders)
        self._replies = ReplyIntake(self.outbox, self._routes, wall=clock.wall, date=clock.date)
        self._messages = MessageIntake(
            self.outbox,
            self._gatekeeper,
            self._routes,
            storms=self._storms,
            new_id=_new_event_id,
            is_pressed=lambda: self._broker.pressed,
            hear=self._hear,
            wall=clock.wall,
        )
        self._messages.aside = _aside(self._home_assistant.device)
        self._requests = RequestIntake(
            self.outbox,
            self._hooks,
            self._devices,
            clock=clock,
            new_id=_new_command_id,
            is_connected=lambda: self._broker.connected,
            is_clock_set=self._house_clock.is_set,
        )
        self.outbox.keep_latest(_latest(self._routes))
        wanted = _wanted(self._routes, self._hooks, self._home_assistant.device)
        self._broker = Broker(
            settings.mqtt,
            wanted,
            _replays(self._routes),
            take=self._messages.take,
            stored=self.outbox.origins,
            former=self._subscribed_before,
            replayed=self._replayed_before,
        )
        self._destinations = Destinations(self.outbox, outlet, self._replies, clock=clock, routes=lambda: self._routes)
        self._destinations.open(settings.destinations(), {name: store.note(note_of(name)) for name in settings.destinations()})
        self._commands = Commands(self.outbox, self._broker, self._devices, self._storms, clock=clock).courier()
        self._listeners = Listeners(self._requests, self._watched(reload), control, sockets)
        self._heartbeat = Heartbeat(outlet, self.figures, clock=clock)
        self._teller = Teller(self.outbox, self._broker, self.figures, clock=clock, new_id=_new_event_id)
        self._destinations.on_change = self._teller.wake
        self._broker.on_change = self._broker_changed
        self._broker.subscriptions.on_confirmed = self._subscribed
        self._tasks: asyncio.TaskGroup | None = None  # while another config can be adopted
        self._adopting = asyncio.Lock()

    async def run(self, ended: Callable[[], Awaitable[object]], *, ready: Callable[[], None]) -> None:
        """Carry messages and requests until what *ended* returns is done; then finish what is in flight, within seconds."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            writer = tasks.create_task(self.outbox.run(), name="outbox")
            commands = tasks.create_task(self._commands.run(), name="courier mqtt")
            self._destinations.allow(ready=self._house_clock.is_set())
            self._destinations.start(tasks)
            await self._listeners.open(self._settings)
            session = tasks.create_task(self._broker.run(), name="broker")
            chores = [
                tasks.create_task(self._gatekeeper.run(), name="gates"),
                tasks.create_task(self._clear_away(), name="clear away"),
                tasks.create_task(self._teller.run(lambda: self._settings), name="alerts"),
                tasks.create_task(self._home_assistant.run(self._broker), name="home assistant"),
                tasks.create_task(self._heartbeat.run(lambda: self._settings.heartbeat), name="heartbeat"),
                tasks.create_task(self._keep_alive(), name="sign of life"),
                tasks.create_task(self._house_clock.run(lambda: self._destinations.allow(ready=True), self._keep_time), name="clock"),
            ]
            logger.info("carrying mappings=%d hooks=%d destinations=%d", len(self._routes.all), len(self._hooks.all), len(self._destinations.couriers))
            ready()
            await ended()
            async with self._adopting:  # a courier that began from here on would never be told to stop
                self._tasks = None
            # In this order: take nothing more in, let what is in flight come back, make the rest safe, acknowledge, leave.
            self.outbox.onlookers.close()
            await self._listeners.close()
            self._broker.hold()
            self._commands.stop()
            await self._destinations.stop()
            await commands
            await self.outbox.flush()
            await self._broker.close()
            self._keep_time(self._house_clock.note())
            await self.outbox.flush()
            for task in (*chores, session, writer):
                task.cancel()

    async def adopt(self, settings: Settings) -> None:
        """Go on with another config, whose sockets are bound, in one step: what is the same in both notices nothing.

        Returns when the couriers of destinations that are not there any more have come back. Raises BridgeError where the
        parts are ending; nothing has changed then.
        """
        async with self._adopting:
            if self._tasks is None:
                raise BridgeError("the config can't be read anew now: the program is ending")
            ending = await self._adopt(settings, self._tasks)
        if ending:
            await asyncio.wait(ending)
        with suppress(TimeoutError):  # what is published from here on is heard; of a broker that is away nobody waits for that
            async with asyncio.timeout(SUBSCRIBED_S if self._broker.connected else 0):
                await self._broker.subscriptions.confirmed.wait()

    async def _adopt(self, settings: Settings, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        noted = {name: await self.outbox.noted(note_of(name)) for name in settings.destinations() if name not in self._destinations.couriers}
        routes, hooks = settings.routes(), settings.hooks()
        if settings.store != self._settings.store:
            await self.outbox.adopt(settings.store)
        # From here to the end of the step nothing else runs.
        self._listeners.adopt(settings)
        self._requests.hooks = hooks
        self._settings, self._routes, self._hooks = settings, routes, hooks
        ending = self._destinations.adopt(settings.destinations(), noted)
        self._destinations.start(tasks)
        self._gatekeeper.adopt(routes)
        self._messages.routes = self._replies.routes = routes
        self._devices.adopt(hooks.all)
        self.outbox.adopt_latest(_latest(routes))
        self._home_assistant.adopt(settings)
        self._messages.aside = _aside(self._home_assistant.device)
        if self._broker.adopt(_wanted(routes, hooks, self._home_assistant.device), _replays(routes)):
            self._devices.listening(on=False)  # what the broker keeps of devices that are new to us has still to come
        self._teller.wake()
        self._heartbeat.wake()
        return ending

    def look(self) -> None:
        """Let those look who tell how everything does: which config runs has changed, or that it is refused."""
        self._teller.wake()
        self._heartbeat.wake()

    def not_ready(self) -> str | None:
        """Return why the bridge is not ready, or None if it is."""
        if not self._broker.connected:
            return f"the broker is away: {self._broker.state}"
        return "the outbox is full" if self.outbox.full else None

    async def figures(self) -> Figures:
        """Return how everything does, by the bridge's own time."""
        used, most = await self.outbox.size()
        config = self._config()
        oldest = await self.outbox.oldest()
        return Figures(
            version=__version__,
            config=replace(config, loaded_at=config.loaded_at + self._ahead_s),
            started_at=self._started_at,
            connected=self._broker.connected,
            broker=self._broker.state,
            unacknowledged=self._broker.unacknowledged,
            redelivered=self._broker.redelivered,
            sessions_lost=self._broker.sessions_lost,
            messages_received=self._messages.counters.received,
            messages_unmatched=self._messages.counters.unmatched,
            requests_refused=self._requests.refused,
            imbalance=self.outbox.accounts.ledger.imbalance(),
            full=self.outbox.full,
            damage=rescue.told(self._rescue),
            unsaved=self.outbox.unsaved,
            held=len(self.outbox.pen),
            remembered=len(self.outbox.memories),
            commits=self.outbox.commits,
            used_bytes=used,
            max_bytes=most,
            oldest_at=min(oldest.values(), default=None),
            destinations=self._destination_figures(),
            mappings=self._mapping_figures(),
        )

    def resume(self, destination: str | None) -> list[str]:
        """Let a destination, or all (None), be sent to again; return their names, none if there is none of that name."""
        return self._each(destination, Courier.resume)

    def pause(self, destination: str | None) -> list[str]:
        """Let nothing be sent to a destination, or to any (None), until it is resumed; return their names."""
        return self._each(destination, Courier.halt)

    async def move(self, wanted: Selection, to: str) -> int:
        """Let events go to the destination *to* instead; return how many. Raises RenderError where they can't."""
        destination = self._settings.destinations().get(to)
        if destination is None:
            raise RenderError(f"there is no destination {to!r}; known: {', '.join(self._destinations.couriers) or 'none'}")
        return await self.outbox.handling.move(wanted, to, forwarding(destination, self._routes))

    def _each(self, destination: str | None, act: Callable[[Courier], None]) -> list[str]:
        couriers = [courier for name, courier in self._destinations.couriers.items() if destination in (None, name)]
        for courier in couriers:
            act(courier)
        return [courier.destination for courier in couriers]

    # --- parts ---

    def _watched(self, reload: Callable[[], Awaitable[Changes]]) -> Watched:
        return Watched(
            now=lambda: self._clock.date_of(self._clock.wall()),
            figures=self._dated_figures,
            not_ready=self.not_ready,
            queue=self.outbox.handling,
            resume=self.resume,
            pause=self.pause,
            memories=lambda: self.outbox.memories.documents(self._house_clock.calendar()),
            move=self.move,
            reload=reload,
            tail=lambda mapping, destination: self.outbox.onlookers.watch(mapping=mapping, destination=destination),
        )

    async def _dated_figures(self) -> Figures:
        return (await self.figures()).dated(self._clock.date_of)

    # --- what happens ---

    def _broker_changed(self) -> None:
        self._commands.allow(ready=self._broker.connected)
        self._gatekeeper.connected(on=self._broker.connected)
        if not self._broker.connected:
            self._devices.listening(on=False)
        self._home_assistant.tell()
        self._teller.wake()
        self._heartbeat.wake()
        systemd.notify(f"STATUS={'connected' if self._broker.connected else 'the broker is away'}")

    def _keep_time(self, note: str) -> None:
        self.outbox.note(CLOCK_NOTE, note)

    def _hear(self, message: Message) -> bool:
        """Let those hear a message that no mapping speaks for; return True if one of them wanted it."""
        wanted = [self._devices.hear(message), self._home_assistant.hear(message)]
        return any(wanted)

    async def _retry_dead(self) -> None:
        dead, after = Selection(state=State.DEAD), 0
        for until, _ in await self.outbox.handling.parts(dead, PART):
            await self.outbox.handling.retry(replace(dead, after=after, until=until))
            after = until
        self._teller.wake()

    async def _pause_all(self) -> None:
        self.pause(None)
        self._teller.wake()

    async def _resume_all(self) -> None:
        self.resume(None)
        self._teller.wake()

    def _subscribed_by_then(self) -> tuple[list[str], list[Replay] | None]:
        """Return the filters that the last run left subscribed, and what was replayed by then; an earlier version noted no replays."""
        noted = json.loads(self._store.note("subscriptions") or "{}")
        if noted.get("client_id") != self._settings.mqtt.client_id:
            return [], None
        replayed = noted.get("replayed")
        return sorted(noted.get("filters", ())), None if replayed is None else [Replay(mapping, plain) for mapping, plain in replayed]

    def _subscribed(self, filters: list[str], replayed: list[Replay]) -> None:
        self._devices.listening(on=True)
        if (filters, replayed) != (self._subscribed_before, self._replayed_before):
            self._subscribed_before, self._replayed_before = filters, replayed
            plain = [[replay.mapping, replay.plain] for replay in replayed]
            self.outbox.note("subscriptions", json.dumps({"client_id": self._settings.mqtt.client_id, "filters": filters, "replayed": plain}))

    def _mapping_figures(self) -> dict[str, MappingFigures]:
        counts, waiting, stopped = self.outbox.accounts.ledger.counts(), self.outbox.accounts.ledger.waiting(), self._storms.now_stopped()
        failures = self.outbox.conditions.failures()
        configured = [*self._settings.outbound, *(account(route.mapping) for route in self._routes.all if route.rule.reply is not None), *self._settings.inbound]
        return {
            name: MappingFigures(
                stopped=name in stopped,
                received=counts.get(name, {}).get("in", 0),
                waiting=waiting.get(name, 0),
                dead_letters=self.outbox.accounts.dead.get(name, 0),
                outcomes=outcomes(counts.get(name, {})),
                conditions_failed=failures[name].count if name in failures else 0,
                last_failure=failures[name].last if name in failures else None,
            )
            for name in [*configured, *sorted({*counts, *waiting} - set(configured))]
        }

    def _destination_figures(self) -> dict[str, DestinationFigures]:
        waiting = {("mqtt" if lane is Lane.MQTT else name): count for (lane, name), count in self.outbox.accounts.waiting.items()}
        couriers = {courier.destination: courier for courier in (*self._destinations.couriers.values(), self._commands)}
        return {
            name: DestinationFigures(
                waiting=waiting.get(name, 0),
                failures=couriers[name].failures if name in couriers else 0,
                state=state_of(couriers[name]) if name in couriers else "not in the config any more",
                reason=reason_of(couriers[name]) if name in couriers else None,
                disabled=couriers[name].disabled if name in couriers else "it is not in the config any more",
                delivered_at=couriers[name].delivered_at if name in couriers else None,
            )
            for name in {**couriers, **waiting}
        }

    async def _clear_away(self) -> None:
        while True:
            await self.outbox.forget(self._settings.store.history)
            await asyncio.sleep(FORGET_EVERY_S)

    async def _keep_alive(self) -> None:
        """Feed the watchdog: this loop turns, and the store's thread has answered."""
        due_s = systemd.watchdog_s()
        while due_s is not None:
            await self.outbox.ping()
            systemd.notify("WATCHDOG=1")
            await asyncio.sleep(min(due_s / 3, WATCH_EVERY_S))


def _new_event_id() -> str:
    return _new_id("evt")


def _new_command_id() -> str:
    return _new_id("cmd")


def _new_id(kind: str) -> str:
    return f"{kind}_{ulid(time.time(), os.urandom(RANDOM_BYTES))}"


def _latest(routes: Routes) -> list[str]:
    return [route.mapping for route in routes.all if route.rule.keep == "latest"]


def _aside(device: Device | None) -> str:
    return "" if device is None else device.last_delivery


def _replays(routes: Routes) -> list[Replay]:
    """Return what mappings are to be given once of what the broker keeps."""
    return sorted(Replay(route.mapping, filter.plain) for route in routes.all if route.rule.retained != "ignore" for filter in route.rule.topic)


def _wanted(routes: Routes, hooks: Hooks, device: Device | None) -> dict[str, Subscription]:
    """Return what to subscribe to: for the mappings, for the hooks that listen to their devices, and for Home Assistant's *device*."""
    mappings = ((filter, Subscription(route.rule.qos, route.rule.retained != "ignore")) for route in routes.all for filter in route.rule.topic)
    rules = [hook.rule for hook in hooks.all]
    kept = ((rule.available.topic, Subscription(1, retained=True, always=True)) for rule in rules if rule.available is not None)
    live = ((rule.confirm.topic, Subscription(1, retained=False)) for rule in rules if rule.confirm is not None)
    devices = ((Filter.parse("/".join(filter_of(topic))), wish) for topic, wish in (*kept, *live))
    # At QoS 0: what is pressed while the bridge is away is not to happen hours later.
    buttons = ((Filter.literal(topic), Subscription(0, retained=False)) for topic in (sorted(device.heard) if device is not None else ()))
    return subscriptions((*mappings, *devices, *buttons))
