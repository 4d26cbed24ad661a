"""Topics and filters, beside a naive matcher written from MQTT 5.0 section 4.7."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.rules.topics import MAX_LEVELS, MAX_TOPIC_BYTES, Filter, FilterTree, level_problem, topic_problem, unprintable

TAKEN = [  # filter, topic, taken, source
    ("sport/tennis/player1/#", "sport/tennis/player1", True, "MQTT 5.0 4.7.1.2"),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking", True, "MQTT 5.0 4.7.1.2"),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", True, "MQTT 5.0 4.7.1.2"),
    ("sport/#", "sport", True, "MQTT 5.0 4.7.1.2"),
    ("sport/#", "sports", False, "MQTT 5.0 4.7.1.2"),
    ("#", "any/topic/at/all", True, "MQTT 5.0 4.7.1.2"),
    ("sport/tennis/+", "sport/tennis/player1", True, "MQTT 5.0 4.7.1.3"),
    ("sport/tennis/+", "sport/tennis/player1/ranking", False, "MQTT 5.0 4.7.1.3"),
    ("sport/+", "sport", False, "MQTT 5.0 4.7.1.3"),
    ("sport/+", "sport/", True, "MQTT 5.0 4.7.1.3"),
    ("+/+", "/finance", True, "MQTT 5.0 4.7.1.3"),
    ("/+", "/finance", True, "MQTT 5.0 4.7.1.3"),
    ("+", "/finance", False, "MQTT 5.0 4.7.1.3"),
    ("+/tennis/#", "sport/tennis", True, "MQTT 5.0 4.7.1.3"),
    ("sport/+/player1", "sport/tennis/player1", True, "MQTT 5.0 4.7.1.3"),
    ("#", "$SYS/broker/uptime", False, "MQTT 5.0 4.7.2"),
    ("+/monitor/Clients", "$SYS/monitor/Clients", False, "MQTT 5.0 4.7.2"),
    ("$SYS/#", "$SYS/monitor/Clients", True, "MQTT 5.0 4.7.2"),
    ("$SYS/monitor/+", "$SYS/monitor/Clients", True, "MQTT 5.0 4.7.2"),
    ("+/#", "$SYS", False, "MQTT 5.0 4.7.2"),
    ("sport/#", "sport/$SYS", True, "MQTT 5.0 4.7.2: the start of the topic only"),
    ("ACCOUNTS", "Accounts", False, "MQTT 5.0 4.7.3: case sensitive"),
    ("/finance", "finance", False, "MQTT 5.0 4.7.3: a leading / makes another topic"),
    ("a b/c", "a b/c", True, "MQTT 5.0 4.7.3: spaces may be included"),
    ("{room}/motion", "hall/motion", True, "a capture is a +"),
    ("z2m/{rest...}", "z2m", True, "a rest is a #"),
    ("{rest...}", "$SYS/x", False, "MQTT 5.0 4.7.2"),
]

REFUSED = [  # filter, words, source
    ("", "it is empty", "MQTT 5.0 4.7.3: at least one character"),
    ("a/#/b", "'#' must be the last level", "MQTT 5.0 4.7.1.2"),
    ("sport/tennis#", "'#' must be a whole level", "MQTT 5.0 4.7.1.2"),
    ("#/", "'#' must be the last level", "MQTT 5.0 4.7.1.2"),
    ("##", "'#' must be a whole level", "MQTT 5.0 4.7.1.2"),
    ("sport+", "'+' must be a whole level", "MQTT 5.0 4.7.1.3"),
    ("a/+b/c", "'+' must be a whole level", "MQTT 5.0 4.7.1.3"),
    ("{rest...}/b", "'{rest...}' must be the last level", "MQTT 5.0 4.7.1.2"),
    ("{room}/{room}", "the same name captures two levels", "a name has one value"),
    ("x{room}", "a capture is a whole level, such as {room} or {rest...}", "the product"),
    ("{1room}", "a capture is a whole level", "the product"),
    ("{}", "a capture is a whole level", "the product"),
    ("a/room}", "a capture is a whole level", "the product"),
    ("a/{room", "a capture is a whole level", "the product"),
    ("{räume}", "a capture is a whole level", "names are ASCII"),
    ("$share/group/a", "a shared subscription is set by `share` in [mqtt]", "MQTT 5.0 4.8.2"),
    ("a\0b", "it holds U+0000", "MQTT 5.0 4.7.3 and 1.5.4"),
    ("a\ud800", "it holds U+D800", "MQTT 5.0 1.5.4"),
    ("x" * (MAX_TOPIC_BYTES + 1), "longer than 65535 bytes", "MQTT 5.0 4.7.3"),
    ("/" * MAX_LEVELS, "more than 200 levels", "Mosquitto hangs up"),
]

COVERS = [  # wide, narrow, covers
    ("#", "a/b", True),
    ("#", "+/b/#", True),
    ("#", "$SYS/#", False),
    ("+", "$SYS", False),
    ("$SYS/#", "$SYS/a", True),
    ("a/#", "a", True),
    ("a/#", "a/+/#", True),
    ("a/+", "a/#", False),
    ("a/+", "a/b", True),
    ("a/+", "a/+", True),
    ("a/b", "a/+", False),
    ("a/+", "a/b/c", False),
    ("a/b", "a", False),
    ("{room}/x", "hall/x", True),
]

PUBLISHING = [  # topic, words or None, source
    ("zigbee2mqtt/hall_light/set", None, "Zigbee2MQTT"),
    ("shellies/küche/relay/0/command", None, "MQTT 5.0 1.5.4: UTF-8"),
    ("/leading/and/trailing/", None, "MQTT 5.0 4.7.3"),
    ("a/$b", None, "MQTT 5.0 4.7.2: the start only"),
    ("", "it is empty", "MQTT 5.0 4.7.3"),
    ("$SYS/x", "starts with '$'", "MQTT 5.0 4.7.2"),
    ("a/+", "the wildcard '+'", "MQTT 5.0 3.3.2.1"),
    ("a/#", "the wildcard '#'", "MQTT 5.0 3.3.2.1"),
    ("a\0", "U+0000", "MQTT 5.0 1.5.4"),
    ("a\n", "U+000A", "MQTT 5.0 1.5.4"),
    ("a\x7f", "U+007F", "MQTT 5.0 1.5.4"),
    ("a\x85", "U+0085", "MQTT 5.0 1.5.4"),
    ("a\ud800", "U+D800", "MQTT 5.0 1.5.4"),
    ("a\ufdcf", None, "MQTT 5.0 1.5.4: the non-characters begin after it"),
    ("a\ufdd0", "U+FDD0", "MQTT 5.0 1.5.4"),
    ("a\ufdef", "U+FDEF", "MQTT 5.0 1.5.4"),
    ("a\ufdf0", None, "MQTT 5.0 1.5.4: the non-characters end before it"),
    ("a\ufffd", None, "MQTT 5.0 1.5.4: a character like any other"),
    ("a\ufffe", "U+FFFE", "MQTT 5.0 1.5.4"),
    ("a\uffff", "U+FFFF", "MQTT 5.0 1.5.4"),
    ("a\U0001fffe", "U+1FFFE", "MQTT 5.0 1.5.4"),
    ("ü" * 32_768, "longer than 65535 bytes", "MQTT 5.0 4.7.3"),
    ("x" * MAX_TOPIC_BYTES, None, "MQTT 5.0 4.7.3"),
    ("/" * (MAX_LEVELS - 1), None, "Mosquitto takes 200 levels"),
    ("/" * MAX_LEVELS, "more than 200 levels", "Mosquitto hangs up"),
]

LEVELS = st.sampled_from(["", "a", "b", "sport", "$SYS", "$", "ä", ".", "a.b", "(", " ", "^a"])
TOPICS = st.lists(LEVELS, min_size=1, max_size=5).map("/".join).filter(bool)


@st.composite
def filters(draw: st.DrawFn) -> str:
    """Draw a topic filter with its wildcards in legal places."""
    levels = draw(st.lists(st.one_of(LEVELS, st.just("+")), max_size=4))
    if draw(st.booleans()) or not "/".join(levels):
        levels.append("#")
    return "/".join(levels)


@st.composite
def filters_with_a_topic(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a filter and a topic that is often one that it takes."""
    text = draw(filters())
    topic: list[str] = []
    for level in text.split("/"):
        if level == "#":
            topic += draw(st.lists(LEVELS, max_size=2))
        else:
            topic.append(draw(LEVELS) if level == "+" else level)
    return text, draw(st.one_of(st.just("/".join(topic) or "a"), TOPICS))


