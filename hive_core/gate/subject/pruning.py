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
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from hive_core.errors import HiveError
from hive_core.gate.policy import Principal
from hive_core.gate.records import transitions
from hive_core.gate.records.states import parse_tag_name, tag_name
from hive_core.gate.records.transitions import person, seconds
from hive_core.gate.subject.row import SubjectRow
from hive_core.gate.subject.work import WHOLE_SUBJECT, SubjectWork
from hive_core.infra.concurrency.fair_queue import FairQueue, QueueFull
from hive_core.infra.concurrency.threads import READS, UPKEEP
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository

_MAX_WAITING = 7
"""Number of commits of one party that may wait for their import."""
_INTAKES_AT_ONCE = 4
"""Number of imports at a time, one of each party: one that is slow takes at most a quarter of them."""
_PAUSE_SECONDS = 600.0
_MARK = "refs/hive/pruning"
_TEXT = "The files of an ended proposal were removed. Each tag names the commit that it was on.\n"


R = TypeVar("R", bound=SubjectRow)


@dataclass(frozen=True)
class Pruned:
    """The proposals that were pruned, or would be; the size of what was removed, and of what is left."""

    numbers: list[int]
    freed: int
    used: int


@dataclass(frozen=True)
class _Candidates(Generic[R]):
    """The proposals that can be pruned, and the size of what would be removed."""

    rows: Sequence[R]
    size: int


