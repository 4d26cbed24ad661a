"""The settings: where they come from, and each mistake said with its place, its value and what was expected."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bridge.config.lines import Lines
from bridge.config.load import MAX_FILE, Loaded, find, load
from bridge.config.secrets import MAX_FILE as MAX_SECRET
from bridge.config.settings import Settings, state_directory
from bridge.errors import ConfigError
from bridge.rules.access import Auth, OAuth2

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"

DOOR = """\
version = 1
[outbound.door]
topic = "zigbee2mqtt/door/contact"
url = "https://example.com/hooks/door"
sign = "none"
"""

HOOK = """\
version = 1
[inbound.light]
verify = "none"
topic = "zigbee2mqtt/hall_light/set"
"""

Write = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path) -> Write:
    """Give a way to write the config file, which nobody else can read unless *mode* says so."""

    def write(text: str | bytes, *, mode: int = 0o600) -> Path:
        path = tmp_path / "config.toml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        path.chmod(mode)
        return path

    return write


def problems(path: Path, environment: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, environment or {})
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.replace(str(path), "config.toml") for problem in caught.value.problems]


def file(directory: Path, name: str, content: str | bytes, *, mode: int = 0o600) -> Path:
    path = directory / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(mode)
    return path


# The file itself


def test_a_missing_file_is_said_with_what_to_do(tmp_path: Path) -> None:
    assert problems(tmp_path / "nowhere.toml") == [f"{tmp_path}/nowhere.toml: there is no such file; `mqtthook init` writes a first one, or name another with --config".replace(f"{tmp_path}/nowhere.toml", "config.toml")]


def test_a_directory_is_no_config_file(tmp_path: Path) -> None:
    assert problems(tmp_path) == ["config.toml: this is a directory; expected a TOML file"]


def test_a_file_that_cant_be_read_is_said_with_the_systems_reason(tmp_path: Path) -> None:
    assert problems(file(tmp_path, "plain", "") / "config.toml") == ["config.toml: the file can't be read: Not a directory"]


def test_a_file_that_isnt_utf_8_is_said_with_its_line(written: Write) -> None:
    assert problems(written(b'version = 1\n[mqtt]\nusername = "M\xfcller"\n')) == ["config.toml:3: the file is not UTF-8 (byte 0xfc); save it as UTF-8"]


def test_a_file_that_is_too_large_is_refused(written: Write) -> None:
    assert problems(written("#" * (MAX_FILE + 1))) == [f"config.toml: the file has {MAX_FILE + 1} bytes, expected at most {MAX_FILE}"]


def test_a_byte_order_mark_of_windows_is_no_mistake(written: Write) -> None:
    assert load(written(b"\xef\xbb\xbf" + DOOR.encode()), {}).settings.version == 1


SYNTAX = [  # the text, the whole sentence
    ('version = 1\n[mqtt]\nurl = "mqtt://a"\nurl = "mqtt://b"\n', "config.toml:4: url is there a second time; each key and table may stand once"),
    ('version = 1\n[mqtt]\nurl = "mqtt://a"\n[mqtt]\nusername = "b"\n', "config.toml:4: [mqtt] is there a second time; each key and table may stand once"),
    ('version = 1\nmqtt = { url = "mqtt://a" }\nmqtt.username = "b"\n', "config.toml:3: mqtt.username is there a second time; each key and table may stand once"),
    ("version = 1\n[mqtt\n", "config.toml:2: Expected ']' at the end of a table declaration"),
    ("version = 1\n[mqtt]\nkeepalive = 60s\n", "config.toml:3: Expected newline or end of document after a statement: keepalive"),
    ("version = 1\na = [\n", "config.toml:2: Invalid value (at end of document)"),
    ("version = 1\na = " + "[" * 5000, "config.toml: it nests too deep"),
]


@pytest.mark.parametrize(("text", "sentence"), SYNTAX, ids=lambda value: repr(value)[:40])
def test_what_is_no_toml_is_said_with_its_line(written: Write, text: str, sentence: str) -> None:
    assert problems(written(text)) == [sentence]


# Keys and values

MISTAKES = [  # the text, the whole sentence
    ("", "config.toml: version is missing; write `version = 1` on top"),
    ("version = 2\n", "config.toml:1: version: 2: expected 1"),
    ("version = 1\n[mqtt]\nurl = 5\n", "config.toml:3: mqtt.url: 5: expected text in quotes"),
    ('version = 1\nmqtt = "localhost"\n', "config.toml:2: mqtt: expected a table, not text"),
    ("version = 1\n[mqtt]\nkeepalive = 60\n", 'config.toml:3: mqtt.keepalive: 60: expected a duration such as "250ms", "10s", "5m", "1h" or "3d"'),
    ('version = 1\n[mqtt]\ntls = { verify = "vielleicht" }\n', "config.toml:3: mqtt.tls.verify: 'vielleicht': expected true or false"),
    ('version = 1\n[mqtt]\nclient_id = ""\n', "config.toml:3: mqtt.client_id: '': expected at least 1 characters"),
    (f'version = 1\n[mqtt]\nclient_id = "{"x" * 200}"\n', f"config.toml:3: mqtt.client_id: '{'x' * 59}…: expected at most 128 characters"),
    ('version = 1\n[http]\nmax_body = "256KB"\n', 'config.toml:3: http.max_body: \'256KB\': expected a size such as "256KiB" or "64MiB"'),
    ('version = 1\n[http]\nlisten = "8080"\n', 'config.toml:3: http.listen: \'8080\': expected an address and a port, such as "127.0.0.1:8080" or "0.0.0.0:8080"'),
    ('version = 1\n[log]\nlevel = "loud"\n', "config.toml:3: log.level: 'loud': expected 'debug', 'info', 'warning' or 'error'"),
    (DOOR + 'concurrency = "x"\n', "config.toml:6: outbound.door.concurrency: 'x': expected a whole number"),
    (DOOR + "concurrency = 1.5\n", "config.toml:6: outbound.door.concurrency: 1.5: expected a whole number"),
    (DOOR + "concurrency = 0\n", "config.toml:6: outbound.door.concurrency: 0: expected 1 or more"),
    (DOOR + "concurrency = 5000\n", "config.toml:6: outbound.door.concurrency: 5000: expected 1024 or less"),
    (DOOR + 'retry = { factor = "x" }\n', "config.toml:6: outbound.door.retry.factor: 'x': expected a number"),
    (DOOR + 'method = "post"\n', "config.toml:6: outbound.door.method: 'post' is not a method: expected one in capitals, such as POST or PUT"),
    (DOOR + "qos = 3\n", "config.toml:6: outbound.door.qos: 3: expected 0, 1 or 2"),
    (DOOR + 'headers = { "X A" = "x" }\n', "config.toml:6: outbound.door.headers: 'X A' is not a header's name"),
    (DOOR + 'when = "payload.x >"\n', "config.toml:6: outbound.door.when: template 'payload.x >': unexpected 'end of template'"),
    (DOOR + "expires = 1979-05-27\n", 'config.toml:6: outbound.door.expires: expected a duration such as "250ms", "10s", "5m", "1h" or "3d"'),
    (DOOR.replace("zigbee2mqtt/door/contact", "a/#/b"), "config.toml:3: outbound.door.topic: filter 'a/#/b': '#' must be the last level"),
    (DOOR.replace('"zigbee2mqtt/door/contact"', '["ok", "a/#/b"]'), "config.toml:3: outbound.door.topic: filter 'a/#/b': '#' must be the last level"),
    ('version = 1\n[http]\nlisten = "unix:hooks.sock"\n', 'config.toml:3: http.listen: \'unix:hooks.sock\': expected the whole path of a socket file, as in "unix:/run/mqtthook/hooks.sock"'),
    ('version = 1\n[http]\ntrusted_proxies = ["10.0.0.1/8"]\n', "config.toml:3: http.trusted_proxies: '10.0.0.1/8' is an address within a network: did you mean \"10.0.0.0/8\", or \"10.0.0.1\" alone?"),
    ('version = 1\n[http]\ntls = { key = "/etc/ssl/key.pem" }\n', "config.toml:3: http.tls.cert is missing"),
    ('version = 1\n[http]\ntls = { cert = "/nowhere/cert.pem" }\n', "config.toml:3: http.tls.cert: /nowhere/cert.pem: the file can't be read: No such file or directory"),
    (HOOK + 'rate = "fast"\n', "config.toml:5: inbound.light.rate: \'fast\': expected a rate such as \"10/s\", \"60/min\" or \"500/h\""),
    (HOOK + "allow_from = []\n", "config.toml:5: inbound.light.allow_from: expected one network at least: with none, nobody could call; leave it out to let everybody"),
    (HOOK + 'allow_from = "home"\n', "config.toml:5: inbound.light.allow_from: 'home': expected an address or a network, such as \"192.168.1.20\" or \"192.168.0.0/16\""),
    (DOOR.replace("https://", ""), "config.toml:4: outbound.door.url: the URL 'example.com/hooks/door' doesn't start with http:// or https://"),
    (DOOR.replace('topic = "zigbee2mqtt/door/contact"', ""), "config.toml:2: outbound.door.topic is missing: which topic this is about"),
    (HOOK.replace('verify = "none"', ""), 'config.toml:2: inbound.light.verify is missing: how the sender is known; "none" has to be written out'),
    (DOOR.replace(DOOR.splitlines()[3], 'to = "alarm"').replace('sign = "none"', ""), "config.toml:4: outbound.door.to: there is no [destination.alarm]; known: none is written yet"),
    ('version = 1\n[destination."the door"]\nurl = "https://example.com/"\nsign = "none"\n', "config.toml:2: destination.the door: 'the door' is not a name: letters, digits, '-' and '_', at most 64"),
    ('version = 1\n[destination.door]\nsign = "none"\n', "config.toml:2: destination.door.url is missing: where the events go"),
    (DOOR + '[destination.door]\nurl = "https://example.com/"\nsign = "none"\n', "config.toml:2: outbound.door: it has a url of its own, and there is a [destination.door] too: rename one of them, their events wait under that name"),
    (DOOR.replace("outbound.door", "outbound.mqtt"), "config.toml:2: outbound.mqtt: with a url of its own it can't be called mqtt: commands wait for the broker under that name; rename it"),
    ('version = 1\n[destination.mqtt]\nurl = "https://example.com/"\nsign = "none"\n', "config.toml:2: destination.mqtt: it can't be called mqtt: commands wait for the broker under that name; rename it"),
    (DOOR + HOOK.removeprefix("version = 1\n").replace("light", "door", 1), "config.toml:2: outbound.door: there is an [inbound.door] too: rename one of them, they are counted under that name"),
    (HOOK + '[inbound.lamp]\nverify = "none"\ntopic = "a"\npath = "/hooks/light"\n', "config.toml:8: inbound.lamp.path: inbound.light listens at the same path"),
    ('version = 1\n[mqtt]\nurl = "http://localhost"\n', 'config.toml:3: mqtt.url: \'http://localhost\': expected mqtt://, mqtts://, ws://, wss:// or unix://, as in "mqtt://localhost:1883"'),
    ('version = 1\n[mqtt]\nurl = "unix://run/mosquitto.sock"\n', 'config.toml:3: mqtt.url: \'unix://run/…\': expected three slashes and the path of the socket, as in "unix:///run/mosquitto.sock"'),
    ('version = 1\n[mqtt]\nurl = "mqtt://"\n', 'config.toml:3: mqtt.url: \'mqtt://\': expected a host, as in "mqtt://localhost:1883"'),
    ('version = 1\n[mqtt]\nurl = "mqtt://a:0"\n', "config.toml:3: mqtt.url: 'mqtt://a:0': expected a port from 1 to 65535"),
    ('version = 1\n[mqtt]\nurl = "mqtts://a"\ntls = { ca = "/nowhere.pem" }\n', "config.toml:4: mqtt.tls.ca: /nowhere.pem: the file can't be read: No such file or directory"),
    ('version = 1\n[mqtt]\ntls = { key = "me.key" }\n', "config.toml:3: mqtt.tls.cert is missing: a `key` is half of who we are, its certificate the other half"),
    (DOOR + 'tls = { ca = "/nowhere.pem" }\n', "config.toml:6: outbound.door.tls.ca: /nowhere.pem: the file can't be read: No such file or directory"),
    (DOOR + 'tls = { cert = "/dev/null" }\n', "config.toml:6: outbound.door.tls.cert: /dev/null: expected a certificate and its key in PEM form"),
    (DOOR + 'tls = { key = "me.key" }\n', "config.toml:6: outbound.door.tls.cert is missing: a `key` is half of who we are, its certificate the other half"),
    (DOOR + 'network = "wan"\n', "config.toml:6: outbound.door.network: 'wan': expected 'lan', 'public' or 'any'"),
    (DOOR.replace("example.com", "169.254.169.254"), 'config.toml:4: outbound.door.url: 169.254.169.254 is a cloud\'s metadata service; `network = "lan"` refuses it'),
    (DOOR.replace("example.com", "[::1]:8443") + 'network = "public"\n', 'config.toml:4: outbound.door.url: ::1 is this machine itself; `network = "public"` refuses it'),
    (DOOR.replace("example.com", "127.1"), "config.toml:4: outbound.door.url: '127.1' ends in a number, but is no address: expected four numbers such as 192.168.1.20, or a name"),
    (DOOR + 'timeout = "15"\n', 'config.toml:6: outbound.door.timeout: \'15\': expected a duration such as "250ms", "10s", "5m", "1h" or "3d"'),
    (DOOR + 'timeout = { connect = "9s", total = "3s" }\n', "config.toml:6: outbound.door.timeout.connect: expected no more than `total`, which counts from the same moment"),
    (DOOR + 'auth = { bearer = "0123456789", basic = ["me", "hunter2"] }\n', "config.toml:6: outbound.door.auth: expected one of `bearer`, `basic`, `header` with `value`, and `oauth2`"),
    (DOOR + 'auth = "hunter2"\n', "config.toml:6: outbound.door.auth: expected a table, not text"),
    (DOOR + 'auth = { bearer = ["hunter2"] }\n', "config.toml:6: outbound.door.auth.bearer: the value (not shown): expected text in quotes"),
    (DOOR + 'auth = { basic = "hunter2" }\n', 'config.toml:6: outbound.door.auth.basic: the value (not shown): expected a list of two: ["user", "password"]'),
    (DOOR + 'auth = { header = "Host", value = "hunter2" }\n', "config.toml:6: outbound.door.auth.header: the header 'Host' is written by the bridge itself"),
    (DOOR + 'auth = { header = "content-type", value = "hunter2" }\n', "config.toml:6: outbound.door.auth.header: the header 'content-type' is written by the bridge itself"),
    (DOOR + 'headers = { authorization = "x" }\nauth = { bearer = "hunter2" }\n', "config.toml:7: outbound.door.auth: the header 'Authorization' stands in `headers` as well"),
    (DOOR + 'auth = { oauth2 = { token_url = "https://a.example/", client_id = "me" } }\n', "config.toml:6: outbound.door.auth.oauth2.client_secret is missing"),
    (DOOR + 'auth = { oauth2 = { token_url = "http://0.0.0.0/", client_id = "me", client_secret = "hunter2" } }\n', 'config.toml:6: outbound.door.auth.oauth2.token_url: 0.0.0.0 is no address to connect to; `network = "lan"` refuses it'),
    ('version = 1\n[mqtt]\nstatus_topic = "a/+"\n', "config.toml:3: mqtt.status_topic: nothing can be published to 'a/+': it holds the wildcard '+'"),
    ('version = 1\n[mqtt]\nshare = "a/b"\n', "config.toml:3: mqtt.share: 'a/b' can't be a group's name: it holds '/'"),
    ('version = 1\n[admin]\nlisten = "0.0.0.0:8081"\n', "config.toml:2: admin: `token` is missing: it is needed where others can reach the address; or listen on 127.0.0.1"),
]


@pytest.mark.parametrize(("text", "sentence"), MISTAKES, ids=lambda value: repr(value)[:50])
def test_a_mistake_is_said_with_its_line_its_key_its_value_and_what_was_expected(written: Write, text: str, sentence: str) -> None:
    assert problems(written(text)) == [sentence]


UNKNOWN = [  # the text, the whole sentence
    ("version = 1\n[mqqt]\n", "config.toml:2: mqqt: there is no such key; did you mean `mqtt`?"),
    ('version = 1\n[mqtt]\nulr = "mqtt://a"\n', "config.toml:3: mqtt.ulr: there is no such key; did you mean `url`?"),
    ("version = 1\n[mqtt]\ntls = { verfy = true }\n", "config.toml:3: mqtt.tls.verfy: there is no such key; did you mean `verify`?"),
    ("version = 1\n[log]\nzzz = 1\n", "config.toml:3: log.zzz: there is no such key; known here: format, level"),
    (DOOR + 'wehn = "payload"\n', "config.toml:6: outbound.door.wehn: there is no such key; did you mean `when`?"),
    (DOOR + "jsn = {}\n", "config.toml:6: outbound.door.jsn: there is no such key; did you mean `json`?"),
    (DOOR + 'retry = { frist = "5s" }\n', "config.toml:6: outbound.door.retry.frist: there is no such key; did you mean `first`?"),
    (DOOR + '[outbound.door.retry]\nfro = "5s"\n', "config.toml:7: outbound.door.retry.fro: there is no such key; did you mean `for`?"),
    (HOOK.replace('"none"', '{ scheme = "none", toleranze = "5m" }'), "config.toml:3: inbound.light.verify.toleranze: there is no such key; did you mean `tolerance`?"),
    ('version = 1\n[destination.x]\nurl = "https://example.com/"\nsign = "none"\ntimout = "5s"\n', "config.toml:5: destination.x.timout: there is no such key; did you mean `timeout`?"),
    (DOOR + 'timeout = { totl = "5s" }\n', "config.toml:6: outbound.door.timeout.totl: there is no such key; did you mean `total`?"),
    (DOOR + 'auth = { baerer = "hunter2" }\n', "config.toml:6: outbound.door.auth.baerer: there is no such key; did you mean `bearer`?"),
    (DOOR + 'auth = { oauth2 = { url = "https://a.example/", token_url = "https://a.example/", client_id = "me", client_secret = "hunter2" } }\n', "config.toml:6: outbound.door.auth.oauth2.url: there is no such key; known here: client_id, client_secret, scope, token_url"),
]


@pytest.mark.parametrize(("text", "sentence"), UNKNOWN, ids=lambda value: repr(value)[:50])
def test_an_unknown_key_is_said_with_what_was_probably_meant(written: Write, text: str, sentence: str) -> None:
    assert problems(written(text)) == [sentence]


def test_a_destination_that_isnt_there_is_said_with_those_that_are(written: Write) -> None:
    destinations = "".join(f'[destination.{name}]\nurl = "https://example.com/"\nsign = "none"\n' for name in ("alarm", "home"))
    text = f'version = 1\n{destinations}[outbound.door]\ntopic = "a"\nto = ["home", "alrm"]\n'
    assert problems(written(text)) == ["config.toml:10: outbound.door.to: there is no [destination.alrm]; known: alarm, home"]


def test_a_name_that_a_template_cant_use_is_said_with_the_line_of_the_template(written: Write) -> None:
    (problem,) = problems(written(DOOR + 'when = "paylod.contact"\n'))
    assert "'paylod' is not a name that can be used here; did you mean 'payload'?" in problem
    assert problem.startswith("config.toml:6: outbound.door.when")


def test_every_error_is_shown_at_once_in_the_order_of_the_lines(written: Write) -> None:
    text = f"""\
