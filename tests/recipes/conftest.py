"""One broker for all recipes: they use different topics, or come one after the other."""

from collections.abc import Iterator

import pytest

from tests.rig.mosquitto import Mosquitto


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mosquitto]:
    """Give a running Mosquitto."""
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running
