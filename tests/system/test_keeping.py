"""Backup and restore with the real command: what waits moves house, and nothing is half done."""

import os
import pty
import resource
import shutil
import signal
import stat
import subprocess
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import COMMAND, SECRET, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until
from tests.unit.test_upgrade import first_version

MAPPINGS = """
[outbound.hall]
topic = "hall/#"
url = "{url}/hall"
secret = "{secret}"
retry = {{ first = "1h", max = "1h", for = "3d" }}
breaker = {{ failures = 1000, pause = "1s" }}
"""
LETTERS = 5


def daemon(directory: Path, broker: Mosquitto, receiver: Receiver, *, secret: str = SECRET, store: str = "") -> Daemon:
    return Daemon(directory, broker=broker.url, mappings=MAPPINGS.format(url=receiver.url, secret=secret), store=store)


def run(house: Daemon, *arguments: str, code: int = 0) -> str:
    """Run `backup FILE` or `restore FILE` on a house of one's own."""
    return house.command(*arguments, code=code)


def waiting(house: Daemon) -> set[str]:
    return {letter["id"] for letter in house.json("queue", "list", "--waiting", "--limit", "1000")}


def down(_path: str, _headers: dict[str, str], _body: bytes) -> Reply:
    return Reply(503)


def test_what_waits_moves_house_with_its_webhook_ids(tmp_path: Path, broker: Mosquitto) -> None:
    archive = tmp_path / "usb" / "mqtthook.zip"
    archive.parent.mkdir()
    with Receiver(down) as receiver:
        old = daemon(tmp_path / "old", broker, receiver)
        with old, device(broker.port) as sensor:
            for n in range(LETTERS):
                sensor.publish(f"hall/{n}", f'{{"n":{n}}}')
            until(lambda: len(receiver.received) >= LETTERS, "each to be tried")
            told = run(old, "backup", str(archive))
            assert f"{LETTERS} waiting, 0 dead" in told
            assert "keep it like a password" in told
            assert stat.S_IMODE(archive.stat().st_mode) == 0o600
            ids = {received.id for received in receiver.received}
            assert waiting(old) == ids, "what was in memory only was written first"
            assert "is there already" in run(old, "backup", str(archive), code=1)
            assert "waiting" in run(old, "backup", str(archive), "--force")
        old.directory.rename(tmp_path / "broken")  # the card died
        receiver.answer = lambda path, headers, body: Reply()
        receiver.received.clear()

        new = daemon(tmp_path / "new", broker, receiver)
        new.config.unlink()
        told = run(new, "restore", str(archive))
        assert f"restored {new.directory}/outbox.db: {LETTERS} waiting, 0 dead" in told
        assert "let none run on the old machine" in told
        assert stat.S_IMODE(new.config.stat().st_mode) == 0o600
        assert new.config.read_text() == (tmp_path / "broken" / "config.toml").read_text()
        new.admin_port = old.admin_port
        with new:
            run(new, "queue", "retry", "--all")
            until(lambda: len(receiver.accepted) >= LETTERS, "all to arrive from the new house")
            assert {received.id for received in receiver.accepted} == ids
            until(lambda: not waiting(new), "nothing to wait any more")
            assert new.metrics()["mqtthook_ledger_imbalance"] == 0


def test_what_was_delivered_since_goes_again_with_the_same_id(tmp_path: Path, broker: Mosquitto) -> None:
    archive = tmp_path / "b.zip"
    with Receiver(down) as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        with house, device(broker.port) as sensor:
            sensor.publish("hall/door", "open")
            until(lambda: receiver.received, "it to be tried")
            run(house, "backup", str(archive))
            receiver.answer = lambda path, headers, body: Reply()
            run(house, "queue", "retry", "--all")
            until(lambda: receiver.accepted, "it to be delivered")
            assert "a daemon runs on" in run(house, "restore", str(archive), "--force", code=1)
            house.stop()
            told = run(house, "restore", str(archive), "--outbox-only", "--force")
            kept = next(path for path in house.directory.iterdir() if path.name.startswith("outbox.db.before-"))
            assert f"kept in {kept}" in told
            house.start()
            run(house, "queue", "retry", "--all")
            until(lambda: len(receiver.accepted) == 2, "it to come again")
            assert len({received.id for received in receiver.accepted}) == 1


