"""The figures of the dashboard in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hive_core.services.dashboard.server.connections import Connections
from hive_core.services.dashboard.server.health import OpenStreams


def exposition(connections: Connections, streams: OpenStreams) -> bytes:
    """Return the figures."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(connections, streams))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, connections: Connections, streams: OpenStreams) -> None:
        self._connections = connections
        self._streams = streams

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            "hive_dashboard_connections", "Connections of browsers and scripts.", len(self._connections)
        )
        yield CounterMetricFamily(
            "hive_dashboard_connections_refused", "Connections that were too many.", self._connections.refused
        )
        yield GaugeMetricFamily("hive_dashboard_windows", "Windows that are kept up to date.", self._streams.windows)
        yield GaugeMetricFamily("hive_dashboard_sessions", "Sessions with such windows.", self._streams.sessions)
