"""The listeners: where hooks are called, where health and metrics are read, and where the command line asks."""

import errno
import logging
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

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

Place = tuple[str, str]  # which side, named as its table in the config, and where
SYSTEMD = "systemd"  # where a side listens whose sockets are handed over
CONTROL: Place = ("control", "")


class Sockets:
    """The sockets that hooks and the admin side listen on. They outlive the parts: who calls while these start anew waits, and isn't refused.

    A new one is there before an old one goes. What systemd hands over goes before any address of the config, and stays.
    """

    def __init__(self) -> None:
        """Take what systemd hands over; raises ListenError."""
        passed = {"http": systemd.passed_sockets(lambda name: name != ADMIN_SOCKET), "admin": systemd.passed_sockets(lambda name: name == ADMIN_SOCKET)}
        self._held: dict[Place, list[socket.socket]] = {(side, SYSTEMD): sockets for side, sockets in passed.items() if sockets}

    def places(self, settings: Settings) -> dict[str, str]:
        """Return where to listen, by the table of the config: an address, or SYSTEMD."""
        addresses = {"http": settings.http.listen} if any(hook.enabled for hook in settings.inbound.values()) else {}
        passed = {side: address for side, address in self._held if address == SYSTEMD}
        return addresses | {"admin": settings.admin.listen} | passed

    def bind(self, settings: Settings) -> None:
        """Have all sockets that these settings want, beside those of before; raises ListenError where one can't be: nothing has changed then."""
        before = set(self._held)
        try:
            for side, address in self.places(settings).items():
                if (side, address) not in self._held:
                    self._held[side, address] = [_bound(side, address, beside=[one for held in self._held.values() for one in held])]
        except ListenError:
            self._keep(before)
            raise

    def of(self, side: str, address: str) -> list[socket.socket]:
        """Return what to listen on, for the caller to close."""
        return [held.dup() for held in self._held[side, address]]

    def unwanted(self, settings: Settings) -> list[tuple[str, socket.socket]]:
        """Return those that these settings don't want, with their sides."""
        wanted = set(self.places(settings).items())
        return [(place[0], one) for place, held in self._held.items() if place not in wanted for one in held]

    def release(self, settings: Settings) -> None:
        """Let go of those that these settings don't want."""
        self._keep(set(self.places(settings).items()))

    def close(self) -> None:
        """Let go of all; a listener that still runs has its own, until it ends."""
        self._keep(set())

    def _keep(self, wanted: set[Place]) -> None:
        for place in self._held.keys() - wanted:
            for one in self._held.pop(place):
                one.close()


class Listeners:
    """What listens, from when it is opened to when it is closed."""

    def __init__(self, requests: RequestIntake, watched: Watched, control: Path, sockets: Sockets) -> None:
        self._requests, self._control, self._sockets = requests, control, sockets
        self._public, self._asked = PublicSide(watched, monotonic=monotonic), ControlSide(watched)
        self._inlets: dict[Place, Inlet] = {}
        self._leaving: list[Inlet] = []  # they answer who is there yet

    async def open(self, settings: Settings) -> None:
        """Listen as the settings say; raises ListenError."""
        try:
            self._sockets.bind(settings)
            self.adopt(settings)
            self._start(CONTROL, Inlet([listening_unix(self._control)], self._asked.answer, max_body=CONTROL_BODY))
        except BaseException:
            await self.close()
            raise

    def adopt(self, settings: Settings) -> None:
        """Listen as the settings say, whose sockets are bound: where the address is the same on the same connections, else beside those of before until they end.

        Raises ConfigError where a certificate can't be used; nothing has changed then.
        """
        places = self._sockets.places(settings)
        gone = {place: inlet for place, inlet in self._inlets.items() if place not in (*places.items(), CONTROL)}
        if "http" in places:
            self._hooks(places["http"], settings.http)
        self._public.adopt(settings.admin)
        if ("admin", places["admin"]) not in self._inlets:
            self._listen(("admin", places["admin"]), lambda sockets: Inlet(sockets, self._public.answer, max_body=None))
        for place, inlet in gone.items():
            inlet.retire()
            del self._inlets[place]
        self._leaving = [inlet for inlet in (*self._leaving, *gone.values()) if inlet.connections]
        for side, listening in self._sockets.unwanted(settings):
            if side in places:
                self._inlets[side, places[side]].let_in(listening)  # who came to the old address while the parts started anew
        self._sockets.release(settings)

    async def close(self) -> None:
        """Listen no more; what is being answered is answered first."""
        inlets = [*self._leaving, *self._inlets.values()]
        self._inlets, self._leaving = {}, []
        for inlet in reversed(inlets):
            await inlet.close()

    def _hooks(self, address: str, http: HttpSettings) -> None:
        tls = None if http.tls is None else ServedFiles(http.tls.cert, http.tls.key).context
        trusted = proxies(http.trusted_proxies)
        inlet = self._inlets.get(("http", address))
        if inlet is not None:
            inlet.adopt(max_body=http.max_body, trusted=trusted, tls=tls)
            return
        self._listen(("http", address), lambda sockets: Inlet(sockets, self._requests.answer, max_body=http.max_body, admit=self._requests.admit, trusted=trusted, tls=tls))

    def _listen(self, place: Place, inlet: Callable[[list[socket.socket]], Inlet]) -> None:
        side, address = place
        sockets = self._sockets.of(*place)
        self._start(place, inlet(sockets))
        for listening in sockets:
            at = address if address.startswith("unix:") else _address(listening)  # a socket file is bound by another name, which may be shorter
            logger.info("%s listening address=%s%s", "hooks" if side == "http" else side, at, " from=systemd" if address == SYSTEMD else "")

    def _start(self, place: Place, inlet: Inlet) -> None:
        inlet.start()
        self._inlets[place] = inlet


def _bound(side: str, address: str, *, beside: Sequence[socket.socket]) -> socket.socket:
    if address.startswith("unix:"):
        return _hooks_file(Path(address.removeprefix("unix:")))
    try:
        return listening_tcp(address, beside=beside)
    except OSError as exc:
        raise _taken(side, address, exc) from exc


def _hooks_file(path: Path) -> socket.socket:
    try:
        return listening_unix(path, mode=FOR_EVERYBODY)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise _taken("http", f"unix:{path}", exc) from exc
        raise ListenError(f"http.listen: {path} can't be made: {exc.strerror}; its directory has to be there, and ours to write to") from exc


def _taken(what: str, address: str, exc: OSError) -> ListenError:
    return ListenError(f"{what}.listen: {address} can't be listened on: {exc.strerror}; is another program using it?")


def _address(listening: socket.socket) -> str:
    name = listening.getsockname()
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
