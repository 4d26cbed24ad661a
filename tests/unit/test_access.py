"""How a destination is reached, as it is written: what is taken, and each mistake in a sentence that holds no secret."""

from typing import Any

import pytest
from pydantic import ValidationError

from bridge.rules.access import Access, Auth, Timeout

TIMES = [  # what is written, seconds until connected, seconds in all
    ("15s", 5.0, 15.0),
    ("3s", 3.0, 3.0),
    ({}, 5.0, 15.0),
    ({"total": "1m"}, 5.0, 60.0),
    ({"connect": "10s"}, 10.0, 15.0),
    ({"connect": "500ms", "total": "2s"}, 0.5, 2.0),
    (Timeout(), 5.0, 15.0),
]


@pytest.mark.parametrize(("written", "connect_s", "total_s"), TIMES)
def test_a_timeout_is_one_length_or_two(written: Any, connect_s: float, total_s: float) -> None:
    timeout = Access(timeout=written).timeout
    assert (timeout.connect_s, timeout.total) == (connect_s, total_s)


def test_what_nobody_wrote_is_the_default() -> None:
    access = Access()
    assert (access.network, access.auth, access.tls.verify, access.timeout) == ("lan", None, True, Timeout())


MISTAKES = [  # keys, a part of what is told
    ({"timeout": "5"}, "expected a duration such as"),
    ({"timeout": 5}, "expected a duration such as"),
    ({"timeout": None}, "expected a duration such as"),
    ({"timeout": "0s"}, "longer than nothing"),
    ({"timeout": {"connect": "20s"}}, "connect: expected no more than `total`"),
    ({"network": "wan"}, "'lan', 'public' or 'any'"),
    ({"tls": {"key": "me.key"}}, "cert: is missing"),
    ({"auth": {}}, "expected one of `bearer`, `basic`, `header` with `value`, and `oauth2`"),
    ({"auth": {"bearer": "hunter2", "basic": ["hunter2", "hunter2"]}}, "expected one of"),
    ({"auth": {"bearer": "hunter2", "header": "X-A", "value": "hunter2"}}, "expected one of"),
    ({"auth": {"header": "X-A"}}, "`header` and `value` belong together"),
    ({"auth": {"value": "hunter2"}}, "`header` and `value` belong together"),
    ({"auth": {"header": "X A", "value": "hunter2"}}, "'X A' is not a header's name"),
    ({"auth": {"header": "", "value": "hunter2"}}, "'' is not a header's name"),
    ({"auth": {"bearer": ""}}, "expected it not to be empty"),
    ({"auth": {"bearer": "hunter2\n"}}, "it holds a control character"),
    ({"auth": {"bearer": "hunter2\x7f"}}, "it holds a control character"),
    ({"auth": {"bearer": " hunter2"}}, "a blank at its beginning or end"),
    ({"auth": {"bearer": "Bearer hunter2"}}, "expected a token without a blank"),
    ({"auth": {"header": "X-A", "value": "hunter2\r\nX-Evil: 1"}}, "it holds a control character"),
    ({"auth": {"basic": "hunter2"}}, 'expected a list of two: ["user", "password"]'),
    ({"auth": {"basic": ["hunter2"]}}, 'expected a list of two: ["user", "password"]'),
    ({"auth": {"basic": ["me:hunter2", "x"]}}, "the user can't hold a colon"),
    ({"auth": {"basic": ["me", "hunter2\0"]}}, "it holds a control character"),
    ({"auth": {"basic": [5, "hunter2"]}}, "valid string"),
    ({"auth": {"oauth2": {"token_url": "ftp://a/", "client_id": "a", "client_secret": "hunter2"}}}, "doesn't start with http:// or https://"),
    ({"auth": {"oauth2": {"token_url": "https://a/{{ topic }}", "client_id": "a", "client_secret": "hunter2"}}}, "no template may stand in it"),
]


@pytest.mark.parametrize(("keys", "told"), MISTAKES, ids=lambda value: str(value)[:60])
def test_a_mistake_is_told_without_the_secret(keys: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Access.model_validate(keys)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)


SECRETS = [
    {"bearer": "hunter2"},
    {"basic": ["me", "hunter2"]},
    {"header": "X-Api-Key", "value": "hunter2"},
    {"oauth2": {"token_url": "https://a/", "client_id": "me", "client_secret": "hunter2", "scope": "all"}},
]


@pytest.mark.parametrize("keys", SECRETS)
def test_a_credential_is_not_shown(keys: dict[str, Any]) -> None:
    auth = Auth.model_validate(keys)
    assert "hunter2" not in f"{auth!r} {auth} {auth.model_dump()} {auth.model_dump_json()}"