version = 1
mqttt = {{}}

[mqtt]
url = 5

[destination.alarm]
url = "example.com"
secret = "env:NOT_SET"
timeout = "5"

[inbound.light]
verify = "bearer"
secret = "{SECRET[:3]}"
topic = "a/#"
"""
    found = problems(written(text), {"MQTTHOOK_LOGG__LEVEL": "info"})
    assert [problem.split(": ")[:2] for problem in found] == [
        ["config.toml", "environment MQTTHOOK_LOGG__LEVEL"],
        ["config.toml:2", "mqttt"],
        ["config.toml:5", "mqtt.url"],
        ["config.toml:8", "destination.alarm.url"],
        ["config.toml:9", "destination.alarm.secret"],
        ["config.toml:10", "destination.alarm.timeout"],
        ["config.toml:15", "inbound.light.topic"],
    ]


def test_what_only_the_whole_of_the_settings_tells_is_shown_at_once_too(written: Write) -> None:
    found = problems(written('version = 1\n[destination.a]\n[destination.b]\n[outbound.x]\ntopic = "a"\nto = "c"\n'))
    assert [problem.partition(" ")[0] for problem in found] == ["config.toml:2:", "config.toml:2:", "config.toml:3:", "config.toml:3:", "config.toml:6:"]


MANY = """
version = 1
[log]
levl = "info"
[destination.crm]
ur = "https://crm.example/"
[destination."the door"]
url = "https://example.com/"
sign = "none"
[outbound.a]
topic = "a"
url = "https://example.com/"
whn = "payload.x"
[outbound.b]
topic = "b"
to = ["crm", "nowhere"]
cooldown = "60 parsecs"
[outbound.c]
topic = "{room}/c"
url = "https://example.com/"
sign = "none"
when = "paylod.x"
text = "{{ rom }}"
key = "{{ tpic }}"
reply = { topic = "{{ room }}/d", text = "{{ reponse.status }}" }
[outbound.d]
topic = "d/#/e"
to = "crm"
batch = "many"
[inbound.e]
verify = "bearr"
topic = "e"
text = "{{ boddy }}"
rate = 60
[alerts]
to = "me"
"""

ALL = [  # in the order of their lines
    "4: log.levl: there is no such key; did you mean `level`?",
    "5: destination.crm.secret: standard-webhooks needs a secret",
    "6: destination.crm.ur: there is no such key; did you mean `url`?",
    "7: destination.the door: 'the door' is not a name",
    "10: outbound.a.secret: standard-webhooks needs a secret",
    "13: outbound.a.whn: there is no such key; did you mean `when`?",
    "16: outbound.b.to: there is no [destination.nowhere]; known: crm, the door",
    "17: outbound.b.cooldown: '60 parsecs': expected a duration",
    "22: outbound.c.when: 'paylod' is not a name",
    "23: outbound.c.text: 'rom' is not a name",
    "24: outbound.c.key: 'tpic' is not a name",
    "25: outbound.c.reply.text: 'reponse' is not a name",
    "27: outbound.d.topic: filter 'd/#/e': '#' must be the last level",
    "29: outbound.d.batch: expected a table, not text",
    "31: inbound.e.verify: there is no scheme \"bearr\"; did you mean \"bearer\"?",
    "33: inbound.e.text: 'boddy' is not a name",
    "34: inbound.e.rate: 60: expected a rate",
    "36: alerts.to: there is no [destination.me]; known: crm, the door",
]


def test_every_mistake_is_said_at_once_and_none_that_comes_of_another(written: Write) -> None:
    found = [problem.removeprefix("config.toml:") for problem in problems(written(MANY))]
    assert [problem[: len(said)] for problem, said in zip(found, ALL, strict=True)] == ALL


# Secrets


def hook_with(secret: str, *, verify: str = "bearer") -> str:
    return HOOK.replace('"none"', f'"{verify}"') + f"secret = {secret}\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('version = 1\n[destination.x]\nurl = "https://example.com/"\nsecret = "whsec_aGVsbG8="\n', "config.toml:4: destination.x.secret: this secret has 5 bytes, expected 24 to 64: make one with `mqtthook secret new`"),
        ('version = 1\n[destination.x]\nurl = "https://example.com/"\nsecret = "hello"\n', "config.toml:4: destination.x.secret: expected whsec_ and base64 after it: make one with `mqtthook secret new`"),
        ('version = 1\n[destination.x]\nurl = "https://example.com/"\n', 'config.toml:2: destination.x.secret: standard-webhooks needs a secret: make one with `mqtthook secret new`, or write out sign = "none" (of a hook: verify = "none")'),
        (hook_with('""'), "config.toml:5: inbound.light.secret: this secret is empty: make one with `mqtthook secret new`"),
        (hook_with('["0123456789", ""]'), "config.toml:5: inbound.light.secret: this secret is empty: make one with `mqtthook secret new`"),
        (hook_with('"env:LIGHT_SECRET"'), "config.toml:5: inbound.light.secret: 'env:LIGHT_SECRET': the environment variable LIGHT_SECRET is not set"),
        (hook_with('"env:"'), "config.toml:5: inbound.light.secret: 'env:': the environment variable  is not set"),
        (hook_with('["0123456789", "env:LIGHT_SECRET"]'), "config.toml:5: inbound.light.secret: 'env:LIGHT_SECRET': the environment variable LIGHT_SECRET is not set"),
        (hook_with('"credential:light"'), "config.toml:5: inbound.light.secret: 'credential:light': systemd gave no credentials: $CREDENTIALS_DIRECTORY is not set; add LoadCredential= to the unit"),
        (hook_with("12345678"), "config.toml:5: inbound.light.secret: the value (not shown): expected text in quotes"),
        ('version = 1\n[mqtt]\npassword = ["hunter2"]\n', "config.toml:3: mqtt.password: the value (not shown): expected text in quotes"),
        ('version = 1\n[admin]\ntoken = ""\n', "config.toml:2: admin: `token` is empty: make one with `mqtthook secret new`"),
    ],
    ids=lambda value: repr(value)[-50:],
)
def test_a_secret_that_is_unfit_or_isnt_there_is_said_without_being_shown(written: Write, text: str, sentence: str) -> None:
    assert problems(written(text)) == [sentence]


def test_a_relative_path_is_meant_from_where_the_program_is_started_and_an_error_says_where_that_is(written: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path = written(hook_with('"file:light.secret"'))
    told = f"the file can't be read: No such file or directory; it was looked for from {tmp_path}/here, where this was started: write its whole path"
    assert problems(path) == [f"config.toml:5: inbound.light.secret: 'file:light.secret': {told}"]
    file(tmp_path / "here", "light.secret", "0123456789012345")
    assert load(path, {}).warnings == ()


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("0123456789", 0o604, "others can read this file: chmod 600 {path}"),
        ("0123456789", 0o602, "others can read this file: chmod 600 {path}"),
        ("0123456789", 0o644, "others can read this file: chmod 600 {path}"),
        (" \n", 0o600, "the file is empty"),
        (b"\xff\xfe", 0o600, "the file is not UTF-8 text"),
        ("x" * (MAX_SECRET + 1), 0o600, "the file is too large to be a secret"),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_secret_file_that_is_unfit_is_refused(written: Write, tmp_path: Path, content: str | bytes, mode: int, words: str) -> None:
    path = file(tmp_path, "secret", content, mode=mode)
    assert problems(written(hook_with(f'"file:{path}"'))) == [f"config.toml:5: inbound.light.secret: 'file:{path}': {words.format(path=path)}"]


@pytest.mark.parametrize(("name", "reason"), [("nowhere", "No such file or directory"), (".", "Is a directory")])
def test_a_secret_file_that_cant_be_read_is_said_with_the_systems_reason(written: Write, tmp_path: Path, name: str, reason: str) -> None:
    reference = f"file:{tmp_path}/{name}"
    assert problems(written(hook_with(f'"{reference}"'))) == [f"config.toml:5: inbound.light.secret: '{reference}': the file can't be read: {reason}"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_secret_file_of_somebody_else_is_said_with_the_systems_reason(written: Write, tmp_path: Path) -> None:
    path = file(tmp_path, "secret", "0123456789", mode=0)
    assert problems(written(hook_with(f'"file:{path}"'))) == [f"config.toml:5: inbound.light.secret: 'file:{path}': the file can't be read: Permission denied"]


@pytest.mark.parametrize(("name", "words"), [("a/b", "expected the name of a credential, without a path"), ("..", "expected the name of a credential, without a path"), ("", "expected the name of a credential"), ("nowhere", "No such file or directory")])
def test_a_credential_that_isnt_one_is_refused(written: Write, tmp_path: Path, name: str, words: str) -> None:
    (problem,) = problems(written(hook_with(f'"credential:{name}"')), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert problem.startswith(f"config.toml:5: inbound.light.secret: 'credential:{name}': ")
    assert words in problem


def test_a_secret_is_taken_from_where_the_config_says(written: Write, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file(credentials, "light", "from a credential\n", mode=0o644)
    path = file(tmp_path, "secret", "from a file\n", mode=0o640)
    text = hook_with(f'["env:LIGHT_SECRET", "file:{path}", "credential:light", "written out", "https://no-reference"]')
    rule = load(written(text), {"LIGHT_SECRET": "from the environment", "CREDENTIALS_DIRECTORY": str(credentials)}).settings.inbound["light"]
    assert rule.verifying_keys() == (b"from the environment", b"from a file", b"from a credential", b"written out", b"https://no-reference")


def test_every_credential_may_be_referred_to(written: Write, tmp_path: Path) -> None:
    file(tmp_path, "word", "from a credential\n", mode=0o644)
    path = file(tmp_path, "id", "from a file\n", mode=0o640)
    urls = 'url = "https://example.com/"\nsign = "none"\n'
    text = f"""\
