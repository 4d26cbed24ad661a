"""The program: from its start to its end, told by signals and by systemd; it starts the parts anew where a new config wants that."""

import asyncio
import logging
import signal
import time
from collections.abc import Callable
from pathlib import Path

from bridge import __version__
from bridge.app.bridge import Bridge
from bridge.app.config import RunningConfig, Source
from bridge.app.listeners import Sockets
from bridge.config.settings import Settings
from bridge.edges import systemd
from bridge.edges.outlet import Outlet
from bridge.errors import BridgeError, StoreDamaged
from bridge.outbox.rescue import cause, opened
from bridge.outbox.store import Store, reading

logger = logging.getLogger(__name__)


async def run(settings: Settings, state: Path, *, source: Source | None = None, stop: asyncio.Event | None = None, ready: Callable[[], None] = lambda: None) -> None:
    """Run the bridge until it is told to stop, by a signal or *stop*; its outbox is in *state*.

    *source* is where the config is read anew, None if that can't be. Raises
    AlreadyRunning, StoreBroken or ListenError where the bridge can't start, and whatever a part dies of.
    """
    sockets = Sockets()
    config = RunningConfig(settings, source, bind=sockets.bind, monotonic=time.monotonic)
    stop = stop or _told_by_signals(config)
    watching = asyncio.create_task(config.watch(), name="config file")
    try:
        while not stop.is_set():
            await _run_once(config, state, sockets, stop, ready)
    except* (BridgeError, OSError) as failed:
        raise _first(failed) from None
    finally:
        watching.cancel()
        sockets.close()
    logger.info("stopped")


async def _run_once(config: RunningConfig, state: Path, sockets: Sockets, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    """Run the parts until the program is to stop, or a new config wants them to start anew; one that can't run is given up for the last one."""
    config.start_anew()
    began = False

    def begun() -> None:
        nonlocal began
        began = True
        config.runs()
        _tell_ready(ready)

    try:
        await _run_parts(config, state, sockets, stop, begun)
    except* (BridgeError, OSError) as failed:
        first = _first(failed)
        if isinstance(first, StoreDamaged):  # met while it runs: what was under way is open still, so the next process goes on, with a sound one
            opened(config.settings.outbox(state), max_size=config.settings.store.max_size, damage=cause(first)).close()
            raise
        if began or not config.give_up(first):
            raise


async def _run_parts(config: RunningConfig, state: Path, sockets: Sockets, stop: asyncio.Event, ready: Callable[[], None]) -> None:
    async with Outlet() as outlet:
        store, bridge = _parts(config, state, outlet, sockets)
        config.adopt, config.on_change = bridge.adopt, bridge.look
        try:
            await bridge.run(lambda: _either(stop, config.wants_anew, sockets), ready=ready)
        finally:
            config.adopt, config.on_change = None, lambda: None
            bridge.outbox.shut()
            store.close()


def _parts(config: RunningConfig, state: Path, outlet: Outlet, sockets: Sockets, *, damage: str | None = None) -> tuple[Store, Bridge]:
    """Return the open outbox and the bridge over it; an outbox that turns out to be damaged gives way to a new one."""
    settings = config.settings
    store = opened(settings.outbox(state), max_size=settings.store.max_size, damage=damage)
    try:
        with reading():
            return store, Bridge(settings, store, outlet, settings.control_socket(state), sockets, config=lambda: config.figures, reload=config.reload)
    except BaseException as exc:
        store.close()
        if damage is not None or not isinstance(exc, StoreDamaged):
            raise
        return _parts(config, state, outlet, sockets, damage=cause(exc))


async def _either(stop: asyncio.Event, anew: asyncio.Event, sockets: Sockets) -> None:
    waiting = [asyncio.ensure_future(event.wait()) for event in (stop, anew)]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()
    if stop.is_set():
        systemd.notify("STOPPING=1")
        sockets.close()  # the listeners have their own yet; while parts start anew these keep who calls waiting


def _tell_ready(ready: Callable[[], None]) -> None:
    systemd.notify("READY=1")  # not after the broker is reached: a broker that is down must not keep us from starting
    logger.info("started version=%s", __version__)
    ready()


def _told_by_signals(config: RunningConfig) -> asyncio.Event:
    """Return an event that SIGTERM and SIGINT set; a second signal of either kind kills as if nobody listened. SIGHUP reads the config anew."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        stop.set()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    loop.add_signal_handler(signal.SIGHUP, config.reload_soon)
    return stop


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
