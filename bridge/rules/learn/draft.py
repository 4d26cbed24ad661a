"""The draft: proposals as a config that `mqtthook check` accepts, with what was seen as comments, or as JSON.

Pure. A stranger's text stands in TOML as a string, with all that isn't printable escaped, or in a comment, which it
can't leave.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from bridge.rules.learn.groups import Group
from bridge.rules.learn.learning import Field, Kind, Path, Survey
from bridge.rules.learn.meanings import ranks
from bridge.rules.learn.proposal import Proposal, Proposals
from bridge.rules.learn.wishes import Hint, escaped, written

SHOWN_TOPICS = 4  # the rest is of the same kind
SHOWN_FIELDS = 16  # five of 117 real payloads have more
SHOWN_VALUES = 5  # of a field; with 40 characters each they still fit a wide screen
MAX_SHOWN = 100  # characters of a topic or field in a comment

_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*", re.ASCII)

# The language's gates, one line each, for who has nothing but --help and a config.
GATES = """\
# Not each message is an event. Beside `when`, a mapping takes:
#   on_change = "payload.contact"   an event only when this differs from the last time
#   cooldown = "5m"                 one at once, then none of the same topic for so long
#   debounce = "2s"                 only the last of a burst, once it is quiet for so long
#   silence = "3h"                  only when nothing came for so long; without the three above
#   keep = "latest"                 while they can't be delivered, only the newest of each topic waits
#   batch = { wait = "10s" }        several events in one request"""

_HEADING = """\
# A first config, made of what was heard: {heard}.
#
# Keep the tables you want, put your receiver's URL in, and sign (`mqtthook secret new`). Then:
#   mqtthook check     says whether it is all right
#   mqtthook try       shows what would become of a message, and the request that would be sent
# A line such as `# when = ...` is another way to do it.
#
{gates}
"""


def config_text(found: Proposals, survey: Survey, *, broker: Sequence[str], base: str) -> str:
    """Return the proposals as a config; *broker* are the lines of its [mqtt], events go to *base*/NAME."""
    parts = [_HEADING.format(heard=heard(survey), gates=GATES) + "\nversion = 1", *(["\n".join(("[mqtt]", *broker))] if broker else [])]
    parts += ["\n".join(_table(proposal, base)) for proposal in found.found]
    parts += ["\n".join(lines)] if (lines := list(_left_over(found, survey))) else []
    return "\n\n".join(parts) + "\n"


def document(found: Proposals, survey: Survey, *, base: str) -> dict[str, Any]:
    """Return the proposals as JSON's types."""
    groups = [
        {
            "mapping": proposal.name,
            "config": dict(_keys(proposal, base)),
            "hints": [{"key": hint.key, "value": hint.value, "reason": hint.reason} for hint in proposal.wish.hints],
            "messages": proposal.group.messages,
            "retained": proposal.group.retained,
            "topics": [topic.text for topic in proposal.group.topics],
            "fields": [_field_document(path, field) for path, field in proposal.group.fields.items()],
        }
        for proposal in found.found
    ]
    aside = [{"reason": why, "topics": list(topics)} for why, topics in found.aside.items()]
    too_many = {"more_groups": found.too_many, "messages_left_out": survey.left_out}
    return {"messages": survey.messages, "topics": len(survey.topics), "groups": groups, "not_proposed": aside, **too_many}


def heard(survey: Survey) -> str:
    """Return how much came, in words."""
    return f"{counted(survey.messages, 'message')} on {counted(len(survey.topics), 'topic')}"


