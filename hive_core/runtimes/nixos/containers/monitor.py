"""The containers of a hive as systemd tells of them: their states, and everyone who wants to know of changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace

import structlog

from hive_core.errors import HiveError
from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.units import UnitProperties, lifecycle
from hive_core.protocol.names import container_name
from hive_core.runtimes.base import UnitState
from hive_core.runtimes.nixos.containers.inspection import UNITS, agent_of, unit_name
from hive_core.runtimes.nixos.containers.oom import Starving
from hive_core.runtimes.nixos.crashes import Container
from hive_core.runtimes.unit_state import Changes, Watch

log = structlog.get_logger(__name__)


class Following:
    """Lives on the loop that it was made on; `run` is to go on as long as anybody listens."""

    def __init__(self, bus: SystemBus) -> None:
        self._bus = bus
        self._units: dict[str, Container] = {}
        self._starving: dict[str, Starving] = {}
        self._changes = Changes()
        self._listening: set[asyncio.Task[None]] = set()
        self._told: AsyncIterator[UnitProperties] = bus.watch(UNITS)

    async def run(self) -> None:
        """Follow what systemd tells; ends with the bus."""
        async for properties in self._told:
            name = agent_of(properties.name)
            if name is not None and name in self._units:
                self.tell(name, self._units[name].look(properties))

    def watch(self) -> Watch:
        """Every change from this call on."""
        return self._changes.watch()

    def states(self) -> list[UnitState]:
        """All containers that are known."""
        return [unit.state for unit in self._units.values()]

    def unit(self, name: str) -> Container:
        """The agent's container; one that was not known is stopped."""
        return self._units.setdefault(name, Container(name))

    def waits(self, name: str) -> bool:
        """Whether the agent's container has crashed, and waits to be started again."""
        return name in self._units and self._units[name].state.lifecycle == "backoff"

    def adopt(self, name: str, properties: UnitProperties) -> None:
        """Know a container that an earlier daemon has started, without telling of it."""
        self.unit(name).found(properties)
        self._listen_if_running(name)

    def tell(self, name: str, changes: list[UnitState]) -> None:
        """Tell everyone."""
        for state in changes:
            self._changes.publish(state)
        if changes:
            self._listen_if_running(name)

    async def look(self, name: str) -> UnitProperties:
        """Ask systemd how the container is, and tell what is new."""
        properties = await self._bus.properties(unit_name(container_name(name)))
        self.tell(name, self.unit(name).look(properties))
        return properties

    def forget(self, name: str) -> None:
        """The container is gone."""
        self._units.pop(name, None)
        self._hush(name)

    async def close(self) -> None:
        """End every watch, after what was told already."""
        for task in self._listening:
            task.cancel()
        await asyncio.gather(*self._listening, return_exceptions=True)
        for name in list(self._starving):
            self._hush(name)
        self._changes.close()

    def _listen_if_running(self, name: str) -> None:
        self._hush(name)
        if name in self._units and self._units[name].state.lifecycle == "running":
            task = asyncio.create_task(self._listen(name))
            self._listening.add(task)
            task.add_done_callback(self._listening.discard)

    async def _listen(self, name: str) -> None:
        """Listen for the container's running out of memory, as long as it runs."""
        with suppress(HiveError):
            properties = await self._bus.properties(unit_name(container_name(name)))
            if name not in self._units or lifecycle(properties) != "running" or not properties.control_group:
                return
            self._hush(name)
            try:
                self._starving[name] = Starving(properties.control_group, lambda: self._starved(name))
            except OSError as error:
                log.warning("will not hear of memory running out", agent=name, error=str(error))

    def _starved(self, name: str) -> None:
        unit = self._units.get(name)
        if unit is not None and unit.state.lifecycle == "running":
            log.warning("agent ran out of memory", agent=name)
            self._changes.publish(replace(unit.state, starved=True))

    def _hush(self, name: str) -> None:
        listener = self._starving.pop(name, None)
        if listener is not None:
            listener.close()
