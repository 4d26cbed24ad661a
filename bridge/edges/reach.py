"""Reaching a receiver without sending it anything: its name is found, its port answers, its certificate is good.

No event is sent, and by default no request at all: a receiver's log shows a connection that came and went. Only where it
is asked for its clock is there one, `HEAD /`: not the webhook's own path, which may set something off. It blocks.
"""

import http.client
import os
import socket
import ssl
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from bridge.rules.access import TlsSettings
from bridge.rules.addresses import Network, refusal
from bridge.rules.certificates import ends_at
from bridge.rules.diagnosis import Reached
from bridge.tls import client_context

PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """Where a destination is, and how it is reached."""

    url: str
    network: Network
    tls: TlsSettings

    @property
    def place(self) -> tuple[str, int]:
        """Return its host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), parts.port or PORTS[parts.scheme.lower()]


def reached(receiver: Receiver, *, within_s: float, head: bool = False) -> Reached:
    """Return what came of reaching a receiver; each of its addresses is given *within_s* seconds. With *head* it is asked for its clock."""
    host, port = receiver.place
    try:
        addresses = _addresses(receiver)
    except OSError as exc:
        why = str(exc) if isinstance(exc, _Refused) else f"the name {host} can't be found"
        return Reached(problem=why, do="is `network` in its destination right?" if isinstance(exc, _Refused) else f"getent hosts {host}; ping -c 1 1.1.1.1")
    do = f"nc -vz {host} {port}"
    problem = f"no connection to {host}:{port}"
    for address in addresses:
        try:
            with closing(socket.create_connection(address, within_s)) as link:
                return _spoken(receiver, link, host, head=head)
        except TimeoutError:
            problem = f"no answer from {host}:{port} within {within_s:g} s"
        except ssl.SSLCertVerificationError as exc:
            problem = f"the certificate of {host} can't be trusted: {exc.verify_message.rstrip('.')}"
            return Reached(problem=problem, do=_openssl(host, port), certificate_ends_at=_ended(exc, address, within_s))
        except ssl.SSLError as exc:
            return Reached(problem=f"no secure connection to {host}:{port}: {exc.reason}", do=_openssl(host, port))
        except OSError as exc:
            problem = f"no connection to {host}:{port}: {os.strerror(exc.errno) if exc.errno else exc}"
    return Reached(problem=problem, do=do)


class _Refused(OSError):
    """Its network doesn't let a destination be there."""


def _addresses(receiver: Receiver) -> list[tuple[str, int]]:
    host, port = receiver.place
    found = list(dict.fromkeys((str(info[4][0]), port) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))
    problems = [refusal(address, receiver.network) for address, _ in found]
    if found and all(problems):
        raise _Refused(problems[0] if problems[0] and problems[0].startswith(f"{host} ") else f"the name {host} leads nowhere else: {problems[0]}")
    return [address for address, problem in zip(found, problems, strict=True) if problem is None]


def _spoken(receiver: Receiver, link: socket.socket, host: str, *, head: bool) -> Reached:
    if not receiver.url.lower().startswith("https:"):
        return Reached(skew_s=_skew(link, host) if head else None)
    with client_context(receiver.tls).wrap_socket(link, server_hostname=host) as secure:
        end = certificate_end(secure)
        return Reached(certificate_ends_at=end, skew_s=_skew(secure, host) if head else None)


def certificate_end(secure: object) -> float | None:
    """Return when the other side's certificate ends, None where the connection has none."""
    if not isinstance(secure, ssl.SSLSocket):
        return None
    with suppress(ValueError):
        return ends_at(secure.getpeercert(binary_form=True) or b"")
    return None


def _ended(exc: ssl.SSLCertVerificationError, address: tuple[str, int], within_s: float) -> float | None:
    """Return when a certificate that is not good any more ended; the rest of what may be wrong with one has no such instant."""
    if exc.verify_code != 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return None
    with suppress(OSError, ValueError), closing(socket.create_connection(address, within_s)) as link:
        unchecked = client_context(TlsSettings(verify=False))
        with unchecked.wrap_socket(link) as secure:
            return certificate_end(secure)
    return None


def _skew(link: socket.socket, host: str) -> float | None:
    """Return how much the other side's clock is ahead of ours, in seconds, None where it doesn't tell: RFC 9110 section 6.6.1."""
    began = time.time()
    try:
        link.sendall(f"HEAD / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: mqtthook-doctor\r\nConnection: close\r\n\r\n".encode())
        response = http.client.HTTPResponse(link, method="HEAD")
        response.begin()
        date = response.getheader("Date")
        return None if date is None else parsedate_to_datetime(date).timestamp() - (began + time.time()) / 2
    except (OSError, http.client.HTTPException, ValueError):
        return None


def _openssl(host: str, port: int) -> str:
    return f"openssl s_client -connect {host}:{port} -servername {host} </dev/null | head -20"
