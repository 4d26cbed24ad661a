"""The daemon's life: it starts whatever is missing, stays up, tells how it is, and goes when it is told."""

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from bridge.model import Event, Lane, Letter, State
from bridge.outbox.store import Changes, Store
from tests.rig.client import device
from tests.rig.daemon import COMMAND, SECRET, Daemon, ledger_adds_up, request
from tests.rig.disks import small_disk
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

EVENTS = """
[outbound.hall]
topic = "hall/#"
url = "{url}"
secret = "{secret}"
retry = {{ first = "100ms", factor = 1, max = "200ms", for = "1h" }}
"""


def events(receiver: Receiver) -> str:
    return EVENTS.format(url=receiver.url, secret=SECRET)


def test_it_starts_without_a_broker_and_carries_on_when_there_is_one(tmp_path: Path) -> None:
    broker = Mosquitto(tmp_path / "mosquitto")
    with Receiver() as receiver:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver)).launch() as bridge:
            until(lambda: bridge.get("/healthz")[0] == 200, "the admin side")
            status, text = bridge.get("/readyz")
            assert status == 503
            assert "the broker is away" in json.loads(text)["detail"]
            with broker, device(broker.port) as sensor:
                until(bridge.is_ready, "the bridge to find the broker")
                sensor.publish("hall/x", "1")
                until(lambda: receiver.accepted, "the event")


def test_what_came_while_it_was_stopped_is_delivered(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        with bridge:
            assert bridge.stop() == 0
            for n in range(10):
                sensor.publish("hall/x", str(n))
            bridge.start()
            until(lambda: len(receiver.accepted) == 10, "the ten")
            assert [json.loads(received.body)["data"]["payload"] for received in receiver.accepted] == list(range(10))


def test_sigterm_under_load_loses_nothing_and_exits_0(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port, "mqtthook/status") as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        with bridge:
            until(lambda: sensor.payloads("mqtthook/status") == [b"online"], "online")
            for n in range(300):
                sensor.publish(f"hall/{n}", str(n), wait=False)
                if n == 150:
                    assert bridge.stop() == 0
                    until(lambda: sensor.payloads("mqtthook/status")[-1] == b"offline", "offline")
                    assert sensor.payloads("mqtthook/status") == [b"online", b"offline"], "it does not come back on its way out"
                    bridge.start()
            until(lambda: len({received.path + str(received.body) for received in receiver.accepted}) >= 300, "all of them")
            assert len(receiver.accepted) == 300, "an orderly stop repeats nothing"
            assert ledger_adds_up(bridge.metrics(), "hall")


def test_a_kill_is_told_by_the_last_will_within_seconds(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port, "mqtthook/status") as watcher:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver)) as bridge:
            until(lambda: watcher.payloads("mqtthook/status") == [b"online"], "online")
            bridge.kill()
            until(lambda: watcher.payloads("mqtthook/status")[-1] == b"offline", "the last will", within=4)


def test_a_second_daemon_on_the_same_outbox_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver)) as bridge:
        assert "in use by another mqtthook" in bridge.command("run", code=78)
        assert bridge.is_ready()


def test_an_address_in_use_is_told_and_ends_it(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings="")
    with socket.socket() as other:
        other.bind(("127.0.0.1", bridge.admin_port))
        other.listen()
        said = bridge.command("run", code=1)
        assert f"admin.listen: 127.0.0.1:{bridge.admin_port} can't be listened on" in said
        assert "Warning" not in said


