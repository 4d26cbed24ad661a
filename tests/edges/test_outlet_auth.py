"""The outlet's credentials: what shows who we are, and the life of a token."""

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from bridge.edges.outlet import Outlet, bearer
from bridge.model import Reply
from tests.rig.misbehaving import OK, Behaviour, Connection, Misbehaving, answers, answers_once, closes, floods, never_answers
from tests.rig.ports import free_port
from tests.rig.sending import PATH, SHORT_S, access, event, run, seconds, sent

SECRET = "hunter2 & co"

Send = Callable[[], Awaitable[Reply]]


def header_of(request: bytes, name: str) -> list[str]:
    lines = [line.partition(b": ") for line in request.partition(b"\r\n\r\n")[0].split(b"\r\n")]
    return [value.decode() for key, _, value in lines if key.lower() == name.encode()]


FIXED = [  # auth, the header, its value
    ({"bearer": "t0ken"}, "authorization", "Bearer t0ken"),
    ({"basic": ["Aladdin", "open sesame"]}, "authorization", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617 section 2
    ({"basic": ["test", "123£"]}, "authorization", "Basic dGVzdDoxMjPCow=="),  # RFC 7617 section 2.1
    ({"header": "X-Api-Key", "value": "schlüssel"}, "x-api-key", "schlüssel"),
    ({"header": "Authorization", "value": "ApiKey 1"}, "authorization", "ApiKey 1"),
]


@pytest.mark.parametrize(("auth", "name", "value"), FIXED)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_fixed_credential_stands_in_its_header_once(auth: dict[str, Any], name: str, value: str, method: str) -> None:
    with Misbehaving(answers(OK)) as server:
        assert [reply.status for reply in sent(event(server.url, method=method), signed=(("webhook-id", "evt_1"),), auth=auth)] == [200]
        assert header_of(server.requests[0], name) == [value]
        assert header_of(server.requests[0], "webhook-id") == ["evt_1"]


@pytest.mark.parametrize("status", [401, 407])
def test_nobody_gets_a_credential_for_asking(status: int) -> None:
    challenge = b"HTTP/1.1 %d No\r\nWWW-Authenticate: Basic\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n" % status
    with Misbehaving(answers(challenge)) as server:
        assert [reply.status for reply in sent(event(server.url.replace("127.0.0.1", "localhost")))] == [status]
        assert len(server.requests) == 1
        assert not header_of(server.requests[0], "authorization")


# --- tokens ---


def answer(status: int, body: bytes, *, more: bytes = b"") -> bytes:
    return b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n%s\r\n" % (status, len(body), more) + body


@dataclass
class Issuer:
    """A token endpoint that gives t1, t2, ..., each good for so long."""

    expires_in: object = 3600
    given: int = 0
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, connection: Connection) -> None:
        while connection.request():
            with self.turn:
                self.given += 1
            token = {"access_token": f"t{self.given}", "token_type": "bearer", "expires_in": self.expires_in}
            connection.send(answer(200, json.dumps(token).encode()))


def takes(*tokens: str) -> Behaviour:
    """Answer 200 to who shows one of these, else 401."""

    def behave(connection: Connection) -> None:
        while request := connection.request():
            shown = header_of(request, "authorization")
            connection.send(OK if shown in [[f"Bearer {token}"] for token in tokens] else answer(401, b""))

    return behave


def oauth2(issuer: str, **more: str) -> dict[str, Any]:
    return {"oauth2": {"token_url": issuer, "client_id": "brücke 1", "client_secret": SECRET} | more}


def replies_of(receiver: Behaviour, issuer: Behaviour, *, times: int = 1, **keys: Any) -> tuple[list[Reply], list[bytes], list[bytes]]:
    """Return what came of so many events, what the receiver got and what the issuer got."""
    with Misbehaving(receiver) as to, Misbehaving(issuer) as endpoint:
        replies = sent(*[event(to.url + PATH, body=b"the body")] * times, signed=(("webhook-id", "evt_1"),), auth=oauth2(endpoint.url + "/token"), **keys)
        return replies, to.requests, endpoint.requests


def test_a_token_is_asked_for_as_the_rfc_says_and_shown_at_each_attempt() -> None:
    """RFC 6749 sections 2.3.1 and 4.4.2: the client's name and secret are form-encoded, then joined for HTTP Basic."""
    replies, arrived, asked = replies_of(takes("t1"), Issuer(), times=3)
    assert [reply.status for reply in replies] == [200] * 3
    assert [header_of(request, "authorization") for request in arrived] == [["Bearer t1"]] * 3
    [request] = asked
    assert request.startswith(b"POST /token HTTP/1.1\r\n")
    assert request.endswith(b"\r\n\r\ngrant_type=client_credentials")
    assert header_of(request, "content-type") == ["application/x-www-form-urlencoded"]
    kind, _, code = header_of(request, "authorization")[0].partition(" ")
    assert (kind, base64.b64decode(code)) == ("Basic", b"br%C3%BCcke+1:hunter2+%26+co")


