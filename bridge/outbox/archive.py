"""A backup: the outbox and the config in one zip file, and what is said of it read before anything is believed.

Zip, not tar: its table of contents stands at the end, so that a file which was cut off is noticed at once; each member
has a checksum; and every computer opens it. Only three names are known, and none of them is ever used as a path: what an
archive says can't lead anywhere. It is only as trustworthy as the disk it lay on: it bears no signature.
"""

import hashlib
import json
import stat
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO, TypeVar
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from bridge.errors import BridgeError
from bridge.outbox.copies import Progress

T = TypeVar("T")

FORMAT = 1
CONTENTS, CONFIG, OUTBOX = "mqtthook-backup.json", "config.toml", "outbox.db"
MAX_CONTENTS = 64 * 1024  # bytes; it has some 400
MAX_CONFIG = 1 << 20  # bytes: what a config may have
CHUNK = 1 << 20  # bytes held at once
LEVEL = 6  # zlib's own default: letters shrink to a fifth, and 9 takes a Pi three times as long for the rest


class ArchiveError(BridgeError):
    """A file that can't be restored from; the text says why, without the file's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One member: its bytes and their SHA-256, and the permissions that it had."""

    size: int
    sha256: str
    mode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What an archive says of itself; `outbox` is None where there was none yet."""

    format: int
    made_by: str
    made_at: float
    host: str
    config: Part
    outbox: Part | None

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


def pack(file: BinaryIO, *, config: tuple[bytes, int], outbox: Path | None, made: tuple[str, float, str], progress: Progress = lambda _: None) -> Contents:
    """Write an archive into *file*, and return what it says of itself; raise OSError.

    *config* is the config's bytes and permissions, *outbox* a finished copy, *made* by which version, when and where.
    """
    by, at, host = made
    text, mode = config
    with ZipFile(file, "w", ZIP_DEFLATED, compresslevel=LEVEL) as archive:
        archive.writestr(_entry(CONFIG), text)
        packed = None if outbox is None else _pack_outbox(archive, outbox, progress)
        config_part = Part(size=len(text), sha256=hashlib.sha256(text).hexdigest(), mode=mode)
        contents = Contents(format=FORMAT, made_by=by, made_at=at, host=host, config=config_part, outbox=packed)
        archive.writestr(_entry(CONTENTS), json.dumps(contents.document(), indent=2))
    return contents


def _entry(name: str) -> ZipInfo:
    entry = ZipInfo(name)
    entry.compress_type = ZIP_DEFLATED
    entry.external_attr = (stat.S_IFREG | 0o600) << 16  # whoever unpacks it by hand gets files for himself alone
    return entry


def _pack_outbox(archive: ZipFile, outbox: Path, progress: Progress) -> Part:
    digest, size = hashlib.sha256(), 0
    with outbox.open("rb") as source, archive.open(_entry(OUTBOX), "w", force_zip64=True) as target:
        while chunk := source.read(CHUNK):
            digest.update(chunk)
            target.write(chunk)
            size += len(chunk)
            progress(len(chunk))
    return Part(size=size, sha256=digest.hexdigest(), mode=0o600)


class Archive:
    """An archive that is read; raises ArchiveError wherever it isn't what it should be, OSError where it can't be read."""

    def __init__(self, file: BinaryIO) -> None:
        """Read the table of contents, and what the archive says of itself."""
        self._zip = _readable(lambda: ZipFile(file))
        names = [entry.filename for entry in self._zip.infolist()]
        if CONTENTS not in names:
            raise ArchiveError("it is a zip file, but no backup of mqtthook")
        if strange := next((name for name in names if name not in (CONTENTS, CONFIG, OUTBOX) or names.count(name) > 1), None):
            raise ArchiveError(f"it holds {strange!r}, which no backup of mqtthook does: somebody has changed it")
        if any(entry.flag_bits & 1 for entry in self._zip.infolist()):  # APPNOTE.TXT section 4.4.4
            raise ArchiveError("it is encrypted: decrypt it first")
        self.contents = _contents(self._bounded(CONTENTS, MAX_CONTENTS))
        if (self.contents.outbox is not None) != (OUTBOX in names) or CONFIG not in names:
            raise ArchiveError("a part of it is missing: somebody has changed it")

    def config(self) -> bytes:
        """Return the config."""
        text = self._bounded(CONFIG, MAX_CONFIG)
        _compare(CONFIG, self.contents.config, len(text), hashlib.sha256(text).hexdigest())
        return text

    def unpack_outbox(self, target: BinaryIO, *, progress: Progress = lambda _: None) -> None:
        """Write the outbox into *target*: never more than what the archive says it has."""
        part = self.contents.outbox
        assert part is not None, "asked first"
        digest, size = hashlib.sha256(), 0
        with _readable(lambda: self._zip.open(OUTBOX)) as source:
            while chunk := _readable(lambda: source.read(CHUNK)):
                size += len(chunk)
                if size > part.size:
                    break
                digest.update(chunk)
                target.write(chunk)
                progress(len(chunk))
        _compare(OUTBOX, part, size, digest.hexdigest())

    def _bounded(self, name: str, most: int) -> bytes:
        def read() -> bytes:
            with self._zip.open(name) as member:
                return member.read(most + 1)

        found = _readable(read)
        if len(found) > most:
            raise ArchiveError(f"its {name} is larger than any backup's: somebody has changed it")
        return found


def _readable(read: Callable[[], T]) -> T:
    try:
        return read()
    except BadZipFile as exc:
        raise ArchiveError(f"it is damaged, cut off, or no zip file at all ({str(exc).rstrip('.')})") from exc
    except (EOFError, zlib.error, NotImplementedError, ValueError, UnicodeDecodeError) as exc:
        raise ArchiveError(f"it is damaged ({type(exc).__name__}: {exc})") from exc


def _contents(text: bytes) -> Contents:
    try:
        found = json.loads(text)
        if found["format"] != FORMAT:
            raise ArchiveError(f"it was made by a newer mqtthook ({found['made_by']}; its format is {found['format']}, this one knows {FORMAT}): upgrade first")
        config, outbox = found["config"], found["outbox"]
        return Contents(**{**_known(Contents, found), "config": _part(config), "outbox": None if outbox is None else _part(outbox)})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise ArchiveError(f"what it says of itself ({CONTENTS}) can't be read: somebody has changed it") from exc


def _part(found: dict[str, Any]) -> Part:
    part = Part(**_known(Part, found))
    if not (isinstance(part.size, int) and isinstance(part.mode, int) and isinstance(part.sha256, str)):
        raise TypeError
    return part


def _known(kind: type[Contents | Part], found: dict[str, Any]) -> dict[str, Any]:
    return {field.name: found[field.name] for field in fields(kind)}


def _compare(name: str, part: Part, size: int, sha256: str) -> None:
    if (size, sha256) != (part.size, part.sha256):
        raise ArchiveError(f"its {name} is not the one that was saved (its SHA-256 differs): it is damaged, or somebody has changed it")