def test_nothing_is_overwritten_or_touched_unasked(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(down) as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        house.start()
        house.stop()
    archive = tmp_path / "b.zip"
    run(house, "backup", str(archive))
    before = contents(house)
    assert "are there already; with --force" in run(house, "restore", str(archive), code=1)
    whole = archive.read_bytes()
    for data, expected in ((whole[:-100], "cut off"), (b"", "no zip file"), (b"PK\x03\x04" + bytes(500), "no zip file")):
        archive.write_bytes(data)
        told = run(house, "restore", str(archive), "--force", code=1)
        assert expected in told
        assert "nothing was changed" in told
    archive.write_bytes(whole)
    with zipfile.ZipFile(archive, "a") as changed:
        changed.writestr("../escaped", "x")
    assert "'../escaped', which no backup" in run(house, "restore", str(archive), "--force", code=1)
    assert "No such file" in run(house, "restore", str(tmp_path / "none.zip"), code=1)
    assert contents(house) == before
    assert not (tmp_path / "escaped").exists()


def contents(house: Daemon) -> dict[str, bytes]:
    """Return what lies in a house, but for SQLite's empty log and its index, which come with looking."""
    return {path.name: path.read_bytes() for path in house.directory.iterdir() if path.is_file() and not path.name.endswith(("-wal", "-shm"))}


def test_half_of_it_can_be_restored(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(down) as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        house.start()
        house.stop()
    archive = tmp_path / "b.zip"
    run(house, "backup", str(archive))
    text = house.config.read_text()
    house.config.write_text(text + "# changed since\n")
    house.config.chmod(0o640)
    run(house, "restore", str(archive), "--config-only", "--force")
    assert house.config.read_text() == text
    assert stat.S_IMODE(house.config.stat().st_mode) == 0o640, "who could read the one there can read this one"
    assert not list(house.directory.glob("outbox.db.before-*"))
    (house.directory / "outbox.db").unlink()
    house.config.unlink()
    assert "outbox.db: 0 waiting" in run(house, "restore", str(archive), "--outbox-only")
    assert not house.config.exists()
    assert "not both" in run(house, "restore", str(archive), "--outbox-only", "--config-only", code=2)


def test_secrets_that_are_elsewhere_are_named(tmp_path: Path, broker: Mosquitto) -> None:
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver, secret=f"file:{secret}")
    told = run(house, "backup", str(tmp_path / "b.zip"))
    assert f"not in it: outbound.hall.secret = file:{secret}" in told
    assert "no outbox: there is none yet" in told
    found = house.json("backup", str(tmp_path / "c.zip"))
    assert found["not_included"] == [f"outbound.hall.secret = file:{secret}"]
    assert found["contents"]["outbox"] is None
    house.config.unlink()
    secret.unlink()
    told = run(house, "restore", str(tmp_path / "b.zip"))
    assert f"to be put there by you: outbound.hall.secret = file:{secret}" in told, "what is missing here is no reason not to restore"


def test_a_full_disk_leaves_no_half_file(tmp_path: Path, broker: Mosquitto) -> None:
    """A file that may not grow stands for a disk that has no room: the write in the middle fails, as it would there."""
    with Receiver(down) as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        with house, device(broker.port) as sensor:
            for n in range(40):
                sensor.publish(f"hall/{n}", os.urandom(2_000).hex())
            until(lambda: len(waiting(house)) == 40, "them to wait")
        archive = tmp_path / "usb" / "b.zip"
        archive.parent.mkdir()
        for limit in (1, 40_000, 90_000, 130_000):
            limited = subprocess.run(
                [*COMMAND, "backup", str(archive), "--config", str(house.config)],
                capture_output=True, text=True, cwd=house.directory, env=house.environment, timeout=60, check=False,
                preexec_fn=lambda limit=limit: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),  # type: ignore[misc]
            )  # fmt: skip
            assert limited.returncode == 1, (limit, limited.stdout, limited.stderr)
            assert "it can't be written" in limited.stderr
            assert "Traceback" not in limited.stderr
            assert not list(archive.parent.iterdir())
        run(house, "backup", str(archive))


