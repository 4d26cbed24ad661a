"""Apprise: hands an event's text to one of Apprise's services, once. The only module that imports apprise.

It is imported when the first destination asks for it: nothing else waits for its hundred services. Apprise blocks, so
each call has a daemon thread of its own and never one of the loop's pool, where names are looked up: a mail server that
hangs holds up neither another destination nor the end of the program. Every end is a Reply, and none of them holds a part
of the URL but its scheme: services have their tokens in host, path and query alike.
"""

import asyncio
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import cache, partial
from time import monotonic
from types import ModuleType
from typing import Any
from urllib.parse import parse_qsl, unquote

from bridge.model import Event, Headers, Reply
from bridge.rules.notices import title_and_type
from bridge.rules.outbound import Destination

MAX_TOLD = 300  # characters of what a service says; enough for an SMTP server's answer
SHORTEST = 3  # characters of a part of the URL that is blotted out; less than any token has

# At debug level these write down requests with their URLs, and so our tokens.
_TALKATIVE = ("urllib3", "requests_oauthlib", "oauthlib")
_CAUSE = "Socket Exception: "  # so begins the one line of Apprise below WARNING that says why

_HEARD: ContextVar[list[str] | None] = ContextVar("what Apprise says of a call", default=None)


class Notifier:
    """One of Apprise's services as a destination: the same to its courier as a channel of the outlet."""

    def __init__(self, destination: Destination) -> None:
        assert destination.apprise is not None, "else it is the outlet's"
        self._url, self._timeout_s = destination.apprise.get_secret_value(), destination.timeout.total
        self._free = asyncio.Semaphore(destination.concurrency)

    async def send(self, event: Event, signed: Headers = ()) -> Reply:  # noqa: ARG002 - a notice is a text, a title and a type
        """Hand *event* over, and return what came of it within the destination's time: status 200, or why not.

        A call that takes longer goes on by itself, and keeps its place among those at once until it ends.
        """
        began = monotonic()
        try:
            async with asyncio.timeout(self._timeout_s):
                reason = await self._in_a_thread(partial(_refusal, self._url, event, self._timeout_s))
        except TimeoutError:
            return Reply(error="timeout", detail=f"{_scheme(self._url)} did not take it within {self._timeout_s:g} s", took_s=monotonic() - began)
        if reason is None:
            return Reply(status=200, took_s=monotonic() - began)
        return Reply(error="apprise", detail=f"{_scheme(self._url)} did not take it: {reason}", took_s=monotonic() - began)

    async def _in_a_thread(self, refusal: "partial[str | None]") -> str | None:
        await self._free.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[str | None] = loop.create_future()

        def ended(reason: str | None) -> None:
            self._free.release()
            if not answer.done():
                answer.set_result(reason)

        def work() -> None:
            reason = refusal()
            with suppress(RuntimeError):  # the loop is closed: nobody waits for it any more
                loop.call_soon_threadsafe(ended, reason)

        try:
            threading.Thread(target=work, name="apprise", daemon=True).start()
        except RuntimeError as exc:
            ended(str(exc))
        return await answer


def problem_with(url: str) -> str | None:
    """Return why *url* can't be used, without any part of it but its scheme, or None if it can be."""
    try:
        _apprise()
    except ImportError:
        return "Apprise is not installed here: pip install 'mqtthook[apprise]'"
    with _heard() as lines:
        if _service(url) is not None:
            return None
    return f"Apprise can't use this {_scheme(url)}:// URL: {_told(lines[:1], url)}"


def _refusal(url: str, event: Event, timeout_s: float) -> str | None:
    """Return why the service did not take *event*, or None if it did."""
    title, kind = title_and_type(event)
    with _heard() as lines:
        try:
            taken = _notified(url, event.body, title=title, kind=kind, timeout_s=timeout_s)
        except Exception as exc:  # a hundred services by as many hands, each with surprises of its own
            return f"{type(exc).__name__} within Apprise"
    return None if taken else _told(lines, url)


def _notified(url: str, body: bytes, *, title: str, kind: str, timeout_s: float) -> bool:
    """Return True if the service took it, False if not.

    A new instance for each call: those of one service wait for each other, 5.5 s each by default, and the pace of a
    destination is its courier's business. So are repeats, and what counts as a failure: `retry` and `optional` of the
    URL don't count.
    """
    apprise = _apprise()
    service = _service(url)
    if service is None:
        return False
    service.retry, service.optional = 0, False
    service.socket_connect_timeout = service.socket_read_timeout = timeout_s
    only = apprise.Apprise(asset=service.asset)
    only.add(service)
    # Said to be plain text: where a service shows HTML or Markdown, a payload can't write any.
    return bool(only.notify(body=body, title=title, notify_type=kind, body_format=apprise.NotifyFormat.TEXT))


def _service(url: str) -> Any:
    """Return an instance of the service, or None where Apprise can't make one of *url*."""
    apprise = _apprise()
    asset = apprise.AppriseAsset(async_mode=False, app_id="mqtthook", app_desc="mqtthook")
    return apprise.Apprise.instantiate(url, asset=asset)


@cache
def _apprise() -> ModuleType:
    """Return the library, with its log led here; raise ImportError where the extra isn't installed."""
    import apprise  # here: it takes as long as the whole rest of the program

    log = logging.getLogger(apprise.logger.name)
    log.addHandler(_Ear())
    log.setLevel(logging.DEBUG)
    log.propagate = False
    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return apprise


class _Ear(logging.Handler):
    """Keeps what Apprise says for the call that it says it of. Nothing of it goes into our log: it may hold tokens."""

    def emit(self, record: logging.LogRecord) -> None:
        lines = _HEARD.get()
        if lines is not None and (record.levelno >= logging.WARNING or record.getMessage().startswith(_CAUSE)):
            lines.append(record.getMessage())


@contextmanager
def _heard() -> Iterator[list[str]]:
    """Give the lines that Apprise says meanwhile, in this thread."""
    lines: list[str] = []
    token = _HEARD.set(lines)
    try:
        yield lines
    finally:
        _HEARD.reset(token)


def _told(lines: list[str], url: str) -> str:
    """Return what Apprise said on one line, without any part of *url*."""
    text = "; ".join(" ".join(line.split()) for line in lines) or "it doesn't say why"
    return _blotted(text, url)[:MAX_TOLD]


def _blotted(text: str, url: str) -> str:
    place, _, query = url.removeprefix(f"{_scheme(url)}://").partition("?")
    written = [place, *(value for _, value in parse_qsl(query, keep_blank_values=True))]
    parts = {part for text in written for found in re.split(r"[/:@,;& ]+", text) for part in (found, unquote(found)) if len(part) >= SHORTEST}
    longest_first = sorted(parts, key=len, reverse=True)
    return re.sub("|".join(map(re.escape, longest_first)), "…", text, flags=re.IGNORECASE) if parts else text


def _scheme(url: str) -> str:
    """Return the name of the service, as it stands before the colon; "?" where nothing does."""
    found = re.match(r"([a-z0-9]{1,24})://", url, re.IGNORECASE)
    return found[1] if found else "?"
