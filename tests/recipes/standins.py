"""Stand-ins for the services of the recipes: each refuses and answers as its vendor documents it.

A stand-in is what a Receiver is given to answer with. It is strict: what the vendor would refuse, it refuses, so that a
recipe which asks wrongly is found out. Its fields are the vendor's state; a test sets them to what goes wrong.
"""

import base64
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.rig.receiver import Reply

JSON = {"Content-Type": "application/json"}

Headers = Mapping[str, str]
Answer = Callable[[str, dict[str, str], bytes], Reply]


def told(document: Any, status: int = 200, **headers: str) -> Reply:
    """Return an answer in JSON."""
    return Reply(status, {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}, json.dumps(document).encode())


def words(text: str, status: int = 200, **headers: str) -> Reply:
    """Return an answer in plain words."""
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()}, text.encode())


def document(headers: Headers, body: bytes) -> Any:
    """Return a JSON body, or None where it is none, or isn't said to be one."""
    if not headers.get("content-type", "").startswith("application/json"):
        return None
    try:
        return json.loads(body)
    except ValueError:
        return None


def bearer(headers: Headers) -> str:
    """Return the token that a request shows."""
    return headers.get("authorization", "").removeprefix("Bearer ")


@dataclass
class SlackHook:
    """Slack's incoming webhooks. Source: docs.slack.dev, "Sending messages using incoming webhooks"; Slack's changelog of
    2016-05-17, "Changes to errors for incoming webhooks"; "Rate limits".
    """

    archived: bool = False
    wait_s: int | None = None
    posted: list[str] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        message = document(headers, body)
        if path != "/services/your-team/your-app/your-key":
            return words("no_service", 404)
        if self.archived:
            return words("channel_is_archived", 410)
        if self.wait_s is not None:
            return words("rate_limited", 429, Retry_After=str(self.wait_s))
        if not isinstance(message, dict):
            return words("invalid_payload", 400)
        if not message.get("text"):
            return words("no_text", 400)
        self.posted.append(message["text"])
        return words("ok")


@dataclass
class SlackApi:
    """Slack's chat.postMessage: mistakes are answered 200, too. Source: docs.slack.dev, reference/methods/chat.postMessage."""

    token: str
    channels: set[str] = field(default_factory=set)
    posted: list[str] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        message = document(headers, body)
        if path != "/api/chat.postMessage":
            return told({"ok": False, "error": "unknown_method"})
        if bearer(headers) != self.token:
            return told({"ok": False, "error": "invalid_auth"})
        if not isinstance(message, dict) or not message.get("text"):
            return told({"ok": False, "error": "no_text"})
        if message.get("channel") not in self.channels:
            return told({"ok": False, "error": "channel_not_found"})
        self.posted.append(message["text"])
        return told({"ok": True, "channel": message["channel"], "ts": "1503435956.000247", "message": {"text": message["text"]}})


@dataclass
class TeamsFlow:
    """A Teams workflow behind "when a webhook request is received": 202 once it has begun, whatever becomes of it.

    Source: learn.microsoft.com, "Create Incoming Webhooks" (28 KB, four requests a second, 429), "Receive and respond to
    inbound HTTPS calls" of Azure Logic Apps (202 without a Response action, 401 for a wrong `sig`).
    """

    throttled: bool = False
    posted: list[dict[str, Any]] = field(default_factory=list)
    failed: int = 0

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        query = parse_qs(urlsplit(path).query)
        if query.get("sig") != ["your-key"] or query.get("sp") != ["/triggers/manual/run"] or query.get("sv") != ["1.0"]:
            return told({"error": {"code": "DirectApiAuthorizationRequired", "message": "The request must be authenticated."}}, 401)
        if self.throttled:
            return told({"error": {"code": "TooManyRequests", "message": "Too many requests."}}, 429)
        self._run(document(headers, body), len(body))
        return Reply(202, {}, b"")

    def _run(self, message: Any, size: int) -> None:
        cards = [part["content"] for part in (message or {}).get("attachments", ()) if part["contentType"] == "application/vnd.microsoft.card.adaptive"]
        if size > 28 * 1024 or not cards or any(card["type"] != "AdaptiveCard" for card in cards):
            self.failed += 1
            return
        self.posted += cards


@dataclass
class DiscordHook:
    """Discord's webhooks. Source: discord/discord-api-docs, developers/resources/webhook.mdx and topics/rate-limits.mdx."""

    wait_s: float | None = None
    posted: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        place, _, query = path.partition("?")
        message = document(headers, body)
        if place != "/api/webhooks/your-id/your-token":
            return told({"message": "Unknown Webhook", "code": 10015}, 404)
        if self.wait_s is not None:
            limited = {"message": "You are being rate limited.", "retry_after": self.wait_s, "global": False}
            return told(limited, 429, Retry_After=str(int(self.wait_s) + 1), X_RateLimit_Scope="user")
        if not isinstance(message, dict) or not message.get("content"):
            return told({"message": "Cannot send an empty message", "code": 50006}, 400)
        if len(message["content"]) > 2000:
            return told({"content": ["Must be 2000 or fewer in length."]}, 400)
        self.posted.append(message)
        return told({"id": str(len(self.posted)), "content": message["content"]}) if query == "wait=true" else Reply(204, {}, b"")


