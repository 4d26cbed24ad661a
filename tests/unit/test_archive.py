"""A backup that is whole is read back the same; whatever else it may be is refused with a sentence, and leads nowhere."""

import io
import json
import os
import sqlite3
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.errors import ConfigError, StoreBroken
from bridge.outbox.archive import CONFIG, CONTENTS, OUTBOX, Archive, ArchiveError, pack
from bridge.outbox.connection import SCHEMA_VERSION
from bridge.outbox.copies import checked, copied, making
from bridge.outbox.soundness import APPLICATION_ID
from bridge.outbox.store import Store

TEXT = b"version = 1\n[mqtt]\npassword = 'open sesame'\n"
DATA = Random(1).randbytes(3000) * 20  # the archive doesn't look into it
MADE = ("1.2.3", 1_764_000_000.0, "pi")


def packed(outbox: bytes | None = DATA) -> bytes:
    file = io.BytesIO()
    path = None
    if outbox is not None:
        path = Path(os.environ.get("TMPDIR", "/tmp")) / f"archive-test-{os.getpid()}.db"
        path.write_bytes(outbox)
    try:
        pack(file, config=(TEXT, 0o600), outbox=path, made=MADE)
    finally:
        if path is not None:
            path.unlink()
    return file.getvalue()


WHOLE = packed()


def opened(data: bytes) -> tuple[bytes, bytes]:
    """Return what restoring takes out of an archive: the config, and the outbox."""
    archive = Archive(io.BytesIO(data))
    target = io.BytesIO()
    text = archive.config()
    archive.unpack_outbox(target)
    return text, target.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(ArchiveError) as raised:
        opened(data)
    text = str(raised.value)
    assert "\n" not in text
    return text


def rewritten(change: Callable[[dict[str, bytes]], Any]) -> bytes:
    """Return the archive with its members changed, as somebody with a zip program would."""
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def said(**changed: Any) -> bytes:
    """Return the archive, saying something else of itself."""
    return rewritten(lambda members: members.update({CONTENTS: json.dumps(json.loads(members[CONTENTS]) | changed).encode()}))


def test_what_is_saved_is_read_back_the_same() -> None:
    assert opened(WHOLE) == (TEXT, DATA)
    contents = Archive(io.BytesIO(WHOLE)).contents
    assert (contents.made_by, contents.made_at, contents.host) == MADE
    assert contents.outbox is not None
    assert contents.outbox.size == len(DATA)


def test_without_an_outbox_there_is_a_config_still() -> None:
    archive = Archive(io.BytesIO(packed(None)))
    assert archive.contents.outbox is None
    assert archive.config() == TEXT


def test_unpacked_by_hand_it_is_for_its_owner_alone() -> None:
    with zipfile.ZipFile(io.BytesIO(WHOLE)) as archive:
        assert {entry.external_attr >> 16 & 0o777 for entry in archive.infolist()} == {0o600}


@given(st.integers(0, len(WHOLE) - 1))
def test_cut_off_anywhere_it_is_refused(length: int) -> None:
    assert "damaged, cut off" in refusal(WHOLE[:length])


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_byte_that_changed_is_found_or_meant_nothing(place: int, change: int) -> None:
    data = bytearray(WHOLE)
    data[place] ^= change
    try:
        found = opened(bytes(data))
    except ArchiveError:
        return
    assert found == (TEXT, DATA)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda members: members.update({"../../etc/passwd": b"x"}), r"holds '../../etc/passwd', which no backup"),
        (lambda members: members.update({"/etc/cron.d/x": b"x"}), r"holds '/etc/cron.d/x', which no backup"),
        (lambda members: members.update({"outbox.db-wal": b"x"}), r"holds 'outbox.db-wal', which no backup"),
        (lambda members: members.pop(CONFIG), "a part of it is missing"),
        (lambda members: members.pop(OUTBOX), "a part of it is missing"),
        (lambda members: members.pop(CONTENTS), "a zip file, but no backup"),
        (lambda members: members.update({CONFIG: TEXT + b"#"}), "its config.toml is not the one that was saved"),
        (lambda members: members.update({CONFIG: b"#" * (2 << 20)}), "its config.toml is larger than any"),
        (lambda members: members.update({OUTBOX: DATA[:-1] + b"?"}), "its outbox.db is not the one that was saved"),
        (lambda members: members.update({OUTBOX: bytes(500 << 10)}), "its outbox.db is not the one that was saved"),
        (lambda members: members.update({CONTENTS: b"[1]"}), "can't be read"),
        (lambda members: members.update({CONTENTS: b"{"}), "can't be read"),
        (lambda members: members.update({CONTENTS: b"[" * 60_000}), "can't be read"),
        (lambda members: members.update({CONTENTS: b" " * 70_000}), "its mqtthook-backup.json is larger than any"),
    ],
)
def test_what_somebody_changed_is_refused(change: Callable[[dict[str, bytes]], Any], expected: str) -> None:
    assert expected in refusal(rewritten(change))


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"format": 2, "made_by": "9.9"}, "made by a newer mqtthook (9.9; its format is 2"),
        ({"config": None}, "can't be read"),
        ({"outbox": None}, "a part of it is missing"),
        ({"outbox": {"size": "many", "sha256": "x", "mode": 384}}, "can't be read"),
    ],
)
def test_what_it_says_of_itself_is_not_believed(changed: dict[str, Any], expected: str) -> None:
    assert expected in refusal(said(**changed))


