"""Putting a configuration in force: a new agent's first, and every later one. Who may do that is the gate's to know."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import defaultdict
from collections.abc import Mapping
from typing import Protocol

import structlog

from hive_core.agents import files
from hive_core.agents import store as agent_store
from hive_core.agents.health import HarnessReports
from hive_core.agents.limits import LimitPolicy
from hive_core.agents.purge import Purging
from hive_core.agents.registry import AgentRegistry, AgentViews, check_name
from hive_core.agents.store import ActiveConfig, AgentRecord, Desired
from hive_core.errors import HiveError, conflict
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.layout import AgentPaths, Layout
from hive_core.messaging import Broker, Directory
from hive_core.protocol import AgentStatus, Kind
from hive_core.protocol.names import MANAGER
from hive_core.runtimes.base import AgentSpec, Runtime

log = structlog.get_logger(__name__)


class SocketManager(Protocol):
    """The sockets on which agents are heard, as this package needs them."""

    async def open(self, name: str) -> None:
        """Listen for the agent."""

    async def close(self, name: str) -> None:
        """Stop listening for the agent."""


class PagePortManager(Protocol):
    """The ports of agents' pages, as this package needs them."""

    def hold(self, name: str, port: int) -> None:
        """Listen on the port for the agent; nothing happens if that is so already. Raises HiveError."""

    def release(self, name: str) -> None:
        """Leave the agent's port to others."""


class DeploymentManager(AgentViews):
    """What agents run, and whether it came up."""

    def __init__(
        self,
        *,
        layout: Layout,
        database: Database,
        directory: Directory,
        broker: Broker,
        runtime: Runtime,
        sockets: SocketManager,
        page_ports: PagePortManager,
        reports: HarnessReports,
        environment: Mapping[str, str],
        limit_policy: LimitPolicy,
    ) -> None:
        """`environment` is what every harness gets, `limit_policy` how much the operator lets agents use."""
        super().__init__(
            layout=layout, registry=AgentRegistry(directory), broker=broker, runtime=runtime, reports=reports
        )
        self._database = database
        self._directory = directory
        self._sockets = sockets
        self._page_ports = page_ports
        self._environment = environment
        self._limit_policy = limit_policy
        self._purging = Purging(layout, database)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check_new(self, name: str) -> None:
        """Raise unless an agent can be made under the name: `bad_name`, `agent_exists`, `agent_being_purged`.

        After this, nothing of an earlier agent that was purged is in the way, or will be taken away.
        """
        check_name(name)
        self._check_free(name)
        if self._purging.pending(name):
            async with self._locks[name]:
                await self._purging.make_way(name)

    async def create_directories(self, name: str) -> AgentPaths:
        """Make the directories of an agent that is to be created; of `config` there is none then.

        That of an earlier agent is kept beside it. Raises like `check_new`, and `config_in_the_way`, `disk_full`.
        """
        check_name(name)
        paths = self._layout.agent(name)
        async with self._locks[name]:
            self._check_free(name)
            await self._purging.make_way(name)
            await asyncio.to_thread(files.create_directories, paths)
        return paths

    async def create(self, name: str, in_force: ActiveConfig, *, start: bool, actor: str) -> AgentStatus:
        """Make an agent whose place is made, hear it, and run it if it is to start.

        Raises `bad_name`, `agent_exists`. What the runtime refuses is raised too, and then the agent is there.
        """
        check_name(name)
        kind: Kind = "manager" if name == MANAGER else "agent"
        desired: Desired = "running" if start else "stopped"
        config, prompt, number = in_force.config, in_force.prompt, in_force.number
        new = AgentRecord(name, kind, desired, config, prompt, number, web_port=0, closure=in_force.closure)
        detail = {"backend": config.backend, "deployment": number}

        def store(db: sqlite3.Connection) -> AgentRecord:
            audit.append(db, actor=actor, action="spawn", subject=name, detail=detail)
            return agent_store.insert(db, new)

        async with self._locks[name]:
            self._check_free(name)
            record = await self._database.write(store)
            self._registry.add(record)
            self._hold_port(record)
            await self._sockets.open(name)
            if start:
                await self._activate(record)
        return self.status(name)

    async def deploy(self, name: str, in_force: ActiveConfig) -> bool:
        """Put something else in force: remembered first, then run if the agent is to run; whether it is.

        Raises `unknown_agent`. What the runtime refuses is raised too, and then `in_force` is remembered all the same.
        """
        self.record(name)
        async with self._locks[name]:
            record = self.record(name).with_active_config(in_force)
            await self._database.write(lambda db: agent_store.replace_active_config(db, name, in_force))
            self._registry.replace(record)
            self._hold_port(record)
            wanted = record.desired == "running"
            if wanted:
                await self._activate(record)
            else:
                self._reports.health_monitor.forget(name)
        return wanted

    async def wait_healthy(self, name: str, number: int, seconds: float) -> str:
        """Wait until the agent's harness is ready to work on this deployment: "", or why it is not, in words.

        Tells at once of an agent that cannot become so: stopped, destroyed, deployed anew, or failed for good.
        """
        why = await self._reports.health_monitor.wait(name, number, seconds, lambda: self._failure_reason(name, number))
        unit = self._unit(name)
        if why and unit is not None and unit.lifecycle == "backoff":
            return f"{why}; it crashed, the last time with: {unit.exit_cause}"
        return why

    def hold_port(self, name: str) -> bool:
        """Whether the agent's page has its port; tried again if it was taken. Raises `unknown_agent`."""
        return self._hold_port(self.record(name))

    # --------------------------------------------------------------------------------------------------------

    def _hold_port(self, record: AgentRecord) -> bool:
        """Whether it is held; of a sealed agent's network it is not a part, so it is left to others."""
        if record.sealed:
            self._page_ports.release(record.name)
            return False
        try:
            self._page_ports.hold(record.name, record.web_port)
        except HiveError as error:
            log.warning("the page has no port", agent=record.name, code=error.code, error=error.message)
            return False
        return True

    async def _activate(self, record: AgentRecord) -> None:
        self._reports.health_monitor.forget(record.name)
        await self._runtime.activate(self._spec(record))

    def _check_free(self, name: str) -> None:
        if self._registry.find(name) is not None:
            raise conflict("agent_exists", f"there is an agent {name} already", "destroy it first")

    def _failure_reason(self, name: str, number: int) -> str:
        record, unit = self._registry.find(name), self._unit(name)
        if record is None:
            return "it was destroyed"
        if record.deployment != number:
            return f"deployment {record.deployment} took its place"
        if record.desired == "stopped":
            return "it was stopped"
        return f"it failed: {unit.exit_cause}" if unit is not None and unit.lifecycle == "failed" else ""

    def _spec(self, record: AgentRecord) -> AgentSpec:
        name, layout, manager = record.name, self._layout, record.kind == "manager"
        return AgentSpec(
            name,
            record.kind,
            layout.agent(name),
            layout.agent_log(name),
            self._environment,
            # The manager reviews everybody's proposals, and may make some for anybody.
            applied=layout.applied if manager else layout.applied_repository(name),
            closure=record.closure,
            deployment=record.deployment,
            limits=self._limit_policy.effective(record.config),
            sealed=record.sealed,
            web_port=0 if record.sealed else record.web_port,
        )
