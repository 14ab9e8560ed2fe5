"""Metrics as plain numbers, because each request updates them; `prometheus` formats them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


@dataclass(frozen=True)
class Gauge:
    """A gauge whose values are read at each scrape."""

    name: str
    text: str
    label: str
    values: Callable[[], Mapping[Any, int]]


class Metrics:
    """The daemon's metrics since its start."""

    def __init__(self) -> None:
        self.answered: Counter[tuple[str, int]] = Counter()
        self.seconds: dict[str, Distribution] = {}
        self.commits = Distribution(_BATCHES)
        self.gauges: list[Gauge] = []

    def request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request to the endpoint `path`."""
        self.answered[path, status] += 1
        durations = self.seconds.get(path)
        if durations is None:
            durations = self.seconds[path] = Distribution(_SECONDS)
        durations.observe(seconds)

    def committed(self, operations: int) -> None:
        """Count a commit of `operations` operations."""
        self.commits.observe(operations)

    def watch(self, name: str, text: str, label: str, values: Callable[[], Mapping[Any, int]]) -> None:
        """Add a gauge whose values are read at each scrape."""
        self.gauges.append(Gauge(name, text, label, values))


class Distribution:
    """A histogram: the number of observations between bounds."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def cumulative(self) -> tuple[list[tuple[str, float]], float]:
        """Return the cumulative counts per bound, and the sum of all observations, as Prometheus needs them."""
        total = 0
        buckets: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            buckets.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
        return buckets, self._sum