version = 1
[destination.a]
{urls}auth = {{ bearer = "env:TOKEN" }}
[destination.b]
{urls}auth = {{ basic = ["file:{path}", "credential:word"] }}
[destination.c]
{urls}auth = {{ header = "X-Api-Key", value = "env:TOKEN" }}
[destination.d]
{urls}auth = {{ oauth2 = {{ token_url = "https://a.example/", client_id = "file:{path}", client_secret = "credential:word" }} }}
"""
    found = load(written(text), {"TOKEN": "from-the-environment", "CREDENTIALS_DIRECTORY": str(tmp_path)}).settings.destination
    auths = {name: destination.auth for name, destination in found.items()}
    assert auths["a"] == Auth(bearer=SecretStr("from-the-environment"))
    assert auths["b"] == Auth(basic=("from a file", SecretStr("from a credential")))
    assert auths["c"] == Auth(header="X-Api-Key", value=SecretStr("from-the-environment"))
    assert auths["d"] == Auth(oauth2=OAuth2(token_url="https://a.example/", client_id="from a file", client_secret=SecretStr("from a credential")))


@pytest.mark.parametrize("place", ['{ bearer = "env:NO" }', '{ basic = ["me", "env:NO"] }', '{ basic = ["env:NO", "x"] }', '{ header = "X", value = "env:NO" }', '{ oauth2 = { token_url = "https://a.example/", client_id = "x", client_secret = "env:NO" } }'])
def test_a_credential_that_isnt_there_is_said_once(written: Write, place: str) -> None:
    (problem,) = problems(written(DOOR + f"auth = {place}\n"))
    assert problem.startswith("config.toml:6: outbound.door.auth.")
    assert problem.endswith(": 'env:NO': the environment variable NO is not set")


@pytest.mark.parametrize(
    "text",
    [
        'version = 1\n[mqtt]\npassword = "hunter2hunter2\n',
        "version = 1\n[mqtt]\npassword = hunter2hunter2\n",
        'version = 1\n[mqtt]\nurl = "mqtt://me:hunter2hunter2@localhost"\n',
        'version = 1\n[mqtt]\nurl = "mqttx://me:hunter2hunter2@localhost"\n',
        'version = 1\n[mqtt]\npassword = ["hunter2hunter2"]\n',
        'version = 1\n[mqtt]\npassword = { a = "hunter2hunter2" }\n',
        'version = 1\n[mqtt]\npasswort = "hunter2hunter2"\n',
        'version = 1\n[admin]\ntoken = ["hunter2hunter2"]\n',
        'version = 1\n[admin]\nlisten = "x"\ntoken = "hunter2hunter2"\n',
        'version = 1\n[destination.x]\nurl = "https://me:hunter2hunter2@example.com/"\n',
        'version = 1\n[destination.x]\nurl = "htps://me:hunter2hunter2@example.com/"\n',
        'version = 1\n[destination.x]\nurl = "me:hunter2hunter2@example.com/"\n',
        'version = 1\n[destination.x]\nsecret = [\n    "hunter2hunter2\n]\n',
        'version = 1\n[destination.x]\nsecret = [\n    "whsec_hunter2hunter2=\n]\n',
        'version = 1\n[destination.x]\nsecret = """\nhunter2hunter2\x00"""\n',
        'version = 1\n[destination.x]\nurl = "https://example.com/"\nsecret = "hunter2hunter2"\n',
        'version = 1\n[destination.x]\nurl = "https://example.com/"\nsecret = ["hunter2hunter2", 5]\n',
        'version = 1\n[destination.x]\nurl = "https://example.com/"\nsecret = { a = "hunter2hunter2" }\n',
        'version = 1\n[destination.x]\nurl = "https://example.com/"\nsecret = "hunter2hunter2"\nsecret = "hunter2hunter2"\n',
        'version = 1\n[destination.x]\nsecret = "whsec_hunter2hunter2" "\n',
        'version = 1\n[inbound.x]\nverify = "standard-webhooks"\ntopic = "a"\nsecret = "hunter2hunter2"\n',
        DOOR + 'auth = "hunter2hunter2"\n',
        DOOR + 'auth = ["hunter2hunter2"]\n',
        DOOR + 'auth = { bearer = "hunter2hunter2 " }\n',
        DOOR + 'auth = { bearer = { a = "hunter2hunter2" } }\n',
        DOOR + 'auth = { basic = ["hunter2hunter2"] }\n',
        DOOR + 'auth = { basic = ["hunter2hunter2", 5] }\n',
        DOOR + 'auth = { basic = [5, "hunter2hunter2"] }\n',
        DOOR + 'auth = { value = "hunter2hunter2" }\n',
        DOOR + 'auth = { header = "X", value = "hunter2hunter2\\n" }\n',
        DOOR + 'auth = { header = "X", valeu = "hunter2hunter2" }\n',
        DOOR + 'auth = { oauth2 = "hunter2hunter2" }\n',
        DOOR + 'auth = { oauth2 = { client_secret = "hunter2hunter2" } }\n',
        DOOR + 'auth = { oauth2 = { client_secret = ["hunter2hunter2"] } }\n',
    ],
)
def test_no_message_holds_a_secret(written: Write, text: str) -> None:
    assert "hunter2" not in "\n".join(problems(written(text)))


@pytest.mark.parametrize(("name", "value"), [("MQTTHOOK_MQTT", "{hunter2"), ("MQTTHOOK_ADMIN__TOKEN", "hunter2"), ("MQTTHOOK_DESTINATION__X__SECRET", "hunter2"), ("MQTTHOOK_MQTT__PASSWORT", "hunter2")])
def test_no_message_holds_a_secret_of_the_environment(written: Write, name: str, value: str) -> None:
    text = 'version = 1\n[destination.x]\nurl = "https://example.com/"\n'
    assert "hunter2" not in "\n".join(problems(written(text), {name: value}))


def test_no_secret_appears_where_the_settings_are_printed(written: Write) -> None:
    text = f'version = 1\n[mqtt]\npassword = "hunter2"\n[destination.x]\nurl = "https://example.com/"\nsecret = "{SECRET}"\n'
    loaded = load(written(text, mode=0o644), {})
    assert SECRET not in repr(loaded)
    assert "hunter2" not in repr(loaded)
    assert loaded.warnings


# The environment and credentials

PASSWORDS = 'version = 1\n[mqtt]\nurl = "mqtt://toml"\nusername = "toml"\npassword = "toml"\n'


def test_the_environment_overrides_the_file_and_leaves_its_other_keys(written: Write) -> None:
    mqtt = load(written(PASSWORDS), {"MQTTHOOK_MQTT__URL": "mqtt://environment", "mqtthook_log__level": "debug"}).settings.mqtt
    assert (mqtt.url, mqtt.username) == ("mqtt://environment", "toml")


def test_a_credential_overrides_both(written: Write, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file(credentials, "MQTTHOOK_MQTT__PASSWORD", "credential\n")
    file(credentials, "something-else", "not ours")
    mqtt = load(written(PASSWORDS), {"MQTTHOOK_MQTT__PASSWORD": "environment", "MQTTHOOK_MQTT__USERNAME": "environment", "CREDENTIALS_DIRECTORY": str(credentials)}).settings.mqtt
    assert mqtt.password is not None
    assert (mqtt.url, mqtt.username, mqtt.password.get_secret_value()) == ("mqtt://toml", "environment", "credential")


def test_the_real_environment_counts_only_if_it_is_given(written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTTHOOK_MQTT__URL", "mqtt://real")
    assert load(written(PASSWORDS), {}).settings.mqtt.url == "mqtt://toml"
    assert load(written(PASSWORDS), dict(os.environ)).settings.mqtt.url == "mqtt://real"


def test_a_whole_table_may_stand_in_the_environment(written: Write) -> None:
    for text, username in (("version = 1\n", None), (PASSWORDS, "toml")):
        mqtt = load(written(text), {"MQTTHOOK_MQTT": '{"url": "mqtt://environment", "tls": {"verify": false}}'}).settings.mqtt
        assert (mqtt.url, mqtt.username, mqtt.tls.verify) == ("mqtt://environment", username, False)


@pytest.mark.parametrize("secret", [SECRET, f'["{SECRET}", "{OTHER}"]'])
def test_the_secret_of_a_destination_may_stand_in_the_environment_as_one_or_as_a_list(written: Write, secret: str) -> None:
    loaded = load(written('version = 1\n[destination.alarm]\nurl = "https://example.com/"\n'), {"MQTTHOOK_DESTINATION__ALARM__SECRET": secret})
    assert len(loaded.settings.destination["alarm"].signing_keys()) == (2 if secret.startswith("[") else 1)


@pytest.mark.parametrize(
    ("name", "value", "path", "read"),
    [
        ("MQTTHOOK_VERSION", "1", "version", 1),
        ("MQTTHOOK_OUTBOUND__DOOR__QOS", "0", "outbound.door.qos", 0),
        ("mqtthook_outbound__Door__Concurrency", "4", "outbound.door.concurrency", 4),
        ("MQTTHOOK_OUTBOUND__DOOR__ENABLED", "false", "outbound.door.enabled", False),
        ("MQTTHOOK_OUTBOUND__DOOR__RETRY__FOR", "1h", "outbound.door.retry.for_", 3600.0),
        ("MQTTHOOK_OUTBOUND__DOOR__RETRY__FACTOR", "2.5", "outbound.door.retry.factor", 2.5),
        ("MQTTHOOK_OUTBOUND__DOOR__EXPIRES", "1h", "outbound.door.expires", 3600.0),
        ("MQTTHOOK_STORE__MAX_SIZE", "1MiB", "store.max_size", 1 << 20),
        ("MQTTHOOK_MQTT__TLS__VERIFY", "false", "mqtt.tls.verify", False),
        ("MQTTHOOK_MQTT__CLIENT_ID", "42", "mqtt.client_id", "42"),
    ],
)
def test_every_kind_of_value_may_stand_in_the_environment(written: Write, name: str, value: str, path: str, read: object) -> None:
    at: Any = load(written(DOOR), {name: value}).settings
    for key in path.split("."):
        at = at[key] if isinstance(at, dict) else getattr(at, key)
    assert at == read


@pytest.mark.parametrize("password", ["[1]", "{}", "[hunter2", '{"a": 1}', "null", "true", "1e5"])
def test_a_password_that_looks_like_json_stays_text(written: Write, password: str) -> None:
    mqtt = load(written("version = 1\n"), {"MQTTHOOK_MQTT__PASSWORD": password}).settings.mqtt
    assert mqtt.password is not None
    assert mqtt.password.get_secret_value() == password


@given(st.sampled_from(["MQTT", "MQTT__URL", "MQTT__", "__", "", "VERSION__X", "MQTT__TLS", "OUTBOUND__DOOR__TOPIC", "OUTBOUND__DOOR", "DESTINATION__X__SECRET", "INBOUND"]), st.one_of(st.text(), st.sampled_from(["{}", "[]", '{"a":{"b":1}}', "[[1]]"])))
def test_whatever_a_variable_holds_it_is_taken_or_each_mistake_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, name: str, value: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any-variable.toml"
    path.write_text(DOOR)
    path.chmod(0o600)
    try:
        assert load(path, {"MQTTHOOK_" + name: value}).settings.version == 1
    except ConfigError as exc:
        assert exc.problems
        assert all(re.match(re.escape(str(path)) + r"(:\d+)?: |environment MQTTHOOK_", problem) for problem in exc.problems)


def test_a_variable_that_nests_without_end_is_an_error_like_any_other(written: Write) -> None:
    assert problems(written(DOOR), {"MQTTHOOK_MQTT": "[" * 50_000}) == ["environment MQTTHOOK_MQTT: mqtt: expected a table, not text"]


def test_a_token_of_digits_in_the_environment_stays_text(written: Write) -> None:
    loaded = load(written(HOOK.replace('"none"', '"bearer"')), {"MQTTHOOK_INBOUND__LIGHT__SECRET": "1234567890"})
    assert loaded.settings.inbound["light"].verifying_keys() == (b"1234567890",)


def test_the_secret_of_a_destination_may_be_a_credential(written: Write, tmp_path: Path) -> None:
    file(tmp_path, "MQTTHOOK_DESTINATION__ALARM__SECRET", SECRET)
    loaded = load(written('version = 1\n[destination.alarm]\nurl = "https://example.com/"\n'), {"CREDENTIALS_DIRECTORY": str(tmp_path)})
    assert len(loaded.settings.destination["alarm"].signing_keys()) == 1


def test_a_credential_that_is_no_text_and_none_of_ours_doesnt_matter(written: Write, tmp_path: Path) -> None:
    """The unit may hand over a key in DER form beside the secrets."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file(credentials, "broker-key.der", b"0\x82\x01\xff\xfe")
    assert load(written("version = 1\n"), {"CREDENTIALS_DIRECTORY": str(credentials)}).settings.version == 1


