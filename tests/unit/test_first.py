"""A first config: whatever was answered, it is one that the bridge reads back."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.config import first
from bridge.config.first import Answers
from bridge.config.load import Loaded, load
from bridge.rules.topics import Filter
from tests.rig.daemon import SECRET
from tests.rig.mappings import mapping, message, weigh

PLAIN: dict[str, Any] = {"broker": first.BROKER, "username": None, "password": None, "topic": first.TOPIC, "url": first.URL, "signed": True}
HARD = "o'brien \"x\" \\n \\ é 日本 \u202e\u00a0#"  # quotes, backslashes, what isn't printable, a comment's sign


def files(directory: Path = Path("/etc/mqtthook"), **answers: Any) -> dict[Path, str]:
    return first.files(Answers(**PLAIN | answers), directory / "config.toml", secret=SECRET)


def written(directory: Path, text: str = "", **answers: Any) -> Loaded:
    """Write the files and read them as the bridge does; *text* is put in place of the config's, if there is any."""
    for path, content in files(directory, **answers).items():
        path.write_text(text if text and path.suffix == ".toml" else content)
        path.chmod(0o600)
    return load(directory / "config.toml", {"LIGHT_SECRET": "a-long-enough-token"})


def test_it_is_what_was_answered(tmp_path: Path) -> None:
    found = written(tmp_path, broker="mqtts://pi.local:8884", username=HARD, password=HARD[:-2], topic='haus/"Küche"\\n/{raum}/#', url="https://example.com/a?b='{{ raum }}'")
    mqtt, rule = found.settings.mqtt, found.settings.outbound["kuche-n"]
    assert (mqtt.url, mqtt.username, mqtt.password and mqtt.password.get_secret_value()) == ("mqtts://pi.local:8884", HARD, HARD[:-2])
    assert ([filter.text for filter in rule.topic], rule.url and rule.url.text) == (['haus/"Küche"\\n/{raum}/#'], "https://example.com/a?b='{{ raum }}'")
    assert [secret.get_secret_value() for secret in rule.secret] == [SECRET]
    assert found.warnings == ()


def test_the_config_itself_holds_no_secret_and_comes_last() -> None:
    found = files(username="me", password="swordfish")
    assert [path.name for path in found] == ["mqtt.password", "motion.secret", "config.toml"]
    assert not {"swordfish", SECRET} & set(re.findall(r"\w+", found[Path("/etc/mqtthook/config.toml")]))
    assert [path.name for path in files(signed=False)] == ["config.toml"]


