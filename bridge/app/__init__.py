"""The program as a whole: `run`. Below it the bridge, its destinations, its listeners, whom it tells, and the config that runs."""

from bridge.app.config import Source
from bridge.app.program import run

__all__ = ["Source", "run"]