@dataclass
class Ntfy:
    """An ntfy server. Source: docs.ntfy.sh/publish (4096 bytes, headers); binwiederhier/ntfy, server/errors.go (42901)."""

    exhausted: bool = False
    posted: list[tuple[str, str, str]] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if self.exhausted:
            link = "https://ntfy.sh/docs/publish/#limitations"
            return told({"code": 42901, "http": 429, "error": "limit reached: too many requests, please be nice", "link": link}, 429)
        if headers.get("priority") not in ("1", "2", "3", "4", "5", "min", "low", "default", "high", "max", "urgent"):
            return told({"code": 40007, "http": 400, "error": "invalid priority parameter"}, 400)
        self.posted.append((path, headers.get("title", ""), body.decode()))
        return told({"id": "hwQ2YpKdmg", "time": 1635528741, "event": "message", "topic": path[1:], "message": body.decode()})


@dataclass
class Telegram:
    """Telegram's Bot API. Source: core.telegram.org/bots/api, "Making requests" and ResponseParameters; the FAQ on limits."""

    chats: set[int] = field(default_factory=lambda: {123456789})
    wait_s: int | None = None
    posted: list[str] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        message = document(headers, body)
        if path != "/bot123456:your-token/sendMessage":
            return self._error(401, "Unauthorized")
        if self.wait_s is not None:
            return self._error(429, f"Too Many Requests: retry after {self.wait_s}", parameters={"retry_after": self.wait_s})
        if not isinstance(message, dict) or message.get("chat_id") not in self.chats:
            return self._error(400, "Bad Request: chat not found")
        if len(message.get("text", "")) > 4096:
            return self._error(400, "Bad Request: message is too long")
        self.posted.append(message["text"])
        return told({"ok": True, "result": {"message_id": len(self.posted), "text": message["text"]}})

    @staticmethod
    def _error(code: int, description: str, **more: Any) -> Reply:
        return told({"ok": False, "error_code": code, "description": description, **more}, code)


@dataclass
class HubSpot:
    """HubSpot's contacts. Source: developers.hubspot.com, "Contacts" (201, batch/upsert) and "API usage guidelines" (429);
    the body of a 409 as in HubSpot/hubspot-api-nodejs issue 545.
    """

    token: str
    exhausted: bool = False
    contacts: dict[str, dict[str, str]] = field(default_factory=dict)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        asked = document(headers, body)
        if bearer(headers) != self.token:
            return self._error(401, "INVALID_AUTHENTICATION", "Authentication credentials not found.")
        if self.exhausted:
            message = "You have reached your ten_secondly_rolling limit."
            return told({"status": "error", "message": message, "errorType": "RATE_LIMIT", "policyName": "TEN_SECONDLY_ROLLING"}, 429)
        if path == "/crm/v3/objects/contacts/batch/upsert":
            return self._upserted(asked["inputs"])
        if path != "/crm/v3/objects/contacts" or not asked.get("properties"):
            return self._error(400, "VALIDATION_ERROR", "Invalid input JSON")
        return self._created(asked["properties"])

    def _created(self, properties: dict[str, str]) -> Reply:
        if properties["email"] in self.contacts:
            return self._error(409, "CONFLICT", "Contact already exists. Existing ID: 51")
        self.contacts[properties["email"]] = properties
        return told({"id": "51", "properties": properties, "archived": False}, 201)

    def _upserted(self, inputs: list[dict[str, Any]]) -> Reply:
        results = []
        for given in inputs:
            assert given["idProperty"] == "email"
            results.append({"id": "51", "new": given["id"] not in self.contacts, "properties": given["properties"]})
            self.contacts.setdefault(given["id"], {}).update(given["properties"])
        return told({"status": "COMPLETE", "results": results})

    @staticmethod
    def _error(status: int, category: str, message: str) -> Reply:
        return told({"status": "error", "message": message, "correlationId": "c033cdaa-2c40-4a64-ae48-b4cec88dad24", "category": category}, status)


