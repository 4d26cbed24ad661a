"""The machine: what its clock, its disk and its kernel say, for `mqtthook doctor`. Only looks, and never for long.

Paths begin at a root, so that tests can show it another machine's files. What isn't there isn't told: None.
"""

import ctypes
import os
import stat
from contextlib import suppress
from pathlib import Path

from bridge.rules.diagnosis import Machine

UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")
WANTED = "etc/systemd/system/multi-user.target.wants/mqtthook.service"
THROTTLED = "sys/devices/platform/soc/soc:firmware/get_throttled"  # a Pi's firmware, in hexadecimal
LOW_VOLTAGE = "sys/class/hwmon/hwmon*/in0_lcrit_alarm"  # the same from the driver raspberrypi-hwmon: 1 once it was too low
SYNCHRONIZED = "run/systemd/timesync/synchronized"  # systemd-timesyncd.service(8); it is empty, and as old as the last answer
MOSQUITTO = ("etc/mosquitto/mosquitto.conf", "etc/mosquitto/conf.d/*.conf")

TIMEX_BYTES = 256  # struct timex has 208 at most; adjtimex(2)
TIME_ERROR = 5  # what adjtimex(2) returns where the clock is not synchronized


def looked_at(directory: Path, *, root: Path = Path("/")) -> Machine:
    """Return how the machine does, its disk being the one of *directory*."""
    disk = os.statvfs(directory)
    return Machine(
        clock_set=_clock_set(root),
        installed_at=_installed_at(),
        free_bytes=disk.f_bavail * disk.f_frsize,
        disk_bytes=disk.f_blocks * disk.f_frsize,
        read_only=bool(disk.f_flag & os.ST_RDONLY),
        throttled=_number(root / THROTTLED, 16),
        low_voltage=any(_number(path, 10) == 1 for path in root.glob(LOW_VOLTAGE)),
        enabled=os.path.lexists(root / WANTED) if any((root / place / "mqtthook.service").exists() for place in UNITS) else None,
    )


def mode_of(path: Path) -> int | None:
    """Return a file's permissions, None if there is none; raise PermissionError where this user may not look."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return None


def broker_config(*, root: Path = Path("/")) -> list[str] | None:
    """Return the texts of Mosquitto's config on this machine in the order in which it reads them, None if they can't be read."""
    paths = [path for pattern in MOSQUITTO for path in sorted(root.glob(pattern))]
    try:
        return [path.read_text("utf-8", "replace") for path in paths] or None
    except OSError:
        return None


def _clock_set(root: Path) -> bool | None:
    if (root / SYNCHRONIZED).exists():
        return True
    if root != Path("/"):
        return None if not (root / SYNCHRONIZED).parent.exists() else False
    return _kernel_says_set()


def _kernel_says_set() -> bool | None:
    """Return what the kernel was told by chrony or another; True and False as they say, None where it can't be asked."""
    with suppress(OSError, AttributeError):
        found = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(TIMEX_BYTES))  # all zeros: it changes nothing
        return None if found < 0 else found != TIME_ERROR
    return None


def _installed_at() -> float | None:
    with suppress(OSError):
        return Path(__file__).stat().st_mtime
    return None


def _number(path: Path, base: int) -> int | None:
    try:
        return int(path.read_text().strip(), base)
    except (OSError, ValueError):
        return None
