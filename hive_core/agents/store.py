"""SQL of the tables `agents`, `web_ports` and `purges`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from typing import Literal

from hive_core.errors import HiveError, conflict
from hive_core.infra.database.database import milliseconds
from hive_core.protocol import AgentConfig, Kind
from hive_core.protocol.names import MANAGER

Desired = Literal["running", "stopped"]


@dataclass(frozen=True)
class ActiveConfig:
    """The configuration that a deployment makes active: number, closure, settings and the role's text.

    `network_implied` is true if its network is the host's only because that was the default once.
    """

    number: int
    closure: str
    config: AgentConfig
    prompt: str
    network_implied: bool = False


@dataclass(frozen=True)
class AgentRecord:
    """One agent. `desired` is the state that was requested, not the current one.

    `config`, `prompt`, `deployment` and `closure` are the active ones; `status` is the text that the agent reported.
    `network_implied` is as in ActiveConfig, and None where the first start after an update has not found it out yet.
    `unsealed` is true where nothing can seal agents and they run all the same; it is not stored.
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
    network_implied: bool | None = False
    unsealed: bool = False

    @property
    def sealed(self) -> bool:
        """True if the agent has no network except the socket of the daemon."""
        return self.config.network == "sealed" and not self.unsealed

    @property
    def nix_daemon(self) -> bool:
        """True if the agent may use the host's Nix daemon."""
        return self.config.nix_daemon

    def with_active_config(self, in_force: ActiveConfig) -> AgentRecord:
        """The record with another active configuration."""
        return replace(
            self,
            config=in_force.config,
            prompt=in_force.prompt,
            deployment=in_force.number,
            closure=in_force.closure,
            network_implied=in_force.network_implied,
        )


def load(db: sqlite3.Connection) -> list[AgentRecord]:
    """All agents, the manager first."""
    query = """SELECT name, kind, desired, config, network_implied,
            prompt, deployment, port, instance, closure, status
        FROM agents JOIN web_ports USING (name) ORDER BY kind = 'agent', name"""
    return [
        replace(
            AgentRecord(name, kind, desired, AgentConfig.model_validate_json(config), *rest),
            network_implied=None if implied is None else bool(implied),
        )
        for name, kind, desired, config, implied, *rest in db.execute(query)
    ]


IsFree = Callable[[int], bool]
"""Returns whether nobody on this host listens on a port."""


def _any_port(_port: int) -> bool:
    return True


def name_of_account(name: str) -> HiveError:
    """Return the error for an agent that would have the name of a person."""
    return conflict("name_taken", f"an account of a person has the name {name}", "choose another name")


def insert(db: sqlite3.Connection, record: AgentRecord, is_free: IsFree = _any_port) -> AgentRecord:
    """Store a new agent with its web port, one that `is_free`; a name that had a port before keeps it.

    Raises `name_taken` for the name of an account, which may have been made since the name was checked.
    """
    if db.execute("SELECT 1 FROM people WHERE name = ?", (record.name,)).fetchone() is not None:
        raise name_of_account(record.name)
    port = _keep_port(db, record.name, is_free)
    db.execute(
        """INSERT INTO agents (name, kind, desired, config, prompt, deployment, closure, network_implied, created_at)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)""",
        (
            record.name,
            record.kind,
            record.desired,
            record.config.model_dump_json(),
            record.prompt,
            record.deployment,
            record.closure,
            record.network_implied,
            milliseconds(),
        ),
    )
    return replace(record, web_port=port)


def set_desired(db: sqlite3.Connection, name: str, desired: Desired) -> None:
    """Store the requested state."""
    db.execute("UPDATE agents SET desired = ? WHERE name = ?", (desired, name))


def set_status(db: sqlite3.Connection, name: str, status: str) -> None:
    """Store the status text that the agent reported."""
    db.execute("UPDATE agents SET status = ? WHERE name = ?", (status, name))


def replace_active_config(db: sqlite3.Connection, name: str, in_force: ActiveConfig) -> None:
    """Store the agent's active configuration."""
    db.execute(
        """UPDATE agents SET config = ?, prompt = ?, deployment = ?, closure = ?, network_implied = ?
        WHERE name = ?""",
        (
            in_force.config.model_dump_json(),
            in_force.prompt,
            in_force.number,
            in_force.closure,
            in_force.network_implied,
            name,
        ),
    )


def delete(db: sqlite3.Connection, name: str, *, forget_port: bool) -> None:
    """Delete the agent's row; its port stays reserved unless `forget_port` is set."""
    db.execute("DELETE FROM agents WHERE name = ?", (name,))
    if forget_port:
        db.execute("DELETE FROM web_ports WHERE name = ?", (name,))


def purges(db: sqlite3.Connection) -> set[str]:
    """The names of destroyed agents whose files have not been moved away yet."""
    return {name for (name,) in db.execute("SELECT name FROM purges")}


def begin_purge(db: sqlite3.Connection, name: str) -> None:
    """Record that the agent's files have to be deleted, until `end_purge`."""
    db.execute("INSERT INTO purges (name) VALUES (?)", (name,))


def end_purge(db: sqlite3.Connection, name: str) -> None:
    """Record that the agent's files have been moved away."""
    db.execute("DELETE FROM purges WHERE name = ?", (name,))


def _keep_port(db: sqlite3.Connection, name: str, is_free: IsFree) -> int:
    row = db.execute("SELECT port FROM web_ports WHERE name = ?", (name,)).fetchone()
    if row is not None:
        return int(row[0])
    port = choose_port(name, {taken for (taken,) in db.execute("SELECT port FROM web_ports")}, is_free)
    db.execute("INSERT INTO web_ports (name, port) VALUES (?, ?)", (name, port))
    return port


_MANAGER_PORTS = range(8000, 8100)
_PORTS = range(8100, 9000)


def choose_port(name: str, taken: Container[int], is_free: IsFree = _any_port) -> int:
    """The web port of an agent: the first free one from 8000 for the manager, else from 8100 + FNV-1a(name) % 900.

    Ports that another hive or any other program has are not `is_free`. If no port is, a taken one is waited for later.
    """
    ports = _MANAGER_PORTS if name == MANAGER else _PORTS
    preferred = 0 if name == MANAGER else _fnv1a(name.encode()) % len(ports)
    in_order = [ports[(preferred + offset) % len(ports)] for offset in range(len(ports))]
    unreserved = [port for port in in_order if port not in taken]
    if not unreserved:
        raise conflict("no_port_left", f"all {len(ports)} web ports are taken", "destroy an agent with --purge")
    return next((port for port in unreserved if is_free(port)), unreserved[0])


def _fnv1a(data: bytes) -> int:
    """The 32-bit FNV-1a hash (draft-eastlake-fnv)."""
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value
