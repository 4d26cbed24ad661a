"""bridge/service: what is to be done on a machine, whatever is there already; and the unit as it suits the machine."""

import configparser
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.service.plan import (
    COMMAND,
    CONFIG,
    CREDENTIAL_DIRECTORY,
    DROP_INS,
    PRIVATE_STATE,
    STATE,
    UNITS,
    AddUser,
    Entry,
    Found,
    Link,
    Make,
    Own,
    Program,
    Remove,
    RemoveUser,
    Step,
    Systemctl,
    Write,
    installed,
    obstacle,
    prepared,
    uninstalled,
)
from bridge.service.unit import SERVICE, SOCKET, quoted, suited
from tests.rig.unit_file import UNIT, directives

DIRECTORY = CONFIG.parent
SECRET = CONFIG.with_name("motion.secret")
FIRST = {SECRET: "whsec_x\n", CONFIG: "version = 1\n"}
VENV = Path("/opt/mqtthook/.venv")
BINARY = VENV / "bin" / "mqtthook"
PROGRAM = Program(command=BINARY, places=(VENV, Path("/usr")))

OPEN = Entry(kind="file", mode=0o644)
OURS = Entry(kind="file", group="mqtthook", mode=0o640)
FOLDER = Entry(kind="directory", mode=0o755)
BARE = Found(systemd=252)
UNIT_FILES = {SERVICE: "[Service]\n"}
BOTH = {SERVICE: "[Service]\n", SOCKET: "[Socket]\n"}


def acts(steps: object) -> list[object]:
    """Return what is to be done, without what is so already."""
    assert isinstance(steps, list)
    return [step.act for step in steps if isinstance(step, Step) and step.act is not None]


def a_service(units: dict[str, str] = UNIT_FILES) -> Found:
    """Return a machine on which it is installed and runs."""
    entries = {UNITS / name: Entry(kind="file", text=text) for name, text in units.items()}
    entries |= {COMMAND: Entry(kind="link", text=str(BINARY)), DIRECTORY: FOLDER, CONFIG: OURS, STATE: FOLDER}
    return Found(systemd=252, user=True, entries=entries, enabled=frozenset(units), active=frozenset(units))


# --- the way in ---


def test_on_a_bare_machine_all_is_done_the_secret_before_the_config_that_names_it() -> None:
    assert acts([*prepared(BARE, FIRST)]) == [
        AddUser(),
        Make(DIRECTORY),
        Write(SECRET, "whsec_x\n", "mqtthook", 0o640, anew=False),
        Write(CONFIG, "version = 1\n", "mqtthook", 0o640, anew=False),
    ]
    assert acts([*installed(BARE, BINARY, UNIT_FILES, start=True)]) == [
        Link(COMMAND, BINARY),
        Write(UNITS / SERVICE, "[Service]\n", "root", 0o644, anew=True),
        Systemctl(("daemon-reload",)),
        Systemctl(("enable", "--now", SERVICE)),
    ]


def test_what_is_so_already_is_done_by_nobody_and_still_said() -> None:
    for steps in ([*prepared(a_service(), FIRST)], [*installed(a_service(), BINARY, UNIT_FILES, start=True)], [*installed(a_service(BOTH), BINARY, BOTH, start=True)]):
        assert acts(steps) == []
        assert len(steps) >= 3
        assert all(step.what for step in steps)


def test_a_config_that_is_there_stays_and_brings_no_secret_of_the_first_one_along() -> None:
    found = replace(BARE, entries={DIRECTORY: FOLDER, CONFIG: OURS})
    assert acts([*prepared(found, FIRST)]) == [AddUser()]


def test_a_config_that_is_a_link_counts_as_there() -> None:
    found = replace(BARE, user=True, entries={DIRECTORY: FOLDER, CONFIG: Entry(kind="link", text="/srv/mqtthook.toml")})
    assert acts([*prepared(found, FIRST)]) == []


def test_a_secret_that_was_left_is_kept_when_the_config_is_made_anew() -> None:
    found = replace(BARE, user=True, entries={DIRECTORY: FOLDER, SECRET: OURS})
    assert acts([*prepared(found, FIRST)]) == [Write(CONFIG, "version = 1\n", "mqtthook", 0o640, anew=False)]


