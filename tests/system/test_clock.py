"""A machine whose clock starts in 1970 and jumps, as a Pi's does: the program runs with a date that the test sets (libfaketime)."""

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

AGREE_S = 2.5  # what the shown and the true date may differ by: less than is told as a jump, and a moment to ask
TOKEN = "correct-horse-battery"
LIBRARY = next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)

pytestmark = pytest.mark.skipif(LIBRARY is None, reason="libfaketime isn't installed")

MAPPINGS = f"""
[outbound.hall]
topic = "hall/#"
url = "{{url}}"
secret = "{SECRET}"
expires = "1h"
retry = {{{{ first = "100ms", factor = 1, max = "200ms", for = "1h" }}}}
breaker = {{{{ failures = 1000 }}}}
[inbound.lamp]
verify = "standard-webhooks"
secret = "{SECRET}"
topic = "lamp/set"
[inbound.bell]
verify = "bearer"
secret = "{TOKEN}"
topic = "bell/set"
"""


class Dated:
    """A bridge on a machine whose date is what a file says."""

    def __init__(self, directory: Path, broker: Mosquitto, receiver: Receiver, *, date: str) -> None:
        self.file = directory / "date"
        directory.mkdir(exist_ok=True)
        self.set(date)
        self.bridge = Daemon(directory, broker=broker.url, mappings=MAPPINGS.format(url=receiver.url))
        self.environment = {"LD_PRELOAD": str(LIBRARY), "FAKETIME_TIMESTAMP_FILE": str(self.file), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}

    def set(self, date: str) -> None:
        """Set the date: "+0" is the right one, "@..." another that goes on from there, "+10y" the right one and so much."""
        self.file.write_text(date)

    def start(self) -> Daemon:
        return self.bridge.start(**self.environment)


def call(bridge: Daemon, id: str, *, ago: timedelta = timedelta()) -> int:
    now, body = datetime.now(UTC) - ago, b'"on"'
    signature = Webhook(SECRET).sign(id, now, body.decode())
    return bridge.post("/hooks/lamp", body, webhook_id=id, webhook_timestamp=str(int(now.timestamp())), webhook_signature=signature)[0]


def test_a_start_in_1970_signs_and_refuses_nothing_by_a_wrong_date(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port, "lamp/#") as house:
        dated = Dated(tmp_path / "bridge", broker, receiver, date="@1970-01-01 00:00:10")
        with dated.start() as bridge:
            house.publish("hall/x", "1")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 1, "the event")
            assert call(bridge, "first") == 503
            assert bridge.post("/hooks/bell", b'"on"', Authorization=f"Bearer {TOKEN}")[0] == 200, "who signs no time needs no clock"
            assert not receiver.received
            dated.set("+0")
            until(lambda: receiver.accepted, "the event, once the date can be right")
            received = receiver.accepted[0]
            assert Webhook(SECRET).verify(received.body, received.headers)["data"]["payload"] == 1
            assert call(bridge, "first") == 200
            assert "is not set" in bridge.log
            assert ledger_adds_up(bridge.metrics(), "hall")


@pytest.mark.parametrize("jump", ["+10y", "-10y", "+1h"])
def test_a_jump_makes_nothing_late_due_or_dead(tmp_path: Path, broker: Mosquitto, jump: str) -> None:
    down = [True]
    with Receiver(lambda path, headers, body: Reply(503 if down[0] else 200)) as receiver, device(broker.port, "bell/#") as house:
        dated = Dated(tmp_path / "bridge", broker, receiver, date="+0")
        with dated.start() as bridge:
            for n in range(5):
                house.publish(f"hall/{n}", str(n))
            until(lambda: len(bridge.json("queue", "list", "--waiting")) == 5 and receiver.received, "five to wait")
            dated.set(jump)
            assert all(letter["age_s"] < 60 for letter in bridge.json("queue", "list"))
            status = bridge.json("status")
            assert status["now"] - status["oldest_at"] < 60
            assert status["now"] - status["started_at"] < 60
            tried = len(receiver.received)
            until(lambda: len(receiver.received) > tried, "the next attempt: it comes when it would have")
            house.publish("hall/5", "5")
            assert bridge.post("/hooks/bell", b'"on"', Authorization=f"Bearer {TOKEN}")[0] == 200
            until(lambda: house.heard, "a command is not late either")
            assert len(bridge.json("queue", "list", "--dead")) == 0
            dated.set("+0")
            down[0] = False
            bridge.command("resume", "--all")
            until(lambda: len(receiver.accepted) == 6, "all of them")
            assert {json.loads(received.body)["data"]["payload"] for received in receiver.accepted} == set(range(6))
            metrics = bridge.metrics()
            assert metrics['mqtthook_ledger_out_total{mapping="hall",outcome="expired"}'] == metrics['mqtthook_ledger_out_total{mapping="hall",outcome="dead"}'] == 0
            assert ledger_adds_up(metrics, "hall")


