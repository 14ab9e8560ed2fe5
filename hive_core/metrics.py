"""The daemon's figures, in Prometheus' format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    """Counts what happens, and asks for the current state when it is scraped."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("hive_requests", "Requests answered.", ["path", "status"], registry=self._registry)
        self._seconds = Histogram(
            "hive_request_seconds",
            "Time to answer, long polls included.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._commits = Histogram(
            "hive_commit_operations",
            "Operations that shared a commit.",
            buckets=_BATCHES,
            registry=self._registry,
        )
        # Kept, as finding a label's child again costs more than counting does. Paths are those of endpoints, so few.
        self._children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.committed: Callable[[int], None] = self._commits.observe

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request to the endpoint `path` was answered."""
        children = self._children.get((path, status))
        if children is None:
            children = self._children[path, status] = (self._requests.labels(path, status), self._seconds.labels(path))
        answered, took = children
        answered.inc()
        took.observe(seconds)

    def watch(self, name: str, text: str, label: str, values: Callable[[], Mapping[Any, int]]) -> None:
        """Show a gauge whose values are asked for at each scrape."""
        self._registry.register(_Asked(name, text, label, values))

    def text(self) -> bytes:
        """All figures."""
        return generate_latest(self._registry)


class _Asked(Collector):
    def __init__(self, name: str, text: str, label: str, values: Callable[[], Mapping[Any, int]]) -> None:
        self._name, self._text, self._label, self._values = name, text, label, values

    def collect(self) -> list[Metric]:
        family = GaugeMetricFamily(self._name, self._text, labels=[self._label])
        for key, value in self._values().items():
            family.add_metric([key], value)
        return [family]
