"""The daemon's metrics in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from hive_core.infra.telemetry.metrics import Metrics


def exposition(metrics: Metrics) -> bytes:
    """Return the current values of all metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(metrics))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        metrics = self._metrics
        answered = CounterMetricFamily("hive_requests", "Requests answered.", labels=["path", "status"])
        for (path, status), count in metrics.answered.items():
            answered.add_metric([path, str(status)], count)
        yield answered
        seconds = HistogramMetricFamily("hive_request_seconds", "Time to answer, long polls included.", labels=["path"])
        for path, durations in metrics.seconds.items():
            seconds.add_metric([path], *durations.cumulative())
        yield seconds
        commits = HistogramMetricFamily("hive_commit_operations", "Operations that shared a commit.", labels=[])
        commits.add_metric([], *metrics.commits.cumulative())
        yield commits
        for gauge in metrics.gauges:
            family = GaugeMetricFamily(gauge.name, gauge.text, labels=[gauge.label])
            for key, value in gauge.values().items():
                family.add_metric([key], value)
            yield family
