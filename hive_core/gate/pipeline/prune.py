"""Removal of the files of ended proposals of configurations; see `hive_core.gate.subject.pruning`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import structlog

from hive_core.errors import HiveError
from hive_core.gate.context import GateContext, as_request
from hive_core.gate.policy import Principal
from hive_core.gate.records import index, tag_message
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.subject.pruning import SubjectPruning, before_days, remove_log
from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.protocol import PruneAnswer, PrunedAgent, PruneRequest

_log = structlog.get_logger(__name__)


class Pruning(SubjectPruning[ProposalRow]):
    """Prunes ended proposals of agents, and keeps imports of commits apart from that."""

    def __init__(self, context: GateContext) -> None:
        super().__init__(context, context.database, "gate", "prune")
        self._context = context

    def rows(self, db: sqlite3.Connection, subject: str) -> list[ProposalRow]:
        return index.of_agent(db, subject)

    def ended_before(self, db: sqlite3.Connection, subject: str, before: int) -> list[ProposalRow]:
        return index.ended_before(db, subject, before)

    def pruned_commit(self, message: str) -> str | None:
        return tag_message.parse_message(message).pruned

    def mark_pruned(self, message: str, commit: str) -> str:
        return tag_message.mark_pruned(message, commit)

    def elsewhere(self, rows: Sequence[ProposalRow]) -> list[str]:
        return []

    def forget_contents(self, subject: str) -> None:
        self._context.prunings[subject] += 1

    async def remove_results(self, subject: str, numbers: Sequence[int]) -> None:
        """Remove closures that nobody can activate any more, and the logs of builds."""
        context = self._context
        kept = context.settings.kept_deployments
        rows = await context.database.read(
            lambda db: [*index.deployments(db, subject, kept), *index.open_of(db, subject)]
        )
        try:
            await context.runtime.keep(subject, {row.closure for row in rows if row.closure is not None})
        except (HiveError, OSError) as error:
            _log.warning("closures not removed", agent=subject, error=str(error))
        for number in numbers:
            await UPKEEP.run(remove_log, context.layout.build_log(subject, number))

    @as_request
    async def prune(self, request: PruneRequest, principal: Principal) -> PruneAnswer:
        """Prune the proposals of one agent or of all, or only name them. Raises `unknown_agent`, `disk_full`."""
        context = self._context
        known = index.agents_with_repository(context.layout.applied)
        if request.agent is not None and request.agent not in known:
            context.agents.record(request.agent)
            known = {request.agent}
        before = before_days(request.older_than_days)
        answers = []
        for agent in sorted(known if request.agent is None else {request.agent}):
            try:
                async with self.slot(agent):
                    done = await self.prune_before(agent, before, principal, dry_run=request.dry_run)
            except HiveError as error:
                if error.code != "repository_missing":  # It was purged since it was listed, or never deployed.
                    raise
            else:
                answers.append(
                    PrunedAgent(agent=agent, proposals=done.numbers, freed_bytes=done.freed, used_bytes=done.used)
                )
        limit = context.settings.proposal_space
        return PruneAnswer(agents=answers, limit_bytes=limit, dry_run=request.dry_run)
