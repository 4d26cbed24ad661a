"""The program: opens the parts, introduces them to each other, waits, and closes them in reverse.

The only module that knows everybody. A part that dies takes the program down: with this outbox an abrupt end
is safe, and systemd starts anew.
"""

import asyncio
import json
import logging
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from bridge import __version__
from bridge.admin.api import ControlSide, PublicSide, Watched
from bridge.config.settings import Settings
from bridge.edges import systemd
from bridge.edges.apprise import Notifier
from bridge.edges.inlet import Inlet, listening_tcp, listening_unix
from bridge.edges.mqtt.session import Broker
from bridge.edges.outlet import Outlet
from bridge.errors import BridgeError, ListenError, RenderError, StoreFull
from bridge.model import Command, Event, Lane, Letter, Message, Outcome, Reply
from bridge.outbox.courier import Clock, Courier
from bridge.outbox.gatekeeper import Gatekeeper
from bridge.outbox.intake import MessageIntake, RequestIntake
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import no_receipt
from bridge.outbox.replies import ReplyIntake
from bridge.outbox.selection import Selection
from bridge.outbox.store import Store
from bridge.outbox.storms import Storms
from bridge.rules import notices
from bridge.rules.events import event_for, readdressed
from bridge.rules.ids import RANDOM_BYTES, ulid
from bridge.rules.outbound import Destination, Routes
from bridge.rules.pacing import SPAN_S, Breaker, Pace
from bridge.rules.replies import account
from bridge.rules.retry import judge, judge_publish
from bridge.rules.signing import sign
from bridge.rules.subscriptions import Subscription, subscriptions
from bridge.watch.alerts import Alert, Told, alert_letter, alerts, destination_status, queue_status
from bridge.watch.figures import DestinationFigures, Figures, MappingFigures, outcomes

logger = logging.getLogger(__name__)

COMMANDS_AT_ONCE = 16  # below the 20 that a broker lets a client have under way
CONTROL_BODY = 64 * 1024  # bytes that the command line may send
FORGET_EVERY_S = 3_600.0  # how often ids that no sender repeats any more are cleared away
WATCH_EVERY_S = 10.0

CLOCK = Clock(monotonic=time.monotonic, wall=time.time, chance=random.random)


