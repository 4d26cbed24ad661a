"""Expressions and templates: strict, sandboxed, and every failure said in the user's own words."""

import json
import re
import unicodedata
from contextlib import suppress
from datetime import date
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.errors import RenderError
from bridge.rules.expressions import MAX_OUTPUT, Expression, HeaderText, Text, TopicText, UrlText, unknown_names
from bridge.rules.structures import Structure

MOTION = {"occupancy": True, "battery": 55, "illuminance": None, "temperature": "21.5", "switch:0": {"output": True}, "items": 3, "update": {"state": "idle"}}

VALUES = [  # expression, what it comes to, source
    ("payload.occupancy and payload.battery > 20", True, "the product's example"),
    ("payload['switch:0'].output", True, "Shelly Gen2"),
    ("payload.items", 3, "a payload's own key wins over a method"),
    ("payload['items']", 3, "a payload's own key wins over a method"),
    ("payload.update.state == 'idle'", True, "Zigbee2MQTT: a key called update"),
    ("payload.illuminance is none", True, "null is a value"),
    ("payload.temperature|float > 20", True, "numbers as text"),
    ("payload.voltage is defined", False, "asking for a key is no error"),
    ("payload.voltage|default(3000)", 3000, "asking for a key is no error"),
    ("payload.voltage is defined and payload.voltage > 3", False, "short cut"),
    ("levels[1]", "hall", "the product's names"),
    ("topic.split('/')|last", "motion", "methods of text can be called"),
    ("payload.temperature > '200'", True, "text with text is compared as text"),
    ("payload.voltage|float(0) + payload.battery", 55.0, "a default is what a missing value is"),
    ("payload.voltage is is_number", False, "asking for a key is no error"),
    ("['hall', 'door']|join(',')", "hall,door", "Jinja's filters"),
    ("[payload.voltage, payload.battery]|select('defined')|list|length", 1, "asking for a key is no error"),
    ("[payload.voltage, payload.battery]|map('default', 0)|list", [0, 55], "asking for a key is no error"),
    ("[payload.battery]|length + payload|count + topic|length + {}|length", 1 + 7 + 23, "Jinja's filters"),
    ("payload.battery > 3 and '{{' != '{%'", True, "braces in a text are text"),
]

