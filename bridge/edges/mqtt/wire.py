"""The wire: how paho is set up, what goes into its packets, and what its errors mean to a person."""

import asyncio
import math
import socket
import ssl
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal
from urllib.parse import urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from bridge.edges.mqtt.settings import PORTS, MqttSettings
from bridge.model import Command
from bridge.rules.loops import HOP
from bridge.rules.subscriptions import Subscription

RECEIVE_MAXIMUM = 200  # messages under way to us; Mosquitto's own 20 would be filled by one slow commit
MOSQUITTO_WINDOW = 20  # what it gives a client that doesn't ask for more, as over MQTT 3.1.1
MAX_PACKET = 16 << 20  # bytes of one MQTT packet: a camera's snapshot has some; paho alone would take 256 MB, which a Pi with 512 MB has not
CONNECT_S = 4.0  # less than the 5 s in which the program has to end
WILL_DELAY_S = 1  # a line that breaks and is back at once doesn't flap the status; an orderly end says so itself, and a crash is to be known

MQTT_5 = paho.MQTTv5
MQTT_3 = paho.MQTTv311


def new_client(settings: MqttSettings, protocol: int, tls: ssl.SSLContext | None, *, lasting: bool = True) -> paho.Client:
    """Return a client for one connection, without any reconnecting of its own.

    *lasting* as for `connect`; only such a client has our last will.
    """
    parts = urlsplit(settings.url)
    transports: dict[str, Literal["tcp", "websockets", "unix"]] = {"ws": "websockets", "wss": "websockets", "unix": "unix"}
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        client_id=settings.client_id,
        protocol=MQTTProtocolVersion(protocol),
        transport=transports.get(parts.scheme, "tcp"),
        clean_session=None if protocol == MQTT_5 else not lasting,
        reconnect_on_failure=False,
        manual_ack=True,
    )
    client.connect_timeout = CONNECT_S
    if settings.username is not None:
        client.username_pw_set(settings.username, settings.password.get_secret_value() if settings.password else None)
    if tls is not None:
        client.tls_set_context(tls)
    if parts.scheme in ("ws", "wss"):
        client.ws_set_options(path=parts.path or "/mqtt")
    if lasting:
        client.will_set(settings.status_topic, "offline", qos=1, retain=True, properties=_will_properties(protocol))
    return client


def connect(client: paho.Client, settings: MqttSettings, protocol: int, *, lasting: bool = True) -> None:
    """Connect, blocking for as long as it takes to find the name and shake hands; raises what sockets, TLS and paho raise.

    A *lasting* session outlives the connection, any other begins anew and ends with it.
    """
    host, port = place(settings)
    keepalive_s = round(settings.keepalive)
    if protocol != MQTT_5:
        client.connect(host, port, keepalive_s)
        return
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = round(settings.session_expiry) if lasting else 0
    properties.ReceiveMaximum = RECEIVE_MAXIMUM
    properties.MaximumPacketSize = MAX_PACKET
    # paho's own default would wipe the session at every start of the program.
    client.connect(host, port, keepalive_s, clean_start=not lasting, properties=properties)


def place(settings: MqttSettings) -> tuple[str, int]:
    """Return the host and port of the broker, or the path of its socket."""
    parts = urlsplit(settings.url)
    host = parts.path if parts.scheme == "unix" else str(parts.hostname)
    return host, parts.port or PORTS[parts.scheme]


def watch(client: paho.Client, sock: Any, loop: asyncio.AbstractEventLoop) -> None:
    """Let the loop write for *client* whenever it has something to write, and forget the socket when that closes."""
    client.on_socket_register_write = lambda _c, _u, s: loop.add_writer(s, client.loop_write)
    client.on_socket_unregister_write = lambda _c, _u, s: _unwatch_write(loop, s)
    client.on_socket_close = lambda _c, _u, s: unwatch(loop, s)
    if client.want_write():
        loop.add_writer(sock, client.loop_write)


