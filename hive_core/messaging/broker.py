"""The broker: requests of senders, harnesses and the operator."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from hive_core.infra.concurrency.fair_queue import FairQueue
from hive_core.infra.concurrency.wakeups import Wakeups
from hive_core.infra.database.connection import Operation
from hive_core.infra.database.database import Database, milliseconds, steady_milliseconds
from hive_core.infra.database.space import DatabaseSpace
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import leases, person_inbox, queue, store
from hive_core.messaging.directory import Directory
from hive_core.messaging.fairness.budgets import SendingBudgets
from hive_core.messaging.fairness.inboxes import Inboxes
from hive_core.messaging.fairness.loops import LONGEST_DELAY
from hive_core.messaging.fairness.pacing import Pacer
from hive_core.messaging.person_inbox import PersonReader
from hive_core.messaging.receiving import Receiver, message, waiting
from hive_core.messaging.sending import OutgoingMessage, Sender
from hive_core.messaging.store import AcknowledgedMessage
from hive_core.protocol import (
    EventKind,
    Inbox,
    InboxAnswer,
    InboxQuery,
    LeaseAnswer,
    LeaseRequest,
    ReceiveAnswer,
    ReceiveRequest,
    ReplyAnswer,
    SendAnswer,
    SendRequest,
)
from hive_core.protocol.names import OPERATOR
from hive_core.protocol.pages import INBOX_BODY
from hive_core.settings import Budgets

T = TypeVar("T")
_DEFAULT_BUDGETS = Budgets()
_NO_LIMIT = 2**62
_LEASE_REQUESTS = 4
"""Requests about leases of one harness that the writer has at a time; further ones wait for these, in order."""
_SPARED_AFTER = 3_600_000
"""Milliseconds after which an acknowledged message can be spared when the database gets full."""


class Broker:
    """Messages from `send` to acknowledgement: at least once, in order per sender and recipient."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        events: EventHub,
        *,
        inbox_limit: int,
        lease_seconds: float,
        budgets: Budgets = _DEFAULT_BUDGETS,
        space: DatabaseSpace | None = None,
        clock: Callable[[], int] = milliseconds,
        steady: Callable[[], int] = steady_milliseconds,
        ticks: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` and `steady` give the time in milliseconds, and `ticks` in seconds from any moment.

        Only `clock` may go back: leases and delays are measured with the others.

        Without `space` the database has no limit.
        """
        self._database = database
        self._directory = directory
        self._events = events
        self._lease = int(lease_seconds * 1_000)
        self._clock = clock
        self._steady = steady
        self._wakeups = Wakeups()
        self._asked: Counter[int] = Counter()
        """The messages of the operator whose answers are waited for, with how many wait."""
        self._lease_requests = FairQueue(_NO_LIMIT, _LEASE_REQUESTS, _NO_LIMIT)
        self._inboxes = Inboxes(inbox_limit, budgets)
        self._budgets = SendingBudgets(budgets, ticks)
        self._pacer = Pacer(budgets.loop_messages_per_minute, steady, ticks)
        self._sender = Sender(
            database,
            directory,
            events,
            self._wakeups,
            inboxes=self._inboxes,
            budgets=self._budgets,
            space=space or DatabaseSpace(database, _NO_LIMIT),
            pacer=self._pacer,
            clock=clock,
        )
        counts = self._inboxes.waiting
        self._receiver = Receiver(
            database, directory, events, self._wakeups, counts, self._pacer, lease=self._lease, clock=steady
        )

    async def open(self) -> None:
        """Read the last message id and the counts of unacknowledged messages; cut leases that end too late.

        The clock may have been set back while no daemon ran.
        """
        now = self._steady()
        latest = (now + self._lease, now + int(LONGEST_DELAY * 1_000))
        if await self._database.read(lambda db: leases.has_late(db, *latest)):
            await self._database.write(lambda db: leases.cut_late(db, *latest))
        await self._sender.open()

    def close(self) -> None:
        """End every long poll at once, also those that begin later."""
        self._wakeups.close()

    async def send(self, sender: str, request: SendRequest, by: PersonReader | None = None) -> SendAnswer:
        """Store a message durably and wake its recipients; raises what `Sender.send` raises."""
        return await self._sender.send(sender, request, by=by)

    async def announce(
        self, notifications: Sequence[tuple[str, str]], within: Operation[T], about: str | None = None
    ) -> T:
        """Carry out `within` and store messages from `system` in the same transaction; see `Sender`."""
        return await self._sender.announce(notifications, within, about)

    async def deliver(
        self, message: OutgoingMessage, within: Callable[[sqlite3.Connection, int], T], *, read: int | None = None
    ) -> T:
        """Carry out `within` and store a message in the same transaction; see `Sender`.

        `read` is the id of a message to the operator that is marked as read with it.
        """
        now = self._clock()

        def operation(db: sqlite3.Connection, number: int) -> tuple[T, AcknowledgedMessage | None]:
            return within(db, number), None if read is None else store.mark_read(db, OPERATOR, read, now)

        result, marked = await self._sender.deliver(message, operation)
        if marked is not None:
            self._settled(OPERATOR, [marked])
        return result

    def charge(self, sender: str, recipient: str, body: str) -> None:
        """Count a message that is stored later in its sender's budgets; raises `database_full`, `sending_too_fast`."""
        self._sender.charge(sender, [recipient], len(body.encode()))
        if sender == recipient:
            self._pacer.set_reminder(sender)

    async def wake_self(self, name: str, body: str, key: str | None) -> SendAnswer:
        """Store a message of an agent to itself, which its list of recipients does not limit."""
        return await self._sender.send(
            name, SendRequest(to=name, body=body, idempotency_key=key), bypass_allowlist=True
        )

    def unacknowledged(self, recipient: str) -> int:
        """Return how many messages wait for `recipient` or are leased by it."""
        return self._inboxes.waiting[recipient]

    @property
    def total_unacknowledged(self) -> int:
        """The number of unacknowledged messages of all recipients."""
        return sum(self._inboxes.waiting.values())

    # --- harnesses ------------------------------------------------------------------------------------------

    async def hello(self, name: str, instance: str) -> None:
        """Make `instance` the current harness of `name`, and release the leases of earlier ones."""
        member = self._directory.member(name)
        if member.instance == instance:
            return
        released = await self._database.write(lambda db: leases.take_over(db, name, instance))
        member.instance = instance
        self._pacer.detector.restarted(name)
        self._notify("message.released", name, released)
        self._wakeups.wake(name)

    async def receive(self, name: str, request: ReceiveRequest) -> ReceiveAnswer:
        """Lease waiting messages to the harness of `name`, or wait for one; see `Receiver`."""
        return await self._receiver.receive(name, request)

    async def acknowledge(self, name: str, instance: str, ids: Sequence[int]) -> LeaseAnswer:
        """Acknowledge messages whose turn ended well: they are never handed out again."""
        self._directory.check_instance(name, instance)
        async with self._lease_requests.slot(name):
            return await self._finish(name, instance, ids)

    async def release(self, name: str, request: LeaseRequest) -> LeaseAnswer:
        """Release leases: the messages are handed out again at once."""
        self._directory.check_instance(name, request.instance)
        ids = await self._change_leases(name, request, until=None)
        self._pacer.detector.released(name, ids)
        self._notify("message.released", name, ids)
        self._wakeups.wake(name)
        return LeaseAnswer(ids=ids)

    async def renew(self, name: str, request: LeaseRequest) -> LeaseAnswer:
        """Renew leases for another lease time."""
        self._directory.check_instance(name, request.instance)
        return LeaseAnswer(ids=await self._change_leases(name, request, until=self._steady() + self._lease))

    async def peek(self, name: str, limit: int) -> Inbox:
        """Return the unacknowledged messages of `name`, the oldest first, without leasing them."""
        now = self._steady()
        found = await self._database.scan(
            lambda db: [waiting(row) for row in store.peek(db, name, limit, INBOX_BODY, now)]
        )
        return Inbox(messages=found, total=self.unacknowledged(name))

    # --- the queue -------------------------------------------------------------------------------------------

    async def remove_waiting(self, name: str, number: int, reason: str, actor: str) -> None:
        """Take a waiting message out of the inbox of `name`, and tell its sender; see `queue.remove`."""
        told = await self._notices(name, number, "removed", reason)
        now, clock = self._steady(), self._clock()
        removed = await self.announce(
            told, lambda db: queue.remove(db, name, number, now, clock=clock, actor=actor, reason=reason)
        )
        self._settled(name, [removed])

    async def edit_waiting(self, name: str, number: int, body: str, actor: str) -> None:
        """Replace the text of a waiting message, and tell its sender; see `queue.edit`."""
        told = await self._notices(name, number, "edited")
        now = self._steady()
        edited = await self.announce(told, lambda db: queue.edit(db, name, number, now, actor=actor, body=body))
        self._inboxes.remove(edited.before.charged, name, edited.before.size)
        self._inboxes.add(edited.after.charged, [name], edited.after.size)
        self._wakeups.wake(name)

    async def move_waiting(self, name: str, number: int, before: int | None, actor: str) -> None:
        """Move a waiting message before another one, or to the end; see `queue.move`."""
        now = self._steady()
        await self._database.write(lambda db: queue.move(db, name, number, now, actor=actor, before=before))
        self._wakeups.wake(name)

    async def _notices(self, name: str, number: int, what: str, reason: str = "") -> list[tuple[str, str]]:
        now = self._steady()
        found = await self._database.read(lambda db: queue.find(db, name, number, now))
        return queue.notices(found, name, what, reason)

    # --- the operator ---------------------------------------------------------------------------------------

    async def inbox(self, query: InboxQuery) -> InboxAnswer:
        """Return the newest of the operator's messages; a query `before` these returns older ones."""
        unread = query.view == "unread"
        limit, before = query.limit, query.before
        found = await self._database.scan(
            lambda db: [
                message(row) for row in store.read_messages(db, OPERATOR, unread=unread, limit=limit, before=before)
            ]
        )
        return InboxAnswer(messages=found, unread=self.unacknowledged(OPERATOR))

    async def mark_read(self, ids: Sequence[int]) -> LeaseAnswer:
        """Mark messages of the operator as read."""
        return await self._finish(OPERATOR, None, ids)

    async def inbox_of(self, reader: PersonReader, query: InboxQuery) -> InboxAnswer:
        """Return the newest of a person's messages; see `person_inbox`."""
        unread, limit, before = query.view == "unread", query.limit, query.before
        rows, total = await self._database.scan(
            lambda db: person_inbox.read(db, reader, unread=unread, limit=limit, before=before)
        )
        return InboxAnswer(messages=[message(row) for row in rows], unread=total)

    async def mark_read_by(self, reader: PersonReader, ids: Sequence[int]) -> LeaseAnswer:
        """Mark messages of a person as read, for whom they are then also read in the operator's inbox on the host."""
        chosen = list(dict.fromkeys(ids))
        done = await self._database.write(lambda db: person_inbox.mark_read(db, reader, chosen))
        await self._finish(OPERATOR, None, done)
        return LeaseAnswer(ids=done)

    async def wait_reply(self, number: int, wait_seconds: float, person: str | None = None) -> ReplyAnswer:
        """Wait for the answer to a message of the operator, or until none is to come; raises `unknown_message`.

        With `person`, only that person's messages are known.
        """
        asked = await self._database.read(lambda db: store.find_message(db, number))
        if asked is None or asked.sender != OPERATOR:
            raise store.unknown_message(number)
        if person is not None and not await self._database.read(lambda db: person_inbox.has_sent(db, person, number)):
            raise store.unknown_message(number)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        self._asked[number] += 1
        try:
            with self._wakeups.add_waiter(OPERATOR) as waiter:
                while True:
                    row, handled = await self._database.read(lambda db: store.find_answer(db, asked))
                    if row is not None or handled or loop.time() >= deadline or self._wakeups.closed:
                        return ReplyAnswer(reply=message(row) if row else None, handled=handled)
                    await waiter.wait(deadline - loop.time())
        finally:
            self._asked -= Counter([number])

    # --- maintenance ---------------------------------------------------------------------------------------------

    def delete_agent(self, db: sqlite3.Connection, name: str) -> int:
        """Remove every message for `name`; returns how many of them were not acknowledged.

        The caller must call `was_deleted` when its transaction is committed.
        """
        return store.forget(db, name)

    def was_deleted(self, name: str) -> None:
        """Count the messages for `name` as removed."""
        self._inboxes.forget(name)
        self._budgets.forget(name)
        self._pacer.forget(name)

    async def vacuum(self, retention_days: float, batch: int = 500) -> int:
        """Remove messages acknowledged longer ago; one batch at a time, so that sends are stored in between."""
        before = self._clock() - int(retention_days * 86_400_000)
        removed = 0
        while True:
            count = await self._database.write(lambda db: store.vacuum(db, before, batch))
            removed += count
            if count < batch:
                return removed

    async def spare(self, batch: int = 500) -> int:
        """Remove some of the longest acknowledged messages before their time; returns how many.

        Those of the last hour are kept, so that repeated sends still find their idempotency keys.
        """
        before = self._clock() - _SPARED_AFTER
        return await self._database.write(lambda db: store.vacuum(db, before, batch))

    # ---------------------------------------------------------------------------------------------------------

    async def _finish(self, name: str, instance: str | None, ids: Sequence[int]) -> LeaseAnswer:
        now, chosen = self._clock(), list(dict.fromkeys(ids))
        done = await self._database.write(lambda db: leases.acknowledge(db, name, instance, chosen, now))
        self._settled(name, done)
        return LeaseAnswer(ids=[acknowledged.id for acknowledged in done])

    def _settled(self, name: str, done: Sequence[AcknowledgedMessage]) -> None:
        if not done:
            return  # A repeated acknowledgement must not end the chain of what was handled last.
        for acknowledged in done:
            self._inboxes.remove(acknowledged.charged, name, acknowledged.size)
        ids = [acknowledged.id for acknowledged in done]
        if self._asked and not self._asked.keys().isdisjoint(ids):
            self._wakeups.wake(OPERATOR)
        self._pacer.acknowledged(name, ids)
        self._notify("message.acknowledged", name, ids)

    async def _change_leases(self, name: str, request: LeaseRequest, until: int | None) -> list[int]:
        ids = None if request.ids is None else list(dict.fromkeys(request.ids))
        async with self._lease_requests.slot(name):
            return await self._database.write(lambda db: leases.renew(db, name, request.instance, ids, until))

    def _notify(self, kind: EventKind, name: str, ids: Sequence[int]) -> None:
        if ids:
            self._events.publish(kind, {"agent": name, "ids": list(ids)})
