"""An agent's life: spawn, start, stop, restart, destroy; and what the operator sees of it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from hive_core import audit
from hive_core.agents import files, records
from hive_core.agents.records import AgentRecord, Desired
from hive_core.agents.reports import Reports
from hive_core.broker import Broker, Directory, Member
from hive_core.database import Database
from hive_core.errors import HiveError, conflict, not_found
from hive_core.layout import Layout
from hive_core.names import MANAGER, is_agent_name, shown, why_not
from hive_core.protocol import (
    AgentStatus,
    DestroyAnswer,
    Kind,
    LogsAnswer,
    LogsQuery,
    SpawnRequest,
)
from hive_core.runtimes.base import AgentSpec, Runtime, UnitState


class Doors(Protocol):
    """The sockets on which agents are heard, as this package needs them."""

    async def open(self, name: str) -> None:
        """Listen for the agent."""

    async def close(self, name: str) -> None:
        """Stop listening for the agent."""


class Agents:
    """Every agent of the hive. Actions on one agent run one after another, on different agents side by side."""

    def __init__(
        self,
        *,
        layout: Layout,
        database: Database,
        directory: Directory,
        broker: Broker,
        runtime: Runtime,
        doors: Doors,
        reports: Reports,
        environment: Mapping[str, str],
    ) -> None:
        """`environment` is what every harness gets."""
        self._layout = layout
        self._database = database
        self._directory = directory
        self._broker = broker
        self._runtime = runtime
        self._doors = doors
        self._reports = reports
        self._environment = environment
        self._records: dict[str, AgentRecord] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self) -> None:
        """Know the agents of the database and listen for them; `start_wanted` then runs them."""
        known = await self._database.read(records.load)
        for record in known:
            self._enrol(record)
        # Only now: whoever is heard before all are known is told that some are not there.
        for record in known:
            await self._doors.open(record.name)

    async def start_wanted(self) -> None:
        """Start every agent that was running when the daemon last stopped."""
        for record in list(self._records.values()):
            if record.desired == "running":
                await self._runtime.start(self._spec(record))

    # --- actions --------------------------------------------------------------------------------------------

    async def spawn(self, request: SpawnRequest, actor: str) -> AgentStatus:
        """Make an agent; raises `bad_name`, `agent_exists`."""
        name = request.name
        if name != MANAGER and not is_agent_name(name):
            raise HiveError("bad_name", why_not(name), hint="1 to 9 characters a-z and 0-9, a letter first")
        async with self._locks[name]:
            if name in self._records:
                raise conflict("agent_exists", f"there is an agent {name} already", "destroy it first")
            desired: Desired = "running" if request.start else "stopped"
            kind: Kind = "manager" if name == MANAGER else "agent"
            record = AgentRecord(name, kind, desired, request.config, request.prompt, deployment=0, web_port=0)
            paths = self._layout.agent(name)
            await asyncio.to_thread(files.prepare, paths, request)
            detail = {"backend": request.config.backend}

            def store(db: sqlite3.Connection) -> AgentRecord:
                audit.append(db, actor=actor, action="spawn", subject=name, detail=detail)
                return records.insert(db, record)

            record = await self._database.write(store)
            self._enrol(record)
            await self._doors.open(name)
            if request.start:
                await self._runtime.start(self._spec(record))
        return self.status(name)

    async def start(self, name: str, actor: str) -> AgentStatus:
        """Run the agent; nothing happens if it runs already."""
        self.record(name)
        async with self._locks[name]:
            record = await self._want(name, "running", "start", actor)
            await self._runtime.start(self._spec(record))
        return self.status(name)

    async def stop(self, name: str, actor: str) -> AgentStatus:
        """Stop the agent; its messages wait."""
        self.record(name)
        async with self._locks[name]:
            await self._want(name, "stopped", "stop", actor)
            await self._runtime.stop(name)
        return self.status(name)

    async def restart(self, name: str, actor: str) -> AgentStatus:
        """Stop the agent if it runs, and start it."""
        self.record(name)
        async with self._locks[name]:
            record = await self._want(name, "running", "restart", actor)
            await self._runtime.stop(name)
            await self._runtime.start(self._spec(record))
        return self.status(name)

    async def destroy(self, name: str, actor: str, *, purge: bool) -> DestroyAnswer:
        """Remove the agent. With `purge` also its files, port and messages; otherwise a new one finds them again."""
        self.record(name)
        async with self._locks[name]:
            self.record(name)
            await self._runtime.destroy(name)
            self._directory.remove(name)  # Before its messages: nothing new may come after they are counted.
            dropped = await self._broker.forget(name) if purge else 0

            def store(db: sqlite3.Connection) -> None:
                records.delete(db, name, forget_port=purge)
                audit.append(
                    db,
                    actor=actor,
                    action="destroy",
                    subject=name,
                    detail={"purge": purge, "dropped_messages": dropped},
                )

            await self._database.write(store)
            del self._records[name]
            self._reports.forget(name)
            await self._doors.close(name)
            files.remove_run_directory(self._layout.agent(name))
            if purge:
                await asyncio.to_thread(files.purge, self._layout, name)
        return DestroyAnswer(name=name, purged=purge, dropped_messages=dropped)

    # --- views ----------------------------------------------------------------------------------------------

    def record(self, name: str) -> AgentRecord:
        """The agent's record; raises `unknown_agent`, or `bad_name` for what can be none."""
        record = self._records.get(name)
        if record is not None:
            return record
        if name != MANAGER and not is_agent_name(name):
            raise HiveError("bad_name", why_not(name), hint="1 to 9 characters a-z and 0-9, a letter first")
        raise not_found("unknown_agent", f"there is no agent {shown(name)}", "hive-c0re list shows those there are")

    def status(self, name: str) -> AgentStatus:
        """One agent as the operator sees it."""
        units = {unit.name: unit for unit in self._runtime.units()}
        return self._status(self.record(name), units)

    def statuses(self) -> Sequence[AgentStatus]:
        """All agents, the manager first."""
        units = {unit.name: unit for unit in self._runtime.units()}
        order = sorted(self._records.values(), key=lambda record: (record.kind != "manager", record.name))
        return [self._status(record, units) for record in order]

    async def logs(self, name: str, query: LogsQuery) -> LogsAnswer:
        """What the agent's harness wrote to its output."""
        self.record(name)
        lines, cursor = await self._runtime.read_log(
            name, self._layout.agent_log(name), query.lines, query.cursor, query.wait_seconds
        )
        return LogsAnswer(lines=lines, cursor=cursor)

    # --------------------------------------------------------------------------------------------------------

    def _enrol(self, record: AgentRecord) -> None:
        files.make_directories(self._layout.agent(record.name))
        allowed = record.config.allowed_recipients
        member = Member(record.name, record.kind, None if allowed is None else frozenset(allowed), record.instance)
        self._directory.put(member)
        self._records[record.name] = record

    async def _want(self, name: str, desired: Desired, action: str, actor: str) -> AgentRecord:
        record = self.record(name)

        def store(db: sqlite3.Connection) -> None:
            records.set_desired(db, name, desired)
            audit.append(db, actor=actor, action=action, subject=name)

        await self._database.write(store)
        self._records[name] = record = replace(record, desired=desired)
        return record

    def _spec(self, record: AgentRecord) -> AgentSpec:
        paths, name = self._layout.agent(record.name), record.name
        return AgentSpec(name, record.kind, paths, self._layout.agent_log(name), self._environment)

    def _status(self, record: AgentRecord, units: Mapping[str, UnitState]) -> AgentStatus:
        unit = units.get(record.name, UnitState(record.name, "stopped"))
        report = self._reports.last(record.name)
        return AgentStatus(
            name=record.name,
            kind=record.kind,
            lifecycle=unit.lifecycle,
            state=report.state,
            backend=record.config.backend,
            model=record.config.model,
            detail=report.detail,
            state_since=report.since,
            started_at=unit.started_at,
            pid=unit.pid,
            restarts=unit.restarts,
            exit_cause=unit.exit_cause,
            unacked=self._broker.unacknowledged(record.name),
            web_port=record.web_port,
            deployment=record.deployment,
            confinement=self._runtime.confinement,
        )


def passed_environment(names: Sequence[str]) -> dict[str, str]:
    """The variables of the daemon's own environment that agents get too, as far as they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}
