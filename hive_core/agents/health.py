"""The state of every agent from its process and the reports of its harness, and whether it is healthy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from hive_core.agents.alerts import Alerts, Crash, CrashRecords, reason
from hive_core.errors import HiveError
from hive_core.infra.concurrency.wakeups import Wakeups
from hive_core.infra.processes import ListeningProcess
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory
from hive_core.protocol import HarnessState
from hive_core.protocol.names import MANAGER, OPERATOR
from hive_core.runtimes.base import Runtime, UnitState
from hive_core.text import Quoted, quote_log_lines

_log = structlog.get_logger(__name__)


LastLines = Callable[[str], Awaitable[Sequence[str]]]
"""Reads the end of an agent's log."""

_LOG_SECONDS = 0.1
"""Longest wait for the log before a crash is reported without it."""
_LAST_LINE_SECONDS = 5.0


@dataclass(frozen=True)
class HarnessReport:
    """The last report of the harness that runs in one run of its agent.

    `run` is the number of that run. `deployment` is None if the harness did not report one. The detail comes from the
    agent and is not trusted.
    """

    run: int
    deployment: int | None
    state: HarnessState = "starting"
    detail: str = ""
    since: datetime = field(default_factory=lambda: datetime.now(UTC))
    goes_on_at: datetime | None = None
    turn: int | None = None


@dataclass(frozen=True)
class Condition:
    """The facts of now about an agent: its process or container, and its harness.

    `crash` is the last crash since the agent was last ready. Made by `HarnessReports.condition` only: a harness that
    belongs to no present process is `offline`, whatever it has reported.
    """

    unit: UnitState
    state: HarnessState
    detail: str
    since: datetime | None
    crash: Crash | None
    goes_on_at: datetime | None = None


