"""The receiver: somebody's web service, which hears of a motion and wants the lamp on.

It believes nothing that the official `standardwebhooks` library doesn't verify, and signs its own call with the same.
"""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from aiohttp import ClientSession, web
from standardwebhooks import Webhook, WebhookVerificationError

from bridge.demo.narrator import Narrator
from bridge.demo.ports import LOOPBACK, Port

MOTION_PATH = "/motion"
CLOSING_S = 1.0  # nothing is left under way when it is closed


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A verified event, its webhook-id, and the bridge's answer to the call that followed."""

    id: str
    event: dict[str, Any]
    answered: int


class Receiver:
    """A web service that can be taken down and brought back."""

    def __init__(self, port: Port, session: ClientSession, narrator: Narrator, *, secret: str, hook_url: str, hook_secret: str) -> None:
        self._port, self._session, self._narrator = port, session, narrator
        self._verifier, self._signer, self._hook_url = Webhook(secret), Webhook(hook_secret), hook_url
        self._runner: web.AppRunner | None = None
        self.arrivals: asyncio.Queue[Received] = asyncio.Queue()

    @property
    def url(self) -> str:
        """Return where it wants to hear of motions."""
        return f"http://{LOOPBACK}:{self._port.number}{MOTION_PATH}"

    async def open(self) -> None:
        """Listen."""
        application = web.Application()
        application.router.add_post(MOTION_PATH, self._motion)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=CLOSING_S)
        await self._runner.setup()
        await web.SockSite(self._runner, self._port.listening()).start()

    async def close(self) -> None:
        """Listen no more: from now on a connection is refused."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()

    async def _motion(self, request: web.Request) -> web.Response:
        body = await request.read()
        try:
            event = self._verifier.verify(body, dict(request.headers))
        except WebhookVerificationError as exc:
            self._narrator.event("receiver", f"POST {request.path}: refused, {exc}")
            return web.Response(status=401)
        id = request.headers["webhook-id"]
        self._narrator.event("receiver", f"POST {request.path}, {event['data']['captures']['room']}: {json.dumps(event['data']['payload'])}")
        self._narrator.event("receiver", f"signature verified, webhook-id {id}")
        answered = await self._ask_for_light(id)
        self.arrivals.put_nowait(Received(id=id, event=event, answered=answered))
        return web.Response(status=200 if answered < 300 else 502)

    async def _ask_for_light(self, id: str) -> int:
        """Call the bridge's hook, and return the status of its answer.

        The call bears an id made of the event's: should the event come twice, the bridge switches once.
        """
        call_id, now, text = f"light-{id}", datetime.now(UTC), json.dumps({"state": "on"})
        headers = {
            "Content-Type": "application/json",
            "webhook-id": call_id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": self._signer.sign(call_id, now, text),
        }
        self._narrator.event("receiver", f"POST /hooks/hall-light {text}, signed")
        async with self._session.post(self._hook_url, data=text.encode(), headers=headers) as response:
            document = await response.json(content_type=None)
            self._narrator.event("bridge", f"answers {response.status} {document.get('status', document)}")
            return response.status
