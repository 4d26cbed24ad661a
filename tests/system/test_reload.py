"""A config that is read anew while the bridge runs: what is right counts at once, what is wrong changes nothing, and nothing is lost."""

import http.client
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from tests.rig.client import device
from tests.rig.daemon import SECRET, Daemon, ledger_adds_up, request
from tests.rig.mosquitto import Mosquitto
from tests.rig.ports import free_port, is_open
from tests.rig.receiver import Receiver, Reply
from tests.rig.wait import until

PATIENT = "breaker = { failures = 1000 }"  # else what is kept of an open one would hold it back
TOKEN = "correct-horse-battery"


def mapping(name: str, url: str, topic: str | None = None, more: str = "") -> str:
    return f'\n[outbound.{name}]\ntopic = "{topic or name}/#"\nurl = "{url}"\nsecret = "{SECRET}"\nretry = {{ first = "100ms", factor = 1, max = "200ms", for = "1h" }}\n{more}\n'


def hook(name: str, topic: str) -> str:
    return f'\n[inbound.{name}]\nverify = "bearer"\nsecret = "{TOKEN}"\ntopic = "{topic}"\n'


class House:
    """A running bridge whose config is edited."""

    def __init__(self, directory: Path, broker: Mosquitto, mappings: str, *, top: str = "") -> None:
        self.bridge = Daemon(directory, broker=broker.url, mappings=mappings)
        self.top = top
        self.base = self.bridge.config.read_text().replace(mappings, "")
        self.write(mappings)

    def write(self, mappings: str, *, edit: Callable[[str], str] = lambda text: text) -> None:
        """Write the config as an editor does: a new file in the place of the old."""
        new = self.bridge.config.with_suffix(".new")
        new.write_text(edit(self.base.replace("version = 1\n", f"version = 1\n{self.top}", 1)) + mappings)
        new.chmod(0o600)
        os.replace(new, self.bridge.config)


def connections(bridge: Daemon) -> int:
    return bridge.log.count("broker connected")


def payloads(receiver: Receiver) -> list[object]:
    return [json.loads(received.body)["data"]["payload"] for received in receiver.accepted]


def post(bridge: Daemon, name: str) -> int:
    return bridge.post(f"/hooks/{name}", b'"on"', Authorization=f"Bearer {TOKEN}")[0]


def http_connection(port: int) -> "closing[http.client.HTTPConnection]":
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15))


def posted(caller: http.client.HTTPConnection, body: bytes = b'"on"') -> int:
    """Return the status of an answer on a connection that stays."""
    caller.request("POST", "/hooks/lamp", body, {"Authorization": f"Bearer {TOKEN}"})
    with caller.getresponse() as answer:
        answer.read()
        return answer.status


def test_mappings_hooks_and_destinations_come_change_and_go_on_one_connection(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as one, Receiver() as other, device(broker.port, "lamp/#") as house:
        made = House(tmp_path / "bridge", broker, mapping("hall", one.url) + mapping("door", one.url) + hook("lamp", "lamp/set"))
        with made.bridge as bridge:
            assert bridge.json("reload") == {"added": [], "removed": [], "changed": [], "anew": []}
            house.publish("hall/x", "1")
            until(lambda: payloads(one) == [1], "the first event")
            made.write(mapping("hall", other.url) + mapping("cellar", one.url) + hook("lamp", "lamp/put") + hook("bell", "lamp/bell"))
            text = bridge.command("reload")
            assert text == "added    outbound.cellar\nadded    inbound.bell\nremoved  outbound.door\nchanged  outbound.hall\nchanged  inbound.lamp\n"
            for topic, payload in (("hall/x", "2"), ("cellar/x", "3"), ("door/x", "4")):
                house.publish(topic, payload)
            until(lambda: payloads(other) == [2] and payloads(one) == [1, 3], "the changed and the new mapping")
            assert post(bridge, "lamp") == post(bridge, "bell") == 200
            until(lambda: {heard.topic for heard in house.heard} == {"lamp/put", "lamp/bell"}, "the changed and the new hook")
            assert connections(bridge) == 1
            assert "read anew" in bridge.log
            assert "added outbound.cellar" in bridge.command("status")
            metrics = bridge.metrics()
            assert metrics["mqtthook_messages_unmatched_total"] == 0, "what nobody wants any more is not subscribed any more"
            assert metrics['mqtthook_config_reloads_total{result="applied"}'] == 2
            assert all(ledger_adds_up(metrics, name) for name in ("hall", "cellar", "lamp", "bell"))


def test_a_wrong_config_changes_nothing_and_is_told_everywhere(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port, "mqtthook/status/#") as house:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url))
        with made.bridge as bridge:
            made.write(mapping("hall", receiver.url) + "\n[outbound.door]\ntopic = 5\nurll = 'x'\n")
            text = bridge.command("reload", code=78)
            assert "outbound.door.topic" in text
            assert "urll" in text
            assert bridge.process is not None
            bridge.process.send_signal(signal.SIGHUP)
            until(lambda: bridge.metrics()['mqtthook_config_reloads_total{result="refused"}'] == 2, "the signal to be obeyed")
            assert bridge.metrics()["mqtthook_config_refused"] == 1
            assert bridge.log.count("config not used, the one before it goes on running") >= 4
            until(lambda: json.loads(house.payloads("mqtthook/status/config")[-1])["state"] == "refused", "the status topic to tell")
            house.publish("hall/x", "1")
            until(lambda: payloads(receiver) == [1], "the old mapping to go on")
            made.write(mapping("hall", receiver.url))
            assert "the file has errors" in bridge.command("status")
            assert bridge.command("reload") == "nothing has changed\n"
            assert "the file has errors" not in bridge.command("status")
            assert bridge.metrics()["mqtthook_config_refused"] == 0


