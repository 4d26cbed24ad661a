"""`mqtthook try`: what it shows is what would happen."""

import json
import subprocess
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from tests.rig.daemon import SECRET, Daemon
from tests.rig.receiver import Receiver, Reply

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
