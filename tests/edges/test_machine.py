"""The machine, as another machine's files show it."""

import os
from pathlib import Path

import pytest

from bridge.edges.machine import LOW_VOLTAGE, SYNCHRONIZED, THROTTLED, WANTED, broker_config, looked_at, mode_of


def write(root: Path, place: str, text: str = "") -> Path:
    path = root / place.replace("*", "3")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_machine_that_tells_nothing(tmp_path: Path) -> None:
    seen = looked_at(tmp_path, root=tmp_path)
    assert (seen.clock_set, seen.throttled, seen.low_voltage, seen.enabled) == (None, None, False, None)
    assert 0 < seen.free_bytes <= seen.disk_bytes
    assert not seen.read_only
    assert seen.installed_at is not None


def test_the_real_one_can_be_looked_at(tmp_path: Path) -> None:
    assert looked_at(tmp_path).clock_set in (True, False, None)


def test_the_clock_is_set_once_timesyncd_says_so(tmp_path: Path) -> None:
    (tmp_path / SYNCHRONIZED).parent.mkdir(parents=True)
    assert looked_at(tmp_path, root=tmp_path).clock_set is False
    write(tmp_path, SYNCHRONIZED)
    assert looked_at(tmp_path, root=tmp_path).clock_set is True


@pytest.mark.parametrize(("text", "expected"), [("50005\n", 0x50005), ("0\n", 0), ("", None), ("what?\n", None)])
def test_the_firmware_is_asked_in_hexadecimal(tmp_path: Path, text: str, expected: int | None) -> None:
    write(tmp_path, THROTTLED, text)
    assert looked_at(tmp_path, root=tmp_path).throttled == expected


@pytest.mark.parametrize(("text", "expected"), [("1\n", True), ("0\n", False)])
def test_the_driver_is_asked_too(tmp_path: Path, text: str, expected: bool) -> None:
    write(tmp_path, LOW_VOLTAGE, text)
    assert looked_at(tmp_path, root=tmp_path).low_voltage is expected


def test_a_service_is_enabled_by_a_link(tmp_path: Path) -> None:
    write(tmp_path, "etc/systemd/system/mqtthook.service")
    assert looked_at(tmp_path, root=tmp_path).enabled is False
    link = tmp_path / WANTED
    link.parent.mkdir()
    link.symlink_to("/etc/systemd/system/mqtthook.service")  # which isn't there, under this root
    assert looked_at(tmp_path, root=tmp_path).enabled is True


def test_permissions_of_what_is_there_and_of_what_is_not(tmp_path: Path) -> None:
    file = write(tmp_path, "secret")
    file.chmod(0o640)
    assert mode_of(file) == 0o640
    assert mode_of(tmp_path / "none") is None
    assert mode_of(file / "below") is None


def test_the_broker_files_are_read_in_its_order(tmp_path: Path) -> None:
    assert broker_config(root=tmp_path) is None
    write(tmp_path, "etc/mosquitto/conf.d/b.conf", "two")
    write(tmp_path, "etc/mosquitto/conf.d/a.conf", "one")
    write(tmp_path, "etc/mosquitto/conf.d/c.txt", "no")
    write(tmp_path, "etc/mosquitto/mosquitto.conf", "first")
    assert broker_config(root=tmp_path) == ["first", "one", "two"]


@pytest.mark.skipif(not os.path.ismount("/sys") or not os.statvfs("/sys").f_flag & os.ST_RDONLY, reason="needs a mount that can only be read")
def test_a_disk_that_can_only_be_read() -> None:
    assert looked_at(Path("/sys")).read_only
