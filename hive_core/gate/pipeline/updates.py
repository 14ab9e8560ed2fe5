"""Agents that were built with an older hyperhive: they are marked, told of once, and rebuilt if the settings say so."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import structlog

from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError
from hive_core.gate import notifications
from hive_core.gate.context import GateContext
from hive_core.gate.pipeline.submit import RebuildSubmissions
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import index
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.transitions import seconds
from hive_core.infra.database import audit
from hive_core.protocol import RebuildRequest
from hive_core.protocol.names import MANAGER, OPERATOR

_PAUSE = 3_600.0
_UNTOLD_PAUSE = 60.0
"""Where an inbox was full."""
_REST = 24 * 3_600 * 1_000
"""Milliseconds for which an agent is left alone of which a rebuild came to nothing."""
_NOTE = "it was built with an older hyperhive"

log = structlog.get_logger(__name__)


class Updates:
    """Looks at what runs at the start, hourly, and whenever a build or a deployment has ended."""

    def __init__(self, context: GateContext, rebuild_submissions: RebuildSubmissions) -> None:
        self._context = context
        self._rebuild_submissions = rebuild_submissions
        self._one = asyncio.Lock()

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        ended = self._context.work_ended
        while True:
            ended.clear()
            told = True
            try:
                told = await self.check_outdated()
            except Exception as error:  # The hive works without knowing.
                log.error("not known which agents need an update", exc_info=error)
            with suppress(TimeoutError):
                async with asyncio.timeout(_PAUSE if told else _UNTOLD_PAUSE):
                    await ended.wait()

    async def check_outdated(self) -> bool:
        """Mark what is old, tell of what was not told yet, and begin a few updates if they are to go by themselves.

        False if there is something to tell for which there is no room now.
        """
        async with self._one:
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
        # Who was rolled back is marked, and left to whoever did that.
        news = {name: record for name, record in old.items() if not await self._rolled_back(name)}
        told = await self._notify(news, by_itself=by_itself)
        if by_itself:
            await self._update(list(old))
        return told

    async def _notify(self, news: Mapping[str, AgentRecord], *, by_itself: bool) -> bool:
        context = self._context
        untold = await context.database.read(partial(_not_notified, old=news)) if news else {}
        if not untold:
            return True
        to = MANAGER if context.has_manager else OPERATOR
        text = notifications.outdated(list(untold), by_itself=by_itself, to_manager=to == MANAGER)
        try:
            await context.transition_log.notify_once((to, text), partial(_record_notified, told=untold))
        except HiveError as error:
            log.warning("not told yet which agents need an update", to=to, code=error.code)
            return False
        return True

    async def _rolled_back(self, name: str) -> bool:
        deployed = await self._context.database.read(partial(index.last_deployed, agent=name))
        return deployed is not None and deployed.kind == "rollback"

    async def _update(self, agents: list[str]) -> None:
        """Begin as many rebuilds as may go side by side."""
        context, now = self._context, seconds() * 1_000
        under_way, failed = await context.database.read(lambda db: index.rebuilds(db, now - _REST))
        room = context.settings.nixos.updates_at_once - under_way
        if failed >= context.settings.nixos.updates_at_once:
            room = 0  # It is not this or that agent: the rest of them would only be stopped in vain.
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
    """Whether the hive may rebuild an agent by itself at the time `now`, in milliseconds, that runs on `deployed`.

    Not one that somebody has taken back to that, nor soon after a rebuild (`last` is the newest) that came to nothing,
    whatever the reason: without a pause it might be built again and again.
    """
    if deployed.kind == "rollback":
        return False
    if last is None or last.number <= deployed.number:
        return True
    return not last.open and last.changed_at < now - _REST


def _not_notified(db: sqlite3.Connection, old: Mapping[str, AgentRecord]) -> dict[str, AgentRecord]:
    """Those of which nobody was told that this deployment of theirs needs an update."""
    query = "SELECT subject, detail FROM audit WHERE action = 'needs_update'"  # By an index of that very condition.
    told = {(name, *json.loads(detail).values()) for name, detail in db.execute(query)}
    return {name: record for name, record in old.items() if (name, *_describe(record).values()) not in told}


def _record_notified(db: sqlite3.Connection, told: Mapping[str, AgentRecord]) -> None:
    for name, record in told.items():
        audit.append(db, actor=SYSTEM.actor, action="needs_update", subject=name, detail=_describe(record))


def _describe(record: AgentRecord) -> dict[str, object]:
    # With the closure, as numbers begin again after a purge.
    return {"closure": record.closure, "deployment": record.deployment}