REASONS = [  # expression, the reason in the user's words
    ("payload.voltage", "payload.voltage is missing"),
    ("payload.voltage > 3", "payload.voltage is missing"),
    ("payload.switch.output", "payload.switch is missing"),
    ("payload['switch:0'].power", "payload['switch:0'].power is missing"),
    ("payload['switch:1'].output", "payload['switch:1'] is missing"),
    ("payload.keys", "payload.keys is missing"),
    ("payload.pop", "payload.pop is missing"),
    ("payload['get']", "payload.get is missing"),
    ("levels[7]", "levels[7] is missing"),
    ("payload.battery.low", "payload.battery.low is missing"),
    ("not payload.voltage", "payload.voltage is missing"),
    ("payload.temperature > 20", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("20 < payload.temperature", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("payload.temperature + 1", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("payload.illuminance > 20", "payload.illuminance is null, not a number"),
    ("payload.update > 20", "payload.update is a table, not a number"),
    ("payload.update > payload.update", "payload.update is a table, not a number"),
    ("levels >= 2", "levels is a list, not a number"),
    ("levels + 2", "levels is a list, not a number"),
    ("-payload.temperature", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("payload.temperature - payload.temperature", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("payload.battery > payload.illuminance", "payload.illuminance is null, not a number"),
    ("payload.temperature|float > payload.illuminance", "payload.illuminance is null, not a number"),
    ("payload.temperature == '21.5' and topic and payload.illuminance > 20", "payload.illuminance is null, not a number"),
    ("topic > 'a' and 'x' + topic > 'a' and payload.illuminance > 20", "payload.illuminance is null, not a number"),
    ("topic in payload.battery", "TypeError: argument of type 'int' is not iterable"),
    ("'Battery: ' + payload.battery", "payload.battery is the number 55, not a text: write ~ in place of +"),
    ("'Update: ' + payload.update", "payload.update is a table, not a text: write ~ in place of +"),
    ("topic|float > 20", "topic is the text 'zigbee2mqtt/hall/motion', not a number"),
    ("payload.voltage|default(0) > 3 or payload.power|float > 3", "payload.power is missing"),
    ("payload.voltage is not is_number and payload.power|int > 3", "payload.power is missing"),
    ("(payload.power is defined and payload.power.total > 3) or payload.temperature > 3", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("(payload.power is defined and payload.power > 3) or payload.temperature > 3", "payload.temperature is the text '21.5', not a number: write payload.temperature|float"),
    ("payload.battery / 0", "ZeroDivisionError: division by zero"),
    ("range(10000000)", "OverflowError: Range too big. The sandbox blocks ranges larger than MAX_RANGE (100000)."),
    ("topic.__class__", "topic.__class__ is missing"),
    ("payload.__class__", "payload.__class__ is missing"),
    ("[payload.voltage]|length", "payload.voltage is missing"),
    ("[payload.battery, payload.voltage]|count > 1", "payload.voltage is missing"),
    ("{'v': payload.voltage}|length", "payload.voltage is missing"),
    ("[[payload.voltage]]|first|length", "payload.voltage is missing"),
    ("payload.voltage|length", "payload.voltage is missing"),
]

BROKEN = [  # what is no expression, words of the error
    ("", "it is empty: expected an expression such as payload.battery < 20"),
    (" \n", "it is empty"),
    ("{{ payload.x }}", "template '{{ payload.x }}': an expression stands without {{ }} or {% %}, as in payload.battery < 20"),
    ("{{ payload.x }} > 3", "an expression stands without {{ }} or {% %}"),
    ("payload.x == {{ payload.y }}", "an expression stands without {{ }} or {% %}"),
    ("{% if payload.x %}true{% endif %}", "an expression stands without {{ }} or {% %}"),
    ("payload.occupancy and", "unexpected"),
    ("payload.x > 3 }} {{ 1", "an expression stands without {{ }}"),
    ("payload.x 3", "chunk after expression; to compare, write =="),
    ("payload|nofilter", "No filter named 'nofilter'"),
    ("payload is nothing", "No test named 'nothing'"),
    ("if payload", "if payload"),
    ("topic is search('(hall')", "'(hall' is not a pattern that can be used: unclosed group"),
    ("topic|regex_search('[a-z', ignorecase=true)", "'[a-z' is not a pattern that can be used: unclosed character class"),
    ("topic|regex_match(find='a(?=b)')", "'a(?=b)' is not a pattern that can be used: look-around"),
    ("payload.x and ('x' if payload.y is match('*') else 'z')", "'*' is not a pattern that can be used"),
]

NAMES = {"payload": MOTION, "topic": "zigbee2mqtt/hall/motion", "levels": ["zigbee2mqtt", "hall", "motion"]}

ANY_TEXT = st.text(st.characters())  # surrogates and control characters too
NASTY = st.sampled_from(["/", "..", ".", "+", "#", "$", "\0", "\r\n", "@evil.example", "//evil.example", "\\evil", ":80", "?", "%2e%2e", "{{ 7*7 }}", "\u2028", "", " ", "\ud800"])
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), ANY_TEXT, NASTY),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.one_of(st.sampled_from(["a", "b", "items", "get"]), ANY_TEXT), inner, max_size=3)),
    max_leaves=6,
)


@pytest.mark.parametrize(("text", "value", "source"), VALUES)
def test_an_expression_comes_to_its_value_with_its_type_kept(text: str, value: object, source: str) -> None:
    assert Expression.parse(text).value(NAMES) == value, source


@pytest.mark.parametrize(("text", "reason"), REASONS)
def test_an_expression_that_fails_says_why_in_the_users_words(text: str, reason: str) -> None:
    with pytest.raises(RenderError) as caught:
        Expression.parse(text).value(NAMES)
    assert str(caught.value) == reason


@pytest.mark.parametrize(("text", "words"), BROKEN)
def test_what_is_no_expression_is_refused_when_it_is_read(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Expression.parse(text)


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ValueError, match="expected text"):
        Expression.parse(5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("payload.items()|list", [["occupancy", True], ["battery", 55]]),
        ("payload.keys()|list", ["occupancy", "battery"]),
        ("payload.values()|list", [True, 55]),
        ("payload.get('voltage', 3)", 3),
        ("payload.get('battery')", 55),
    ],
)
def test_a_dicts_method_can_be_called_where_no_key_has_its_name(text: str, value: object) -> None:
    """Home Assistant's users write `for key, value in payload.items()`."""
    found = Expression.parse(text).value({"payload": {"occupancy": True, "battery": 55}})
    assert json.loads(json.dumps(found)) == value


