"""The agents in memory, and their status for callers."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from hive_core.agents.health import HarnessReports
from hive_core.agents.store import AgentRecord
from hive_core.errors import HiveError, conflict, not_found
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory, Member
from hive_core.protocol import AgentStatus, LogsAnswer, LogsQuery
from hive_core.protocol.names import MANAGER, NAME_RULE, is_agent_name, why_not
from hive_core.runtimes.base import Runtime, UnitState
from hive_core.runtimes.disk_quotas import as_size
from hive_core.text import shown


class NetworkState(NamedTuple):
    """The network of an agent in short: whether a rule opens everything, until when, and its rules and requests."""

    open: bool = False
    open_until: datetime | None = None
    rules: int = 0
    requests: int = 0


class AgentRegistry:
    """The records of all agents by name, a copy of the database's; answers every question about agents."""

    def __init__(
        self, *, layout: Layout, directory: Directory, broker: Broker, runtime: Runtime, reports: HarnessReports
    ) -> None:
        """The registry keeps `directory` up to date with the agents."""
        self.changed: list[Callable[[str], None]] = []
        """Called with an agent that was added or removed, or whose configuration is another one now."""
        self.find_network_state: Callable[[AgentRecord], NetworkState] = lambda _: NetworkState()
        self.is_person: Callable[[str], bool] = lambda _: False
        """Returns True for the name of an account, which no agent may have."""
        self.find_owner: Callable[[str], str | None] = lambda _: None
        self._layout = layout
        self._directory = directory
        self._broker = broker
        self._runtime = runtime
        self._reports = reports
        self._records: dict[str, AgentRecord] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._outdated: frozenset[str] = frozenset()
        self._page_problems: dict[str, str] = {}
        self._refusals: dict[str, HiveError] = {}

    def lock(self, name: str) -> asyncio.Lock:
        """The lock that every action on the agent holds, so that actions on one agent run one after another."""
        return self._locks[name]

    # --- changes --------------------------------------------------------------------------------------------

    def add(self, record: AgentRecord) -> None:
        """Add an agent; it can receive messages from now on."""
        self._directory.put(Member(record.name, record.kind, _allowed(record), record.instance))
        self._records[record.name] = record
        self._tell(record.name)

    def replace(self, record: AgentRecord) -> None:
        """Replace the agent's record. The instance of its harness stays."""
        self._directory.member(record.name).allowed = _allowed(record)
        before = self._records.get(record.name)
        self._records[record.name] = record
        if before is None or before.config != record.config:
            self._tell(record.name)

    def remove(self, name: str) -> None:
        """Remove the agent, which may be detached."""
        self._directory.remove(name)
        del self._records[name]
        self._page_problems.pop(name, None)
        self._refusals.pop(name, None)
        self._tell(name)

    def detach(self, name: str) -> Member:
        """Stop delivering messages to the agent, which stays registered; `attach` undoes it."""
        member = self._directory.member(name)
        self._directory.remove(name)
        return member

    def attach(self, member: Member) -> None:
        """Deliver messages to a detached agent again."""
        self._directory.put(member)

    def set_page_problem(self, name: str, problem: str) -> None:
        """Record why the agent's page has no port; empty if it has one, or is to have none."""
        if problem:
            self._page_problems[name] = problem
        else:
            self._page_problems.pop(name, None)

    def page_problems(self) -> Sequence[str]:
        """The names of the agents whose pages lack a port."""
        return list(self._page_problems)

    @contextmanager
    def starting(self, name: str) -> Iterator[None]:
        """Record the refusal of a start within the block, which is the agent's state until its next start."""
        self._refusals.pop(name, None)
        try:
            yield
        except HiveError as error:
            self._refusals[name] = error
            raise

    def mark_outdated(self, closures: Iterable[str]) -> None:
        """Record that these closures, and no others, were built with an older hyperhive."""
        self._outdated = frozenset(closures)

    def _tell(self, name: str) -> None:
        for call in self.changed:
            call(name)

    # --- questions ------------------------------------------------------------------------------------------

    def find(self, name: str) -> AgentRecord | None:
        """The agent's record, or None."""
        return self._records.get(name)

    def exists(self, name: str) -> bool:
        """Return True if the agent exists."""
        return name in self._records

    def record(self, name: str) -> AgentRecord:
        """The agent's record.

        Raises:
            HiveError: `unknown_agent`, or `bad_name` if no agent can have the name.
        """
        record = self._records.get(name)
        if record is not None:
            return record
        raise unknown_agent(name)

    def all(self) -> Sequence[AgentRecord]:
        """All agents, the manager first."""
        return sorted(self._records.values(), key=lambda record: (record.kind != "manager", record.name))

    def working_on(self, repository: str) -> list[str]:
        """The agents whose active configuration names a repository, the manager first."""
        return [record.name for record in self.all() if repository in record.config.repos]

    @property
    def names(self) -> list[str]:
        """The names of all agents, the manager's among them."""
        return list(self._records)

    def unit(self, name: str) -> UnitState | None:
        """The state of the agent's process or container, or None if the runtime has none and no start was refused."""
        return self._with_refusal(name, self._runtime.unit(name))

    def status(self, name: str) -> AgentStatus:
        """The status of one agent; raises like `record`."""
        return self._status(self.record(name), self.unit(name))

    def statuses(self) -> Sequence[AgentStatus]:
        """The status of every agent, the manager first."""
        units = {unit.name: unit for unit in self._runtime.units()}
        return [self._status(record, self._with_refusal(record.name, units.get(record.name))) for record in self.all()]

    async def logs(self, name: str, query: LogsQuery) -> LogsAnswer:
        """The lines that the agent's harness printed; raises like `record`."""
        self.record(name)
        lines, cursor = await self._runtime.read_log(
            name, self._layout.agent_log(name), query.lines, query.cursor, query.wait_seconds
        )
        return LogsAnswer(lines=lines, cursor=cursor)

    def _with_refusal(self, name: str, unit: UnitState | None) -> UnitState | None:
        """Return the state of an agent, which has failed if its start was refused and it does not run."""
        refusal = self._refusals.get(name)
        if refusal is None or (unit is not None and unit.lifecycle != "stopped"):
            return unit
        record = self._records.get(name)
        if record is None or record.desired == "stopped":
            return unit
        return UnitState(
            name, "failed", exit_cause=f"not started: {refusal.message}" + f" ({refusal.hint})" * bool(refusal.hint)
        )

    def turn_of(self, name: str) -> str:
        """Return the number of the turn that an agent's harness says it is at; "" if it is at none."""
        report = self._reports.report(name)
        return "" if report is None or report.turn is None else str(report.turn)

    def _status(self, record: AgentRecord, unit: UnitState | None) -> AgentStatus:
        unit = unit or UnitState(record.name, "stopped")
        now = self._reports.condition(unit)
        disk = self._runtime.disks.known(record.name)
        network = self.find_network_state(record)
        return AgentStatus(
            name=record.name,
            kind=record.kind,
            lifecycle=unit.lifecycle,
            state=now.state,
            status=record.status,
            backend=record.config.backend,
            model=record.config.model,
            detail=now.detail,
            state_since=now.since,
            goes_on_at=now.goes_on_at,
            started_at=unit.started_at,
            pid=unit.pid,
            restarts=unit.restarts,
            exit_cause=unit.exit_cause,
            crashes=0 if now.crash is None else now.crash.in_a_row,
            last_crash="" if now.crash is None else now.crash.cause,
            last_line="" if now.crash is None else now.crash.last_line,
            unacked=self._broker.unacknowledged(record.name),
            web_port=record.web_port,
            page_problem=self._page_problems.get(record.name, ""),
            deployment=record.deployment,
            confinement=self._runtime.confinement,
            needs_update=record.closure in self._outdated,
            disk_max=None if disk is None else as_size(disk.limit),
            disk_problem="" if disk is None else disk.problem,
            network_open=network.open,
            network_open_until=network.open_until,
            network_rules=network.rules,
            network_requests=network.requests,
            network=record.config.network,
            network_implied=bool(record.network_implied),
            nix_daemon=record.nix_daemon,
            unsealed=record.unsealed and record.config.network == "sealed",
            services=sorted(set(record.config.services)),
            repos=list(record.config.repos),
            secrets=list(record.config.secrets),
            owner=self.find_owner(record.name),
        )


def _allowed(record: AgentRecord) -> frozenset[str] | None:
    allowed = record.config.allowed_recipients
    return None if allowed is None else frozenset(allowed)


def unknown_agent(name: str) -> HiveError:
    """Return the error for a name that no agent has, or of which the caller may not know.

    Raises HiveError `bad_name` if no agent can have it.
    """
    check_name(name)
    return not_found("unknown_agent", f"there is no agent {shown(name)}", "hive-c0re list shows those there are")


def agent_exists(name: str) -> HiveError:
    """Return the error for the name of a new agent that another one has or had."""
    return conflict("agent_exists", f"there is an agent {name} already", "destroy it first")


def check_name(name: str) -> None:
    """Raise `bad_name` if no agent can have the name."""
    if name != MANAGER and not is_agent_name(name):
        raise HiveError("bad_name", why_not(name), hint=NAME_RULE)
