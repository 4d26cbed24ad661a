"""The outlet against servers that misbehave: one request, once, and every end is a Reply."""

import asyncio
import gzip
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import __version__
from bridge.edges import outlet as module
from bridge.edges.outlet import MAX_RESPONSE, Outlet
from bridge.model import Event, Headers, Reply
from tests.rig.misbehaving import (
    DEADLINE_S,
    OK,
    Behaviour,
    Connection,
    Misbehaving,
    answers,
    answers_anything,
    answers_early,
    answers_once,
    closes,
    drips,
    echoes,
    floods,
    never_answers,
    never_speaks,
    resets_after_request,
    resets_mid_answer,
    resets_unread,
)
from tests.rig.ports import free_port
from tests.rig.wait import until

T = TypeVar("T")

SHORT_S = 0.3  # for a server that keeps us waiting for ever: every machine waits so long in vain
SECRETS = ("PATH-TOKEN", "QUERY-TOKEN")
PATH = "/hooks/PATH-TOKEN?key=QUERY-TOKEN"
LARGE = b"x" * 1_000_000  # more than a socket takes at once
CLASSES = {"tls", "dns", "connect", "timeout", "disconnected", "url", "protocol"}


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, and not for ever."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def event(url: str, *, method: str = "POST", headers: Headers = (), body: bytes = b"{}") -> Event:
    return Event(method=method, url=url, headers=headers, body=body)


def sent(*events: Event, signed: Headers = (), timeout_s: float = DEADLINE_S / 2) -> list[Reply]:
    """Send them one after the other through one outlet."""

    async def work() -> list[Reply]:
        async with Outlet() as outlet:
            return [await outlet.send(each, signed, timeout_s=timeout_s) for each in events]

    return run(work())


def reply_of(behaviour: Behaviour, *, method: str = "POST", body: bytes = b"{}", timeout_s: float = DEADLINE_S / 2) -> Reply:
    """Return what came of one event for a server that behaves like that."""
    with Misbehaving(behaviour) as server:
        return sent(event(server.url + PATH, method=method, body=body), timeout_s=timeout_s)[0]


# --- answers ---


