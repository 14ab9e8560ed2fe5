"""SQL of the tables `questions` and `reminders`."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol, TypeVar

from hive_core.errors import not_found
from hive_core.infra.database.database import to_datetime
from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import Question, QuestionsQuery, Reminder, RemindersQuery
from hive_core.protocol.messaging.questions import QuestionState

_QUESTION_COLUMNS = (
    "id, agent, text, options, free_text, idempotency_key, asked_at, expires_at, state, answer, answered_by, ended_at"
)


class QuestionRow(NamedTuple):
    """One question. `id` is that of the message to the operator that asks it."""

    id: int
    agent: str
    text: str
    options: tuple[str, ...]
    free_text: bool
    key: str | None
    asked_at: int
    expires_at: int | None
    state: QuestionState = "open"
    answer: str | None = None
    answered_by: str | None = None
    ended_at: int | None = None

    def texts(self) -> Iterable[str]:
        """Return the texts that may be long."""
        return (self.text, *self.options, self.answer or "")

    def to_protocol(self) -> Question:
        """Return the question as callers see it."""
        return Question(
            id=self.id,
            agent=self.agent,
            text=self.text,
            options=list(self.options),
            free_text=self.free_text,
            asked_at=to_datetime(self.asked_at),
            expires_at=None if self.expires_at is None else to_datetime(self.expires_at),
            state=self.state,
            answer=self.answer,
            answered_by=self.answered_by,
            ended_at=None if self.ended_at is None else to_datetime(self.ended_at),
        )


def insert_question(db: sqlite3.Connection, row: QuestionRow) -> None:
    """Store a new question."""
    places = ", ".join("?" * len(row))
    values = row._replace(options=json.dumps(row.options))  # type: ignore[arg-type]
    db.execute(f"INSERT INTO questions ({_QUESTION_COLUMNS}) VALUES ({places})", values)  # noqa: S608


def end_question(
    db: sqlite3.Connection,
    number: int,
    state: Literal["answered", "expired"],
    now: int,
    answer: str | None = None,
    by: str | None = None,
) -> bool:
    """End an open question; returns True if it was open."""
    query = """UPDATE questions SET state = ?, ended_at = ?, answer = ?, answered_by = ?
        WHERE id = ? AND state = 'open'"""
    return db.execute(query, (state, now, answer, by, number)).rowcount > 0


def find_question(db: sqlite3.Connection, number: int) -> QuestionRow | None:
    """Return the question with that id."""
    return next(iter(_question_rows(db, "id = ?", (number,))), None)


def find_question_by_key(db: sqlite3.Connection, agent: str, key: str) -> QuestionRow | None:
    """Return the question that the agent asked under an idempotency key."""
    return next(iter(_question_rows(db, "agent = ? AND idempotency_key = ?", (agent, key))), None)


def open_questions_of(db: sqlite3.Connection, agent: str) -> list[QuestionRow]:
    """Return the agent's open questions, the oldest first."""
    return _question_rows(db, "agent = ? AND state = 'open' ORDER BY id", (agent,))


def count_open_questions(db: sqlite3.Connection, sees: Sight = EVERYTHING) -> int:
    """Return the number of open questions of all agents."""
    query = f"SELECT count(*) FROM questions WHERE state = 'open' AND {sees.condition('agent')}"  # noqa: S608
    return int(db.execute(query, {"names": sees.names}).fetchone()[0])


def select_questions(
    db: sqlite3.Connection, query: QuestionsQuery, sees: Sight = EVERYTHING
) -> tuple[list[QuestionRow], int]:
    """Return the questions that match the query and fit into one answer, and the number of all that match."""
    where = "(:agent IS NULL OR agent = :agent)" + (" AND state = 'open'" if query.view == "open" else "")
    where += f" AND {sees.condition('agent')}"
    places = {"agent": query.agent, "limit": query.limit, "names": sees.names}
    (total,) = db.execute(f"SELECT count(*) FROM questions WHERE {where}", places).fetchone()  # noqa: S608
    if query.view == "open":
        return list(limit_response_size(_each_question(db, f"{where} ORDER BY id LIMIT :limit", places))), total
    return list(limit_response_size(_each_question(db, f"{where} ORDER BY id DESC LIMIT :limit", places)))[::-1], total


