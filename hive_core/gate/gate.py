"""The gate as the rest of the daemon sees it: every question and request about proposals comes in here."""

from __future__ import annotations

import asyncio

from hive_core.agents import Agents
from hive_core.gate.context import Workplace
from hive_core.gate.intake.import_commit import Intake
from hive_core.gate.pipeline.build import Building, BuildLogs
from hive_core.gate.pipeline.decide import Deciding
from hive_core.gate.pipeline.deploy import Deploying
from hive_core.gate.pipeline.maintenance import Upkeep, Verifying
from hive_core.gate.pipeline.provisioning import Ending, Founding
from hive_core.gate.pipeline.recovery import Recovery
from hive_core.gate.pipeline.submit import Proposing, Rebuilding, Spawning
from hive_core.gate.pipeline.updates import Updates
from hive_core.gate.policy import Party
from hive_core.gate.queries import Reading
from hive_core.gate.records.transitions import Ledger
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
        agents: Agents,
        runtime: Runtime,
        intake: Intake,
    ) -> None:
        ledger = Ledger(layout, broker, events)
        self._place = place = Workplace(settings, layout, database, directory, agents, runtime, ledger)
        logs = BuildLogs(layout)
        founding, ending = Founding(place), Ending(place)
        deploying = Deploying(place, founding, ending)
        building = Building(place, logs, deploying)
        self._deciding = Deciding(place, deploying)
        self._proposing = Proposing(place, intake, building)
        self._spawning = Spawning(place, founding, ending, building, deploying)
        self._reading = Reading(place, logs)
        self._recovery = Recovery(place, building, deploying, self._deciding)
        self._rebuilding = Rebuilding(place, building)
        self._updates = Updates(place, self._rebuilding)
        self._upkeep = Upkeep(place, self._deciding)
        self._verifying = Verifying(place)
        self._recovered = asyncio.Event()

    async def run(self) -> None:
        """Recover, then do what time brings; in the background until cancelled."""
        await self._recovery.run()
        self._recovered.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._upkeep.expire())
            tasks.create_task(self._updates.run())

    async def close(self) -> None:
        """End what goes on in the background. What is half done is taken up at the next start."""
        self._recovered.set()
        await self._place.close()

    # --- agents -----------------------------------------------------------------------------------------------

    async def spawn(self, request: SpawnRequest, party: Party) -> AgentStatus:
        """Make an agent, as the operator."""
        await self._ready()
        return await self._place.carry_through(self._spawning.spawn(request, party))

    async def destroy(self, agent: str, request: DestroyRequest, party: Party) -> DestroyAnswer:
        """Remove an agent, as the operator."""
        await self._ready()
        return await self._place.carry_through(self._spawning.destroy(agent, request, party))

    async def request_spawn(self, request: SpawnProposal, party: Party) -> Proposal:
        """Propose a new agent."""
        await self._ready()
        return await self._place.carry_through(self._spawning.request_spawn(request, party))

    async def request_destroy(self, agent: str, request: DestroyProposal, party: Party) -> Proposal:
        """Propose the end of an agent."""
        await self._ready()
        return await self._place.carry_through(self._spawning.request_destroy(agent, request, party))

    # --- proposals --------------------------------------------------------------------------------------------

    async def propose(self, request: ProposeRequest, party: Party) -> Proposal:
        """Propose a commit of an agent's config repository."""
        await self._ready()
        return await self._place.carry_through(self._proposing.propose(request, party))

    async def approve(self, agent: str, number: int, request: ApproveRequest, party: Party) -> Proposal:
        """Agree to a proposal."""
        await self._ready()
        return await self._place.carry_through(self._deciding.approve(agent, number, request, party))

    async def deny(self, agent: str, number: int, request: DenyRequest, party: Party) -> Proposal:
        """Refuse a proposal."""
        await self._ready()
        return await self._place.carry_through(self._deciding.deny(agent, number, request, party))

    async def withdraw(self, agent: str, number: int, request: WithdrawRequest, party: Party) -> Proposal:
        """Take a proposal back."""
        await self._ready()
        return await self._place.carry_through(self._deciding.withdraw(agent, number, request, party))

    async def rollback(self, agent: str, request: RollbackRequest, party: Party) -> Proposal:
        """Deploy an older deployment again."""
        await self._ready()
        return await self._place.carry_through(self._deciding.rollback(agent, request, party))

    async def rebuild(self, agent: str, request: RebuildRequest, party: Party) -> Proposal:
        """Build what is deployed anew, and deploy that."""
        await self._ready()
        return await self._place.carry_through(self._rebuilding.rebuild(agent, request, party))

    # --- questions --------------------------------------------------------------------------------------------

    async def proposals(self, query: ProposalsQuery, party: Party) -> ProposalList:
        """Proposals at a glance."""
        await self._recovered.wait()
        return await self._reading.proposals(query, party)

    async def show(self, agent: str, number: int, query: ProposalQuery, party: Party) -> ProposalDetail:
        """One proposal with its diff."""
        await self._recovered.wait()
        return await self._reading.show(agent, number, query, party)

    async def build_log(self, agent: str, number: int, query: LogsQuery, party: Party) -> LogsAnswer:
        """What a build said."""
        await self._recovered.wait()
        return await self._reading.build_log(agent, number, query, party)

    async def history(self, agent: str, query: HistoryQuery) -> History:
        """An agent's deployments."""
        await self._recovered.wait()
        return await self._reading.history(agent, query)

    # --- upkeep -----------------------------------------------------------------------------------------------

    async def reindex(self) -> ReindexAnswer:
        """Make the index anew from the tags."""
        await self._ready()
        return await self._place.carry_through(self._upkeep.reindex())

    async def verify(self) -> AuditVerification:
        """Check the audit chain and the tags."""
        await self._ready()
        return await self._verifying.verify()

    async def _ready(self) -> None:
        await self._recovered.wait()
        self._place.check_open()
