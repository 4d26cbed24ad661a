"""Who watches live sees what he asked for, costs the bridge little, and nothing while nobody watches."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

import pytest

from bridge.errors import BridgeError
from bridge.model import Event, Lane, Letter, Message, Outcome, Reply, Verdict
from bridge.outbox.onlookers import LINES, MAX_REASON, MOST, SIGN, Onlookers

NOW = 1_764_000_000.25
LETTER = Letter(id="evt_1", lane=Lane.WEBHOOK, mapping="hall", destination="crm", key="k", content=Event(method="POST", url="https://x/", headers=(), body=b"hush"), created_at=NOW, attempts=1)


def made() -> Onlookers:
    return Onlookers(lambda: NOW)


async def begun(onlookers: Onlookers, *, mapping: str | None = None, destination: str | None = None) -> AsyncGenerator[bytes, None]:
    seen = onlookers.watch(mapping=mapping, destination=destination)
    assert await anext(seen) == SIGN
    return seen


async def lines(seen: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (await anext(seen)).splitlines()]


def watched(told: Callable[[Onlookers], None], **wanted: str) -> list[dict[str, Any]]:
    """Return what one who watches is told."""

    async def look() -> list[dict[str, Any]]:
        onlookers = made()
        seen = await begun(onlookers, **wanted)
        told(onlookers)
        return await lines(seen)

    return asyncio.run(look())


OUTCOMES = [
    (
        Outcome(verdict=Verdict.DELIVERED, reason="status 200", reply=Reply(status=200, took_s=0.0412)),
        {"what": "delivered", "event": "evt_1", "attempt": 2, "status": 200, "took_s": 0.041},
    ),
    (
        Outcome(verdict=Verdict.RETRY, reason="status 503", delay_s=4.66, reply=Reply(status=503, took_s=0.1)),
        {"what": "retry", "event": "evt_1", "attempt": 2, "status": 503, "took_s": 0.1, "next_s": 4.7, "reason": "status 503"},
    ),
    (Outcome(verdict=Verdict.DEAD, reason="status 400", reply=Reply(status=400)), {"what": "dead", "event": "evt_1", "attempt": 2, "status": 400, "took_s": 0.0, "reason": "status 400"}),
    (Outcome(verdict=Verdict.EXPIRED, reason="it expired"), {"what": "expired", "event": "evt_1", "attempt": 2, "reason": "it expired"}),
]


@pytest.mark.parametrize(("outcome", "told"), OUTCOMES)
def test_what_an_attempt_came_to_is_told_without_what_was_sent(outcome: Outcome, told: dict[str, Any]) -> None:
    found = watched(lambda onlookers: onlookers.tell_outcome(LETTER, outcome))
    assert found == [{"at": "2025-11-24T16:00:00.250Z", "mapping": "hall", "destination": "crm", **told}]
    assert "hush" not in str(found)


def test_a_message_is_told_for_each_mapping_that_takes_it_or_for_none() -> None:
    message = Message(topic="hall/x", payload=b"hush", retained=True, received_at=NOW)

    def told(onlookers: Onlookers) -> None:
        onlookers.tell_received(message, ["hall", "door"])
        onlookers.tell_received(message, [])

    found = watched(told)
    assert [(line.get("mapping"), line["topic"], line["retained"]) for line in found] == [("hall", "hall/x", True), ("door", "hall/x", True), (None, "hall/x", True)]
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("wanted", "seen"),
    [({}, [1, 2, 3, 4]), ({"mapping": "hall"}, [1, 2]), ({"destination": "crm"}, [1, 3]), ({"mapping": "hall", "destination": "crm"}, [1])],
)
def test_one_sees_what_he_asked_for(wanted: dict[str, str], seen: list[int]) -> None:
    def told(onlookers: Onlookers) -> None:
        for n, place in enumerate([("hall", "crm"), ("hall", None), ("door", "crm"), (None, None)], 1):
            onlookers.tell("x", mapping=place[0], destination=place[1], n=n)

    assert [line["n"] for line in watched(told, **wanted)] == seen


def test_a_line_is_one_line_and_bounded_whatever_a_reason_holds() -> None:
    found = watched(lambda onlookers: onlookers.tell("dead", reason="\n\r\x1b\u2028" * 10_000))
    assert len(found) == 1
    assert len(found[0]["reason"]) == MAX_REASON


def test_one_who_reads_too_slowly_is_told_so_and_sent_away_and_the_others_go_on() -> None:
    async def look() -> None:
        onlookers = made()
        slow, quick = await begun(onlookers), await begun(onlookers)
        for n in range(LINES + 5):
            onlookers.tell("x", n=n)
            await lines(quick)
        assert len(await lines(slow)) == LINES
        assert (await lines(slow))[0]["what"] == "end"
        with pytest.raises(StopAsyncIteration):
            await anext(slow)
        onlookers.tell("x", n=-1)
        assert (await lines(quick))[0]["n"] == -1

    asyncio.run(look())


def test_no_more_than_some_may_watch_and_a_place_is_free_again_when_one_goes() -> None:
    async def look() -> None:
        onlookers = made()
        all = [await begun(onlookers) for _ in range(MOST)]
        with pytest.raises(BridgeError, match="16 watch already"):
            onlookers.watch(mapping=None, destination=None)
        await all[0].aclose()
        await begun(onlookers)

    asyncio.run(look())


def test_when_the_program_ends_all_are_told_after_what_they_have_not_read() -> None:
    async def look() -> None:
        onlookers = made()
        seen = await begun(onlookers)
        onlookers.tell("x")
        onlookers.close()
        assert [line["what"] for line in await lines(seen)] == ["x"]
        assert (await lines(seen)) == [{"what": "end", "reason": "the daemon ends"}]
        with pytest.raises(StopAsyncIteration):
            await anext(seen)
        assert not onlookers

    asyncio.run(look())
