"""The house: a broker, a motion sensor and a lamp, as real as MQTT sees them. The only module that imports amqtt.

Everything in it listens on loopback and ends with the demo.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from time import monotonic

from amqtt.adapters import StreamReaderAdapter, StreamWriterAdapter
from amqtt.broker import Broker
from amqtt.client import MQTTClient
from amqtt.contexts import BrokerConfig, ClientConfig, ListenerConfig, ListenerType
from amqtt.errors import ConnectError

from bridge.demo.narrator import Narrator
from bridge.demo.ports import LOOPBACK

MOTION_TOPIC = "zigbee2mqtt/hall/motion"
LAMP_TOPIC = "zigbee2mqtt/hall_light/set"
QOS = 1

# Named, because amqtt's own choice also logs every packet and publishes $SYS topics.
BROKER_PLUGINS = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}


class House:
    """A running broker."""

    def __init__(self, broker: Broker, port: int) -> None:
        self._broker = broker
        self.url = f"mqtt://{LOOPBACK}:{port}"

    def subscriptions(self) -> list[str]:
        """Return what anybody is subscribed to."""
        return [filter for filter, sessions in self._broker.subscriptions.items() if sessions]

    @asynccontextmanager
    async def client(self, name: str) -> AsyncIterator[MQTTClient]:
        """Give a client that is connected."""
        client = MQTTClient(name, ClientConfig(auto_reconnect=False, plugins={}))
        try:
            await client.connect(self.url)
        except ConnectError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():  # amqtt makes an error of its own of a Ctrl-C
                raise asyncio.CancelledError from None
            raise
        try:
            yield client
        finally:
            await client.disconnect()


class Sensor:
    """A motion sensor, as Zigbee2MQTT shows one."""

    def __init__(self, client: MQTTClient, narrator: Narrator) -> None:
        self._client, self._narrator = client, narrator

    async def report(self, payload: Mapping[str, object]) -> float:
        """Publish, and return the monotonic seconds at which it began to."""
        text = json.dumps(payload)
        self._narrator.event("sensor", f"{MOTION_TOPIC} {text}")
        began_at = monotonic()
        await self._client.publish(MOTION_TOPIC, text.encode(), qos=QOS)
        return began_at


class Lamp:
    """A lamp that obeys what it hears on its topic."""

    def __init__(self, client: MQTTClient, narrator: Narrator) -> None:
        self._client, self._narrator = client, narrator
        self.is_on = False
        self.orders: asyncio.Queue[float] = asyncio.Queue()  # the monotonic seconds at which each came

    async def listen(self) -> None:
        """Obey until cancelled."""
        while True:
            message = await self._client.deliver_message()
            at, text = monotonic(), bytes(message.data).decode()
            self._narrator.event("lamp", f"{message.topic} {text}")
            self.is_on = json.loads(text)["state"] == "ON"
            self.orders.put_nowait(at)

    def switch_off(self) -> None:
        """Let a person press the button on the wall."""
        self.is_on = False
        self._narrator.event("lamp", "somebody switches it off by hand")


@asynccontextmanager
async def house() -> AsyncIterator[House]:
    """Give a broker of our own, and end it with everything that is connected to it."""
    config = BrokerConfig(listeners={"default": ListenerConfig(type=ListenerType.EXTERNAL)}, plugins=BROKER_PLUGINS)
    broker = Broker(config)
    await broker.start()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await broker.external_connected(StreamReaderAdapter(reader), StreamWriterAdapter(writer), "default")

    # We listen for it: asked for any free port, amqtt would not tell which one it got.
    server = await asyncio.start_server(connected, LOOPBACK, 0)
    try:
        yield House(broker, server.sockets[0].getsockname()[1])
    finally:
        server.close()
        await broker.shutdown()


@asynccontextmanager
async def sensor(house: House, narrator: Narrator) -> AsyncIterator[Sensor]:
    """Give a motion sensor that is connected."""
    async with house.client("hall-motion-sensor") as client:
        yield Sensor(client, narrator)


@asynccontextmanager
async def lamp(house: House, narrator: Narrator) -> AsyncIterator[Lamp]:
    """Give a lamp that is connected and subscribed, and off."""
    async with house.client("hall-lamp") as client, asyncio.TaskGroup() as tasks:
        await client.subscribe([(LAMP_TOPIC, QOS)])
        connected = Lamp(client, narrator)
        listening = tasks.create_task(connected.listen(), name="lamp")
        yield connected
        listening.cancel()