@pytest.mark.parametrize("index", ["1.5", "none"])
def test_an_index_of_the_wrong_kind_is_a_render_error_like_any_other(index: str) -> None:
    payloads: list[object] = [[], "text", 5, {}]
    for payload in payloads:
        with pytest.raises(RenderError):
            Expression.parse(f"payload[{index}]").value({"payload": payload})


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for x in payload.list %}{{ x.volts }}{% endfor %}", "volts"),
        ("{% set t = payload.temperature %}{{ t + 1 }}", "text|TypeError"),
        ("{{ payload.offset|default(0) + payload.temperature }}", "payload.temperature is the text '21.5'"),
    ],
)
def test_the_reason_names_what_is_wrong_and_nothing_that_is_right(template: str, reason: str) -> None:
    with pytest.raises(RenderError, match=reason) as caught:
        Text.parse(template).render({"payload": {"list": [{}], "temperature": "21.5"}})
    assert not re.match(r"(x|t|payload\.offset) is missing", str(caught.value))


@pytest.mark.parametrize("condition", ["payload.count", "payload['count']", "payload.count and true", "not not payload.count"])
@pytest.mark.parametrize("payload", ["a plain text", [1, 2], b"bytes"])
def test_a_condition_never_holds_because_a_payload_that_is_no_object_has_such_a_method(payload: object, condition: str) -> None:
    """`when = "payload.count"` meets a device's plain "offline": a missing value is never a silent true."""
    with pytest.raises(RenderError):
        Expression.parse(condition).holds({"payload": payload})


@pytest.mark.parametrize(("text", "holds"), [("payload.battery", True), ("payload.illuminance", False), ("''", False), ("[]", False), ("0", False), ("payload.update", True)])
def test_a_condition_holds_as_jinja_counts_truth(text: str, holds: bool) -> None:
    assert Expression.parse(text).holds(NAMES) is holds


def test_a_value_whose_truth_cant_be_told_is_a_render_error() -> None:
    class Undecided:
        def __bool__(self) -> bool:
            raise TypeError("neither")

    with pytest.raises(RenderError, match="TypeError: neither"):
        Expression.parse("payload").holds({"payload": Undecided()})


@pytest.mark.parametrize(
    ("source", "names"),
    [
        (Expression.parse("payload.a and room == 'hall'"), {"payload", "room"}),
        (Text.parse("{% for x in levels %}{{ x }}{{ range(2) }}{% endfor %}"), {"levels"}),
        (Text.parse("plain"), set()),
        (Structure.parse({"a": ["{{ room }}", 5, "x {{ topic }}"], "b": {"c": "{{ payload }}"}}), {"room", "topic", "payload"}),
    ],
)
def test_the_names_that_are_used_are_known(source: Expression | Text | Structure, names: set[str]) -> None:
    assert source.names == names


@pytest.mark.parametrize(
    ("used", "words"),
    [
        ({"payload", "topic"}, None),
        ({"range", "dict", "float", "iif"}, None),
        ({"lipsum"}, "'lipsum' is not a name that can be used here; did you mean payload.lipsum or the text 'lipsum'? Known here: payload, topic"),
        ({"paylod"}, "'paylod' is not a name that can be used here; did you mean 'payload'?"),
        ({"zzz"}, "'zzz' is not a name that can be used here; did you mean payload.zzz or the text 'zzz'? Known here: payload, topic"),
    ],
)
def test_a_name_that_nothing_gives_is_shown_with_what_was_probably_meant(used: set[str], words: str | None) -> None:
    assert unknown_names(used, ["payload", "topic"]) == words


