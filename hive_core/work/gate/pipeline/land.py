"""The landing of approved work: one at a time per repository, each on top of the one before.

A landing has these steps, each of which can be the last one of a killed daemon:

1. The commit that lands (the approved one, or a merge of it) is in the work repository.
2. Its objects are copied into the mirror. No ref names them there yet.
3. The ref `refs/landing/N` of the work repository names it.
4. The branch of the mirror moves to it, from the commit that it was made for and from no other.
5. One transaction writes the tag `deployed/N`, which names it.
6. The ref `refs/landing/N` is removed.

The work repository and the mirror cannot change in one transaction, so whether step 4 was done is read from the branch:
if it has the commit of `refs/landing/N`, or the approved one, the work has landed and step 5 follows; if not, the
landing begins anew. So nothing lands twice, and what has landed is always recorded.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

import structlog

from hive_core.errors import HiveError
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records import transitions
from hive_core.gate.records.states import State
from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.text import shown
from hive_core.work.gate.context import HEADS, WorkContext
from hive_core.work.gate.interfaces import MergedWork, MergesWork, ReviewedRepository
from hive_core.work.gate.pipeline.check import WorkCheckStep
from hive_core.work.gate.pipeline.publish import PublishStep
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkChange
from hive_core.work.landing.transfer import transfer_objects

_ATTEMPTS = 20
"""Attempts of one landing while somebody else moves the branch."""
_LISTED_PATHS = 10
_UNMERGEABLE = frozenset({"merge_failed", "merge_slow"})
LANDING = "refs/landing/"

log = structlog.get_logger(__name__)


class _CannotLand(Exception):
    """The work cannot land, for a reason in the hive's words."""


class LandStep:
    """Lands approved work."""

    def __init__(
        self, context: WorkContext, check_step: WorkCheckStep, publish_step: PublishStep, merger: MergesWork
    ) -> None:
        self._context = context
        self._check_step = check_step
        self._publish_step = publish_step
        self._merger = merger
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """Those who wait for a lock of asyncio get it in the order in which they came."""
        self._problems: dict[tuple[str, int], HiveError] = {}

    def problem(self, row: WorkRow) -> HiveError | None:
        """Return why the last attempt to land approved work has failed, None if there was none or nothing is wrong."""
        return self._problems.get((row.repo, row.number)) if row.state is State.APPROVED else None

    def start(self, repo: str, number: int) -> None:
        """Land approved work in the background, after what was approved before."""
        self._context.background.start(repo, number, lambda: self.run(repo, number))

    async def run(self, repo: str, number: int) -> None:
        """Land work if it is approved. After an error that another attempt may not have, this has to be called again;
        if it cannot land it ends as failed.
        """
        context = self._context
        self._problems.pop((repo, number), None)
        async with self._turns[repo]:
            row = await context.row(repo, number)
            if row.state is not State.APPROVED:
                return
            try:
                landed = await self._land(row)
            except _CannotLand as error:
                await self._fail(row, str(error))
                return
            except HiveError as error:
                self._problems[repo, number] = error
                raise
            await self._succeed(row, landed)
        self._publish_step.start(repo, number)

    async def _land(self, row: WorkRow) -> str:
        """Move the branch to the work, and return its new commit. Raises _CannotLand."""
        record = self._context.mirrors.record(row.repo)
        await self._fetch(record)
        for _ in range(_ATTEMPTS):
            record = self._context.mirrors.record(row.repo)
            tip = await self._context.branch_tip(row.repo, row.branch)
            if tip is None:
                raise _CannotLand(f"the branch {shown(row.branch)} is gone")
            landed = await self._find_landed(row, tip)
            if landed is not None:
                return landed
            if record.branch != row.branch:
                raise _CannotLand(
                    f"it was approved for the branch {shown(row.branch)}, and work lands on {shown(record.branch)} now"
                )
            target = await self._target(record, row, tip)
            if not _same_rules(record, self._context.mirrors.record(row.repo)):
                continue  # The operator has changed what has to hold, while that was found out.
            if await self._move(row, tip, target):
                return target
        raise HiveError("repository_busy", f"the branch of {row.repo} is moved by others all the time", status=503)

    async def _fetch(self, record: ReviewedRepository) -> None:
        if not record.source:
            return
        try:
            await self._context.mirrors.fetch(record.name)
        except HiveError as error:
            if error.code == "stopping":
                raise
            if record.push != "none":
                # What lands on an old branch could not be pushed, so it waits until upstream can be reached.
                raise HiveError(
                    "repository_busy", f"{record.name} cannot be fetched before a landing: {error.message}", status=503
                ) from error
            log.warning("landing without a fetch", repo=record.name, code=error.code, error=error.message)

    async def _find_landed(self, row: WorkRow, tip: str) -> str | None:
        """Return the commit with which the branch has got the work already; None if it has not."""
        planned = await self._context.in_repository(row.repo, lambda work: work.resolve(_landing_ref(row)))
        for commit in (planned, row.commit):
            if commit is not None and await self._descends(row.repo, tip, commit):
                return commit
        return None

    async def _target(self, record: ReviewedRepository, row: WorkRow, tip: str) -> str:
        """Return the commit that the branch is to be moved to from `tip`. Raises _CannotLand."""
        if not await self._descends(row.repo, tip, row.base):
            # The work would bring back what upstream has taken out of its history, and nobody has approved that.
            raise _CannotLand(_rebase(row, tip, f"the branch no longer has {row.base}, at which the work begins"))
        if await self._descends(row.repo, row.commit, tip):
            # The operator may have added or changed checks since it was built; what has passed is not run again.
            result = await self._check_step.check(record, row, row.commit)
            if result.failure:
                raise _CannotLand(f"it does not pass the checks that {row.repo} has now: {result.failure}")
            return row.commit
        if not record.merges:
            raise _CannotLand(_rebase(row, tip, "the branch has gone on"))
        try:
            merged = await self._merger(row, tip)
        except HiveError as error:
            if error.code not in _UNMERGEABLE:
                raise
            # It would fail again, and hold up all others each time.
            raise _CannotLand(_rebase(row, tip, f"it cannot be merged with the branch ({error.message})")) from None
        if merged.conflicts or merged.changed:
            raise _CannotLand(_why_not_merged(row, tip, merged))
        # What lands is the merged tree, so that is what has to pass.
        result = await self._check_step.check(record, row, merged.commit)
        if result.failure:
            raise _CannotLand(
                f"merged with the branch, which is at {tip} now, it does not pass its checks: {result.failure}"
            )
        return merged.commit

    async def _move(self, row: WorkRow, tip: str, target: str) -> bool:
        """Move the branch from `tip` to `target`; returns False if it is elsewhere by now."""
        context, repo = self._context, row.repo
        work, mirror = context.repository(repo), context.mirrors.mirror(repo)
        transitions.crash_point("about to land")
        await UPKEEP.run(transfer_objects, work, mirror, target, [tip], context.layout.scratch)
        transitions.crash_point("objects landed")
        async with context.locks[repo]:
            await context.in_repository(repo, lambda repository: _plan(repository, row, target))
        transitions.crash_point("landing planned")
        branch = RefChange(HEADS + row.branch, target, tip)
        try:
            async with context.mirrors.lock(repo):
                await UPKEEP.run(_update, mirror, branch)
        except HiveError as error:
            if error.code == "ref_moved":
                return False
            raise
        transitions.crash_point("branch moved")
        return True

    async def _descends(self, repo: str, commit: str, ancestor: str) -> bool:
        return await self._context.in_repository(repo, lambda work: _descends(work, commit, ancestor))

    async def _succeed(self, row: WorkRow, landed: str) -> None:
        """Write `deployed/N`, unless the work has ended."""
        context, repo = self._context, row.repo
        async with context.locks[repo]:
            if not (await context.row(repo, row.number)).open:
                return
            data = row.tag(State.DEPLOYED, waits_for=None, landed=landed)
            await context.work_log.record(repo, [WorkChange(data, row.commit, SYSTEM)])
            await context.in_repository(repo, lambda work: _forget_plan(work, row))

    async def _fail(self, row: WorkRow, why: str) -> None:
        """Write `failed/N`, unless the work has ended."""
        context, repo = self._context, row.repo
        async with context.locks[repo]:
            if not (await context.row(repo, row.number)).open:
                return
            tail = await self._check_step.tail(row)
            data = row.tag(State.FAILED, outcome=why, waits_for=None, log_tail=tail)
            await context.work_log.record(repo, [WorkChange(data, row.commit, SYSTEM)])
            await context.in_repository(repo, lambda work: _forget_plan(work, row))


