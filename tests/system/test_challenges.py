"""What senders ask before they send, and who may call whom, at the running daemon."""

import hmac
import json
import time
import urllib.request
from pathlib import Path

from tests.rig.client import device
from tests.rig.daemon import Daemon, ledger_adds_up, request
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import until

SECRET, TOKEN = "correct-horse-battery", "hub-token-1"

HOOKS = f"""
[inbound.zoom]
verify = "zoom"
secret = "{SECRET}"
topic = "home/zoom"
[inbound.whatsapp]
verify = "meta"
secret = "{SECRET}"
verify_token = "{TOKEN}"
topic = "home/whatsapp"
[inbound.calendar]
verify = {{ scheme = "query", param = "token" }}
secret = "{SECRET}"
challenge = "graph"
topic = "home/calendar"
[inbound.grid]
verify = {{ scheme = "query", param = "token" }}
secret = "{SECRET}"
challenge = "cloudevents"
topic = "home/grid"
[inbound.sms]
verify = "twilio"
secret = "{SECRET}"
topic = "home/sms"
text = "{{{{ body.Body }}}}"
"""


def zoom(body: bytes) -> dict[str, str]:
    at = str(int(time.time()))
    signature = hmac.new(SECRET.encode(), f"v0:{at}:".encode() + body, "sha256").hexdigest()
    return {"x-zm-signature": f"v0={signature}", "x-zm-request-timestamp": at}


def test_challenges_are_answered_and_nothing_is_published_for_them(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "home/#") as house, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS) as bridge:
        at = f"http://127.0.0.1:{bridge.hooks_port}/hooks"
        question = json.dumps({"event": "endpoint.url_validation", "payload": {"plainToken": "qgg8vlvZRS6UYooatFL8Aw"}}).encode()
        assert bridge.post("/hooks/zoom", question)[0] == 401
        status, text = bridge.post("/hooks/zoom", question, **zoom(question))
        assert (status, json.loads(text)["encryptedToken"]) == (200, hmac.new(SECRET.encode(), b"qgg8vlvZRS6UYooatFL8Aw", "sha256").hexdigest())

        asked = f"{at}/whatsapp?hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token="
        assert request("GET", asked + TOKEN) == (200, "1158201444")
        assert request("GET", asked + "wrong")[0] == 403
        assert request("GET", f"{at}/whatsapp")[0] == 405

        with urllib.request.urlopen(urllib.request.Request(f"{at}/calendar?token={SECRET}&validationToken=a%3Cb%3E", data=b"", method="POST"), timeout=15) as answer:
            assert (answer.read(), answer.headers["Content-Type"], answer.headers["X-Content-Type-Options"]) == (b"a<b>", "text/plain; charset=utf-8", "nosniff")
        assert request("POST", f"{at}/calendar?validationToken=a", b"")[0] == 401

        origin = urllib.request.Request(f"{at}/grid", method="OPTIONS", headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
        with urllib.request.urlopen(origin, timeout=15) as answer:
            assert (answer.status, answer.headers["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")
        assert request("OPTIONS", f"{at}/calendar")[0] == 405

        event = b'{"event": "meeting.started"}'
        assert bridge.post("/hooks/zoom", event, **zoom(event))[0] == 200
        until(lambda: house.heard, "the event after the challenges")
        assert [heard.payload for heard in house.heard] == [event]
        assert all(ledger_adds_up(bridge.metrics(), hook) for hook in ("zoom",))


def test_what_sign_prints_for_a_hook_the_daemon_takes(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "home/#") as house, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS) as bridge:
        form = tmp_path / "form"
        form.write_bytes(b"From=%2B14158675309&Body=gr%C3%BC%C3%9Fe")
        found = bridge.json("sign", "--hook", "sms", "--body", str(form), "--type", "application/x-www-form-urlencoded", "--id", "SM1")
        assert request(found["method"], found["url"], form.read_bytes(), found["headers"])[0] == 200
        assert request(found["method"], found["url"], form.read_bytes() + b"!", found["headers"])[0] == 401
        until(lambda: house.heard, "the command")
        assert [heard.payload.decode() for heard in house.heard] == ["grüße"]
