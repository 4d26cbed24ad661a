"""The benches: each starts what it needs, measures, and returns its figures."""

import shutil
import socket
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from tests.bench.backlog import filled, remembering
from tests.bench.caller import Calls
from tests.bench.door import asked, calling
from tests.bench.figures import Figures, Goal
from tests.bench.limits import publish_rate, receive_rate
from tests.bench.publisher import TOPICS
from tests.bench.rig import AHEAD, Daemon, Report, Rig, rig, wait_until

SETTLE_S = 2.0  # after the start: the first notes are written a second later
LEDGER_S = 65.0  # the ledger is written at most once a minute

LIMITS = {"receiver, requests/s": Goal(">=", 8_000)}
FLAT = {"events/s": Goal(">=", 1_500), "lost": Goal("=", 0), "forged": Goal("=", 0), "peak RSS, MB": Goal("<", 70)}
LATENCY = {"median, ms": Goal("<", 2.5), "p99, ms": Goal("<", 15), "lost": Goal("=", 0), "RSS, MB": Goal("<", 70), "idle CPU, %": Goal("<", 0.5)}
SLOW_LATENCY = {"median, ms": Goal("<", 4), "lost": Goal("=", 0)}
QUIET = {"lost": Goal("=", 0), "commits": Goal("=", 0), "files changed": Goal("=", 0)}
GATE_LINES = {  # what stands below the one mapping; the readings differ from each other, as a meter's do
    "no gate": "",
    "on_change, nothing changes": 'on_change = "topic"\n',
    "on_change, all changes": 'on_change = "payload.id"\n',
    "retained changed": 'retained = "changed"\n',
    "cooldown 10s": 'cooldown = "10s"\n',
    "debounce 2s": 'debounce = "2s"\n',
    "silence 1h": 'silence = "1h"\n',
    "batch of 50, 5s": 'batch = { size = 50, wait = "5s" }\n',
    "keep latest": 'keep = "latest"\n',
}
BESIDE = {"beside / alone": Goal(">=", 0.9), "p99 beside, ms": Goal("<", 30), "lost": Goal("=", 0)}
IDS = {"start-up, s": Goal("<", 2), "RSS above none, MB": Goal("<=", 2)}
ENQUEUE = {"many / thousand": Goal(">=", 0.8), "queue list --dead --limit 50, s": Goal("<", 1)}
FEW_ROWS = 1_000
FLOOD_RATE = 20_000.0  # events/s, more than any daemon takes
ROUTING = {"many / three": Goal(">=", 0.8), "lost": Goal("=", 0)}
DOOR = {
    "calls/s": Goal(">=", 1_500),
    "p99 to the device, ms": Goal("<", 25),
    "p99 beside wrong ones, ms": Goal("<", 50),
    "wrong ones/s": Goal(">=", 950),
    "wrong ones let in": Goal("=", 0),
    "not published": Goal("=", 0),
}
GATES = {f"{name}: commits meanwhile": Goal("<=", 1) for name in GATE_LINES}
BACKLOG = {
    "start-up, s": Goal("<", 2),
    "RSS above empty, MB": Goal("<=", 20),
    "peak above empty, MB": Goal("<=", 20),
    "drain / flat": Goal(">=", 0.8),
    "lost": Goal("=", 0),
}


def limits(options: Namespace) -> Figures:
    """Measure what the receiver and the publisher reach by themselves: a daemon's figure near these would be theirs."""
    figures = Figures("limits: the benchmark's own parts, without a daemon", LIMITS)
    for _ in range(options.runs):
        with rig(flood=True) as parts:
            requests = receive_rate(parts.receiver.port, options.events)
            figures.add({"receiver, requests/s": requests, "publisher, events/s": publish_rate(parts, options.events)})
    return figures


