"""Loops: each of the three nets, and that none of them catches what is no loop."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.loops import HOP, MAX_TRAIL, STORM_ECHOES, STORM_PAUSE_S, STORM_S, Place, Storm, gust, heard, loop_in, loops, onward, overlaps, own_hooks, state_topics, trail
from bridge.rules.topics import Filter

# The trail

LONGEST = "n" * 64

TRAILS = [  # webhook-hop, the names, source
    (None, (), "it bears none"),
    ("", (), "nothing in it"),
    ("hall-motion", ("hall-motion",), "one"),
    ("hall-motion, hall-light", ("hall-motion", "hall-light"), "as we write it"),
    ("a,b, c", ("a", "b", "c"), "as a proxy may write it: RFC 9110 5.6.1"),
    ("A_1-b", ("A_1-b",), "all that a name may hold"),
    (LONGEST, (LONGEST,), "as long as a name may be"),
    (", ".join([LONGEST] * MAX_TRAIL), (LONGEST,) * MAX_TRAIL, "as long as a trail may be"),
    ("n" * 65, (), "no name is so long"),
    (", ".join([LONGEST] * 100), (), "no trail is so long"),
    ("a b", (), "no name holds a blank"),
    ("a,,b", (), "no name is empty"),
    ("a.reply", (), "no name holds a dot"),
    ("küche", (), "no name holds more than ASCII"),
    ("a\nb", (), "no name holds a line's end"),
    ("a\n", (), "nor ends with one"),
    ("1; DROP TABLE", (), "a stranger's"),
]


@pytest.mark.parametrize(("text", "names", "source"), TRAILS, ids=lambda value: repr(value)[:30])
def test_a_trail_is_read_or_it_is_none(text: str | None, names: tuple[str, ...], source: str) -> None:
    assert trail(text) == names, source


NAMES = st.text("abcXYZ019_-", min_size=1, max_size=64)


@given(st.lists(NAMES, max_size=MAX_TRAIL, unique=True), st.booleans())
def test_who_has_been_passed_is_recognised_and_nobody_else(names: list[str], garbage: bool) -> None:
    text = "what a stranger wrote" if garbage else None
    for n, name in enumerate(names):
        assert loop_in(text, name) is None, "nobody passes a place for the first time twice"
        text = onward(text, name)
        assert trail(text) == tuple(names[: n + 1])
    for name in names:
        assert f"it has come through {name} before" in str(loop_in(text, name))


def test_a_reason_shows_the_way() -> None:
    assert loop_in("a, b", "b") == f"a loop: it has come through b before ({HOP}: a, b)"


def test_a_chain_that_never_ends_is_cut_though_no_name_comes_twice() -> None:
    text = None
    for n in range(MAX_TRAIL):
        assert loop_in(text, f"n{n}") is None
        text = onward(text, f"n{n}")
    assert f"it has come through {MAX_TRAIL} mappings and hooks" in str(loop_in(text, "another"))


@given(st.text(), NAMES)
def test_no_text_upsets_a_trail(text: str, name: str) -> None:
    assert trail(onward(text, name))[-1] == name
    assert all(sign.isascii() and sign.isprintable() for sign in onward(text, name)), "it goes into a header"
    loop_in(text, name)


# Which topics may meet which filters

OVERLAPS = [  # filter, topic as it is written, whether they may meet, source
    ("a/b", "a/b", True, "the same"),
    ("a/b", "a/c", False, "another"),
    ("a/+", "a/b", True, "MQTT 5.0 4.7.1.3"),
    ("a/+", "a/b/c", False, "MQTT 5.0 4.7.1.3"),
    ("a/#", "a", True, "MQTT 5.0 4.7.1.2: the parent, too"),
    ("a/#", "a/b/c", True, "MQTT 5.0 4.7.1.2"),
    ("#", "a", True, "everything"),
    ("#", "$SYS/a", False, "MQTT 5.0 4.7.2"),
    ("+/a", "$SYS/a", False, "MQTT 5.0 4.7.2"),
    ("$SYS/#", "$SYS/a", True, "MQTT 5.0 4.7.2"),
    ("{room}/set", "hall/set", True, "a capture is a +"),
    ("{rest...}", "hall/set", True, "a capture is a #"),
    ("a/hall/set", "a/{{ room }}/set", True, "a template may be any level"),
    ("a/hall/get", "a/{{ room }}/set", False, "but what is written beside it stays"),
    ("a/hall", "a/{{ room }}/set", False, "a value is one level"),
    ("a/hall/set", "a/x{{ room }}/set", True, "part of a level: it can't be told"),
    ("a/hall/set", "a/{% if payload.a %}hall{% else %}attic{% endif %}/set", True, "a block"),
    ("a/hall/set", "a/{{ 'x/y' if payload.a else 'z' }}/set", True, "a slash within a template is none"),
    ("a/hall/set", "a/{{ topic.split('/')[1] }}/set", True, "a slash within a template is none"),
    ("b", "{% if payload.a %}a/{% endif %}b", True, "a block may be left out, with its slash"),
    ("a/b", "a/b{# or x/y #}", True, "a comment is nothing"),
    ("a/b/c", "a/{{ x }}", False, "longer than it can be"),
    ("$SYS/a", "{{ x }}/a", False, "PRODUCT.md: a rendered level never begins with $"),
    ("+/+", "{{ a }}/{{ b }}", True, "wherever"),
]


@pytest.mark.parametrize(("filter", "topic", "meets", "source"), OVERLAPS, ids=lambda value: str(value)[:40])
def test_a_filter_and_a_topic_may_meet_or_never_do(filter: str, topic: str, meets: bool, source: str) -> None:
    assert overlaps(Filter.parse(filter), topic) is meets, source


@st.composite
def filters_with_a_topic(draw: st.DrawFn) -> tuple[str, str]:
    """Return a filter and a topic, often one that it takes or nearly does."""
    topic = draw(st.lists(st.sampled_from(["a", "b", "x y"]), min_size=1, max_size=4))
    if draw(st.booleans()):
        topic[0] = "$SYS"
    filter = [draw(st.sampled_from([level, level, "+", "b"])) for level in topic][: draw(st.integers(1, 4))]
    return "/".join([*filter, *draw(st.lists(st.sampled_from(["#", "a"]), max_size=1))]), "/".join(topic)


@given(filters_with_a_topic())
def test_without_a_template_they_meet_exactly_where_the_filter_takes_the_topic(pair: tuple[str, str]) -> None:
    text, topic = pair
    assert overlaps(Filter.parse(text), topic) is Filter.parse(text).takes(tuple(topic.split("/")))


@given(st.lists(st.sampled_from(["a", "b", "+"]), min_size=1, max_size=4), st.booleans(), st.lists(st.sampled_from(["a", "b", "{{ x }}", "a{{ x }}"]), min_size=1, max_size=4), st.sampled_from(["a", "b", "ab"]))
def test_whatever_a_template_comes_to_a_filter_that_takes_it_was_told(levels: list[str], rest: bool, topic: list[str], value: str) -> None:
    filter = Filter.parse("/".join([*levels, "#"] if rest else levels))
    rendered = [level.replace("{{ x }}", value) for level in topic]
    assert overlaps(filter, "/".join(topic)) or not filter.takes(tuple(rendered))


# Which URLs lead to our own hooks

PATHS = {"light": Filter.parse("hooks/light"), "blinds": Filter.parse("hooks/blinds/{room}"), "all": Filter.parse("all/{rest...}"), "kitchen": Filter.parse("hooks/küche")}

URLS = [  # URL, where hooks listen, the hooks it leads to, source
    ("http://127.0.0.1:8080/hooks/light", "127.0.0.1:8080", ["light"], "the address itself"),
    ("http://localhost:8080/hooks/light", "127.0.0.1:8080", ["light"], "its name"),
    ("http://LOCALHOST:8080/hooks/light", "127.0.0.1:8080", ["light"], "RFC 3986 3.2.2: a host has no case"),
    ("http://[::1]:8080/hooks/light", "[::]:8080", ["light"], "IPv6"),
    ("http://192.168.1.5:8080/hooks/light", "192.168.1.5:8080", ["light"], "on the network"),
    ("http://localhost:8080/hooks/light", "0.0.0.0:8080", ["light"], "every address"),
    ("http://localhost/hooks/light", "0.0.0.0:80", ["light"], "http's own port"),
    ("https://localhost/hooks/light", "0.0.0.0:443", ["light"], "https's own port"),
    ("http://localhost:8080/hooks/light?a=b/c", "127.0.0.1:8080", ["light"], "a query is no part of the path"),
    ("http://localhost:8080/hooks/blinds/hall", "127.0.0.1:8080", ["blinds"], "a capture"),
    ("http://localhost:8080/hooks/blinds/{{ room }}", "127.0.0.1:8080", ["blinds"], "a template"),
    ("http://localhost:8080/all/a/{{ room }}/b", "127.0.0.1:8080", ["all"], "the rest"),
    ("http://localhost:8080/hooks/{{ payload.to }}", "127.0.0.1:8080", ["light", "kitchen"], "a template may come to any segment"),
    ("http://localhost:8080/hooks/{% if payload.a %}light{% else %}x{% endif %}", "127.0.0.1:8080", ["light", "kitchen"], "so may a block"),
    ("http://localhost:8080/hooks/k%C3%BCche", "127.0.0.1:8080", ["kitchen"], "a hook's path is percent-decoded"),
    ("http://localhost:8081/hooks/light", "127.0.0.1:8080", [], "another port"),
    ("http://localhost/hooks/light", "127.0.0.1:8080", [], "another port"),
    ("http://example.com:8080/hooks/light", "127.0.0.1:8080", [], "another machine"),
    ("http://192.168.1.5:8080/hooks/light", "127.0.0.1:8080", [], "another machine"),
    ("http://localhost:8080/hooks/dark", "127.0.0.1:8080", [], "no hook"),
    ("http://localhost:8080/hooks/light/", "127.0.0.1:8080", [], "a segment more"),
    ("http://localhost:8080/", "127.0.0.1:8080", [], "no path"),
    ("http://localhost:8080", "127.0.0.1:8080", [], "no path"),
    ("http://localhost:8080/?u=/hooks/light", "127.0.0.1:8080", [], "a query is no path"),
]


@pytest.mark.parametrize(("url", "listen", "hooks", "source"), URLS, ids=lambda value: str(value)[:50])
def test_a_url_leads_to_our_own_hooks_or_elsewhere(url: str, listen: str, hooks: list[str], source: str) -> None:
    assert sorted(own_hooks(url, listen=listen, paths=PATHS)) == sorted(hooks), source


# Where devices tell what they do

STATES = [  # command topic, where the state is told at the least, source
    ("zigbee2mqtt/hall/light/set", {"zigbee2mqtt/hall/light"}, "Zigbee2MQTT"),
    ("zigbee2mqtt/light/set/brightness", {"zigbee2mqtt/light"}, "Zigbee2MQTT: one attribute"),
    ("zwave/hall/light/38/0/targetValue/set", {"zwave/hall/light/38/0/targetValue"}, "Z-Wave JS UI"),
    ("evcc/loadpoints/1/mode/set", {"evcc/loadpoints/1/mode"}, "evcc"),
    ("valetudo/robot/FanSpeedControlCapability/preset/set", {"valetudo/robot/FanSpeedControlCapability/preset"}, "Valetudo"),
    ("frigate/hall/detect/set", {"frigate/hall/detect/state"}, "Frigate, integrations/mqtt.md: <feature>/set and <feature>/state"),
    ("cmnd/plug/POWER", {"stat/plug/POWER"}, "Tasmota"),
    ("cmnd/plug/POWER", {"stat/plug/RESULT"}, "Tasmota, MQTT.md: each command is answered at stat/<topic>/RESULT"),
    ("cmnd/plug/Backlog", {"stat/plug/RESULT"}, "Tasmota, MQTT.md"),
    ("shellies/shelly1-AB/relay/0/command", {"shellies/shelly1-AB/relay/0"}, "Shelly Gen1"),
    ("esp/light/lamp/command", {"esp/light/lamp/state"}, "ESPHome"),
    ("zigbee2mqtt/{{ room }}/set", {"zigbee2mqtt/{{ room }}"}, "a template stays one"),
    ("cmnd/{{ body.plug }}/POWER", {"stat/{{ body.plug }}/POWER"}, "a template stays one"),
    ("cmnd/{{ body.plug.split('/')[0] }}/POWER", {"stat/{{ body.plug.split('/')[0] }}/POWER"}, "a template stays one, though it holds a slash"),
]


@pytest.mark.parametrize(("command", "states", "source"), STATES, ids=lambda value: str(value)[:40])
def test_a_device_tells_its_state_where_its_maker_says(command: str, states: set[str], source: str) -> None:
    assert states <= set(state_topics(command)), source
    assert command not in state_topics(command)


@pytest.mark.parametrize("topic", ["zigbee2mqtt/light", "set", "command", "home/settings", "stat/plug/POWER", "cmnd/plug", "a/commands", "a/set/b/c"])
def test_what_is_no_command_topic_has_no_state(topic: str) -> None:
    assert state_topics(topic) == ()


# The lint


def sends(name: str, *filters: str, hooks: tuple[str, ...] = (), reply: str | None = None) -> Place:
    """Return a mapping that takes filters and leads to hooks, or publishes a reply."""
    return Place(name=name, kind="outbound", filters=tuple(map(Filter.parse, filters)), hooks=hooks, topics=() if reply is None else (reply,))


def hook(name: str, topic: str) -> Place:
    """Return a hook that publishes to a topic."""
    return Place(name=name, kind="inbound", topics=(topic,))


LOOPS = [  # places, the ways by name, source
    ([sends("a", "x/#", reply="x/y")], ["a"], "a reply to its own filter"),
    ([sends("a", "zigbee2mqtt/+", reply="zigbee2mqtt/lamp/set")], ["a"], "a reply whose device tells its state to the filter"),
    ([sends("a", "x", reply="y"), sends("b", "y", reply="x")], ["a b"], "A.reply to B, B.reply to A"),
    ([sends("a", "x", reply="{{ room }}"), sends("b", "y", reply="{{ room }}")], ["a", "b"], "what may be, may be a loop"),
    ([sends("a", "x", hooks=("h",)), hook("h", "x")], ["a h"], "a mapping to our own hook, whose topic it takes"),
    ([sends("a", "zigbee2mqtt/+", hooks=("h",)), hook("h", "zigbee2mqtt/lamp/set")], ["a h"], "through a device that tells its state"),
    ([sends("a", "stat/+/POWER", hooks=("h",)), hook("h", "cmnd/{{ body.plug }}/POWER")], ["a h"], "through a Tasmota plug"),
    ([sends("a", "esp/+/+/state", hooks=("h",)), hook("h", "esp/light/lamp/command")], ["a h"], "through an ESPHome lamp"),
    ([sends("a", "1", reply="2"), sends("b", "2", reply="3"), sends("c", "3", hooks=("h",)), hook("h", "1")], ["a b c h"], "a long way round"),
    ([sends("a", "x/#", reply="x/1"), sends("b", "x/#", reply="x/2")], ["a", "b"], "two that each lead to themselves"),
    ([sends("in", "q", reply="x"), sends("a", "x", reply="y"), sends("b", "y", reply="x")], ["a b"], "what only leads into a loop isn't on it"),
    ([sends("a", "x", reply="y"), sends("b", "y", reply="x"), sends("c", "v", reply="w"), sends("d", "w", reply="v")], ["a b", "c d"], "two loops"),
    ([], [], "nothing"),
    ([sends("a", "x"), hook("h", "x/set"), sends("b", "x/#")], [], "hooks and mappings that don't lead to hooks"),
    ([sends("a", "x", reply="y"), sends("b", "y", reply="z"), sends("c", "z")], [], "a chain with an end"),
    ([sends("a", "zigbee2mqtt/+/motion", hooks=("h",)), hook("h", "zigbee2mqtt/lamp/set")], [], "motion that switches a lamp, which is no motion sensor"),
    ([sends("a", "+", reply="$SYS/x")], [], "other levels"),
    ([sends("a", "#", hooks=("elsewhere",)), hook("h", "x")], [], "a hook that isn't there"),
]


@pytest.mark.parametrize(("places", "ways", "source"), LOOPS, ids=lambda value: str(value)[:40])
def test_ways_that_lead_back_are_found_and_no_others(places: list[Place], ways: list[str], source: str) -> None:
    found = loops(places)
    assert sorted(" ".join(sorted(place.name for place in way)) for way in found) == ways, source


HEARD = [  # places, what is heard of whom, source
    ([sends("a", "x/#"), hook("h", "x/y")], {"a": ["h"]}, "a hook's topic"),
    ([sends("a", "x/#"), hook("h", "x/{{ body.room }}")], {"a": ["h"]}, "what it may be"),
    ([sends("a", "x"), sends("b", "y", reply="x")], {"a": ["b"]}, "a reply's topic"),
    ([sends("a", "#", "x/y"), hook("h", "x/y"), hook("i", "z")], {"a": ["h", "i"]}, "each once, though two filters take it"),
    ([sends("a", "zigbee2mqtt/+"), hook("h", "zigbee2mqtt/lamp/set")], {}, "what a device then tells is not the hook's own word"),
    ([sends("a", "x", hooks=("h",)), hook("h", "x")], {}, "a way that leads back is told already"),
    ([sends("a", "x/#", reply="x/y")], {}, "a way that leads back is told already"),
    ([sends("a", "x", hooks=("h",)), sends("b", "x"), hook("h", "x")], {"b": ["h"]}, "but not of another mapping"),
    ([sends("a", "x/+"), hook("h", "y")], {}, "other topics"),
    ([], {}, "nothing"),
]


@pytest.mark.parametrize(("places", "found", "source"), HEARD, ids=lambda value: str(value)[:40])
def test_who_hears_what_is_published_here_is_told_where_no_loop_is(places: list[Place], found: dict[str, list[str]], source: str) -> None:
    told = {taker.name: sorted(place.name for place in publishing) for taker, publishing in heard(places, loops(places))}
    assert told == found, source


def test_a_way_is_told_in_its_order() -> None:
    places = [hook("h", "1"), sends("b", "2", hooks=("h",)), sends("a", "1", reply="2")]
    assert [[place.name for place in way] for way in loops(places)] == [["h", "a", "b"]]


def reachable(places: list[Place], start: Place) -> set[str]:
    """Return all that follows a place, found step by step."""
    found: set[str] = set()
    left = [start]
    while left:
        place = left.pop()
        for other in places:
            topics = [one for topic in place.topics for one in (topic, *state_topics(topic))]
            if (other.name in place.hooks or any(overlaps(filter, topic) for filter in other.filters for topic in topics)) and other.name not in found:
                found.add(other.name)
                left.append(other)
    return found


@st.composite
def configs(draw: st.DrawFn) -> list[Place]:
    """Return mappings and hooks of a few topics, so that many lead to each other."""
    topics = st.sampled_from(["1", "2", "3", "4", "4/set", "{{ x }}"])
    hooks = [hook(f"h{n}", draw(topics)) for n in range(draw(st.integers(0, 2)))]
    mappings = []
    for n in range(draw(st.integers(0, 5))):
        leads = draw(st.lists(st.sampled_from(["h0", "h1"]), max_size=1))
        mappings.append(sends(f"m{n}", *draw(st.lists(st.sampled_from(["1", "2", "3", "4", "+"]), min_size=1, max_size=2)), hooks=tuple(leads), reply=draw(st.none() | topics)))
    return [*mappings, *hooks]


@given(configs())
def test_each_place_on_a_loop_is_on_a_way_that_is_told_unless_a_shorter_one_crosses_it(places: list[Place]) -> None:
    ways = loops(places)
    on_a_loop = {place.name for place in places if place.name in reachable(places, place)}
    assert {place.name for way in ways for place in way} == on_a_loop
    assert len({frozenset(place.name for place in way) for way in ways}) == len(ways), "each once"
    for way in ways:
        for place, following in zip(way, (*way[1:], way[0]), strict=True):
            assert following.name in reachable([following], place), "each step leads to the next"


@contextmanager
def counted_calls(count: list[int]) -> Iterator[None]:
    """Count the function calls made within: what a machine's speed doesn't change."""

    def note(frame: Any, what: str, arg: Any) -> None:
        count[0] += what == "call"

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def calls(work: Callable[[], object]) -> int:
    count = [0]
    with counted_calls(count):
        work()
    return count[0]


def house(rooms: int) -> list[Place]:
    """Return a mapping and a hook for each room, which have nothing to do with each other."""
    return [*(sends(f"m{n}", f"stat/sensor{n}/POWER") for n in range(rooms)), *(hook(f"h{n}", f"cmnd/plug{n}/POWER") for n in range(rooms))]


def test_the_lint_takes_a_time_that_grows_with_the_config_and_not_with_its_square() -> None:
    small, large = house(100), house(400)
    assert calls(lambda: loops(large)) < 8 * calls(lambda: loops(small)), "four times as much is to be looked at"


def test_ten_thousand_places_are_no_matter() -> None:
    places = [*(sends(f"m{n}", f"stat/sensor{n}/POWER") for n in range(9_990)), *(hook(f"h{n}", f"cmnd/plug{n}/POWER") for n in range(5))]
    places += [sends("a", "round/about", hooks=("b",)), hook("b", "round/about")]
    assert [[place.name for place in way] for way in loops(places)] == [["a", "b"]]


# The storm

BLOWING, STOPPED = Storm(began_at=100.0, count=STORM_ECHOES - 1), Storm(began_at=100.0, count=STORM_ECHOES + 1, until=105.0 + STORM_PAUSE_S)

GUSTS = [  # the storm before, now, and after, source
    (None, 100.0, Storm(began_at=100.0, count=1), "the first echo"),
    (Storm(began_at=100.0, count=1), 101.0, Storm(began_at=100.0, count=2), "the next"),
    (BLOWING, 105.0, Storm(began_at=100.0, count=STORM_ECHOES), "as many as a house may make"),
    (Storm(began_at=100.0, count=STORM_ECHOES), 105.0, STOPPED, "one more: it is stopped"),
    (Storm(began_at=100.0, count=STORM_ECHOES), 100.0 + STORM_S, Storm(began_at=100.0 + STORM_S, count=1), "one more, but not within the time"),
    (STOPPED, 106.0, STOPPED, "it stays stopped"),
    (STOPPED, 105.0 + STORM_PAUSE_S - 0.5, STOPPED, "until its pause is over"),
    (STOPPED, 105.0 + STORM_PAUSE_S, Storm(began_at=105.0 + STORM_PAUSE_S, count=1), "then it is tried again"),
]


@pytest.mark.parametrize(("before", "now", "after", "source"), GUSTS)
def test_an_echo_makes_a_storm_grow_end_or_begin(before: Storm | None, now: float, after: Storm, source: str) -> None:
    assert gust(before, now) == after, source


RATE = STORM_ECHOES / STORM_S  # a second


@given(st.floats(0.01, 0.99))
def test_what_comes_slower_is_never_a_storm(part: float) -> None:
    storm = None
    for n in range(3 * STORM_ECHOES):
        storm = gust(storm, n / (part * RATE))
        assert storm.until is None


@given(st.floats(1.05, 100.0))
def test_what_comes_faster_is_stopped_within_its_time(times: float) -> None:
    storm = None
    for n in range(STORM_ECHOES + 1):
        storm = gust(storm, n / (times * RATE))
    assert storm is not None
    assert storm.until == STORM_ECHOES / (times * RATE) + STORM_PAUSE_S
