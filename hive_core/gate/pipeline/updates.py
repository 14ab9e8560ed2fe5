"""Updates of agents that were built with an older hyperhive: marked, announced once, rebuilt if the settings say so."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial

import structlog

from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError, conflict
from hive_core.gate import notifications, policy
from hive_core.gate.context import GateContext, as_request, new_proposal
from hive_core.gate.pipeline.build import BuildStep
from hive_core.gate.policy import SYSTEM, Principal
from hive_core.gate.records import index
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.transitions import Transition, seconds
from hive_core.infra.database import audit
from hive_core.protocol import Proposal, RebuildRequest
from hive_core.protocol.names import MANAGER, OPERATOR

_PAUSE = 3_600.0
_INBOX_FULL_PAUSE = 60.0
_RETRY_AFTER = 24 * 3_600 * 1_000
"""Milliseconds between a rebuild without success and the next automatic one."""
_NOTE = "it was built with an older hyperhive"

log = structlog.get_logger(__name__)


class RebuildSubmissions:
    """Proposes rebuilds of deployed commits. Nobody decides on these, because the commits were approved."""

    def __init__(self, context: GateContext, build_step: BuildStep) -> None:
        self._context = context
        self._build_step = build_step

    @as_request
    async def rebuild(self, agent: str, request: RebuildRequest, principal: Principal) -> Proposal:
        """Rebuild the deployed commit and deploy it in the background, or return the rebuild that is in progress.

        Raises `not_yours`, `not_decider`, `nothing_deployed`, `deployment_under_way`.
        """
        context = self._context
        # First, because not every party may know the names of all agents.
        policy.check_may_rebuild(principal, agent, "config")
        context.agents.record(agent)
        await context.runtime.check_can_build()
        async with context.locks[agent]:
            context.agents.record(agent)
            last = await context.database.read(lambda db: index.last_rebuild(db, agent))
            if last is not None and last.open:
                return last.to_protocol()
            await context.check_no_deployment(agent)
            now = await context.database.read(lambda db: index.last_deployed(db, agent))
            if now is None:
                raise conflict("nothing_deployed", f"{agent} has no deployment", "propose its configuration")
            policy.check_may_rebuild(principal, agent, now.kind)
            first = await new_proposal(context, "rebuild", agent, principal, request.note, now.commit)
            # The commit is the same, and so is what an operator has allowed it to fetch.
            data = replace(first, allowed_fetches=now.allowed_fetches)
            (row,) = await context.transition_log.record(agent, [Transition(data, now.commit, principal)])
        self._build_step.begin(agent, row.number)
        return row.to_protocol()


class Updates:
    """Checks for outdated agents at the start, hourly, and after each build or deployment."""

    def __init__(self, context: GateContext, rebuild_submissions: RebuildSubmissions) -> None:
        self._context = context
        self._rebuild_submissions = rebuild_submissions
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Check for outdated agents until cancelled."""
        ended = self._context.background.ended
        while True:
            ended.clear()
            notified = True
            try:
                notified = await self.check_outdated()
            except Exception as error:  # The hive works without this check.
                log.error("not known which agents need an update", exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE if notified else _INBOX_FULL_PAUSE):
                    await ended.wait()

    async def check_outdated(self) -> bool:
        """Mark outdated agents, announce those not announced yet, and begin a few rebuilds with `updates = "auto"`.

        Returns:
            False if the inbox has no room for the message.
        """
        async with self._lock:
            return await self._check_outdated()

    async def _check_outdated(self) -> bool:
        context = self._context
        old: dict[str, AgentRecord] = {}
        for name in sorted(context.directory.names()):
            record = context.agents.record(name) if context.agents.exists(name) else None
            if record is not None and record.closure and await context.runtime.outdated(record.closure):
                old[name] = record
        context.agents.mark_outdated({record.closure for record in old.values()})
        by_itself = context.settings.nixos.updates == "auto"
        # An agent that was rolled back is marked only: somebody wants it on the older system.
        wanted = {name: record for name, record in old.items() if not await self._is_rolled_back(name)}
        notified = await self._notify(wanted, by_itself=by_itself)
        if by_itself:
            await self._update(list(old))
        return notified

    async def _notify(self, outdated: Mapping[str, AgentRecord], *, by_itself: bool) -> bool:
        context = self._context
        new = await context.database.read(partial(_not_notified, outdated=outdated)) if outdated else {}
        if not new:
            return True
        to = MANAGER if context.has_manager else OPERATOR
        text = notifications.outdated(list(new), by_itself=by_itself, to_manager=to == MANAGER)
        try:
            await context.transition_log.notify_once((to, text), partial(_record_notified, records=new))
        except HiveError as error:
            log.warning("not told yet which agents need an update", to=to, code=error.code)
            return False
        return True

    async def _is_rolled_back(self, name: str) -> bool:
        deployed = await self._context.database.read(partial(index.last_deployed, agent=name))
        return deployed is not None and deployed.kind == "rollback"

    async def _update(self, agents: list[str]) -> None:
        """Begin rebuilds, up to `updates_at_once`."""
        context, now = self._context, seconds() * 1_000
        under_way, failed = await context.database.read(lambda db: index.rebuilds(db, now - _RETRY_AFTER))
        room = context.settings.nixos.updates_at_once - under_way
        if failed >= context.settings.nixos.updates_at_once:
            room = 0  # The cause is probably common to all agents, so no more of them are stopped in vain.
        for agent in agents:
            if room <= 0:
                return
            deployed = await context.database.read(partial(index.last_deployed, agent=agent))
            last = await context.database.read(partial(index.last_rebuild, agent=agent))
            if deployed is None or not may_update(deployed, last, now):
                continue
            try:
                await self._rebuild_submissions.rebuild(agent, RebuildRequest(note=_NOTE), SYSTEM)
            except HiveError as error:
                log.info("not updated now", agent=agent, code=error.code)
                continue
            room -= 1


def may_update(deployed: ProposalRow, last: ProposalRow | None, now: int) -> bool:
    """Return True if an agent that runs on `deployed` may be rebuilt automatically at the time `now` (milliseconds).

    An agent that was rolled back is not rebuilt. After a rebuild without success (`last` is the newest rebuild) there
    is a pause, so that the agent is not built again and again.
    """
    if deployed.kind == "rollback":
        return False
    if last is None or last.number <= deployed.number:
        return True
    return not last.open and last.changed_at < now - _RETRY_AFTER


def _not_notified(db: sqlite3.Connection, outdated: Mapping[str, AgentRecord]) -> dict[str, AgentRecord]:
    """Return the agents whose current deployment was not announced as outdated yet."""
    query = "SELECT subject, detail FROM audit WHERE action = 'needs_update'"  # There is an index for this condition.
    announced = {(name, *json.loads(detail).values()) for name, detail in db.execute(query)}
    return {name: record for name, record in outdated.items() if (name, *_describe(record).values()) not in announced}


def _record_notified(db: sqlite3.Connection, records: Mapping[str, AgentRecord]) -> None:
    for name, record in records.items():
        audit.append(db, actor=SYSTEM.actor, action="needs_update", subject=name, detail=_describe(record))


def _describe(record: AgentRecord) -> dict[str, object]:
    # The closure is included because numbers begin again after a purge.
    return {"closure": record.closure, "deployment": record.deployment}
