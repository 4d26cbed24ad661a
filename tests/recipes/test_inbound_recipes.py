"""The recipes for what comes in: the very TOML of each page, run by the real command, and called as its sender calls.

Where the sender has a library that signs, it signs; where it has one that only verifies, that agrees with what is sent.
Each hook is seen to move its device by the right word, to refuse the same with a byte changed, and to move nothing when the
same comes again.
"""

import base64
import hmac
import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import jinja2
import paho.mqtt.client as paho
import pytest
import stripe
import yaml
from gidgethub.sansio import Event as GitHubEvent
from slack_sdk.signature import SignatureVerifier
from standardwebhooks import Webhook

from tests.recipes.page import Recipe
from tests.rig.client import Answer, Device, device
from tests.rig.daemon import COMMAND, SECRET, Daemon, request
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import until

Headers = Mapping[str, str]
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
FENCE = "the-fence/of-the-tests"


@dataclass(frozen=True)
class House:
    """A recipe that runs: the page, its bridge, and its device."""

    recipe: Recipe
    bridge: Daemon
    device: Device

    def post(self, path: str, body: bytes, headers: Headers) -> tuple[int, Any]:
        """Return status and document of an answer."""
        status, text = request("POST", f"http://127.0.0.1:{self.bridge.hooks_port}{path}", body, dict(headers))
        return status, json.loads(text)

    def heard(self) -> list[tuple[str, str]]:
        """Return what the device was told, once everything that the broker has for it is there."""
        before = len(self.device.payloads(FENCE))
        self.device.publish(FENCE, b"")
        until(lambda: len(self.device.payloads(FENCE)) > before, "the device to have heard it all")
        return [(heard.topic, heard.payload.decode()) for heard in self.device.heard if heard.topic != FENCE]

    def takes_once(self, path: str, body: bytes, headers: Headers, *, status: str = "published") -> Any:
        """Send a request, the same with a byte of its body changed, and the same again; return the first answer's document."""
        code, document = self.post(path, body, headers)
        assert (code, document["status"]) == (200, status), self.bridge.log
        moved = self.heard()
        middle = len(body) // 2
        assert self.post(path, body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :], headers)[0] == 401
        assert self.post(path, body, headers) == (code, document)
        assert self.heard() == moved
        return document

    def tries_itself(self) -> None:
        """Run what the page tells to run without the sender: `try` shows a publish, and the bridge takes what `sign` prints."""
        for arguments in self.recipe.commands:
            if arguments[0] == "try":
                (entry,) = self.bridge.json(*arguments)["mappings"]
                assert "publish" in entry, entry
            elif arguments[0] == "sign":
                found = self.bridge.json(*(argument for argument in arguments if argument != "--curl"))
                body = arguments[arguments.index("--body") + 1].encode()
                code, text = request(found["method"], found["url"], body, found["headers"])
                assert (code, json.loads(text)["status"]) in ((200, "published"), (200, "confirmed")), text
            else:
                assert arguments[:2] == ["secret", "new"]


@contextmanager
def housed(name: str, broker: Mosquitto, directory: Path, *filters: str, block: int = 0, answer: Answer = lambda _: None, **secrets: str) -> Iterator[House]:
    """Run a block of a page, with its secrets in the environment, and a device that hears *filters*."""
    recipe = Recipe(name)
    bridge = Daemon(directory / f"{name}-{block}", broker=broker.url, mappings=recipe.toml(block))
    bridge.environment |= secrets
    with device(broker.port, *filters, FENCE, answer=answer) as found, bridge.start():
        yield House(recipe, bridge, found)


# --- Stripe ---


def payment(**changes: Any) -> bytes:
    paid = {"id": "cs_1", "object": "checkout.session", "payment_status": "paid", "amount_total": 4900, "currency": "eur"} | changes
    event = {"id": f"evt_{os.urandom(8).hex()}", "object": "event", "type": "checkout.session.completed", "created": int(time.time()), "data": {"object": paid}}
    return json.dumps(event, indent=2).encode()


