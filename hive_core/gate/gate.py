"""The gate as the rest of the daemon sees it: every question and request about proposals comes in here."""

from __future__ import annotations

import asyncio

from hive_core.agents import AgentLifecycle, AgentRegistry, DeploymentManager
from hive_core.gate.context import GateContext
from hive_core.gate.intake.import_commit import CommitImporter
from hive_core.gate.pipeline.build import BuildLogs, BuildStep
from hive_core.gate.pipeline.decide import Decisions
from hive_core.gate.pipeline.deploy import DeployStep
from hive_core.gate.pipeline.maintenance import Maintenance, Verification
from hive_core.gate.pipeline.provisioning import Provisioning, Removal
from hive_core.gate.pipeline.recovery import Recovery
from hive_core.gate.pipeline.submit import AgentSubmissions, ConfigSubmissions, RebuildSubmissions
from hive_core.gate.pipeline.updates import Updates
from hive_core.gate.policy import Principal
from hive_core.gate.queries import ProposalQueries
from hive_core.gate.transition_log import TransitionLog
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.protocol import (
    AgentStatus,
    ApproveRequest,
    AuditVerification,
    DenyRequest,
    DestroyAnswer,
    DestroyProposal,
    DestroyRequest,
    History,
    HistoryQuery,
    LogsAnswer,
    LogsQuery,
    Proposal,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    RebuildRequest,
    ReindexAnswer,
    RollbackRequest,
    SpawnProposal,
    SpawnRequest,
    WithdrawRequest,
)
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings


class Gate:
    """Proposals from beginning to end. Requests wait until `recover` has looked at what an earlier daemon left."""

    def __init__(
        self,
        *,
        settings: Settings,
        layout: Layout,
        database: Database,
        directory: Directory,
        broker: Broker,
        events: EventHub,
        agents: AgentRegistry,
        deployments: DeploymentManager,
        lifecycle: AgentLifecycle,
        runtime: Runtime,
        importer: CommitImporter,
    ) -> None:
        transition_log = TransitionLog(layout, database, directory, broker, events)
        self._context = context = GateContext(
            settings, layout, database, directory, agents, deployments, lifecycle, runtime, transition_log
        )
        logs = BuildLogs(layout)
        provisioning, removal = Provisioning(context), Removal(context)
        deploy_step = DeployStep(context, provisioning, removal)
        build_step = BuildStep(context, logs, deploy_step)
        self._decisions = Decisions(context, deploy_step)
        self._config_submissions = ConfigSubmissions(context, importer, build_step)
        self._agent_submissions = AgentSubmissions(context, provisioning, removal, build_step, deploy_step)
        self._queries = ProposalQueries(context, logs)
        self._recovery = Recovery(context, build_step, deploy_step, self._decisions)
        self._rebuild_submissions = RebuildSubmissions(context, build_step)
        self._updates = Updates(context, self._rebuild_submissions)
        self._maintenance = Maintenance(context, self._decisions)
        self._verification = Verification(context)
        self._recovered = asyncio.Event()

    async def run(self) -> None:
        """Recover, then do what time brings; in the background until cancelled."""
        await self._recovery.run()
        self._recovered.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._maintenance.expire())
            tasks.create_task(self._updates.run())

    async def close(self) -> None:
        """End what goes on in the background. What is half done is taken up at the next start."""
        self._recovered.set()
        await self._context.close()

    # --- agents -----------------------------------------------------------------------------------------------

    async def spawn(self, request: SpawnRequest, principal: Principal) -> AgentStatus:
        """Make an agent, as the operator."""
        await self._ready()
        return await self._context.run_to_completion(self._agent_submissions.spawn(request, principal))

    async def destroy(self, agent: str, request: DestroyRequest, principal: Principal) -> DestroyAnswer:
        """Remove an agent, as the operator."""
        await self._ready()
        return await self._context.run_to_completion(self._agent_submissions.destroy(agent, request, principal))

    async def request_spawn(self, request: SpawnProposal, principal: Principal) -> Proposal:
        """Propose a new agent."""
        await self._ready()
        return await self._context.run_to_completion(self._agent_submissions.request_spawn(request, principal))

    async def request_destroy(self, agent: str, request: DestroyProposal, principal: Principal) -> Proposal:
        """Propose the end of an agent."""
        await self._ready()
        return await self._context.run_to_completion(self._agent_submissions.request_destroy(agent, request, principal))

    # --- proposals --------------------------------------------------------------------------------------------

    async def propose(self, request: ProposeRequest, principal: Principal) -> Proposal:
        """Propose a commit of an agent's config repository."""
        await self._ready()
        return await self._context.run_to_completion(self._config_submissions.propose(request, principal))

    async def approve(self, agent: str, number: int, request: ApproveRequest, principal: Principal) -> Proposal:
        """Agree to a proposal."""
        await self._ready()
        return await self._context.run_to_completion(self._decisions.approve(agent, number, request, principal))

    async def deny(self, agent: str, number: int, request: DenyRequest, principal: Principal) -> Proposal:
        """Refuse a proposal."""
        await self._ready()
        return await self._context.run_to_completion(self._decisions.deny(agent, number, request, principal))

    async def withdraw(self, agent: str, number: int, request: WithdrawRequest, principal: Principal) -> Proposal:
        """Take a proposal back."""
        await self._ready()
        return await self._context.run_to_completion(self._decisions.withdraw(agent, number, request, principal))

    async def rollback(self, agent: str, request: RollbackRequest, principal: Principal) -> Proposal:
        """Deploy an older deployment again."""
        await self._ready()
        return await self._context.run_to_completion(self._decisions.rollback(agent, request, principal))

    async def rebuild(self, agent: str, request: RebuildRequest, principal: Principal) -> Proposal:
        """Build what is deployed anew, and deploy that."""
        await self._ready()
        return await self._context.run_to_completion(self._rebuild_submissions.rebuild(agent, request, principal))

    # --- questions --------------------------------------------------------------------------------------------

    async def proposals(self, query: ProposalsQuery, principal: Principal) -> ProposalList:
        """Proposals at a glance."""
        await self._recovered.wait()
        return await self._queries.proposals(query, principal)

    async def show(self, agent: str, number: int, query: ProposalQuery, principal: Principal) -> ProposalDetail:
        """One proposal with its diff."""
        await self._recovered.wait()
        return await self._queries.show(agent, number, query, principal)

    async def build_log(self, agent: str, number: int, query: LogsQuery, principal: Principal) -> LogsAnswer:
        """What a build said."""
        await self._recovered.wait()
        return await self._queries.build_log(agent, number, query, principal)

    async def history(self, agent: str, query: HistoryQuery) -> History:
        """An agent's deployments."""
        await self._recovered.wait()
        return await self._queries.history(agent, query)

    # --- upkeep -----------------------------------------------------------------------------------------------

    async def reindex(self) -> ReindexAnswer:
        """Make the index anew from the tags."""
        await self._ready()
        return await self._context.run_to_completion(self._maintenance.reindex())

    async def verify(self) -> AuditVerification:
        """Check the audit chain and the tags."""
        await self._ready()
        return await self._verification.verify()

    async def _ready(self) -> None:
        await self._recovered.wait()
        self._context.check_open()
