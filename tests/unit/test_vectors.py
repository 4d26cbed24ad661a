"""Test vectors: each is judged as a hook would, whatever else a file holds, and a file that is none says why."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

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


BROKEN = [
    ("", "it is not JSON: "),
    ("[", "it is not JSON: "),
    ("[" * 100_000, "it nests too deep"),
    ("{}", "expected a list of vectors, found a table"),
    ("3", "expected a list of vectors, found a number"),
    ("[1]", "vector 1: expected a table, found a number"),
    ("[{}]", "vector 1 (number 1): scheme, secret, headers, body, valid are missing"),
    (json.dumps([GITHUB, {name: value for name, value in GITHUB.items() if name != "valid"}]), "vector 2 (github-docs): valid is missing"),
    (json.dumps([GITHUB | {"headers": []}]), "vector 1 (github-docs): headers: expected a table, found a list"),
    (json.dumps([GITHUB | {"body": None}]), "vector 1 (github-docs): body: expected a text, found null"),
    (json.dumps([GITHUB | {"body": "!", "body_encoding": "base64"}]), "vector 1 (github-docs): body: it is not base64"),
    (json.dumps([GITHUB | {"body_encoding": "hex"}]), 'vector 1 (github-docs): body_encoding: expected "utf-8" or "base64"'),
    (json.dumps([GITHUB | {"now": "today"}]), "vector 1 (github-docs): now: expected a number, found a text"),
    (json.dumps([GITHUB | {"scheme": "slack", "tolerance": []}]), "vector 1 (github-docs): tolerance: expected a number, found a list"),
    (json.dumps([TOKEN | {"options": {}}]), "vector 1 (token): expected the name of the header"),
    (json.dumps([GITHUB | {"options": 3}]), "vector 1 (github-docs): options: expected a table, found a number"),
    (json.dumps([GITHUB | {"scheme": {"a": 1}}]), "vector 1 (github-docs): scheme: expected a text, found a table"),
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
    path.write_text(json.dumps([GITHUB, GITHUB | {"id": "wrong", "valid": False}, GITHUB | {"scheme": "convoy"}]))
    found = CliRunner().invoke(main, ["verify", "--vectors", str(path)])
    assert found.exit_code == 1
    assert found.stdout.splitlines() == ["wrong (github): expected to be refused, was accepted", 'skipped 1: no hook knows the scheme "convoy"', "1 passed, 1 failed, 1 skipped"]
    path.write_text(json.dumps([GITHUB]))
    found = CliRunner().invoke(main, ["verify", "--vectors", str(path), "--json"])
    assert (found.exit_code, json.loads(found.stdout)) == (0, {"passed": 1, "failed": 0, "skipped": 0, "findings": []})
    assert CliRunner().invoke(main, ["verify", "--vectors", str(tmp_path / "none.json")]).exit_code == 2