@pytest.mark.parametrize(
    ("name", "entry", "is_mended"),
    [
        ("config.toml", OURS, False),
        ("config.toml", replace(OURS, mode=0o440), False),
        ("config.toml", OPEN, True),  # others may read the secrets in it
        ("config.toml", replace(OURS, mode=0o600), True),  # the service may not
        ("config.toml", replace(OURS, group="root"), True),
        ("config.toml", replace(OURS, owner="1000"), True),  # a person's own, as of `mqtthook init`
        ("config.toml", replace(OURS, owner="mqtthook"), True),  # the service could write what it is to obey
        ("config.toml", replace(OURS, mode=0o660), True),
        ("motion.secret", Entry(kind="file", mode=0o600), True),
        ("ca.pem", OPEN, False),  # a certificate is public
        ("ca.pem", replace(OPEN, mode=0o646), True),
        ("key.pem", replace(OPEN, mode=0o600), True),
    ],
)
def test_files_of_the_config_are_read_by_the_service_and_by_no_others(name: str, entry: Entry, *, is_mended: bool) -> None:
    found = replace(BARE, user=True, entries={DIRECTORY: FOLDER, CONFIG: OURS, DIRECTORY / name: entry})
    assert acts([*prepared(found, FIRST)]) == ([Own(DIRECTORY / name, "mqtthook", 0o640)] if is_mended else [])


def test_credentials_are_roots_alone_and_links_are_left_alone() -> None:
    inside = {CREDENTIAL_DIRECTORY / "motion": OPEN, CREDENTIAL_DIRECTORY / "lamp": Entry(kind="file", mode=0o600), CREDENTIAL_DIRECTORY / "x": Entry(kind="link", text="/etc/shadow")}
    found = replace(BARE, user=True, entries={DIRECTORY: FOLDER, CONFIG: OURS, CREDENTIAL_DIRECTORY: FOLDER, **inside})
    assert acts([*prepared(found, FIRST)]) == [Own(CREDENTIAL_DIRECTORY, "root", 0o700), Own(CREDENTIAL_DIRECTORY / "motion", "root", 0o600)]
    assert found.credentials() == ["lamp", "motion"]


@pytest.mark.parametrize("name", [".motion.swp", "motion secret", "a%n", "a:b", "a=b", "Küche"])
def test_a_file_whose_name_can_not_stand_in_a_unit_is_no_credential(name: str) -> None:
    assert replace(BARE, entries={CREDENTIAL_DIRECTORY / name: OPEN}).credentials() == []


@pytest.mark.parametrize(
    ("entry", "act"),
    [
        (None, Link(COMMAND, BINARY)),
        (Entry(kind="link", text=str(BINARY)), None),
        (Entry(kind="link", text="/opt/older/bin/mqtthook"), Link(COMMAND, BINARY)),
        (Entry(kind="file", mode=0o755), None),  # somebody else's program
    ],
)
def test_the_command_is_a_link_unless_another_program_has_its_place(entry: Entry | None, act: Link | None) -> None:
    found = replace(a_service(), entries={**a_service().entries, COMMAND: entry} if entry else {path: known for path, known in a_service().entries.items() if path != COMMAND})
    assert acts([*installed(found, BINARY, UNIT_FILES, start=True)]) == ([act] if act else [])


def test_the_command_needs_no_link_where_it_is_already_at_its_place() -> None:
    assert not [step for step in installed(BARE, COMMAND, UNIT_FILES, start=True) if isinstance(step.act, Link)]


def test_a_new_unit_is_taken_up_by_a_service_that_runs() -> None:
    assert acts([*installed(a_service(), BINARY, {SERVICE: "[Service]\nA=b\n"}, start=True)])[1:] == [Systemctl(("daemon-reload",)), Systemctl(("restart", SERVICE))]


def test_nothing_is_started_where_nothing_shall_be() -> None:
    assert acts([*installed(BARE, BINARY, UNIT_FILES, start=False)])[-1] == Systemctl(("enable", SERVICE))
    assert acts([*installed(a_service(), BINARY, {SERVICE: "[Service]\nA=b\n"}, start=False)])[-1] == Systemctl(("daemon-reload",))
    offline = acts([*installed(replace(BARE, offline=True), BINARY, BOTH, start=True)])
    assert [act for act in offline if isinstance(act, Systemctl)] == [Systemctl(("enable", SOCKET)), Systemctl(("enable", SERVICE))]


def test_the_socket_comes_first_and_never_beside_a_service_that_listens_for_itself() -> None:
    assert acts([*installed(BARE, BINARY, BOTH, start=True)])[-2:] == [Systemctl(("enable", "--now", SOCKET)), Systemctl(("enable", "--now", SERVICE))]
    assert acts([*installed(a_service(), BINARY, BOTH, start=True)])[1:] == [
        Systemctl(("daemon-reload",)),
        Systemctl(("stop", SERVICE)),
        Systemctl(("enable", "--now", SOCKET)),
        Systemctl(("enable", "--now", SERVICE)),
    ]


# --- the way out ---


def test_config_and_outbox_stay_when_the_service_goes() -> None:
    assert acts([*uninstalled(a_service(BOTH), purge=False)]) == [
        Systemctl(("disable", "--now", SOCKET)),  # first: it would start the service again
        Systemctl(("disable", "--now", SERVICE)),
        Remove(UNITS / SERVICE),
        Remove(UNITS / SOCKET),
        Systemctl(("daemon-reload",)),
    ]


