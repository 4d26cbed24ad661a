"""config.example.toml: it works as it stands, it shows every setting, and what it calls a default is one.

Its rule: a line `# key = value` or `# [table]` is a setting that is switched off; any other comment is prose.
"""

import math
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel, ValidationError

from bridge.config.load import Loaded, load
from bridge.config.sentences import mistake
from bridge.config.settings import Settings
from tests.rig.certificates import certificate

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"
SWITCHED_OFF = re.compile(r"^# (?=\[[a-z_.\-]+\]|[a-z_]+ = )", re.MULTILINE)
SHARED = re.compile(r"^share = .*$", re.MULTILINE)  # it doesn't go with hooks that listen to their devices; tests/unit/test_config.py has it
SECRET = "whsec_" + "bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE="
SERVICE = "json://localhost"
PINGED = "https://hc-ping.com/1"


def switched_on(text: str) -> str:
    return SWITCHED_OFF.sub("", text)


def loaded(text: str, directory: Path) -> Loaded:
    path = directory / "config.toml"
    certificate(directory, "listener")
    text = SHARED.sub("", text)
    path.write_text(text.replace("/etc/mqtthook/tls/cert.pem", f"{directory}/listener.pem").replace("/etc/mqtthook/tls/key.pem", f"{directory}/listener.key"))
    (directory / "listener.key").chmod(0o600)
    path.chmod(0o600)
    return load(path, dict.fromkeys(re.findall(r'"env:([A-Z_]+)"', text), SECRET) | dict.fromkeys(re.findall(r'apprise = "env:([A-Z_]+)"', text), SERVICE) | {"HEARTBEAT_URL": PINGED})


def models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def reachable(model: type[BaseModel]) -> set[type[BaseModel]]:
    inner = [found for field in model.model_fields.values() for found in models_in(field.annotation)]
    return {model}.union(*(reachable(found) for found in inner))


def own_keys(model: type[BaseModel], models: set[type[BaseModel]]) -> set[str]:
    """Return the keys of a model, as they are written; those of a base that is shown by itself count there."""
    inherited = {name for base in models if base is not model and issubclass(model, base) for name in base.model_fields}
    return {field.alias or name for name, field in model.model_fields.items() if name not in inherited}


def shown(model: type[BaseModel], table: dict[str, Any]) -> Iterator[tuple[type[BaseModel], str]]:
    for name, field in model.model_fields.items():
        key = field.alias or name
        if key not in table:
            continue
        yield model, key
        for inner in models_in(field.annotation):
            named = getattr(field.annotation, "__origin__", None) is dict
            for value in table[key].values() if named else table[key] if isinstance(table[key], list) else [table[key]]:
                if isinstance(value, dict):
                    yield from shown(inner, value)


def missing(text: str) -> list[str]:
    """Return every key of every settings model that *text* doesn't show."""
    found = set(shown(Settings, tomllib.loads(text)))
    models = reachable(Settings)
    return sorted(f"{model.__name__}.{key}" for model in models for key in own_keys(model, models) if (model, key) not in found)


def test_unedited_it_is_valid_without_a_warning() -> None:
    found = load(EXAMPLE, {})
    assert found.warnings == ()
    assert found.settings.mqtt.url == "mqtt://localhost:1883"


def test_unedited_it_sends_to_this_machine_only_and_lets_nobody_in() -> None:
    settings = load(EXAMPLE, {}).settings
    assert [(rule.url and rule.url.text.startswith("http://127.0.0.1:"), rule.sign) for rule in settings.outbound.values()] == [(True, "none")]
    assert not settings.inbound


def test_with_everything_switched_on_it_is_valid_too(tmp_path: Path) -> None:
    found = loaded(switched_on(EXAMPLE.read_text()), tmp_path)
    assert found.warnings == ()
    assert len(found.settings.outbound) > 1
    assert found.settings.inbound


def test_every_setting_is_shown() -> None:
    assert missing(switched_on(EXAMPLE.read_text())) == []


@pytest.mark.parametrize("line", ["durability", "for", "schedule", "ca", "tolerance", "header", "json", "status_topic", "concurrency"])
def test_a_setting_that_is_left_out_is_noticed(line: str) -> None:
    text = switched_on(EXAMPLE.read_text())
    without = re.sub(rf"(^|[ {{]){line} = ", r"\1x_left_out = ", text, flags=re.MULTILINE)
    assert {entry.rpartition(".")[2] for entry in missing(without)} == {line}


def places(table: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path of everything that stands in a table, however deep."""
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


def with_value(table: Any, path: tuple[Any, ...], value: Any) -> Any:
    """Return a copy of a table with something else at a path."""
    copy = dict(table) if isinstance(table, dict) else list(table)
    copy[path[0]] = with_value(table[path[0]], path[1:], value) if path[1:] else value
    return copy


WRONG: tuple[Any, ...] = ("no-such", 10**30, math.inf, [[]], {"x": 1})


def test_whatever_stands_in_its_place_is_said_in_our_own_words() -> None:
    tree = tomllib.loads(switched_on(EXAMPLE.read_text()))
    said = set()
    for path in places(tree):
        table = {"version": 1, path[0]: tree[path[0]]}
        for value in WRONG:
            try:
                Settings(**with_value(table, path, value))
            except ValidationError as exc:
                said |= {mistake(found, Settings).what for found in exc.errors(include_url=False)}
    assert "'no-such': expected 'high' or 'normal'" in said
    assert not [words for words in said if re.search(r"[Ii]nput|Unable|valid|instance|pydantic", words)], "pydantic's own"


def test_what_it_calls_a_default_is_the_default(tmp_path: Path) -> None:
    lines = EXAMPLE.read_text().splitlines()
    destinations = next(n for n, line in enumerate(lines) if line.startswith("# --- destinations"))
    defaults = {n for n in range(destinations) if SWITCHED_OFF.match(lines[n]) and "# example" not in lines[n]}
    defaults |= {n for n, line in enumerate(lines) if "  # the default" in line}
    assert len(defaults) > 20
    every = loaded(switched_on("\n".join(lines)), tmp_path).settings
    fewer = loaded(switched_on("\n".join(line for n, line in enumerate(lines) if n not in defaults)), tmp_path).settings
    assert fewer == every
