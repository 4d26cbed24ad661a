"""`mqtthook doctor`: looks at everything around the bridge at once, and says what is wrong, why it matters, and what to type.

It changes nothing, publishes nothing and sends no event. Each look ends by itself within seconds; what the looks come to
is told by `rules.diagnosis`.
"""

import os
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from bridge.cli.common import config_option, is_there, json_option, loaded, print_json, progress_bar, stale_since, state
from bridge.cli.control import ControlError, ask
from bridge.config.load import Loaded, sketch
from bridge.config.secrets import STAND_IN
from bridge.config.settings import Settings
from bridge.edges import machine
from bridge.edges.mqtt.examination import examined
from bridge.edges.reach import Receiver, reached
from bridge.outbox.copies import glanced
from bridge.rules import diagnosis
from bridge.rules.certificates import ends_at
from bridge.rules.findings import Finding, finding
from bridge.rules.loops import levels_of
from bridge.rules.retry import RetryPolicy
from bridge.rules.topics import Filter
from bridge.rules.units import duration_text, seconds

ANSWER_S = 5.0  # for the daemon, and for each address of a receiver: on a network that works both take a part of a second
LISTEN = "1s"  # enough for what the broker keeps
PATIENCE_S = 20.0  # for all looks together, beside the listening: a name server that is away takes the longest
TURN_S = 0.1
SYS = ("$SYS/broker/publish/messages/dropped",)  # mosquitto(8)
COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}

