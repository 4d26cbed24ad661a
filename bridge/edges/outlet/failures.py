"""Failures: what aiohttp raised, as the class of a failure and one sentence.

No sentence holds the URL, whose path may be a token, or what the receiver wrote, which may be our request.
"""

import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp

from bridge.edges.outlet.guard import Refused
from bridge.rules.access import Timeout

_CERTIFICATES = {  # OpenSSL's X509_V_ERR_*, X509_verify_cert_error_string(3)
    9: "it will be valid later, unless this machine's clock is wrong",
    10: "it has to be renewed there, unless this machine's clock is wrong",
    18: "it vouches for itself; if it is meant, name it in `tls.ca`",
    19: "its authority is unknown here; if it is meant, name it in `tls.ca`",
    20: "its authority is unknown here; if it is meant, name it in `tls.ca`",
    21: "its authority is unknown here; if it is meant, name it in `tls.ca`",
}

_HANDSHAKES = {  # OpenSSL's reasons, as Python spells them; RFC 8446 section 6.2 has the alerts
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the receiver asks who we are: give it a `tls.cert` and `tls.key`",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the receiver refuses the handshake; perhaps it asks who we are: give it a `tls.cert` and `tls.key`",
    "TLSV1_ALERT_UNKNOWN_CA": "the receiver doesn't trust the certificate in `tls.cert`",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the receiver refuses the certificate in `tls.cert`",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the certificate in `tls.cert` has expired, or the receiver's clock is wrong",
    "WRONG_VERSION_NUMBER": "the other side does not speak TLS there (WRONG_VERSION_NUMBER)",
}


def failure(exc: Exception, timeout: Timeout) -> tuple[str, str]:
    """Return the class of a failure and a sentence about it: the first row of the table that *exc* or a cause of it fits."""
    causes = [*_causes(exc)][::-1]  # the first cause first: aiohttp's own certificate error is one of ssl's too, but empty
    for kind, error, told in _ROWS:
        if (found := next((each for each in causes if isinstance(each, kind)), None)) is not None:
            return error, told(found, exc, timeout)
    return "disconnected", "the receiver closed the connection without an answer"


def _causes(exc: BaseException | None) -> Iterator[BaseException]:
    while exc is not None:
        yield exc
        exc = exc.__cause__


def _address(found: Any, exc: Any, _timeout: Timeout) -> str:
    written = str(found).startswith(f"{exc.host} ")
    return str(found) if written else f"the name {exc.host} leads nowhere else: {found}"


def _certificate(found: Any, _exc: Any, _timeout: Timeout) -> str:
    hint = _CERTIFICATES.get(found.verify_code)
    return f"the certificate can't be trusted: {found.verify_message.rstrip('. ')}" + (f"; {hint}" if hint else "")


def _handshake(found: Any, _exc: Any, _timeout: Timeout) -> str:
    reason = found.reason or "the other side does not speak TLS"
    return f"no secure connection: {_HANDSHAKES.get(reason, reason)}"


def _name(_found: Any, exc: Any, _timeout: Timeout) -> str:
    return f"the name {exc.host} can't be found"


def _connection(_found: Any, exc: Any, _timeout: Timeout) -> str:
    number = getattr(exc.os_error, "errno", None)
    return f"no connection to {exc.host}:{exc.port}: {os.strerror(number) if number else 'it broke'}"


def _no_connection(_found: Any, _exc: Any, timeout: Timeout) -> str:
    return f"no connection within {timeout.connect_s:g} s"


def _no_answer(_found: Any, _exc: Any, timeout: Timeout) -> str:
    return f"no answer within {timeout.total:g} s"


def _no_http(found: Any, _exc: Any, _timeout: Timeout) -> str:
    # Only the first words: what follows them is the receiver's own text.
    return f"the answer is not HTTP: {found.message.splitlines()[0].partition(':')[0]}"


def _unusable(_found: Any, _exc: Any, _timeout: Timeout) -> str:
    return "the URL or a header can't be used"


_ROWS: tuple[tuple[type[Exception], str, Callable[[Any, Any, Timeout], str]], ...] = (
    (Refused, "address", _address),
    (ssl.SSLCertVerificationError, "tls", _certificate),
    (ssl.SSLError, "tls", _handshake),
    (aiohttp.ClientConnectorDNSError, "dns", _name),
    (aiohttp.ClientConnectorError, "connect", _connection),
    (aiohttp.ConnectionTimeoutError, "timeout", _no_connection),
    (TimeoutError, "timeout", _no_answer),
    (aiohttp.ClientResponseError, "protocol", _no_http),
    (ValueError, "url", _unusable),
)
