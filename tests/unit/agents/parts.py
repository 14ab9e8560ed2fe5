"""The agents of a hive with its real database, broker and files, but with stand-ins for sockets and processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hive_core.agents import Agents
from hive_core.agents.reports import Reports
from hive_core.broker import Broker, Directory
from hive_core.database import Database
from hive_core.events import EventHub
from hive_core.layout import Layout
from hive_core.protocol import SpawnRequest
from hive_core.runtimes.base import AgentSpec, UnitState


@dataclass
class Doors:
    """Which agents are listened for."""

    names: set[str] = field(default_factory=set)

    async def open(self, name: str) -> None:
        self.names.add(name)

    async def close(self, name: str) -> None:
        self.names.discard(name)


@dataclass
class Processes:
    """A runtime without processes. While `held` is not set, starts take long."""

    name: str = "stand-in"
    confinement: str = "none"
    held: asyncio.Event = field(default_factory=asyncio.Event)
    starting: int = 0
    most_at_once: int = 0
    running: set[str] = field(default_factory=set)
    began: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    async def start(self, spec: AgentSpec) -> None:
        self.starting += 1
        self.most_at_once = max(self.most_at_once, self.starting)
        self.began.put_nowait(spec.name)
        await self.held.wait()
        self.starting -= 1
        self.running.add(spec.name)

    async def stop(self, name: str) -> None:
        self.running.discard(name)

    async def destroy(self, name: str) -> None:
        self.running.discard(name)

    def units(self) -> list[UnitState]:
        return [UnitState(name, "running") for name in self.running]

    def watch(self) -> AsyncIterator[UnitState]:
        raise NotImplementedError

    async def read_log(self, *_: object) -> tuple[list[str], str]:
        raise NotImplementedError

    async def close(self) -> None:
        self.running.clear()


@dataclass
class Hive:
    """One daemon's life over a layout, as far as agents are concerned."""

    layout: Layout
    database: Database
    directory: Directory
    broker: Broker
    agents: Agents
    processes: Processes
    doors: Doors

    async def spawn(self, name: str, *, start: bool = True) -> None:
        await self.agents.spawn(SpawnRequest(name=name, start=start), "operator")


@asynccontextmanager
async def opened(layout: Layout, processes: Processes | None = None) -> AsyncIterator[Hive]:
    """A hive whose agents are known and not yet started."""
    for place in (layout.agents, layout.logs, layout.run_dir / "agents"):
        place.mkdir(parents=True, exist_ok=True)
    if processes is None:
        processes = Processes()
        processes.held.set()
    database = await Database.open(layout.database)
    writing = asyncio.create_task(database.run())
    try:
        directory, events, doors = Directory(), EventHub(), Doors()
        broker = Broker(database, directory, events, inbox_limit=100, lease_seconds=60)
        await broker.open()
        agents = Agents(
            layout=layout,
            database=database,
            directory=directory,
            broker=broker,
            runtime=processes,
            doors=doors,
            reports=Reports(events, broker, directory),
            environment={},
        )
        await agents.open()
        yield Hive(layout, database, directory, broker, agents, processes, doors)
    finally:
        database.finish()
        await writing
        await database.close()
