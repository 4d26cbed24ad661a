"""What the admin side answers: health, metrics and figures to whoever watches; the queue to the command line.

The queue is reached only through the control socket, a file that this user alone may open: no web page and no
neighbour can get at it. On the network side there is nothing that changes anything.
"""

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bridge.admin.guard import Guard
from bridge.admin.queries import past, selection
from bridge.admin.settings import AdminSettings
from bridge.errors import BridgeError, ConfigError, StoreFull
from bridge.model import Letter
from bridge.outbox.history import Attempt
from bridge.outbox.selection import Past, Selection
from bridge.outbox.view import letter_document, letter_summary
from bridge.rules.answers import Response, json_response, problem
from bridge.rules.requests import Request
from bridge.watch.figures import Figures


class Queue(Protocol):
    """What can be asked of the outbox."""

    async def select(self, wanted: Selection) -> list[Letter]:
        """Return the letters that are meant."""

    async def parts(self, wanted: Selection, size: int) -> list[tuple[int, int]]:
        """Return how they fall into parts of *size*: of each its last number, and how many they are."""

    async def retry(self, wanted: Selection) -> int:
        """Let them be tried now; return how many."""

    async def drop(self, wanted: Selection) -> int:
        """Delete them; return how many."""

    async def history(self, wanted: Past) -> list[Attempt]:
        """Return the attempts that are meant."""

    async def flush(self) -> None:
        """Write what is in memory only, as far as there is room."""

    @property
    def unsaved(self) -> int:
        """Return how many letters are in memory only."""

    async def split(self, wanted: Selection) -> int:
        """Let each event of batches be a letter of its own; return how many come of it."""


class Changed(Protocol):
    """What a config that was read anew has changed."""

    def document(self) -> dict[str, list[str]]:
        """Return it for JSON."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What the admin side can ask for; `now` is the date by which it is told."""

    now: Callable[[], float]
    figures: Callable[[], Awaitable[Figures]]
    not_ready: Callable[[], str | None]
    queue: Queue
    resume: Callable[[str | None], list[str]]
    pause: Callable[[str | None], list[str]]
    memories: Callable[[], list[dict[str, Any]]]
    move: Callable[[Selection, str], Awaitable[int]]
    reload: Callable[[], Awaitable[Changed]]
    tail: Callable[[str | None, str | None], AsyncGenerator[bytes, None]]


Route = Callable[[Request], Awaitable[Response]]


class PublicSide:
    """`/healthz`, `/readyz` and `/metrics`, behind the guard."""

    def __init__(self, watched: Watched, *, monotonic: Callable[[], float]) -> None:
        self._watched, self._guard = watched, Guard(monotonic)
        self._routes: Mapping[str, Route] = {"/healthz": self._health, "/readyz": self._readiness, "/metrics": self._metrics}

    def adopt(self, settings: AdminSettings) -> None:
        """Let in whom the settings of now let in."""
        self._guard.adopt(settings)

    async def answer(self, method: str, request: Request) -> Response:
        """Return the answer to a request."""
        route = self._routes.get(request.path)
        if route is None:
            return problem(404, f"known here: {', '.join(self._routes)}")
        if method not in ("GET", "HEAD"):
            return problem(405, headers={"Allow": "GET, HEAD"})
        refusal = self._guard.refusal(request, is_health=request.path != "/metrics")
        return await route(request) if refusal is None else refusal

    async def _health(self, _request: Request) -> Response:
        figures = await self._watched.figures()
        not_ready = self._watched.not_ready()
        parts = {
            "broker": {"connected": figures.connected, "state": figures.broker},
            "outbox": {"full": figures.full, "waiting": figures.waiting, "dead_letters": figures.dead_letters},
            "ledger": {"imbalance": figures.imbalance},
        }
        return json_response(200, {"status": "ok" if not_ready is None else "degraded", "parts": parts})

    async def _readiness(self, _request: Request) -> Response:
        not_ready = self._watched.not_ready()
        return json_response(200, {"status": "ready"}) if not_ready is None else problem(503, not_ready)

    async def _metrics(self, _request: Request) -> Response:
        from bridge.watch.metrics import CONTENT_TYPE, exposition  # here: prometheus-client waits until somebody looks

        return Response(status=200, body=exposition(await self._watched.figures()), content_type=CONTENT_TYPE)


