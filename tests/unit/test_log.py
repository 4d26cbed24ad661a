"""The log: one line per record, whatever a value holds."""

import io
import json
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.log import MAX_LINE, LogSettings, configure

Written = Callable[[], str]

NASTY = ["\n", "\r\n", "a\nFAKE 2025-11-24T16:00:00.000Z error   forged", "\x1b[31m", "\0", "\u2028", "\u2029", "\x85", "\x0b\x0c\x1c", "\ud800", "\u202e", "<3>", '"}\n{"level":"error"', "ü 室温 🌡"]
ANY_TEXT = st.one_of(st.text(st.characters()), st.sampled_from(NASTY), st.lists(st.sampled_from(NASTY)).map("".join))


class Terminal(io.StringIO):
    """A stderr that a person looks at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def untouched_logging() -> Iterator[None]:
    """Give the other tests their logging back."""
    root, quiet = logging.getLogger(), [logging.getLogger(name) for name in ("aiohttp", "asyncio")]
    handlers, levels = list(root.handlers), [(logger, logger.level) for logger in (root, *quiet)]
    flags = logging.logThreads, logging.logProcesses, logging.logMultiprocessing
    for handler in handlers:
        root.removeHandler(handler)  # so that `force` closes none of pytest's
    yield
    root.handlers[:] = handlers
    for logger, level in levels:
        logger.setLevel(level)
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Written:
    """Give what went to stderr since it was last asked."""
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    return lambda: capsys.readouterr().err


def emitted(format: str, stream: io.StringIO, values: list[str], *, error: bool = False) -> str:
    """Return the line that *stream* gets where it is the program's stderr."""
    real, sys.stderr = sys.stderr, stream
    try:
        configure(LogSettings.model_validate({"format": format}))
        logging.getLogger("bridge").error("refused" + " value=%s" * len(values), *values, exc_info=error)
    finally:
        sys.stderr = real
    return stream.getvalue()


def test_a_line_has_its_time_its_level_and_its_text(written: Written) -> None:
    configure(LogSettings())
    record = logging.makeLogRecord({"msg": "delivered event=%s status=%d", "args": ("evt_1", 200), "levelno": logging.INFO, "levelname": "INFO", "created": 1_764_000_000.25, "name": "bridge"})
    logging.getLogger().handle(record)
    assert written() == "2025-11-24T16:00:00.250Z info    delivered event=evt_1 status=200\n"


def test_json_holds_the_same_for_machines(written: Written) -> None:
    configure(LogSettings(format="json"))
    record = logging.makeLogRecord({"msg": "delivered event=%s", "args": ("evt_ü",), "levelno": logging.WARNING, "levelname": "WARNING", "created": 1_764_000_000.25, "name": "bridge.outbox"})
    logging.getLogger().handle(record)
    line = written()
    assert line.isascii()
    assert json.loads(line) == {"time": "2025-11-24T16:00:00.250Z", "level": "warning", "part": "bridge.outbox", "message": "delivered event=evt_ü"}


@pytest.mark.parametrize(("level", "priority"), [(logging.DEBUG, "<7>"), (logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.ERROR, "<3>"), (logging.CRITICAL, "<2>"), (25, "<6>")])
def test_the_journal_gets_its_priority_and_has_the_time_itself(written: Written, monkeypatch: pytest.MonkeyPatch, level: int, priority: str) -> None:
    # sd-daemon(3); systemd sets $JOURNAL_STREAM where stderr is the journal, systemd.exec(5)
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    configure(LogSettings(level="debug"))
    logging.getLogger("bridge").log(level, "started")
    assert written() == f"{priority}started\n"


def test_a_person_at_a_terminal_gets_text_although_the_journal_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    assert not emitted("auto", Terminal(), ["x"]).startswith("<")
    assert emitted("auto", io.StringIO(), ["x"]).startswith("<")


def test_text_is_text_where_it_was_asked_for(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    configure(LogSettings(format="text"))
    logging.getLogger("bridge").error("started")
    assert not written().startswith("<")


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_only_what_is_loud_enough_is_said(written: Written, level: str, said: int) -> None:
    configure(LogSettings.model_validate({"level": level}))
    for one in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        logging.getLogger("bridge").log(one, "x")
    assert written().count("\n") == said


def test_a_strangers_bad_request_is_no_traceback_of_the_library(written: Written) -> None:
    configure(LogSettings())
    logging.getLogger("aiohttp.server").error("Error handling request")
    logging.getLogger("asyncio").info("Using selector")
    assert written() == ""


def test_configuring_again_replaces_what_was(written: Written) -> None:
    configure(LogSettings())
    configure(LogSettings(format="json"))
    logging.getLogger("bridge").error("once")
    assert len(written().splitlines()) == 1


def test_a_sign_that_cant_be_printed_is_written_as_python_writes_it() -> None:
    assert emitted("text", io.StringIO(), ["a\nb\x1b[31m\ud800\u2028ü"]).endswith(r" error   refused value=a\nb\x1b[31m\ud800\u2028ü" + "\n")


@pytest.mark.parametrize("format", ["text", "json"])
@given(values=st.lists(ANY_TEXT, min_size=1, max_size=3))
def test_one_record_is_one_line_whatever_a_value_holds(format: str, values: list[str]) -> None:
    stream = io.StringIO()
    line = emitted(format, stream, values)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert line[:-1].encode(), "a lone surrogate could not be written to stderr"
    if format == "json":
        assert set(json.loads(line)) == {"time", "level", "part", "message"}


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("said", NASTY)
def test_a_traceback_stays_on_its_records_line(format: str, said: str) -> None:
    try:
        raise ValueError(said)
    except ValueError:
        line = emitted(format, io.StringIO(), ["x"], error=True)
    assert line.endswith("\n")
    assert line[:-1].isprintable()
    assert "ValueError" in line
    assert "Traceback" in line


@pytest.mark.parametrize("format", ["text", "json"])
@pytest.mark.parametrize("value", ["x" * 1_000_000, "\0" * 1_000_000, "🌡" * 1_000_000])
def test_a_value_from_outside_cant_flood_the_log(format: str, value: str) -> None:
    """A sign may take twelve to be written: a surrogate pair in JSON."""
    assert len(emitted(format, io.StringIO(), [value])) <= 12 * MAX_LINE + 200


@pytest.mark.parametrize("format", ["text", "json"])
def test_an_exceptions_words_cant_flood_the_log_either(format: str) -> None:
    try:
        raise ValueError("x" * 1_000_000)
    except ValueError:
        assert len(emitted(format, io.StringIO(), ["x"], error=True)) <= 24 * MAX_LINE + 200
