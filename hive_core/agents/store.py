"""SQL of the tables `agents`, `web_ports` and `purges`."""

from __future__ import annotations

import sqlite3
from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Literal

from hive_core.errors import conflict
from hive_core.infra.database.database import milliseconds
from hive_core.protocol import AgentConfig, Kind
from hive_core.protocol.names import MANAGER

Desired = Literal["running", "stopped"]


@dataclass(frozen=True)
class ActiveConfig:
    """What one deployment puts in force: its number, what was built for it, the settings and the role's text."""

    number: int
    closure: str
    config: AgentConfig
    prompt: str


@dataclass(frozen=True)
class AgentRecord:
    """One agent. `desired` is what the operator asked for, not what it does at the moment.

    `config`, `prompt`, `deployment` and `closure` are those in force; `status` is what it says it is at.
    """

    name: str
    kind: Kind
    desired: Desired
    config: AgentConfig
    prompt: str
    deployment: int
    web_port: int
    instance: str | None = None
    closure: str = ""
    status: str = ""

    @property
    def sealed(self) -> bool:
        """Whether its network is to be nothing but the hive's socket."""
        return self.config.network == "sealed"

    def with_active_config(self, in_force: ActiveConfig) -> AgentRecord:
        """The same agent with something else in force."""
        return replace(
            self,
            config=in_force.config,
            prompt=in_force.prompt,
            deployment=in_force.number,
            closure=in_force.closure,
        )


def load(db: sqlite3.Connection) -> list[AgentRecord]:
    """All agents, the manager first."""
    query = """SELECT name, kind, desired, config, prompt, deployment, port, instance, closure, status
        FROM agents JOIN web_ports USING (name) ORDER BY kind = 'agent', name"""
    return [
        AgentRecord(name, kind, desired, AgentConfig.model_validate_json(config), *rest)
        for name, kind, desired, config, *rest in db.execute(query)
    ]


def insert(db: sqlite3.Connection, record: AgentRecord) -> AgentRecord:
    """Store a new agent and give it its web port, the one it had before if there was such an agent."""
    port = _keep_port(db, record.name)
    db.execute(
        """INSERT INTO agents (name, kind, desired, config, prompt, deployment, closure, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            record.name,
            record.kind,
            record.desired,
            record.config.model_dump_json(),
            record.prompt,
            record.deployment,
            record.closure,
            milliseconds(),
        ),
    )
    return replace(record, web_port=port)


def set_desired(db: sqlite3.Connection, name: str, desired: Desired) -> None:
    """Remember what the operator asked for."""
    db.execute("UPDATE agents SET desired = ? WHERE name = ?", (desired, name))


def set_status(db: sqlite3.Connection, name: str, status: str) -> None:
    """Remember what the agent says it is at."""
    db.execute("UPDATE agents SET status = ? WHERE name = ?", (status, name))


def replace_active_config(db: sqlite3.Connection, name: str, in_force: ActiveConfig) -> None:
    """From now on this is what the agent runs."""
    db.execute(
        "UPDATE agents SET config = ?, prompt = ?, deployment = ?, closure = ? WHERE name = ?",
        (in_force.config.model_dump_json(), in_force.prompt, in_force.number, in_force.closure, name),
    )


def delete(db: sqlite3.Connection, name: str, *, forget_port: bool) -> None:
    """Remove the agent's row; its port stays its own unless that is to be forgotten too."""
    db.execute("DELETE FROM agents WHERE name = ?", (name,))
    if forget_port:
        db.execute("DELETE FROM web_ports WHERE name = ?", (name,))


def purges(db: sqlite3.Connection) -> set[str]:
    """The agents that are destroyed and whose files are still where they were."""
    return {name for (name,) in db.execute("SELECT name FROM purges")}


def begin_purge(db: sqlite3.Connection, name: str) -> None:
    """The agent's files are to go; remembered until `end_purge`."""
    db.execute("INSERT INTO purges (name) VALUES (?)", (name,))


def end_purge(db: sqlite3.Connection, name: str) -> None:
    """The agent's files are out of the way."""
    db.execute("DELETE FROM purges WHERE name = ?", (name,))


def _keep_port(db: sqlite3.Connection, name: str) -> int:
    row = db.execute("SELECT port FROM web_ports WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return int(row[0])
    port = choose_port(name, {taken for (taken,) in db.execute("SELECT port FROM web_ports")})
    db.execute("INSERT INTO web_ports (name, port) VALUES (?, ?)", (name, port))
    return port


_MANAGER_PORT = 8000
_FIRST_PORT = 8100
_PORTS = 900


def choose_port(name: str, taken: Container[int]) -> int:
    """The manager's is 8000; others prefer 8100 + FNV-1a(name) % 900, and take the next free one from there."""
    if name == MANAGER:
        return _MANAGER_PORT
    preferred = _fnv1a(name.encode()) % _PORTS
    for offset in range(_PORTS):
        port = _FIRST_PORT + (preferred + offset) % _PORTS
        if port not in taken:
            return port
    raise conflict("no_port_left", f"all {_PORTS} web ports are taken", "destroy an agent with --purge")


def _fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash (draft-eastlake-fnv)."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