class HarnessReports:
    """The last report of every harness. Publishes changes as events and sends a message about new trouble.

    `health_monitor` derives from the reports whether a deployment is healthy.
    """

    def __init__(
        self,
        events: EventHub,
        broker: Broker,
        directory: Directory,
        runtime: Runtime,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives the time in seconds."""
        self.health_monitor = HealthMonitor(self.report)
        self.reported: list[Callable[[str, HarnessState], None]] = []
        """Called with each report of an agent's harness, and its state."""
        self.is_stopped: Callable[[str], bool] = lambda _: False
        """Returns True for an agent whose calls of models are stopped, about which the operator is told elsewhere."""
        self._events = events
        self._broker = broker
        self._directory = directory
        self._runtime = runtime
        self._alerts = Alerts(clock)
        self._crashes = CrashRecords()
        self._reports: dict[str, HarnessReport] = {}
        self._ended_alone: set[str] = set()
        """The agents whose last run ended without the hive having stopped it."""

    def report(self, name: str) -> HarnessReport | None:
        """The last report of the harness that runs now; None if none runs, or it has not said hello."""
        unit, report = self._runtime.unit(name), self._reports.get(name)
        return report if report is not None and unit is not None and _is_of(report, unit) else None

    def condition(self, unit: UnitState) -> Condition:
        """The condition of the agent whose process or container is in the state `unit`."""
        report = self._reports.get(unit.name)
        crash = self._crashes.last(unit.name)
        if report is None or not _is_of(report, unit):
            return Condition(unit, "offline", "", unit.since if unit.run else None, crash)
        return Condition(unit, report.state, report.detail, report.since, crash, report.goes_on_at)

    def forget(self, name: str) -> None:
        """Discard everything about an agent that was destroyed."""
        self._reports.pop(name, None)
        self._alerts.forget(name)
        self._crashes.forget(name)
        self._ended_alone.discard(name)
        self.health_monitor.check_again(name)

    def has_crashed(self, name: str) -> bool:
        """Return True if the last harness of `name` ended without the hive having stopped it, while this daemon ran.

        In a container the harness is started again without the container, so that its unit does not change.
        """
        return name in self._ended_alone or self.report(name) is not None

    async def hello(self, name: str, deployment: int | None, *, again: bool = False) -> None:
        """Record that a harness has started and reports to run `deployment`.

        `again`: it started before this daemon did, and reports its state next.
        """
        unit = self._runtime.unit(name) or UnitState(name, "stopped")
        self._ended_alone.discard(name)
        # A harness may be heard before its start is: systemd's signals can be late.
        self._reports[name] = HarnessReport(unit.run if unit.has_processes else unit.run + 1, deployment)
        self.health_monitor.check_again(name)
        if not again:
            await self.harness(name, "starting", "")

    async def harness(
        self,
        name: str,
        state: HarnessState,
        detail: str,
        notice: str = "",
        goes_on_at: datetime | None = None,
        turn: int | None = None,
    ) -> None:
        """Record the state that a harness reports, and pass its notice on.

        Nothing happens if it has not said hello, or its run has ended.
        """
        unit, last = self._runtime.unit(name), self._reports.get(name)
        if last is None or (unit is not None and last.run < unit.run + (not unit.has_processes)):
            return
        last = self._reports[name] = replace(last, turn=turn)
        if (last.state, last.detail, last.goes_on_at) != (state, detail, goes_on_at) or state == "starting":
            now = datetime.now(UTC)
            self._reports[name] = replace(last, state=state, detail=detail, since=now, goes_on_at=goes_on_at)
            self._events.publish("agent.state", {"agent": name, "state": state, "detail": detail})
        if state in READY:
            self._crashes.forget(name)
        self.health_monitor.check_again(name)
        for call in self.reported:
            call(name, state)
        if state != "paused" or not self.is_stopped(name):
            await self._announce(
                name,
                self._alerts.state_reported(name, state, Quoted(detail)),
                operator_too=state in ("paused", "needs_login"),
            )
        if notice:
            await self._announce(name, self._alerts.noticed(name, Quoted(notice)), operator_too=True)

    async def page_lacks_port(self, name: str, port: int, holder: ListeningProcess | None) -> None:
        """Send a message that the agent's page has no port, once until it has one."""
        await self._announce(name, self._alerts.page_lacks_port(name, port, holder), operator_too=True)

    def page_has_port(self, name: str) -> None:
        """Record that the agent's page has its port."""
        self._alerts.page_has_port(name)

    def status(self, name: str, text: str) -> None:
        """Publish the status text that an agent reports."""
        self._events.publish("agent.status", {"agent": name, "status": text})

    async def follow(self, units: AsyncIterator[UnitState], last_lines: LastLines) -> None:
        """Publish the state changes of containers and processes until the runtime is closed.

        `last_lines` gives the end of the log for the message about a crash. Messages are sent by a task of their own,
        so that none keeps a change of state waiting.
        """
        waiting: asyncio.Queue[tuple[UnitState, Crash | None] | None] = asyncio.Queue()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._announce_changes(waiting, last_lines))
            async for unit in units:
                self._publish(unit)
                if unit.name in self._directory:  # Else it was destroyed.
                    waiting.put_nowait((unit, self._crashes.note(unit)))
            waiting.put_nowait(None)

    def _publish(self, unit: UnitState) -> None:
        data = {"agent": unit.name, "lifecycle": unit.lifecycle, "cause": unit.exit_cause}
        if not unit.oom_killed:
            self._events.publish("agent.lifecycle", data)
        _log.info("agent lifecycle", pid=unit.pid, **data)
        if unit.lifecycle in ("backoff", "failed"):
            self._ended_alone.add(unit.name)
        elif unit.lifecycle in ("stopping", "stopped"):
            self._ended_alone.discard(unit.name)
        self.health_monitor.check_again(unit.name)
        report = self._reports.get(unit.name)
        if not unit.has_processes and report is not None and report.run <= unit.run:
            del self._reports[unit.name]
            self._events.publish("agent.state", {"agent": unit.name, "state": "offline", "detail": ""})

    async def _announce_changes(
        self, waiting: asyncio.Queue[tuple[UnitState, Crash | None] | None], last_lines: LastLines
    ) -> None:
        """Send the messages about changes, each given with the crash if it is one, until there is a None."""
        while (item := await waiting.get()) is not None:
            unit, crash = item
            if crash is not None:
                crash = self._crashes.complete(unit.name, crash, await self._last_line(unit.name))
            text = self._alerts.unit_changed(unit)
            if text is not None:
                text = "\n".join([text, *await _log_of(unit.name, last_lines)])
            await self._announce(unit.name, text)
            if crash is not None:
                await self._announce(unit.name, self._alerts.crashed_again(unit, crash), operator_too=True)

    async def _last_line(self, name: str) -> str:
        """The last line that the agent's programs printed in its last run; empty if it cannot be read."""
        try:
            async with asyncio.timeout(_LAST_LINE_SECONDS):
                return await self._runtime.last_line(name)
        except (HiveError, OSError) as error:  # TimeoutError is an OSError.
            _log.warning("last line of a crash not read", agent=name, why=str(error) or "it takes too long")
            return ""

    async def _announce(self, name: str, text: str | None, *, operator_too: bool = False) -> None:
        """Send a message to the manager, or to the operator if there is no manager or it is about the manager.

        With `operator_too` the operator gets it in every case.
        """
        if text is None:
            return
        to = MANAGER if name != MANAGER and MANAGER in self._directory else OPERATOR
        for recipient in dict.fromkeys([to, OPERATOR] if operator_too else [to]):
            try:
                await self._broker.announce([(recipient, text)], lambda _: None, name)
            except HiveError as error:
                # Usually a full inbox. There is no other recipient.
                _log.warning("announcement not stored", agent=name, to=recipient, code=error.code)


