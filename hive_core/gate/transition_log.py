"""The record of transitions: tags, index, audit rows and messages.

The tags are the truth. What is missing in the database after a crash between the two is added from the tags by
`hive_core.gate.pipeline.recovery`. Where the daemon lives on and the database has no space, the tags are removed again,
so that a transition that was refused has not happened.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.gate.notifications import notifications_for
from hive_core.gate.records import index, tag_message, transitions
from hive_core.gate.records.commit import shown_diff
from hive_core.gate.records.index import ProposalRow
from hive_core.gate.records.states import TERMINAL, State, tag_name
from hive_core.gate.records.transitions import MAIN, MoveMain, Notification, Transition, person, seconds
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.infra.concurrency.threads import GATE, READS
from hive_core.infra.database import audit
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.database import Database
from hive_core.infra.database.writer import TEMPORARY_ERRORS
from hive_core.infra.git.comparison.shown_diff import ShownDiff
from hive_core.infra.git.objects import Tag
from hive_core.infra.git.refs import RefChange
from hive_core.infra.git.repository import Repository
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, OutgoingMessage
from hive_core.protocol import Decider
from hive_core.protocol.names import SYSTEM

_SHOWN_NOTE = 2_000
_SHOWN_DIFF = 16 * 1024
"""Bytes of a diff that go with the request for a decision."""

_log = structlog.get_logger(__name__)


class TransitionLog:
    """Records transitions, and wakes the callers that wait for a proposal to change."""

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
        """`on_index_behind` is called with an agent whose tags could neither be written into the index nor be removed.

        `now` gives the time in seconds since 1970.
        """
        self.changed = asyncio.Condition()
        self._on_index_behind = on_index_behind
        self._layout = layout
        self._database = database
        self._directory = directory
        self._broker = broker
        self._events = events
        self._now = now
        self._stopping = asyncio.Event()

    async def record(
        self, agent: str, changes: Sequence[Transition], *, main: MoveMain | None = None, notify: bool = True
    ) -> list[ProposalRow]:
        """Write the tags of all `changes` at once, then their index and audit rows and messages in one transaction.

        The messages are those about the last change of each proposal; none with `notify=False`. The caller must hold
        the agent's lock. A caller that is cancelled waits for the end, so that no tags are left that the database does
        not know.

        Returns:
            The rows of the proposals as written, in the order of their first changes.

        Raises:
            HiveError: `ref_moved` if the agent's tags are not the ones that the caller knew. `disk_full` or
                `database_busy`, and then nothing has happened, except that `main` may have moved to the commit of an
                approved proposal that runs.
        """
        return await shield_to_completion(self._record(agent, changes, main, notify=notify))

    async def _record(
        self, agent: str, changes: Sequence[Transition], main: MoveMain | None, *, notify: bool
    ) -> list[ProposalRow]:
        when = self._now()
        last = {change.data.number: change for change in changes}
        before = await self._database.read(lambda db: {number: index.find(db, agent, number) for number in last})
        notifications: list[Notification] = []
        rows = []
        for number, change in last.items():
            row = before[number]
            if notify:
                notifications += await self.notifications_for(change, was_asked=None if row is None else row.waits_for)
            created_at = when * 1_000 if row is None else row.created_at
            rows.append(
                ProposalRow.from_tag(change.data, change.commit, created_at=created_at, changed_at=when * 1_000)
            )
        shas = await self._plant_tags(agent, changes, main, when)
        transitions.crash_point("tags planted")
        try:
            await self.write_index(agent, rows, list(zip(changes, shas, strict=True)), notifications)
        except HiveError as error:
            if error.code in TEMPORARY_ERRORS and not self._stopping.is_set():
                await self._take_back(agent, changes, shas, main)
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

    async def notifications_for(self, transition: Transition, *, was_asked: Decider | None) -> list[Notification]:
        """Return the messages that go with a transition; `was_asked` is the decider that the proposal waited for."""
        diff = await READS.run(self._read_diff, transition) if _asks_about_diff(transition) else ShownDiff()
        return notifications_for(transition, self._directory.names(), was_asked=was_asked, diff=diff)

    async def _plant_tags(
        self, agent: str, changes: Sequence[Transition], main: MoveMain | None, when: int
    ) -> list[str]:
        """Write the tags and their refs, all or none. Returns the ids of the tag objects."""
        try:
            return await GATE.run(self._write_tags, agent, changes, main, when)
        except _RefsNotUpdated as failure:
            # Some of them may have changed: when the disk is full, also the last steps of git can fail.
            await self._take_back(agent, changes, failure.shas, main)
            raise failure.error from None

    async def _take_back(
        self, agent: str, changes: Sequence[Transition], shas: Sequence[str], main: MoveMain | None
    ) -> None:
        """Remove tags that the database has no space for. If that fails, the index has to be written later."""
        try:
            await GATE.run(self._remove_tags, agent, _ref_changes(changes, shas, main))
        except (HiveError, OSError) as error:
            _log.error("tags are neither in the index nor removed", agent=agent, error=str(error))
            self._on_index_behind(agent)

    async def write_index(
        self,
        agent: str,
        rows: Sequence[ProposalRow],
        written: Sequence[tuple[Transition, str]],
        notifications: Sequence[Notification],
    ) -> None:
        """Store rows, messages and an audit row for each tag `written` with its object's id, in one transaction."""

        def within(db: sqlite3.Connection) -> None:
            index.upsert_all(db, rows)
            for transition, sha in written:
                detail = {"tag": transition.tag, "object": sha, "commit": transition.commit}
                action = f"gate.{transition.marker or transition.data.state.value}"
                audit.append(db, actor=transition.by.actor, action=action, subject=agent, detail=detail)
                if allowed := _newly_allowed(transition):
                    audit.append(db, actor=transition.by.actor, action="allow_fetches", subject=agent, detail=allowed)

        await self._broker.announce(notifications, within)
        for transition, _ in written:
            self._publish(transition)

    async def notify(self, notification: Notification) -> None:
        """Send a message without a transition."""
        await self._broker.announce([notification], lambda _: None)

    async def notify_once(self, notification: Notification, record_sent: Operation[None]) -> None:
        """Send a message without a transition, and record in the same database transaction that it was sent.

        Raises `inbox_full`, `unknown_recipient`.
        """
        to, text = notification
        await self._broker.deliver(OutgoingMessage(SYSTEM, to, lambda _: text), lambda db, _: record_sent(db))

    def _write_tags(self, agent: str, changes: Sequence[Transition], main: MoveMain | None, when: int) -> list[str]:
        with Repository.open(self._layout.applied_repository(agent)) as repository:
            _check_open(repository, changes)
            shas = [repository.write_tag(_tag(change, when)) for change in changes]
            transitions.crash_point("tags written")
            try:
                repository.update(_ref_changes(changes, shas, main))
            except (HiveError, OSError) as error:
                raise _RefsNotUpdated(shas, error) from error
        return shas

    def _remove_tags(self, agent: str, refs: Sequence[RefChange]) -> None:
        with Repository.open(self._layout.applied_repository(agent)) as repository:
            repository.revert(refs)

    def _read_diff(self, transition: Transition) -> ShownDiff:
        with Repository.open(self._layout.applied_repository(transition.data.agent)) as repository:
            return shown_diff(repository, transition.data, transition.commit, _SHOWN_DIFF)

    def _publish(self, transition: Transition) -> None:
        data = transition.data
        fields = {"agent": data.agent, "number": data.number, "kind": data.kind, "state": data.state.value}
        text = data.outcome or data.note
        self._events.publish("proposal.changed", {**fields, "by": transition.by.label, "note": text[:_SHOWN_NOTE]})
        _log.info("proposal", tag=transition.tag, commit=transition.commit, by=transition.by.actor, agent=data.agent)


