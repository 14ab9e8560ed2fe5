"""The `questions` table. Times are milliseconds."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Literal, NamedTuple

from hive_core.asking.fitting import fitting
from hive_core.asking.presence import PRESENT, leaving_out
from hive_core.database.moments import moment
from hive_core.protocol import Question, QuestionsQuery
from hive_core.protocol.questions import QuestionState

_COLUMNS = (
    "id, agent, text, options, free_text, idempotency_key, asked_at, expires_at, state, answer, answered_by, ended_at"
)


class QuestionRow(NamedTuple):
    """One question. `id` is that of the message which told the operator of it."""

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
        """All in it that may be long."""
        return (self.text, *self.options, self.answer or "")

    def shown(self) -> Question:
        """The question as it is told to callers."""
        return Question(
            id=self.id,
            agent=self.agent,
            text=self.text,
            options=list(self.options),
            free_text=self.free_text,
            asked_at=moment(self.asked_at),
            expires_at=None if self.expires_at is None else moment(self.expires_at),
            state=self.state,
            answer=self.answer,
            answered_by=self.answered_by,
            ended_at=None if self.ended_at is None else moment(self.ended_at),
        )


def insert(db: sqlite3.Connection, row: QuestionRow) -> None:
    """Store a new question."""
    places = ", ".join("?" * len(row))
    values = row._replace(options=json.dumps(row.options))  # type: ignore[arg-type]
    db.execute(f"INSERT INTO questions ({_COLUMNS}) VALUES ({places})", values)  # noqa: S608


def end(
    db: sqlite3.Connection,
    number: int,
    state: Literal["answered", "expired"],
    now: int,
    answer: str | None = None,
    by: str | None = None,
) -> bool:
    """End an open question; whether it was open."""
    query = """UPDATE questions SET state = ?, ended_at = ?, answer = ?, answered_by = ?
        WHERE id = ? AND state = 'open'"""
    return db.execute(query, (state, now, answer, by, number)).rowcount > 0


def find(db: sqlite3.Connection, number: int) -> QuestionRow | None:
    """The question with that id."""
    return next(iter(_rows(db, "id = ?", (number,))), None)


def find_by_key(db: sqlite3.Connection, agent: str, key: str) -> QuestionRow | None:
    """The question that the agent asked under an idempotency key."""
    return next(iter(_rows(db, "agent = ? AND idempotency_key = ?", (agent, key))), None)


def open_of(db: sqlite3.Connection, agent: str) -> list[QuestionRow]:
    """The agent's open questions, the oldest first."""
    return _rows(db, "agent = ? AND state = 'open' ORDER BY id", (agent,))


def count_open(db: sqlite3.Connection) -> int:
    """How many questions are open, of all agents."""
    return int(db.execute("SELECT count(*) FROM questions WHERE state = 'open'").fetchone()[0])


def select(db: sqlite3.Connection, query: QuestionsQuery) -> tuple[list[QuestionRow], int]:
    """What fits the query and one answer, the oldest first, and how many there are without their limits."""
    where = "(:agent IS NULL OR agent = :agent)" + (" AND state = 'open'" if query.view == "open" else "")
    places = {"agent": query.agent, "limit": query.limit}
    (total,) = db.execute(f"SELECT count(*) FROM questions WHERE {where}", places).fetchone()  # noqa: S608
    if query.view == "open":
        return list(fitting(_each(db, f"{where} ORDER BY id LIMIT :limit", places))), total
    return list(fitting(_each(db, f"{where} ORDER BY id DESC LIMIT :limit", places)))[::-1], total


def expired(db: sqlite3.Connection, now: int, limit: int, but: Collection[str]) -> list[QuestionRow]:
    """Open questions whose time is up, of agents that there are, but for some."""
    where = f"state = 'open' AND expires_at <= :now AND {PRESENT} ORDER BY expires_at LIMIT :limit"
    return _rows(db, where, {"now": now, "limit": limit, "but": leaving_out(but)})


def next_expiry(db: sqlite3.Connection, but: Collection[str]) -> int | None:
    """When the next of them is up."""
    query = f"SELECT min(expires_at) FROM questions WHERE state = 'open' AND {PRESENT}"  # noqa: S608
    found: int | None = db.execute(query, {"but": leaving_out(but)}).fetchone()[0]
    return found


def forget(db: sqlite3.Connection, agent: str) -> None:
    """Remove the agent's questions."""
    db.execute("DELETE FROM questions WHERE agent = ?", (agent,))


def vacuum(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` questions that ended before a time; how many."""
    query = "DELETE FROM questions WHERE id IN (SELECT id FROM questions WHERE ended_at < ? LIMIT ?)"
    return db.execute(query, (before, most)).rowcount


def _rows(db: sqlite3.Connection, where: str, places: object) -> list[QuestionRow]:
    return list(_each(db, where, places))


def _each(db: sqlite3.Connection, where: str, places: object) -> Iterator[QuestionRow]:
    for number, agent, text, options, free, *rest in db.execute(
        f"SELECT {_COLUMNS} FROM questions WHERE {where}",  # noqa: S608
        places,  # type: ignore[arg-type]
    ):
        yield QuestionRow(number, agent, text, tuple(json.loads(options)), bool(free), *rest)
