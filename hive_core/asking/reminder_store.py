"""The `reminders` table. Times are milliseconds."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from hive_core.asking.fitting import fitting
from hive_core.asking.presence import PRESENT, leaving_out
from hive_core.database.moments import moment
from hive_core.protocol import Reminder, RemindersQuery

_COLUMNS = "id, agent, due_at, text, idempotency_key, created_at, ended_at"


class ReminderRow(NamedTuple):
    """One reminder; `ended_at` is when it was delivered or cancelled."""

    id: int
    agent: str
    due_at: int
    text: str
    key: str | None
    created_at: int
    ended_at: int | None = None

    def texts(self) -> Iterable[str]:
        """All in it that may be long."""
        return (self.text,)

    def shown(self) -> Reminder:
        """The reminder as it is told to callers."""
        return Reminder(
            id=self.id, agent=self.agent, at=moment(self.due_at), text=self.text, created_at=moment(self.created_at)
        )


def insert(db: sqlite3.Connection, agent: str, due_at: int, text: str, key: str | None, now: int) -> ReminderRow:
    """Store a new reminder."""
    query = "INSERT INTO reminders (agent, due_at, text, idempotency_key, created_at) VALUES (?, ?, ?, ?, ?)"
    number = db.execute(query, (agent, due_at, text, key, now)).lastrowid
    return ReminderRow(int(number or 0), agent, due_at, text, key, now)


def end(db: sqlite3.Connection, agent: str, number: int, now: int) -> bool:
    """A reminder of the agent is delivered or cancelled; whether it was still to come."""
    query = "UPDATE reminders SET ended_at = ? WHERE id = ? AND agent = ? AND ended_at IS NULL"
    return db.execute(query, (now, number, agent)).rowcount > 0


def find(db: sqlite3.Connection, agent: str, number: int) -> ReminderRow | None:
    """A reminder of the agent, ended or not."""
    return next(iter(_rows(db, "id = ? AND agent = ?", (number, agent))), None)


def find_by_key(db: sqlite3.Connection, agent: str, key: str) -> ReminderRow | None:
    """The reminder that the agent made under an idempotency key, ended or not."""
    return next(iter(_rows(db, "agent = ? AND idempotency_key = ?", (agent, key))), None)


def waiting_of(db: sqlite3.Connection, agent: str) -> list[ReminderRow]:
    """The agent's reminders that are still to come, the next one first."""
    return _rows(db, "agent = ? AND ended_at IS NULL ORDER BY due_at, id", (agent,))


def select(db: sqlite3.Connection, query: RemindersQuery) -> tuple[list[ReminderRow], int]:
    """What fits the query and one answer, the next one first, and how many there are without their limits."""
    where = "ended_at IS NULL AND (:agent IS NULL OR agent = :agent)"
    places = {"agent": query.agent, "limit": query.limit}
    (total,) = db.execute(f"SELECT count(*) FROM reminders WHERE {where}", places).fetchone()  # noqa: S608
    return list(fitting(_each(db, f"{where} ORDER BY due_at, id LIMIT :limit", places))), total


def due(db: sqlite3.Connection, now: int, limit: int, but: Collection[str]) -> list[ReminderRow]:
    """Reminders whose time has come, the oldest first, of agents that there are, but for some."""
    where = f"ended_at IS NULL AND due_at <= :now AND {PRESENT} ORDER BY due_at, id LIMIT :limit"
    return _rows(db, where, {"now": now, "limit": limit, "but": leaving_out(but)})


def next_due(db: sqlite3.Connection, but: Collection[str]) -> int | None:
    """When the next of them is due."""
    query = f"SELECT min(due_at) FROM reminders WHERE ended_at IS NULL AND {PRESENT}"  # noqa: S608
    found: int | None = db.execute(query, {"but": leaving_out(but)}).fetchone()[0]
    return found


def forget(db: sqlite3.Connection, agent: str) -> None:
    """Remove the agent's reminders."""
    db.execute("DELETE FROM reminders WHERE agent = ?", (agent,))


def vacuum(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` reminders that ended before a time; how many."""
    query = "DELETE FROM reminders WHERE id IN (SELECT id FROM reminders WHERE ended_at < ? LIMIT ?)"
    return db.execute(query, (before, most)).rowcount


def _rows(db: sqlite3.Connection, where: str, places: object) -> list[ReminderRow]:
    return list(_each(db, where, places))


def _each(db: sqlite3.Connection, where: str, places: object) -> Iterator[ReminderRow]:
    found = db.execute(f"SELECT {_COLUMNS} FROM reminders WHERE {where}", places)  # type: ignore[arg-type]  # noqa: S608
    return (ReminderRow(*row) for row in found)
