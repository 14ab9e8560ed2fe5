"""The process `hive-c0re relay`: its start, its protection, and its end."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

import structlog
import uvloop

from hive_core.infra.processes import allow_many_files
from hive_core.infra.systemd.notify import Notifier
from hive_core.infra.telemetry.log_config import configure
from hive_core.services.relay.gateway import RelayGateway
from hive_core.services.relay.keys import KeyDirectory
from hive_core.services.relay.status import StatusServer

log = structlog.get_logger(__name__)

_PR_SET_DUMPABLE = 4
_SWITCH_SECONDS = 0.0005
"""Longest that streams wait for a check of a large request on another thread, where that lets them."""
_GRACE_SECONDS = 5.0
"""Time in which calls may end by themselves when the relay is stopped."""


def run(link: Path, status: Path | None, credentials: Path | None, log_level: str, *, with_stdin: bool = False) -> int:
    """Run the relay until SIGTERM or SIGINT. Returns the exit code.

    `with_stdin` ends it when its standard input ends, too, on which nothing is sent.
    """
    protect_memory()
    configure(log_level)
    allow_many_files()
    sys.setswitchinterval(_SWITCH_SECONDS)
    uvloop.run(_run(link, status, credentials, with_stdin))
    return 0


def protect_memory() -> None:
    """Keep the memory with the keys out of core dumps, and from other processes of this user (prctl(2))."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "PR_SET_DUMPABLE")


def find_credentials(environment: Mapping[str, str], given: Path | None) -> KeyDirectory | None:
    """Return the directory of the keys: the one that was given, or systemd's (systemd.exec(5), LoadCredential=)."""
    if given is not None:
        return KeyDirectory(given)
    named = environment.get("CREDENTIALS_DIRECTORY")
    return KeyDirectory(Path(named), of_systemd=True) if named else None


def _follow_stdin(stopped: asyncio.Event) -> None:
    """Set the event when standard input ends."""
    loop, descriptor = asyncio.get_running_loop(), sys.stdin.fileno()

    def end() -> None:
        loop.remove_reader(descriptor)  # It would be called in every turn of the loop until the last call has ended.
        stopped.set()

    loop.add_reader(descriptor, end)


async def _run(socket_path: Path, status_path: Path | None, credentials: Path | None, with_stdin: bool) -> None:
    notifier = Notifier()
    gateway = RelayGateway(socket_path, find_credentials(os.environ, credentials))
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    if with_stdin:
        _follow_stdin(stopped)
    await gateway.open()
    status = None
    if status_path is not None:
        status = StatusServer(status_path, gateway.metrics, lambda: gateway.link.is_up)
        await status.start()
    link = asyncio.create_task(gateway.link.run())
    notifier.ready()
    log.info("the relay is started")
    await stopped.wait()
    notifier.stopping()
    await gateway.close(_GRACE_SECONDS)
    link.cancel()
    await asyncio.gather(link, return_exceptions=True)
    if status is not None:
        await status.stop()
    log.info("the relay is stopped")
