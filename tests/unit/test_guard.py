"""The guard of the admin side: a table of who may look at what."""

import logging

import pytest

from bridge.admin.guard import REMEMBERED, Guard
from bridge.admin.settings import AdminSettings
from bridge.rules.callers import LOCKED_S, WRONG_SIGNATURES
from bridge.rules.requests import Request

TOKEN = "d1f6c0a2-not-for-anybody"
RIGHT = f"Bearer {TOKEN}"
HERE, ELSEWHERE = "127.0.0.1", "192.168.1.77"


def asked(*, host: str | None = "127.0.0.1:8081", authorization: tuple[str, ...] = (), client: str = HERE, **headers: str) -> Request:
    given: dict[str, tuple[str, ...]] = {name.replace("_", "-"): (value,) for name, value in headers.items()}
    given |= {"authorization": authorization} if authorization else {}
    given |= {"host": (host,)} if host is not None else {}
    return Request(path="/metrics", query="", headers=given, body=b"", received_at=0.0, client=client)


class Watch:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def guard(token: str | None, listen: str = "127.0.0.1:8081") -> tuple[Guard, Watch]:
    watch = Watch()
    made = Guard(watch)
    made.adopt(AdminSettings.model_validate({"listen": listen} | ({} if token is None else {"token": token})))
    return made, watch


def status(made: Guard, request: Request, *, is_health: bool = False) -> int:
    answer = made.refusal(request, is_health=is_health)
    return 200 if answer is None else answer.status


HOSTS = [  # Host, without a token: RFC 9110 section 15.5.20
    ("127.0.0.1:8081", 200),
    ("127.1.2.3", 200),
    ("localhost:8081", 200),
    ("LOCALHOST", 200),
    ("bridge.localhost", 200),  # RFC 6761 section 6.3
    ("[::1]:8081", 200),
    (None, 200),  # HTTP/1.0; a browser always has one
    ("evil.example", 421),
    ("evil.example:8081", 421),
    ("localhost.evil.example", 421),
    ("127.0.0.1.evil.example", 421),
    ("127.0.0.1@evil.example", 421),
    ("192.168.1.20:8081", 421),
    ("[::1", 421),
    ("", 421),
]


@pytest.mark.parametrize(("host", "expected"), HOSTS)
def test_without_a_token_only_this_machine_s_own_names_are_answered(host: str | None, expected: int) -> None:
    made, _ = guard(None)
    assert status(made, asked(host=host)) == status(made, asked(host=host), is_health=True) == expected


def test_two_hosts_are_both_looked_at() -> None:
    made, _ = guard(None)
    request = Request(path="/metrics", query="", headers={"host": ("localhost", "evil.example")}, body=b"", received_at=0.0, client=HERE)
    assert status(made, request) == 421


TOKENS = [  # Authorization -> answer
    ((RIGHT,), 200),
    ((f"bearer {TOKEN}",), 200),  # RFC 9110 section 11.1: the scheme is case-insensitive
    ((f"BEARER  {TOKEN} ",), 200),
    ((), 401),
    (("Bearer",), 401),
    (("",), 401),
    ((TOKEN,), 401),
    ((f"Basic {TOKEN}",), 401),
    ((f"Bearer {TOKEN.upper()}",), 401),
    ((f"Bearer {TOKEN}x",), 401),
    (("Bearer \udcff",), 401),
    ((RIGHT, RIGHT), 401),
]


@pytest.mark.parametrize(("authorization", "expected"), TOKENS, ids=repr)
def test_metrics_ask_for_the_token_wherever_one_comes_from(authorization: tuple[str, ...], expected: int) -> None:
    made, _ = guard(TOKEN, "0.0.0.0:8081")
    for client, host in ((HERE, "localhost"), (ELSEWHERE, "192.168.1.20:8081"), (ELSEWHERE, "bridge.example")):
        assert status(made, asked(authorization=authorization, client=client, host=host)) == expected


HEALTH = [  # who asks for health, without a token where there is one
    (asked(), 200),
    (asked(client="::1", host="[::1]:8081"), 200),
    (asked(client=ELSEWHERE, host="192.168.1.20:8081"), 401),
    (asked(host="evil.example"), 401),
    (asked(x_forwarded_for=ELSEWHERE), 401),  # a proxy on this machine, for somebody elsewhere
    (asked(forwarded=f"for={ELSEWHERE}"), 401),
    (asked(client=""), 401),
    (asked(authorization=("Bearer of-yesterday",)), 200),
]


@pytest.mark.parametrize(("request_", "expected"), HEALTH)
def test_health_needs_no_token_on_this_machine(request_: Request, expected: int) -> None:
    made, _ = guard(TOKEN, "0.0.0.0:8081")
    assert status(made, request_, is_health=True) == expected


def test_wrong_tokens_lock_one_address_out_for_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    made, watch = guard(TOKEN, "0.0.0.0:8081")
    with caplog.at_level(logging.WARNING):
        assert [status(made, asked(client=ELSEWHERE, authorization=("Bearer x",))) for _ in range(WRONG_SIGNATURES)] == [401] * WRONG_SIGNATURES
    assert [record.getMessage() for record in caplog.records] == [f"locked out of the admin side client={ELSEWHERE} for_s=60 reason='too many wrong tokens'"]
    answer = made.refusal(asked(client=ELSEWHERE, authorization=(RIGHT,)), is_health=False)
    assert answer is not None
    assert (answer.status, answer.headers["Retry-After"]) == (429, "60"), "the right one too: else it could be found by trying"
    assert status(made, asked(authorization=(RIGHT,))) == 200, "nobody else"
    watch.now = LOCKED_S
    assert status(made, asked(client=ELSEWHERE, authorization=(RIGHT,))) == 200


def test_who_gives_no_token_has_none_wrong() -> None:
    made, _ = guard(TOKEN)
    assert {status(made, asked()) for _ in range(WRONG_SIGNATURES + 1)} == {401}
    assert status(made, asked(authorization=(RIGHT,))) == 200


def test_what_is_remembered_is_bounded() -> None:
    made, _ = guard(TOKEN)
    for n in range(REMEMBERED + 10):
        status(made, asked(client=f"10.0.{n // 256}.{n % 256}", authorization=("Bearer x",)))
    assert len(made._wrongs) == REMEMBERED


def test_another_token_counts_at_once() -> None:
    made, _ = guard(TOKEN)
    made.adopt(AdminSettings.model_validate({"token": "another-one-altogether"}))
    assert status(made, asked(authorization=(RIGHT,))) == 401
    assert status(made, asked(authorization=("Bearer another-one-altogether",))) == 200
