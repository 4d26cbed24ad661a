"""The house keeps its order: imports go one way, and the rules stay pure."""

import ast
from pathlib import Path

import pytest

BRIDGE = Path(__file__).parents[2] / "bridge"

# From the ground up; a module may import from its own floor and those below.
FLOORS = (("errors", "model", "__init__"), ("rules",), ("log", "tls", "outbox"), ("edges", "watch"), ("admin",), ("config",), ("app",), ("demo", "service"), ("cli",), ("__main__",))

IMPURE = {"asyncio", "time", "random", "os", "socket", "logging", "threading", "sqlite3", "pathlib", "secrets", "subprocess"}

# A library that only one module, or one room, may know.
KNOWN_BY = {
    "apprise": {"edges/apprise.py"},
    "paho": {"edges/mqtt/examination.py", "edges/mqtt/session.py", "edges/mqtt/subscribing.py", "edges/mqtt/tap.py", "edges/mqtt/wire.py"},
    "aiohttp": {"edges/inlet/guests.py", "edges/inlet/server.py", "edges/outlet/client.py", "edges/outlet/failures.py", "edges/outlet/guard.py", "edges/outlet/heads.py"},
    "sqlite3": {"outbox/connection.py", "outbox/copies.py", "outbox/store.py", "outbox/schema.py", "outbox/rescue.py", "outbox/soundness.py", "cli/version.py"},
    "sqlite_utils": {"outbox/schema.py"},
    "defusedxml": {"rules/markup.py"},
    "cryptography": {"rules/signing/ed25519.py"},
    "prometheus_client": {"watch/metrics.py"},
    "jinja2": {"rules/expressions.py", "rules/reasons.py", "rules/sandbox.py", "rules/structures.py"},
}

MODULES = sorted(BRIDGE.rglob("*.py"))


def place(path: Path) -> str:
    return path.relative_to(BRIDGE).as_posix()


def floor(name: str) -> int:
    return next(n for n, rooms in enumerate(FLOORS) if name in rooms)


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path)}: a relative import"
            found.add(str(node.module))
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "bridge"}
    return found


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_imports_go_one_way(path: Path) -> None:
    here = floor(place(path).split("/")[0].removesuffix(".py"))
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "bridge" and len(parts) > 1 and parts[1] != "__version__":
            assert floor(parts[1]) <= here, f"{place(path)} imports {name}"


@pytest.mark.parametrize("path", [path for path in MODULES if place(path).startswith("rules/")], ids=place)
def test_rules_know_no_clock_no_loop_no_socket_and_no_log(path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path)} & IMPURE


@pytest.mark.parametrize("path", [path for path in MODULES if place(path).startswith("edges/")], ids=place)
def test_edges_import_no_other_edge(path: Path) -> None:
    room = place(path).split("/")[1].removesuffix(".py")
    others = {name.split(".")[2] for name in imported(path) if name.startswith("bridge.edges.")}
    assert others <= {room}


@pytest.mark.parametrize("library", KNOWN_BY)
def test_a_library_is_known_by_one_place(library: str) -> None:
    users = {place(path) for path in MODULES if library in {name.split(".")[0] for name in imported(path)}}
    assert {user for user in users if not user.startswith("demo/")} == KNOWN_BY[library]


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_every_module_states_its_law_on_top(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("path", MODULES, ids=place)
def test_an_import_inside_a_function_says_why(path: Path) -> None:
    lines = path.read_text().splitlines()
    for function in ast.walk(ast.parse(path.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    assert "# " in lines[node.lineno - 1] or "# " in lines[node.lineno - 2], f"{place(path)}:{node.lineno}"


def test_broad_excepts_are_few_and_explained() -> None:
    """Style: `except Exception` stands where strangers' code runs, each with its reason."""
    found = [(place(path), line) for path in MODULES for line in path.read_text().splitlines() if "except Exception" in line and not place(path).startswith("demo/")]
    assert all("#" in line for _, line in found)
    assert {where for where, _ in found} <= {"rules/expressions.py", "outbox/courier.py", "outbox/intake.py", "edges/mqtt/session.py", "edges/inlet/server.py", "edges/apprise.py"}
    assert not any("except:" in path.read_text() for path in MODULES)