def unwatch(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    """Let the loop forget a socket."""
    with suppress(OSError, ValueError):
        loop.remove_reader(sock)
    _unwatch_write(loop, sock)


def send_at_once(descriptor: int) -> None:
    """Let the kernel send small packets without waiting for more; TLS and WebSocket layers hide the socket, not its number."""
    sock = socket.socket(fileno=descriptor)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    finally:
        sock.detach()


def pending(sock: Any) -> int:
    """Return how many bytes TLS or WebSocket layers hold that the kernel doesn't tell of."""
    return int(sock.pending()) if hasattr(sock, "pending") else 0


def subscribe(client: paho.Client, protocol: int, topic: str, wish: Subscription, identifier: int) -> int | None:
    """Subscribe to *topic*, and have what comes by it bear *identifier* (MQTT 5); return the packet's id, None if the connection is gone."""
    if protocol != MQTT_5:
        return client.subscribe(topic, wish.qos)[1]
    properties = Properties(PacketTypes.SUBSCRIBE)  # type: ignore[no-untyped-call]
    properties.SubscriptionIdentifier = identifier
    # Replays at each connection, only when the subscription is new, or never: MQTT 5.0 section 3.8.3.1.
    if_new = SubscribeOptions.RETAIN_SEND_IF_NEW_SUB if wish.retained else SubscribeOptions.RETAIN_DO_NOT_SEND
    replay = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE if wish.always else if_new
    return client.subscribe(topic, options=SubscribeOptions(qos=wish.qos, retainHandling=replay), properties=properties)[1]


def publish_properties(protocol: int, command: Command, expires_s: float | None, answer: tuple[str, str] | None) -> Properties | None:
    """Return what goes along with a publish that is good for *expires_s* seconds (None: for ever); None for nothing.

    *answer* is the response topic and the correlation data (MQTT 5.0 section 4.10).
    """
    if protocol != MQTT_5 or (expires_s is None and not command.hop and answer is None):
        return None
    expiry_s = None if expires_s is None else max(1, math.ceil(expires_s))
    if answer is None:
        return _plain_properties(expiry_s, command.hop)
    properties = _properties(expiry_s, command.hop)
    properties.ResponseTopic, properties.CorrelationData = answer[0], answer[1].encode()
    return properties


@lru_cache(maxsize=256)  # hooks have few: a default `expires`, and a way that few requests have come
def _plain_properties(expiry_s: int | None, hop: str) -> Properties:
    """Return them made once: paho takes as long for them as for the rest of a publish, and only reads them."""
    return _properties(expiry_s, hop)


def _properties(expiry_s: int | None, hop: str) -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if expiry_s is not None:
        properties.MessageExpiryInterval = expiry_s
    if hop:
        properties.UserProperty = (HOP, hop)
    return properties


def connect_reason(exc: Exception, settings: MqttSettings) -> str:
    """Return why no connection came about, as a person can use it."""
    host, port = place(settings)
    where = f"{host}:{port}"
    if isinstance(exc, ssl.SSLCertVerificationError):
        return f"the certificate of {where} can't be trusted: {exc.verify_message}; set `tls.ca` in [mqtt] if it is your own"
    if isinstance(exc, ssl.SSLError):
        return f"no secure connection to {where}: {exc.reason}"
    if isinstance(exc, socket.gaierror):
        return f"the name {host} can't be found"
    if isinstance(exc, TimeoutError):
        return f"no answer from {where}"
    if isinstance(exc, OSError):
        return f"no connection to {where}: {exc.strerror or exc}"
    return f"no connection to {where}: {type(exc).__name__}: {exc}"


def _will_properties(protocol: int) -> Properties | None:
    if protocol != MQTT_5:
        return None
    properties = Properties(PacketTypes.WILLMESSAGE)  # type: ignore[no-untyped-call]
    properties.WillDelayInterval = WILL_DELAY_S
    return properties


def _unwatch_write(loop: asyncio.AbstractEventLoop, sock: Any) -> None:
    with suppress(OSError, ValueError):
        loop.remove_writer(sock)
