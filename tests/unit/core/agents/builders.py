"""The agents of a hive with its real database, broker and files, but with stand-ins for sockets and processes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hive_core.agents import ActiveConfig, AgentLifecycle, AgentLimits, AgentRegistry, DeploymentManager, files
from hive_core.agents.grants.grants import Grants
from hive_core.agents.grants.limits import LimitPolicy
from hive_core.agents.grants.secret_files import SecretFiles
from hive_core.agents.grants.secrets import AgentSecrets
from hive_core.agents.health import HarnessReports
from hive_core.agents.page_access import PageAccess
from hive_core.agents.purge import Purging
from hive_core.errors import HiveError, conflict
from hive_core.infra.database.database import Database
from hive_core.infra.database.deferred import DeferredChanges, IntentFiles
from hive_core.infra.storage.credentials import CredentialStore
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker, Directory
from hive_core.protocol import AgentConfig, AgentStatus, HarnessState, Limits, SpawnRequest, Usage
from hive_core.runtimes.base import AgentSpec, BuildOrder, UnitState
from hive_core.runtimes.checks.order import CheckRun
from hive_core.runtimes.disk_quotas import DiskQuotas


@dataclass
class FakeSockets:
    """Which agents are listened for; those in `broken` cannot be."""

    names: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    async def open(self, name: str) -> None:
        if name in self.broken:
            raise HiveError("cannot_listen", "cannot listen: Too many open files")
        self.names.add(name)

    async def close(self, name: str) -> None:
        self.names.discard(name)


@dataclass
class FakeLentSockets:
    """The names of the agents with view sockets; those in `broken` cannot be made."""

    held: set[str] = field(default_factory=set)
    broken: set[str] = field(default_factory=set)

    def hold(self, name: str) -> None:
        if name in self.broken:
            raise HiveError("cannot_listen", "cannot listen")
        self.held.add(name)

    def release(self, name: str) -> None:
        self.held.discard(name)


@dataclass
class FakePagePorts:
    """Which agents' ports are held; those in `taken` cannot be."""

    held: dict[str, int] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    busy: set[int] = field(default_factory=set)
    """Ports on which other programs listen."""
    tries: int = 0

    def hold(self, name: str, port: int) -> None:
        self.tries += 1
        if name in self.taken:
            raise conflict("page_port_taken", f"cannot listen on port {port}")
        self.held[name] = port

    def release(self, name: str) -> None:
        self.held.pop(name, None)

    def is_free(self, port: int) -> bool:
        return port not in self.busy


@dataclass
class FakeProcesses:
    """A runtime without processes. While `held` is not set, starts take long. `specs` is what was last run of each."""

    name: str = "stand-in"
    confinement: str = "none"
    bubblewrap: str | None = None
    limiting: bool = True
    unsealed: bool = False
    sealing: str = "not at all"
    disks: DiskQuotas = field(default_factory=DiskQuotas)
    build_problem: str = ""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    starting: int = 0
    most_at_once: int = 0
    running: set[str] = field(default_factory=set)
    runs: dict[str, int] = field(default_factory=dict)
    """The number of the last run of each agent."""
    failed: dict[str, UnitState] = field(default_factory=dict)
    specs: dict[str, AgentSpec] = field(default_factory=dict)
    unsupported: set[str] = field(default_factory=set)
    """Settings that cannot be enforced if they are not what a new agent has."""
    limited: dict[str, Limits] = field(default_factory=dict)
    old: set[str] = field(default_factory=set)
    began: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    changes: asyncio.Queue[UnitState] = field(default_factory=asyncio.Queue)

    def check_settings(self, config: AgentConfig) -> None:
        for key in sorted(self.unsupported):
            if getattr(config, key) != getattr(AgentConfig(), key):
                raise conflict("cannot_seal", f"{key} cannot be enforced here", "leave it out")

    async def check_can_build(self) -> None: ...

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        raise NotImplementedError

    async def effect(self, order: BuildOrder) -> str:
        return "the same"

    async def run_check(self, run: CheckRun, say: Callable[[str], None]) -> str:
        raise NotImplementedError

    async def compare(self, old: str | None, new: str) -> list[str]:
        raise NotImplementedError

    async def has(self, closure: str) -> bool:
        raise NotImplementedError

    def missing_programs(self, packages: Sequence[str]) -> list[str]:
        return []

    async def outdated(self, closure: str) -> bool:
        return closure in self.old

    async def keep(self, name: str, closures: Collection[str]) -> None:
        raise NotImplementedError

    async def activate(self, spec: AgentSpec) -> None:
        self.running.discard(spec.name)
        await self.start(spec)

    async def start(self, spec: AgentSpec) -> None:
        self.starting += 1
        self.most_at_once = max(self.most_at_once, self.starting)
        self.began.put_nowait(spec.name)
        await self.held.wait()
        self.starting -= 1
        if spec.name not in self.running:
            self.runs[spec.name] = self.runs.get(spec.name, 0) + 1
        self.running.add(spec.name)
        self.specs[spec.name] = spec
        self.limited[spec.name] = spec.limits

    async def limit(self, name: str, limits: Limits) -> None:
        self.limited[name] = limits

    async def limits(self, name: str) -> Limits:
        return self.limited.get(name, Limits())

    async def usage(self, name: str) -> Usage:
        return Usage(memory_bytes=1024**2, cpu_seconds=1.5, tasks=3) if name in self.running else Usage()

    async def stop(self, name: str) -> None:
        self.running.discard(name)
        self.limited.pop(name, None)

    async def destroy(self, name: str) -> None:
        self.running.discard(name)
        self.runs.pop(name, None)

    def fail(self, unit: UnitState) -> None:
        """Let something become of an agent that nobody asked for."""
        self.failed[unit.name] = unit
        self.changes.put_nowait(unit)

    def units(self) -> list[UnitState]:
        return [unit for name in self.runs.keys() | self.failed.keys() if (unit := self.unit(name)) is not None]

    def unit(self, name: str) -> UnitState | None:
        if name in self.failed:
            return self.failed[name]
        if name not in self.runs:
            return None
        return UnitState(name, "running" if name in self.running else "stopped", run=self.runs[name])

    async def last_line(self, name: str) -> str:
        return f"last line of {name}"

    async def watch(self) -> AsyncIterator[UnitState]:
        while True:
            yield await self.changes.get()

    async def read_log(self, *_: object) -> tuple[list[str], str]:
        raise NotImplementedError

    async def close(self) -> None:
        self.running.clear()


