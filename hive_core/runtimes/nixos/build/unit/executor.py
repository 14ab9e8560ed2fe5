"""The execution of Nix in a unit, and the reasons of its failures."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.processes import Command, LineCutter, Process, readable, spawn
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.unit.confinement import STOP_SECONDS, UNIT_PREFIX, BuildLimits
from hive_core.runtimes.nixos.build.unit.nix_log import LINE_BYTES, NixLog
from hive_core.runtimes.nixos.commands import environment, run

OUTPUT_BYTES = 64 * 1024 * 1024
"""A build that prints more is stopped."""
_CHUNK = 64 * 1024
_SECONDS = STOP_SECONDS + 25.0
_EXITED = "1"
"""CLD_EXITED of waitid(2), in ExecMainCode."""
_SETUP_STATUS = range(200, 246)
"""Exit statuses with which systemd ends a process that it could not set up: systemd.exec(5), "Process Exit Codes"."""
_KILLED = ("2", "3")
"""CLD_KILLED and CLD_DUMPED of waitid(2), in ExecMainCode."""


class NixFailed(BuildFailed):
    """Nix itself ended with an error: it was neither stopped nor killed."""


async def execute(
    unit: str, argv: Sequence[str], limits: BuildLimits, say: Callable[[str], None], *, activity: str = "build"
) -> None:
    """Run Nix in `unit` with `argv` of `Confinement`; `say` gets the lines of its output.

    `activity` is what messages call it. Raises NixFailed if Nix ended with an error, BuildFailed if it was stopped,
    HiveError `cannot_build` if it could not be started. In every case, also when this is cancelled, the unit has ended
    when this returns.
    """
    await forget(unit)
    log = NixLog(say)
    process = _start(argv)
    code: int | None = None
    try:
        complete = await _follow(process, log)
        code = await process.wait() if complete else None
        if not complete:
            raise BuildFailed(f"the {activity} printed more than {OUTPUT_BYTES // 1024**2} MiB")
        if code != 0:
            raise _failure(unit, await unit_properties(unit), log, limits, activity)
    finally:
        if code != 0:
            await shield_to_completion(_end(unit, process))
        process.close()


async def forget(unit: str) -> None:
    """Stop a unit, or those that match a pattern, and reset its failed state."""
    for verb in ("stop", "reset-failed"):
        # systemctl fails for a unit that does not exist.
        with suppress(HiveError):
            await run(["systemctl", "--quiet", verb, unit], timeout=_SECONDS)


async def forget_all() -> None:
    """End the builds that a killed daemon has left."""
    await forget(f"{UNIT_PREFIX}*.service")


def _start(argv: Sequence[str]) -> Process:
    try:
        return spawn(Command(argv, environment(), Path("/")))
    except OSError as error:
        raise HiveError("cannot_build", f"cannot run {argv[0]}: {error.strerror}", status=500) from None


async def _follow(process: Process, log: NixLog) -> bool:
    """Pass the output on until it ends; returns False if there is too much of it."""
    cutter, left = LineCutter(LINE_BYTES), OUTPUT_BYTES
    while True:
        await readable(process.output)
        with suppress(BlockingIOError):
            chunk = os.read(process.output, _CHUNK)
            if not chunk:
                break
            left -= len(chunk)
            if left < 0:
                return False
            for line in cutter.feed(chunk):
                log.feed(line.decode(errors="replace"))
        # Other tasks must run, however fast the output comes.
        await asyncio.sleep(0)
    for line in cutter.finish():
        log.feed(line.decode(errors="replace"))
    return True


async def unit_properties(unit: str) -> Mapping[str, str]:
    """Return how a unit has ended, by the names of systemd's properties."""
    wanted = "LoadState,Result,ExecMainCode,ExecMainStatus,ActiveEnterTimestampMonotonic"
    answer = await run(["systemctl", "show", f"--property={wanted}", unit])
    return dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)


def _failure(
    unit: str, properties: Mapping[str, str], log: NixLog, limits: BuildLimits, activity: str
) -> BuildFailed | HiveError:
    result = properties.get("Result", "")
    if properties.get("LoadState") == "not-found" or result in ("", "success", "resources", "protocol"):
        why = f"the unit of the build could not be run: {log.foreign_line or result or 'systemd gives no reason'}"
        return HiveError("cannot_build", why, hint="see: journalctl -b -n 50", status=500)
    status = int(properties.get("ExecMainStatus") or 0)
    if properties.get("ExecMainCode") == _EXITED and status in _SETUP_STATUS:
        why = f"systemd cannot set up the unit of a build (exit status {status} of systemd.exec(5)): {log.foreign_line}"
        hint = f"see: journalctl -b -u {unit}; every user must be able to pass the directories above state_dir"
        return HiveError("cannot_build", why.removesuffix(": "), hint=hint, status=500)
    if result == "timeout":
        return BuildFailed(f"the {activity} took longer than {limits.seconds:g} s")
    number = status if properties.get("ExecMainCode") in _KILLED else 0
    if number == signal.SIGXCPU:
        return BuildFailed(f"the {activity} took longer than {limits.seconds:g} s of processor time")
    # With control groups of version 1, systemd does not report an end by lack of memory.
    if result == "oom-kill" or number == signal.SIGKILL:
        return BuildFailed(f"the {activity} needs more memory than its limit of {limits.memory}")
    if number:
        return BuildFailed(f"Nix was ended by signal {number}" + (f": {log.error}" if log.error else ""))
    return NixFailed(log.error or "Nix failed without a message")


async def _end(unit: str, process: Process) -> None:
    await forget(unit)
    if not process.ended:
        process.kill()
        await process.wait()