def test_a_credential_of_ours_that_is_no_text_is_an_error_among_the_others(written: Write, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    file(credentials, "MQTTHOOK_MQTT__PASSWORD", b"\xff\xfe")
    assert problems(written("version = 1\n"), {"CREDENTIALS_DIRECTORY": str(credentials)})


@pytest.mark.parametrize(
    ("environment", "sentence"),
    [
        ({"MQTTHOOK_MQT__URL": "mqtt://a"}, "config.toml: environment MQTTHOOK_MQT__URL: there is no such setting; did you mean MQTTHOOK_MQTT?"),
        ({"mqtthook_zzz": "1"}, "config.toml: environment mqtthook_zzz: there is no such setting"),
        ({"MQTTHOOK_MQTT__ULR": "mqtt://a"}, "environment MQTTHOOK_MQTT__ULR: mqtt.ulr: there is no such key; did you mean `url`?"),
        ({"MQTTHOOK_MQTT__KEEPALIVE": "5"}, 'environment MQTTHOOK_MQTT__KEEPALIVE: mqtt.keepalive: \'5\': expected a duration such as "250ms", "10s", "5m", "1h" or "3d"'),
        ({"MQTTHOOK_VERSION__X": "1"}, "config.toml: environment MQTTHOOK_VERSION__X: version is no table"),
        ({"MQTTHOOK_MQTT": "{"}, "environment MQTTHOOK_MQTT: mqtt: expected a table, not text"),
    ],
)
def test_a_mistake_in_the_environment_is_said_with_the_variable(written: Write, environment: dict[str, str], sentence: str) -> None:
    assert problems(written("version = 1\n"), environment) == [sentence]


def test_the_variable_that_names_the_config_is_no_setting(written: Write) -> None:
    assert load(written("version = 1\n"), {"MQTTHOOK_CONFIG": "config.toml", "OTHER_MQTT__URL": "x", "CREDENTIALS_DIRECTORY": "/nonexistent"}).settings.version == 1


@pytest.mark.parametrize(
    ("given", "environment", "here", "found"),
    [
        ("a.toml", {"MQTTHOOK_CONFIG": "b.toml"}, True, "a.toml"),
        (None, {"MQTTHOOK_CONFIG": "b.toml"}, True, "b.toml"),
        (None, {}, True, "config.toml"),
    ],
)
def test_the_config_is_looked_for_where_the_product_says(given: str | None, environment: dict[str, str], here: bool, found: str, written: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(written("version = 1\n").parent)
    assert find(given, environment) == Path(found)


def test_without_a_config_the_one_here_is_named_or_the_systems_if_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find(None, {}) == (Path("/etc/mqtthook/config.toml") if Path("/etc/mqtthook/config.toml").exists() else Path("config.toml"))


# Warnings

CLEAR = hook_with('"0123456789"')
IN_THE_CLEAR = "its secret crosses the network in the clear, as hooks listen on 0.0.0.0:8080 without TLS: set http.tls, or let a proxy with TLS stand before it (http.trusted_proxies), or verify a signature"


def hooks_at(*topics: str) -> str:
    """Return hooks h0, h1 and so on that publish to these topics."""
    return "".join(f'[inbound.h{n}]\nverify = "github"\nsecret = "0123456789"\ntopic = "{topic}"\n' for n, topic in enumerate(topics))


WARNINGS = [  # the text, the mode of the file, the warnings
    (DOOR, 0o644, []),
    (hook_with('"0123456789"'), 0o600, []),
    (hook_with('"0123456789"'), 0o644, ["config.toml: others can read this file, and it holds secrets (inbound.light.secret): chmod 600 config.toml"]),
    (hook_with('["0123456789", "env:LIGHT"]'), 0o604, ["config.toml: others can read this file, and it holds secrets (inbound.light.secret): chmod 600 config.toml"]),
    (hook_with('"env:LIGHT"'), 0o644, []),
    (HOOK, 0o600, ["config.toml:3: inbound.light.verify: anyone who can reach this hook can use it"]),
    (hook_with('"env:LIGHT"').replace("hall_light", "hall_lock"), 0o600, ["config.toml:3: inbound.light.verify: 'zigbee2mqtt/hall_lock/set' looks like a lock, a garage door, an alarm or the like, and `verify = \"bearer\"` proves neither what is asked nor when: sign the requests, as with verify = \"standard-webhooks\""]),
    (hook_with('"env:LIGHT"') + "retain = true\n", 0o600, ["config.toml:6: inbound.light.retain: a retained command is carried out again at every reconnect of the device"]),
    (CLEAR + '[http]\nlisten = "0.0.0.0:8080"\n', 0o600, [f"config.toml:3: inbound.light.verify: {IN_THE_CLEAR}"]),
    (CLEAR.replace('"bearer"', '{ scheme = "header", header = "X-Key" }') + '[http]\nlisten = "[::]:8080"\n', 0o600, [f"config.toml:3: inbound.light.verify: {IN_THE_CLEAR}".replace("0.0.0.0", "[::]")]),
    (CLEAR, 0o600, []),
    (CLEAR + '[http]\nlisten = "localhost:8080"\n', 0o600, []),
    (CLEAR + '[http]\nlisten = "[::1]:8080"\n', 0o600, []),
    (CLEAR + '[http]\nlisten = "unix:/run/mqtthook/hooks.sock"\n', 0o600, []),
    (CLEAR + '[http]\nlisten = "0.0.0.0:8080"\ntrusted_proxies = ["192.168.1.2"]\n', 0o600, []),
    (hook_with('"0123456789"', verify="github") + '[http]\nlisten = "0.0.0.0:8080"\n', 0o600, []),
    (DOOR + "qos = 2\n", 0o600, ["config.toml:6: outbound.door.qos: it is subscribed with QoS 1: nothing is lost by it, and a repeat bears the same webhook-id"]),
    (DOOR + "tls = { verify = false }\n", 0o600, ["config.toml:6: outbound.door.tls.verify: the receiver's certificate isn't checked: anyone in between can read what is sent, and answer"]),
    (DOOR.replace("https:", "http:") + 'tls = { ca = "/etc/ssl/certs/ca-certificates.crt" }\n', 0o600, ["config.toml:6: outbound.door.tls: it changes nothing: the URL begins with http://"]),
    (DOOR + 'auth = { basic = ["me", "env:LIGHT"] }\n', 0o644, []),
    (DOOR + 'auth = { basic = ["env:LIGHT", "0123456789"] }\n', 0o644, ["config.toml: others can read this file, and it holds secrets (outbound.door.auth.basic): chmod 600 config.toml"]),
    (DOOR + 'auth = { oauth2 = { token_url = "https://a.example/", client_id = "me", client_secret = "0123456789" } }\n', 0o644, ["config.toml: others can read this file, and it holds secrets (outbound.door.auth.oauth2.client_secret): chmod 600 config.toml"]),
    (hook_with('"hello"'), 0o600, ["config.toml:5: inbound.light.secret: it has 5 bytes, and is soon guessed: make one with `mqtthook secret new`"]),
    (hook_with('["1234567", "12345678", "hush"]', verify="shopify"), 0o600, ["config.toml:5: inbound.light.secret: it has 4 bytes, and is soon guessed: make one with `mqtthook secret new`"]),
    (hook_with('"12345678"', verify="meta") + 'verify_token = "x"\n', 0o600, ["config.toml:6: inbound.light.verify_token: it has 1 byte, and is soon guessed: make one with `mqtthook secret new`"]),
    (DOOR.replace('"none"', '"stripe"') + 'secret = "1234567"\n', 0o600, ["config.toml:6: outbound.door.secret: it has 7 bytes, and is soon guessed: make one with `mqtthook secret new`"]),
    ('version = 1\n[admin]\ntoken = "hunter2"\n', 0o600, ["config.toml:3: admin.token: it has 7 bytes, and is soon guessed: make one with `mqtthook secret new`"]),
    (DOOR + hooks_at("zigbee2mqtt/door/contact"), 0o600, ["config.toml:3: outbound.door.topic: it takes what inbound.h0 publishes: if its receiver leads back to inbound.h0, this is a loop"]),
    (DOOR + hooks_at("zigbee2mqtt/door/contact/set"), 0o600, []),
    (DOOR.replace("https://example.com", "http://localhost:8080").replace("hooks/door", "hooks/h0") + hooks_at("zigbee2mqtt/door/contact"), 0o600, ["config.toml:2: outbound.door: this may be a loop: then inbound.h0, and back; the bridge cuts what comes back to it, but a device may not tell where it came from"]),
    (DOOR.replace("zigbee2mqtt/door/contact", "#") + hooks_at("a", "b", "c", "d", "e"), 0o600, ["config.toml:3: outbound.door.topic: it takes what inbound.h0, inbound.h1, inbound.h2 and 2 more publish: if its receiver leads back to one of them, this is a loop"]),
    (DOOR + 'reply = { topic = "told", text = "x" }\n[outbound.told]\ntopic = "told"\nurl = "https://example.com/"\nsign = "none"\n', 0o600, ["config.toml:8: outbound.told.topic: it takes what outbound.door.reply publishes: if its receiver leads back to outbound.door, this is a loop"]),
    (DOOR + 'debounce = "5m"\nexpires = "5m"\n', 0o600, ["config.toml:7: outbound.door.expires: after 5m an event expires, but `debounce` alone may hold it for 5m: make `expires` longer"]),
    (DOOR + 'expires = "30s"\nbatch = { wait = "1m" }\n', 0o600, ["config.toml:6: outbound.door.expires: after 30s an event expires, but `batch.wait` alone may hold it for 1m: make `expires` longer"]),
    (DOOR + 'expires = "30s"\ndebounce = "20s"\nbatch = { wait = "10s" }\n', 0o600, ["config.toml:6: outbound.door.expires: after 30s an event expires, but `debounce` and `batch.wait` alone may hold it for 30s: make `expires` longer"]),
    (DOOR + 'expires = "31s"\ndebounce = "20s"\ndebounce_max = "10m"\nbatch = { wait = "10s" }\n', 0o600, []),
    (DOOR + 'expires = "250ms"\n', 0o600, []),
    ("version = 1\n[mqtt]\ntls = { verify = false }\n", 0o600, ["config.toml:3: mqtt.tls.verify: the broker's certificate isn't checked: anyone in between can read and send"]),
]


@pytest.mark.parametrize(("text", "mode", "warnings"), WARNINGS, ids=lambda value: repr(value)[:40])
def test_what_works_but_should_be_looked_at_is_a_warning(written: Write, text: str, mode: int, warnings: list[str]) -> None:
    path = written(text, mode=mode)
    assert [warning.replace(str(path), "config.toml") for warning in load(path, {"LIGHT": "0123456789"}).warnings] == warnings


def test_a_secret_that_the_environment_gives_is_not_written_in_the_file(written: Write) -> None:
    assert load(written("version = 1\n", mode=0o644), {"MQTTHOOK_MQTT__PASSWORD": "hunter2"}).warnings == ()


# The settings as a whole


def loaded_whole(written: Write) -> Loaded:
    text = f"""\
version = 1

[store]
path = "events/outbox.db"

[destination.alarm]
url = "https://example.com/alarm"
secret = ["{SECRET}", "env:OTHER"]

[destination.unused]
url = "https://example.com/unused"
sign = "none"

[outbound.door]
topic = "zigbee2mqtt/door/contact"
to = ["alarm", "alarm"]

[outbound.motion]
topic = "zigbee2mqtt/{{room}}/motion"
url = "https://example.com/motion"
sign = "none"

[inbound.light]
path = "/light/{{room}}"
verify = "bearer"
secret = "0123456789"
topic = "zigbee2mqtt/{{{{ room }}}}/set"
topics = ["zigbee2mqtt/+/set"]
"""
    return load(written(text), {"OTHER": OTHER})


def test_mappings_have_their_destinations_and_hooks_their_keys(written: Write) -> None:
    loaded = loaded_whole(written)
    settings = loaded.settings
    assert {route.mapping: list(route.destinations) for route in settings.routes().all} == {"door": ["alarm"], "motion": ["motion"]}
    assert sorted(settings.destinations()) == ["alarm", "motion"]
    assert len(settings.destination["alarm"].signing_keys()) == 2
    assert settings.hooks().of("/light/hall").keys == (b"0123456789",)
    assert loaded.warnings == ()


def test_relative_paths_are_meant_from_the_state_directory(written: Write) -> None:
    settings = loaded_whole(written).settings
    assert settings.outbox(Path("/var/lib/mqtthook")) == Path("/var/lib/mqtthook/events/outbox.db")
    assert settings.control_socket(Path("/var/lib/mqtthook")) == Path("/var/lib/mqtthook/events/mqtthook.sock")


@pytest.mark.parametrize(("environment", "directory"), [({}, "."), ({"STATE_DIRECTORY": ""}, "."), ({"STATE_DIRECTORY": "/var/lib/mqtthook"}, "/var/lib/mqtthook"), ({"STATE_DIRECTORY": "/a:/b"}, "/a")])
def test_the_state_directory_is_systemds_or_the_working_directory(environment: dict[str, str], directory: str) -> None:
    # systemd.exec(5): several directories are joined with a colon
    assert state_directory(environment) == Path(directory)


def test_settings_read_nothing_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MQTTHOOK_MQTT__URL", "mqtt://real")
    assert Settings(version=1).mqtt.url == "mqtt://localhost:1883"


@pytest.mark.parametrize("listen", ["127.0.0.1:1", "[::1]:1", "localhost:1"])
def test_the_admin_side_needs_no_token_where_nobody_else_reaches_it(written: Write, listen: str) -> None:
    assert load(written(f'version = 1\n[admin]\nlisten = "{listen}"\n'), {}).settings.admin.token is None


ONE_PORT = "hooks and the admin side can't have one port: http.listen is {}, admin.listen {}; give one of them another"


@pytest.mark.parametrize(
    ("http", "admin", "is_error"),
    [
        ("127.0.0.1:8082", "127.0.0.1:8082", True),
        ("127.0.0.1:8082", "127.0.0.1:8081", False),
        ("127.0.0.1:8082", "127.0.0.2:8082", False),
        ("0.0.0.0:8082", "127.0.0.1:8082", True),
        ("0.0.0.0:8082", "[::1]:8082", False),
        ("[::]:8082", "127.0.0.1:8082", True),
        ("LOCALHOST:8082", "localhost:8082", True),
        ("unix:/run/mqtthook/hooks.sock", "127.0.0.1:8082", False),
        ("127.0.0.1:0", "127.0.0.1:0", False),
    ],
)
def test_two_listeners_on_one_port_are_an_error_before_one_of_them_fails(written: Write, http: str, admin: str, *, is_error: bool) -> None:
    path = written(f'version = 1\n[http]\nlisten = "{http}"\n[admin]\nlisten = "{admin}"\n')
    if is_error:
        assert problems(path) == [f"config.toml:3: http.listen: {ONE_PORT.format(http, admin)}"]
    else:
        assert load(path, {}).settings.admin.listen == admin


def test_the_port_that_hooks_have_by_default_is_free_for_the_admin_side_where_there_are_none(written: Write) -> None:
    admin = 'version = 1\n[admin]\nlisten = "127.0.0.1:8080"\n'
    assert load(written(admin), {}).settings.admin.listen == "127.0.0.1:8080"
    hook = '[inbound.light]\nverify = "none"\ntopic = "light/set"\n'
    assert problems(written(admin + hook)) == [f"config.toml:3: admin.listen: {ONE_PORT.format('127.0.0.1:8080', '127.0.0.1:8080')}"]


# Lines

LINES = """\
# first
version = 1

[outbound.door] # why
topic = "a"
retry.first = "5s"
text = '''
fake = 1
[fake]
'''
"a b".c = 1
[ outbound . "x y" ]
[[list]]
a = 1
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("version",), 2),
        (("outbound",), 4),
        (("outbound", "door"), 4),
        (("outbound", "door", "topic"), 5),
        (("outbound", "door", "retry"), 6),
        (("outbound", "door", "retry", "first"), 6),
        (("outbound", "door", "retry", "max"), 6),
        (("outbound", "door", "nothing"), 4),
        (("outbound", "door", "text"), 7),
        (("outbound", "door", "a b", "c"), 11),
        (("outbound", "x y"), 12),
        (("list", "a"), 14),
        (("fake",), None),
        ((), None),
    ],
)
def test_a_key_is_found_at_its_line_or_at_the_nearest_table_above(path: tuple[str, ...], line: int | None) -> None:
    assert Lines(LINES).line_of(path) == line


def test_lines_are_counted_as_toml_and_editors_count_them() -> None:
    """TOML 1.0.0, "Spec": a newline is LF or CRLF; U+2028 in a comment or text is none."""
    assert Lines("# a\u2028b\x85c\r\nversion = 1\r\n").line_of(("version",)) == 2


@given(st.text(st.characters()))
def test_looking_for_lines_never_fails(text: str) -> None:
    line = Lines(text).line_of(("a", "b"))
    assert line is None or line >= 1


@given(st.recursive(st.one_of(st.integers(), st.booleans(), st.text(), st.floats(allow_nan=False, allow_infinity=False)), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "url", "topic", "secret", "verify", "retry", "to"]), inner, max_size=4), max_leaves=10), st.sampled_from(["version", "mqtt", "store", "http", "admin", "log", "destination", "outbound", "inbound", "other"]))
def test_whatever_a_key_holds_it_is_taken_or_each_mistake_is_a_sentence(tmp_path_factory: pytest.TempPathFactory, value: Any, key: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_text(f"{'' if key == 'version' else 'version = 1'}\n{key} = {toml(value)}\n")
    path.chmod(0o600)
    try:
        assert load(path, {}).settings.version == 1
    except ConfigError as exc:
        assert exc.problems
        assert all(re.match(re.escape(str(path)) + r"(:\d+)?: ", problem) for problem in exc.problems)


def toml(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(inner)}" for key, inner in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(toml(inner) for inner in value) + "]"
    if isinstance(value, str):
        return '"' + "".join(f"\\U{ord(sign):08X}" for sign in value) + '"'
    return str(value).lower() if isinstance(value, bool) else repr(value)
