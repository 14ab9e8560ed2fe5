"""An agent's life: start, stop, restart, destroy. What it runs is put in force by what is in `deploying`."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from dataclasses import replace

import structlog

from hive_core.agents import files, page_access
from hive_core.agents import store as agent_store
from hive_core.agents.live_limits import AgentLimits
from hive_core.agents.store import AgentRecord, Desired
from hive_core.errors import HiveError
from hive_core.infra.database import audit
from hive_core.messaging import question_store
from hive_core.protocol import AgentStatus, DestroyAnswer

log = structlog.get_logger(__name__)

_STARTED_AT_ONCE = 4
"""Agents that are started side by side when the daemon starts: more would only wait for each other's CPU time."""


class AgentLifecycle(AgentLimits):
    """Every agent of the hive. Actions on one agent run one after another, on different agents side by side."""

    async def open(self) -> None:
        """Know the agents of the database, repair what an earlier daemon left half done, listen for the agents.

        `start_wanted` then runs those that are wanted. An agent that cannot be heard is logged; the others go on.
        """
        known = await self._database.read(agent_store.load)
        await self._purging.open({record.name for record in known})
        await asyncio.to_thread(self._make_directories, known)
        for record in known:
            self._registry.add(record)
        for name, session in await self._database.read(page_access.load_sessions):
            self.page_access.restore(name, session)
        # Only now: whoever is heard before all are known is told that some are not there.
        for record in known:
            self._hold_port(record)
            try:
                await self._sockets.open(record.name)
            except HiveError as error:
                log.error("agent cannot be heard", agent=record.name, error=error.message)

    async def start_wanted(self) -> None:
        """Start every agent that was running when the daemon last stopped, unless it is asked otherwise meanwhile."""
        turns = asyncio.Semaphore(_STARTED_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            for name in [record.name for record in self._registry.all()]:
                tasks.create_task(self._start_if_wanted(name, turns))

    async def empty_trash(self) -> None:
        """Remove what destroyed agents have left, until cancelled."""
        await self._purging.run()

    def close(self) -> None:
        """Begin to stop: the rest of the trash is the next daemon's."""
        self._purging.stop()

    # --- actions --------------------------------------------------------------------------------------------

    async def start(self, name: str, actor: str) -> AgentStatus:
        """Run the agent; nothing happens if it runs already."""
        self.record(name)
        async with self._locks[name]:
            record = await self._want(name, "running", "start", actor)
            self._hold_port(record)
            await self._runtime.start(self._spec(record))
        return self.status(name)

    async def stop(self, name: str, actor: str) -> AgentStatus:
        """Stop the agent; its messages wait."""
        self.record(name)
        async with self._locks[name]:
            record = await self._want(name, "stopped", "stop", actor)
            await self._runtime.stop(name)
            self._hold_port(record)  # A harness that has outlived a daemon had it until now.
        return self.status(name)

    async def restart(self, name: str, actor: str) -> AgentStatus:
        """Stop the agent if it runs, and start it."""
        self.record(name)
        async with self._locks[name]:
            record = await self._want(name, "running", "restart", actor)
            await self._runtime.stop(name)
            self._hold_port(record)
            await self._runtime.start(self._spec(record))
        return self.status(name)

    async def set_status(self, name: str, text: str) -> None:
        """The agent says what it is at; kept until it says something else, or is destroyed."""
        async with self._locks[name]:
            record = self.record(name)
            if record.status != text:
                await self._database.write(lambda db: agent_store.set_status(db, name, text))
                self._registry.replace(replace(record, status=text))
                self._reports.status(name, text)

    async def destroy(self, name: str, actor: str, *, purge: bool) -> DestroyAnswer:
        """Remove the agent. With `purge` also its files, port, messages and all of its past; otherwise a new one
        finds them again.

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
            self._registry.remove(name)
            self._reports.forget(name)
            self.page_access.forget(name)
            if purge:
                self._broker.was_deleted(name)
                self._purging.begun(name)
            self._page_ports.release(name)
            await self._sockets.close(name)
            left = await (self._purging.finish(name) if purge else self._purging.clear_run(name))
        await self._purging.empty(left)
        return DestroyAnswer(name=name, purged=purge, dropped_messages=dropped)

    # --------------------------------------------------------------------------------------------------------

    def _make_directories(self, known: Sequence[AgentRecord]) -> None:
        for record in known:
            try:
                files.make_directories(self._layout.agent(record.name))
            except (HiveError, OSError) as error:
                log.error("agent's directories not made", agent=record.name, error=str(error))

    async def _start_if_wanted(self, name: str, turns: asyncio.Semaphore) -> None:
        async with turns, self._locks[name]:
            # Looked up now: the operator may have stopped or destroyed it since the daemon started.
            record = self._registry.find(name)
            if record is not None and record.desired == "running":
                await self._start(record)
            elif record is not None:
                await self._stop_leftover(name)
                self._hold_port(record)

    async def _start(self, record: AgentRecord) -> None:
        """Start an agent for which nobody waits who could be told that it was refused."""
        try:
            await self._runtime.start(self._spec(record))
        except HiveError as error:
            log.warning("agent not started", agent=record.name, code=error.code)

    async def _stop_leftover(self, name: str) -> None:
        """Containers outlive the daemon: one that was to be stopped when it was killed may go on still."""
        try:
            await self._runtime.stop(name)
        except HiveError as error:
            log.warning("agent not stopped", agent=name, code=error.code)

    def _delete(self, db: sqlite3.Connection, name: str, actor: str, *, purge: bool) -> int:
        """All that a destroy changes in the database, in one transaction; how many waiting messages were dropped."""
        dropped = self._broker.delete_agent(db, name) if purge else 0
        agent_store.delete(db, name, forget_port=purge)
        page_access.forget_sessions(db, name)
        if purge:
            question_store.delete_questions(db, name)
            question_store.delete_reminders(db, name)
            agent_store.begin_purge(db, name)
        detail = {"purge": purge, "dropped_messages": dropped}
        audit.append(db, actor=actor, action="destroy", subject=name, detail=detail)
        return dropped

    async def _want(self, name: str, desired: Desired, action: str, actor: str) -> AgentRecord:
        record = self.record(name)

        def store(db: sqlite3.Connection) -> None:
            agent_store.set_desired(db, name, desired)
            audit.append(db, actor=actor, action=action, subject=name)

        await self._database.write(store)
        record = replace(record, desired=desired)
        self._registry.replace(record)
        self._reports.health_monitor.check_again(name)
        return record


def passed_environment(names: Sequence[str]) -> dict[str, str]:
    """The variables of the daemon's own environment that agents get too, as far as they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}
