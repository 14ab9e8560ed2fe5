"""A service of the hive as a child of the daemon, where no unit of systemd runs it: confined, and started again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
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
_SETTLED_SECONDS = 5.0
"""A service that runs for so long has started."""
_LISTENER = 3
"""The descriptor of an inherited listener."""


@dataclass(frozen=True)
class Service:
    """A service: `hive-c0re NAME ARGUMENTS`, and what of this host it has.

    It sees the system's programs, the socket `link` of the daemon and, if it is there, `shown`. With `listen` it has
    inherited a listener on that address, the only one that it has.
    """

    name: str
    arguments: Sequence[str]
    link: Path
    shown: Path | None = None
    has_network: bool = True
    listen: str | None = None


class ServiceProcess:
    """The process of a service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self.problem = ""
        """The reason why it does not run; "" while it does."""

    async def keep_running(self, bwrap: str | None) -> None:
        """Run the service, and start it again when it ends, with growing pauses, until cancelled.

        Without `bwrap` it is not confined.
        """
        pause = _FIRST_PAUSE_SECONDS
        loop = asyncio.get_running_loop()
        command = Command(
            command_line(self._service, bwrap),
            {"PATH": os.defpath, "LANG": "C.UTF-8", **python_path()},
            Path("/"),
        )
        while True:
            started = loop.time()
            settled = loop.call_later(_SETTLED_SECONDS, self._forget_problem)
            try:
                problem = await self._run(command)
            finally:
                settled.cancel()
            if loop.time() - started > _LONGEST_PAUSE_SECONDS:
                pause = _FIRST_PAUSE_SECONDS
            if problem != self.problem:  # A port that stays taken is told of once.
                log.warning("a service has ended", service=self._service.name, why=problem)
            self.problem = problem
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _forget_problem(self) -> None:
        self.problem = ""

    async def _run(self, command: Command) -> str:
        """Run the service once, and return the reason of its end."""
        # It ends with its standard input: a daemon that is killed could not end it, nor bwrap if it has just begun.
        source, sink = os.pipe2(os.O_CLOEXEC)
        try:
            process = spawn(Command(command.argv, command.environment, command.cwd, stdin=source))
        except OSError as error:
            return f"it cannot be started: {error}"
        else:
            try:
                last = await self._report_output(process)
                end = describe_exit(await process.wait())
                return f"{last} ({end})" if last else end
            finally:
                await shield_to_completion(process.end())
        finally:
            os.close(source)
            os.close(sink)

    async def _report_output(self, process: Process) -> str:
        """Pass the output of the service on to the daemon's log until it ends, and return its last line.

        Of a service that ends again and again with the same words, they are passed on once.
        """
        cutter = LineCutter(_LONGEST_LINE)
        kept: deque[str] = deque(maxlen=1)
        while True:
            await readable(process.output)
            try:
                data = os.read(process.output, 65_536)
            except BlockingIOError:
                continue
            for line in cutter.feed(data) if data else cutter.finish():
                says = printable_line(line.decode(errors="replace"), _LONGEST_LINE)
                kept.append(says)
                if says not in self.problem:
                    log.info("service", service=self._service.name, says=says)
            if not data:
                return kept[0] if kept else ""


def command_line(service: Service, bwrap: str | None) -> Sequence[str]:
    """Return the command line of a service, which begins with the making of its listener if it has one."""
    python = [sys.executable, "-P", "-m"]
    program = [*python, "hive_core", service.name, *service.arguments, "--with-stdin"]
    if service.listen is not None:
        program += ["--inherited", str(_LISTENER)]
    if bwrap is not None:
        program = [*_sandbox(service, bwrap), "--", *program]
    if service.listen is not None:
        # The listener belongs to the host's network, and the sandbox has none.
        program = [*python, "hive_core.services.listening", str(_LISTENER), service.listen, "--", *program]
    return program


def _sandbox(service: Service, bwrap: str) -> list[str]:
    host = inspect_host()
    line = [bwrap, *CONFINING, *(["--share-net"] if service.has_network else [])]
    line += ["--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev"]  # noqa: S108 - a mount point
    for target, place in host.links:
        line += ["--symlink", target, place]
    for path in (*host.read_only, *(_NETWORK_FILES if service.has_network else ())):
        line += ["--ro-bind-try", str(path), str(path)]
    line += ["--ro-bind", str(service.link), str(service.link)]
    if service.shown is not None:  # Without its keys the relay starts all the same, and says what is missing.
        line += ["--ro-bind-try", str(service.shown), str(service.shown)]
    return [*line, "--remount-ro", "/", "--chdir", "/"]
