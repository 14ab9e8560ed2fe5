"""The shared state of the gate: new proposals and background work."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Collection, Coroutine
from dataclasses import dataclass, field
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import structlog

from hive_core.agents import AgentLifecycle, AgentRegistry, DeploymentManager
from hive_core.errors import HiveError, conflict, not_found
from hive_core.gate.policy import Principal
from hive_core.gate.records import index
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.gate.records.transitions import seconds
from hive_core.gate.transition_log import TransitionLog
from hive_core.infra.database.database import Database
from hive_core.infra.git.repository import Repository
from hive_core.layout import Layout
from hive_core.messaging import Directory
from hive_core.protocol import ProposalKind
from hive_core.protocol.names import MANAGER
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings

P = ParamSpec("P")
T = TypeVar("T")
_log = structlog.get_logger(__name__)


@dataclass
class GateContext:
    """Shared by the parts of the gate. What changes an agent's tags is done under `locks[agent]`."""

    settings: Settings
    layout: Layout
    database: Database
    directory: Directory
    agents: AgentRegistry
    deployments: DeploymentManager
    lifecycle: AgentLifecycle
    runtime: Runtime
    transition_log: TransitionLog
    locks: defaultdict[str, asyncio.Lock] = field(default_factory=lambda: defaultdict(asyncio.Lock))
    work_ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when anything that went on in the background with a proposal has ended."""
    recovered: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the proposals that an earlier daemon left have been recovered, and by `close`."""
    _work: dict[asyncio.Task[None], tuple[str, int]] = field(default_factory=dict)
    _requests: set[asyncio.Task[Any]] = field(default_factory=set)
    _closed: bool = False

    @property
    def has_manager(self) -> bool:
        return MANAGER in self.directory

    async def row(self, agent: str, number: int) -> ProposalRow:
        """One proposal; raises `unknown_proposal`."""
        found = await self.database.read(lambda db: index.find(db, agent, number))
        if found is None:
            raise unknown_proposal(agent, number)
        return found

    async def check_no_deployment(self, agent: str) -> None:
        """Raise `deployment_under_way` while another deployment of the agent is carried out."""
        other = await self.database.read(lambda db: index.deployment_in_progress(db, agent))
        if other is not None:
            hint = f"wait until {agent}/{other.number} is deployed or failed"
            raise conflict("deployment_under_way", f"{agent}/{other.number} is being deployed", hint)

    async def in_repository(self, agent: str, work: Callable[[Repository], T]) -> T:
        """Do `work` with the agent's applied repository, in a thread."""

        def run() -> T:
            with Repository.open(self.layout.applied_repository(agent)) as repository:
                return work(repository)

        return await asyncio.to_thread(run)

    def start_work(self, agent: str, number: int, work: Coroutine[Any, Any, None]) -> None:
        """Go on with a proposal in the background. A failure is logged; the next start of the daemon tries again."""
        if self._closed:
            work.close()
            return
        task = asyncio.create_task(work, name=f"proposal {agent}/{number}")
        self._work[task] = (agent, number)
        task.add_done_callback(self._work_done)

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
        await asyncio.wait([task])
        if task.cancelled():
            raise _stopping()
        return task.result()

    async def cancel_work(self, agent: str, number: int) -> None:
        """End what goes on in the background with a proposal."""
        await _end([task for task, of in self._work.items() if of == (agent, number)])

    async def close(self) -> None:
        """End all work in the background; the next daemon takes it up again."""
        self._closed = True
        self.recovered.set()
        self.transition_log.stop()
        await _end([*self._requests, *self._work])
        await self.transition_log.notify_waiters()

    @property
    def closed(self) -> bool:
        return self._closed

    def _work_done(self, task: asyncio.Task[None]) -> None:
        agent, number = self._work.pop(task)
        self.work_ended.set()
        if task.cancelled() or (error := task.exception()) is None:
            return
        if isinstance(error, HiveError):
            _log.error("proposal is stuck until the next start", agent=agent, number=number, code=error.code)
        else:
            _log.error("work on a proposal failed", agent=agent, number=number, exc_info=error)


async def _end(tasks: Collection[asyncio.Task[Any]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


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
    """The refusal for a proposal that is not there, or not for the caller to see."""
    hint = "my_proposals or hive-c0re proposals --state all show those there are"
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
    """What `proposal/N` is to say, of the next number; not planted yet. `expires` if it may wait for a decision."""
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
    """Raise `already_proposed` while another proposal of that kind is open."""
    for row in await context.database.read(lambda db: index.open_of(db, agent)):
        if row.kind == kind:
            raise conflict(
                "already_proposed",
                f"{agent}/{row.number} proposes that already and is {row.state}",
                "wait for its decision, or withdraw it",
            )
