"""The states of containers as systemd reports them, and crashes.

A run that ends without a request to stop is a crash. The state is then `backoff` if the hive starts the container
again, and `failed` if the container was shut down properly, because a person wanted that. Reports of systemd may be
late, repeated or missing (while the bus is away), so runs are identified by their invocation.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import BackgroundTasks
from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.units import Ended, UnitProperties, describe_exit, ended, has_ended, is_late, lifecycle
from hive_core.protocol import Lifecycle
from hive_core.protocol.names import container_name
from hive_core.runtimes.base import WITH_PROCESSES, UnitState
from hive_core.runtimes.nixos.containers.inspection import UNITS, agent_of, unit_name
from hive_core.runtimes.nixos.containers.oom import OomWatcher
from hive_core.runtimes.unit_state import StateChanges, StateSubscription

_log = structlog.get_logger(__name__)


class ContainerMonitor:
    """The states of all containers of the hive. Use it on one event loop; `run` must run while it is in use."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus
        self._units: dict[str, ContainerState] = {}
        self._starving: dict[str, OomWatcher] = {}
        self._changes = StateChanges()
        self._listening = BackgroundTasks()
        self._told: AsyncIterator[UnitProperties] = bus.watch(UNITS)

    async def run(self) -> None:
        """Follow the reports of systemd until the bus is closed."""
        async for properties in self._told:
            name = agent_of(properties.name)
            if name is not None and name in self._units:
                self.tell(name, self._units[name].look(properties))

    def watch(self) -> StateSubscription:
        """Subscribe to every change from this call on."""
        return self._changes.watch()

    def states(self) -> list[UnitState]:
        """Return the states of all known containers."""
        return [unit.state for unit in self._units.values()]

    def state(self, name: str) -> UnitState | None:
        """Return the state of one of `states`, None if the agent has no known container."""
        unit = self._units.get(name)
        return None if unit is None else unit.state

    def unit(self, name: str) -> ContainerState:
        """Return the agent's container; an unknown one is stopped."""
        return self._units.setdefault(name, ContainerState(name))

    def waits(self, name: str) -> bool:
        """Return True if the agent's container has crashed and waits to be started again."""
        return name in self._units and self._units[name].state.lifecycle == "backoff"

    def adopt(self, name: str, properties: UnitProperties) -> None:
        """Add a container that an earlier daemon has started, without reporting a change."""
        self.unit(name).found(properties)
        self._listen_if_running(name)

    def tell(self, name: str, changes: list[UnitState]) -> None:
        """Report changes to all subscribers."""
        for state in changes:
            self._changes.publish(state)
        if changes:
            self._listen_if_running(name)

    async def look(self, name: str) -> UnitProperties:
        """Ask systemd for the state of the container, and report changes."""
        properties = await self._bus.properties(unit_name(container_name(name)))
        self.tell(name, self.unit(name).look(properties))
        return properties

    def forget(self, name: str) -> None:
        """Remove a container that no longer exists."""
        self._units.pop(name, None)
        self._hush(name)

    async def close(self) -> None:
        """End every subscription after the changes that were reported already."""
        await self._listening.close()
        for name in list(self._starving):
            self._hush(name)
        self._changes.close()

    def _listen_if_running(self, name: str) -> None:
        self._hush(name)
        if name in self._units and self._units[name].state.lifecycle == "running":
            self._listening.start(self._listen(name))

    async def _listen(self, name: str) -> None:
        """Watch the container for lack of memory while it runs."""
        with suppress(HiveError):
            properties = await self._bus.properties(unit_name(container_name(name)))
            if name not in self._units or lifecycle(properties) != "running" or not properties.control_group:
                return
            self._hush(name)
            try:
                self._starving[name] = OomWatcher(properties.control_group, lambda: self._starved(name))
            except OSError as error:
                _log.warning("will not hear of memory running out", agent=name, error=str(error))

    def _starved(self, name: str) -> None:
        unit = self._units.get(name)
        if unit is not None and unit.state.lifecycle == "running":
            _log.warning("agent ran out of memory", agent=name)
            self._changes.publish(replace(unit.state, oom_killed=True))

    def _hush(self, name: str) -> None:
        listener = self._starving.pop(name, None)
        if listener is not None:
            listener.close()


_REBOOTED = (1, 133)
"""The end of nspawn when the container reboots: an exit with this code."""