class _RefsNotUpdated(Exception):
    """The refs for the tag objects `shas` could not all be changed, for the reason `error`."""

    def __init__(self, shas: Sequence[str], error: HiveError | OSError) -> None:
        super().__init__(str(error))
        self.shas = shas
        self.error = error


def _tag(change: Transition, when: int) -> Tag:
    message = tag_message.format_message(change.data, change.by.label, marker=change.marker)
    return Tag(change.tag, change.commit, person(change.by), when, message)


def _ref_changes(changes: Sequence[Transition], shas: Sequence[str], main: MoveMain | None) -> list[RefChange]:
    refs = [RefChange(f"refs/tags/{change.tag}", sha, None) for change, sha in zip(changes, shas, strict=True)]
    # git moves them one after another. If that is cut off by a power cut, recovery sees `approved` on the commit that
    # main is at, and deploys it again.
    return refs if main is None else [RefChange(MAIN, main.new, main.old), *refs]


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


def _check_open(repository: Repository, changes: Sequence[Transition]) -> None:
    """Check that no proposal has a terminal tag, whatever the index says. Raises `ref_moved`."""
    for number in dict.fromkeys(change.data.number for change in changes):
        for state in sorted(TERMINAL):
            tag = tag_name(state, number)
            if repository.resolve(f"refs/tags/{tag}") is not None:
                agent = changes[0].data.agent
                raise conflict("ref_moved", f"{agent}/{number} is {state} already", "look at it as it is now")
