"""`mqtthook send`: what a receiver says to a test event, and what that would mean."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.rig.daemon import SECRET, Daemon
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver, Reply

MAPPINGS = """
[destination.crm]
url = "{url}/crm"
sign = "none"

[destination.log]
url = "{url}/log/{{{{ topic }}}}"
method = "PUT"
sign = "none"

[outbound.hall]
topic = ["zigbee2mqtt/{{room}}/motion", "tele/{{device}}/SENSOR"]
when = "payload.occupancy"
cooldown = "1h"
url = "{url}/hooks/hall"
secret = "{secret}"

[outbound.both]
topic = "both/+"
to = ["crm", "log"]
text = "{{{{ value }}}}"

[outbound.cellar]
topic = "zigbee2mqtt/cellar/#"
url = "{url}/cellar"
sign = "none"
json = {{ battery = "{{{{ payload.battery }}}}" }}

[outbound.freezer]
topic = "zigbee2mqtt/freezer"
silence = "3h"
url = "{url}/freezer"
sign = "none"

[outbound.climate]
topic = "climate/+"
batch = {{ size = 10, wait = "1h" }}
url = "{url}/climate"
sign = "none"

[outbound.bell]
topic = "bell"
url = "{url}/bell"
sign = "none"
reply = {{ topic = "gong", text = "{{{{ response.text }}}}" }}

[outbound.off]
topic = "#"
url = "{url}/off"
sign = "none"
enabled = false

[outbound.slow]
topic = "slow"
url = "{url}/slow"
sign = "none"
timeout = "200ms"

