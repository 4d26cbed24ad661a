"""Access: how a destination is reached: in which network, over which TLS, as whom, and how long that may take.

Pure. A credential stays a SecretStr until the header of one attempt is written: it never gets into an event, and so
never into the outbox, a log or an error.
"""

import base64
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, SecretStr, model_validator

from bridge.model import Headers
from bridge.rules.addresses import Network
from bridge.rules.expressions import UrlText
from bridge.rules.units import Duration, Slice, some_seconds

CONNECT_S = 5.0  # enough for two lost SYNs (after 1 and 3 s, RFC 6298 section 2) and a TLS handshake
TOTAL_S = 15.0  # Standard Webhooks asks for 15 to 30 s

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NAME = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


def _sendable(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if not text:
        raise ValueError("expected it not to be empty")
    if _CONTROL.search(text):
        raise ValueError("it holds a control character, such as the end of a line: no header can hold that")
    if text != text.strip():
        raise ValueError("there is a blank at its beginning or end: no header keeps that")
    return secret


def _token(secret: SecretStr) -> SecretStr:
    if " " in secret.get_secret_value():  # RFC 6750 section 2.1
        raise ValueError("expected a token without a blank; the word `Bearer` is put before it by the bridge")
    return secret


def _pair(given: Any) -> Any:
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise ValueError('expected a list of two: ["user", "password"]')
    return given


def _user(name: str) -> str:
    if ":" in name or _CONTROL.search(name):  # RFC 7617 section 2
        raise ValueError("the user can't hold a colon or a control character")
    return name


def _header_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header's name")
    return name


def _plain_url(url: str) -> str:
    if "{" in UrlText(url).text:
        raise ValueError("no template may stand in it")
    return url


Credential = Annotated[SecretStr, AfterValidator(_sendable)]


class OAuth2(Slice):
    """`auth.oauth2`: where a token is fetched, and as whom (client credentials, RFC 6749 section 4.4)."""

    token_url: Annotated[str, AfterValidator(_plain_url)]
    client_id: str
    client_secret: SecretStr
    scope: str | None = None


class Auth(Slice):
    """`auth`: who we are to the receiver, in one of four ways."""

    bearer: Annotated[Credential, AfterValidator(_token)] | None = None
    basic: Annotated[tuple[Annotated[str, AfterValidator(_user)], Credential], BeforeValidator(_pair)] | None = None
    header: Annotated[str, AfterValidator(_header_name)] | None = None
    value: Credential | None = None
    oauth2: OAuth2 | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Auth":
        if (self.header is None) != (self.value is None):
            raise ValueError("`header` and `value` belong together")
        if len(self.model_fields_set - {"value"}) != 1:
            raise ValueError("expected one of `bearer`, `basic`, `header` with `value`, and `oauth2`")
        return self

    @property
    def header_name(self) -> str:
        """Return the name of the header that it writes."""
        return self.header or "Authorization"

    def fixed_headers(self) -> Headers:
        """Return the header to send; none where its token has to be fetched first."""
        if self.header is not None and self.value is not None:
            return ((self.header, self.value.get_secret_value()),)
        if self.basic is not None:
            return (basic_header(self.basic[0], self.basic[1].get_secret_value()),)
        return () if self.bearer is None else (bearer_header(self.bearer),)


class TlsSettings(Slice):
    """`tls`: whom to trust instead of the system's authorities, and who we are: files in PEM form."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    verify: bool = True

    @model_validator(mode="after")
    def _whole(self) -> "TlsSettings":
        if self.key is not None and self.cert is None:
            raise ValueError("cert: is missing: a `key` is half of who we are, its certificate the other half")
        return self


class Timeout(Slice):
    """`timeout`: how long one attempt may take, and how long of that until the connection is there."""

    connect: Duration | None = None
    total: Duration = TOTAL_S

    @model_validator(mode="after")
    def _nested(self) -> "Timeout":
        if self.connect is not None and self.connect > self.total:
            raise ValueError("connect: expected no more than `total`, which counts from the same moment")
        return self

    @property
    def connect_s(self) -> float:
        """Return the seconds until the connection has to be there: name found, address reached, TLS agreed on."""
        return min(CONNECT_S, self.total) if self.connect is None else self.connect


def _timeout(given: Any) -> Any:
    if isinstance(given, dict | Timeout):
        return given
    some_seconds(given)  # here, so that what is wrong with "5" is said of `timeout`, not of a `total` that nobody wrote
    return {"total": given}


class Access(Slice):
    """What a destination says about how it is reached."""

    network: Network = "lan"
    tls: TlsSettings = TlsSettings()
    auth: Auth | None = None
    timeout: Annotated[Timeout, BeforeValidator(_timeout)] = Timeout()


def basic_header(user: str, password: str) -> tuple[str, str]:
    """Return the header that shows a user and a password: RFC 7617, in UTF-8."""
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def bearer_header(token: SecretStr) -> tuple[str, str]:
    """Return the header that shows a token: RFC 6750 section 2.1."""
    return "Authorization", f"Bearer {token.get_secret_value()}"
