"""Find, read, compose and check the settings; every error at once, each with where and what to do.

Composed as TOML < environment < credentials. `MQTTHOOK_MQTT__URL` is `url` in `[mqtt]`; a credential of
that name goes before both.
"""

import difflib
import json
import os
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bridge.config.lines import Lines
from bridge.config.mending import Rest
from bridge.config.secrets import references, resolve
from bridge.config.sentences import mistake
from bridge.config.settings import Settings
from bridge.errors import ConfigError
from bridge.outbox.settings import StoreSettings

PREFIX = "MQTTHOOK_"
MAX_FILE = 1 << 20  # bytes; ten thousand mappings fit

SYSTEM_CONFIG = Path("/etc/mqtthook/config.toml")

_TEXTS = {("mqtt", "password"), ("admin", "token")}  # text, whatever it looks like

_OWN_VARIABLES = {"CONFIG"}  # after the prefix; not part of the settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """The settings, where they came from, and what should be looked at."""

    path: Path
    settings: Settings
    warnings: tuple[str, ...]


def find(given: str | None, environment: Mapping[str, str]) -> Path:
    """Return the config file: as given, else $MQTTHOOK_CONFIG, else ./config.toml, else /etc/mqtthook/config.toml."""
    named = given or environment.get(PREFIX + "CONFIG")
    if named:
        return Path(named)
    here = Path("config.toml")
    return here if here.exists() or not SYSTEM_CONFIG.exists() else SYSTEM_CONFIG


def load(path: Path, environment: Mapping[str, str], *, with_secrets: bool = True) -> Loaded:
    """Return the settings of the file at *path*; raise ConfigError with everything that is wrong.

    Without secrets, those that the config only refers to are left alone: a command that needs none of them
    works for a person who may not read them.
    """
    text = _text(path)
    tree = _tree(path, text)
    errors = _Errors(path, Lines(text), environment)
    composed = _composed(tree, environment, errors)
    report = errors.add if with_secrets else lambda _key, _what: None
    literal = {key for key in resolve(composed, environment, report) if _stands_in(tree, key)}
    settings = _validated(composed, errors, with_services=with_secrets)
    if settings is None or errors.found:
        raise ConfigError(errors.sorted())
    warnings = [errors.sentence(key, what) for key, what in settings.warnings()]
    if literal and _others_can_read(path):
        keys = ", ".join(sorted(".".join(key) for key in literal))
        warnings.append(f"{path}: others can read this file, and it holds secrets ({keys}): chmod 600 {path}")
    return Loaded(path=path, settings=settings, warnings=tuple(warnings))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sketch:
    """What a copy needs to know of a config: its outbox, and what lies outside of it."""

    outbox: str
    references: tuple[tuple[str, str], ...]  # key path and text of the secrets and files that it only names


def sketch(path: Path, text: bytes, environment: Mapping[str, str]) -> Sketch:
    """Return what is known of the config *text*, though the rest of it may be wrong or made for another machine.

    Raises ConfigError where it is no TOML, or its `[store]` is wrong.
    """
    try:
        tree = _tree(path, text.decode("utf-8-sig"))
    except UnicodeDecodeError as exc:
        raise ConfigError([f"{path}: the config is not UTF-8"]) from exc
    composed = _composed(tree, environment, _Errors(path, Lines(""), environment))
    try:
        store = StoreSettings.model_validate(composed.get("store", {}))
    except ValidationError as exc:
        raise ConfigError([f"{path}: [store] is wrong: `mqtthook check` says more"]) from exc
    return Sketch(outbox=store.path, references=(*references(composed), *_files(composed)))


