"""The gate of work as the rest of the daemon sees it: its parts, and its background work."""

from __future__ import annotations

import shutil
import sqlite3
from functools import partial
from pathlib import Path
from typing import Final

from hive_core.gate.policy import SYSTEM
from hive_core.gate.subject.background import BackgroundWork
from hive_core.gate.subject.logs import ProposalLogs
from hive_core.infra.concurrency.threads import UPKEEP
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.settings import Settings
from hive_core.work.gate import policy
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.intake.import_work import WorkImporter
from hive_core.work.gate.interfaces import Checker, MergesWork, Mirrors, Publisher
from hive_core.work.gate.pipeline.check import WorkCheckStep
from hive_core.work.gate.pipeline.decide import WorkDecisions
from hive_core.work.gate.pipeline.land import LandStep
from hive_core.work.gate.pipeline.maintenance import WorkMaintenance
from hive_core.work.gate.pipeline.prune import WorkPruning
from hive_core.work.gate.pipeline.publish import PublishStep
from hive_core.work.gate.pipeline.recovery import WorkRecovery
from hive_core.work.gate.pipeline.submit import Submissions
from hive_core.work.gate.pipeline.verify import REMOVED, WorkVerification
from hive_core.work.gate.queries import WorkQueries
from hive_core.work.gate.records import comments, index
from hive_core.work.gate.work_log import WorkLog
from hive_core.work.repository_proposals import PullRequest


class WorkGate:
    """Builds the parts of the gate of work. Their requests and queries wait until `run` has recovered the proposals."""

    def __init__(
        self,
        *,
        settings: Settings,
        layout: Layout,
        database: Database,
        directory: Directory,
        broker: Broker,
        events: EventHub,
        mirrors: Mirrors,
        importer: WorkImporter,
        checker: Checker,
        merger: MergesWork,
        publisher: Publisher,
    ) -> None:
        work_log = WorkLog(layout, database, directory, broker, events, self._recover_later)
        background = BackgroundWork(layout.state_dir, self._catch_up)
        self._context = context = WorkContext(
            settings, layout, database, directory, broker, mirrors, work_log, background
        )
        logs = ProposalLogs(layout.work_log)
        publish_step = PublishStep(context, publisher)
        check_step = WorkCheckStep(context, logs, checker)
        land_step = LandStep(context, check_step, publish_step, merger)
        self.pruning: Final = WorkPruning(context)
        self.submissions: Final = Submissions(context, importer, check_step, publish_step, self.pruning)
        self.decisions: Final = WorkDecisions(context, land_step)
        self.queries: Final = WorkQueries(context, logs, land_step, publish_step)
        self.maintenance: Final = WorkMaintenance(context, self.decisions)
        self.verification: Final = WorkVerification(context)
        self._publish_step = publish_step
        self._publisher = publisher
        self._recovery = WorkRecovery(context, check_step, land_step, publish_step, self.pruning)

    async def run(self) -> None:
        """Recover proposals, then expire them until cancelled."""
        await self._recovery.run()
        self._context.recovered.set()
        # A daemon that was killed while the operator removed a repository has left its work.
        for work in sorted(self._context.layout.work.glob("*.git")):
            repo = work.name.removesuffix(".git")
            if self._context.find_record(repo) is None:
                await self.forget_repository(repo)
        await self.maintenance.expire()

    async def open_work(self, repo: str) -> list[str]:
        """Return the names of the open proposals for a repository."""
        await self._context.ready()
        return [row.name for row in await self._context.database.read(lambda db: index.open_of(db, repo))]

    async def repository_changed(self, repo: str) -> None:
        """Publish what was not published yet, as the operator has changed the repository."""
        await self._publish_step.resume(repo)

    async def pull_request_of(self, repo: str, commit: str) -> PullRequest | None:
        """Return the pull request of the work that moved the branch to a commit, None if no work did.

        Raises HiveError if the server of the repository does not tell.
        """
        row = await self._context.database.read(lambda db: index.landed_with(db, repo, commit))
        if row is None:
            return None
        return PullRequest(row.name, row.link, await self._publisher.merge_of(row) if row.link else "")

    async def forget_repository(self, repo: str) -> None:
        """End all work for a repository that the operator removes, and delete its proposals. The audit rows stay."""
        context = self._context
        await context.ready()
        work = context.repository(repo)
        if not work.is_dir():
            return
        await self._recovery.end_all(repo, policy.REPOSITORY_REMOVED)
        async with context.locks[repo]:
            # First, as the next start goes on from every later step.
            await context.database.write(partial(_audit_removal, repo=repo))
            await UPKEEP.run(_delete, work, context.layout.scratch, context.layout.work_log(repo, 0).parent)
            await context.database.write(partial(_forget, repo=repo))
        await context.notify_waiters()

    def _recover_later(self, repo: str) -> None:
        self._recovery.recover_later(repo)

    async def _catch_up(self, repo: str) -> None:
        await self._recovery.catch_up(repo)

    async def close(self) -> None:
        """End requests and background work. The next start of the daemon goes on with what is half done."""
        await self._context.close()


def _audit_removal(db: sqlite3.Connection, repo: str) -> None:
    audit.append(db, actor=SYSTEM.actor, action=REMOVED, subject=repo, detail={})


def _forget(db: sqlite3.Connection, repo: str) -> None:
    index.delete_rows(db, repo)
    comments.delete(db, repo)


def _delete(work: Path, scratch: Path, logs: Path) -> None:
    """Delete a work repository and its logs. After a kill it is there whole, or gone."""
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    gone = scratch / f"removed-{work.name}"
    shutil.rmtree(gone, ignore_errors=True)
    work.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)
    shutil.rmtree(logs, ignore_errors=True)
