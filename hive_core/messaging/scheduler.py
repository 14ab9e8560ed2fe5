"""Due reminders, expired questions, and removal of old messages."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import structlog

from hive_core.errors import HiveError
from hive_core.infra.database.database import Database, milliseconds, steady_milliseconds
from hive_core.infra.database.space import DatabaseSpace
from hive_core.infra.database.writer import TEMPORARY_ERRORS
from hive_core.messaging import question_store
from hive_core.messaging.broker import Broker
from hive_core.messaging.questions import Questions
from hive_core.messaging.reminders import Reminders
from hive_core.protocol.names import OPERATOR

_log = structlog.get_logger(__name__)


_AT_ONCE = 100
_LONGEST_SECONDS = 60.0
"""Longest pause, after which a changed clock or a suspended machine is noticed."""
_DUE_RETRY_SECONDS = 30.0


class Scheduler:
    """Delivers due reminders and ends expired questions; after a start at once those that became due before."""

    def __init__(
        self,
        database: Database,
        questions: Questions,
        reminders: Reminders,
        clock: Callable[[], int] = milliseconds,
        *,
        steady: Callable[[], int] = steady_milliseconds,
        retry_seconds: float = _DUE_RETRY_SECONDS,
    ) -> None:
        """`clock` and `steady` give the time in milliseconds; failed deliveries are tried again after `retry_seconds`.

        Reminders are due by `clock`, the host's, and questions expire by `steady`, which never goes back.
        """
        self._database = database
        self._questions = questions
        self._reminders = reminders
        self._clock = clock
        self._steady = steady
        self._retry_seconds = retry_seconds
        self._stuck: dict[str, float] = {}
        """Agents to whom nothing could be delivered, and when to try again, on the event loop's clock."""
        self._changed = asyncio.Event()
        questions.changed = reminders.changed = self.reschedule

    def reschedule(self) -> None:
        """Look for due items now: there is a new item, or an agent has come back."""
        self._changed.set()

    async def run(self) -> None:
        """Deliver due items until cancelled."""
        while True:
            self._changed.clear()
            pause = await self.run_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def vacuum(self, retention_days: float, batch: int = 500) -> int:
        """Remove questions and reminders that ended longer ago, one batch at a time; returns how many."""
        before = self._clock() - int(retention_days * 86_400_000)

        def operation(db: sqlite3.Connection) -> tuple[int, int]:
            return question_store.vacuum_questions(db, before, batch), question_store.vacuum_reminders(
                db, before, batch
            )

        removed = 0
        while True:
            counts = await self._database.write(operation)
            removed += sum(counts)
            if max(counts) < batch:
                return removed

    async def run_due(self) -> float:
        """Deliver all items that are due now; returns the seconds until the next may be due."""
        clock = asyncio.get_running_loop().time
        while True:
            self._stuck = {agent: until for agent, until in self._stuck.items() if until > clock()}
            now, steady = self._clock(), self._steady()
            reminders, questions, pause = await self._database.read(partial(_due, now, steady, set(self._stuck)))
            if not reminders and not questions:
                break
            # Concurrently, so that they share commits; those of one agent keep their order.
            await asyncio.gather(
                *(self._do(row.agent, partial(self._reminders.fire, row)) for row in reminders),
                *(self._do(row.agent, partial(self._questions.expire, row)) for row in questions),
            )
        return max(0.0, min([_LONGEST_SECONDS, pause, *(until - clock() for until in self._stuck.values())]))

    async def _do(self, agent: str, deliver: Callable[[], Awaitable[None]]) -> None:
        """Deliver an item to an agent. After a failure all items of the agent wait for a while.

        An agent can fill its inbox and set any number of reminders, which would be tried again and again.
        """
        try:
            await deliver()
        except HiveError as error:
            # A full inbox, an agent that is being destroyed, a full disk: the item stays due.
            if agent not in self._stuck:
                seconds = self._retry_seconds
                _log.warning("not delivered, tried again later", agent=agent, code=error.code, seconds=seconds)
                self._stuck[agent] = asyncio.get_running_loop().time() + seconds


def _due(
    now: int, steady: int, but: set[str], db: sqlite3.Connection
) -> tuple[list[question_store.ReminderRow], list[question_store.QuestionRow], float]:
    """Return due reminders and questions, and the seconds until the next is due, without those of the agents `but`."""
    reminders = question_store.due_reminders(db, now, _AT_ONCE, but)
    questions = question_store.expired_questions(db, steady, _AT_ONCE, but)
    at, end = question_store.next_reminder(db, but), question_store.next_expiry(db, but)
    pauses = [(at - now) / 1_000] if at is not None else []
    pauses += [(end - steady) / 1_000] if end is not None else []
    return reminders, questions, min(pauses, default=_LONGEST_SECONDS)


_HOUR_IN_DAYS = 1 / 24
_SECONDS = 3_600.0
_VACUUM_RETRY_SECONDS = 60.0


async def run_retention(vacuum: Callable[[float], Awaitable[int]], retention_days: float) -> None:
    """Call `vacuum` at once and every hour; it returns how many rows it has removed.

    On a full disk it is put off, because the daemon can go on without it.
    """
    while True:
        started = time.monotonic()
        try:
            removed = await vacuum(retention_days)
        except HiveError as error:
            if error.code not in TEMPORARY_ERRORS:
                raise
            _log.warning("vacuum put off", code=error.code, seconds=_VACUUM_RETRY_SECONDS)
            await asyncio.sleep(_VACUUM_RETRY_SECONDS)
            continue
        if removed:
            _log.info("vacuumed", rows=removed, seconds=round(time.monotonic() - started, 3))
        await asyncio.sleep(_SECONDS)


async def tell_operator(broker: Broker, text: str) -> None:
    """Send a message of the hive's to the operator. Raises HiveError if it is not stored."""
    await broker.announce([(OPERATOR, text)], lambda _: None)


async def limit_database(space: DatabaseSpace, broker: Broker, scheduler: Scheduler) -> None:
    """Warn the operator when the database gets full, and remove what can be spared, until cancelled."""

    async def prune() -> bool:
        removed = await broker.spare() or await scheduler.vacuum(_HOUR_IN_DAYS)
        if removed:
            _log.info("spared", rows=removed, used=space.used, limit=space.limit)
        return removed > 0

    async def warn(text: str) -> None:
        _log.warning("database limit", used=space.used, limit=space.limit)
        await tell_operator(broker, text)

    while True:
        try:
            await space.run(prune, warn)
        except HiveError as error:
            if error.code not in TEMPORARY_ERRORS:
                raise
            _log.warning("database not measured", code=error.code, seconds=_VACUUM_RETRY_SECONDS)
            await asyncio.sleep(_VACUUM_RETRY_SECONDS)
