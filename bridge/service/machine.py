"""The machine that the service is for: looked at, and changed one step at a time.

The only module that touches it. A file is there whole or not at all, and never for a moment with rights that it shall
not have. In an image (*root*) nothing is started, and nothing outside it is touched.
"""

import os
import pwd
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Literal

import bridge
from bridge.errors import BridgeError
from bridge.service.plan import (
    COMMAND,
    CONFIG,
    CREDENTIAL_DIRECTORY,
    DROP_INS,
    PRIVATE_STATE,
    STATE,
    UNITS,
    USER,
    Act,
    AddUser,
    Entry,
    Found,
    Link,
    Make,
    Own,
    Program,
    Remove,
    RemoveUser,
    Systemctl,
    Write,
)
from bridge.service.unit import OLDEST, SERVICE, SOCKET

BOOTED = Path("/run/systemd/system")  # sd_booted(3)

_VERSION = re.compile(r"libsystemd-shared-(\d{3})\b.*\.so")
_LIBRARIES = ("usr/lib/systemd", "usr/lib/*/systemd", "usr/lib64/systemd", "lib/systemd")

START_S = 330.0  # as long as the unit gives a start, and some


def unit_text(name: str) -> str | None:
    """Return a unit file as it comes with the program, None if none of that name does."""
    package = Path(bridge.__file__).parent
    for path in (package / "unit_files" / name, package.parent / "systemd" / name):  # as installed; in a checkout
        if path.is_file():
            return path.read_text(encoding="utf-8")
    return None


def this_program(root: Path | None) -> Program:
    """Return the program that runs now, as the service would find it."""
    command = Path(sys.prefix) / "bin" / COMMAND.name
    python = Path(sys.executable)
    places = tuple(dict.fromkeys((Path(sys.prefix), *(Path(os.path.realpath(place)) for place in (sys.prefix, sys.base_prefix, python)))))
    inside = tuple(_inside(place, root) for place in places)
    if not command.exists():
        return Program(command=None, places=inside)
    closed = next((_inside(place, root) for path in (command, python.resolve(), Path(os.__file__).resolve()) for place in _closed(path, root)), None)
    return Program(command=_inside(command, root), places=inside, closed=closed)


def _closed(path: Path, root: Path | None) -> Iterator[Path]:
    """Yield what not everybody may read or enter, from the root down; what leads to an image counts for nothing in it."""
    parts = (*reversed(path.parents), path)
    for place in parts[parts.index(root) if root in parts else 0 :]:
        needed = 0o001 if place.is_dir() else 0o004
        if not place.stat().st_mode & needed:
            yield place


def _inside(path: Path, root: Path | None) -> Path:
    """Return a path as it is called within an image, where it is there."""
    return Path("/") / path.relative_to(root) if root is not None and path.is_relative_to(root) else path