def flat(options: Namespace) -> Figures:
    """Publish as fast as may be and measure the rate of delivery."""
    bound = "any number queued at the broker" if options.flood else f"at most {AHEAD} under way"
    delay = f", a receiver that takes {options.delay_ms:g} ms" if options.delay_ms else ""
    figures = Figures(f"flat: {options.events:,} events as fast as the broker takes them, {bound}{delay}", FLAT)
    for _ in range(options.runs):
        with rig(flood=options.flood) as parts, parts.daemon(more=_at_once(options.concurrency)) as daemon:
            parts.receiver.reset(delay_ms=options.delay_ms)
            before_s = daemon.cpu_s()
            report = parts.publish(options.events, ahead=0 if options.flood else AHEAD)
            figures.add(
                {
                    "events/s": report["rate"],
                    **_correct(report),
                    "CPU ms/event": (daemon.cpu_s() - before_s) / options.events * 1000,
                    "commits": daemon.metric("mqtthook_outbox_commits_total"),
                    "start-up, s": daemon.startup_s,
                    "peak RSS, MB": daemon.peak_mb(),
                }
            )
    return figures


def latency(options: Namespace) -> Figures:
    """Publish at a steady rate and measure the time from publish to arrival; before that, what idling costs."""
    kind = "strict" if options.strict else "balanced"
    disk = f", fsync {options.slow_fsync:g} ms slower" if options.slow_fsync else ""
    goals = {} if options.strict else SLOW_LATENCY if options.slow_fsync else LATENCY
    figures = Figures(f"latency: {options.rate:g}/s for {options.seconds:g} s, {kind}{disk}", goals)
    for _ in range(options.runs):
        with rig() as parts, parts.daemon(strict=options.strict, slow_fsync_ms=options.slow_fsync) as daemon:
            time.sleep(SETTLE_S)
            idle = cpu_percent(daemon, lambda: time.sleep(options.idle))
            parts.publish(round(options.rate), rate=options.rate)  # a second in which connections are opened
            figures.add({**_steady(parts, daemon, options), "idle CPU, %": idle})
    return figures


def beside(options: Namespace) -> Figures:
    """Measure a healthy destination alone, and beside one that takes every connection and never answers."""
    figures = Figures(f"beside: {options.rate:g}/s for {options.seconds:g} s, and {options.events:,} events flat out, alone and beside one that hangs and is sent to by {options.sensors} of {TOPICS} sensors", BESIDE)
    with rig() as parts, socket.create_server(("127.0.0.1", 0), backlog=128) as hanging:
        url = f"http://127.0.0.1:{hanging.getsockname()[1]}/"
        topics = ", ".join(f'"sensors/{n}/state"' for n in range(options.sensors))
        hangs = f'[outbound.hangs]\ntopic = [{topics}]\nurl = "{url}"\nsign = "none"\n'
        for _ in range(options.runs):
            alone, other = _served(parts, "", options), _served(parts, hangs, options)
            figures.add(
                {
                    "alone, events/s": alone["rate"],
                    "beside, events/s": other["rate"],
                    "beside / alone": other["rate"] / alone["rate"],
                    "p99 alone, ms": alone["p99"],
                    "p99 beside, ms": other["p99"],
                    "lost": alone["lost"] + other["lost"],
                }
            )
    return figures


def quiet(options: Namespace) -> Figures:
    """Count the writes to the outbox that a quiet house causes: the destination up, an event now and then."""
    figures = Figures(f"quiet: {options.events:,} events at {options.rate:g}/s, and the minute in which the ledger is written", QUIET)
    for _ in range(options.runs):
        with rig() as parts, parts.daemon() as daemon:
            time.sleep(SETTLE_S)
            began, before, commits = time.monotonic(), _fingerprints(daemon.state), daemon.metric("mqtthook_outbox_commits_total")
            report = parts.publish(options.events, rate=options.rate)
            during = daemon.metric("mqtthook_outbox_commits_total")
            changed = sum(old != new for old, new in zip(before, _fingerprints(daemon.state), strict=True))
            time.sleep(max(LEDGER_S - (time.monotonic() - began), 0.0))
            after = daemon.metric("mqtthook_outbox_commits_total")
            figures.add({**_correct(report), "commits": during - commits, "files changed": changed, "commits of the ledger, later": after - during})
    return figures


