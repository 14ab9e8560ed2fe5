"""The `nixos` runtime, put together from its parts: every agent in a NixOS container of its own.

Activation stops the container, configures it, and starts it: no process of the old configuration is left then, and
nothing in the container has to cooperate. Containers outlive the daemon; the next daemon leaves those alone that run as
their specs say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.systemd import journal
from hive_core.infra.systemd.bus import SystemBus
from hive_core.infra.systemd.resource_control import unit_properties
from hive_core.infra.systemd.units import lifecycle
from hive_core.layout import Layout
from hive_core.protocol import AgentConfig, Limits, Usage
from hive_core.protocol.names import container_name
from hive_core.runtimes.base import AgentSpec, BuildOrder, Runtime, UnitState
from hive_core.runtimes.checks.order import CheckRun
from hive_core.runtimes.disk_quotas import DiskQuotas
from hive_core.runtimes.nixos import host_checks
from hive_core.runtimes.nixos.build.builder import NixBuilder
from hive_core.runtimes.nixos.checks.check_sandbox import CheckUnits, forget_all_checks
from hive_core.runtimes.nixos.containers import config_files
from hive_core.runtimes.nixos.containers.activation import ContainerActivator, CrashRestarter
from hive_core.runtimes.nixos.containers.inspection import agent_of, unit_name
from hive_core.runtimes.nixos.containers.monitor import ContainerMonitor
from hive_core.runtimes.nixos.containers.nixos_container import NixosContainers, orphaned_dropins
from hive_core.runtimes.unit_state import BackOff
from hive_core.settings import Settings

log = structlog.get_logger(__name__)


class NixosRuntime:
    """Implements `hive_core.runtimes.base.Runtime`. Create it with `open`, and use it on that event loop only."""

    name = "nixos"
    limiting = True
    unsealed = False
    sealing = "a network namespace with nothing but a loopback of its own"

    def __init__(
        self,
        bus: SystemBus,
        builder: NixBuilder,
        containers: NixosContainers,
        layout: Layout,
        *,
        confinement: str,
        bubblewrap: str | None,
        user_namespaces: bool,
        stop_timeout: float,
        back_off: BackOff | None = None,
    ) -> None:
        self.confinement = confinement
        self._user_namespaces = user_namespaces
        self.bubblewrap = bubblewrap
        self._bus = bus
        self._builder = builder
        self._containers = containers
        self._layout = layout
        self.disks = DiskQuotas()
        self._monitor = ContainerMonitor(bus)
        self._check_units = CheckUnits([builder.store_directory])
        self._activator = ContainerActivator(bus, containers, self._monitor, layout, self.disks, stop_timeout)
        self._restarter = CrashRestarter(self._activator.start_again, back_off or BackOff())
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False

    @classmethod
    async def open(cls, settings: Settings, layout: Layout) -> Runtime:
        """Check this host and open the runtime. Raises HiveError if the host cannot run NixOS containers."""
        parts = await host_checks.open_parts(settings, layout)
        await forget_all_checks()
        runtime = cls(
            parts.bus,
            parts.builder,
            NixosContainers(parts.host_paths, user_namespaces=settings.nixos.user_namespaces, by_flag=parts.by_flag),
            layout,
            confinement=parts.confinement,
            bubblewrap=parts.bubblewrap,
            user_namespaces=settings.nixos.user_namespaces,
            stop_timeout=settings.stop_timeout,
        )
        try:
            await runtime.adopt_running()
        except BaseException:
            await runtime.close()
            raise
        return runtime

    async def adopt_running(self) -> None:
        """Add the containers that an earlier daemon has left running, and remove orphaned drop-ins."""
        host_paths = self._containers.host_paths
        for container in await LIFECYCLE.run(orphaned_dropins, host_paths):
            log.warning("drop-in of a container that is gone is removed", container=container)
            await self._containers.drop_dropin(container)
            await self._bus.reload()
        for path in sorted(host_paths.conf_dir.glob("*.conf")):
            name = agent_of(unit_name(path.stem))
            if name is None or not await self._containers.is_ours(name, self._layout.agent(name).run):
                continue
            properties = await self._bus.properties(unit_name(path.stem))
            if lifecycle(properties) != "stopped":
                self._monitor.adopt(name, properties)
        self._tasks = [
            asyncio.create_task(self._monitor.run(), name="follow containers"),
            asyncio.create_task(self._restarter.run(self._monitor.watch()), name="start containers again"),
        ]

    def missing_programs(self, packages: Sequence[str]) -> list[str]:
        """Return none: agent.nix provides them, or its build fails."""
        return []

    def check_settings(self, config: AgentConfig) -> None:
        """Raise `no_nix_daemon` if the agent asks for the Nix daemon, which would take its root for the host's."""
        if config.nix_daemon and not self._user_namespaces:
            raise conflict(
                "no_nix_daemon",
                "nix_daemon = true is refused: containers have no user namespaces here (nixos.user_namespaces = false),"
                " so the Nix daemon would take root in one for the host's root, whom it trusts",
                "take nix_daemon out of agent.toml, or set nixos.user_namespaces = true",
            )

    # --- building -------------------------------------------------------------------------------------------

    @property
    def build_problem(self) -> str:
        """The reason of the last failed trial build; empty if it succeeded."""
        return self._builder.build_users.problem

    async def check_can_build(self) -> None:
        """Raise `no_build_user` or another error of the trial build. The first call waits for the trial."""
        await self._builder.confinement()

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Build a commit's operating system; returns its store path. Raises BuildFailed and HiveError."""
        return await self._builder.build(order, say)

    async def run_check(self, run: CheckRun, say: Callable[[str], None]) -> str:
        """Run a check in a unit of systemd, with the programs of the closure. Raises `cannot_check`, `closure_gone`."""
        await self._builder.need(run.agent, run.closure)
        return await self._check_units.run(run, Path(run.closure), say)

    async def effect(self, order: BuildOrder) -> str:
        """Return the derivation of a commit's system, the one that a build of it makes."""
        return await self._builder.effect(order)

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Return the differences of two closures in words, one per line; `old` of None is an empty one."""
        return await self._builder.compare(old, new)

    async def has(self, closure: str) -> bool:
        """Return True if the closure can still be activated."""
        return await self._builder.has(closure)

    async def outdated(self, closure: str) -> bool:
        """Return True if a build now would use a newer hyperhive than the closure; False if that is not known."""
        return await self._builder.outdated(closure)

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the agent's closures other than these and the one that its container was started on last."""
        running = await self._containers.closure(name)
        await self._builder.keep(name, {*closures, running} if running else closures)

    # --- running --------------------------------------------------------------------------------------------

    async def activate(self, spec: AgentSpec) -> None:
        """Stop the container if it runs and start it on `spec.closure`; `units` reports the result.

        Raises `closure_gone`, and stops nothing then; `container_in_the_way`, `container_busy`.
        """
        await self._check(spec)
        await self._activator.activate(spec)

    async def start(self, spec: AgentSpec) -> None:
        """Do the same as `activate`, unless the container runs already on that closure and as that deployment."""
        await self._check(spec)
        await self._activator.activate(spec, unless_running=True)

    async def stop(self, name: str) -> None:
        """Stop the container, by force after a time. Nothing happens if it is stopped or not one of this hive."""
        await self._activator.stop(name)

    async def destroy(self, name: str) -> None:
        """Stop the container and remove it with its root directory. The agent's own directories stay."""
        await self._activator.destroy(name)

    async def limit(self, name: str, limits: Limits) -> None:
        """Change limits at once, until the next activation; None removes one. Raises `not_running`."""
        if lifecycle(await self._monitor.look(name)) != "running":
            raise conflict("not_running", f"{name} does not run: there is nothing to limit", "start it first")
        await self._bus.set_limits(unit_name(container_name(name)), unit_properties(limits))
        await self.disks.change(name, limits)

    async def limits(self, name: str) -> Limits:
        """Return the active limits, including systemd's own for every unit; if the container does not run, only that
        of the disk.
        """
        unit = unit_name(container_name(name))
        running = lifecycle(await self._bus.properties(unit)) == "running"
        return await self.disks.add_to(name, await self._bus.limits(unit) if running else Limits())

    async def usage(self, name: str) -> Usage:
        """Return the resources that the container uses at the moment."""
        properties = await self._bus.properties(unit_name(container_name(name)))
        seconds = None if properties.cpu_ns is None else properties.cpu_ns / 1_000_000_000
        usage = Usage(memory_bytes=properties.memory, cpu_seconds=seconds, tasks=properties.tasks)
        return await self.disks.add_usage(name, usage)

    def units(self) -> list[UnitState]:
        """Return every container that was started, or found running at the daemon's start, and not destroyed."""
        return self._monitor.states()

    def unit(self, name: str) -> UnitState | None:
        """Return the state of one of `units`, None if the agent is none of them."""
        return self._monitor.state(name)

    def watch(self) -> AsyncIterator[UnitState]:
        """Subscribe to every change from this call on, in order per agent, until the runtime is closed."""
        return self._monitor.watch()

    async def read_log(
        self, name: str, log: Path, lines: int, cursor: str | None, wait_seconds: float
    ) -> tuple[list[str], str]:
        """Return the last `lines` of the container's journal, or those after `cursor`, and the next cursor."""
        return await journal.read(unit_name(container_name(name)), lines, cursor, wait_seconds)

    async def last_line(self, name: str) -> str:
        """Return the last line that nspawn, or the system in the container, printed in the last run that has ended."""
        invocation = self._monitor.unit(name).ended_invocation if self._monitor.state(name) is not None else ""
        return await journal.last_line(unit_name(container_name(name)), invocation) if invocation else ""

    async def close(self) -> None:
        """Close the connections to systemd. The containers go on."""
        self._closed = True
        await self._restarter.close()
        await self._monitor.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._builder.close()
        await self._bus.close()

    async def _check(self, spec: AgentSpec) -> None:
        if self._closed:
            raise HiveError("stopping", "the hive is stopping", hint="start it again first", status=503)
        config_files.check_carried(config_files.bound_directories(spec))
        await self._builder.need(spec.name, spec.closure)
