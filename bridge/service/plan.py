"""What makes mqtthook a service: what a machine has of it already, and what is to be done there, step by step.

Pure: it is told what was found, and returns steps; `machine` looks and carries out. Every step can be said twice:
one that is so already is done by nobody. Nothing that holds a person's work is overwritten.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from bridge.service.unit import CREDENTIAL, CREDENTIALS, OLDEST, SERVICE, SOCKET

USER = "mqtthook"

CONFIG = Path("/etc/mqtthook/config.toml")
CREDENTIAL_DIRECTORY = Path(CREDENTIALS)
STATE = Path("/var/lib/mqtthook")
PRIVATE_STATE = Path("/var/lib/private/mqtthook")  # where a unit with DynamicUser=yes had it
UNITS = Path("/etc/systemd/system")
DROP_INS = UNITS / f"{SERVICE}.d"  # where `systemctl edit` writes
COMMAND = Path("/usr/local/bin/mqtthook")  # on root's and everybody's PATH

HIDDEN = (Path("/home"), Path("/root"), Path("/run/user"), Path("/tmp"), Path("/var/tmp"))  # by ProtectHome= and PrivateTmp=  # noqa: S108
PUBLIC = (".pem", ".crt", ".cer")  # certificates, which others may read; a key in such a file is told by `check`

PLACE = "/opt/mqtthook/.venv"  # where docs/install.md has it
PROGRAM = Path(PLACE) / "bin" / COMMAND.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A file, directory or link that is there; *text* is a unit's or a link's target, else None."""

    kind: Literal["file", "directory", "link"]
    owner: str = "root"
    group: str = "root"
    mode: int = 0o644
    text: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is so on a machine; *systemd* is its version, None without one, *offline* True for an image that doesn't run."""

    systemd: int | None
    offline: bool = False
    user: bool = False
    entries: Mapping[Path, Entry] = field(default_factory=dict)
    enabled: frozenset[str] = frozenset()
    active: frozenset[str] = frozenset()

    def within(self, directory: Path) -> Iterator[tuple[Path, Entry]]:
        """Yield the files right in a directory, by name."""
        return ((path, entry) for path, entry in sorted(self.entries.items()) if path.parent == directory and entry.kind == "file")

    def credentials(self) -> list[str]:
        """Return the names of the credentials whose files are there."""
        return [path.name for path, _ in self.within(CREDENTIAL_DIRECTORY) if CREDENTIAL.fullmatch(path.name)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """The program that the service shall run; *command* is None where it isn't installed.

    *places* is where it, its libraries and its Python really are, *closed* the first part of these that not everybody
    may read or enter, None if there is none.
    """

    command: Path | None
    places: tuple[Path, ...]
    closed: Path | None = None


# --- steps ---


@dataclass(frozen=True, slots=True)
class AddUser:
    """A system user without a home of its own, and a group of the same name."""


@dataclass(frozen=True, slots=True)
class RemoveUser:
    """That user and group, gone."""


@dataclass(frozen=True, slots=True)
class Make:
    """A directory of root's that everybody may enter."""

    path: Path


@dataclass(frozen=True, slots=True)
class Write:
    """A file of root's; one that is there is overwritten only where *anew* is True."""

    path: Path
    text: str = field(repr=False)
    group: str
    mode: int
    anew: bool


@dataclass(frozen=True, slots=True)
class Own:
    """A path of root's, with this group and mode."""

    path: Path
    group: str
    mode: int


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link."""

    path: Path
    target: Path


@dataclass(frozen=True, slots=True)
class Remove:
    """A file, a link, or a directory with all that is in it, gone."""

    path: Path


@dataclass(frozen=True, slots=True)
class Systemctl:
    """A word to systemd."""

    arguments: tuple[str, ...]


Act = AddUser | RemoveUser | Make | Write | Own | Link | Remove | Systemctl


@dataclass(frozen=True, slots=True)
class Step:
    """What shall be so, in words, and how it comes to be; *act* is None where it is so already."""

    what: str
    act: Act | None


# --- what is in the way ---


def obstacle(found: Found, program: Program) -> str | None:
    """Return why the service can't be installed and what to do, or None if it can."""
    if found.systemd is None:
        return "systemd doesn't run here; start `mqtthook run` by what starts programs on this machine, or give --root for an image that has systemd"
    if found.systemd < OLDEST:
        return f"this machine has systemd {found.systemd}, expected {OLDEST} or newer: Debian 11 has it"
    if program.command is None:
        return f"mqtthook is not installed where it runs from ({program.places[0]}): install it, e.g. in a virtual environment of its own at {PLACE}"
    for place in program.places:
        for hidden in HIDDEN:
            if place.is_relative_to(hidden):
                return f"the service would not see its program: it lies in {place}, and its sandbox hides {hidden}. {_elsewhere(place)}"
    if program.closed is not None:
        return f"the service could not read its program: {program.closed} is closed to others. Let it be read: chmod -R o+rX {program.closed}"
    return None


def _elsewhere(place: Path) -> str:
    if "pipx" in place.parts:
        return "Install it for all: sudo env PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install (what you installed); then sudo mqtthook install-service"
    if any(part in place.parts for part in (".pyenv", "uv")):
        return f"Make a virtual environment with the system's own Python: sudo /usr/bin/python3 -m venv {PLACE}, and install it there"
    return f"Install it elsewhere: sudo python3 -m venv {PLACE}, then with {PLACE}/bin/pip what you installed here, then sudo {PLACE}/bin/mqtthook install-service"


# --- the way in ---


def prepared(found: Found, first: Mapping[Path, str]) -> Iterator[Step]:
    """Yield the steps to a user, a config that the service may read, and nobody else; *first* are the files of a first config."""
    yield Step(f"user {USER}", None if found.user else AddUser())
    directory = CONFIG.parent
    yield Step(f"directory {directory}", None if directory in found.entries else Make(directory))
    missing = {path: text for path, text in first.items() if path not in found.entries} if CONFIG not in found.entries else {}
    for path, text in missing.items():
        yield Step(f"{'first config' if path == CONFIG else 'its secret'} {path} (root:{USER} 0640)", Write(path, text, USER, 0o640, anew=False))
    for path, entry in found.within(directory):
        yield Step(f"{path} is read by the service, not by others (root:{USER} 0640)", None if _is_closed(path, entry) else Own(path, USER, 0o640))
    if CREDENTIAL_DIRECTORY in found.entries:
        yield from _credentials_closed(found)


def _is_closed(path: Path, entry: Entry) -> bool:
    service_reads = (entry.group == USER and entry.mode & 0o040) or entry.mode & 0o004
    others_may = entry.mode & 0o007 and not (entry.mode & 0o007 == 0o004 and path.suffix in PUBLIC)
    return bool(service_reads) and not others_may and entry.owner == "root" and not entry.mode & 0o020


def _credentials_closed(found: Found) -> Iterator[Step]:
    wanted = {CREDENTIAL_DIRECTORY: 0o700} | {path: 0o600 for path, _ in found.within(CREDENTIAL_DIRECTORY)}
    for path, mode in wanted.items():
        entry = found.entries[path]
        is_so = entry.owner == "root" and not entry.mode & 0o077
        yield Step(f"{path} is root's alone ({mode:04o})", None if is_so else Own(path, "root", mode))


def installed(found: Found, program: Path, units: Mapping[str, str], *, start: bool) -> Iterator[Step]:
    """Yield the steps to these unit files, known to systemd, enabled, and started if *start* is True."""
    if program != COMMAND:
        yield _linked(found, program)
    changed = {name for name, text in units.items() if _text(found, UNITS / name) != text}
    for name, text in units.items():
        path = UNITS / name
        yield Step(f"unit {path}", Write(path, text, "root", 0o644, anew=True) if name in changed else None)
    if not found.offline:
        yield Step("systemd has read its units", Systemctl(("daemon-reload",)) if changed else None)
    yield from _started(found, units, changed, start=start and not found.offline)


def _linked(found: Found, program: Path) -> Step:
    entry = found.entries.get(COMMAND)
    if entry is not None and entry.kind != "link":
        return Step(f"{COMMAND} is another program, and stays; call this one as {program}", None)
    return Step(f"command {COMMAND}, a link to {program}", None if entry is not None and entry.text == str(program) else Link(COMMAND, program))


def _text(found: Found, path: Path) -> str | None:
    return found.entries[path].text if path in found.entries else None


def _started(found: Found, units: Mapping[str, str], changed: set[str], *, start: bool) -> Iterator[Step]:
    """The socket before the service, and never beside one that listens for itself."""
    stopped = start and SOCKET in units and SOCKET not in found.active and SERVICE in found.active
    if stopped:
        yield Step(f"{SERVICE} is stopped until its socket listens", Systemctl(("stop", SERVICE)))
    for name in sorted(units, key=lambda name: name != SOCKET):
        is_active = name in found.active and not (stopped and name == SERVICE)
        what = f"{name} is started at boot{', and runs' if start else ''}"
        if name not in found.enabled or (start and not is_active):
            yield Step(what, Systemctl(("enable", "--now", name) if start else ("enable", name)))
        else:
            yield Step(what, None)
        if start and is_active and name in changed:
            yield Step(f"{name} runs as its new unit says", Systemctl(("restart", name)))


# --- the way out ---


def uninstalled(found: Found, *, purge: bool) -> Iterator[Step]:
    """Yield the steps to a machine without the service; config, outbox and user are removed only where *purge* is True."""
    there = [name for name in (SOCKET, SERVICE) if UNITS / name in found.entries]
    for name in there:
        is_so = name not in found.enabled and name not in found.active
        now = () if found.offline else ("--now",)
        yield Step(f"{name} is stopped, and not started at boot", None if is_so else Systemctl(("disable", *now, name)))
    for name in (SERVICE, SOCKET) if there else (SERVICE,):
        yield _removed(found, UNITS / name, "unit")
    if there and not found.offline:
        yield Step("systemd has read its units", Systemctl(("daemon-reload",)))
    if purge:
        if (entry := found.entries.get(COMMAND)) is not None and entry.text is not None and Path(entry.text).name == COMMAND.name:
            yield _removed(found, COMMAND, "command")
        for path in (DROP_INS, CONFIG.parent, STATE, PRIVATE_STATE):
            yield _removed(found, path, "all of")
        yield Step(f"no user {USER}", RemoveUser() if found.user else None)


def _removed(found: Found, path: Path, what: str) -> Step:
    return Step(f"{what} {path} is gone", Remove(path) if path in found.entries else None)
