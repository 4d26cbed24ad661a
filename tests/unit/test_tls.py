"""The files of a `tls` table: each that can't be used is told with its key."""

import logging
import os
import ssl
import subprocess
from pathlib import Path

import pytest

from bridge.errors import ConfigError
from bridge.rules.access import TlsSettings
from bridge.tls import ServedFiles, client_context, server_context
from tests.rig.certificates import certificate


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a directory with files of every kind."""
    directory = tmp_path_factory.mktemp("certificates")
    certificate(directory, "authority")
    certificate(directory, "me", by="authority")
    (directory / "both.pem").write_bytes((directory / "me.key").read_bytes() + (directory / "me.pem").read_bytes())
    (directory / "text.txt").write_text("no certificate")
    (directory / "empty").touch()
    (directory / "binary.der").write_bytes(bytes(range(256)))
    subprocess.run(["openssl", "pkey", "-in", directory / "me.key", "-aes256", "-passout", "pass:hunter2", "-out", directory / "locked.key"], check=True, capture_output=True)
    (directory / "locked.pem").write_bytes((directory / "locked.key").read_bytes() + (directory / "me.pem").read_bytes())
    return directory


def settings(files: Path, **keys: str) -> TlsSettings:
    return TlsSettings.model_validate({key: str(files / name) for key, name in keys.items()})


UNFIT = [  # the files, the whole sentence
    ({"ca": "nowhere.pem"}, "ca: {files}/nowhere.pem: the file can't be read: No such file or directory"),
    ({"ca": "."}, "ca: {files}: the file can't be read: Is a directory"),
    ({"ca": "nul\0"}, "ca: '{files}/nul\\x00' is no path of a file"),
    ({"ca": "text.txt"}, "ca: {files}/text.txt: expected certificates in PEM form"),
    ({"ca": "empty"}, "ca: {files}/empty: expected certificates in PEM form"),
    ({"ca": "binary.der"}, "ca: {files}/binary.der: expected certificates in PEM form"),
    ({"ca": "me.key"}, "ca: {files}/me.key: expected certificates in PEM form"),
    ({"cert": "nowhere.pem", "key": "me.key"}, "cert: {files}/nowhere.pem: the file can't be read: No such file or directory"),
    ({"cert": "me.pem", "key": "nowhere.key"}, "key: {files}/nowhere.key: the file can't be read: No such file or directory"),
    ({"cert": "me.pem", "key": "authority.key"}, "key: {files}/authority.key: this key doesn't belong to the certificate"),
    ({"cert": "me.pem"}, "cert: {files}/me.pem: expected a certificate and its key in PEM form"),
    ({"cert": "me.key", "key": "me.pem"}, "cert: {files}/me.key: expected a certificate, and its key in {files}/me.pem, in PEM form"),
    ({"cert": "text.txt", "key": "text.txt"}, "cert: {files}/text.txt: expected a certificate, and its key in {files}/text.txt, in PEM form"),
    ({"cert": "me.pem", "key": "locked.key"}, "key: {files}/locked.key: the key is encrypted: expected one without a passphrase"),
    ({"cert": "locked.pem"}, "cert: {files}/locked.pem: the key is encrypted: expected one without a passphrase"),
]


@pytest.mark.parametrize(("keys", "told"), UNFIT, ids=lambda value: str(value)[:50])
def test_a_file_that_can_not_be_used_is_told_with_its_key(files: Path, keys: dict[str, str], told: str) -> None:
    with pytest.raises(ConfigError, match=r"^(ca|cert|key): ") as caught:
        client_context(settings(files, **keys))
    assert str(caught.value) == told.format(files=files)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_of_somebody_else_is_told_with_the_systems_reason(files: Path) -> None:
    path = files / "private.key"
    path.touch(mode=0)
    with pytest.raises(ConfigError, match=r"key: .*: the file can't be read: Permission denied"):
        client_context(settings(files, cert="me.pem", key="private.key"))


@pytest.mark.parametrize("keys", [{"ca": "authority.pem"}, {"cert": "me.pem", "key": "me.key"}, {"cert": "both.pem"}])
def test_what_can_be_used_is_checked_with_name_and_all(files: Path, keys: dict[str, str]) -> None:
    context = client_context(settings(files, **keys))
    assert (context.check_hostname, context.verify_mode) == (True, ssl.CERT_REQUIRED)


def test_only_what_is_named_is_trusted(files: Path) -> None:
    subjects = [found["subject"] for found in client_context(settings(files, ca="authority.pem")).get_ca_certs()]
    assert len(subjects) == 1


def test_nothing_is_checked_where_that_is_written_out() -> None:
    context = client_context(TlsSettings(verify=False))
    assert (context.check_hostname, context.verify_mode) == (False, ssl.CERT_NONE)


# --- a listener's ---


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """Give a directory with a listener's certificate and key."""
    certificate(tmp_path, "listener")
    (tmp_path / "listener.key").chmod(0o600)
    return tmp_path


