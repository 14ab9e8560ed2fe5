"""Long polls that lease messages."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

from hive_core.errors import HiveError
from hive_core.infra.concurrency.wakeups import Waiter, Wakeups
from hive_core.infra.database.database import Database, to_datetime
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import leases
from hive_core.messaging.directory import Directory
from hive_core.messaging.fairness.pacing import Pacer
from hive_core.messaging.leases import Leased
from hive_core.messaging.store import MessageRow, PendingMessage
from hive_core.protocol import Delivery, InboxMessage, Message, ReceiveAnswer, ReceiveRequest


class Receiver:
    """Leases messages to harnesses. If a caller has hung up, its messages are released at once."""

    def __init__(
        self,
        database: Database,
        directory: Directory,
        events: EventHub,
        wakeups: Wakeups,
        unacknowledged: Counter[str],
        pacer: Pacer,
        *,
        lease: int,
        clock: Callable[[], int],
    ) -> None:
        """`lease` and `clock` are in milliseconds."""
        self._database = database
        self._directory = directory
        self._events = events
        self._wakeups = wakeups
        self._unacknowledged = unacknowledged
        self._pacer = pacer
        self._lease = lease
        self._clock = clock
        self._poll_limiter = PollLimiter()

    async def receive(self, name: str, request: ReceiveRequest) -> ReceiveAnswer:
        """Lease waiting messages, or wait for one.

        Empty when the time is up, the daemon stops, or a newer receive with `holding` replaces this one. Raises
        `superseded`, `too_many_polls`.
        """
        self._directory.check_instance(name, request.instance)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + request.wait_seconds
        with self._poll(name, request) as poll:
            while True:
                self._directory.check_instance(name, request.instance)
                leased = await poll.leased() if self._unacknowledged[name] or poll.leasing else leases.NOTHING
                if poll.waiter.ended:
                    self._take_back(name, request.instance, leased)
                    return self._handed_out(name, leases.NOTHING)
                remaining = deadline - loop.time()
                if leased.rows or remaining <= 0 or self._wakeups.closed:
                    return self._handed_out(name, leased)
                for at in (leased.next_expiry, self._pacer.next_due(name)):
                    if at is not None:
                        remaining = min(remaining, max(0.0, (at - self._clock()) / 1_000))
                await poll.waiter.wait(remaining)

    @contextmanager
    def _poll(self, name: str, request: ReceiveRequest) -> Iterator[_Poll]:
        waiter = self._wakeups.add_waiter(name)
        poll = _Poll(waiter, partial(self._submit, name, request, waiter))
        waiter.expected = poll.queue_early
        with waiter, self._poll_limiter.enter(name, waiter, holding=request.holding is not None):
            try:
                yield poll
            finally:
                if poll.leasing is not None:
                    # The caller hung up, so no answer will carry these.
                    poll.leasing.add_done_callback(partial(self._take_back_later, name, request.instance))

    def _submit(self, name: str, request: ReceiveRequest, waiter: Waiter) -> asyncio.Future[Leased]:
        now = self._clock()
        operation = partial(
            leases.lease,
            recipient=name,
            instance=request.instance,
            most=request.max,
            now=now,
            until=now + self._lease,
            holding=request.holding,
            unwanted=lambda: waiter.ended,
        )
        return self._database.submit(operation)

    def _take_back_later(self, name: str, instance: str, leasing: asyncio.Future[Leased]) -> None:
        if not leasing.cancelled() and leasing.exception() is None:
            self._take_back(name, instance, leasing.result())

    def _take_back(self, name: str, instance: str, leased: Leased) -> None:
        if not leased.rows:
            return
        try:
            given = self._database.submit(lambda db: leases.take_back(db, name, instance, leased.rows))
        except HiveError:
            return  # The daemon stops. The leases end, or the next hello or `holding` releases them.
        given.add_done_callback(partial(self._taken_back, name))

    def _taken_back(self, name: str, given: asyncio.Future[None]) -> None:
        if not given.cancelled() and given.exception() is None:
            self._wakeups.wake(name)

    def _handed_out(self, name: str, leased: Leased) -> ReceiveAnswer:
        deliveries = [
            Delivery.model_construct(**message(row.message).__dict__, attempt=row.attempt, redelivered=row.attempt > 1)
            for row in leased.rows
        ]
        if deliveries:
            self._pacer.detector.handed_out(name, [delivery.id for delivery in deliveries])
            data = {"agent": name, "ids": [delivery.id for delivery in deliveries]}
            again = any(delivery.redelivered for delivery in deliveries)
            self._events.publish("message.delivered", {**data, "redelivered": again})
        waiting = max(0, self._unacknowledged[name] - len(deliveries))
        return ReceiveAnswer.model_construct(deliveries=deliveries, waiting=waiting)


class _Poll:
    """One receive under way, with the lease that it has queued, if any."""

    def __init__(self, waiter: Waiter, submit: Callable[[], asyncio.Future[Leased]]) -> None:
        self.waiter = waiter
        self.leasing: asyncio.Future[Leased] | None = None
        self._submit = submit

    def queue_early(self) -> None:
        """Queue a lease behind a message that is being stored, so that one commit stores both."""
        if self.leasing is None and not self.waiter.ended:
            with suppress(HiveError):  # The daemon stops.
                self.leasing = self._submit()

    async def leased(self) -> Leased:
        """Return the result of the queued lease; without one, or if it is empty, of a new one.

        An empty lease may have been queued before the message of this wake-up.
        """
        if self.leasing is not None:
            leased = await self._given(self.leasing)
            if leased.rows:
                return leased
        if self.waiter.ended:
            return leases.NOTHING
        self.leasing = self._submit()
        return await self._given(self.leasing)

    async def _given(self, leasing: asyncio.Future[Leased]) -> Leased:
        leased = await asyncio.shield(leasing)
        self.leasing = None
        return leased


def message(row: MessageRow) -> Message:
    """Return a stored message as callers see it."""
    return Message.model_construct(
        id=row.id, sender=row.sender, to=row.to, body=row.body, reply_to=row.reply_to, sent_at=to_datetime(row.sent_at)
    )


def waiting(row: PendingMessage) -> InboxMessage:
    """Return a pending message as an inbox shows it."""
    return InboxMessage(
        id=row.id,
        sender=row.sender,
        body=row.body,
        characters=row.characters,
        sent_at=to_datetime(row.sent_at),
        leased=row.leased,
    )


MOST_POLLS = 8
"""Receives of one agent under way at a time."""


class PollLimiter:
    """Limits the receives under way of each agent."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[Waiter]] = defaultdict(set)
        self._holding: dict[str, Waiter] = {}

    @contextmanager
    def enter(self, name: str, waiter: Waiter, *, holding: bool) -> Iterator[None]:
        """Count a receive of `name`, which waits with `waiter`; raises `too_many_polls`.

        A receive with `holding` ends the one before it that had it, too: both would lease the same messages, and the
        list of the newer caller is the current one.
        """
        polls = self._open[name]
        if holding and (older := self._holding.pop(name, None)) is not None:
            polls.discard(older)
            older.end()
        if len(polls) >= MOST_POLLS:
            raise HiveError(
                "too_many_polls",
                f"{name} has {MOST_POLLS} receives under way already",
                hint="wait for the answer of one of them",
                status=429,
            )
        polls.add(waiter)
        if holding:
            self._holding[name] = waiter
        try:
            yield
        finally:
            polls.discard(waiter)
            if self._holding.get(name) is waiter:
                del self._holding[name]
