"""Removal of the files of ended proposals, whose space is limited. What was proposed, decided and why stays.

The tags of a pruned proposal are written anew with the same names, parties, times and texts, on a commit without files;
a line of their block names the commit that they were on (`Pruned`). Then nothing reaches that commit any more. The
steps, each of which can be the last one of a killed daemon:

1. The ref `refs/hive/pruning` says that tags may be replaced.
2. One transaction replaces the tags.
3. One transaction of the database audits each new tag, and the whole.
4. The ref is removed.
5. What is not reachable any more is removed from the repository.

Where the ref is left, `finish` goes on with step 3; what step 5 has left is removed by the next pruning.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.gate.context import WHOLE_AGENT, GateContext, as_request
from hive_core.gate.policy import Principal
from hive_core.gate.records import index, tag_message, transitions
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import parse_tag_name, tag_name
from hive_core.gate.records.transitions import person, seconds
from hive_core.infra.concurrency.fair_queue import FairQueue, QueueFull
from hive_core.infra.concurrency.threads import READS, UPKEEP
from hive_core.infra.database import audit
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.protocol import PruneAnswer, PrunedAgent, PruneRequest

_MAX_WAITING = 7
"""Number of commits of one agent that may wait for their import."""
_INTAKES_AT_ONCE = 4
"""Number of imports at a time, one of each agent: one that is slow takes at most a quarter of them."""
_PAUSE_SECONDS = 600.0
_MARK = "refs/hive/pruning"
_TEXT = "The files of an ended proposal were removed. Each tag names the commit that it was on.\n"

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class _Candidates:
    """The proposals that can be pruned, and the size of what would be removed."""

    rows: Sequence[ProposalRow]
    size: int


class Pruning:
    """Prunes ended proposals, and keeps imports of commits apart from that."""

    def __init__(self, context: GateContext) -> None:
        self._context = context
        self._intakes = FairQueue(_INTAKES_AT_ONCE, 1, _MAX_WAITING)
        self._not_before: defaultdict[str, float] = defaultdict(float)
        self._taken_in: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @asynccontextmanager
    async def slot(self, agent: str) -> AsyncIterator[None]:
        """Wait for the slot in which objects are added to an agent's repository, or removed. Raises `intake_under_way`.

        A few agents have it at a time, in turns.
        """
        try:
            release = await self._intakes.acquire(agent)
        except QueueFull:
            why = f"{_MAX_WAITING + 1} commits of {agent} are being taken in"
            raise HiveError("intake_under_way", why, hint="try again when that is done", status=429) from None
        try:
            yield
        finally:
            release()

    @contextmanager
    def taking_in(self, agent: str, commit: str) -> Iterator[None]:
        """Keep a commit that is imported, from before that until it has a tag."""
        commits = self._taken_in[agent]
        commits[commit] += 1
        try:
            yield
        finally:
            commits[commit] -= 1
            if not commits[commit]:
                del commits[commit]

    @as_request
    async def prune(self, request: PruneRequest, principal: Principal) -> PruneAnswer:
        """Prune the proposals of one agent or of all, or only name them. Raises `unknown_agent`, `disk_full`."""
        context = self._context
        known = index.agents_with_repository(context.layout.applied)
        if request.agent is not None and request.agent not in known:
            context.agents.record(request.agent)
            known = {request.agent}
        before = _before(request.older_than_days)
        answers = []
        for agent in sorted(known if request.agent is None else {request.agent}):
            try:
                async with self.slot(agent):
                    answers.append(await self._prune(agent, before, principal, dry_run=request.dry_run))
            except HiveError as error:
                if error.code != "repository_missing":  # It was purged since it was listed, or never deployed.
                    raise
        limit = context.settings.proposal_space
        return PruneAnswer(agents=answers, limit_bytes=limit, dry_run=request.dry_run)

    async def prune_older(self, agent: str, days: float, principal: Principal) -> None:
        """Prune what has ended that many days ago, once in ten minutes. The caller must hold the agent's slot."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before[agent]:
            return
        self._not_before[agent] = now + _PAUSE_SECONDS
        await self._prune(agent, _before(days), principal, dry_run=False)

    async def _prune(self, agent: str, before: int, principal: Principal, *, dry_run: bool) -> PrunedAgent:
        """Prune the proposals of an agent that ended before a time in milliseconds."""
        context = self._context
        async with context.locks[agent]:
            await self.finish(agent)
            used = await context.in_repository(agent, Repository.packed_bytes)
            rows = await context.database.read(partial(index.of_agent, agent=agent))
            ended = await context.database.read(partial(index.ended_before, agent=agent, before=before))
            keep = sorted(self._taken_in[agent])
            found = await context.in_repository(agent, partial(_candidates, rows=rows, ended=ended, keep=keep), READS)
            numbers = [row.number for row in found.rows]
            if dry_run:
                return PrunedAgent(agent=agent, proposals=numbers, freed_bytes=found.size, used_bytes=used)
            if numbers:
                context.prunings[agent] += 1
                await self._replace_tags(agent, found.rows, principal)
            await self._remove_files(agent, numbers, keep)
            left = await context.in_repository(agent, Repository.packed_bytes)
        await context.transition_log.notify_waiters()
        return PrunedAgent(agent=agent, proposals=numbers, freed_bytes=max(used - left, 0), used_bytes=left)

    async def finish(self, agent: str) -> None:
        """Audit the tags that were replaced and are not audited. The caller must hold the agent's lock."""
        context = self._context
        marked = await context.in_repository(agent, _marked_by)
        if marked is None:
            return
        audited = await context.database.read(partial(audited_objects, agent=agent))
        tags = await context.in_repository(agent, _pruned_tags, READS)
        new = [(tag, commit) for tag, commit in tags if tag.sha not in audited]

        def record(db: sqlite3.Connection) -> None:
            for tag, commit in new:
                detail = {"tag": tag.name, "object": tag.sha, "commit": commit}
                audit.append(db, actor=marked.actor, action="gate.pruned", subject=agent, detail=detail)
            if new:
                numbers = sorted({_number(tag) for tag, _ in new})
                audit.append(db, actor=marked.actor, action="prune", subject=agent, detail={"proposals": numbers})

        await context.database.write(record)
        transitions.crash_point("pruning audited")
        await context.in_repository(agent, lambda repository: repository.revert([marked.mark]))

    async def _replace_tags(self, agent: str, rows: Sequence[ProposalRow], principal: Principal) -> None:
        context = self._context
        try:
            await context.in_repository(agent, partial(_replace_tags, rows=rows, principal=principal), UPKEEP)
            transitions.crash_point("tags replaced")
            await self.finish(agent)
        except Exception:
            context.background.start(agent, WHOLE_AGENT, context.locked(agent, partial(self.finish, agent)))
            raise

    async def _remove_files(self, agent: str, numbers: Sequence[int], keep: Sequence[str]) -> None:
        """Remove what is not needed any more: closures that nobody can activate, logs of builds, and objects."""
        context = self._context
        kept = context.settings.kept_deployments
        rows = await context.database.read(lambda db: [*index.deployments(db, agent, kept), *index.open_of(db, agent)])
        try:
            await context.runtime.keep(agent, {row.closure for row in rows if row.closure is not None})
        except (HiveError, OSError) as error:
            _log.warning("closures not removed", agent=agent, error=str(error))
        for number in numbers:
            await UPKEEP.run(_remove_log, context.layout.build_log(agent, number))
        await context.in_repository(agent, lambda repository: repository.collect_garbage(keep), UPKEEP)
        transitions.crash_point("objects removed")


