"""Subscriptions: as few as possible, none missing, and copies told from new messages."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.subscriptions import MAX_IDENTIFIER, Copies, Replay, Subscription, identifier, subscriptions, uncovered
from bridge.rules.topics import Filter
from tests.unit.test_topics import TOPICS, covers, filters

WANTED = [  # what the mappings take, what is subscribed
    ([], {}),
    ([("a", 1)], {"a": 1}),
    ([("a", 2)], {"a": 1}),
    ([("a", 0), ("a", 1)], {"a": 1}),
    ([("zigbee2mqtt/{room}/motion", 0), ("zigbee2mqtt/+/motion", 0)], {"zigbee2mqtt/+/motion": 0}),
    ([("zigbee2mqtt/#", 0), ("zigbee2mqtt/{room}/motion", 1)], {"zigbee2mqtt/#": 1}),
    ([("zigbee2mqtt/{room}/motion", 1), ("zigbee2mqtt/#", 0)], {"zigbee2mqtt/#": 1}),
    ([("a/+", 1), ("+/b", 0)], {"a/+": 1, "+/b": 0}),
    ([("#", 0), ("$SYS/#", 1)], {"#": 0, "$SYS/#": 1}),
    ([("a", 1), ("a/+", 0), ("a/#", 0)], {"a/#": 1}),
]

MAPPINGS = st.lists(st.tuples(filters(), st.integers(0, 2)), max_size=6)


def parsed(wanted: Iterable[tuple[str, int]]) -> list[tuple[Filter, Subscription]]:
    return [(Filter.parse(text), Subscription(qos, retained=False)) for text, qos in wanted]


@pytest.mark.parametrize(("wanted", "subscribed"), WANTED)
def test_what_covers_another_is_subscribed_alone_at_the_highest_qos(wanted: list[tuple[str, int]], subscribed: dict[str, int]) -> None:
    assert {text: wish.qos for text, wish in subscriptions(parsed(wanted)).items()} == subscribed


def test_replays_are_wanted_where_any_mapping_that_is_covered_wants_them() -> None:
    wanted = [(Filter.parse("a/#"), Subscription(0, retained=False)), (Filter.parse("a/b"), Subscription(1, retained=True)), (Filter.parse("c"), Subscription(0, retained=False))]
    assert subscriptions(wanted) == {"a/#": Subscription(1, retained=True), "c": Subscription(0, retained=False)}


@given(MAPPINGS, TOPICS)
def test_every_topic_that_a_mapping_takes_is_subscribed_with_its_qos(wanted: list[tuple[str, int]], topic: str) -> None:
    levels = tuple(topic.split("/"))
    subscribed = subscriptions(parsed(wanted))
    for filter, wish in parsed(wanted):
        if filter.takes(levels):
            assert max(got.qos for text, got in subscribed.items() if Filter.parse(text).takes(levels)) >= min(wish.qos, 1)


@given(MAPPINGS)
def test_no_subscription_covers_another(wanted: list[tuple[str, int]]) -> None:
    """Each one covered would be one more copy of every message, MQTT 5.0 section 3.3.4."""
    subscribed = list(subscriptions(parsed(wanted)))
    assert not any(covers(one, other) for one in subscribed for other in subscribed if one != other)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_an_identifier_is_one_that_mqtt_can_carry(plain: str) -> None:
    """MQTT 5.0 section 3.8.2.1.2: 1 to 268,435,455."""
    assert 1 <= identifier(plain) <= MAX_IDENTIFIER == 268_435_455


def test_an_identifier_is_the_same_in_every_run() -> None:
    """The broker's queue holds messages that bear it over our restarts."""
    assert identifier("zigbee2mqtt/#") == 14_477_481
    assert identifier("zigbee2mqtt/#") != identifier("zigbee2mqtt/+")


def test_what_a_mapping_asks_for_is_told_from_what_others_ask_for_and_from_every_subscription() -> None:
    names = [Replay("hall", "a/+").identifier, Replay("hall", "a/b").identifier, Replay("yard", "a/+").identifier, identifier("a/+"), identifier("hall a/+"), identifier("halla/+")]
    assert len(set(names)) == len(names)
    assert all(1 <= name <= MAX_IDENTIFIER for name in names)


@pytest.mark.parametrize(
    ("plains", "by", "left"),
    [
        (["a/b", "a/b", "c"], [], ["a/b", "c"]),
        (["a/b", "c"], ["a/+"], ["c"]),
        (["a/b"], ["a/b"], []),
        (["a/+"], ["a/b"], ["a/+"]),
        (["a/+", "#", "$SYS/x"], ["#"], ["$SYS/x"]),
    ],
)
def test_what_is_covered_is_left_out(plains: list[str], by: list[str], left: list[str]) -> None:
    assert uncovered(plains, by) == left


def test_a_message_through_two_crossing_subscriptions_is_one_message() -> None:
    copies = Copies()
    assert not copies.is_copy("a/b", b"on", [1])
    assert copies.is_copy("a/b", b"on", [2])
    assert copies.is_copy("a/b", b"on", [3])


def test_the_same_payload_again_through_the_same_subscription_is_a_new_message() -> None:
    copies = Copies()
    for _ in range(3):
        assert not copies.is_copy("a/b", b"on", [1])
        assert copies.is_copy("a/b", b"on", [2])


@pytest.mark.parametrize(("topic", "payload"), [("a/c", b"on"), ("a/b", b"off")])
def test_another_topic_or_payload_is_a_new_message(topic: str, payload: bytes) -> None:
    copies = Copies()
    copies.is_copy("a/b", b"on", [1])
    assert not copies.is_copy(topic, payload, [2])


def test_a_broker_that_sends_no_identifiers_sends_no_copies() -> None:
    copies = Copies()
    assert not copies.is_copy("a/b", b"on", [])
    assert not copies.is_copy("a/b", b"on", [])


def test_an_old_message_is_forgotten_so_that_memory_stays_bounded() -> None:
    copies = Copies()
    copies.is_copy("first", b"", [1])
    for n in range(63):
        copies.is_copy(f"t/{n}", b"", [1])
    assert copies.is_copy("first", b"", [2])
    copies.is_copy("one more", b"", [1])
    assert not copies.is_copy("first", b"", [3]), "a copy comes right after its first, not after 64 others"
    assert copies.is_copy("one more", b"", [2])


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 3)), max_size=30))
def test_each_message_counts_once_however_many_copies_came(sent: list[tuple[str, int]]) -> None:
    """Each message comes once for each of its crossing subscriptions, one copy after the other."""
    copies = Copies()
    taken = sum(not copies.is_copy(topic, b"x", [one]) for topic, count in sent for one in range(1, count + 1))
    assert taken == len(sent)
