"""Expiry of proposals, reindexing, and verification of the tags."""

from __future__ import annotations

import sqlite3
from functools import partial

from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.context import GateContext
from hive_core.gate.pipeline.decide import Decisions
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import index
from hive_core.gate.records.audited_tags import AuditedTags, compare
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import IllegalHistory, State
from hive_core.gate.subject.maintenance import SubjectIndex, SubjectMaintenance
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.database import audit
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AuditVerification

_INDEX = SubjectIndex(
    repository="applied repository",
    subject_of=lambda row: row.agent,
    of_subject=index.of_agent,
    replace_all=index.replace_all,
    delete_rows=index.delete_rows,
    subjects=index.agents,
    expired=index.expired,
    read=index.rows_of_repository,
)


class Maintenance(SubjectMaintenance[ProposalRow]):
    """Expires proposals of configurations, and rebuilds their index."""

    def __init__(self, context: GateContext, decisions: Decisions) -> None:
        super().__init__(context, context.database, _INDEX, days=context.settings.proposal_days)
        self._gate = context
        self._decisions = decisions

    def list_repositories(self) -> set[str]:
        return index.agents_with_repository(self._gate.layout.applied)

    async def row(self, subject: str, number: int) -> ProposalRow:
        return await self._gate.row(subject, number)

    async def withdraw_expired(self, row: ProposalRow) -> None:
        await self._decisions.take_back(row, policy.EXPIRED, SYSTEM)


_MOST_PROBLEMS = 200
_AUDITED = AuditedTags("gate", "destroy", lambda detail: bool(detail["purge"]))


class Verification:
    """Compares the audit table, the tags and the index with each other."""

    def __init__(self, context: GateContext) -> None:
        self._context = context

    async def verify(self) -> AuditVerification:
        """Verify every row and every tag. Transitions of an agent wait while its tags are verified."""
        context = self._context
        await context.ready()
        problems: list[str] = []
        count = 0
        found = index.agents_with_repository(context.layout.applied)
        length, broken, subjects = await context.database.scan(_chain)
        if broken is not None:
            problems.append(f"audit row {broken} does not fit the chain: it or a row before it was changed")
        for agent in sorted(found | subjects):
            async with context.locks[agent]:
                # With the lock held, every tag has an audit row.
                expected = await context.database.scan(partial(_AUDITED.objects, subject=agent))
                if not expected and not context.layout.applied_repository(agent).exists():
                    continue  # The agent was purged.
                try:
                    tags, main = await context.in_repository(agent, _refs, READS)
                    problems += [f"{agent}: {problem}" for problem in compare(tags, expected)]
                    count += len(tags)
                    rows = await context.in_repository(agent, index.rows_of_repository, READS)
                except (HiveError, IllegalHistory, ValueError, OSError) as error:
                    problems.append(f"{agent}: its applied repository cannot be read: {error}")
                    continue
                indexed = await context.database.scan(partial(index.of_agent, agent=agent))
            newest = max(
                (row for row in rows if row.state is State.DEPLOYED and row.kind != "destroy"),
                key=lambda row: row.number,
                default=None,
            )
            if main != (None if newest is None else newest.commit):
                problems.append(f"{agent}: main is at {main}, the newest deployment at {newest and newest.commit}")
            if indexed != rows:
                problems.append(
                    f"{agent}: the index tells otherwise than the tags: hive-c0re proposals reindex mends it"
                )
        if len(problems) > _MOST_PROBLEMS:
            left = len(problems) - _MOST_PROBLEMS
            problems = [*problems[:_MOST_PROBLEMS], f"and {left} problems more"]
        return AuditVerification(ok=not problems, rows=length, tags=count, problems=problems)


def _chain(db: sqlite3.Connection) -> tuple[int, int | None, set[str]]:
    """Return the number of audit rows, the first broken one, and the agents with audited tags."""
    (length,) = db.execute("SELECT count(*) FROM audit").fetchone()
    return int(length), audit.first_broken_row(db), _AUDITED.subjects(db)


def _refs(repository: Repository) -> tuple[dict[str, str], str | None]:
    return repository.tags(), repository.main()
