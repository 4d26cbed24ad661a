"""`mqtthook send`: a test event to the receivers of a mapping, once to each, beside the outbox."""

import asyncio
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from difflib import get_close_matches

import click

from bridge.cli.common import config_option, json_option, loaded, print_json, title
from bridge.cli.given import data, new_event_id
from bridge.config.settings import Settings
from bridge.edges.apprise import Notifier
from bridge.model import Event, Headers, Message, Outcome, Reply, Verdict
from bridge.rules.events import Fate
from bridge.rules.learn.wishes import escaped
from bridge.rules.outbound import Destination, Outbound, Route
from bridge.rules.retry import judge
from bridge.rules.showing import explain_topic
from bridge.rules.signing import sign
from bridge.rules.specimen import specimens, topic_for
from bridge.rules.topics import topic_problem
from bridge.rules.units import duration_text

PAYLOAD = '{"test": true}'
SHOWN = 160  # characters of an answer: two lines of a terminal

Show = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trial:
    """What came of the event at one destination; None where it could not be sent, or no answer came."""

    destination: str
    outcome: Verdict
    reason: str | None
    id: str | None = None
    method: str | None = None
    url: str | None = None
    status: int | None = None
    took_ms: int | None = None
    body: str | None = None
    retry_in_s: float | None = None
    disables: bool = False


@click.command("send")
@click.argument("mapping")
@click.option("--topic", help="The message's topic; by default one that the mapping's first filter takes.")
@click.option("--payload", default=PAYLOAD, show_default=True, help="Its payload; @FILE reads a file, - standard input.")
@json_option
@config_option
def command(mapping: str, topic: str | None, payload: str, config: str | None, as_json: bool) -> None:  # noqa: FBT001 - click passes them by name
    """Send a test event to where MAPPING leads.

    It says what the answer counts as, and exits 1 if one wasn't delivered. It is the receiver that is tested: `when` and the
    gates are not asked, and the mapping may be switched off. Nothing goes through the outbox or is tried again, and the
    daemon need not run.

    \b
    Examples:
      mqtthook send hall-motion
      mqtthook send hall-motion --topic zigbee2mqtt/hall/motion --payload '{"occupancy": true}'
    """
    settings = loaded(config).settings
    rule = _rule(settings, mapping)
    now = time.time()
    # Under `silence` an event is about the last message, which came that long ago.
    message = Message(topic=_topic(rule, topic), payload=data(payload), qos=1, received_at=now - (rule.silence or 0))
    route = _route(settings, mapping)
    fates = specimens(message, route, wall=now, new_id=new_event_id)
    show: Show = (lambda _line: None) if as_json else click.echo
    show("\n".join(_heading(mapping, rule, message)))
    sent = asyncio.run(_sent(fates, route, show))
    if as_json:
        print_json({"mapping": mapping, "enabled": rule.enabled, "topic": message.topic, "destinations": [asdict(trial) for trial in sent]})
    if payload == PAYLOAD and any(trial.id is None for trial in sent):
        show("give a message that fits with --payload, and --topic if need be")
    if any(trial.outcome is not Verdict.DELIVERED for trial in sent):
        sys.exit(1)


# --- what is sent ---


def _rule(settings: Settings, name: str) -> Outbound:
    if name in settings.outbound:
        return settings.outbound[name]
    if name in settings.inbound:
        raise click.BadParameter(f"{name} is a hook: `mqtthook try --hook {name}` shows what it would publish", param_hint="MAPPING")
    close = get_close_matches(name, settings.outbound, 1)
    hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(settings.outbound) or 'none'}"
    raise click.BadParameter(f"there is no mapping {name!r}; {hint}", param_hint="MAPPING")


def _topic(rule: Outbound, given: str | None) -> str:
    if given is None:
        return topic_for(rule.topic[0])
    # Nothing may be published to $SYS, but the broker itself does.
    problem = topic_problem(given.removeprefix("$"))
    if problem is None and not any(filter.takes(tuple(given.split("/"))) for filter in rule.topic):
        problem = f"the mapping doesn't take it: {explain_topic(rule, given)}"
    if problem is not None:
        raise click.BadParameter(problem, param_hint="--topic")
    return given