def backlog(options: Namespace) -> Figures:
    """Start with a full outbox and drain it; beside it, in the same run, an outbox that starts empty."""
    figures = Figures(f"backlog: {options.rows:,} events waiting, beside an empty outbox and {options.events:,} events flat out", BACKLOG)
    with rig() as parts:
        full = filled(parts, rows=options.rows)
        empty = filled(parts, rows=0)
        for _ in range(options.runs):
            one, other = _flat_from(parts, empty, options.events), _drained(parts, full, options.rows)
            figures.add(
                {
                    "start-up, s": other["startup_s"],
                    "start-up empty, s": one["startup_s"],
                    "RSS, MB": other["rss_mb"],
                    "RSS above empty, MB": other["rss_mb"] - one["rss_mb"],
                    "peak, MB": other["peak_mb"],
                    "peak above empty, MB": other["peak_mb"] - one["peak_mb"],
                    "drain, events/s": other["rate"],
                    "flat, events/s": one["rate"],
                    "drain / flat": other["rate"] / one["rate"],
                    "lost": one["lost"] + other["lost"],
                    "repeated": one["repeated"] + other["repeated"],
                    "imbalance": other["imbalance"],
                }
            )
    return figures


def enqueue(options: Namespace) -> Figures:
    """Take events into an outbox in which many wait already, with nothing delivered; beside it, in the same run, one with a thousand."""
    figures = Figures(f"enqueue: {options.events:,} events into an outbox with {options.rows:,} waiting, beside one with {FEW_ROWS:,}", ENQUEUE)
    with rig(flood=True) as parts:
        full, few = filled(parts, rows=options.rows), filled(parts, rows=FEW_ROWS)
        for _ in range(options.runs):
            one, other = _enqueued(parts, few, options.events), _enqueued(parts, full, options.events)
            figures.add(
                {
                    "into many, events/s": other["rate"],
                    "into a thousand, events/s": one["rate"],
                    "many / thousand": other["rate"] / one["rate"],
                    "queue list --limit 50, s": other["list_s"],
                    "queue list --dead --limit 50, s": other["dead_s"],
                    "the same of a thousand, s": one["dead_s"],
                }
            )
    return figures


def ids(options: Namespace) -> Figures:
    """Start with very many ids that hooks have met; beside it, in the same run, with none."""
    figures = Figures(f"ids: {options.ids:,} requests remembered, beside none", IDS)
    with rig() as parts:
        none, many = filled(parts, rows=0), remembering(parts, ids=options.ids)
        for _ in range(options.runs):
            one, other = _idle(parts, none), _idle(parts, many)
            figures.add({"start-up, s": other["startup_s"], "RSS, MB": other["rss_mb"], "RSS above none, MB": other["rss_mb"] - one["rss_mb"], "file, MB": other["file_mb"]})
    return figures


def routing(options: Namespace) -> Figures:
    """Publish as fast as may be past many mappings of which three take each message, and past these three alone."""
    figures = Figures(f"routing: {options.events:,} messages, {options.mappings:,} mappings of which three take each, beside three", ROUTING)
    few, many = _mappings(3), _mappings(options.mappings)
    with rig(flood=True) as parts:  # filters that cross bring copies of each message, which count for the broker's queue
        for _ in range(options.runs):
            one, other = _past(parts, few, options.events), _past(parts, many, options.events)
            figures.add(
                {
                    "three, messages/s": one["rate"],
                    "many, messages/s": other["rate"],
                    "many / three": other["rate"] / one["rate"],
                    "lost": one["lost"] + other["lost"],
                    "start-up of three, s": one["startup_s"],
                    "start-up of many, s": other["startup_s"],
                    "RSS of many, MB": other["rss_mb"],
                }
            )
    return figures