def at(directory: Path) -> tuple[str, str]:
    return str(directory / "listener.pem"), str(directory / "listener.key")


def test_a_listener_speaks_no_old_tls(served: Path) -> None:
    """RFC 8996."""
    assert server_context(*at(served)).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_key_that_others_can_read_is_refused(served: Path) -> None:
    cert, key = at(served)
    Path(key).chmod(0o644)
    with pytest.raises(ConfigError) as caught:
        server_context(cert, key)
    assert str(caught.value) == f"key: {key}: others can read this file, and it holds the key: chmod 600 {key}"
    both = served / "both.pem"
    both.write_bytes(Path(key).read_bytes() + Path(cert).read_bytes())
    both.chmod(0o644)
    with pytest.raises(ConfigError, match=r"^cert: .*both.pem: others can read this file"):
        server_context(str(both), None)
    both.chmod(0o640)
    server_context(str(both), None)


def test_a_listeners_file_that_can_not_be_used_is_told_with_its_key(served: Path, files: Path) -> None:
    cert, key = at(served)
    for written, told in (((f"{served}/no.pem", key), "cert: .*No such file"), ((cert, f"{served}/no.key"), "key: .*No such file"), ((str(files / "me.pem"), key), "key: .*doesn't belong")):
        with pytest.raises(ConfigError, match=told):
            server_context(*written)


def test_files_are_read_again_once_they_changed(served: Path, caplog: pytest.LogCaptureFixture) -> None:
    shown = ServedFiles(*at(served))
    first = shown.context()
    assert shown.context() is first
    certificate(served, "listener")
    (served / "listener.key").chmod(0o600)
    with caplog.at_level(logging.INFO):
        second = shown.context()
    assert second is not first
    assert shown.context() is second
    assert [record.getMessage() for record in caplog.records] == [f"certificate read again file='{served}/listener.pem'"]


@pytest.mark.parametrize("broken", ["gone", "garbage", "readable", "another key"])
def test_what_is_broken_later_leaves_the_old_one_and_is_told_once(served: Path, files: Path, caplog: pytest.LogCaptureFixture, broken: str) -> None:
    cert, key = at(served)
    shown = ServedFiles(cert, key)
    first, good = shown.context(), Path(key).read_bytes()
    match broken:
        case "gone":
            Path(key).unlink()
        case "garbage":
            Path(key).write_text("half a")
        case "readable":
            Path(key).chmod(0o644)
        case _:
            Path(key).write_bytes((files / "authority.key").read_bytes())
    assert [shown.context() for _ in range(3)] == [first] * 3
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith(("http.tls.key: ", "http.tls.cert: "))
    Path(key).write_bytes(good)
    Path(key).chmod(0o600)
    assert shown.context() is not first
    assert len(caplog.records) == 1
