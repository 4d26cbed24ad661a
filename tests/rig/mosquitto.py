"""A real Mosquitto on loopback, in a directory of its own."""

import getpass
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Self

from tests.rig.ports import free_port, is_open
from tests.rig.wait import until

SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"  # Debian puts it where a user's PATH doesn't look


class Mosquitto:
    """A broker that can be stopped, killed, frozen, and started again on the same port."""

    def __init__(self, directory: Path, *, lines: tuple[str, ...] = (), listener: str | None = None) -> None:
        """Prepare a broker; *lines* go into its configuration, *listener* instead of the TCP listener of its own port."""
        self.directory, self.port = directory, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        program = shutil.which("mosquitto", path=SEARCHED)
        assert program is not None, "mosquitto is not installed: apt-get install mosquitto"
        self._program = program
        self._listens = listener is None
        directory.mkdir(parents=True, exist_ok=True)
        own = () if any(line.startswith("allow_anonymous") for line in lines) else ("allow_anonymous true",)
        user = f"user {getpass.getuser()}"  # as root it would become "mosquitto", who may not write here
        config = (listener or f"listener {self.port} 127.0.0.1", user, *own, *lines)
        (directory / "mosquitto.conf").write_text("\n".join(config) + "\n")

    @property
    def url(self) -> str:
        """Return what stands in `[mqtt]`."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start it, and return when it listens."""
        log = (self.directory / "mosquitto.log").open("ab")
        self._process = subprocess.Popen([self._program, "-c", str(self.directory / "mosquitto.conf")], stdout=log, stderr=log, cwd=self.directory)
        log.close()
        if self._listens:
            until(lambda: is_open(self.port), "mosquitto to listen")
        return self

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End it at once, without a word."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in an orderly way."""
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.send_signal(signal.SIGCONT)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()
