"""`[http]`: where hooks listen, and how much they take."""

from typing import Annotated

from pydantic import AfterValidator

from bridge.rules.units import Size, Slice, size_bytes


def listen_address(text: str) -> str:
    """Return *text* if it is an address to listen on, such as "127.0.0.1:8080" or "[::]:8080"; raise ValueError."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise ValueError('expected an address and a port, such as "127.0.0.1:8080" or "0.0.0.0:8080"')
    return text


Listen = Annotated[str, AfterValidator(listen_address)]


class HttpSettings(Slice):
    """The listener of the hooks."""

    listen: Listen = "127.0.0.1:8080"
    max_body: Size = size_bytes("256KiB")