class Bridge:
    """The parts of one running bridge."""

    def __init__(self, settings: Settings, store: Store, outlet: Outlet, control: Path) -> None:
        self._settings, self._store, self._outlet, self._control = settings, store, outlet, control
        self._subscribed_before = self._former_filters()
        self._started_at = CLOCK.wall()
        self.outbox = Outbox(store, settings.store, monotonic=CLOCK.monotonic, wall=CLOCK.wall)
        self._routes, self._hooks = settings.routes(), settings.hooks()
        self._gatekeeper = Gatekeeper(self.outbox, self._routes, clock=CLOCK, new_id=lambda: _new_id("evt"))
        self._storms = Storms(self._gatekeeper.now)
        self._replies = ReplyIntake(self.outbox, self._routes, wall=CLOCK.wall)
        self._messages = MessageIntake(
            self.outbox, self._gatekeeper, self._routes, storms=self._storms, new_id=lambda: _new_id("evt"), is_pressed=lambda: self._broker.pressed
        )
        self._requests = RequestIntake(self.outbox, self._hooks, clock=CLOCK, new_id=lambda: _new_id("cmd"), is_connected=lambda: self._broker.connected)
        self.outbox.keep_latest([route.mapping for route in self._routes.all if route.rule.keep == "latest"])
        self._broker = Broker(settings.mqtt, _wanted(self._routes), take=self._messages.take, stored=self.outbox.origins, former=self._subscribed_before)
        self._couriers = {name: self._webhook_courier(name, destination) for name, destination in settings.destinations().items()}
        self._commands = self._command_courier()
        self._broker.on_change = self._broker_changed
        self._broker.on_subscribed = self._subscribed

    async def run(self, stop: asyncio.Event, *, ready: Callable[[], None]) -> None:
        """Carry messages and requests until *stop* is set; then finish what is in flight, within seconds."""
        async with AsyncExitStack() as listeners, asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self.outbox.run(), name="outbox")
            carriers = [tasks.create_task(courier.run(), name=f"courier {courier.destination}") for courier in self._all_couriers()]
            await self._listen(listeners)
            session = tasks.create_task(self._broker.run(), name="broker")
            chores = [
                tasks.create_task(self._gatekeeper.run(), name="gates"),
                tasks.create_task(self._clear_away(), name="clear away"),
                tasks.create_task(self._look_around(), name="alerts"),
                tasks.create_task(self._keep_alive(), name="sign of life"),
            ]
            logger.info("carrying mappings=%d hooks=%d destinations=%d", len(self._routes.all), len(self._hooks.all), len(self._couriers))
            ready()
            await stop.wait()
            systemd.notify("STOPPING=1")
            # In this order: take nothing more in, let what is in flight come back, make the rest safe, acknowledge, leave.
            await listeners.aclose()
            self._broker.hold()
            for courier in self._all_couriers():
                courier.stop()
            await asyncio.wait(carriers)
            await self.outbox.flush()
            await self._broker.close()
            await self.outbox.flush()
            for task in (*chores, session, writer):
                task.cancel()

    def not_ready(self) -> str | None:
        """Return why the bridge is not ready, or None if it is."""
        if not self._broker.connected:
            return f"the broker is away: {self._broker.state}"
        return "the outbox is full" if self.outbox.full else None

    async def figures(self) -> Figures:
        """Return how everything does."""
        used, most = await self.outbox.size()
        oldest = await self.outbox.oldest()
        counts, waiting, stopped = self.outbox.ledger.counts(), self.outbox.ledger.waiting(), self._storms.now_stopped()
        configured = [*self._settings.outbound, *(account(route.mapping) for route in self._routes.all if route.rule.reply is not None), *self._settings.inbound]
        names = [*configured, *sorted({*counts, *waiting} - set(configured))]
        return Figures(
            version=__version__,
            started_at=self._started_at,
            connected=self._broker.connected,
            broker=self._broker.state,
            unacknowledged=self._broker.unacknowledged,
            redelivered=self._broker.redelivered,
            sessions_lost=self._broker.sessions_lost,
            messages_received=self._messages.counters.received,
            messages_unmatched=self._messages.counters.unmatched,
            requests_refused=self._requests.counters.refused,
            imbalance=self.outbox.ledger.imbalance(),
            full=self.outbox.full,
            unsaved=self.outbox.unsaved,
            held=len(self.outbox.pen),
            remembered=len(self.outbox.memories),
            commits=self.outbox.commits,
            used_bytes=used,
            max_bytes=most,
            oldest_at=min(oldest.values(), default=None),
            destinations=self._destination_figures(),
            mappings={
                name: MappingFigures(
                    stopped=name in stopped,
                    received=counts.get(name, {}).get("in", 0),
                    waiting=waiting.get(name, 0),
                    dead_letters=self.outbox.dead.get(name, 0),
                    outcomes=outcomes(counts.get(name, {})),
                )
                for name in names
            },
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
            raise RenderError(f"there is no destination {to!r}; known: {', '.join(self._couriers) or 'none'}")
        return await self.outbox.move(wanted, to, lambda event: readdressed(event, destination))

    def _each(self, destination: str | None, act: Callable[[Courier], None]) -> list[str]:
        couriers = [courier for name, courier in self._couriers.items() if destination in (None, name)]
        for courier in couriers:
            act(courier)
        return [courier.destination for courier in couriers]

    # --- parts ---

    def _webhook_courier(self, name: str, destination: Destination) -> Courier:
        keys, channel = destination.signing_keys(), Notifier(destination) if destination.apprise else self._outlet.channel(destination)

        judging = destination.judging

        async def send(letter: Letter) -> Reply:
            event = self._event_of(letter)
            signed = sign(destination.signing, keys, id=letter.id, now=CLOCK.wall(), body=event.body)
            return await channel.send(event, signed)

        def judged(letter: Letter, reply: Reply, now: float, u: float) -> Outcome:
            return judge(reply, judging, attempt=letter.attempts + 1, age_s=max(now - letter.created_at, 0.0), now=now, u=u)

        span_s = 0.0 if "breaker" in destination.model_fields_set else SPAN_S
        pace = Pace(concurrency=destination.concurrency, rate=destination.rate, breaker=destination.breaker, span_s=span_s)
        courier = Courier(Lane.WEBHOOK, name, outbox=self.outbox, clock=CLOCK, send=send, judge=judged, pace=pace)
        courier.follow = self._replies.follow
        place = destination.url.text if destination.url else notices.URL
        self._restore(courier, place, destination.breaker.pause)
        courier.on_change = lambda courier: self._destination_changed(courier, place)
        return courier

    def _restore(self, courier: Courier, place: str, pause_s: float) -> None:
        """Let a destination be held back as it was when the last run ended; another URL is another destination."""
        noted = json.loads(self._store.note(f"destination {courier.destination}") or "{}")
        if noted.get("url") != place:
            return
        courier.disabled, courier.halted = noted["disabled"], noted["halted"]
        if noted["open_until"] is not None:
            left_s = min(max(noted["open_until"] - CLOCK.wall(), 0.0), pause_s)
            courier.breaker = Breaker(failures=noted["failures"], open_until=CLOCK.monotonic() + left_s)
            courier.failures = noted["failures"]

    def _command_courier(self) -> Courier:
        one_by_one = asyncio.Lock()  # what waited goes singly: a crash then leaves one in doubt at most, not as many as go at once

        async def published(letter: Letter) -> Reply:
            assert isinstance(letter.content, Command)
            left_s = None if letter.expires_at is None else letter.expires_at - CLOCK.wall()
            if left_s is not None and left_s <= 0:
                return Reply(error="expired", detail="it expired before it could be published")
            self._storms.published(letter.content.topic)
            return await self._broker.publish(letter.content, expires_s=left_s)

        async def send(letter: Letter) -> Reply:
            if letter.begun_at is not None:
                return await published(letter)
            async with one_by_one:
                try:
                    await self.outbox.begin(letter)
                except StoreFull as exc:
                    return Reply(error="away", detail=str(exc))
                return await published(letter)

        def judged(_letter: Letter, reply: Reply, _now: float, _u: float) -> Outcome:
            return judge_publish(reply)

        courier = Courier(Lane.MQTT, "mqtt", outbox=self.outbox, clock=CLOCK, send=send, judge=judged, pace=Pace(concurrency=COMMANDS_AT_ONCE))
        courier.allow(ready=False)
        return courier

    def _event_of(self, letter: Letter) -> Event:
        """Return a letter's event; one that could not be rendered when it came is rendered now."""
        if isinstance(letter.content, Event):
            return letter.content
        assert isinstance(letter.content, Message)
        route = self._routes.named(letter.mapping)
        if route is None:
            raise RenderError(f"there is no mapping {letter.mapping!r} any more")
        return event_for(letter.content, route, letter.destination, id=letter.id, wall=CLOCK.wall())

    async def _listen(self, listeners: AsyncExitStack) -> None:
        watched = Watched(
            figures=self.figures,
            not_ready=self.not_ready,
            queue=self.outbox,
            resume=self.resume,
            pause=self.pause,
            memories=self.outbox.memories.documents,
            move=self.move,
        )
        settings = self._settings
        if self._hooks.all:
            listening = _listening("http", settings.http.listen)
            await listeners.enter_async_context(Inlet(listening, self._requests.answer, max_body=settings.http.max_body))
            logger.info("hooks listening address=%s", _address(listening))
        token = settings.admin.token.get_secret_value() if settings.admin.token else None
        listening = _listening("admin", settings.admin.listen)
        await listeners.enter_async_context(Inlet(listening, PublicSide(watched, token=token).answer, max_body=0))
        logger.info("admin listening address=%s", _address(listening))
        await listeners.enter_async_context(Inlet(listening_unix(self._control), ControlSide(watched).answer, max_body=CONTROL_BODY))

    def _all_couriers(self) -> list[Courier]:
        return [*self._couriers.values(), self._commands]

    # --- what happens ---

    def _broker_changed(self) -> None:
        self._commands.allow(ready=self._broker.connected)
        self._gatekeeper.connected(on=self._broker.connected)
        systemd.notify(f"STATUS={'connected' if self._broker.connected else 'the broker is away'}")

    def _former_filters(self) -> list[str]:
        noted = json.loads(self._store.note("subscriptions") or "{}")
        return sorted(noted.get("filters", ())) if noted.get("client_id") == self._settings.mqtt.client_id else []

    def _subscribed(self, filters: list[str]) -> None:
        if filters != self._subscribed_before:
            self._subscribed_before = filters
            self.outbox.note("subscriptions", json.dumps({"client_id": self._settings.mqtt.client_id, "filters": filters}))

    def _destination_changed(self, courier: Courier, url: str) -> None:
        """Keep over restarts what holds a destination back, and say what a person has to know."""
        name, until = courier.destination, courier.breaker.open_until
        open_until = None if until is None else CLOCK.wall() + until - CLOCK.monotonic()
        state = {"url": url, "disabled": courier.disabled, "halted": courier.halted, "open_until": open_until, "failures": courier.breaker.failures}
        self.outbox.note(f"destination {name}", json.dumps(state) if courier.disabled or courier.halted or open_until else "")
        if courier.disabled is not None:
            logger.error("disabled destination=%s reason=%r; its events wait until `mqtthook resume %s`", name, courier.disabled, name)

    def _destination_figures(self) -> dict[str, DestinationFigures]:
        waiting = {("mqtt" if lane is Lane.MQTT else name): count for (lane, name), count in self.outbox.waiting.items()}
        couriers = {courier.destination: courier for courier in self._all_couriers()}
        return {
            name: DestinationFigures(
                waiting=waiting.get(name, 0),
                failures=couriers[name].failures if name in couriers else 0,
                state=_state_of(couriers[name]) if name in couriers else "not in the config any more",
                disabled=couriers[name].disabled if name in couriers else "it is not in the config any more",
            )
            for name in {**couriers, **waiting}
        }

    async def _look_around(self) -> None:
        """Tell the status topics, and whom `[alerts]` names, what has changed."""
        told, shown = Told(), dict[str, bytes]()
        while True:
            figures = await self.figures()
            told, due = alerts(told, figures, now=CLOCK.wall())
            for alert in due:
                self._raise(alert)
            if not self._broker.connected:
                shown.clear()
            for place, document in self._status_tree(figures):
                payload = json.dumps(document).encode()
                if self._broker.connected and shown.get(place) != payload:
                    shown[place] = payload
                    await self._broker.publish(Command(topic=f"{self._settings.mqtt.status_topic}/{place}", payload=payload, qos=1, retain=True))
            await asyncio.sleep(WATCH_EVERY_S)

    def _status_tree(self, figures: Figures) -> Iterator[tuple[str, dict[str, Any]]]:
        yield "queue", queue_status(figures, now=CLOCK.wall())
        for name, destination in figures.destinations.items():
            yield f"destination/{name}", destination_status(destination)

    def _raise(self, alert: Alert) -> None:
        """Send an alert to the destination that `[alerts]` names, unless it is about that one itself."""
        settings = self._settings.alerts
        if settings is None or alert.subject == settings.to:
            return
        destination, id = self._settings.destination[settings.to], _new_id("evt")
        letter = alert_letter(alert, settings, destination, id=id, now=CLOCK.wall())
        self.outbox.put([letter], no_receipt())

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


async def run(settings: Settings, state: Path, *, stop: asyncio.Event | None = None, ready: Callable[[], None] = lambda: None) -> None:
    """Run the bridge until it is told to stop, by a signal or *stop*; its outbox is in *state*.

    Raises AlreadyRunning, StoreBroken or ListenError where it can't start, and whatever a part dies of.
    """
    stop = stop or _stopped_by_signal()
    store = Store.open(settings.outbox(state), max_size=settings.store.max_size)
    try:
        async with Outlet() as outlet:
            bridge = Bridge(settings, store, outlet, settings.control_socket(state))
            try:
                await bridge.run(stop, ready=lambda: _tell_ready(ready))
            finally:
                bridge.outbox.shut()
    except* (BridgeError, OSError) as failed:
        raise _first(failed) from None
    finally:
        store.close()
    logger.info("stopped")


def _state_of(courier: Courier) -> str:
    """Return what holds a destination back, in a word or two, or how it does."""
    states = {"disabled": courier.disabled is not None, "paused": courier.halted, "breaker open": courier.breaker.is_open, "failing": courier.failures > 0}
    return next((state for state, holds in states.items() if holds), "ok")


def _new_id(kind: str) -> str:
    return f"{kind}_{ulid(CLOCK.wall(), os.urandom(RANDOM_BYTES))}"


def _tell_ready(ready: Callable[[], None]) -> None:
    systemd.notify("READY=1")  # not after the broker is reached: a broker that is down must not keep us from starting
    logger.info("started version=%s", __version__)
    ready()


def _stopped_by_signal() -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second signal of either kind kills as if nobody listened."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    # Sent when a terminal closes, and by who hopes for the config to be read again: neither is a reason to end.
    loop.add_signal_handler(signal.SIGHUP, _not_reloaded)
    return stop


def _not_reloaded() -> None:
    systemd.reloading()  # who waits for the answer must not wait for ever
    logger.warning("SIGHUP: the config is read at the start only: restart the program to have it read again")
    systemd.notify("READY=1")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _wanted(routes: Routes) -> dict[str, Subscription]:
    """Return what to subscribe to for the mappings."""
    return subscriptions((filter, Subscription(route.rule.qos, route.rule.retained != "ignore")) for route in routes.all for filter in route.rule.topic)


def _listening(what: str, address: str) -> socket.socket:
    try:
        return listening_tcp(address)
    except OSError as exc:
        raise ListenError(f"{what}.listen: {address} can't be listened on: {exc.strerror}; is another program using it?") from exc


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"{host}:{port}"
