"""`install-service` and `uninstall-service`, in an image of a machine: its files, its users, and systemd's own enabling.

What only a machine that runs can show, its start, is no part of this.
"""

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.config.load import load
from bridge.service.plan import HIDDEN
from tests.rig.daemon import COMMAND, ROOT

SYSTEMD = 254


def why_not() -> str | None:
    """Return why this machine can't install into an image, or None if it can."""
    if os.geteuid() != 0:
        return "only root can install"
    missing = [name for name in ("systemctl", "useradd") if shutil.which(name) is None]
    return f"{missing[0]} is not installed" if missing else None if python() else "no Python of this version that the service could see"


def python() -> str | None:
    """Return a Python of this version that doesn't lie where the service's sandbox would hide it, None if there is none."""
    own = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for place in (Path(sys.base_prefix) / "bin" / own, Path("/usr/bin") / own):
        if place.exists() and not any(place.is_relative_to(hidden) for hidden in HIDDEN):
            return str(place)
    return None


REASON = why_not()

on_a_real_image = pytest.mark.skipif(REASON is not None, reason=REASON or "")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Give the root of a machine on which the program is installed in a virtual environment, and nothing else is done."""
    root = tmp_path / "image"
    for directory in ("etc", "usr/lib/systemd", "opt/mqtthook"):
        (root / directory).mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / f"usr/lib/systemd/libsystemd-shared-{SYSTEMD}.so").touch()
    venv = root / "opt/mqtthook/.venv"
    subprocess.run([str(python()), "-m", "venv", "--without-pip", str(venv)], check=True)
    (library,) = venv.glob("lib/python3.*/site-packages")
    (library / "tests.pth").write_text("".join(f"{path}\n" for path in [str(ROOT), *sys.path[1:]]))
    program = venv / "bin/mqtthook"
    program.write_text(f"#!{venv}/bin/python3\nfrom bridge.cli import main\n\nmain()\n")
    program.chmod(0o755)
    return root


def call(image: Path, *arguments: str, code: int = 0) -> str:
    """Run the image's own program on it, and return what it said."""
    run = subprocess.run([str(image / "opt/mqtthook/.venv/bin/mqtthook"), *arguments, "--root", str(image)], capture_output=True, text=True, timeout=60, cwd=image, check=False)
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def tree(image: Path) -> dict[str, tuple[int, int, int, bytes]]:
    """Return all there is, but for what Python itself writes beside its programs."""
    found = {}
    for path in sorted(image.rglob("*")):
        if "opt" not in path.relative_to(image).parts:
            about = path.lstat()
            content = path.read_bytes() if stat.S_ISREG(about.st_mode) else os.readlink(path).encode() if path.is_symlink() else b""
            found[str(path.relative_to(image))] = (about.st_mode, about.st_uid, about.st_gid, content)
    return found


def lines_with(word: str, text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(word)]


@on_a_real_image
def test_it_makes_a_service_and_the_second_time_finds_all_as_it_is(image: Path) -> None:
    said = call(image, "install-service")
    assert len(lines_with("done", said)) == 7
    users, groups = ({line.split(":")[0]: int(line.split(":")[2]) for line in (image / "etc" / name).read_text().splitlines()} for name in ("passwd", "group"))
    assert "mqtthook" in users
    for name in ("config.toml", "motion.secret"):
        found = (image / "etc/mqtthook" / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o640, 0, groups["mqtthook"])
    unit = (image / "etc/systemd/system/mqtthook.service").read_text()
    assert "\nExecStart=/opt/mqtthook/.venv/bin/mqtthook run --config /etc/mqtthook/config.toml\n" in unit
    assert "\nType=notify-reload\n" in unit
    assert os.readlink(image / "usr/local/bin/mqtthook") == "/opt/mqtthook/.venv/bin/mqtthook"
    assert (image / "etc/systemd/system/multi-user.target.wants/mqtthook.service").is_symlink()
    before = tree(image)
    again = call(image, "install-service")
    assert not lines_with("done", again)
    assert len(lines_with("ok", again)) == 7
    assert tree(image) == before


@on_a_real_image
def test_the_first_config_is_one_that_the_service_can_start_with(image: Path) -> None:
    call(image, "install-service")
    config = image / "etc/mqtthook/config.toml"
    config.write_text(config.read_text().replace("/etc/mqtthook/", f"{image}/etc/mqtthook/"))
    found = load(config, {})
    assert list(found.settings.outbound) == ["motion"]
    assert found.warnings == ()


@on_a_real_image
def test_a_dry_run_says_the_same_and_does_nothing(image: Path) -> None:
    before = tree(image)
    would = [line.removeprefix("would").strip() for line in lines_with("would", call(image, "install-service", "--dry-run"))]
    assert tree(image) == before
    assert would == [line.removeprefix("done").strip() for line in lines_with("done", call(image, "install-service"))]
    before = tree(image)
    assert "would" in call(image, "uninstall-service", "--purge", "--dry-run")
    assert tree(image) == before


