"""Queries about proposals: an agent sees its own, the manager and the operator see all."""

from __future__ import annotations

import base64
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from hive_core.errors import HiveError, conflict, forbidden, not_found
from hive_core.gate import policy
from hive_core.gate.context import GateContext, unknown_proposal
from hive_core.gate.intake.given_files import read_files
from hive_core.gate.policy import Principal
from hive_core.gate.records import index, tag_message
from hive_core.gate.records.commit import read_config, shown_diff
from hive_core.gate.records.fetches import fetches_to_protocol
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.settings_diff import describe_changes
from hive_core.gate.records.states import State
from hive_core.gate.records.tag_message import ProposalTag
from hive_core.gate.subject.file_diff import MOST_FILE_DIFF, find_file, read_file_diff
from hive_core.gate.subject.logs import ProposalLogs
from hive_core.gate.subject.results import is_pruned, read_results
from hive_core.infra.concurrency.shared_results import SharedResults
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.database.database import to_datetime
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.repository import FileView, Repository
from hive_core.protocol import (
    ConfigurationFiles,
    Deployment,
    DeploymentChanges,
    FileDiff,
    FileDiffQuery,
    History,
    HistoryQuery,
    LogsAnswer,
    LogsQuery,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
)

T = TypeVar("T")

_SHOWN_DIFF = 64 * 1024
_CHANGES = 512 * 1024
"""Bytes of a comparison of two deployments."""
_KEPT_BYTES = 8 * 1024 * 1024
"""Size of the contents of proposals that are kept for the next question about them."""


@dataclass(frozen=True)
class _Contents:
    """The part of an answer that is read from the applied repository, which is the same as long as the state is."""

    results: ProposalTag
    diff: ShownDiff
    pruned: bool


def _size(contents: _Contents) -> int:
    """Return about the memory that the contents take up."""
    texts = (contents.diff.text, *contents.results.settings, *contents.results.closure_changes)
    return 1_000 + 500 * len(contents.diff.files) + sum(len(text) + 50 for text in texts)


