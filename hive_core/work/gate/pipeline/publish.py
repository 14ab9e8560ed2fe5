"""The publication of landed work, which is repeated until it is done."""

from __future__ import annotations

from hive_core.errors import HiveError, conflict
from hive_core.gate.policy import SYSTEM
from hive_core.gate.records.states import State
from hive_core.work.gate.context import WorkContext
from hive_core.work.gate.interfaces import Publisher
from hive_core.work.gate.records import index
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import PUBLISHED, WorkChange

_MOST = 2_000


class PublishStep:
    """Publishes landed work. The publisher does it once, however often it is asked to."""

    def __init__(self, context: WorkContext, publisher: Publisher) -> None:
        self._context = context
        self._publisher = publisher

    def problem(self, row: WorkRow) -> HiveError | None:
        """Return why landed work is not published yet, None if nothing is wrong."""
        return self._publisher.problem(row.repo, row.number) if row.state is State.DEPLOYED and not row.link else None

    def try_again(self, row: WorkRow) -> None:
        """Try to publish landed work now. Raises `stale_state` if nothing is to be published."""
        record = self._context.mirrors.record(row.repo)
        if row.link:
            raise conflict("stale_state", f"{row.name} is published already", "hive-c0re work show tells where")
        if record.push == "none":
            hint = f"hive-c0re repo set {row.repo} --push branch publishes it"
            raise conflict("stale_state", f"{row.name} has landed, and landed work of {row.repo} is not pushed", hint)
        if not self._context.background.is_under_way(row.repo, row.number):
            self.start(row.repo, row.number)
        self._publisher.try_again()

    async def resume(self, repo: str) -> None:
        """Publish all landed work of a repository that is not published yet."""
        await self._context.ready()
        for row in await self._context.database.read(index.unpublished):
            if row.repo == repo and not self._context.background.is_under_way(repo, row.number):
                self.start(repo, row.number)
        self._publisher.try_again()

    def start(self, repo: str, number: int) -> None:
        """Publish landed work in the background, if the operator wants that."""
        record = self._context.find_record(repo)
        if record is not None and record.push != "none":
            self._context.background.start(repo, number, lambda: self._run(repo, number))

    async def _run(self, repo: str, number: int) -> None:
        context = self._context
        row = await context.row(repo, number)
        record = context.mirrors.record(repo)
        if row.state is not State.DEPLOYED or row.link or record.push == "none":
            return
        link = await self._publisher(record, row)
        if not link:
            raise HiveError("repository_busy", f"{row.name} was not published", status=503)
        async with context.locks[repo]:
            row = await context.row(repo, number)
            if not row.link:
                data = row.tag(State.DEPLOYED, link=link[:_MOST])
                await context.work_log.record(repo, [WorkChange(data, row.commit, SYSTEM, marker=PUBLISHED)])
