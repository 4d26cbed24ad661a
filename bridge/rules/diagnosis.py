"""Diagnosis: what was seen, and what of that is worth a word. Pure: the looking is done elsewhere, at one moment `now`."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bridge.rules.findings import Finding, finding
from bridge.rules.topics import Filter
from bridge.rules.units import duration_text

CERTIFICATE_S = 14 * 86_400.0  # Let's Encrypt renews with 30 days left: with 14 something is wrong, and there is time
SKEW_S = 60.0  # a fifth of the 5 minutes that Standard Webhooks allows; Date has whole seconds, and an answer takes some
OLD_S = 3_600.0  # as in `[alerts]`
NEAR_FULL = 0.8  # of the outbox
FREE_SHARE, FREE_BYTES = 0.05, 200 << 20  # of a disk: below both it is nearly full; 200 MiB are a week of a chatty journal
COMMANDS_AT_ONCE = 16  # what the daemon has under way at once
PACKET = 256 << 10  # bytes: what a hook may take by default
MOSQUITTO_QUEUE = 1_000  # mosquitto.conf(5), max_queued_messages
GRACE_S = 86_400.0  # a package may come from a build that was a time zone ahead

TAKEN_OVER = "another client seems to use the client_id"  # the daemon's own words
COMMON_NAMES = frozenset({"raspberrypi", "localhost", "debian", "ubuntu", "dietpi", "homeassistant", "armbian", "orangepi"})

UNDER_VOLTAGE, THROTTLED = 0x5, 0x50000  # get_throttled: bits 0 and 2 are now, 16 and 18 since the start; raspberrypi.com, vcgencmd
HOT = 0x8  # bit 3: the soft temperature limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What the machine says; None where it doesn't tell."""

    clock_set: bool | None = None
    installed_at: float | None = None
    free_bytes: int = 0
    disk_bytes: int = 0
    read_only: bool = False
    throttled: int | None = None
    low_voltage: bool = False
    enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message that the broker handed over."""

    topic: str
    qos: int
    retained: bool
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Examination:
    """What the broker says, and what it handed over; `problem` is why it could not be asked."""

    problem: str | None = None
    properties: Mapping[str, int] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    heard: tuple[Heard, ...] = ()
    certificate_ends_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """What came of reaching a receiver; `problem` is why it could not be, `do` what helps then."""

    problem: str | None = None
    do: str = ""
    certificate_ends_at: float | None = None
    skew_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerFile:
    """What a mosquitto.conf on this machine says, as far as it matters here."""

    persistence: bool
    queue: int


def of_daemon(figures: Mapping[str, Any], *, now: float) -> Iterator[Finding]:
    """Yield what the daemon's own figures tell."""
    if figures["imbalance"]:
        yield finding("ledger", "ledger", imbalance=figures["imbalance"])
    if not figures["connected"]:
        yield from _of_absence(figures["broker"])
    if figures["sessions_lost"]:
        yield finding("sessions-lost", "mqtt", count=figures["sessions_lost"])
    yield from _of_store(figures, now)
    for name, mapping in figures["mappings"].items():
        if mapping["stopped"]:
            yield finding("storm", name)
        if mapping["dead_letters"]:
            yield finding("dead-letters", name, count=mapping["dead_letters"], name=name)
    for name, destination in figures["destinations"].items():
        yield from _of_destination(name, destination)


def _of_store(figures: Mapping[str, Any], now: float) -> Iterator[Finding]:
    if figures.get("damage"):  # a daemon of an earlier version, not started anew yet, says nothing of it
        yield finding("outbox-damaged", "store", text=figures["damage"].rpartition(": ")[0])
    if figures["full"]:
        yield finding("outbox-full", "store")
    elif figures["used_bytes"] >= NEAR_FULL * figures["max_bytes"]:
        yield finding("outbox-near-full", "store", used=_size(figures["used_bytes"]), most=_size(figures["max_bytes"]))
    if figures["oldest_at"] is not None and now - figures["oldest_at"] > OLD_S:
        yield finding("waits-long", "store", age=duration_text(now - figures["oldest_at"]))


