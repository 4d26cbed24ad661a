"""What was seen, and what is said of it: each row of the table is met here, and each threshold from both sides."""

import string
from typing import Any

import pytest

from bridge.rules.diagnosis import (
    CERTIFICATE_S,
    FREE_BYTES,
    OLD_S,
    SKEW_S,
    BrokerFile,
    Examination,
    Heard,
    Machine,
    Reached,
    broker_file,
    of_broker,
    of_broker_file,
    of_certificate,
    of_client_id,
    of_daemon,
    of_machine,
    of_outbox,
    of_receiver,
    of_secret,
)
from bridge.rules.findings import ROWS, Finding, finding
from bridge.rules.topics import Filter

NOW = 1_764_000_000.0
GIB = 1 << 30

# Said by the command itself: tests/system/test_doctor.py has each.
BY_THE_COMMAND = {"daemon-away", "daemon-mute", "config-changed", "config-readable", "broker-unasked", "look-hangs"}

WELL = {"imbalance": 0, "connected": True, "broker": "connected", "sessions_lost": 0, "full": False, "used_bytes": 1, "max_bytes": 100, "oldest_at": None, "mappings": {}, "destinations": {}}
TAKEN = "another client seems to use the client_id 'pi': give each its own in [mqtt]"  # the session's words


def daemon(**changed: Any) -> list[Finding]:
    return list(of_daemon(WELL | changed, now=NOW))


def mapping(**changed: Any) -> dict[str, Any]:
    return {"mappings": {"hall": {"stopped": False, "dead_letters": 0, **changed}}}


def destination(state: str, **changed: Any) -> dict[str, Any]:
    return {"destinations": {"crm": {"waiting": 3, "failures": 0, "state": state, "disabled": None, **changed}}}


def machine(**seen: Any) -> list[Finding]:
    fine = {"clock_set": True, "installed_at": NOW - 9e6, "free_bytes": 8 * GIB, "disk_bytes": 32 * GIB}
    return list(of_machine(Machine(**(fine | seen)), outbox="/var/lib/mqtthook", growth_bytes=GIB, now=NOW))


def broker(*heard: Heard, alone: bool = False, **seen: Any) -> list[Finding]:
    examination = Examination(heard=heard, **seen)
    wants, hooks = {"hall": (Filter.parse("hall/{what}"),), "all": (Filter.parse("#"),)}, {"lamp": Filter.parse("lamp/+/set")}
    return list(of_broker(examination, wants=wants, hooks=hooks, status_topic="mqtthook/status", alone=alone))


def heard(topic: str, *, qos: int = 1, retained: bool = True, payload: bytes = b"on") -> Heard:
    return Heard(topic=topic, qos=qos, retained=retained, payload=payload)


def receiver(**seen: Any) -> list[Finding]:
    return list(of_receiver("destination crm", Reached(**seen), for_s=259_200, now=NOW))


def file(text: str) -> list[Finding]:
    return list(of_broker_file(broker_file([text])))


CASES: list[tuple[str, list[Finding], str]] = [
    ("ledger", daemon(imbalance=-2), "doesn't add up, by -2"),
    ("broker-away", daemon(connected=False, broker="no answer from pi:1883"), "no answer from pi:1883"),
    ("client-id-twice", daemon(connected=False, broker=TAKEN), "client_id 'pi'"),
    ("sessions-lost", daemon(sessions_lost=2), "2 times"),
    ("outbox-full", daemon(full=True, used_bytes=100), "full"),
    ("outbox-damaged", daemon(damage="the outbox was damaged, and a new one is used: look at the disk, then delete that file"), "a new one is used"),
    ("outbox-near-full", daemon(used_bytes=80 << 20, max_bytes=100 << 20), "80.0 MiB of 100.0 MiB"),
    ("waits-long", daemon(oldest_at=NOW - OLD_S - 1), "1h"),
    ("storm", daemon(**mapping(stopped=True)), "storm"),
    ("dead-letters", daemon(**mapping(dead_letters=4)), "4 dead letters"),
    ("destination-disabled", daemon(**destination("disabled", disabled="status 410")), "status 410"),
    ("destination-paused", daemon(**destination("paused")), "paused"),
    ("destination-failing", daemon(**destination("failing", failures=7)), "last 7 attempts"),
    ("destination-failing", daemon(**destination("breaker open", failures=7)), "last 7 attempts"),
    ("destination-gone", daemon(**destination("not in the config any more", disabled="it is not in the config any more")), "3 events wait"),
    ("client-id-common", list(of_client_id("mqtthook-raspberrypi", "raspberrypi")), "mqtthook-raspberrypi"),
    ("daemon-not-enabled", machine(enabled=False), "not started at boot"),
    ("clock-past", machine(installed_at=NOW + 9e6), "2025-11-24 16:00 UTC"),
    ("clock-unset", machine(clock_set=False), "nobody has set the clock"),
    ("disk-read-only", machine(read_only=True, free_bytes=0), "/var/lib/mqtthook can only be read"),
    ("disk-full", machine(free_bytes=FREE_BYTES - 1), "200.0 MiB are free"),
    ("disk-small", machine(free_bytes=GIB - 1), "may grow by 1024.0 MiB"),
    ("power-now", machine(throttled=0x50005), "too low now"),
    ("power-before", machine(throttled=0x50000), "at some time"),
    ("power-before", machine(low_voltage=True), "at some time"),
    ("too-hot", machine(throttled=0x8), "too hot"),
    ("broker-away", broker(problem="no connection to pi:1883: Connection refused"), "Connection refused"),
    ("broker-refuses-filter", broker(refused=("hall/+", "lamp/+/set", "mqtthook/status")), "hall/+"),
    ("broker-qos", broker(properties={"MaximumQoS": 0}), "above QoS 0"),
    ("broker-retain", broker(properties={"RetainAvailable": 0}), "no retained"),
    ("broker-packet", broker(properties={"MaximumPacketSize": 2_048}), "2.0 KiB"),
    ("broker-window", broker(properties={"ReceiveMaximum": 4}), "4 publishes"),
    ("broker-dropped", broker(heard("$SYS/broker/publish/messages/dropped", payload=b"17")), "dropped 17"),
    ("somebody-online", broker(heard("mqtthook/status", payload=b"online"), alone=True), 'says "online"'),
    ("qos-0", broker(heard("garden/x", qos=0, retained=False)), "garden/x is published with QoS 0"),
    ("retained-command", broker(heard("lamp/7/set")), "lamp/7/set"),
    ("broker-forgets", file("max_queued_messages 0\n"), "nothing on disk"),
    ("broker-queue", file("persistence true\n"), "keeps 1000 messages"),
    ("receiver-away", receiver(problem="the name crm can't be found", do="getent hosts crm"), "can't be found"),
    ("clock-skew", receiver(skew_s=-SKEW_S - 60), "differ by 2m"),
    ("certificate-ending", receiver(certificate_ends_at=NOW + 86_400), "ends in 1d"),
    ("certificate-ended", receiver(certificate_ends_at=NOW - 3_600), "ended 1h ago"),
    ("secret-missing", list(of_secret("outbound.a.secret", "/etc/s", None)), "no file /etc/s"),
    ("secret-readable", list(of_secret("outbound.a.secret", "/etc/s", 0o644)), "mode 644"),
    ("outbox-readable", list(of_outbox("outbox.db", 0o640)), "mode 640"),
]


