"""The agents as the operator sees them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hive_core.agents.page_access import Pages
from hive_core.agents.registry import Roster
from hive_core.agents.reports import Reports
from hive_core.agents.store import AgentRecord
from hive_core.layout import Layout
from hive_core.messaging import Broker
from hive_core.protocol import AgentStatus, LogsAnswer, LogsQuery
from hive_core.runtimes.base import Runtime, UnitState


class Views:
    """Everything that can be asked about agents; nothing here changes any."""

    def __init__(self, *, layout: Layout, roster: Roster, broker: Broker, runtime: Runtime, reports: Reports) -> None:
        self._layout = layout
        self._roster = roster
        self._broker = broker
        self._runtime = runtime
        self._reports = reports
        self.pages = Pages()
        self._outdated: frozenset[str] = frozenset()

    def record(self, name: str) -> AgentRecord:
        """The agent's record; raises `unknown_agent`, or `bad_name` for what can be none."""
        return self._roster.record(name)

    def running(self, name: str) -> bool:
        """Whether the agent is to run; raises like `record`."""
        return self.record(name).desired == "running"

    def exists(self, name: str) -> bool:
        """Whether there is such an agent."""
        return self._roster.find(name) is not None

    def status(self, name: str) -> AgentStatus:
        """One agent; raises like `record`."""
        return self._status(self.record(name), self._unit(name))

    def statuses(self) -> Sequence[AgentStatus]:
        """All agents, the manager first."""
        units = {unit.name: unit for unit in self._runtime.units()}
        return [self._status(record, units.get(record.name)) for record in self._roster.all()]

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