def test_a_method_that_no_key_has_is_not_there_until_it_is_called() -> None:
    for text in ("payload.keys is defined", "topic.title is defined", "payload.keys|default(none)", "topic.title|default('')"):
        assert not Expression.parse(text).value(NAMES)
    assert Expression.parse("topic.upper().title()").value(NAMES) == "Zigbee2Mqtt/Hall/Motion"


def test_what_was_written_alike_is_equal_so_that_a_reload_sees_what_changed() -> None:
    assert Expression.parse("a") == Expression.parse("a")
    assert hash(Expression.parse("a")) == hash(Expression.parse("a"))
    assert Expression.parse("a") != Expression.parse("b")
    assert Text.parse("a") != TopicText.parse("a")
    assert Structure.parse({"a": 1}) == Structure.parse({"a": 1}) != Structure.parse({"a": 2})
    assert hash(Structure.parse({"a": 1})) == hash(Structure.parse({"a": 1}))
    assert Structure.parse("a") != "a"
    assert repr(Text.parse("{{ a }}")) == "Text('{{ a }}')"


@given(JSON, st.sampled_from(["payload.a > 3", "payload.items", "payload.a.b[0]", "payload + 1", "payload|float", "payload|length", "payload in topic", "payload['b'] == payload.a", "-payload", "payload|join('x')"]))
def test_whatever_the_payload_an_expression_returns_or_raises_a_render_error(payload: Any, text: str) -> None:
    try:
        Expression.parse(text).holds({"payload": payload, "topic": "a/b"})
    except RenderError as exc:
        assert str(exc)


@given(st.lists(st.sampled_from(["payload", "topic", ".a", "['b']", "[0]", "|float", "|int", " + ", " > ", " and ", " in ", " is none", "(", ")", "not ", "3", "'x'", "|list", "|first", "~", "%"]), max_size=8).map("".join), JSON)
@example("['b'].a and payload", None)  # Jinja works it out while it compiles, and raises what it raises
def test_whatever_is_written_it_is_refused_when_read_or_fails_as_a_render_error(text: str, payload: Any) -> None:
    with suppress(ValueError, RenderError):
        Expression.parse(text).holds({"payload": payload, "topic": "a/b"})


# Text


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("no braces", "no braces"),
        ("Bewegung im {{ levels[1] }}: {{ payload.battery }} %\n", "Bewegung im hall: 55 %\n"),
        ("{% if payload.occupancy %}on{% else %}off{% endif %}", "on"),
        ("<b>{{ payload.temperature }}</b> & {{ '<' }}", "<b>21.5</b> & <"),
        ("{", "{"),
    ],
)
def test_a_templates_values_stand_in_it_as_they_are(text: str, rendered: str) -> None:
    assert Text.parse(text).render(NAMES) == rendered


@given(ANY_TEXT)
def test_a_value_is_data_and_never_a_template(value: str) -> None:
    assert Text.parse("{{ payload }}").render({"payload": value}) == value
    assert Text.parse("{{ payload }}").render({"payload": "{{ 7 * 7 }}" + value}) == "{{ 7 * 7 }}" + value


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ payload.voltage }}", "payload.voltage is missing"),
        ("{% for x in range(100000) %}{{ topic }}{% endfor %}", f"came to more than {MAX_OUTPUT} characters"),
        ("{{ 'x' * 2000000 }}", f"what '*' would come to is larger than {MAX_OUTPUT} characters, items or bits"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError: access to attribute '__class__' of 'str' object is unsafe."),
        ("{{ payload.update({'a': 1}) }}", "'dict' object is not callable"),
        ("{{ levels.append(1) }}", "levels.append is missing"),
    ],
)
def test_a_template_that_fails_says_why(text: str, reason: str) -> None:
    with pytest.raises(RenderError, match=re.escape(reason)):
        Text.parse(text).render(NAMES)