def gates(options: Namespace) -> Figures:
    """Count what each gate writes to the outbox while a quiet house passes it, in less than a minute, and in the minute after."""
    figures = Figures(f"gates: {options.events:,} messages at {options.rate:g}/s", GATES)
    for name, lines in GATE_LINES.items():
        with rig() as parts, parts.daemon(more=lines) as daemon:
            time.sleep(SETTLE_S)
            began, before = time.monotonic(), daemon.metric("mqtthook_outbox_commits_total")
            parts.publish_only(options.events, rate=options.rate)
            during = daemon.metric("mqtthook_outbox_commits_total")
            time.sleep(max(LEDGER_S - (time.monotonic() - began), 0.0))
            after = daemon.metric("mqtthook_outbox_commits_total")
            written = sum(size for size, _ in _fingerprints(daemon.state)[1:])
            figures.add({f"{name}: commits meanwhile": during - before, f"{name}: commits of the minute": after - during, f"{name}: log, KB": written / 1000})
    return figures


def door(options: Namespace) -> Figures:
    """Call a signed hook that publishes to a subscribed device: at a steady rate, beside wrong signatures, and as fast as answers come."""
    figures = Figures(f"door: {options.rate:g}/s for {options.seconds:g} s, alone and beside {options.wrong:g} wrong signatures a second; {options.events:,} calls over {options.connections} connections", DOOR)
    steady = round(options.rate * options.seconds)
    for _ in range(options.runs):
        with rig() as parts, calling(parts) as hook:
            hook.call(count=round(options.rate), connections=4, rate=options.rate, name="warm")
            alone = hook.call(count=steady, connections=4, rate=options.rate, name="alone")
            wrong = Calls(port=hook.port, count=round(options.wrong * options.seconds), connections=100, rate=options.wrong, wrong=True, name="wrong")
            with asked(wrong) as forged:
                beside = hook.call(count=steady, connections=4, rate=options.rate, name="beside")
                refused = forged.report()
            before_s = hook.daemon.cpu_s()
            flat_out = hook.call(count=options.events, connections=options.connections, name="flat")
            figures.add(
                {
                    "calls/s": flat_out["rate"],
                    "p99 of these, ms": flat_out["p99_ms"],
                    "CPU ms/call": (hook.daemon.cpu_s() - before_s) / options.events * 1000,
                    "median, ms": alone["median_ms"],
                    "p99, ms": alone["p99_ms"],
                    "median to the device, ms": alone["device_median_ms"],
                    "p99 to the device, ms": alone["device_p99_ms"],
                    "p99 beside wrong ones, ms": beside["p99_ms"],
                    "wrong ones/s": refused["rate"],
                    "wrong ones let in": refused["count"] - refused["401"] - refused["429"],
                    "not published": alone["missing"] + beside["missing"] + flat_out["missing"],
                    "RSS, MB": hook.daemon.rss_mb(),
                }
            )
    return figures


def cpu_percent(daemon: Daemon, meanwhile: Callable[[], object]) -> float:
    """Return how much of one processor the daemon uses meanwhile."""
    began, before_s = time.monotonic(), daemon.cpu_s()
    meanwhile()
    return (daemon.cpu_s() - before_s) / (time.monotonic() - began) * 100


def _steady(parts: Rig, daemon: Daemon, options: Namespace) -> Report:
    reports: list[Report] = []
    parts.receiver.reset()
    busy = cpu_percent(daemon, lambda: reports.append(parts.publish(round(options.rate * options.seconds), rate=options.rate)))
    (report,) = reports
    return {
        "median, ms": report["median_ms"],
        "p99, ms": report["p99_ms"],
        "max, ms": report["max_ms"],
        "publisher late by, ms": report["late_ms"],
        **_correct(report),
        "commits": daemon.metric("mqtthook_outbox_commits_total"),
        "RSS, MB": daemon.rss_mb(),
        "CPU, %": busy,
    }


def _flat_from(parts: Rig, outbox: Path, events: int) -> Report:
    parts.receiver.reset()
    with parts.daemon(state=_copied(parts, outbox)) as daemon:
        rss_mb = daemon.rss_mb()
        report = parts.publish(events)
        return {**report, "startup_s": daemon.startup_s, "rss_mb": rss_mb, "peak_mb": daemon.peak_mb()}


