"""Why a signature is refused: `mqtthook verify` names the mistakes that people make, and what `mqtthook sign` writes is taken."""

import base64
import hmac
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings

from bridge.cli import main
from bridge.rules.signing import SCHEMES, Evidence, Signing, keys, sign, verify
from bridge.rules.signing.diagnosis import hints
from bridge.rules.signing.ed25519 import public_of
from tests.rig.certificates import certificate
from tests.unit.test_schemes import ANY_BODY, ANY_HEADERS, ANY_TEXT, SEED, came, secrets_of, signed

AT, BODY = 1764000000, b'{"state": "on", "level": 20}\n'
SECRET = "correct-horse-battery"


def invoke(*arguments: str, stdin: bytes | None = None) -> Result:
    return CliRunner().invoke(main, list(arguments), input=stdin)


def github(key: str = SECRET, body: bytes = BODY, hash: str = "sha256") -> str:
    return hash + "=" + hmac.new(key.encode(), body, hash).hexdigest()


def told(scheme: str, *, secret: str = SECRET, body: bytes = BODY, headers: dict[str, str], now: float = AT, query: str = "", **more: Any) -> list[str]:
    """Return the hints about a request."""
    evidence = came(scheme, {name.lower(): (value,) for name, value in headers.items()}, body=body, now=now, query=query, **more)
    return hints(Evidence(**{name: getattr(evidence, name) for name in ("how", "method", "path", "query", "headers", "body", "now")}, keys=keys(scheme, [secret], shortest=0)), [secret])


STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def standard(key: bytes) -> dict[str, str]:
    return dict(sign("standard-webhooks", [key], id="msg_1", now=AT, body=BODY))


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    # what is given to `hints`, and what it has to say
    ("github", {"headers": {"X-Hub-Signature-256": github(body=BODY.rstrip())}}, "the signature is right for these bytes with the newline at the end removed: something changed the body on the way"),
    ("github", {"headers": {"X-Hub-Signature-256": github(body=BODY + b"\n")}}, "the signature is right for these bytes with a newline at the end"),
    ("github", {"headers": {"X-Hub-Signature-256": github(body=b'{"state":"on","level":20}')}}, "the signature is right for the same JSON written otherwise (compact)"),
    ("github", {"headers": {"X-Hub-Signature-256": github(body=b"")}}, "the signature is right for an empty body"),
    ("github", {"headers": {"X-Hub-Signature-256": github(body=b"a\r\nb")}, "body": b"a\nb"}, "the signature is right for these bytes with \\r\\n instead of \\n"),
    ("github", {"headers": {"X-Hub-Signature-256": github(SECRET + "\n")}}, "the signature is right for the secret with a newline at its end"),
    ("github", {"headers": {"X-Hub-Signature-256": github()}, "secret": f" {SECRET}\n"}, "the signature is right for the secret without the blanks around it"),
    ("github", {"headers": {"X-Hub-Signature-256": github()}, "secret": f'"{SECRET}"'}, "the signature is right for the secret without the quotes around it"),
    ("github", {"headers": {"X-Hub-Signature-256": "sha256=" + hmac.new(b"\x00" * 12, BODY, "sha256").hexdigest()}, "secret": "AAAAAAAAAAAAAAAA"}, "the signature is right for what the secret is in base64: the sender decodes it"),
    ("github", {"headers": {"X-Hub-Signature-256": github(hash="sha1")}}, 'the header x-hub-signature-256 holds the sha1 of the body, made with this secret, in hex: verify = { scheme = "hmac", header = "x-hub-signature-256", hash = "sha1"'),
    ("github", {"headers": {"X-Hub-Signature-256": github().upper()}}, "holds the sha256 of the body, made with this secret, in hex, but in capital letters"),
    ("github", {"headers": {"X-Gitea-Signature": github()[7:]}}, 'the header X-Gitea-Signature came: that is how verify = "gitea" signs'),
    ("gitea", {"headers": {"Content-Type": "text/plain"}}, "no header x-gitea-signature came: the sender doesn't sign, or a proxy took it away; these came: content-type"),
    ("gitea", {"headers": {"X-My-Mac": github()}}, 'verify = { scheme = "hmac", header = "x-my-mac", hash = "sha256", encoding = "hex", prefix = "sha256=" }'),
    ("stripe", {"headers": dict(sign("stripe", [SECRET.encode()], id="a", now=AT, body=BODY)), "now": AT + 720}, "the signature is right, but the time in stripe-signature is 12m old: a clock is wrong"),
    ("stripe", {"headers": dict(sign("stripe", [SECRET.encode()], id="a", now=AT, body=BODY)), "now": AT - 720}, "is 12m ahead of the clock here"),
    ("stripe", {"headers": dict(sign("stripe", [SECRET.encode()], id="a", now=AT, body=BODY.rstrip())), "now": AT + 720}, "with the newline at the end removed"),
    ("standard-webhooks", {"headers": standard(STANDARD.encode()), "secret": STANDARD}, "the signature is right for the secret's text: the sender doesn't decode the base64 in it"),
    ("standard-webhooks", {"headers": standard(STANDARD[6:].encode()), "secret": STANDARD}, "the signature is right for the secret's text without whsec_"),
    ("slack", {"headers": dict(sign("slack", [b"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], id="a", now=AT, body=BODY)), "secret": STANDARD}, "the signature is right for the secret without whsec_"),
    ("github", {"headers": {"X-Hub-Signature-256": github(), "X-Signature": "x"}, "body": BODY[:-1]}, "right for these bytes with a newline at the end"),
    ("meta", {"headers": {"Authorization": f"Bearer {SECRET}"}}, 'the request is right for verify = "bearer"'),
    ("bearer", {"headers": {"X-Token": SECRET}}, 'the secret stands in the header x-token, not as verify = "bearer" expects it'),
    ("header", {"headers": {"X-Api-Key": f"Bearer {SECRET}"}}, "the secret stands in the header x-api-key"),
    ("bearer", {"headers": {}, "query": f"key={SECRET}"}, 'the secret stands in the query: verify = { scheme = "query", param = "..." }'),
    ("twilio", {"headers": dict(sign(Signing(scheme="twilio"), [SECRET.encode()], id="a", now=AT, body=b"a=1", url="https://other.example/hooks/hall")) | {"Host": "other.example", "Content-Type": "application/x-www-form-urlencoded"}, "body": b"a=1"}, "the signature is right for https://other.example/hooks/hall: write the address as the sender has it"),
    ("twilio", {"headers": {"X-Twilio-Signature": "x"}}, "Twilio signs the URL and a form's fields"),
    ("github", {"headers": {"X-Hub-Signature-256": github(), "X-GitHub-Delivery": "a b"}}, "the signature is right, but the id that came with it can't be used, and is answered 400"),
    ("bearer", {"headers": {"Authorization": f"Bearer {SECRET}", "Idempotency-Key": ""}}, "the signature is right, but the id that came with it can't be used"),
    ("github", {"headers": {"X-Hub-Signature-256": github("another-secret")}}, "none of the usual things: another secret, or another body than these 29 bytes was signed"),
]


@pytest.mark.parametrize(("scheme", "given", "said"), MISTAKES, ids=lambda value: str(value)[:50])
def test_a_usual_mistake_is_named(scheme: str, given: dict[str, Any], said: str) -> None:
    found = told(scheme, **given)
    assert any(said in hint for hint in found), found
    assert not any(SECRET in hint or github()[7:] in hint for hint in found)


@pytest.mark.parametrize("scheme", [name for name, row in SCHEMES.items() if row.sign is not None and name not in ("none", "linear")])
def test_what_is_right_needs_no_hint(scheme: str) -> None:
    body = b"" if scheme == "twilio" else BODY
    evidence = came(scheme, signed(scheme, body=body), body=body)
    verify(evidence)
    assert hints(evidence, [secrets_of(scheme, SEED)[1]]) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(max_examples=20)
@given(headers=ANY_HEADERS, body=ANY_BODY, path=ANY_TEXT, query=ANY_TEXT)
def test_looking_for_mistakes_is_total(scheme: str, headers: dict[str, tuple[str, ...]], body: bytes, path: str, query: str) -> None:
    secret = secrets_of(scheme, SEED)[1]
    for hint in hints(came(scheme, headers, body=body, path=path, query=query), [secret]):
        assert hint
        assert secret not in hint


# --- the commands ---

HOOK = """version = 1
[inbound.garden]
verify = "github"
secret = "correct-horse-battery"
topic = "cmnd/garden/POWER"
[inbound.room]
path = "/hooks/room/{room}"
methods = ["PUT"]
verify = { scheme = "twilio", public_url = "https://hooks.example.com" }
secret = "correct-horse-battery"
topic = "cmnd/{{ room }}/POWER"
[inbound.mail]
verify = "mailgun"
secret = "correct-horse-battery"
topic = "mail"
[inbound.issue]
verify = "linear"
secret = "correct-horse-battery"
topic = "issue"
[inbound.calendar]
verify = { scheme = "query", param = "token" }
secret = "correct horse&battery"
topic = "calendar"
[inbound.chat]
verify = "discord"
secret = "89cd7489bf665a36667ba46dfd521ca6713fd2f9ad842835340b244e98355f2a"
topic = "chat"
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "config.toml"
    path.write_text(HOOK)
    (tmp_path / "body.json").write_bytes(BODY)
    return str(path)


def test_a_request_is_judged_as_the_hook_would(config: str, tmp_path: Path) -> None:
    body = str(tmp_path / "body.json")
    found = invoke("verify", "--config", config, "--hook", "garden", "--header", f"X-Hub-Signature-256: {github()}", "--header", "x-github-delivery: d-1", "--body", body)
    assert (found.exit_code, found.stdout) == (0, "accepted: the request is right for github; its id is d-1\n")
    found = invoke("verify", "--config", config, "--hook", "garden", "--header", f"X-Hub-Signature-256: {github(body=BODY.rstrip())}", "--body", body)
    assert found.exit_code == 1
    first, second, *_ = found.stdout.splitlines()
    assert first == "refused: no signature agrees with a secret"
    assert second.startswith("  - the signature is right for these bytes with the newline at the end removed")


LOGS = {
    "curl -v": "> POST /hooks/garden HTTP/1.1\n> Host: 127.0.0.1:8080\n> User-Agent: curl/8.5\n> X-Hub-Signature-256: SIGNATURE\n> \n< HTTP/1.1 401 Unauthorized\n",
    "plain": "POST /hooks/garden?x=1 HTTP/1.1\r\nX-Hub-Signature-256:SIGNATURE\r\n",
    "a sender's log": "Request URL: http://127.0.0.1:8080/hooks/garden\nRequest method: POST\ncontent-type: application/json\nX-Hub-Signature-256:   SIGNATURE  \n",
    "JSON": '{"X-Hub-Signature-256": "SIGNATURE", "Accept": ["a", "b"]}',
}


@pytest.mark.parametrize("log", LOGS.values(), ids=LOGS)
def test_headers_are_read_from_what_logs_show(log: str, config: str, tmp_path: Path) -> None:
    (tmp_path / "came.txt").write_text(log.replace("SIGNATURE", github()))
    found = invoke("verify", "--config", config, "--hook", "garden", "--headers", str(tmp_path / "came.txt"), "--body", "-", "--json", stdin=BODY)
    assert (found.exit_code, json.loads(found.stdout)["accepted"]) == (0, True)


def test_the_time_it_came_may_be_told(config: str) -> None:
    headers = [part for name, value in sign("stripe", [SECRET.encode()], id="a", now=AT, body=BODY) for part in ("--header", f"{name}: {value}")]
    by = ["verify", "--scheme", "stripe", "--secret", SECRET, "--body", "-", *headers]
    assert invoke(*by, "--at", str(AT + 60), stdin=BODY).exit_code == 0
    assert invoke(*by, "--at", "2025-11-24T16:01:00+00:00", stdin=BODY).exit_code == 0
    found = invoke(*by, stdin=BODY)
    assert found.exit_code == 1
    assert "the signature is right, but the time in stripe-signature is" in found.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["verify"], "give one of --hook and --scheme"),
        (["verify", "--hook", "garden", "--scheme", "slack"], "give one of --hook and --scheme"),
        (["verify", "--hook", "gardn"], "there is no hook 'gardn'; known: garden, room, mail, issue, calendar, chat"),
        (["verify", "--hook", "garden", "--header", "X-Mac"], "--header 'X-Mac': expected a header such as 'X-Signature: abc'"),
        (["verify", "--hook", "garden", "--at", "soon"], "or unix seconds"),
        (["verify", "--hook", "garden", "--vectors", "x"], "give --vectors alone"),
        (["verify", "--hook", "garden", "--headers", "-", "--body", "-"], "only one of --headers and --body can be standard input"),
        (["verify", "--scheme", "githup"], 'there is no scheme "githup"; did you mean "github"?'),
        (["verify", "--scheme", "{ scheme = "], "--scheme: expected a name, or a table"),
        (["verify", "--scheme", "slack"], "slack needs a secret"),
        (["verify", "--scheme", "slack", "--secret", "env:MQTTHOOK_NO_SUCH"], "the environment variable MQTTHOOK_NO_SUCH is not set"),
        (["sign", "--hook", "garden", "--header", "X-GitHub-Event"], "'X-GitHub-Event': expected a header such as 'X-GitHub-Event: push'"),
        (["sign", "--hook", "garden", "--body", "event.jsn"], "event.jsn: No such file or directory"),
        (["try", "--hook", "garden", "--body", "event.json"], "event.json: No such file or directory"),
        (["sign", "--hook", "mail"], "requests for verify = \"mailgun\" can't be signed with headers: the signature stands in the body"),
        (["sign", "--hook", "issue", "--body", "{}", "--at", str(AT)], 'would refuse this request: webhookTimestamp in the body is not a number of milliseconds; put the time into the body, in milliseconds: "webhookTimestamp": 1764000000000'),
        (["sign", "--hook", "issue", "--body", '{"webhookTimestamp": 1764000000000}', "--at", str(AT + 90)], "would refuse this request: webhookTimestamp in the body is +90 s away from the clock here"),
        (["sign", "--scheme", "discord", "--secret", "x"], "--secret: expected the seed of a private key, 64 hexadecimal digits"),
        (["sign", "--hook", "chat"], "the hook holds the public key, and discord signs with the private one: give it with --secret"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, list) else "",
)
def test_what_cant_be_done_is_said(arguments: list[str], said: str, config: str) -> None:
    found = invoke(*arguments, "--config", config)
    assert found.exit_code == 2
    assert said in found.stderr.replace("\n", " ")


def test_a_secret_given_by_hand_stands_for_the_hooks_own(config: str) -> None:
    """On a machine that hasn't the hook's secrets, too."""
    path = Path(config)
    path.write_text(HOOK.replace(f'verify = "github"\nsecret = "{SECRET}"', 'verify = "discord"\nsecret = "env:MQTTHOOK_NO_SUCH"', 1))
    found = invoke("sign", "--config", config, "--hook", "garden", "--secret", SEED.hex())
    assert (found.exit_code, "X-Signature-Ed25519: " in found.stdout) == (0, True)
    found = invoke("verify", "--config", config, "--hook", "garden")
    assert found.exit_code == 78
    assert found.stderr.count("mqtthook: ") == 1, "what is missing is said once"


def test_what_sign_prints_for_a_hook_verify_takes(config: str, tmp_path: Path) -> None:
    body = str(tmp_path / "body.json")
    headers = invoke("sign", "--config", config, "--hook", "garden", "--body", body, "--id", "evt_1").stdout
    (tmp_path / "headers.txt").write_text(headers)
    found = invoke("verify", "--config", config, "--hook", "garden", "--headers", str(tmp_path / "headers.txt"), "--body", body)
    assert found.stdout == "accepted: the request is right for github; its id is evt_1\n"


def test_sign_writes_a_url_that_twilio_would_call(config: str, tmp_path: Path) -> None:
    document = json.loads(invoke("sign", "--config", config, "--hook", "room", "--url", "http://127.0.0.1:8080/hooks/room/hall?a=1", "--body", str(tmp_path / "body.json"), "--json").stdout)
    assert (document["method"], "bodySHA256=" in document["url"]) == ("PUT", True)
    by = ["verify", "--config", config, "--hook", "room", "--url", document["url"], "--body", str(tmp_path / "body.json")]
    assert invoke(*by, *(part for name, value in document["headers"].items() for part in ("--header", f"{name}: {value}"))).exit_code == 0


@pytest.mark.parametrize("name", ["x-github-delivery", "webhook-id"])
def test_a_captured_request_is_signed_anew_under_its_own_id(name: str, config: str) -> None:
    given = ["--header", "x-hub-signature-256: sha256=00", "--header", f"{name}: d-1"]
    headers = json.loads(invoke("sign", "--config", config, "--hook", "garden", *given, "--body", "{}", "--json").stdout)["headers"]
    assert {text.lower(): value for text, value in headers.items()} | {"webhook-timestamp": ""} == {
        "content-type": "application/json",
        "webhook-id": "d-1",
        "webhook-timestamp": "",
        "x-hub-signature-256": github(body=b"{}"),
        "x-github-delivery": "d-1",
    }
    assert len(headers) == 5


def test_a_token_in_the_query_is_printed_with_the_url(config: str, tmp_path: Path) -> None:
    told = invoke("sign", "--config", config, "--hook", "calendar", "--url", "/hooks/calendar?a=1", "--body", "{}").stdout
    url = "http://127.0.0.1:8080/hooks/calendar?a=1&token=correct+horse%26battery"
    assert told.splitlines()[0] == f"POST {url} HTTP/1.1"
    (tmp_path / "came.txt").write_text(told)
    assert invoke("verify", "--config", config, "--hook", "calendar", "--headers", str(tmp_path / "came.txt"), "--body", "{}").exit_code == 0
    assert shlex.split(invoke("sign", "--config", config, "--hook", "calendar", "--url", url, "--curl").stdout)[-1] == url, "what is there already is not added again"


def test_a_time_in_the_body_is_signed_with_it(config: str) -> None:
    body = '{"webhookTimestamp": 1764000000000}'
    document = json.loads(invoke("sign", "--config", config, "--hook", "issue", "--body", body, "--at", str(AT), "--json").stdout)
    headers = [part for name, value in document["headers"].items() for part in ("--header", f"{name}: {value}")]
    assert invoke("verify", "--config", config, "--hook", "issue", "--body", body, "--at", str(AT), *headers).exit_code == 0


@pytest.mark.parametrize(
    ("listen", "url", "words"),
    [
        ("192.168.1.5:8080", "http://192.168.1.5:8080/hooks/garden", []),
        ("0.0.0.0:80", "http://127.0.0.1:80/hooks/garden", []),
        ("[::]:8080", "http://[::1]:8080/hooks/garden", []),
        ("::1:8080", "http://[::1]:8080/hooks/garden", []),
        ("unix:/run/mqtthook/hooks.sock", "http://localhost/hooks/garden", ["--unix-socket", "/run/mqtthook/hooks.sock"]),
    ],
)
def test_a_request_is_for_where_this_machine_reaches_the_hooks(listen: str, url: str, words: list[str], config: str) -> None:
    Path(config).write_text(HOOK.replace("version = 1\n", f'version = 1\n[http]\nlisten = "{listen}"\n'))
    found = shlex.split(invoke("sign", "--config", config, "--hook", "garden", "--curl").stdout)
    assert (found[-1], found[4 : 4 + len(words)]) == (url, words)
    assert "--unix-socket" not in invoke("sign", "--config", config, "--hook", "garden", "--url", "https://hooks.example.com/hooks/garden", "--curl").stdout


def test_a_url_may_lack_its_host_and_hold_any_letter(config: str) -> None:
    document = json.loads(invoke("sign", "--config", config, "--hook", "room", "--url", "/hooks/room/große küche?a=%20b", "--json").stdout)
    assert document["url"] == "http://127.0.0.1:8080/hooks/room/gro%C3%9Fe%20k%C3%BCche?a=%20b"


def test_a_content_type_that_is_given_as_a_header_is_the_only_one(config: str) -> None:
    told = invoke("sign", "--config", config, "--hook", "garden", "--body", "<on/>", "--header", "content-type: text/xml").stdout
    assert [line for line in told.splitlines() if line.lower().startswith("content-type")] == ["content-type: text/xml"]


def test_curl_is_printed_whole(config: str, tmp_path: Path) -> None:
    words = shlex.split(invoke("sign", "--config", config, "--hook", "garden", "--body", str(tmp_path / "body.json"), "--curl").stdout)
    assert (words[0], words[-1], words[words.index("--data-raw") + 1]) == ("curl", "http://127.0.0.1:8080/hooks/garden", BODY.decode())
    assert f"X-Hub-Signature-256: {github()}" in words


@pytest.mark.parametrize(
    ("arguments", "content_type", "body"),
    [
        (["--body", '{"state": "on"}'], "application/json", '{"state": "on"}'),
        (["--body", "command=%2Flamp&text=on"], "application/x-www-form-urlencoded", "command=%2Flamp&text=on"),
        (["--body", "<on/>", "--type", "text/xml"], "text/xml", "<on/>"),
    ],
    ids=["json", "form", "xml"],
)
def test_a_body_may_be_written_out_and_headers_go_along(config: str, arguments: list[str], content_type: str, body: str) -> None:
    document = json.loads(invoke("sign", "--config", config, "--hook", "garden", *arguments, "--header", "X-GitHub-Event: push", "--json").stdout)
    assert document["headers"]["Content-Type"] == content_type
    assert document["headers"]["X-GitHub-Event"] == "push"
    assert document["headers"]["X-Hub-Signature-256"] == github(body=body.encode())
    headers = [part for name, value in document["headers"].items() for part in ("--header", f"{name}: {value}")]
    assert invoke("verify", "--config", config, "--hook", "garden", "--body", body, *headers).exit_code == 0


def test_a_file_may_be_called_like_a_form(config: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a=b").write_bytes(BODY)
    assert github() in invoke("sign", "--config", config, "--hook", "garden", "--body", "a=b").stdout


def test_a_hook_is_tried_with_the_headers_and_the_form_that_it_asks_for(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("""version = 1
[inbound.lamp]
verify = "github"
secret = "correct-horse-battery"
when = "headers['x-github-event'] == 'push'"
topic = "cmnd/lamp/POWER"
text = "{{ body.text }}"
""")
    tried = ["try", "--config", str(path), "--json", "--hook", "lamp", "--body", "command=%2Flamp&text=on"]
    assert json.loads(invoke(*tried, "--header", "X-GitHub-Event: push").stdout)["mappings"][0]["publish"]["payload"] == "on"
    assert "`when` is false" in json.loads(invoke(*tried, "--header", "X-GitHub-Event: ping").stdout)["mappings"][0]["reason"]
    assert json.loads(invoke(*tried).stdout)["mappings"][0]["reason"] == "`when` counts as false: headers['x-github-event'] is missing"


def test_a_listener_with_tls_of_its_own_is_called_by_https(config: str, tmp_path: Path) -> None:
    certificate(tmp_path, "listener")
    (tmp_path / "listener.key").chmod(0o600)
    path = Path(config)
    path.write_text(HOOK.replace("version = 1\n", f'version = 1\n[http]\ntls = {{ cert = "{tmp_path}/listener.pem", key = "{tmp_path}/listener.key" }}\n'))
    found = invoke("sign", "--config", config, "--hook", "garden", "--json")
    assert json.loads(found.stdout)["url"] == "https://127.0.0.1:8080/hooks/garden"


def test_a_private_key_is_given_by_hand() -> None:
    document = json.loads(invoke("sign", "--scheme", "discord", "--secret", SEED.hex(), "--json", "--at", str(AT)).stdout)
    headers = [part for name, value in document["headers"].items() for part in ("--header", f"{name}: {value}")]
    assert invoke("verify", "--scheme", "discord", "--secret", public_of(SEED).hex(), "--at", str(AT), *headers).exit_code == 0
    table = '{ scheme = "hmac", header = "X-Mac", hash = "sha1", encoding = "base64" }'
    found = invoke("sign", "--scheme", table, "--secret", SECRET, "--body", "-", stdin=BODY)
    assert f"X-Mac: {base64.b64encode(hmac.digest(SECRET.encode(), BODY, 'sha1')).decode()}" in found.stdout.splitlines()


