"""An MQTT client of the outside world: a device, or a person's mosquitto_pub."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.rig.wait import until


@dataclass
class Heard:
    """A message that a device heard."""

    topic: str
    payload: bytes
    qos: int
    retained: bool
    expiry_s: int | None
    dup: bool


@dataclass
class Device:
    """A connected client: what it heard, and how to say something."""

    client: paho.Client
    heard: list[Heard] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def publish(self, topic: str, payload: bytes | str, *, qos: int = 1, retain: bool = False, wait: bool = True) -> paho.MQTTMessageInfo:
        """Publish, and return when the broker has it."""
        info = self.client.publish(topic, payload, qos, retain)
        if wait:
            info.wait_for_publish(10)
        return info

    def payloads(self, topic: str) -> list[bytes]:
        """Return what it heard on a topic."""
        with self.lock:
            return [heard.payload for heard in self.heard if heard.topic == topic]


Answer = Callable[[paho.MQTTMessage], tuple[str, bytes, bytes | None] | None]  # topic, payload and correlation data of what a device answers


@contextmanager
def device(port: int, *filters: str, client_id: str = "", persistent: bool = False, qos: int = 1, answer: Answer = lambda _: None) -> Iterator[Device]:
    """Give a device that is connected and subscribed, and answers what it hears; a *persistent* one is kept a session for."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=client_id, protocol=paho.MQTTv5)
    found = Device(client)
    subscribed = threading.Event()

    def on_connect(client: paho.Client, *_more: Any) -> None:
        if filters:
            client.subscribe([(text, qos) for text in filters])
        else:
            subscribed.set()

    def on_message(client: paho.Client, _userdata: Any, message: paho.MQTTMessage) -> None:
        expiry = getattr(message.properties, "MessageExpiryInterval", None)
        with found.lock:
            found.heard.append(Heard(message.topic, bytes(message.payload), message.qos, message.retain, expiry, message.dup))
        if (said := answer(message)) is not None:
            topic, payload, correlation = said
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            if correlation is not None:
                properties.CorrelationData = correlation
            client.publish(topic, payload, 1, properties=properties)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_more: subscribed.set()
    client.on_message = on_message
    client.reconnect_delay_set(1, 1)
    client.max_queued_messages_set(0)
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.SessionExpiryInterval = 3600 if persistent else 0
    client.connect("127.0.0.1", port, clean_start=not persistent, properties=properties)
    client.loop_start()
    try:
        until(subscribed.is_set, "the device to be connected")
        yield found
    finally:
        client.disconnect()
        client.loop_stop()
