"""The ports that tests get: none is somebody else's, though its server may begin to listen much later."""

import subprocess
import sys

from tests.rig.ports import RANGE, free_port


def test_no_port_is_given_twice_before_all_others_were() -> None:
    found = [free_port() for _ in range(RANGE // 2)]
    assert len(set(found)) == len(found)


def test_another_process_gets_others() -> None:
    ours = [free_port() for _ in range(RANGE)]
    draw = f"from tests.rig.ports import free_port\nprint(*(free_port() for _ in range({RANGE})))"
    theirs = subprocess.run([sys.executable, "-c", draw], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert not set(ours) & {int(port) for port in theirs}