Look = Callable[[], Iterable[Finding]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """What is looked at, and how."""

    found: Loaded
    outbox: Path
    figures: Mapping[str, Any] | None
    mute: str | None
    listen_s: float
    head: bool
    root: Path

    @property
    def settings(self) -> Settings:
        """Return the settings."""
        return self.found.settings


def _duration(_ctx: click.Context, _param: click.Parameter, value: str) -> float:
    try:
        return seconds(value)
    except ValueError as exc:
        raise click.BadParameter(str(exc)) from exc


@click.command("doctor")
@click.option("--listen", "listen_s", metavar="10s", default=LISTEN, show_default=True, callback=_duration, help="How long to listen for messages with QoS 0.")
@click.option("--head", is_flag=True, help="Ask each receiver for its clock, with one request: HEAD /. Without it no request is sent.")
@click.option("--root", type=click.Path(path_type=Path), default=Path("/"), hidden=True, help="Where /sys, /run and /etc are looked for.")
@config_option
@json_option
@click.pass_context
def command(ctx: click.Context, config: str | None, *, listen_s: float, head: bool, root: Path, as_json: bool) -> None:
    """Look at the bridge and all around it, and say what is wrong, why it matters, and what to type. Exits 1 if something is.

    It looks at the daemon, the outbox, the broker, the receivers, certificates, secrets, clock, disk and power. It
    publishes nothing and sends no event: of a receiver only its name, its port and its certificate are tried.

    \b
    Examples:
      sudo mqtthook doctor
      mqtthook doctor --listen 30s
      mqtthook doctor --json
    """
    found = loaded(config, with_secrets=False)
    figures, mute = _asked(found.settings.control_socket(state()))
    patient = Patient(found=found, outbox=found.settings.outbox(state()), figures=figures, mute=mute, listen_s=listen_s, head=head, root=root)
    looks = _looks(patient)
    findings = _all_looked(looks, PATIENCE_S + listen_s)
    if as_json:
        print_json({"ok": not any(found.is_wrong for found in findings), "looked_at": list(looks), "findings": [found.document() for found in findings]})
    else:
        _tell(findings, looks)
    if any(found.is_wrong for found in findings):
        ctx.exit(1)


def _asked(control: Path) -> tuple[Mapping[str, Any] | None, str | None]:
    try:
        return ask(control, "GET", "/status", answer_s=ANSWER_S), None
    except ControlError as exc:
        return None, str(exc)


# --- all at once ---


def _all_looked(looks: Mapping[str, Look], within_s: float) -> list[Finding]:
    """Return what all looks find, each once, in their order; one that hangs is left alone, as a name server may hold it for minutes."""
    found: dict[str, list[Finding]] = {}
    failed: list[BaseException] = []

    def looked(name: str, look: Look) -> None:
        try:
            found[name] = list(look())
        except BaseException as exc:  # raised again below, where somebody sees it
            failed.append(exc)

    threads = [threading.Thread(target=looked, args=each, daemon=True) for each in looks.items()]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + within_s
    with progress_bar(len(threads), least=0, label="looking") as move_on:
        left = threads
        while left and time.monotonic() < deadline:
            left[0].join(TURN_S)
            alive = [thread for thread in left if thread.is_alive()]
            move_on(len(left) - len(alive))
            left = alive
    if failed:
        raise failed[0]
    hanging = [finding("look-hangs", name, within=duration_text(within_s)) for name in looks if name not in found]
    return list(dict.fromkeys([each for name in looks for each in found.get(name, ())] + hanging))


def _looks(patient: Patient) -> dict[str, Look]:
    """Return every look by the name of what it looks at."""
    looks: dict[str, Look] = {
        "daemon": lambda: _daemon(patient),
        "machine": lambda: _machine(patient),
        "files": lambda: _files(patient),
        "broker": lambda: _broker(patient),
    }
    for name, (receiver, for_s) in _receivers(patient.settings).items():
        looks[name] = lambda name=name, receiver=receiver, for_s=for_s: diagnosis.of_receiver(  # type: ignore[misc]
            name, reached(receiver, within_s=ANSWER_S, head=patient.head), for_s=for_s, now=time.time()
        )
    return looks


# --- what is looked at ---


def _daemon(patient: Patient) -> Iterator[Finding]:
    mqtt = patient.settings.mqtt
    yield from diagnosis.of_client_id(mqtt.client_id, socket.gethostname())
    if patient.mute is not None:
        yield finding("daemon-mute", "daemon", reason=patient.mute)
    elif patient.figures is None:
        holding = glanced(patient.outbox) if is_there(patient.outbox) else None
        yield finding("daemon-away", "daemon", outbox=patient.outbox, waiting=holding.waiting if holding else "no")
        if holding is not None and holding.dead:
            yield finding("dead-letters", "store", count=holding.dead, name="NAME")
    else:
        yield from diagnosis.of_daemon(patient.figures, now=patient.figures["now"])
        if text := stale_since(patient.found, patient.figures["config"]["loaded_at"]):
            yield finding("config-changed", str(patient.found.path), text=text.partition(": ")[0])


def _machine(patient: Patient) -> Iterator[Finding]:
    size = patient.outbox.stat().st_size if os.access(patient.outbox, os.R_OK) else 0
    growth = max(patient.settings.store.max_size - size, 0)
    # Where the outbox will be, or where only the service gets in, the disk is that of what lies above.
    place = next(parent for parent in patient.outbox.absolute().parents if os.path.isdir(parent))
    seen = machine.looked_at(place, root=patient.root)
    yield from diagnosis.of_machine(seen, outbox=str(place), growth_bytes=growth, now=time.time())


def _files(patient: Patient) -> Iterator[Finding]:
    path = patient.found.path
    for warning in patient.found.warnings:
        if "others can read this file" in warning:
            yield finding("config-readable", str(path), text=warning.partition(": ")[2].rpartition(": chmod")[0])
    known = sketch(path, path.read_bytes(), os.environ)
    for key, written in known.references:
        kind, _, file = written.partition(":")
        with suppress(PermissionError):  # then it is well hidden from us, too
            if kind == "file" and ".tls." not in key:
                yield from diagnosis.of_secret(key, file, machine.mode_of(Path(file)))
            elif ".tls." in key and not key.endswith(".key") and (end := _end_of(Path(written))) is not None:
                yield from diagnosis.of_certificate(key, end, now=time.time(), do=f"renew {written}, then: sudo systemctl restart mqtthook")
    with suppress(PermissionError):
        if (mode := machine.mode_of(patient.outbox)) is not None:
            yield from diagnosis.of_outbox(str(patient.outbox), mode)


def _end_of(file: Path) -> float | None:
    """Return when the first certificate of a PEM file ends, None where there is none."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    try:
        text = file.read_text("ascii", "replace")
        return ends_at(ssl.PEM_cert_to_DER_cert(text[text.index(begin) : text.index(end) + len(end)]))
    except (ValueError, FileNotFoundError, IsADirectoryError):
        return None


def _broker(patient: Patient) -> Iterator[Finding]:
    settings, mqtt = patient.settings, patient.settings.mqtt
    texts = machine.broker_config(root=patient.root) if _is_here(mqtt.url) else None
    if texts is not None:
        yield from diagnosis.of_broker_file(diagnosis.broker_file(texts))
    if mqtt.password is not None and mqtt.password.get_secret_value() == STAND_IN:
        yield finding("broker-unasked", "mqtt.password")
        return
    wants = {name: rule.topic for name, rule in settings.outbound.items() if rule.enabled and rule.qos}
    hooks = dict(_hook_topics(settings))
    filters = dict.fromkeys([*SYS, mqtt.status_topic, *(filter.plain for each in wants.values() for filter in each), *(filter.plain for filter in hooks.values())])
    seen = examined(mqtt, list(filters), listen_s=patient.listen_s)
    alone = patient.figures is None and patient.mute is None
    if seen.problem is None or patient.figures is None or patient.figures["connected"]:  # else the daemon has said why
        yield from diagnosis.of_broker(seen, wants=wants, hooks=hooks, status_topic=mqtt.status_topic, alone=alone)
    if seen.certificate_ends_at is not None:
        yield from diagnosis.of_certificate("mqtt.url", seen.certificate_ends_at, now=time.time(), do="renew it at the broker")


def _is_here(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "unix" or parts.hostname in ("localhost", "127.0.0.1", "::1")


def _hook_topics(settings: Settings) -> Iterator[tuple[str, Filter]]:
    """Yield what each hook may publish to, where that is narrower than everything."""
    publishes = ((name, n, publish) for name, hook in settings.inbound.items() if hook.enabled for n, publish in enumerate(hook.publishes))
    for name, n, publish in publishes:
        levels = levels_of(publish.topic.text)
        if not publish.retain and levels[0] not in ("+", "#"):
            yield f"{name}, publish {n}" if n else name, Filter("/".join(levels), levels, (None,) * len(levels))


def _receivers(settings: Settings) -> dict[str, tuple[Receiver, float]]:
    """Return where each destination is, and for how long its events are tried; Apprise's services tell of themselves."""
    found: dict[str, tuple[Receiver, float]] = {}
    for name, to in settings.destinations().items():
        if to.url is not None:
            found[f"destination {name}"] = (Receiver(url=to.url.text, network=to.network, tls=to.tls), _span_s(to.retry))
        if to.auth is not None and to.auth.oauth2 is not None:
            found[f"destination {name}, its tokens"] = (Receiver(url=to.auth.oauth2.token_url, network=to.network, tls=to.tls), _span_s(to.retry))
    return found


def _span_s(retry: RetryPolicy) -> float:
    return retry.for_ if retry.schedule is None else sum(retry.schedule)


# --- telling ---


def _tell(findings: list[Finding], looks: Iterable[str]) -> None:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for each in sorted(findings, key=lambda each: list(COLOURS).index(each.level)):
        head = f"{click.style(f'{each.level:8}', fg=COLOURS[each.level], bold=True)}{each.subject}: {each.what}"
        for line in (head, f"        why   {each.why}", f"        type  {each.do}"):
            click.echo(line if width is None or line is head else click.wrap_text(line, width, subsequent_indent=" " * 14))
    wrong = sum(each.is_wrong for each in findings)
    if wrong:
        click.echo(f"\n{wrong} {'thing is' if wrong == 1 else 'things are'} wrong")
    else:
        click.echo(f"{click.style('ok', fg='green')} nothing is wrong with {', '.join(looks)}")