def _files(tree: Mapping[str, Any], path: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in tree.items():
        if isinstance(value, dict):
            found += _files(value, (*path, key))
        elif path[-1:] == ("tls",) and isinstance(value, str):
            found.append((".".join((*path, key)), value))
    return found


class _Errors:
    def __init__(self, path: Path, lines: Lines, environment: Mapping[str, str]) -> None:
        self._path, self._lines = path, lines
        self._variables = {name.upper(): f"environment {name}" for name in environment}
        self._variables |= {path.name.upper(): f"credential {path.name}" for path in _credentials(environment)}
        self.found: list[tuple[int, str]] = []

    def add(self, key: tuple[str, ...], what: str) -> None:
        self.found.append((self._lines.line_of(key) or 0, self.sentence(key, what)))

    def sentence(self, key: tuple[str, ...], what: str) -> str:
        joint = " " if what.startswith("is missing") else ": "
        return f"{self._where(key)}: {'.'.join(key)}{joint}{what}" if key else f"{self._where(key)}: {what}"

    def sorted(self) -> list[str]:
        return list(dict.fromkeys(text for _, text in sorted(self.found)))

    def _where(self, key: tuple[str, ...]) -> str:
        variable = self._variables.get((PREFIX + "__".join(key)).upper()) if key else None
        if variable is not None:
            return variable
        line = self._lines.line_of(key)
        return f"{self._path}:{line}" if line else str(self._path)


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise ConfigError([f"{path}: this is a directory; expected a TOML file"])
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise ConfigError([f"{path}: there is no such file; `mqtthook init` writes a first one, or name another with --config"]) from exc
    except PermissionError as exc:
        raise ConfigError([f"{path}: this user can't read the file; try with sudo"]) from exc
    except OSError as exc:
        raise ConfigError([f"{path}: the file can't be read: {exc.strerror}"]) from exc
    if len(data) > MAX_FILE:
        raise ConfigError([f"{path}: the file has {len(data)} bytes, expected at most {MAX_FILE}"])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data[: exc.start].count(b"\n") + 1
        raise ConfigError([f"{path}:{line}: the file is not UTF-8 (byte 0x{data[exc.start]:02x}); save it as UTF-8"]) from exc


def _tree(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError([_toml_sentence(path, text, str(exc))]) from exc
    except RecursionError as exc:
        raise ConfigError([f"{path}: it nests too deep"]) from exc


def _toml_sentence(path: Path, text: str, found: str) -> str:
    what, _, where = found.rpartition(" (at ")
    line = "".join(sign for sign in where.partition(",")[0] if sign.isdigit())
    if not line:
        return f"{path}:{len(text.rstrip().split(chr(10)))}: {found}"
    key = Lines(text).key_at(int(line))  # never the line itself: it may hold a secret
    if what.startswith(("Cannot overwrite", "Cannot declare", "Cannot mutate")):
        return f"{path}:{line}: {key} is there a second time; each key and table may stand once"
    hint = "; text stands in straight quotes" if what == "Invalid value" else ""
    return f"{path}:{line}: {what}" + (f": {key}" if key else "") + hint


def _composed(tree: dict[str, Any], environment: Mapping[str, str], errors: _Errors) -> dict[str, Any]:
    composed = _copy(tree)
    for name, value in environment.items():
        if name.upper().startswith(PREFIX):
            _lay(composed, name, value, f"environment {name}", errors)
    for path in _credentials(environment):
        try:
            _lay(composed, path.name, path.read_text(encoding="utf-8").strip(), f"credential {path.name}", errors)
        except (OSError, UnicodeDecodeError) as exc:
            errors.add((), f"credential {path.name}: it can't be read as UTF-8 text: {getattr(exc, 'strerror', None) or exc}")
    return composed


def _lay(composed: dict[str, Any], name: str, value: str, source: str, errors: _Errors) -> None:
    """Put a value where its name says; keys that are there already are found whatever their case."""
    first, *rest = name[len(PREFIX) :].split("__")
    if first.upper() in _OWN_VARIABLES:
        return
    if first.lower() not in Settings.model_fields:
        close = difflib.get_close_matches(first.lower(), Settings.model_fields, 1)
        errors.add((), f"{source}: there is no such setting" + (f"; did you mean {PREFIX}{close[0].upper()}?" if close else ""))
        return
    table = composed
    path = [first, *rest]
    for key in path[:-1]:
        inner = table.setdefault(_spelled(table, key), {})
        if not isinstance(inner, dict):
            errors.add((), f"{source}: {key.lower()} is no table")
            return
        table = inner
    last = _spelled(table, path[-1])
    literal = (first.lower(), last) in _TEXTS
    table[last] = _merged(table.get(last), value if literal else _written(value))


def _spelled(table: Mapping[str, Any], key: str) -> str:
    return next((known for known in table if known.lower() == key.lower()), key.lower())


def _written(value: str) -> Any:
    """Return a list or table that is written as JSON; everything else is text, a token of digits too."""
    if value[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _copy(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, dict) else value for key, value in tree.items()}


def _merged(under: Any, over: Any) -> Any:
    if not (isinstance(under, dict) and isinstance(over, dict)):
        return over
    return under | {key: _merged(under.get(key), value) for key, value in over.items()}


def _credentials(environment: Mapping[str, str]) -> list[Path]:
    directory = environment.get("CREDENTIALS_DIRECTORY")
    if not directory or not os.path.isdir(directory):
        return []
    return sorted(path for path in Path(directory).iterdir() if path.name.upper().startswith(PREFIX))


def _stands_in(tree: Any, key: tuple[str, ...]) -> bool:
    for part in key:
        if not isinstance(tree, dict) or part not in tree:
            return False
        tree = tree[part]
    return True


def _validated(composed: dict[str, Any], errors: _Errors, *, with_services: bool) -> Settings | None:
    """Return the settings, of what is right if something is wrong: all of that is told to *errors*. None where nothing is left."""
    rest = Rest(composed)
    while True:
        try:
            settings = Settings(**rest.tree)
            break
        except ValidationError as exc:
            mistakes = [mistake(found, Settings) for found in exc.errors(include_url=False)]
        for one in [one for one in mistakes if not rest.explains(one.path, one.what)]:
            errors.add(one.path, one.what)
        if not sum(rest.take_out(one.path, one.meant) for one in mistakes):
            return None
    for key, what in (*settings.problems(), *(settings.service_problems() if with_services else ())):
        if not rest.explains(key, what):
            errors.add(key, what)
    return settings


def _others_can_read(path: Path) -> bool:
    return bool(stat.S_IMODE(os.stat(path).st_mode) & 0o007)
