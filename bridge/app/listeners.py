"""The listeners: where hooks are called, where health and metrics are read, and where the command line asks."""

import errno
import logging
import socket
from contextlib import AsyncExitStack
from pathlib import Path

from bridge.admin.api import ControlSide, PublicSide, Watched
from bridge.config.settings import Settings
from bridge.edges import systemd
from bridge.edges.http_settings import HttpSettings
from bridge.edges.inlet import Inlet, listening_tcp, listening_unix
from bridge.errors import ListenError
from bridge.outbox.intake import RequestIntake
from bridge.rules.callers import proxies
from bridge.tls import ServedFiles

logger = logging.getLogger(__name__)

ADMIN_SOCKET = "admin"  # the name of a socket from systemd that is the admin side's; any other is the hooks'
FOR_EVERYBODY = 0o666  # as with a port on loopback: everybody on this machine may connect, and has to sign; its directory may be stricter
CONTROL_BODY = 64 * 1024  # bytes that the command line may send


class Listeners:
    """What listens, from when it is opened to when it is closed."""

    def __init__(self, requests: RequestIntake, watched: Watched, control: Path) -> None:
        self._requests, self._watched, self._control = requests, watched, control
        self._open = AsyncExitStack()
        self._hooks_open = False

    async def open(self, settings: Settings) -> None:
        """Listen as the settings say; raises ListenError."""
        try:
            await self.open_hooks(settings)
            await self._open_admin(settings)
            await self._open.enter_async_context(Inlet([listening_unix(self._control)], ControlSide(self._watched).answer, max_body=CONTROL_BODY))
        except BaseException:
            await self.close()
            raise

    async def close(self) -> None:
        """Listen no more; what is being answered is answered first."""
        await self._open.aclose()

    async def open_hooks(self, settings: Settings) -> None:
        """Listen for hooks, if there are any and nobody does yet; raises ListenError."""
        http = settings.http
        passed = systemd.passed_sockets(lambda name: name != ADMIN_SOCKET) if not self._hooks_open else []
        if self._hooks_open or not (self._requests.hooks.all or passed):
            return
        sockets = passed or [_hooks_socket(http)]
        door = Inlet(
            sockets,
            self._requests.answer,
            max_body=http.max_body,
            admit=self._requests.admit,
            trusted=proxies(http.trusted_proxies),
            tls=None if http.tls is None else ServedFiles(http.tls.cert, http.tls.key).context,
        )
        await self._open.enter_async_context(door)
        self._hooks_open = True
        for listening in sockets:
            own_file = not passed and http.socket_file is not None  # it is bound by another name, which may be shorter
            logger.info("hooks listening address=%s%s", http.listen if own_file else _address(listening), " from=systemd" if passed else "")

    async def _open_admin(self, settings: Settings) -> None:
        token = settings.admin.token.get_secret_value() if settings.admin.token else None
        sockets = systemd.passed_sockets(lambda name: name == ADMIN_SOCKET) or [_listening("admin", settings.admin.listen)]
        await self._open.enter_async_context(Inlet(sockets, PublicSide(self._watched, token=token).answer, max_body=0))
        for listening in sockets:
            logger.info("admin listening address=%s", _address(listening))


def _listening(what: str, address: str) -> socket.socket:
    try:
        return listening_tcp(address)
    except OSError as exc:
        raise _taken(what, address, exc) from exc


def _hooks_socket(http: HttpSettings) -> socket.socket:
    if http.socket_file is None:
        return _listening("http", http.listen)
    try:
        return listening_unix(Path(http.socket_file), mode=FOR_EVERYBODY)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise _taken("http", http.listen, exc) from exc
        raise ListenError(f"http.listen: {http.socket_file} can't be made: {exc.strerror}; its directory has to be there, and ours to write to") from exc


def _taken(what: str, address: str, exc: OSError) -> ListenError:
    return ListenError(f"{what}.listen: {address} can't be listened on: {exc.strerror}; is another program using it?")


def _address(listening: socket.socket) -> str:
    name = listening.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