def test_a_full_outbox_stops_acknowledging_and_recovers_without_a_loss(tmp_path: Path, broker: Mosquitto) -> None:
    down = [True]
    body = "x" * 4_000
    hook = f'\n[inbound.lamp]\nverify = "bearer"\nsecret = "{SECRET}"\ntopic = "lamp/set"\n'
    with Receiver(lambda path, headers, sent: Reply(503 if down[0] else 200)) as receiver, device(broker.port) as sensor:
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver) + hook, store='max_size = "512KiB"') as bridge:
            for n in range(200):
                sensor.publish(f"hall/{n}", f"{n} {body}", wait=False)
            until(lambda: bridge.metrics()["mqtthook_outbox_full"] == 1, "it to be full")
            assert bridge.get("/readyz")[0] == 503
            assert bridge.post("/hooks/lamp", b'"on"', Authorization=f"Bearer {SECRET}")[0] == 503
            assert bridge.metrics()["mqtthook_broker_connected"] == 1
            down[0] = False
            until(lambda: len({received.id for received in receiver.accepted}) >= 200, "all of them", within=180)
            numbers = {json.loads(received.body)["data"]["payload"].split()[0] for received in receiver.accepted}
            assert len(numbers) == 200
            until(lambda: bridge.metrics()["mqtthook_outbox_full"] == 0, "it to have room again")
            assert bridge.post("/hooks/lamp", b'"on"', Authorization=f"Bearer {SECRET}")[0] == 200
            assert ledger_adds_up(bridge.metrics(), "hall")
            assert ledger_adds_up(bridge.metrics(), "lamp")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "small") as place:
        yield place


@pytest.mark.parametrize(("durability", "count", "size"), [("balanced", 800, 3_000), ("strict", 500, 3_000), ("balanced", 300, 10_000)])
def test_a_disk_that_is_full_of_its_own_backlog_gets_room_by_what_is_delivered(tmp_path: Path, small: Path, broker: Mosquitto, durability: str, count: int, size: int) -> None:
    down = [True]
    with Receiver(lambda path, headers, sent: Reply(503 if down[0] else 200)) as receiver, device(broker.port) as sensor:
        mappings = events(receiver) + 'breaker = { failures = 3, pause = "1s" }'
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings, store=f'durability = "{durability}"')
        bridge.environment["STATE_DIRECTORY"] = str(small)
        with bridge:
            for n in range(count):
                sensor.publish("hall/door", f"{n} {'x' * size}", wait=False)
            until(lambda: bridge.metrics()["mqtthook_outbox_full"] == 1, "it to be full", within=30)
            assert ledger_adds_up(bridge.metrics(), "hall")
            down[0] = False
            until(lambda: len({received.id for received in receiver.accepted}) >= count, "all of them", within=180)
            until(lambda: bridge.metrics()["mqtthook_outbox_full"] == 0, "it to have room again", within=30)
            numbers = [int(json.loads(received.body)["data"]["payload"].split()[0]) for received in receiver.accepted]
            assert numbers == list(range(count)), "each once, and in order"
            assert ledger_adds_up(bridge.metrics(), "hall")
            sensor.publish("hall/door", "one more", wait=False)
            until(lambda: len(receiver.accepted) == count + 1, "one more")
            bridge.kill()
        with bridge:
            assert bridge.metrics()["mqtthook_ledger_imbalance"] == 0, "on disk it adds up as well"


