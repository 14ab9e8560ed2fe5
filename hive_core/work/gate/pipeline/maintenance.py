"""Expiry of work, and the rebuild of its index from the tags."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records.states import IllegalHistory, State
from hive_core.gate.records.transitions import seconds
from hive_core.gate.subject.pruning import remove_log
from hive_core.gate.subject.work import as_request
from hive_core.infra.concurrency.threads import READS, UPKEEP
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.pipeline.decide import WorkDecisions
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow

_LONGEST_PAUSE = 600.0
_LOG_BYTES = 256 * 1024 * 1024
"""Logs of the ended work of one party for one repository. The texts of its tags have the end of each."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ReindexedWork:
    """The numbers of repositories with work, of proposals, and of the rows that were corrected."""

    repositories: int
    work: int
    changed: int


class WorkMaintenance:
    """Expires work, and rebuilds its index."""

    def __init__(self, context: WorkContext, decisions: WorkDecisions) -> None:
        self._context = context
        self._decisions = decisions

    async def expire(self) -> None:
        """Withdraw work on which nobody has decided in time, until cancelled."""
        pause = min(_LONGEST_PAUSE, self._context.settings.proposal_days * 86_400 / 4)
        while True:
            await asyncio.sleep(pause)
            await self.expire_now()
            await self.trim_logs()

    async def expire_now(self) -> None:
        """Withdraw the work that has expired."""
        for row in await self._context.database.read(lambda db: index.expired(db, seconds() * 1_000)):
            try:
                await self._expire(row)
            except (HiveError, OSError) as error:
                log.error("work not expired", repo=row.repo, number=row.number, error=str(error))

    async def trim_logs(self) -> None:
        """Remove the oldest logs of ended work, where those of one party for one repository have too many bytes."""
        context = self._context
        for repo in sorted(await context.database.read(index.repos)):
            logs = defaultdict[str, list[Path]](list)
            for row in await context.database.read(partial(index.of_repo, repo=repo)):
                if not row.open:
                    logs[row.by].append(context.layout.work_log(repo, row.number))
            for paths in logs.values():
                try:
                    await UPKEEP.run(_trim, paths)
                except OSError as error:
                    log.error("logs of work not removed", repo=repo, error=str(error))

    @as_request
    async def reindex(self) -> ReindexedWork:
        """Rebuild the index from the tags. Raises `repository_damaged` after the others are done."""
        context = self._context
        count = changed = 0
        damaged = []
        found = {path.name.removesuffix(".git") for path in context.layout.work.glob("*.git")}
        for repo in sorted(found):
            try:
                async with context.locks[repo]:
                    rows = await context.in_repository(repo, index.rows_of_repository, READS)
                    before = await context.database.read(partial(index.of_repo, repo=repo))
                    old = {row.number: row for row in before}
                    new = {row.number: row for row in rows}
                    changed += sum(old.get(number) != new.get(number) for number in old.keys() | new.keys())
                    count += len(rows)
                    await context.database.write(partial(index.replace_all, repo=repo, rows=rows))
            except (IllegalHistory, ValueError) as error:
                damaged.append(f"{repo}: {error}")
            except HiveError as error:
                if error.code != "repository_missing":
                    raise
                found.discard(repo)  # The operator has removed it since it was listed.
        for repo in sorted(await context.database.read(index.repos) - found):
            async with context.locks[repo]:
                if context.repository(repo).is_dir():
                    continue  # It has got its first work since the repositories were listed.
                changed += len(await context.database.read(partial(index.of_repo, repo=repo)))
                await context.database.write(partial(index.delete_rows, repo=repo))
        await context.notify_waiters()
        if damaged:
            why = f"tags that are not the gate's, in the work repository of {'; '.join(damaged)}"
            hint = "see them with git tag, and hive-c0re audit verify; the index of the others was made anew"
            raise HiveError("repository_damaged", why, hint=hint, status=500)
        return ReindexedWork(len(found), count, changed)

    async def _expire(self, row: WorkRow) -> None:
        context = self._context
        async with context.locks[row.repo]:
            now = await context.row(row.repo, row.number)
            if now.state in (State.PROPOSAL, State.BUILT):
                await self._decisions.take_back(now, policy.EXPIRED, SYSTEM)


def _trim(logs: Sequence[Path]) -> None:
    """Remove the first logs, until the others have few enough bytes. Each has an older part."""
    sizes = [_size(log) + _size(log.with_name(f"{log.name}.1")) for log in logs]
    left = sum(sizes)
    for log, size in zip(logs, sizes, strict=True):
        if left <= _LOG_BYTES:
            return
        if size:
            remove_log(log)
            left -= size


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