@dataclass
class Salesforce:
    """Salesforce's REST API, with the OAuth flow "client credentials"; its token endpoint names no `expires_in`.

    Source: developer.salesforce.com, "Create a Record" and "Status codes and error responses" of the REST API guide;
    help.salesforce.com, "OAuth 2.0 client credentials flow".
    """

    client: tuple[str, str]
    token: str = "token-1"
    exhausted: bool = False
    tokens_given: int = 0
    leads: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path == "/services/oauth2/token":
            return self._token(headers, parse_qs(body.decode()))
        if bearer(headers) != self.token:
            return self._error(401, "INVALID_SESSION_ID", "Session expired or invalid")
        if self.exhausted:
            return self._error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
        lead = document(headers, body)
        if missing := [name for name in ("LastName", "Company") if not lead.get(name)]:
            return self._error(400, "REQUIRED_FIELD_MISSING", f"Required fields are missing: [{', '.join(missing)}]", fields=missing)
        self.leads.append(lead)
        return told({"id": f"00QD00000{len(self.leads):09}", "success": True, "errors": []}, 201)

    def _token(self, headers: Headers, form: dict[str, list[str]]) -> Reply:
        basic = base64.b64encode(":".join(self.client).encode()).decode()
        in_body = (form.get("client_id", [""])[0], form.get("client_secret", [""])[0])
        if form.get("grant_type") != ["client_credentials"] or (headers.get("authorization") != f"Basic {basic}" and in_body != self.client):
            return told({"error": "invalid_client", "error_description": "invalid client credentials"}, 400)
        self.tokens_given += 1
        given = {"access_token": self.token, "signature": "…", "instance_url": "https://your-company.my.salesforce.com", "id": "…", "token_type": "Bearer"}
        return told(given | {"issued_at": "1769999999999"})

    @staticmethod
    def _error(status: int, code: str, message: str, **more: Any) -> Reply:
        return told([{"message": message, "errorCode": code, **more}], status)


@dataclass
class HomeAssistant:
    """Home Assistant's webhooks and REST API. Source: home-assistant/core, components/webhook (200 for anything) and
    components/api (`/api/events/`, 401, "Event … fired.").
    """

    hooks: set[str] = field(default_factory=set)
    token: str = ""
    triggered: list[Any] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        kind, _, name = path.removeprefix("/api/").partition("/")
        if kind == "webhook":
            if name in self.hooks:
                self.triggered.append(document(headers, body))
            return words("")
        if bearer(headers) != self.token:
            return words("401: Unauthorized", 401)
        self.triggered.append(document(headers, body))
        return told({"message": f"Event {name} fired."})


@dataclass
class NodeRed:
    """Node-RED with a flow at POST /button. Source: nodered.org/docs, "HTTP In", "HTTP Response"; Express' answer to an
    unknown path; settings.js, httpNodeAuth.
    """

    password: str
    responds: bool = True
    ran: list[tuple[str, Any]] = field(default_factory=list)
    closing: threading.Event = field(default_factory=threading.Event)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if headers.get("authorization") != "Basic " + base64.b64encode(f"bridge:{self.password}".encode()).decode():
            return words("Unauthorized", 401)
        if path != "/button":
            return words(f"Cannot POST {path}", 404)
        self.ran.append((headers["webhook-id"], document(headers, body)))
        if not self.responds:
            self.closing.wait(20)
        return words("")


@dataclass
class N8n:
    """n8n's webhook node with header authentication. Source: docs.n8n.io, "Webhook"; n8n's webhook-not-found.error."""

    key: str
    published: bool = True
    started: list[tuple[str, Any]] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path != "/webhook/mailbox" or not self.published:
            hint = "The workflow must be active for a production URL to run successfully."
            return told({"code": 404, "message": f'The requested webhook "POST {path.removeprefix("/webhook/")}" is not registered.', "hint": hint}, 404)
        if headers.get("x-hook-key") != self.key:
            return words("Authorization data is wrong!", 403)
        self.started.append((headers["webhook-id"], document(headers, body)))
        return told({"message": "Workflow was started"})


@dataclass
class PagerDuty:
    """PagerDuty's Events API v2. Source: PagerDuty/developer-docs, docs/events-API-v2 (01-Overview, 05-Rate-Limits)."""

    limited: bool = False
    open: set[str] = field(default_factory=set)
    seen: list[tuple[str, str]] = field(default_factory=list)

    def __call__(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        event = document(headers, body)
        if path != "/v2/enqueue":
            return words("Not Found", 404)
        if self.limited:
            return words("", 429)
        if problems := list(self._problems(event)):
            return told({"status": "invalid event", "message": "Event object is invalid", "errors": problems}, 400)
        action, key = event["event_action"], event["dedup_key"]
        self.seen.append((action, key))
        if action == "trigger":
            self.open.add(key)
        else:
            self.open.discard(key)
        return told({"status": "success", "message": "Event processed", "dedup_key": key}, 202)

    @staticmethod
    def _problems(event: Any) -> list[str]:
        found = []
        if not isinstance(event, dict) or len(event.get("routing_key", "")) != 32:
            return ["Length of 'routing_key' is incorrect (should be 32 characters)"]
        if event.get("event_action") not in ("trigger", "acknowledge", "resolve"):
            found.append("'event_action' is missing or wrong")
        if len(event.get("dedup_key", "")) > 255:
            found.append("Length of 'dedup_key' is incorrect (should be 255 characters or less)")
        if not {"summary", "source", "severity"} <= set(event.get("payload", {})):
            found.append("'payload' lacks what is required")
        return found