@pytest.mark.parametrize("running", [False, True])
def test_a_damaged_outbox_is_put_aside_and_what_can_be_read_is_delivered(tmp_path: Path, broker: Mosquitto, *, running: bool) -> None:
    """While it runs, or before it starts: the file loses a page of letters. What it had is told, and so is where it is."""
    down = [True]
    alert = f'\n[destination.me]\nurl = "{{}}/alert"\nsecret = "{SECRET}"\n[alerts]\nto = "me"\n'
    with Receiver(lambda path, headers, sent: Reply(503 if down[0] and path != "/alert" else 200)) as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver) + alert.format(receiver.url))
        outbox = bridge.directory / "outbox.db"
        with bridge:
            for n in range(400):
                sensor.publish(f"hall/{n % 3}", f"{n} {'x' * 9_000}")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 400, "them to wait")
            assert bridge.stop() == 0
        if running:
            bridge.start()
        size = outbox.stat().st_size
        with outbox.open("r+b") as file:
            file.seek(size // 4096 // 2 * 4096)
            file.write(b"\xaa" * 4096 * 8)
        if not running:
            bridge.start()
        with bridge:
            down[0] = False
            if running:
                assert bridge.process is not None
                assert bridge.process.wait(20) == 74
                bridge.start()
            until(lambda: bridge.metrics().get('mqtthook_ledger_waiting{mapping="hall"}') == 0, "what can be read to be delivered", within=60)
            delivered = {received.id for received in receiver.accepted if received.path != "/alert"}
            assert 380 <= len(delivered) <= 400
            assert bridge.metrics()["mqtthook_ledger_imbalance"] == 0
            (kept,) = bridge.directory.glob("outbox.db.damaged-*")
            assert str(kept) in bridge.json("status")["damage"]
            until(lambda: any(received.path == "/alert" and str(kept).encode() in received.body for received in receiver.accepted), "an alert")
            assert "outbox-damaged" in bridge.command("doctor", "--json", code=1)
            assert "the outbox was damaged" in bridge.log
            assert "Traceback" not in bridge.log
            kept.unlink()
            assert bridge.json("status")["damage"] is None
            assert bridge.stop() == 0


def test_the_queue_is_handled_while_it_runs_and_while_it_does_not(tmp_path: Path, broker: Mosquitto) -> None:
    status = [400]
    with Receiver(lambda path, headers, body: Reply(status[0])) as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        with bridge:
            assert "nothing waits" in bridge.command("queue", "list")
            for n in range(4):
                sensor.publish(f"hall/{n}", str(n))
            until(lambda: len(bridge.json("queue", "list", "--dead")) == 4, "four dead letters")
            first, second, third, _ = bridge.json("queue", "list", "--dead", "--mapping", "hall")
            assert [first["id"]] == [letter["id"] for letter in bridge.json("queue", "list", "--key", "hall/0")]
            assert json.loads(bridge.json("queue", "show", first["id"])[0]["content"]["body"])["data"]["payload"] == 0
            assert "1 letter dropped" in bridge.command("queue", "drop", first["id"])
            status[0] = 200
            assert "1 letter to be tried now" in bridge.command("queue", "retry", second["id"])
            until(lambda: [received.id for received in receiver.accepted] == [second["id"]], "the second, with its id")
            assert ledger_adds_up(bridge.metrics(), "hall")
            assert bridge.stop() == 0
            assert len(bridge.json("queue", "list", "--dead")) == 2
            assert "status 400" in bridge.command("queue", "list")
            assert bridge.json("queue", "retry", third["id"]) == {"count": 1}
            assert bridge.json("queue", "drop", "--all", "--dead") == {"count": 1}
            assert len(bridge.json("queue", "list")) == 1
            bridge.start()
            until(lambda: len(receiver.accepted) == 2, "the third")
            assert receiver.accepted[1].id == third["id"]
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 0, "nothing to wait")
            assert ledger_adds_up(bridge.metrics(), "hall")
            bridge.command("queue", "show", "evt_nobody", code=1)
            bridge.command("queue", "drop", "evt_nobody", code=1)
            bridge.command("queue", "retry", code=2)
            bridge.command("queue", "drop", "evt_x", "--all", code=2)


def test_a_large_queue_is_handled_part_by_part_and_a_person_sees_how_far_it_is(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        content = Event(method="POST", url=receiver.url, headers=(), body=b"{}")
        dead = Letter(id="", lane=Lane.WEBHOOK, mapping="hall", destination="hall", key="k", content=content, created_at=1.0, state=State.DEAD, dead_at=2.0)
        store = Store.open(bridge.directory / "outbox.db", max_size=64 << 20)
        store.write(Changes(letters={n: replace(dead, seq=n, id=f"evt_{n}", key=f"k{n % 50}") for n in range(1, 5_001)}))
        store.close()
        assert bridge.json("queue", "drop", "--dead", "--key", "k0") == {"count": 100}
        shown = on_terminal(bridge, "queue", "drop", "--older", "1h", "--key", "k1", "--dead")
        assert shown == "100 letters dropped\n", "no bar for what takes a moment"
        with bridge:
            shown = on_terminal(bridge, "queue", "retry", "--all", "--dead")
            assert "1000/4800" in shown
            assert shown.endswith("4800 letters to be tried now\n")
            until(lambda: len({received.id for received in receiver.accepted}) == 4_800, "all of them", within=60)
            assert len(receiver.accepted) == 4_800
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 0, "nothing to wait")
            assert ledger_adds_up(bridge.metrics(), "hall")


