"""Somebody watches from outside: a heartbeat that stops when something is wrong."""

import asyncio
from dataclasses import replace
from pathlib import Path
from time import monotonic, time

from pydantic import SecretStr

from bridge.app.heartbeat import Heartbeat
from bridge.edges.outlet import Outlet
from bridge.outbox.courier import Clock
from bridge.watch.figures import Figures
from tests.rig.figures import FIGURES
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until
from tests.system.test_reload import House, mapping

TOKEN = "d1f6c0a2-not-for-anybody"
SECOND_TOKEN = "e2a7-not-for-anybody-either"


def paths(receiver: Receiver) -> list[tuple[str, str]]:
    return [(received.method, received.path) for received in receiver.received]


def test_a_heartbeat_goes_out_while_all_is_well_and_is_silent_otherwise(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as service:
        made = House(tmp_path / "bridge", broker, mapping("hall", service.url), top=f'heartbeat = "{service.url}/{TOKEN}"\n')
        bridge = made.bridge
        broker.stop()
        bridge.launch()
        until(lambda: "no heartbeat until all is well" in bridge.log, "it to say that the broker is away")
        assert paths(service) == []
        broker.start()
        until(lambda: paths(service) == [("GET", f"/{TOKEN}")], "the first ping")
        assert service.received[0].body == b""
        until(lambda: "heartbeat taken" in bridge.log, "it to say so")
        broker.stop()
        until(lambda: bridge.log.count("no heartbeat until all is well") == 2, "it to stop")
        before = len(service.received)
        broker.start()
        until(lambda: len(service.received) > before, "it to go on", within=30)
        made.top = f'heartbeat = "{service.url}/{SECOND_TOKEN}"\n'
        made.write(mapping("hall", service.url))
        assert bridge.json("reload")["changed"] == ["heartbeat"]
        until(lambda: paths(service)[-1] == ("GET", f"/{SECOND_TOKEN}"), "a reload to count")
        told = bridge.log + bridge.command("status") + bridge.command("status", "--json") + bridge.command("check") + bridge.get("/healthz")[1] + bridge.get("/metrics")[1]
        assert TOKEN not in told
        assert SECOND_TOKEN not in told
        assert bridge.stop() == 0


def test_a_service_that_refuses_the_heartbeat_is_told_of_once_and_no_redirect_is_followed(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as elsewhere, Receiver(lambda path, headers, body: Reply(302, {"Location": f"{elsewhere.url}/"})) as service:
        made = House(tmp_path / "bridge", broker, mapping("hall", service.url), top=f'heartbeat = "{service.url}/{TOKEN}"\n')
        with made.bridge as bridge:
            until(lambda: "heartbeat not taken reason='status 302'" in bridge.log, "it to be told")
            assert elsewhere.received == []
            assert TOKEN not in bridge.log


def test_pings_go_on_for_as_long_as_all_is_well_and_only_then() -> None:
    """With a period that a test can wait for."""
    found, looked = [FIGURES], []

    async def figures() -> Figures:
        looked.append(found[0])
        return found[0]

    async def watched() -> None:
        with Receiver() as service:
            async with Outlet() as outlet:
                heart = Heartbeat(outlet, figures, clock=Clock(monotonic=monotonic, wall=time, chance=lambda: 0.0), every_s=0.05, soonest_s=0.01)
                beating = asyncio.create_task(heart.run(lambda: SecretStr(service.url + "/x")))
                await asyncio.to_thread(until, lambda: len(service.received) > 5, "several pings")
                found[0] = replace(FIGURES, full=True)
                seen = len(looked)
                await asyncio.to_thread(until, lambda: len(looked) > seen + 1, "it to look again")
                before = len(service.received)
                await asyncio.to_thread(until, lambda: len(looked) > seen + 10, "it to look often")
                assert len(service.received) == before
                found[0] = FIGURES
                await asyncio.to_thread(until, lambda: len(service.received) > before, "it to go on")
                beating.cancel()

    asyncio.run(watched())


def test_without_a_heartbeat_nothing_is_looked_at() -> None:
    looked = []

    async def figures() -> Figures:
        looked.append(1)
        return FIGURES

    async def watched() -> None:
        async with Outlet() as outlet:
            heart = Heartbeat(outlet, figures, clock=Clock(monotonic=monotonic, wall=time, chance=lambda: 0.0), every_s=0.0)
            beating = asyncio.create_task(heart.run(lambda: None))
            for _ in range(10):
                heart.wake()
                await asyncio.sleep(0)
            beating.cancel()

    asyncio.run(watched())
    assert looked == []
