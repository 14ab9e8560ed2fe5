"""The shared state of the gate: locks, requests, background work, and the data of new proposals."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from hive_core.agents import AgentLifecycle, AgentRegistry, DeploymentManager
from hive_core.errors import HiveError, conflict, not_found
from hive_core.gate.background import BackgroundWork, Step, cancel_all, is_temporary
from hive_core.gate.policy import Principal
from hive_core.gate.records import index
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.gate.records.transitions import seconds
from hive_core.gate.transition_log import TransitionLog
from hive_core.infra.concurrency.tasks import log_failure
from hive_core.infra.concurrency.threads import GATE, Threads
from hive_core.infra.database.database import Database
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage.disk_space import disk_full, has_room, is_lack_of_space
from hive_core.layout import Layout
from hive_core.messaging import Directory
from hive_core.protocol import ProposalKind
from hive_core.protocol.names import MANAGER
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings

WHOLE_AGENT = -1
"""The number for background work that is about no single proposal."""

P = ParamSpec("P")
T = TypeVar("T")


class AgentLock(asyncio.Lock):
    """The lock of one agent's tags. Those who wait for it are refused while the index tells otherwise than the tags."""

    held_back = False
    """True until the index could be written, for which there was no space."""

    async def __aenter__(self) -> None:
        await self.acquire()
        if self.held_back:
            self.release()
            raise disk_full("write down what was done last")


class AgentLocks:
    """The locks of all agents, which are created when they are first needed."""

    def __init__(self) -> None:
        self._locks: dict[str, AgentLock] = {}

    def __getitem__(self, agent: str) -> AgentLock:
        return self._locks.setdefault(agent, AgentLock())


@dataclass
class GateContext:
    """The objects that the parts of the gate share. A part changes an agent's tags only under `locks[agent]`."""

    settings: Settings
    layout: Layout
    database: Database
    directory: Directory
    agents: AgentRegistry
    deployments: DeploymentManager
    lifecycle: AgentLifecycle
    runtime: Runtime
    transition_log: TransitionLog
    background: BackgroundWork
    locks: AgentLocks = field(default_factory=AgentLocks)
    prunings: Counter[str] = field(default_factory=Counter)
    """The number of times that proposals of an agent were pruned since the start: their contents have changed."""
    recovered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the proposals that an earlier daemon left have been recovered, and by `close`."""
    _requests: set[asyncio.Task[Any]] = field(default_factory=set)
    _closed: bool = False

    @property
    def has_manager(self) -> bool:
        """True if the hive has a manager."""
        return MANAGER in self.directory

    async def row(self, agent: str, number: int) -> ProposalRow:
        """Return the row of a proposal. Raises `unknown_proposal`."""
        row = await self.database.read(lambda db: index.find(db, agent, number))
        if row is None:
            raise unknown_proposal(agent, number)
        return row

    async def check_no_deployment(self, agent: str) -> None:
        """Raise `deployment_under_way` if a deployment of the agent is in progress."""
        other = await self.database.read(lambda db: index.deployment_in_progress(db, agent))
        if other is not None:
            hint = f"wait until {agent}/{other.number} is deployed or failed"
            raise conflict("deployment_under_way", f"{agent}/{other.number} is being deployed", hint)

    async def in_repository(self, agent: str, work: Callable[[Repository], T], threads: Threads = GATE) -> T:
        """Call `work` with the agent's applied repository, in one of `threads`."""

        def run() -> T:
            with Repository.open(self.layout.applied_repository(agent)) as repository:
                return work(repository)

        return await threads.run(run)

    async def check_room(self, action: str) -> None:
        """Raise `disk_full` if nothing can be written now, before something is begun that has many steps."""
        if not await GATE.run(has_room, self.layout.state_dir):
            raise disk_full(action)

    async def end(self, agent: str, number: int, step: Step) -> None:
        """Run the last step of a request's work, or leave it to the background if it fails for a while only.

        The caller must hold the agent's lock, with which `step` is called. In the background the step must look again
        at what there is.
        """
        try:
            await step()
        except Exception as error:
            if not is_temporary(error):
                raise
            self.background.start(agent, number, self.locked(agent, step))

    def hold_back(self, agent: str, recover: Step) -> None:
        """Refuse requests about an agent whose index is behind its tags, until `recover` has succeeded."""
        lock = self.locks[agent]
        lock.held_back = True

        async def run() -> None:
            await lock.acquire()
            try:
                if self.layout.applied_repository(agent).exists():  # It was not purged meanwhile.
                    await recover()
                lock.held_back = False
            finally:
                lock.release()

        self.background.start(agent, WHOLE_AGENT, run)

    def locked(self, agent: str, step: Step) -> Step:
        """Return a step that holds the agent's lock."""

        async def run() -> None:
            async with self.locks[agent]:
                await step()

        return run

    async def ready(self) -> None:
        """Wait until recovery is done. Raises `stopping` after `close`."""
        await self.recovered.wait()
        if self._closed:
            raise _stopping()

    async def run_request(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` to completion even if the caller is cancelled. Raises `stopping` if `close` ends it."""
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            task.add_done_callback(log_failure)
            raise
        if task.cancelled():
            raise _stopping()
        try:
            return task.result()
        except OSError as error:
            if is_lack_of_space(error):
                raise disk_full("carry the request out") from error
            raise

    async def close(self) -> None:
        """Cancel all requests and background work. The next daemon recovers the proposals that are open then."""
        self._closed = True
        self.recovered.set()
        self.transition_log.stop()
        await asyncio.gather(cancel_all(self._requests), self.background.close())
        await self.transition_log.notify_waiters()

    @property
    def closed(self) -> bool:
        """True after `close`."""
        return self._closed


def _stopping() -> HiveError:
    return HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)


class _GatePart(Protocol):
    _context: GateContext


S = TypeVar("S", bound=_GatePart)


def as_request(
    method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Let a method wait until recovery is done, then run it by `GateContext.run_request`."""

    @wraps(method)
    async def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        await self._context.ready()
        return await self._context.run_request(method(self, *args, **kwargs))

    return run


def unknown_proposal(agent: str, number: int) -> HiveError:
    """Return the error for a proposal that does not exist, or that the caller may not see."""
    hint = '"hive-c0re proposals --state all" shows all, and the tool my_proposals those of an agent'
    return not_found("unknown_proposal", f"there is no proposal {agent}/{number}", hint)


async def new_proposal(
    context: GateContext,
    kind: ProposalKind,
    agent: str,
    principal: Principal,
    note: str,
    base: str | None,
    *,
    expires: bool = False,
) -> ProposalTag:
    """Create the data of a new proposal; it expires after `proposal_days` if `expires` is set.

    The caller must hold the agent's lock until the tag is written, so that the number stays unique.
    """
    return ProposalTag(
        agent=agent,
        number=await context.database.read(lambda db: index.next_number(db, agent)),
        state=State.PROPOSAL,
        kind=kind,
        by=principal.label,
        note=note,
        base=base,
        expires_at=(seconds() + int(context.settings.proposal_days * 86_400)) * 1_000 if expires else None,
    )


async def check_only_one(context: GateContext, agent: str, kind: ProposalKind) -> None:
    """Raise `already_proposed` if another proposal of that kind is open."""
    for row in await context.database.read(lambda db: index.open_of(db, agent)):
        if row.kind == kind:
            raise conflict(
                "already_proposed",
                f"{agent}/{row.number} proposes that already and is {row.state}",
                "wait for its decision, or withdraw it",
            )
