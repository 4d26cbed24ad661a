"""Quantities: what is taken, what is refused, and how a duration is said."""

import re
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from bridge.rules.units import (
    MAX_DURATION_S,
    Duration,
    DurationOrZero,
    Rate,
    Secrets,
    Size,
    Slice,
    duration_text,
    one_or_more,
    per_second,
    seconds,
    size_bytes,
    some_seconds,
    whole,
)

DURATIONS = [  # the forms that the example config writes
    ("250ms", 0.25),
    ("10s", 10.0),
    ("5m", 300.0),
    ("1h", 3600.0),
    ("3d", 259_200.0),
    ("1.5h", 5400.0),
    ("0s", 0.0),
]

NOT_DURATIONS: list[object] = ["", "10", "s", "10 s", "-1s", "+1s", "1e3s", ".5s", "1.s", "10S", "1w", "1h30m", "１０s", "10s\n", "nan s", 10, 10.0, None, True, ["10s"]]

SIZES = [("0B", 0), ("1B", 1), ("256KiB", 262_144), ("64MiB", 67_108_864), ("2GiB", 2_147_483_648)]

NOT_SIZES: list[object] = ["", "1", "1KB", "1kib", "1.5MiB", "-1B", "１B", " 1B", 1024, None]

RATES = [("10/s", 10.0), ("60/min", 1.0), ("0.5/s", 0.5), ("500/h", 500 / 3600), ("1/h", 1 / 3600), ("90/min", 1.5), ("999999999/s", 999_999_999.0), ("007/s", 7.0)]

NOT_RATES: list[object] = ["", "10", "/s", "10/", "10/m", "10/d", "10/S", "10 /s", " 10/s", "10/s\n", "-1/s", "+1/s", "1e3/s", ".5/s", "1./s", "1_0/s", "１０/s", "0/s", "0.000/h", "1000000000/s", "1/s/s", "1/60s", "nan/s", "inf/s", 10, 10.0, None, True, ["10/s"]]


@pytest.mark.parametrize(("text", "length_s"), DURATIONS)
def test_a_duration_is_read_as_seconds(text: str, length_s: float) -> None:
    assert seconds(text) == pytest.approx(length_s)


@pytest.mark.parametrize("given", NOT_DURATIONS, ids=repr)
def test_what_is_no_duration_is_refused_with_examples(given: object) -> None:
    with pytest.raises(ValueError, match='expected a duration such as "250ms"'):
        seconds(given)


def test_a_duration_of_nothing_is_refused_where_it_makes_no_sense() -> None:
    assert some_seconds("1ms") == pytest.approx(0.001)
    with pytest.raises(ValueError, match="longer than nothing"):
        some_seconds("0s")


def test_a_duration_may_be_a_hundred_years_and_no_more() -> None:
    assert seconds("36500d") == MAX_DURATION_S
    with pytest.raises(ValueError, match='expected a duration of at most 36500 days, such as "3d"'):
        seconds("36500.1d")


@pytest.mark.parametrize(("given", "read"), [("0", 0), ("2", 2), ("007", 7), ("9" * 17, int("9" * 17)), ("9" * 18, "9" * 18), ("", ""), ("-1", "-1"), ("1.0", "1.0"), ("１", "１"), (2, 2), (2.0, 2.0), (None, None), (["1"], ["1"])])
def test_a_whole_number_may_be_written_as_a_variable_writes_it(given: object, read: object) -> None:
    assert whole(given) == read
    assert type(whole(given)) is type(read)


@pytest.mark.parametrize(("text", "count"), SIZES)
def test_a_size_is_read_as_bytes(text: str, count: int) -> None:
    assert size_bytes(text) == count


@pytest.mark.parametrize("given", NOT_SIZES, ids=repr)
def test_what_is_no_size_is_refused_with_examples(given: object) -> None:
    with pytest.raises(ValueError, match='expected a size such as "256KiB"'):
        size_bytes(given)


