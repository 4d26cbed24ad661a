"""`mqtthook try`: what it shows is what would happen."""

import json
import subprocess
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.rig.certificates import certificate
from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon
from tests.rig.mosquitto import Mosquitto
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

MAPPINGS = """
[outbound.hall]
topic = "zigbee2mqtt/{{room}}/motion"
when = "payload.occupancy"
url = "{url}/hooks/{{{{ room }}}}"
secret = "{secret}"

[outbound.other]
topic = "tele/+/SENSOR"
url = "{url}/other"
sign = "none"

[outbound.off]
topic = "#"
url = "{url}/off"
sign = "none"
enabled = false

[outbound.broken]
topic = "zigbee2mqtt/cellar/#"
url = "{url}/broken"
sign = "none"
json = {{ battery = "{{{{ payload.battery }}}}" }}

[inbound.lamp]
verify = "bearer"
secret = "a-long-enough-token"
topic = "lamp/set"
json = {{ state = "{{{{ body.state | upper }}}}" }}
"""


def bridge(tmp_path: Path, receiver: Receiver) -> Daemon:
    return Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=MAPPINGS.format(url=receiver.url, secret=SECRET))


def test_it_says_who_takes_a_message_and_why_the_others_do_not(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tried = bridge(tmp_path, receiver).json("try", "--topic", "zigbee2mqtt/hall/motion", "--payload", '{"occupancy": true}')
        found = {entry["mapping"]: entry for entry in tried["mappings"]}
        assert found["hall"]["request"]["url"] == f"{receiver.url}/hooks/hall"
        assert 'level 1 is "zigbee2mqtt", not "tele"' in found["other"]["reason"]
        assert "switched off" in found["off"]["reason"]
        assert not found["broken"]["takes"]
        assert not receiver.received, "nothing is sent unless it is asked for"


def test_the_curl_line_sends_exactly_what_the_receiver_can_verify(tmp_path: Path) -> None:
    with Receiver() as receiver:
        payload = '{"occupancy": true, "note": "it\'s @home $HOME `x`"}'
        tried = bridge(tmp_path, receiver).json("try", "--topic", "zigbee2mqtt/hall/motion", "--payload", payload)
        line = next(entry["curl"] for entry in tried["mappings"] if entry["mapping"] == "hall")
        subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=20)
        sent = receiver.received[0]
        assert Webhook(SECRET).verify(sent.body, sent.headers)["data"]["payload"] == json.loads(payload)


