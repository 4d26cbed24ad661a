"""`keep = "latest"`: of each key the newest letter waits, and what it replaces is known."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Event, Lane, Letter
from bridge.outbox.newest import Newest

EVENT = Event(method="POST", url="http://x/", headers=(), body=b"x")
LETTER = Letter(id="evt", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key="k", content=EVENT, created_at=0.0)


def letter(seq: int, **keys: Any) -> Letter:
    return replace(LETTER, seq=seq, id=f"evt_{seq}", **keys)


def watching(*mappings: str) -> Newest:
    newest = Newest()
    newest.watch(mappings, [])
    return newest


def test_a_new_letter_replaces_the_one_before_it() -> None:
    newest = watching("hall")
    assert [newest.replaced(letter(seq)) for seq in (1, 2, 5)] == [None, 1, 2]
    assert [newest.is_outdated(letter(seq)) for seq in (1, 2, 5)] == [True, True, False]


@pytest.mark.parametrize("keys", [{"key": "other"}, {"destination": "other"}, {"mapping": "attic"}], ids=str)
def test_only_of_the_same_mapping_destination_and_key(keys: dict[str, str]) -> None:
    newest = watching("hall", "attic")
    assert newest.replaced(letter(1)) is None
    assert newest.replaced(letter(2, **keys)) is None
    assert not newest.is_outdated(letter(1))
    assert newest.replaced(letter(3)) == 1


def test_a_mapping_that_keeps_all_replaces_nothing() -> None:
    newest = watching("attic")
    assert [newest.replaced(letter(seq)) for seq in (1, 2)] == [None, None]
    assert not newest.is_outdated(letter(1))
    newest.ended(letter(1))
    assert Newest().replaced(letter(1)) is None


def test_what_has_ended_is_not_replaced() -> None:
    newest = watching("hall")
    newest.replaced(letter(1))
    newest.ended(letter(1))
    assert newest.replaced(letter(2)) is None
    newest.ended(letter(1))
    assert newest.replaced(letter(3)) == 2, "the end of an older one changes nothing"


def test_what_a_person_dropped_is_not_replaced() -> None:
    newest = watching("hall")
    newest.replaced(letter(1))
    newest.replaced(letter(2, key="other"))
    newest.forget({1, 99})
    assert newest.replaced(letter(3)) is None
    assert newest.replaced(letter(4, key="other")) == 2


def test_what_waited_before_is_replaced_too() -> None:
    newest = Newest()
    newest.watch(["hall"], [("hall", "crm", "k", 5), ("hall", "crm", "other", 6)])
    assert not newest.is_outdated(letter(5))
    assert newest.is_outdated(letter(4)), "an older one waits as well: it was never replaced"
    assert newest.replaced(letter(7)) == 5


def test_a_reload_watches_other_mappings() -> None:
    newest = watching("hall")
    newest.replaced(letter(1))
    newest.watch(["attic"], [])
    assert newest.replaced(letter(2)) is None
    assert newest.replaced(letter(3, mapping="attic")) is None
    assert newest.replaced(letter(4, mapping="attic")) == 3


@given(st.lists(st.tuples(st.sampled_from(["comes", "ends", "is dropped"]), st.sampled_from("ab"), st.integers(1, 30)), max_size=40))
def test_at_most_one_letter_of_a_key_is_left_whatever_happens(steps: list[tuple[str, str, int]]) -> None:
    newest, waiting = watching("hall"), dict[str, int]()
    for now, (what, key, seq) in enumerate(steps, 100):
        if what == "comes":
            assert newest.replaced(letter(now, key=key)) == waiting.get(key)
            waiting[key] = now
        elif (known := waiting.get(key)) is not None:
            gone = known if seq % 2 else seq
            if what == "ends":
                newest.ended(letter(gone, key=key))
            else:
                newest.forget({gone})
            if gone == known:
                del waiting[key]
        for one, number in waiting.items():
            assert not newest.is_outdated(letter(number, key=one))
            assert newest.is_outdated(letter(number - 1, key=one))
