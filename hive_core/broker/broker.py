"""The broker's promises: what a sender, a harness and the operator can ask of it."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

from hive_core.broker import leases, store
from hive_core.broker.bells import Bells, Ring
from hive_core.broker.directory import Directory
from hive_core.broker.leases import Leased
from hive_core.broker.polls import Polls
from hive_core.broker.sending import Sending
from hive_core.broker.store import MessageRow
from hive_core.database import Database
from hive_core.errors import HiveError
from hive_core.events import EventHub
from hive_core.names import OPERATOR
from hive_core.protocol import (
    Delivery,
    EventKind,
    InboxAnswer,
    InboxQuery,
    LeaseAnswer,
    LeaseRequest,
    Message,
    ReceiveAnswer,
    ReceiveRequest,
    ReplyAnswer,
    SendAnswer,
    SendRequest,
)


def _milliseconds() -> int:
    return time.time_ns() // 1_000_000


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
        clock: Callable[[], int] = _milliseconds,
    ) -> None:
        """`clock` gives the time in milliseconds."""
        self._database = database
        self._directory = directory
        self._events = events
        self._lease = int(lease_seconds * 1_000)
        self._clock = clock
        self._bells = Bells()
        self._polls = Polls()
        self._sending = Sending(database, directory, events, self._bells, inbox_limit=inbox_limit, clock=clock)

    async def open(self) -> None:
        """Read where the last daemon stopped."""
        await self._sending.open()

    def close(self) -> None:
        """End every long poll with what it has; refuse new ones."""
        self._bells.close()

    async def send(self, sender: str, request: SendRequest) -> SendAnswer:
        """Store a message durably and wake its recipients; refusals are in `Sending`."""
        return await self._sending.send(sender, request)

    def unacknowledged(self, recipient: str) -> int:
        """How many messages wait for `recipient` or are being handled by it."""
        return self._sending.unacknowledged[recipient]

    @property
    def total_unacknowledged(self) -> int:
        """Unacknowledged messages of all recipients."""
        return sum(self._sending.unacknowledged.values())

    # --- harnesses ------------------------------------------------------------------------------------------

    async def hello(self, name: str, instance: str) -> None:
        """Let `instance` speak for `name`; what earlier instances held is free again."""
        member = self._directory.member(name)
        if member.instance == instance:
            return
        released = await self._database.write(lambda db: leases.take_over(db, name, instance))
        member.instance = instance
        self._tell("message.released", name, released)
        self._bells.ring(name)

    async def receive(self, name: str, request: ReceiveRequest) -> ReceiveAnswer:
        """Lease waiting messages, or wait for one.

        Empty when the time is up, the daemon stops, or a newer receive with `holding` replaces this one. Raises
        `superseded`, `too_many_polls`.
        """
        self._directory.check_instance(name, request.instance)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_seconds
        with self._bells.listen(name) as ring, self._polls.enter(name, ring, holding=request.holding is not None):
            while True:
                self._directory.check_instance(name, request.instance)
                leased = await self._lease_now(name, request, ring)
                if ring.ended:
                    self._take_back(name, request.instance, leased)
                    return self._handed_out(name, leases.NOTHING)
                remaining = deadline - loop.time()
                if leased.rows or remaining <= 0 or self._bells.closed:
                    return self._handed_out(name, leased)
                if leased.next_expiry is not None:
                    remaining = min(remaining, max(0.0, (leased.next_expiry - self._clock()) / 1_000))
                await ring.wait(remaining)

    async def acknowledge(self, name: str, instance: str, ids: Sequence[int]) -> LeaseAnswer:
        """The turn that handled these messages ended well: they are never handed out again."""
        self._directory.check_instance(name, instance)
        return await self._finish(name, instance, ids)

    async def release(self, name: str, request: LeaseRequest) -> LeaseAnswer:
        """Hand these messages out again, now."""
        self._directory.check_instance(name, request.instance)
        ids = await self._change_leases(name, request, until=None)
        self._tell("message.released", name, ids)
        self._bells.ring(name)
        return LeaseAnswer(ids=ids)

    async def renew(self, name: str, request: LeaseRequest) -> LeaseAnswer:
        """Keep these messages for another lease time."""
        self._directory.check_instance(name, request.instance)
        return LeaseAnswer(ids=await self._change_leases(name, request, until=self._clock() + self._lease))

    # --- the operator ---------------------------------------------------------------------------------------

    async def inbox(self, query: InboxQuery) -> InboxAnswer:
        """The operator's messages, the newest of them: what does not fit is left for a query `before` these."""
        unread = query.view == "unread"
        rows = await self._database.read(
            lambda db: store.read_messages(db, OPERATOR, unread=unread, limit=query.limit, before=query.before)
        )
        return InboxAnswer(messages=[_message(row) for row in rows], unread=self.unacknowledged(OPERATOR))

    async def mark_read(self, ids: Sequence[int]) -> LeaseAnswer:
        """The operator has seen these messages."""
        return await self._finish(OPERATOR, None, ids)

    async def wait_reply(self, number: int, wait_seconds: float) -> ReplyAnswer:
        """The answer to a message of the operator, waiting for it; raises `unknown_message`."""
        asked = await self._database.read(lambda db: store.find_message(db, number))
        if asked is None or asked.sender != OPERATOR:
            raise store.unknown_message(number)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        with self._bells.listen(OPERATOR) as ring:
            while True:
                row = await self._database.read(lambda db: store.find_reply(db, asked))
                if row is not None or loop.time() >= deadline or self._bells.closed:
                    return ReplyAnswer(reply=_message(row) if row else None)
                await ring.wait(deadline - loop.time())

    # --- upkeep ---------------------------------------------------------------------------------------------

    async def forget(self, name: str) -> int:
        """Remove every message for `name`; how many of them were not acknowledged."""
        dropped = await self._database.write(lambda db: self.forget_within(db, name))
        self.forgotten(name)
        return dropped

    def forget_within(self, db: sqlite3.Connection, name: str) -> int:
        """`forget` as a part of the caller's transaction, who calls `forgotten` when that is on disk."""
        return store.forget(db, name)

    def forgotten(self, name: str) -> None:
        """The messages for `name` are gone from the database."""
        self._sending.unacknowledged[name] = 0

    async def vacuum(self, retention_days: float, batch: int = 500) -> int:
        """Remove messages acknowledged longer ago than that, a batch at a time so that sends go on in between."""
        before = self._clock() - int(retention_days * 86_400_000)
        removed = 0
        while True:
            count = await self._database.write(lambda db: store.vacuum(db, before, batch))
            removed += count
            if count < batch:
                return removed

    # ---------------------------------------------------------------------------------------------------------

    async def _lease_now(self, name: str, request: ReceiveRequest, ring: Ring) -> Leased:
        if ring.ended or not self.unacknowledged(name):
            return leases.NOTHING
        now = self._clock()
        operation = partial(
            leases.lease,
            recipient=name,
            instance=request.instance,
            most=request.max,
            now=now,
            until=now + self._lease,
            holding=request.holding,
            unwanted=lambda: ring.ended,
        )
        leasing = self._database.submit(operation)
        try:
            return await asyncio.shield(leasing)
        except asyncio.CancelledError:
            # The caller hung up, so nobody will get these.
            leasing.add_done_callback(partial(self._take_back_later, name, request.instance))
            raise

    def _take_back_later(self, name: str, instance: str, leasing: asyncio.Future[Leased]) -> None:
        if not leasing.cancelled() and leasing.exception() is None:
            self._take_back(name, instance, leasing.result())

    def _take_back(self, name: str, instance: str, leased: Leased) -> None:
        if not leased.rows:
            return
        try:
            given = self._database.submit(lambda db: leases.take_back(db, name, instance, leased.rows))
        except HiveError:
            return  # The daemon stops. The leases run out, or the next hello or `holding` frees them.
        given.add_done_callback(partial(self._taken_back, name))

    def _taken_back(self, name: str, given: asyncio.Future[None]) -> None:
        if not given.cancelled() and given.exception() is None:
            self._bells.ring(name)

    def _handed_out(self, name: str, leased: Leased) -> ReceiveAnswer:
        deliveries = [
            Delivery.model_construct(**_message(row.message).__dict__, attempt=row.attempt, redelivered=row.attempt > 1)
            for row in leased.rows
        ]
        if deliveries:
            data = {"agent": name, "ids": [delivery.id for delivery in deliveries]}
            again = any(delivery.redelivered for delivery in deliveries)
            self._events.publish("message.delivered", {**data, "redelivered": again})
        waiting = max(0, self.unacknowledged(name) - len(deliveries))
        return ReceiveAnswer.model_construct(deliveries=deliveries, waiting=waiting)

    async def _finish(self, name: str, instance: str | None, ids: Sequence[int]) -> LeaseAnswer:
        now = self._clock()
        done = await self._database.write(lambda db: leases.acknowledge(db, name, instance, dict.fromkeys(ids), now))
        self._sending.unacknowledged[name] -= len(done)
        self._tell("message.acknowledged", name, done)
        return LeaseAnswer(ids=done)

    async def _change_leases(self, name: str, request: LeaseRequest, until: int | None) -> list[int]:
        ids = None if request.ids is None else list(dict.fromkeys(request.ids))
        return await self._database.write(lambda db: leases.renew(db, name, request.instance, ids, until))

    def _tell(self, kind: EventKind, name: str, ids: Sequence[int]) -> None:
        if ids:
            self._events.publish(kind, {"agent": name, "ids": list(ids)})


def _message(row: MessageRow) -> Message:
    sent_at = datetime.fromtimestamp(row.sent_at / 1_000, UTC)
    return Message.model_construct(
        id=row.id, sender=row.sender, to=row.to, body=row.body, reply_to=row.reply_to, sent_at=sent_at
    )