def test_a_purge_takes_all_but_a_stranger_s_program() -> None:
    found = a_service()
    found = replace(found, entries={**found.entries, DROP_INS: FOLDER, PRIVATE_STATE: FOLDER})
    gone = [Remove(COMMAND), Remove(DROP_INS), Remove(DIRECTORY), Remove(STATE), Remove(PRIVATE_STATE), RemoveUser()]
    assert acts([*uninstalled(found, purge=True)])[3:] == gone
    stranger = replace(found, entries={**found.entries, COMMAND: Entry(kind="file", mode=0o755)})
    assert acts([*uninstalled(stranger, purge=True)])[3:] == gone[1:]


def test_where_nothing_is_nothing_is_removed() -> None:
    for purge in (False, True):
        assert acts([*uninstalled(BARE, purge=purge)]) == []


# --- what is in the way ---


@pytest.mark.parametrize(
    ("found", "program", "told"),
    [
        (Found(systemd=None), PROGRAM, "systemd doesn't run here"),
        (Found(systemd=241), PROGRAM, "systemd 241, expected 247"),
        (BARE, replace(PROGRAM, command=None), "not installed"),
        (BARE, replace(PROGRAM, places=(Path("/home/pi/mqtthook/.venv"),)), "sudo python3 -m venv /opt/mqtthook/.venv"),
        (BARE, replace(PROGRAM, places=(VENV, Path("/root/.pyenv/versions/3.13.1"))), "system's own Python"),
        (BARE, replace(PROGRAM, places=(VENV, Path("/home/pi/.local/share/uv/python/cpython-3.13"))), "system's own Python"),
        (BARE, replace(PROGRAM, places=(Path("/home/pi/.local/share/pipx/venvs/mqtthook"),)), "PIPX_HOME=/opt/pipx"),
        (BARE, replace(PROGRAM, places=(Path("/tmp/venv"),)), "its sandbox hides /tmp"),
        (BARE, replace(PROGRAM, closed=Path("/opt/mqtthook")), "chmod -R o+rX /opt/mqtthook"),
    ],
)
def test_what_is_in_the_way_is_told_with_what_to_do(found: Found, program: Program, told: str) -> None:
    assert told in (obstacle(found, program) or "")


@pytest.mark.parametrize("place", ["/opt/mqtthook/.venv", "/opt/pipx/venvs/mqtthook", "/usr", "/homestead/venv", "/srv/venv"])
def test_nothing_is_in_the_way_of_a_program_that_the_service_sees(place: str) -> None:
    assert obstacle(BARE, replace(PROGRAM, places=(Path(place),))) is None


# --- the unit ---


def read(text: str) -> dict[str, str]:
    """Return a unit's directives as systemd reads them, but for those that may stand several times."""
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(text)
    return dict(parser["Unit"]) | dict(parser["Service"])


@pytest.mark.parametrize(("systemd", "counts"), [(247, set()), (252, set()), (253, {253}), (254, {253, 254}), (300, {253, 254})])
def test_the_unit_says_what_its_systemd_knows(systemd: int, counts: set[int]) -> None:
    found = read(suited(UNIT.read_text(), systemd=systemd, program=str(BINARY)))
    plain = {directive.name: directive.value for directive in directives(UNIT.read_text()) if directive.section != "Install" and directive.since is None}
    newer = {directive.name: directive.value for directive in directives(UNIT.read_text()) if directive.since in counts}
    assert found == plain | newer
    assert len(newer) == 2 * len(counts)


def test_the_unit_names_the_program_and_gives_it_the_credentials_there_are() -> None:
    text = suited(UNIT.read_text(), systemd=252, program="/srv/a b/bin/mqtthook", credentials=["motion", "lamp"])
    assert 'ExecStart="/srv/a b/bin/mqtthook" run --config /etc/mqtthook/config.toml' in text
    loaded = [directive for directive in directives(text) if directive.name == "LoadCredential"]
    assert [directive.value for directive in loaded] == ["lamp:/etc/mqtthook/credentials/lamp", "motion:/etc/mqtthook/credentials/motion"]
    assert all(directive.section == "Service" and directive.reason for directive in loaded)


@pytest.mark.parametrize(
    ("program", "written"),
    [
        ("/opt/mqtthook/.venv/bin/mqtthook", "/opt/mqtthook/.venv/bin/mqtthook"),
        ("/opt/a b/mqtthook", '"/opt/a b/mqtthook"'),
        ("/opt/50%/mqtthook", '"/opt/50%%/mqtthook"'),
        ('/opt/"/mqtthook', '"/opt/\\"/mqtthook"'),
        ("/opt/\\/mqtthook", '"/opt/\\\\/mqtthook"'),
    ],
)
def test_a_path_is_written_as_a_unit_takes_it(program: str, written: str) -> None:
    assert quoted(program) == written
