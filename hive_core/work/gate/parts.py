"""The gate of work with the real checks, merges and repositories."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from hive_core.agents import AgentRegistry
from hive_core.gate.policy import SYSTEM, name_from_label
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import person
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings
from hive_core.text import Quoted
from hive_core.work.checks.runner import CheckOrder, CheckRunner, HostAccess
from hive_core.work.gate.gate import WorkGate
from hive_core.work.gate.intake.import_work import WorkImporter, WorkLimits
from hive_core.work.gate.interfaces import CheckResult, MergedWork, Publisher, ReviewedRepository
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.landing.merge import Changed, Conflict, Merger
from hive_core.work.outgoing.publish import WorkPublisher
from hive_core.work.repositories.registry import Repositories

_TITLE = 200
_BODY = 4_000


class WorkChecker:
    """Runs the checks of a repository on the active closure of the agent that submitted the work."""

    def __init__(self, layout: Layout, agents: AgentRegistry, runner: CheckRunner) -> None:
        self._layout = layout
        self._agents = agents
        self._runner = runner

    async def __call__(
        self, record: ReviewedRepository, row: WorkRow, tree: str, say: Callable[[str], None]
    ) -> CheckResult:
        agent = name_from_label(row.by)
        found = self._agents.find(agent)
        order = CheckOrder(
            repository=self._layout.work_repository(record.name),
            tree=tree,
            closure=found.closure if found is not None else "",
            agent=agent,
            checks=record.checks,  # type: ignore[arg-type]
            work=f"{row.name} {row.commit}",
            hosts=record.check_hosts,
            landing=row.state is State.APPROVED,
        )
        outcome = await self._runner.run(order, say)
        lines = []
        for check in record.checks:
            if check.name == outcome.failed:
                lines.append(f"{check.name}: failed: {outcome.reason}")
                break
            lines.append(f"{check.name}: passed")
        failure = "" if outcome.passed else f"the check {outcome.failed} failed: {outcome.reason}"
        return CheckResult(lines, failure)


class WorkMerger:
    """Merges approved work into its branch."""

    def __init__(self, layout: Layout, merger: Merger) -> None:
        self._layout = layout
        self._merger = merger

    async def __call__(self, row: WorkRow, branch: str) -> MergedWork:
        work = self._layout.work_repository(row.repo)
        message = f"Merge work {row.name}\n\n{Quoted(row.title).block(_TITLE)}\n"
        done = await self._merger.merge(work, branch, row.commit, row.base, message, person(SYSTEM))
        if isinstance(done, Conflict):
            return MergedWork(conflicts=done.paths)
        if isinstance(done, Changed):
            return MergedWork(changed=done.paths)
        return MergedWork(commit=done.commit, tree=done.tree)


def make_work_gate(
    *,
    settings: Settings,
    layout: Layout,
    database: Database,
    directory: Directory,
    broker: Broker,
    events: EventHub,
    agents: AgentRegistry,
    runtime: Runtime,
    repositories: Repositories,
    publisher: Publisher | None = None,
    access: HostAccess | None = None,
) -> WorkGate:
    """Return the gate of work; without a `publisher`, landed work is published to its upstream.

    `access` is the way of checks to the hosts that rules of their repository name.
    """
    bwrap: str | None = runtime.bubblewrap
    scratch: Path = layout.scratch
    return WorkGate(
        settings=settings,
        layout=layout,
        database=database,
        directory=directory,
        broker=broker,
        events=events,
        mirrors=repositories,
        importer=WorkImporter(bwrap, scratch, WorkLimits(settings.work_bytes, settings.work_files)),
        checker=WorkChecker(layout, agents, CheckRunner(runtime, layout, settings.checks, access)),
        merger=WorkMerger(layout, Merger(bwrap, scratch)),
        publisher=publisher or WorkPublisher(repositories),
    )
