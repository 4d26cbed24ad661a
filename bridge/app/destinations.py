"""The destinations: a courier for each, made as the config says, and made over when that changes.

What holds one back, a breaker, a 410, a Retry-After or a person, is noted in the outbox, so that it lasts over a restart.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import NamedTuple

from bridge.edges.apprise import Notifier
from bridge.edges.outlet import Outlet
from bridge.errors import RenderError
from bridge.model import Event, Lane, Letter, Message, Outcome, Reply, Verdict
from bridge.outbox.courier import Clock, Courier, Judge, Send
from bridge.outbox.holds import Hold, note_of
from bridge.outbox.outbox import Outbox
from bridge.outbox.replies import ReplyIntake
from bridge.rules import notices
from bridge.rules.access import TlsSettings
from bridge.rules.events import event_for
from bridge.rules.forwarding import forwarded, leads_elsewhere, unknown_at
from bridge.rules.outbound import Destination, Routes
from bridge.rules.pacing import SPAN_S, Breaker, Pace
from bridge.rules.retry import MAX_PAUSE_S, judge
from bridge.rules.signing import sign

logger = logging.getLogger(__name__)


class _Way(NamedTuple):
    """How a courier sends to a destination, judges its answers, and how fast it may."""

    send: Send
    judge: Judge
    pace: Pace


class Destinations:
    """The couriers of all destinations, by name."""

    def __init__(self, outbox: Outbox, outlet: Outlet, replies: ReplyIntake, *, clock: Clock, routes: Callable[[], Routes]) -> None:
        self._outbox, self._outlet, self._replies, self._clock, self._routes = outbox, outlet, replies, clock, routes
        self._settings: dict[str, Destination] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._shown: dict[str, str] = {}
        self._ready = True
        self.on_change: Callable[[], None] = lambda: None  # the state of a destination is another
        self.couriers: dict[str, Courier] = {}

    def open(self, settings: Mapping[str, Destination], noted: Mapping[str, str | None]) -> None:
        """Make a courier for each destination; *noted* is what was noted of them when the last run ended."""
        self._settings = dict(settings)
        self.couriers = {name: self._courier(name, destination, noted.get(name)) for name, destination in settings.items()}

    def start(self, tasks: asyncio.TaskGroup) -> None:
        """Let every courier that doesn't yet carry letters."""
        for name, courier in self.couriers.items():
            if name not in self._running:
                self._running[name] = tasks.create_task(courier.run(), name=f"courier {name}")

    def adopt(self, settings: Mapping[str, Destination], noted: Mapping[str, str | None]) -> list[asyncio.Task[None]]:
        """Let these be the destinations; those that are the same go on untouched. Return the couriers that end.

        What waits for one that is not there any more stays in the outbox.
        """
        before, self._settings = self._settings, dict(settings)
        ending: list[asyncio.Task[None]] = []
        for name in [name for name in self.couriers if name not in settings]:
            self._outbox.unregister(Lane.WEBHOOK, name)
            self.couriers.pop(name).stop()
            ending.append(self._running.pop(name))
        for name, destination in settings.items():
            if name not in self.couriers:
                self.couriers[name] = self._courier(name, destination, noted.get(name))
            elif not _is_same(before[name], destination):
                self._make_over(self.couriers[name], before[name], destination)
            elif destination.tls != TlsSettings():  # its files may be others now
                self.couriers[name].adopt(**self._way(destination)._asdict())
        return ending

    def allow(self, *, ready: bool) -> None:
        """Hold everything back while nothing can be sent as it should be, also to destinations that come meanwhile."""
        self._ready = ready
        for courier in self.couriers.values():
            courier.allow(ready=ready)

    async def stop(self) -> None:
        """Start nothing more, and return when what is in flight has come back, or has had its time."""
        for courier in self.couriers.values():
            courier.stop()
        if self._running:
            await asyncio.wait(self._running.values())

    def _courier(self, name: str, destination: Destination, noted: str | None) -> Courier:
        way = self._way(destination)
        courier = Courier(Lane.WEBHOOK, name, outbox=self._outbox, clock=self._clock, send=way.send, judge=way.judge, pace=way.pace)
        courier.follow = self._replies.follow
        courier.allow(ready=self._ready)
        self._restore(courier, destination, Hold.read(noted))
        self._shown[name] = state_of(courier)
        courier.on_change = self._keep
        return courier

    def _make_over(self, courier: Courier, before: Destination, destination: Destination) -> None:
        """Let a destination be another from now on: what held it back is over, but for a person's word."""
        courier.adopt(**self._way(destination)._asdict())
        if not courier.halted:
            courier.resume()
        self._keep(courier)
        name = courier.destination
        waiting = self._outbox.accounts.waiting.get((Lane.WEBHOOK, name), 0)
        if waiting and _place(before) != _place(destination):
            if unknown := unknown_at(name, self._routes()):
                what = "waiting events may keep the url they were made with, as the new one needs %r, which they don't tell any more destination=%s waiting=%d; %s"
                logger.warning(what, min(unknown), name, waiting, f"`mqtthook queue move --destination {name} --to NAME` sends them to another destination")
            else:
                logger.info("waiting events go to the new url destination=%s waiting=%d", name, waiting)

    def _way(self, destination: Destination) -> _Way:
        keys, channel = destination.signing_keys(), Notifier(destination) if destination.apprise else self._outlet.channel(destination)
        judging = destination.judging

        async def send(letter: Letter) -> Reply:
            event = self._event_of(letter, destination)
            signed = sign(destination.signing, keys, id=letter.id, now=self._clock.date(), body=event.body)
            return await channel.send(event, signed)

        def judged(letter: Letter, reply: Reply, now: float, u: float, *, probe: bool) -> Outcome:
            outcome = judge(reply, judging, attempt=letter.attempts + 1, age_s=max(now - letter.created_at, 0.0), now=self._clock.date(), u=u, probe=probe)
            return outcome if outcome.verdict is Verdict.DELIVERED else replace(outcome, elsewhere=self._went_elsewhere(letter, destination))

        span_s = 0.0 if "breaker" in destination.model_fields_set else SPAN_S
        return _Way(send, judged, Pace(concurrency=destination.concurrency, rate=destination.rate, breaker=destination.breaker, span_s=span_s))

    def _event_of(self, letter: Letter, destination: Destination) -> Event:
        """Return a letter's event as it is sent to *destination* now; one that could not be rendered when it came is rendered now."""
        route = self._routes().named(letter.mapping)
        if isinstance(letter.content, Event):
            return forwarded(letter, letter.content, destination, None if route is None else route.rule)
        assert isinstance(letter.content, Message)
        if route is None:
            raise RenderError(f"there is no mapping {letter.mapping!r} any more")
        return event_for(letter.content, route, letter.destination, id=letter.id, wall=self._clock.date())

    def _went_elsewhere(self, letter: Letter, destination: Destination) -> bool:
        """Return True if a letter that was sent to *destination* as that was went to where its destination isn't any more, False if not."""
        now = self._settings.get(letter.destination)
        if now is None or (now.url, now.apprise) != (destination.url, destination.apprise):
            return True
        return isinstance(letter.content, Event) and leads_elsewhere(self._event_of(letter, destination), destination)

    # --- what holds one back ---

    def _restore(self, courier: Courier, destination: Destination, hold: Hold) -> None:
        """Let a destination be held back as it was when the last run ended. Another URL is another destination, but for a person's word."""
        courier.halted = hold.halted
        if hold.url != _place(destination):
            return
        courier.disabled = hold.disabled
        if hold.open_until is not None:
            left_s = min(max(hold.open_until - self._clock.wall(), 0.0), destination.breaker.pause)
            courier.breaker = Breaker(failures=hold.failures, open_until=self._clock.monotonic() + left_s)
            courier.failures, courier.broken = hold.failures, hold.reason
        if hold.paused_until is not None:
            courier.paused_until = self._clock.monotonic() + min(max(hold.paused_until - self._clock.wall(), 0.0), MAX_PAUSE_S)

    def _keep(self, courier: Courier) -> None:
        """Keep over restarts what holds a destination back, and tell where that shows."""
        name, until, now = courier.destination, courier.breaker.open_until, self._clock.monotonic()
        hold = Hold(
            url=_place(self._settings[name]) if name in self._settings else "",
            disabled=courier.disabled,
            halted=courier.halted,
            open_until=None if until is None else self._clock.wall() + until - now,
            failures=courier.breaker.failures,
            reason=courier.broken,
            paused_until=self._clock.wall() + courier.paused_until - now if courier.paused_until > now else None,
        )
        self._outbox.note(note_of(name), hold.written())
        if self._shown[name] != (state := state_of(courier)):
            self._shown[name] = state
            self.on_change()


def state_of(courier: Courier) -> str:
    """Return what holds a destination back, in a word or two, or how it does."""
    states = {"disabled": courier.disabled is not None, "paused": courier.halted, "breaker open": courier.breaker.is_open, "failing": courier.failures > 0}
    return next((state for state, holds in states.items() if holds), "ok")


def reason_of(courier: Courier) -> str | None:
    """Return why a destination is held back, in the receiver's or the network's terms; None where it isn't, or where a person did it."""
    return {"disabled": courier.disabled, "breaker open": courier.broken}.get(state_of(courier))


def _is_same(one: Destination, other: Destination) -> bool:
    """Return True if two destinations are written alike, whatever else a mapping says that holds one of them inline."""
    return all(getattr(one, name) == getattr(other, name) for name in Destination.model_fields)


def _place(destination: Destination) -> str:
    return destination.url.text if destination.url else notices.URL