def test_a_scope_is_asked_for() -> None:
    with Misbehaving(answers(OK)) as to, Misbehaving(Issuer()) as endpoint:
        sent(event(to.url), auth=oauth2(endpoint.url, scope="events:write more"))
        assert endpoint.requests[0].endswith(b"grant_type=client_credentials&scope=events%3Awrite+more")


@pytest.mark.parametrize(("expires_in", "fetched"), [(3600, 1), (0, 3), (-5, 3), ("3600", 1), ("0", 3), (None, 1), ("soon", 1), (True, 1)])
def test_a_token_is_renewed_when_it_ends_and_one_that_does_not_say_counts_for_an_hour(expires_in: object, fetched: int) -> None:
    replies, _, asked = replies_of(answers(OK), Issuer(expires_in), times=3)
    assert ([reply.status for reply in replies], len(asked)) == ([200] * 3, fetched)


def test_a_token_is_renewed_before_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(bearer, "monotonic", lambda: now)

    async def work(to: str, endpoint: str) -> None:
        nonlocal now
        async with Outlet() as outlet:
            channel = outlet.channel(access(auth=oauth2(endpoint)))
            for passed_s in (0, 899, 0.9, 0.2, 899):
                now += passed_s
                assert (await channel.send(event(to), ())).status == 200

    with Misbehaving(answers(OK)) as to, Misbehaving(Issuer(1000)) as endpoint:
        run(work(to.url, endpoint.url))
        assert [header_of(request, "authorization") for request in to.requests] == [["Bearer t1"]] * 3 + [["Bearer t2"]] * 2


def together(send: Send, times: int = 20) -> Awaitable[list[Reply]]:
    return asyncio.gather(*(send() for _ in range(times)))


def test_who_sends_at_once_fetches_one_token_together() -> None:
    async def work(to: str, endpoint: str) -> None:
        async with Outlet() as outlet:
            channel = outlet.channel(access(auth=oauth2(endpoint)))
            assert [reply.status for reply in await together(lambda: channel.send(event(to), ()))] == [200] * 20

    with Misbehaving(takes("t1")) as to, Misbehaving(Issuer()) as endpoint:
        run(work(to.url, endpoint.url))
        assert len(endpoint.requests) == 1


def test_who_sends_at_once_fails_together() -> None:
    async def work(to: str, endpoint: str) -> None:
        async with Outlet() as outlet:
            channel = outlet.channel(access(auth=oauth2(endpoint)))
            for _ in range(2):
                assert [reply.error for reply in await together(lambda: channel.send(event(to), ()))] == ["oauth"] * 20

    with Misbehaving(answers(OK)) as to, Misbehaving(answers(answer(503, b""))) as endpoint:
        run(work(to.url, endpoint.url))
        assert (len(endpoint.requests), to.connections) == (2, 0)


def test_who_was_given_up_in_the_middle_of_a_fetch_leaves_it_to_the_next() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        connection.request()
        asked.set()
        go_on.wait(SHORT_S * 10)
        connection.send(answer(200, b'{"access_token": "t1"}'))

    async def work(to: str, endpoint: str) -> None:
        async with Outlet() as outlet:
            channel = outlet.channel(access(auth=oauth2(endpoint)))
            first = asyncio.create_task(channel.send(event(to), ()))
            second = asyncio.create_task(channel.send(event(to), ()))
            await asyncio.to_thread(asked.wait)
            first.cancel()
            go_on.set()
            assert (await second).status == 200
            with pytest.raises(asyncio.CancelledError):
                await first

    with Misbehaving(takes("t1")) as to, Misbehaving(slow) as endpoint:
        run(work(to.url, endpoint.url))


def test_a_token_that_is_refused_is_renewed_and_the_request_goes_again_as_it_was() -> None:
    replies, arrived, asked = replies_of(takes("t2"), Issuer(), times=2)
    assert [reply.status for reply in replies] == [200, 200]
    assert [header_of(request, "authorization") for request in arrived] == [["Bearer t1"], ["Bearer t2"], ["Bearer t2"]]
    assert [header_of(request, "webhook-id") for request in arrived] == [["evt_1"]] * 3
    assert [request.partition(b"\r\n\r\n")[2] for request in arrived] == [b"the body"] * 3
    assert len(asked) == 2


def test_a_second_token_that_is_refused_is_an_answer() -> None:
    replies, arrived, asked = replies_of(takes("none"), Issuer())
    assert [(reply.status, reply.error) for reply in replies] == [(401, None)]
    assert (len(arrived), len(asked)) == (2, 2)


def test_who_is_refused_at_once_renews_once_together() -> None:
    async def work(to: str, endpoint: str) -> None:
        async with Outlet() as outlet:
            channel = outlet.channel(access(auth=oauth2(endpoint)))
            assert [reply.status for reply in await together(lambda: channel.send(event(to), ()))] == [200] * 20

    with Misbehaving(takes("t2")) as to, Misbehaving(Issuer()) as endpoint:
        run(work(to.url, endpoint.url))
        assert len(endpoint.requests) == 2


