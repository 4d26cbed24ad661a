"""`[admin]`: where health, metrics and the queue are shown."""

from ipaddress import ip_address

from pydantic import SecretStr, model_validator

from bridge.edges.http_settings import Listen
from bridge.rules.units import Slice


class AdminSettings(Slice):
    """The listener of the admin side."""

    listen: Listen = "127.0.0.1:8081"
    token: SecretStr | None = None

    @model_validator(mode="after")
    def _guarded(self) -> "AdminSettings":
        if self.token is None and not _is_loopback(self.listen):
            raise ValueError("`token` is missing: it is needed where others can reach the address; or listen on 127.0.0.1")
        if self.token is not None and not self.token.get_secret_value():
            raise ValueError("`token` is empty: make one with `mqtthook secret new`")
        return self


def host_of(listen: str) -> str:
    """Return the host of an address to listen on, in small letters."""
    return listen.rpartition(":")[0].strip("[]").lower()


def _is_loopback(listen: str) -> bool:
    host = host_of(listen)
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