@pytest.mark.parametrize("date", ["@1970-01-01 00:00:10", "-4d", "+10y"])
def test_what_came_while_the_date_was_wrong_is_as_old_as_it_is(tmp_path: Path, broker: Mosquitto, date: str) -> None:
    """In the run in which the date is set right, and after the next start, and for a command of the queue in between."""
    down = [True]
    with Receiver(lambda path, headers, body: Reply(503 if down[0] else 200)) as receiver, device(broker.port) as house:
        dated = Dated(tmp_path / "bridge", broker, receiver, date=date)
        with dated.start() as bridge:
            began = time.time()
            house.publish("hall/x", "1")
            until(lambda: len(bridge.json("queue", "list")) == 1, "the event")
            dated.set("+0")
            until(lambda: receiver.received, "it to be tried")
            assert_is_recent(bridge, began)
            until(lambda: is_recent(bridge.json("status")["oldest_at"], began), "the status")
            status, metrics = bridge.json("status"), bridge.metrics()
            assert is_recent(status["started_at"], began)
            assert is_recent(status["config"]["loaded_at"], began)
            assert is_recent(metrics["mqtthook_outbox_oldest_timestamp_seconds"], began)
            assert is_recent(metrics["mqtthook_start_timestamp_seconds"], began)
            bridge.stop()
            assert_is_recent(bridge, began)
            tried = len(receiver.received)
            bridge.start()
            until(lambda: len(receiver.received) > tried, "the next attempt: it is due")
            assert_is_recent(bridge, began)
            down[0] = False
            until(lambda: receiver.accepted, "the event")
            house.publish("hall/x", "2")
            until(lambda: len(receiver.accepted) == 2, "what came after it")
            metrics = bridge.metrics()
            assert is_recent(metrics['mqtthook_destination_delivered_timestamp_seconds{destination="hall"}'], began)
            assert metrics['mqtthook_ledger_out_total{mapping="hall",outcome="delivered"}'] == 2
            assert ledger_adds_up(metrics, "hall")


def is_recent(at: float, began: float) -> bool:
    return began - AGREE_S <= at <= time.time() + AGREE_S


def assert_is_recent(bridge: Daemon, began: float) -> None:
    """Whatever shows the age of the one letter that waits shows that it came since *began*."""
    letter = bridge.json("queue", "list")[0]
    assert is_recent(letter["created_at"], began)
    assert letter["age_s"] <= time.time() - began + AGREE_S
    assert abs(letter["expires_at"] - letter["created_at"] - 3_600) < AGREE_S
    assert not bridge.json("queue", "list", "--older", "1h")
    assert len(bridge.json("queue", "list", "--since", "1h")) == 1
    attempts = bridge.json("history", "--since", "1h")
    assert attempts
    assert all(is_recent(attempt["at"], began) and is_recent(attempt["received_at"], began) for attempt in attempts)


def test_what_waits_from_before_keeps_its_age_beside_what_came_with_a_wrong_date(tmp_path: Path, broker: Mosquitto) -> None:
    """Two jumps, and a kill after the second: the one letter came with the right date, the other with a wrong one."""
    down = [True]
    with Receiver(lambda path, headers, body: Reply(503 if down[0] else 200)) as receiver, device(broker.port) as house:
        dated = Dated(tmp_path / "bridge", broker, receiver, date="+0")
        with dated.start() as bridge:
            began = time.time()
            house.publish("hall/x", "1")
            until(lambda: len(bridge.json("queue", "list")) == 1, "the event")
            bridge.stop()
            dated.set("-8h")
            dated.start()
            house.publish("hall/y", "2")
            until(lambda: len(bridge.json("queue", "list")) == 2, "the other")
            dated.set("+2d")
            until(lambda: bridge.json("queue", "list")[1]["created_at"] > began + 86_400, "the first jump to be seen")
            dated.set("+0")
            until(lambda: is_recent(bridge.json("queue", "list")[1]["created_at"], began), "the second")
            bridge.kill()
            assert all(is_recent(letter["created_at"], began) for letter in bridge.json("queue", "list"))
            bridge.start()
            assert all(is_recent(letter["created_at"], began) for letter in bridge.json("queue", "list"))
            down[0] = False
            until(lambda: len(receiver.accepted) == 2, "both")


def test_a_start_yesterday_after_one_in_1970_takes_no_old_request(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as house:
        dated = Dated(tmp_path / "bridge", broker, receiver, date="@1970-01-01 00:00:10")
        with dated.start() as bridge:
            dated.set("+0")
            until(lambda: call(bridge, "today") == 200, "the date to be seen")
            house.publish("hall/x", "1")
            until(lambda: receiver.accepted, "the event")
            bridge.stop()
            dated.set("-1d")
            dated.start()
            assert call(bridge, "yesterday", ago=timedelta(days=1)) == 503
            dated.set("+0")
            until(lambda: call(bridge, "now") == 200, "the date to be right")
