"""Look-ups: many at once take one trip, and each gets its own answer."""

import asyncio
from collections.abc import Sequence

import pytest

from bridge.model import Answer
from bridge.outbox.lookups import Lookups, Name


class Disk:
    """A store's thread whose trips are counted; each ends when it is told to."""

    def __init__(self) -> None:
        self.trips: list[list[Name]] = []
        self.coming: list[asyncio.Future[list[Answer | None]]] = []

    def ask(self, names: Sequence[Name]) -> asyncio.Future[list[Answer | None]]:
        self.trips.append(list(names))
        self.coming.append(asyncio.get_running_loop().create_future())
        return self.coming[-1]


def answer(n: int) -> Answer:
    return Answer(status=200, document={"n": n})


def test_what_is_asked_in_one_turn_takes_one_trip_and_each_gets_its_own() -> None:
    async def work() -> None:
        disk = Disk()
        lookups = Lookups(disk.ask)
        asked = [lookups.of(("door", f"id{n}")) for n in range(20)]
        await asyncio.sleep(0)
        assert disk.trips == [[("door", f"id{n}") for n in range(20)]]
        disk.coming[0].set_result([answer(n) if n % 2 else None for n in range(20)])
        assert await asyncio.gather(*asked) == [answer(n) if n % 2 else None for n in range(20)]

    asyncio.run(work())


def test_what_is_asked_later_takes_the_next_trip_and_waits_for_no_other() -> None:
    async def work() -> None:
        disk = Disk()
        lookups = Lookups(disk.ask)
        first = lookups.of(("door", "a"))
        await asyncio.sleep(0)
        second = lookups.of(("door", "b"))
        await asyncio.sleep(0)
        disk.coming[1].set_result([answer(2)])
        assert await second == answer(2)
        assert not first.done()
        disk.coming[0].set_result([None])
        assert await first is None

    asyncio.run(work())


def test_a_trip_that_fails_fails_for_all_and_the_next_one_does_not() -> None:
    async def work() -> None:
        disk = Disk()
        lookups = Lookups(disk.ask)
        asked = [lookups.of(("door", name)) for name in "ab"]
        await asyncio.sleep(0)
        disk.coming[0].set_exception(OSError("the card is gone"))
        for one in asked:
            with pytest.raises(OSError, match="the card is gone"):
                await one
        again = lookups.of(("door", "a"))
        await asyncio.sleep(0)
        disk.coming[1].set_result([None])
        assert await again is None

    asyncio.run(work())


def test_who_asked_and_went_away_takes_nothing_from_the_others() -> None:
    async def work() -> None:
        disk = Disk()
        lookups = Lookups(disk.ask)
        gone, stays = lookups.of(("door", "a")), lookups.of(("door", "b"))
        gone.cancel()
        await asyncio.sleep(0)
        disk.coming[0].set_result([answer(1), answer(2)])
        assert await stays == answer(2)

    asyncio.run(work())


@pytest.mark.parametrize("way", ["cancelled", "refused"])
def test_a_store_that_has_shut_leaves_nobody_waiting(way: str) -> None:
    async def work() -> None:
        disk = Disk()

        def refuse(_names: Sequence[Name]) -> asyncio.Future[list[Answer | None]]:
            raise RuntimeError("cannot schedule new futures after shutdown")

        lookups = Lookups(disk.ask if way == "cancelled" else refuse)
        asked = lookups.of(("door", "a"))
        await asyncio.sleep(0)
        if way == "cancelled":
            disk.coming[0].cancel()
        with pytest.raises(asyncio.CancelledError if way == "cancelled" else RuntimeError):
            await asked

    asyncio.run(work())