def test_a_false_condition_and_a_broken_template_are_told_apart(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tool = bridge(tmp_path, receiver)
        text = tool.command("try", "--topic", "zigbee2mqtt/hall/motion", "--payload", "{}")
        assert "no    hall: `when` counts as false: payload.occupancy is missing" in text
        text = tool.command("try", "--topic", "zigbee2mqtt/cellar/motion", "--payload", '{"occupancy": false}', code=1)
        assert "error broken: payload.battery is missing" in text


def test_it_sends_when_it_is_told_to_and_shows_the_answer(tmp_path: Path) -> None:
    status = [200]
    with Receiver(lambda path, headers, body: Reply(status[0], body=b"thank you")) as receiver:
        tool = bridge(tmp_path, receiver)
        arguments = ("try", "--topic", "zigbee2mqtt/hall/motion", "--payload", '{"occupancy": true}', "--send")
        assert "thank you" in tool.command(*arguments)
        Webhook(SECRET).verify(receiver.received[0].body, receiver.received[0].headers)
        status[0] = 500
        assert "500" in tool.command(*arguments, code=1)


def test_a_hook_is_tried_with_a_file_or_a_text(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tool = bridge(tmp_path, receiver)
        (tmp_path / "body.json").write_text('{"state": "on"}')
        for body in (str(tmp_path / "body.json"), '{"state": "on"}'):
            (entry,) = tool.json("try", "--hook", "lamp", "--body", body)["mappings"]
            assert entry["publish"]["topic"] == "lamp/set"
            assert json.loads(entry["publish"]["payload"]) == {"state": "ON"}
        assert "422: the request doesn't fit the mapping: body.state is missing" in tool.command("try", "--hook", "lamp", "--body", "{}", code=1)
        tool.command("try", "--hook", "nobody", code=2)
        tool.command("try", code=2)


# --- hooks, asked for real ---

TOKEN = "a-long-enough-token"
HOOKS = f"""
[inbound.light]
verify = "standard-webhooks"
secret = "{SECRET}"
topic = "zigbee2mqtt/hall/set"
json = {{ state = "{{{{ body.state | upper }}}}" }}

[inbound.room]
path = "/hooks/room/{{room}}"
methods = ["PUT"]
verify = "bearer"
secret = "{TOKEN}"
topic = "home/{{{{ room }}}}/{{{{ query.what }}}}"

[inbound.kitchen]
path = "/hooks/room/kitchen"
verify = "bearer"
secret = "{TOKEN}"
topic = "home/kitchen"

[inbound.door]
verify = {{ scheme = "query", param = "token" }}
secret = "a token & more"
topic = "home/door"

[inbound.mail]
verify = "mailgun"
secret = "{TOKEN}"
topic = "home/mail"
text = "{{{{ body.event }}}}"
"""


def test_a_request_is_sent_to_the_daemon_and_its_answer_is_shown(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "#") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS) as bridge:
        (entry,) = bridge.json("try", "--hook", "light", "--body", '{"state": "on"}', "--send")["mappings"]
        assert (entry["sent"]["status"], json.loads(entry["sent"]["body"])["status"], entry["sent"]["error"]) == (200, "published", None)
        until(lambda: lamp.payloads("zigbee2mqtt/hall/set") == [b'{"state":"ON"}'], "the command")
        Webhook(SECRET).verify(entry["request"]["body"].encode(), entry["request"]["headers"])
        assert json.loads(entry["sent"]["body"])["id"] == entry["request"]["headers"]["webhook-id"], "it is the request that was shown"
        text = bridge.command("try", "--hook", "light", "--body", '{"state": "off"}', "--send")
        assert f"POST http://127.0.0.1:{bridge.hooks_port}/hooks/light" in text
        assert "publishes to zigbee2mqtt/hall/set" in text
        assert "answer 200 after " in text
        until(lambda: len(lamp.payloads("zigbee2mqtt/hall/set")) == 2, "the other command")
        bridge.command("try", "--hook", "light", "--body", '{"state": "on"}')
        repeat = ("try", "--hook", "light", "--body", '{"state": "on"}', "--header", f"webhook-id: {entry['request']['headers']['webhook-id']}", "--header", "webhook-signature: v1,old", "--header", "Content-Length: 3", "--send")
        assert bridge.json(*repeat)["mappings"][0]["sent"]["status"] == 200
        text = bridge.command("try", "--hook", "light", "--body", "{}", "--send", code=1)
        assert "answer 422 after " in text
        assert len(lamp.payloads("zigbee2mqtt/hall/set")) == 2, "a dry run publishes nothing, nor does an id that came before"


def test_a_hook_is_tried_at_a_url_with_its_captures_and_its_query(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "#") as room, Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS) as bridge:
        for url in ("/hooks/room/hall?what=lamp", "https://hooks.example.com/hooks/room/hall?what=lamp"):
            (entry,) = bridge.json("try", "--hook", "room", "--url", url, "--body", "on")["mappings"]
            assert (entry["publish"]["topic"], entry["publish"]["payload"]) == ("home/hall/lamp", "on")
            assert entry["request"]["url"] == f"http://127.0.0.1:{bridge.hooks_port}/hooks/room/hall?what=lamp"
        text = bridge.command("try", "--hook", "room", "--url", "/hooks/room/küche?what=lamp", "--body", "on", "--send")
        assert "answer 200 after " in text
        assert TOKEN not in text, "it may be pasted where others read it"
        until(lambda: room.payloads("home/küche/lamp") == [b"on"], "the command")
        text = bridge.command("try", "--hook", "door", "--url", "/hooks/door?a=1", "--send")
        assert "?a=1&token=(the secret)" in text
        assert "answer 200 after " in text
    assert "query.what is missing" in bridge.command("try", "--hook", "room", "--url", "/hooks/room/hall", code=1)
    assert "is the path of the hook kitchen; room listens at /hooks/room/{room}" in " ".join(bridge.command("try", "--hook", "room", "--url", "/hooks/room/kitchen", code=2).split())
    assert "there is no hook at this path: /rooms; room listens at /hooks/room/{room}" in " ".join(bridge.command("try", "--hook", "room", "--url", "/rooms", code=2).split())
    bridge.command("try", "--topic", "a", "--url", "/hooks/light", code=2)


def test_a_request_that_cant_be_signed_is_only_tried_dry(tmp_path: Path) -> None:
    bridge = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=HOOKS)
    text = bridge.command("try", "--hook", "mail", "--body", '{"event": "opened"}')
    assert "publishes to home/mail" in text
    assert "it can't be signed here: requests for verify = \"mailgun\" can't be signed with headers" in text
    assert "can't be signed with headers: the signature stands in the body" in " ".join(bridge.command("try", "--hook", "mail", "--body", "{}", "--send", code=2).split())


