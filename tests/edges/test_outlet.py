"""The outlet against servers that misbehave: one request, once, and every end is a Reply."""

import asyncio
import gzip
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given, settings
from hypothesis import strategies as st

from bridge import __version__
from bridge.edges.outlet import MAX_RESPONSE, Outlet, client
from bridge.model import Reply
from bridge.rules.tokens import MAX_ANSWER
from tests.rig.misbehaving import (
    DEADLINE_S,
    OK,
    Behaviour,
    Connection,
    Misbehaving,
    answers,
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
from tests.rig.sending import PATH, SECRETS, SHORT_S, access, event, run, seconds, sent
from tests.rig.wait import until

LARGE = b"x" * 1_000_000  # more than a socket takes at once
CLASSES = {"address", "tls", "dns", "connect", "timeout", "disconnected", "url", "protocol", "oauth"}


def reply_of(behaviour: Behaviour, *, method: str = "POST", body: bytes = b"{}", timeout_s: float = DEADLINE_S / 2) -> Reply:
    """Return what came of one event for a server that behaves like that."""
    with Misbehaving(behaviour) as server:
        return sent(event(server.url + PATH, method=method, body=body), timeout=seconds(timeout_s))[0]


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


def test_as_much_of_an_answer_is_read_as_the_rules_say() -> None:
    assert MAX_RESPONSE == MAX_ANSWER


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
            replies = [await outlet.channel(access()).send(event(server.url + PATH), ()) for _ in range(2)]
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


SPLIT_204 = (b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", b"ok")

SURPLUS = {  # a head, and what follows it that should not
    "a body of a 204": SPLIT_204,
    "a body of a 204 that is not announced": (b"HTTP/1.1 204 No Content\r\n\r\n", b"<html>"),
    "more than its length": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok, and more\r\n\r\n"),
    "another answer": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"okHTTP/1.1 500 No\r\n\r\n"),
    "a chunk without a size": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"zz\r\n"),
    "a chunk that breaks off the second": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"2\r\nok\r\nzz\r\n"),
    "after an informational one": (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n", b"ok"),
}


@pytest.mark.parametrize("pieces", SURPLUS.values(), ids=SURPLUS)
@pytest.mark.parametrize("cut", ["in one", "in two", "in the end of the head", "byte by byte"])
def test_an_answer_counts_whatever_follows_its_head_and_however_it_is_cut_and_is_the_last_of_its_connection(pieces: tuple[bytes, bytes], cut: str) -> None:
    whole, head = b"".join(pieces), len(pieces[0])
    parts = {"in one": [whole], "in two": list(pieces), "in the end of the head": [whole[: head - 2], whole[head - 2 :]], "byte by byte": [bytes([sign]) for sign in whole]}[cut]
    times = 5 if cut in ("in one", "in the end of the head") or pieces is SPLIT_204 else 1  # else nothing tells before the next request that more comes
    with Misbehaving(answers(*parts)) as server:
        started = monotonic()
        replies = sent(*[event(server.url + PATH)] * times)
        assert [(reply.status, reply.error) for reply in replies] == [(204 if b" 204 " in whole else 200, None)] * times
        assert monotonic() - started < DEADLINE_S, "and nobody waits for more"


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


def test_connecting_has_a_time_limit_of_its_own_and_is_told_by_it(full_queue: int) -> None:
    [reply] = sent(event(f"http://127.0.0.1:{full_queue}{PATH}"), timeout={"connect": seconds(SHORT_S), "total": seconds(DEADLINE_S)})
    assert (reply.status, reply.error, reply.detail) == (None, "timeout", f"no connection within {SHORT_S:g} s")


def test_looking_for_a_name_counts_as_connecting() -> None:
    class Silent(AbstractResolver):
        async def resolve(self, *_args: Any) -> list[ResolveResult]:
            await asyncio.Event().wait()
            return []

        async def close(self) -> None:
            pass

    [reply] = sent(event("http://a.example/"), resolver=Silent(), timeout={"connect": seconds(SHORT_S), "total": seconds(DEADLINE_S)})
    assert (reply.error, reply.detail) == ("timeout", f"no connection within {SHORT_S:g} s")


def test_cancelling_passes_through_and_ends_the_connection() -> None:
    async def work(server: Misbehaving) -> None:
        async with Outlet() as outlet:
            sending = asyncio.create_task(outlet.channel(access()).send(event(server.url + PATH), ()))
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
            first = await outlet.channel(access()).send(event(server.url + PATH), ())
            assert await asyncio.to_thread(server.ended.acquire, timeout=DEADLINE_S)
            for _ in range(10):
                await asyncio.sleep(0)  # turns of the loop, not time: the end lies in the socket and has to be read
            return [first, await outlet.channel(access()).send(event(server.url + PATH), ())]

    with Misbehaving(answers_once(OK)) as server:
        assert [reply.status for reply in run(work(server))] == [200, 200]
        assert (len(server.requests), server.connections) == (2, 2)


# --- an idle connection that the receiver closed ---


METHODS = ["POST", "PUT", "GET"]


