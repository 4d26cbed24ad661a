"""The session with the broker: one, kept for ever.

paho runs on the loop, without a thread of its own: no callback can end it unseen, and any number of open
files is fine. A paho client lives for one connection and is thrown away with it, so that nothing it kept can
go out late. Messages are acknowledged in the order of receipt [MQTT-4.6.0-2], and only on the connection
they came by: after a restart a broker gives the same packet ids to other messages.
"""

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from time import monotonic, time
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from bridge.edges.mqtt import wire
from bridge.edges.mqtt.settings import MqttSettings
from bridge.edges.mqtt.subscribing import Subscriptions
from bridge.edges.mqtt.wire import MAX_PACKET, MOSQUITTO_WINDOW, MQTT_3, MQTT_5, RECEIVE_MAXIMUM
from bridge.model import Command, Message, Reply
from bridge.outbox.receipts import Receipt, Receipts, no_receipt
from bridge.rules.subscriptions import Copies, Replay, Subscription

logger = logging.getLogger(__name__)

CONNACK_S = 10.0
PROBE_S = 3.0  # the same, while it isn't known whether the broker speaks MQTT 5: some say nothing at all to it
PUBACK_S = 5.0  # a broker on the same network answers in milliseconds
THERE_S = 3.0  # the same, where nothing depends on it but whether it is there
GOODBYE_S = 1.0
FIRST_WAIT_S, MAX_WAIT_S = 0.5, 60.0  # between attempts to connect: soon at first, then about 20 in ten minutes
REFUSED_WAIT_S = 300.0  # after a wrong password there is no hurry
TAKEOVERS, TAKEOVER_S, TAKEOVER_WAIT_S = 3, 30.0, 60.0  # this many drops within this time: somebody else uses our client id
READS = 8  # packets taken per turn of the loop: fewer turns for a burst, and the others still get theirs

_REFUSED = frozenset({4, 5, 0x85, 0x86, 0x87, 0x8A, 0x8C})  # who we are is wrong: client id, password, rights, ban
_UNSPECIFIED = 0x80
_NOBODYS = "nobody"  # below our status topic: what nothing is subscribed to
_TAKEN_OVER = 0x8E  # DISCONNECT "Session taken over", MQTT 5.0 section 3.14.2.1
_PACKET_TOO_LARGE = 0x95  # MQTT 5.0 section 2.4


Take = Callable[[Message, Receipt, str | None, str | None], None]