class ContainerState:
    """One agent's container with its current `state`; methods return the changes to report."""

    def __init__(self, name: str) -> None:
        self.state = UnitState(name, "stopped")
        self.ended_invocation = ""
        """The invocation id of the last run that has ended by itself."""
        self._seen: UnitProperties | None = None
        self._stop_asked = False
        self._untold = False

    def found(self, now: UnitProperties) -> None:
        """Set the state of a container at the start of the daemon; a failure is reported when the hive starts it."""
        self._seen = now
        self.ended_invocation = now.invocation if has_ended(now) else ""
        self._untold = lifecycle(now) in ("failed", "backoff")
        self._change(lifecycle(now), now, exit_cause=_cause(now) if self._untold else "")

    def start_asked(self) -> list[UnitState]:
        """Note that the container is about to be started."""
        told: list[UnitState] = []
        if self._untold:  # It crashed while there was no daemon, and is started again.
            self.state = self.state.change("backoff", exit_cause=self.state.exit_cause)
            told = [self.state]
        self._untold = self._stop_asked = False
        self.state = replace(self.state, restarts=0)
        return told + self._change("starting", None)

    def start_again(self) -> list[UnitState]:
        """Note that the hive is about to start the container after a crash."""
        self.state = replace(self.state, restarts=self.state.restarts + 1)
        return self._change("starting", None)

    def start_failed(self, why: str, *, again: bool = False) -> list[UnitState]:
        """Note that the start could not be tried; `again`: the hive will try it again."""
        to: Lifecycle = "backoff" if again else "failed"
        return self._change(to, None, exit_cause=why) if self.state.lifecycle == "starting" else []

    def stop_asked(self, *, to_start: bool = False) -> list[UnitState]:
        """Note that the container is about to be stopped or removed: its end is no crash, and it is not started again.

        `to_start`: it will be started again, so a crash that was not reported yet is reported.
        """
        self._stop_asked, self._untold = True, self._untold and to_start
        if self.state.lifecycle not in ("failed", "backoff"):
            return []
        return self._change("stopped", None, exit_cause=self.state.exit_cause)

    def stop_failed(self) -> None:
        """Note that the stop failed: unless the container has begun to stop, its end is a crash again."""
        if self.state.lifecycle not in ("stopping", "stopped"):
            self._stop_asked = False

    def look(self, now: UnitProperties) -> list[UnitState]:
        """Set the state of the unit, as systemd reports it."""
        before = self._seen
        if before is not None and (now == before or is_late(before, now)):
            return []
        if before is None and has_ended(now):
            # States from before the hive first started the container are not reported.
            self._seen = now
            return []
        ends = ended(before, now)
        self._seen = now
        return self._stopping(now) if self._stop_asked else self._running(now, ends)

    def _stopping(self, now: UnitProperties) -> list[UnitState]:
        is_now = lifecycle(now)
        if is_now in ("stopped", "failed"):
            return self._change("stopped", now, exit_cause=describe_exit(now))
        if is_now in ("starting", "running") and not self.state.has_processes:
            # It was started without the hive.
            self._stop_asked = False
            return self._running(now, [])
        return self._change("stopping", now) if is_now == "stopping" else []

    def _running(self, now: UnitProperties, ends: list[Ended]) -> list[UnitState]:
        is_now = lifecycle(now)
        changes: list[UnitState] = []
        for end in ends:
            self.ended_invocation = end.invocation
            if end.seen is None:
                cause = "it ended, and was started again, while systemd could not be heard"
                changes += self._change("backoff", now, exit_cause=cause)
            else:
                changes += self._change("failed" if _wanted(end.seen) else "backoff", now, exit_cause=_cause(end.seen))
        if is_now in ("starting", "running"):
            changes += self._change(is_now, now)
        return changes

    def _change(self, to: Lifecycle, now: UnitProperties | None, *, exit_cause: str = "") -> list[UnitState]:
        alive = now is not None and to in WITH_PROCESSES
        state = self.state.change(
            to,
            pid=now.main_pid or None if now is not None and alive else None,
            started_at=now.since if now is not None and to == "running" else None,
            exit_cause=exit_cause,
        )
        if to == self.state.lifecycle and (to != "running" or state.pid == self.state.pid):
            return []
        self.state = state
        return [state]


def _wanted(properties: UnitProperties) -> bool:
    """Return True if a run ended because the container was shut down properly, from inside or outside."""
    return properties.result == "success" and (properties.code, properties.status) != _REBOOTED


def _cause(properties: UnitProperties) -> str:
    if (properties.code, properties.status) == _REBOOTED:
        return "it rebooted by itself"
    if properties.result == "success":
        return "it shut itself down, or was stopped by somebody other than the hive"
    return describe_exit(properties) or "systemd does not tell how it ended"
