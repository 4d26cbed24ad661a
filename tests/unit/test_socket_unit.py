"""systemd/mqtthook.socket: every directive says why it is there, and it is for the hooks of mqtthook.service."""

import subprocess
import sys
from pathlib import Path

import pytest

from bridge.app.listeners import ADMIN_SOCKET
from bridge.edges.http_settings import HttpSettings
from tests.rig.unit_file import UNIT, directives
from tests.unit.test_unit_file import ANALYZE, ROOT, without_reason

SOCKET = ROOT / "systemd" / "mqtthook.socket"


def value(name: str) -> str:
    return " ".join(directive.value for directive in directives(SOCKET.read_text()) if directive.name == name)


def test_every_directive_has_its_reason_on_the_line_above() -> None:
    assert len(directives(SOCKET.read_text())) > 5
    assert without_reason(SOCKET.read_text()) == []


def test_it_listens_where_hooks_do_by_default_and_is_theirs() -> None:
    assert value("ListenStream") == HttpSettings().listen
    assert value("FileDescriptorName") == "hooks" != ADMIN_SOCKET
    assert value("Accept") == "no"


@pytest.mark.skipif(ANALYZE is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path) -> None:
    assert ANALYZE is not None
    for unit in (SOCKET, UNIT):  # a socket is for the service of its name
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/mqtthook/.venv/bin/mqtthook", sys.executable))
    found = subprocess.run([ANALYZE, "--no-pager", "verify", str(tmp_path / SOCKET.name)], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, found.stderr
    assert SOCKET.name not in found.stderr
