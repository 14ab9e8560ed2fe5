"""Sessions on agents' pages as the database keeps them, so that nobody has to sign in again after a restart.

Only digests are kept: who reads the database is not let in by it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from hive_core.agents.page_access import MOST, Known, Pass, digest
from hive_core.database.moments import milliseconds


def add(db: sqlite3.Connection, agent: str, entry: Pass) -> None:
    """Keep a session; those that are over, and the oldest of too many, are removed."""
    db.execute("DELETE FROM page_sessions WHERE ends_at <= ?", (milliseconds(),))
    # Not for an agent that was destroyed meanwhile: the next one of its name would let them in.
    db.execute(
        "INSERT INTO page_sessions (digest, agent, user, ends_at) SELECT ?, name, ?, ? FROM agents WHERE name = ?",
        (digest(entry.secret), entry.user, int(entry.ends * 1_000), agent),
    )
    db.execute(
        "DELETE FROM page_sessions WHERE agent = ?1 AND digest NOT IN "
        "(SELECT digest FROM page_sessions WHERE agent = ?1 ORDER BY rowid DESC LIMIT ?2)",
        (agent, MOST),
    )


def forget(db: sqlite3.Connection, agent: str) -> None:
    """The agent is gone."""
    db.execute("DELETE FROM page_sessions WHERE agent = ?", (agent,))


def load(db: sqlite3.Connection) -> Sequence[tuple[str, Known]]:
    """The sessions that are not over, with their agents, the oldest first."""
    query = "SELECT agent, digest, user, ends_at FROM page_sessions WHERE ends_at > ? ORDER BY rowid"
    return [(row[0], Known(row[1], row[2], row[3] / 1_000)) for row in db.execute(query, (milliseconds(),))]
