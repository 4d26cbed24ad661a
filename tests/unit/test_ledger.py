"""The ledger: in = outcomes + waiting, at every moment, for whatever happens."""

from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Result
from bridge.outbox.ledger import Ledger

STEPS = st.lists(st.tuples(st.sampled_from(["received", "ended", "passed"]), st.sampled_from("ab"), st.sampled_from(list(Result))), max_size=60)


@given(STEPS)
def test_it_adds_up_whatever_happens(steps: list[tuple[str, str, Result]]) -> None:
    ledger = Ledger({}, {})
    for what, mapping, result in steps:
        if what == "received":
            ledger.received(mapping)
        elif what == "passed":
            ledger.passed(mapping, result)
        elif ledger.waiting().get(mapping, 0):
            ledger.ended(mapping, result)
        assert ledger.imbalance() == 0


def test_what_is_missing_is_seen() -> None:
    counts = {"a": {"in": 10, "delivered": 7, "dead": 1}}
    assert Ledger(counts, {"a": 2}).imbalance() == 0
    assert Ledger(counts, {"a": 1}).imbalance() == 1
    assert Ledger(counts, {}).imbalance() == 2
    assert Ledger({}, {"a": 3}).imbalance() == 3, "letters that were never counted"


def test_only_what_changed_is_written_and_again_after_a_failure() -> None:
    ledger = Ledger({"a": {"in": 1, "delivered": 1}}, {})
    assert ledger.take() == {}
    ledger.passed("b", Result.FILTERED)
    taken = ledger.take()
    assert taken == {"b": {"in": 1, "filtered": 1}}
    assert not ledger.changed
    ledger.put_back(taken)
    assert ledger.take() == taken
