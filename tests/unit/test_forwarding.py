"""Forwarding: an event goes where its destination is now, as far as what waits still tells what that needs."""

from typing import Any

import pytest
from pydantic import SecretStr

from bridge.errors import RenderError
from bridge.model import Event, Letter
from bridge.rules.events import letter_of
from bridge.rules.forwarding import forwarded, forwarding, leads_elsewhere, unknown_at
from bridge.rules.outbound import Destination, Outbound, Route, Routes
from tests.rig.mappings import AT, STATUS, fate, mapping, route

NEW = "https://crm.example.net/in"


def waiting(**keys: Any) -> Letter:
    """Return the letter that a message made under a mapping with these keys."""
    return letter_of(fate(**keys), created_at=AT, origin=None)


def sent(letter: Letter, now: Outbound) -> Event:
    """Return its event as it is sent under a mapping as that is *now*."""
    assert isinstance(letter.content, Event)
    return forwarded(letter, letter.content, now, now)


ROWS: list[tuple[dict[str, Any], dict[str, Any], str]] = [  # the mapping when the message came, as it is now, the URL that is sent to
    ({}, {}, "https://example.com/hooks/motion"),
    ({}, {"url": NEW}, NEW),
    ({"url": "https://example.com/{{ payload.battery }}"}, {"url": NEW}, NEW),
    ({}, {"url": NEW + "/{{ room }}"}, NEW + "/hall"),
    ({}, {"url": NEW + "?at={{ topic }}&{{ levels[0] }}"}, NEW + "?at=zigbee2mqtt%2Fhall%2Fmotion&zigbee2mqtt"),
    ({}, {"topic": "zigbee2mqtt/{place}/{what}", "url": NEW + "/{{ place }}/{{ what }}"}, NEW + "/hall/motion"),
    ({}, {"url": NEW + "/{{ payload.battery }}"}, "https://example.com/hooks/motion"),  # what the message said is not known any more
    ({"url": "https://example.com/{{ payload.battery }}"}, {"url": "https://example.com/{{ payload.battery }}"}, "https://example.com/55"),
    ({"key": "{{ room }}"}, {"key": "{{ room }}", "url": NEW + "/{{ room }}"}, "https://example.com/hooks/motion"),  # its key is not its topic
    ({"key": "{{ room }}"}, {"url": NEW + "/{{ room }}"}, "https://example.com/hooks/motion"),  # nor was it, when it came
    ({"order": "none"}, {"order": "none", "url": NEW + "/{{ room }}"}, "https://example.com/hooks/motion"),
    ({"order": "none", "reply": {"topic": "a", "text": "b"}}, {"url": NEW + "/{{ room }}"}, NEW + "/hall"),  # its topic stands beside it
    ({}, {"url": NEW + "/{{ levels[7] }}"}, "https://example.com/hooks/motion"),
]


@pytest.mark.parametrize(("before", "now", "url"), ROWS, ids=str)
def test_what_waits_goes_to_the_url_that_its_destination_has_now(before: dict[str, Any], now: dict[str, Any], url: str) -> None:
    letter = waiting(**before)
    assert isinstance(letter.content, Event)
    event = sent(letter, mapping(**now))
    assert (event.url, event.body, event.parts) == (url, letter.content.body, letter.content.parts)


def test_with_the_url_come_the_method_and_the_headers_of_now() -> None:
    event = sent(waiting(headers={"X-Key": "old"}), mapping(url=NEW, method="PUT", headers={"X-For": "{{ room }}"}))
    assert (event.method, event.headers) == ("PUT", (("Content-Type", "application/json"), ("X-For", "hall"), ("webhook-hop", "hall-motion")))
    event = sent(waiting(headers={"X-Battery": "{{ payload.battery }}"}), mapping(url=NEW, headers={"X-Battery": "{{ payload.battery }}"}))
    assert (event.url, dict(event.headers)["X-Battery"]) == (NEW, "55"), "one that can't be told any more stays as it was"


def test_where_the_url_is_the_same_nothing_else_changes() -> None:
    letter = waiting(headers={"X-For": "old"})
    assert sent(letter, mapping(headers={"X-For": "new"})) is letter.content


def test_an_alert_has_no_mapping_and_goes_to_the_url_of_now_as_well() -> None:
    letter = waiting()
    assert isinstance(letter.content, Event)
    assert forwarded(letter, letter.content, mapping(url=NEW), None).url == NEW
    assert forwarded(letter, letter.content, mapping(url=NEW + "/{{ topic }}"), None).url == "https://example.com/hooks/motion"


@pytest.mark.parametrize(
    ("url", "elsewhere"),
    [
        ("https://example.com/hooks/motion", False),
        ("https://example.com/hooks/{{ payload.x }}", False),
        ("https://example.com/other", True),
        ("https://example.net/hooks/{{ payload.x }}", True),
    ],
)
def test_where_an_event_surely_leads_elsewhere_is_told_by_what_no_template_changes(url: str, elsewhere: bool) -> None:
    event = waiting().content
    assert isinstance(event, Event)
    assert leads_elsewhere(event, mapping(url=url)) is elsewhere


def test_what_apprise_sends_leads_to_its_service_wherever_it_led_when_it_was_made() -> None:
    event, letter, slack = waiting().content, waiting(), Destination(apprise=SecretStr("slack://a/b/c"))
    assert isinstance(event, Event)
    assert forwarded(letter, event, slack, None) is event
    assert not leads_elsewhere(event, slack)


def test_a_move_renders_what_the_topic_tells_and_says_what_it_does_not() -> None:
    rule, letter = mapping(), waiting()
    assert isinstance(letter.content, Event)
    moved = forwarding(mapping(url=NEW + "/{{ room }}/{{ levels[2] }}"), Routes([route(rule)], own=STATUS))(letter, letter.content)
    assert moved.url == NEW + "/hall/motion"
    for destination, routes, missing in (
        (mapping(url=NEW + "/{{ payload.battery }}"), Routes([route(rule)], own=STATUS), "payload"),
        (mapping(url=NEW + "/{{ topic }}"), Routes([], own=STATUS), "topic"),
    ):
        words = rf"{letter.id}: .*{missing}.*; what waits tells its topic at most: choose a destination whose templates need no more, or drop it"
        with pytest.raises(RenderError, match=words):
            forwarding(destination, routes)(letter, letter.content)


def test_what_a_url_needs_that_no_letter_tells_is_known_before_any_is_sent() -> None:
    crm = mapping(url=NEW + "/{{ room }}/{{ payload.a }}")
    routes = Routes([Route(mapping="one", rule=mapping(), destinations={"crm": crm}), Route(mapping="two", rule=mapping(order="none"), destinations={"crm": crm})], own=STATUS)
    assert unknown_at("crm", routes) == {"payload", "room"}
    assert unknown_at("crm", Routes([routes.all[0]], own=STATUS)) == {"payload"}
    assert unknown_at("other", routes) == set()
