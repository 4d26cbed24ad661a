"""Conditions that could not be evaluated: all are counted, and none can fill the log."""

import logging

import pytest

from bridge.outbox.conditions import MAX_REASON, REASONS, Conditions


def test_what_failed_is_counted_by_name_with_the_last_reason() -> None:
    conditions = Conditions()
    assert conditions.failures() == {}
    for name, reason in (("door", "a is missing"), ("door", "b is missing"), ("lamp", "c is missing"), ("door", "a is missing")):
        conditions.failed(name, reason)
    assert {name: (found.count, found.last) for name, found in conditions.failures().items()} == {"door": (3, "a is missing"), "lamp": (1, "c is missing")}


def test_a_reason_is_logged_once_for_each_mapping_and_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="bridge.outbox.conditions")
    conditions = Conditions()
    for name in ("door", "lamp", "door", "lamp"):
        conditions.failed(name, "payload is the text 'a\nb'\n, no number")
    assert [record.getMessage() for record in caplog.records] == [
        f"condition not evaluated mapping={name} reason={chr(34)}payload is the text 'a\\nb'\\n, no number{chr(34)}" for name in ("door", "lamp")
    ]


def test_reasons_that_quote_what_devices_say_fill_neither_log_nor_memory(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="bridge.outbox.conditions")
    conditions = Conditions()
    for n in range(10 * REASONS):
        conditions.failed("door", f"payload is the text '{n}'" + "x" * 2 * MAX_REASON)
    found = conditions.failures()["door"]
    assert len(caplog.records) == len(found.logged) == REASONS
    assert (found.count, len(found.last or "")) == (10 * REASONS, MAX_REASON)
