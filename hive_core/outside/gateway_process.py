"""A gateway as a child of the daemon, where no unit of systemd runs it: with the host's network, and little else."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog

from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.processes import Command, LineCutter, Process, describe_exit, readable, spawn
from hive_core.runtimes.agent_environment import python_path
from hive_core.runtimes.bubblewrap import CONFINING, inspect_host
from hive_core.text import printable_line

log = structlog.get_logger(__name__)

_NETWORK_FILES = ("/etc/resolv.conf", "/run/systemd/resolve", "/etc/ld.so.cache")
"""With those that resolv.conf may be a link to."""
_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_LONGEST_LINE = 2_000


async def keep_running(name: str, link: Path, bwrap: str | None, credentials: Path | None = None) -> None:
    """Run `hive-c0re NAME` on the socket `link` of the daemon, and start it again when it ends, until cancelled."""
    pause = _FIRST_PAUSE_SECONDS
    command = command_line(name, link, bwrap, credentials)
    loop = asyncio.get_running_loop()
    environment = {"PATH": os.defpath, "LANG": "C.UTF-8", **python_path()}
    while True:
        started = loop.time()
        # It ends with its standard input: a daemon that is killed could not end it, nor bwrap if it has just begun.
        source, sink = os.pipe2(os.O_CLOEXEC)
        try:
            process = spawn(Command(command, environment, Path("/"), stdin=source))
        except OSError as error:
            log.error("a gateway cannot be started", gateway=name, error=str(error))
        else:
            try:
                await _report_output(name, process)
                log.warning("a gateway has ended", gateway=name, end=describe_exit(await process.wait()))
            finally:
                await shield_to_completion(process.end())
        finally:
            os.close(source)
            os.close(sink)
        if loop.time() - started > _LONGEST_PAUSE_SECONDS:
            pause = _FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def command_line(name: str, link: Path, bwrap: str | None, credentials: Path | None = None) -> Sequence[str]:
    """Return the command line of a gateway.

    In a sandbox it sees the system's programs, its end of the link, and the directory with its credentials.
    """
    program = [sys.executable, "-P", "-m", "hive_core", name, "--link", str(link), "--with-stdin"]
    if credentials is not None:
        program += ["--credentials", str(credentials)]
    if bwrap is None:
        return program
    host = inspect_host()
    line = [bwrap, *CONFINING, "--share-net", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108
    for target, place in host.links:
        line += ["--symlink", target, place]
    for path in (*host.read_only, *_NETWORK_FILES):
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--ro-bind", str(link), str(link)]
    if credentials is not None:  # Without it the relay starts all the same, and says what is missing.
        line += ["--ro-bind-try", str(credentials), str(credentials)]
    line += ["--remount-ro", "/", "--chdir", "/"]
    return [*line, "--", *program]


async def _report_output(name: str, process: Process) -> None:
    """Pass the output of a gateway on to the daemon's log, line by line, until it ends."""
    cutter = LineCutter(_LONGEST_LINE)
    while True:
        await readable(process.output)
        try:
            data = os.read(process.output, 65_536)
        except BlockingIOError:
            continue
        for line in cutter.feed(data) if data else cutter.finish():
            log.info("gateway", gateway=name, says=printable_line(line.decode(errors="replace"), _LONGEST_LINE))
        if not data:
            return