def test_formatting_text_doesnt_lead_out_of_the_sandbox() -> None:
    for text in ("{{ '{0.__class__}'.format(payload) }}", "{{ '{a.__class__}'.format_map({'a': payload}) }}", "{{ '%s'.format.__self__.__class__ }}", "{{ payload.get.__self__ }}", "{{ topic.split.__call__ }}"):
        with pytest.raises(RenderError):
            Text.parse(text).render(NAMES)
    assert Text.parse("{{ '{0:.1f} V'.format(3.14159) }} {{ '%d %%'|format(payload.battery) }}").render(NAMES) == "3.1 V 55 %"


def test_no_template_changes_what_others_see() -> None:
    names = {"payload": {"a": [1]}, "levels": ["hall"]}
    for text in ("{{ payload.a.append(2) }}", "{{ levels.clear() }}", "{{ payload.clear() }}", "{{ payload.pop('a') }}", "{{ payload.setdefault('b', 1) }}"):
        with pytest.raises(RenderError):
            Text.parse(text).render(names)
    assert names == {"payload": {"a": [1]}, "levels": ["hall"]}


def test_a_template_that_is_broken_is_refused_when_it_is_read() -> None:
    with pytest.raises(ValueError, match="end of print statement"):
        Text.parse("{{ payload")


@pytest.mark.parametrize("text", ["{% include 'a' %}", "{% import 'a' as b %}", "{% from 'a' import b %}", "{% extends 'a' %}", "{% if payload %}{%- include topic -%}{% endif %}"])
@pytest.mark.parametrize("kind", [Text, Structure, HeaderText, TopicText])
def test_a_template_that_needs_another_one_is_refused_when_it_is_read(kind: type[Text] | type[Structure], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape("there are no other templates here: write out what it needs")):
        kind.parse(text)
    assert Text.parse("{{ 'include' }} {# {% extends 'a' %} #}{% raw %}{% import %}{% endraw %}").render({}) == "include {% import %}"


# Topics


@given(st.sampled_from(["home/{{ a }}/set", "{{ a }}", "{{ a }}{{ b }}/x", "{{ a }}/{{ b }}", "{% if true %}{{ b }}{% endif %}/x", "{{ a ~ b }}"]), JSON, JSON)
def test_a_rendered_topic_has_the_levels_that_were_written_and_no_wildcard(template: str, a: Any, b: Any) -> None:
    """MQTT 5.0 sections 3.3.2.1 and 4.7.3; and no payload chooses a topic."""
    try:
        topic = TopicText.parse(template).render({"a": a, "b": b})
    except RenderError:
        return
    assert not set("+#\0") & set(topic)
    assert not topic.startswith("$")
    assert topic.count("/") == template.count("/")
    assert "" not in topic.split("/")


@pytest.mark.parametrize(
    ("value", "words"),
    [("a/b", "it holds '/'"), ("+", "it holds '+'"), ("#", "it holds '#'"), ("$SYS", "it starts with '$'"), ("", "it is empty"), ("a\0", "it holds U+0000"), ("x" * 50 + "/", "…' can't be one level")],
)
def test_a_value_that_would_be_more_than_a_level_is_refused(value: str, words: str) -> None:
    with pytest.raises(RenderError, match="can't be one level of a topic") as caught:
        TopicText.parse("home/{{ room }}/set").render({"room": value})
    assert words in str(caught.value)


@pytest.mark.parametrize("template", ["home/{{ {'a': room}['a'] }}/{", "{% if room == '{a}' %}a{% else %}home{% endif %}/hall/{", "home/{{ room }}/{"])
def test_braces_within_a_template_or_by_themselves_are_no_capture(template: str) -> None:
    assert TopicText.parse(template).render({"room": "hall"}) == "home/hall/{"


@pytest.mark.parametrize(("value", "level"), [("hall", "hall"), (7, "7"), (21.5, "21.5"), (date(2026, 11, 26), "2026-11-26")], ids=str)
def test_a_text_or_a_number_may_be_a_level(value: object, level: str) -> None:
    assert TopicText.parse("home/{{ payload.room }}/set").render({"payload": {"room": value}}) == f"home/{level}/set"


NOT_PLAIN: list[tuple[object, str]] = [(None, "null"), ([1], "a list"), ({"a": 1}, "a table"), (b"hall", "bytes"), ((1, 2), "a list")]


