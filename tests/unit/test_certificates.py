"""Until when a certificate is good, against what OpenSSL says of the same file."""

import ssl
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.certificates import ends_at
from tests.rig.certificates import certificate, make_authority


def der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def openssl(path: Path) -> float:
    said = subprocess.run(["openssl", "x509", "-noout", "-enddate", "-in", path], check=True, capture_output=True, text=True).stdout
    return datetime.strptime(said.strip(), "notAfter=%b %d %H:%M:%S %Y %Z").replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize("days", [-3.0, 2.0, 400.0, 9_000.0])  # the last lies past 2049: another kind of date, RFC 5280 section 4.1.2.5
def test_it_says_what_openssl_says(tmp_path: Path, days: float) -> None:
    certificate(tmp_path, "a", begins_in_days=-5, ends_in_days=days)
    assert ends_at(der(tmp_path / "a.pem")) == openssl(tmp_path / "a.pem")


def test_with_another_key_and_authority_too(tmp_path: Path) -> None:
    made = make_authority(tmp_path, days=30)
    for file in (made.ca, made.cert):
        assert ends_at(der(file)) == openssl(file)


@given(st.binary(max_size=300))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ends_at(data)


def test_one_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    certificate(tmp_path, "a")
    whole = der(tmp_path / "a.pem")
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"."):
            ends_at(whole[:length])
