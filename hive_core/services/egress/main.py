"""The process of the proxy: its start, its end, and the limits that it sets itself."""

from __future__ import annotations

import asyncio
import gc
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import structlog
import uvloop

from hive_core.errors import HiveError
from hive_core.infra.systemd.notify import Notifier
from hive_core.infra.telemetry import log_config
from hive_core.services.egress.link import EgressLink
from hive_core.services.egress.monitoring import Monitoring

log = structlog.get_logger(__name__)


def run(link: Path, status: Path | None, log_level: str, *, with_stdin: bool = False) -> int:
    """Run the proxy until SIGTERM or SIGINT, and return its exit status.

    `with_stdin` ends it when its standard input ends, too, on which nothing is sent.

    Raises HiveError `cannot_listen` for the socket of its pages, and `no_host_networks`.
    """
    log_config.configure(log_level)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    try:
        return uvloop.run(_run(link, status, with_stdin))
    finally:
        if status is not None:
            with suppress(OSError):
                status.unlink(missing_ok=True)


async def _run(path: Path, status: Path | None, with_stdin: bool) -> int:
    notifier = Notifier()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if with_stdin:
        asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stop.set)
    link = EgressLink(path)
    try:
        link.proxy.start()
    except OSError as error:
        raise HiveError(
            "no_host_networks",
            f"the kernel does not tell the addresses of this host: {error}",
            hint="let the proxy use netlink: RestrictAddressFamilies= of its unit has to name AF_NETLINK",
        ) from None
    server = None
    if status is not None:
        try:
            server = await Monitoring(link).start(status)
        except OSError as error:
            raise HiveError("cannot_listen", f"cannot listen on {status}: {error.strerror}") from None
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)  # Connections leave no cycles: most collections find nothing.
    tasks = [asyncio.create_task(link.run()), asyncio.create_task(link.proxy.sweep())]
    stopped = asyncio.ensure_future(stop.wait())
    notifier.ready()
    log.info("proxy started", link=str(path))
    try:
        await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():  # Both go on until they are cancelled: it has failed.
                task.result()
    finally:
        notifier.stopping()
        stopped.cancel()
        for task in tasks:
            task.cancel()
        if server is not None:
            server.close()
        await link.proxy.close()
        await asyncio.gather(*tasks, return_exceptions=True)
    log.info("proxy stopped")
    return 0