@on_a_real_image
def test_a_person_s_config_stays_as_it_is_but_for_who_may_read_it(image: Path) -> None:
    directory = image / "etc/mqtthook"
    (directory / "credentials").mkdir(parents=True)
    (directory / "config.toml").write_text("version = 1\n")
    (directory / "config.toml").chmod(0o644)
    (directory / "credentials" / "motion").write_text("whsec_x")
    (directory / "linked.secret").symlink_to(image / "etc/passwd")
    said = call(image, "install-service")
    assert (directory / "config.toml").read_text() == "version = 1\n"
    assert stat.S_IMODE((directory / "config.toml").stat().st_mode) == 0o640
    assert stat.S_IMODE((directory / "credentials/motion").stat().st_mode) == 0o600
    assert stat.S_IMODE((image / "etc/passwd").stat().st_mode) == 0o644, "what a link leads to is not ours"
    assert not (directory / "motion.secret").exists()
    assert "LoadCredential=motion:/etc/mqtthook/credentials/motion\n" in (image / "etc/systemd/system/mqtthook.service").read_text()
    assert "whsec" not in said


@on_a_real_image
def test_it_goes_as_it_came_and_leaves_what_is_a_person_s_unless_told_otherwise(image: Path) -> None:
    before = tree(image)
    call(image, "install-service")
    (image / "var/lib/mqtthook").mkdir(parents=True)
    (image / "var/lib/mqtthook/outbox.db").write_text("what waits")
    said = call(image, "uninstall-service")
    assert "kept" in said
    assert not (image / "etc/systemd/system/mqtthook.service").exists()
    assert not list((image / "etc/systemd/system").rglob("mqtthook*"))
    assert (image / "etc/mqtthook/config.toml").exists()
    assert (image / "var/lib/mqtthook/outbox.db").read_text() == "what waits"
    assert not lines_with("done", call(image, "uninstall-service"))
    call(image, "uninstall-service", "--purge")
    left = {name: about for name, about in tree(image).items() if name not in before and stat.S_ISREG(about[0]) and not name.endswith("-")}
    assert {name for name in left if "mqtthook" in name} == set()
    assert tree(image)["etc/passwd"] == before["etc/passwd"]
    assert not lines_with("done", call(image, "uninstall-service", "--purge"))


@on_a_real_image
def test_the_socket_is_installed_where_it_is_asked_for_and_comes_along(image: Path) -> None:
    if (ROOT / "systemd" / "mqtthook.socket").exists():
        assert "mqtthook.socket" in call(image, "install-service", "--socket")
        assert (image / "etc/systemd/system/mqtthook.socket").is_file()
        assert (image / "etc/systemd/system/sockets.target.wants/mqtthook.socket").is_symlink()
    else:
        assert "comes without mqtthook.socket" in call(image, "install-service", "--socket", code=1)


@on_a_real_image
def test_a_program_that_the_service_could_not_see_is_refused_before_anything_is_done(image: Path) -> None:
    home = image / "home/pi/mqtthook"
    home.parent.mkdir(parents=True)
    (image / "opt/mqtthook/.venv").rename(home)
    program = home / "bin/mqtthook"
    program.write_text(program.read_text().replace("opt/mqtthook/.venv", "home/pi/mqtthook"))
    before = tree(image)
    run = subprocess.run([str(program), "install-service", "--root", str(image)], capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 1
    assert "its sandbox hides /home" in run.stderr
    assert "sudo python3 -m venv /opt/mqtthook/.venv" in run.stderr
    assert tree(image) == before
    run = subprocess.run([str(program), "install-service", "--dry-run", "--root", str(image)], capture_output=True, text=True, timeout=60, check=False)
    assert (run.returncode, "its sandbox hides /home" in run.stdout.splitlines()[-1]) == (0, True)
    assert tree(image) == before


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="this machine runs systemd")
def test_a_machine_without_systemd_is_told_so() -> None:
    run = subprocess.run([*COMMAND, "install-service"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 1
    assert "systemd doesn't run here" in run.stderr


@pytest.mark.skipif(Path("/run/systemd/system").is_dir(), reason="this machine runs systemd")
def test_a_dry_run_without_systemd_tells_the_whole_plan_and_behind_it_what_is_in_the_way() -> None:
    run = subprocess.run([*COMMAND, "install-service", "--dry-run"], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert "unit /etc/systemd/system/mqtthook.service" in run.stdout
    assert run.stdout.splitlines()[-1].startswith("warning as it is now, this could not be done: systemd doesn't run here")


def test_a_dry_run_on_an_image_with_nothing_in_it_shows_the_unit_as_it_would_stand_there(tmp_path: Path) -> None:
    run = subprocess.run([*COMMAND, "install-service", "--dry-run", "--root", str(tmp_path)], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert run.returncode == 0, run.stderr
    assert re.search(r"^  ExecStart=/.* run --config /etc/mqtthook/config.toml$", run.stdout, re.MULTILINE)
    assert len(lines_with("would", run.stdout)) == 7
    assert [*tmp_path.iterdir()] == []


@on_a_real_image
@pytest.mark.parametrize("name", ["install-service", "uninstall-service"])
def test_who_is_not_root_is_told_to_be(name: str, image: Path) -> None:
    as_a_person = "import os; os.geteuid = lambda: 1000; from bridge.cli import main; main()"
    before = tree(image)
    for options, code, told in (([], 1, "call it again with sudo"), (["--dry-run"], 0, "without root not everything can be looked at")):
        command = [str(image / "opt/mqtthook/.venv/bin/python3"), "-c", as_a_person, name, *options, "--root", str(image)]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (run.returncode, told in run.stdout + run.stderr) == (code, True), run.stdout + run.stderr
    assert tree(image) == before
