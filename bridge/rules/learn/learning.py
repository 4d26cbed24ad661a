"""Learning: what came on each topic, folded into a summary that stays small whatever a broker sends.

Pure. No message is kept: of a topic how often it came, of each field of its payloads the kinds, the range and a few of
the values. A value whose name looks like a secret's never enters the summary.
"""

import re
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from itertools import islice
from typing import Any

from bridge.model import Message
from bridge.rules.payloads import decoded

MAX_TOPICS = 5_000  # with full fields 20 MB (measured): a Pi has them to spare for a minute
MAX_TOPIC = 256  # characters; the longest of 117 real ones has 80
MAX_FIELDS = 20_000  # of all topics together
MAX_TOPIC_FIELDS = 200  # of one topic; the largest of 117 real payloads, an event of Frigate's, has 76
MAX_DEPTH = 6  # of the fields looked at; no real payload nests them deeper than 4
MAX_NAME = 64  # characters of a field's name
MAX_VALUES = 8  # different texts remembered of a field: what has more is no choice between a few
MAX_TEXT = 40  # characters of such a text; longer ones are prose, pictures or keys
MAX_NUMBER = 2.0**63  # beyond it a number is a serial number or a mistake, not a measurement

Path = tuple[str | int, ...]

TAME = re.compile(r"[A-Za-z0-9_:@. -]+", re.ASCII)  # such a name or word can stand in an expression as it is

# Part of a name suffices: MqttPassword, api_key, wifi_psk, action_code. Hiding a "monkey" does no harm.
_SECRET = re.compile(r"pass|pwd|secret|token|key|psk|credential|auth|code|(?:^|[_-])pin(?:$|[_-])", re.IGNORECASE)

_DIGITS = re.compile(r"[-+]?\d{1,15}(?:\.\d{1,15})?", re.ASCII)


class Kind(StrEnum):
    """What a payload or a field holds."""

    TABLE = "table"
    LIST = "list"
    NUMBER = "number"
    DIGITS = "number as text"
    TRUTH = "true or false"
    TEXT = "text"
    NOTHING = "null"
    BINARY = "binary"
    EMPTY = "empty"
    HIDDEN = "not shown"


class Field:
    """What one field held so far."""

    __slots__ = ("count", "highest", "kinds", "longest", "lowest", "more", "values", "varied")

    def __init__(self) -> None:
        self.count = 0
        self.kinds: set[Kind] = set()
        self.lowest: float | None = None
        self.highest: float | None = None
        self.longest = 0  # of its texts, in characters; of its lists, in items
        self.values: dict[str, None] = {}  # an ordered set
        self.more = False  # there were other texts than those in `values`
        self.varied = False  # some topic had different values in it

    def note(self, value: Any, kind: Kind) -> None:
        """Take in one value of that kind."""
        self.count += 1
        self.kinds.add(kind)
        if kind in (Kind.NUMBER, Kind.DIGITS):
            self._note_number(_number(value) if isinstance(value, str) else value)
        elif kind is Kind.TRUTH:
            self._note_texts(["true" if value else "false"])
        elif kind is Kind.LIST:
            self.longest = max(self.longest, len(value))
        elif kind is Kind.TEXT:
            self.longest = max(self.longest, len(value))
            self._note_texts([value])
        self.varied = self.varied or self.lowest != self.highest or len(self.kinds) > 1 or len(self.values) > 1

    def join(self, other: "Field") -> None:
        """Take in what another field held."""
        self.count += other.count
        self.kinds |= other.kinds
        self.longest = max(self.longest, other.longest)
        self.more |= other.more
        self.varied |= other.varied
        self._note_texts(list(other.values))
        for bound in (other.lowest, other.highest):
            if bound is not None:
                self._note_number(bound)

    @property
    def known(self) -> frozenset[str] | None:
        """Return its few different texts in lower case, or None if it has other values too."""
        if self.more or not self.values or self.kinds - {Kind.TEXT, Kind.TRUTH, Kind.NOTHING, Kind.EMPTY}:
            return None
        return frozenset(value.casefold() for value in self.values)

    def _note_number(self, value: float) -> None:
        if abs(value) < MAX_NUMBER:
            self.lowest = value if self.lowest is None else min(self.lowest, value)
            self.highest = value if self.highest is None else max(self.highest, value)

    def _note_texts(self, texts: list[str]) -> None:
        for text in texts:
            if len(text) > MAX_TEXT or (text not in self.values and len(self.values) == MAX_VALUES):
                self.more = True
            else:
                self.values[text] = None