@pytest.mark.parametrize("answers", [{}, {"username": "me", "password": "swordfish"}, {"signed": False}, {"topic": "tele/washer/SENSOR"}])
def test_each_line_that_is_switched_off_works_when_it_is_switched_on(answers: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mqtt.password").write_text("swordfish")
    (tmp_path / "mqtt.password").chmod(0o600)
    text = files(tmp_path, **answers)[tmp_path / "config.toml"]
    switched_on = re.sub(r"^# (\[|[a-z]+ = )", r"\1", text, flags=re.MULTILINE)
    found = written(tmp_path, switched_on, **answers)
    assert found.settings.inbound
    assert not re.search(r"^# \S+ = ", switched_on, re.MULTILINE)
    assert all(rule.when and rule.cooldown for rule in found.settings.outbound.values())


@pytest.mark.parametrize("topic", [first.TOPIC, "home/{room}/Presence", "tele/washer/SENSOR"])
def test_the_example_fits_the_condition(topic: str) -> None:
    condition, payload = first.example(topic)
    assert weigh(message(payload.encode()), mapping(when=condition)).result is None


@pytest.mark.parametrize("answers", [{}, {"signed": False}, {"username": "me", "password": "x"}])
def test_it_is_read_without_scrolling_sideways(answers: dict[str, Any]) -> None:
    text = files(**answers)[Path("/etc/mqtthook/config.toml")]
    assert max(map(len, text.splitlines())) <= 120
    assert text.endswith("\n")


def test_it_names_each_gate_once() -> None:
    lines = files()[Path("/etc/mqtthook/config.toml")].splitlines()
    for gate in ("on_change", "cooldown", "debounce", "silence", "keep", "batch"):
        assert sum(line.startswith(f"#   {gate} = ") for line in lines) == 1


# --- names ---


@pytest.mark.parametrize(
    ("filter", "name"),
    [
        ("zigbee2mqtt/{room}/motion", "motion"),
        ("zigbee2mqtt/freezer", "freezer"),
        ("tele/washer/SENSOR", "washer-sensor"),
        ("shellies/shellydw2-A4CF12/sensor/state", "shellydw2-a4cf12-sensor-state"),
        ("home", "home"),
        ("+/+/state", "state"),
        ("zigbee2mqtt/#", "zigbee2mqtt"),
        ("{house}/{room}", "house-room"),
        ("$SYS/broker/load", "broker-load"),
        ("haus/Küche/Licht an!", "kuche-licht-an"),
        ("日本/温度", "mapping"),
        ("#", "mapping"),
        ("a/" + "b" * 39 + "/c", "b" * 39),
    ],
)
def test_a_mapping_is_named_after_its_topic(filter: str, name: str) -> None:
    assert first.name_of(Filter.parse(filter)) == name


# --- answers ---


@pytest.mark.parametrize("url", [first.BROKER, "wss://x:1/mqtt", "unix:///run/mosquitto.sock"])
def test_a_good_broker_is_taken_as_it_is(url: str) -> None:
    assert first.broker(url) == url


@pytest.mark.parametrize(
    ("check", "answer", "reason"),
    [
        (first.broker, "localhost", "expected mqtt://"),
        (first.broker, "http://localhost", "expected mqtt://"),
        (first.broker, "mqtt://", "expected a host"),
        (first.broker, "mqtt://localhost:99999", "ort"),  # Python's own words
        (first.broker, "mqtt://me:secret@localhost", "`username` and `password`"),
        (first.broker, "mqtt://local\nhost", "U+000A"),
        (first.broker, "unix://run/x", "three slashes"),
        (first.printable, "a\x00b", "U+0000"),
        (first.printable, "a\x1b[31m", "U+001B"),
        (first.printable, "a\udcff", "U+DCFF"),
        (first.password, " x", "a blank"),
        (first.password, "x\x07", "U+0007"),
        (first.topic, "", "it is empty"),
        (first.topic, "a/#/b", "must be the last level"),
        (first.topic, "a/{room", "a capture is a whole level"),
        (first.topic, "a/{payload}", "the name of something else"),
        (first.topic, "a/{x}/{x}", "captures two levels"),
        (first.topic, "$share/g/a", "`share` in [mqtt]"),
        (first.topic, "a\tb", "U+0009"),
    ],
)
def test_a_bad_answer_is_refused_with_the_reason(check: Any, answer: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        check(answer)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("example.com/hook", "doesn't start with http:// or https://"),
        ("ftp://example.com", "doesn't start with http:// or https://"),
        ("http://{{ room }}/x", "only after them"),
        ("http://me:x@example.com", "user or password"),
        ("http://example.com/{{ roomm }}", "did you mean 'room'?"),
        ("http://example.com/{{ room", "unexpected end"),
        ("http://example.com/\x00", "U+0000"),
    ],
)
def test_a_bad_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        first.url(url, topic="a/{room}")


def test_a_url_may_use_what_the_topic_captures() -> None:
    assert first.url("http://example.com/{{ room }}", topic="a/{room}") == "http://example.com/{{ room }}"


@given(username=st.text(min_size=1), directory=st.text(st.characters(exclude_characters="/", exclude_categories=("Cs", "Cc")), min_size=1))
def test_whatever_can_be_answered_can_be_read_back(username: str, directory: str) -> None:
    try:
        place = first.printable(f"/{directory}/config.toml")
        answers = Answers(**PLAIN | {"username": first.printable(username), "password": "x"})
    except ValueError:
        return
    config = Path(place)
    tree = tomllib.loads(first.files(answers, config, secret=SECRET)[config])
    assert tree["mqtt"]["username"] == username
    assert tree["mqtt"]["password"] == f"file:{config.with_name('mqtt.password')}"
