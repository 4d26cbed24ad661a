"""The bridge in Home Assistant: what is described there, and what a message may order.

Home Assistant's own rules are those of homeassistant/components/mqtt (2024.11 and later): schemas.py, discovery.py,
abbreviations.py, sensor.py, binary_sensor.py, button.py.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jinja2 import Environment

from bridge.config.load import load
from bridge.errors import ConfigError
from bridge.model import Message
from bridge.rules.home_assistant import Device, HomeAssistantSettings, components, device_of, discovery, platforms, retained, stale
from bridge.watch.alerts import destination_status, problem_status, queue_status
from tests.rig.figures import DESTINATION, FIGURES

DEVICE = Device(id="mqtthook-pi", name="mqtthook-pi", prefix="homeassistant", status_topic="mqtthook/status")
DISCOVERY_TOPIC = re.compile(r"device/(?:[a-zA-Z0-9_-]+/)?[a-zA-Z0-9_-]+/config")  # discovery.py, TOPIC_MATCHER

# What each platform knows of what we say, and what it can't do without.
KEYS = {
    "sensor": {"p", "unique_id", "name", "state_topic", "value_template", "entity_category", "state_class", "device_class", "unit_of_measurement"},
    "binary_sensor": {"p", "unique_id", "name", "state_topic", "value_template", "entity_category", "device_class", "json_attributes_topic"},
    "button": {"p", "unique_id", "name", "command_topic", "payload_press", "qos", "entity_category"},
}
REQUIRED = {"sensor": {"state_topic"}, "binary_sensor": {"state_topic"}, "button": {"command_topic"}}


def described(device: Device = DEVICE, *destinations: str, gone: dict[str, str] | None = None) -> dict[str, Any]:
    found = discovery(device, components(device, destinations), version="1.2.3", gone=gone or {})
    document = json.loads(json.dumps(found))
    assert isinstance(document, dict)
    return document


def test_the_document_is_one_that_home_assistant_takes() -> None:
    document = described(DEVICE, "crm", "hall-motion")
    assert set(document) == {"dev", "o", "availability", "cmps"}
    assert document["dev"]["ids"]
    assert set(document["dev"]) <= {"ids", "name", "mf", "mdl", "sw"}
    assert document["o"] == {"name": "mqtthook", "sw": "1.2.3"}
    assert document["availability"] == [{"topic": "mqtthook/status"}]
    for component in document["cmps"].values():
        assert REQUIRED[component["p"]] | {"p", "unique_id", "name"} <= set(component) <= KEYS[component["p"]]
    unique = [component["unique_id"] for component in document["cmps"].values()]
    assert len(set(unique)) == len(unique)
    assert DISCOVERY_TOPIC.fullmatch(DEVICE.topic.removeprefix("homeassistant/"))


def test_it_has_what_a_person_wants_to_see_and_press() -> None:
    names = {key: (component["p"], component.get("device_class")) for key, component in described(DEVICE, "crm")["cmps"].items()}
    assert names == {
        "waiting": ("sensor", None),
        "oldest": ("sensor", "duration"),
        "dead_letters": ("sensor", None),
        "last_delivery": ("sensor", "timestamp"),
        "problem": ("binary_sensor", "problem"),
        "destination_crm": ("binary_sensor", "problem"),
        "retry": ("button", None),
        "pause": ("button", None),
        "resume": ("button", None),
    }


def shown(key: str, document: object) -> str:
    """Return what Home Assistant makes of a status topic's document."""
    return Environment(autoescape=False).from_string(described(DEVICE, "crm")["cmps"][key]["value_template"]).render(value_json=document, value=document)


@pytest.mark.parametrize(
    ("key", "document", "value"),
    [
        ("waiting", queue_status(FIGURES, now=0), "0"),
        ("oldest", queue_status(FIGURES, now=0), "0"),
        ("oldest", {"oldest_s": 90}, "90"),
        ("dead_letters", {"dead_letters": 3}, "3"),
        ("last_delivery", "2025-11-24T16:00:00Z", "2025-11-24T16:00:00Z"),
        ("problem", problem_status(FIGURES, now=0), "OFF"),
        ("problem", problem_status(FIGURES, now=1e6) | {"problem": True}, "ON"),
        ("destination_crm", destination_status(DESTINATION), "OFF"),
        ("destination_crm", {"state": "paused"}, "OFF"),
        ("destination_crm", {"state": "failing"}, "ON"),
        ("destination_crm", {"state": "breaker open"}, "ON"),
        ("destination_crm", {"state": "disabled", "reason": "410"}, "ON"),
    ],
)
def test_a_state_is_read_off_our_own_status_topics(key: str, document: object, value: str) -> None:
    assert shown(key, document) == value


