"""Reports of harnesses, and whether an agent is healthy after a deployment."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from hive_core.agents.alerts import Alerts, one_line
from hive_core.errors import HiveError
from hive_core.infra.telemetry.events import EventHub
from hive_core.messaging import Broker, Directory
from hive_core.messaging.wakeups import Wakeups
from hive_core.protocol import HarnessState, SendRequest
from hive_core.protocol.names import MANAGER, OPERATOR, SYSTEM
from hive_core.runtimes.base import UnitState
from hive_core.text import quote_log_lines

_log = structlog.get_logger(__name__)


LastLines = Callable[[str], Awaitable[Sequence[str]]]
"""Reads the end of an agent's log."""

_LOG_SECONDS = 0.1
"""Longest that a message about a crash waits for the log: what happened matters more."""


@dataclass(frozen=True)
class ReportedState:
    """What a harness said last. The text is the agent's own and not to be trusted."""

    state: HarnessState = "offline"
    detail: str = ""
    since: datetime | None = None


class HarnessReports:
    """The last report of every harness. Changes become events; the first sign of trouble becomes a message.

    `health_monitor` is what they mean for a new deployment.
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
        """What the harness of `name` said last."""
        return self._last[name]

    def forget(self, name: str) -> None:
        """The agent is gone."""
        self._last.pop(name, None)
        self._alerts.forget(name)
        self.health_monitor.forget(name)

    async def hello(self, name: str, deployment: int | None, *, again: bool = False) -> None:
        """A harness has started; `deployment` is the one that it says it runs.

        `again`: it did so before this daemon was there, and says next what it is doing.
        """
        self.health_monitor.hello(name, deployment)
        if not again:
            await self.harness(name, "starting", "")

    async def harness(self, name: str, state: HarnessState, detail: str) -> None:
        """The harness says what it is doing."""
        self.health_monitor.report(name, state, detail)
        self._note(name, state, detail)
        news = self._alerts.state_reported(name, state, detail)
        await self._announce(name, news, operator_too=state in ("paused", "needs_login"))

    def status(self, name: str, text: str) -> None:
        """The agent says what it is at."""
        self._events.publish("agent.status", {"agent": name, "status": text})

    async def follow(self, units: AsyncIterator[UnitState], last_lines: LastLines) -> None:
        """Tell the hive what becomes of containers and processes; runs until the runtime is closed.

        `last_lines` is asked when there is a crash to tell of.
        """
        async for unit in units:
            data = {"agent": unit.name, "lifecycle": unit.lifecycle, "cause": unit.exit_cause}
            self._events.publish("agent.lifecycle", data)
            _log.info("agent lifecycle", pid=unit.pid, **data)
            if unit.name not in self._directory:
                continue  # It was destroyed, and forgotten.
            self.health_monitor.check_again(unit.name)
            if unit.lifecycle != "running":
                # What a harness says while it is being stopped must not count for the one after it.
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
        """Tell the manager (about the manager, or without one: the operator). `operator_too`: a person has to act."""
        if text is None:
            return
        to = MANAGER if name != MANAGER and MANAGER in self._directory else OPERATOR
        for recipient in dict.fromkeys([to, OPERATOR] if operator_too else [to]):
            try:
                await self._broker.send(SYSTEM, SendRequest(to=recipient, body=text))
            except HiveError as error:
                # A full inbox, most likely. There is nobody else to tell.
                _log.warning("announcement not stored", agent=name, to=recipient, code=error.code)


async def _log_of(name: str, last_lines: LastLines) -> list[str]:
    """The end of the agent's log for a message, if it can be had in time."""
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
    """What the newest harness has said since it started. The text is the agent's own."""

    deployment: int | None
    state: HarnessState = "starting"
    detail: str = ""


class HealthMonitor:
    """What harnesses say about themselves, for those who wait for a deployment. In memory only."""

    def __init__(self) -> None:
        self._said: dict[str, HarnessReport] = {}
        self._wakeups = Wakeups()

    def forget(self, name: str) -> None:
        """What the agent's harness has said so far counts no more: it is gone, or about to be started anew."""
        self._said.pop(name, None)
        self.check_again(name)

    def hello(self, name: str, deployment: int | None) -> None:
        """A harness has started and runs this deployment, if it says so."""
        self._said[name] = HarnessReport(deployment)
        self.check_again(name)

    def report(self, name: str, state: HarnessState, detail: str) -> None:
        """The harness says what it is doing."""
        said = self._said.get(name)
        if said is not None:
            self._said[name] = HarnessReport(said.deployment, state, detail)
            self.check_again(name)

    def check_again(self, name: str) -> None:
        """Something has happened to the agent that may decide whether it comes up."""
        self._wakeups.wake(name)

    async def wait(self, name: str, deployment: int, seconds: float, failure_reason: Callable[[], str]) -> str:
        """Nothing ("") as soon as the harness is ready to work on `deployment`; else why it is not, in words.

        `failure_reason` says why it cannot become ready any more, or "". It is asked at every change.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        with self._wakeups.listen(name) as waiter:
            while True:
                why = _why_not_ready(self._said.get(name), deployment)
                if not why or (hope := failure_reason()):
                    return hope if why else ""
                remaining = deadline - loop.time()
                if remaining <= 0:
                    return f"{why} (waited {seconds:g} seconds)"
                await waiter.wait(remaining)


def _why_not_ready(said: HarnessReport | None, deployment: int) -> str:
    if said is None:
        return "its harness did not report in"
    if said.deployment is None:
        return "its harness reported in without saying which deployment it runs"
    if said.deployment != deployment:
        return f"its harness reported in with deployment {said.deployment} instead of {deployment}"
    if said.state == "failed":
        return f"its harness reported that it failed: {one_line(said.detail)}"
    return "its harness reported in, but not that it is ready" if said.state in _NOT_READY else ""