class Broker:
    """The session with the broker."""

    def __init__(
        self,
        settings: MqttSettings,
        wanted: Mapping[str, Subscription],
        replays: Collection[Replay],
        *,
        take: Take,
        stored: Collection[str],
        former: Collection[str],
        replayed: Collection[Replay] | None,
    ) -> None:
        """Prepare the session that wants these filters, and once what the broker keeps for *replays*.

        *take* is given each new message, a receipt to settle when it is safe, a mark that recognises
        its re-delivery (None for QoS 0), and the mapping for which alone it is replayed (None: for all that take it).
        *stored* are the marks of messages that are safe from an earlier run, *former* the filters that the session may
        still have from then, *replayed* what was replayed by then (None where nobody knows).
        """
        self._settings, self._take = settings, take
        self.subscriptions = Subscriptions(wanted, replays, share=settings.share, former=former, replayed=replayed)
        self._tls = settings.tls_context()
        self._protocol: int = MQTT_3 if settings.protocol == "3.1.1" else MQTT_5
        self._client: paho.Client | None = None
        self._ended: asyncio.Future[str] | None = None
        self._receipts = Receipts(stored, self._acknowledge)
        self._copies = Copies()
        self._publishing: dict[int, asyncio.Future[Reply]] = {}
        self._asking: dict[int, asyncio.Future[bool]] = {}
        self._packets = 0
        self._max_packet = MAX_PACKET
        self._drops: deque[float] = deque(maxlen=TAKEOVERS)
        self._wait_s = 0.0
        self._reached = self._accepted = self._ever_accepted = False
        self._holding = self._closing = False
        self.connected = False
        self.state = "not connected yet"
        self.connections = 0
        self.sessions_lost = 0
        self.on_change: Callable[[], None] = lambda: None

    @property
    def unacknowledged(self) -> int:
        """Return how many messages the broker waits to hear of."""
        return len(self._receipts)

    @property
    def pressed(self) -> bool:
        """Return True if half of what a broker lets be unacknowledged is, False if there is room."""
        return len(self._receipts) * 2 >= (RECEIVE_MAXIMUM if self._protocol == MQTT_5 else MOSQUITTO_WINDOW)

    @property
    def redelivered(self) -> int:
        """Return how many messages came again and were recognised."""
        return self._receipts.redelivered

    async def run(self) -> None:
        """Keep the session up, for ever: connect, serve, and connect again after growing, random pauses."""
        failed = 0
        while not self._closing:
            reason = await self._one_connection()
            if self._closing:
                return
            failed = 0 if self._accepted else failed + 1
            wait_s = max(self._wait_s, min(MAX_WAIT_S, FIRST_WAIT_S * 2.0 ** min(failed, 16)) * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, no secret
            if self._other_protocol(failed):
                wait_s = 0.0
            self.state = reason
            if failed & (failed - 1) == 0:  # at first, then at each power of two
                logger.warning("broker away url=%s reason=%r next_s=%.1f failed=%d", self._settings.url, reason, wait_s, failed)
            await asyncio.sleep(wait_s)

    async def publish(self, command: Command, *, expires_s: float | None = None, answer: tuple[str, str] | None = None) -> Reply:
        """Publish once, and return what the broker says.

        *expires_s* goes along as the message's expiry, *answer* as the topic at which the device is asked to answer, and
        the name that it is asked to answer under (MQTT 5). "away" in the reply means that surely nothing was
        sent, "doubt" that it was and nobody knows.
        """
        began = monotonic()
        client = self._client
        if client is None or not self.connected:
            return Reply(error="away", detail="there is no connection to the broker")
        if len(command.payload) + len(command.topic.encode()) + 64 > self._max_packet:
            return Reply(status=_PACKET_TOO_LARGE, detail=f"it is larger than the broker takes ({self._max_packet} bytes)")
        info = client.publish(command.topic, command.payload, command.qos, command.retain, wire.publish_properties(self._protocol, command, expires_s, answer))
        if info.rc != paho.MQTT_ERR_SUCCESS:
            return Reply(error="away", detail="the connection to the broker is gone")
        if command.qos == 0:
            return Reply(status=0, took_s=monotonic() - began)
        answered = self._publishing[info.mid] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(PUBACK_S):
                reply = await answered
        except TimeoutError:
            # The client goes, and with it what it would have sent again.
            self._end(client, f"the broker did not confirm a publish within {PUBACK_S:g} s")
            return Reply(error="doubt", detail=f"the broker did not confirm it within {PUBACK_S:g} s; it is not repeated", took_s=PUBACK_S)
        finally:
            self._publishing.pop(info.mid, None)
        return Reply(status=reply.status, error=reply.error, detail=reply.detail, took_s=monotonic() - began)

    async def is_there(self) -> bool:
        """Return True once the broker has answered a question, and with it all that it had sent before; False if it is away, or takes more than THERE_S."""
        client = self._client
        if client is None or not self.connected:
            return False
        # Every version of MQTT answers the end of a subscription that there never was, and nothing changes by it; paho's pings can't be asked for.
        _, asked = client.unsubscribe(f"{self._settings.status_topic}/{_NOBODYS}")
        if asked is None:
            return False
        answered = self._asking[asked] = asyncio.get_running_loop().create_future()
        await asyncio.wait((answered,), timeout=THERE_S)
        del self._asking[asked]
        return answered.done() and answered.result()

    def adopt(self, wanted: Mapping[str, Subscription], replays: Collection[Replay]) -> bool:
        """Be subscribed to *wanted* from now on, on the same connection: to what is new first, so that nothing falls in between.

        Return True if the broker has something new to confirm, False if not.
        """
        new = self.subscriptions.adopt(wanted, replays)
        if new is None or self._client is None or not self.connected:
            return False
        return self.subscriptions.renew(self._client, self._protocol, new)

    def hold(self) -> None:
        """Take no more messages in: the broker keeps them for the next run."""
        self._holding = True
        self._receipts.shedding = True

    async def close(self) -> None:
        """Say "offline", and end the session's connection; the session itself stays with the broker."""
        self._closing = True
        client = self._client
        if client is not None and self.connected:
            offline = Command(topic=self._settings.status_topic, payload=b"offline", qos=1, retain=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(GOODBYE_S):
                    await self.publish(offline)
            client.disconnect()
            client.loop_write()
        if client is not None:
            self._end(client, "closed")

    # --- one connection ---

    async def _one_connection(self) -> str:
        """Connect, serve until it ends, and return why it ended."""
        loop = asyncio.get_running_loop()
        self._wait_s, self._reached, self._accepted = 0.0, False, False
        try:
            client = wire.new_client(self._settings, self._protocol, self._tls)
            await asyncio.to_thread(wire.connect, client, self._settings, self._protocol)
        except Exception as exc:  # a name, a socket, TLS, paho itself: whatever it is, the next attempt comes
            self._drops.clear()
            return wire.connect_reason(exc, self._settings)
        self._reached = True
        self._client, self._ended = client, loop.create_future()
        try:
            self._attach(client, loop)
            return await self._served(client, self._ended)
        finally:
            self._detach(client, loop)

    def _attach(self, client: paho.Client, loop: asyncio.AbstractEventLoop) -> None:
        sock = client.socket()
        if sock is None:
            self._end(client, "the connection broke at once")
            return
        if not self._settings.url.startswith("unix:"):
            wire.send_at_once(sock.fileno())
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_subscribe = self._on_subscribe
        client.on_unsubscribe = self._on_unsubscribe
        wire.watch(client, sock, loop)
        loop.add_reader(sock, self._readable, client)

    async def _served(self, client: paho.Client, ended: asyncio.Future[str]) -> str:
        probing = self._settings.protocol == "auto" and self._protocol == MQTT_5 and not self._ever_accepted
        accept_s = PROBE_S if probing else CONNACK_S
        accept_by = monotonic() + accept_s
        while not ended.done():
            # paho's own once-a-second chores: pings, and noticing that none came back.
            client.loop_misc()
            if not self._accepted and monotonic() > accept_by:
                self._end(client, f"the broker did not answer within {accept_s:g} s")
            await asyncio.wait((ended,), timeout=1.0)
        return ended.result()

    def _detach(self, client: paho.Client, loop: asyncio.AbstractEventLoop) -> None:
        """Drop the connection and all that belongs to it alone."""
        if (sock := client.socket()) is not None:
            wire.unwatch(loop, sock)
            with suppress(OSError):
                sock.close()
        self._client = None
        self._receipts.disconnected()
        self._receipts.shedding = self._holding
        self.subscriptions.disconnected()
        for answered in self._publishing.values():
            if not answered.done():
                answered.set_result(Reply(error="doubt", detail="the connection broke before the broker confirmed it; it is not repeated"))
        for asked in self._asking.values():
            if not asked.done():
                asked.set_result(False)
        self._set_connected(on=False)

    def _readable(self, client: paho.Client) -> None:
        try:
            for _ in range(READS):
                before = self._packets
                client.loop_read()
                sock = client.socket()
                if sock is None or (before == self._packets and not wire.pending(sock)):
                    break
        except Exception as exc:  # a malformed packet raises what it likes in paho
            self._end(client, f"the broker sent what can't be read: {type(exc).__name__}: {exc}")

    def _end(self, client: paho.Client, reason: str) -> None:
        if client is self._client and self._ended is not None and not self._ended.done():
            self._ended.set_result(reason)

    def _set_connected(self, *, on: bool) -> None:
        if on != self.connected:
            self.connected = on
            self.on_change()

    def _other_protocol(self, failed: int) -> bool:
        """Return True if the next attempt speaks another MQTT version, at once; False if it speaks the same.

        A broker without MQTT 5 answers its CONNECT with an old refusal, with nonsense, or by hanging up.
        """
        unknown = not self._ever_accepted or failed > TAKEOVERS
        if self._settings.protocol != "auto" or self._accepted or self._wait_s or not (self._reached and unknown):
            return False
        self._protocol = MQTT_3 if self._protocol == MQTT_5 else MQTT_5
        return self._protocol == MQTT_3

    # --- what paho calls, on the loop; nothing may be raised into it ---

    def _on_connect(self, client: paho.Client, _userdata: Any, flags: paho.ConnectFlags, reason: ReasonCode, properties: Properties | None) -> None:
        if reason.is_failure:
            if reason.value in _REFUSED:
                self._wait_s = REFUSED_WAIT_S
            self._end(client, f"the broker refuses us: {reason}; check username, password and client_id in [mqtt]")
            return
        self._accepted = self._ever_accepted = True
        self.connections += 1
        self._max_packet = min(MAX_PACKET, getattr(properties, "MaximumPacketSize", MAX_PACKET))
        if self.connections > 1 and not flags.session_present:
            self.sessions_lost += 1
            logger.warning("broker lost our session: what it held for us while we were away is gone")
        self._receipts.connected(session_present=flags.session_present)
        self.subscriptions.all(client, self._protocol, session_present=flags.session_present)
        client.publish(self._settings.status_topic, b"online", qos=1, retain=True)
        self.state = "connected"
        version = "5" if self._protocol == MQTT_5 else "3.1.1"
        logger.info("broker connected url=%s mqtt=%s session=%s", self._settings.url, version, "resumed" if flags.session_present else "new")
        self._set_connected(on=True)

    def _on_disconnect(self, client: paho.Client, _userdata: Any, _flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self._accepted and not self._closing:
            self._drops.append(monotonic())
            taken_over = len(self._drops) == TAKEOVERS and self._drops[-1] - self._drops[0] < TAKEOVER_S
            if taken_over or reason.value == _TAKEN_OVER:
                self._drops.clear()
                self._wait_s = TAKEOVER_WAIT_S
                self._end(client, f"another client seems to use the client_id {self._settings.client_id!r}: give each its own in [mqtt]")
                return
        # "Unspecified error" is how paho names a connection that just broke.
        self._end(client, "the connection broke" if reason.value == _UNSPECIFIED else f"the broker ended the connection: {reason}")

    def _on_message(self, client: paho.Client, _userdata: Any, received: paho.MQTTMessage) -> None:
        self._packets += 1
        try:
            topic = received.topic
        except UnicodeDecodeError:
            logger.warning("refused a message whose topic is not UTF-8")
            client.ack(received.mid, received.qos)
            return
        payload = bytes(received.payload)
        receipt, mark = no_receipt(), None
        if received.qos:
            taken = self._receipts.take(received.mid, topic, payload, dup=received.dup)
            if taken is None:
                self._reconnect_when_drained(client)
                return
            receipt, mark = taken
        properties = received.properties
        try:
            identifiers = getattr(properties, "SubscriptionIdentifier", ())
            mapping = self.subscriptions.asker(identifiers) if received.retain else None
            if mapping is not None or not self._copies.is_copy(topic, payload, identifiers):
                user_properties = dict(getattr(properties, "UserProperty", ()))
                correlation = getattr(properties, "CorrelationData", None)
                message = Message(topic=topic, payload=payload, qos=received.qos, retained=received.retain, properties=user_properties, correlation=correlation, received_at=time())
                self._take(message, receipt, mark, mapping)
        except Exception:  # one message must not end the connection for all the others
            logger.exception("a message could not be taken in topic=%r", topic)
        receipt.settle()

    def _on_publish(self, _client: paho.Client, _userdata: Any, mid: int, reason: ReasonCode, _properties: Any) -> None:
        self._packets += 1
        answered = self._publishing.get(mid)
        if answered is not None and not answered.done():
            answered.set_result(Reply(status=reason.value, detail=str(reason)))

    def _on_subscribe(self, _client: paho.Client, _userdata: Any, mid: int, reasons: list[ReasonCode], _properties: Any) -> None:
        self._packets += 1
        self.subscriptions.answered(mid, reasons)

    def _on_unsubscribe(self, _client: paho.Client, _userdata: Any, mid: int, _reasons: Any, _properties: Any) -> None:
        self._packets += 1
        asked = self._asking.get(mid)
        if asked is not None and not asked.done():
            asked.set_result(True)

    # --- what we send ---

    def _acknowledge(self, packet_id: int) -> None:
        if self._client is not None:
            self._client.ack(packet_id, 1)
            self._reconnect_when_drained(self._client)

    def _reconnect_when_drained(self, client: paho.Client) -> None:
        """Fetch what had to stay with the broker: it is sent again only on a new connection [MQTT-4.4.0-1]."""
        if self._receipts.shedding and not len(self._receipts) and not self._holding:
            client.loop_write()  # the acknowledgements first: what they don't reach is sent once more
            self._end(client, "more came at once than can be held: the rest is fetched by a new connection")