class Topic:
    """What came on one topic so far."""

    __slots__ = ("fields", "kinds", "levels", "messages", "retained")

    def __init__(self, levels: tuple[str, ...]) -> None:
        self.levels = levels
        self.messages = self.retained = 0
        self.kinds: Counter[Kind] = Counter()
        self.fields: dict[Path, Field] = {}

    @property
    def text(self) -> str:
        """Return the topic as it is written."""
        return "/".join(self.levels)

    @property
    def kind(self) -> Kind:
        """Return what its payloads are; an empty one among others says nothing, it deletes what was retained."""
        told = [(count, kind) for kind, count in self.kinds.items() if kind is not Kind.EMPTY]
        return max(told)[1] if told else Kind.EMPTY

    @property
    def keys(self) -> frozenset[str | int]:
        """Return the names on the first floor of its tables."""
        return frozenset(path[0] for path in self.fields if path)


class Survey:
    """Everything that came so far."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.messages = 0
        self.left_out = 0  # messages of topics that are too many or too long
        self._fields = 0

    def note(self, message: Message) -> None:
        """Take in one message."""
        self.messages += 1
        topic = self.topics.get(message.topic)
        if topic is None:
            if len(self.topics) == MAX_TOPICS or len(message.topic) > MAX_TOPIC:
                self.left_out += 1
                return
            topic = self.topics[message.topic] = Topic(tuple(message.topic.split("/")))
        topic.messages += 1
        topic.retained += message.retained
        value = decoded(message.payload, "auto")
        kind = _kind(value)
        topic.kinds[kind] += 1
        if kind not in (Kind.EMPTY, Kind.BINARY):
            self._note_fields(topic, value)

    def _note_fields(self, topic: Topic, value: Any) -> None:
        for path, inner in islice(_leaves(value, ()), MAX_TOPIC_FIELDS):
            field = topic.fields.get(path)
            if field is None:
                if self._fields == MAX_FIELDS or len(topic.fields) == MAX_TOPIC_FIELDS:
                    continue
                self._fields += 1
                field = topic.fields[path] = Field()
            field.note(inner, Kind.HIDDEN if _is_secret(topic, path) else _kind(inner))


def _leaves(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    """Yield each field with its value; of a list of tables also the fields of the first."""
    if isinstance(value, dict) and value and len(path) < MAX_DEPTH:
        for key, inner in value.items():
            if len(key) <= MAX_NAME:
                yield from _leaves(inner, (*path, key))
        return
    yield path, value
    if isinstance(value, list) and value and isinstance(value[0], dict) and len(path) < MAX_DEPTH:
        yield from _leaves(value[0], (*path, 0))


def _is_secret(topic: Topic, path: Path) -> bool:
    """Return True if a field's name, or the topic's last level where it is all the name there is, looks like a secret's."""
    return any(_SECRET.search(name) for name in path or topic.levels[-1:] if isinstance(name, str))


def _number(digits: str) -> float:
    return float(digits) if "." in digits else int(digits)


def _kind(value: Any) -> Kind:
    if isinstance(value, str):
        return Kind.EMPTY if not value else Kind.DIGITS if _DIGITS.fullmatch(value) else Kind.TEXT
    return next(kind for types, kind in _KINDS if isinstance(value, types))


_KINDS: tuple[tuple[type | tuple[type, ...], Kind], ...] = (
    (bool, Kind.TRUTH),  # before the numbers: in Python it is one
    ((int, float), Kind.NUMBER),
    (dict, Kind.TABLE),
    (list, Kind.LIST),
    (bytes, Kind.BINARY),
    (type(None), Kind.NOTHING),
)
