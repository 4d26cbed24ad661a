"""The destinations over a real outbox file and real receivers: what holds one back is told, noted, and kept over a restart."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from time import monotonic, time
from typing import Any

import pytest

from bridge.app.destinations import Destinations, reason_of, state_of
from bridge.edges.outlet import Outlet
from bridge.model import Lane, Letter
from bridge.outbox.courier import Clock, Courier
from bridge.outbox.holds import note_of
from bridge.outbox.outbox import Outbox
from bridge.outbox.receipts import Receipt
from bridge.outbox.replies import ReplyIntake
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Store
from bridge.rules.outbound import Destination, Routes
from tests.rig.mappings import STATUS, event
from tests.rig.receiver import Receiver, Reply

CLOCK = Clock(monotonic=monotonic, wall=time, date=time, chance=lambda: 0.0)


def crm(url: str, **keys: Any) -> dict[str, Destination]:
    return {"crm": Destination.model_validate({"url": url, "sign": "none", **keys})}


class House:
    """One run of an outbox and its destinations."""

    def __init__(self, store: Store, outlet: Outlet, settings: dict[str, Destination]) -> None:
        self.outbox = Outbox(store, StoreSettings(), monotonic=monotonic, wall=time)
        routes = Routes([], own=STATUS)
        self.destinations = Destinations(self.outbox, outlet, ReplyIntake(self.outbox, routes, wall=time, date=time), clock=CLOCK, routes=lambda: routes)
        self.told: list[str] = []
        self.destinations.open(settings, {name: store.note(note_of(name)) for name in settings})
        self.destinations.on_change = lambda: self.told.append(state_of(self.crm))

    @property
    def crm(self) -> Courier:
        return self.destinations.couriers["crm"]

    def put(self, count: int = 1) -> None:
        for n in range(count):
            receipt = Receipt(lambda: None)
            self.outbox.put([Letter(id=f"evt_{n}", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key=f"k{n}", content=event(), created_at=time())], receipt)
            receipt.settle()

    async def until(self, condition: Callable[[], object], what: str) -> None:
        deadline = monotonic() + 20
        while not condition():
            assert monotonic() < deadline, f"waited in vain for: {what}"
            await asyncio.sleep(0.01)


Life = Callable[[House], Awaitable[None]]


def live(place: Path, settings: dict[str, Destination], life: Life) -> None:
    """Let the house of *place* run once with these destinations."""

    async def whole() -> None:
        store = Store.open(place / "outbox.db", max_size=64 << 20)
        async with AsyncExitStack() as closing:
            closing.callback(store.close)
            house = House(store, await closing.enter_async_context(Outlet()), settings)
            async with asyncio.TaskGroup() as tasks:
                writer = tasks.create_task(house.outbox.run())
                house.destinations.start(tasks)
                await life(house)
                await house.destinations.stop()
                await house.outbox.flush()
                writer.cancel()
            house.outbox.shut()

    asyncio.run(whole())


def lines(caplog: pytest.LogCaptureFixture, words: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if words in record.getMessage()]


def test_a_pause_and_its_end_are_one_line_each_and_told_at_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def life(house: House) -> None:
        for _ in range(2):
            house.crm.halt()
        for _ in range(2):
            house.crm.resume()
        assert house.told == ["paused", "ok"]

    live(tmp_path, crm("http://127.0.0.1:9/"), life)
    assert lines(caplog, "destination=crm") == ["paused destination=crm; its events wait until `mqtthook resume crm`", "resumed destination=crm"]


def test_however_many_are_under_way_when_a_receiver_is_gone_that_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver(lambda *_: Reply(410)) as receiver:

        async def life(house: House) -> None:
            house.put(8)
            await house.until(lambda: house.crm.disabled is not None and len(receiver.received) == 8, "all eight to be refused")
            await house.until(lambda: house.outbox.accounts.dead.get("hall") == 8, "all eight to be dead")
            house.crm.halt()
            assert house.told == ["disabled"], "a pause changes nothing that is shown"

        live(tmp_path, crm(receiver.url), life)
    assert len(lines(caplog, "disabled destination=crm")) == 1


def test_what_an_earlier_run_noted_is_told_of_when_it_is_over(tmp_path: Path) -> None:
    async def first(house: House) -> None:
        house.crm.halt()

    async def second(house: House) -> None:
        house.crm.resume()
        assert house.told == ["ok"]

    for life in (first, second):
        live(tmp_path, crm("http://127.0.0.1:9/"), life)


def test_a_person_s_pause_outlasts_a_restart_with_another_url_and_nothing_else_does(tmp_path: Path) -> None:
    async def first(house: House) -> None:
        house.crm.disabled = "status 410"
        house.crm.halt()

    async def second(house: House) -> None:
        assert (house.crm.halted, house.crm.disabled) == (True, None)

    live(tmp_path, crm("http://127.0.0.1:9/old"), first)
    live(tmp_path, crm("http://127.0.0.1:9/new"), second)


def test_a_breaker_that_opens_is_told_at_once_with_what_it_opened_for_also_by_the_next_run(tmp_path: Path) -> None:
    settings = crm("http://127.0.0.1:9/", breaker={"failures": 1, "pause": "1h"})

    async def first(house: House) -> None:
        house.put()
        await house.until(lambda: house.told, "it to be told")
        assert house.told == ["breaker open"]
        assert str(reason_of(house.crm)).startswith("connect: ")

    async def second(house: House) -> None:
        assert state_of(house.crm) == "breaker open"
        assert str(reason_of(house.crm)).startswith("connect: ")
        house.crm.resume()
        assert reason_of(house.crm) is None

    live(tmp_path, settings, first)
    live(tmp_path, settings, second)