def _before(days: float) -> int:
    """Return the time that many days ago, in milliseconds; it is later than what has happened until now for 0 days."""
    return int((seconds() + 1 - days * 86_400) * 1_000)


@dataclass(frozen=True)
class _Marked:
    """A pruning that has begun: its ref, and the name of its party in the audit table."""

    mark: RefChange
    actor: str


def _marked_by(repository: Repository) -> _Marked | None:
    """Return the pruning that has begun and is not finished, or None."""
    commit = repository.resolve(_MARK)
    if commit is None:
        return None
    return _Marked(RefChange(_MARK, commit, None), repository.author(commit))


def _candidates(
    repository: Repository, rows: Sequence[ProposalRow], ended: Sequence[ProposalRow], keep: Sequence[str]
) -> _Candidates:
    """Return those of the ended proposals that have files which nothing else needs."""
    numbers = {row.number for row in ended}
    main = repository.main()
    needed = [row.commit for row in rows if row.number not in numbers] + [*keep, *([main] if main else [])]
    reachable = repository.reachable_commits(needed, [*needed, *(row.commit for row in ended)])
    wanted = [row for row in ended if row.commit not in reachable]
    names = {tag_name(row.state, row.number): row for row in wanted}
    found = [names[tag.name] for tag in repository.read_tags(names) if _parse(tag).pruned is None]
    return _Candidates(found, repository.bytes_of([row.commit for row in found], sorted(reachable & set(needed))))


def _replace_tags(repository: Repository, rows: Sequence[ProposalRow], principal: Principal) -> None:
    numbers = {row.number for row in rows}
    names = [name for name in repository.tags() if (parsed := parse_tag_name(name)) and parsed[1] in numbers]
    empty = repository.write_commit({}, parents=[], author=person(principal), when=seconds(), message=_TEXT)
    changes = []
    for tag in repository.read_tags(sorted(names)):
        message = tag_message.mark_pruned(tag.message, tag.target)
        new = repository.write_tag(replace(tag, target=empty, message=message, sha=""))
        changes.append(RefChange(f"refs/tags/{tag.name}", new, tag.sha))
    repository.update([RefChange(_MARK, empty, None)])
    transitions.crash_point("pruning marked")
    repository.update(changes)


def _pruned_tags(repository: Repository) -> list[tuple[Tag, str]]:
    """Return all tags of pruned proposals, each with the commit that it was on."""
    tags = ((tag, _parse(tag).pruned) for tag in repository.each_tag())
    return [(tag, commit) for tag, commit in tags if commit is not None]


def _parse(tag: Tag) -> tag_message.ProposalTag:
    return tag_message.parse_message(tag.message)


def _number(tag: Tag) -> int:
    return int(tag.name.partition("/")[2])


def _remove_log(log: Path) -> None:
    for path in log.parent.glob(f"{log.name}*"):  # A long one has two files.
        path.unlink(missing_ok=True)


def audited_objects(db: sqlite3.Connection, agent: str) -> set[str]:
    """Return the ids of the tag objects of an agent that have a row in the audit table."""
    query = "SELECT json_extract(detail, '$.object') FROM audit WHERE subject = ? AND action LIKE 'gate.%'"
    return {sha for (sha,) in db.execute(query, (agent,)) if sha}
