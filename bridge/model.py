"""The nouns: frozen values that every other module speaks in.

Instants are unix seconds and end in `_at`; durations are seconds and end in `_s`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Headers = tuple[tuple[str, str], ...]


class Lane(StrEnum):
    """The two directions, and the two couriers' kinds."""

    WEBHOOK = "webhook"
    MQTT = "mqtt"


class State(StrEnum):
    """What a letter on disk is; one that is done has no row, one in flight has no state of its own.

    One that is held waits for its gate, not for its destination.
    """

    HELD = "held"
    WAITING = "waiting"
    DEAD = "dead"


class Priority(StrEnum):
    """Which of a destination's letters go first."""

    HIGH = "high"
    NORMAL = "normal"


class Result(StrEnum):
    """How a message or request ended, for one mapping: the ledger's outcomes."""

    FILTERED = "filtered"
    COALESCED = "coalesced"
    DELIVERED = "delivered"
    DEAD = "dead"
    EXPIRED = "expired"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An MQTT message as the broker handed it over."""

    topic: str
    payload: bytes
    qos: int = 0
    retained: bool = False
    properties: Mapping[str, str] = field(default_factory=dict)
    correlation: bytes | None = None
    received_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One HTTP request, unsigned: signing happens at each attempt.

    `topic` is that of its message where a reply may be published, else empty. `parts` are the bytes that each event
    of a batch takes in the body, `joint` what stands between them; both are empty where it is no batch.
    """

    method: str
    url: str
    headers: Headers
    body: bytes
    topic: str = ""
    parts: tuple[int, ...] = ()
    joint: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One MQTT publish to a device; `hop` names the mappings and hooks that led to it, oldest first.

    `then` are those that follow it, of a request that makes several.
    """

    topic: str
    payload: bytes
    qos: int
    retain: bool
    hop: str = ""
    then: tuple["Command", ...] = ()


Content = Event | Command | Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Letter:
    """What the outbox holds: an event or command with its fate so far.

    `content` is a Message where the event could not be rendered: a retry renders it anew.
    `seq` is the order of receipt; 0 until the outbox has given one. `due_at` None means: as
    soon as its turn comes. `begun_at` marks a command whose publishing may have started.
    `origin` recognises the broker's re-delivery of the message it came from.
    """

    id: str
    lane: Lane
    mapping: str
    destination: str
    key: str
    content: Content
    created_at: float
    seq: int = 0
    state: State = State.WAITING
    attempts: int = 0
    due_at: float | None = None
    expires_at: float | None = None
    begun_at: float | None = None
    dead_at: float | None = None
    reason: str | None = None
    origin: str | None = None
    priority: Priority = Priority.NORMAL

    @property
    def count(self) -> int:
        """Return how many messages it carries: those of a batch, else one."""
        return (len(self.content.parts) or 1) if isinstance(self.content, Event) else 1

    @property
    def size(self) -> int:
        """Return about how many bytes it weighs in memory: its body, which is what varies."""
        match self.content:
            case Event(body=body):
                return len(body)
            case Command(payload=payload) | Message(payload=payload):
                return len(payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back from one attempt: a status, or the reason why there is none.

    `status` is HTTP's, or MQTT's reason code. `error` is a short class ("timeout", "dns") and
    `detail` a sentence; both are None when an answer came. `confirmed` is what came of waiting for a device's own word,
    which is the body then; None where it wasn't waited for.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    error: str | None = None
    detail: str | None = None
    took_s: float = 0.0
    confirmed: bool | None = None


class Verdict(StrEnum):
    """What an attempt means for the letter."""

    DELIVERED = "delivered"
    RETRY = "retry"
    DEAD = "dead"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The judgement of one attempt.

    `delay_s` counts for a retry. `pause_s` holds the whole destination back; `disable` stops it
    until a person resumes it. `alive` tells that the endpoint works, whatever it thinks of this letter. `elsewhere` tells
    that the answer came from where the destination isn't any more, and so says nothing of it. `spends` is False for a
    retry that uses up no attempt: the letter's schedule stays as it was.
    """

    verdict: Verdict
    reason: str
    delay_s: float = 0.0
    pause_s: float | None = None
    disable: bool = False
    alive: bool = True
    elsewhere: bool = False
    spends: bool = True
    reply: Reply | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a hook answered, as it is remembered for a repeated id."""

    status: int
    document: Mapping[str, object]