class ProposalQueries:
    """Answers queries about proposals. All of them wait until recovery is done."""

    def __init__(self, context: GateContext, logs: ProposalLogs) -> None:
        self._context = context
        self._logs = logs
        self._contents: SharedResults[tuple[str, int, int, State, int], _Contents] = SharedResults(_KEPT_BYTES, _size)

    async def proposals(self, query: ProposalsQuery, principal: Principal) -> ProposalList:
        """Return the proposals that match, the newest first; an agent sees only its own. Raises `not_yours`."""
        await self._context.recovered.wait()
        if principal.role == "agent":
            if query.agent not in (None, principal.name):
                raise forbidden("not_yours", "an agent sees only the proposals about itself", "leave the agent out")
            query = query.model_copy(update={"agent": principal.name})

        def read(db: sqlite3.Connection) -> ProposalList:
            rows, total = index.select(db, query, principal.sees)
            return ProposalList(proposals=[self._context.to_protocol(row) for row in rows], total=total)

        return await self._context.database.scan(read)

    async def spawners(self) -> dict[str, str]:
        """Return the party that asked for each agent's last spawn, by agent."""
        found = await self._context.database.scan(index.spawners)
        return {agent: policy.name_from_label(label) for agent, label in found.items()}

    async def wait_for_change(self, agent: str, number: int, query: ProposalQuery, principal: Principal) -> None:
        """Wait for another state than the query's, or until its time is over. Raises `unknown_proposal`."""
        context = self._context
        await context.recovered.wait()
        row = await self._row(agent, number, principal)

        async def read() -> State:
            return (await context.row(agent, number)).state

        if row.state.value == query.unlike:
            await context.wait_for_state(query.unlike, query.wait_seconds, read)

    async def show(self, agent: str, number: int, principal: Principal) -> ProposalDetail:
        """Return a proposal with its diff and changes. Raises `unknown_proposal`."""
        await self._context.recovered.wait()
        row = await self._row(agent, number, principal)
        contents = await self._contents_of(row)
        return ProposalDetail(
            **self._context.to_protocol(row).model_dump(),
            settings=contents.results.settings,
            closure_changes=contents.results.closure_changes,
            missing_fetches=fetches_to_protocol(contents.results.missing_fetches),
            allowed_fetches=None if row.allowed_fetches is None else row.allowed_fetches.to_protocol(),
            files=list(contents.diff.files),
            diff=contents.diff.text,
            diff_bytes=contents.diff.size,
            pruned=contents.pruned,
        )

    async def file_diff(
        self, agent: str, number: int, file: int, query: FileDiffQuery, principal: Principal
    ) -> FileDiff:
        """Return the diff of the changed file with the place `file`. Raises `unknown_proposal`, `unknown_file`."""
        await self._context.recovered.wait()
        row = await self._row(agent, number, principal)
        path = find_file((await self._contents_of(row)).diff.files, file, f"{agent}/{number}").path

        def read(repository: Repository) -> FileDiff:
            def compare(view: FileView) -> ShownDiff:
                return shown_diff(repository, row, row.commit, MOST_FILE_DIFF, view)

            return read_file_diff(repository, row.base, row.commit, path, query, compare)

        return await self._from_repository(row, read)

    async def build_log(self, agent: str, number: int, query: LogsQuery, principal: Principal) -> LogsAnswer:
        """Return lines of the log of a build. Raises `unknown_proposal`."""
        await self._context.recovered.wait()
        await self._row(agent, number, principal)
        return await self._logs.read(agent, number, query)

    async def history(self, agent: str, query: HistoryQuery) -> History:
        """Return the deployments of an agent, the newest first. Raises `unknown_agent`."""
        await self._context.recovered.wait()
        rows = await self._context.database.read(lambda db: index.deployments(db, agent, query.limit, query.offset))
        if not rows:
            self._context.agents.record(agent)
        newest = await self._context.database.read(lambda db: index.last_deployed(db, agent))
        current = None if newest is None else newest.number
        return History(agent=agent, deployments=[_deployment(row, current=row.number == current) for row in rows])

    async def changes_since(self, agent: str, number: int) -> DeploymentChanges:
        """Compare an earlier deployment with the active one. Raises `unknown_agent`, `unknown_deployment`."""
        await self._context.recovered.wait()
        self._context.agents.record(agent)
        row = await self._context.database.read(lambda db: index.find(db, agent, number))
        newest = await self._context.database.read(lambda db: index.last_deployed(db, agent))
        if row is None or newest is None or row.state is not State.DEPLOYED or row.kind == "destroy":
            hint = f"hive-c0re history {agent} shows those"
            raise not_found("unknown_deployment", f"{agent} has no deployment {number}", hint)
        older, active = row, newest

        def read(repository: Repository) -> DeploymentChanges:
            diff = shown_diff(repository, replace(active, base=older.commit), active.commit, _CHANGES)
            old, new = (read_config(repository, each.commit) for each in (older, active))
            return DeploymentChanges(
                agent=agent,
                number=number,
                commit=older.commit,
                current=active.number,
                current_commit=active.commit,
                settings=describe_changes(old, new),
                files=list(diff.files),
                diff=diff.text,
                diff_bytes=diff.size,
            )

        return await self._context.in_repository(agent, read, READS)

    async def deployed_files(self, agent: str) -> ConfigurationFiles:
        """Return the files that an agent runs on. Raises `unknown_agent`, `nothing_deployed`, those of `read_files`."""
        await self._context.recovered.wait()
        self._context.agents.record(agent)

        def read(repository: Repository) -> ConfigurationFiles:
            commit = repository.main()
            if commit is None:
                raise conflict("nothing_deployed", f"{agent} has no deployment", "propose its configuration")
            files, executables = read_files(repository, commit)
            encoded = {path: base64.b64encode(data).decode() for path, data in files.items()}
            return ConfigurationFiles(agent=agent, commit=commit, files=encoded, executables=executables)

        return await self._context.in_repository(agent, read, READS)

    async def _row(self, agent: str, number: int, principal: Principal) -> ProposalRow:
        if not policy.can_see(principal, agent):
            raise unknown_proposal(agent, number)
        return await self._context.row(agent, number)

    async def _contents_of(self, row: ProposalRow) -> _Contents:
        # A proposal of the same number can be another one, after a purge of the agent.
        key = (row.agent, row.number, row.created_at, row.state, self._context.prunings[row.agent])
        return await self._contents.get(key, lambda: self._read_contents(row))

    async def _read_contents(self, row: ProposalRow) -> _Contents:
        """Read what the tags say of the build, and compare the files."""

        def read(repository: Repository) -> _Contents:
            diff, pruned = ShownDiff(), is_pruned(repository, row, tag_message.parse_message)
            if row.kind != "destroy" and not pruned:
                diff = shown_diff(repository, row, row.commit, _SHOWN_DIFF)
            results = read_results(repository, row, tag_message.parse_message) or row.tag(row.state)
            return _Contents(results, diff, pruned)

        return await self._from_repository(row, read)

    async def _from_repository(self, row: ProposalRow, work: Callable[[Repository], T]) -> T:
        try:
            return await self._context.in_repository(row.agent, work, READS)
        except (HiveError, OSError):
            if self._context.layout.applied_repository(row.agent).exists():
                raise
            raise unknown_proposal(row.agent, row.number) from None  # The agent has been purged meanwhile.


def _deployment(row: ProposalRow, *, current: bool) -> Deployment:
    return Deployment(
        number=row.number,
        kind=row.kind,
        commit=row.commit,
        closure=row.closure or "",
        by=row.by,
        approved_by=list(row.approvals),
        note=row.note,
        deployed_at=to_datetime(row.changed_at),
        current=current,
    )