@pytest.mark.parametrize("method", METHODS)
def test_an_idle_connection_that_was_closed_under_us_costs_no_attempt(method: str) -> None:
    """RFC 9112 section 9.3.1: a client may repeat, where it can tell that nobody worked on the request, or it bears an id."""

    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            channel = outlet.channel(access())
            replies = [await channel.send(event(server.url + PATH, method=method), ())]
            server.ended.acquire(timeout=DEADLINE_S)  # blocks the loop: it can't read the end before it sends again
            return [*replies, await channel.send(event(server.url + PATH, method=method), ())]

    with Misbehaving(answers_once(OK)) as server:
        assert [reply.status for reply in run(work(server))] == [200, 200]
        assert (len(server.requests), server.connections) == (2, 2)


def answers_first(then: Behaviour, *, later: Behaviour | None = None) -> Behaviour:
    """Answer one request of the first connection, then do *then* with it; every other connection does *later*."""
    connections: list[Connection] = []

    def behave(connection: Connection) -> None:
        connections.append(connection)
        if len(connections) > 1:
            (later or answers(OK))(connection)
            return
        connection.request()
        connection.send(OK)
        then(connection)

    return behave


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("then", [closes, resets_after_request], ids=["closed", "reset"])
def test_a_request_that_is_lost_on_a_used_connection_goes_again_at_once_as_it_was(method: str, then: Behaviour) -> None:
    with Misbehaving(answers_first(then)) as server:
        url = server.url + PATH
        replies = sent(event(url, method=method), event(url, method=method, body=LARGE), signed=(("webhook-id", "evt_2"),))
        assert [reply.status for reply in replies] == [200, 200]
        assert server.connections == 2
        assert server.requests[1] == server.requests[2]
        assert b"\r\nwebhook-id: evt_2\r\n" in server.requests[2]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("later", [closes, resets_after_request], ids=["closed", "reset"])
def test_it_goes_again_once_and_no_more(method: str, later: Behaviour) -> None:
    with Misbehaving(answers_first(closes, later=later)) as server:
        replies = sent(*[event(server.url + PATH, method=method)] * 2)
        assert [(reply.status, reply.error) for reply in replies] == [(200, None), (None, "disconnected")]
        assert (len(server.requests), server.connections) == (3, 2)


@pytest.mark.parametrize("method", METHODS)
def test_it_does_not_go_again_once_something_of_an_answer_came(method: str) -> None:
    with Misbehaving(answers_first(answers_once(b"HTTP/1.1 200 OK\r\nContent-Le"))) as server:
        replies = sent(*[event(server.url + PATH, method=method)] * 2)
        assert [(reply.status, reply.error) for reply in replies] == [(200, None), (None, "disconnected")]
        assert (len(server.requests), server.connections) == (2, 1)


def test_it_does_not_go_again_after_the_receiver_thought_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was closed while idle is told by the next packet; a receiver that dies at its work may have done it."""
    monkeypatch.setattr(client, "STALE_S", 0.0)
    with Misbehaving(answers_first(closes)) as server:
        assert [reply.status for reply in sent(*[event(server.url + PATH)] * 2)] == [200, None]
        assert (len(server.requests), server.connections) == (2, 1)


def test_it_goes_again_within_the_same_time() -> None:
    with Misbehaving(answers_first(closes, later=never_answers)) as server:
        _, lost = sent(*[event(server.url + PATH)] * 2, timeout=seconds(SHORT_S))
        assert (lost.error, len(server.requests)) == ("timeout", 3)
        assert lost.took_s < SHORT_S * 4


def test_it_goes_again_once_though_other_idle_connections_are_there() -> None:
    """A receiver that restarts closes all of them; each that is tried is one more time that it may have taken the event."""
    both = threading.Barrier(2)

    def answers_one_and_takes_another(connection: Connection) -> None:
        connection.request()
        both.wait(DEADLINE_S)
        connection.send(OK)
        connection.request()

    async def work(server: Misbehaving) -> list[Reply]:
        async with Outlet() as outlet:
            channel = outlet.channel(access())
            replies = await asyncio.gather(*(channel.send(event(server.url), ()) for _ in range(2)))
            return [*replies, await channel.send(event(server.url), ())]

    with Misbehaving(answers_one_and_takes_another) as server:
        assert [reply.status for reply in run(work(server))] == [200, 200, None]
        assert (len(server.requests), server.connections) == (4, 2)


def test_the_loss_of_a_connection_is_told_without_the_url() -> None:
    with Misbehaving(answers_first(closes, later=closes)) as server:
        _, lost = sent(*[event(server.url + PATH)] * 2)
    assert lost.error in CLASSES
    assert not [secret for secret in SECRETS if secret in str(lost.detail)]


# --- what is shared ---


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
            return await asyncio.gather(*(outlet.channel(access()).send(event(server.url + PATH), ()) for _ in range(at_once)))

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


def test_a_host_in_other_letters_is_asked_for_in_ascii() -> None:
    """RFC 5891 section 4.4; the other letters would stand in the Host header, where no server knows them."""
    asked: list[str] = []

    class Here(AbstractResolver):
        async def resolve(self, host: str, port: int = 0, *_args: Any) -> list[ResolveResult]:
            asked.append(host)
            return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

        async def close(self) -> None:
            pass

    with Misbehaving(answers(OK)) as server:
        assert [reply.status for reply in sent(event(f"http://türe.example:{server.port}/a%2Fb"), resolver=Here())] == [200]
        assert asked == ["xn--tre-hoa.example"]
        assert server.requests[0].startswith(f"POST /a%2Fb HTTP/1.1\r\nHost: xn--tre-hoa.example:{server.port}\r\n".encode())


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
