"""The execution of checks in their units, and the reasons of their failures."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.threads import CHECKS
from hive_core.infra.processes import Command, Process, describe_exit, spawn
from hive_core.runtimes.checks.order import CheckRun, CheckStopped
from hive_core.runtimes.checks.supervise import MIB, supervise
from hive_core.runtimes.checks.way_out import listening
from hive_core.runtimes.nixos.build.unit.executor import forget, unit_properties
from hive_core.runtimes.nixos.build.unit.unit_files import deleted_bytes
from hive_core.runtimes.nixos.checks.check_unit import (
    UNIT_PREFIX,
    command_line,
    lay_out,
    passed_file,
    unit_name,
    writable,
)
from hive_core.runtimes.nixos.commands import environment

_KILLED = ("2", "3")
"""CLD_KILLED and CLD_DUMPED of waitid(2), in ExecMainCode."""


class CheckUnits:
    """Runs checks in transient units. `shown` are the directories of the host that they see: the Nix store."""

    def __init__(self, shown: Sequence[Path]) -> None:
        self._shown = tuple(shown)

    async def run(self, run: CheckRun, closure: Path, say: Callable[[str], None]) -> str:
        """Run a check; returns the reason of its failure, "" if it passed. Raises HiveError `cannot_check`."""
        if run.way_out is None:
            return await self._run(run, closure, say)
        async with AsyncExitStack() as stack:
            try:
                listener, network = await stack.enter_async_context(listening(run.way_out.port))
            except OSError as error:
                raise _cannot_check(str(error)) from None
            run.way_out.give(listener)
            return await self._run(run, closure, say, network)

    async def _run(self, run: CheckRun, closure: Path, say: Callable[[str], None], network: Path | None = None) -> str:
        systemd_run = shutil.which("systemd-run")
        if systemd_run is None:
            raise _cannot_check("systemd-run is not on the daemon's PATH")
        await forget(unit_name(run))
        try:
            await CHECKS.run(lay_out, run, closure)
            line = command_line(systemd_run, run, closure, self._shown, network)
            process = spawn(Command(line, environment(), Path("/")))
        except OSError as error:
            raise _cannot_check(error.strerror or str(error)) from None
        deleted = partial(deleted_bytes, unit_name(run))
        return await supervise(_RunningUnit(process, run), run, say, counted=writable(run), deleted=deleted)


async def forget_all_checks() -> None:
    """End the checks that a killed daemon has left."""
    await forget(f"{UNIT_PREFIX}*.service")


class _RunningUnit:
    """A check in its unit; see `SandboxProcess`."""

    def __init__(self, process: Process, run: CheckRun) -> None:
        self._process = process
        self._run = run
        self._succeeded = False
        self.output = process.output

    async def wait(self) -> str:
        # systemd-run ends when the unit has, and with it the last process of the check.
        code = await self._process.wait()
        if code == 0 and await CHECKS.run(os.path.lexists, passed_file(self._run)):
            self._succeeded = True
            return ""
        properties = await unit_properties(unit_name(self._run))
        # A unit of the type `exec` is active as soon as its program runs; before that it is being set up.
        if code == 0 or int(properties.get("ActiveEnterTimestampMonotonic") or 0) == 0:
            status = int(properties.get("ExecMainStatus") or 0)
            result = properties.get("Result", "")
            why = f"exit status {status} of systemd.exec(5)" if status else "it was stopped before it ended"
            raise _cannot_check(f"{result}, {why}" if result not in ("", "success") else why)
        return _reason(properties, code, self._run)

    async def end(self) -> None:
        if not self._succeeded:
            await forget(unit_name(self._run))
        if not self._process.ended:
            self._process.kill()
            await self._process.wait()
        self._process.close()


def _reason(properties: Mapping[str, str], code: int, run: CheckRun) -> str:
    memory = f"it used more than {run.limits.memory // MIB:,} MiB of memory"
    if properties.get("Result") == "oom-kill":
        raise CheckStopped(memory)
    status = int(properties.get("ExecMainStatus") or 0) or code
    # The shell that runs the command reports a signal like this.
    killed = 128 < status < 128 + signal.NSIG
    if killed or properties.get("ExecMainCode") in _KILLED:
        number = status - 128 if killed else status
        # With control groups of version 1, systemd does not report an end by lack of memory.
        return f"{describe_exit(-number)}, or {memory}" if number == signal.SIGKILL else describe_exit(-number)
    return describe_exit(status)


def _cannot_check(why: str) -> HiveError:
    why = f"the unit of a check could not be run: {why}"
    return HiveError("cannot_check", why, hint="see: journalctl -b -n 50", status=503)