@pytest.mark.parametrize(("kind", "found", "expected"), CASES, ids=[f"{kind}-{n}" for n, (kind, _, _) in enumerate(CASES)])
def test_what_is_wrong_is_said_in_the_words_of_its_row(kind: str, found: list[Finding], expected: str) -> None:
    assert [each.kind for each in found] == [kind]
    assert expected in found[0].what
    assert found[0].level == ROWS[kind].level
    assert found[0].subject
    assert "{" not in found[0].what + found[0].why + found[0].do


def test_every_row_is_met() -> None:
    assert {kind for kind, _, _ in CASES} | BY_THE_COMMAND == set(ROWS)


@pytest.mark.parametrize("kind", ROWS)
def test_a_row_says_what_and_why_and_what_to_type(kind: str) -> None:
    row = ROWS[kind]
    assert all((row.what, row.why, row.do))
    names = {name for text in row[1:] for _, name, _, _ in string.Formatter().parse(text) if name}
    filled = finding(kind, "x", **dict.fromkeys(names - {"subject"}, "VALUE"))
    assert len(filled.what) <= 130, "it stands in one line of a terminal, or nearly"
    assert not filled.what.endswith(".")


@pytest.mark.parametrize(
    "found",
    [
        daemon(),
        daemon(oldest_at=NOW - OLD_S + 1, used_bytes=79, **mapping()),
        daemon(**destination("ok")),
        list(of_client_id("mqtthook-kitchen-pi", "kitchen-pi")),
        list(of_client_id("house", "raspberrypi")),
        machine(),
        machine(enabled=True, throttled=0, installed_at=NOW + 3_600),
        machine(clock_set=None, installed_at=None, enabled=None, throttled=None),
        list(of_machine(Machine(free_bytes=FREE_BYTES - 1, disk_bytes=GIB), outbox="x", growth_bytes=0, now=NOW)),
        broker(),
        broker(heard("mqtthook/status", payload=b"online", qos=1)),
        broker(heard("mqtthook/status", payload=b"offline"), alone=True),
        broker(heard("lamp/7/set", payload=b""), heard("lamp/7/state"), heard("lamp/7/set", retained=False)),
        broker(heard("$SYS/broker/publish/messages/dropped", payload=b"0", qos=1)),
        broker(heard("$SYS/broker/version", qos=0)),
        broker(properties={"MaximumQoS": 1, "RetainAvailable": 1, "MaximumPacketSize": 1 << 20, "ReceiveMaximum": 20}),
        file("# persistence false\npersistence true\nmax_queued_messages 5000\nlistener 1883\n"),
        file("persistence TRUE\nmax_queued_messages 0\n"),
        receiver(),
        receiver(certificate_ends_at=NOW + CERTIFICATE_S + 1, skew_s=SKEW_S),
        list(of_certificate("x", NOW + CERTIFICATE_S + 1, now=NOW, do="y")),
        list(of_secret("x", "/etc/s", 0o640)),
        list(of_outbox("outbox.db", 0o600)),
    ],
)
def test_nothing_is_said_of_what_is_well(found: list[Finding]) -> None:
    assert found == []


def test_a_house_of_qos_0_is_one_finding_for_each_mapping() -> None:
    found = broker(*(heard(f"hall/{n}", qos=0) for n in range(200)))
    assert [(each.kind, each.subject) for each in found] == [("qos-0", "outbound.hall"), ("qos-0", "outbound.all")]


def test_files_of_the_broker_are_read_one_after_the_other() -> None:
    assert broker_file(["persistence true\nmax_queued_messages 10", "max_queued_messages 20\nmax_queued_messages"]) == BrokerFile(persistence=True, queue=20)
    assert broker_file(["max_queued_messages many"]).queue == 1_000
    assert broker_file([]) == BrokerFile(persistence=False, queue=1_000)