def _of_absence(state: str) -> Iterator[Finding]:
    if state.startswith(TAKEN_OVER):
        yield finding("client-id-twice", "mqtt.client_id", client_id=state.partition("client_id '")[2].partition("'")[0])
    else:
        yield finding("broker-away", "mqtt.url", reason=state)


def _of_destination(name: str, figures: Mapping[str, Any]) -> Iterator[Finding]:
    subject, waiting = f"destination {name}", figures["waiting"]
    kinds = {"disabled": "destination-disabled", "paused": "destination-paused", "breaker open": "destination-failing", "failing": "destination-failing"}
    if figures["state"].startswith("not in the config"):
        yield finding("destination-gone", subject, name=name, waiting=waiting)
    elif kind := kinds.get(figures["state"]):
        yield finding(kind, subject, name=name, waiting=waiting, reason=figures["disabled"], failures=figures["failures"])


def of_client_id(client_id: str, host: str) -> Iterator[Finding]:
    """Yield whether the client id is one that another machine has as well; *host* is this one's name."""
    if client_id == f"mqtthook-{host}" and host.partition(".")[0].lower() in COMMON_NAMES:
        yield finding("client-id-common", "mqtt.client_id", client_id=client_id)


def of_machine(machine: Machine, *, outbox: str, growth_bytes: int, now: float) -> Iterator[Finding]:
    """Yield what is wrong with clock, disk and power; *growth_bytes* is what the outbox may still grow by."""
    if machine.enabled is False:
        yield finding("daemon-not-enabled", "service")
    if machine.installed_at is not None and now < machine.installed_at - GRACE_S:
        yield finding("clock-past", "clock", now=datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC"))
    elif machine.clock_set is False:
        yield finding("clock-unset", "clock")
    if machine.read_only:
        yield finding("disk-read-only", outbox)
    elif machine.free_bytes < FREE_BYTES and machine.free_bytes < FREE_SHARE * machine.disk_bytes:
        yield finding("disk-full", outbox, free=_size(machine.free_bytes))
    elif machine.free_bytes < growth_bytes:
        yield finding("disk-small", outbox, free=_size(machine.free_bytes), growth=_size(growth_bytes))
    yield from _of_power(machine)


def _of_power(machine: Machine) -> Iterator[Finding]:
    bits = machine.throttled or 0
    if bits & UNDER_VOLTAGE:
        yield finding("power-now", "power")
    elif machine.low_voltage or bits & THROTTLED:
        yield finding("power-before", "power")
    if bits & HOT:
        yield finding("too-hot", "power")


def of_broker(seen: Examination, *, wants: Mapping[str, tuple[Filter, ...]], hooks: Mapping[str, Filter], status_topic: str, alone: bool) -> Iterator[Finding]:
    """Yield what the broker says and what it handed over come to.

    *wants* are the filters of the mappings that want every message, *hooks* the topics that hooks publish to, and *alone*
    is True where no daemon of ours is online.
    """
    if seen.problem is not None:
        yield finding("broker-away", "mqtt.url", reason=seen.problem)
        return
    yield from _of_limits(seen.properties)
    needed = {filter.plain for filters in wants.values() for filter in filters}
    for plain in (plain for plain in seen.refused if plain in needed):  # to what a hook publishes the daemon need not listen
        yield finding("broker-refuses-filter", "mqtt", filter=plain)
    yield from _of_qos(seen.heard, wants)
    for message in _kept(seen.heard):
        levels = tuple(message.topic.split("/"))
        yield from (finding("retained-command", f"inbound.{name}", topic=message.topic) for name, topic in hooks.items() if topic.takes(levels))
        if alone and message.topic == status_topic and message.payload == b"online":
            yield finding("somebody-online", "mqtt.client_id", topic=status_topic)
        if message.topic == "$SYS/broker/publish/messages/dropped" and message.payload.isdigit() and int(message.payload):
            yield finding("broker-dropped", "mqtt", count=int(message.payload))


def _of_limits(properties: Mapping[str, int]) -> Iterator[Finding]:
    """Yield what a CONNACK refuses: MQTT 5.0 section 3.2.2.3; what isn't in it is allowed."""
    if properties.get("MaximumQoS", 2) < 1:
        yield finding("broker-qos", "mqtt", qos=properties["MaximumQoS"])
    if not properties.get("RetainAvailable", 1):
        yield finding("broker-retain", "mqtt")
    if (size := properties.get("MaximumPacketSize", PACKET)) < PACKET:
        yield finding("broker-packet", "mqtt", size=_size(size))
    if (window := properties.get("ReceiveMaximum", COMMANDS_AT_ONCE)) < COMMANDS_AT_ONCE:
        yield finding("broker-window", "mqtt", count=window)


def _of_qos(heard: Iterable[Heard], wants: Mapping[str, tuple[Filter, ...]]) -> Iterator[Finding]:
    """Yield one finding for each mapping, with the first topic: a house may have hundreds of them."""
    told: set[str] = set()
    for message in heard:
        if message.qos:
            continue
        levels = tuple(message.topic.split("/"))
        for name, filters in wants.items():
            if name not in told and any(filter.takes(levels) for filter in filters):
                told.add(name)
                yield finding("qos-0", f"outbound.{name}", topic=message.topic)


def _kept(heard: Iterable[Heard]) -> Iterator[Heard]:
    """Yield what the broker keeps; $SYS is retained, or as good as that."""
    return (message for message in heard if message.payload and (message.retained or message.topic.startswith("$SYS/")))


def of_broker_file(said: BrokerFile) -> Iterator[Finding]:
    """Yield what the broker's own config lacks."""
    if not said.persistence:
        yield finding("broker-forgets", "mosquitto.conf")
    if 0 < said.queue <= MOSQUITTO_QUEUE:
        yield finding("broker-queue", "mosquitto.conf", count=said.queue)


def broker_file(texts: Iterable[str]) -> BrokerFile:
    """Return what Mosquitto's config files say, one after the other; what isn't written is as mosquitto.conf(5) says."""
    said = {"persistence": "false", "max_queued_messages": str(MOSQUITTO_QUEUE)}
    for line in (line.split() for text in texts for line in text.splitlines()):
        if len(line) > 1 and line[0] in said:
            said[line[0]] = line[1]
    queue = said["max_queued_messages"]
    return BrokerFile(persistence=said["persistence"].lower() == "true", queue=int(queue) if queue.isdigit() else MOSQUITTO_QUEUE)


def of_receiver(subject: str, reached: Reached, *, for_s: float, now: float) -> Iterator[Finding]:
    """Yield what came of reaching a receiver; its events are tried for *for_s* seconds."""
    if reached.problem is not None:
        yield finding("receiver-away", subject, reason=reached.problem, for_=duration_text(for_s), do=reached.do)
    if reached.certificate_ends_at is not None:
        yield from of_certificate(subject, reached.certificate_ends_at, now=now, do="its owner has to renew it")
    if reached.skew_s is not None and abs(reached.skew_s) > SKEW_S:
        yield finding("clock-skew", subject, skew=duration_text(abs(reached.skew_s)))


def of_certificate(subject: str, ends_at: float, *, now: float, do: str) -> Iterator[Finding]:
    """Yield whether a certificate has ended, or soon will."""
    if ends_at <= now:
        yield finding("certificate-ended", subject, ago=duration_text(now - ends_at), do=do)
    elif ends_at - now < CERTIFICATE_S:
        yield finding("certificate-ending", subject, left=duration_text(ends_at - now), do=do)


def of_secret(subject: str, file: str, mode: int | None) -> Iterator[Finding]:
    """Yield whether the *file* of a secret is missing (None) or may be read by others, by its *mode*."""
    if mode is None:
        yield finding("secret-missing", subject, file=file)
    elif mode & 0o007:
        yield finding("secret-readable", subject, file=file, mode=f"{mode:o}")


def of_outbox(path: str, mode: int) -> Iterator[Finding]:
    """Yield whether others can read the outbox, by its *mode*."""
    if mode & 0o077:
        yield finding("outbox-readable", path, mode=f"{mode:o}")


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"
