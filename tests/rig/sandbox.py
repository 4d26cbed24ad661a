"""What the unit's directives do to a program, done without systemd: `python -m tests.rig.sandbox UNIT DIRECTORY COMMAND...`.

As root. The unit file says what is done; DIRECTORY/state is the only place that stays writable. Two tables say which
directive is carried out here and which needs systemd itself, so that none is forgotten. How systemd does it:
systemd.exec(5) and its seccomp-util.c.
"""

import ctypes
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyseccomp as seccomp

from tests.rig.unit_file import directives

USER = 61_184  # the first of the numbers that systemd keeps for users without a name: nobody has it

NEWNS, NEWUTS, NEWUSER = 0x20000, 0x4000000, 0x10000000  # linux/sched.h
NAMESPACES = NEWNS | NEWUTS | NEWUSER | 0x20 | 0x2000000 | 0x8000000 | 0x20000000 | 0x40000000
BIND, REC, PRIVATE, MOVE, NOSUID, NODEV, RDONLY = 0x1000, 0x4000, 0x40000, 0x2000, 0x2, 0x4, 0x1  # linux/mount.h
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE = 442, -100, 0x8000
SET_NO_NEW_PRIVS, CAPBSET_DROP = 38, 24  # linux/prctl.h

DEVICES = ("null", "zero", "full", "random", "urandom", "tty")  # what PrivateDevices= leaves
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
LAST_FAMILY = 46  # linux/socket.h, AF_MCTP and some

IMPLIED = ["@default", "execve", "exit", "exit_group"]  # what a list of what is allowed always allows

libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


class Sandbox:
    """The directives of a unit, carried out on this process."""

    def __init__(self, unit: Path, directory: Path) -> None:
        self.directory = directory
        self.said: dict[str, list[str]] = {}
        for directive in directives(unit.read_text()):
            if directive.section == "Service" and directive.since is None:
                self.said.setdefault(directive.name, []).append(directive.value)
        self.calls = system_calls(self.said["SystemCallFilter"])  # asked before systemd's own files can be out of sight
        self.capabilities = int(Path("/proc/sys/kernel/cap_last_cap").read_text())

    def enter(self) -> None:
        """Carry them out, those that need root's powers first, and the system calls last."""
        own_users = in_own_users()
        self._mount_namespace()
        self.settle(MOUNTS)
        self.settle(LIMITS)
        if self.said.get("PrivateUsers") == ["yes"]:
            own_users()
        self._user()
        self.settle(CALLS)

    def settle(self, table: dict[str, Callable[["Sandbox", list[str]], None]]) -> None:
        for name, act in table.items():
            if name in self.said and self.said[name] != ["no"]:
                act(self, self.said[name])

    def _mount_namespace(self) -> None:
        checked(libc.unshare(NEWNS), "unshare")
        mount(None, "/", None, REC | PRIVATE)
        state = self.directory / "state"
        mount(str(state), str(state), None, BIND)
        for name, source in (("python", sys.base_prefix), ("libraries", site_packages()), ("program", str(Path(__file__).parents[2]))):
            mount(source, str(self.directory / name), None, BIND | REC)

    def _user(self) -> None:
        """Become the user, without any of root's powers where the unit says so."""
        if self.said.get("CapabilityBoundingSet") == [""]:
            for number in range(self.capabilities + 1):
                checked(libc.prctl(CAPBSET_DROP, number, 0, 0, 0), "PR_CAPBSET_DROP")
        os.setgroups([])
        os.setresgid(USER, USER, USER)
        os.setresuid(USER, USER, USER)


# --- what is seen ---


def mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    checked(libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]), f"mount {target}")


def set_read_only(target: str, *, on: bool) -> None:
    attributes = (ctypes.c_uint64 * 4)(RDONLY if on else 0, 0 if on else RDONLY, 0, 0)
    flags = AT_RECURSIVE if on else 0
    checked(libc.syscall(MOUNT_SETATTR, AT_FDCWD, target.encode(), flags, attributes, ctypes.sizeof(attributes)), f"mount_setattr {target}")


def hide(*places: str, options: str) -> None:
    for place in places:
        if Path(place).is_dir():
            mount("tmpfs", place, "tmpfs", NOSUID | NODEV, options)


def devices(sandbox: Sandbox, _values: list[str]) -> None:
    new = sandbox.directory / "dev"
    mount("tmpfs", str(new), "tmpfs", NOSUID, "mode=755")
    for name in DEVICES:
        if Path("/dev", name).exists():
            (new / name).touch()
            mount(f"/dev/{name}", str(new / name), None, BIND)
    mount(str(new), "/dev", None, MOVE)


