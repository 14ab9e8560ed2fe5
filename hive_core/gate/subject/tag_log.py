"""The record of transitions of any subject, an agent or a repository: tags, index, audit rows and messages.

The tags are the truth. What is missing in the database after a crash between the two is added from the tags by
recovery. Where the daemon lives on and the database has no space, the tags are removed again, so that a transition that
was refused has not happened.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.gate.policy import Principal
from hive_core.gate.records import transitions
from hive_core.gate.records.states import TERMINAL, State, tag_name
from hive_core.gate.records.transitions import MAIN, MoveMain, Notification, person, seconds
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import GATE
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.database import Database
from hive_core.infra.database.writer import TEMPORARY_ERRORS
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.messaging import Broker, OutgoingMessage
from hive_core.protocol.names import SYSTEM

_log = structlog.get_logger(__name__)


class TagData(Protocol):
    """The data of a tag of any kind of proposal."""

    @property
    def number(self) -> int:
        """The number of the proposal."""

    @property
    def state(self) -> State:
        """The state that the tag records."""


class RecordedChange(Protocol):
    """A tag to be written, of any kind of proposal; see `Transition`."""

    @property
    def data(self) -> TagData:
        """The data of the tag."""

    @property
    def commit(self) -> str:
        """The commit that the tag is on."""

    @property
    def by(self) -> Principal:
        """The party that causes the transition."""

    @property
    def marker(self) -> str:
        """The word that replaces the state in the tag's name, or ""."""

    @property
    def tag(self) -> str:
        """The name of the tag."""


C = TypeVar("C", bound=RecordedChange)
R = TypeVar("R")


