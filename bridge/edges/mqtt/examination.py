"""The examination of a broker, for `mqtthook doctor`: what it allows, what it keeps, and what it hands over for a while.

A look like the tap's: a client of its own, which disturbs nobody and publishes nothing.
"""

import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.edges.mqtt import wire
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.tap import TURN_S, Tap, opened
from bridge.errors import BridgeError
from bridge.rules.certificates import ends_at
from bridge.rules.diagnosis import Examination, Heard
from bridge.rules.subscriptions import Subscription, identifier

PATIENCE_S = 4.0  # until a broker that is there has answered, whichever MQTT it speaks
QUIET_S = 0.3  # without a message: then it has handed over what it keeps
MOST = 20_000  # messages that are looked at: a house's retained states are some hundreds
PROPERTIES = ("MaximumQoS", "RetainAvailable", "MaximumPacketSize", "ReceiveMaximum")


def examined(settings: MqttSettings, filters: Sequence[str], *, listen_s: float, turned: Callable[[], None] = lambda: None) -> Examination:
    """Return what the broker says to these filters, having listened for *listen_s* seconds; *turned* is called meanwhile."""
    try:
        look = opened(settings, PATIENCE_S, lambda own, protocol, patience_s: _Look(own, protocol, tuple(filters), patience_s))
    except BridgeError as exc:
        return Examination(problem=str(exc))
    heard: list[Heard] = []
    begun = quiet_since = monotonic()
    latest = begun + max(listen_s, PATIENCE_S)  # a busy house is never quiet
    try:
        while look.ended is None and len(heard) < MOST and (now := monotonic()) < latest:
            if now - begun > listen_s and now - quiet_since > QUIET_S:
                break
            look.turn(TURN_S)
            turned()
            if look.arrived:
                quiet_since = monotonic()
            heard += [Heard(topic=came.topic, qos=came.qos, retained=came.retained, payload=came.payload[:256]) for came in look.arrived]
            look.arrived.clear()
        properties = {name: value for name in PROPERTIES if isinstance(value := getattr(look.properties, name, None), int)}
        return Examination(properties=properties, refused=tuple(look.refused), heard=tuple(heard), certificate_ends_at=look.certificate_ends_at)
    finally:
        look.close()


class _Look(Tap):
    """A tap with several filters: one that is refused is noted, and the others stand."""

    def __init__(self, settings: MqttSettings, protocol: int, filters: tuple[str, ...], patience_s: float) -> None:
        super().__init__(settings, protocol, "", patience_s)
        self._filters, self._asked = filters, dict[int | None, str]()
        self.properties: Properties | None = None
        self.refused: list[str] = []
        self.certificate_ends_at: float | None = None

    def _on_connect(self, client: paho.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.is_failure:
            super()._on_connect(client, userdata, flags, reason, properties)
            return
        self.final, self.properties = True, properties
        with suppress(ValueError):
            sock = client.socket()
            self.certificate_ends_at = ends_at(sock.getpeercert(binary_form=True) or b"") if isinstance(sock, ssl.SSLSocket) else None
        for plain in self._filters:
            self._asked[wire.subscribe(client, self._protocol, plain, Subscription(qos=1, retained=True), identifier(plain))] = plain
        self._granted = not self._filters

    def _on_subscribe(self, _client: paho.Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        plain = self._asked.pop(mid, "")
        if any(reason.is_failure for reason in reasons) and not plain.startswith("$SYS/"):  # only some brokers show that to everybody
            self.refused.append(plain)
        self._granted = not self._asked


