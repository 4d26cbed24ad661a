"""The inlet against clients that write raw bytes: what a request may cost, and what comes back."""

import asyncio
import gc
import logging
import os
import resource
import socket
import ssl
import stat
import warnings
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from bridge.edges.inlet import Inlet, listening_tcp, listening_unix
from bridge.edges.inlet import guests as connections
from bridge.edges.inlet import server as module
from bridge.errors import HookError
from bridge.rules.answers import Response, json_response
from bridge.rules.callers import Proxies, proxies
from bridge.rules.inbound import Hook, Hooks, Inbound
from bridge.rules.requests import Request
from tests.rig.caller import DEADLINE_S, SHORT_S, Answer, Caller, calling, chunked, request, run, until_true

MAX_BODY = 1_000
MORE = b"x" * (MAX_BODY + 1)


@pytest.fixture(autouse=True)
def _short_goodbye(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test wait for the end of a connection that it left half-way."""
    monkeypatch.setattr(module, "SHUTDOWN_S", SHORT_S)


@dataclass
class Desk:
    """The answering function: it remembers each request, and says what came."""

    seen: list[tuple[str, Request]] = field(default_factory=list)

    async def answer(self, method: str, request: Request) -> Response:
        self.seen.append((method, request))
        return json_response(200, {"path": request.path, "length": len(request.body)})


@asynccontextmanager
async def listening(answer: Callable[[str, Request], Awaitable[Response]], *, trusted: Proxies | None = None, admit: Callable[[Request], None] | None = None) -> AsyncIterator[int]:
    async with Inlet([listening_tcp("127.0.0.1:0")], answer, max_body=MAX_BODY, trusted=trusted, admit=admit) as inlet:
        yield inlet.port


def asked(raw: bytes, answer: Callable[[str, Request], Awaitable[Response]], *, without_body: bool = False) -> Answer:
    """Return the first answer to these bytes."""

    async def work() -> Answer:
        async with listening(answer) as port, calling(port) as caller:
            await caller.send(raw)
            return await caller.answer(without_body=without_body)

    return run(work())


# --- what a request becomes ---


def test_a_request_becomes_one_of_ours() -> None:
    desk = Desk()
    raw = request("PUT /hooks/door?a=1&a=2 HTTP/1.1", "X-Room: Küche", "x-room: hall", "X-Raw: \udcff", body=b"\0\xff")
    assert asked(raw, desk.answer).document == {"path": "/hooks/door", "length": 2}
    [(method, got)] = desk.seen
    assert (method, got.path, got.query, got.body) == ("PUT", "/hooks/door", "a=1&a=2", b"\0\xff")
    assert got.headers == {"host": ("hall.example",), "x-room": ("Küche", "hall"), "x-raw": ("\udcff",), "content-length": ("2",)}


def test_a_chunked_body_is_put_together() -> None:
    desk = Desk()
    asked(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"ab", b"c") + b"0\r\nX-Trailer: 1\r\n\r\n"), desk.answer)
    [(_, got)] = desk.seen
    assert got.body == b"abc"
    assert "x-trailer" not in got.headers  # RFC 9110 section 6.5.1: a trailer is not a header


TARGETS = [  # RFC 9112 section 3.2: what stands in the request line -> path, query
    ("/", "/", ""),
    ("/a%2Fb/%ff%00?q=%zz", "/a%2Fb/%ff%00", "q=%zz"),
    ("//hall/hooks", "//hall/hooks", ""),
    ("/a/../b/./c", "/a/../b/./c", ""),
    ("/a?b?c", "/a", "b?c"),
    ("/a?", "/a", ""),
]


@pytest.mark.parametrize(("target", "path", "query"), TARGETS)
def test_path_and_query_stay_as_they_were_sent(target: str, path: str, query: str) -> None:
    """Decoding is done once, and elsewhere: segment by segment."""
    desk = Desk()
    asked(request(f"POST {target} HTTP/1.1"), desk.answer)
    assert [(got.path, got.query) for _, got in desk.seen] == [(path, query)]


def test_the_absolute_form_means_the_same_path() -> None:
    """RFC 9112 section 3.2.2: a server MUST accept the absolute-form in requests."""
    desk = Desk()
    asked(request("POST http://hall.example/hooks/door?a=b HTTP/1.1"), desk.answer)
    assert [(got.path, got.query) for _, got in desk.seen] == [("/hooks/door", "a=b")]


def test_a_fragment_is_no_part_of_the_path() -> None:
    """RFC 9112 section 3.2: no form of a request target holds one; refused or cut off, but not handed on."""
    desk = Desk()
    asked(request("POST /hooks/door#now HTTP/1.1"), desk.answer)
    assert not [got.path for _, got in desk.seen if "#" in got.path]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PATCH"])
def test_every_method_is_handed_on(method: str) -> None:
    """Which one is taken is decided elsewhere; a TRACE is never echoed here."""
    desk = Desk()
    answer = asked(request(f"{method} /hooks/door HTTP/1.1", "X-Secret: s3cret"), desk.answer, without_body=method == "HEAD")
    assert [method for method, _ in desk.seen] == [method]
    assert b"s3cret" not in answer.body


def test_a_head_gets_the_headers_alone() -> None:
    async def work() -> tuple[Answer, bytes]:
        async with listening(Desk().answer) as port, calling(port) as caller:
            await caller.send(request("HEAD /hooks/door HTTP/1.1", "Connection: close"))
            return await caller.answer(without_body=True), await caller.rest()

    answer, rest = run(work())
    assert (answer.status, rest) == (200, b"")


# --- what a request may cost ---


@pytest.mark.parametrize("length", [0, 1, MAX_BODY])
@pytest.mark.parametrize("way", ["length", "chunked"])
def test_a_body_up_to_the_limit_is_taken(length: int, way: str) -> None:
    body = b"x" * length
    raw = request(body=body) if way == "length" else request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=(chunked(body) if body else b"") + b"0\r\n\r\n")
    assert asked(raw, Desk().answer).document["length"] == length


@pytest.mark.parametrize(
    "raw",
    [
        request("POST / HTTP/1.1", f"Content-Length: {len(MORE)}"),  # nothing of it is sent: it is refused for its length alone
        request("POST / HTTP/1.1", "Content-Length: 999999999999"),
        request(body=MORE),
        request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(MORE)),
        request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(*[b"x"] * len(MORE))),
        request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"fffffff\r\n" + MORE),
    ],
    ids=["announced", "huge", "whole", "one chunk", "small chunks", "a chunk without end"],
)
def test_a_larger_body_is_refused(raw: bytes) -> None:
    desk = Desk()
    answer = asked(raw, desk.answer)
    assert (answer.status, answer.headers["content-type"]) == (413, "application/problem+json")
    assert answer.document["detail"] == f"the body is larger than {MAX_BODY} bytes"
    assert desk.seen == []


def test_a_client_that_sends_all_before_it_reads_still_learns_why_it_was_refused() -> None:
    """RFC 9112 section 9.6: closing on unread data resets the connection, and may erase the answer."""

    async def work() -> Answer:
        async with listening(Desk().answer) as port, calling(port) as caller:
            await caller.send(request(body=b"x" * 8_000_000))  # more than both sockets hold
            return await caller.answer()

    assert run(work()).status == 413


def test_an_endless_chunked_body_ends_the_connection() -> None:
    async def work() -> tuple[Answer, bytes]:
        async with listening(Desk().answer) as port, calling(port) as caller:
            await caller.send(request("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
            await caller.drip(chunked(b"x" * 400))
            return await caller.answer(), await caller.rest()

    answer, rest = run(work())
    assert (answer.status, answer.headers["connection"], rest) == (413, "close", b"")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip", "x-unknown", "deflate"])
def test_a_compressed_body_is_refused(coding: str) -> None:
    desk = Desk()
    answer = asked(request("POST / HTTP/1.1", f"Content-Encoding: {coding}", body=b"\x1f\x8b"), desk.answer)
    assert (answer.status, desk.seen) == (415, [])
    assert asked(request("POST / HTTP/1.1", "Content-Encoding: Identity", body=b"ab"), desk.answer).status == 200


def test_a_coding_in_a_second_header_is_refused_too() -> None:
    """RFC 9110 section 5.3: two lines mean the same as one list."""
    desk = Desk()
    answer = asked(request("POST / HTTP/1.1", "Content-Encoding: identity", "Content-Encoding: gzip", body=b"\x1f\x8b"), desk.answer)
    assert (answer.status, desk.seen) == (415, [])


def test_a_compressing_transfer_coding_is_refused_too() -> None:
    """RFC 9112 section 6.1: a transfer coding that the server does not understand is answered with 501."""
    desk = Desk()
    answer = asked(request("POST / HTTP/1.1", "Transfer-Encoding: gzip, chunked", body=chunked(b"\x1f\x8b") + b"0\r\n\r\n"), desk.answer)
    assert (answer.status, desk.seen) in [(415, []), (501, []), (400, [])]


def test_a_slow_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much trickles in, the whole has to come in time."""
    monkeypatch.setattr(module, "BODY_S", SHORT_S)
    desk = Desk()

    async def work() -> tuple[Answer, bytes]:
        async with listening(desk.answer) as port, calling(port) as caller:
            await caller.send(request("POST / HTTP/1.1", "Content-Length: 900"))
            await caller.drip(b"x")
            return await caller.answer(), await caller.rest()

    answer, rest = run(work())
    assert (answer.status, answer.headers["connection"], rest) == (408, "close", b"")
    assert answer.document["detail"] == f"the body did not come within {SHORT_S:g} s"
    assert desk.seen == []


@pytest.mark.parametrize("first", [b"", request()], ids=["first", "second"])
@pytest.mark.parametrize("start", [b"", b"POST /hooks/door HTTP/1.1\r\nX: "], ids=["silent", "trickling"])
def test_headers_that_do_not_come_in_time_end_the_connection(first: bytes, start: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEPALIVE_S", SHORT_S)
    desk = Desk()

    async def work() -> bytes:
        async with listening(desk.answer) as port, calling(port) as caller:
            if first:
                await caller.send(first)
                assert (await caller.answer()).status == 200
            await caller.send(start)
            if start:
                await caller.drip(b"x")
            return await caller.rest()

    assert run(work()) == b""
    assert len(desk.seen) == (1 if first else 0)


def test_a_time_limit_of_headers_does_not_cut_off_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook that waits for the broker may take longer than a client may be idle."""
    monkeypatch.setattr(connections, "KEEPALIVE_S", SHORT_S / 4)

    async def answer(method: str, request: Request) -> Response:
        await asyncio.sleep(SHORT_S)  # this is what is measured: longer than the limit
        return json_response(200, {})

    assert asked(request(), answer).status == 200


@dataclass
class Waiting:
    """An answering function that answers nobody until it is told to."""

    begun: int = 0
    go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, _method: str, _request: Request) -> Response:
        self.begun += 1
        await self.go_on.wait()
        return json_response(200, {})


async def served(port: int) -> int:
    async with calling(port) as caller:
        await caller.send(request())
        return (await caller.answer()).status


@pytest.mark.parametrize(("trusted", "most"), [(Proxies(), 32), (proxies(("127.0.0.1",)), 256)], ids=["one caller", "a proxy"])
def test_as_many_connections_as_may_be_are_served_at_once_and_the_next_is_refused(trusted: Proxies, most: int) -> None:
    """FAULTS S21: 32 of one address, 256 in all; behind a proxy that the config names there are many callers."""

    async def work() -> tuple[list[int], bytes]:
        desk = Waiting()
        async with listening(desk.answer, trusted=trusted) as port, asyncio.TaskGroup() as tasks:
            all_served = [tasks.create_task(served(port)) for _ in range(most)]
            await until_true(lambda: desk.begun == most)
            async with calling(port) as one_more:
                rest = await one_more.rest()
            desk.go_on.set()
            return [await task for task in all_served], rest

    assert run(work()) == ([200] * most, b"")


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nX: ", request("POST / HTTP/1.1", "Content-Length: 5", body=b"ab")], ids=["silent", "in its headers", "in its body"])
def test_one_more_takes_the_place_of_the_one_that_was_idle_the_longest(sent: bytes) -> None:
    """FAULTS S19 to S21: who opens connections and asks nothing keeps nobody out, himself included."""

    async def work() -> tuple[bytes, list[int]]:
        async with Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=MAX_BODY) as inlet, AsyncExitStack() as stack:
            idle = []
            for _ in range(32):
                idle.append(await stack.enter_async_context(calling(inlet.port)))
                await idle[-1].send(sent)
            statuses = [await served(inlet.port)]
            rest = await idle[0].rest()
            await until_true(lambda: inlet.connections == 31)  # so that the next one takes nobody's place
            statuses.append(await served(inlet.port))
            await idle[1].send(request() if not sent else b"\r\n\r\n" if b"X: " in sent else b"cde")
            return rest, [*statuses, (await idle[1].answer()).status]

    assert run(work()) == (b"", [200, 200, 400 if sent[-3:] == b"X: " else 200])


def test_a_flood_of_connections_leaves_the_bounded_number() -> None:
    """FAULTS S21: 5,000 idle connections of one address."""

    async def work() -> tuple[int, int]:
        async with listening(Desk().answer) as port, AsyncExitStack() as stack:
            flood = [await stack.enter_async_context(calling(port)) for _ in range(300)]
            status = await served(port)
            gone = [asyncio.create_task(caller.rest()) for caller in flood]
            await until_true(lambda: sum(task.done() for task in gone) >= 300 - 32)
            left = sum(not task.done() for task in gone)
            for task in gone:
                task.cancel()
            return status, left

    status, left = run(work())
    assert status == 200
    assert left <= 32


def test_who_does_not_read_his_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", SHORT_S)
    ended = asyncio.Event()

    async def answer(method: str, request: Request) -> Response:
        return Response(status=200, body=b"x" * 8_000_000)  # more than both sockets hold

    async def work() -> None:
        async with Inlet([listening_tcp("127.0.0.1:0")], answer, max_body=MAX_BODY) as inlet, calling(inlet.port) as caller:
            await caller.send(request())
            await until_true(lambda: inlet.connections == 1)
            await until_true(lambda: inlet.connections == 0)
            ended.set()
            caller.leave()

    run(work())
    assert ended.is_set()


def test_one_that_is_closed_but_does_not_read_its_answer_makes_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for what is still to be sent, and would wait for ever: such a connection is reset for one that comes."""
    monkeypatch.setattr(connections, "KEEPALIVE_S", SHORT_S / 4)
    size = 60_000  # less than asyncio holds before it tells that nobody reads, more than the small buffers of these sockets

    async def answer(method: str, request: Request) -> Response:
        return Response(status=200, body=b"x" * size)

    def silent(port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        made.connect(("127.0.0.1", port))
        made.sendall(request())
        return made

    def read(one: socket.socket) -> int:
        came = 0
        with suppress(ConnectionError):
            while more := one.recv(65_536):
                came += len(more)
        return came

    async def work() -> tuple[int, int]:
        listening = listening_tcp("127.0.0.1:0")
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        async with Inlet([listening], answer, max_body=MAX_BODY) as inlet, AsyncExitStack() as stack:
            idle = [stack.enter_context(silent(inlet.port)) for _ in range(32)]
            await until_true(lambda: inlet.connections == 32 and all(guest.transport is None for guest in inlet._guests.all))  # closing, all of them
            return await served(inlet.port), await asyncio.to_thread(read, idle[0])

    status, came = run(work())
    assert status == 200
    assert came < size


def test_a_request_that_is_not_let_in_costs_no_body() -> None:
    """The door is asked before the body is read: a refusal comes though the body never does."""

    def admit(head: Request) -> None:
        raise HookError(403)

    async def work() -> Answer:
        async with listening(Desk().answer, admit=admit) as port, calling(port) as caller:
            await caller.send(request("POST /hooks/door HTTP/1.1", "Content-Length: 900"))
            return await caller.answer()

    answer = run(work())
    assert (answer.status, answer.document) == (403, {"type": "about:blank", "title": "Forbidden", "status": 403})


def test_the_address_is_the_sockets_unless_a_trusted_proxy_tells_another() -> None:
    """RFC 7239; the rule's own table is tests/unit/test_callers.py."""
    for trusted, client in ((Proxies(), "127.0.0.1"), (proxies(("127.0.0.0/8",)), "203.0.113.9")):
        desk = Desk()

        async def work(desk: Desk = desk, trusted: Proxies = trusted) -> None:
            async with listening(desk.answer, trusted=trusted) as port, calling(port) as caller:
                await caller.send(request("POST / HTTP/1.1", "X-Forwarded-For: 198.51.100.7, 203.0.113.9"))
                await caller.answer()

        run(work())
        assert [got.client for _, got in desk.seen] == [client]


def test_a_proxy_that_nobody_named_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async with listening(Desk().answer, admit=lambda head: None) as port, calling(port) as caller:
            for _ in range(3):
                await caller.send(request("POST / HTTP/1.1", "X-Forwarded-For: 203.0.113.9"))
                await caller.answer()

    run(work())
    assert [record.getMessage() for record in caplog.records if "X-Forwarded-For" in record.getMessage()] == [
        'a request from 127.0.0.1 has X-Forwarded-For, which is not believed: if a proxy runs there, set http.trusted_proxies = ["127.0.0.1"]'
    ]


# --- one connection after the other request ---


def test_a_connection_is_kept_for_the_next_request() -> None:
    async def work() -> list[Answer]:
        async with listening(Desk().answer) as port, calling(port) as caller:
            answers = []
            for n in range(3):
                await caller.send(request(f"POST /{n} HTTP/1.1", body=b"x" * n))
                answers.append(await caller.answer())
            return answers

    assert [answer.document for answer in run(work())] == [{"path": f"/{n}", "length": n} for n in range(3)]


def test_pipelined_requests_are_answered_in_their_order() -> None:
    async def work() -> list[Answer]:
        async with listening(Desk().answer) as port, calling(port) as caller:
            await caller.send(b"".join(request(f"POST /{n} HTTP/1.1", body=b"x" * n) for n in range(30)))
            return [await caller.answer() for _ in range(30)]

    assert [answer.document for answer in run(work())] == [{"path": f"/{n}", "length": n} for n in range(30)]


def test_what_follows_a_refused_body_is_not_taken_for_a_request() -> None:
    """The rest of an unread body must not be answered as if somebody had asked."""
    desk = Desk()

    async def work() -> tuple[Answer, bytes]:
        async with listening(desk.answer) as port, calling(port) as caller:
            await caller.send(request("POST / HTTP/1.1", f"Content-Length: {len(MORE) * 2}") + request("POST /smuggled HTTP/1.1"))
            return await caller.answer(), await caller.rest()

    answer, rest = run(work())
    assert (answer.status, rest, desk.seen) == (413, b"", [])


@pytest.mark.parametrize(("line", "header", "kept"), [("1.0", "", False), ("1.0", "Connection: keep-alive", True), ("1.1", "", True), ("1.1", "Connection: close", False)])
def test_a_connection_is_kept_as_its_version_says(line: str, header: str, kept: bool) -> None:
    """RFC 9112 section 9.3."""

    async def work() -> tuple[Answer, bool]:
        async with listening(Desk().answer) as port, calling(port) as caller:
            await caller.send(request(f"POST / HTTP/{line}", *([header] if header else []), body=b"ab"))
            answer = await caller.answer()
            if not kept:
                return answer, await caller.rest() != b""
            await caller.send(request(f"POST /again HTTP/{line}", "Connection: close"))
            return answer, (await caller.answer()).document["path"] == "/again"

    answer, again = run(work())
    assert (answer.version, answer.status, answer.document["length"], again) == (f"HTTP/{line}", 200, 2, kept)


def test_a_client_that_asks_before_it_sends_the_body_is_told_to_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """RFC 9110 section 10.1.1: a server answers `Expect: 100-continue` at once, and waits for no body before that."""
    monkeypatch.setattr(module, "BODY_S", SHORT_S)
    answer = asked(request("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 2"), Desk().answer, without_body=True)
    assert answer.status == 100


def test_a_client_that_asks_before_it_sends_too_much_is_refused_at_once() -> None:
    answer = asked(request("POST / HTTP/1.1", "Expect: 100-continue", f"Content-Length: {len(MORE)}"), Desk().answer)
    assert answer.status == 413


# --- what is not HTTP ---


MALFORMED = {
    # Request smuggling: two readings of where a body ends, RFC 9112 sections 6.1, 6.3 and 11.2
    "CL and TE": request("POST / HTTP/1.1", "Content-Length: 6", "Transfer-Encoding: chunked", body=b"0\r\n\r\nG"),
    "TE and CL": request("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Content-Length: 3", body=b"8\r\nSMUGGLED\r\n0\r\n\r\n"),
    "two lengths": request("POST / HTTP/1.1", "Content-Length: 3", "Content-Length: 4", body=b"abcd"),
    "a list of lengths": request("POST / HTTP/1.1", "Content-Length: 3, 4", body=b"abcd"),
    "a signed length": request("POST / HTTP/1.1", "Content-Length: +3", body=b"abc"),
    "a negative length": request("POST / HTTP/1.1", "Content-Length: -1"),
    "a length beyond 64 bits": request("POST / HTTP/1.1", "Content-Length: 99999999999999999999999"),
    "an unknown TE": request("POST / HTTP/1.1", "Transfer-Encoding: xchunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "chunked not last": request("POST / HTTP/1.1", "Transfer-Encoding: chunked, identity", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "TE twice": request("POST / HTTP/1.1", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "a blank before the colon": request("POST / HTTP/1.1", "Transfer-Encoding : chunked", body=b"3\r\nabc\r\n0\r\n\r\n"),
    "a folded header": request("POST / HTTP/1.1", "X: a\r\n b"),
    "a bare LF in a chunk": request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"3;\nxx\r\nabc\r\n0\r\n\r\n"),
    "a chunk without a size": request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=b"zz\r\nabc\r\n0\r\n\r\n"),
    "bare LFs": b"POST / HTTP/1.1\nHost: hall.example\nContent-Length: 0\n\n",
    # RFC 9112 section 3.2: one Host, and a target of characters that a URI has
    "two hosts": request("POST / HTTP/1.1", "Host: other.example"),
    "no host": b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
    "NUL in the path": request("POST /a\0b HTTP/1.1"),
    "raw bytes in the path": request("POST /\udcff\udcfe HTTP/1.1"),
    "NUL in a header": request("POST / HTTP/1.1", "X: a\0b"),
    "a path without a slash": request("POST hooks HTTP/1.1"),
    # Others
    "an unknown method": request("FROB / HTTP/1.1"),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "chunks of HTTP/1.0": request("POST / HTTP/1.0", "Connection: keep-alive", "Transfer-Encoding: chunked", body=chunked(b"ab") + b"0\r\n\r\n"),  # RFC 9112 section 6.1
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"z" * 50,
    "garbage": bytes(range(128, 256)) * 4 + b"\r\n\r\n",
}


TOO_LARGE = {  # RFC 6585 section 5, RFC 9110 section 15.5.15
    "200 headers": (431, request("POST / HTTP/1.1", *(f"X-{n}: y" for n in range(200)))),
    "a long header": (431, request("POST / HTTP/1.1", "X: " + "y" * 9_000)),
    "a long header's name": (431, request("POST / HTTP/1.1", "y" * 9_000 + ": x")),
    "a long path": (414, request(f"POST /{'y' * 9_000} HTTP/1.1")),
}


def refused(raw: bytes) -> tuple[Answer, bytes, Desk]:
    desk = Desk()

    async def work() -> tuple[Answer, bytes]:
        async with listening(desk.answer) as port, calling(port) as caller:
            await caller.send(raw)
            return await caller.answer(), await caller.rest()

    return (*run(work()), desk)


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_request_is_refused_and_ends_the_connection(raw: bytes) -> None:
    answer, rest, desk = refused(raw)
    assert (answer.status, rest, desk.seen) == (400, b"", [])


@pytest.mark.parametrize("version", ["0.9", "1.2", "2.0", "3.7"])
def test_another_version_is_told_and_ends_the_connection(version: str) -> None:
    """RFC 9110 section 15.6.6."""
    answer, rest, desk = refused(request(f"POST / HTTP/{version}", "Connection: keep-alive"))
    assert (answer.status, answer.document["detail"], rest, desk.seen) == (505, "HTTP/1.1 is spoken here", b"", [])


@pytest.mark.parametrize(("status", "raw"), TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_request_that_is_too_large_before_its_body_is_told_which_part_is(status: int, raw: bytes) -> None:
    answer, rest, desk = refused(raw)
    assert (answer.status, answer.headers["content-type"], rest, desk.seen) == (status, "application/problem+json", b"", [])


def test_a_malformed_request_behind_a_good_one_does_not_reach_anybody() -> None:
    desk = Desk()

    async def work() -> list[int]:
        async with listening(desk.answer) as port, calling(port) as caller:
            await caller.send(request("POST /good HTTP/1.1"))
            good = await caller.answer()
            await caller.send(MALFORMED["CL and TE"])
            return [good.status, (await caller.answer()).status]

    assert run(work()) == [200, 400]
    assert [got.path for _, got in desk.seen] == ["/good"]


def test_a_chunk_that_breaks_after_a_good_one_does_not_reach_anybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server may notice at once (400) or for want of an end (408)."""
    monkeypatch.setattr(module, "BODY_S", SHORT_S)
    desk = Desk()

    async def work() -> Answer:
        async with listening(desk.answer) as port, calling(port) as caller:
            await caller.send(request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"abc")))
            await caller.send(b"zz\r\n")
            return await caller.answer()

    assert run(work()).status in (400, 408)
    assert desk.seen == []


@pytest.mark.parametrize("raw", [request(), MALFORMED["CL and TE"], MALFORMED["TLS"]], ids=["good", "malformed", "TLS"])
def test_no_answer_tells_which_software_of_which_version_gives_it(raw: bytes) -> None:
    answer = asked(raw, Desk().answer)
    assert answer.headers.get("server", "mqtthook") == "mqtthook"


def test_a_malformed_request_gets_a_problem_document_too() -> None:
    """The errors of a hook are RFC 9457 problem documents: 400 unreadable."""
    answer = asked(MALFORMED["CL and TE"], Desk().answer)
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")


# --- errors ---


def test_an_unknown_path_gets_a_problem_document() -> None:
    hook = Inbound.model_validate({"verify": "none", "topic": "home/door/set"})
    hooks = Hooks([Hook(name="door", rule=hook, pattern=hook.pattern("door"), keys=())])

    async def answer(method: str, request: Request) -> Response:
        return json_response(200, {"hook": hooks.of(request.path).name})

    assert asked(request("POST /hooks/door HTTP/1.1"), answer).document == {"hook": "door"}
    missing = asked(request("POST /hooks/window HTTP/1.1"), answer)
    assert (missing.status, missing.headers["content-type"]) == (404, "application/problem+json")
    assert missing.document == {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "there is no hook at this path"}
    assert asked(request("POST /hooks/%ff HTTP/1.1"), answer).status == 400
    assert asked(request("POST /hooks%2Fdoor HTTP/1.1"), answer).status == 404


def test_a_refusal_names_the_time_after_which_to_come_again() -> None:
    async def answer(method: str, request: Request) -> Response:
        raise HookError(429, "too many wrong signatures", retry_after_s=60)

    refusal = asked(request(), answer)
    assert (refusal.status, refusal.headers["retry-after"], refusal.document["detail"]) == (429, "60", "too many wrong signatures")


def test_an_exception_is_logged_and_answered_without_a_detail(caplog: pytest.LogCaptureFixture) -> None:
    async def answer(method: str, request: Request) -> Response:
        raise RuntimeError("the password is hunter2")

    failed = asked(request("POST /hooks/door?token=QUERY-TOKEN HTTP/1.1"), answer)
    assert (failed.status, failed.headers["content-type"]) == (500, "application/problem+json")
    assert failed.document == {"type": "about:blank", "title": "Internal Server Error", "status": 500}
    [record] = [record for record in caplog.records if record.name == "bridge.edges.inlet.server"]
    assert record.levelno == logging.ERROR
    assert "/hooks/door" in record.getMessage()
    assert "QUERY-TOKEN" not in record.getMessage()
    assert record.exc_info


def test_an_answer_goes_out_as_it_was_given() -> None:
    async def answer(method: str, request: Request) -> Response:
        return Response(status=405, body=b"\0\xff", content_type="text/plain; version=0.0.4", headers={"Allow": "POST"})

    got = asked(request(), answer)
    assert (got.status, got.body, got.headers["content-type"], got.headers["allow"]) == (405, b"\0\xff", "text/plain; version=0.0.4", "POST")


@pytest.mark.parametrize("sent", [request("POST / HTTP/1.1", "Content-Length: 10", body=b"ab"), request("POST / HTTP/1.1", "Transfer-Encoding: chunked", body=chunked(b"ab"))], ids=["length", "chunked"])
def test_a_client_that_goes_away_in_its_body_is_no_error_of_ours(sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Style: ERROR means that a person must act; a phone that left the Wi-Fi is not that."""
    desk = Desk()

    async def work() -> None:
        async with listening(desk.answer) as port:
            async with calling(port) as caller:
                await caller.send(sent)
                async with calling(port) as other:  # once this one is answered, the first was begun
                    await other.send(request("POST /other HTTP/1.1"))
                    await other.answer()
                caller.leave()
            async with calling(port) as other:
                await other.send(request("POST /other HTTP/1.1"))
                await other.answer()

    run(work())
    assert {got.path for _, got in desk.seen} == {"/other"}
    assert not [record for record in caplog.records if record.name.startswith("bridge") and record.levelno >= logging.ERROR]


def test_a_client_that_goes_away_does_not_cut_off_the_answering() -> None:
    """What was begun is ended: a command may already be on its way."""
    begun, ended, gone = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def answer(method: str, request: Request) -> Response:
        begun.set()
        await gone.wait()
        ended.set()
        return json_response(200, {})

    async def work() -> None:
        async with listening(answer) as port:
            async with calling(port) as caller:
                await caller.send(request())
                await begun.wait()
                caller.leave()
            gone.set()
            await ended.wait()

    run(work())


# --- the end ---


def test_closing_lets_an_answer_be_finished(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHUTDOWN_S", DEADLINE_S)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def answer(method: str, request: Request) -> Response:
        begun.set()
        await go_on.wait()
        return json_response(200, {"done": True})

    async def work() -> Answer:
        inlet = Inlet([listening_tcp("127.0.0.1:0")], answer, max_body=MAX_BODY)
        await inlet.__aenter__()
        async with calling(inlet.port) as caller, asyncio.TaskGroup() as tasks:
            await caller.send(request())
            await begun.wait()
            tasks.create_task(inlet.__aexit__(None, None, None))
            await refuses(inlet.port)  # so the closing is under way
            go_on.set()
            return await caller.answer()

    assert run(work()).document == {"done": True}


async def refuses(port: int) -> None:
    """Return once nobody listens any more: refused, or reset while it still waited to be accepted."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except ConnectionError:
            return
        writer.close()


def test_closing_does_not_wait_for_ever() -> None:
    begun = asyncio.Event()

    async def answer(method: str, request: Request) -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def work() -> bytes:
        inlet = Inlet([listening_tcp("127.0.0.1:0")], answer, max_body=MAX_BODY)
        await inlet.__aenter__()
        async with calling(inlet.port) as caller, calling(inlet.port) as idle:
            await caller.send(request())
            await begun.wait()
            await inlet.__aexit__(None, None, None)
            return await caller.rest() + await idle.rest()

    assert run(work()) == b""


def test_a_closed_inlet_takes_no_connection() -> None:
    async def work() -> int:
        async with listening(Desk().answer) as port:
            return port

    port = run(work())
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("before", [b"", b"POST /late HTTP/1.1\r\nHost: hall", request("POST /late HTTP/1.1", "Content-Length: 2", body=b"a")], ids=["silent", "in its headers", "in its body"])
def test_closing_waits_for_a_request_that_is_just_coming(before: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who was let in a moment ago isn't cut off: a restart behind a socket of systemd's refuses nobody."""
    monkeypatch.setattr(module, "SHUTDOWN_S", DEADLINE_S)
    monkeypatch.setattr(module, "FRESH_S", DEADLINE_S)

    async def work() -> Answer:
        inlet = Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=MAX_BODY)
        await inlet.__aenter__()
        async with calling(inlet.port) as caller, asyncio.TaskGroup() as tasks:
            await caller.send(before)
            await until_true(lambda: inlet.connections == 1)
            tasks.create_task(inlet.__aexit__(None, None, None))
            await refuses(inlet.port)
            await caller.send(request("POST /late HTTP/1.1") if not before else b".example\r\nContent-Length: 0\r\n\r\n" if b"Length" not in before else b"b")
            return await caller.answer()

    answer = run(work())
    assert (answer.document["path"], answer.headers["connection"]) == ("/late", "close")


# --- other bounds, another address ---


def test_who_is_connected_when_an_inlet_retires_is_answered_once_more_and_then_let_go() -> None:
    """An address that a new config leaves: nobody can come any more, and nobody is cut off."""

    async def work() -> tuple[Answer, bytes]:
        async with Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=MAX_BODY) as inlet, calling(inlet.port) as caller:
            port = inlet.port
            await caller.send(request())
            assert (await caller.answer()).headers.get("connection") != "close"
            inlet.retire()
            inlet.retire()
            await refuses(port)
            await caller.send(request("POST /late HTTP/1.1"))
            answer, rest = await caller.answer(), await caller.rest()
            await until_true(lambda: inlet.connections == 0)
            return answer, rest

    answer, rest = run(work())
    assert (answer.document["path"], answer.headers["connection"], rest) == ("/late", "close", b"")


def test_all_who_knocked_before_an_inlet_retires_are_let_in() -> None:
    """Not as many only as are accepted before the loop turns to others."""
    many = module.ACCEPTED_AT_ONCE * 2

    async def work() -> int:
        with listening_tcp("127.0.0.1:0") as listening:
            port = listening.getsockname()[1]
            knocking = [socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) for _ in range(many)]
            trusted = proxies(("127.0.0.0/8",))  # of which any number may come
            async with Inlet([listening], Desk().answer, max_body=MAX_BODY, trusted=trusted) as inlet:
                inlet.retire()
                found = inlet.connections
            for one in knocking:
                one.close()
            return found

    assert run(work()) == many


def test_other_bounds_count_from_the_next_request_on_and_on_the_same_connection() -> None:
    async def work() -> list[Answer]:
        async with Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=MAX_BODY) as inlet, calling(inlet.port) as caller:
            await caller.send(request(body=b"123"))
            answers = [await caller.answer()]
            inlet.adopt(max_body=3, trusted=Proxies(), tls=None)
            await caller.send(request(body=b"123"))
            answers.append(await caller.answer())
            await caller.send(request(body=b"1234"))
            return [*answers, await caller.answer()]

    assert [answer.status for answer in run(work())] == [200, 200, 413]