@pytest.mark.parametrize(("value", "what"), [*NOT_PLAIN, (True, "true"), (False, "false")], ids=str)
def test_what_is_neither_text_nor_number_is_no_level(value: object, what: str) -> None:
    with pytest.raises(RenderError) as caught:
        TopicText.parse("{{ site }}/{{ payload.room }}/set").render({"site": "home", "payload": {"room": value}})
    assert str(caught.value) == f"payload.room is {what}, not one level of a topic: expected a text or a number"


@pytest.mark.parametrize("template", ["home/{{ none }}/set", "home/{{ payload|default(none) }}", "home/{{ [1]|map('string') }}"])
def test_what_is_worked_out_is_no_level_either(template: str) -> None:
    with pytest.raises(RenderError, match=r"(null|a generator) is not one level of a topic"):
        TopicText.parse(template).render({})


# Headers


@given(st.sampled_from(["{{ a }}", "Bearer {{ a }}", "{{ a }}; {{ a }}"]), JSON)
def test_a_header_value_never_holds_a_control_character(template: str, a: Any) -> None:
    """RFC 9110 section 5.5: CR, LF and NUL are dangerous; and what else Unicode calls a control or ends a line with (UAX 14)."""
    try:
        value = HeaderText.parse(template).render({"a": a})
    except RenderError:
        return
    assert not any(unicodedata.category(sign) in ("Cc", "Zl", "Zp") for sign in value)


@pytest.mark.parametrize(("value", "words"), [("a\r\nX-Evil: 1", "control character"), ("a\tb", "control character"), ("\x7f", "control character"), ("\x80", "control character"), ("\x85X-Evil: 1", "control character"), ("\x9f", "control character"), ("\u2028", "control character"), ("\u2029", "control character"), ("\ud800", "can't be sent as UTF-8")])
def test_a_value_that_would_break_a_header_line_is_refused(value: str, words: str) -> None:
    with pytest.raises(RenderError, match=words):
        HeaderText.parse("{{ a }}").render({"a": value})


@pytest.mark.parametrize("text", ["a\tb", "a\n", "a\x85", "a\u2028"])
def test_a_header_value_that_is_written_with_a_control_character_is_refused_when_it_is_read(text: str) -> None:
    with pytest.raises(ValueError, match="holds a control character"):
        HeaderText.parse(text)


def test_a_header_value_may_hold_what_people_write() -> None:
    assert HeaderText.parse("Küche {{ a }}").render({"a": "°C"}) == "Küche °C"


# URLs

URLS = ["https://example.com/{{ a }}", "https://example.com/hooks/{{ a }}/{{ b }}?v={{ b }}", "https://example.com?x={{ a }}", "https://example.com/{{ a }}{{ b }}", "https://example.com/{% if a %}{{ a }}{% endif %}"]


@given(st.sampled_from(URLS), JSON, JSON)
def test_a_rendered_url_keeps_its_scheme_host_and_segments_whatever_the_payload(template: str, a: Any, b: Any) -> None:
    try:
        url = UrlText.parse(template).render({"a": a, "b": b})
    except RenderError:
        return
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "example.com", "")
    assert url.isascii()
    assert not re.search(r"[\x00-\x20\x7f\\]", url)
    assert parts.path.count("/") == re.sub(r"\{.*?\}\}?", "", template.split("?")[0]).count("/") - 2
    assert not {".", ".."} & {unquote(segment) for segment in parts.path.split("/")}


@given(st.text())
def test_a_value_in_a_url_can_be_read_back(value: str) -> None:
    """RFC 3986 section 2.1."""
    url = UrlText.parse("https://example.com/x?v={{ a }}").render({"a": value})
    assert unquote(url.removeprefix("https://example.com/x?v=")) == value


@pytest.mark.parametrize(("value", "what"), NOT_PLAIN, ids=str)
def test_what_has_no_form_as_text_is_no_part_of_a_url(value: object, what: str) -> None:
    with pytest.raises(RenderError) as caught:
        UrlText.parse("https://example.com/{{ payload.room }}").render({"payload": {"room": value}})
    assert str(caught.value) == f"payload.room is {what}, not a part of a URL: expected a text or a number"