@pytest.mark.parametrize("status", [400, 403, 407, 500])
def test_any_other_answer_is_one(status: int) -> None:
    replies, arrived, _ = replies_of(answers(answer(status, b"")), Issuer())
    assert ([reply.status for reply in replies], len(arrived)) == ([status], 1)


def test_a_fixed_credential_that_is_refused_is_not_shown_again() -> None:
    with Misbehaving(takes("other")) as server:
        assert [reply.status for reply in sent(event(server.url), auth={"bearer": "t0ken"})] == [401]
        assert len(server.requests) == 1


# --- no token ---

NO_TOKEN = "the token endpoint gave no token: "

ENDPOINTS = {  # what it does, what is told
    "HTML": (answers(answer(200, b"<html>hunter2</html>", more=b"Content-Type: text/html\r\n")), "its answer is no JSON object: is `token_url` right?"),
    "no token": (answers(answer(200, b'{"token": "hunter2"}')), "there is no usable `access_token` in its answer"),
    "invalid_client": (answers(answer(401, b'{"error": "invalid_client", "error_description": "hunter2"}')), "it answers 401 (invalid_client): it doesn't know this `client_id`, or the `client_secret` is wrong"),
    "4xx": (answers(answer(404, b"hunter2")), "it answers 404"),
    "5xx": (answers(answer(502, b"hunter2")), "it answers 502"),
    "redirect": (answers(answer(302, b"", more=b"Location: /login?hunter2\r\n")), "it answers 302, a redirect, which is not followed: set `token_url` to where it leads"),
    "endless": (floods(b"HTTP/1.1 200 OK\r\n\r\n", b" " * 10_000), "its answer is longer than 64 KiB"),
    "closed": (closes, "the receiver closed the connection without an answer"),
    "no HTTP": (answers_once(b"SSH-2.0-OpenSSH_9.2\r\n"), "the answer is not HTTP: Bad status line"),
}


@pytest.mark.parametrize(("endpoint", "told"), ENDPOINTS.values(), ids=ENDPOINTS)
def test_a_token_endpoint_that_gives_none_is_told_in_one_sentence(endpoint: Behaviour, told: str) -> None:
    [reply], arrived, _ = replies_of(answers(OK), endpoint)
    assert (reply.status, reply.error) == (None, "oauth")
    assert (reply.detail or "").startswith(NO_TOKEN + told)
    assert not any(secret in str(reply) for secret in ("hunter2", "PATH-TOKEN"))
    assert arrived == []


def test_a_token_endpoint_that_never_answers_ends_the_attempt_in_its_time() -> None:
    [reply], arrived, _ = replies_of(answers(OK), never_answers, timeout=seconds(SHORT_S))
    assert (reply.error, reply.detail, arrived) == ("oauth", f"{NO_TOKEN}no answer within {SHORT_S:g} s", [])


def test_token_and_event_share_the_attempts_time() -> None:
    """Else an attempt could take four times as long as is written."""

    def slow(connection: Connection) -> None:
        connection.request()
        connection.pause(SHORT_S * 2)
        connection.send(answer(200, b'{"access_token": "t1"}'))

    [reply], arrived, _ = replies_of(never_answers, slow, timeout=seconds(SHORT_S * 3))
    assert (reply.error, reply.detail, len(arrived)) == ("timeout", f"no answer within {SHORT_S * 3:g} s", 1)
    assert reply.took_s < SHORT_S * 4.5


def test_a_second_token_shares_it_too() -> None:
    def refuses_late(connection: Connection) -> None:
        connection.request()
        connection.pause(SHORT_S * 2)
        connection.send(answer(401, b""))

    def gives_one(connection: Connection) -> None:
        connection.request()
        connection.send(answer(200, b'{"access_token": "t1"}'))
        never_answers(connection)

    [reply], _, asked = replies_of(refuses_late, gives_one, timeout=seconds(SHORT_S * 3))
    assert (reply.error, reply.detail, len(asked)) == ("oauth", f"{NO_TOKEN}no answer within {SHORT_S * 3:g} s", 2)
    assert reply.took_s < SHORT_S * 4.5


def test_a_token_endpoint_passes_the_same_guard() -> None:
    with Misbehaving(Issuer()) as endpoint:
        [reply] = sent(event("http://192.0.2.1/"), auth=oauth2(f"http://localhost:{endpoint.port}/"), network="public")
        assert (reply.error, endpoint.connections) == ("oauth", 0)
        assert reply.detail == NO_TOKEN + 'the name localhost leads nowhere else: 127.0.0.1 is this machine itself; `network = "public"` refuses it' or "::1" in str(reply.detail)


def test_a_token_endpoint_that_is_away_is_told_with_its_address() -> None:
    port = free_port()
    [reply] = sent(event("http://127.0.0.1:9/"), auth=oauth2(f"http://127.0.0.1:{port}/hunter2"))
    assert (reply.error, reply.detail) == ("oauth", f"{NO_TOKEN}no connection to 127.0.0.1:{port}: Connection refused")
