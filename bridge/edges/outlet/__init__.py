"""The outlet: sends one HTTP request. The only room that imports aiohttp's client.

It never follows a redirect (aiohttp's default turns a POST into an empty GET that ends in 200), never keeps a
cookie, never asks the environment for a proxy, never unpacks what comes back, never connects to an address that the
destination's `network` refuses, and never raises for what a network does: every end is a Reply.
"""

from bridge.edges.outlet.client import MAX_RESPONSE, Channel, Outlet

__all__ = ["MAX_RESPONSE", "Channel", "Outlet"]
