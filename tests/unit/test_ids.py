"""Ids: ULIDs, sorted by time, and safe in a signature."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.ids import ALPHABET, RANDOM_BYTES, ulid

CHANCE = st.binary(min_size=RANDOM_BYTES, max_size=RANDOM_BYTES)


def read(text: str) -> tuple[int, bytes]:
    """Return the milliseconds and the chance of a ULID, sign by sign."""
    number = 0
    for sign in text:
        number = number * 32 + ALPHABET.index(sign)
    return number >> 80, (number & (1 << 80) - 1).to_bytes(10, "big")


def test_a_ulid_begins_with_the_time_of_the_specifications_example() -> None:
    # github.com/ulid/javascript, README: ulid(1469918176385) begins with 01ARYZ6S41
    assert ulid(1469918176.385, bytes(10)).startswith("01ARYZ6S41")


def test_the_largest_ulid_is_the_specifications() -> None:
    # github.com/ulid/spec, "Overflow errors": 7ZZZZZZZZZZZZZZZZZZZZZZZZZ
    assert ulid(((1 << 48) - 1) / 1000, b"\xff" * 10) == "7" + "Z" * 25


@given(st.integers(0, 2**41), CHANCE)
def test_a_ulid_holds_its_time_and_all_of_its_chance(millis: int, chance: bytes) -> None:
    text = ulid((millis + 0.5) / 1000, chance)
    assert len(text) == 26
    assert read(text) == (millis, chance)


@given(st.integers(0, 2**41), st.integers(1, 2**40), CHANCE, CHANCE)
def test_ulids_sort_by_time(millis: int, later: int, one: bytes, other: bytes) -> None:
    assert ulid((millis + 0.5) / 1000, one) < ulid((millis + later + 0.5) / 1000, other)


@pytest.mark.parametrize(("now", "millis"), [(-5.0, 0), (0.0, 0), (2**48 / 1000 + 0.0015, 1)])
def test_a_time_that_no_ulid_can_hold_is_brought_into_its_48_bits(now: float, millis: int) -> None:
    assert read(ulid(now, bytes(10))) == (millis, bytes(10))


@given(st.floats(-1e10, 1e13), CHANCE)
def test_a_clock_that_is_wrong_still_gives_a_ulid(now: float, chance: bytes) -> None:
    """A Pi without a clock boots in 1970; Standard Webhooks signs `id.timestamp.body`, so an id holds no full stop."""
    text = ulid(now, chance)
    assert len(text) == 26
    assert set(text) <= set(ALPHABET)