def counted(number: int, noun: str) -> str:
    """Return a number of things in words."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def toml_string(text: str) -> str:
    """Return a text as TOML has it; in single quotes where that saves escapes."""
    if '"' in text and text.isprintable() and "'" not in text:
        return f"'{text}'"
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(sign if sign.isprintable() else f"\\U{ord(sign):08x}" for sign in plain) + '"'


# --- a table ---


def _table(proposal: Proposal, base: str) -> Iterator[str]:
    group, topics = proposal.group, [topic.text for topic in proposal.group.topics]
    yield f"# {counted(group.messages, 'message')}{f' on {len(topics)} topics' if len(topics) > 1 else ''}{_retained(group)}:"
    if topics != [proposal.topic]:
        yield from (*_listed(topics), "#")
    yield from _field_lines(group.fields, group.messages)
    yield f"[outbound.{proposal.name}]"
    keys = {key: f"{key} = {_toml(value)}" for key, value in _keys(proposal, base)}
    for key in list(proposal.wish.keys)[-1:]:
        keys[key] += f"   # {proposal.wish.meaning}"
    yield from keys.values()
    yield from _hint_lines(proposal.wish.hints)


def _retained(group: Group) -> str:
    if not group.retained:
        return ""
    if group.retained < group.messages:
        return f", {group.retained} of them retained"
    return ", all retained" if group.messages > 1 else ", retained"


def _keys(proposal: Proposal, base: str) -> Iterator[tuple[str, str | tuple[str, ...]]]:
    yield "topic", proposal.topic
    yield from proposal.wish.keys.items()
    yield "url", f"{base}/{proposal.name}"
    yield "sign", "none"


def _toml(value: str | tuple[str, ...]) -> str:
    if isinstance(value, str):
        return toml_string(value)
    return "[\n" + "".join(f"    {toml_string(text)},\n" for text in value) + "]"


def _hint_lines(hints: Sequence[Hint]) -> Iterator[str]:
    lines = [(f"# {hint.key} = {toml_string(hint.value)}", hint.reason) for hint in hints]
    width = max((len(line) for line, _ in lines), default=0)
    return (f"{line:<{width}}   # {reason}" for line, reason in lines)


def _listed(topics: Sequence[str]) -> Iterator[str]:
    yield from (f"#   {_cut(topic)}" for topic in topics[:SHOWN_TOPICS])
    if len(topics) > SHOWN_TOPICS:
        yield f"#   and {len(topics) - SHOWN_TOPICS} more"


def _left_over(found: Proposals, survey: Survey) -> Iterator[str]:
    if found.too_many:
        yield f"# And {counted(found.too_many, 'group')} of topics more: listen to a part of them, as in `mqtthook listen 'zigbee2mqtt/#' --learn 60s`."
    if survey.left_out:
        yield f"# And {counted(survey.left_out, 'message')} on topics that are too many, or too long."
    if found.aside:
        yield "# No mapping is proposed for"
    for why, topics in found.aside.items():
        more = f", and {len(topics) - SHOWN_TOPICS} more" if len(topics) > SHOWN_TOPICS else ""
        yield f"#   {why}: {', '.join(_cut(topic) for topic in topics[:SHOWN_TOPICS])}{more}"


# --- its fields ---


def _field_lines(fields: dict[Path, Field], messages: int) -> Iterator[str]:
    rank = dict(ranks(fields))
    telling_first = sorted(fields.items(), key=lambda item: rank[item[0]])
    shown = [(_cut(written(path)), *_described(field, messages)) for path, field in telling_first[:SHOWN_FIELDS]]
    name_width = max((len(name) for name, *_ in shown), default=0)
    kind_width = max((len(kind) for _, kind, _ in shown), default=0)
    for name, kind, detail in shown:
        yield f"#   {name:<{name_width}}   {kind:<{kind_width}}   {detail}".rstrip()
    if len(fields) > SHOWN_FIELDS:
        yield f"#   and {counted(len(fields) - SHOWN_FIELDS, 'field')} more"
    if any(Kind.HIDDEN in field.kinds for field in fields.values()):
        yield "#   What isn't shown has the name of a secret; an event would hold it, unless `json = { ... }` picks out the rest."


def _described(field: Field, messages: int) -> tuple[str, str]:
    """Return what a field is, and what it held."""
    kinds = " or ".join(sorted(kind.value for kind in field.kinds if kind is not Kind.TRUTH or len(field.kinds) > 1))
    if field.kinds == {Kind.TRUTH}:
        kinds = " or ".join(sorted(field.values, reverse=True))
    details = [*_range(field), *_words(field)]
    if field.count < messages:
        details.append(f"in {field.count} of {messages}")
    return kinds, ", ".join(details)


def _range(field: Field) -> Iterator[str]:
    if field.lowest is None or field.highest is None:
        return
    yield _number(field.lowest) if field.lowest == field.highest else f"{_number(field.lowest)} to {_number(field.highest)}"


def _words(field: Field) -> Iterator[str]:
    if Kind.LIST in field.kinds:
        yield f"up to {counted(field.longest, 'item')}" if field.longest else "empty"
    if Kind.TEXT not in field.kinds:
        return
    if field.values and all(_TIME.fullmatch(value) for value in field.values):
        yield f'a time such as "{next(iter(field.values))}"'
        return
    yield from (f'"{escaped(value)}"' for value in list(field.values)[:SHOWN_VALUES])
    if field.more:
        yield f"and others of up to {counted(field.longest, 'character')}" if field.values else f"up to {counted(field.longest, 'character')}"
    elif len(field.values) > SHOWN_VALUES:
        yield f"and {len(field.values) - SHOWN_VALUES} more"


def _field_document(path: Path, field: Field) -> dict[str, Any]:
    seen = {"lowest": field.lowest, "highest": field.highest, "values": list(field.values) or None}
    return {"field": written(path), "kinds": sorted(field.kinds), "messages": field.count} | {key: value for key, value in seen.items() if value is not None}


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.12g}"


def _cut(text: str) -> str:
    shown = escaped(text)
    return shown if len(shown) <= MAX_SHOWN else shown[:MAX_SHOWN] + "…"
