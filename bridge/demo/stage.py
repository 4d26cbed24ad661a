"""The stage: the world that the story happens in, put up around a real bridge and taken down after it.

Nothing of it is seen from outside: loopback, free ports, a directory of its own, and nothing of the environment.
"""

import asyncio
import os
import tomllib
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from aiohttp import ClientSession, ClientTimeout

from bridge import app
from bridge.config.secrets import resolve
from bridge.config.settings import Settings
from bridge.demo.house import House, Lamp, Sensor, house, lamp, sensor
from bridge.demo.narrator import Narrator
from bridge.demo.ports import LOOPBACK, Port
from bridge.demo.proof import STEP_S, Missed, until
from bridge.demo.receiver import Receiver
from bridge.errors import ConfigError
from bridge.rules.signing import new_secret

SECRET_BYTES = 32  # as `mqtthook secret new` makes them

CONFIG = Template("""
version = 1

[mqtt]
url = "$broker_url"          # the broker inside this demo
protocol = "3.1.1"                      # which knows no MQTT 5

[outbound.hall-motion]                  # from MQTT to the web
topic = "zigbee2mqtt/{room}/motion"
when = "payload.occupancy"
url = "$receiver_url"
secret = "env:MOTION_SECRET"
retry = { first = "500ms", max = "1s" } # yours may leave it out: 5 s to 1 h

[inbound.hall-light]                    # from the web to MQTT
verify = "standard-webhooks"
secret = "env:LIGHT_SECRET"
topic = "zigbee2mqtt/hall_light/set"
json = { state = "{{ body.state | upper }}" }

[http]
listen = "$hooks_address"              # POST /hooks/hall-light

[admin]
listen = "127.0.0.1:0"                  # health and metrics, any free port
""")

SUBSCRIPTION = "zigbee2mqtt/+/motion"  # what the mapping's topic is to the broker

Status = dict[str, Any]
Ask = Callable[[Path], Status | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Everybody who takes part."""

    config: str
    settings: Settings
    house: House
    sensor: Sensor
    lamp: Lamp
    receiver: Receiver
    hook_url: str
    session: ClientSession
    status: Callable[[], Status | None]

    async def status_when(self, is_so: Callable[[Status], bool], step: str, *, expected: str) -> Status:
        """Return the bridge's status once it is as it should be; raise Missed."""

        async def look() -> Status:
            status = await asyncio.to_thread(self.status)  # it is the command line's own way to ask, which waits
            if status is None:
                raise Missed(step, expected=expected, came="no bridge answers")
            return status

        return await until(look, is_so, step, expected=expected)


@asynccontextmanager
async def stage(state: Path, narrator: Narrator, ask: Ask) -> AsyncIterator[Stage]:
    """Give the world with everything in it but the bridge.

    *state* is an empty directory for the bridge. *ask* returns what a bridge says of itself on its control socket.
    """
    secrets = {name: new_secret(os.urandom(SECRET_BYTES)) for name in ("MOTION_SECRET", "LIGHT_SECRET")}
    async with AsyncExitStack() as parts:
        hooks, receiving = parts.enter_context(Port()), parts.enter_context(Port())
        hook_url = f"http://{LOOPBACK}:{hooks.number}/hooks/hall-light"
        session = await parts.enter_async_context(ClientSession(timeout=ClientTimeout(total=STEP_S)))
        receiver = Receiver(receiving, session, narrator, secret=secrets["MOTION_SECRET"], hook_url=hook_url, hook_secret=secrets["LIGHT_SECRET"])
        home = await parts.enter_async_context(house())
        config = CONFIG.substitute(broker_url=home.url, receiver_url=receiver.url, hooks_address=f"{LOOPBACK}:{hooks.number}")
        settings = settings_of(config, secrets)
        yield Stage(
            config=config,
            settings=settings,
            house=home,
            sensor=await parts.enter_async_context(sensor(home, narrator)),
            lamp=await parts.enter_async_context(lamp(home, narrator)),
            receiver=await parts.enter_async_context(receiver),
            hook_url=hook_url,
            session=session,
            status=lambda: ask(settings.control_socket(state)),
        )


@asynccontextmanager
async def running(settings: Settings, state: Path) -> AsyncIterator[None]:
    """Run the bridge meanwhile, and stop it in an orderly way; should it die, its error ends what goes on."""
    stop, ready = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(app.run(settings, state, stop=stop, ready=ready.set), name="bridge")
        await ready.wait()
        yield
        stop.set()


def settings_of(config: str, secrets: Mapping[str, str]) -> Settings:
    """Return the settings that a config holds; raise ConfigError.

    Not by way of `config.load`, which also reads the environment: a $MQTTHOOK_MQTT__URL there would lead the
    demo into somebody's real house.
    """
    problems: list[str] = []
    tree = tomllib.loads(config)
    resolve(tree, secrets, lambda key, what: problems.append(f"{'.'.join(key)}: {what}"))
    settings = Settings(**tree)
    problems += [f"{'.'.join(key)}: {what}" for key, what in settings.problems()]
    if problems:
        raise ConfigError(problems)
    return settings