ANSWERS = [  # status, headers as the server writes them, what they read as
    (200, b"Content-Type: text/plain\r\n", {"content-type": "text/plain"}),
    (204, b"", {}),
    (400, b"Content-Type: application/json\r\n", {"content-type": "application/json"}),
    (410, b"", {}),
    (429, b"Retry-After: 120\r\n", {"retry-after": "120"}),
    (429, b"RETRY-AFTER: Wed, 21 Oct 2015 07:28:00 GMT\r\n", {"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    (500, b"Webhook-Delivery: abort-message\r\n", {"webhook-delivery": "abort-message"}),
    (999, b"X-Ring: twice\r\n", {"x-ring": "twice"}),
]


@pytest.mark.parametrize(("status", "written", "read"), ANSWERS, ids=lambda value: value if isinstance(value, int) else "")
def test_an_answer_is_its_status_its_body_and_its_headers(status: int, written: bytes, read: dict[str, str]) -> None:
    body = b"" if status == 204 else b"said"
    length = b"" if status == 204 else b"Content-Length: 4\r\n"
    reply = reply_of(answers(b"HTTP/1.1 %d Whatever\r\n" % status + written + length + b"\r\n" + body))
    assert (reply.status, reply.body, reply.error, reply.detail) == (status, body, None, None)
    assert {name: value for name, value in reply.headers.items() if name != "content-length"} == read


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["POST", "PUT", "GET"])
def test_a_redirect_is_an_answer_and_never_followed(status: int, method: str) -> None:
    with Misbehaving(answers(OK)) as target:
        redirect = b"HTTP/1.1 %d Moved\r\nLocation: %s/elsewhere\r\nContent-Length: 0\r\n\r\n" % (status, target.url.encode())
        with Misbehaving(answers(redirect)) as server:
            [reply] = sent(event(server.url + PATH, method=method))
        assert (reply.status, reply.headers["location"]) == (status, f"{target.url}/elsewhere")
        assert (len(server.requests), target.connections) == (1, 0)


def test_an_informational_answer_is_not_the_answer() -> None:
    """RFC 9110 section 15.2: any number of 1xx may come before the final one."""
    reply = reply_of(answers(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", b"HTTP/1.1 422 No\r\nContent-Length: 0\r\n\r\n"))
    assert reply.status == 422


def test_an_old_servers_answer_ends_with_its_connection() -> None:
    reply = reply_of(answers_once(b"HTTP/1.0 200 OK\r\n\r\nas long as it takes"))
    assert (reply.status, reply.body) == (200, b"as long as it takes")


def test_an_answer_that_comes_before_the_body_was_sent_counts() -> None:
    """A receiver that refuses a large event need not read it first."""
    reply = reply_of(answers_early(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"), body=LARGE)
    assert reply.status == 413


@pytest.mark.parametrize("length", [MAX_RESPONSE - 1, MAX_RESPONSE, MAX_RESPONSE + 1])
def test_an_answer_is_read_up_to_64_kib(length: int) -> None:
    reply = reply_of(answers(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % length + b"x" * length))
    assert (reply.status, reply.body) == (200, b"x" * min(length, 65_536))


@pytest.mark.parametrize(
    ("head", "chunk"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2710\r\n" + b"x" * 10_000 + b"\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n", b"x" * 10_000),
    ],
    ids=["until closed", "chunked", "of a length"],
)
def test_an_endless_answer_is_cut_and_its_connection_given_up(head: bytes, chunk: bytes) -> None:
    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            replies = [await outlet.send(event(server.url + PATH), (), timeout_s=DEADLINE_S) for _ in range(2)]
            # The server's writing fails while the outlet is still open: nobody holds the flood back.
            assert await asyncio.to_thread(server.ended.acquire, timeout=DEADLINE_S)
            return replies

    with Misbehaving(floods(head, chunk)) as server:
        for reply in run(work(server)):
            assert (reply.status, reply.body, reply.error) == (200, b"x" * 65_536, None)
        assert server.connections == 2


def test_a_gzip_bomb_stays_packed() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    assert len(bomb) < MAX_RESPONSE
    reply = reply_of(answers(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb))
    assert (reply.status, reply.body) == (200, bomb)


def test_a_cookie_is_not_sent_back() -> None:
    with Misbehaving(answers(b"HTTP/1.1 200 OK\r\nSet-Cookie: session=1; Path=/\r\nContent-Length: 0\r\n\r\n")) as server:
        url = f"http://localhost:{server.port}{PATH}"  # a name: no cookie jar takes any from a bare address
        assert [reply.status for reply in sent(event(url), event(url))] == [200, 200]
        assert len(server.requests) == 2
        assert not any(b"\r\ncookie:" in request.lower() for request in server.requests)


# --- failures ---


@dataclass(frozen=True)
class Failure:
    """A server that gives no answer, and what that is called."""

    behaviour: Behaviour
    error: str
    body: bytes = b"{}"


HEADERS_10_000 = b"".join(b"X-%d: y\r\n" % n for n in range(10_000))

FAILURES = {
    # Too slow: whatever trickles in, the whole has to fit into the time.
    "accepts and never reads": Failure(never_speaks, "timeout"),
    "never answers": Failure(never_answers, "timeout"),
    "one byte a second": Failure(drips(OK), "timeout"),
    "informational for ever": Failure(floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "timeout"),
    "never reads a large body": Failure(never_speaks, "timeout", body=LARGE),
    # Gone: the request may or may not have been worked on.
    "closed without an answer": Failure(closes, "disconnected"),
    "closed in the headers": Failure(answers_once(b"HTTP/1.1 200 OK\r\nContent-Le"), "disconnected"),
    "reset before the request is read": Failure(resets_unread, "disconnected", body=LARGE),
    "reset after the request": Failure(resets_after_request, "disconnected"),
    # Not HTTP, or not the HTTP that RFC 9112 describes.
    "another protocol": Failure(answers_once(b"SSH-2.0-OpenSSH_9.2\r\n"), "protocol"),
    "binary": Failure(answers_once(bytes(range(256)) * 4), "protocol"),
    "HTTP/2 unasked": Failure(answers_once(b"\0\0\x12\4\0\0\0\0\0"), "protocol"),
    "the request echoed": Failure(echoes, "protocol"),
    "10,000 headers": Failure(answers_once(b"HTTP/1.1 200 OK\r\n" + HEADERS_10_000 + b"\r\n"), "protocol"),
    "an endless header": Failure(floods(b"HTTP/1.1 200 OK\r\nX: ", b"y" * 10_000), "protocol"),
    "two lengths": Failure(answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), "protocol"),
    "a chunk without a size": Failure(answers_once(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "protocol"),
}


BROKEN_BODIES = {
    "one byte of the body a second": drips(b"x" * 60, head=b"HTTP/1.1 200 OK\r\nContent-Length: 60\r\n\r\n"),
    "closed in the body": answers_once(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"),
    "reset in the answer": resets_mid_answer(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"),
}


def failed(failure: Failure) -> Reply:
    return reply_of(failure.behaviour, body=failure.body, timeout_s=SHORT_S if failure.error == "timeout" else DEADLINE_S / 2)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_no_answer_is_a_reply_with_a_class_of_ours(failure: Failure) -> None:
    """The class is a word of the bridge: no name of a library's type crosses an edge."""
    reply = failed(failure)
    assert (reply.status, reply.error) == (None, failure.error)


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_a_failure_is_told_in_one_sentence_that_holds_nothing_of_the_url(failure: Failure) -> None:
    """The path or the query may be the token that lets somebody in."""
    reply = failed(failure)
    assert reply.error
    assert reply.detail
    assert not [secret for secret in SECRETS if secret in reply.error + reply.detail]
    assert len(reply.detail.splitlines()) == 1


@pytest.mark.parametrize("behaviour", BROKEN_BODIES.values(), ids=BROKEN_BODIES)
def test_a_status_counts_once_it_is_there_whatever_its_body_does(behaviour: Behaviour) -> None:
    """A receiver that said 200 has the event; sending it again would be a duplicate of our making."""
    assert reply_of(behaviour, timeout_s=SHORT_S).status == 200


def test_a_time_out_comes_at_its_time() -> None:
    reply = reply_of(never_answers, timeout_s=SHORT_S)
    assert reply.error == "timeout"
    assert reply.took_s > SHORT_S * 0.9  # clocks tick; how late it may come is the machine's business
    assert reply.detail == f"no answer within {SHORT_S:g} s"


def test_a_refused_connection_is_named_so() -> None:
    port = free_port()
    [reply] = sent(event(f"http://127.0.0.1:{port}{PATH}"))
    assert (reply.status, reply.error) == (None, "connect")
    assert reply.detail is not None
    assert reply.detail.startswith(f"no connection to 127.0.0.1:{port}: ")


def test_a_refused_connection_is_told_in_words_that_can_be_looked_up() -> None:
    """errno(3), ECONNREFUSED: what curl and every forum say too."""
    [reply] = sent(event(f"http://127.0.0.1:{free_port()}{PATH}"))
    assert "connection refused" in (reply.detail or "").lower()


def test_a_name_that_does_not_exist_is_named_so() -> None:
    """RFC 6761 section 6.4: `invalid` never exists."""
    [reply] = sent(event(f"http://name.invalid{PATH}"))
    assert (reply.status, reply.error, reply.detail) == (None, "dns", "the name name.invalid can't be found")


UNUSABLE = [
    f"http://999.1.1.1{PATH}",
    f"http://{'a' * 64}.example{PATH}",  # RFC 1035 section 2.3.4: a label has at most 63 octets
    f"http://a..example{PATH}",
    f"http://127.0.0.1:99999{PATH}",
    f"http://[::1{PATH}",
    f"http://{PATH}",
    "",
]


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_url_that_can_not_be_used_is_a_reply_too(url: str) -> None:
    [reply] = sent(event(url))
    assert reply.status is None
    assert reply.error
    assert not [secret for secret in SECRETS if secret in f"{reply.error}{reply.detail}"]


@pytest.mark.parametrize("url", UNUSABLE)
def test_a_url_that_can_not_be_used_is_not_blamed_on_the_connection(url: str) -> None:
    [reply] = sent(event(url))
    assert reply.error in ("url", "dns")


@pytest.fixture
def full_queue() -> Iterator[int]:
    """Give a port where a connection is neither accepted nor refused: its queue is full."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(2):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


def test_connecting_has_a_time_limit_of_its_own(full_queue: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", SHORT_S)
    [reply] = sent(event(f"http://127.0.0.1:{full_queue}{PATH}"), timeout_s=DEADLINE_S)
    assert (reply.status, reply.error) == (None, "timeout")


def test_a_connection_that_took_too_long_is_not_told_as_an_answer_that_did(full_queue: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", SHORT_S)
    [reply] = sent(event(f"http://127.0.0.1:{full_queue}{PATH}"), timeout_s=DEADLINE_S)
    assert reply.detail != f"no answer within {DEADLINE_S:g} s"


def test_cancelling_passes_through_and_ends_the_connection() -> None:
    async def work(server: Misbehaving) -> None:
        async with Outlet() as outlet:
            sending = asyncio.create_task(outlet.send(event(server.url + PATH), (), timeout_s=DEADLINE_S))
            await asyncio.to_thread(until, lambda: server.requests, "the request to arrive")
            sending.cancel()
            with pytest.raises(asyncio.CancelledError):
                await sending
            assert await asyncio.to_thread(server.ended.acquire, timeout=DEADLINE_S)

    def waits_for_the_end(connection: Connection) -> None:
        connection.request()
        connection.drain()

    with Misbehaving(waits_for_the_end) as server:
        run(work(server))


# --- how often ---


@pytest.mark.parametrize("method", ["POST", "PATCH", "PUT", "DELETE", "GET"])
@pytest.mark.parametrize("behaviour", [closes, resets_after_request], ids=["closed", "reset"])
def test_one_send_is_one_request_whatever_the_method(method: str, behaviour: Behaviour) -> None:
    """Only the courier repeats: it knows the schedule, and signs anew."""
    with Misbehaving(behaviour) as server:
        [reply] = sent(event(server.url + PATH, method=method))
        assert reply.status is None
        assert len(server.requests) == 1


def test_a_connection_is_kept_and_used_again() -> None:
    with Misbehaving(answers(OK)) as server:
        assert [reply.status for reply in sent(*[event(server.url + PATH)] * 5)] == [200] * 5
        assert (len(server.requests), server.connections) == (5, 1)


def test_an_idle_connection_that_the_server_closed_costs_nothing_once_that_is_noticed() -> None:
    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            first = await outlet.send(event(server.url + PATH), (), timeout_s=DEADLINE_S)
            assert await asyncio.to_thread(server.ended.acquire, timeout=DEADLINE_S)
            for _ in range(10):
                await asyncio.sleep(0)  # turns of the loop, not time: the end lies in the socket and has to be read
            return [first, await outlet.send(event(server.url + PATH), (), timeout_s=DEADLINE_S)]

    with Misbehaving(answers_once(OK)) as server:
        assert [reply.status for reply in run(work(server))] == [200, 200]
        assert (len(server.requests), server.connections) == (2, 2)


def lost_race(method: str) -> tuple[Misbehaving, list[Reply]]:
    """Send three times to a server that closes after each answer, the second time before that is noticed."""

    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            replies = [await outlet.send(event(server.url + PATH, method=method), (), timeout_s=DEADLINE_S)]
            server.ended.acquire(timeout=DEADLINE_S)  # blocks the loop: it can't read the end before it sends again
            replies += [await outlet.send(event(server.url + PATH, method=method), (), timeout_s=DEADLINE_S) for _ in range(2)]
            return replies

    with Misbehaving(answers_once(OK)) as server:
        return server, run(work(server))


def test_an_idle_connection_that_was_closed_under_us_costs_one_attempt_and_no_more() -> None:
    """Nobody can know whether the request was still read, so a POST is not repeated here: the courier does that."""
    server, replies = lost_race("POST")
    assert [reply.status for reply in replies] == [200, None, 200]
    assert len(server.requests) == 2


def test_the_loss_of_an_idle_connection_is_told_without_the_url() -> None:
    _, [_, lost, _] = lost_race("POST")
    assert lost.error in CLASSES
    assert not [secret for secret in SECRETS if secret in str(lost.detail)]


def test_destinations_share_no_limit_of_connections() -> None:
    """Each destination's concurrency is its courier's business: a hundred that hang must not hold up the next."""
    at_once = 110  # aiohttp's own limit is 100
    everybody = threading.Barrier(at_once)

    def waits_for_everybody(connection: Connection) -> None:
        connection.request()
        everybody.wait(DEADLINE_S)
        connection.send(OK)

    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            return await asyncio.gather(*(outlet.send(event(server.url + PATH), (), timeout_s=DEADLINE_S) for _ in range(at_once)))

    with Misbehaving(waits_for_everybody) as server:
        assert [reply.status for reply in run(work(server))] == [200] * at_once


# --- what is sent ---


TARGETS = [  # what is written after host and port -> what stands in the request line, RFC 9112 section 3.2.1
    ("", "/"),
    ("/", "/"),
    ("/a%2Fb/%41?x=%20y+z&t=%C3%A4", "/a%2Fb/%41?x=%20y+z&t=%C3%A4"),
    ("//double//slash", "//double//slash"),
    ("/a;b=c,d:e@f!$'()*", "/a;b=c,d:e@f!$'()*"),
    ("/%zz%", "/%zz%"),
    ("/a?b=c?d=/e", "/a?b=c?d=/e"),
]


@pytest.mark.parametrize(("written", "arrived"), TARGETS)
def test_a_url_arrives_as_it_was_written(written: str, arrived: str) -> None:
    with Misbehaving(answers(OK)) as server:
        assert [reply.status for reply in sent(event(server.url + written))] == [200]
        assert server.requests[0].split(b"\r\n")[0].decode() == f"POST {arrived} HTTP/1.1"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_headers_and_body_arrive_as_they_were_given_and_little_beside_them(method: str) -> None:
    given_headers = (("Content-Type", "application/json"), ("X-Raum", "Küche ☕"), ("x-twice", "1"), ("x-twice", "2"))
    signed = (("webhook-id", "msg_1"), ("webhook-signature", "v1,a v1,b"))
    with Misbehaving(answers(OK)) as server:
        sent(event(server.url + PATH, method=method, headers=given_headers, body=b'{"a":\0\xff}'), signed=signed)
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    own = [f"Host: 127.0.0.1:{server.port}", f"User-Agent: mqtthook/{__version__}", "Accept: */*", "Content-Length: 8"]
    assert line == f"{method} {PATH} HTTP/1.1"
    assert sorted(lines) == sorted(own + [f"{name}: {value}" for name, value in given_headers + signed])
    assert body == b'{"a":\0\xff}'


def test_a_header_of_the_event_takes_the_place_of_our_own() -> None:
    with Misbehaving(answers(OK)) as server:
        sent(event(server.url + PATH, headers=(("user-agent", "hall/1"), ("accept", "text/plain"))))
    lines = [line.lower() for line in server.requests[0].split(b"\r\n")]
    assert [line for line in lines if line.startswith((b"user-agent:", b"accept:"))] == [b"user-agent: hall/1", b"accept: text/plain"]


VALUES = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=50)


@settings(max_examples=40)
@given(body=st.binary(max_size=3_000), values=st.lists(VALUES, max_size=4))
def test_any_body_and_any_header_value_arrive_byte_for_byte(body: bytes, values: list[str]) -> None:
    headers = tuple((f"x-{n}", value) for n, value in enumerate(values))
    with Misbehaving(answers_once(OK)) as server:
        [reply] = sent(event(server.url + PATH, headers=headers, body=body))
    head, _, arrived = server.requests[0].partition(b"\r\n\r\n")
    assert (reply.status, arrived) == (200, body)
    for name, value in headers:
        assert f"{name}: {value}".encode() in head.split(b"\r\n")


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
def test_a_value_can_not_start_a_new_header_line(value: str) -> None:
    with Misbehaving(answers(OK)) as server:
        [reply] = sent(event(server.url + PATH, headers=(("X-A", value),)))
        assert reply.status is None
        assert reply.error
        assert server.requests == []


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_of_the_environment_is_not_asked(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(other, raising=False)
    with Misbehaving(answers(OK)) as proxy, Misbehaving(answers(OK)) as server:
        monkeypatch.setenv(name, proxy.url)
        assert [reply.status for reply in sent(event(server.url + PATH))] == [200]
        assert (len(server.requests), proxy.connections) == (1, 0)


def test_a_netrc_of_the_user_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password mine\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with Misbehaving(answers(OK)) as server:
        sent(event(server.url + PATH))
    assert b"\r\nauthorization:" not in server.requests[0].lower()


# --- TLS ---


SEND = """
import asyncio, json, sys
from bridge.edges.outlet import Outlet
from bridge.model import Event

async def main():
    async with Outlet() as outlet:
        for url in sys.argv[1:]:
            reply = await outlet.send(Event(method="POST", url=url, headers=(), body=b"the body"), (("webhook-id", "the id"),), timeout_s=10)
            print(json.dumps({"status": reply.status, "error": reply.error, "detail": reply.detail}))

asyncio.run(main())
"""

CERTIFICATES = {  # name -> for whom it is, how many days it is valid, who signed it
    "good": ("localhost", 2, "authority"),
    "expired": ("localhost", -1, "authority"),
    "wrong-host": ("elsewhere.example", 2, "authority"),
    "self-signed": ("localhost", 2, None),
    "stranger's": ("localhost", 2, "stranger"),
}


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True, timeout=60)


def made(directory: Path, name: str, host: str, days: int, by: str | None) -> None:
    """Make NAME.key and NAME.pem, signed by itself if *by* nobody."""
    (directory / f"{name}.ext").write_text(f"subjectAltName=DNS:{host}\nbasicConstraints=CA:{'TRUE' if by is None else 'FALSE'}\n")
    openssl(directory, "req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={host}")
    signer = ["-signkey", f"{name}.key"] if by is None else ["-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial"]
    openssl(directory, "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", str(days), "-extfile", f"{name}.ext", *signer)


@dataclass(frozen=True)
class Met:
    """What a client that trusts one authority met at one server."""

    status: int | None
    error: str | None
    detail: str | None
    arrived: list[bytes]


@pytest.fixture(scope="module")
def met(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Met]:
    """Give what came of one event for each server; in a process of its own, as OpenSSL reads its trust only once."""
    directory = tmp_path_factory.mktemp("certificates")
    for authority in ("authority", "stranger"):
        made(directory, authority, f"{authority}.example", 2, None)
    with ExitStack() as stack:
        servers = {}
        for name, (host, days, by) in CERTIFICATES.items():
            made(directory, name, host, days, by)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(directory / f"{name}.pem", directory / f"{name}.key")
            servers[name] = stack.enter_context(Misbehaving(answers(OK), tls=context))
        plain = stack.enter_context(Misbehaving(answers_anything(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")))
        closing = stack.enter_context(Misbehaving(lambda connection: connection.reset()))
        urls = [server.url for server in servers.values()] + [server.url.replace("http:", "https:") for server in (plain, closing)]
        environment = {**os.environ, "SSL_CERT_FILE": str(directory / "authority.pem"), "SSL_CERT_DIR": str(directory / "nothing")}
        run = subprocess.run([sys.executable, "-c", SEND, *(url + PATH for url in urls)], env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert run.returncode == 0, run.stderr
    named = {**servers, "plain": plain, "closing": closing}
    return {name: Met(**json.loads(line), arrived=server.requests) for (name, server), line in zip(named.items(), run.stdout.splitlines(), strict=True)}


def test_a_certificate_of_a_trusted_authority_is_trusted(met: dict[str, Met]) -> None:
    """Without this one, the refusals below would prove nothing."""
    assert met["good"].status == 200
    assert met["good"].arrived[0].endswith(b"the body")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("expired", "certificate has expired"),
        ("wrong-host", "certificate is not valid for 'localhost'"),
        ("self-signed", "self-signed certificate"),
        ("stranger's", "unable to get local issuer certificate"),
    ],
)
def test_a_certificate_that_can_not_be_trusted_gets_not_one_byte(met: dict[str, Met], name: str, told: str) -> None:
    """What is told is OpenSSL's own sentence, X509_verify_cert_error_string(3)."""
    reply = met[name]
    assert (reply.status, reply.error, reply.arrived) == (None, "tls", [])
    assert reply.detail is not None
    assert reply.detail.startswith("the certificate can't be trusted: ")
    assert told in reply.detail


def test_a_server_without_tls_is_told_as_such(met: dict[str, Met]) -> None:
    assert (met["plain"].status, met["plain"].error, met["plain"].arrived) == (None, "tls", [])
    assert (met["plain"].detail or "").startswith("no secure connection: ")


def test_a_server_that_ends_the_handshake_is_a_reply_too(met: dict[str, Met]) -> None:
    assert met["closing"].status is None
    assert met["closing"].error in CLASSES


def test_no_sentence_about_tls_holds_anything_of_the_url(met: dict[str, Met]) -> None:
    assert not [reply for reply in met.values() for secret in SECRETS if secret in f"{reply.error}{reply.detail}"]


def test_a_handshake_that_never_comes_ends_in_time() -> None:
    with Misbehaving(never_speaks) as server:
        [reply] = sent(event(server.url.replace("http:", "https:") + PATH), timeout_s=SHORT_S)
    assert (reply.status, reply.error) == (None, "timeout")
