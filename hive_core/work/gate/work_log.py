"""The record of the transitions of work: what `TagLog` needs to know of repositories and their proposals."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from hive_core.gate.policy import name_from_label
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Notification, seconds
from hive_core.gate.subject.tag_log import TagLog
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.repository import Repository
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.work.gate.notifications import notifications_for
from hive_core.work.gate.records import index, work_tag
from hive_core.work.gate.records.changes import read_diff
from hive_core.work.gate.records.index import WorkRow
from hive_core.work.gate.records.work_tag import WorkChange

_SHOWN_DIFF = 16 * 1024
"""Bytes of a diff that go with the request for a decision."""
_SHOWN_TITLE = 200

_log = structlog.get_logger(__name__)


class WorkLog(TagLog[WorkChange, WorkRow]):
    """Records the transitions of work. The subjects are repositories."""

    def __init__(
        self,
        layout: Layout,
        database: Database,
        directory: Directory,
        broker: Broker,
        events: EventHub,
        on_index_behind: Callable[[str], None],
        now: Callable[[], int] = seconds,
    ) -> None:
        super().__init__(database, broker, on_index_behind, now)
        self._layout = layout
        self._directory = directory
        self._events = events

    def repository(self, subject: str) -> Path:
        return self._layout.work_repository(subject)

    def find(self, db: sqlite3.Connection, subject: str, number: int) -> WorkRow | None:
        return index.find(db, subject, number)

    def upsert_all(self, db: sqlite3.Connection, rows: Sequence[WorkRow]) -> None:
        index.upsert_all(db, rows)

    def row_after(self, change: WorkChange, before: WorkRow | None, when: int) -> WorkRow:
        created_at = when if before is None else before.created_at
        return WorkRow.from_tag(change.data, change.commit, created_at=created_at, changed_at=when)

    def message(self, change: WorkChange) -> str:
        return work_tag.format_message(change)

    def append_audit(self, db: sqlite3.Connection, subject: str, change: WorkChange, sha: str) -> None:
        detail: dict[str, object] = {"tag": change.tag, "object": sha, "commit": change.commit}
        if change.data.landed is not None:
            detail["landed"] = change.data.landed
        action = f"work.{change.marker or change.data.state.value}"
        audit.append(db, actor=change.by.actor, action=action, subject=subject, detail=detail)

    async def notifications_after(self, change: WorkChange, before: WorkRow | None) -> list[Notification]:
        return await self.notifications_for(change, was_asked=None if before is None else before.waits_for)

    async def notifications_for(self, change: WorkChange, *, was_asked: str | None) -> list[Notification]:
        """Return the messages that go with a change; `was_asked` is the decider that the work waited for."""
        asks = change.data.state is State.BUILT
        diff = await READS.run(self._read_diff, change) if asks else ShownDiff()
        return notifications_for(change, self._directory.names(), was_asked=was_asked, diff=diff)

    def about(self, row: WorkRow) -> str:
        return name_from_label(row.by)

    def publish(self, change: WorkChange) -> None:
        data = change.data
        submitter = name_from_label(data.by)
        fields = {"repo": data.repo, "number": data.number, "state": data.state.value, "by": change.by.label}
        title = data.title[:_SHOWN_TITLE]
        self._events.publish("work.changed", {**fields, "submitter": submitter, "title": title})
        _log.info("work", tag=change.tag, commit=change.commit, by=change.by.actor, repo=data.repo)

    def _read_diff(self, change: WorkChange) -> ShownDiff:
        with Repository.open(self.repository(change.data.repo)) as repository:
            return read_diff(repository, change.data.base, change.commit, _SHOWN_DIFF)
