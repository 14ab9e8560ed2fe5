"""Expiry of work, and the rebuild of its index from the tags."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import structlog

from hive_core.gate.policy import SYSTEM
from hive_core.gate.subject.maintenance import SubjectIndex, SubjectMaintenance
from hive_core.gate.subject.pruning import remove_log
from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.pipeline.decide import WorkDecisions
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow

_LOG_BYTES = 256 * 1024 * 1024
"""Logs of the ended work of one party for one repository. The texts of its tags have the end of each."""

log = structlog.get_logger(__name__)

_INDEX = SubjectIndex(
    repository="work repository",
    subject_of=lambda row: row.repo,
    of_subject=index.of_repo,
    replace_all=index.replace_all,
    delete_rows=index.delete_rows,
    subjects=index.repos,
    expired=index.expired,
    read=index.rows_of_repository,
)


class WorkMaintenance(SubjectMaintenance[WorkRow]):
    """Expires work, and rebuilds its index."""

    def __init__(self, context: WorkContext, decisions: WorkDecisions) -> None:
        super().__init__(context, context.database, _INDEX, days=context.settings.proposal_days)
        self._gate = context
        self._decisions = decisions

    def list_repositories(self) -> set[str]:
        return {path.name.removesuffix(".git") for path in self._gate.layout.work.glob("*.git")}

    async def row(self, subject: str, number: int) -> WorkRow:
        return await self._gate.row(subject, number)

    async def withdraw_expired(self, row: WorkRow) -> None:
        await self._decisions.take_back(row, policy.EXPIRED, SYSTEM)

    async def clean_up(self) -> None:
        await self.trim_logs()

    async def trim_logs(self) -> None:
        """Remove the oldest logs of ended work, where those of one party for one repository have too many bytes."""
        context = self._gate
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