def by_stripe(body: bytes) -> Headers:
    header = stripe.WebhookSignature.generate_signature_header(body.decode(), SECRET)
    stripe.Webhook.construct_event(body, header, SECRET)
    return {**JSON, "Stripe-Signature": header}


def test_stripe(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("stripe", broker, tmp_path, "zigbee2mqtt/shop/lamp/set", STRIPE_SECRET=SECRET) as house:
        body = payment()
        house.takes_once("/hooks/payment", body, by_stripe(body))
        assert house.heard() == [("zigbee2mqtt/shop/lamp/set", '{"effect":"blink"}')]
        assert house.post("/hooks/payment", body, by_stripe(body))[0] == 200, "Stripe signs a repetition anew"
        for nothing in (payment(payment_status="unpaid"), body.replace(b".completed", b".expired"), re.sub(rb'"created": \d+', b'"created": 1764000000', payment())):
            assert house.post("/hooks/payment", nothing, by_stripe(nothing))[1]["status"] == "filtered"
        assert len(house.heard()) == 1
        house.tries_itself()


# --- Shopify ---


ORDER = {"id": 820982911946154500, "name": "#1001", "total_price": "29.90", "currency": "EUR", "line_items": [{"title": "Mug", "quantity": 2}, {"title": "Bowl [z]", "quantity": 1}]}


def by_shopify(body: bytes, topic: str = "orders/create") -> Headers:
    # shopify.dev, "Verify webhook deliveries": base64 of the HMAC-SHA256 over the raw body; its Python library knows nothing of webhooks
    signature = base64.b64encode(hmac.digest(b"shopify-secret", body, "sha256")).decode()
    return {**JSON, "X-Shopify-Hmac-Sha256": signature, "X-Shopify-Topic": topic, "X-Shopify-Webhook-Id": os.urandom(8).hex(), "X-Shopify-Shop-Domain": "mugs.myshopify.com"}


@pytest.mark.parametrize(
    ("block", "told"),
    [(0, ("cmnd/shop-display/DisplayText", "[zl1c1]#1001[l2c1]29.90 EUR[l3c1]3 pieces")), (1, ("shop-display/order", "#1001: 29.90 EUR"))],
    ids=["tasmota", "esphome"],
)
def test_shopify(tmp_path: Path, broker: Mosquitto, block: int, told: tuple[str, str]) -> None:
    with housed("shopify", broker, tmp_path, told[0], block=block, SHOPIFY_SECRET="shopify-secret") as house:
        body = json.dumps(ORDER).encode()
        house.takes_once("/hooks/order", body, by_shopify(body))
        assert house.heard() == [told]
        assert house.post("/hooks/order", body, by_shopify(body, "orders/paid"))[1]["status"] == "filtered"
        house.tries_itself()


def test_shopify_a_customer_commands_no_display(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("shopify", broker, tmp_path, "cmnd/shop-display/DisplayText", SHOPIFY_SECRET="shopify-secret") as house:
        body = json.dumps(ORDER | {"name": "[z]#7"}).encode()
        assert house.post("/hooks/order", body, by_shopify(body))[0] == 200
        assert house.heard()[0][1].startswith("[zl1c1](z]#7[l2c1]")


# --- GitHub ---


def by_github(body: bytes, event: str = "push") -> Headers:
    headers = {**JSON, "X-GitHub-Event": event, "X-GitHub-Delivery": os.urandom(8).hex(), "X-Hub-Signature-256": "sha256=" + hmac.digest(b"github-secret", body, "sha256").hex()}
    # gidgethub verifies, and doesn't sign
    assert GitHubEvent.from_http({name.lower(): value for name, value in headers.items()}, body, secret="github-secret").event == event
    return headers


def test_github(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("github", broker, tmp_path, "zigbee2mqtt/office/siren/set", GITHUB_SECRET="github-secret") as house:
        body = json.dumps({"ref": "refs/heads/main", "forced": True, "repository": {"full_name": "octo/house"}, "pusher": {"name": "octo"}}).encode()
        house.takes_once("/hooks/push", body, by_github(body))
        (told,) = house.heard()
        assert (told[0], json.loads(told[1])) == ("zigbee2mqtt/office/siren/set", {"warning": {"mode": "emergency", "level": "low", "strobe": True, "duration": 10}})
        for nothing in ((body.replace(b"/main", b"/else"), "push"), (b'{"zen": "Keep it logically awesome.", "hook_id": 1}', "ping")):
            assert house.post("/hooks/push", nothing[0], by_github(*nothing))[1]["status"] == "filtered"
        assert len(house.heard()) == 1
        house.tries_itself()


# --- Slack ---


def by_slack(body: bytes, form: Headers = FORM) -> Headers:
    now = str(int(time.time()))
    signature = SignatureVerifier("slack-secret").generate_signature(timestamp=now, body=body)
    assert signature is not None
    return {**form, "X-Slack-Request-Timestamp": now, "X-Slack-Signature": signature}


def typed(text: str) -> bytes:
    fields = {"token": "gIkuvaNzQIHg97ATvDxqgjtO", "team_id": "T0001", "channel_name": "hall", "user_id": "U0HALL", "user_name": "ann", "command": "/lamp", "text": text}
    return urlencode(fields | {"response_url": "https://hooks.slack.com/commands/1234/5678", "trigger_id": os.urandom(8).hex()}).encode()


def bulb(heard: paho.MQTTMessage) -> tuple[str, bytes, None] | None:
    return (heard.topic.removesuffix("/set"), bytes(heard.payload), None) if heard.topic.endswith("/set") else None


def test_slack_command(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("slack-command", broker, tmp_path, "zigbee2mqtt/office/lamp/set", answer=bulb, SLACK_SECRET="slack-secret") as house:
        body = typed("On ")
        shown = house.takes_once("/hooks/lamp", body, by_slack(body), status="confirmed")
        assert (shown["text"], shown["reply"]) == ("Done: the device has confirmed it.", {"state": "ON"})
        assert house.heard() == [("zigbee2mqtt/office/lamp/set", '{"state":"ON"}')]
        body = typed("dance")
        assert house.post("/hooks/lamp", body, by_slack(body))[1]["text"].startswith("Nothing was done: ")
        assert len(house.heard()) == 1
        house.tries_itself()


def test_slack_command_by_events(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("slack-command", broker, tmp_path, "zigbee2mqtt/office/lamp/set", block=1, SLACK_SECRET="slack-secret") as house:
        url = f"http://127.0.0.1:{house.bridge.hooks_port}/hooks/reaction"
        asked = json.dumps({"token": "x", "challenge": "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P", "type": "url_verification"}).encode()
        assert request("POST", url, asked, dict(by_slack(asked, JSON))) == (200, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P")
        body = json.dumps({"type": "event_callback", "event_id": "Ev1", "event": {"type": "reaction_added", "user": "U0HALL", "reaction": "bulb", "item": {"type": "message"}}}).encode()
        shown = house.takes_once("/hooks/reaction", body, by_slack(body, JSON))
        assert "text" not in shown
        again = {**by_slack(body, JSON), "X-Slack-Retry-Num": "1", "X-Slack-Retry-Reason": "http_timeout"}
        assert house.post("/hooks/reaction", body, again) == (200, shown)
        assert house.heard() == [("zigbee2mqtt/office/lamp/set", '{"state":"ON"}')]


# --- the garage ---


def ratgdo(heard: paho.MQTTMessage) -> tuple[str, bytes, None] | None:
    moves = {b"open": b"opening", b"close": b"closing"}
    return ("home/garage/ratgdo/status/door", moves[bytes(heard.payload)], None) if heard.topic.endswith("/command/door") else None


def signed(body: bytes, secret: str = SECRET) -> Headers:
    id, now = f"msg_{os.urandom(8).hex()}", datetime.now(UTC)
    return {**JSON, "webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": Webhook(secret).sign(id, now, body.decode())}


def garage_secret(directory: Path) -> Path:
    """Write the file that the page's hook has its secret from."""
    secret = directory / "garage-door-0" / "garage.secret"
    secret.parent.mkdir()
    secret.write_text(SECRET)
    secret.chmod(0o600)
    return secret


def test_garage_door(tmp_path: Path, broker: Mosquitto) -> None:
    garage_secret(tmp_path)
    with housed("garage-door", broker, tmp_path, "home/garage/ratgdo/command/door", answer=ratgdo) as house:
        assert "warning" not in house.bridge.command("check")
        body = b'{"go":"open"}'
        assert house.takes_once("/hooks/garage", body, signed(body), status="confirmed")["reply"] == "opening"
        assert house.heard() == [("home/garage/ratgdo/command/door", "open")]
        house.device.publish("home/garage/ratgdo/status/availability", b"offline", retain=True)
        later = b'{"go":"close"}'
        press = signed(later)
        until(lambda: house.post("/hooks/garage", later, signed(later))[0] == 409, "the ratgdo to be known to be away")
        house.device.publish("home/garage/ratgdo/status/availability", b"online", retain=True)
        until(lambda: house.post("/hooks/garage", later, press)[0] == 200, "the ratgdo to be known to be back")
        assert house.heard()[-1] == ("home/garage/ratgdo/command/door", "close")
        toggled = b'{"go":"toggle"}'
        assert house.post("/hooks/garage", toggled, signed(toggled))[1]["status"] == "filtered"
        house.tries_itself()


@pytest.mark.skipif(not shutil.which("curl"), reason="the recipe uses curl")
@pytest.mark.parametrize(("asked", "moved"), [("open", ["open"]), ("close", ["close"]), ("open; touch x", [])])
def test_garage_door_by_ssh(tmp_path: Path, broker: Mosquitto, asked: str, moved: list[str]) -> None:
    """What the phone asks for over SSH runs as the page's script, and as nothing else."""
    secret = garage_secret(tmp_path)
    with housed("garage-door", broker, tmp_path, "home/garage/ratgdo/command/door", answer=ratgdo) as house:
        script = re.findall(r"^```bash\n(.*?)^```$", house.recipe.text, re.MULTILINE | re.DOTALL)[0]
        for of_the_page, here in (("mqtthook sign", shlex.join([*COMMAND, "sign"])), ("/home/pi/garage.secret", str(secret)), (":8080", f":{house.bridge.hooks_port}")):
            assert of_the_page in script
            script = script.replace(of_the_page, here)
        environment = house.bridge.environment | {"SSH_ORIGINAL_COMMAND": asked}
        ran = subprocess.run(["sh", "-c", script], cwd=secret.parent, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert ('"confirmed"' in ran.stdout) == bool(moved), ran.stderr
        assert ran.returncode == (0 if moved else 2)
        assert [payload for _, payload in house.heard()] == moved
        assert not (secret.parent / "x").exists()


def test_garage_door_by_token(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("garage-door", broker, tmp_path, "home/garage/ratgdo/command/door", block=1, answer=ratgdo, GARAGE_TOKEN="garage-token") as house:
        assert "looks like a lock, a garage door" in house.bridge.command("check")
        bearer = {**JSON, "Authorization": "Bearer garage-token"}
        assert house.post("/hooks/garage-token", b'{"go":"close"}', bearer)[0] == 403, "this machine is not in the VPN"
        house.bridge.config.write_text(house.bridge.config.read_text().replace("10.6.0.0/24", "127.0.0.1/32").replace("2/min", "3/min"))
        house.bridge.command("reload")
        assert house.post("/hooks/garage-token", b'{"go":"close"}', {**JSON, "Authorization": "Bearer garage-tokem"})[0] == 401
        assert house.post("/hooks/garage-token", b'{"go":"open"}', bearer)[1]["status"] == "filtered"
        assert house.post("/hooks/garage-token", b'{"go":"close"}', bearer)[1]["status"] == "confirmed"
        assert house.post("/hooks/garage-token", b'{"go":"close"}', bearer)[0] == 429
        assert house.heard() == [("home/garage/ratgdo/command/door", "close")]


# --- Home Assistant ---


class Secrets(yaml.SafeLoader):  # type: ignore[misc]
    """Home Assistant's YAML: `!secret NAME` stands for what secrets.yaml has."""


Secrets.add_constructor("!secret", lambda loader, node: {"boiler_token": "Bearer boiler-token"}[loader.construct_scalar(node)])


def by_home_assistant(recipe: Recipe, **variables: str) -> tuple[bytes, Headers]:
    # home-assistant/core, components/rest_command: payload and headers are templates over the action's data
    text = re.findall(r"^```yaml\n(rest_command:.*?)^```$", recipe.text, re.MULTILINE | re.DOTALL)[0]
    command = yaml.load(text, Secrets)["rest_command"]["boiler"]
    assert command["method"] == "post"
    headers = {name: jinja2.Template(value).render(variables) for name, value in command["headers"].items()}
    return jinja2.Template(command["payload"]).render(variables).encode(), {**headers, "Content-Type": command["content_type"]}


def boiler(heard: paho.MQTTMessage) -> tuple[str, bytes, None] | None:
    return ("stat/boiler/RESULT", b'{"POWER":"%s"}' % heard.payload, None) if heard.topic == "cmnd/boiler/POWER" else None


def test_home_assistant_command(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("home-assistant-command", broker, tmp_path, "cmnd/boiler/POWER", answer=boiler, BOILER_TOKEN="boiler-token") as house:
        body, headers = by_home_assistant(house.recipe, state="ON", key="01J-on")
        status, document = house.post("/hooks/boiler", body, headers)
        assert (status, document["status"], document["reply"]) == (200, "confirmed", {"POWER": "ON"})
        assert house.post("/hooks/boiler", body, headers) == (status, document)
        assert house.post("/hooks/boiler", body, {**headers, "Authorization": "boiler-token"})[0] == 401
        body, headers = by_home_assistant(house.recipe, state=str(True), key="02J-on")
        assert house.post("/hooks/boiler", body, headers)[1]["status"] == "filtered"
        assert house.heard() == [("cmnd/boiler/POWER", "ON")]


# --- several at once ---


ALL_OFF = [("zigbee2mqtt/all-lights/set", '{"state":"OFF","transition":2}'), ("cmnd/tasmotas/POWER0", "OFF"), ("shellies/tv/relay/0/command", "off")]


def test_all_off(tmp_path: Path, broker: Mosquitto) -> None:
    with housed("all-off", broker, tmp_path, *(topic for topic, _ in ALL_OFF), ALL_OFF_SECRET=SECRET) as house:
        body = b'{"said": "all off"}'
        house.takes_once("/hooks/all-off", body, signed(body))
        assert sorted(house.heard()) == sorted(ALL_OFF)
        house.tries_itself()


def test_all_off_by_alexa(tmp_path: Path, broker: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    with housed("all-off", broker, tmp_path, *(topic for topic, _ in ALL_OFF), ALL_OFF_SECRET=SECRET) as house:
        monkeypatch.setenv("ALL_OFF_SECRET", SECRET)
        monkeypatch.setenv("HOOK", f"http://127.0.0.1:{house.bridge.hooks_port}/hooks/all-off")
        skill: dict[str, Any] = {}
        exec(re.findall(r"^```python\n(.*?)^```$", house.recipe.text, re.MULTILINE | re.DOTALL)[0], skill)
        handler: Callable[[Any, Any], Any] = skill["handler"]
        asked = {"version": "1.0", "request": {"type": "IntentRequest", "requestId": "amzn1.echo-api.request.1234-abcd", "intent": {"name": "AllOff"}}}
        assert handler(asked, None)["response"]["outputSpeech"]["text"] == "All off."
        assert handler(asked, None)["response"]["outputSpeech"]["text"] == "All off."
        assert sorted(house.heard()) == sorted(ALL_OFF)
        monkeypatch.setenv("ALL_OFF_SECRET", "whsec_" + base64.b64encode(b"x" * 32).decode())
        assert handler(asked, None)["response"]["outputSpeech"]["text"] == "The house doesn't answer."