def test_a_file_that_changes_is_read_by_itself_where_that_is_wanted(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as house:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url), top="auto_reload = true\n")
        with made.bridge as bridge:
            made.write(mapping("hall", receiver.url) + mapping("door", receiver.url))
            until(lambda: "added outbound.door" in bridge.log, "the file to be looked at")
            house.publish("door/x", "1")
            until(lambda: payloads(receiver) == [1], "the new mapping")


def test_events_of_a_destination_that_goes_wait_and_go_on_when_it_is_back(tmp_path: Path, broker: Mosquitto) -> None:
    down = [True]
    with Receiver(lambda path, headers, body: Reply(503 if down[0] else 200)) as receiver, device(broker.port) as house:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url, more=PATIENT))
        with made.bridge as bridge:
            for n in range(5):
                house.publish("hall/x", str(n))
            until(lambda: len(bridge.json("queue", "list")) == 5 and receiver.received, "five to wait")
            made.write("")
            assert bridge.json("reload")["removed"] == ["outbound.hall"]
            down[0] = False
            assert len(bridge.json("queue", "list")) == 5
            assert bridge.json("status")["destinations"]["hall"]["state"] == "not in the config any more"
            made.write(mapping("hall", receiver.url, more=PATIENT))
            assert bridge.json("reload")["added"] == ["outbound.hall"]
            until(lambda: payloads(receiver) == [0, 1, 2, 3, 4], "all five, in order")
            assert ledger_adds_up(bridge.metrics(), "hall")


def test_a_disabled_destination_is_resumed_by_a_reload_that_changes_it_and_by_no_other(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(lambda path, headers, body: Reply(410 if path == "/old" else 200)) as receiver, device(broker.port) as house:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url + "/old"))
        with made.bridge as bridge:
            house.publish("hall/x", "1")
            until(lambda: bridge.metrics()['mqtthook_destination_disabled{destination="hall"}'] == 1, "it to be disabled")
            made.write(mapping("hall", receiver.url + "/old") + mapping("door", receiver.url))
            bridge.command("reload")
            assert bridge.metrics()['mqtthook_destination_disabled{destination="hall"}'] == 1
            made.write(mapping("hall", receiver.url + "/new") + mapping("door", receiver.url))
            bridge.command("reload")
            assert bridge.metrics()['mqtthook_destination_disabled{destination="hall"}'] == 0
            house.publish("hall/x", "2")
            until(lambda: payloads(receiver) == [2], "the next event")


def inline(url: str) -> str:
    return f'\n[outbound.hall]\ntopic = "hall/+"\nurl = "{url}"\nsign = "none"\n'


def named(url: str) -> str:
    return f'\n[destination.crm]\nurl = "{url}"\nsign = "none"\n[outbound.hall]\ntopic = "hall/+"\nto = "crm"\n'


