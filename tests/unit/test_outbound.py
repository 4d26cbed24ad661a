"""Outbound mappings: what fits together, and which one takes which topic."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.rules.outbound import Outbound, Routes
from tests.rig.mappings import STATUS, mapping, route

# Routes


def test_mappings_are_found_once_each_in_the_order_of_the_config() -> None:
    rules = {"b": mapping(topic=["a/+", "a/#", "#"]), "a": mapping(topic="a/b"), "off": mapping(topic="#", enabled=False), "c": mapping(topic="c")}
    routes = Routes([route(rule, name=name) for name, rule in rules.items()], own=STATUS)
    assert [found.mapping for found in routes.of("a/b")] == ["b", "a"]
    assert [found.mapping for found in routes.of("c")] == ["b", "c"]
    assert routes.of("$SYS/uptime") == []
    assert [found.mapping for found in routes.all] == ["b", "a", "c"]
    assert routes.named("a") is routes.all[1]
    assert routes.named("off") is None


@pytest.mark.parametrize(
    ("filter", "topic", "taken"),
    [
        ("#", "home/bridge/queue", False),
        ("+/#", "home/bridge", False),
        ("{rest...}", "home/bridge/destination/hall", False),
        ("home/#", "home/bridge/queue", False),
        ("home/+", "home/bridge", False),
        ("+/bridge/queue", "home/bridge/queue", False),
        ("home/bridge", "home/bridge", True),
        ("home/bridge/#", "home/bridge", True),
        ("home/bridge/+", "home/bridge/queue", True),
        ("home/bridge/{what...}", "home/bridge/destination/hall", True),
        ("home/bridge/queue", "home/bridge/config", False),
        ("#", "home/bridges", True),
        ("home/+", "home/bridge2", True),
        ("#", "home", True),
        ("#", "mqtthook/status/queue", True),  # of another bridge
    ],
)
def test_what_the_bridge_says_of_itself_is_taken_only_by_who_names_it(filter: str, topic: str, taken: bool) -> None:
    rule = mapping(topic=filter)
    assert bool(Routes([route(rule)], own="home/bridge").of(topic)) is rule.takes(topic, own="home/bridge") is taken


# Settings

UNFIT = [  # keys, words
    ({"to": "alarm"}, "expected one of `url`, `to` and `apprise`"),
    ({"url": None}, "expected one of `url`, `to` and `apprise`"),
    ({"url": None, "to": []}, "expected one of `url`, `to` and `apprise`"),
    ({"url": None, "to": "alarm"}, "sign: it belongs beside a `url`; with `to`, put it into the destination"),
    ({"format": "raw", "text": "x"}, "expected one of `format`, `json`, `text` and `form`"),
    ({"json": {}, "text": "x"}, "expected one of `format`, `json`, `text` and `form`"),
    ({"topic": "z/{payload}"}, "topic: the capture {payload} has the name of something else, choose another"),
    ({"topic": []}, "at least 1"),
    ({"topic": "a/#/b"}, "'#' must be the last level"),
    ({"when": "paylod.a"}, "when: 'paylod' is not a name that can be used here; did you mean 'payload'?"),
    ({"json": {"a": "{{ rom }}"}}, "json: 'rom' is not a name that can be used here; did you mean 'room'?"),
    ({"headers": {"X-A": "{{ rom }}"}}, "headers.X-A: 'rom' is not a name"),
    ({"headers": {"X A": "x"}}, "'X A' is not a header's name"),
    ({"headers": {"Ä": "x"}}, "'Ä' is not a header's name"),
    ({"headers": {"": "x"}}, "'' is not a header's name"),
    ({"headers": {"X-A": "a\nb"}}, "the header value 'a\\nb' holds a control character"),
    ({"headers": {"X-A": "a\x7f"}}, "the header value 'a\\x7f' holds a control character"),
    ({"headers": {"Webhook-Id": "x"}}, "the header 'Webhook-Id' is written by the bridge itself"),
    ({"headers": {"HOST": "x"}}, "the header 'HOST' is written by the bridge itself"),
    ({"method": "post"}, "'post' is not a method: expected one in capitals, such as POST or PUT"),
    ({"qos": 3}, "Input should be 0, 1 or 2"),
    ({"concurrency": 0}, "greater than or equal to 1"),
    ({"timeout": "0s"}, "longer than nothing"),
    ({"format": "raw", "form": {"a": "x"}}, "expected one of `format`, `json`, `text` and `form`"),
    ({"json": {}, "form": {"a": "x"}}, "expected one of `format`, `json`, `text` and `form`"),
    ({"format": "xml"}, "Input should be 'event', 'raw' or 'cloudevents'"),
    ({"form": {"a": {"b": "x"}}}, "the field 'a' holds a table or a list in a list"),
    ({"form": {"a": "{{ rom }}"}}, "form: 'rom' is not a name that can be used here; did you mean 'room'?"),
    ({"on_change": "paylod"}, "on_change: 'paylod' is not a name that can be used here; did you mean 'payload'?"),
    ({"key": "{{ rom }}"}, "key: 'rom' is not a name"),
    ({"headers": {"Webhook-Hop": "x"}}, "the header 'Webhook-Hop' is written by the bridge itself"),
    ({"topic": "z/{silent_for}"}, "topic: the capture {silent_for} has the name of something else, choose another"),
    ({"topic": "z/{response}"}, "topic: the capture {response} has the name of something else, choose another"),
    ({"keep": "latest", "order": "none"}, 'keep: "latest" goes by key, and `order = "none"` knows none'),
    ({"keep": "newest"}, "Input should be 'all' or 'latest'"),
    ({"batch": {}, "keep": "latest"}, "batch: not with `keep`, which is about one event"),
    ({"batch": {}, "reply": {"topic": "a", "text": "x"}}, "batch: not with `reply`, which is about one event"),
    ({"batch": {}, "format": "raw"}, "batch: a form, or a payload as it came, can't stand in a list"),
    ({"batch": {}, "form": {"a": "x"}}, "batch: a form, or a payload as it came, can't stand in a list"),
    ({"batch": {"size": 0}}, "greater than or equal to 1"),
    ({"batch": {"size": 1001}}, "less than or equal to 1000"),
    ({"batch": {"wait": "0s"}}, "longer than nothing"),
    ({"batch": {"count": 5}}, "Extra inputs are not permitted"),
    ({"debounce_max": "2s"}, "debounce_max: expected `debounce` beside it"),
    ({"silence": "30m", "on_change": "payload"}, "on_change: a mapping with `silence` makes no event of a message"),
    ({"silence": "30m", "debounce": "2s"}, "debounce: a mapping with `silence` makes no event of a message"),
    ({"silence": "30m", "cooldown": "60s"}, "cooldown: a mapping with `silence` makes no event of a message"),
    ({"text": "{{ silent_for }}"}, "text: 'silent_for' is not a name that can be used here"),
    ({"silence": "30m", "when": "silent_for > 60"}, "when: 'silent_for' is not a name that can be used here"),
    ({"silence": "30m", "key": "{{ silent_for }}"}, "key: 'silent_for' is not a name that can be used here"),
    ({"reply": {"topic": "a"}}, "expected one of `json` and `text`: what is published"),
    ({"reply": {"topic": "a/{{ payload.b }}", "text": "x"}}, "reply.topic: 'payload' is not a name that can be used here"),
    ({"reply": {"topic": "a", "text": "{{ respnse.text }}"}}, "reply.text: 'respnse' is not a name that can be used here; did you mean 'response'?"),
    ({"reply": {"topic": "a", "json": {"a": "{{ value }}"}}}, "reply.json: 'value' is not a name that can be used here"),
    ({"reply": {"topic": "a", "text": "x", "when": "status == 200"}}, "reply.when: 'status' is not a name that can be used here"),
    ({"url": "https://example.com/{{ response.text }}"}, "url: 'response' is not a name that can be used here"),
    ({"priority": "urgent"}, "Input should be 'high' or 'normal'"),
]


@pytest.mark.parametrize(("keys", "words"), UNFIT, ids=lambda value: str(value)[:40])
def test_a_mapping_that_doesnt_fit_together_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        mapping(**keys)


FIT = [  # keys that go together, and why
    ({"keep": "latest", "reply": {"topic": "a/{{ room }}", "text": "{{ response.text }} {{ topic }}"}}, "a reply is about the one event that is left"),
    ({"keep": "latest", "on_change": "payload", "debounce": "2s", "debounce_max": "2s", "cooldown": "60s"}, "each gate by itself"),
    ({"batch": {}, "on_change": "payload", "debounce": "2s", "cooldown": "60s", "order": "none"}, "gates come before the batch"),
    ({"batch": {"size": 1000, "wait": "1h"}, "text": "{{ value }}"}, "a line for each"),
    ({"batch": {"size": 1}, "json": {"a": "{{ payload }}"}}, "a list of one"),
    ({"batch": {}, "format": "cloudevents"}, "CloudEvents knows batches"),
    ({"silence": "30m", "batch": {}, "keep": "all", "when": "payload.a", "retained": "use", "key": "{{ room }}"}, "silence says what a batch says"),
    ({"silence": "30m", "keep": "latest", "text": "{{ room }} {{ silent_for }}", "headers": {"X-A": "{{ silent_for }}"}, "url": "https://example.com/{{ silent_for }}"}, "silent_for is known"),
    ({"reply": {"topic": "a", "text": "x", "when": "response.status == 200", "qos": 0, "retain": True}, "order": "none"}, "a reply needs no order"),
    ({"topic": "z/{now_playing}"}, "a capture may begin like a name"),
]


@pytest.mark.parametrize(("keys", "source"), FIT, ids=lambda value: str(value)[:40])
def test_a_mapping_that_fits_together_is_taken(keys: dict[str, Any], source: str) -> None:
    assert mapping(**keys).enabled, source


def test_the_defaults_are_the_products() -> None:
    rule = mapping()
    assert (rule.retained, rule.on_change, rule.debounce, rule.debounce_max, rule.cooldown, rule.silence) == ("ignore", None, None, None, None, None)
    assert (rule.qos, rule.decode, rule.key.text, rule.order, rule.keep, rule.expires, rule.priority, rule.format) == (1, "auto", "{{ topic }}", "key", "all", None, "normal", "event")
    batch = mapping(batch={}).batch
    assert batch is not None
    assert (batch.size, batch.wait) == (50, 1.0)


def test_a_destination_signs_with_all_of_its_secrets() -> None:
    secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"]
    assert len(mapping(sign="standard-webhooks", secret=secrets).signing_keys()) == 2
    assert mapping().signing_keys() == ()
    with pytest.raises(ValueError, match="needs a secret"):
        mapping(sign="standard-webhooks").signing_keys()


def test_a_header_written_twice_in_other_letters_is_refused() -> None:
    """RFC 9110 section 5.1: names are the same whatever their case."""
    with pytest.raises(ValidationError, match="same name"):
        Outbound.model_validate({"topic": "a", "url": "http://x/", "sign": "none", "headers": {"X-A": "1", "x-a": "2"}})