@pytest.mark.parametrize(("text", "times"), RATES)
def test_a_rate_is_read_as_times_a_second(text: str, times: float) -> None:
    assert per_second(text) == pytest.approx(times)


@pytest.mark.parametrize("given", NOT_RATES, ids=repr)
def test_what_is_no_rate_or_would_never_let_anything_through_is_refused_with_examples(given: object) -> None:
    with pytest.raises(ValueError, match='expected a rate such as "10/s", "60/min" or "500/h"'):
        per_second(given)


@given(st.integers(1, 10**6))
def test_sixty_times_as_many_a_minute_are_as_many_a_second(count: int) -> None:
    assert per_second(f"{count}/s") == pytest.approx(per_second(f"{60 * count}/min")) == pytest.approx(per_second(f"{count}.0/s"))


def test_a_duration_without_end_is_refused() -> None:
    """`float` turns 400 digits into infinity, and nothing can be reckoned with that."""
    with pytest.raises(ValueError, match="expected a duration"):
        seconds("9" * 400 + "d")


@pytest.mark.parametrize("read", [seconds, some_seconds, size_bytes, per_second])
@given(text=st.one_of(st.text(), st.none(), st.integers(), st.from_regex(r"\d{1,5}(\.\d{1,3})?(ms|s|m|h|d|B|KiB|/s|/min|/h)", fullmatch=True)))
def test_reading_a_quantity_returns_a_number_or_raises_value_error(read: Callable[[object], float], text: object) -> None:
    with suppress(ValueError):
        assert read(text) >= 0


@pytest.mark.parametrize(
    ("length_s", "said"),
    [(0.0, "0ms"), (0.25, "250ms"), (0.999, "999ms"), (1, "1s"), (45, "45s"), (59.6, "1m"), (300, "5m"), (7800, "2h 10m"), (259_200, "3d"), (90_061, "1d 1h"), (86_405, "1d 5s")],
)
def test_a_duration_is_said_in_two_units_at_most(length_s: float, said: str) -> None:
    assert duration_text(length_s) == said


@given(st.integers(1, 10**8))
def test_a_duration_said_is_never_longer_than_it_is_and_loses_less_than_its_smaller_unit(length_s: int) -> None:
    parts = duration_text(length_s).split(" ")
    assert all(re.fullmatch(r"[1-9]\d*[dhms]", part) for part in parts)
    told_s = sum(seconds(part) for part in parts)
    assert told_s <= length_s
    assert length_s - told_s < seconds("1" + parts[-1][-1])


@pytest.mark.parametrize(("written", "read"), [("a", ["a"]), (["a", "b"], ["a", "b"]), (("a",), ("a",)), ({"a": 1}, [{"a": 1}]), ([], [])])
def test_one_thing_may_be_written_without_its_list(written: Any, read: Any) -> None:
    assert one_or_more(written) == read


def test_the_config_types_read_the_written_forms() -> None:
    assert TypeAdapter(Duration).validate_python("5m") == 300.0
    assert TypeAdapter(DurationOrZero).validate_python("0s") == 0.0
    assert TypeAdapter(Size).validate_python("1KiB") == 1024
    assert TypeAdapter(Rate).validate_python("60/min") == 1.0
    assert [secret.get_secret_value() for secret in TypeAdapter(Secrets).validate_python("one")] == ["one"]
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python("0s")


def test_a_slice_is_frozen_refuses_unknown_keys_and_hides_values_in_its_errors() -> None:
    class Lamp(Slice):
        watts: int

    with pytest.raises(ValidationError, match="frozen"):
        Lamp(watts=5).watts = 6
    with pytest.raises(ValidationError, match="not permitted"):
        Lamp.model_validate({"watts": 5, "volts": 12})
    with pytest.raises(ValidationError) as caught:
        Lamp.model_validate({"watts": "hunter2"})
    assert "hunter2" not in str(caught.value)
