"""Expiry of proposals, reindexing, and verification of the tags."""

from __future__ import annotations

import asyncio
import sqlite3
from functools import partial

import structlog

from hive_core.errors import HiveError
from hive_core.gate import policy
from hive_core.gate.context import GateContext, as_request
from hive_core.gate.pipeline.decide import Decisions
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import index
from hive_core.gate.records.audited_tags import AuditedTags, compare
from hive_core.gate.records.states import IllegalHistory, State
from hive_core.gate.records.transitions import seconds
from hive_core.infra.concurrency.threads import GATE, READS
from hive_core.infra.database import audit
from hive_core.infra.git.repository import Repository
from hive_core.protocol import AuditVerification, ReindexAnswer

_log = structlog.get_logger(__name__)


_LONGEST_PAUSE = 600.0


class Maintenance:
    """Expires proposals and rebuilds the index."""

    def __init__(self, context: GateContext, decisions: Decisions) -> None:
        self._context = context
        self._decisions = decisions

    async def expire(self) -> None:
        """Withdraw proposals on which nobody has decided in time, until cancelled."""
        pause = min(_LONGEST_PAUSE, self._context.settings.proposal_days * 86_400 / 4)
        while True:
            await asyncio.sleep(pause)
            for row in await self._context.database.read(lambda db: index.expired(db, seconds() * 1_000)):
                try:
                    await self._expire(row)
                except (HiveError, OSError) as error:
                    _log.error("proposal not expired", agent=row.agent, number=row.number, error=str(error))

    @as_request
    async def reindex(self) -> ReindexAnswer:
        """Rebuild the index from the tags of all agents. Raises `repository_damaged` after the others are done."""
        context = self._context
        found = index.agents_with_repository(context.layout.applied)
        count = changed = 0
        damaged = []
        for agent in sorted(found):
            try:
                async with context.locks[agent]:
                    rows = await context.in_repository(agent, index.rows_of_repository, READS)
                    old = {row.number: row for row in await context.database.read(partial(index.of_agent, agent=agent))}
                    new = {row.number: row for row in rows}
                    changed += sum(old.get(number) != new.get(number) for number in old.keys() | new.keys())
                    count += len(rows)
                    await context.database.write(partial(index.replace_all, agent=agent, rows=rows))
            except (IllegalHistory, ValueError) as error:
                damaged.append(f"{agent}: {error}")
            except HiveError as error:
                if error.code != "repository_missing":
                    raise
                found.discard(agent)  # purged since it was listed
        for agent in sorted(await context.database.read(index.agents) - found):
            async with context.locks[agent]:
                if await GATE.run(context.layout.applied_repository(agent).is_dir):
                    continue  # It was spawned since the repositories were listed, and its rows are right.
                gone = await context.database.read(partial(index.of_agent, agent=agent))
                changed += len(gone)
                await context.database.write(partial(index.delete_rows, agent=agent))
        await context.transition_log.notify_waiters()
        if damaged:
            why = f"tags that are not the gate's, in the applied repository of {'; '.join(damaged)}"
            hint = "see them with git tag, and hive-c0re audit verify; the index of the others was made anew"
            raise HiveError("repository_damaged", why, hint=hint, status=500)
        return ReindexAnswer(agents=len(found), proposals=count, changed=changed)

    async def _expire(self, row: index.ProposalRow) -> None:
        context = self._context
        async with context.locks[row.agent]:
            now = await context.row(row.agent, row.number)
            if now.state in (State.PROPOSAL, State.BUILT):
                await self._decisions.take_back(now, policy.EXPIRED, SYSTEM)


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
