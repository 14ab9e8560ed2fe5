"""An agent's life: spawn, start, stop, restart, destroy; and what the operator sees of it."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import structlog

from hive_core import audit
from hive_core.agents import files, records
from hive_core.agents.purging import Purging
from hive_core.agents.records import AgentRecord, Desired
from hive_core.agents.reports import Reports
from hive_core.agents.roster import Roster, check_name
from hive_core.agents.views import Views
from hive_core.broker import Broker, Directory
from hive_core.database import Database
from hive_core.errors import HiveError, conflict
from hive_core.layout import Layout
from hive_core.names import MANAGER
from hive_core.protocol import (
    AgentStatus,
    DestroyAnswer,
    Kind,
    SpawnRequest,
)
from hive_core.runtimes.base import AgentSpec, Runtime

log = structlog.get_logger(__name__)

_STARTED_AT_ONCE = 4
"""Agents that are started side by side when the daemon starts: more would only wait for each other's CPU time."""


class Doors(Protocol):
    """The sockets on which agents are heard, as this package needs them."""

    async def open(self, name: str) -> None:
        """Listen for the agent."""

    async def close(self, name: str) -> None:
        """Stop listening for the agent."""


class Agents(Views):
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
        super().__init__(layout=layout, roster=Roster(directory), broker=broker, runtime=runtime, reports=reports)
        self._database = database
        self._directory = directory
        self._doors = doors
        self._environment = environment
        self._purging = Purging(layout, database)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def open(self) -> None:
        """Know the agents of the database, repair what an earlier daemon left half done, listen for the agents.

        `start_wanted` then runs those that are wanted. An agent that cannot be heard is logged; the others go on.
        """
        known = await self._database.read(records.load)
        await self._purging.open({record.name for record in known})
        for record in known:
            try:
                await asyncio.to_thread(files.make_directories, self._layout.agent(record.name))
            except (HiveError, OSError) as error:
                log.error("agent's directories not made", agent=record.name, error=str(error))
            self._roster.enrol(record)
        # Only now: whoever is heard before all are known is told that some are not there.
        for record in known:
            try:
                await self._doors.open(record.name)
            except HiveError as error:
                log.error("agent cannot be heard", agent=record.name, error=error.message)

    async def start_wanted(self) -> None:
        """Start every agent that was running when the daemon last stopped, unless it is asked otherwise meanwhile."""
        turns = asyncio.Semaphore(_STARTED_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for name in [record.name for record in self._roster.all()]:
                tasks.create_task(self._start_if_wanted(name, turns))

    async def empty_trash(self) -> None:
        """Remove what destroyed agents have left, until cancelled."""
        await self._purging.run()

    def close(self) -> None:
        """Begin to stop: the rest of the trash is the next daemon's."""
        self._purging.stop()

    # --- actions --------------------------------------------------------------------------------------------

    async def spawn(self, request: SpawnRequest, actor: str) -> AgentStatus:
        """Make an agent; raises `bad_name`, `agent_exists`, `agent_being_purged`, `config_in_the_way`, `disk_full`."""
        name = request.name
        check_name(name)
        async with self._locks[name]:
            if self._roster.find(name) is not None:
                raise conflict("agent_exists", f"there is an agent {name} already", "destroy it first")
            desired: Desired = "running" if request.start else "stopped"
            kind: Kind = "manager" if name == MANAGER else "agent"
            record = AgentRecord(name, kind, desired, request.config, request.prompt, deployment=0, web_port=0)
            await self._purging.make_way(name)
            await asyncio.to_thread(files.prepare, self._layout.agent(name), request)
            detail = {"backend": request.config.backend}

            def store(db: sqlite3.Connection) -> AgentRecord:
                audit.append(db, actor=actor, action="spawn", subject=name, detail=detail)
                return records.insert(db, record)

            record = await self._database.write(store)
            self._roster.enrol(record)
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
        """Remove the agent. With `purge` also its files, port and messages; otherwise a new one finds them again.

        An agent whose destruction cannot be stored stays as it was. Raises `agent_being_purged` and
        `purge_unfinished` if it is gone, but not all of its files.
        """
        self.record(name)
        async with self._locks[name]:
            record = self.record(name)
            await self._runtime.destroy(name)
            member = self._directory.member(name)
            self._directory.remove(name)  # Before its messages: nothing new may come after they are counted.
            try:
                dropped = await self._database.write(lambda db: self._delete(db, name, actor, purge=purge))
            except Exception:
                self._directory.put(member)
                if record.desired == "running":
                    await self._start(record)
                raise
            self._roster.strike(name)
            self._reports.forget(name)
            if purge:
                self._broker.forgotten(name)
                self._purging.begun(name)
            await self._doors.close(name)
            left = await (self._purging.finish(name) if purge else self._purging.clear_run(name))
        await self._purging.empty(left)
        return DestroyAnswer(name=name, purged=purge, dropped_messages=dropped)

    # --------------------------------------------------------------------------------------------------------

    async def _start_if_wanted(self, name: str, turns: asyncio.Semaphore) -> None:
        async with turns, self._locks[name]:
            # Looked up now: the operator may have stopped or destroyed it since the daemon started.
            record = self._roster.find(name)
            if record is not None and record.desired == "running":
                await self._start(record)

    async def _start(self, record: AgentRecord) -> None:
        """Start an agent for which nobody waits who could be told that it was refused."""
        try:
            await self._runtime.start(self._spec(record))
        except HiveError as error:
            log.warning("agent not started", agent=record.name, code=error.code)

    def _delete(self, db: sqlite3.Connection, name: str, actor: str, *, purge: bool) -> int:
        """All that a destroy changes in the database, in one transaction; how many waiting messages were dropped."""
        dropped = self._broker.forget(db, name) if purge else 0
        records.delete(db, name, forget_port=purge)
        if purge:
            records.begin_purge(db, name)
        detail = {"purge": purge, "dropped_messages": dropped}
        audit.append(db, actor=actor, action="destroy", subject=name, detail=detail)
        return dropped

    async def _want(self, name: str, desired: Desired, action: str, actor: str) -> AgentRecord:
        record = self.record(name)

        def store(db: sqlite3.Connection) -> None:
            records.set_desired(db, name, desired)
            audit.append(db, actor=actor, action=action, subject=name)

        await self._database.write(store)
        record = replace(record, desired=desired)
        self._roster.replace(record)
        return record

    def _spec(self, record: AgentRecord) -> AgentSpec:
        paths, name = self._layout.agent(record.name), record.name
        return AgentSpec(name, record.kind, paths, self._layout.agent_log(name), self._environment)


def passed_environment(names: Sequence[str]) -> dict[str, str]:
    """The variables of the daemon's own environment that agents get too, as far as they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}