def expired_questions(db: sqlite3.Connection, now: int, limit: int, but: Collection[str]) -> list[QuestionRow]:
    """Return open questions whose time is up, of all existing agents except `but`."""
    where = f"state = 'open' AND expires_at <= :now AND {PRESENT} ORDER BY expires_at LIMIT :limit"
    return _question_rows(db, where, {"now": now, "limit": limit, "but": without_deleted(but)})


def next_expiry(db: sqlite3.Connection, but: Collection[str]) -> int | None:
    """Return when the next open question expires."""
    query = f"SELECT min(expires_at) FROM questions WHERE state = 'open' AND {PRESENT}"  # noqa: S608
    found: int | None = db.execute(query, {"but": without_deleted(but)}).fetchone()[0]
    return found


def delete_questions(db: sqlite3.Connection, agent: str) -> None:
    """Remove the agent's questions."""
    db.execute("DELETE FROM questions WHERE agent = ?", (agent,))


def vacuum_questions(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` questions that ended before a time; returns how many."""
    query = "DELETE FROM questions WHERE id IN (SELECT id FROM questions WHERE ended_at < ? LIMIT ?)"
    return db.execute(query, (before, most)).rowcount


def _question_rows(db: sqlite3.Connection, where: str, places: object) -> list[QuestionRow]:
    return list(_each_question(db, where, places))


def _each_question(db: sqlite3.Connection, where: str, places: object) -> Iterator[QuestionRow]:
    for number, agent, text, options, free, *rest in db.execute(
        f"SELECT {_QUESTION_COLUMNS} FROM questions WHERE {where}",  # noqa: S608
        places,  # type: ignore[arg-type]
    ):
        yield QuestionRow(number, agent, text, tuple(json.loads(options)), bool(free), *rest)


_REMINDER_COLUMNS = "id, agent, due_at, text, idempotency_key, created_at, ended_at"


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
        """Return the texts that may be long."""
        return (self.text,)

    def to_protocol(self) -> Reminder:
        """Return the reminder as callers see it."""
        return Reminder(
            id=self.id,
            agent=self.agent,
            at=to_datetime(self.due_at),
            text=self.text,
            created_at=to_datetime(self.created_at),
        )


def insert_reminder(
    db: sqlite3.Connection, agent: str, due_at: int, text: str, key: str | None, now: int
) -> ReminderRow:
    """Store a new reminder."""
    query = "INSERT INTO reminders (agent, due_at, text, idempotency_key, created_at) VALUES (?, ?, ?, ?, ?)"
    number = db.execute(query, (agent, due_at, text, key, now)).lastrowid
    return ReminderRow(int(number or 0), agent, due_at, text, key, now)


def end_reminder(db: sqlite3.Connection, agent: str, number: int, now: int) -> bool:
    """Mark a reminder of the agent as delivered or cancelled; returns True if it was still to come."""
    query = "UPDATE reminders SET ended_at = ? WHERE id = ? AND agent = ? AND ended_at IS NULL"
    return db.execute(query, (now, number, agent)).rowcount > 0


def find_reminder(db: sqlite3.Connection, agent: str, number: int) -> ReminderRow | None:
    """Return a reminder of the agent, ended or not."""
    return next(iter(_reminder_rows(db, "id = ? AND agent = ?", (number, agent))), None)


def find_reminder_by_key(db: sqlite3.Connection, agent: str, key: str) -> ReminderRow | None:
    """Return the reminder that the agent made under an idempotency key, ended or not."""
    return next(iter(_reminder_rows(db, "agent = ? AND idempotency_key = ?", (agent, key))), None)


def waiting_reminders_of(db: sqlite3.Connection, agent: str) -> list[ReminderRow]:
    """Return the agent's reminders that are still to come, the next one first."""
    return _reminder_rows(db, "agent = ? AND ended_at IS NULL ORDER BY due_at, id", (agent,))


def select_reminders(
    db: sqlite3.Connection, query: RemindersQuery, sees: Sight = EVERYTHING
) -> tuple[list[ReminderRow], int]:
    """Return the reminders that match the query and fit into one answer, and the number of all that match."""
    where = f"ended_at IS NULL AND (:agent IS NULL OR agent = :agent) AND {sees.condition('agent')}"
    places = {"agent": query.agent, "limit": query.limit, "names": sees.names}
    (total,) = db.execute(f"SELECT count(*) FROM reminders WHERE {where}", places).fetchone()  # noqa: S608
    return list(limit_response_size(_each_reminder(db, f"{where} ORDER BY due_at, id LIMIT :limit", places))), total


def due_reminders(db: sqlite3.Connection, now: int, limit: int, but: Collection[str]) -> list[ReminderRow]:
    """Return due reminders, the oldest first, of all existing agents except `but`."""
    where = f"ended_at IS NULL AND due_at <= :now AND {PRESENT} ORDER BY due_at, id LIMIT :limit"
    return _reminder_rows(db, where, {"now": now, "limit": limit, "but": without_deleted(but)})


def next_reminder(db: sqlite3.Connection, but: Collection[str]) -> int | None:
    """Return when the next reminder is due."""
    query = f"SELECT min(due_at) FROM reminders WHERE ended_at IS NULL AND {PRESENT}"  # noqa: S608
    found: int | None = db.execute(query, {"but": without_deleted(but)}).fetchone()[0]
    return found


def delete_reminders(db: sqlite3.Connection, agent: str) -> None:
    """Remove the agent's reminders."""
    db.execute("DELETE FROM reminders WHERE agent = ?", (agent,))


def vacuum_reminders(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` reminders that ended before a time; returns how many."""
    query = "DELETE FROM reminders WHERE id IN (SELECT id FROM reminders WHERE ended_at < ? LIMIT ?)"
    return db.execute(query, (before, most)).rowcount


def _reminder_rows(db: sqlite3.Connection, where: str, places: object) -> list[ReminderRow]:
    return list(_each_reminder(db, where, places))


def _each_reminder(db: sqlite3.Connection, where: str, places: object) -> Iterator[ReminderRow]:
    found = db.execute(f"SELECT {_REMINDER_COLUMNS} FROM reminders WHERE {where}", places)  # type: ignore[arg-type]  # noqa: S608
    return (ReminderRow(*row) for row in found)


_MOST_BYTES = 4 * 1024 * 1024
_ENVELOPE_BYTES = 500


class Shown(Protocol):
    """A row with texts that count for the size of an answer."""

    def texts(self) -> Iterable[str]:
        """Return the texts that may be long."""


R = TypeVar("R", bound=Shown)


def limit_response_size(rows: Iterable[R]) -> Iterator[R]:
    """Yield the first of `rows`, up to about 4 MiB of JSON; at least one if there is any."""
    size = 0
    for number, row in enumerate(rows):
        # Control characters grow six-fold in JSON.
        size += _ENVELOPE_BYTES + sum(len(json.dumps(text, ensure_ascii=False).encode()) for text in row.texts())
        if number and size > _MOST_BYTES:
            return
        yield row


PRESENT = "agent IN (SELECT name FROM agents) AND agent NOT IN (SELECT value FROM json_each(:but))"
"""The condition that the agent of a row exists and is none of `:but`."""


def without_deleted(agents: Collection[str]) -> str:
    """Return the value of `:but` in `PRESENT`."""
    return json.dumps(list(agents))


def check_exists(db: sqlite3.Connection, agent: str) -> None:
    """Raise `unknown_agent` if the agent is gone: rows stored now would belong to a new agent of the name."""
    if db.execute("SELECT 1 FROM agents WHERE name = ?", (agent,)).fetchone() is None:
        raise not_found("unknown_agent", f"there is no agent {agent!r} any more", "it was destroyed")


def format_time(at: int) -> str:
    return to_datetime(at).strftime("%Y-%m-%d %H:%M:%S UTC")
