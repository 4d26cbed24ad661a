"""The teller: what changes is looked at soon, and however often anything changes, not more often than once in a while."""

import asyncio
import itertools
from typing import cast

import pytest

from bridge.app import teller
from bridge.app.teller import Teller
from bridge.config.settings import Settings
from bridge.edges.mqtt.session import Broker
from bridge.model import Command
from bridge.outbox.courier import Clock
from bridge.outbox.outbox import Outbox
from bridge.watch.figures import Figures
from tests.rig.figures import FIGURES
from tests.unit.test_courier import START_S, Loop, now


class Away:
    """A broker that isn't there."""

    connected = False

    async def publish(self, command: Command) -> None:
        raise AssertionError(command)


@pytest.mark.parametrize(("every_s", "most"), [(None, 61), (0.01, 601)])
def test_what_changes_is_looked_at_at_once_and_a_storm_of_changes_once_a_second_at_most(every_s: float | None, most: int) -> None:
    looks: list[float] = []

    async def figures() -> Figures:
        looks.append(now())
        return FIGURES

    async def life() -> None:
        clock = Clock(monotonic=lambda: now() + START_S, wall=now, date=now, chance=lambda: 0.0)
        told = Teller(cast("Outbox", None), cast("Broker", Away()), figures, clock=clock, new_id=lambda: "evt_1")
        telling = asyncio.create_task(told.run(lambda: Settings(version=1)))
        await asyncio.sleep(5)
        told.wake()
        await asyncio.sleep(0.001)
        assert looks == pytest.approx([0, 5], abs=0.01), "at once"
        ends = now() + 600
        while now() < ends:
            await asyncio.sleep(every_s or 60)
            if every_s:
                told.wake()
        telling.cancel()
        assert most - 5 <= len(looks) - 2 <= most
        assert all(later - sooner >= teller.SOONEST_S for sooner, later in itertools.pairwise(looks))

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(life())
