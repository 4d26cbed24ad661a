"""From a request to a command, as a caller and a device see it."""

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from standardwebhooks import Webhook

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up
from tests.rig.mosquitto import Mosquitto
from tests.rig.wait import until

TOKEN = "correct-horse-battery"

LIGHT = f"""
[inbound.light]
verify = "standard-webhooks"
secret = "{SECRET}"
topic = "zigbee2mqtt/hall/set"
json = {{ state = "{{{{ body.state | upper }}}}", level = "{{{{ body.level | default(100) }}}}" }}
"""

ROOM = f"""
[inbound.room]
path = "/hooks/room/{{room}}"
verify = "bearer"
secret = "{TOKEN}"
topic = "home/{{{{ room }}}}/{{{{ query.what | default('set') }}}}"
text = "{{{{ body }}}}"
"""


def signed(body: bytes, id: str = "msg_1", *, at: datetime | None = None, secret: str = SECRET) -> dict[str, str]:
    now = at or datetime.now(UTC)
    signature = Webhook(secret).sign(id, now, body.decode())
    return {"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_a_signed_request_becomes_a_command(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with device(broker.port, "zigbee2mqtt/#") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT) as bridge:
        status, text = bridge.post("/hooks/light", body, **signed(body))
        assert (status, json.loads(text)) == (200, {"id": "msg_1", "status": "published"})
        until(lambda: lamp.heard, "the command")
        heard = lamp.heard[0]
        assert (heard.topic, json.loads(heard.payload), heard.qos, heard.retained) == ("zigbee2mqtt/hall/set", {"state": "ON", "level": 100}, 1, False)
        assert heard.expiry_s is not None
        assert 50 <= heard.expiry_s <= 60, "the broker is told how long it is good for"
        assert ledger_adds_up(bridge.metrics(), "light")


def test_nobody_subscribed_is_told(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT) as bridge:
        assert json.loads(bridge.post("/hooks/light", body, **signed(body))[1]) == {"id": "msg_1", "status": "published", "heard": False}


def test_a_repeated_id_gets_the_first_answer_and_publishes_nothing_after_a_kill_too(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT)
    with device(broker.port, "zigbee2mqtt/#") as lamp, bridge:
        with ThreadPoolExecutor(8) as callers:
            answers = {callers.submit(bridge.post, "/hooks/light", body, **signed(body)).result() for _ in range(8)}
        assert len(answers) == 1
        bridge.kill()
        bridge.start()
        assert {bridge.post("/hooks/light", body, **signed(body))} == answers
        other = b'{"state": "off"}'
        assert bridge.post("/hooks/light", other, **signed(other, "msg_2"))[0] == 200
        until(lambda: b"OFF" in lamp.heard[-1].payload, "the next command")
        assert len(lamp.heard) == 2
        assert ledger_adds_up(bridge.metrics(), "light")


def test_while_the_broker_is_away_a_command_waits_and_is_published_when_it_is_back(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT) as bridge:
        broker.stop()
        until(lambda: not bridge.is_ready(), "the bridge to notice")
        assert bridge.post("/hooks/light", body, **signed(body)) == (202, '{"id": "msg_1", "status": "queued"}')
        assert bridge.post("/hooks/light", body, **signed(body)) == (202, '{"id": "msg_1", "status": "queued"}')
        broker.start()
        with device(broker.port, "zigbee2mqtt/#") as lamp:
            until(lambda: bridge.metrics()['mqtthook_ledger_out_total{mapping="light",outcome="delivered"}'] == 1, "the command to be published")
            assert len(lamp.heard) <= 1
        assert ledger_adds_up(bridge.metrics(), "light")


def test_a_command_is_never_published_after_it_expired(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = LIGHT + 'expires = "1s"\n'
    body = b'{"state": "on"}'
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings)
    with bridge:
        broker.stop()
        until(lambda: not bridge.is_ready(), "the bridge to notice")
        accepted = datetime.now(UTC)
        assert bridge.post("/hooks/light", body, **signed(body))[0] == 202
        bridge.kill()
        until(lambda: datetime.now(UTC) > accepted + timedelta(seconds=2), "the command to expire")
        broker.start()
        with device(broker.port, "zigbee2mqtt/#") as lamp:
            bridge.start()
            until(lambda: bridge.metrics()['mqtthook_ledger_out_total{mapping="light",outcome="expired"}'] == 1, "it to be counted")
            assert not lamp.heard
        assert ledger_adds_up(bridge.metrics(), "light")


def test_a_frozen_broker_leaves_a_command_in_doubt_that_is_not_repeated(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with device(broker.port, "zigbee2mqtt/#") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT) as bridge:
        broker.send(signal.SIGSTOP)
        status, text = bridge.post("/hooks/light", body, **signed(body))
        assert status == 502, text
        assert "not repeated" in json.loads(text)["detail"]
        broker.send(signal.SIGCONT)
        until(bridge.is_ready, "the bridge to be connected again")
        assert bridge.post("/hooks/light", body, **signed(body))[0] == 502, "the first answer again"
        until(lambda: bridge.metrics()['mqtthook_dead_letters{mapping="light"}'] == 1, "the dead letter")
        assert len(lamp.heard) <= 1


FORGED: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "wrong": lambda headers: headers | {"webhook-signature": "v1,AAAA"},
    "old version": lambda headers: headers | {"webhook-signature": headers["webhook-signature"].replace("v1,", "v0,")},
    "none": lambda headers: {name: value for name, value in headers.items() if name != "webhook-signature"},
    "other id": lambda headers: headers | {"webhook-id": "msg_other"},
    "other time": lambda headers: headers | {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
    "stale": lambda _: signed(b'{"state": "on"}', at=datetime.now(UTC) - timedelta(minutes=6)),
    "future": lambda _: signed(b'{"state": "on"}', at=datetime.now(UTC) + timedelta(minutes=6)),
    "other body": lambda _: signed(b'{"state": "off"}'),
    "other key": lambda _: signed(b'{"state": "on"}', secret="whsec_" + "A" * 44),
    "bearer": lambda _: bearer(SECRET),
    "nothing": lambda _: {},
}


def test_who_cannot_sign_is_refused_without_a_reason(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with device(broker.port, "zigbee2mqtt/#") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT) as bridge:
        for name, change in FORGED.items():
            status, text = bridge.post("/hooks/light", body, **change(signed(body)))
            assert (status, json.loads(text)) == (401, {"type": "about:blank", "title": "Unauthorized", "status": 401}), name
        assert bridge.metrics()["mqtthook_requests_refused_total"] == len(FORGED)
        assert bridge.post("/hooks/light", body, **signed(body))[0] == 200
        until(lambda: lamp.heard, "the one that is right")
        assert len(lamp.heard) == 1


PATHS = {
    "/hooks/room/hall": 200,
    "/hooks/room/living%20room": 200,
    "/hooks/room/a%2Fb": 400,
    "/hooks/room/%2B": 400,
    "/hooks/room/%23": 400,
    "/hooks/room/%00": 400,
    "/hooks/room/$SYS": 400,
    "/hooks/room/%ff": 400,
    "/hooks/room/": 400,
    "/hooks/room/hall?what=a%2Fb": 422,
    "/hooks/room/hall?what=%23": 422,
    "/hooks/room/hall?what=%24x": 422,
    "/hooks/room/..%2f..%2flock": 400,
    "/hooks/nobody": 404,
    "/hooks/room/hall/more": 404,
    "/": 404,
}


def test_nobody_outside_chooses_the_topic(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "#") as everything, Daemon(tmp_path / "bridge", broker=broker.url, mappings=ROOM) as bridge:
        for path, status in PATHS.items():
            answered, text = bridge.post(path, b'"x"', **bearer())
            assert answered == status, f"{path}: {text}"
            if status != 200:
                assert json.loads(text)["status"] == status
        heard = sorted(heard.topic for heard in everything.heard if not heard.topic.startswith("mqtthook/"))
        assert heard == ["home/hall/set", "home/living room/set"]
        assert bridge.metrics()["mqtthook_broker_connected"] == 1


def test_other_errors_are_problem_documents(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings=ROOM + LIGHT, http='max_body = "1KiB"') as bridge:
        assert bridge.post("/hooks/room/hall", b"x", **bearer("wrong-token-here"))[0] == 401
        assert bridge.post("/hooks/room/hall", b"x" * 2000, **bearer())[0] == 413
        assert bridge.post("/hooks/room/hall", b"{nonsense", **bearer())[0] == 400
        assert bridge.post("/hooks/room/hall", b"{}", **bearer(), Content_Encoding="gzip")[0] == 415
        body = b'{"other": 1}'
        status, text = bridge.post("/hooks/light", body, **signed(body))
        assert (status, json.loads(text)["detail"]) == (422, "the request doesn't fit the mapping: body.state is missing")
        assert ledger_adds_up(bridge.metrics(), "light")


def test_answer_accepted_does_not_wait_for_the_broker(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with device(broker.port, "zigbee2mqtt/#") as lamp, Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT + 'answer = "accepted"\n') as bridge:
        assert bridge.post("/hooks/light", body, **signed(body))[0] == 202
        until(lambda: lamp.heard, "the command")


def test_a_broker_that_denies_the_topic_is_told_to_the_caller(tmp_path: Path) -> None:
    acl = tmp_path / "acl"
    acl.write_text("topic read #\ntopic write mqtthook/#\n")
    acl.chmod(0o644)
    body = b'{"state": "on"}'
    with Mosquitto(tmp_path / "mosquitto", lines=(f"acl_file {acl}",)) as broker, Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT) as bridge:
        status, text = bridge.post("/hooks/light", body, **signed(body))
        assert status == 403, text


def test_retain_only_where_it_is_asked_for(tmp_path: Path, broker: Mosquitto) -> None:
    body = b'{"state": "on"}'
    with device(broker.port, "#"), Daemon(tmp_path / "bridge", broker=broker.url, mappings=LIGHT + "retain = true\n") as bridge:
        assert "retained command" in bridge.command("check")
        assert bridge.post("/hooks/light", body, **signed(body))[0] == 200
        with device(broker.port, "zigbee2mqtt/#") as late:
            until(lambda: late.heard, "the retained command")
            assert late.heard[0].retained
