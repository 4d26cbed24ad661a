"""A broker for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig.mosquitto import Mosquitto


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Mosquitto]:
    """Give a running Mosquitto."""
    with Mosquitto(tmp_path / "mosquitto") as running:
        yield running
