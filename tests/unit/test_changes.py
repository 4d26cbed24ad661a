"""What a config that is read anew changes of the one that runs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.config.changes import changes
from bridge.config.load import load
from bridge.config.settings import Settings

BASE = """version = 1
[destination.crm]
url = "https://crm.example.com/"
secret = "whsec_bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE="
[outbound.hall]
topic = "hall/#"
to = "crm"
[outbound.door]
topic = "door"
url = "https://example.com/"
sign = "none"
[inbound.lamp]
verify = "none"
topic = "lamp/set"
"""

Read = Callable[[str], Settings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def settings(text: str) -> Settings:
        path = tmp_path / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load(path, {}).settings

    return settings


def with_(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new)


ROWS = [  # the new text, added, removed, changed, anew
    (BASE, (), (), (), ()),
    (BASE.replace("\n", "\n# a comment\n"), (), (), (), ()),
    (BASE + '[outbound.cellar]\ntopic = "c"\nto = "crm"\n', ("outbound.cellar",), (), (), ()),
    (BASE.partition("[inbound.lamp]")[0], (), ("inbound.lamp",), (), ()),
    (with_('"door"', '"door/+"'), (), (), ("outbound.door",), ()),
    (with_("lamp/set", "lamp/put"), (), (), ("inbound.lamp",), ()),
    (with_('"none"\ntopic', '"bearer"\nsecret = "0123456789"\ntopic'), (), (), ("inbound.lamp",), ()),
    (with_("crm.example.com", "crm.example.org"), (), (), ("destination.crm",), ()),
    (with_("bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE=", "bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISI="), (), (), ("destination.crm",), ()),
    (with_('[outbound.hall]\ntopic = "hall/#"', '[outbound.room]\ntopic = "hall/#"'), ("outbound.room",), ("outbound.hall",), (), ()),
    (BASE + '[alerts]\nto = "crm"\n', (), (), ("alerts",), ()),
    (BASE.replace("version = 1", 'version = 1\nheartbeat = "https://hc-ping.com/1"'), (), (), ("heartbeat",), ()),
    (BASE + '[home_assistant]\nenabled = true\n', (), (), ("home_assistant",), ()),
    (BASE + '[log]\nlevel = "debug"\n', (), (), ("log",), ()),
    (BASE + '[mqtt]\nurl = "mqtt://other"\n', (), (), (), ("mqtt",)),
    (BASE + '[mqtt]\npassword = "hunter2"\n', (), (), (), ("mqtt",)),
    (BASE + '[http]\nlisten = "127.0.0.1:9000"\n', (), (), ("http",), ()),
    (BASE + '[http]\nmax_body = "1KiB"\n[store]\nhistory = "1d"\nmax_size = "1GiB"\ndurability = "strict"\n', (), (), ("store", "http"), ()),
    (BASE + '[store]\npath = "other.db"\nhistory = "1d"\n', (), (), (), ("store",)),
    (BASE + '[admin]\nlisten = "127.0.0.1:9001"\n[outbound.cellar]\ntopic = "c"\nto = "crm"\n', ("outbound.cellar",), (), ("admin",), ()),
]


@pytest.mark.parametrize(("text", "added", "removed", "changed", "anew"), ROWS)
def test_what_is_different_is_named(read: Read, text: str, added: tuple[str, ...], removed: tuple[str, ...], changed: tuple[str, ...], anew: tuple[str, ...]) -> None:
    found = changes(read(BASE), read(text))
    assert (found.added, found.removed, found.changed, found.anew) == (added, removed, changed, anew)
    assert bool(found) is bool(added or removed or changed or anew)


def test_it_reads_as_a_sentence(read: Read) -> None:
    assert str(changes(read(BASE), read(BASE))) == "nothing has changed"
    found = changes(read(BASE), read(with_('"door"', '"door/+"') + '[outbound.cellar]\ntopic = "c"\nto = "crm"\n[mqtt]\nurl = "mqtt://other"\n'))
    assert str(found) == "added outbound.cellar; changed outbound.door; started anew for mqtt"
    assert found.document() == {"added": ["outbound.cellar"], "removed": [], "changed": ["outbound.door"], "anew": ["mqtt"]}


def test_no_secret_is_in_it(read: Read) -> None:
    found = changes(read(BASE), read(with_("bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISE=", "bXF0dGhvb2sgdGVzdHMgdXNlIHRoaXMga2V5ISI=")))
    assert "whsec" not in f"{found}{found.document()}{found!r}"
