"""Networks of configurations from before `sealed` was the default of `network` in agent.toml.

An approved commit cannot be changed. So the database names the commits that were proposed while the host's network was
the default: where one of them names no network, it means the host's. That holds for what agents run on, for proposals
that were open, and for rollbacks to one of these commits. A commit of later means what it says.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable


def are_older(db: sqlite3.Connection, agent: str, commits: Iterable[str | None]) -> frozenset[str]:
    """Return those of an agent's commits for which the host's network is the default."""
    query = "SELECT 1 FROM unnamed_networks WHERE agent = ? AND sha = ?"
    return frozenset(
        commit for commit in commits if commit is not None and db.execute(query, (agent, commit)).fetchone() is not None
    )


def settle(db: sqlite3.Connection, agent: str, deployment: int, commit: str, *, implied: bool) -> bool:
    """Store whether what the agent has run on since before the update names its network.

    Returns False if something else was deployed meanwhile, and then changes nothing.
    """
    query = "UPDATE agents SET network_implied = ? WHERE name = ? AND deployment = ? AND network_implied IS NULL"
    found = db.execute(query, (implied, agent, deployment)).rowcount > 0
    if found and implied:
        # The index that the update has read may have lacked this proposal.
        db.execute("INSERT OR IGNORE INTO unnamed_networks (agent, sha) VALUES (?, ?)", (agent, commit))
    return found


def forget(db: sqlite3.Connection, agent: str) -> None:
    """Remove the commits of an agent that is purged."""
    db.execute("DELETE FROM unnamed_networks WHERE agent = ?", (agent,))
