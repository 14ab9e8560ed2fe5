"""SQL of the tables `network_refusals` and `network_traffic`."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from hive_core.outside.network.store import next_change

MAX_REFUSALS = 200
"""Rows of one agent; the one that was refused longest ago makes room for another."""
KEPT_DAYS = 30
"""Days whose traffic is kept."""
_COLUMNS = "agent, host, port, reason, missing, detail, times, first_at, last_at, told"


class RefusalRow(NamedTuple):
    """Refusals of one host and port for one reason; `host` and `detail` are words of the agent."""

    agent: str
    host: str
    port: int
    reason: str
    missing: str
    detail: str
    times: int
    first_at: int
    last_at: int
    told: int = 0


def add_refusals(db: sqlite3.Connection, row: RefusalRow) -> None:
    """Add refusals to those of the same host, port and reason; an agent that is gone has none."""
    if db.execute("SELECT 1 FROM agents WHERE name = ?", (row.agent,)).fetchone() is None:
        return
    db.execute(
        f"""INSERT INTO network_refusals ({_COLUMNS}, change) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT DO UPDATE SET times = times + excluded.times, missing = excluded.missing,
            detail = excluded.detail, last_at = excluded.last_at, change = excluded.change""",  # noqa: S608
        (*row, next_change(db)),
    )
    db.execute(
        """DELETE FROM network_refusals WHERE agent = ? AND change <= (SELECT change FROM network_refusals
            WHERE agent = ? ORDER BY change DESC LIMIT 1 OFFSET ?)""",
        (row.agent, row.agent, MAX_REFUSALS),
    )


def untold_refusals(
    db: sqlite3.Connection, agent: str, least: int, reasons: Collection[str], most: int
) -> list[RefusalRow]:
    """Return the refusals of hosts that were refused at least so often and were not told yet, the most often first."""
    marks = ", ".join("?" * len(reasons))
    return _rows(
        db,
        f"""agent = ? AND told = 0 AND times >= ? AND host != '' AND reason IN ({marks})
        ORDER BY times DESC, host LIMIT ?""",
        (agent, least, *reasons, most),
    )


def mark_told(db: sqlite3.Connection, rows: Collection[RefusalRow]) -> None:
    """Record that refusals were told."""
    query = "UPDATE network_refusals SET told = 1 WHERE agent = ? AND host = ? AND port = ? AND reason = ?"
    db.executemany(query, [(row.agent, row.host, row.port, row.reason) for row in rows])


def most_refused(db: sqlite3.Connection, agent: str, most: int) -> list[RefusalRow]:
    """Return what was refused to an agent most often."""
    return _rows(db, "agent = ? ORDER BY times DESC, last_at DESC, host LIMIT ?", (agent, most))


def count_refusals(db: sqlite3.Connection) -> dict[str, int]:
    """Return how many refusals each agent has."""
    return dict(db.execute("SELECT agent, sum(times) FROM network_refusals GROUP BY agent"))


def changed_refusals(db: sqlite3.Connection, agent: str, after: int, most: int) -> list[tuple[int, RefusalRow]]:
    """Return the refusals of an agent that were last changed, each behind the number of that change."""
    query = f"""SELECT change, {_COLUMNS} FROM network_refusals WHERE agent = ? AND change > ?
        ORDER BY change DESC LIMIT ?"""  # noqa: S608
    return [(change, RefusalRow(*row)) for change, *row in db.execute(query, (agent, after, most))]


def add_traffic(db: sqlite3.Connection, traffic: Collection[tuple[str, int, int, int]]) -> None:
    """Count bytes: each time an agent, a day, and what it has sent and received; agents that are gone have none."""
    db.executemany(
        """INSERT INTO network_traffic (agent, day, sent, received) SELECT ?1, ?2, ?3, ?4
            WHERE EXISTS (SELECT 1 FROM agents WHERE name = ?1)
        ON CONFLICT DO UPDATE SET sent = sent + excluded.sent, received = received + excluded.received""",
        traffic,
    )
    for agent, day, *_ in traffic:
        db.execute("DELETE FROM network_traffic WHERE agent = ? AND day <= ?", (agent, day - KEPT_DAYS))


def traffic_of_day(db: sqlite3.Connection, day: int) -> dict[str, tuple[int, int]]:
    """Return the bytes that each agent has sent and received on a day."""
    query = "SELECT agent, sent, received FROM network_traffic WHERE day = ?"
    return {agent: (sent, received) for agent, sent, received in db.execute(query, (day,))}


def _rows(db: sqlite3.Connection, where: str, places: Sequence[Any]) -> list[RefusalRow]:
    found = db.execute(f"SELECT {_COLUMNS} FROM network_refusals WHERE {where}", places)  # noqa: S608
    return [RefusalRow(*row) for row in found]