[inbound.lamp]
verify = "bearer"
secret = "a-long-enough-token"
topic = "lamp/set"
"""


def bridge(tmp_path: Path, receiver: Receiver) -> Daemon:
    return Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings=MAPPINGS.format(url=receiver.url, secret=SECRET))


def payload_of(received: Any) -> Any:
    return json.loads(received.body)["data"]["payload"]


# --- what is sent ---


def test_the_receiver_gets_a_signed_event_and_neither_conditions_nor_the_outbox_see_it(tmp_path: Path) -> None:
    with Receiver(lambda path, headers, body: Reply(body=b"thank\nyou")) as receiver:
        tool = bridge(tmp_path, receiver)
        text = tool.command("send", "hall")
        (received,) = receiver.received
        data = Webhook(SECRET).verify(received.body, received.headers)["data"]
        assert (received.path, data["topic"], data["captures"], data["payload"]) == ("/hooks/hall", "zigbee2mqtt/room/motion", {"room": "room"}, {"test": True})
        assert f"POST {receiver.url}/hooks/hall" in text
        assert " ms  thank you\n  delivered\n" in text
        assert {path.name for path in tool.directory.iterdir()} == {"config.toml"}
        tool.command("send", "hall")
        assert len({received.id for received in receiver.received}) == 2


def test_each_destination_gets_it_once_and_is_told_of(tmp_path: Path) -> None:
    with Receiver(lambda path, headers, body: Reply(200 if path == "/crm" else 503)) as receiver:
        text = bridge(tmp_path, receiver).command("send", "both", code=1)
        assert [(received.method, received.path) for received in receiver.received] == [("POST", "/crm"), ("PUT", "/log/both%2Ftest")]
        assert text.index("crm") < text.index("  delivered") < text.index("log") < text.index("would be retried in 5s: status 503")


def test_a_topic_and_a_payload_can_be_given(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tool = bridge(tmp_path, receiver)
        tool.command("send", "hall", "--topic", "tele/washer/SENSOR", "--payload", '{"power": 5}')
        data = json.loads(receiver.received[0].body)["data"]
        assert (data["captures"], data["payload"]) == ({"device": "washer"}, {"power": 5})
        (tmp_path / "payload.json").write_text('{"from": "a file"}')
        tool.command("send", "hall", "--payload", f"@{tmp_path / 'payload.json'}")
        assert payload_of(receiver.received[1]) == {"from": "a file"}
        tool.command("send", "hall", "--payload", "-")  # standard input is empty here
        assert payload_of(receiver.received[2]) == ""


def test_a_batch_is_a_list_of_one_and_silence_has_lasted(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tool = bridge(tmp_path, receiver)
        tool.command("send", "climate")
        assert [event["data"]["topic"] for event in json.loads(receiver.received[0].body)] == ["climate/test"]
        tool.command("send", "freezer")
        assert json.loads(receiver.received[1].body)["data"]["silent_for"] == 10_800


def test_it_says_what_the_daemon_would_do_differently(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tool = bridge(tmp_path, receiver)
        assert "the mapping is switched off (enabled = false)" in tool.command("send", "off")
        assert "nothing is published from the answer to gong" in tool.command("send", "bell")
        assert [received.path for received in receiver.received] == ["/off", "/bell"]


def test_a_message_that_does_not_fit_is_not_sent_and_says_what_it_lacks(tmp_path: Path) -> None:
    with Receiver() as receiver:
        tool = bridge(tmp_path, receiver)
        text = tool.command("send", "cellar", code=1)
        assert "not sent: payload.battery is missing" in text
        assert "give a message that fits with --payload" in text
        assert not receiver.received
        assert "--payload" not in tool.command("send", "cellar", "--payload", "{}", code=1)
        tool.command("send", "cellar", "--payload", '{"battery": 5}')
        assert json.loads(receiver.received[0].body) == {"battery": 5}


# --- what the answer means ---


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (Reply(202), 0, "  delivered"),
        (Reply(500), 1, "would be retried in 5s: status 500"),
        (Reply(503, {"Retry-After": "90"}), 1, "would be retried in 1m 30s: status 503"),
        (Reply(302, {"Location": "/"}), 1, "a redirect is never followed"),
        (Reply(400), 1, "would be a dead letter: status 400: the receiver refuses this event"),
        (Reply(410), 1, "hall would be disabled until `mqtthook resume hall`"),
        (Reply(500, {"webhook-delivery": "disable"}), 1, "webhook-delivery: disable; hall would be disabled"),
    ],
)
def test_it_says_what_an_answer_counts_as(tmp_path: Path, answer: Reply, code: int, text: str) -> None:
    with Receiver(lambda path, headers, body: answer) as receiver:
        assert text in bridge(tmp_path, receiver).command("send", "hall", code=code)
        assert len(receiver.received) == 1


def test_a_receiver_that_is_away_or_hangs_is_said_to(tmp_path: Path) -> None:
    done = threading.Event()

    def hanging(*_request: object) -> Reply:
        done.wait(20)
        return Reply()

    with Receiver(hanging) as receiver:
        assert "would be retried in 5s: timeout: no answer within 0.2 s" in bridge(tmp_path, receiver).command("send", "slow", code=1)
        done.set()
    text = bridge(tmp_path, Receiver(port=free_port())).command("send", "hall", code=1)
    assert "no answer after" in text
    assert "connect: no connection to 127.0.0.1" in text


def test_an_answer_is_cut_and_can_do_nothing_to_the_terminal(tmp_path: Path) -> None:
    with Receiver(lambda path, headers, body: Reply(body=b"\x1b[2J\xff\x07" + b"x" * 10_000)) as receiver:
        text = bridge(tmp_path, receiver).command("send", "hall")
        assert "\\x1b[2J" in text
        assert "\x1b" not in text
        assert max(map(len, text.splitlines())) < 250


def test_scripts_get_the_same_for_each_destination(tmp_path: Path) -> None:
    with Receiver(lambda path, headers, body: Reply(body=b"fine")) as receiver:
        tool = bridge(tmp_path, receiver)
        found = tool.json("send", "both")
        assert (found["mapping"], found["enabled"], found["topic"]) == ("both", True, "both/test")
        crm, log = found["destinations"]
        assert crm["took_ms"] >= 0
        assert crm | {"took_ms": 0} == {
            "destination": "crm", "outcome": "delivered", "reason": "status 200", "id": receiver.received[0].id, "method": "POST", "url": f"{receiver.url}/crm",
            "status": 200, "took_ms": 0, "body": "fine", "retry_in_s": None, "disables": False,
        }  # fmt: skip
        assert log["url"] == f"{receiver.url}/log/both%2Ftest"
        (cellar,) = json.loads(tool.command("send", "cellar", "--json", code=1))["destinations"]
        assert cellar.keys() == crm.keys()
        assert (cellar["outcome"], cellar["reason"], cellar["status"]) == ("dead", "payload.battery is missing", None)


# --- wrong usage ---


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("hal",), "there is no mapping 'hal'; did you mean hall?"),
        (("xyz",), "there is no mapping 'xyz'; known: hall, both, cellar"),
        (("lamp",), "lamp is a hook: `mqtthook try --hook lamp`"),
        (("hall", "--topic", "tele/a/STATE"), 'the mapping doesn\'t take it: zigbee2mqtt/{room}/motion: level 1 is "tele"'),
        (("hall", "--topic", "zigbee2mqtt/+/motion"), "it holds the wildcard '+'"),
        (("off", "--topic", "$SYS/x"), "takes no topic that starts with '$'"),
        (("hall", "--payload", "@/nowhere"), "/nowhere: No such file"),
        ((), "Missing argument"),
    ],
)
def test_wrong_usage_is_told_apart(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    with Receiver() as receiver:
        assert reason in bridge(tmp_path, receiver).command("send", *arguments, code=2)
        assert not receiver.received


def test_without_any_mapping_there_is_none_to_send_to(tmp_path: Path) -> None:
    assert "known: none" in Daemon(tmp_path / "bridge", broker="mqtt://127.0.0.1:1", mappings="").command("send", "hall", code=2)
