"""Reports of harnesses, and whether an agent is healthy after a deployment."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from hive_core.agents.alerts import Alerts, reason
from hive_core.errors import HiveError
from hive_core.infra.telemetry.events import EventHub
from hive_core.infra.wakeups import Wakeups
from hive_core.messaging import Broker, Directory
from hive_core.protocol import HarnessState, SendRequest
from hive_core.protocol.names import MANAGER, OPERATOR, SYSTEM
from hive_core.runtimes.base import UnitState
from hive_core.text import Quoted, quote_log_lines

_log = structlog.get_logger(__name__)


LastLines = Callable[[str], Awaitable[Sequence[str]]]
"""Reads the end of an agent's log."""

_LOG_SECONDS = 0.1
"""Longest wait for the log before a crash is reported without it."""


@dataclass(frozen=True)
class ReportedState:
    """The last report of a harness. The text comes from the agent and is not trusted."""

    state: HarnessState = "offline"
    detail: str = ""
    since: datetime | None = None


class HarnessReports:
    """The last report of every harness. Publishes changes as events and sends a message about new trouble.

    `health_monitor` derives from the reports whether a deployment is healthy.
    """

    def __init__(
        self, events: EventHub, broker: Broker, directory: Directory, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`clock` gives the time in seconds."""
        self.health_monitor = HealthMonitor()
        self._events = events
        self._broker = broker
        self._directory = directory
        self._alerts = Alerts(clock)
        self._last: defaultdict[str, ReportedState] = defaultdict(ReportedState)

    def last(self, name: str) -> ReportedState:
        """The last report of the harness of `name`."""
        return self._last[name]

    def forget(self, name: str) -> None:
        """Discard everything about an agent that was destroyed."""
        self._last.pop(name, None)
        self._alerts.forget(name)
        self.health_monitor.forget(name)

    async def hello(self, name: str, deployment: int | None, *, again: bool = False) -> None:
        """Record that a harness has started and reports to run `deployment`.

        `again`: it started before this daemon did, and reports its state next.
        """
        self.health_monitor.hello(name, deployment)
        if not again:
            await self.harness(name, "starting", "")

    async def harness(self, name: str, state: HarnessState, detail: str) -> None:
        """Record the state that a harness reports."""
        self.health_monitor.report(name, state, Quoted(detail))
        self._note(name, state, detail)
        news = self._alerts.state_reported(name, state, Quoted(detail))
        await self._announce(name, news, operator_too=state in ("paused", "needs_login"))

    def status(self, name: str, text: str) -> None:
        """Publish the status text that an agent reports."""
        self._events.publish("agent.status", {"agent": name, "status": text})

    async def follow(self, units: AsyncIterator[UnitState], last_lines: LastLines) -> None:
        """Publish the state changes of containers and processes until the runtime is closed.

        `last_lines` gives the end of the log for the message about a crash.
        """
        async for unit in units:
            data = {"agent": unit.name, "lifecycle": unit.lifecycle, "cause": unit.exit_cause}
            self._events.publish("agent.lifecycle", data)
            _log.info("agent lifecycle", pid=unit.pid, **data)
            if unit.name not in self._directory:
                continue  # It was destroyed.
            self.health_monitor.check_again(unit.name)
            if unit.lifecycle != "running":
                # The reports of a harness that is being stopped must not count for the next one.
                self.health_monitor.forget(unit.name)
                self._note(unit.name, "offline", "")
            text = self._alerts.unit_changed(unit)
            if text is not None:
                text = "\n".join([text, *await _log_of(unit.name, last_lines)])
            await self._announce(unit.name, text)

    def _note(self, name: str, state: HarnessState, detail: str) -> None:
        last = self._last[name]
        if (last.state, last.detail) != (state, detail):
            self._last[name] = ReportedState(state, detail, datetime.now(UTC))
            self._events.publish("agent.state", {"agent": name, "state": state, "detail": detail})

    async def _announce(self, name: str, text: str | None, *, operator_too: bool = False) -> None:
        """Send a message to the manager, or to the operator if there is no manager or it is about the manager.

        With `operator_too` the operator gets it in every case.
        """
        if text is None:
            return
        to = MANAGER if name != MANAGER and MANAGER in self._directory else OPERATOR
        for recipient in dict.fromkeys([to, OPERATOR] if operator_too else [to]):
            try:
                await self._broker.send(SYSTEM, SendRequest(to=recipient, body=text))
            except HiveError as error:
                # Usually a full inbox. There is no other recipient.
                _log.warning("announcement not stored", agent=name, to=recipient, code=error.code)


async def _log_of(name: str, last_lines: LastLines) -> list[str]:
    """The end of the agent's log for a message, or nothing if reading it takes too long."""
    try:
        async with asyncio.timeout(_LOG_SECONDS):
            lines = quote_log_lines(await last_lines(name))
    except (HiveError, OSError) as error:  # TimeoutError is an OSError.
        _log.warning("log not read for a message", agent=name, why=str(error) or "it takes too long")
        return []
    return ["The last lines of its log, in its own words:", *lines] if lines else []


_NOT_READY: frozenset[HarnessState] = frozenset({"starting", "offline", "failed"})


@dataclass(frozen=True)
class HarnessReport:
    """The last report of the newest harness since it started."""

    deployment: int | None
    state: HarnessState = "starting"
    detail: Quoted = field(default_factory=lambda: Quoted(""))


class HealthMonitor:
    """Decides from the reports of harnesses whether a deployment is healthy. In memory only."""

    def __init__(self) -> None:
        self._said: dict[str, HarnessReport] = {}
        self._wakeups = Wakeups()

    def forget(self, name: str) -> None:
        """Discard the reports of the agent's harness, because it has exited or is about to be restarted."""
        self._said.pop(name, None)
        self.check_again(name)

    def hello(self, name: str, deployment: int | None) -> None:
        """Record that a harness has started; `deployment` is None if it did not report one."""
        self._said[name] = HarnessReport(deployment)
        self.check_again(name)

    def report(self, name: str, state: HarnessState, detail: Quoted) -> None:
        """Record the state that a harness reports."""
        said = self._said.get(name)
        if said is not None:
            self._said[name] = HarnessReport(said.deployment, state, detail)
            self.check_again(name)

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
                why = _why_not_ready(self._said.get(name), deployment)
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
        return f"its harness reported that it failed\n{reason(said.detail)}"
    return "its harness reported in, but not that it is ready" if said.state in _NOT_READY else ""
