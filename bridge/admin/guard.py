"""The guard of the admin side: who may look, and who only guesses.

A token goes before everything; whoever gets it wrong too often is locked out, as at a hook. Where none is asked for, the
Host that is asked for has to be this machine: a page whose name was made to lead here (DNS rebinding) reads nothing.
"""

import hmac
import logging
from collections import OrderedDict
from collections.abc import Callable
from ipaddress import ip_address
from urllib.parse import urlsplit

from bridge.admin.settings import AdminSettings, host_of
from bridge.rules.answers import Response, problem
from bridge.rules.callers import LOCKED_S, Wrongs, household, locked_s, one_more_wrong
from bridge.rules.requests import Request

logger = logging.getLogger(__name__)

REMEMBERED = 1_024  # callers who had a wrong token: 1 MB at the very most; the quietest one is forgotten for one more

_BY_A_PROXY = ("forwarded", "x-forwarded-for")  # which means that who asks is elsewhere


class Guard:
    """Stands before the pages."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._wrongs: OrderedDict[str, Wrongs] = OrderedDict()
        self._token: bytes | None = None
        self._own_host = ""

    def adopt(self, settings: AdminSettings) -> None:
        """Ask for another token from now on, or for none."""
        self._token = settings.token.get_secret_value().encode() if settings.token else None
        self._own_host = host_of(settings.listen)

    def refusal(self, request: Request, *, is_health: bool) -> Response | None:
        """Return what is answered to one who may not look, or None if he may. Health is for everything on this machine that watches, without the token."""
        if self._token is None:
            return None if self._is_for_us(request) else problem(421, "ask for 127.0.0.1 or localhost; for another name, as behind a proxy, set admin.token")
        if is_health and _is_local(request) and self._is_for_us(request):
            return None
        return self._without_token(request, self._token)

    def _without_token(self, request: Request, token: bytes) -> Response | None:
        now, caller = self._monotonic(), household(request.client)
        wrongs = self._wrongs.get(caller, Wrongs())
        if wait_s := locked_s(wrongs, now):
            return problem(429, "too many wrong tokens; try again later", headers={"Retry-After": str(wait_s)})
        given = _bearer(request)
        if given is not None and hmac.compare_digest(given, token):
            return None
        if given is not None:
            self._note(caller, one_more_wrong(wrongs, now))
        return problem(401, headers={"WWW-Authenticate": "Bearer"})

    def _note(self, caller: str, wrongs: Wrongs) -> None:
        self._wrongs[caller] = wrongs
        self._wrongs.move_to_end(caller)
        if len(self._wrongs) > REMEMBERED:
            self._wrongs.popitem(last=False)
        if not wrongs.at:
            logger.warning("locked out of the admin side client=%s for_s=%g reason='too many wrong tokens'", caller or "unknown", LOCKED_S)

    def _is_for_us(self, request: Request) -> bool:
        """Return True if what is asked for is this machine, or nothing that says so: a browser always does."""
        return all(_is_ours(host, self._own_host) for host in request.headers.get("host", ()))


def _is_local(request: Request) -> bool:
    return _is_loopback(request.client) and not any(header in request.headers for header in _BY_A_PROXY)


def _is_ours(host: str, own: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in ("localhost", own) or name.endswith(".localhost") or _is_loopback(name)  # RFC 6761 section 6.3


def _is_loopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def _bearer(request: Request) -> bytes | None:
    """Return the token that is given (RFC 9110 section 11.1: the scheme in any case), b"" for what is none, None without any."""
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, token = given[0].partition(" ")
    return token.strip().encode("utf-8", "surrogateescape") if len(given) == 1 and scheme.lower() == "bearer" else b""
