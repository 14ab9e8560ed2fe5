"""Removal of the files of ended work; see `hive_core.gate.subject.pruning`."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hive_core.gate.records.states import State, tag_name
from hive_core.gate.subject.pruning import SubjectPruning, remove_log
from hive_core.infra.concurrency.threads import READS, UPKEEP
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.records import index, work_tag
from hive_core.work.gate.records.index import WorkRow


class WorkPruning(SubjectPruning[WorkRow]):
    """Prunes ended work of repositories, and keeps imports of commits apart from that."""

    def __init__(self, context: WorkContext) -> None:
        super().__init__(context, context.database, "work", "work_prune")
        self._context = context

    def rows(self, db: sqlite3.Connection, subject: str) -> list[WorkRow]:
        return index.of_repo(db, subject)

    def ended_before(self, db: sqlite3.Connection, subject: str, before: int) -> list[WorkRow]:
        return index.ended_before(db, subject, before)

    def pruned_commit(self, message: str) -> str | None:
        return work_tag.parse_message(message).pruned

    def mark_pruned(self, message: str, commit: str) -> str:
        return work_tag.mark_pruned(message, commit)

    def elsewhere(self, rows: Sequence[WorkRow]) -> list[str]:
        # What has landed is in the mirror as well, from which no object is ever removed.
        landed = (row.landed for row in rows if row.landed is not None)
        return list(dict.fromkeys([*(row.base for row in rows), *landed]))

    async def size_of(self, repo: str, party: str) -> int:
        """Return the bytes that the work of a party for a repository takes up, without what has landed."""
        rows = await self._context.database.read(lambda db: index.of_repo(db, repo))
        names = [tag_name(State.PROPOSAL, row.number) for row in rows if row.by == party and row.landed is None]
        tags = await self._context.in_repository(repo, lambda repository: repository.read_tags(names), READS)
        found = (work_tag.parse_message(tag.message) for tag in tags)
        return sum(data.size for data in found if data.pruned is None)

    def may_remove(self, subject: str) -> bool:
        # Several agents import for a repository at a time. Each began with the lock that a pruning holds.
        return not self._taken_in[subject]

    def forget_contents(self, subject: str) -> None:
        self._context.prunings[subject] += 1

    async def remove_results(self, subject: str, numbers: Sequence[int]) -> None:
        """Remove the logs of checks."""
        for number in numbers:
            await UPKEEP.run(remove_log, self._context.layout.work_log(subject, number))