def test_a_daemon_that_does_not_run_is_told(tmp_path: Path) -> None:
    bridge = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=HOOKS)
    said = f"nobody listens at 127.0.0.1:{bridge.hooks_port} (http.listen): the daemon isn't running, or with another config; start it with `mqtthook run`"
    assert said in bridge.command("try", "--hook", "light", "--body", '{"state": "on"}', "--send", code=1)
    (entry,) = json.loads(bridge.command("try", "--hook", "light", "--body", '{"state": "on"}', "--send", "--json", code=1))["mappings"]
    assert entry["sent"]["status"] is None
    assert said in entry["sent"]["error"]


def test_a_listener_with_tls_is_called_and_no_other_that_took_its_place(tmp_path: Path, broker: Mosquitto) -> None:
    for directory in (tmp_path, tmp_path / "new"):
        directory.mkdir(exist_ok=True)
        certificate(directory, "listener")
        (directory / "listener.key").chmod(0o600)
    tls = f'tls = {{ cert = "{tmp_path}/listener.pem", key = "{tmp_path}/listener.key" }}'
    tried = ("try", "--hook", "light", "--body", '{"state": "on"}', "--send")
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS, http=tls) as bridge:
        assert "answer 200 after " in bridge.command(*tried)
        other = Daemon(tmp_path / "other", broker=broker.url, mappings=HOOKS, http=tls.replace(str(tmp_path), str(tmp_path / "new")))
        other.config.write_text(other.config.read_text().replace(f":{other.hooks_port}", f":{bridge.hooks_port}"))
        assert f"who listens at 127.0.0.1:{bridge.hooks_port} has another certificate than http.tls.cert" in other.command(*tried, code=1)


def test_a_listener_in_a_socket_file_is_called(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=HOOKS)
    path = tmp_path / "hooks.sock"
    bridge.config.write_text(bridge.config.read_text().replace(f"127.0.0.1:{bridge.hooks_port}", f"unix:{path}"))
    tried = ("try", "--hook", "light", "--body", '{"state": "on"}', "--send")
    assert f"nobody listens at unix:{path} (http.listen)" in bridge.command(*tried, code=1)
    with bridge.start():
        assert "answer 200 after " in bridge.command(*tried)
        line = bridge.command("sign", "--hook", "light", "--body", '{"state": "on"}', "--curl")
        assert "200 OK" in subprocess.run(["sh", "-c", line], check=True, capture_output=True, timeout=20, text=True).stdout


@pytest.mark.parametrize("topic", ["", "zigbee2mqtt/+/motion", "zigbee2mqtt/#", "a\x07b"])
def test_what_is_no_topic_is_wrong_usage(tmp_path: Path, topic: str) -> None:
    tool = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=many(1))
    assert "expected a topic, not a filter" in tool.command("try", "--topic", topic, code=2)
    message = json.dumps({"topic": topic, "payload": "x"})
    assert "this is no message as `mqtthook listen --json` prints one: its topic: " in tool.command("try", "--message", message, code=2)


def test_the_brokers_own_topics_can_be_tried(tmp_path: Path) -> None:
    tool = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=many(1))
    assert tool.json("try", "--topic", "$SYS/broker/uptime", "--payload", "5")["topic"] == "$SYS/broker/uptime"


def many(count: int) -> str:
    """Return mappings for the rooms of a hotel, and two that almost take the hall's messages."""
    rooms = "".join(f'[outbound.room-{n}]\ntopic = "hotel/room-{n}/door"\nurl = "http://127.0.0.1:9/x"\nsign = "none"\n' for n in range(count))
    near = '[outbound.slip]\ntopic = "zigbee2mqtt/hall/motoin"\nurl = "http://127.0.0.1:9/x"\nsign = "none"\n'
    off = '[outbound.off]\ntopic = "zigbee2mqtt/{room}/motion"\nurl = "http://127.0.0.1:9/x"\nsign = "none"\nenabled = false\n'
    return rooms + near + off


def test_with_some_mappings_every_reason_is_shown(tmp_path: Path) -> None:
    tool = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=many(10))
    text = tool.command("try", "--topic", "zigbee2mqtt/hall/motion")
    assert text.count('level 1 is "zigbee2mqtt", not "hotel"') == 10
    assert 'no    slip: zigbee2mqtt/hall/motoin: level 3 is "motion", not "motoin"' in text
    assert "no    off: it takes this topic, but it is switched off (enabled = false)" in text
    assert "more mappings" not in text


def test_with_very_many_mappings_the_nearest_are_shown_and_what_is_switched_off(tmp_path: Path) -> None:
    tool = Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=many(60))
    text = tool.command("try", "--topic", "zigbee2mqtt/hall/motion")
    assert "no    slip: " in text
    assert "no    off: " in text
    assert text.count("no    room-") == 19
    assert "41 more mappings don't take this topic; --json tells why" in text
    assert len(tool.json("try", "--topic", "zigbee2mqtt/hall/motion")["mappings"]) == 62