def _landing_ref(row: WorkRow) -> str:
    return f"{LANDING}{row.number}"


def _same_rules(before: ReviewedRepository, now: ReviewedRepository) -> bool:
    """Return True if the same work may land by both settings of a repository."""
    return (before.branch, before.merges, list(before.checks)) == (now.branch, now.merges, list(now.checks))


def _plan(work: Repository, row: WorkRow, target: str) -> None:
    before = work.resolve(_landing_ref(row))
    if before != target:
        work.update([RefChange(_landing_ref(row), target, before)])


def _forget_plan(work: Repository, row: WorkRow) -> None:
    planned = work.resolve(_landing_ref(row))
    if planned is not None:
        work.revert([RefChange(_landing_ref(row), planned, None)])


def _update(mirror: object, change: RefChange) -> None:
    with Repository.open(mirror) as repository:  # type: ignore[arg-type]
        repository.update([change])


def _descends(work: Repository, commit: str, ancestor: str) -> bool:
    """Return True if `ancestor` is in the history of `commit`. Both are in the work repository or in the mirror."""
    return commit == ancestor or work.descends(commit, ancestor)


def _rebase(row: WorkRow, tip: str, why: str) -> str:
    return (
        f"{why}: rebase the work onto {tip}, the commit of the branch {shown(row.branch)} now, and submit it again "
        "(git fetch origin && git rebase FETCH_HEAD)"
    )


def _why_not_merged(row: WorkRow, tip: str, merged: MergedWork) -> str:
    if merged.conflicts:
        return _rebase(row, tip, f"it conflicts with the branch in {_list(merged.conflicts)}")
    return _rebase(row, tip, f"the merge would give {_list(merged.changed)} other contents than those approved")


def _list(paths: object) -> str:
    names = [shown(str(path)) for path in paths]  # type: ignore[attr-defined]
    more = f" and {len(names) - _LISTED_PATHS} more" if len(names) > _LISTED_PATHS else ""
    return ", ".join(names[:_LISTED_PATHS]) + more
