"""Whether there is an agent of a name, as the tables have it."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection

from hive_core.errors import not_found

PRESENT = "agent IN (SELECT name FROM agents) AND agent NOT IN (SELECT value FROM json_each(:but))"
"""Whether the agent of a row is there, and none of those that `leaving_out` names."""


def leaving_out(agents: Collection[str]) -> str:
    """The value of `:but` in `PRESENT`."""
    return json.dumps(list(agents))


def check_present(db: sqlite3.Connection, agent: str) -> None:
    """Raise `unknown_agent` if the agent is gone: what a request of its stored now, a new agent would find."""
    if db.execute("SELECT 1 FROM agents WHERE name = ?", (agent,)).fetchone() is None:
        raise not_found("unknown_agent", f"there is no agent {agent!r} any more", "it was destroyed")