def test_what_is_not_there_any_more_is_taken_away_and_the_rest_stays() -> None:
    before = platforms(components(DEVICE, ["crm", "old"]))
    document = described(DEVICE, "crm", gone=before)
    assert document["cmps"]["destination_old"] == {"p": "binary_sensor"}
    assert {key: value for key, value in document["cmps"].items() if key != "destination_old"} == described(DEVICE, "crm")["cmps"]


@pytest.mark.parametrize(
    ("client_id", "id"),
    [("mqtthook-pi", "mqtthook-pi"), ("mqtthook pi", "mqtthook_pi_2a4ae1c9"), ("mqtthook_pi", "mqtthook_pi"), ("küche/1", "k_che_1_"), ("\u0663", "__")],
)
def test_an_id_is_one_that_may_stand_in_a_topic_and_two_bridges_never_share_one(client_id: str, id: str) -> None:
    found = device_of(HomeAssistantSettings(enabled=True), client_id=client_id, status_topic="s")
    assert found is not None
    assert found.id.startswith(id[:8])
    assert re.fullmatch(r"[a-zA-Z0-9_-]+", found.id, re.ASCII)
    assert found.name == client_id
    assert (found.id == client_id) is (re.fullmatch(r"[a-zA-Z0-9_-]+", client_id, re.ASCII) is not None)


def test_switched_off_there_is_no_device() -> None:
    assert device_of(HomeAssistantSettings(), client_id="c", status_topic="s") is None


@pytest.mark.parametrize(
    ("topic", "payload", "is_retained", "order"),
    [
        ("mqtthook/status/command/retry", b"PRESS", False, "retry"),
        ("mqtthook/status/command/pause", b"PRESS", False, "pause"),
        ("mqtthook/status/command/resume", b"PRESS", False, "resume"),
        ("mqtthook/status/command/retry", b"PRESS", True, None),
        ("mqtthook/status/command/retry", b"", False, None),
        ("mqtthook/status/command/retry", b"press", False, None),
        ("mqtthook/status/command/drop", b"PRESS", False, None),
        ("mqtthook/status/command", b"PRESS", False, None),
        ("homeassistant/status", b"PRESS", False, None),
    ],
)
def test_a_message_orders_one_of_three_things_or_nothing(topic: str, payload: bytes, is_retained: bool, order: str | None) -> None:
    assert DEVICE.order_in(Message(topic=topic, payload=payload, retained=is_retained, received_at=0)) == order


@pytest.mark.parametrize(
    ("topic", "payload", "is_retained", "born"),
    [("homeassistant/status", b"online", False, True), ("homeassistant/status", b"offline", False, False), ("homeassistant/status", b"online", True, False), ("ha/status", b"online", False, False)],
)
def test_its_birth_is_known(topic: str, payload: bytes, is_retained: bool, born: bool) -> None:
    assert DEVICE.is_born(Message(topic=topic, payload=payload, retained=is_retained, received_at=0)) is born


def test_what_was_retained_is_emptied_when_it_is_another_device_or_none() -> None:
    topics = retained(DEVICE)
    other = Device(id="mqtthook-pi", name="x", prefix="ha", status_topic="mqtthook/status")
    assert stale(topics, DEVICE) == []
    assert stale(topics, None) == topics == ["homeassistant/device/mqtthook-pi/config", "mqtthook/status/last_delivery"]
    assert stale(topics, other) == ["homeassistant/device/mqtthook-pi/config"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('prefix = "home/+"', "home_assistant.prefix: nothing can be published below 'home/+': it holds the wildcard '+'"),
        ('prefix = ""', "home_assistant.prefix: nothing can be published below '': it is empty"),
        ("enable = true", "did you mean `enabled`?"),
        ('enabled = true\n[mqtt]\nshare = "house"', "home_assistant.enabled: it can't be used with mqtt.share"),
    ],
)
def test_what_is_wrong_in_the_config_is_said(text: str, said: str, tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f"version = 1\n[home_assistant]\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        load(config, {})
    assert said in caught.value.problems[0]
