"""SQL of the tables `network_rules` and `network_requests`, and the numbers of changes."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from hive_core.people.ownership.sight import EVERYTHING, Sight
from hive_core.protocol import NetworkRequestsQuery
from hive_core.protocol.network.access import RequestState, RuleEffect

_RULE_COLUMNS = "id, agent, effect, entry, request, made_by, note, made_at, ends_at, ended_at, ended_by"
_REQUEST_COLUMNS = "id, agent, entry, why, hours, state, asked_at, decided_at, decided_by, note"


class RuleRow(NamedTuple):
    """One rule. `agent` is `*` for all agents, and `request` the request by whose approval it was made."""

    id: int
    agent: str
    effect: RuleEffect
    entry: str
    request: int | None
    made_by: str
    note: str
    made_at: int
    ends_at: int | None
    ended_at: int | None = None
    ended_by: str | None = None


class RequestRow(NamedTuple):
    """One request of an agent."""

    id: int
    agent: str
    entry: str
    why: str
    hours: float
    state: RequestState
    asked_at: int
    decided_at: int | None = None
    decided_by: str | None = None
    note: str = ""


def next_change(db: sqlite3.Connection) -> int:
    """Return the number of the change that is being made."""
    (number,) = db.execute("UPDATE network_changes SET number = number + 1 RETURNING number").fetchone()
    return int(number)


def last_change(db: sqlite3.Connection) -> int:
    """Return the number of the last change."""
    (number,) = db.execute("SELECT number FROM network_changes").fetchone()
    return int(number)


# --- rules --------------------------------------------------------------------------------------------------


def rules_in_force(db: sqlite3.Connection) -> list[RuleRow]:
    """Return the rules that have not ended, the oldest first."""
    return _rules(db, "ended_at IS NULL ORDER BY id", ())


def insert_rule(db: sqlite3.Connection, row: RuleRow) -> RuleRow:
    """Store a new rule; returns it with its id."""
    query = f"INSERT INTO network_rules ({_RULE_COLUMNS}, change) VALUES (NULL{', ?' * 11})"  # noqa: S608
    number = db.execute(query, (*row[1:], next_change(db))).lastrowid
    return row._replace(id=int(number or 0))


def end_rules(db: sqlite3.Connection, numbers: Collection[int], now: int, by: str) -> None:
    """End rules that are in force."""
    query = "UPDATE network_rules SET ended_at = ?, ended_by = ?, change = ? WHERE id = ? AND ended_at IS NULL"
    for number in numbers:
        db.execute(query, (now, by, next_change(db), number))


def same_rules(db: sqlite3.Connection, agent: str, entry: str) -> list[RuleRow]:
    """Return the rules in force for an agent, or for all, that are about the same host; those that open for `""`."""
    return _rules(db, "agent = ? AND entry = ? AND ended_at IS NULL", (agent, entry))


def changed_rules(db: sqlite3.Connection, agents: Sequence[str], after: int, most: int) -> list[tuple[int, RuleRow]]:
    """Return the rules of these agents that were last changed, each behind the number of that change."""
    return [(change, RuleRow(*row)) for change, *row in _changed(db, _RULE_COLUMNS, "rules", agents, after, most)]


def _rules(db: sqlite3.Connection, where: str, places: Sequence[Any]) -> list[RuleRow]:
    found = db.execute(f"SELECT {_RULE_COLUMNS} FROM network_rules WHERE {where}", places)  # noqa: S608
    return [RuleRow(*row) for row in found]


# --- requests -----------------------------------------------------------------------------------------------


def next_request(db: sqlite3.Connection) -> int:
    """Return the id that the next request gets."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'network_requests'").fetchone()
    return 1 if row is None else int(row[0]) + 1


def insert_request(db: sqlite3.Connection, row: RequestRow) -> None:
    """Store a new request, which has its id already."""
    query = f"INSERT INTO network_requests ({_REQUEST_COLUMNS}, change) VALUES (?{', ?' * 10})"  # noqa: S608
    db.execute(query, (*row, next_change(db)))


def decide_request(
    db: sqlite3.Connection, number: int, state: RequestState, now: int, by: str, note: str
) -> RequestRow | None:
    """Decide an open request; returns it as it is then, None if it was not open."""
    query = """UPDATE network_requests SET state = ?, decided_at = ?, decided_by = ?, note = ?, change = ?
        WHERE id = ? AND state = 'open'"""
    changed = db.execute(query, (state, now, by, note, next_change(db), number)).rowcount
    return find_request(db, number) if changed else None


def find_request(db: sqlite3.Connection, number: int) -> RequestRow | None:
    """Return the request with that id."""
    return next(iter(_requests(db, "id = ?", (number,))), None)


def open_requests_of(db: sqlite3.Connection, agent: str) -> list[RequestRow]:
    """Return the agent's open requests, the oldest first."""
    return _requests(db, "agent = ? AND state = 'open' ORDER BY id", (agent,))


def open_requests(db: sqlite3.Connection) -> list[RequestRow]:
    """Return the open requests of all agents, the oldest first."""
    return _requests(db, "state = 'open' ORDER BY id", ())


def select_requests(
    db: sqlite3.Connection, query: NetworkRequestsQuery, sees: Sight = EVERYTHING
) -> tuple[list[RequestRow], int]:
    """Return the requests that match the query, and the number of all that match."""
    where = "(:agent IS NULL OR agent = :agent)" + (" AND state = 'open'" if query.state == "open" else "")
    where += f" AND {sees.condition('agent')}"
    places = {"agent": query.agent, "limit": query.limit, "names": sees.names}
    (total,) = db.execute(f"SELECT count(*) FROM network_requests WHERE {where}", places).fetchone()  # noqa: S608
    if query.state == "open":
        return _requests(db, f"{where} ORDER BY id LIMIT :limit", places), total
    return _requests(db, f"{where} ORDER BY id DESC LIMIT :limit", places)[::-1], total


def changed_requests(
    db: sqlite3.Connection, agents: Sequence[str], after: int, most: int
) -> list[tuple[int, RequestRow]]:
    """Return the requests of these agents that were last changed, each behind the number of that change."""
    return [
        (change, RequestRow(*row)) for change, *row in _changed(db, _REQUEST_COLUMNS, "requests", agents, after, most)
    ]


def _requests(db: sqlite3.Connection, where: str, places: Any) -> list[RequestRow]:
    found = db.execute(f"SELECT {_REQUEST_COLUMNS} FROM network_requests WHERE {where}", places)  # noqa: S608
    return [RequestRow(*row) for row in found]


# ------------------------------------------------------------------------------------------------------------


def vacuum(db: sqlite3.Connection, before: int, most: int) -> int:
    """Remove up to `most` rules that ended, and as many requests decided, before a time; returns how many."""
    removed = 0
    for table, column in (("network_rules", "ended_at"), ("network_requests", "decided_at")):
        query = f"DELETE FROM {table} WHERE id IN (SELECT id FROM {table} WHERE {column} < ? LIMIT ?)"  # noqa: S608
        removed += db.execute(query, (before, most)).rowcount
    return removed


def _changed(
    db: sqlite3.Connection, columns: str, table: str, agents: Sequence[str], after: int, most: int
) -> list[Any]:
    query = f"""SELECT change, {columns} FROM network_{table} WHERE agent = ? AND change > ?
        ORDER BY change DESC LIMIT ?"""  # noqa: S608
    return [row for agent in agents for row in db.execute(query, (agent, after, most))]
