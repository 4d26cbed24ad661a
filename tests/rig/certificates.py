"""An authority of one's own, with a certificate for this machine."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """The files of an authority, and of the certificate it gave to `localhost`."""

    ca: Path
    cert: Path
    key: Path


def make_authority(directory: Path, *, name: str = "localhost", days: int = 2) -> Authority:
    """Make an authority, and a certificate for *name*."""
    directory.mkdir(parents=True, exist_ok=True)
    ca, ca_key, cert, key, request = (directory / file for file in ("ca.pem", "ca.key", "cert.pem", "cert.key", "cert.csr"))
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", ca_key, "-out", ca, "-days", str(days), "-subj", "/CN=test authority")
    _openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={name}")
    extension = directory / "extension"
    extension.write_text(f"subjectAltName=DNS:{name}\n")
    _openssl("x509", "-req", "-in", request, "-CA", ca, "-CAkey", ca_key, "-CAcreateserial", "-out", cert, "-days", str(days), "-extfile", extension)
    for file in (ca, cert, key):
        file.chmod(0o644)
    return Authority(ca, cert, key)


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
