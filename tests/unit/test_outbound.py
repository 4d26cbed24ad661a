"""Outbound mappings: what fits together, and which one takes which topic."""

import re
from typing import Any

import pytest
from pydantic import ValidationError

from bridge.rules.outbound import Outbound, Routes
from tests.rig.mappings import mapping, route

# Routes


def test_mappings_are_found_once_each_in_the_order_of_the_config() -> None:
    rules = {"b": mapping(topic=["a/+", "a/#", "#"]), "a": mapping(topic="a/b"), "off": mapping(topic="#", enabled=False), "c": mapping(topic="c")}
    routes = Routes([route(rule, name=name) for name, rule in rules.items()])
    assert [found.mapping for found in routes.of("a/b")] == ["b", "a"]
    assert [found.mapping for found in routes.of("c")] == ["b", "c"]
    assert routes.of("$SYS/uptime") == []
    assert [found.mapping for found in routes.all] == ["b", "a", "c"]
    assert routes.named("a") is routes.all[1]
    assert routes.named("off") is None


# Settings

UNFIT = [  # keys, words
    ({"to": "alarm"}, "expected one of `url` and `to`"),
    ({"url": None}, "expected one of `url` and `to`"),
    ({"url": None, "to": []}, "expected one of `url` and `to`"),
    ({"url": None, "to": "alarm"}, "`sign` belongs beside a `url`; with `to`, put it into the destination"),
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
    ({"headers": {"Webhook-Id": "x"}}, "the header 'Webhook-Id' is written by the bridge itself"),
    ({"headers": {"HOST": "x"}}, "the header 'HOST' is written by the bridge itself"),
    ({"method": "post"}, "'post' is not a method: expected one in capitals, such as POST or PUT"),
    ({"qos": 3}, "Input should be 0, 1 or 2"),
    ({"concurrency": 0}, "greater than or equal to 1"),
    ({"timeout": "0s"}, "longer than nothing"),
]


@pytest.mark.parametrize(("keys", "words"), UNFIT, ids=lambda value: str(value)[:40])
def test_a_mapping_that_doesnt_fit_together_is_refused(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=re.escape(words)):
        mapping(**keys)


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
