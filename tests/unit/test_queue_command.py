"""`mqtthook queue` on many letters: part by part, and what is done stays done and is told."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bridge.cli import queue
from bridge.errors import BridgeError


class Broken(BridgeError):
    """What a daemon says that ends meanwhile."""


def test_what_was_done_before_it_broke_off_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("version = 1\n")
    asked: list[Any] = []

    def answer(_path: Path, _method: str, place: str, part: Any) -> Any:
        if place == "/queue/parts":
            return [[1000, 1000], [2000, 1000], [2500, 500]]
        asked.append(part)
        if len(asked) == 3:
            raise Broken("the daemon did not answer")
        return {"count": 1000}

    monkeypatch.setattr(queue, "ask", answer)
    result = CliRunner().invoke(queue.command, ["drop", "--all", "--json", "--mapping", "hall", "--config", str(tmp_path / "config.toml")])
    assert isinstance(result.exception, Broken)
    assert result.output == "mqtthook: 2000 letters dropped before this:\n"
    assert asked[:2] == [{"mapping": "hall", "after": 0, "until": 1000}, {"mapping": "hall", "after": 1000, "until": 2000}]


def test_one_answer_for_all_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.toml").write_text("version = 1\n")
    monkeypatch.setattr(queue, "ask", lambda _path, _method, place, _part: [[10, 1000], [20, 5]] if place == "/queue/parts" else {"count": 7})
    result = CliRunner().invoke(queue.command, ["retry", "--dead", "--json", "--config", str(tmp_path / "config.toml")])
    assert (result.exit_code, json.loads(result.output)) == (0, {"count": 14})
