"""The checks of work in the background, before anybody is asked to decide on it."""

from __future__ import annotations

import structlog

from hive_core.errors import HiveError
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records.states import State
from hive_core.gate.subject.background import is_temporary
from hive_core.gate.subject.logs import ProposalLogs
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.interfaces import Checker, CheckResult, ReviewedRepository
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkChange

_TAIL_LINES = 40
_WAITING_ERRORS = frozenset({"cannot_check"})
"""Errors of checks that a later attempt may not have, as the host can run none now."""

log = structlog.get_logger(__name__)


class WorkCheckStep:
    """Runs the checks of work, and asks for its decision."""

    def __init__(self, context: WorkContext, logs: ProposalLogs, checker: Checker) -> None:
        self._context = context
        self._logs = logs
        self._checker = checker

    def begin(self, repo: str, number: int) -> None:
        """Check a proposal in the background."""
        self._context.background.start(repo, number, lambda: self._run(repo, number))

    async def check(self, record: ReviewedRepository, row: WorkRow, commit: str) -> CheckResult:
        """Run the checks on the tree of a commit; without checks it passes at once.

        Raises HiveError for what another attempt may not have.
        """
        if not record.checks:
            return CheckResult([])
        tree = await self._context.in_repository(row.repo, lambda repository: repository.tree(commit))
        async with self._logs.writing(row.repo, row.number) as say:
            try:
                return await self._checker(record, row, tree, say)
            except HiveError as error:
                if error.code == "stopping" or error.code in _WAITING_ERRORS or is_temporary(error):
                    raise
                return CheckResult([], error.message)

    async def tail(self, row: WorkRow) -> str:
        """Return the end of the log of the checks."""
        return await self._logs.tail(row.repo, row.number, _TAIL_LINES)

    async def _run(self, repo: str, number: int) -> None:
        """Check a proposal from the state that it is in."""
        context = self._context
        async with context.locks[repo]:
            row = await context.row(repo, number)
            record = context.mirrors.record(repo)
            if row.state is State.PROPOSAL:
                (row,) = await context.work_log.record(repo, [WorkChange(row.tag(State.BUILDING), row.commit, SYSTEM)])
        if row.state is not State.BUILDING:
            return
        result = await self.check(record, row, row.commit)
        tail = await self.tail(row) if result.failure else ""
        async with context.locks[repo]:
            row = await context.row(repo, number)
            if row.state is not State.BUILDING:
                return
            if result.failure:
                data = row.tag(State.FAILED, outcome=result.failure, checks=list(result.lines), log_tail=tail)
            else:
                waits_for = policy.next_decider(context.review(row), [])
                data = row.tag(State.BUILT, waits_for=waits_for, checks=list(result.lines))
            await context.work_log.record(repo, [WorkChange(data, row.commit, SYSTEM)])
