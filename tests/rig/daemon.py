"""The real command in a subprocess."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Self

from tests.rig.ports import free_port
from tests.rig.wait import until

SECRET = "whsec_" + "bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE="
COMMAND = [sys.executable, "-m", "bridge"]
ROOT = Path(__file__).parents[2]
OF_THE_TERMINAL = ("COLUMNS", "LINES", "NO_COLOR")  # what stands here of the one that the tests run on; commands get their own


class Daemon:
    """`mqtthook run` with a config of its own; its state survives a kill."""

    def __init__(self, directory: Path, *, broker: str, mappings: str, mqtt: str = "", store: str = "", http: str = "") -> None:
        self.directory, self.hooks_port, self.admin_port = directory, free_port(), free_port()
        directory.mkdir(parents=True, exist_ok=True)
        self.config = directory / "config.toml"
        self.config.write_text(
            f"""version = 1
[mqtt]
url = "{broker}"
client_id = "bridge-{directory.name}"
{mqtt}
[store]
{store}
[http]
listen = "127.0.0.1:{self.hooks_port}"
{http}
[admin]
listen = "127.0.0.1:{self.admin_port}"
{mappings}
"""
        )
        self.config.chmod(0o600)
        self.process: subprocess.Popen[bytes] | None = None
        self.program = COMMAND
        self.environment = {name: value for name, value in os.environ.items() if name not in OF_THE_TERMINAL} | {"STATE_DIRECTORY": str(directory), "PYTHONPATH": str(ROOT)}

    @property
    def log(self) -> str:
        """Return what it has written so far."""
        return (self.directory / "daemon.log").read_text()

    def launch(self, **environment: str) -> Self:
        """Start it without waiting for anything."""
        with (self.directory / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen([*self.program, "run", "--config", str(self.config)], stdout=log, stderr=log, cwd=self.directory, env=self.environment | environment)
        return self

    def start(self, **environment: str) -> Self:
        """Start it, and return when it is connected to the broker."""
        self.launch(**environment)
        until(self.is_ready, "the daemon to be ready")
        return self

    def is_ready(self) -> bool:
        """Return True if it says so, False if not or if it can't be asked."""
        assert self.process is None or self.process.poll() is None, f"the daemon ended:\n{self.log}"
        return self.get("/readyz")[0] == 200

    def kill(self) -> None:
        """End it at once, without a word."""
        self.end(signal.SIGKILL)

    def stop(self) -> int:
        """End it in an orderly way, and return its exit code."""
        return self.end(signal.SIGTERM)

    def end(self, number: signal.Signals) -> int:
        """Send it a signal and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(15)
        self.process = None
        return code

    def get(self, path: str) -> tuple[int, str]:
        """Return status and text of a page of its admin side; status 0 if nobody answers."""
        return request("GET", f"http://127.0.0.1:{self.admin_port}{path}")

    def metrics(self) -> dict[str, float]:
        """Return its metrics by name and labels."""
        lines = (line.rpartition(" ") for line in self.get("/metrics")[1].splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    def post(self, hook: str, body: bytes, **headers: str) -> tuple[int, str]:
        """Post to one of its hooks; header names are written with underscores."""
        sent = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        return request("POST", f"http://127.0.0.1:{self.hooks_port}{hook}", body, sent)

    def most_memory_kb(self) -> int:
        """Return the most memory that it has had at once, in kB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:")))

    def command(self, *arguments: str, code: int = 0) -> str:
        """Run another command on the same config and state, expect its exit code, and return what it printed."""
        run = subprocess.run([*COMMAND, *arguments, "--config", str(self.config)], capture_output=True, text=True, cwd=self.directory, env=self.environment, timeout=60, check=False)
        assert run.returncode == code, f"{arguments}: exit code {run.returncode}\n{run.stdout}\n{run.stderr}"
        return run.stdout + run.stderr

    def json(self, *arguments: str) -> Any:
        """Run another command with --json, and return what it printed."""
        return json.loads(self.command(*arguments, "--json"))

    def __enter__(self) -> Self:
        return self if self.process is not None else self.start()

    def __exit__(self, *_exc: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


def request(method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, str]:
    """Return status and text of an answer; status 0 if none came."""
    asked = urllib.request.Request(url, data=body, method=method, headers=headers or {})
    try:
        with urllib.request.urlopen(asked, timeout=15) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as exc:
        with exc:
            return exc.code, exc.read().decode()
    except (OSError, urllib.error.URLError):
        return 0, ""


def ledger_adds_up(metrics: dict[str, float], mapping: str) -> bool:
    """Return True if what a mapping took in is all accounted for, False if not."""
    out = sum(value for name, value in metrics.items() if name.startswith(f'mqtthook_ledger_out_total{{mapping="{mapping}"'))
    label = f'{{mapping="{mapping}"}}'
    return metrics["mqtthook_ledger_imbalance"] == 0 and metrics["mqtthook_ledger_in_total" + label] == out + metrics["mqtthook_ledger_waiting" + label]
