"""A request at a hook, up to its answer, with a real outbox file whose disk takes its time."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bridge.model import Answer, Lane, State
from bridge.outbox import intake
from bridge.outbox.courier import Clock
from bridge.outbox.devices import Devices
from bridge.outbox.intake import RequestIntake
from bridge.outbox.outbox import Outbox
from bridge.outbox.selection import Selection
from bridge.outbox.settings import StoreSettings
from bridge.outbox.store import Store
from bridge.rules.answers import Response
from bridge.rules.inbound import Hook, Hooks, Inbound
from bridge.rules.requests import Request

CLOCK = Clock(monotonic=lambda: asyncio.get_event_loop().time(), wall=lambda: 1_764_000_000.0, date=lambda: 1_764_000_000.0, chance=lambda: 0.0)
LAMP = Inbound.model_validate({"verify": "none", "topic": "lamp/set"})


class SlowStore(Store):
    """A store whose disk stands still until it is let go on."""

    def let_stand_still(self) -> threading.Event:
        """Return what lets it go on."""
        self.turning = threading.Event()
        return self.turning

    def first_answers(self, names: Sequence[tuple[str, str]]) -> list[Answer | None]:
        self.turning.wait(20)
        return super().first_answers(names)


async def after(seconds: float, asked: "asyncio.Task[Any]") -> bool:
    """Return True if it is answered by then, False if not."""
    done, _ = await asyncio.wait({asked}, timeout=seconds)
    return bool(done)


def test_while_the_disk_stands_still_nothing_is_said_to_be_safe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "ANSWER_S", 0.05)

    async def life() -> None:
        store = SlowStore.open(tmp_path / "outbox.db", max_size=64 << 20)
        assert isinstance(store, SlowStore)
        turning = store.let_stand_still()
        outbox = Outbox(store, StoreSettings(), monotonic=CLOCK.monotonic, wall=CLOCK.wall)
        writing = asyncio.create_task(outbox.run())
        hook = Hook(name="lamp", rule=LAMP, pattern=LAMP.pattern("lamp"), keys=())
        requests = RequestIntake(outbox, Hooks([hook]), Devices([hook]), clock=CLOCK, new_id=lambda: "cmd_1", is_connected=lambda: True, is_clock_set=lambda: True)

        def ask() -> "asyncio.Task[Response]":
            request = Request(path="/hooks/lamp", query="", headers={"idempotency-key": ("first",)}, body=b"on", received_at=CLOCK.wall())
            return asyncio.create_task(requests.answer("POST", request))

        first, repeated = ask(), ask()
        assert not await after(0.3, first)
        assert not await after(0.0, repeated)
        turning.set()
        assert [(await one).status for one in (first, repeated)] == [202, 202]
        assert [letter.state for letter in store.select(Selection())] == [State.WAITING]
        assert outbox.accounts.waiting == {(Lane.MQTT, "mqtt"): 1}
        assert outbox.accounts.ledger.counts()["lamp"]["in"] == 2
        assert outbox.accounts.ledger.imbalance() == 0
        writing.cancel()
        outbox.shut()
        store.close()

    asyncio.run(life())
