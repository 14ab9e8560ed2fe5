"""The agents in memory, and their status as callers see it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hive_core.agents.health import HarnessReports
from hive_core.agents.page_access import PageAccess
from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError, not_found
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import AgentStatus, LogsAnswer, LogsQuery
from hive_core.protocol.names import MANAGER, is_agent_name, why_not
from hive_core.runtimes.base import Runtime, UnitState
from hive_core.text import shown


class AgentRegistry:
    """Records by name. In memory: the database has them, too."""

    def __init__(self, directory: Directory) -> None:
        """`directory` is kept up to date with it."""
        self._directory = directory
        self._records: dict[str, AgentRecord] = {}

    def add(self, record: AgentRecord) -> None:
        """Add an agent; from now on it can be written to."""
        self._directory.put(Member(record.name, record.kind, _allowed(record), record.instance))
        self._records[record.name] = record

    def replace(self, record: AgentRecord) -> None:
        """Something else is asked for of the agent, or in force. Its harness stays the one that speaks for it."""
        self._directory.member(record.name).allowed = _allowed(record)
        self._records[record.name] = record

    def remove(self, name: str) -> None:
        """Remove the agent."""
        self._directory.remove(name)
        del self._records[name]

    def find(self, name: str) -> AgentRecord | None:
        """The agent's record, or None."""
        return self._records.get(name)

    def record(self, name: str) -> AgentRecord:
        """The agent's record; raises `unknown_agent`, or `bad_name` for what can be none."""
        record = self._records.get(name)
        if record is not None:
            return record
        check_name(name)
        raise not_found("unknown_agent", f"there is no agent {shown(name)}", "hive-c0re list shows those there are")

    def all(self) -> Sequence[AgentRecord]:
        """All agents, the manager first."""
        return sorted(self._records.values(), key=lambda record: (record.kind != "manager", record.name))


def _allowed(record: AgentRecord) -> frozenset[str] | None:
    allowed = record.config.allowed_recipients
    return None if allowed is None else frozenset(allowed)


def check_name(name: str) -> None:
    """Raise `bad_name` for what can be no agent's name."""
    if name != MANAGER and not is_agent_name(name):
        raise HiveError("bad_name", why_not(name), hint="1 to 9 characters a-z and 0-9, a letter first")


class AgentViews:
    """Everything that can be asked about agents; nothing here changes any."""

    def __init__(
        self, *, layout: Layout, registry: AgentRegistry, broker: Broker, runtime: Runtime, reports: HarnessReports
    ) -> None:
        self._layout = layout
        self._registry = registry
        self._broker = broker
        self._runtime = runtime
        self._reports = reports
        self.page_access = PageAccess()
        self._outdated: frozenset[str] = frozenset()

    def record(self, name: str) -> AgentRecord:
        """The agent's record; raises `unknown_agent`, or `bad_name` for what can be none."""
        return self._registry.record(name)

    def running(self, name: str) -> bool:
        """Whether the agent is to run; raises like `record`."""
        return self.record(name).desired == "running"

    def exists(self, name: str) -> bool:
        """Whether there is such an agent."""
        return self._registry.find(name) is not None

    def status(self, name: str) -> AgentStatus:
        """One agent; raises like `record`."""
        return self._status(self.record(name), self._unit(name))

    def statuses(self) -> Sequence[AgentStatus]:
        """All agents, the manager first."""
        units = {unit.name: unit for unit in self._runtime.units()}
        return [self._status(record, units.get(record.name)) for record in self._registry.all()]

    def mark_outdated(self, closures: Iterable[str]) -> None:
        """These closures, and no others, were built with an older hyperhive."""
        self._outdated = frozenset(closures)

    async def logs(self, name: str, query: LogsQuery) -> LogsAnswer:
        """What the agent's harness wrote to its output; raises like `record`."""
        self.record(name)
        lines, cursor = await self._runtime.read_log(
            name, self._layout.agent_log(name), query.lines, query.cursor, query.wait_seconds
        )
        return LogsAnswer(lines=lines, cursor=cursor)

    def _unit(self, name: str) -> UnitState | None:
        return next((unit for unit in self._runtime.units() if unit.name == name), None)

    def _status(self, record: AgentRecord, unit: UnitState | None) -> AgentStatus:
        unit = unit or UnitState(record.name, "stopped")
        report = self._reports.last(record.name)
        return AgentStatus(
            name=record.name,
            kind=record.kind,
            lifecycle=unit.lifecycle,
            state=report.state,
            status=record.status,
            backend=record.config.backend,
            model=record.config.model,
            detail=report.detail,
            state_since=report.since,
            started_at=unit.started_at,
            pid=unit.pid,
            restarts=unit.restarts,
            exit_cause=unit.exit_cause,
            unacked=self._broker.unacknowledged(record.name),
            web_port=record.web_port,
            deployment=record.deployment,
            confinement=self._runtime.confinement,
            needs_update=record.closure in self._outdated,
        )
