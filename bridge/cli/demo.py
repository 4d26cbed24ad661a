"""`mqtthook demo`: the whole loop, with nothing installed beside it."""

import asyncio
import logging
import signal
import sys
import tempfile
import warnings
from collections import deque
from pathlib import Path
from typing import Any

import click

from bridge.cli.common import complain, fail, unread_config_option
from bridge.cli.control import ask
from bridge.errors import BridgeError

INTERRUPTED_EXIT = 128 + signal.SIGINT  # as shells count it
KEPT_LINES = 20  # of the log, shown only if the demo fails
EXTRA = {"amqtt", "standardwebhooks"}  # what `pip install 'mqtthook[demo]'` brings


@click.command("demo")
@click.option("--fast", is_flag=True, help="Without the pauses for the reader.")
@unread_config_option
def command(fast: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show the whole loop in 15 seconds: a motion sensor, a signed webhook, a lamp, and an outage.

    A broker, a sensor, a web service and a lamp run inside this one process, around a real bridge. It needs
    no config and leaves nothing behind. Exits 0 only if every step came out.

    \b
    Example:
      pip install 'mqtthook[demo]'
      mqtthook demo
    """
    log = _quieted()
    try:
        with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="mqtthook-demo-") as state:
            warnings.simplefilter("ignore", DeprecationWarning)  # amqtt's and its libraries', none of the reader's business
            asyncio.run(_told(Path(state), fast=fast))
    except ModuleNotFoundError as exc:
        if str(exc.name).partition(".")[0] not in EXTRA:
            raise
        fail("the demo needs two more packages: pip install 'mqtthook[demo]'")
    except KeyboardInterrupt:
        click.echo()
        sys.exit(INTERRUPTED_EXIT)
    except BridgeError:
        for line in log:
            complain(line)
        raise


async def _told(state: Path, *, fast: bool) -> None:
    # A time-out or a closed terminal clears up like Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, signal.raise_signal, signal.SIGINT)
    from bridge.demo.narrator import Narrator  # here: the demo's parts come with an extra that may be missing
    from bridge.demo.story import tell  # here: amqtt, standardwebhooks, aiohttp and bridge.app would make `--help` wait

    await tell(state, Narrator(fast=fast), _status)


def _status(socket: Path) -> Any:
    return ask(socket, "GET", "/status")


class _Kept(logging.Handler):
    """Keeps the last lines of the log instead of printing them."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


def _quieted() -> deque[str]:
    """Keep the log from the reader, and return its last lines, which go on changing."""
    kept = _Kept()
    logging.basicConfig(level=logging.INFO, handlers=[kept], force=True)
    for noisy in ("amqtt", "transitions"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return kept.lines
