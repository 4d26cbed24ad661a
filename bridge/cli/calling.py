"""One request to the hooks of the daemon that runs here, as their sender would send it; every end is a Reply.

It goes where the config says that hooks listen, and over TLS only to who has the certificate that the config names.
"""

import http.client
import ssl
from contextlib import closing
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

from bridge.cli.control import UnixConnection
from bridge.cli.requests import target
from bridge.cli.signed import came_as
from bridge.edges.http_settings import HttpSettings, ServerTls
from bridge.model import Event, Headers, Reply
from bridge.rules.access import TlsSettings
from bridge.tls import client_context

ANSWER_S = 60.0  # longer than a hook waits for a device, unless it was told to wait for very long
MAX_ANSWER = 64 * 1024  # bytes; four times what a device's own answer may have

_FRAMING = frozenset({"content-length", "transfer-encoding", "connection", "expect"})  # of a connection that was another (RFC 9110 section 7.6.1)


def reply_of(http_settings: HttpSettings, event: Event, added: Headers) -> Reply:
    """Return what the daemon answers to a request, or why it doesn't; raise ConfigError where its certificate can't be read."""
    began = monotonic()
    connection = _connection(http_settings)
    try:
        with closing(connection):
            connection.connect()
            if http_settings.tls is not None:
                connection.sock = _trusting(http_settings.tls).wrap_socket(connection.sock)
            _write(connection, event, added)
            response = connection.getresponse()
            return Reply(status=response.status, headers=dict(response.getheaders()), body=response.read(MAX_ANSWER), took_s=monotonic() - began)
    except (OSError, http.client.HTTPException, ValueError) as exc:
        return Reply(error="connect", detail=_why(http_settings, exc), took_s=monotonic() - began)


def _connection(http_settings: HttpSettings) -> http.client.HTTPConnection:
    if http_settings.socket_file is not None:
        return UnixConnection(Path(http_settings.socket_file), ANSWER_S)
    place = urlsplit(http_settings.base)
    return http.client.HTTPConnection(str(place.hostname), place.port, timeout=ANSWER_S)


def _trusting(tls: ServerTls) -> ssl.SSLContext:
    """Return a context that trusts the listener's own certificate and no other; it is called by an address that needn't stand in that."""
    context = client_context(TlsSettings(ca=tls.cert))
    context.check_hostname = False
    return context


def _write(connection: http.client.HTTPConnection, event: Event, added: Headers) -> None:
    connection.putrequest(event.method, target(event.url), skip_host=True, skip_accept_encoding=True)
    for name, values in came_as(event, added).items():
        for value in () if name in _FRAMING else values:
            connection.putheader(name, value.encode("utf-8", "surrogateescape"))
    connection.putheader("content-length", str(len(event.body)))
    connection.endheaders(event.body)


def _why(http_settings: HttpSettings, exc: Exception) -> str:
    place = http_settings.listen
    if isinstance(exc, FileNotFoundError | ConnectionRefusedError):
        start = "start it with `mqtthook run`, or as a service with `sudo systemctl start mqtthook`"
        return f"nobody listens at {place} (http.listen): the daemon isn't running, or with another config; {start}"
    if isinstance(exc, PermissionError):
        return f"{place} (http.listen) can't be opened by this user; try with sudo"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"who listens at {place} has another certificate than http.tls.cert, or it isn't valid now: {exc.verify_message}"
    return f"{place} (http.listen) gave no answer: {exc or 'the connection ended'}"
