"""How a command reaches the outbox: through the daemon while that runs, by itself while it doesn't."""

import http.client
import json
import os
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bridge.errors import BridgeError, ConfigError

ANSWER_S = 60.0  # a daemon with a million rows may take a while


class ControlError(BridgeError):
    """The daemon could not do what it was asked."""


class UnixConnection(http.client.HTTPConnection):
    """A connection to who listens in a socket file."""

    def __init__(self, path: Path, answer_s: float) -> None:
        super().__init__("localhost", timeout=answer_s)
        self._path = path

    def connect(self) -> None:
        directory = os.open(self._path.parent, os.O_PATH)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            # Through the open directory: the path may be longer than a socket's may be.
            self.sock.connect(f"/proc/self/fd/{directory}/{self._path.name}")
        finally:
            os.close(directory)


def follow(path: Path, place: str, asked: object) -> Iterator[Any] | None:
    """Return what the running daemon tells from now on, line by line, or None if no daemon runs here.

    Raises ControlError where it refuses, or falls silent for ANSWER_S.
    """
    connection = UnixConnection(path, ANSWER_S)
    try:
        connection.request("POST", place, json.dumps(asked), {"Content-Type": "application/json"})
        response = connection.getresponse()
        if response.status < 400:
            return _lines(connection, response)
        raise ControlError(str(json.loads(response.read()).get("detail", f"the daemon answered {response.status}")))
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError as exc:
        raise ControlError(f"the daemon's socket {path} can't be opened by this user; try with sudo") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ControlError(f"the daemon did not answer: {exc}") from exc


def _lines(connection: UnixConnection, response: http.client.HTTPResponse) -> Iterator[Any]:
    with closing(connection):
        try:
            while line := response.readline():
                if line.strip():
                    yield json.loads(line)
        except (ConnectionError, http.client.HTTPException):
            return  # it broke off: the daemon is gone
        except TimeoutError as exc:
            raise ControlError(f"the daemon says nothing any more, not even for {ANSWER_S:g} s that it is there") from exc


def ask(path: Path, method: str, place: str, asked: object = None, *, answer_s: float = ANSWER_S) -> Any:
    """Return the running daemon's answer, or None if no daemon runs here.

    Raises ControlError where it refuses, or says nothing for *answer_s*, and ConfigError where the config is why.
    """
    connection = UnixConnection(path, answer_s)
    try:
        connection.request(method, place, None if asked is None else json.dumps(asked), {"Content-Type": "application/json"})
        response = connection.getresponse()
        document = json.loads(response.read() or b"null")
    except (FileNotFoundError, ConnectionRefusedError):
        return None
    except PermissionError as exc:
        raise ControlError(f"the daemon's socket {path} can't be opened by this user; try with sudo") from exc
    except (OSError, http.client.HTTPException) as exc:
        raise ControlError(f"the daemon did not answer: {exc}") from exc
    finally:
        connection.close()
    if response.status >= 400 and "problems" in document:
        raise ConfigError(list(document["problems"]))
    if response.status >= 400:
        raise ControlError(str(document.get("detail", f"the daemon answered {response.status}")))
    return document
