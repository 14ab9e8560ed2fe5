"""The relay's own state: `/healthz` and `/metrics` on a unix socket."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)


class RelayMetrics:
    """Counters of the relay since its start."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self._calls = Counter("hive_relay_calls", "Calls that ended.", ["provider", "outcome"], registry=self.registry)
        self._refused = Counter("hive_relay_refused", "Requests not passed on.", ["reason"], registry=self.registry)
        self._next_keys = Counter(
            "hive_relay_next_key", "Calls tried with another key.", ["provider"], registry=self.registry
        )
        self._first_byte = Histogram(
            "hive_relay_first_byte_seconds", "Time to the first byte.", buckets=_SECONDS, registry=self.registry
        )

    def add_gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a gauge whose value is asked for when it is read."""
        Gauge(name, text, registry=self.registry).set_function(value)

    def ended(self, provider: str, outcome: str, first_byte: int | None) -> None:
        """Count a call that has ended; `first_byte` is in milliseconds."""
        self._calls.labels(provider, outcome).inc()
        if first_byte is not None:
            self._first_byte.observe(first_byte / 1_000)

    def refused(self, reason: str) -> None:
        """Count a request that was not passed on."""
        self._refused.labels(reason).inc()

    def next_key(self, provider: str) -> None:
        """Count a call that is tried with another key."""
        self._next_keys.labels(provider).inc()


class StatusServer:
    """The two endpoints on a unix socket in a directory of the relay's own."""

    def __init__(self, path: Path, metrics: RelayMetrics, is_connected: Callable[[], bool]) -> None:
        self._path = path
        self._metrics = metrics
        self._is_connected = is_connected
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Bind and listen; a socket of an earlier relay is replaced."""
        app = web.Application()
        app.router.add_get("/healthz", self._health)
        app.router.add_get("/metrics", self._exposition)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        self._path.unlink(missing_ok=True)
        await web.UnixSite(self._runner, str(self._path)).start()
        self._path.chmod(0o660)

    async def stop(self) -> None:
        """Close the socket."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._path.unlink(missing_ok=True)

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"ok": True, "daemon": "connected" if self._is_connected() else "away"})

    async def _exposition(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._metrics.registry), content_type="text/plain")
