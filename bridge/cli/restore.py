"""`mqtthook restore`: what `mqtthook backup` saved, brought back. Nothing is touched before all of it has been checked."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import click

from bridge.cli.backup import SHOWN_FROM
from bridge.cli.common import SYSTEM_STATE, complain, config_option, fail, is_there, json_option, print_json, progress_bar, state
from bridge.config.load import SYSTEM_CONFIG, find, sketch
from bridge.errors import AlreadyRunning, BridgeError, StoreBroken
from bridge.outbox.archive import Archive, ArchiveError
from bridge.outbox.copies import Holding, aside, checked, created, given_to, making, renamed, room_for, sync
from bridge.outbox.lock import lock_of, locked


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a part of the archive goes; None where it isn't wanted, or isn't in it."""

    config: Path | None
    outbox: Path | None

    def taken(self) -> list[Path]:
        """Return what is there already."""
        return [path for path in (self.config, self.outbox) if path is not None and is_there(path)]


@click.command("restore")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--config-only", is_flag=True, help="Leave the outbox as it is.")
@click.option("--outbox-only", is_flag=True, help="Leave the config as it is.")
@click.option("--force", is_flag=True, help="Put what is there aside, and take its place.")
@config_option
@json_option
def command(file: Path, config: str | None, *, config_only: bool, outbox_only: bool, force: bool, as_json: bool) -> None:
    """Bring back what `mqtthook backup` saved in FILE, here or on another machine. The daemon must not run meanwhile.

    What was delivered after the backup was made waits in it still, and is sent again, with the same webhook-id.

    \b
    Examples:
      mqtthook restore mqtthook.zip
      mqtthook restore mqtthook.zip --config /etc/mqtthook/config.toml
      mqtthook restore mqtthook.zip --outbox-only --force
    """
    if config_only and outbox_only:
        raise click.UsageError("give --config-only or --outbox-only, not both")
    try:
        with file.open("rb") as source:
            archive = Archive(source)
            text = archive.config()
            place = _place(archive, text, find(config, os.environ), config_only=config_only, outbox_only=outbox_only)
            if (taken := place.taken()) and not force:
                fail(f"{' and '.join(map(str, taken))} {'is' if len(taken) == 1 else 'are'} there already; with --force what is there is kept aside")
            holding, kept = _restored(archive, text, place)
    except (ArchiveError, OSError) as exc:
        raise BridgeError(f"{file}: {exc.strerror if isinstance(exc, OSError) else exc}; nothing was changed") from exc
    outside = [] if place.config is None else [f"{key} = {where}" for key, where in sketch(place.config, text, {}).references]
    if as_json:
        held = {} if holding is None else {"waiting": holding.waiting, "dead_letters": holding.dead}
        print_json({"config": _text(place.config), "outbox": _text(place.outbox), **held, "kept": [str(path) for path in kept], "not_included": outside})
        return
    _tell(place, holding, kept, outside)


def _place(archive: Archive, text: bytes, config: Path, *, config_only: bool, outbox_only: bool) -> Place:
    config = Path(os.path.realpath(config))
    # With the outbox alone comes the place that the config here names for it.
    here = config.read_bytes() if outbox_only and config.exists() else text
    outbox = _state(config) / sketch(config, here, os.environ).outbox
    if outbox_only and archive.contents.outbox is None:
        raise ArchiveError("there is no outbox in it: there was none yet when it was made")
    return Place(config=None if outbox_only else config, outbox=None if config_only or archive.contents.outbox is None else outbox)


def _state(config: Path) -> Path:
    """Return where the outbox belongs: with the service's config it is the service's, also before that has run for the first time."""
    of_the_service = config == SYSTEM_CONFIG and "STATE_DIRECTORY" not in os.environ
    return SYSTEM_STATE if of_the_service and is_there(SYSTEM_STATE) else state()


def _restored(archive: Archive, text: bytes, place: Place) -> tuple[Holding | None, list[Path]]:
    """Make both parts beside their places, check them, and only then let them take these; return what is in the outbox, and what was kept."""
    holding, kept, stamp = None, list[Path](), time.strftime("%Y%m%d-%H%M%S")
    with ExitStack() as parts:
        made: list[tuple[Path, Path]] = []
        if place.outbox is not None:
            _lock(place.outbox, parts)
            part = parts.enter_context(making(place.outbox))
            holding = _unpacked(archive, part, place.outbox)
            made.append((part, place.outbox))
        if place.config is not None:
            part = parts.enter_context(making(place.config))
            _write(part, text, mode=archive.contents.config.mode, to=place.config)
            made.append((part, place.config))
        for part, to in made:
            if to.exists():
                kept.append(aside(to, f"{to.name}.before-{stamp}"))
            renamed(part, to)
    return holding, kept


def _lock(outbox: Path, parts: ExitStack) -> None:
    try:
        lock = locked(outbox)
    except AlreadyRunning as exc:
        raise BridgeError(f"a daemon runs on {outbox}: stop it first (sudo systemctl stop mqtthook), then restore, then start it; nothing was changed") from exc
    parts.callback(os.close, lock)
    os.truncate(lock, 0)  # what it knows is of the outbox that is put aside
    given_to(lock_of(outbox), outbox.parent.stat())


def _unpacked(archive: Archive, part: Path, to: Path) -> Holding:
    contents = archive.contents.outbox
    assert contents is not None, "it has a place"
    if shortage := room_for(contents.size, to.parent):
        raise BridgeError(f"there is no room for the outbox in {to.parent}: {shortage}; nothing was changed")
    with created(part) as target, progress_bar(contents.size, least=SHOWN_FROM, label="restoring") as progress:
        archive.unpack_outbox(target, progress=progress)
    sync(part)
    try:
        holding = checked(part)
    except StoreBroken as exc:
        raise ArchiveError(str(exc)) from exc
    given_to(part, (to if to.exists() else to.parent).stat())
    return holding


def _write(part: Path, text: bytes, *, mode: int, to: Path) -> None:
    with created(part) as target:
        target.write(text)
    beside = to if to.exists() else to.parent
    os.chmod(part, to.stat().st_mode & 0o777 if to.exists() else mode & 0o666 | 0o400)  # as it was: the service may read it
    given_to(part, beside.stat())
    sync(part)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _tell(place: Place, holding: Holding | None, kept: list[Path], outside: list[str]) -> None:
    if place.config is not None:
        click.echo(f"restored {place.config}")
    if place.outbox is not None and holding is not None:
        click.echo(f"restored {place.outbox}: {holding.waiting} waiting, {holding.dead} dead")
    for path in kept:
        click.echo(f"  what was there is kept in {path}: delete it once all is well")
    for line in outside:
        click.echo(f"  not in the backup, to be put there by you: {line}")
    if holding is not None and holding.waiting:
        complain("what waits is sent by the first daemon that starts on it: let none run on the old machine any more")
    click.echo("see whether all is here with `mqtthook check`, then start it: sudo systemctl start mqtthook, or `mqtthook run`")