class TagLog(ABC, Generic[C, R]):
    """Records transitions, and wakes the callers that wait for a proposal to change.

    `C` are the transitions and `R` the rows of the index.
    """

    def __init__(
        self,
        database: Database,
        broker: Broker,
        on_index_behind: Callable[[str], None],
        now: Callable[[], int] = seconds,
    ) -> None:
        """`on_index_behind` is called with a subject whose tags could neither be written into the index nor be removed.

        `now` gives the time in seconds since 1970.
        """
        self.changed = asyncio.Condition()
        self._on_index_behind = on_index_behind
        self._database = database
        self._broker = broker
        self._now = now
        self._stopping = asyncio.Event()

    @abstractmethod
    def repository(self, subject: str) -> Path:
        """Return the repository that holds the tags of a subject."""

    @abstractmethod
    def find(self, db: sqlite3.Connection, subject: str, number: int) -> R | None:
        """Return the row of a proposal, or None."""

    @abstractmethod
    def upsert_all(self, db: sqlite3.Connection, rows: Sequence[R]) -> None:
        """Store rows in the index."""

    @abstractmethod
    def row_after(self, change: C, before: R | None, when: int) -> R:
        """Return the row of a proposal after a change at the time `when`, in milliseconds since 1970."""

    @abstractmethod
    def message(self, change: C) -> str:
        """Return the message of the tag."""

    @abstractmethod
    def append_audit(self, db: sqlite3.Connection, subject: str, change: C, sha: str) -> None:
        """Audit a change, whose tag object has the id `sha`."""

    @abstractmethod
    async def notifications_after(self, change: C, before: R | None) -> list[Notification]:
        """Return the messages that go with a change of a proposal with the row `before`."""

    @abstractmethod
    def publish(self, change: C) -> None:
        """Publish the event of a change that is recorded."""

    @abstractmethod
    def about(self, row: R) -> str:
        """Return the agent that a proposal is about, or that has made it."""

    async def record(
        self, subject: str, changes: Sequence[C], *, main: MoveMain | None = None, notify: bool = True
    ) -> list[R]:
        """Write the tags of all `changes` at once, then their index and audit rows and messages in one transaction.

        The messages are those about the last change of each proposal; none with `notify=False`. The caller must hold
        the subject's lock. A caller that is cancelled waits for the end, so that no tags are left that the database
        does not know.

        Returns:
            The rows of the proposals as written, in the order of their first changes.

        Raises:
            HiveError: `ref_moved` if the subject's tags are not the ones that the caller knew. `disk_full` or
                `database_busy`, and then nothing has happened, except that `main` may have moved to the commit of an
                approved proposal that runs.
        """
        return await shield_to_completion(self._record(subject, changes, main, notify=notify))

    async def _record(self, subject: str, changes: Sequence[C], main: MoveMain | None, *, notify: bool) -> list[R]:
        when = self._now()
        last = {change.data.number: change for change in changes}
        before = await self._database.read(lambda db: {number: self.find(db, subject, number) for number in last})
        notifications: list[Notification] = []
        rows = []
        for number, change in last.items():
            if notify:
                notifications += await self.notifications_after(change, before[number])
            rows.append(self.row_after(change, before[number], when * 1_000))
        shas = await self._plant_tags(subject, changes, main, when)
        transitions.crash_point("tags planted")
        try:
            await self.write_index(subject, rows, list(zip(changes, shas, strict=True)), notifications)
        except HiveError as error:
            if error.code in TEMPORARY_ERRORS and not self._stopping.is_set():
                await self._take_back(subject, changes, shas, main)
            raise
        transitions.crash_point("index written")
        await self.notify_waiters()
        return rows

    def stop(self) -> None:
        """Remove no more tags: the next start adds what the database misses of them."""
        self._stopping.set()

    async def notify_waiters(self) -> None:
        """Wake everyone who waits for a proposal to change."""
        async with self.changed:
            self.changed.notify_all()

    async def write_index(
        self,
        subject: str,
        rows: Sequence[R],
        written: Sequence[tuple[C, str]],
        notifications: Sequence[Notification],
    ) -> None:
        """Store rows, messages and an audit row for each tag `written` with its object's id, in one transaction."""

        def within(db: sqlite3.Connection) -> None:
            self.upsert_all(db, rows)
            for change, sha in written:
                self.append_audit(db, subject, change, sha)

        await self._broker.announce(notifications, within, self.about(rows[0]) if rows else None)
        for change, _ in written:
            self.publish(change)

    async def notify(self, notification: Notification, about: str | None = None) -> None:
        """Send a message without a transition; `about` is the agent that it is about."""
        await self._broker.announce([notification], lambda _: None, about)

    async def notify_once(self, notification: Notification, record_sent: Operation[None]) -> None:
        """Send a message without a transition, and record in the same database transaction that it was sent.

        Raises `inbox_full`, `unknown_recipient`.
        """
        to, text = notification
        await self._broker.deliver(OutgoingMessage(SYSTEM, to, lambda _: text), lambda db, _: record_sent(db))

    async def _plant_tags(self, subject: str, changes: Sequence[C], main: MoveMain | None, when: int) -> list[str]:
        """Write the tags and their refs, all or none. Returns the ids of the tag objects."""
        try:
            return await GATE.run(self._write_tags, subject, changes, main, when)
        except _RefsNotUpdated as failure:
            # Some of them may have changed: when the disk is full, also the last steps of git can fail.
            await self._take_back(subject, changes, failure.shas, main)
            raise failure.error from None

    async def _take_back(self, subject: str, changes: Sequence[C], shas: Sequence[str], main: MoveMain | None) -> None:
        """Remove tags that the database has no space for. If that fails, the index has to be written later."""
        try:
            await GATE.run(self._remove_tags, subject, _ref_changes(changes, shas, main))
        except (HiveError, OSError) as error:
            _log.error("tags are neither in the index nor removed", subject=subject, error=str(error))
            self._on_index_behind(subject)

    def _write_tags(self, subject: str, changes: Sequence[C], main: MoveMain | None, when: int) -> list[str]:
        with Repository.open(self.repository(subject)) as repository:
            _check_open(repository, subject, changes)
            shas = [repository.write_tag(self._tag(change, when)) for change in changes]
            transitions.crash_point("tags written")
            try:
                repository.update(_ref_changes(changes, shas, main))
            except (HiveError, OSError) as error:
                raise _RefsNotUpdated(shas, error) from error
        return shas

    def _tag(self, change: C, when: int) -> Tag:
        return Tag(change.tag, change.commit, person(change.by), when, self.message(change))

    def _remove_tags(self, subject: str, refs: Sequence[RefChange]) -> None:
        with Repository.open(self.repository(subject)) as repository:
            repository.revert(refs)


class _RefsNotUpdated(Exception):
    """The refs for the tag objects `shas` could not all be changed, for the reason `error`."""

    def __init__(self, shas: Sequence[str], error: HiveError | OSError) -> None:
        super().__init__(str(error))
        self.shas = shas
        self.error = error


def _ref_changes(changes: Sequence[C], shas: Sequence[str], main: MoveMain | None) -> list[RefChange]:
    refs = [RefChange(f"refs/tags/{change.tag}", sha, None) for change, sha in zip(changes, shas, strict=True)]
    # git moves them one after another. If that is cut off by a power cut, recovery sees `approved` on the commit that
    # main is at, and deploys it again.
    return refs if main is None else [RefChange(MAIN, main.new, main.old), *refs]


def _check_open(repository: Repository, subject: str, changes: Sequence[C]) -> None:
    """Check that no proposal whose state changes has a terminal tag, whatever the index says. Raises `ref_moved`."""
    for number in dict.fromkeys(change.data.number for change in changes if not _is_addition(change)):
        for state in sorted(TERMINAL):
            tag = tag_name(state, number)
            if repository.resolve(f"refs/tags/{tag}") is not None:
                raise conflict("ref_moved", f"{subject}/{number} is {state} already", "look at it as it is now")


def _is_addition(change: RecordedChange) -> bool:
    """Return True for a tag that says more of a proposal that has ended."""
    return bool(change.marker) and change.data.state in TERMINAL
