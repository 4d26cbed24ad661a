"""The power is cut: what the file system had not written is gone, and nothing that was acknowledged to the broker is."""

import fcntl
import json
import os
import random
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

CUTS = 4
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2  # EXT4_IOC_SHUTDOWN and its flag, linux/ext4.h: as if the power went, the journal's tail unwritten

EVENTS = """
[outbound.sensors]
topic = "sensors/{{n}}/state"
url = "{url}/hook"
secret = "{secret}"
retry = {{ first = "100ms", factor = 2, max = "500ms", for = "1h" }}
breaker = {{ failures = 1000 }}
"""


class Card:
    """An SD card of its own: an ext4 file system in a file, whose power can be cut."""

    def __init__(self, directory: Path) -> None:
        self.image, self.place = directory / "card.img", directory / "card"
        self.place.mkdir()
        subprocess.run(["truncate", "-s", "64M", self.image], check=True)
        subprocess.run(["mkfs.ext4", "-q", "-F", self.image], check=True)

    def insert(self) -> bool:
        """Mount it; return False where that can't be done here."""
        return subprocess.run(["mount", "-o", "loop", self.image, self.place], capture_output=True, check=False).returncode == 0

    def cut(self) -> None:
        """Lose what isn't written, and come back with what the journal holds."""
        place = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(place, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(place)
        self.eject()
        assert self.insert()

    def eject(self) -> None:
        """Unmount it."""
        subprocess.run(["umount", self.place], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mkfs.ext4") is None, reason="only root can mount a card")
def test_a_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance, down = random.Random(SECRET), [True]
    card = Card(tmp_path)
    if not card.insert():
        pytest.skip("nothing can be mounted here")

    def answer(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
        return Reply(503 if down[0] and chance.random() < 0.5 else 200)

    broker = Mosquitto(tmp_path / "mosquitto", lines=("max_queued_messages 0",))
    sent = 0
    try:
        with broker, Receiver(answer) as receiver, device(broker.port) as sensor:
            bridge = Daemon(card.place / "bridge", broker=broker.url, mappings=EVENTS.format(url=receiver.url, secret=SECRET))
            os.sync()  # the config is a person's, written long ago
            with bridge:
                for _ in range(CUTS):
                    for _ in range(chance.randint(100, 600)):
                        sensor.publish(f"sensors/{sent % 20}/state", json.dumps({"n": sent}), wait=sent % 20 == 19)
                        sent += 1
                    bridge.kill()
                    card.cut()
                    bridge.start()
                down[0] = False

                def numbers() -> set[int]:
                    return {json.loads(received.body)["data"]["payload"]["n"] for received in receiver.accepted}

                until(lambda: len(numbers()) == sent, "every event", within=60)
                until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="sensors"}'] == 0, "nothing to wait")
                assert ledger_adds_up(bridge.metrics(), "sensors")
                assert bridge.stop() == 0
    finally:
        card.eject()
