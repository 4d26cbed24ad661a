"""TLS: the files that a `tls` table names, read into what Python's ssl wants. The only place that reads them.

A client's are read when its context is made, at start and at a reload; a file that changes afterwards counts from the
next one on. A listener's are looked at with each connection: certificates are renewed every few weeks, by themselves.
"""

import logging
import os
import ssl
from pathlib import Path
from typing import NoReturn

from bridge.errors import ConfigError
from bridge.rules.access import TlsSettings

logger = logging.getLogger(__name__)


def client_context(tls: TlsSettings) -> ssl.SSLContext:
    """Return the context of a client; raise ConfigError where a file can't be used, beginning with its key as in `ca: `.

    With `ca` only the authorities in that file are trusted, as with curl's `--cacert`: nobody else can then vouch for
    the other side. It may also hold the other side's own certificate.
    """
    for key, path in (("ca", tls.ca), ("cert", tls.cert), ("key", tls.key)):
        _readable(key, path)
    made = _trusting(tls.ca)
    if tls.cert is not None:
        _show(made, tls.cert, tls.key)
    if not tls.verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def server_context(cert: str, key: str | None) -> ssl.SSLContext:
    """Return the context of a listener; raise ConfigError where a file can't be used, beginning with its key as in `key: `."""
    for name, path in (("cert", cert), ("key", key)):
        _readable(name, path)
    secret = key or cert
    if os.stat(secret).st_mode & 0o007:
        raise ConfigError([f"{'cert' if key is None else 'key'}: {secret}: others can read this file, and it holds the key: chmod 600 {secret}"])
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996: nothing older
    made.set_alpn_protocols(["http/1.1"])
    _show(made, cert, key)
    return made


class ServedFiles:
    """A listener's certificate and key, as their files are now."""

    def __init__(self, cert: str, key: str | None) -> None:
        """Read them; raise ConfigError where they can't be used."""
        self._cert, self._key = cert, key
        self._seen = self._prints()
        self._context = server_context(cert, key)

    def context(self) -> ssl.SSLContext:
        """Return the context for the next connection; what can't be used, once it was replaced, is told once, and the old one stays."""
        seen = self._prints()
        if seen != self._seen:
            self._seen = seen
            self._read_again()
        return self._context

    def _read_again(self) -> None:
        try:
            self._context = server_context(self._cert, self._key)
        except ConfigError as exc:
            logger.error("http.tls.%s; the certificate from before is shown until then", exc)
        else:
            logger.info("certificate read again file=%r", self._cert)

    def _prints(self) -> list[tuple[int, ...] | None]:
        return [_print(path) for path in (self._cert, self._key) if path is not None]


def _print(path: str) -> tuple[int, ...] | None:
    """Return what tells a file from the one that is there after a change, or None if there is none."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_mode


def _readable(key: str, path: str | None) -> None:
    """Raise ConfigError where a file can't be read: OpenSSL does not tell which of them it was."""
    if path is None:
        return
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as exc:
        raise ConfigError([f"{key}: {path}: the file can't be read: {exc.strerror}"]) from exc
    except ValueError as exc:
        raise ConfigError([f"{key}: {path!r} is no path of a file"]) from exc


def _trusting(ca: str | None) -> ssl.SSLContext:
    try:
        made = ssl.create_default_context(cafile=ca)
    except ssl.SSLError as exc:
        raise ConfigError([f"ca: {ca}: expected certificates in PEM form"]) from exc
    if ca is not None:
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # what is written out is trusted, though it be no root
    return made


def _show(made: ssl.SSLContext, cert: str, key: str | None) -> None:
    def refuse() -> NoReturn:
        raise ConfigError([f"{'cert' if key is None else 'key'}: {key or cert}: the key is encrypted: expected one without a passphrase"])

    try:
        made.load_cert_chain(cert, key, password=refuse)  # else OpenSSL would ask for it on the terminal
    except ssl.SSLError as exc:
        if exc.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError([f"key: {key or cert}: this key doesn't belong to the certificate"]) from exc
        beside = "a certificate and its key" if key is None else f"a certificate, and its key in {key},"
        raise ConfigError([f"cert: {cert}: expected {beside} in PEM form"]) from exc

