"""The proof: under load, with the bridge killed at random and the other sides failing, nothing is lost."""

import json
import random
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from standardwebhooks import Webhook

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, failing
from tests.rig.wait import until

MESSAGES, TOPICS, RATE = 2_000, 50, 500
KILLS = 5
DUPLICATES_PER_KILL = 20

EVENTS = """
[outbound.sensors]
topic = "sensors/{{n}}/state"
url = "{url}/hook"
secret = "{secret}"
retry = {{ first = "100ms", factor = 2, max = "500ms", for = "1h" }}
"""

COMMANDS = 200

COMMAND_HOOK = """
[inbound.lamp]
path = "/hooks/lamp/{{n}}"
verify = "standard-webhooks"
secret = "{secret}"
topic = "lamp/{{{{ n }}}}/set"
text = "{{{{ body.n }}}}"
"""


def test_no_event_is_lost_over_kills_and_failures(tmp_path: Path) -> None:
    # By default a broker keeps 1,000 messages for who is away: a slow machine takes longer to start than they last.
    broker = Mosquitto(tmp_path / "mosquitto", lines=("max_queued_messages 0",))
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    kill_at = sorted(chance.sample(range(100, MESSAGES - 100), KILLS))
    with broker, Receiver(failing(0.3, random.Random(seed + 1))) as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=EVENTS.format(url=receiver.url, secret=SECRET))
        with bridge:
            began = time.monotonic()
            for n in range(MESSAGES):
                _pace(began + n / RATE)
                sensor.publish(f"sensors/{n % TOPICS}/state", json.dumps({"n": n}), wait=False)
                if n in kill_at:
                    bridge.kill()
                    bridge.launch()
            until(lambda: len(receiver.accepted) >= MESSAGES and _numbers(receiver) == set(range(MESSAGES)), "every event to arrive", within=120)
            until(lambda: bridge.metrics().get('mqtthook_ledger_waiting{mapping="sensors"}') == 0, "nothing to wait any more")
            assert ledger_adds_up(bridge.metrics(), "sensors")
            assert bridge.stop() == 0
        first: dict[int, str] = {}
        order: dict[str, list[int]] = {}
        copies = 0
        for received in receiver.accepted:
            body = Webhook(SECRET).verify(received.body, received.headers)
            number = body["data"]["payload"]["n"]
            if number in first:
                copies += 1
                continue
            first[number] = received.id
            order.setdefault(body["data"]["topic"], []).append(number)
        assert all(numbers == sorted(numbers) for numbers in order.values()), "the order of a topic was broken"
        assert copies <= KILLS * DUPLICATES_PER_KILL, f"{copies} duplicates"
        print(f"lost 0 of {MESSAGES}, duplicates {copies} over {KILLS} kills")


def test_no_command_is_published_twice_over_kills_of_bridge_and_broker(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    moments = random.Random(seed).sample(range(10, COMMANDS - 10), 8)
    bridge_kills, broker_kills = set(moments[:5]), set(moments[5:])
    # What was published is told by the broker's own log: it writes each line at once, and a kill takes none back.
    log = tmp_path / "published.log"
    broker = Mosquitto(tmp_path / "mosquitto", lines=(f"log_dest file {log}", "log_type all"))
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=COMMAND_HOOK.format(secret=SECRET))
    with broker, bridge:
        with ThreadPoolExecutor(4) as callers:
            answers = []
            for n in range(COMMANDS):
                answers.append(callers.submit(_post_until_answered, bridge, n))
                if n in bridge_kills:
                    until(answers[n - 5].done, "the commands before to be answered")
                    bridge.kill()
                    bridge.launch()
                if n in broker_kills:
                    until(answers[n - 5].done, "the commands before to be answered")
                    broker.kill()
                    broker.start()
            statuses = [answer.result() for answer in answers]
        until(lambda: bridge.metrics().get('mqtthook_ledger_waiting{mapping="lamp"}') == 0, "nothing to wait any more")
        assert ledger_adds_up(bridge.metrics(), "lamp")
        excused = _counted(bridge, "expired") + len([letter for letter in bridge.json("queue", "list", "--dead") if "doubt" in letter["reason"]])
        assert bridge.stop() == 0
    published = [int(n) for n in re.findall(r"Received PUBLISH from bridge-bridge .*'lamp/(\d+)/set'", log.read_text())]
    counts = [published.count(n) for n in range(COMMANDS)]
    assert max(counts) == 1, "a command was published twice"
    assert all(counts[n] == 1 for n, status in enumerate(statuses) if status == 200), "a command was confirmed and not published"
    missing = [n for n, status in enumerate(statuses) if status == 202 and not counts[n]]
    assert len(missing) <= excused, f"accepted, and neither published nor counted: {missing}"
    print({status: statuses.count(status) for status in set(statuses)}, f"published {sum(counts)}")


def _post_until_answered(bridge: Daemon, n: int) -> int:
    """Return the status that a caller gets who repeats its request, with the same id, while there is no answer or a 5xx."""
    body = json.dumps({"n": n}).encode()

    def status() -> int:
        now = datetime.now(UTC)
        signature = Webhook(SECRET).sign(f"cmd-{n}", now, body.decode())
        headers = {"webhook-id": f"cmd-{n}", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        answered, _ = bridge.post(f"/hooks/lamp/{n}", body, **headers)
        return answered if answered and answered != 503 else 0

    return until(status, f"an answer to command {n}", within=30)


def _counted(bridge: Daemon, outcome: str) -> float:
    return bridge.metrics().get(f'mqtthook_ledger_out_total{{mapping="lamp",outcome="{outcome}"}}', 0)


def _pace(at: float) -> None:
    """Let the publisher keep its rate: the load is a part of the test, no condition is waited for."""
    threading.Event().wait(max(0.0, at - time.monotonic()))


def _numbers(receiver: Receiver) -> set[int]:
    return {json.loads(received.body)["data"]["payload"]["n"] for received in receiver.accepted}
