"""The comparison of the tags of work with the audit table, the index and the mirrors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hive_core.errors import HiveError
from hive_core.gate.records.audited_tags import AuditedTags, compare
from hive_core.gate.records.states import IllegalHistory
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.git.repository import Repository
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.repositories.refs import kinds_of

REMOVED = "work_removed"
"""The action of the audit table when all proposals for a repository are deleted."""
_AUDITED = AuditedTags("work", REMOVED, lambda _: True)
_MOST_PROBLEMS = 200


@dataclass(frozen=True)
class VerifiedWork:
    """The number of tags of work that were verified, and a sentence for each problem."""

    tags: int
    problems: list[str]


class WorkVerification:
    """Compares the tags of work with what else tells of them."""

    def __init__(self, context: WorkContext) -> None:
        self._context = context

    async def verify(self) -> VerifiedWork:
        """Verify every tag of work. Transitions of a repository's work wait while its tags are verified."""
        context = self._context
        await context.ready()
        found = {path.name.removesuffix(".git") for path in context.layout.work.glob("*.git")}
        problems: list[str] = []
        count = 0
        for repo in sorted(found | await context.database.scan(_AUDITED.subjects)):
            async with context.locks[repo]:
                # With the lock held, every tag has an audit row.
                audited = await context.database.scan(partial(_AUDITED.objects, subject=repo))
                if not audited and not context.repository(repo).exists():
                    continue  # The operator has removed the repository.
                try:
                    tags = await context.in_repository(repo, Repository.tags, READS)
                    problems += [f"work for {repo}: {problem}" for problem in compare(tags, audited)]
                    count += len(tags)
                    rows = await context.in_repository(repo, index.rows_of_repository, READS)
                except (HiveError, IllegalHistory, ValueError, OSError) as error:
                    problems.append(f"work for {repo}: its work repository cannot be read: {error}")
                    continue
                indexed = await context.database.scan(partial(index.of_repo, repo=repo))
            if indexed != rows:
                why = "the index tells otherwise than the tags: hive-c0re proposals reindex mends it"
                problems.append(f"work for {repo}: {why}")
            problems += await self._find_lost(repo, rows)
        if len(problems) > _MOST_PROBLEMS:
            problems = [*problems[:_MOST_PROBLEMS], f"and {len(problems) - _MOST_PROBLEMS} problems more with work"]
        return VerifiedWork(count, problems)

    async def _find_lost(self, repo: str, rows: Sequence[WorkRow]) -> list[str]:
        """Return a sentence for each landed commit that the mirror lacks, from which no object is ever removed."""
        landed = {row.landed: row.name for row in rows if row.landed is not None}
        if not landed or self._context.find_record(repo) is None:
            return []
        try:
            held = await READS.run(kinds_of, self._context.mirrors.mirror(repo), list(landed))
        except (HiveError, OSError) as error:
            return [f"work for {repo}: its mirror cannot be read: {error}"]
        return [
            f"work for {repo}: the mirror lacks {commit}, with which {landed[commit]} has landed"
            for commit in sorted(landed.keys() - held)
        ]
