"""Test vectors: each is judged as a hook would, whatever else a file holds, and a file that is none says why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bridge.cli import main
from bridge.rules.signing import SCHEMES
from bridge.rules.vectors import Result, findings

FILE = Path(__file__).parents[2].parent / "shared" / "data" / "signature-vectors.json"
EXTRA = {"convoy", "http-message-signatures"}

# docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation"
GITHUB: dict[str, Any] = {
    "id": "github-docs",
    "scheme": "github",
    "secret": "It's a Secret to Everybody",
    "headers": {"X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
    "method": "POST",
    "url": "https://bridge.example.com/hooks/in",
    "body": "Hello, World!",
    "body_encoding": "utf-8",
    "now": None,
    "tolerance": None,
    "valid": True,
}
TOKEN = GITHUB | {"id": "token", "scheme": "header-token", "secret": "tok", "headers": {"X-Api-Key": "tok"}, "options": {"header": "X-Api-Key"}}
QUERY = GITHUB | {"id": "query", "scheme": "query-token", "secret": "tok", "url": "https://a.example/in?token=tok", "options": {"param": "token"}}
GRAPH = GITHUB | {"id": "graph", "scheme": "challenge", "secret": None, "headers": {}, "url": "https://a.example/in?validationToken=a%20b", "body": "", "expect_response": {"status": 200, "content_type": "text/plain", "body": "a b"}}
META = GITHUB | {"id": "meta", "scheme": "challenge", "secret": "hub", "method": "GET", "url": "https://a.example/in?hub.mode=subscribe&hub.challenge=77&hub.verify_token=hub", "body": "", "expect_response": {"status": 200, "body": "77"}}
CLOUD = GITHUB | {"id": "cloud", "scheme": "challenge", "secret": None, "method": "OPTIONS", "headers": {"WebHook-Request-Origin": "a.example"}, "body": "", "expect_response": {"status": 200, "headers": {"WebHook-Allowed-Origin": "a.example"}}}


def only(vector: dict[str, Any]) -> tuple[Result, str]:
    [found] = findings([vector])
    return found.result, found.reason


@pytest.mark.skipif(not FILE.exists(), reason="the shared vectors are not beside this project")
def test_every_shared_vector_of_a_scheme_that_hooks_know_passes() -> None:
    found = findings(json.loads(FILE.read_text()))
    assert [one for one in found if one.result is Result.FAILED] == []
    assert {one.scheme for one in found if one.result is Result.SKIPPED} == EXTRA
    assert sum(one.result is Result.PASSED for one in found) > 100


@pytest.mark.parametrize("vector", [GITHUB, TOKEN, QUERY, GRAPH, META, META | {"id": "meta token", "options": {"verify_token": "hub"}, "secret": "app"}, CLOUD], ids=lambda vector: vector["id"])
def test_a_vector_that_is_right_passes(vector: dict[str, Any]) -> None:
    assert only(vector) == (Result.PASSED, "")


@pytest.mark.parametrize(
    ("vector", "reason"),
    [
        (GITHUB | {"valid": False}, "expected to be refused, was accepted"),
        (GITHUB | {"body": "Hello"}, "expected to be accepted, was refused: no signature agrees with a secret"),
        (GITHUB | {"headers": {"X-Hub-Signature-256": ["a", "b"]}}, "expected to be accepted, was refused: x-hub-signature-256 came 2 times, expected once"),
        (GITHUB | {"scheme": "standard-webhooks", "secret": "whsec_!"}, "expected to be accepted, was refused: webhook-id came 0 times, expected once"),
        (GRAPH | {"expect_response": {"status": 202, "body": "a"}}, "as a challenge of graph: expected the status 202, was 200; expected the body 'a', was b'a b'"),
        (CLOUD | {"expect_response": {"headers": {"webhook-allowed-origin": "b"}}}, "as a challenge of cloudevents: expected webhook-allowed-origin: b, was a.example"),
        (META | {"url": META["url"] + "x"}, "as a challenge of meta: expected the status 200, was 403; expected the body '77', was "),
        (GRAPH | {"expect_response": {"json": {"a": 1}, "content_type": "application/json"}}, "expected the type application/json, was text/plain; charset=utf-8; expected the JSON {'a': 1}, was b'a b'"),
    ],
)
def test_a_vector_that_differs_fails_with_its_reason(vector: dict[str, Any], reason: str) -> None:
    result, said = only(vector)
    assert result is Result.FAILED
    assert reason in said


def test_a_secret_that_is_unfit_lets_nobody_in() -> None:
    assert only(GITHUB | {"scheme": "discord", "secret": "x", "headers": {"X-Signature-Ed25519": "0" * 128, "X-Signature-Timestamp": "1"}, "valid": False}) == (Result.PASSED, "")


@pytest.mark.parametrize("vector", [GITHUB | {"scheme": "discord", "secret": "00" * 32}, GITHUB | {"scheme": "challenge", "secret": "00" * 32, "headers": {"X-Signature-Ed25519": "00" * 64, "X-Signature-Timestamp": "1"}}])
def test_what_needs_an_extra_that_is_not_installed_is_skipped_and_the_others_are_judged(vector: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise ValueError("ed25519 signatures need an extra")

    monkeypatch.setitem(SCHEMES, "discord", replace(SCHEMES["discord"], available=missing))
    found = findings([vector, GITHUB])
    assert [(one.result, one.reason) for one in found] == [(Result.SKIPPED, "ed25519 signatures need an extra"), (Result.PASSED, "")]


def test_what_no_hook_knows_is_skipped() -> None:
    assert only(GITHUB | {"scheme": "convoy"}) == (Result.SKIPPED, 'no hook knows the scheme "convoy"')
    assert only(GITHUB | {"scheme": "challenge"}) == (Result.SKIPPED, "nobody asks such a challenge")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"hash": "md5"}, 'no hook knows the hash "md5"'),
        ({"hash": "SHA384"}, 'no hook knows the hash "SHA384"'),
        ({"encoding": "base32"}, 'no hook knows the encoding "base32"'),
        ({"encoding": "HEX"}, 'no hook knows the encoding "HEX"'),
    ],
)
def test_an_algorithm_that_no_hook_knows_is_skipped(options: dict[str, Any], reason: str) -> None:
    assert only(GITHUB | {"scheme": "hmac", "options": options}) == (Result.SKIPPED, reason)


SENT = {"scheme": "hmac", "headers": {"X-Signature": GITHUB["headers"]["X-Hub-Signature-256"]}}
TWILIO = GITHUB | {"id": "twilio", "scheme": "twilio", "secret": "12345", "url": "http://127.0.0.1:8080/myapp.php?foo=1&bar=2"}
# twilio/twilio-python, tests/unit/test_request_validator.py
CALL = {"body": "CallSid=CA1234567890ABCDE&Digits=1234&From=%2B14158675309&To=%2B18005551212&Caller=%2B14158675309", "headers": {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8=", "Content-Type": "application/x-www-form-urlencoded"}}

LENIENT: list[dict[str, Any]] = [
    GITHUB | SENT | {"id": "capitals", "options": {"hash": "SHA256", "encoding": "hex", "prefix": "sha256="}},
    GITHUB | SENT | {"id": "options that aren't given", "options": {"hash": None, "prefix": "sha256="}},
    GITHUB | {"id": "pairs", "headers": [["X-Hub-Signature-256", GITHUB["headers"]["X-Hub-Signature-256"]], ["X-More", "1"], ["x-more", "2"]]},
    GITHUB | {"id": "pairs, one of them twice", "headers": [["X-Hub-Signature-256", "sha256=00"], ["x-hub-signature-256", GITHUB["headers"]["X-Hub-Signature-256"]]], "valid": False},
    GITHUB | {"id": "no body", "scheme": "bearer", "secret": "tok", "headers": {"Authorization": "Bearer tok"}, "body": None},
    QUERY | {"id": "CloudEvents' own name of the parameter", "url": "https://a.example/in?access_token=tok", "options": None},
    TOKEN | {"id": "GitLab's header", "headers": {"X-Gitlab-Token": "tok"}, "options": None},
    TWILIO | CALL | {"id": "the address as the sender has it", "options": {"public_url": "https://mycompany.com/"}},
    TWILIO | CALL | {"id": "another address than the sender's", "options": {"public_url": "https://example.com/"}, "valid": False},
    TWILIO | CALL | {"id": "the address that was called", "valid": False},
]


@pytest.mark.parametrize("vector", LENIENT, ids=lambda vector: vector["id"])
def test_vectors_may_be_written_in_several_ways(vector: dict[str, Any]) -> None:
    assert only(vector) == (Result.PASSED, "")


MALFORMED: list[tuple[Any, str, str]] = [
    # a vector, by which name it is told, and its reason
    (1, "number 1", "expected a table, found a number"),
    ({}, "number 1", "scheme, secret, headers, body, valid are missing"),
    ({name: value for name, value in GITHUB.items() if name != "valid"}, "github-docs", "valid is missing"),
    (GITHUB | {"valid": "false"}, "github-docs", "valid: expected true or false, found a text"),
    (GITHUB | {"headers": 3}, "github-docs", "headers: expected a table or a list of pairs, found a number"),
    (GITHUB | {"headers": None}, "github-docs", "headers: expected a table or a list of pairs, found null"),
    (GITHUB | {"headers": [["X-Signature"]]}, "github-docs", "headers: expected pairs of a name and a value, both texts"),
    (GITHUB | {"headers": {"X-Signature": None}}, "github-docs", "headers: expected pairs of a name and a value, both texts"),
    (GITHUB | {"body": 3}, "github-docs", "body: expected a text, found a number"),
    (GITHUB | {"body": "!", "body_encoding": "base64"}, "github-docs", "body: it is not base64"),
    (GITHUB | {"body_encoding": "hex"}, "github-docs", 'body_encoding: expected "utf-8" or "base64"'),
    (GITHUB | {"now": "today"}, "github-docs", "now: expected a number, found a text"),
    (GITHUB | {"now": True}, "github-docs", "now: expected a number, found true or false"),
    (GITHUB | {"now": float("inf")}, "github-docs", "now: expected a number of seconds"),
    (GITHUB | {"now": 10**400}, "github-docs", "now: expected a number of seconds"),
    (GITHUB | {"scheme": "slack", "tolerance": []}, "github-docs", "tolerance: expected a number, found a list"),
    (GITHUB | {"options": 3}, "github-docs", "options: expected a table, found a number"),
    (TOKEN | {"options": {"header": "X Api Key"}}, "token", 'expected the name of a header, such as "X-Signature"'),
    (GITHUB | {"scheme": {"a": 1}}, "github-docs", "scheme: expected a text, found a table"),
    (GITHUB | {"secret": {"a": 1}}, "github-docs", "secret: expected a text or a list of texts, found a table"),
    (TWILIO | CALL | {"options": {"public_url": "mycompany"}}, "twilio", "expected the address under which the sender calls"),
    (GRAPH | {"expect_response": {"headers": []}}, "graph", "expect_response.headers: expected a table, found a list"),
]


@pytest.mark.parametrize(("vector", "id", "reason"), MALFORMED, ids=lambda value: str(value)[:40])
def test_a_vector_that_cant_be_read_has_failed_and_the_others_are_judged(vector: Any, id: str, reason: str) -> None:
    found, other = findings([vector, GITHUB])
    assert (found.id, found.result, other.result) == (id, Result.FAILED, Result.PASSED)
    assert reason in found.reason


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.sampled_from(["header", "hash", "param", "prefix", "public_url", "headers", "status"]), inner, max_size=3), max_leaves=8)


@given(vector=st.sampled_from([GITHUB, TOKEN, QUERY, GRAPH, META, CLOUD, TWILIO | CALL, GITHUB | SENT, *(GITHUB | {"scheme": scheme} for scheme in SCHEMES)]), field=st.sampled_from(sorted({*GITHUB, "options", "expect_response"})), value=JSON)
def test_whatever_a_vector_holds_it_is_counted(vector: dict[str, Any], field: str, value: Any) -> None:
    assert len(findings([vector | {field: value}, GITHUB])) == 2


BROKEN = [
    ("", "it is not JSON: "),
    ("[", "it is not JSON: "),
    ("[" * 100_000, "it nests too deep"),
    ("{}", "expected a list of vectors, found a table"),
    ("3", "expected a list of vectors, found a number"),
]


@pytest.mark.parametrize(("text", "said"), BROKEN, ids=lambda value: value[:40])
def test_a_file_that_is_no_list_of_vectors_says_why(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(text)
    found = CliRunner().invoke(main, ["verify", "--vectors", str(path)])
    assert (found.exit_code, found.stdout) == (1, "")
    assert f"mqtthook: {path}: {said}" in found.stderr


def test_each_disagreement_has_a_line_and_the_count_is_the_last(tmp_path: Path) -> None:
    path = tmp_path / "vectors.json"
    path.write_text(json.dumps([GITHUB, GITHUB | {"id": "wrong", "valid": False}, GITHUB | {"scheme": "convoy"}, 3]))
    found = CliRunner().invoke(main, ["verify", "--vectors", str(path)])
    assert found.exit_code == 1
    assert found.stdout.splitlines() == [
        "wrong (github): expected to be refused, was accepted",
        "number 4: expected a table, found a number",
        'skipped 1: no hook knows the scheme "convoy"',
        "1 passed, 2 failed, 1 skipped",
    ]
    path.write_text(json.dumps([GITHUB]))
    found = CliRunner().invoke(main, ["verify", "--vectors", str(path), "--json"])
    assert (found.exit_code, json.loads(found.stdout)) == (0, {"passed": 1, "failed": 0, "skipped": 0, "findings": []})
    assert CliRunner().invoke(main, ["verify", "--vectors", str(tmp_path / "none.json")]).exit_code == 2