def _route(settings: Settings, name: str) -> Route:
    """Return the way to the mapping's destinations, also where it is switched off."""
    switched_on = settings.outbound[name].model_copy(update={"enabled": True})
    route = settings.model_copy(update={"outbound": {name: switched_on}}).routes().named(name)
    assert route is not None, "it is switched on"
    return route


# --- sending ---


async def _sent(fates: list[Fate], route: Route, show: Show) -> list[_Trial]:
    from bridge.edges.outlet import Outlet  # here: `mqtthook --help` loads every command, and need not wait for an HTTP client

    sent = []
    async with Outlet() as outlet:
        for fate in fates:
            destination = route.destinations[fate.destination]
            show("\n" + title(fate.destination))
            if isinstance(fate.content, Event):
                show(f"  {fate.content.method} {fate.content.url}")
                channel = Notifier(destination) if destination.apprise else outlet.channel(destination)
                reply = await channel.send(fate.content, _signed(fate, fate.content, destination))
                outcome = judge(reply, destination.judging, attempt=1, age_s=0, now=time.time(), u=0)
                show("\n".join(_answer_lines(fate.destination, reply, outcome)))
                sent.append(_trial(fate, fate.content, reply, outcome))
            else:
                show(f"  {click.style('not sent', fg='red')}: {escaped(str(fate.reason))}")
                sent.append(_Trial(destination=fate.destination, outcome=Verdict.DEAD, reason=fate.reason))
    return sent


def _signed(fate: Fate, event: Event, destination: Destination) -> Headers:
    return sign(destination.signing, destination.signing_keys(), id=fate.id, now=time.time(), body=event.body)


def _trial(fate: Fate, event: Event, reply: Reply, outcome: Outcome) -> _Trial:
    return _Trial(
        destination=fate.destination,
        outcome=outcome.verdict,
        reason=outcome.reason,
        id=fate.id,
        method=event.method,
        url=event.url,
        status=reply.status,
        took_ms=_ms(reply),
        body=None if reply.status is None else reply.body.decode("utf-8", "replace"),
        retry_in_s=outcome.delay_s if outcome.verdict is Verdict.RETRY else None,
        disables=outcome.disable,
    )


# --- what is shown ---


def _heading(name: str, rule: Outbound, message: Message) -> list[str]:
    lines = [f"a test event of {title(name)}, made of a message on {escaped(message.topic)}"]
    if not rule.enabled:
        lines.append(f"{click.style('note', fg='yellow')} the mapping is switched off (enabled = false): the daemon sends nothing of it")
    if rule.reply is not None:
        lines.append(f"{click.style('note', fg='yellow')} nothing is published from the answer to {rule.reply.topic.text}: this is a test")
    return lines


def _answer_lines(name: str, reply: Reply, outcome: Outcome) -> list[str]:
    words = " ".join(reply.body.decode("utf-8", "replace").split())
    beginning = escaped(words if len(words) <= SHOWN else words[:SHOWN] + "…")
    status = "no answer" if reply.status is None else str(reply.status)
    return [f"  {status} after {_ms(reply)} ms  {beginning}".rstrip(), f"  {_judgement(name, outcome)}"]


def _judgement(name: str, outcome: Outcome) -> str:
    if outcome.verdict is Verdict.DELIVERED:
        return click.style("delivered", fg="green")
    if outcome.verdict is Verdict.RETRY:
        return f"{click.style(f'would be retried in {duration_text(outcome.delay_s)}', fg='yellow')}: {escaped(outcome.reason)}"
    disabled = f"; {name} would be disabled until `mqtthook resume {name}`" if outcome.disable else ""
    return f"{click.style('would be a dead letter', fg='red')}: {escaped(outcome.reason)}{disabled}"


def _ms(reply: Reply) -> int:
    return round(reply.took_s * 1000)