@pytest.mark.parametrize("how", ["reload", "restart"])
@pytest.mark.parametrize("written", [inline, named])
def test_what_waits_for_a_receiver_that_has_moved_goes_to_where_it_is_now(tmp_path: Path, broker: Mosquitto, written: Callable[[str], str], how: str) -> None:
    name = "crm" if written is named else "hall"
    with Receiver(lambda path, headers, body: Reply(410)) as gone, Receiver() as here, device(broker.port) as house:
        made = House(tmp_path / "bridge", broker, written(gone.url + "/x"))
        with made.bridge as bridge:
            house.publish("hall/a", "1")
            until(lambda: bridge.metrics()[f'mqtthook_destination_disabled{{destination="{name}"}}'] == 1, "it to be disabled")
            house.publish("hall/b", "2")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 1, "one to wait")
            if how == "restart":
                bridge.stop()
            made.write(written(here.url + "/{{ topic }}"))
            if how == "restart":
                bridge.start()
            else:
                bridge.command("reload")
            until(lambda: payloads(here) == [2], "what waited")
            house.publish("hall/c", "3")
            until(lambda: payloads(here) == [2, 3], "what came after")
            bridge.command("queue", "retry", "--dead")
            until(lambda: payloads(here) == [2, 3, 1], "what was dead")
            assert [received.path for received in here.accepted] == ["/hall%2Fb", "/hall%2Fc", "/hall%2Fa"]
            assert len(gone.received) == 1
            assert bridge.metrics()[f'mqtthook_destination_disabled{{destination="{name}"}}'] == 0


def test_what_does_not_tell_what_the_new_url_needs_keeps_its_own_and_disables_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver(lambda path, headers, body: Reply(410)) as gone, Receiver() as here, device(broker.port) as house:
        made = House(tmp_path / "bridge", broker, inline(gone.url))
        with made.bridge as bridge:
            house.publish("hall/a", "1")
            until(lambda: bridge.metrics()['mqtthook_destination_disabled{destination="hall"}'] == 1, "it to be disabled")
            house.publish("hall/b", "2")
            until(lambda: bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 1, "one to wait")
            made.write(inline(here.url + "/{{ payload }}"))
            bridge.command("reload")
            assert "waiting events may keep the url they were made with, as the new one needs 'payload'" in bridge.log
            until(lambda: len(gone.received) == 2 and bridge.metrics()['mqtthook_ledger_waiting{mapping="hall"}'] == 0, "what waited to go where it was to go")
            house.publish("hall/c", "3")
            until(lambda: payloads(here) == [3], "what came after")
            assert "queue move" in bridge.log
            assert "levels is missing" not in bridge.log


def edited(**tables: str) -> Callable[[str], str]:
    """Return an edit that puts other lines into tables that are there; other ones in the place of `listen`, if that is among them."""

    def edit(text: str) -> str:
        for table, lines in tables.items():
            head, _, rest = text.partition(f"[{table}]\n")
            text = f"{head}[{table}]\n{lines}\n" + (rest.partition("\n")[2] if lines.startswith("listen") else rest)
        return text

    return edit


def at(port: int, address: str = "127.0.0.1") -> str:
    return f'listen = "{address}:{port}"'


