"""`/healthz` and `/metrics` of the proxy, on a unix socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from hive_core.services.egress.checks.heads import MAX_HEAD, BadHead, read_status_target
from hive_core.services.egress.link import EgressLink

_SECONDS = 5.0


class Monitoring:
    """Answers one request a connection."""

    def __init__(self, link: EgressLink) -> None:
        self._link = link

    async def start(self, path: Path) -> asyncio.Server:
        """Listen on a socket, in place of one that an earlier process has left. Raises OSError."""
        return await asyncio.start_unix_server(self._answer, path, limit=MAX_HEAD)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._page(head)
                writer.write(
                    f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + body
                )
                await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()

    def _page(self, head: bytes) -> tuple[str, str, bytes]:
        try:
            target = read_status_target(head)
        except BadHead as why:
            return f"{why.status} Refused", "text/plain", f"{why}\n".encode()
        if target == "/healthz":
            return "200 OK", "application/json", json.dumps(self._health()).encode() + b"\n"
        if target == "/metrics":
            registry = CollectorRegistry(auto_describe=False)
            registry.register(_Families(self._link))
            return "200 OK", "text/plain; version=0.0.4; charset=utf-8", generate_latest(registry)
        return "404 Not Found", "text/plain", b"the pages are /healthz and /metrics\n"

    def _health(self) -> dict[str, object]:
        agents = self._link.proxy.agents.values()
        return {
            "ok": self._link.is_synced,
            "daemon": self._link.is_connected,
            "packets": self._link.packets,
            "agents": len(agents),
            "connections": sum(len(agent.connections) for agent in agents),
        }


class _Families(Collector):
    def __init__(self, link: EgressLink) -> None:
        self._link = link

    def collect(self) -> Iterator[Metric]:
        proxy = self._link.proxy
        yield GaugeMetricFamily(
            "hive_egress_daemon_connected", "1 while the daemon is connected.", value=float(self._link.is_connected)
        )
        now = GaugeMetricFamily("hive_egress_connections", "Connections that are open.", labels=["agent"])
        accepted = CounterMetricFamily("hive_egress_accepted", "Connections accepted.", labels=["agent"])
        moved = CounterMetricFamily("hive_egress_bytes", "Bytes of agents.", labels=["agent", "direction"])
        for agent in proxy.agents.values():
            agent.bytes_today()
            now.add_metric([agent.name], len(agent.connections))
            accepted.add_metric([agent.name], agent.accepted)
            moved.add_metric([agent.name, "sent"], agent.sent_total)
            moved.add_metric([agent.name, "received"], agent.received_total)
        refused = CounterMetricFamily("hive_egress_refused", "Refusals.", labels=["agent", "reason"])
        for (name, reason), count in proxy.refusals.total.items():
            refused.add_metric([name, reason], count)
        yield from (now, accepted, moved, refused)
