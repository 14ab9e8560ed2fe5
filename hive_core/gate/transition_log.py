"""The record of the transitions of configurations: what `TagLog` needs to know of agents and their proposals."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from hive_core.gate.notifications import notifications_for
from hive_core.gate.records import index, tag_message
from hive_core.gate.records.commit import shown_diff
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import State
from hive_core.gate.records.transitions import Notification, Transition, seconds
from hive_core.gate.subject.tag_log import TagLog
from hive_core.infra.concurrency.threads import READS
from hive_core.infra.database import audit
from hive_core.infra.database.database import Database
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.repository import Repository
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.protocol import Decider

_SHOWN_NOTE = 2_000
_SHOWN_DIFF = 16 * 1024
"""Bytes of a diff that go with the request for a decision."""

_log = structlog.get_logger(__name__)


class TransitionLog(TagLog[Transition, ProposalRow]):
    """Records the transitions of configurations. The subjects are agents."""

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
        return self._layout.applied_repository(subject)

    def find(self, db: sqlite3.Connection, subject: str, number: int) -> ProposalRow | None:
        return index.find(db, subject, number)

    def upsert_all(self, db: sqlite3.Connection, rows: Sequence[ProposalRow]) -> None:
        index.upsert_all(db, rows)

    def row_after(self, change: Transition, before: ProposalRow | None, when: int) -> ProposalRow:
        created_at = when if before is None else before.created_at
        return ProposalRow.from_tag(change.data, change.commit, created_at=created_at, changed_at=when)

    def message(self, change: Transition) -> str:
        return tag_message.format_message(change.data, change.by.label, marker=change.marker)

    def append_audit(self, db: sqlite3.Connection, subject: str, change: Transition, sha: str) -> None:
        detail = {"tag": change.tag, "object": sha, "commit": change.commit}
        action = f"gate.{change.marker or change.data.state.value}"
        audit.append(db, actor=change.by.actor, action=action, subject=subject, detail=detail)
        if allowed := _newly_allowed(change):
            audit.append(db, actor=change.by.actor, action="allow_fetches", subject=subject, detail=allowed)

    async def notifications_after(self, change: Transition, before: ProposalRow | None) -> list[Notification]:
        return await self.notifications_for(change, was_asked=None if before is None else before.waits_for)

    async def notifications_for(self, transition: Transition, *, was_asked: Decider | None) -> list[Notification]:
        """Return the messages that go with a transition; `was_asked` is the decider that the proposal waited for."""
        diff = await READS.run(self._read_diff, transition) if _asks_about_diff(transition) else ShownDiff()
        return notifications_for(transition, self._directory.names(), was_asked=was_asked, diff=diff)

    def about(self, row: ProposalRow) -> str:
        return row.agent

    def publish(self, change: Transition) -> None:
        data = change.data
        fields = {"agent": data.agent, "number": data.number, "kind": data.kind, "state": data.state.value}
        text = data.outcome or data.note
        self._events.publish("proposal.changed", {**fields, "by": change.by.label, "note": text[:_SHOWN_NOTE]})
        _log.info("proposal", tag=change.tag, commit=change.commit, by=change.by.actor, agent=data.agent)

    def _read_diff(self, transition: Transition) -> ShownDiff:
        with Repository.open(self.repository(transition.data.agent)) as repository:
            return shown_diff(repository, transition.data, transition.commit, _SHOWN_DIFF)


def _newly_allowed(transition: Transition) -> dict[str, object]:
    """Return the details of a permission for fetches if this transition is the one that gave it; else nothing."""
    data = transition.data
    permission = data.allowed_fetches
    if permission is None or data.state is not State.PROPOSAL or permission.number != data.number:
        return {}
    return {
        "failed": permission.failed,
        "number": data.number,
        "commit": transition.commit,
        "derivations": sorted(permission.derivations),
    }


def _asks_about_diff(transition: Transition) -> bool:
    data = transition.data
    asks = data.state is State.BUILT and data.waits_for is not None and not transition.marker
    return asks and data.kind != "destroy"
