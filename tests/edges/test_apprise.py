"""The edge to Apprise, against a real mail server and a real receiver: handed over once, and every end is a Reply."""

import asyncio
import itertools
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pytest

from bridge.edges.apprise import MAX_TOLD, Notifier, problem_with
from bridge.model import Event, Reply
from bridge.rules.outbound import Destination
from tests.rig.mail import MailServer, text_of
from tests.rig.misbehaving import DEADLINE_S, Misbehaving, drips, never_answers
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver
from tests.rig.receiver import Reply as Answer
from tests.rig.wait import until

T = TypeVar("T")

SHORT_S = 0.3  # for a server that keeps us waiting for ever: every machine waits so long in vain
TOKEN = "PATH-TOKEN-1"
PASSWORD = "hunter2&more"  # written into a URL as hunter2%26more


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in a loop of its own, and not for ever."""
    return asyncio.run(asyncio.wait_for(work, DEADLINE_S))


def notice(text: str = "Water in the cellar", **headers: str) -> Event:
    return Event(method="NOTIFY", url="apprise:", headers=tuple(headers.items()), body=text.encode())


def notifier(url: str, *, timeout_s: float = 10.0, at_once: int = 8) -> Notifier:
    return Notifier(Destination.model_validate({"apprise": url, "timeout": f"{timeout_s * 1000:.0f}ms", "concurrency": at_once}))


def sent(url: str, event: Event | None = None, *, timeout_s: float = 10.0) -> Reply:
    async def send() -> Reply:
        return await notifier(url, timeout_s=timeout_s).send(event or notice())

    return run(send())


def mailto(server: MailServer, **query: str) -> str:
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return f"mailto://localhost:{server.port}/?from=pi@example.com&to=me@example.com{more}"


@contextmanager
def log_at_debug() -> Iterator[list[str]]:
    """Give every record that reaches our own log, whatever its level."""
    lines: list[str] = []
    handler = logging.Handler(logging.NOTSET)
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.NOTSET)
    try:
        yield lines
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


# --- taken ---


def test_a_mail_server_gets_a_mail_with_title_and_text() -> None:
    with MailServer() as server:
        reply = sent(mailto(server), notice("Water in the cellar\n12 °C", Title="Leak!", Type="failure"))
        (mail,) = server.mails
    assert (reply.status, reply.error, reply.detail) == (200, None, None)
    assert 0 < reply.took_s < DEADLINE_S
    assert (mail["Subject"], mail["To"]) == ("Leak!", "me@example.com")
    assert text_of(mail).splitlines() == ["Water in the cellar", "12 °C"]


@pytest.mark.parametrize(("headers", "kind"), [({}, "info"), ({"Type": "warning"}, "warning"), ({"type": "failure"}, "failure")])
def test_a_json_receiver_is_told_title_text_and_type(headers: dict[str, str], kind: str) -> None:
    with Receiver() as receiver:
        assert sent(f"json://127.0.0.1:{receiver.port}/{TOKEN}", notice(**headers)).status == 200
    (received,) = receiver.received
    told = json.loads(received.body)
    assert (received.path, told["title"], told["message"], told["type"]) == (f"/{TOKEN}", "", "Water in the cellar", kind)


def test_a_payload_writes_no_html_where_a_service_shows_html() -> None:
    with MailServer() as server:
        sent(mailto(server, format="html"), notice("<b>bold</b> & <script>alert(1)</script>"))
        (mail,) = server.mails
    html = mail.get_body(("html",))
    assert html is not None
    assert "<b>" not in html.get_content()
    assert "<script>" not in html.get_content()


def test_it_does_not_wait_between_two_notices_as_apprise_would() -> None:
    async def two(url: str) -> list[Reply]:
        quick = notifier(url, timeout_s=4.0, at_once=1)  # less than the 5.5 s of Apprise
        return [await quick.send(notice()) for _ in range(2)]

    with Receiver() as receiver:
        assert [reply.status for reply in run(two(f"json://127.0.0.1:{receiver.port}"))] == [200, 200]


# --- not taken ---


def test_a_refusal_is_told_with_the_service_and_its_reason() -> None:
    with Receiver(lambda path, headers, body: Answer(500)) as receiver:
        reply = sent(f"json://127.0.0.1:{receiver.port}")
    assert (reply.status, reply.error) == (None, "apprise")
    assert reply.detail is not None
    assert reply.detail.startswith("json did not take it: Failed to send JSON POST notification: ")
    assert "error=500" in reply.detail


def test_a_mail_server_that_refuses_is_quoted() -> None:
    with MailServer("550 no such user here") as server:
        reply = sent(mailto(server))
    assert reply.error == "apprise"
    assert "no such user here" in str(reply.detail)
    assert not server.mails


def test_what_is_told_is_one_line_and_short() -> None:
    with MailServer("550 " + "very " * 99 + "sorry") as server:
        detail = str(sent(mailto(server)).detail)
    assert "\n" not in detail
    assert len(detail) == MAX_TOLD + len("mailto did not take it: ")


def test_a_text_that_apprise_finds_empty_is_refused_without_a_request() -> None:
    with Receiver() as receiver:
        reply = sent(f"json://127.0.0.1:{receiver.port}", notice(""))
    assert (reply.error, receiver.received) == ("apprise", [])


def test_a_url_that_apprise_can_not_use_is_a_reply() -> None:
    assert sent("nonsense://x").detail == "nonsense did not take it: Unparseable URL nonsense://x"


def test_a_body_that_is_no_text_is_a_reply() -> None:
    event = Event(method="NOTIFY", url="apprise:", headers=(), body=b"\xff\xd8")
    assert sent("json://127.0.0.1:9", event).error == "apprise"


def test_a_service_that_raises_is_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_args: object, **_more: object) -> None:
        raise KeyError(TOKEN)

    monkeypatch.setattr("apprise.Apprise.notify", raises)
    assert sent(f"json://127.0.0.1/{TOKEN}").detail == "json did not take it: KeyError within Apprise"


@pytest.mark.parametrize("query", ["retry=3&wait=0", "optional=yes"])
def test_the_url_has_no_say_in_repeats_and_in_what_is_a_failure(query: str) -> None:
    with Receiver(lambda path, headers, body: Answer(503)) as receiver:
        assert sent(f"json://127.0.0.1:{receiver.port}/?{query}").error == "apprise"
    assert len(receiver.received) == 1


# --- slow ---


def test_a_service_that_hangs_is_given_up_in_time_and_holds_up_no_other() -> None:
    async def both(hanging: str, other: str) -> tuple[Reply, Reply]:
        loop = asyncio.get_running_loop()
        slow = asyncio.create_task(notifier(hanging, timeout_s=SHORT_S).send(notice()))
        quick = await notifier(other).send(notice())
        await loop.getaddrinfo("localhost", 80)  # which takes a thread of the loop's own pool
        return await slow, quick

    with Misbehaving(never_answers) as hanging, Receiver() as receiver:
        slow, quick = run(both(f"json://127.0.0.1:{hanging.port}", f"json://127.0.0.1:{receiver.port}"))
    # Apprise's own time-out for the connection is the same, and may be the first.
    assert slow.error in ("timeout", "apprise")
    assert slow.took_s < DEADLINE_S
    assert quick.status == 200


def test_calls_that_hang_keep_their_places_so_that_threads_stay_few() -> None:
    async def three(url: str) -> list[Reply]:
        slow = notifier(url, timeout_s=SHORT_S, at_once=2)
        return await asyncio.gather(*(slow.send(notice()) for _ in range(3)))

    # A byte now and then: no time-out of Apprise's own ends such a call, and gives its place away.
    dripping = drips(itertools.repeat(ord("a")), head=b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", every_s=SHORT_S / 10)
    with Misbehaving(dripping) as hanging:
        replies = run(three(f"json://127.0.0.1:{hanging.port}"))
        until(lambda: hanging.connections >= 2, "both calls")
        assert hanging.connections == 2
    assert [reply.detail for reply in replies] == ["json did not take it within 0.3 s"] * 3


def test_a_call_that_ends_after_its_loop_is_nobodys_trouble() -> None:
    with Misbehaving(never_answers) as hanging:
        sent(f"json://127.0.0.1:{hanging.port}", timeout_s=0.01)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name == "apprise"], "the thread to end")


def test_a_thread_that_can_not_start_is_a_reply() -> None:
    threading.stack_size(1 << 46)  # more than any address space has
    try:
        reply = sent("json://127.0.0.1:9")
    finally:
        threading.stack_size(0)
    assert reply.detail == "json did not take it: can't start new thread"


# --- secrets ---


URLS = [
    "json://user:hunter2%26more@127.0.0.1:{port}/PATH-TOKEN-1?+X-Key=PATH-TOKEN-1",
    "mailto://user:hunter2%26more@localhost:{port}/?from=PATH-TOKEN-1@example.com&to=PATH-TOKEN-1@example.com",
    "ntfy://user:hunter2%26more@127.0.0.1:{port}/PATH-TOKEN-1",
    "gotify://127.0.0.1:{port}/PATH-TOKEN-1",
]


@pytest.mark.parametrize("url", URLS, ids=lambda url: url.partition(":")[0])
def test_no_part_of_the_url_is_told_or_logged(url: str) -> None:
    with log_at_debug() as lines:
        reply = sent(url.format(port=free_port()))
    assert reply.error == "apprise"
    for text in (str(reply), *lines):
        assert not [secret for secret in (TOKEN, PASSWORD, "hunter2") if secret.lower() in text.lower()], text


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("json://localhost", None),
        ("mailto://user:hunter2@example.com", None),
        ("nonsense://hunter2", "Apprise can't use this nonsense:// URL: Unparseable URL nonsense://…"),
        ("slack://hunter2", "Apprise can't use this slack:// URL: An invalid Slack (second) Token (None) was specified."),
        ("discord://hunter2", "Apprise can't use this discord:// URL: An invalid Discord Webhook Token (None) was specified."),
        ("json://localhost?method=hunter2", "Apprise can't use this json:// URL: The method specified (…) is invalid."),
        ("hunter2", "Apprise can't use this ?:// URL: Unsupported URL: http://…"),
        ("", "Apprise can't use this ?:// URL: "),
    ],
)
def test_a_url_is_judged_before_it_is_used(url: str, problem: str | None) -> None:
    with log_at_debug() as lines:
        found = problem_with(url)
    assert found == problem if problem is None else str(found).startswith(problem)
    assert "hunter2" not in f"{found} {lines}"


# --- without the extra ---


def test_without_the_extra_the_problem_is_what_to_install() -> None:
    code = "import sys; sys.modules['apprise'] = None\nfrom bridge.edges.apprise import problem_with\nprint(problem_with('json://localhost'))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "Apprise is not installed here: pip install 'mqtthook[apprise]'\n"


def test_nothing_waits_for_apprise_but_who_uses_it() -> None:
    code = "import sys\nimport bridge.edges.apprise, bridge.app\nprint('apprise' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout == "False\n"
