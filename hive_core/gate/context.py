"""The shared state of the gate, and the data of new proposals."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

from hive_core.agents import AgentLifecycle, AgentRegistry, DeploymentManager
from hive_core.agents.grants import networks
from hive_core.agents.store import ActiveConfig
from hive_core.errors import HiveError, conflict, not_found
from hive_core.gate import policy
from hive_core.gate.policy import Principal
from hive_core.gate.records import index
from hive_core.gate.records.commit import read_active_config
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.gate.records.transitions import seconds
from hive_core.gate.subject.background import BackgroundWork
from hive_core.gate.subject.work import WHOLE_SUBJECT, SubjectWork, as_request
from hive_core.gate.transition_log import TransitionLog
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.database.database import Database
from hive_core.infra.storage.disk_space import disk_full, has_room
from hive_core.layout import Layout
from hive_core.messaging import Directory
from hive_core.protocol import Proposal, ProposalKind
from hive_core.protocol.names import MANAGER
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings

__all__ = ["WHOLE_AGENT", "GateContext", "as_request", "check_only_one", "new_proposal", "unknown_proposal"]

WHOLE_AGENT = WHOLE_SUBJECT


class GateContext(SubjectWork):
    """The objects that the parts of the gate share. The subjects are agents."""

    def __init__(
        self,
        settings: Settings,
        layout: Layout,
        database: Database,
        directory: Directory,
        agents: AgentRegistry,
        deployments: DeploymentManager,
        lifecycle: AgentLifecycle,
        runtime: Runtime,
        transition_log: TransitionLog,
        background: BackgroundWork,
    ) -> None:
        super().__init__(transition_log, background)
        self.settings = settings
        self.layout = layout
        self.database = database
        self.directory = directory
        self.agents = agents
        self.deployments = deployments
        self.lifecycle = lifecycle
        self.runtime = runtime
        self.transition_log = transition_log
        self.prunings: Counter[str] = Counter()
        """The number of times that proposals of an agent were pruned since the start: their contents have changed."""

    def repository(self, subject: str) -> Path:
        return self.layout.applied_repository(subject)

    @property
    def has_manager(self) -> bool:
        """True if the hive has a manager."""
        return MANAGER in self.directory

    def to_protocol(self, row: ProposalRow) -> Proposal:
        """Return a proposal as callers see it, with the decider that it waits for in the hive of now."""
        waits_for = policy.shown_decider(row.waits_for, has_manager=self.has_manager)
        return row.to_protocol().model_copy(update={"waits_for": waits_for})

    async def row(self, agent: str, number: int) -> ProposalRow:
        """Return the row of a proposal. Raises `unknown_proposal`."""
        row = await self.database.read(lambda db: index.find(db, agent, number))
        if row is None:
            raise unknown_proposal(agent, number)
        return row

    async def active_config(self, row: ProposalRow) -> ActiveConfig:
        """Return the configuration that a deployment of a built proposal makes active. Raises `not_built`."""
        older = await self.database.read(partial(networks.are_older, agent=row.agent, commits=[row.commit]))
        return await self.in_repository(row.agent, lambda repository: read_active_config(repository, row, older))

    async def check_no_deployment(self, agent: str) -> None:
        """Raise `deployment_under_way` if a deployment of the agent is in progress."""
        other = await self.database.read(lambda db: index.deployment_in_progress(db, agent))
        if other is not None:
            hint = f"wait until {agent}/{other.number} is deployed or failed"
            raise conflict("deployment_under_way", f"{agent}/{other.number} is being deployed", hint)

    async def check_room(self, action: str) -> None:
        """Raise `disk_full` if nothing can be written now, before something is begun that has many steps."""
        if not await GATE.run(has_room, self.layout.state_dir):
            raise disk_full(action)


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
