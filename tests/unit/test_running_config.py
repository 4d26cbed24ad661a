"""The config that runs: who asks for another one is heard, whenever that is."""

import asyncio
from pathlib import Path

import pytest

from bridge.app.config import RunningConfig, Source
from bridge.config.load import Loaded
from bridge.config.settings import Settings
from bridge.errors import ConfigError


def config(**keys: object) -> Settings:
    return Settings.model_validate({"version": 1, **keys})


def test_a_signal_while_the_parts_start_anew_is_obeyed_once_they_run() -> None:
    async def life() -> None:
        files = [config(mqtt={"keepalive": "70s"}, auto_reload=reload) for reload in (False, True, True)]
        adopted = asyncio.Event()

        async def adopt(_: Settings) -> None:
            adopted.set()

        running = RunningConfig(config(), Source(Path("config.toml"), lambda: Loaded(path=Path("config.toml"), settings=files.pop(0), warnings=())), bind=lambda _: None, monotonic=lambda: 0.0)
        running.start_anew()
        running.adopt = adopt
        running.runs()
        assert (await running.reload()).anew == ("mqtt",)
        assert running.wants_anew.is_set()
        running.reload_soon()
        await asyncio.sleep(0)
        running.adopt = None
        running.start_anew()
        await asyncio.sleep(0)
        assert len(files) == 2, "nothing is read that could not be adopted"
        running.adopt = adopt
        running.runs()
        async with asyncio.timeout(5):
            await adopted.wait()
            assert not (await running.reload()).anew, "and the next one too"
        assert running.settings.auto_reload

    asyncio.run(life())


def test_whoever_shows_it_is_told_when_a_config_is_refused_and_when_one_is_applied() -> None:
    told: list[tuple[str, ...]] = []

    def read() -> Loaded:
        if not told:
            raise ConfigError(["config.toml:1: x is wrong"])
        return Loaded(path=Path("config.toml"), settings=config(), warnings=())

    async def life() -> None:
        async def adopt(_: Settings) -> None:
            return None

        running = RunningConfig(config(), Source(Path("config.toml"), read), bind=lambda _: None, monotonic=lambda: 0.0)
        running.adopt, running.on_change = adopt, lambda: told.append(running.figures.problems)
        running.runs()
        with pytest.raises(ConfigError):
            await running.reload()
        await running.reload()

    asyncio.run(life())
    assert told == [("config.toml:1: x is wrong",), ()]
