"""The daemon's side of egress over a real database, with a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError, not_found
from hive_core.gate.policy import Principal
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory, Member
from hive_core.outside.network.network import Network
from hive_core.outside.network.requests import HostDecider
from hive_core.protocol import (
    AgentConfig,
    ApproveHost,
    AskForHost,
    DenyHost,
    Kind,
    LogsQuery,
    MakeRule,
    NetworkRequest,
    RemoveRule,
)
from hive_core.protocol.names import EVERYONE, MANAGER
from hive_core.protocol.network.packets import RefusedPacket, TrafficPacket
from hive_core.protocol.network.settings import Egress
from hive_core.settings import Approval, Settings
from tests.unit.core.messaging.messaging_hive import UNLIMITED

OPERATOR = Principal("operator", "operator", "operator:root")
HM1ND = Principal(MANAGER, "manager", f"manager:{MANAGER}")
HOUR = 3_600_000


class FakeAgents:
    """The agents and their configurations, as a registry knows them."""

    def __init__(self) -> None:
        self.records: dict[str, AgentRecord] = {}

    def put(self, name: str, config: Mapping[str, Any]) -> None:
        """There is such an agent, with this configuration."""
        kind: Kind = "manager" if name == MANAGER else "agent"
        self.records[name] = AgentRecord(name, kind, "running", AgentConfig.model_validate(config), "", 0, 0)

    def find(self, name: str) -> AgentRecord | None:
        return self.records.get(name)

    def record(self, name: str) -> AgentRecord:
        if name not in self.records:
            raise not_found("unknown_agent", f"there is no agent {name!r}")
        return self.records[name]

    def all(self) -> Sequence[AgentRecord]:
        return list(self.records.values())


class NetworkHive:
    """ada, bob and the manager; `restart` is a daemon's end and the next one's start."""

    def __init__(self, path: Path, settings: Egress | None = None, decider: HostDecider = "operator") -> None:
        self.now = 1_800_000_000_000
        self.settings = settings or Egress()
        self.services: dict[str, str] = {}
        self.decider = decider
        self.changed: list[str] = []
        self.closed: list[str] = []
        self.agents = FakeAgents()
        self._path = path

    async def open(self) -> None:
        self.database = await Database.open(self._path / "hive.sqlite")
        self._writing = asyncio.create_task(self.database.run())
        self.directory = Directory()
        self.events = EventHub()
        self.broker = Broker(
            self.database,
            self.directory,
            self.events,
            inbox_limit=10_000,
            budgets=UNLIMITED,
            lease_seconds=60.0,
            clock=lambda: self.now,
            steady=lambda: self.now,
        )
        await self.broker.open()
        for name in list(self.agents.records) or ["ada", "bob", MANAGER]:
            await self.add(name)
        self.network = Network(
            Settings(egress=self.settings, services=self.services, approval=Approval(network=self.decider)),
            database=self.database,
            broker=self.broker,
            agents=self.agents,
            events=self.events,
            clock=lambda: self.now,
        )
        self.network.on_changed = self.changed.append
        self.network.on_close = self.closed.append
        await self.network.open()

    async def close(self) -> None:
        self.network.close()
        self.broker.close()
        self.database.finish()
        await self._writing
        await self.database.close()

    async def restart(self) -> None:
        await self.close()
        await self.open()

    async def add(self, name: str, **config: Any) -> None:
        """There is such an agent, which is sealed unless its configuration says otherwise."""
        if name not in self.agents.records or config:
            self.agents.put(name, {"network": "sealed", **config})
        self.directory.put(Member(name, "manager" if name == MANAGER else "agent"))
        columns = "name, kind, desired, config, prompt, deployment, created_at"
        query = (
            f"INSERT INTO agents ({columns}) VALUES (?, 'agent', 'running', '{{}}', '', 0, 0) ON CONFLICT DO NOTHING"
        )
        await self.database.write(lambda db: db.execute(query, (name,)).fetchone())

    async def remove(self, name: str) -> None:
        """The agent is destroyed."""
        del self.agents.records[name]
        self.directory.remove(name)
        await self.database.write(lambda db: db.execute("DELETE FROM agents WHERE name = ?", (name,)).fetchone())
        self.network.configuration_changed(name)

    async def make(self, effect: str, host: str | None = None, agent: str = "ada", **more: Any) -> None:
        """Make a rule as the operator."""
        request = MakeRule.model_validate({"effect": effect, "host": host, **more})
        await self.network.make_rule(agent, request, OPERATOR)

    async def take_away(self, host: str, agent: str = "ada") -> None:
        """Remove a rule as the operator."""
        await self.network.remove_rule(agent, RemoveRule(host=host), OPERATOR)

    async def ask(
        self, host: str = "crates.io", agent: str = "ada", why: str = "to build", **more: Any
    ) -> NetworkRequest:
        """Ask for a host as an agent."""
        principal = Principal(agent, self.agents.records[agent].kind, f"agent:{agent}")
        return await self.network.ask(AskForHost(host=host, why=why, **more), principal)

    async def approve(self, number: int, by: Principal = OPERATOR, **more: Any) -> NetworkRequest:
        return await self.network.approve(number, ApproveHost(**more), by)

    async def deny(self, number: int, by: Principal = OPERATOR, note: str = "no") -> NetworkRequest:
        return await self.network.deny(number, DenyHost(note=note), by)

    async def refuse(self, host: str = "evil.example", agent: str = "ada", count: int = 1, **more: Any) -> None:
        """The proxy refuses a host, and what it reports is stored."""
        fields = {"agent": agent, "host": host, "port": 443, "reason": "no_rule", "missing": host, "count": count}
        await self.network.heard(RefusedPacket.model_validate(fields | more))
        await self.network.store_reports()

    async def carry(self, agent: str = "ada", connections: int = 1, sent: int = 0, received: int = 0) -> None:
        """The proxy reports traffic."""
        await self.network.heard(TrafficPacket(agent=agent, connections=connections, sent=sent, received=received))

    async def told(self, to: str) -> list[str]:
        """The bodies of the messages to somebody, the oldest first."""
        query = "SELECT body FROM messages WHERE recipient = ? ORDER BY id"
        return [body for (body,) in await self.database.read(lambda db: db.execute(query, (to,)).fetchall())]

    async def audited(self) -> list[tuple[str, str, str]]:
        """Actor, action and subject of each row of the audit table."""
        query = "SELECT actor, action, subject FROM audit ORDER BY id"
        return await self.database.read(lambda db: db.execute(query).fetchall())

    def follow(self, cursor: str | None = None) -> LogsQuery:
        """The query of a reader that waits for more of a log."""
        return LogsQuery(cursor=cursor, wait_seconds=30.0)

    def allowed(self, agent: str = "ada") -> list[str]:
        return self.network.policy(agent).allow

    def denied(self, agent: str = "ada") -> list[str]:
        return self.network.policy(agent).deny


async def code(awaited: object) -> str:
    """The code with which something is refused."""
    try:
        await awaited  # type: ignore[misc]
    except HiveError as refusal:
        return refusal.code
    raise AssertionError("nothing was refused")


__all__ = ["EVERYONE", "HM1ND", "HOUR", "OPERATOR", "NetworkHive", "code"]