@dataclass
class AgentHive:
    """One daemon's life over a layout, as far as agents are concerned."""

    layout: Layout
    database: Database
    directory: Directory
    broker: Broker
    agents: AgentRegistry
    deployments: DeploymentManager
    limits: AgentLimits
    lifecycle: AgentLifecycle
    page_access: PageAccess
    reports: HarnessReports
    processes: FakeProcesses
    sockets: FakeSockets
    page_ports: FakePagePorts
    views: FakeLentSockets
    deferred: DeferredChanges
    secrets: AgentSecrets

    async def spawn(self, name: str, *, start: bool = True, **settings: object) -> AgentStatus:
        """The work of the gate for a new agent, after the decision; `settings` go into its agent.toml."""
        request = SpawnRequest(name=name, start=start)
        await self.deployments.check_new(name)
        paths = await self.deployments.create_directories(name)
        paths.config.mkdir()
        for path, content in files.first_files(request).items():
            (paths.config / path).write_bytes(content)
        return await self.deployments.create(name, in_force(0, **settings), start=start, actor="operator")

    async def report(self, name: str, deployment: int | None, *states: HarnessState) -> None:
        """A harness says hello with this deployment, and then what it is doing."""
        await self.reports.hello(name, deployment)
        for state in states:
            await self.reports.harness(name, state, "no\nmodel" if state == "failed" else "")


def in_force(number: int, **settings: object) -> ActiveConfig:
    """Something to deploy; `settings` go into its agent.toml."""
    config = AgentConfig.model_validate({"backend": "scripted", **settings})
    return ActiveConfig(number, f"closure-{number}", config, f"role {number}")


@asynccontextmanager
async def opened(
    layout: Layout,
    processes: FakeProcesses | None = None,
    limit_policy: LimitPolicy | None = None,
    *,
    sockets: FakeSockets | None = None,
    up_seconds: float = 0,
) -> AsyncIterator[AgentHive]:
    """A hive whose agents are known and not yet started. Starts do not wait for harnesses, as there are none."""
    for place in (layout.agents, layout.logs, layout.run_dir / "agents"):
        place.mkdir(parents=True, exist_ok=True)
    if processes is None:
        processes = FakeProcesses()
        processes.held.set()
    database = await Database.open(layout.database)
    writing = asyncio.create_task(database.run())
    try:
        directory, events, page_ports = Directory(), EventHub(), FakePagePorts()
        sockets = sockets or FakeSockets()
        views = FakeLentSockets()
        broker = Broker(database, directory, events, inbox_limit=100, lease_seconds=60)
        await broker.open()
        reports = HarnessReports(events, broker, directory, processes)
        agents = AgentRegistry(layout=layout, directory=directory, broker=broker, runtime=processes, reports=reports)
        deferred = DeferredChanges(database, IntentFiles(layout.intents))
        secrets = AgentSecrets(agents, database, CredentialStore(layout.credentials), SecretFiles(layout))
        page_access, purging = PageAccess(), Purging(layout, database, deferred, secrets)
        policy = limit_policy or LimitPolicy()
        limits = AgentLimits(agents, database=database, runtime=processes, policy=policy)
        deployments = DeploymentManager(
            agents,
            layout=layout,
            database=database,
            runtime=processes,
            sockets=sockets,
            lent=views,
            page_ports=page_ports,
            reports=reports,
            purging=purging,
            deferred=deferred,
            environment={},
            grants=Grants(policy, secrets),
            listen_seconds=0.01,
        )
        lifecycle = AgentLifecycle(
            agents,
            deployments,
            layout=layout,
            database=database,
            broker=broker,
            runtime=processes,
            reports=reports,
            purging=purging,
            page_access=page_access,
            deferred=deferred,
            up_seconds=up_seconds,
        )
        await lifecycle.open()
        await secrets.open([record.name for record in agents.all()])
        yield AgentHive(
            layout,
            database,
            directory,
            broker,
            agents,
            deployments,
            limits,
            lifecycle,
            page_access,
            reports,
            processes,
            sockets,
            page_ports,
            views,
            deferred,
            secrets,
        )
    finally:
        database.finish()
        await writing
        await database.close()
