"""`mqtthook backup`: the outbox and the config in one file, while the daemon runs and while it doesn't."""

import os
import socket
import time
from pathlib import Path

import click

from bridge import __version__
from bridge.cli.common import complain, config_option, fail, is_there, json_option, print_json, progress_bar, state
from bridge.cli.control import ask
from bridge.config.load import PREFIX, find, sketch
from bridge.config.settings import control_socket_beside
from bridge.errors import BridgeError
from bridge.outbox.archive import Contents, pack
from bridge.outbox.copies import Holding, copied, created, making, renamed, size_text, sync

SHOWN_FROM = 8 << 20  # bytes: below it a bar would only flash up


@click.command("backup")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Write over FILE if it is there.")
@config_option
@json_option
def command(file: Path, config: str | None, *, force: bool, as_json: bool) -> None:
    """Save the outbox and the config in FILE, a zip file. `mqtthook restore FILE` brings them back.

    \b
    Examples:
      mqtthook backup mqtthook.zip
      mqtthook backup /media/usb/mqtthook-$(date +%F).zip
    """
    _check_place(file, force=force)
    path = find(config, os.environ)
    text, mode = _config(path)
    known = sketch(path, text, os.environ)
    outbox = state() / known.outbox
    answer = ask(control_socket_beside(outbox), "POST", "/flush")
    contents, holding = _saved(file, (text, mode), outbox if is_there(outbox) else None)
    outside = [f"{key} = {where}" for key, where in known.references]
    outside += [f"environment {name}" for name in sorted(os.environ) if name.startswith(PREFIX) and name != f"{PREFIX}CONFIG"]
    if as_json:
        held = {} if holding is None else {"waiting": holding.waiting, "dead_letters": holding.dead}
        print_json({"file": str(file), "size": file.stat().st_size, "config": str(path), "outbox": str(outbox), **held, "not_included": outside, "contents": contents.document()})
    else:
        _tell(file, path, outbox, holding)
        for line in outside:
            click.echo(f"  not in it: {line}")
    if answer is not None and answer["unsaved"]:
        complain(f"{answer['unsaved']} letters are in the daemon's memory only, as its outbox is full: they are not in the backup")
    if file.stat().st_mode & 0o077:
        complain(f"{file}: the disk that it is on keeps no permissions, so others may read it, with what is secret in it")


def _check_place(file: Path, *, force: bool) -> None:
    if file.is_dir():
        raise click.UsageError(f"{file} is a directory: name a file, as in {file / 'mqtthook.zip'}")
    if not file.absolute().parent.is_dir():
        fail(f"there is no directory {file.absolute().parent}; is the disk mounted?")
    if os.path.lexists(file) and not force:
        fail(f"{file} is there already, and stays as it is; name another file, or write over it with --force")


def _config(path: Path) -> tuple[bytes, int]:
    try:
        return path.read_bytes(), path.stat().st_mode & 0o777
    except OSError as exc:
        raise BridgeError(f"{path}: the config can't be read: {exc.strerror}") from exc


def _saved(file: Path, config: tuple[bytes, int], outbox: Path | None) -> tuple[Contents, Holding | None]:
    """Write the archive under another name, and let it bear its own once it is whole and on disk."""
    target = Path(os.path.realpath(file))
    length = 2 * outbox.stat().st_size if outbox is not None and os.access(outbox, os.R_OK) else 0  # copied, then packed
    try:
        with making(target) as part, making(target.with_name(f"{target.name}.outbox")) as copy, progress_bar(length, least=SHOWN_FROM, label="saving") as progress:
            holding = None if outbox is None else copied(outbox, copy, progress=progress)
            with created(part) as made:
                contents = pack(made, config=config, outbox=None if outbox is None else copy, made=(__version__, time.time(), socket.gethostname()), progress=progress)
            sync(part)
            renamed(part, target)
    except OSError as exc:
        raise BridgeError(f"{file}: it can't be written: {exc.strerror}; nothing was saved, and what was there is as it was") from exc
    return contents, holding


def _tell(file: Path, config: Path, outbox: Path, holding: Holding | None) -> None:
    click.echo(f"saved {file} ({size_text(file.stat().st_size)}), which only you can read: keep it like a password")
    click.echo(f"  config    {config}, with the secrets that are written out in it")
    if holding is None:
        click.echo(f"  no outbox: there is none yet at {outbox}")
    else:
        click.echo(f"  outbox    {outbox}: {holding.waiting} waiting, {holding.dead} dead")