def test_a_connection_in_the_clear_ends_with_its_next_answer_where_tls_is_wanted_from_now_on() -> None:
    async def work() -> tuple[Answer, bytes]:
        async with Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=MAX_BODY) as inlet, calling(inlet.port) as caller:
            await caller.send(request())
            await caller.answer()
            inlet.adopt(max_body=MAX_BODY, trusted=Proxies(), tls=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            await caller.send(request())
            return await caller.answer(), await caller.rest()

    answer, rest = run(work())
    assert (answer.status, answer.headers["connection"], rest) == (200, "close", b"")


def test_a_body_that_nobody_asks_for_is_not_read() -> None:
    """However long it says it is: the answer is about the request's line alone."""

    async def work() -> Answer:
        async with Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=None) as inlet, calling(inlet.port) as caller:
            await caller.send(request("POST / HTTP/1.1", f"Content-Length: {1 << 40}") + b"x")
            return await caller.answer()

    answer = run(work())
    assert (answer.status, answer.document["length"], answer.headers["connection"]) == (200, 0, "close")


# --- listening ---


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.1"])
def test_a_port_that_is_our_own_may_be_taken_before_it_is_given_up(address: str) -> None:
    """From loopback to everywhere and back: on one port the kernel takes no two sockets by itself."""
    with listening_tcp("127.0.0.1:0") as first:
        port = first.getsockname()[1]
        with pytest.raises(OSError, match="Address already in use"):
            listening_tcp(f"{address}:{port}")
        with listening_tcp(f"{address}:{port}", beside=[first]) as second:
            first.close()
            assert not second.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT), "shared for a moment only"
            with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S):
                second.accept()[0].close()
            with pytest.raises(OSError, match="Address already in use"):
                listening_tcp(f"{address}:{port}")


