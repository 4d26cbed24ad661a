"""`[http]`: where hooks listen, and how much they take."""

from typing import Annotated

from pydantic import AfterValidator

from bridge.rules.callers import TrustedProxies
from bridge.rules.units import Size, Slice, size_bytes

# Who listens on every address is reached on loopback.
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "::": "[::1]"}  # noqa: S104 - nothing is bound here

LOOPBACK = ("127.", "[::1]:", "localhost:")


def listen_address(text: str) -> str:
    """Return *text* if it is an address to listen on, such as "127.0.0.1:8080" or "[::]:8080"; raise ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError('expected an address and a port, such as "127.0.0.1:8080" or "0.0.0.0:8080"')
    return text


def is_one_place(one: str, other: str) -> bool:
    """Return True if two listeners can't have these addresses at once, as both have one port, False if they can."""
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    if one.startswith("unix:") or int(port) != int(other_port) or int(port) == 0:  # 0 is any port that is free
        return False
    hosts = {host.strip("[]").lower(), other_host.strip("[]").lower()}
    # "::" is every address, also those of IPv4 (ipv6(7), IPV6_V6ONLY); "0.0.0.0" is every one of IPv4.
    return len(hosts) == 1 or "::" in hosts or ("0.0.0.0" in hosts and not any(":" in name for name in hosts))  # noqa: S104 - it is looked for, not listened on


def hooks_address(text: str) -> str:
    """Return *text* if it is an address to listen on, or a socket file as in "unix:/run/mqtthook/hooks.sock"; raise ValueError."""
    if not text.startswith("unix:"):
        return listen_address(text)
    path = text.removeprefix("unix:").removeprefix("//")
    if not path.startswith("/") or path.endswith("/") or "\0" in path:
        raise ValueError('expected the whole path of a socket file, as in "unix:/run/mqtthook/hooks.sock"')
    return f"unix:{path}"


Listen = Annotated[str, AfterValidator(listen_address)]


class ServerTls(Slice):
    """`http.tls`: who the listener is, in files in PEM form; the key may stand in the certificate's file."""

    cert: str
    key: str | None = None


class HttpSettings(Slice):
    """The listener of the hooks."""

    listen: Annotated[str, AfterValidator(hooks_address)] = "127.0.0.1:8080"
    tls: ServerTls | None = None
    max_body: Size = size_bytes("256KiB")
    trusted_proxies: TrustedProxies = ()

    @property
    def socket_file(self) -> str | None:
        """Return the path of the socket file it listens on, or None if it is an address."""
        return self.listen.removeprefix("unix:") if self.listen.startswith("unix:") else None

    @property
    def base(self) -> str:
        """Return the URL that this machine calls it by, without a path; of a socket file the host in it means nothing."""
        host, _, port = self.listen.rpartition(":")
        host = _EVERYWHERE.get(host, f"[{host}]" if ":" in host and not host.startswith("[") else host)
        place = f"{host}:{port}" if self.socket_file is None else "localhost"
        return f"{'http' if self.tls is None else 'https'}://{place}"

    @property
    def in_the_open(self) -> bool:
        """Return True if what comes may have crossed a network in the clear, False if not."""
        return self.tls is None and not self.trusted_proxies and self.socket_file is None and not self.listen.lower().startswith(LOOPBACK)