def levels_of(topic: str) -> tuple[str, ...]:
    return tuple(topic.split("/"))


def takes_by_the_specification(text: str, topic: str) -> bool:
    """Match as section 4.7 reads, with one regular expression and no cleverness."""
    levels = text.split("/")
    rest = levels[-1] == "#"
    head = "/".join("[^/]*" if level == "+" else re.escape(level) for level in (levels[:-1] if rest else levels))
    tail = "" if not rest else "(/.*)?" if len(levels) > 1 else ".*"
    not_the_brokers = r"(?!\$)" if levels[0] in ("+", "#") else ""
    return re.fullmatch(not_the_brokers + head + tail, topic, re.DOTALL) is not None


@pytest.mark.parametrize(("text", "topic", "taken", "source"), TAKEN)
def test_a_filter_takes_what_the_specification_says(text: str, topic: str, taken: bool, source: str) -> None:
    assert Filter.parse(text).takes(levels_of(topic)) is taken, source


@pytest.mark.parametrize(("text", "words", "source"), REFUSED, ids=lambda value: repr(value)[:30])
def test_a_filter_that_is_none_is_refused_with_what_is_wrong(text: str, words: str, source: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Filter.parse(text)


def test_a_filter_that_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a topic filter"):
        Filter.parse(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "plain", "topic", "captured"),
    [
        ("zigbee2mqtt/{room}/motion", "zigbee2mqtt/+/motion", "zigbee2mqtt/hall/motion", {"room": "hall"}),
        ("{site}/{rest...}", "+/#", "home/a/b/c", {"site": "home", "rest": "a/b/c"}),
        ("{site}/{rest...}", "+/#", "home", {"site": "home", "rest": ""}),
        ("a/+/{x}/#", "a/+/+/#", "a/b/c/d", {"x": "c"}),
        ("{_x1}", "+", "", {"_x1": ""}),
        ("a/{room}", "a/+", "b/hall", None),
    ],
)
def test_a_name_captures_its_level_or_the_rest(text: str, plain: str, topic: str, captured: dict[str, str] | None) -> None:
    filter = Filter.parse(text)
    assert filter.plain == plain
    assert filter.captured(levels_of(topic)) == captured
    if captured is not None:
        assert filter.captures == tuple(captured)