def test_a_port_of_somebody_else_is_not_taken_whatever_we_have() -> None:
    with listening_tcp("127.0.0.1:0") as ours, listening_tcp("127.0.0.1:0") as theirs, pytest.raises(OSError, match="Address already in use"):
        listening_tcp(f"0.0.0.0:{theirs.getsockname()[1]}", beside=[ours])


def test_a_port_in_use_is_an_os_error() -> None:
    with listening_tcp("127.0.0.1:0") as first, pytest.raises(OSError, match="Address already in use"):
        listening_tcp(f"127.0.0.1:{first.getsockname()[1]}")


def test_an_address_that_is_not_ours_is_an_os_error() -> None:
    """RFC 5737: 192.0.2.0/24 is nobody's; RFC 6761: `invalid` never exists."""
    with pytest.raises(OSError, match="Cannot assign requested address"):
        listening_tcp("192.0.2.1:0")
    with pytest.raises(socket.gaierror):
        listening_tcp("name.invalid:8080")


def test_an_ipv6_address_stands_in_brackets() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with listening_tcp("[::1]:0") as listening:
        assert listening.getsockname()[0] == "::1"


@pytest.fixture
def far_away(tmp_path: Path) -> Path:
    """Give a path that is longer than the 107 bytes of unix(7)."""
    directory = tmp_path / ("d" * 100) / ("e" * 100)
    directory.mkdir(parents=True)
    return directory / "control.sock"