def test_a_member_that_is_there_twice_is_refused() -> None:
    file = io.BytesIO(WHOLE)
    with zipfile.ZipFile(file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(CONFIG, b"another")
    assert "which no backup" in refusal(file.getvalue())


def test_one_that_swells_is_cut_at_what_it_says_it_has() -> None:
    """A member of 64 MiB in some 64 KiB, said to have ten bytes: no more than one chunk past that is ever looked at."""
    data = rewritten(lambda members: members.update({OUTBOX: bytes(64 << 20), CONTENTS: json.dumps(json.loads(members[CONTENTS]) | {"outbox": {"size": 10, "sha256": "x", "mode": 384}}).encode()}))
    archive, target = Archive(io.BytesIO(data)), io.BytesIO()
    with pytest.raises(ArchiveError, match="not the one that was saved"):
        archive.unpack_outbox(target)
    assert len(target.getvalue()) <= 10


def test_an_encrypted_one_is_refused() -> None:
    data = bytearray(WHOLE)
    directory = data.rindex(b"PK\x01\x02")
    data[directory + 8] |= 1  # the flag of the last member: APPNOTE.TXT section 4.3.12
    assert "it is encrypted" in refusal(bytes(data))


# --- what is in it ---


def database(path: Path, *, application: int = APPLICATION_ID, version: int = SCHEMA_VERSION, more: str = "") -> Path:
    Store.open(path, max_size=64 << 20).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        db.execute(f"PRAGMA application_id = {application}")
        db.execute(f"PRAGMA user_version = {version}")
        db.executescript(more)
    return path


def test_a_good_outbox_says_what_it_holds(tmp_path: Path) -> None:
    holding = checked(database(tmp_path / "a.db"))
    assert (holding.version, holding.waiting, holding.dead) == (SCHEMA_VERSION, 0, 0)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({"application": 7}, "no outbox of mqtthook"),
        ({"version": SCHEMA_VERSION + 1}, "a newer mqtthook"),
        ({"more": "CREATE TRIGGER spy AFTER INSERT ON note BEGIN DELETE FROM letter; END"}, r"holds a trigger \(spy\)"),
        ({"more": "CREATE VIEW spy AS SELECT 1"}, r"holds a view \(spy\)"),
    ],
)
def test_a_strange_outbox_is_refused(tmp_path: Path, made: dict[str, Any], expected: str) -> None:
    with pytest.raises(StoreBroken, match=expected):
        checked(database(tmp_path / "a.db", **made))


def test_a_newer_outbox_is_not_copied_and_that_is_no_fault_of_the_disk(tmp_path: Path) -> None:
    """As of every other command: it is the wrong program, or the wrong file."""
    with pytest.raises(ConfigError, match="newer mqtthook"):
        copied(database(tmp_path / "a.db", version=SCHEMA_VERSION + 1), tmp_path / "b.db")
    assert not (tmp_path / "b.db").exists()


@pytest.mark.parametrize("content", [b"", b"no database at all" * 500])
def test_what_is_no_database_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(StoreBroken, match=r"damaged|no outbox"):
        checked(tmp_path / "a.db")


def test_a_damaged_outbox_is_refused(tmp_path: Path) -> None:
    path = database(tmp_path / "a.db")
    data = bytearray(path.read_bytes())
    data[4096:12288] = b"\xff" * 8192
    path.write_bytes(data)
    with pytest.raises(StoreBroken, match="damaged"):
        checked(path)


def test_a_copy_is_of_one_moment_though_it_is_written_to_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "outbox.db"
    store = Store.open(path, max_size=64 << 20)
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.executescript("BEGIN; " + "".join(f"INSERT INTO note VALUES ('n{n}', hex(zeroblob(2000)));" for n in range(3_000)) + "COMMIT")
        seen: list[int] = []

        def meanwhile(size: int) -> None:
            seen.append(size)
            writer.execute("INSERT INTO note VALUES (?, 'late')", (f"late{len(seen)}",))
            writer.execute("DELETE FROM note WHERE name = ?", (f"n{len(seen)}",))

        copied(path, tmp_path / "copy.db", progress=meanwhile)
    store.close()
    assert len(seen) > 1, "it was written to between two steps of the copy"
    assert sum(seen) >= (tmp_path / "copy.db").stat().st_size
    with closing(sqlite3.connect(tmp_path / "copy.db")) as db:
        assert db.execute("SELECT count(*), sum(name LIKE 'late%') FROM note").fetchone() == (3_000, 0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.db", "outbox.db", "outbox.db.lock"]


def test_what_was_being_made_is_gone_at_the_end(tmp_path: Path) -> None:
    left = tmp_path / ".a.part-journal"
    left.write_bytes(b"of an earlier try")
    with pytest.raises(OSError, match="on purpose"), making(tmp_path / "a") as part:
        assert not left.exists()
        part.write_bytes(b"half")
        raise OSError("on purpose")
    assert not list(tmp_path.iterdir())