@given(filters_with_a_topic())
def test_takes_agrees_with_the_specification(pair: tuple[str, str]) -> None:
    text, topic = pair
    assert Filter.parse(text).takes(levels_of(topic)) is takes_by_the_specification(text, topic)


@given(filters_with_a_topic())
def test_a_capture_takes_what_its_wildcard_takes_and_the_topic_can_be_put_together_again(pair: tuple[str, str]) -> None:
    text, topic = pair
    named = "/".join({"+": f"{{n{n}}}", "#": f"{{n{n}...}}"}.get(level, level) for n, level in enumerate(text.split("/")))
    filter = Filter.parse(named)
    assert filter.plain == text
    captured = filter.captured(levels_of(topic))
    assert (captured is not None) is Filter.parse(text).takes(levels_of(topic))
    if captured is not None:
        parent = topic.count("/") + 1 < len(filter.levels)  # "sport/#" took "sport": nothing is left for the rest
        levels = filter.levels[:-1] if parent else filter.levels
        assert "/".join(captured.get(f"n{n}", level) for n, level in enumerate(levels)) == topic


@given(st.lists(filters(), max_size=8), filters_with_a_topic())
def test_the_tree_finds_exactly_the_filters_that_take_a_topic(texts: list[str], pair: tuple[str, str]) -> None:
    text, topic = pair
    texts = [*texts, text, text]  # one filter twice: two mappings may share it
    tree: FilterTree[int] = FilterTree()
    for n, one in enumerate(texts):
        tree.add(Filter.parse(one).levels, n)
    assert sorted(tree.of(levels_of(topic))) == [n for n, one in enumerate(texts) if Filter.parse(one).takes(levels_of(topic))]