def _is_of(report: HarnessReport, unit: UnitState) -> bool:
    """Return True if the harness of the report belongs to the present processes of `unit`."""
    return unit.has_processes and report.run == unit.run


async def _log_of(name: str, last_lines: LastLines) -> list[str]:
    """The end of the agent's log for a message, or nothing if reading it takes too long."""
    try:
        async with asyncio.timeout(_LOG_SECONDS):
            lines = quote_log_lines(await last_lines(name))
    except (HiveError, OSError) as error:  # TimeoutError is an OSError.
        _log.warning("log not read for a message", agent=name, why=str(error) or "it takes too long")
        return []
    return ["The last lines of its log, in its own words:", *lines] if lines else []


READY: frozenset[HarnessState] = frozenset({"idle", "thinking"})
_NOT_READY: frozenset[HarnessState] = frozenset({"starting", "offline", "failed"})


class HealthMonitor:
    """Decides from the reports of harnesses whether a deployment is healthy. In memory only."""

    def __init__(self, report: Callable[[str], HarnessReport | None]) -> None:
        """`report` returns the last report of an agent's present harness."""
        self._report = report
        self._wakeups = Wakeups()

    def check_again(self, name: str) -> None:
        """Wake the waiters of `wait`: the agent changed in a way that may decide whether it is healthy."""
        self._wakeups.wake(name)

    async def wait(self, name: str, deployment: int, seconds: float, failure_reason: Callable[[], str]) -> str:
        """Wait until the harness is ready to work on `deployment`; returns "", or the reason why it is not.

        `failure_reason` returns why the agent can no longer become ready, or ""; it is called after every change.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._wakeups.add_waiter(name) as waiter:
            while True:
                why = _why_not_ready(self._report(name), deployment)
                if not why or (reason := failure_reason()):
                    return reason if why else ""
                remaining = deadline - loop.time()
                if remaining <= 0:
                    first, _, rest = why.partition("\n")
                    return f"{first} (waited {seconds:g} seconds)" + (f"\n{rest}" if rest else "")
                await waiter.wait(remaining)


def _why_not_ready(said: HarnessReport | None, deployment: int) -> str:
    if said is None:
        return "its harness did not report in"
    if said.deployment is None:
        return "its harness reported in without saying which deployment it runs"
    if said.deployment != deployment:
        return f"its harness reported in with deployment {said.deployment} instead of {deployment}"
    if said.state == "failed":
        return f"its harness reported that it failed\n{reason(Quoted(said.detail))}"
    return "its harness reported in, but not that it is ready" if said.state in _NOT_READY else ""