def test_listeners_move_to_another_address_while_all_else_goes_on(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = hook("lamp", "lamp/set")
    made = House(tmp_path / "bridge", broker, mappings)
    with made.bridge as bridge, http_connection(bridge.hooks_port) as caller:
        assert posted(caller) == 200
        first, hooks, admin = (bridge.hooks_port, bridge.admin_port), free_port(), free_port()
        made.write(mappings, edit=edited(http=at(hooks), admin=at(admin)))
        assert bridge.json("reload") == {"added": [], "removed": [], "changed": ["http", "admin"], "anew": []}
        assert (is_open(first[0]), is_open(first[1])) == (False, False)
        assert posted(caller) == 200, "who was connected gets an answer yet"
        bridge.hooks_port, bridge.admin_port = hooks, admin
        assert post(bridge, "lamp") == 200
        assert bridge.metrics()['mqtthook_ledger_in_total{mapping="lamp"}'] == 3
        made.write(mappings, edit=edited(http=at(admin), admin=at(hooks)))
        bridge.command("reload")
        bridge.hooks_port, bridge.admin_port = admin, hooks
        assert post(bridge, "lamp") == 200, "the two change places"
        made.write(mappings, edit=edited(http=at(admin, "0.0.0.0"), admin=at(hooks)))
        bridge.command("reload")
        assert request("POST", f"http://127.0.0.2:{admin}/hooks/lamp", b"1", {"Authorization": f"Bearer {TOKEN}"})[0] == 200, "the same port on every address"
        made.write("", edit=edited(http=at(admin, "0.0.0.0"), admin=at(hooks)))
        bridge.command("reload")
        assert not is_open(admin), "without hooks nobody listens for them"
        made.write(mappings, edit=edited(http=at(admin), admin=at(hooks)))
        bridge.command("reload")
        assert post(bridge, "lamp") == 200
        assert connections(bridge) == 1
        assert bridge.metrics()['mqtthook_ledger_in_total{mapping="lamp"}'] == 6


@pytest.mark.parametrize("more", ["", "keepalive = '70s'"])
def test_an_address_that_is_taken_is_told_to_who_asks_and_all_goes_on_as_before(tmp_path: Path, broker: Mosquitto, more: str) -> None:
    """Also where the parts would have had to start anew for something else that changed."""
    mappings = hook("lamp", "lamp/set")
    with Receiver() as somebody:
        made = House(tmp_path / "bridge", broker, mappings)
        with made.bridge as bridge:
            for table in ("http", "admin"):
                made.write(mappings, edit=edited(mqtt=more, **{table: at(somebody.port)}))
                assert f"{table}.listen: 127.0.0.1:{somebody.port} can't be listened on" in bridge.command("reload", code=1)
                assert "can't be listened on" in bridge.command("reload", "--json", code=1)
            assert post(bridge, "lamp") == 200
            assert connections(bridge) == 1
            assert bridge.metrics()["mqtthook_config_refused"] == 1


def test_limits_tokens_and_bounds_count_at_once_and_disturb_nothing(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = hook("lamp", "lamp/set")
    made = House(tmp_path / "bridge", broker, mappings)
    with made.bridge as bridge, http_connection(bridge.hooks_port) as caller:
        assert posted(caller, b"x" * 2_000) == 200
        small = edited(http='max_body = "1KiB"', admin='token = "a-long-enough-token"', store='durability = "strict"\nmax_size = "64MiB"')
        made.write(mappings, edit=small)
        assert bridge.json("reload") == {"added": [], "removed": [], "changed": ["store", "http", "admin"], "anew": []}
        assert posted(caller, b"x" * 2_000) == 413
        assert bridge.get("/metrics")[0] == 401
        assert request("GET", f"http://127.0.0.1:{bridge.admin_port}/metrics", headers={"Authorization": "Bearer a-long-enough-token"})[0] == 200
        assert bridge.json("status")["max_bytes"] == 64 * 2**20
        made.write(mappings)
        bridge.command("reload")
        assert bridge.metrics()['mqtthook_ledger_in_total{mapping="lamp"}'] == 1
        assert bridge.metrics()["mqtthook_outbox_max_bytes"] == 256 * 2**20
        assert connections(bridge) == 1


def test_what_the_broker_is_told_starts_anew_and_no_hook_s_caller_is_refused(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = hook("lamp", "lamp/set") + 'answer = "accepted"\n'
    with device(broker.port, "lamp/set") as house:
        made = House(tmp_path / "bridge", broker, mappings)
        with made.bridge as bridge:
            answers, done = Counter[int](), threading.Event()

            def call() -> None:
                while not done.is_set():
                    answers[post(bridge, "lamp")] += 1

            threads = [threading.Thread(target=call) for _ in range(4)]
            for thread in threads:
                thread.start()
            for n in range(3):
                made.write(mappings, edit=edited(mqtt=f"keepalive = '7{n}s'", http=at(bridge.hooks_port, ("127.0.0.1", "0.0.0.0")[n % 2])))
                assert bridge.json("reload")["anew"] == ["mqtt"]
                assert bridge.json("status")["config"]["applied"] == n + 1, "it is told when it runs"
            done.set()
            for thread in threads:
                thread.join()
            assert set(answers) == {202}
            until(lambda: len(house.heard) == answers[202], "every command")


def test_under_load_no_caller_is_refused_whatever_changes_of_the_listeners(tmp_path: Path, broker: Mosquitto) -> None:
    mappings = hook("lamp", "lamp/set")
    made = House(tmp_path / "bridge", broker, mappings)
    with made.bridge as bridge:
        port, answers, done = bridge.hooks_port, Counter[int](), threading.Event()

        def call() -> None:
            while not done.is_set():
                answers[post(bridge, "lamp")] += 1

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        for tables in (
            {"http": 'max_body = "1KiB"'},
            {"http": at(port, "0.0.0.0")},
            {"http": at(port, "127.0.0.1") + '\ntrusted_proxies = ["127.0.0.1"]', "admin": at(free_port())},
            {"http": at(port, "0.0.0.0"), "store": 'history = "1d"'},
            {"admin": 'token = "a-long-enough-token"'},
        ):
            made.write(mappings, edit=edited(**tables))
            assert bridge.json("reload")["anew"] == []
        done.set()
        for thread in threads:
            thread.join()
        assert set(answers) == {200}
        assert bridge.json("status")["mappings"]["lamp"]["received"] == answers[200], "counted through"
        assert connections(bridge) == 1


def test_an_outbox_that_can_not_be_opened_is_told_to_who_asks(tmp_path: Path, broker: Mosquitto) -> None:
    made = House(tmp_path / "bridge", broker, hook("lamp", "lamp/set"))
    with made.bridge as bridge:
        (tmp_path / "bridge" / "other.db").write_bytes(b"no outbox at all, but something else" * 100)
        made.write(hook("lamp", "lamp/set"), edit=edited(store='path = "other.db"'))
        assert "other.db" in bridge.command("reload", code=1)
        assert post(bridge, "lamp") == 200


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_under_load_twenty_reloads_half_of_them_broken_lose_nothing(tmp_path: Path, protocol: str) -> None:
    events, hooked = 3_000, [0]
    broker = Mosquitto(tmp_path / "mosquitto", lines=("max_queued_messages 0",))  # however slow this machine is
    with broker, Receiver() as receiver, device(broker.port, "lamp/#") as house:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url) + hook("lamp", "lamp/set"))
        made.base = made.base.replace("[mqtt]\n", f'[mqtt]\nprotocol = "{protocol}"\n')
        made.write(mapping("hall", receiver.url) + hook("lamp", "lamp/set"))
        with made.bridge as bridge:
            done = threading.Event()

            def publish() -> None:
                for n in range(events):
                    house.publish("hall/x", str(n), wait=n % 50 == 49)  # as fast as they are taken: some 500 a second and more
                done.set()

            def call() -> None:
                while not done.is_set():
                    hooked[0] += post(bridge, "lamp") == 200

            threads = [threading.Thread(target=publish), threading.Thread(target=call)]
            for thread in threads:
                thread.start()
            for n in range(20):
                same = mapping("hall", receiver.url, more=f"headers = {{ X-Turn = '{n}' }}") + hook("lamp", "lamp/set")
                made.write(same + (mapping(f"other{n}", receiver.url) if n % 2 else "[outbound.broken]\n"))
                bridge.command("reload", code=0 if n % 2 else 78)
            for thread in threads:
                thread.join()
            until(lambda: len({received.id for received in receiver.accepted}) == events, "all of them", within=60)
            assert sorted(int(str(payload)) for payload in payloads(receiver)) == list(range(events)), "each once"
            assert connections(bridge) == 1
            until(lambda: len(house.heard) == hooked[0], "every command")
            assert ledger_adds_up(bridge.metrics(), "hall")
            assert ledger_adds_up(bridge.metrics(), "lamp")


def test_a_new_hook_knows_at_once_what_the_broker_keeps_of_its_device(tmp_path: Path, broker: Mosquitto) -> None:
    with device(broker.port, "lamp/set") as house:
        house.publish("lamp/status", b"offline", retain=True)
        made = House(tmp_path / "bridge", broker, hook("lamp", "lamp/set") + 'confirm = { topic = "lamp/status", timeout = "100ms" }\n')
        with made.bridge as bridge:
            assert post(bridge, "lamp") == 504
            broker.send(signal.SIGSTOP)
            try:
                made.write(hook("lamp", "lamp/set") + 'available = { topic = "lamp/status" }\n')
                bridge.command("reload")
                answers: list[int] = []
                asking = threading.Thread(target=lambda: answers.append(post(bridge, "lamp")))
                asking.start()
                asking.join(0.3)  # for it to be asked before the broker tells; where it is not, this test proves less
            finally:
                broker.send(signal.SIGCONT)
            asking.join()
            assert answers == [409]
            assert len(house.heard) == 1


def kept(name: str, receiver: Receiver, topic: str, more: str = 'retained = "use"') -> str:
    return f'\n[outbound.{name}]\ntopic = "{topic}"\nurl = "{receiver.url}/{name}"\nsecret = "{SECRET}"\n{more}\n'


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_a_new_mapping_gets_what_the_broker_keeps_whoever_takes_it_already(tmp_path: Path, broker: Mosquitto, protocol: str) -> None:
    """Its topic is subscribed by the wider filter of another, which wants none of it or has had it; live messages still come once."""
    with Receiver() as receiver, device(broker.port) as sensor:

        def got() -> dict[str, list[str]]:
            found: dict[str, list[str]] = {}
            for received in receiver.accepted:
                found.setdefault(received.path[1:], []).append(json.loads(received.body)["data"]["topic"])
            return {name: sorted(topics) for name, topics in found.items()}

        for topic in ("y/a", "y/b", "y/b/c", "z/a"):
            sensor.publish(topic, f'"{topic}"', retain=True)
        before = kept("live", receiver, "y/#", "") + kept("had", receiver, "y/+") + kept("own", receiver, "z/a", "")
        house = House(tmp_path / "bridge", broker, before)
        house.base = house.base.replace("[mqtt]", f'[mqtt]\nprotocol = "{protocol}"')
        house.write(before)
        with house.bridge as bridge:
            until(lambda: got() == {"had": ["y/a", "y/b"]}, "what is new at the start")
            added = kept("late", receiver, "y/b") + kept("wide", receiver, "y/b/#", 'retained = "changed"') + kept("twin", receiver, "y/b")
            house.write(before.replace('z/a"', 'z/a"\nretained = "use"') + added)
            bridge.command("reload")
            expected = {"had": ["y/a", "y/b"], "late": ["y/b"], "twin": ["y/b"], "wide": ["y/b", "y/b/c"], "own": ["z/a"]}
            if protocol == "5":
                until(lambda: got() == expected, f"all of it: {got()}")
            else:  # nothing tells for whom a replay is
                until(lambda: {name: sorted(set(topics)) for name, topics in got().items()} == expected, "all of it, by one or the other more than once")
            bridge.command("reload")
            receiver.received.clear()
            sensor.publish("y/b", "1")
            sensor.publish("z/a", "1")
            sensor.publish("y/end", "1")
            live = {"had": ["y/b", "y/end"], "late": ["y/b"], "twin": ["y/b"], "wide": ["y/b"], "live": ["y/b", "y/end"], "own": ["z/a"]}
            until(lambda: got() == live, "a live message, once for each, and no replay")
            assert connections(bridge) == 1


def test_a_mapping_that_is_new_at_a_start_gets_what_the_broker_keeps_and_no_other_again(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver, device(broker.port) as sensor:

        def have(topic: str) -> list[str]:
            return [received.path for received in receiver.accepted if json.loads(received.body)["data"]["topic"] == topic]

        sensor.publish("y/b", "1", retain=True)
        before = kept("live", receiver, "y/#", "") + kept("had", receiver, "y/+")
        house = House(tmp_path / "bridge", broker, before)
        with house.bridge as bridge:
            until(lambda: [received.path for received in receiver.accepted] == ["/had"], "what is new")
            for n, added in enumerate(("", kept("late", receiver, "y/b"), kept("late", receiver, "y/b"))):
                bridge.stop()
                house.write(before + added)
                bridge.start()
                bridge.command("reload")  # which waits for the subscriptions
                sensor.publish(f"y/{n}", "1")
                until(partial(lambda topic: len(have(topic)) == 2, f"y/{n}"), "what comes after any replay")
                until(partial(lambda wanted: have("y/b") == wanted, ["/had", "/late"] if added else ["/had"]), "what is new now, and nothing else")


def test_told_to_end_while_a_config_is_read_it_ends(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        made = House(tmp_path / "bridge", broker, mapping("hall", receiver.url))
        for n in range(8):
            with made.bridge as bridge:
                assert bridge.process is not None
                made.write("".join(mapping(f"door{n}x{m}", receiver.url) for m in range(1 + 10 * n)))  # a longer one takes longer to read
                bridge.process.send_signal(signal.SIGHUP)
                assert bridge.stop() == 0
        assert "Traceback" not in bridge.log
        assert "never" not in bridge.log
