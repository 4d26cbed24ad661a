"""The log: one line per record, whatever a value holds."""

import io
import json
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.log import MAX_FIELD, MAX_LINE, LogSettings, configure, fields

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
    assert json.loads(line) == {"time": "2025-11-24T16:00:00.250Z", "level": "warning", "part": "bridge.outbox", "message": "delivered event=evt_ü", "event_id": "evt_ü"}


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


# --- fields ---


@pytest.mark.parametrize(
    ("text", "values", "found"),
    [
        ("delivered %s=%s mapping=%s destination=%s attempt=%d took_s=%.3f", ("event", "evt_1", "hall", "crm", 1, 0.1), {"event_id": "evt_1", "mapping": "hall", "destination": "crm"}),
        ("delivered %s=%s mapping=%s", ("command", "cmd_1", "lamp"), {"event_id": "cmd_1", "mapping": "lamp"}),
        ("poison letter=%s destination=%s", ("evt_1", "crm"), {"event_id": "evt_1", "destination": "crm"}),
        ("refused hook=%s id=%s status=%d reason=%r", ("lamp", "x", 401, "mapping=forged"), {"mapping": "lamp", "event_id": "x"}),
        ("dropped mapping=%s topic=%r reason='it is 100%% full'", ("hall", "a mapping=forged"), {"mapping": "hall"}),
        ("%s: %5.1f %% mapping=%s", ("x", 1.5, "hall"), {"mapping": "hall"}),
        ("%s=%s", ("password", "x"), {}),
        ("mapping=%s", (None,), {}),
        ("mapping=forged", (), {}),
        ("%s", ("mapping=forged event=forged",), {}),
    ],
)
def test_what_a_line_is_about_is_a_field_whose_name_stands_in_the_call(text: str, values: tuple[object, ...], found: dict[str, str]) -> None:
    record = logging.makeLogRecord({"msg": text, "args": values})
    record.getMessage()
    assert fields(record) == found


class Journal:
    """A socket that takes what the journal would be sent."""

    def __init__(self, directory: Path) -> None:
        self.path, self.stderr = directory / "journal", directory / "stderr"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(self.path))
        self.socket.settimeout(10)
        self.stream = self.stderr.open("w")

    def configure(self, journal_socket: Path, format: str = "auto") -> None:
        """Log with our own file as the program's stderr."""
        real, sys.stderr = sys.stderr, self.stream
        try:
            configure(LogSettings.model_validate({"format": format}), journal_socket=journal_socket)
        finally:
            sys.stderr = real

    def entry(self) -> dict[str, str]:
        """Return the fields of the next entry, read as the protocol says where no value holds the end of a line."""
        lines = self.socket.recv(1 << 16).decode().split("\n")
        assert lines.pop() == ""
        assert all("=" in line for line in lines), lines
        return dict(line.split("=", 1) for line in lines)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """Give a journal that reads our stderr, as its $JOURNAL_STREAM says."""
    found = Journal(tmp_path)
    with found.stream, found.socket:
        state = os.fstat(found.stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{state.st_dev}:{state.st_ino}")
        yield found
        for handler in logging.getLogger().handlers:
            handler.close()


def test_the_journal_gets_fields_to_look_for(journal: Journal) -> None:
    journal.configure(journal.path)
    logging.getLogger("bridge").warning("dead %s=%s mapping=%s destination=%s reason=%r", "event", "evt_1", "hall", "crm", "status 400")
    assert journal.entry() == {
        "MESSAGE": "dead event=evt_1 mapping=hall destination=crm reason='status 400'", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "mqtthook",
        "EVENT_ID": "evt_1", "MAPPING": "hall", "DESTINATION": "crm",
    }  # fmt: skip
    assert journal.stderr.read_text() == ""


@pytest.mark.parametrize("value", [*NASTY, "x\nPRIORITY=0\nMESSAGE=forged", "x" * 1_000_000])
def test_a_value_makes_no_field_of_its_own(journal: Journal, value: str) -> None:
    journal.configure(journal.path)
    try:
        raise ValueError(value)
    except ValueError:
        logging.getLogger("bridge").exception("dead event=%s mapping=%s topic=%s", value, value, value)
    entry = journal.entry()
    assert list(entry) == ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "EVENT_ID", "MAPPING"]
    assert entry["PRIORITY"] == "3"
    assert len(entry["EVENT_ID"]) <= 12 * MAX_FIELD


def test_a_journal_that_is_gone_or_full_costs_no_line_and_no_time(journal: Journal) -> None:
    journal.configure(journal.path)
    for n in range(2_000):  # nobody reads them
        logging.getLogger("bridge").info("line %d", n)
    assert "<6>line 1999\n" in journal.stderr.read_text()
    journal.path.unlink()
    logging.getLogger("bridge").error("gone")
    assert journal.stderr.read_text().endswith("<3>gone\n")


def test_where_the_journal_reads_another_stream_or_has_no_socket_lines_with_priorities_do(journal: Journal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    journal.configure(tmp_path / "nothing")
    logging.getLogger("bridge").error("one")
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    journal.configure(journal.path)
    logging.getLogger("bridge").error("two")
    assert journal.stderr.read_text() == "<3>one\n<3>two\n"


def test_json_is_json_in_the_journal_too(journal: Journal) -> None:
    journal.configure(journal.path, "json")
    logging.getLogger("bridge").error("dead event=%s", "evt_1")
    assert json.loads(journal.stderr.read_text())["event_id"] == "evt_1"
