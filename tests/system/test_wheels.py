"""On a Raspberry Pi nothing has to be compiled: for each of its systems, every library that we need has a wheel.

Asks the package index that pip is set up with; skipped where none is reached.
"""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.rig.daemon import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

ARCHITECTURES = ("armv7l", "aarch64")  # Raspberry Pi OS with 32 and with 64 bits
PYTHONS = ("3.11", "3.13")  # Debian 12 and 13
LIBRARIES = ("manylinux2014", "manylinux_2_17", "manylinux_2_28", "manylinux_2_31", "manylinux_2_34", "manylinux_2_36", "linux")  # Debian 12 has glibc 2.36

# What has no wheel there. Raspberry Pi OS asks an index of its own as well, by itself; elsewhere pip needs a compiler.
WITHOUT = {("apprise", "armv7l"): "PyYAML", ("ed25519", "armv7l"): "cffi"}

OUT_OF_REACH = ("NewConnectionError", "ConnectTimeoutError", "Temporary failure", "Connection refused", "Read timed out", "ProxyError", "No matching distribution found for pip")


def pip(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Let pip resolve for another machine; nothing is installed."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--only-binary=:all:", "--retries=1", "--disable-pip-version-check"]
    return subprocess.run([*command, f"--target={directory}", *arguments], capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module", autouse=True)
def index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip all of it where no package index is reached."""
    if pip(tmp_path_factory.mktemp("pip"), "--no-deps", "pip").returncode != 0:
        pytest.skip("no package index is reached from here")


def machine(architecture: str, python: str) -> list[str]:
    number = python.replace(".", "")
    return [
        *(f"--platform={library}_{architecture}" for library in LIBRARIES),
        f"--python-version={python}",
        "--implementation=cp",
        *(f"--abi={abi}" for abi in (f"cp{number}", "abi3", "none")),
    ]


def resolved(requirements: list[str], architecture: str, python: str, directory: Path) -> str:
    """Return what pip would install, or fail with what it misses."""
    run = pip(directory, *machine(architecture, python), *requirements)
    if run.returncode != 0 and any(sign in run.stderr for sign in OUT_OF_REACH):
        pytest.skip("the package index went out of reach")
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_program_needs_no_compiler_on_a_pi(architecture: str, python: str, tmp_path: Path) -> None:
    found = resolved(PROJECT["dependencies"], architecture, python, tmp_path)
    assert "pydantic" in found.rpartition("Would install")[2]


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("extra", ["ed25519", "apprise"])
def test_nor_do_its_extras_but_for_those_that_are_known_to(extra: str, architecture: str, python: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    requirements = PROJECT["optional-dependencies"][extra]
    if (missing := WITHOUT.get((extra, architecture))) is not None:
        request.applymarker(pytest.mark.xfail(reason=f"{missing} has no wheel", strict=False))  # one day it may have one
        requirements = ["--no-deps", missing]  # pip would look through every older version of what needs it
    resolved(requirements, architecture, python, tmp_path)


def test_a_library_without_a_wheel_is_noticed(tmp_path: Path) -> None:
    """No wheel of it fits a processor that Linux's wheels don't know."""
    with pytest.raises(AssertionError, match="No matching distribution found"):
        resolved(["pyyaml"], "sparc64", "3.11", tmp_path)