def on_terminal(bridge: Daemon, *arguments: str) -> str:
    """Return what a command writes to a terminal, without what only colours it or moves the cursor."""
    line = " ".join([*COMMAND, *arguments, "--config", str(bridge.config)])
    run = subprocess.run(["script", "-qec", line, "/dev/null"], capture_output=True, text=True, stdin=subprocess.DEVNULL, env=bridge.environment, cwd=bridge.directory, timeout=60, check=True)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", run.stdout).replace("\r\n", "\n")


def test_retry_now_does_not_wait_for_the_schedule(tmp_path: Path, broker: Mosquitto) -> None:
    down = [True]
    with Receiver(lambda path, headers, body: Reply(503 if down[0] else 200)) as receiver, device(broker.port) as sensor:
        mappings = events(receiver).replace('"100ms"', '"1h"').replace('"200ms", for = "1h"', '"1h", for = "3d"')
        with Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings) as bridge:
            for n in range(3):
                sensor.publish("hall/x", str(n))
            until(lambda: len(bridge.json("queue", "list", "--waiting")) == 3 and receiver.received, "three to wait")
            down[0] = False
            assert bridge.json("queue", "retry", "--all") == {"count": 3}
            until(lambda: len(receiver.accepted) == 3, "all three")
            assert [json.loads(received.body)["data"]["payload"] for received in receiver.accepted] == [0, 1, 2]


def test_status_tells_how_it_is(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        assert "no daemon runs" in bridge.command("status", code=1)
        with bridge:
            sensor.publish("hall/x", "1")
            until(lambda: bridge.json("status")["mappings"]["hall"]["outcomes"]["delivered"] == 1, "the event to be counted")
            text = bridge.command("status")
            assert "ready" in text
            assert "adds up" in text
            assert "\x1b" not in text, "no colour where there is no terminal"


def test_counts_survive_a_restart(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        with bridge:
            sensor.publish("hall/x", "1")
            until(lambda: receiver.accepted, "the event")
            bridge.stop()
            bridge.start()
            assert bridge.metrics()['mqtthook_ledger_out_total{mapping="hall",outcome="delivered"}'] == 1
            assert ledger_adds_up(bridge.metrics(), "hall")


def test_a_topic_that_left_the_config_is_not_subscribed_any_more(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=events(receiver))
        with bridge:
            until(lambda: bridge.metrics()["mqtthook_outbox_commits_total"] >= 1, "the subscription to be noted")
            bridge.stop()
            bridge.config.write_text(bridge.config.read_text().replace("hall/#", "other/#"))
            bridge.start()
            sensor.publish("hall/x", "1")
            sensor.publish("other/x", "2")
            until(lambda: receiver.accepted, "the event")
            assert bridge.metrics()["mqtthook_messages_received_total"] == 1


def test_metrics_need_the_token_where_there_is_one_and_health_on_this_machine_does_not(tmp_path: Path, broker: Mosquitto) -> None:
    """What watches a service on its own machine, systemd or Uptime Kuma, has no token."""
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings="")
    bridge.config.write_text(bridge.config.read_text().replace("[admin]", '[admin]\ntoken = "a-long-enough-token"'))
    with bridge as running:
        assert [running.get(path)[0] for path in ("/healthz", "/readyz", "/metrics")] == [200, 200, 401]
        url = f"http://127.0.0.1:{bridge.admin_port}"
        assert request("GET", url + "/metrics", headers={"Authorization": "bearer a-long-enough-token"})[0] == 200
        assert request("POST", url + "/metrics", b"x", {"Authorization": "Bearer a-long-enough-token"})[0] == 405
        assert request("GET", url + "/queue/list")[0] == 404, "the queue is not on the network"
        assert request("GET", url + "/healthz", headers={"Host": "evil.example"})[0] == 401
        assert {request("GET", url + "/metrics", headers={"Authorization": "Bearer wrong"})[0] for _ in range(20)} == {401}
        assert request("GET", url + "/metrics", headers={"Authorization": "Bearer a-long-enough-token"})[0] == 429
        assert running.get("/healthz")[0] == 200


def test_a_name_that_was_made_to_lead_here_reads_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    with Daemon(tmp_path / "bridge", broker=broker.url, mappings="") as bridge:
        url = f"http://127.0.0.1:{bridge.admin_port}/metrics"
        assert request("GET", url, headers={"Host": f"evil.example:{bridge.admin_port}"})[0] == 421
        assert request("GET", url, headers={"Host": f"localhost:{bridge.admin_port}"})[0] == 200


def test_systemd_is_told_ready_before_the_broker_is_there_and_fed_signs_of_life(tmp_path: Path) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=f"mqtt://127.0.0.1:{free_port()}", mappings="")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        with bridge.launch(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="300000"):
            told = {manager.recv(4096) for _ in range(3)}
            assert b"READY=1" in told
            assert b"WATCHDOG=1" in told
            assert bridge.stop() == 0


