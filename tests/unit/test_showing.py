"""What is shown of a mapping and a request: the reason level by level, and a line for a shell that is the request itself."""

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import Event
from bridge.rules.showing import curl, explain_topic, nearness
from tests.rig.mappings import mapping


@pytest.mark.parametrize(
    ("filter", "topic", "said"),
    [
        ("zigbee2mqtt/{room}/motion", "zigbee2mqtt/hall/contact", 'zigbee2mqtt/{room}/motion: level 3 is "contact", not "motion"'),
        ("z/+", "z/küche/a", "z/+: it takes 2 levels, the topic has 3"),
        ("z/+/a", "z", "z/+/a: it takes 3 levels, the topic has 1"),
        ("#", "$SYS/uptime", "#: a wildcard at the start takes no topic that starts with '$'"),
        ("+", "$SYS", "+: a wildcard at the start takes no topic that starts with '$'"),
        ("+/#", "$SYS/a/b", "+/#: a wildcard at the start takes no topic that starts with '$'"),
        ("mqtthook/#", "mqtthook/status/queue", "mqtthook/#: what this bridge says of itself is taken only where the filter begins with that topic, written out"),
        (["a", "b"], "ü", 'a: level 1 is "ü", not "a"; b: level 1 is "ü", not "b"'),
    ],
)
def test_why_a_mapping_doesnt_take_a_topic_is_said_level_by_level(filter: Any, topic: str, said: str) -> None:
    assert explain_topic(mapping(topic=filter), topic) == said


@pytest.mark.parametrize(
    ("nearer", "farther"),
    [
        ("zigbee2mqtt/hall/motoin", "zigbee2mqtt/hall/battery"),
        ("zigbee2mqtt/hall/contact", "zigbee2mqtt/attic/contact"),
        ("zigbee/{room}/motion", "zigbee2mqtt/attic/contact"),
        ("zigbee2mqtt/hall", "shellies/hall"),
        ("Zigbee2MQTT/#", "tele/#"),
        (["tele/a", "zigbee2mqtt/hall/motoin"], "zigbee2mqtt/hall/battery"),
    ],
)
def test_a_filter_is_the_nearer_the_more_of_its_levels_agree(nearer: Any, farther: Any) -> None:
    assert nearness(mapping(topic=nearer), "zigbee2mqtt/hall/motion") > nearness(mapping(topic=farther), "zigbee2mqtt/hall/motion")


# By hand


def request(body: bytes) -> Event:
    return Event(method="POST", url="https://example.com/a?b=c&d=e", headers=(("Content-Type", "text/plain; charset=utf-8"), ("X-Room", "Wohn'zimmer $HOME")), body=body)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")).filter(lambda text: not text.startswith("@")))
def test_a_request_pasted_into_a_shell_is_the_request_itself(body: str) -> None:
    parts = shlex.split(curl(request(body.encode()), (("webhook-id", "evt_1"),)))
    assert parts[:4] == ["curl", "-i", "-X", "POST"]
    assert parts[4:10] == ["-H", "Content-Type: text/plain; charset=utf-8", "-H", "X-Room: Wohn'zimmer $HOME", "-H", "webhook-id: evt_1"]
    assert parts[-2:] == [body, "https://example.com/a?b=c&d=e"]


def test_a_payload_pasted_into_a_shell_names_no_file_to_be_sent() -> None:
    """`curl --data-binary @NAME` sends a file of whoever pastes it; curl(1) has --data-raw for what came from elsewhere."""
    parts = shlex.split(curl(request(b"@/etc/passwd"), ()))
    assert parts[parts.index("@/etc/passwd") - 1] == "--data-raw"


def test_a_binary_body_pasted_into_a_shell_is_read_from_standard_input() -> None:
    parts = shlex.split(curl(request(b"\xff\xfe"), ()), comments=True)
    assert parts[parts.index("--data-binary") + 1] == "@-"