def asked_at(path: Path, raw: bytes) -> Answer:
    async def work() -> Answer:
        async with Inlet([listening_unix(path)], Desk().answer, max_body=MAX_BODY):
            return await answered_at(path, raw)

    return run(work())


async def answered_at(path: Path, raw: bytes) -> Answer:
    directory = os.open(path.parent, os.O_PATH)
    try:
        reader, writer = await asyncio.open_unix_connection(f"/proc/self/fd/{directory}/{path.name}")
    finally:
        os.close(directory)
    try:
        caller = Caller(reader, writer)
        await caller.send(raw)
        return await caller.answer()
    finally:
        writer.close()
        await writer.wait_closed()


def test_a_socket_may_lie_at_a_long_path(far_away: Path) -> None:
    assert asked_at(far_away, request("GET /status HTTP/1.1")).document["path"] == "/status"


def test_a_socket_is_for_its_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with listening_unix(tmp_path / "control.sock"):
            assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o600
        assert os.umask(0) == 0  # and what is made later is not touched
    finally:
        os.umask(before)


def test_a_socket_may_be_for_everybody(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        with listening_unix(tmp_path / "hooks.sock", mode=0o666):
            assert stat.S_IMODE((tmp_path / "hooks.sock").stat().st_mode) == 0o666
    finally:
        os.umask(before)


def test_another_file_is_not_replaced_by_a_socket(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("mine")
    with pytest.raises(FileExistsError):
        listening_unix(tmp_path / "notes")
    assert (tmp_path / "notes").read_text() == "mine"


def test_a_socket_that_an_earlier_run_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    listening_unix(path).close()
    assert path.is_socket()
    assert asked_at(path, request()).status == 200


def test_a_socket_at_which_somebody_listens_is_left_alone(far_away: Path) -> None:
    async def work() -> Answer:
        async with Inlet([listening_unix(far_away)], Desk().answer, max_body=MAX_BODY):
            before = sorted(os.listdir("/proc/self/fd"))
            with pytest.raises(OSError, match="Address already in use"):
                listening_unix(far_away)
            assert sorted(os.listdir("/proc/self/fd")) == before
            return await answered_at(far_away, request())

    assert run(work()).status == 200


def test_a_socket_at_which_as_many_wait_as_may_is_left_alone(tmp_path: Path) -> None:
    """A connection would wait: nobody accepts."""
    path = tmp_path / "hooks.sock"
    with socket.socket(socket.AF_UNIX) as busy, ExitStack() as waiting:
        busy.bind(str(path))
        busy.listen(0)
        with suppress(BlockingIOError):
            while True:
                caller = waiting.enter_context(socket.socket(socket.AF_UNIX))
                caller.setblocking(False)
                caller.connect(str(path))
        with pytest.raises(OSError, match="Address already in use"):
            listening_unix(path)


def test_listening_leaves_no_directory_open(tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    listening_unix(tmp_path / "control.sock").close()
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_directory_that_is_missing_is_an_os_error_and_nothing_stays_open(tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as left_open:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(FileNotFoundError):
            listening_unix(tmp_path / "missing" / "control.sock")
        gc.collect()
    assert not [str(warning.message) for warning in left_open]


def test_a_name_that_is_too_long_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long"):
        listening_unix(tmp_path / ("s" * 120))


# --- when there is nothing left ---


def test_without_a_descriptor_callers_wait_and_it_is_told_at_each_power_of_two(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(module, "PAUSE_S", SHORT_S)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def work() -> None:
        async with Inlet([listening_tcp("127.0.0.1:0")], Desk().answer, max_body=MAX_BODY) as inlet:
            knocking = socket.create_connection(("127.0.0.1", inlet.port))  # in the kernel's queue: the inlet has had no turn yet
            lowest = os.dup(0)
            os.close(lowest)
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
            try:
                await until_true(lambda: inlet._pauses > 5)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until_true(lambda: inlet.connections == 1)
            knocking.close()

    run(work())
    told = [record.getMessage().rpartition("pauses=")[2] for record in caplog.records if "connections are not taken" in record.getMessage()]
    assert told[:3] == ["1", "2", "4"]
    assert all(int(pauses) & (int(pauses) - 1) == 0 for pauses in told)


# --- an answer whose end is not known yet ---


def test_a_stream_is_written_as_it_comes_and_let_go_of_when_the_caller_goes() -> None:
    more, gone = asyncio.Event(), asyncio.Event()

    async def stream() -> AsyncGenerator[bytes, None]:
        try:
            yield b"one\n"
            await more.wait()
            while True:
                yield b"two\n"
                await asyncio.sleep(0)
        finally:
            gone.set()

    async def answer(_method: str, _request: Request) -> Response:
        return Response(status=200, body=b"", stream=stream())

    async def work() -> None:
        async with listening(answer) as port:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request("GET / HTTP/1.1"))
            assert (await reader.readuntil(b"one\n")).startswith(b"HTTP/1.1 200")
            writer.close()
            more.set()
            await gone.wait()

    run(work())
