"""`[mqtt]`: where the broker is, and who we are to it."""

import socket
import ssl
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from bridge.rules.access import TlsSettings
from bridge.rules.topics import level_problem, topic_problem
from bridge.rules.units import Duration, Slice
from bridge.tls import client_context

PORTS = {"mqtt": 1883, "mqtts": 8883, "ws": 80, "wss": 443, "unix": 1}  # paho wants a port even for a socket file


def _broker_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in PORTS:
        raise ValueError('expected mqtt://, mqtts://, ws://, wss:// or unix://, as in "mqtt://localhost:1883"')
    if parts.scheme == "unix":
        if not parts.path or parts.netloc:
            raise ValueError('expected three slashes and the path of the socket, as in "unix:///run/mosquitto.sock"')
        return url
    if parts.username or parts.password:
        raise ValueError("the user and password stand in `username` and `password`, not in the URL")
    if not parts.hostname:
        raise ValueError('expected a host, as in "mqtt://localhost:1883"')
    if parts.port == 0:  # reading it raises ValueError where it isn't a port at all
        raise ValueError("expected a port from 1 to 65535")
    return url


def _status_topic(topic: str) -> str:
    if problem := topic_problem(topic):
        raise ValueError(f"nothing can be published to {topic!r}: {problem}")
    return topic


def _share(group: str) -> str:
    if problem := level_problem(group):
        raise ValueError(f"{group!r} can't be a group's name: {problem}")
    return group


def _keepalive(length_s: float) -> float:
    if not 5 <= length_s <= 3600:
        raise ValueError('expected "5s" to "1h"')
    return length_s


class MqttSettings(Slice):
    """The session with the broker."""

    url: Annotated[str, AfterValidator(_broker_url)] = "mqtt://localhost:1883"
    username: str | None = None
    password: SecretStr | None = None
    client_id: Annotated[str, Field(min_length=1, max_length=128)] = Field(default_factory=lambda: f"mqtthook-{socket.gethostname()}")
    keepalive: Annotated[Duration, AfterValidator(_keepalive)] = 20.0  # a dead line is noticed after twice this
    session_expiry: Duration = 86_400.0
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    tls: TlsSettings = TlsSettings()
    status_topic: Annotated[str, AfterValidator(_status_topic)] = "mqtthook/status"
    share: Annotated[str, AfterValidator(_share)] | None = None

    def tls_context(self) -> ssl.SSLContext | None:
        """Return how to trust the broker, or None where the URL asks for no TLS; raise ConfigError where a file can't be used."""
        return client_context(self.tls) if self.url.startswith(("mqtts:", "wss:")) else None