class Machine:
    """This machine, or with *root* the image there."""

    def __init__(self, root: Path | None = None) -> None:
        self._root = root

    def at(self, path: Path) -> Path:
        """Return where a path of the machine is, seen from here."""
        return path if self._root is None else self._root / path.relative_to("/")

    # --- looking ---

    def look(self) -> Found:
        """Return what there is of the service; what may not be looked at counts as not there."""
        offline = self._root is not None
        return Found(
            systemd=self._systemd(),
            offline=offline,
            user=self._ids("passwd") is not None,
            entries={path: entry for path in self._paths() if (entry := self._entry(path)) is not None},
            enabled=frozenset(name for name in (SERVICE, SOCKET) if self._says("is-enabled", name)),
            active=frozenset(name for name in (SERVICE, SOCKET) if not offline and self._says("is-active", name)),
        )

    def _systemd(self) -> int | None:
        """Return the version of systemd, by its library's name: nothing of an image can be started."""
        if self._root is None and not BOOTED.is_dir():
            return None
        names = chain.from_iterable(self.at(Path("/")).glob(f"{place}/libsystemd-shared-*") for place in _LIBRARIES)
        versions = [int(found[1]) for path in names if (found := _VERSION.fullmatch(path.name)) is not None]
        return max(versions, default=OLDEST)

    def _paths(self) -> Iterator[Path]:
        yield from (CONFIG.parent, CREDENTIAL_DIRECTORY, STATE, PRIVATE_STATE, COMMAND, DROP_INS, UNITS / SERVICE, UNITS / SOCKET)
        for directory in (CONFIG.parent, CREDENTIAL_DIRECTORY):
            try:
                yield from (directory / name for name in sorted(os.listdir(self.at(directory))))
            except OSError:
                continue

    def _entry(self, path: Path) -> Entry | None:
        place = self.at(path)
        try:
            found = place.lstat()
            if stat.S_ISLNK(found.st_mode):
                return Entry(kind="link", text=os.readlink(place))
            text = place.read_text(encoding="utf-8", errors="replace") if path.parent == UNITS and place.is_file() else None
        except OSError:
            return None
        user, group = (self._ids(base) for base in ("passwd", "group"))
        kind: Literal["file", "directory"] = "file" if stat.S_ISREG(found.st_mode) else "directory"
        return Entry(kind=kind, owner=_name(found.st_uid, user), group=_name(found.st_gid, group), mode=stat.S_IMODE(found.st_mode), text=text)

    def _ids(self, base: str) -> int | None:
        """Return the number of our user ("passwd") or group ("group"), None if there is none."""
        if self._root is None and base == "passwd":
            try:
                return pwd.getpwnam(USER).pw_uid
            except KeyError:
                return None
        try:
            lines = self.at(Path("/etc") / base).read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return None
        return next((int(fields[2]) for line in lines if (fields := line.split(":"))[0] == USER), None)

    def _says(self, question: str, name: str) -> bool:
        try:
            return subprocess.run(self._systemctl(question, "--quiet", name), capture_output=True, check=False, timeout=START_S).returncode == 0  # noqa: S603 - no shell, words of ours
        except (OSError, subprocess.TimeoutExpired):
            return False

    # --- doing ---

    def carry_out(self, act: Act) -> None:
        """Do one step; raise BridgeError with what failed."""
        try:
            self._carry_out(act)
        except OSError as exc:
            raise BridgeError(f"{exc.filename or 'this step'}: {exc.strerror}; what is said above it is done: mend that and call this again") from exc

    def _carry_out(self, act: Act) -> None:
        match act:
            case AddUser():
                self._run("useradd", *self._prefix(), "--system", "--user-group", "--no-create-home", "--home-dir", str(STATE), "--shell", "/usr/sbin/nologin", USER)
            case RemoveUser():
                self._run("userdel", *self._prefix(), USER)
            case Make(path):
                self.at(path).mkdir(mode=0o755, parents=True)
                self.at(path).chmod(0o755)
            case Write(path, text, group, mode, anew):
                self._write(self.at(path), text, group, mode, anew=anew)
            case Own(path, group, mode):
                self._own(self.at(path), group, mode)
            case Link(path, target):
                self.at(path).parent.mkdir(parents=True, exist_ok=True)
                self.at(path).unlink(missing_ok=True)
                self.at(path).symlink_to(target)
            case Remove(path):
                _remove(self.at(path))
            case Systemctl(arguments):
                self._run(*self._systemctl(*arguments))

    def _write(self, path: Path, text: str, group: str, mode: int, *, anew: bool) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", encoding="utf-8", delete=False) as file:
            try:
                os.fchown(file.fileno(), 0, self._number(group))
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
                if anew:
                    os.replace(file.name, path)
                else:
                    os.link(file.name, path)  # fails where something came there in the meantime
            finally:
                Path(file.name).unlink(missing_ok=True)

    def _own(self, path: Path, group: str, mode: int) -> None:
        """By the open file: what a link leads to is never touched."""
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            os.fchown(descriptor, 0, self._number(group))
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def _number(self, group: str) -> int:
        if group == "root":
            return 0
        if (number := self._ids("group")) is None:
            raise BridgeError(f"there is no group {group}")
        return number

    def _prefix(self) -> tuple[str, ...]:
        return () if self._root is None else ("--prefix", str(self._root))

    def _systemctl(self, *arguments: str) -> tuple[str, ...]:
        return ("systemctl", *(() if self._root is None else (f"--root={self._root}",)), *arguments)

    def _run(self, *command: str) -> None:
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=START_S)  # noqa: S603 - no shell, words of ours
        except FileNotFoundError as exc:
            raise BridgeError(f"{command[0]} is not installed; this needs it") from exc
        except subprocess.TimeoutExpired as exc:
            raise BridgeError(f"`{' '.join(command)}` has not ended within {START_S:.0f} s") from exc
        if run.returncode != 0:
            hint = f"; `journalctl -u {SERVICE} -n 20` tells more" if command[0] == "systemctl" else ""
            raise BridgeError(f"`{' '.join(command)}` failed (exit code {run.returncode}): {' '.join(run.stderr.split()) or 'it said nothing'}{hint}")


def _name(number: int, ours: int | None) -> str:
    return "root" if number == 0 else USER if number == ours else str(number)


def _remove(path: Path) -> None:
    if path.is_symlink() or not path.is_dir():
        path.unlink()
    else:
        shutil.rmtree(path)