def test_killed_at_any_moment_a_backup_is_whole_or_not_there(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(down) as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        house.start()
        house.stop()
    archive = tmp_path / "usb" / "b.zip"
    archive.parent.mkdir()
    running = subprocess.Popen([*COMMAND, "backup", str(archive), "--config", str(house.config)], cwd=house.directory, env=house.environment)
    until(lambda: running.poll() is not None or any(archive.parent.iterdir()), "it to begin")
    running.send_signal(signal.SIGKILL)
    running.wait(20)
    if archive.exists():
        assert "restored" in run(house, "restore", str(archive), "--force")
    run(house, "backup", str(archive), "--force")
    assert [path.name for path in archive.parent.iterdir()] == ["b.zip"], "what the first left is cleared away"


@pytest.mark.parametrize("place", ["", "nowhere/b.zip"])
def test_a_place_that_is_none_is_said(tmp_path: Path, broker: Mosquitto, place: str) -> None:
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
    told = run(house, "backup", str(tmp_path / place), code=2 if not place else 1)
    assert ("name a file" if not place else "there is no directory") in told


def test_an_outbox_of_the_first_version_moves_too(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        first_version(house.directory / "outbox.db", letters=4)
        archive = tmp_path / "b.zip"
        assert "3 waiting, 1 dead" in run(house, "backup", str(archive))
        shutil.rmtree(house.directory / "outbox.db", ignore_errors=True)
        (house.directory / "outbox.db").unlink()
        run(house, "restore", str(archive), "--outbox-only")
        house.start()
        try:
            assert house.metrics()['mqtthook_dead_letters{mapping="hall"}'] == 1
            assert "outbox brought up to date from=1 to=2" in house.log
            assert (house.directory / "outbox.db.v1").exists()
        finally:
            house.stop()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")
def test_what_root_restores_belongs_to_the_service(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
        house.start()
        house.stop()
    archive = tmp_path / "b.zip"
    run(house, "backup", str(archive))
    for path in house.directory.iterdir():
        path.unlink()
    os.chown(house.directory, 61_234, 61_235)
    run(house, "restore", str(archive))
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in house.directory.iterdir()}
    assert owners == dict.fromkeys(("config.toml", "outbox.db", "outbox.db.lock"), (61_234, 61_235))


def test_what_a_full_outbox_could_not_take_is_said_to_be_missing(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(down) as receiver:
        house = daemon(tmp_path / "house", broker, receiver, store='max_size = "300KiB"')
        with house, device(broker.port) as sensor:
            for n in range(100):
                sensor.publish(f"hall/{n}", os.urandom(4_000).hex())
            until(lambda: house.metrics()["mqtthook_outbox_full"] == 1, "it to be full")
            assert "letters are in the daemon's memory only" in run(house, "backup", str(tmp_path / "b.zip"))


def test_a_large_one_shows_a_bar_on_a_terminal(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        house = daemon(tmp_path / "house", broker, receiver)
    first_version(house.directory / "outbox.db", letters=8_000)
    for arguments, expected in ((["backup", str(tmp_path / "b.zip")], b"saving"), (["restore", str(tmp_path / "b.zip"), "--force"], b"restoring")):
        ours, theirs = pty.openpty()
        command = [*COMMAND, *arguments, "--config", str(house.config)]
        working = subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=house.directory, env=house.environment | {"TERM": "xterm"})
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while part := os.read(ours, 4096):
                shown += part
        os.close(ours)
        assert working.wait(30) == 0, shown
        assert expected in shown
        assert b"100%" in shown
