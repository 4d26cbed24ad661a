"""The heartbeat: where it goes, and what keeps it from going. Pure.

Its URL is a secret: whoever knows it can say that all is well. It gets into no log, no status and no error.
"""

from pydantic import SecretStr

from bridge.model import Event
from bridge.rules.addresses import Network, refusal_of_host
from bridge.rules.expressions import UrlText

EVERY_S = 60.0  # a minute: the shortest period that services for such pings know
SOONEST_S = 10.0  # after the last one, when all is well again: a broker that comes and goes makes no flood
NETWORK: Network = "lan"  # as for a destination that says nothing: a service on the web, or one in the house


def problem_with_url(url: str) -> str | None:
    """Return why a URL can't be pinged, without showing it, or None if it can be."""
    try:
        written = UrlText(url)
    except ValueError:
        return 'the value (not shown) is no URL: expected one such as "https://hc-ping.com/…", or where it stands, as in "env:HEARTBEAT_URL"'
    if written.names or "{" in url:
        return "no template may stand in it"
    if refusal_of_host(url, NETWORK):
        return "the value (not shown) leads to an address that nothing is ever sent to, such as a link-local one"
    return None


def ping(url: SecretStr) -> Event:
    """Return the request that says that all is well."""
    return Event(method="GET", url=url.get_secret_value(), headers=(), body=b"")
