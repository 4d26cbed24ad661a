"""Authorities of one's own, with certificates for this machine, good ones and others."""

import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

# What `openssl ca` has to be told: it is the only command of OpenSSL 3.0 that sets the day from which one is valid.
CONFIG = """\
[ca]
default_ca = authority
[authority]
database = {directory}/index.txt
new_certs_dir = {directory}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = policy
x509_extensions = extensions
[policy]
commonName = supplied
[extensions]
subjectAltName = DNS:{host}
basicConstraints = CA:{authority}
"""


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


def certificate(directory: Path, name: str, *, host: str = "localhost", by: str | None = None, begins_in_days: float = -1, ends_in_days: float = 2) -> None:
    """Make NAME.key and NAME.pem for *host*, in *directory*; signed by the one of the name *by*, else by itself."""
    key, request, config = (directory / f"{name}.{kind}" for kind in ("key", "csr", "cnf"))
    config.write_text(CONFIG.format(directory=directory, host=host, authority="FALSE" if by else "TRUE"))
    (directory / "index.txt").touch()
    _openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", f"/CN={host}")
    signer: list[str | Path] = ["-cert", directory / f"{by}.pem", "-keyfile", directory / f"{by}.key"] if by else ["-selfsign", "-keyfile", key]
    dates = ["-startdate", _date(begins_in_days), "-enddate", _date(ends_in_days)]
    _openssl("ca", "-batch", "-notext", "-config", config, "-in", request, "-out", directory / f"{name}.pem", *dates, *signer)


def _date(in_days: float) -> str:
    return (datetime.now(UTC) + timedelta(days=in_days)).strftime("%Y%m%d%H%M%SZ")


def _openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)
