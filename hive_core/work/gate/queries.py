"""Queries about work: an agent sees what it submitted and what it reviews, the manager and the operator see all."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.gate.records.states import State
from hive_core.gate.subject.file_diff import MOST_FILE_DIFF, find_file, read_file_diff
from hive_core.gate.subject.logs import ProposalLogs
from hive_core.gate.subject.results import is_pruned, read_results
from hive_core.infra.concurrency.shared_results import SharedResults
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.repository import FileView, Repository
from hive_core.protocol import (
    FileDiff,
    FileDiffQuery,
    LogsAnswer,
    LogsQuery,
    ProposalQuery,
    WorkDetail,
    WorkList,
    WorksQuery,
)
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.pipeline.land import LandStep
from hive_core.work.gate.pipeline.publish import PublishStep
from hive_core.work.gate.policy import unknown_work
from hive_core.work.gate.records import comments, index, work_tag
from hive_core.work.gate.records.changes import Contents, read_contents, read_diff
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkTag

_SHOWN_DIFF = 64 * 1024
_KEPT_BYTES = 8 * 1024 * 1024
"""Size of the contents of work that are kept for the next question about it."""


@dataclass(frozen=True)
class _Shown:
    """The part of an answer that is read from the work repository, which is the same as long as the state is."""

    results: WorkTag
    contents: Contents
    pruned: bool


def _size(shown: _Shown) -> int:
    """Return about the memory that the contents take up."""
    contents = shown.contents
    return 1_000 + len(contents.diff.text) + 800 * len(contents.files) + 900 * len(contents.commits)


class WorkQueries:
    """Answers queries about work. All of them wait until recovery is done."""

    def __init__(
        self, context: WorkContext, logs: ProposalLogs, land_step: LandStep, publish_step: PublishStep
    ) -> None:
        self._context = context
        self._logs = logs
        self._land_step = land_step
        self._publish_step = publish_step
        self._shown: SharedResults[tuple[str, int, int, State, int], _Shown] = SharedResults(_KEPT_BYTES, _size)

    async def works(self, query: WorksQuery, principal: Principal) -> WorkList:
        """Return the work that matches, the newest first; an agent sees only its own, and what it reviews."""
        await self._context.recovered.wait()
        seen_by = None if policy.sees_all(principal) else principal.name
        rule = policy.AGENT + principal.name
        reviews = {record.name for record in self._context.mirrors.records() if record.review == rule}

        def read(db: sqlite3.Connection) -> WorkList:
            rows, total = index.select(db, query, seen_by=seen_by, reviews=reviews, sees=principal.sees)
            return WorkList(work=[self._context.to_protocol(row) for row in rows], total=total)

        return await self._context.database.scan(read)

    async def wait_for_change(self, repo: str, number: int, query: ProposalQuery, principal: Principal) -> None:
        """Wait for another state than the query's, or until its time is over. Raises `unknown_work`."""
        context = self._context
        await context.recovered.wait()
        row = await context.visible_row(repo, number, principal)

        async def read() -> State:
            return (await context.row(repo, number)).state

        if row.state.value == query.unlike:
            await context.wait_for_state(query.unlike, query.wait_seconds, read)

    async def show(self, repo: str, number: int, principal: Principal) -> WorkDetail:
        """Return work with its diff, commits, checks and comments. Raises `unknown_work`."""
        context = self._context
        await context.recovered.wait()
        row = await context.visible_row(repo, number, principal)
        shown = await self._shown_of(row)
        said = await context.database.read(lambda db: comments.of_work(db, repo, number))
        contents = shown.contents
        return WorkDetail(
            **context.to_protocol(row).model_dump(),
            checks=shown.results.checks,
            commits=contents.commits,
            commit_count=contents.commit_count,
            files=contents.files,
            diff=contents.diff.text,
            diff_bytes=contents.diff.size,
            comments=said,
            pruned=shown.pruned,
            problem=self._problem(row) if policy.sees_all(principal) else "",
        )

    async def file_diff(
        self, repo: str, number: int, file: int, query: FileDiffQuery, principal: Principal
    ) -> FileDiff:
        """Return the diff of the changed file with the place `file`. Raises `unknown_work`, `unknown_file`."""
        context = self._context
        await context.recovered.wait()
        row = await context.visible_row(repo, number, principal)
        path = find_file((await self._shown_of(row)).contents.files, file, f"{repo}/{number}").path

        def read(work: Repository) -> FileDiff:
            def compare(view: FileView) -> ShownDiff:
                return read_diff(work, row.base, row.commit, MOST_FILE_DIFF, view)

            return read_file_diff(work, row.base, row.commit, path, query, compare)

        return await context.in_repository(repo, read, READS)

    async def log(self, repo: str, number: int, query: LogsQuery, principal: Principal) -> LogsAnswer:
        """Return lines of the log of the checks. Raises `unknown_work`."""
        await self._context.recovered.wait()
        await self._context.visible_row(repo, number, principal)
        return await self._logs.read(repo, number, query)

    def _problem(self, row: WorkRow) -> str:
        """Return why approved work has not landed, or landed work is not published; empty if nothing is wrong."""
        error = self._land_step.problem(row) or self._publish_step.problem(row)
        return "" if error is None else error.message

    async def _shown_of(self, row: WorkRow) -> _Shown:
        key = (row.repo, row.number, row.created_at, row.state, self._context.prunings[row.repo])
        return await self._shown.get(key, lambda: self._read(row))

    async def _read(self, row: WorkRow) -> _Shown:
        def read(work: Repository) -> _Shown:
            pruned = is_pruned(work, row, work_tag.parse_message)
            contents = Contents(ShownDiff(), [], [], 0)
            if not pruned:
                contents = read_contents(work, row.base, row.commit, _SHOWN_DIFF)
            results = read_results(work, row, work_tag.parse_message) or row.tag(row.state)
            return _Shown(results, contents, pruned)

        try:
            return await self._context.in_repository(row.repo, read, READS)
        except (HiveError, OSError):
            if self._context.repository(row.repo).exists():
                raise
            raise unknown_work(row.repo, row.number) from None  # The repository has been removed meanwhile.
