"""The process of the dashboard: its listener, its start and its end."""

from __future__ import annotations

import asyncio
import logging
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
from hive_core.services.dashboard.server.connections import Connections
from hive_core.services.dashboard.server.tls import Certificate
from hive_core.services.listening import listen, reason

log = structlog.get_logger(__name__)

_malformed = logging.getLogger("hive.malformed")
"""The library's log of requests that are none: whoever reaches the port could fill ours with them."""
_malformed.disabled = True
_IDLE_SECONDS = 75.0
_HANDSHAKE_SECONDS = 10.0
_SHUTDOWN_SECONDS = 2.0
"""Streams have no end of their own: browsers come back by themselves."""


@dataclass(frozen=True)
class DashboardOptions:
    """The command line of the dashboard: the daemon's socket, the origin, and where it listens.

    `listen` is HOST:PORT or, beginning with a slash, the path of a unix socket for a proxy; without it the process has
    inherited the listening socket `inherited`. `certificate` and `key` are the files of TLS.
    """

    daemon: Path
    origin: str
    listen: str | None = None
    inherited: int | None = None
    certificate: Path | None = None
    key: Path | None = None


def run(options: DashboardOptions, log_level: str, *, with_stdin: bool = False) -> int:
    """Serve the dashboard until SIGTERM or SIGINT, and return the exit status.

    `with_stdin` ends it when its standard input ends, too, on which nothing is sent.

    Raises HiveError `bad_origin`, `bad_listen`, `cannot_listen` and `bad_certificate`.
    """
    log_config.configure(log_level)
    return uvloop.run(_run(options, with_stdin))


async def _run(options: DashboardOptions, with_stdin: bool) -> int:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if with_stdin:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    boundary = Boundary(options.origin)
    certificate = _certificate(options, boundary)
    listener = _listener(options)
    connections = Connections()
    runner = web.AppRunner(
        build(Dashboard(boundary, HiveConnection(options.daemon), connections=connections)),
        handler_cancellation=True,
        access_log=None,
        auto_decompress=False,  # No browser compresses a form, and a small body could become a large one.
        logger=_malformed,
        keepalive_timeout=_IDLE_SECONDS,
        shutdown_timeout=_SHUTDOWN_SECONDS,
    )
    await runner.setup()
    if runner.server is not None:
        connections.server = runner.server
    notifier = Notifier()
    tasks: list[asyncio.Task[None]] = []
    server = None
    try:
        if certificate is not None:
            reread = asyncio.Event()
            loop.add_signal_handler(signal.SIGHUP, reread.set)
            tasks.append(asyncio.create_task(certificate.follow(reread)))
        server = await _serve(connections, listener, certificate)
        notifier.ready()
        log.info("dashboard started", origin=boundary.origin)
        await stop.wait()
    finally:
        notifier.stopping()
        for task in tasks:
            task.cancel()
        if server is not None:
            server.close()
        await runner.cleanup()
    log.info("dashboard stopped")
    return 0


async def _serve(connections: Connections, listener: socket.socket, certificate: Certificate | None) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    context = None if certificate is None else certificate.context
    patience = None if certificate is None else _HANDSHAKE_SECONDS
    listener.setblocking(False)
    if listener.family == socket.AF_UNIX:
        return await loop.create_unix_server(connections, sock=listener, ssl=context, ssl_handshake_timeout=patience)
    return await loop.create_server(connections, sock=listener, ssl=context, ssl_handshake_timeout=patience)


def _certificate(options: DashboardOptions, boundary: Boundary) -> Certificate | None:
    if options.certificate is None or options.key is None:
        if options.certificate is not None or options.key is not None:
            raise HiveError("bad_certificate", "--certificate and --key belong together", hint="name both, or neither")
        return None
    if not boundary.is_secure:
        hint = f"say --origin https://{boundary.host}"
        raise HiveError("bad_origin", "with a certificate, browsers reach the dashboard by https", hint=hint)
    return Certificate(options.certificate, options.key)


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
