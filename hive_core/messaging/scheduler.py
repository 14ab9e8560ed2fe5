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
from hive_core.infra.database.database import Database, milliseconds
from hive_core.infra.database.writer import TEMPORARY_ERRORS
from hive_core.messaging import question_store
from hive_core.messaging.questions import Questions
from hive_core.messaging.reminders import Reminders

_log = structlog.get_logger(__name__)


_AT_ONCE = 100
_LONGEST_SECONDS = 60.0
"""So late is at most noticed that somebody has set the clock, or that the machine slept."""
_DUE_RETRY_SECONDS = 30.0


class Scheduler:
    """Waits for the next moment at which something is due. What a daemon missed while it was away is done at once."""

    def __init__(
        self,
        database: Database,
        questions: Questions,
        reminders: Reminders,
        clock: Callable[[], int] = milliseconds,
        *,
        retry_seconds: float = _DUE_RETRY_SECONDS,
    ) -> None:
        """`clock` gives the time in milliseconds; what cannot be delivered is tried again after `retry_seconds`."""
        self._database = database
        self._questions = questions
        self._reminders = reminders
        self._clock = clock
        self._retry_seconds = retry_seconds
        self._stuck: dict[str, float] = {}
        """Agents to whom nothing could be delivered, and when to try again, on the event loop's clock."""
        self._changed = asyncio.Event()
        questions.changed = reminders.changed = self.reschedule

    def reschedule(self) -> None:
        """Something new may be due before what is waited for, or an agent is there that was not."""
        self._changed.set()

    async def run(self) -> None:
        """Do what is due, until cancelled."""
        while True:
            self._changed.clear()
            pause = await self.run_due()
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._changed.wait()

    async def vacuum(self, retention_days: float, batch: int = 500) -> int:
        """Remove what ended longer ago than that, a batch at a time; how much."""
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
        """Do all that is due now; seconds until there may be more."""
        clock = asyncio.get_running_loop().time
        while True:
            self._stuck = {agent: until for agent, until in self._stuck.items() if until > clock()}
            now = self._clock()
            reminders, questions, next_at = await self._database.read(partial(_due, now, set(self._stuck)))
            if not reminders and not questions:
                break
            # Side by side, so that they share commits; each agent's are numbered in their order.
            await asyncio.gather(
                *(self._do(row.agent, partial(self._reminders.fire, row)) for row in reminders),
                *(self._do(row.agent, partial(self._questions.expire, row)) for row in questions),
            )
        pause = _LONGEST_SECONDS if next_at is None else min(_LONGEST_SECONDS, (next_at - now) / 1_000)
        return max(0.0, min([pause, *(until - clock() for until in self._stuck.values())]))

    async def _do(self, agent: str, telling: Callable[[], Awaitable[None]]) -> None:
        """Tell an agent of something. If that cannot be delivered, all that is due to the agent waits for a while:
        an agent can fill its inbox and set reminders as fast as it likes.
        """
        try:
            await telling()
        except HiveError as error:
            # A full inbox, an agent that is just being destroyed, a full disk: it stays due.
            if agent not in self._stuck:
                seconds = self._retry_seconds
                _log.warning("not delivered, tried again later", agent=agent, code=error.code, seconds=seconds)
                self._stuck[agent] = asyncio.get_running_loop().time() + seconds


def _due(
    now: int, but: set[str], db: sqlite3.Connection
) -> tuple[list[question_store.ReminderRow], list[question_store.QuestionRow], int | None]:
    """What is due, and when the next is, but for what is of some agents."""
    reminders = question_store.due_reminders(db, now, _AT_ONCE, but)
    questions = question_store.expired_questions(db, now, _AT_ONCE, but)
    times = [
        at for at in (question_store.next_reminder(db, but), question_store.next_expiry(db, but)) if at is not None
    ]
    return reminders, questions, min(times, default=None)


_SECONDS = 3_600.0
_VACUUM_RETRY_SECONDS = 60.0


async def run_retention(vacuum: Callable[[float], Awaitable[int]], retention_days: float) -> None:
    """Call `vacuum`, which says how much it has removed, at once and every hour, without end.

    On a full disk it is put off: that is no reason to stop a daemon.
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