class ControlSide:
    """What the command line asks of the running daemon."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._routes: Mapping[tuple[str, str], Route] = {
            ("GET", "/status"): self._status,
            ("POST", "/queue/list"): self._list,
            ("POST", "/queue/show"): self._show,
            ("POST", "/queue/parts"): self._parts,
            ("POST", "/queue/retry"): self._retry,
            ("POST", "/queue/drop"): self._drop,
            ("POST", "/queue/split"): self._split,
            ("POST", "/queue/move"): self._move,
            ("POST", "/flush"): self._flush,
            ("GET", "/memories"): self._memories,
            ("POST", "/history"): self._history,
            ("POST", "/resume"): self._resume,
            ("POST", "/pause"): self._pause,
            ("POST", "/reload"): self._reload,
            ("POST", "/tail"): self._tail,
        }

    async def answer(self, method: str, request: Request) -> Response:
        """Return the answer to a request."""
        route = self._routes.get((method, request.path))
        try:
            return await route(request) if route is not None else problem(404)
        except StoreFull as exc:
            return problem(503, str(exc))
        except ConfigError as exc:
            return problem(422, str(exc), problems=exc.problems)
        except BridgeError as exc:
            return problem(422, str(exc))

    async def _status(self, _request: Request) -> Response:
        figures = await self._watched.figures()
        return json_response(200, figures.document() | {"now": self._watched.now(), "not_ready": self._watched.not_ready()})

    async def _list(self, request: Request) -> Response:
        letters, now = await self._watched.queue.select(selection(_asked(request))), self._watched.now()
        return json_response(200, [letter_summary(letter, now=now) for letter in letters])

    async def _show(self, request: Request) -> Response:
        letters, now = await self._watched.queue.select(selection(_asked(request))), self._watched.now()
        return json_response(200, [letter_document(letter, now=now) for letter in letters])

    async def _parts(self, request: Request) -> Response:
        asked = _asked(request)
        size = int(asked.pop("size"))
        return json_response(200, await self._watched.queue.parts(selection(asked), size))

    async def _retry(self, request: Request) -> Response:
        return json_response(200, {"count": await self._watched.queue.retry(selection(_asked(request)))})

    async def _drop(self, request: Request) -> Response:
        return json_response(200, {"count": await self._watched.queue.drop(selection(_asked(request)))})

    async def _split(self, request: Request) -> Response:
        return json_response(200, {"count": await self._watched.queue.split(selection(_asked(request)))})

    async def _move(self, request: Request) -> Response:
        asked = _asked(request)
        to = str(asked.pop("to", ""))
        return json_response(200, {"count": await self._watched.move(selection(asked), to)})

    async def _flush(self, _request: Request) -> Response:
        await self._watched.queue.flush()
        return json_response(200, {"unsaved": self._watched.queue.unsaved})

    async def _memories(self, _request: Request) -> Response:
        return json_response(200, self._watched.memories())

    async def _resume(self, request: Request) -> Response:
        return json_response(200, {"destinations": self._watched.resume(_asked(request).get("destination"))})

    async def _pause(self, request: Request) -> Response:
        return json_response(200, {"destinations": self._watched.pause(_asked(request).get("destination"))})

    async def _reload(self, _request: Request) -> Response:
        return json_response(200, (await self._watched.reload()).document())

    async def _tail(self, request: Request) -> Response:
        asked, figures = _asked(request), await self._watched.figures()
        _expect_known("mapping or hook", asked.get("mapping"), figures.mappings)
        _expect_known("destination", asked.get("destination"), figures.destinations)
        return Response(status=200, body=b"", content_type="application/x-ndjson", stream=self._watched.tail(asked.get("mapping"), asked.get("destination")))

    async def _history(self, request: Request) -> Response:
        return json_response(200, [attempt.document() for attempt in await self._watched.queue.history(past(_asked(request)))])


def _expect_known(what: str, name: str | None, known: Collection[str]) -> None:
    if name is not None and name not in known:
        raise BridgeError(f"there is no {what} {name!r}; known: {', '.join(known) or 'none'}")


def _asked(request: Request) -> dict[str, Any]:
    asked = json.loads(request.body or b"{}")
    return asked if isinstance(asked, dict) else {}
