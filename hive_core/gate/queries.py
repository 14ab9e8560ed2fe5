"""Queries about proposals: an agent sees its own, the manager and the operator see all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from hive_core.errors import HiveError, forbidden
from hive_core.gate import policy
from hive_core.gate.context import GateContext, unknown_proposal
from hive_core.gate.pipeline.build import BuildLogs
from hive_core.gate.policy import Principal
from hive_core.gate.records import index, tag_message
from hive_core.gate.records.commit import shown_diff
from hive_core.gate.records.fetches import fetches_to_protocol
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.infra.database.database import to_datetime
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.repository import Repository
from hive_core.protocol import (
    Deployment,
    History,
    HistoryQuery,
    LogsAnswer,
    LogsQuery,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
)

T = TypeVar("T")

_SHOWN_DIFF = 64 * 1024


class ProposalQueries:
    """Answers queries about proposals. All of them wait until recovery is done."""

    def __init__(self, context: GateContext, logs: BuildLogs) -> None:
        self._context = context
        self._logs = logs

    async def proposals(self, query: ProposalsQuery, principal: Principal) -> ProposalList:
        """Return the proposals that match, the newest first; an agent sees only its own. Raises `not_yours`."""
        await self._context.recovered.wait()
        if principal.role == "agent":
            if query.agent not in (None, principal.name):
                raise forbidden("not_yours", "an agent sees only the proposals about itself", "leave the agent out")
            query = query.model_copy(update={"agent": principal.name})
        rows, total = await self._context.database.read(lambda db: index.select(db, query))
        return ProposalList(proposals=[row.to_protocol() for row in rows], total=total)

    async def show(self, agent: str, number: int, query: ProposalQuery, principal: Principal) -> ProposalDetail:
        """Return a proposal with its diff and changes, after the wait of the query. Raises `unknown_proposal`."""
        await self._context.recovered.wait()
        row = await self._row(agent, number, principal)
        if query.unlike is not None and row.state.value == query.unlike:
            row = await self._wait_for_change(row, query)
        results = await self._read_build_results(row)
        diff = ShownDiff()
        if row.kind != "destroy":
            diff = await self._from_repository(
                row, lambda repository: shown_diff(repository, row, row.commit, _SHOWN_DIFF)
            )
        return ProposalDetail(
            **row.to_protocol().model_dump(),
            settings=results.settings,
            closure_changes=results.closure_changes,
            missing_fetches=fetches_to_protocol(results.missing_fetches),
            allowed_fetches=None if row.allowed_fetches is None else row.allowed_fetches.to_protocol(),
            files=list(diff.files),
            diff=diff.text,
            diff_bytes=diff.size,
        )

    async def build_log(self, agent: str, number: int, query: LogsQuery, principal: Principal) -> LogsAnswer:
        """Return lines of the log of a build. Raises `unknown_proposal`."""
        await self._context.recovered.wait()
        await self._row(agent, number, principal)
        return await self._logs.read(agent, number, query)

    async def history(self, agent: str, query: HistoryQuery) -> History:
        """Return the deployments of an agent, the newest first. Raises `unknown_agent`."""
        await self._context.recovered.wait()
        rows = await self._context.database.read(lambda db: index.deployments(db, agent, query.limit, query.offset))
        if not rows:
            self._context.agents.record(agent)
        newest = await self._context.database.read(lambda db: index.last_deployed(db, agent))
        current = None if newest is None else newest.number
        return History(agent=agent, deployments=[_deployment(row, current=row.number == current) for row in rows])

    async def _row(self, agent: str, number: int, principal: Principal) -> ProposalRow:
        if not policy.can_see(principal, agent):
            raise unknown_proposal(agent, number)
        return await self._context.row(agent, number)

    async def _wait_for_change(self, row: ProposalRow, query: ProposalQuery) -> ProposalRow:
        context = self._context
        changed = context.transition_log.changed
        loop = asyncio.get_running_loop()
        deadline = loop.time() + query.wait_seconds
        async with changed:
            while row.state.value == query.unlike and not context.closed:
                row = await context.row(row.agent, row.number)
                if row.state.value != query.unlike:
                    break
                try:
                    async with asyncio.timeout_at(deadline):
                        await changed.wait()
                except TimeoutError:
                    break
        return await context.row(row.agent, row.number)

    async def _read_build_results(self, row: ProposalRow) -> ProposalTag:
        """Return the data of the tag `built/N`, or of `failed/N` if the build failed; without both that of the row."""
        if row.state in (State.PROPOSAL, State.BUILDING):
            return row.tag(row.state)

        def read(repository: Repository) -> ProposalTag:
            for tag in repository.read_tags([f"built/{row.number}", f"failed/{row.number}"]):
                return tag_message.parse_message(tag.message)
            return row.tag(row.state)

        return await self._from_repository(row, read)

    async def _from_repository(self, row: ProposalRow, work: Callable[[Repository], T]) -> T:
        try:
            return await self._context.in_repository(row.agent, work)
        except (HiveError, OSError):
            if self._context.layout.applied_repository(row.agent).exists():
                raise
            raise unknown_proposal(row.agent, row.number) from None  # The agent has been purged meanwhile.


def _deployment(row: ProposalRow, *, current: bool) -> Deployment:
    return Deployment(
        number=row.number,
        kind=row.kind,
        commit=row.commit,
        closure=row.closure or "",
        by=row.by,
        approved_by=list(row.approvals),
        note=row.note,
        deployed_at=to_datetime(row.changed_at),
        current=current,
    )