def processes(_sandbox: Sandbox, values: list[str]) -> None:
    mount("proc", "/proc", "proc", NOSUID | NODEV, f"hidepid={values[0]},subset=pid")


def read_only(sandbox: Sandbox, values: list[str]) -> None:
    assert values == ["strict"]
    set_read_only("/", on=True)
    for place in (str(sandbox.directory / "state"), "/tmp", "/var/tmp"):
        set_read_only(place, on=False)


def hostname(_sandbox: Sandbox, _values: list[str]) -> None:
    checked(libc.unshare(NEWUTS), "unshare")


def site_packages() -> str:
    return str(Path(seccomp.__file__).parent if Path(seccomp.__file__).name != "__init__.py" else Path(seccomp.__file__).parents[1])


def in_own_users() -> Callable[[], None]:
    """Return what enters a user namespace that knows root and the user alone; a child, which stays outside, writes its tables."""
    me, (left, entered) = os.getpid(), os.pipe()
    if (child := os.fork()) == 0:
        os.close(entered)
        if os.read(left, 1):
            for name in ("uid_map", "gid_map"):
                Path(f"/proc/{me}/{name}").write_text(f"0 0 1\n{USER} {USER} 1\n")
        os._exit(0)
    os.close(left)

    def enter() -> None:
        checked(libc.unshare(NEWUSER), "unshare")
        os.write(entered, b"x")
        assert os.waitpid(child, 0)[1] == 0, "the tables of users can't be written"

    return enter


def umask(_sandbox: Sandbox, values: list[str]) -> None:
    os.umask(int(values[0], 8))


# --- what may be called ---


def is_known(name: str) -> bool:
    """Return True if this machine has a call of that name, False if not: groups name those of other machines too."""
    return bool(seccomp.resolve_syscall(seccomp.Arch.NATIVE, name) >= 0)


def calls_of(group: str) -> Iterator[str]:
    """Yield the system calls of one of systemd's groups, or a single one's own name."""
    if not group.startswith("@"):
        yield group
        return
    listed = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", group], capture_output=True, text=True, check=True).stdout
    for line in listed.splitlines()[1:]:
        name = line.strip()
        if name and not name.startswith("#"):
            yield from calls_of(name)


def system_calls(unit: list[str]) -> set[str]:
    """Return the names that the lines of SystemCallFilter= leave."""
    left: set[str] = {name for group in IMPLIED for name in calls_of(group)}
    for line in unit:
        names = {name for group in line.removeprefix("~").split() for name in calls_of(group)}
        left = left - names if line.startswith("~") else left | names
    return left


def blocked(*rules: tuple[str, int, tuple[Any, ...]]) -> None:
    """Let these calls with these arguments fail with that error."""
    filter = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    for name, number, arguments in rules:
        filter.add_rule(seccomp.ERRNO(number), name, *arguments)
    filter.load()


def families(_sandbox: Sandbox, values: list[str]) -> None:
    allowed = {FAMILIES[name] for name in values[0].split()}
    rules = [("socket", errno.EAFNOSUPPORT, (seccomp.Arg(0, seccomp.EQ, number),)) for number in range(LAST_FAMILY) if number not in allowed]
    blocked(*rules, ("socket", errno.EAFNOSUPPORT, (seccomp.Arg(0, seccomp.GE, LAST_FAMILY),)))


def namespaces(_sandbox: Sandbox, _values: list[str]) -> None:
    flags = [1 << bit for bit in range(31) if NAMESPACES >> bit & 1]
    made = [("clone", errno.EPERM, (seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag),)) for flag in flags]
    blocked(("unshare", errno.EPERM, ()), ("setns", errno.EPERM, ()), ("clone3", errno.ENOSYS, ()), *made)


def realtime(_sandbox: Sandbox, _values: list[str]) -> None:
    blocked(*(("sched_setscheduler", errno.EPERM, (seccomp.Arg(1, seccomp.EQ, policy),)) for policy in (1, 2, 6)))


def set_id_bits(_sandbox: Sandbox, _values: list[str]) -> None:
    places = {"chmod": 1, "fchmod": 1, "fchmodat": 2}
    known = {name: place for name, place in places.items() if is_known(name)}
    blocked(*((name, errno.EPERM, (seccomp.Arg(place, seccomp.MASKED_EQ, bit, bit),)) for name, place in known.items() for bit in (0o4000, 0o2000)))


