"""Alerts: what a person should be told, read off two looks at the figures. Pure; who is told, and how, is not known here.

Each is told once when it begins and once when it is over; one that flaps, at most every five minutes.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from bridge.model import Lane, Letter, Priority
from bridge.rules.events import plain_event
from bridge.rules.outbound import Destination
from bridge.rules.payloads import timestamp
from bridge.rules.structures import json_bytes
from bridge.rules.units import Slice, duration_text
from bridge.watch.figures import ConfigFigures, DestinationFigures, Figures

OLD_S = 3_600.0  # a destination whose oldest event waits for an hour has a problem, whatever its breaker says
AGAIN_S = 300.0  # until the same is told again

ACCOUNT = "mqtthook.alerts"  # what they are counted as; no mapping's own name holds a dot

HELD = frozenset({"breaker open", "disabled"})


class AlertSettings(Slice):
    """`[alerts]`: the destination that is told of problems, and in which form."""

    to: str
    format: Literal["event", "text"] = "event"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """Something to tell: `kind` and `subject` name it, `text` says it, `over` tells that it is past."""

    kind: str
    subject: str
    text: str
    over: bool = False

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Which problems there were at the last look, but for those that are still to be told, and when each alert was told last."""

    problems: Mapping[tuple[str, str], str] = field(default_factory=dict)
    dead: int | None = None
    at: Mapping[tuple[str, str], float] = field(default_factory=dict)


def alerts(told: Told, figures: Figures, *, now: float) -> tuple[Told, list[Alert]]:
    """Return what is new since the last look, and what is known from now on; *now* is unix seconds."""
    problems = dict(_problems(figures, now))
    found = [Alert(kind=kind, subject=subject, text=text) for (kind, subject), text in problems.items() if (kind, subject) not in told.problems]
    found += [Alert(kind=kind, subject=subject, text=f"over: {text}", over=True) for (kind, subject), text in told.problems.items() if (kind, subject) not in problems]
    if told.dead is not None and figures.dead_letters > told.dead:
        more = figures.dead_letters - told.dead
        text = f"{more} more dead letter{'s' if more > 1 else ''}, {figures.dead_letters} in all: `mqtthook queue list --dead`"
        found.append(Alert(kind="dead letters", subject="outbox", text=text))
    due = [alert for alert in found if alert.over or now - told.at.get((alert.kind, alert.subject), -AGAIN_S) >= AGAIN_S]
    at = {**told.at, **{(alert.kind, alert.subject): now for alert in due}}
    dead = figures.dead_letters if told.dead is None or any(alert.kind == "dead letters" for alert in due) else min(told.dead, figures.dead_letters)
    untold = {(alert.kind, alert.subject) for alert in found} - {(alert.kind, alert.subject) for alert in due}  # new to the next look, until it is told
    return Told(problems={place: text for place, text in problems.items() if place not in untold}, dead=dead, at=at), due


def alert_letter(alert: Alert, settings: AlertSettings, destination: Destination, *, id: str, now: float) -> Letter:
    """Return the letter that carries an alert; raise RenderError where the destination's templates need a message."""
    if settings.format == "text":
        content_type, body = "text/plain; charset=utf-8", f"mqtthook: {alert.text}".encode()
    else:
        content_type, body = "application/json", json_bytes({"type": "mqtthook.alert", "timestamp": timestamp(now), "data": alert.document()})
    event = plain_event(destination, content_type, body)
    return Letter(id=id, lane=Lane.WEBHOOK, mapping=ACCOUNT, destination=settings.to, key=ACCOUNT, content=event, created_at=now, priority=Priority.HIGH)


def troubles(figures: Figures, *, now: float) -> dict[tuple[str, str], str]:
    """Return all that is wrong, by kind and subject, with a sentence each: the broker's absence, and what alerts tell of. Empty: all is well."""
    away = {} if figures.connected else {("broker away", "mqtt"): f"the broker is away: {figures.broker}"}
    return away | dict(_problems(figures, now))


def destination_status(destination: DestinationFigures) -> dict[str, Any]:
    """Return what the status topic of a destination says: its state, and why where there is a reason."""
    return {"state": destination.state, **({"reason": why} if (why := destination.reason or destination.disabled) else {})}


def queue_status(figures: Figures, *, now: float) -> dict[str, Any]:
    """Return what the status topic of the outbox says."""
    oldest_s = None if figures.oldest_at is None else max(round(now - figures.oldest_at), 0)
    return {"waiting": figures.waiting, "oldest_s": oldest_s, "dead_letters": figures.dead_letters, "full": figures.full}


def problem_status(figures: Figures, *, now: float) -> dict[str, Any]:
    """Return what the status topic of problems says: what is wrong, without numbers that would change all the time."""
    reasons = [f"{subject}: {kind}" for kind, subject in troubles(figures, now=now)]
    return {"problem": bool(reasons), "reasons": reasons}


def config_status(config: ConfigFigures) -> dict[str, Any]:
    """Return what the status topic of the config says."""
    return {"state": "refused" if config.problems else "ok", "loaded_at": timestamp(config.loaded_at), "problems": list(config.problems)}


def _problems(figures: Figures, now: float) -> Iterator[tuple[tuple[str, str], str]]:
    if figures.config.problems:
        yield ("config", "file"), f"the config file was changed and has errors, the one before it goes on running: {figures.config.problems[0]}; `mqtthook check` shows all"
    for name, destination in figures.destinations.items():
        if destination.state in HELD:
            why = f" after {destination.failures} failures; it is tried again by itself"
            if destination.disabled:
                why = f": {destination.disabled}; `mqtthook resume {name}` sends again"
            yield (destination.state, name), f"{name}: {destination.state}{why}, {destination.waiting} waiting"
    yield from _problems_of_outbox(figures, now)
    for name, mapping in figures.mappings.items():
        if mapping.stopped:
            yield ("storm", name), f"{name} is stopped by a storm: what it makes comes back to it"
    if figures.imbalance:
        yield ("ledger", "outbox"), f"the ledger does not add up, by {figures.imbalance}: please report it"


def _problems_of_outbox(figures: Figures, now: float) -> Iterator[tuple[tuple[str, str], str]]:
    if figures.oldest_at is not None and now - figures.oldest_at > OLD_S:
        yield ("old", "outbox"), f"the oldest event waits for {duration_text(now - figures.oldest_at)}, {figures.waiting} in all: `mqtthook queue list --waiting`"
    if figures.damage is not None:
        yield ("damaged", "outbox"), figures.damage
    if figures.full:
        yield ("full", "outbox"), "the outbox is full: messages stay with the broker, hooks answer 503"