def test_true_and_false_may_be_a_part_of_a_url() -> None:
    assert UrlText.parse("https://example.com/?on={{ a }}").render({"a": True}) == "https://example.com/?on=True"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("https://example.com/{{ a }}", "climb with '.' or '..'"),
        ("https://example.com/x/{{ a }}/y", "climb with '.' or '..'"),
        ("https://example.com/{% filter replace('x', ' ') %}axb{% endfilter %}", "a blank or a control character"),
        ("https://example.com/{{ nothing }}", "nothing is missing"),
    ],
)
def test_a_url_that_would_lead_elsewhere_is_refused(template: str, words: str) -> None:
    with pytest.raises(RenderError, match=words):
        UrlText.parse(template).render({"a": ".."})


@pytest.mark.parametrize("url", ["http://h?mail=me@example.com", "http://h/?mail=me@example.com", "http://h/@me", "http://h", "https://h/", "http://h:8080/x", "http://[::1]:8080/x", "http://[fe80::1]/", "HTTP://H/x", "http://h?q={{ a }}", "https://münchen.example/x", "http://h/?urlencode={{ a }}", "http://h/k{%- if a %}\n{%- endif -%} \n/x", "http://h/k{% set b %}x y{% endset %}?q={{ b }}"])
def test_a_url_whose_host_is_written_out_is_taken(url: str) -> None:
    assert UrlText.parse(url).render({"a": "1"}).startswith(url.split("{")[0])


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("example.com/hook", "doesn't start with http:// or https://"),
        ("ftp://example.com/", "doesn't start with http:// or https://"),
        ("{{ a }}", "doesn't start with http:// or https://"),
        ("https://", "its host and port are written out"),
        ("https:///x", "its host and port are written out"),
        ("https://{{ a }}/x", "its host and port are written out"),
        ("https://example.com{{ a }}", "its host and port are written out"),
        ("https://example.com:{{ a }}/", "its host and port are written out"),
        ("https://exa mple.com/", "its host and port are written out"),
        ("https://example.com\\@evil/", "a URL can't hold a user or password"),
        ("https://me:secret@example.com/", "a URL can't hold a user or password"),
        ("https://example.com:0/", "expected a host and, if any, a port from 1 to 65535"),
        ("https://example.com:65536/", "expected a host and, if any, a port"),
        ("https://example.com:x/", "expected a host and, if any, a port"),
        ("https://:80/", "expected a host and, if any, a port"),
        ("https://example.com/x#part", "a fragment is never sent"),
        ("http://127.0.0.1:9/a b", "the URL 'http://127.0.0.1:9/a b' holds ' ': write it percent-encoded, as %20"),
        ("https://example.com/x?q={{ a }} and {{ b }}", "holds ' '"),
        ("https://example.com/x?q= {{ a }}", "holds ' '"),
        ("https://example.com/a\x7fb", "holds '\\x7f': write it percent-encoded, as %7F"),
        ("https://example.com/a\x85b", "holds '\\x85': write it percent-encoded, as %C2%85"),
        ("https://example.com/a\u2028b", "holds '\\u2028'"),
        ("https://example.com/{% if a %}\n{% endif %}", "holds '\\n'"),
        ("https://example.com/{% include a %}", "there are no other templates here"),
        ("https://example.com/{{ a|urlencode }}", "each value in a URL is percent-encoded already: leave `urlencode` out"),
        ("https://example.com/?{{ {'q': a}|urlencode }}", "each value in a URL is percent-encoded already: leave `urlencode` out"),
    ],
)
def test_a_url_that_cant_be_called_is_refused_when_it_is_read(url: str, words: str) -> None:
    """RFC 9110 section 4.2.1: http and https with a host; RFC 3986 section 3.2."""
    with pytest.raises(ValueError, match=re.escape(words)):
        UrlText.parse(url)


def test_a_hash_sign_inside_a_template_is_no_fragment() -> None:
    assert UrlText.parse("https://example.com/{{ a|replace('#', 'x') }}").render({"a": "#1"}) == "https://example.com/x1"
