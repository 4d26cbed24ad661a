"""The config that runs: how it is read anew, and what comes of that.

A file that is wrong changes nothing: what runs goes on, and says so. One that is right is adopted in one step; where it
changes what is connected or open, the parts start anew with it, and with the last one if they can't.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bridge import log
from bridge.config.changes import Changes, changes
from bridge.config.load import Loaded
from bridge.config.settings import Settings
from bridge.edges import systemd
from bridge.errors import BridgeError, ConfigError
from bridge.watch.figures import ConfigFigures

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0  # at the file, with auto_reload; one that is as it was at the last look is written to the end


@dataclass(frozen=True, slots=True)
class Source:
    """Where the config comes from: its file, and how it is read, which blocks and raises ConfigError."""

    path: Path
    read: Callable[[], Loaded]


class RunningConfig:
    """Which config runs, and which is to."""

    def __init__(self, settings: Settings, source: Source | None, *, bind: Callable[[Settings], None], monotonic: Callable[[], float]) -> None:
        """Begin with *settings*; *bind* has the sockets of others before they count, and raises ListenError where that can't be."""
        self.settings, self._source, self._bind, self._monotonic = settings, source, bind, monotonic
        self._log = settings.log
        self.figures = ConfigFigures(loaded_at=monotonic())
        self.wants_anew = asyncio.Event()
        self.adopt: Callable[[Settings], Awaitable[None]] | None = None  # while the parts run
        self.on_change: Callable[[], None] = lambda: None  # what its figures say is another
        self._former: Settings | None = None
        self._reloading = asyncio.Lock()
        self._running = asyncio.Event()
        self._signalled: set[asyncio.Task[None]] = set()

    async def reload(self) -> Changes:
        """Read the config anew and go on with it; return what is different.

        Raises ConfigError or ListenError where it can't be used: nothing has changed then.
        """
        async with self._reloading:
            return await self._reload()

    async def _reload(self) -> Changes:
        if self._source is None or self.adopt is None or not self._running.is_set():
            raise BridgeError("the config can't be read anew now: the program is just starting")
        systemd.reloading()
        try:
            return await self._reloaded(self._source, self.adopt)
        except BridgeError as exc:
            self._refused(exc)
            raise
        finally:
            systemd.notify("READY=1")

    async def _reloaded(self, source: Source, adopt: Callable[[Settings], Awaitable[None]]) -> Changes:
        loaded = await asyncio.to_thread(source.read)
        found = changes(self.settings, loaded.settings)
        for warning in loaded.warnings if found else ():
            logger.warning("%s", warning)
        self._bind(loaded.settings)
        if found.anew:
            self._former, self.settings = self.settings, loaded.settings
            self._running.clear()
            self.wants_anew.set()
        else:
            await adopt(loaded.settings)
            self.settings = loaded.settings
            self._applied()
        self.figures = replace(self.figures, last_change=str(found))
        logger.info("config read anew: %s", found)
        return found

    def _applied(self) -> None:
        if self.settings.log != self._log:
            self._log = self.settings.log
            log.configure(self._log)
        self.figures = replace(self.figures, loaded_at=self._monotonic(), problems=(), applied=self.figures.applied + 1)
        self.on_change()

    def _refused(self, exc: BridgeError) -> None:
        problems = tuple(exc.problems) if isinstance(exc, ConfigError) else (str(exc),)
        self.figures = replace(self.figures, problems=problems, refused=self.figures.refused + 1)
        for problem in problems:
            logger.error("config not used, the one before it goes on running: %s", problem)
        self.on_change()

    # --- parts that start anew ---

    def start_anew(self) -> None:
        """Note that the parts start, with the settings as they are now."""
        self.wants_anew.clear()

    def runs(self) -> None:
        """Note that the parts run."""
        self._running.set()
        if self._former is not None:
            self._former = None
            self._applied()

    def give_up(self, exc: BaseException) -> bool:
        """Return to the settings that ran before, as the parts can't start with the new ones; return False if there are none."""
        if self._former is None:
            return False
        self.settings, self._former = self._former, None
        self._refused(exc if isinstance(exc, BridgeError) else BridgeError(str(exc)))
        return True

    # --- who asks for it ---

    def reload_soon(self) -> None:
        """Read the config anew, as a signal asks."""
        task = asyncio.get_running_loop().create_task(self._reload_and_tell(), name="reload")
        self._signalled.add(task)
        task.add_done_callback(self._signalled.discard)

    async def _reload_and_tell(self) -> None:
        async with self._reloading:
            await self._running.wait()  # who asks while the parts start means the file as it is by then
            with suppress(BridgeError):  # it is in the log already
                await self._reload()

    async def watch(self) -> None:
        """Read the config anew when its file has changed, for ever, while `auto_reload` is on."""
        if self._source is None:
            return
        known = pending = _mark(self._source.path)
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            now = _mark(self._source.path)
            if now == known or now is None or not self.settings.auto_reload:
                known = pending = now if now is not None else known
            elif now == pending:
                known = now
                await self._reload_and_tell()
            else:
                pending = now


def _mark(path: Path) -> tuple[int, int, int] | None:
    """Return what tells one state of a file from another, None if there is no such file now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
