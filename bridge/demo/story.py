"""The story: what the demo shows, chapter by chapter. Every sentence in it is checked before it is told."""

from pathlib import Path

from bridge.demo.narrator import Narrator
from bridge.demo.proof import arrival, check, until
from bridge.demo.stage import SUBSCRIPTION, Ask, Stage, Status, running, stage

WAITING = (11, 8, 5)  # the illuminance of the motions that have to wait: it gets dark, and so they can be told apart


async def tell(state: Path, narrator: Narrator, ask: Ask) -> None:
    """Tell the whole story; raise Missed where a step did not come out, or what the bridge died of.

    *state* is an empty directory. *ask* returns what a bridge says of itself on its control socket.
    """
    try:
        async with stage(state, narrator, ask) as world:
            await _introduction(world, narrator)
            async with running(world.settings, state):
                for chapter in (_arrival, _motion, _refusals, _outage, _recovery, _accounts):
                    await chapter(world, narrator)
    except BaseExceptionGroup as group:
        raise _first(group) from None
    narrator.end()


async def _introduction(world: Stage, narrator: Narrator) -> None:
    narrator.meaning(
        "A motion sensor, a lamp and an MQTT broker; a web service that wants to hear of motions; and between them a real bridge, "
        "with this config and two new secrets. All of it runs in this one process, and is gone when it ends."
    )
    narrator.shown(world.config)
    await narrator.pause(2.5)


async def _arrival(world: Stage, narrator: Narrator) -> None:
    async def look() -> list[str]:
        return world.house.subscriptions()

    await until(look, lambda found: SUBSCRIPTION in found, "the bridge subscribes", expected=f"a subscription to {SUBSCRIPTION}")
    narrator.event("bridge", f"connected to the broker, subscribed to {SUBSCRIPTION}")


async def _motion(world: Stage, narrator: Narrator) -> None:
    narrator.chapter("1. A motion turns on the lamp", "The message becomes a signed webhook, the web service calls a hook in return, and that publishes.")
    await narrator.pause(0.8)
    payload = {"occupancy": True, "illuminance": 14}
    moved_at = await world.sensor.report(payload)
    received = await arrival(world.receiver.arrivals, "the motion reaches the web service")
    check("which mapping sent it", expected="hall-motion", came=received.event["type"])
    check("what the sensor said", expected=payload, came=received.event["data"]["payload"])
    check("the room, taken from the topic", expected={"room": "hall"}, came=received.event["data"]["captures"])
    check("the hook's answer", expected=200, came=received.answered)
    lit_at = await arrival(world.lamp.orders, "the order reaches the lamp")
    check("the lamp is on", expected=True, came=world.lamp.is_on)
    narrator.event("lamp", f"is ON, {(lit_at - moved_at) * 1000:.0f} ms after the motion")
    await narrator.pause(1.2)


async def _refusals(world: Stage, narrator: Narrator) -> None:
    narrator.chapter("2. What should not come through, doesn't", "`when` holds back what is no motion, and it is counted. A hook listens to nobody without the secret.")
    await narrator.pause(0.8)
    await world.sensor.report({"occupancy": False, "illuminance": 14})
    status = await world.status_when(lambda status: _count(status, "filtered") == 1, "the message is held back", expected="1 filtered")
    narrator.event("bridge", f"hall-motion: {_count(status, 'filtered')} filtered, {_count(status, 'delivered')} delivered")
    narrator.event("stranger", 'POST /hooks/hall-light {"state": "off"}, without a signature')
    async with world.session.post(world.hook_url, json={"state": "off"}) as response:
        narrator.event("bridge", f"answers {response.status} {response.reason}")
        check("the answer to the stranger", expected=401, came=response.status)
    check("the lamp is on", expected=True, came=world.lamp.is_on)
    world.lamp.switch_off()
    await narrator.pause(1.2)


