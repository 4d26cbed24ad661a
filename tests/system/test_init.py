"""`mqtthook init`: a first config that works, or none at all."""

import json
import os
import re
import shlex
import signal
import subprocess
from io import FileIO
from pathlib import Path

import pytest
from standardwebhooks import Webhook

from bridge.config.load import load
from tests.rig.client import device
from tests.rig.daemon import COMMAND, ROOT, Daemon
from tests.rig.mosquitto import SEARCHED, Mosquitto
from tests.rig.receiver import Receiver
from tests.rig.wait import until

NOBODY = "mqtt://127.0.0.1:1"
PASSWORD = "sword fish"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give an empty directory to start in."""
    (tmp_path / "new").mkdir()
    return tmp_path / "new"


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MQTTHOOK_")}
    return inherited | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | more


def run(place: Path, *arguments: str, code: int = 0, said: str = "", before: tuple[str, ...] = (), more: dict[str, str] | None = None) -> str:
    """Run a command there, expect its exit code, and return what it printed."""
    done = subprocess.run([*before, *COMMAND, *arguments], input=said, capture_output=True, text=True, cwd=place, env=environment(**more or {}), timeout=60, check=False)
    assert done.returncode == code, f"{arguments}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def names(place: Path) -> set[str]:
    return {path.name for path in place.iterdir()}


# --- what it makes ---


def test_the_whole_way_from_nothing_to_a_signed_webhook(tmp_path: Path, broker: Mosquitto) -> None:
    with Receiver() as receiver:
        bridge = Daemon(tmp_path / "bridge", broker=broker.url, mappings="")
        bridge.config.unlink()
        text = bridge.command("init", "--yes", "--broker", broker.url, "--url", f"{receiver.url}/motion")
        assert f"the broker answers at {broker.url}" in text
        bridge.command("send", "motion")
        with bridge.start(MQTTHOOK_HTTP__LISTEN=f"127.0.0.1:{bridge.hooks_port}", MQTTHOOK_ADMIN__LISTEN=f"127.0.0.1:{bridge.admin_port}"), device(broker.port) as sensor:
            sensor.publish("zigbee2mqtt/hall/motion", '{"occupancy": true}')
            until(lambda: len(receiver.received) == 2, "the webhook")
        secret = (bridge.directory / "motion.secret").read_text().strip()
        for received in receiver.received:
            Webhook(secret).verify(received.body, received.headers)


def test_all_of_it_is_for_its_owner_only(place: Path) -> None:
    run(place, "init", "--yes", "--broker", NOBODY)
    assert names(place) == {"config.toml", "motion.secret"}
    assert {path.stat().st_mode & 0o777 for path in place.iterdir()} == {0o600}
    found = json.loads(run(place, "check", "--json"))
    assert (found["outbound"], found["warnings"]) == (["motion"], [])


@pytest.mark.parametrize("topic", ["zigbee2mqtt/{room}/motion", "tele/it's here/SENSOR"])
@pytest.mark.parametrize("config", [None, "a b.toml"])
def test_the_next_steps_can_be_taken_as_they_are_printed(place: Path, topic: str, config: str | None) -> None:
    text = run(place, "init", "--yes", "--broker", NOBODY, "--topic", topic, *(["--config", config] if config else []))
    steps = [shlex.split(line)[1:] for line in re.findall(r"(mqtthook (?:check|try).*)", text.partition("\nnext\n")[2])]
    assert [step[0] for step in steps] == ["check", "try"]
    assert "1 outbound mapping" in run(place, *steps[0])
    assert run(place, *steps[1]).startswith("yes ")
    assert ("--config" in text) == (config is not None)


@pytest.mark.parametrize("variable", [{}, {"MQTTHOOK_CONFIG": "other.toml"}])
def test_it_writes_where_the_other_commands_look(place: Path, variable: dict[str, str]) -> None:
    run(place, "init", "--yes", "--unsigned", "--broker", NOBODY, more=variable)
    assert names(place) == {variable.get("MQTTHOOK_CONFIG", "config.toml")}
    run(place, "check", more=variable)


def test_a_broker_that_does_not_answer_is_no_failure(place: Path) -> None:
    text = run(place, "init", "--yes", "--broker", NOBODY)
    assert "note  no connection to 127.0.0.1:1: Connection refused. Put that right" in text


# --- questions ---


def test_it_asks_for_everything_and_an_empty_answer_is_the_default(place: Path) -> None:
    text = run(place, "init", said=f"{NOBODY}\n\n\n\n\n")
    assert "The broker's URL [mqtt://localhost:1883]: " in text
    assert "Your user name there (empty: none): " in text
    assert "The topic whose messages become webhooks [zigbee2mqtt/{room}/motion]: " in text
    assert "The receiver's URL [http://127.0.0.1:9000/motion]: " in text
    assert "Does the receiver check signatures (Standard Webhooks)? [Y/n]: " in text
    settings = load(place / "config.toml", {}).settings
    assert (settings.mqtt.url, settings.mqtt.username, settings.outbound["motion"].sign) == (NOBODY, None, "standard-webhooks")


def test_a_bad_answer_is_asked_for_again_with_the_reason(place: Path) -> None:
    said = ["localhost", NOBODY, "", "a/#/b", "door/{name}", "ftp://x", "http://{{ name }}/", "http://127.0.0.1:9/{{ nam }}", "http://127.0.0.1:9/{{ name }}", "n"]
    text = run(place, "init", said="\n".join(said) + "\n")
    reasons = ("expected mqtt://", "must be the last level", "doesn't start with http://", "only after them", "did you mean 'name'?")
    assert [reason for line in text.splitlines() if "Error: " in line for reason in reasons if reason in line] == list(reasons)
    rule = load(place / "config.toml", {}).settings.outbound["door"]
    assert (rule.url and rule.url.text, rule.sign) == (said[-2], "none")


def test_what_is_given_is_not_asked_for(place: Path) -> None:
    given = ("--broker", NOBODY, "--username", "", "--topic", "a/b", "--url", "http://127.0.0.1:9/", "--signed")
    assert "]: " not in run(place, "init", *given)
    assert names(place) == {"config.toml", "b.secret"}


def test_a_password_is_asked_for_out_of_sight_and_kept_in_a_file_of_its_own(tmp_path: Path, place: Path) -> None:
    passwords = tmp_path / "passwords"
    subprocess.run(["mosquitto_passwd", "-c", "-b", str(passwords), "me", PASSWORD], check=True, env={"PATH": SEARCHED})
    with Mosquitto(tmp_path / "mosquitto", lines=("allow_anonymous false", f"password_file {passwords}")) as broker:
        ours, theirs = os.openpty()
        os.set_blocking(ours, False)
        with FileIO(ours, "r+") as terminal:
            command = [*COMMAND, "init", "--broker", broker.url, "--topic", "a/b", "--url", "http://127.0.0.1:9/", "--unsigned"]
            process = subprocess.Popen(["setsid", "--ctty", "--wait", *command], stdin=theirs, stdout=theirs, stderr=theirs, cwd=place, env=environment())
            os.close(theirs)
            shown = answered(terminal, "Your user name there", "me")
            shown += answered(terminal, "The password", " blank first")
            shown += answered(terminal, "The password", PASSWORD)
            shown += read(terminal, "docs/install.md")
            assert process.wait(20) == 0
    assert "it starts or ends with a blank" in shown
    assert "the broker answers at" in shown
    assert PASSWORD not in shown
    assert (place / "mqtt.password").stat().st_mode & 0o777 == 0o600
    assert PASSWORD not in (place / "config.toml").read_text()
    password = load(place / "config.toml", {}).settings.mqtt.password
    assert password is not None
    assert password.get_secret_value() == PASSWORD


def answered(terminal: FileIO, question: str, answer: str) -> str:
    """Answer a question, once it is asked; return what was shown before."""
    shown = read(terminal, f"{question} (empty: none): ")
    terminal.write(answer.encode() + b"\n")
    return shown


def read(terminal: FileIO, end: str) -> str:
    """Return what a terminal shows, up to a text that comes last."""
    shown = ""

    def has_come() -> bool:
        nonlocal shown
        shown += (terminal.read(4096) or b"").decode()
        return end in shown

    until(has_come, end)
    return shown


# --- nothing by halves ---


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--broker", "localhost"), "Invalid value for --broker: 'localhost': expected mqtt://"),
        (("--broker", "mqtt://me:x@localhost"), "`username` and `password`"),
        (("--username", "a\x07b"), "Invalid value for --username: it holds U+0007"),
        (("--topic", "a/#/b"), "Invalid value for --topic: filter 'a/#/b'"),
        (("--topic", ""), "it is empty"),
        (("--topic", "a/{topic}"), "has the name of something else"),
        (("--url", "example.com"), "Invalid value for --url: the URL 'example.com' doesn't start with"),
        (("--url", "http://example.com/{{ room }}", "--topic", "a/b"), "'room' is not a name that can be used here"),
    ],
)
def test_a_bad_option_is_wrong_usage(place: Path, arguments: tuple[str, ...], reason: str) -> None:
    assert reason in run(place, "init", "--yes", *arguments, code=2)
    assert names(place) == set()


def test_a_bad_option_is_not_asked_for_instead(place: Path) -> None:
    text = run(place, "init", "--broker", "localhost", code=2)
    assert "The broker's URL" not in text


@pytest.mark.parametrize("taken", ["config.toml", "motion.secret"])
@pytest.mark.parametrize("dangling", [False, True])
def test_what_is_there_stays_as_it_is(place: Path, taken: str, dangling: bool) -> None:
    if dangling:
        (place / taken).symlink_to("nowhere")
    else:
        (place / taken).write_text("mine")
    assert f"{place / taken} is there already, and stays as it is" in run(place, "init", "--yes", "--broker", NOBODY, code=1)
    assert names(place) == {taken}
    assert dangling or (place / taken).read_text() == "mine"


def test_a_config_that_is_there_is_noticed_before_the_first_question(place: Path) -> None:
    run(place, "init", "--yes", "--broker", NOBODY)
    assert "URL" not in run(place, "init", code=1)


def test_a_missing_directory_is_named(place: Path) -> None:
    text = run(place, "init", "--config", "not yet/config.toml", code=1)
    assert f"there is no directory {place / 'not yet'}; make it first: mkdir -p '{place / 'not yet'}'" in text


def test_a_path_that_no_config_could_name_is_refused(place: Path) -> None:
    assert "a config can't name files there: it holds U+000A" in run(place, "init", "--yes", "--config", "a\nb.toml", code=1)
    assert names(place) == set()


def test_a_full_disk_leaves_nothing_behind(place: Path) -> None:
    # The secret fits into so many bytes, the config doesn't.
    text = run(place, "init", "--yes", "--broker", NOBODY, before=("prlimit", "--fsize=200"), code=1)
    assert "config.toml: the file can't be written: File too large; nothing was written" in text
    assert names(place) == set()


def test_a_variable_that_spoils_the_config_leaves_nothing_behind(place: Path) -> None:
    text = run(place, "init", "--yes", "--broker", NOBODY, code=78, more={"MQTTHOOK_LOG__LEVEL": "loud"})
    assert "environment MQTTHOOK_LOG__LEVEL" in text
    assert "nothing was written" in text
    assert names(place) == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_at_a_question_leaves_nothing_behind(place: Path, number: signal.Signals) -> None:
    with subprocess.Popen([*COMMAND, "init"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=place, env=environment()) as process:
        assert process.stdout is not None
        assert process.stdout.read(len("The broker's URL")) == b"The broker's URL"
        # As a person would: a signal between two instructions doesn't wake Python from the read that comes next.
        until(lambda: ended(process, number), "its end")
    assert process.returncode != 0
    assert names(place) == set()


def ended(process: "subprocess.Popen[bytes]", number: signal.Signals) -> bool:
    process.send_signal(number)
    return process.poll() is not None


def test_the_end_of_the_input_leaves_nothing_behind(place: Path) -> None:
    assert "Aborted!" in run(place, "init", said=f"{NOBODY}\n", code=1)
    assert names(place) == set()


def test_an_interruption_while_the_broker_is_asked_leaves_all_of_it(place: Path, broker: Mosquitto) -> None:
    broker.send(signal.SIGSTOP)
    try:
        process = subprocess.Popen([*COMMAND, "init", "--yes", "--broker", broker.url], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=place, env=environment())
        until(lambda: "config.toml" in names(place), "the config")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 1
    finally:
        broker.send(signal.SIGCONT)
    assert names(place) == {"config.toml", "motion.secret"}
    run(place, "check")
