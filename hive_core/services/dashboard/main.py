"""The process of the dashboard: its listener, its start and its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

import structlog
import uvloop
from aiohttp import web

from hive_core.errors import HiveError
from hive_core.infra.systemd.notify import Notifier
from hive_core.infra.telemetry import log_config
from hive_core.protocol.people.dashboard import DEFAULT_LISTEN
from hive_core.services.dashboard.application import Dashboard, build
from hive_core.services.dashboard.boundary import Boundary
from hive_core.services.dashboard.hive_client import HiveConnection
from hive_core.services.listening import listen, reason

log = structlog.get_logger(__name__)

_SHUTDOWN_SECONDS = 2.0
"""Streams have no end of their own: browsers come back by themselves."""


@dataclass(frozen=True)
class DashboardOptions:
    """The command line of the dashboard: the daemon's socket, the origin, and where it listens.

    `listen` is HOST:PORT or, beginning with a slash, the path of a unix socket for a proxy; without it the process has
    inherited the listening socket `inherited`.
    """

    daemon: Path
    origin: str
    listen: str | None = None
    inherited: int | None = None


def run(options: DashboardOptions, log_level: str, *, with_stdin: bool = False) -> int:
    """Serve the dashboard until SIGTERM or SIGINT, and return the exit status.

    `with_stdin` ends it when its standard input ends, too, on which nothing is sent.

    Raises HiveError `bad_origin`, `bad_listen` and `cannot_listen`.
    """
    log_config.configure(log_level)
    return uvloop.run(_run(options, with_stdin))


async def _run(options: DashboardOptions, with_stdin: bool) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if with_stdin:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    boundary = Boundary(options.origin)
    listener = _listener(options)
    runner = web.AppRunner(
        build(Dashboard(boundary, HiveConnection(options.daemon))),
        handler_cancellation=True,
        access_log=None,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    notifier = Notifier()
    try:
        await web.SockSite(runner, listener).start()
        notifier.ready()
        log.info("dashboard started", origin=boundary.origin)
        await stop.wait()
    finally:
        notifier.stopping()
        await runner.cleanup()
    return 0


def _listener(options: DashboardOptions) -> socket.socket:
    if options.inherited is not None:
        try:
            return socket.socket(fileno=options.inherited)
        except OSError as error:
            raise HiveError("cannot_listen", f"descriptor {options.inherited} is no socket: {error.strerror}") from None
    address = options.listen or DEFAULT_LISTEN
    try:
        return listen(address)
    except ValueError as error:
        raise HiveError("bad_listen", f"{address!r} is no address to listen on", hint=str(error)) from None
    except OSError as error:
        raise HiveError("cannot_listen", f"cannot listen on {address}: {reason(error)}") from None
