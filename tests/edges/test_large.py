"""Large messages, such as the snapshots of a camera: all of them arrive, and memory stays bounded."""

import threading
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

MB = 1_000_000


def snapshots(url: str) -> str:
    return f"""
[outbound.snapshots]
topic = "frigate/{{camera}}/snapshot"
url = "{url}"
secret = "{SECRET}"
format = "raw"
headers = {{ "X-Camera" = "{{{{ camera }}}}" }}
retry = {{ first = "100ms", factor = 1, max = "200ms", for = "1h" }}
breaker = {{ failures = 1000 }}
"""


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_messages_of_several_megabytes_arrive(tmp_path: Path, protocol: str) -> None:
    with Receiver() as receiver, Mosquitto(tmp_path / "mosquitto") as broker, device(broker.port) as camera:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=snapshots(receiver.url), mqtt=f'protocol = "{protocol}"'):
            sizes = [2 * MB, MB, 10 * MB]
            for size in sizes:
                camera.publish("frigate/yard/snapshot", b"\xff\xd8" + bytes(size - 2))
            until(lambda: [len(received.body) for received in receiver.accepted] == sizes, "all of them, as they are")


class Gate:
    """A receiver's mind: closed at first; it remembers which cameras' pictures it let in, and no picture."""

    def __init__(self) -> None:
        self.open, self.cameras, self.lock = False, list[str](), threading.Lock()
        self.receiver = Receiver(self.answer)

    def answer(self, _path: str, headers: dict[str, str], _body: bytes) -> Reply:
        self.receiver.received.clear()
        with self.lock:
            self.cameras += [headers["x-camera"]] if self.open else []
        return Reply(200 if self.open else 503)


def test_more_than_fits_in_memory_stays_with_the_broker_and_all_of_it_arrives(tmp_path: Path) -> None:
    """The outbox is full as well: without a bound all that the broker has would lie in memory."""
    gate = Gate()
    with gate.receiver, Mosquitto(tmp_path / "mosquitto") as broker, device(broker.port) as camera:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=snapshots(gate.receiver.url), store='max_size = "32MiB"') as bridge:
            before_kb = bridge.most_memory_kb()
            for n in range(80):
                camera.publish(f"frigate/{n}/snapshot", bytes([n]) * (4 * MB), wait=False)
            until(lambda: bridge.metrics()["mqtthook_outbox_full"] == 1, "the outbox to be full", within=60)
            gate.open = True
            until(lambda: len(set(gate.cameras)) == 80, "all of them", within=120)
            until(lambda: bridge.metrics()["mqtthook_broker_unacknowledged"] == 0, "the broker to have heard of it")
            assert bridge.most_memory_kb() - before_kb < 200_000, "of the 320,000 that there were (115,000 measured, with what HTTP and SQLite take of it)"
            assert ledger_adds_up(bridge.metrics(), "snapshots")