def _at_once(concurrency: int) -> str:
    """Return the lines for so many requests at once: more than there are sensors takes more than one of each."""
    return f"concurrency = {concurrency}\n" + ('order = "none"\n' if concurrency > TOPICS else "")


def _mappings(count: int) -> str:
    """Return so many mappings in all: the first, two more that take its messages and don't want them, and others that don't take them."""
    lines = ['[destination.other]\nurl = "http://127.0.0.1:9/"\nsign = "none"\n']
    lines += [f'[outbound.beside{n}]\ntopic = "{topic}"\nto = "other"\nwhen = "payload.no_such_key is defined"\n' for n, topic in enumerate(("sensors/#", "+/{id}/state"))]
    elsewhere = ("sensors/elsewhere{n}/state", "house/{n}/{{room}}/power", "+/{n}/alarm/#")
    lines += [f'[outbound.m{n}]\ntopic = "{elsewhere[n % 3].format(n=n)}"\nto = "other"\n' for n in range(count - 3)]
    return "".join(lines)


def _served(parts: Rig, more: str, options: Namespace) -> Report:
    parts.receiver.reset()
    with parts.daemon(more=more) as daemon:
        flat_out = parts.publish(options.events)
        parts.receiver.reset()
        steady = parts.publish(round(options.rate * options.seconds), rate=options.rate)
        return {"rate": flat_out["rate"], "p99": steady["p99_ms"], "lost": flat_out["lost"] + steady["lost"], "peak": daemon.peak_mb()}


def _past(parts: Rig, mappings: str, events: int) -> Report:
    parts.receiver.reset()
    with parts.daemon(more=mappings) as daemon:
        report = parts.publish(events)
        return {**report, "startup_s": daemon.startup_s, "rss_mb": daemon.rss_mb()}


def _drained(parts: Rig, outbox: Path, rows: int) -> Report:
    state = _copied(parts, outbox)
    parts.receiver.reset()
    with parts.daemon(state=state) as daemon:
        rss_mb = daemon.rss_mb()
        parts.await_delivery(rows)
        report = parts.receiver.report(rows)
        imbalance = daemon.metric("mqtthook_ledger_imbalance")
        return {**report, "startup_s": daemon.startup_s, "rss_mb": rss_mb, "peak_mb": daemon.peak_mb(), "imbalance": imbalance}


def _idle(parts: Rig, outbox: Path) -> Report:
    state = _copied(parts, outbox)
    with parts.daemon(state=state) as daemon:
        time.sleep(SETTLE_S)
        return {"startup_s": daemon.startup_s, "rss_mb": daemon.rss_mb(), "file_mb": (state / "outbox.db").stat().st_size / 1e6}


def _enqueued(parts: Rig, outbox: Path, events: int) -> Report:
    with parts.daemon(state=_copied(parts, outbox)) as daemon:
        daemon.command("pause", "--all")
        before = daemon.metric('mqtthook_ledger_in_total{mapping="sensors"}')
        began = time.monotonic()
        parts.publish_only(events, rate=FLOOD_RATE)
        wait_until(lambda: daemon.metric('mqtthook_ledger_in_total{mapping="sensors"}') >= before + events, "all of them to be taken in")
        rate = events / (time.monotonic() - began)
        lists = ("queue", "list", "--limit", "50")
        return {"rate": rate, "list_s": daemon.command(*lists), "dead_s": daemon.command(*lists, "--dead")}


def _copied(parts: Rig, outbox: Path) -> Path:
    state = Path(tempfile.mkdtemp(prefix="state-", dir=parts.place))
    shutil.copy(outbox, state)
    return state


def _correct(report: Report) -> Report:
    return {name: report[name] for name in ("lost", "repeated", "forged")}


def _fingerprints(state: Path) -> list[tuple[int, int]]:
    """Return size and time of the last write of the outbox's two files; they are never opened, SQLite's locks are on them."""
    found = [(state / name).stat() for name in ("outbox.db", "outbox.db-wal")]
    return [(one.st_size, one.st_mtime_ns) for one in found]
