"""The tap: a look at what the broker sends, for the command line.

It blocks, belongs to no loop, and disturbs nobody: a client id of its own, a session that ends with it, no last will,
nothing published, and no reconnecting. Protocol "auto" tries MQTT 5, then 3.1.1.
"""

import secrets
import struct
from collections import deque
from collections.abc import Callable, Generator
from time import monotonic, time
from typing import Any, TypeVar

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.exception import MQTTException
from paho.mqtt.reasoncodes import ReasonCode

from bridge.edges.mqtt import wire
from bridge.edges.mqtt.session import CONNACK_S, PROBE_S
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.wire import MQTT_3, MQTT_5
from bridge.errors import BridgeError
from bridge.model import Message
from bridge.rules.subscriptions import Subscription, identifier
from bridge.rules.topics import Filter

PATIENCE_S = 2.0  # with a broker's answer, however short the look: a busy one on a Pi needs a fraction of it
TURN_S = 0.15  # a progress bar moves about seven times a second

AnyTap = TypeVar("AnyTap", bound="Tap")

_PROTOCOLS = {"auto": (MQTT_5, MQTT_3), "5": (MQTT_5,), "3.1.1": (MQTT_3,)}
_NOT_UNDERSTOOD = 0x84  # up to this a CONNACK's reason is about the packet, not about us: MQTT 5.0 section 3.2.2.2
_UNSPECIFIED = 0x80  # how paho names a connection that just broke


def messages(settings: MqttSettings, filter: Filter, *, for_s: float | None = None) -> Generator[Message | None, None, None]:
    """Yield what comes on *filter*, retained messages too, and None several times a second while nothing does.

    The first None says that the subscription stands; *for_s* seconds after it the look ends, or never. Raises
    BridgeError, one sentence, where the broker can't be reached, refuses us or the subscription, or goes away.
    """
    tap = opened(settings, for_s, lambda own, protocol, patience_s: Tap(own, protocol, filter.plain, patience_s))
    try:
        yield None
        stop_at = None if for_s is None else monotonic() + for_s
        while (left_s := TURN_S if stop_at is None else stop_at - monotonic()) > 0:
            tap.turn(min(TURN_S, left_s))
            yield from tap.arrived or (None,)
            tap.arrived.clear()
            if tap.ended is not None:
                raise BridgeError(tap.ended)
    finally:
        tap.close()


def opened(settings: MqttSettings, for_s: float | None, make: Callable[[MqttSettings, int, float], AnyTap]) -> AnyTap:
    """Return a tap whose subscription stands; a short look doesn't wait long for it. Raises BridgeError, one sentence.

    *make* is given the settings with a client id of its own, the version of MQTT to try, and the seconds to wait.
    """
    own = settings.model_copy(update={"client_id": f"mqtthook-listen-{secrets.token_hex(3)}"})  # 22 characters: 3.1.1 promises 23
    protocols = _PROTOCOLS[settings.protocol]
    patience_s = CONNACK_S if for_s is None else max(for_s / len(protocols), PATIENCE_S)
    for protocol in protocols:
        tap = make(own, protocol, patience_s)
        try:
            if tap.open():
                return tap
        except BaseException:  # Ctrl-C too
            tap.close()
            raise
        tap.close()
        if tap.final:
            break
    raise BridgeError(str(tap.ended))


class Tap:
    """One connection, and what the broker said on it."""

    def __init__(self, settings: MqttSettings, protocol: int, plain: str, patience_s: float) -> None:
        self._settings, self._protocol, self._plain, self._patience_s = settings, protocol, plain, patience_s
        self._where = ":".join(str(part) for part in wire.place(settings)[: 1 if settings.url.startswith("unix:") else 2])
        self._client = wire.new_client(settings, protocol, settings.tls_context(), lasting=False)
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_message = self._on_message
        self._client.on_disconnect = self._on_disconnect
        self._granted = False
        self.arrived: deque[Message] = deque()
        self.ended: str | None = None
        self.final = False  # another version of MQTT would change nothing

    def open(self) -> bool:
        """Return True once the broker has granted the subscription, False where that came to nothing: then `ended` says why."""
        try:
            wire.connect(self._client, self._settings, self._protocol, lasting=False)
        except (OSError, ValueError) as exc:
            self._end(wire.connect_reason(exc, self._settings), final=True)
        answer_s = PROBE_S if self._settings.protocol == "auto" and self._protocol == MQTT_5 else CONNACK_S
        answer_s = min(answer_s, self._patience_s)
        answer_by = monotonic() + answer_s
        while self.ended is None and not self._granted:
            self.turn(TURN_S)
            if monotonic() > answer_by:
                self._end(f"the broker at {self._where} did not answer within {answer_s:g} s")
        return self._granted and self.ended is None

    def turn(self, wait_s: float) -> None:
        """Wait for the broker at most that long, and take what it sent."""
        try:
            done = self._client.loop(wait_s)
        except (MQTTException, ValueError, LookupError, struct.error) as exc:  # what a malformed packet raises, before paho 2.2
            self._end(f"the broker at {self._where} sent what can't be read: {type(exc).__name__}: {exc}")
            return
        if done is not MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._end(f"the connection to {self._where} broke")

    def close(self) -> None:
        """Take leave of the broker, and of what paho would still call."""
        client = self._client
        # Without this circle the client ends, and closes what is still open, as soon as nobody holds it any more.
        client.on_connect = client.on_subscribe = client.on_message = client.on_disconnect = None
        client.disconnect()

    def _end(self, reason: str, *, final: bool = False) -> None:
        if self.ended is None:
            self.ended, self.final = reason, final

    # --- what paho calls ---

    def _on_connect(self, client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if reason.is_failure:
            why = f"the broker at {self._where} refuses us: {reason}; check username and password in [mqtt]"
            self._end(why, final=reason.value > _NOT_UNDERSTOOD)
            return
        self.final = True
        wire.subscribe(client, self._protocol, self._plain, Subscription(qos=1, retained=True), identifier(self._plain))

    def _on_subscribe(self, _client: paho.Client, _userdata: Any, _mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        refusal = next((reason for reason in reasons if reason.is_failure), None)
        if refusal is None:
            self._granted = True
        else:
            self._end(f"the broker at {self._where} refuses the subscription to {self._plain!r}: {refusal}; its access list has to allow it", final=True)

    def _on_message(self, client: paho.Client, _userdata: Any, received: paho.MQTTMessage) -> None:
        client.ack(received.mid, received.qos)
        try:
            topic = received.topic
        except UnicodeDecodeError:
            return  # the daemon takes no such message either
        properties = dict(getattr(received.properties, "UserProperty", ()))
        came = Message(topic=topic, payload=bytes(received.payload), qos=received.qos, retained=received.retain, properties=properties, received_at=time())
        self.arrived.append(came)

    def _on_disconnect(self, _client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        broke = f"the connection to {self._where} broke"
        self._end(broke if reason.value == _UNSPECIFIED else f"the broker at {self._where} ended the connection: {reason}")
