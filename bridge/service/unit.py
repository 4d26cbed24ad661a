"""The unit files, as they suit one machine: what its systemd knows, where the program is, which credentials there are.

Pure. A line `#253 Key=value` counts from that systemd on, and is a comment for those before it.
"""

import re
from collections.abc import Iterable, Iterator

SERVICE, SOCKET = "mqtthook.service", "mqtthook.socket"

CREDENTIALS = "/etc/mqtthook/credentials"
CREDENTIAL = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")  # stands in a unit and in a config without quotes

OLDEST = 247  # brought LoadCredential= and ProtectProc=; the plain lines of the units need no more

_HEADING = """\
# Written by `mqtthook install-service`, which writes it anew when it is called again: your own lines belong into
# `systemctl edit mqtthook`, which keeps them apart.
"""
_SINCE = re.compile(r"#(\d{3}) (?=[A-Z][A-Za-z0-9]+=)")
_PLAIN = re.compile(r"[\w./@+-]+")


def suited(text: str, *, systemd: int, program: str, credentials: Iterable[str] = ()) -> str:
    """Return the unit *text* for a machine whose systemd has that version, whose `mqtthook` is the file *program*.

    *credentials* are the names of the files in CREDENTIALS that the service is given.
    """
    return _HEADING + "".join(_suited(text.splitlines(keepends=True), systemd, program, sorted(credentials)))


def _suited(lines: list[str], systemd: int, program: str, credentials: list[str]) -> Iterator[str]:
    for line in lines:
        if (since := _SINCE.match(line)) is not None and systemd >= int(since[1]):
            yield line[since.end() :]
        elif line.startswith("ExecStart="):
            yield f"ExecStart={quoted(program)} {line.partition(' ')[2]}"
            for name in credentials:
                yield f"# A file in {CREDENTIALS}: for the config it is credential:{name}.\nLoadCredential={name}:{CREDENTIALS}/{name}\n"
        else:
            yield line


def quoted(program: str) -> str:
    """Return a path as a command line of a unit takes it (systemd.service(5), "Command lines"; systemd.unit(5), "Specifiers")."""
    literal = program.replace("%", "%%")
    if _PLAIN.fullmatch(program):
        return literal
    return '"' + literal.replace("\\", "\\\\").replace('"', '\\"') + '"'
