"""Holds: what keeps a destination back outlasts the program, and a file of an earlier version."""

from pathlib import Path

import pytest

from bridge.app.clock import HouseClock
from bridge.model import Event, Lane, Letter, State
from bridge.outbox.desk import Desk
from bridge.outbox.holds import Hold, note_of
from bridge.outbox.selection import Selection
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Changes, Store

OPEN = Hold(url="http://crm/", open_until=100.0, failures=5, reason="status 503")


@pytest.mark.parametrize("hold", [Hold(), OPEN, Hold(url="http://crm/", disabled="status 410"), Hold(halted=True), Hold(paused_until=7.5)], ids=str)
def test_a_hold_is_read_as_it_was_written(hold: Hold) -> None:
    assert Hold.read(hold.written()) == hold


@pytest.mark.parametrize("hold", [Hold(), Hold(url="http://crm/", failures=3, reason="status 503")], ids=str)
def test_what_holds_nothing_back_is_written_as_nothing(hold: Hold) -> None:
    assert hold.written() == ""
    assert Hold.read(None) == Hold.read("") == Hold()


def test_what_earlier_and_later_versions_wrote_is_read() -> None:
    assert Hold.read('{"url":"http://crm/x","disabled":"status 410","halted":false,"open_until":null,"failures":0}') == Hold(url="http://crm/x", disabled="status 410")
    assert Hold.read('{"halted": true, "mood": "bad"}') == Hold(halted=True)


@pytest.mark.parametrize(
    ("held", "left"),
    [(OPEN, Hold()), (Hold(disabled="status 410"), Hold()), (Hold(paused_until=9e9), Hold()), (paused := Hold(halted=True, disabled="status 410"), paused)],
    ids=str,
)
def test_a_retry_while_no_daemon_runs_resumes_what_it_is_for_and_nothing_else(tmp_path: Path, held: Hold, left: Hold) -> None:
    event = Event(method="POST", url="http://crm/", headers=(), body=b"{}")
    dead = Letter(seq=1, id="evt_1", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key="k", content=event, created_at=1.0, state=State.DEAD, dead_at=2.0)
    settings, path = StoreSettings(), tmp_path / "outbox.db"
    store = Store.open(path, max_size=settings.max_size)
    store.write(Changes(letters={1: dead}, notes={note_of("crm"): held.written(), note_of("other"): OPEN.written()}))
    store.close()
    desk = Desk(path, settings, clock=HouseClock.of)
    assert desk.retry(Selection(ids=("evt_1",))) == 1
    desk.close()
    store = Store.open(path, max_size=settings.max_size)
    assert Hold.read(store.note(note_of("crm"))) == left
    assert Hold.read(store.note(note_of("other"))) == OPEN
    store.close()
