"""Metrics: the figures as Prometheus reads them. The only module that imports prometheus-client.

Labels are names from the config, never topics or ids: their number is bounded by what a person wrote.
"""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.watch.figures import ConfigFigures, Figures

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class _Figures(Collector):
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        yield from _totals(self._figures)
        yield from _mappings(self._figures)
        yield from _destinations(self._figures)


def exposition(figures: Figures) -> bytes:
    """Return the figures as Prometheus text."""
    registry = CollectorRegistry()
    registry.register(_Figures(figures))
    return generate_latest(registry)


def _totals(figures: Figures) -> Iterator[Metric]:
    yield CounterMetricFamily("mqtthook_messages_received", "Messages that the broker handed over, since the start", figures.messages_received)
    yield CounterMetricFamily("mqtthook_messages_unmatched", "Of these, those that no mapping takes", figures.messages_unmatched)
    yield CounterMetricFamily("mqtthook_messages_redelivered", "Messages that came a second time and were recognised", figures.redelivered)
    yield CounterMetricFamily("mqtthook_requests_refused", "Requests to hooks that were not let in, not verified or without a usable id, since the start", figures.requests_refused)
    yield CounterMetricFamily("mqtthook_outbox_commits", "Writes to the outbox file, since the start", figures.commits)
    yield CounterMetricFamily("mqtthook_broker_sessions_lost", "Reconnects at which the broker had forgotten our session", figures.sessions_lost)
    yield GaugeMetricFamily("mqtthook_ledger_imbalance", "How far received and outcomes are from adding up: 0 is right", figures.imbalance)
    yield GaugeMetricFamily("mqtthook_broker_connected", "1 while connected to the broker", int(figures.connected))
    yield GaugeMetricFamily("mqtthook_broker_unacknowledged", "Messages that the broker waits to hear of", figures.unacknowledged)
    yield GaugeMetricFamily("mqtthook_outbox_held", "Events that debounce or batch hold back", figures.held)
    yield GaugeMetricFamily("mqtthook_gates_remembered", "Keys and topics that gates remember", figures.remembered)
    yield GaugeMetricFamily("mqtthook_outbox_full", "1 while nothing more can be made safe", int(figures.full))
    yield GaugeMetricFamily("mqtthook_outbox_bytes", "Bytes of the outbox file in use", figures.used_bytes)
    yield GaugeMetricFamily("mqtthook_outbox_max_bytes", "Bytes it may have", figures.max_bytes)
    yield GaugeMetricFamily("mqtthook_outbox_oldest_timestamp_seconds", "When the oldest waiting letter came; 0 if none waits", figures.oldest_at or 0.0)
    yield from _config(figures.config)
    yield GaugeMetricFamily("mqtthook_start_timestamp_seconds", "When the program started", figures.started_at)


def _config(config: ConfigFigures) -> Iterator[Metric]:
    reloads = CounterMetricFamily("mqtthook_config_reloads", "How often the config was read anew, since the start", labels=["result"])
    reloads.add_metric(["applied"], config.applied)
    reloads.add_metric(["refused"], config.refused)
    yield reloads
    yield GaugeMetricFamily("mqtthook_config_refused", "1 while the config file has errors, and an earlier one runs", int(bool(config.problems)))
    yield GaugeMetricFamily("mqtthook_config_loaded_timestamp_seconds", "When the config that runs was read", config.loaded_at)


def _mappings(figures: Figures) -> Iterator[Metric]:
    received = CounterMetricFamily("mqtthook_ledger_in", "What each mapping took in", labels=["mapping"])
    ended = CounterMetricFamily("mqtthook_ledger_out", "How it ended", labels=["mapping", "outcome"])
    waiting = GaugeMetricFamily("mqtthook_ledger_waiting", "What has not ended yet", labels=["mapping"])
    dead = GaugeMetricFamily("mqtthook_dead_letters", "Dead letters that are kept", labels=["mapping"])
    stopped = GaugeMetricFamily("mqtthook_mapping_stopped", "1 while a storm of its own publishes stops it", labels=["mapping"])
    failed = CounterMetricFamily("mqtthook_conditions_failed", "Conditions that could not be evaluated, since the start", labels=["mapping"])
    for name, mapping in figures.mappings.items():
        received.add_metric([name], mapping.received)
        waiting.add_metric([name], mapping.waiting)
        dead.add_metric([name], mapping.dead_letters)
        stopped.add_metric([name], int(mapping.stopped))
        failed.add_metric([name], mapping.conditions_failed)
        for outcome, count in mapping.outcomes.items():
            ended.add_metric([name, outcome], count)
    yield from (received, ended, waiting, dead, stopped, failed)


def _destinations(figures: Figures) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("mqtthook_destination_waiting", "Letters that wait for each destination", labels=["destination"])
    failures = GaugeMetricFamily("mqtthook_destination_failures", "Failed attempts since its last success", labels=["destination"])
    held = GaugeMetricFamily("mqtthook_destination_held", "1 while nothing is sent to it: its breaker is open, or it is paused or disabled", labels=["destination"])
    disabled = GaugeMetricFamily("mqtthook_destination_disabled", "1 while it is disabled", labels=["destination"])
    delivered = GaugeMetricFamily("mqtthook_destination_delivered_timestamp_seconds", "When it took something last; 0 if it has not since the start", labels=["destination"])
    for name, destination in figures.destinations.items():
        delivered.add_metric([name], destination.delivered_at or 0.0)
        waiting.add_metric([name], destination.waiting)
        failures.add_metric([name], destination.failures)
        held.add_metric([name], int(destination.state in ("breaker open", "paused", "disabled")))
        disabled.add_metric([name], int(destination.disabled is not None))
    yield from (waiting, failures, held, disabled, delivered)
