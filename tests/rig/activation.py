"""Start a program as systemd does that hands it sockets: from file descriptor 3 on, with variables that say so (sd_listen_fds(3))."""

import json
import sys
from collections.abc import Sequence

HANDING_OVER = """
import fcntl, json, os, sys
fds, variables, command = json.loads(sys.argv[1])
high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
for n, fd in enumerate(high):
    os.dup2(fd, 3 + n, inheritable=True)
os.environ.update({name: value.replace("$$", str(os.getpid())) for name, value in variables.items()})
os.execvp(command[0], command)
"""


def handing_over(fds: Sequence[int], command: Sequence[str], *, names: str | None = None, pid: str = "$$", count: str | None = None) -> list[str]:
    """Return the command that runs *command* with these descriptors as its own; what starts it has to pass them on (`pass_fds`)."""
    variables = {"LISTEN_PID": pid, "LISTEN_FDS": str(len(fds)) if count is None else count}
    if names is not None:
        variables["LISTEN_FDNAMES"] = names
    return [sys.executable, "-c", HANDING_OVER, json.dumps([list(fds), variables, list(command)])]
