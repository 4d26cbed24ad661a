"""The front door: one small file per command, loaded only when it is called."""

import importlib
from typing import Any

import click

from bridge import __version__
from bridge.cli.common import CONFIG_EXIT, IO_EXIT, complain
from bridge.errors import AlreadyRunning, BridgeError, ConfigError, StoreBroken

COMMANDS = {
    "init": "bridge.cli.init",
    "check": "bridge.cli.check",
    "run": "bridge.cli.run",
    "demo": "bridge.cli.demo",
    "try": "bridge.cli.try_message",
    "listen": "bridge.cli.listen",
    "send": "bridge.cli.send",
    "routes": "bridge.cli.routes",
    "queue": "bridge.cli.queue",
    "status": "bridge.cli.status",
    "tail": "bridge.cli.tail",
    "reload": "bridge.cli.reload",
    "history": "bridge.cli.history",
    "pause": "bridge.cli.resume:pause",
    "resume": "bridge.cli.resume",
    "backup": "bridge.cli.backup",
    "restore": "bridge.cli.restore",
    "doctor": "bridge.cli.doctor",
    "secret": "bridge.cli.secret",
    "sign": "bridge.cli.sign",
    "verify": "bridge.cli.verify",
    "install-service": "bridge.cli.install",
    "uninstall-service": "bridge.cli.install:uninstall",
    "version": "bridge.cli.version",
}


class _Commands(click.Group):
    """A group whose commands are imported only when they are needed: `check` must not wait for a web server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's own signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command = getattr(importlib.import_module(module), name or "command")
        assert isinstance(command, click.Command)
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            for problem in exc.problems:
                complain(problem)
            ctx.exit(CONFIG_EXIT)
        except AlreadyRunning as exc:
            complain(str(exc))
            ctx.exit(CONFIG_EXIT)
        except StoreBroken as exc:
            complain(str(exc))
            ctx.exit(IO_EXIT)
        except BridgeError as exc:
            complain(str(exc))
            ctx.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mqtthook")
def main() -> None:
    """Carry MQTT messages to webhooks, and webhooks to MQTT, losing nothing in silence.

    Start with `mqtthook demo`. Then `mqtthook init` writes a first config, `mqtthook listen --learn 60s` looks at what
    your devices say and proposes more, and `mqtthook check` and `mqtthook try` tell what comes of it before
    `mqtthook run` does it.
    """