class SubjectPruning(ABC, Generic[R]):
    """Prunes ended proposals of subjects, and keeps imports of commits apart from that."""

    def __init__(self, work: SubjectWork, database: Database, actions: str, whole: str) -> None:
        """`actions` begins the actions of tags in the audit table, and `whole` is the action of a whole pruning."""
        self._work = work
        self._database = database
        self._actions = actions
        self._whole = whole
        self._intakes = FairQueue(_INTAKES_AT_ONCE, 1, _MAX_WAITING)
        self._not_before: defaultdict[str, float] = defaultdict(float)
        self._taken_in: defaultdict[str, Counter[str]] = defaultdict(Counter)

    @abstractmethod
    def rows(self, db: sqlite3.Connection, subject: str) -> list[R]:
        """Return all proposals of a subject."""

    @abstractmethod
    def ended_before(self, db: sqlite3.Connection, subject: str, before: int) -> list[R]:
        """Return the proposals that ended before a time without being deployed."""

    @abstractmethod
    def pruned_commit(self, message: str) -> str | None:
        """Return the commit that a pruned tag with this message was on, None for other tags."""

    @abstractmethod
    def mark_pruned(self, message: str, commit: str) -> str:
        """Return the message of a tag on `commit` with a line that says that its files were removed."""

    @abstractmethod
    def elsewhere(self, rows: Sequence[R]) -> list[str]:
        """Return commits whose objects are in another repository, from which this one borrows them."""

    @abstractmethod
    def forget_contents(self, subject: str) -> None:
        """Forget what is known of the contents of a subject's proposals."""

    @abstractmethod
    async def remove_results(self, subject: str, numbers: Sequence[int]) -> None:
        """Remove what the work on these proposals has left besides objects, and nobody needs any more."""

    @asynccontextmanager
    async def slot(self, party: str) -> AsyncIterator[None]:
        """Wait for the slot in which objects are added to a repository, or removed. Raises `intake_under_way`.

        A few parties have it at a time, in turns.
        """
        try:
            release = await self._intakes.acquire(party)
        except QueueFull:
            why = f"{_MAX_WAITING + 1} commits of {party} are being taken in"
            raise HiveError("intake_under_way", why, hint="try again when that is done", status=429) from None
        try:
            yield
        finally:
            release()

    @contextmanager
    def taking_in(self, subject: str, commit: str) -> Iterator[None]:
        """Keep a commit that is imported, from before that until it has a tag."""
        commits = self._taken_in[subject]
        commits[commit] += 1
        try:
            yield
        finally:
            commits[commit] -= 1
            if not commits[commit]:
                del commits[commit]

    def may_remove(self, subject: str) -> bool:
        """Return False while a commit is imported that could be removed. The subject's lock is held."""
        return True

    async def prune_older(self, subject: str, days: float, principal: Principal) -> None:
        """Prune what has ended that many days ago, once in ten minutes. Nothing may be imported meanwhile."""
        now = asyncio.get_running_loop().time()
        if now < self._not_before[subject]:
            return
        self._not_before[subject] = now + _PAUSE_SECONDS
        await self.prune_before(subject, before_days(days), principal, dry_run=False)

    async def prune_before(self, subject: str, before: int, principal: Principal, *, dry_run: bool) -> Pruned:
        """Prune the proposals of a subject that ended before a time in milliseconds."""
        work = self._work
        async with work.locks[subject]:
            await self.finish(subject)
            used = await work.in_repository(subject, Repository.packed_bytes)
            rows = await self._database.read(lambda db: self.rows(db, subject))
            ended = await self._database.read(lambda db: self.ended_before(db, subject, before))
            keep = sorted(self._taken_in[subject])
            found = await work.in_repository(subject, lambda repo: self._candidates(repo, rows, ended, keep), READS)
            numbers = [row.number for row in found.rows]
            if dry_run or not self.may_remove(subject):
                return Pruned(numbers, found.size, used)
            if numbers:
                self.forget_contents(subject)
                await self._replace_tags(subject, found.rows, principal)
            await self.remove_results(subject, numbers)
            elsewhere = self.elsewhere(rows)
            await work.in_repository(subject, lambda repo: repo.collect_garbage(keep, elsewhere), UPKEEP)
            transitions.crash_point("objects removed")
            left = await work.in_repository(subject, Repository.packed_bytes)
        await work.notify_waiters()
        return Pruned(numbers, max(used - left, 0), left)

    async def finish(self, subject: str) -> None:
        """Audit the tags that were replaced and are not audited. The caller must hold the subject's lock."""
        work = self._work
        marked = await work.in_repository(subject, _marked_by)
        if marked is None:
            return
        audited = await self._database.read(lambda db: audited_objects(db, subject, self._actions))
        tags = await work.in_repository(subject, self._pruned_tags, READS)
        new = [(tag, commit) for tag, commit in tags if tag.sha not in audited]

        def record(db: sqlite3.Connection) -> None:
            for tag, commit in new:
                detail = {"tag": tag.name, "object": tag.sha, "commit": commit}
                audit.append(db, actor=marked.actor, action=f"{self._actions}.pruned", subject=subject, detail=detail)
            if new:
                numbers = sorted({_number(tag) for tag, _ in new})
                audit.append(db, actor=marked.actor, action=self._whole, subject=subject, detail={"proposals": numbers})

        await self._database.write(record)
        transitions.crash_point("pruning audited")
        await work.in_repository(subject, lambda repository: repository.revert([marked.mark]))

    async def _replace_tags(self, subject: str, rows: Sequence[R], principal: Principal) -> None:
        work = self._work
        try:
            await work.in_repository(subject, lambda repo: self._write_tags(repo, rows, principal), UPKEEP)
            transitions.crash_point("tags replaced")
            await self.finish(subject)
        except Exception:
            work.background.start(subject, WHOLE_SUBJECT, work.locked(subject, partial(self.finish, subject)))
            raise

    def _candidates(
        self, repository: Repository, rows: Sequence[R], ended: Sequence[R], keep: Sequence[str]
    ) -> _Candidates[R]:
        """Return those of the ended proposals that have files which nothing else needs."""
        numbers = {row.number for row in ended}
        main = repository.main()
        needed = [row.commit for row in rows if row.number not in numbers] + [*keep, *([main] if main else [])]
        elsewhere = self.elsewhere(rows)
        among = [*needed, *(row.commit for row in ended)]
        reachable = repository.reachable_commits(needed, among, elsewhere)
        wanted = [row for row in ended if row.commit not in reachable]
        names = {tag_name(row.state, row.number): row for row in wanted}
        tags = repository.read_tags(names)
        found = [names[tag.name] for tag in tags if self.pruned_commit(tag.message) is None]
        but = sorted({*(reachable & set(needed)), *elsewhere})
        return _Candidates(found, repository.bytes_of([row.commit for row in found], but))

    def _write_tags(self, repository: Repository, rows: Sequence[R], principal: Principal) -> None:
        numbers = {row.number for row in rows}
        names = [name for name in repository.tags() if (parsed := parse_tag_name(name)) and parsed[1] in numbers]
        empty = repository.write_commit({}, parents=[], author=person(principal), when=seconds(), message=_TEXT)
        changes = []
        for tag in repository.read_tags(sorted(names)):
            message = self.mark_pruned(tag.message, tag.target)
            new = repository.write_tag(replace(tag, target=empty, message=message, sha=""))
            changes.append(RefChange(f"refs/tags/{tag.name}", new, tag.sha))
        repository.update([RefChange(_MARK, empty, None)])
        transitions.crash_point("pruning marked")
        repository.update(changes)

    def _pruned_tags(self, repository: Repository) -> list[tuple[Tag, str]]:
        """Return all tags of pruned proposals, each with the commit that it was on."""
        tags = ((tag, self.pruned_commit(tag.message)) for tag in repository.each_tag())
        return [(tag, commit) for tag, commit in tags if commit is not None]


def before_days(days: float) -> int:
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


def _number(tag: Tag) -> int:
    return int(tag.name.partition("/")[2])


def remove_log(log: Path) -> None:
    """Remove the log of the work on a proposal."""
    for path in log.parent.glob(f"{log.name}*"):  # A long one has two files.
        path.unlink(missing_ok=True)


def audited_objects(db: sqlite3.Connection, subject: str, actions: str = "gate") -> set[str]:
    """Return the ids of the tag objects of a subject that have a row in the audit table."""
    query = "SELECT json_extract(detail, '$.object') FROM audit WHERE subject = ? AND action LIKE ?"
    return {sha for (sha,) in db.execute(query, (subject, f"{actions}.%")) if sha}
