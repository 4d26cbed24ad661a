"""`mqtthook install-service` and `uninstall-service`: a service of systemd, and its end."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import click

from bridge.cli.common import CONFIG_EXIT, complain, service_config_option, title
from bridge.cli.secret import SECRET_BYTES
from bridge.config import first
from bridge.config.first import Answers
from bridge.config.load import load
from bridge.errors import BridgeError, ConfigError
from bridge.rules.signing import new_secret
from bridge.service.machine import Machine, this_program, unit_text
from bridge.service.plan import CONFIG, CREDENTIAL_DIRECTORY, DROP_INS, PROGRAM, STATE, UNITS, USER, Found, Step, installed, obstacle, prepared, uninstalled
from bridge.service.unit import OLDEST, SERVICE, SOCKET, suited

_dry_run = click.option("--dry-run", is_flag=True, help="Say what would be done, with the unit as it would be written, and do nothing.")
_root = click.option("--root", "root", metavar="DIR", type=click.Path(exists=True, file_okay=False, path_type=Path), help="An image to do it in, e.g. a mounted card.")


@click.command("install-service")
@click.option("--no-start", is_flag=True, help="Start it neither now nor again; it is started at the next boot.")
@click.option("--socket", is_flag=True, help="Let systemd hold the hooks' socket: callers then wait while the service restarts.")
@_dry_run
@_root
@service_config_option
def command(no_start: bool, socket: bool, dry_run: bool, root: Path | None) -> None:  # noqa: FBT001 - click passes them by name
    """Make this mqtthook a service that systemd starts at boot, and start it.

    It makes the user `mqtthook`, /etc/mqtthook with a first config if there is none, and the unit as it suits this
    machine. It says each step; what is so already stays as it is, so it may be called again: after an upgrade, or when a
    file came into /etc/mqtthook/credentials.

    \b
    Examples:
      sudo mqtthook install-service
      mqtthook install-service --dry-run
    """
    machine = Machine(root and root.resolve())
    found, program = machine.look(), this_program(root and root.resolve())
    problem = obstacle(found, program)
    if problem is not None and not dry_run:
        raise BridgeError(problem)
    _as_root(dry_run=dry_run)
    command = program.command or PROGRAM
    units = _units(found, command, socket=socket)
    is_new = CONFIG not in found.entries
    _go(machine, prepared(found, _first_config()), dry_run=dry_run)
    problems = [] if dry_run or is_new else _config_problems(machine, found)
    _go(machine, installed(found, command, units, start=not no_start and not problems), dry_run=dry_run)
    if dry_run:
        click.echo("\n".join(_unit_lines(units)))
    if problem is not None:
        click.echo(f"{click.style('warning', fg='yellow')} as it is now, this could not be done: {problem}")
    for problem in problems:
        complain(problem)
    if problems:
        complain(f"{SERVICE} was not started, as its config has errors. Put them right, then: sudo systemctl restart mqtthook")
        raise SystemExit(CONFIG_EXIT)
    if not dry_run:
        click.echo("\n".join(_next_lines(is_new=is_new, offline=found.offline)))


@click.command("uninstall-service")
@click.option("--purge", is_flag=True, help=f"Remove config, secrets, outbox and user too: {CONFIG.parent}, {STATE}.")
@_dry_run
@_root
@service_config_option
def uninstall(purge: bool, dry_run: bool, root: Path | None) -> None:  # noqa: FBT001 - click passes them by name
    """Stop the service and take it away; config and outbox stay.

    The program itself stays too: it is removed as it was installed.

    \b
    Example:
      sudo mqtthook uninstall-service
    """
    machine = Machine(root and root.resolve())
    found = machine.look()
    _as_root(dry_run=dry_run)
    _go(machine, uninstalled(found, purge=purge), dry_run=dry_run)
    kept = [str(path) for path in (CONFIG.parent, STATE) if path in found.entries]
    if kept and not purge:
        click.echo(f"{_word('kept', 'yellow')} {' and '.join(kept)}, and the user {USER}: --purge removes them with all that waits in the outbox")


def _as_root(*, dry_run: bool) -> None:
    if os.geteuid() == 0:
        return
    if not dry_run:
        raise BridgeError("this changes the machine and needs root: call it again with sudo, or see with --dry-run what it would do")
    click.echo(f"{_word('note', 'yellow')} without root not everything can be looked at: what may not be read counts as missing")


def _units(found: Found, program: Path, *, socket: bool) -> dict[str, str]:
    """Return the units to install, the socket where it is asked for or was before."""
    names = [SERVICE, *([SOCKET] if socket or UNITS / SOCKET in found.entries else [])]
    texts = {name: unit_text(name) for name in names}
    if missing := [name for name, text in texts.items() if text is None]:
        raise BridgeError(f"this mqtthook comes without {missing[0]}: install it anew")
    systemd = OLDEST if found.systemd is None else found.systemd
    return {name: suited(text, systemd=systemd, program=str(program), credentials=found.credentials()) for name, text in texts.items() if text is not None}


def _first_config() -> dict[Path, str]:
    answers = Answers(broker=first.BROKER, username=None, password=None, topic=first.TOPIC, url=first.URL, signed=True)
    return first.files(answers, CONFIG, secret=new_secret(os.urandom(SECRET_BYTES)))


def _config_problems(machine: Machine, found: Found) -> list[str]:
    """Return what is wrong with the config as the service will read it; nothing where a drop-in may give it more than we know."""
    if found.offline or DROP_INS in found.entries:
        return []
    try:
        load(machine.at(CONFIG), {"CREDENTIALS_DIRECTORY": str(CREDENTIAL_DIRECTORY)} if found.credentials() else {})
    except ConfigError as exc:
        return exc.problems
    return []


# --- what it says ---


def _go(machine: Machine, steps: Iterable[Step], *, dry_run: bool) -> None:
    """Carry out what is not so yet, each step said when it is done."""
    for step in steps:
        if step.act is None:
            click.echo(f"{_word('ok', 'green')} {step.what}: already so")
        elif dry_run:
            click.echo(f"{_word('would', 'yellow')} {step.what}")
        else:
            machine.carry_out(step.act)
            click.echo(f"{_word('done', 'green')} {step.what}")


def _unit_lines(units: Mapping[str, str]) -> Iterable[str]:
    """Yield each unit as it would be written, set in, so that no line of it is taken for a step."""
    for name, text in units.items():
        yield ""
        yield title(str(UNITS / name))
        yield from (f"  {line}".rstrip() for line in text.splitlines())


def _word(word: str, colour: str) -> str:
    return click.style(f"{word:5}", fg=colour)


def _next_lines(*, is_new: bool, offline: bool) -> Iterable[str]:
    steps = {
        "your devices": f"sudoedit {CONFIG}",
        "is it all right?": "sudo mqtthook check",
        "have it count": "sudo systemctl restart mqtthook",
        "how is it?": "sudo mqtthook status",
        "what does it say?": "journalctl -u mqtthook -f",
    }
    yield ""
    yield click.style("next", bold=True)
    for what, step in list(steps.items())[0 if is_new else 3 :]:
        if not (offline and step.startswith(("sudo systemctl", "journalctl"))):
            yield f"  {what:21}{step}"
