"""TLS: the files that a `tls` table names, read into what Python's ssl wants. The only place that reads them.

They are read when a context is made, at start and at a reload; a file that changes afterwards counts from the next one on.
"""

import ssl
from pathlib import Path
from typing import NoReturn

from bridge.errors import ConfigError
from bridge.rules.access import TlsSettings


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

