"""Receipts: acknowledged in the order of receipt, never on another connection, a re-delivery never twice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.outbox.receipts import MAX_BYTES, MAX_UNACKED, Receipt, Receipts


def session(stored: tuple[str, ...] = ()) -> tuple[Receipts, list[int]]:
    acknowledged: list[int] = []
    receipts = Receipts(stored, acknowledged.append)
    receipts.connected(session_present=True)
    return receipts, acknowledged


def taken(receipts: Receipts, packet_id: int, *, dup: bool = False, payload: bytes = b"x") -> tuple[Receipt, str]:
    found = receipts.take(packet_id, "a/b", payload, dup=dup)
    assert found is not None
    return found


def test_a_receipt_is_settled_when_everything_of_it_is_safe() -> None:
    receipts, acknowledged = session()
    receipt, _ = taken(receipts, 7)
    receipt.add()
    receipt.settle()
    assert acknowledged == []
    receipt.settle()
    assert acknowledged == [7]


@given(st.permutations(range(1, 9)))
def test_acknowledgements_go_out_in_the_order_of_receipt(order: list[int]) -> None:
    """MQTT-4.6.0-2."""
    receipts, acknowledged = session()
    found = {packet_id: taken(receipts, packet_id)[0] for packet_id in range(1, 9)}
    for packet_id in order:
        found[packet_id].settle()
        assert acknowledged == list(range(1, len(acknowledged) + 1))
    assert acknowledged == list(range(1, 9))


def test_what_came_by_another_connection_is_not_acknowledged_on_this_one() -> None:
    receipts, acknowledged = session()
    receipt, _ = taken(receipts, 1)
    receipts.disconnected()
    receipts.connected(session_present=True)
    receipt.settle()
    assert acknowledged == []


def test_a_redelivery_becomes_no_second_event_and_is_acknowledged_when_the_first_is_safe() -> None:
    receipts, acknowledged = session()
    receipt, _ = taken(receipts, 1)
    receipts.disconnected()
    receipts.connected(session_present=True)
    assert receipts.take(1, "a/b", b"x", dup=True) is None
    assert acknowledged == []
    receipt.settle()
    assert acknowledged == [1]


def test_a_redelivery_of_what_was_acknowledged_in_vain_is_acknowledged_again() -> None:
    receipts, acknowledged = session()
    taken(receipts, 1)[0].settle()
    receipts.disconnected()
    receipts.connected(session_present=True)
    assert receipts.take(1, "a/b", b"x", dup=True) is None
    assert acknowledged == [1, 1]


def test_a_redelivery_of_what_an_earlier_run_made_safe_is_acknowledged() -> None:
    first, _ = session()
    _, mark = taken(first, 1)
    second, acknowledged = session((mark,))
    assert second.take(1, "a/b", b"x", dup=True) is None
    assert acknowledged == [1]


@pytest.mark.parametrize(
    ("dup", "payload", "packet_id", "session_present"),
    [
        (False, b"x", 1, True),  # not marked as a duplicate: a broker that restarted gives the same ids to new messages
        (True, b"other", 1, True),
        (True, b"x", 2, True),
        (True, b"x", 1, False),  # the broker forgot the session: whatever it sends is new
    ],
)
def test_a_new_message_is_never_taken_for_a_redelivery(dup: bool, payload: bytes, packet_id: int, session_present: bool) -> None:
    receipts, _ = session()
    taken(receipts, 1)[0].settle()
    receipts.disconnected()
    receipts.connected(session_present=session_present)
    assert receipts.take(packet_id, "a/b", payload, dup=dup) is not None


def test_past_the_bound_everything_stays_with_the_broker_until_the_next_connection() -> None:
    receipts, acknowledged = session()
    first, _ = taken(receipts, 1)
    for packet_id in range(2, MAX_UNACKED + 1):
        taken(receipts, packet_id)
    assert receipts.take(MAX_UNACKED + 1, "a/b", b"x", dup=False) is None
    first.settle()
    assert acknowledged == [1]
    assert receipts.take(MAX_UNACKED + 2, "a/b", b"x", dup=False) is None, "the one before it would come after it"
    receipts.disconnected()
    receipts.connected(session_present=True)
    assert receipts.take(MAX_UNACKED + 1, "a/b", b"x", dup=False) is not None


LARGE = bytes(MAX_BYTES // 3 + 1)  # two fit


def test_more_bytes_than_memory_may_hold_stay_with_the_broker_until_there_is_room() -> None:
    receipts, acknowledged = session()
    first, second = taken(receipts, 1, payload=LARGE)[0], taken(receipts, 2, payload=LARGE)[0]
    assert receipts.take(3, "a/b", LARGE, dup=False) is None
    assert receipts.take(4, "a/b", b"x", dup=False) is None, "the one before it would come after it"
    assert receipts.shedding
    first.settle()
    second.settle()
    assert acknowledged == [1, 2]
    receipts.disconnected()
    receipts.connected(session_present=True)
    taken(receipts, 3, dup=True, payload=LARGE)
    taken(receipts, 4, dup=True)


def test_a_message_larger_than_all_the_memory_is_taken_alone() -> None:
    receipts, _ = session()
    huge, _ = taken(receipts, 1, payload=bytes(MAX_BYTES + 1))
    assert receipts.take(2, "a/b", b"x", dup=False) is None
    huge.settle()
    assert receipts.shedding, "until the next connection"


def test_what_an_earlier_connection_left_in_memory_counts_and_is_recognised() -> None:
    """With a full outbox it stays in memory over connections: else each of them would add as much again."""
    receipts, acknowledged = session()
    held = [taken(receipts, packet_id, payload=LARGE)[0] for packet_id in (1, 2)]
    for _ in range(3):
        receipts.disconnected()
        receipts.connected(session_present=True)
        assert [receipts.take(packet_id, "a/b", LARGE, dup=True) for packet_id in (1, 2, 3)] == [None, None, None]
        assert (len(receipts), receipts.shedding) == (2, True), "the third stays there"
    for receipt in held:
        receipt.settle()
    assert acknowledged == [1, 2]


def test_of_a_lost_session_something_is_taken_whatever_memory_still_holds() -> None:
    receipts, _ = session()
    held = [taken(receipts, packet_id, payload=LARGE)[0] for packet_id in (1, 2)]
    receipts.disconnected()
    receipts.connected(session_present=False)
    taken(receipts, 1, payload=LARGE)
    assert receipts.take(2, "a/b", b"x", dup=False) is None
    for receipt in held:
        receipt.settle()
    receipts.disconnected()
    receipts.connected(session_present=True)
    taken(receipts, 2)


def test_as_many_as_can_be_open_are_recognised_when_their_acknowledgements_are_lost() -> None:
    receipts, acknowledged = session()
    for packet_id in range(1, MAX_UNACKED + 1):
        taken(receipts, packet_id)[0].settle()
    receipts.disconnected()
    receipts.connected(session_present=True)
    assert all(receipts.take(packet_id, "a/b", b"x", dup=True) is None for packet_id in range(1, MAX_UNACKED + 1))
    assert len(acknowledged) == 2 * MAX_UNACKED
