"""What every part of the gate works with: its tools, one lock per agent, and work in the background."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import structlog

from hive_core.agents import Agents
from hive_core.broker import Directory
from hive_core.database import Database, Operation
from hive_core.errors import HiveError, not_found
from hive_core.gate import index
from hive_core.gate.index import Row
from hive_core.gate.ledger import Ledger
from hive_core.git.repository import Repository
from hive_core.layout import Layout
from hive_core.names import MANAGER
from hive_core.protocol import Kind
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings

T = TypeVar("T")

log = structlog.get_logger(__name__)


@dataclass
class Workplace:
    """Shared by the parts of the gate. What changes an agent's tags is done under `locks[agent]`."""

    settings: Settings
    layout: Layout
    database: Database
    directory: Directory
    agents: Agents
    runtime: Runtime
    ledger: Ledger
    locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    _work: dict[tuple[str, int], asyncio.Task[None]] = field(default_factory=dict)
    _closed: bool = False

    @property
    def has_manager(self) -> bool:
        return MANAGER in self.directory

    def kind_of(self, agent: str) -> Kind:
        """What an agent of that name is, or would be."""
        return "manager" if agent == MANAGER else "agent"

    async def read(self, operation: Operation[T]) -> T:
        """Ask the index."""
        return await self.database.read(operation)

    async def row(self, agent: str, number: int) -> Row:
        """One proposal; raises `unknown_proposal`."""
        found = await self.read(lambda db: index.find(db, agent, number))
        if found is None:
            raise unknown_proposal(agent, number)
        return found

    async def with_repository(self, agent: str, work: Callable[[Repository], T]) -> T:
        """Do `work` with the agent's applied repository, in a thread."""

        def run() -> T:
            with Repository.open(self.layout.applied_repository(agent)) as repository:
                return work(repository)

        return await asyncio.to_thread(run)

    def config_of(self, agent: str) -> Path:
        """The agent's own repository, in which anything may lie."""
        return self.layout.agent(agent).config

    def begin(self, row_agent: str, number: int, work: Coroutine[Any, Any, None]) -> None:
        """Go on with a proposal in the background. A failure is logged; the next start of the daemon tries again."""
        key = (row_agent, number)
        if self._closed or key in self._work:
            work.close()
            return
        task = asyncio.create_task(work, name=f"proposal {row_agent}/{number}")
        self._work[key] = task
        task.add_done_callback(lambda task: self._ended(key, task))

    async def give_up(self, agent: str, number: int) -> None:
        """End what goes on in the background with a proposal."""
        task = self._work.get((agent, number))
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def close(self) -> None:
        """End all work in the background; the next daemon takes it up again."""
        self._closed = True
        for task in list(self._work.values()):
            task.cancel()
        if self._work:
            await asyncio.wait(list(self._work.values()))
        await self.tell_changed()

    async def tell_changed(self) -> None:
        """Wake who waits for a proposal to change."""
        async with self.changed:
            self.changed.notify_all()

    @property
    def closed(self) -> bool:
        return self._closed

    def _ended(self, key: tuple[str, int], task: asyncio.Task[None]) -> None:
        self._work.pop(key, None)
        if task.cancelled() or (error := task.exception()) is None:
            return
        agent, number = key
        if isinstance(error, HiveError):
            log.error("proposal is stuck until the next start", agent=agent, number=number, code=error.code)
        else:
            log.error("work on a proposal failed", agent=agent, number=number, exc_info=error)


def unknown_proposal(agent: str, number: int) -> HiveError:
    """The refusal for a proposal that is not there, or not for the caller to see."""
    hint = "my_proposals or hive-c0re proposals --state all show those there are"
    return not_found("unknown_proposal", f"there is no proposal {agent}/{number}", hint)