def test_no_secret_and_no_payload_is_in_the_log_or_in_what_commands_print(tmp_path: Path, broker: Mosquitto) -> None:
    answers = iter([503, 400])
    with Receiver(lambda path, headers, body: Reply(next(answers, 200))) as receiver, device(broker.port) as sensor:
        mappings = events(receiver) + '[inbound.lamp]\nverify = "bearer"\nsecret = "env:LAMP_TOKEN"\ntopic = "lamp/set"\n'
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings=mappings.replace("{url}", receiver.url))
        bridge.environment["LAMP_TOKEN"] = "canary-token-of-the-lamp"
        with bridge:
            sensor.publish("hall/x", "canary-payload\nforged line")
            sensor.publish("hall/y\u2028z", "canary-payload")
            bridge.post("/hooks/lamp", b"canary-payload", Authorization="Bearer canary-token-of-the-lamp")
            bridge.post("/hooks/lamp", b"canary-payload", Authorization="Bearer canary-guess")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 0, "the events to end")
            printed = bridge.log + bridge.command("status") + bridge.command("queue", "list") + bridge.command("check") + bridge.get("/metrics")[1]
            for secret in ("canary-token-of-the-lamp", "canary-guess", "canary-payload", SECRET.removeprefix("whsec_")):
                assert secret not in printed
            assert "forged line" not in bridge.log


@pytest.mark.parametrize("arguments", [["--help"], *[[name, "--help"] for name in ("run", "check", "demo", "try", "queue", "status", "resume", "secret", "version")]])
def test_every_command_has_help_and_the_commands_an_example(arguments: list[str]) -> None:
    run = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, env={**os.environ}, check=True)
    assert "mqtthook" in run.stdout
    assert len(arguments) == 1 or "Example" in run.stdout


def test_a_command_that_needs_no_secret_works_for_who_may_not_read_them(tmp_path: Path, broker: Mosquitto) -> None:
    bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings='[inbound.lamp]\nverify = "bearer"\nsecret = "credential:lamp"\ntopic = "lamp/set"\n')
    assert "nothing waits" in bridge.command("queue", "list")
    assert "no daemon runs" in bridge.command("status", code=1)
    assert "systemd gave no credentials" in bridge.command("check", code=78)
