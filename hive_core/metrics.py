"""The daemon's figures, in Prometheus' format."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


class Metrics(Collector):
    """Counts what happens in plain numbers, since that is on every request's way, and shapes them when scraped."""

    def __init__(self) -> None:
        self._answered: Counter[tuple[str, int]] = Counter()
        self._seconds: dict[str, _Distribution] = {}
        self._commits = _Distribution(_BATCHES)
        self._asked: list[tuple[str, str, str, Callable[[], Mapping[Any, int]]]] = []
        self._registry = CollectorRegistry()
        self._registry.register(self)
        self.committed: Callable[[int], None] = self._commits.observe

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request to the endpoint `path` was answered."""
        self._answered[path, status] += 1
        taken = self._seconds.get(path)
        if taken is None:
            taken = self._seconds[path] = _Distribution(_SECONDS)
        taken.observe(seconds)

    def watch(self, name: str, text: str, label: str, values: Callable[[], Mapping[Any, int]]) -> None:
        """Show a gauge whose values are asked for at each scrape."""
        self._asked.append((name, text, label, values))

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        answered = CounterMetricFamily("hive_requests", "Requests answered.", labels=["path", "status"])
        for (path, status), count in self._answered.items():
            answered.add_metric([path, str(status)], count)
        yield answered
        seconds = HistogramMetricFamily("hive_request_seconds", "Time to answer, long polls included.", labels=["path"])
        for path, taken in self._seconds.items():
            seconds.add_metric([path], *taken.cumulated())
        yield seconds
        commits = HistogramMetricFamily("hive_commit_operations", "Operations that shared a commit.", labels=[])
        commits.add_metric([], *self._commits.cumulated())
        yield commits
        for name, text, label, values in self._asked:
            family = GaugeMetricFamily(name, text, labels=[label])
            for key, value in values().items():
                family.add_metric([key], value)
            yield family


class _Distribution:
    """How many observations fell between which bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def cumulated(self) -> tuple[list[tuple[str, float]], float]:
        """Prometheus' form: for each bound how many were at most that, and the sum of all."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
        return buckets, self._sum
