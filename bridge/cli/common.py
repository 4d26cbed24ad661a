"""What several commands share: their options, their exit codes, and how they speak."""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import click

from bridge.config.load import SYSTEM_CONFIG, Loaded, find, load
from bridge.config.settings import Settings, state_directory
from bridge.errors import ConfigError
from bridge.rules.learn.wishes import escaped

CONFIG_EXIT = 78  # sysexits.h EX_CONFIG; the unit doesn't restart on it
IO_EXIT = 74  # sysexits.h EX_IOERR

SYSTEM_STATE = Path("/var/lib/mqtthook")
SYSTEM_CREDENTIALS = SYSTEM_CONFIG.parent / "credentials"

Function = TypeVar("Function", bound=Callable[..., Any])


def config_option(function: Function) -> Function:
    """Give a command `--config`."""
    return _config("The config file; else $MQTTHOOK_CONFIG, ./config.toml, /etc/mqtthook/config.toml.")(function)


def unread_config_option(function: Function) -> Function:
    """Give a command that reads no config a `--config` too: scripts pass it to all of them."""
    return _config("Taken as by every command; this one reads no config.", expose_value=False)(function)


def service_config_option(function: Function) -> Function:
    """Give a command a `--config` that may only be the service's; raises click's BadParameter for another."""
    return _config(f"The service's config, which is always {SYSTEM_CONFIG}.", callback=_only_the_service_s, expose_value=False)(function)


def _config(text: str, **more: Any) -> Callable[[Function], Function]:
    return click.option("--config", "config", metavar="FILE", help=text, **more)


def _only_the_service_s(_ctx: click.Context, _param: click.Parameter, value: str | None) -> None:
    if value is not None and Path(value).absolute() != SYSTEM_CONFIG:
        raise click.BadParameter(f"the service's config is {SYSTEM_CONFIG}, not {value}: copy yours there first, as in `sudo install -D -m 640 {value} {SYSTEM_CONFIG}`")


def json_option(function: Function) -> Function:
    """Give a command `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(function)


def loaded(config: str | None, *, with_secrets: bool = True) -> Loaded:
    """Return the settings, the secrets that they refer to only where they are needed; raise ConfigError."""
    path = find(config, os.environ)
    return load(path, _environment(path), with_secrets=with_secrets)


def _environment(path: Path) -> Mapping[str, str]:
    """Return the environment; for the service's config with the service's credentials, where the user may read them."""
    if path == SYSTEM_CONFIG and "CREDENTIALS_DIRECTORY" not in os.environ and os.access(SYSTEM_CREDENTIALS, os.R_OK | os.X_OK):
        return os.environ | {"CREDENTIALS_DIRECTORY": str(SYSTEM_CREDENTIALS)}
    return os.environ


def state() -> Path:
    """Return where the outbox is: systemd's state directory; else here, or where the service keeps it if only that is there."""
    here = state_directory(os.environ)
    if "STATE_DIRECTORY" not in os.environ and not (here / "outbox.db").exists() and is_there(SYSTEM_STATE / "outbox.db"):
        return SYSTEM_STATE
    return here


def control_socket(config: str | None) -> tuple[Path, Loaded | None]:
    """Return where a running daemon is asked, and the config; with errors in that it is None, and a daemon that runs where one would by default is meant.

    Raises ConfigError where none runs there.
    """
    try:
        found = loaded(config, with_secrets=False)
    except ConfigError:
        usual = Settings(version=1).control_socket(state())
        if not is_there(usual):
            raise
        return usual, None
    return found.settings.control_socket(state()), found


def is_there(path: Path) -> bool:
    """Return True if a file is there, also where this user may not look: systemd keeps a service's state where only root gets in."""
    try:
        return path.exists()
    except PermissionError:
        return True


def stale_since(found: Loaded, loaded_at: float) -> str | None:
    """Return a sentence where the config was changed after the daemon read it; or None."""
    if not found.path.exists() or found.path.stat().st_mtime <= loaded_at:
        return None
    return f"{found.path} was changed after the daemon read it: `mqtthook reload` makes that count"


def failures(count: int, last: str) -> str:
    """Return a sentence about conditions that failed, and why the last of them did."""
    return f"{count} {'conditions' if count > 1 else 'condition'} could not be evaluated, last: {escaped(last)}"


def print_json(document: Any) -> None:
    """Print *document* as JSON."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2))


def complain(text: str) -> None:
    """Print a problem where problems go."""
    click.echo(f"mqtthook: {text}", err=True)


def title(text: str) -> str:
    """Return *text* as a heading; click leaves the colour out where there is no terminal."""
    return click.style(text, bold=True)


@contextmanager
def progress_bar(length: int, *, least: int, label: str = "") -> Iterator[Callable[[int], None]]:
    """Give a function that moves a progress bar on; it does nothing where nobody would see it, or, up to *least*, for a moment only."""
    if length <= least or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label or None, show_pos=not label, file=sys.stderr) as bar:
        yield bar.update


def fail(text: str, code: int = 1) -> None:
    """Print a problem and end."""
    complain(text)
    sys.exit(code)
