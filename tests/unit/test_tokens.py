"""Tokens: what is asked, and what is made of every answer."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from bridge.model import Reply
from bridge.rules.access import OAuth2
from bridge.rules.tokens import ASSUMED_S, MAX_ANSWER, MAX_LIFE_S, Token, token_of, token_request

NOW = 1000.0


def answered(document: object, status: int = 200) -> Reply:
    return Reply(status=status, body=json.dumps(document).encode())


def test_the_request_is_the_one_of_the_rfc() -> None:
    """RFC 6749 section 4.4.2's own example."""
    oauth2 = OAuth2(token_url="https://server.example.com/token", client_id="s6BhdRkqt3", client_secret=SecretStr("gX1fBat3bV"))
    request = token_request(oauth2)
    assert (request.method, request.url, request.body) == ("POST", "https://server.example.com/token", b"grant_type=client_credentials")
    assert dict(request.headers)["Authorization"] == "Basic czZCaGRSa3F0MzpnWDFmQmF0M2JW"
    assert dict(request.headers)["Content-Type"] == "application/x-www-form-urlencoded"


LIVES = [  # what `expires_in` says, after how many seconds it is renewed
    (3600, 3240.0),
    (60.5, 54.45),
    ("3600", 3240.0),
    (10**400, MAX_LIFE_S * 0.9),
    (0, 0.0),
    (-1, 0.0),
    ("", ASSUMED_S * 0.9),
    ("1_000", ASSUMED_S * 0.9),  # int() takes it
    ("٣", ASSUMED_S * 0.9),  # and this
    (True, ASSUMED_S * 0.9),
    (None, ASSUMED_S * 0.9),
    ([3600], ASSUMED_S * 0.9),
]


@pytest.mark.parametrize(("told", "after_s"), LIVES)
def test_a_token_is_renewed_after_nine_tenths_of_its_life(told: object, after_s: float) -> None:
    token = token_of(answered({"access_token": "t", "token_type": "Bearer", "expires_in": told}), now=NOW)
    assert isinstance(token, Token)
    assert token.header() == (("Authorization", "Bearer t"),)
    assert token.renew_at == pytest.approx(NOW + after_s)


REFUSED = [  # the answer, what is told
    (Reply(error="dns", detail="the name a.example can't be found"), "the name a.example can't be found"),
    (answered({}), "its answer is no JSON object: is `token_url` right?"),
    (answered(["t"]), "its answer is no JSON object: is `token_url` right?"),
    (Reply(status=200, body=b"<html>"), "its answer is no JSON object: is `token_url` right?"),
    (Reply(status=200, body=b"\xff"), "its answer is no JSON object: is `token_url` right?"),
    (Reply(status=200, body=b"[" * 60_000), "its answer is no JSON object: is `token_url` right?"),
    (Reply(status=200, body=b'{"access_token": "t"}' + b" " * MAX_ANSWER), "its answer is longer than 64 KiB"),
    (answered({"access_token": ""}), "there is no usable `access_token` in its answer"),
    (answered({"access_token": 5}), "there is no usable `access_token` in its answer"),
    (answered({"access_token": "a\r\nX-Evil: 1"}), "there is no usable `access_token` in its answer"),
    (answered({"access_token": "a b"}), "there is no usable `access_token` in its answer"),
    (answered({"access_token": "é"}), "there is no usable `access_token` in its answer"),
    (answered({"access_token": "t", "token_type": "mac"}), "its token is of another kind than Bearer"),
    (answered({"access_token": "t"}, status=307), "it answers 307, a redirect, which is not followed: set `token_url` to where it leads"),
    (answered({"access_token": "t"}, status=500), "it answers 500"),
    (answered({"error": "invalid_scope"}, status=400), "it answers 400 (invalid_scope): it refuses the `scope`"),
    (answered({"error": "the secret was wrong: hunter2"}, status=400), "it answers 400"),
    (answered({"error": {"a": 1}}, status=400), "it answers 400"),
]


@pytest.mark.parametrize(("answer", "told"), REFUSED, ids=lambda value: str(value)[:60])
def test_an_answer_without_a_token_is_a_reply_that_says_why(answer: Reply, told: str) -> None:
    assert token_of(answer, now=NOW) == Reply(error="oauth", detail=f"the token endpoint gave no token: {told}")


@given(st.integers(100, 599), st.binary(max_size=200) | st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.sampled_from(["access_token", "token_type", "expires_in", "error"]), inner)).map(lambda document: json.dumps(document).encode()))
def test_whatever_is_answered_it_is_a_token_that_can_be_sent_or_a_reply(status: int, body: bytes) -> None:
    token = token_of(Reply(status=status, body=body), now=NOW)
    if isinstance(token, Token):
        assert token.text.get_secret_value().isascii()
        assert token.text.get_secret_value().isprintable()
        assert token.renew_at >= NOW
    else:
        assert (token.status, token.error) == (None, "oauth")


def test_a_token_is_not_shown() -> None:
    assert "hunter2" not in repr(token_of(answered({"access_token": "hunter2"}), now=NOW))
