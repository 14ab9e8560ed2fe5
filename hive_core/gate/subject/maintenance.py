"""Expiry of proposals, and the rebuild of their index from the tags, for any subject."""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

import structlog

from hive_core.errors import HiveError
from hive_core.gate.records.states import IllegalHistory, State
from hive_core.gate.records.transitions import seconds
from hive_core.gate.subject.row import SubjectRow
from hive_core.gate.subject.work import SubjectWork, as_request
from hive_core.infra.concurrency.threads import GATE, READS
from hive_core.infra.database.database import Database
from hive_core.infra.git.repository import Repository

_log = structlog.get_logger(__name__)

_LONGEST_PAUSE = 600.0


R = TypeVar("R", bound=SubjectRow)


@dataclass(frozen=True)
class SubjectIndex(Generic[R]):
    """The functions of the table of one kind of proposals.

    `repository` is what a repository with their tags is called; `read` returns the rows that follow from one.
    """

    repository: str
    subject_of: Callable[[R], str]
    of_subject: Callable[[sqlite3.Connection, str], list[R]]
    replace_all: Callable[[sqlite3.Connection, str, Sequence[R]], None]
    delete_rows: Callable[[sqlite3.Connection, str], None]
    subjects: Callable[[sqlite3.Connection], set[str]]
    expired: Callable[[sqlite3.Connection, int], list[R]]
    read: Callable[[Repository], list[R]]


@dataclass(frozen=True)
class Reindexed:
    """The numbers of subjects with a repository, of proposals, and of the rows that were corrected."""

    subjects: int
    proposals: int
    changed: int


class SubjectMaintenance(ABC, Generic[R]):
    """Expires the proposals of one kind, and rebuilds their index from the tags."""

    def __init__(self, context: SubjectWork, database: Database, index: SubjectIndex[R], *, days: float) -> None:
        self._context = context
        self._database = database
        self._index = index
        self._days = days

    @abstractmethod
    def list_repositories(self) -> set[str]:
        """Return the subjects that have a repository with tags, existing ones and others."""

    @abstractmethod
    async def row(self, subject: str, number: int) -> R:
        """Return the row of a proposal. Raises HiveError if it is unknown."""

    @abstractmethod
    async def withdraw_expired(self, row: R) -> None:
        """Withdraw a proposal because nobody has decided on it. The subject's lock is held."""

    async def expire(self) -> None:
        """Withdraw proposals on which nobody has decided in time, until cancelled."""
        pause = min(_LONGEST_PAUSE, self._days * 86_400 / 4)
        while True:
            await asyncio.sleep(pause)
            await self.expire_now()
            await self.clean_up()

    async def clean_up(self) -> None:
        """Do what else is due from time to time; nothing by default."""

    async def expire_now(self) -> None:
        """Withdraw the proposals that have expired."""
        for row in await self._database.read(lambda db: self._index.expired(db, seconds() * 1_000)):
            subject = self._index.subject_of(row)
            try:
                async with self._context.locks[subject]:
                    now = await self.row(subject, row.number)
                    if now.state in (State.PROPOSAL, State.BUILT):
                        await self.withdraw_expired(now)
            except (HiveError, OSError) as error:
                _log.error("proposal not expired", subject=subject, number=row.number, error=str(error))

    @as_request
    async def reindex(self) -> Reindexed:
        """Rebuild the index of all subjects. Raises `repository_damaged` after the others are done."""
        context, found = self._context, self.list_repositories()
        count = changed = 0
        damaged = []
        for subject in sorted(found):
            try:
                rows, corrected = await self._rebuild(subject)
                count, changed = count + rows, changed + corrected
            except (IllegalHistory, ValueError) as error:
                damaged.append(f"{subject}: {error}")
            except HiveError as error:
                if error.code != "repository_missing":
                    raise
                found.discard(subject)  # It was removed since it was listed.
        for subject in sorted(await self._database.read(self._index.subjects) - found):
            async with context.locks[subject]:
                if await GATE.run(context.repository(subject).is_dir):
                    continue  # It was made since the repositories were listed, and its rows are right.
                changed += len(await self._database.read(partial(self._rows_of, subject)))
                await self._database.write(partial(self._delete, subject))
        await context.notify_waiters()
        if damaged:
            why = f"tags that are not the gate's, in the {self._index.repository} of {'; '.join(damaged)}"
            hint = "see them with git tag, and hive-c0re audit verify; the index of the others was made anew"
            raise HiveError("repository_damaged", why, hint=hint, status=500)
        return Reindexed(len(found), count, changed)

    async def _rebuild(self, subject: str) -> tuple[int, int]:
        """Rebuild the index of one subject; returns the numbers of its proposals and of the corrected rows."""
        context, database = self._context, self._database
        async with context.locks[subject]:
            rows = await context.in_repository(subject, self._index.read, READS)
            old = {row.number: row for row in await database.read(partial(self._rows_of, subject))}
            new = {row.number: row for row in rows}
            await database.write(lambda db: self._index.replace_all(db, subject, rows))
        return len(rows), sum(old.get(number) != new.get(number) for number in old.keys() | new.keys())

    def _rows_of(self, subject: str, db: sqlite3.Connection) -> list[R]:
        return self._index.of_subject(db, subject)

    def _delete(self, subject: str, db: sqlite3.Connection) -> None:
        self._index.delete_rows(db, subject)