def personality(_sandbox: Sandbox, _values: list[str]) -> None:
    blocked(("personality", errno.EPERM, ()))


def no_new_privileges(_sandbox: Sandbox, _values: list[str]) -> None:
    checked(libc.prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0), "PR_SET_NO_NEW_PRIVS")


def no_writable_code(_sandbox: Sandbox, _values: list[str]) -> None:
    writable, executable = 0x2, 0x4  # asm-generic/mman-common.h
    both = seccomp.Arg(2, seccomp.MASKED_EQ, writable | executable, writable | executable)
    made = seccomp.Arg(2, seccomp.MASKED_EQ, executable, executable)
    rules = (("mmap", both), ("mmap2", both), ("mprotect", made), ("pkey_mprotect", made), ("shmat", seccomp.Arg(2, seccomp.MASKED_EQ, 0o100000, 0o100000)))
    blocked(*((name, errno.EPERM, (argument,)) for name, argument in rules if is_known(name)))


def only_these(sandbox: Sandbox, _values: list[str]) -> None:
    number = getattr(errno, sandbox.said["SystemCallErrorNumber"][0])
    filter = seccomp.SyscallFilter(defaction=seccomp.ERRNO(number))
    for name in sorted(sandbox.calls):
        if is_known(name):
            filter.add_rule(seccomp.ALLOW, name)
    filter.load()


# --- the tables ---

MOUNTS: dict[str, Callable[[Sandbox, list[str]], None]] = {
    "ProtectHostname": hostname,
    "ProtectHome": lambda _sandbox, _values: hide("/home", "/root", "/run/user", options="mode=000"),
    "PrivateTmp": lambda _sandbox, _values: hide("/tmp", "/var/tmp", options="mode=1777"),
    "PrivateDevices": devices,
    "ProtectProc": processes,
    "ProtectSystem": read_only,  # the last: nothing is mounted any more
}
LIMITS: dict[str, Callable[[Sandbox, list[str]], None]] = {
    "LimitNOFILE": lambda _sandbox, values: resource.setrlimit(resource.RLIMIT_NOFILE, (int(values[0]),) * 2),
    "LimitCORE": lambda _sandbox, values: resource.setrlimit(resource.RLIMIT_CORE, (int(values[0]),) * 2),
    "UMask": umask,
}
CALLS: dict[str, Callable[[Sandbox, list[str]], None]] = {
    "NoNewPrivileges": no_new_privileges,
    "MemoryDenyWriteExecute": no_writable_code,
    "RestrictAddressFamilies": families,
    "RestrictNamespaces": namespaces,
    "RestrictRealtime": realtime,
    "RestrictSUIDSGID": set_id_bits,
    "LockPersonality": personality,
    "SystemCallFilter": only_these,
}

ELSEWHERE = {  # carried out, but not by a row of its own
    "User": "a number without a name",
    "Group": "likewise",
    "StateDirectory": "DIRECTORY/state, with STATE_DIRECTORY",
    "StateDirectoryMode": "made by the test",
    "ConfigurationDirectory": "the config's own directory",
    "ProcSubset": "processes",
    "PrivateUsers": "in_own_users",
    "CapabilityBoundingSet": "_user",
    "AmbientCapabilities": "a new user has none",
    "PrivateMounts": "the namespace itself",
    "ProtectKernelTunables": "all is read-only",
    "ProtectControlGroups": "likewise",
    "SystemCallErrorNumber": "only_these",
    "SystemCallArchitectures": "the filters know the machine's own only",
}
NEEDS_SYSTEMD = {  # or a control group of its own, or adds to what a program without capabilities can't do anyway
    "Type", "NotifyAccess", "ExecStart", "ExecReload", "WatchdogSec", "TimeoutStartSec", "TimeoutStopSec", "Restart", "RestartSec", "RestartPreventExitStatus",
    "RestartSteps", "RestartMaxDelaySec", "DevicePolicy", "ProtectClock", "ProtectKernelModules", "ProtectKernelLogs", "RemoveIPC", "KeyringMode", "MemoryMax", "TasksMax",
}  # fmt: skip

KNOWN = {*MOUNTS, *LIMITS, *CALLS, *ELSEWHERE, *NEEDS_SYSTEMD}

if __name__ == "__main__":
    sandbox = Sandbox(Path(sys.argv[1]), Path(sys.argv[2]))
    sandbox.enter()
    os.chdir("/")
    os.execv(sys.argv[3], sys.argv[3:])