def covers(wide: str, narrow: str) -> bool:
    tree: FilterTree[str] = FilterTree()
    tree.add(Filter.parse(wide).levels, wide)
    return tree.covering(Filter.parse(narrow).levels) == [wide]


@pytest.mark.parametrize(("wide", "narrow", "expected"), COVERS)
def test_a_filter_covers_one_that_takes_nothing_else(wide: str, narrow: str, expected: bool) -> None:
    assert covers(wide, narrow) is expected


@given(filters(), filters_with_a_topic())
def test_what_a_covered_filter_takes_is_taken_by_the_covering_one(wide: str, pair: tuple[str, str]) -> None:
    narrow, topic = pair[0], levels_of(pair[1])
    for one in (wide, "#", "+/#", "+/+", "a/#", "$SYS/#"):
        if covers(one, narrow) and Filter.parse(narrow).takes(topic):
            assert Filter.parse(one).takes(topic)


@given(st.lists(filters(), max_size=8), filters())
def test_the_tree_finds_exactly_the_filters_that_cover_one(texts: list[str], narrow: str) -> None:
    tree: FilterTree[int] = FilterTree()
    for n, text in enumerate(texts):
        tree.add(Filter.parse(text).levels, n)
    assert sorted(tree.covering(Filter.parse(narrow).levels)) == [n for n, text in enumerate(texts) if covers(text, narrow)]


@given(filters())
def test_a_filter_covers_itself(text: str) -> None:
    assert covers(text, text)


@pytest.mark.parametrize(("topic", "words", "source"), PUBLISHING, ids=lambda value: repr(value)[:30])
def test_a_topic_may_be_published_to_or_it_is_said_why_not(topic: str, words: str | None, source: str) -> None:
    problem = topic_problem(topic)
    assert (problem is None) is (words is None), source
    assert words is None or words in str(problem)


@pytest.mark.parametrize(
    ("level", "words"),
    [("hall", None), ("a b", None), ("küche", None), ("0", None), ("", "it is empty"), ("$SYS", "starts with '$'"), ("a/b", "'/'"), ("a+", "'+'"), ("#", "'#'"), ("a\nb", "U+000A"), ("\udcff", "U+DCFF")],
)
def test_a_value_may_be_one_level_or_it_is_said_why_not(level: str, words: str | None) -> None:
    problem = level_problem(level)
    assert (problem is None) is (words is None)
    assert words is None or words in str(problem)


@given(st.text(st.characters()))
def test_a_value_that_passes_as_a_level_makes_a_topic_that_may_be_published_to(value: str) -> None:
    if level_problem(value) is None:
        assert topic_problem(value) is None
        assert levels_of(value) == (value,)
        assert value.encode()


@given(st.text(st.characters()))
def test_text_is_printable_exactly_where_a_broker_takes_each_of_its_signs(text: str) -> None:
    """MQTT 5.0 section 1.5.4: no U+0000, no surrogate; a broker may hang up on control and non-characters."""
    bad = re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufeff]", text) or any(ord(sign) & 0xFFFE == 0xFFFE for sign in text)
    assert (unprintable(text) is not None) is bool(bad)
