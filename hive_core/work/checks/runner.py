"""Runs the checks of a repository on a proposed tree, one after the other, each in a sandbox of its own."""

from __future__ import annotations

import asyncio
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from secrets import token_hex
from typing import Protocol

import structlog

from hive_core.agents.purge import Trash
from hive_core.errors import HiveError
from hive_core.infra.concurrency.fair_queue import FairQueue
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import CHECKS
from hive_core.infra.storage.disk_space import disk_full_as_error
from hive_core.layout import Layout
from hive_core.protocol.config.limits import memory_bytes
from hive_core.runtimes.base import Runtime
from hive_core.runtimes.checks.order import PLACES, CheckLimits, CheckRun, WayOut
from hive_core.settings import Checks
from hive_core.work.checks.passes import CheckPasses
from hive_core.work.checks.tree_files import write_tree_files

log = structlog.get_logger(__name__)

_OUTPUT = "| "
"""Stands before each line that a check has printed."""
_UNFIT = ("bad_tree", "too_large", "too_many_files")
"""Errors of a tree that no check can be run on."""


class CheckCommand(Protocol):
    """A check as the operator has registered it: its name, its command, and the seconds that it may take."""

    @property
    def name(self) -> str: ...

    @property
    def argv(self) -> Sequence[str]: ...

    @property
    def timeout_seconds(self) -> float: ...


@dataclass(frozen=True)
class CheckOrder:
    """Checks to run on a `tree` of the bare `repository`, whose name is that of the directory that checks see.

    They run on `closure`, the active one of `agent`, who has made the work. `work` names the proposal, whose passes
    count also when the agent has got another closure since. They reach the `hosts` of the repository, through the
    hive's proxy, and without any they have no network. Checks of a `landing` have a turn of their own, as others
    wait for it: those of the agent's other proposals do not come before them.
    """

    repository: Path
    tree: str
    closure: str
    agent: str
    checks: Sequence[CheckCommand]
    work: str
    hosts: Sequence[str] = ()
    landing: bool = False

    @property
    def party(self) -> str:
        """The party whose turn it is."""
        return f"landing on {self.repository.name}" if self.landing else self.agent


class OpenAccess(Protocol):
    """The access of one check to the world outside."""

    @property
    def way_out(self) -> WayOut:
        """The proxy on the check's loopback."""

    async def close(self) -> None:
        """End the access."""


class HostAccess(Protocol):
    """Interface to the proxy, as far as checks need it."""

    async def open(self, label: str, hosts: Sequence[str], say: Callable[[str], None]) -> OpenAccess:
        """Let a check reach hosts; `say` gets a line about each that is refused to it. Raises `cannot_check`."""


@dataclass(frozen=True)
class CheckOutcome:
    """The end of all checks. `failed` is the name of the one that has failed, "" if all have passed.

    `reason` says in the hive's words why, as the end of a sentence about that check ("exit code 1"). `seconds` is the
    time of all.
    """

    passed: bool
    failed: str
    reason: str
    seconds: float


class CheckRunner:
    """Runs checks with a runtime; as many at a time as the settings say, of which one agent gets all but one.

    Used on one event loop.
    """

    def __init__(self, runtime: Runtime, layout: Layout, settings: Checks, access: HostAccess | None = None) -> None:
        """Without `access`, checks of repositories with rules for hosts have no network either."""
        self._runtime = runtime
        self._access = access
        self._layout = layout
        self._settings = settings
        self._passes = CheckPasses(layout.check_passes)
        self._slots = FairQueue(settings.at_once, max(1, settings.at_once - 1), sys.maxsize)
        self._labels = count(1)
        self._trash = Trash(layout)

    async def run(self, order: CheckOrder, say: Callable[[str], None]) -> CheckOutcome:
        """Run the checks until one fails; `say` gets each line of their output, on the event loop.

        A check that has passed before on the same files, with the same programs or for the same work, is not run again.
        Nothing of a check is left when this returns, also if it is cancelled. Raises HiveError if checks cannot be run
        now: `cannot_check`, `closure_gone`, `disk_full`.
        """
        loop = asyncio.get_running_loop()
        started = loop.time()
        for check in order.checks:
            key = CheckPasses.key(order.tree, check.argv, order.closure, _name(order), order.hosts)
            of_work = CheckPasses.work_key(order.tree, check.argv, order.work, _name(order), order.hosts)
            if await CHECKS.run(self._passes.has, key):
                say(f"check {check.name}: passed before, on the same files with the same programs")
                await CHECKS.run(self._passes.add, of_work)
                continue
            if await CHECKS.run(self._passes.has, of_work):
                say(f"check {check.name}: passed before, on the same files of this work")
                continue
            async with self._slots.slot(order.party):
                say(f"check {check.name}: {shlex.join(check.argv)}")
                began = loop.time()
                reason = await self._run(order, check, say)
            if reason:
                say(f"check {check.name} failed: {reason}")
                return CheckOutcome(False, check.name, reason, loop.time() - started)
            say(f"check {check.name} passed in {loop.time() - began:.1f} s")
            await CHECKS.run(self._passes.add, key, of_work)
        return CheckOutcome(True, "", "", loop.time() - started)

    async def _run(self, order: CheckOrder, check: CheckCommand, say: Callable[[str], None]) -> str:
        """Run one check; returns the reason of its failure, "" if it passed."""
        if not order.closure:
            return f"it runs with the programs of {order.agent}, which is gone"
        settings = self._settings
        limits = CheckLimits(
            memory=memory_bytes(settings.memory),
            tasks=settings.tasks,
            disk=memory_bytes(settings.disk),
            cpu=settings.cpu_quota,
            output=memory_bytes(settings.output),
            seconds=check.timeout_seconds,
        )
        directory = self._layout.scratch / f"check-{token_hex(8)}"
        label = f"{_name(order)}-{next(self._labels)}"
        run = CheckRun(label, order.agent, order.closure, _name(order), directory, tuple(check.argv), limits)
        try:
            await shield_to_completion(CHECKS.run(_make_directories, directory))
            try:
                writing = CHECKS.run(write_tree_files, order.repository, order.tree, run.files, limits.disk)
                await shield_to_completion(writing)
            except HiveError as error:
                if error.code not in _UNFIT:
                    raise
                return f"the files of the proposal cannot be written for it: {error.message}"
            return await self._run_with_access(order, run, say)
        finally:
            await shield_to_completion(self._remove(directory))

    async def _run_with_access(self, order: CheckOrder, run: CheckRun, say: Callable[[str], None]) -> str:
        def show(line: str) -> None:
            say(f"{_OUTPUT}{line}")  # Marked, as it could be made to look like the lines of the hive.

        if self._access is None or not order.hosts:
            return await self._runtime.run_check(run, show)
        access = await self._access.open(run.label, order.hosts, say)
        try:
            return await self._runtime.run_check(replace(run, way_out=access.way_out), show)
        finally:
            await shield_to_completion(access.close())

    async def _remove(self, directory: Path) -> None:
        if not await CHECKS.run(os.path.lexists, directory):
            return
        # A check may have nested directories without end, and taken its own rights to them.
        try:
            await self._trash.delete(directory)
        except OSError as error:
            # The next start of the daemon tries again, as it does with all temporary files.
            log.warning("the files of a check could not be removed", directory=str(directory), error=str(error))


def _make_directories(directory: Path) -> None:
    with disk_full_as_error("run a check"):
        directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.mkdir(mode=0o700)
        for name in PLACES:
            (directory / name).mkdir()


def _name(order: CheckOrder) -> str:
    return order.repository.name.removesuffix(".git")
