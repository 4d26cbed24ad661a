"""The inlet: the HTTP server, for hooks and for the admin side; the only room that imports aiohttp's server."""

from bridge.edges.inlet.server import Inlet
from bridge.edges.inlet.sockets import listening_tcp, listening_unix

__all__ = ["Inlet", "listening_tcp", "listening_unix"]
