"""Reminders, and the messages that deliver them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

from hive_core.errors import HiveError, bad_request, conflict, not_found
from hive_core.infra.concurrency.tasks import KeyedLocks
from hive_core.infra.database.database import Database, milliseconds
from hive_core.messaging import question_store as store
from hive_core.messaging.broker import Broker
from hive_core.messaging.question_store import ReminderRow, check_exists, format_time
from hive_core.messaging.sending import OutgoingMessage
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import MAX_BODY_BYTES, Reminder, ReminderList, RemindersQuery, RemindRequest
from hive_core.protocol.messaging.questions import LONGEST_AHEAD
from hive_core.text import Quoted

MOST_WAITING = 100
"""Reminders of one agent that are still to come."""


class Reminders:
    """The agents' reminders. Each is delivered once, also if the daemon was restarted meanwhile."""

    def __init__(self, database: Database, broker: Broker, clock: Callable[[], int] = milliseconds) -> None:
        """`clock` gives the time in milliseconds."""
        self.changed: Callable[[], None] = lambda: None
        """Called when there is a new reminder."""
        self._database = database
        self._broker = broker
        self._clock = clock
        self._keys = KeyedLocks()

    async def remind(self, agent: str, request: RemindRequest) -> Reminder:
        """Store a reminder.

        Raises `invalid_request` for a time that is missing, named twice or too far ahead, `too_many_reminders`,
        `database_full`, `sending_too_fast`, `idempotency_conflict` when the key was used for another one, and
        `unknown_agent` if the agent is destroyed meanwhile.
        """
        now = self._clock()
        due_at = _due_at(request, now)
        if due_at > now + LONGEST_AHEAD * 1_000:
            days = int(LONGEST_AHEAD // 86_400)
            raise bad_request(f"the time lies more than {days} days ahead", "choose an earlier one")
        key = request.idempotency_key
        if key is None:
            return await self._keep(agent, due_at, request.text, None, now)
        async with self._keys.hold((agent, key)):
            earlier = await self._database.read(lambda db: store.find_reminder_by_key(db, agent, key))
            if earlier is None:
                return await self._keep(agent, due_at, request.text, key, now)
            if (earlier.text, earlier.due_at) != (request.text, _due_at(request, earlier.created_at)):
                raise conflict(
                    "idempotency_conflict",
                    f"the key was used for another reminder, number {earlier.id}",
                    "use a new key for a new reminder",
                )
            return earlier.to_protocol()

    async def cancel(self, agent: str, number: int) -> Reminder:
        """Cancel a reminder that is still to come; raises `unknown_reminder`."""
        now = self._clock()

        def operation(db: sqlite3.Connection) -> ReminderRow | None:
            return store.find_reminder(db, agent, number) if store.end_reminder(db, agent, number, now) else None

        row = await self._database.write(operation)
        if row is None:
            raise not_found(
                "unknown_reminder", f"there is no reminder {number} of yours to come", "it may have come already"
            )
        return row.to_protocol()

    async def fire(self, row: ReminderRow) -> None:
        """Deliver a due reminder, unless it was cancelled meanwhile.

        Raises `inbox_full`, `too_many_waiting`, and `unknown_recipient` if the agent is gone.
        """
        now = self._clock()
        message = OutgoingMessage(row.agent, row.agent, lambda _: reminder_message(row), charged=True)

        def within(db: sqlite3.Connection, _: int) -> None:
            if not store.end_reminder(db, row.agent, row.id, now):
                raise _Gone

        try:
            await self._broker.deliver(message, within)
        except _Gone:
            return

    async def listing(self, query: RemindersQuery, sees: Sight = EVERYTHING) -> ReminderList:
        """Return reminders that are still to come, the next one first."""
        rows, total = await self._database.read(lambda db: store.select_reminders(db, query, sees))
        return ReminderList(reminders=[row.to_protocol() for row in rows], total=total)

    async def waiting_of(self, agent: str) -> list[Reminder]:
        """Return the agent's reminders that are still to come, the next one first."""
        return [
            row.to_protocol() for row in await self._database.read(lambda db: store.waiting_reminders_of(db, agent))
        ]

    async def _keep(self, agent: str, due_at: int, text: str, key: str | None, now: int) -> Reminder:
        self._broker.charge(agent, agent, text)

        def operation(db: sqlite3.Connection) -> ReminderRow:
            check_exists(db, agent)
            if len(store.waiting_reminders_of(db, agent)) >= MOST_WAITING:
                raise HiveError(
                    "too_many_reminders",
                    f"{MOST_WAITING} reminders of {agent} are still to come",
                    hint="cancel one that is not needed any more",
                    status=429,
                )
            return store.insert_reminder(db, agent, due_at, text, key, now)

        row = await self._database.write(operation)
        self.changed()
        return row.to_protocol()


class _Gone(Exception):
    """The reminder was delivered or cancelled already."""


def _due_at(request: RemindRequest, now: int) -> int:
    """Return the time of a reminder that is requested at `now`; a time in the past counts as now."""
    if request.after is not None and request.at is None:
        return now + int(request.after * 1_000)
    if request.at is not None and request.after is None:
        return max(now, int(request.at.timestamp() * 1_000))
    raise bad_request("a reminder has one time", "give one of at and after")


def reminder_message(row: ReminderRow) -> str:
    """Return the message with which an agent is reminded."""
    head = f"Reminder {row.id}, which you set at {format_time(row.created_at)} for {format_time(row.due_at)}:"
    return f"{head}\n\n{Quoted(row.text).block(MAX_BODY_BYTES)}"
