"""The gate as the rest of the daemon sees it: its parts, and its background work."""

from __future__ import annotations

import asyncio
from typing import Final

from hive_core.agents import AgentLifecycle, AgentRegistry, DeploymentManager
from hive_core.gate.context import GateContext
from hive_core.gate.intake.import_commit import CommitImporter
from hive_core.gate.pipeline.allow_fetches import FetchPermissions
from hive_core.gate.pipeline.build import BuildStep
from hive_core.gate.pipeline.decide import Decisions
from hive_core.gate.pipeline.deploy import DeployStep
from hive_core.gate.pipeline.maintenance import Maintenance, Verification
from hive_core.gate.pipeline.provisioning import Provisioning, Removal
from hive_core.gate.pipeline.prune import Pruning
from hive_core.gate.pipeline.recovery import Recovery
from hive_core.gate.pipeline.submit import AgentSubmissions, ConfigSubmissions
from hive_core.gate.pipeline.updates import RebuildSubmissions, Updates
from hive_core.gate.queries import ProposalQueries
from hive_core.gate.subject.background import BackgroundWork
from hive_core.gate.subject.logs import ProposalLogs
from hive_core.gate.transition_log import TransitionLog
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings


class Gate:
    """Builds the parts of the gate. Their requests and queries wait until `run` has recovered the proposals."""

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
        transition_log = TransitionLog(layout, database, directory, broker, events, self._recover_later)
        background = BackgroundWork(layout.state_dir, self._catch_up)
        self._context = context = GateContext(
            settings, layout, database, directory, agents, deployments, lifecycle, runtime, transition_log, background
        )
        logs = ProposalLogs(layout.build_log)
        provisioning, removal = Provisioning(context), Removal(context)
        deploy_step = DeployStep(context, provisioning, removal)
        build_step = BuildStep(context, logs, deploy_step)
        self.decisions: Final = Decisions(context, deploy_step)
        self.pruning: Final = Pruning(context)
        self.config_submissions: Final = ConfigSubmissions(context, importer, build_step, self.pruning)
        self.rebuild_submissions: Final = RebuildSubmissions(context, build_step)
        self.fetch_permissions: Final = FetchPermissions(context, build_step)
        self.agent_submissions: Final = AgentSubmissions(context, provisioning, removal, build_step, deploy_step)
        self.queries: Final = ProposalQueries(context, logs)
        self.maintenance: Final = Maintenance(context, self.decisions)
        self.verification: Final = Verification(context)
        self.updates: Final = Updates(context, self.rebuild_submissions)
        self._recovery = Recovery(context, build_step, deploy_step, self.decisions, self.pruning)

    async def run(self) -> None:
        """Recover proposals, then expire them and update agents until cancelled."""
        await self._recovery.run()
        self._context.recovered.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.maintenance.expire())
            tasks.create_task(self.updates.run())

    def _recover_later(self, agent: str) -> None:
        self._recovery.recover_later(agent)

    async def _catch_up(self, agent: str) -> None:
        await self._recovery.catch_up(agent)

    async def close(self) -> None:
        """End requests and background work. The next start of the daemon goes on with what is half done."""
        await self._context.close()
