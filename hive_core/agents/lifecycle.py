"""Start, stop, restart and destroy agents; start-up of the daemon's agents."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial

import structlog

from hive_core.agents import files, page_access
from hive_core.agents import store as agent_store
from hive_core.agents.deployment import DeploymentManager
from hive_core.agents.health import HarnessReports
from hive_core.agents.page_access import PageAccess
from hive_core.agents.purge import Purging
from hive_core.agents.registry import AgentRegistry, check_name
from hive_core.agents.store import AgentRecord, Desired
from hive_core.errors import HiveError, conflict, not_found
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database, Operation
from hive_core.infra.database.deferred import DeferredChanges
from hive_core.infra.storage.disk_space import is_lack_of_space
from hive_core.layout import Layout
from hive_core.messaging import Broker, question_store
from hive_core.messaging.fairness.budgets import StatusChanges
from hive_core.protocol import AgentStatus, DestroyAnswer, KeptAgent
from hive_core.protocol.names import MANAGER, is_agent_name
from hive_core.runtimes.base import Runtime

log = structlog.get_logger(__name__)

_STARTED_AT_ONCE = max(4, 2 * (os.cpu_count() or 1))
"""Agents that are started concurrently when the daemon starts: more would only compete for the CPU."""
_UP_SECONDS = 10.0
"""Longest that the start of an agent counts as under way; a harness needs half a second of processor time."""


class AgentLifecycle:
    """Actions on agents. Those on one agent run one after another, those on different agents concurrently."""

    def __init__(
        self,
        registry: AgentRegistry,
        deployments: DeploymentManager,
        *,
        layout: Layout,
        database: Database,
        broker: Broker,
        runtime: Runtime,
        reports: HarnessReports,
        purging: Purging,
        page_access: PageAccess,
        deferred: DeferredChanges,
        up_seconds: float = _UP_SECONDS,
    ) -> None:
        """`up_seconds` is the longest that an agent's start keeps the next one waiting when the daemon starts."""
        self._registry = registry
        self._deployments = deployments
        self._layout = layout
        self._database = database
        self._broker = broker
        self._runtime = runtime
        self._reports = reports
        self._purging = purging
        self._page_access = page_access
        self._deferred = deferred
        self._up_seconds = up_seconds
        self._status_changes = StatusChanges(time.monotonic)

    async def open(self) -> None:
        """Load the agents from the database, complete purges of an earlier daemon, and listen for the agents.

        `start_wanted` starts them. A failure to listen for one agent is logged and does not affect the others.
        """
        unsealed = self._runtime.unsealed
        known = [replace(each, unsealed=unsealed) for each in await self._database.read(agent_store.load)]
        known = await self._carry_out_intents(known)
        await self._purging.open({record.name for record in known})
        await LIFECYCLE.run(self._make_directories, known)
        for record in known:
            self._registry.add(record)
        for name, session in await self._database.read(page_access.load_sessions):
            self._page_access.restore(name, session)
        # Only now: an agent whose request came earlier would see some recipients as unknown.
        for record in known:
            await self._deployments.try_to_listen(record)

    async def start_wanted(self) -> None:
        """Start every agent that should run, unless an action stops or destroys it first.

        Returns when all were started, and when the daemon listens for all of them.
        """
        turns = asyncio.Semaphore(_STARTED_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._deployments.listen_for_the_rest())
            for name in [record.name for record in self._registry.all()]:
                tasks.create_task(self._start_if_wanted(name, turns))

    async def empty_trash(self) -> None:
        """Delete the remaining files of destroyed agents until cancelled."""
        await self._purging.run()

    def close(self) -> None:
        """Stop deleting files; the next daemon continues."""
        self._purging.stop()

    # --- actions --------------------------------------------------------------------------------------------

    async def start(self, name: str, actor: str) -> AgentStatus:
        """Start the agent, unless it runs already."""
        self._registry.record(name)
        async with self._registry.lock(name):
            record = await self._want_running(name, "start", actor)
            self._deployments.hold_view(record)
            self._deployments.hold_port(record)
            await self._run(record)
        return self._registry.status(name)

    async def stop(self, name: str, actor: str) -> AgentStatus:
        """Stop the agent; its messages stay stored.

        On a full disk it is stopped first: it may be the one that fills the disk.
        """
        self._registry.record(name)
        async with self._registry.lock(name):
            wish = _wish(name, "stopped", "stop", actor)
            stored = await self._stored(name, wish)
            record = self._desire(name, "stopped")
            await self._runtime.stop(name)
            if not stored:
                await self._deferred.store_or_keep(name, wish, "stop")
            self._deployments.hold_port(record)  # A harness that outlived a daemon may have held it until now.
        return self._registry.status(name)

    async def restart(self, name: str, actor: str) -> AgentStatus:
        """Stop the agent if it runs, then start it."""
        self._registry.record(name)
        async with self._registry.lock(name):
            record = await self._want_running(name, "restart", actor, before=self._runtime.stop)
            await self._runtime.stop(name)
            self._deployments.hold_view(record)
            self._deployments.hold_port(record)
            await self._run(record)
        return self._registry.status(name)

    async def set_status(self, name: str, text: str) -> None:
        """Store the status text that the agent reports. Raises `sending_too_fast` if it changes too often."""
        async with self._registry.lock(name):
            record = self._registry.record(name)
            if record.status != text:
                self._status_changes.check(name)
                await self._database.write(lambda db: agent_store.set_status(db, name, text))
                self._registry.replace(replace(record, status=text))
                self._reports.status(name, text)

    async def destroy(self, name: str, actor: str, *, purge: bool) -> DestroyAnswer:
        """Remove the agent; with `purge` also its files, port, messages and history.

        Without `purge` a new agent of the name gets them. If the change cannot be stored, the agent stays as it was;
        but on a full disk it is removed, and that is stored when there is room.

        Raises:
            HiveError: `unknown_agent`, `bad_name`; `agent_being_purged` or `purge_unfinished` if the agent was removed,
                but not all of its files.
        """
        self._registry.record(name)
        async with self._registry.lock(name):
            record = self._registry.record(name)
            await self._runtime.destroy(name)
            member = self._registry.detach(name)  # Before its messages: none may arrive after they were counted.
            unacknowledged = self._broker.unacknowledged(name) if purge else 0
            change = partial(self._delete, name=name, actor=actor, purge=purge)
            try:
                dropped = await self._deferred.store_or_keep(name, change, "purge" if purge else "destroy")
            except Exception:
                self._registry.attach(member)
                if record.desired == "running":
                    await self._start(record)
                raise
            self._registry.remove(name)
            self._reports.forget(name)
            self._page_access.forget(name)
            if purge:
                self._broker.was_deleted(name)
                self._purging.begun(name)
            await self._deployments.stop_listening(name)
            left = await (self._purging.finish(name) if purge else self._purging.clear_run(name))
            if not self._deferred.is_kept(name):
                await LIFECYCLE.run(self._deferred.files.remove, name)
        await self._purging.delete(left)
        return DestroyAnswer(name=name, purged=purge, dropped_messages=unacknowledged if dropped is None else dropped)

    async def kept(self) -> list[KeptAgent]:
        """Return the destroyed agents whose files are kept, by name."""
        names = await LIFECYCLE.run(self._names_with_files)
        return [
            KeptAgent(name=name, unacked=self._broker.unacknowledged(name))
            for name in names
            if not (self._registry.exists(name) or self._purging.pending(name))
        ]

    async def purge_kept(self, name: str, actor: str) -> DestroyAnswer:
        """Remove what is kept of a destroyed agent, as a destroy with `purge` does.

        Raises `bad_name`, `agent_exists`, `nothing_kept`, `agent_being_purged`, `purge_unfinished`.
        """
        check_name(name)
        async with self._registry.lock(name):
            if self._registry.exists(name):
                raise conflict("agent_exists", f"{name} is not destroyed", "destroy it, and purge it with that")
            if name not in {each.name for each in await self.kept()}:
                raise not_found("nothing_kept", f"nothing is kept of an agent {name}", "see the list of what is kept")
            dropped = await self._database.write(partial(self._delete, name=name, actor=actor, purge=True))
            self._broker.was_deleted(name)
            self._purging.begun(name)
            left = await self._purging.finish(name)
        await self._purging.delete(left)
        return DestroyAnswer(name=name, purged=True, dropped_messages=dropped)

    # --------------------------------------------------------------------------------------------------------

    def _names_with_files(self) -> list[str]:
        return sorted(
            entry.name
            for entry in os.scandir(self._layout.agents)
            if (entry.name == MANAGER or is_agent_name(entry.name)) and entry.is_dir(follow_symlinks=False)
        )

    async def _carry_out_intents(self, known: Sequence[AgentRecord]) -> list[AgentRecord]:
        """Store what a full disk kept an earlier daemon from storing, and return the agents as they are after that."""
        intents = await LIFECYCLE.run(self._deferred.files.recorded)
        left = []
        for record in known:
            name, intent = record.name, intents.get(record.name)
            if intent == "stop" and record.desired == "running":
                await self._deferred.store_or_keep(name, _wish(name, "stopped", "stop", "system"), "stop")
                left.append(replace(record, desired="stopped"))
            elif intent in ("destroy", "purge"):
                purge = intent == "purge"
                change = partial(self._delete, name=name, actor="system", purge=purge)
                await self._deferred.store_or_keep(name, change, intent)
                if purge:
                    self._broker.was_deleted(name)
                    self._purging.begun(name)
            else:
                left.append(record)
        await LIFECYCLE.run(self._make_intent_files, [record.name for record in left])
        return left

    def _make_intent_files(self, names: Sequence[str]) -> None:
        # Those of agents that are destroyed already, but not in the database, are still needed.
        self._deferred.files.remove_others({*names, *self._deferred.kept()})
        for name in names:
            if not self._deferred.is_kept(name):
                self._deferred.files.make(name)

    def _make_directories(self, known: Sequence[AgentRecord]) -> None:
        for record in known:
            try:
                files.make_directories(self._layout.agent(record.name))
            except (HiveError, OSError) as error:
                log.error("agent's directories not made", agent=record.name, error=str(error))

    async def _start_if_wanted(self, name: str, turns: asyncio.Semaphore) -> None:
        async with turns:
            async with self._registry.lock(name):
                # Looked up under the lock: the operator may have stopped or destroyed it since the daemon started.
                record = self._registry.find(name)
                wanted = record is not None and record.desired == "running"
                if record is not None and wanted:
                    await self._start(record)
                elif record is not None:
                    await self._stop_leftover(name)
                    self._deployments.hold_port(record)
            if record is not None and wanted:
                await self._wait_until_up(record)

    async def _wait_until_up(self, record: AgentRecord) -> None:
        """Wait until the agent's harness is ready or does not run: until then it needs a processor.

        Without this all harnesses would be loaded at the same time, and the daemon would get a share of the
        processors like one of them.
        """

        def why_not() -> str:
            unit = self._registry.unit(record.name)
            return "" if unit is not None and unit.lifecycle in ("starting", "running") else "it does not run"

        await self._reports.health_monitor.wait(record.name, record.deployment, self._up_seconds, why_not)

    async def _start(self, record: AgentRecord) -> None:
        """Start an agent for which no caller waits: a refusal is logged."""
        try:
            await self._run(record)
        except HiveError as error:
            log.warning("agent not started", agent=record.name, code=error.code, error=error.message, hint=error.hint)

    async def _run(self, record: AgentRecord) -> None:
        with self._registry.starting(record.name):
            await self._runtime.start(await self._deployments.spec(record))

    async def _stop_leftover(self, name: str) -> None:
        """Stop an agent that may still run: containers outlive a daemon that was killed while it stopped them."""
        try:
            await self._runtime.stop(name)
        except HiveError as error:
            log.warning("agent not stopped", agent=name, code=error.code)

    def _delete(self, db: sqlite3.Connection, name: str, actor: str, *, purge: bool) -> int:
        """Make all changes of a destroy to the database; returns the number of dropped messages."""
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

    async def _want_running(
        self, name: str, action: str, actor: str, *, before: Callable[[str], Awaitable[None]] | None = None
    ) -> AgentRecord:
        """Store that the agent should run. On a full disk `before` is called first.

        Raises `disk_full` if that changes what was stored; if it does not, only the audit row is stored later.
        """
        wish = _wish(name, "running", action, actor)
        if not await self._stored(name, wish):
            if before is not None:
                await before(name)
            if self._registry.record(name).desired == "running":
                await self._deferred.store_or_keep(name, wish)
            else:
                await self._deferred.store(name, wish)
        return self._desire(name, "running")

    async def _stored(self, name: str, wish: Operation[None]) -> bool:
        """Store a wish; return False if the disk is full, or an earlier change must be stored first."""
        if self._deferred.is_kept(name):
            return False
        try:
            await self._database.write(wish)
        except HiveError as error:
            if not is_lack_of_space(error):
                raise
            return False
        return True

    def _desire(self, name: str, desired: Desired) -> AgentRecord:
        record = replace(self._registry.record(name), desired=desired)
        self._registry.replace(record)
        self._reports.health_monitor.check_again(name)
        return record


def _wish(name: str, desired: Desired, action: str, actor: str) -> Operation[None]:
    def store(db: sqlite3.Connection) -> None:
        agent_store.set_desired(db, name, desired)
        audit.append(db, actor=actor, action=action, subject=name)

    return store


def passed_environment(names: Sequence[str]) -> dict[str, str]:
    """The variables of the daemon's environment that agents get too, if they are set."""
    return {name: os.environ[name] for name in names if name in os.environ}


def missing_environment(names: Sequence[str]) -> list[str]:
    """The variables of these that the daemon's environment lacks, so that agents do not get them."""
    return [name for name in names if not os.environ.get(name)]