async def _outage(world: Stage, narrator: Narrator) -> None:
    narrator.chapter("3. The web service is down", "What happens meanwhile waits in the outbox, an SQLite file, and the bridge keeps trying.")
    await narrator.pause(0.8)
    await world.receiver.close()
    narrator.event("receiver", "is down, its port is closed")
    for illuminance in WAITING:
        await narrator.pause(0.5)
        await world.sensor.report({"occupancy": True, "illuminance": illuminance})
    failures = await _told_waiting(world, narrator, failures=1)
    await _told_waiting(world, narrator, failures=failures + 1)
    check("events at a web service that is down", expected=0, came=world.receiver.arrivals.qsize())
    check("the lamp is off", expected=False, came=world.lamp.is_on)
    await narrator.pause(0.8)


async def _told_waiting(world: Stage, narrator: Narrator, *, failures: int) -> int:
    """Tell that everything waits and was tried in vain at least so often; return how often it was."""

    def is_so(status: Status) -> bool:
        return bool(_waiting(status) == len(WAITING) and status["unsaved"] == 0 and _failures(status) >= failures)

    expected = f"{len(WAITING)} waiting, all of them on disk, and {failures} failed attempts"
    status = await world.status_when(is_so, "events wait", expected=expected)
    attempts = _failures(status)
    narrator.event("bridge", f"{_waiting(status)} events wait, on disk; {attempts} failed attempt{'' if attempts == 1 else 's'} so far")
    return attempts


async def _recovery(world: Stage, narrator: Narrator) -> None:
    narrator.chapter("4. The web service is back", "Nobody has to do anything: the next attempt gets through, and the others follow in order.")
    await narrator.pause(0.8)
    await world.receiver.open()
    narrator.event("receiver", "is back")
    late = [await arrival(world.receiver.arrivals, f"motion {n} of {len(WAITING)} reaches the web service") for n, _ in enumerate(WAITING, 1)]
    check("the order of the motions, told apart by illuminance", expected=WAITING, came=tuple(received.event["data"]["payload"]["illuminance"] for received in late))
    check("how many webhook-ids", expected=len(WAITING), came=len({received.id for received in late}))
    check("the hook's answers", expected={200}, came={received.answered for received in late})
    for n, _ in enumerate(WAITING, 1):
        await arrival(world.lamp.orders, f"order {n} of {len(WAITING)} reaches the lamp")
    check("the lamp is on", expected=True, came=world.lamp.is_on)
    narrator.event("lamp", f"is ON again; {', '.join(map(str, WAITING))}: in the order of the motions")
    await narrator.pause(1.2)


async def _accounts(world: Stage, narrator: Narrator) -> None:
    narrator.chapter("5. Nothing was lost", "Every message is accounted for, as `mqtthook status` shows it of any bridge that runs:")
    status = await world.status_when(lambda status: not status["waiting"], "nothing waits any more", expected="0 waiting")
    motions, orders = status["mappings"]["hall-motion"], status["mappings"]["hall-light"]
    for name, entry in (("hall-motion", motions), ("hall-light", orders)):
        ended = " + ".join(f"{count} {outcome}" for outcome, count in entry["outcomes"].items() if count)
        narrator.event("bridge", f"{name}: {entry['received']} in = {ended}, {entry['waiting']} waiting")
    delivered = 1 + len(WAITING)
    check("the motions in the ledger", expected=(delivered + 1, delivered, 1), came=(motions["received"], motions["outcomes"]["delivered"], motions["outcomes"]["filtered"]))
    check("the orders in the ledger", expected=(delivered, delivered), came=(orders["received"], orders["outcomes"]["delivered"]))
    check("how far the ledger is from adding up", expected=0, came=status["imbalance"])
    check("what came twice", expected=(0, 0), came=(world.receiver.arrivals.qsize(), world.lamp.orders.qsize()))


def _waiting(status: Status) -> int:
    return int(status["mappings"]["hall-motion"]["waiting"])


def _count(status: Status, outcome: str) -> int:
    return int(status["mappings"]["hall-motion"]["outcomes"][outcome])


def _failures(status: Status) -> int:
    return int(status["destinations"]["hall-motion"]["failures"])


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
