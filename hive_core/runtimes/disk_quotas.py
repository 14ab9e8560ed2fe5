"""The disk quotas of a runtime's agents: set before an agent starts, changed while it runs, and remembered."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import structlog

from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.disk_quota.conversion import become_subvolume, discard_other_tree
from hive_core.infra.disk_quota.quotas import DirectoryQuotas, DiskQuota
from hive_core.protocol import Limits, Usage, memory_bytes, memory_size

_log = structlog.get_logger(__name__)

SWEEP_SECONDS = 10.0
"""The time between two searches for subvolumes that agents have made outside of their groups."""


class DiskQuotas:
    """The quotas of agents. The directories of an agent are its home and those that its runtime adds."""

    def __init__(self, quotas: DirectoryQuotas | None = None) -> None:
        self._quotas = quotas or DirectoryQuotas()
        self._directories: dict[str, Sequence[Path]] = {}
        self._known: dict[str, DiskQuota] = {}

    def known(self, name: str) -> DiskQuota | None:
        """Return the quota of an agent as it was set last; None if it was not started since the daemon's start."""
        return self._known.get(name)

    async def enforce(self, name: str, directories: Sequence[Path], limits: Limits, *, stopped: bool) -> None:
        """Give the agent's directories the quota of `limits`. What is not possible is logged, and the agent may start.

        With `stopped` no process of the agent may run; directories from before quotas were switched on get one then.
        """
        asked = None if limits.disk_max is None else memory_bytes(limits.disk_max)
        if stopped:
            for directory in directories:
                try:
                    await discard_other_tree(directory)
                except OSError as error:
                    why = error.strerror or str(error)
                    _log.warning("rest of a conversion not removed", agent=name, directory=str(directory), why=why)
            for directory in await LIFECYCLE.run(self._quotas.to_convert, directories):
                _log.info("directory becomes a subvolume, to have a quota", agent=name, directory=str(directory))
                try:
                    await become_subvolume(directory)
                except OSError as error:
                    _log.warning("directory stays without a quota", agent=name, why=error.strerror or str(error))
        found = await LIFECYCLE.run(_enforce, self._quotas, directories, asked, stopped)
        self._directories[name], self._known[name] = tuple(directories), found
        if found.problem and asked is not None:
            _log.warning("disk_max is not enforced", agent=name, why=found.problem)

    async def change(self, name: str, limits: Limits) -> None:
        """Change the quota of an agent that was started."""
        if (directories := self._directories.get(name)) is not None:
            await self.enforce(name, directories, limits, stopped=False)

    async def add_to(self, name: str, limits: Limits) -> Limits:
        """Return the active limits of an agent together with the quota that is in force."""
        return limits.model_copy(update={"disk_max": as_size((await self.read(name)).limit)})

    async def add_usage(self, name: str, usage: Usage) -> Usage:
        """Return what an agent uses together with what is in its directories."""
        return usage.model_copy(update={"disk_bytes": (await self.read(name)).used})

    async def read(self, name: str) -> DiskQuota:
        """Return the quota of an agent that was started, and what it uses at the moment."""
        directories = self._directories.get(name)
        return DiskQuota() if directories is None else await LIFECYCLE.run(self._quotas.read, directories)

    def forget(self, name: str) -> None:
        """Forget an agent, whose quota stays in place."""
        self._directories.pop(name, None)
        self._known.pop(name, None)

    async def run(self) -> None:
        """Search again and again for subvolumes of agents that count for nobody or for others, until cancelled."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            for name, directories in list(self._directories.items()):
                try:
                    found = await LIFECYCLE.run(self._quotas.adopt, directories)
                except OSError as error:
                    _log.warning("subvolumes of the agent not read", agent=name, why=error.strerror)
                    continue
                if found:
                    _log.warning("agent made subvolumes outside of its quota; they count now", agent=name, count=found)
            try:
                for name in await LIFECYCLE.run(self._quotas.claim, dict(self._directories)):
                    _log.warning(
                        "agent deleted a subvolume outside of its quota; what it still uses counts", agent=name
                    )
            except OSError as error:
                _log.warning("space of deleted subvolumes not read", why=error.strerror)


def as_size(limit: int | None) -> str | None:
    """Return a quota in bytes as the protocol has it."""
    return None if limit is None else memory_size(limit)


def _enforce(quotas: DirectoryQuotas, directories: Sequence[Path], limit: int | None, stopped: bool) -> DiskQuota:
    return quotas.enforce(directories, limit, stopped=stopped)
