"""Activation of containers: start, stop, restart after a crash.

The order of the steps makes it safe to be killed between them: the conf file and the environment are written only
while the container is stopped, and a container with others than those of its spec is started again.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import BackgroundTasks
from hive_core.infra.concurrency.threads import LIFECYCLE
from hive_core.infra.disk_quota.quotas import DirectoryQuotas, make_subvolume
from hive_core.infra.storage.file_lock import container_lock
from hive_core.infra.systemd.bus import SystemBus, escaped
from hive_core.infra.systemd.units import lifecycle
from hive_core.layout import Layout
from hive_core.protocol import Lifecycle
from hive_core.protocol.names import container_name
from hive_core.runtimes.base import AgentSpec, UnitState
from hive_core.runtimes.disk_quotas import DiskQuotas
from hive_core.runtimes.nixos.containers.deployed_files import DeployedFiles
from hive_core.runtimes.nixos.containers.inspection import unit_name
from hive_core.runtimes.nixos.containers.monitor import ContainerMonitor
from hive_core.runtimes.nixos.containers.nixos_container import NixosContainers, in_thread, refusing
from hive_core.runtimes.unit_state import BackOff

_log = structlog.get_logger(__name__)


_NSPAWN_MOUNTS = "run-systemd-nspawn-"
"""The beginning of the names of mount units below /run/systemd/nspawn."""


class ContainerActivator:
    """Starts and stops the containers of one hive, and notes in `monitor` what is wanted. `stop_timeout`: seconds."""

    def __init__(
        self,
        bus: SystemBus,
        containers: NixosContainers,
        monitor: ContainerMonitor,
        layout: Layout,
        disks: DiskQuotas,
        stop_timeout: float,
    ) -> None:
        self._disks = disks
        self._bus = bus
        self._containers = containers
        self._monitor = monitor
        self._layout = layout
        self._stop_timeout = stop_timeout
        self._deployed_files = DeployedFiles(layout)

    async def activate(self, spec: AgentSpec, *, unless_running: bool = False) -> None:
        """Stop the container if it runs, configure it as `spec` says, and start it. The monitor reports the result.

        `unless_running`: nothing happens if it runs as `spec` says. Raises `container_in_the_way`,
        `container_busy`, `container_not_prepared`, `bad_environment`, and the errors of systemd and programs.
        """
        name, container = spec.name, container_name(spec.name)
        async with self._claimed(name) as hold:
            if unless_running and await self._containers.runs(spec) and await self._look(name) == "running":
                await self._disks.enforce(name, self._written(spec), spec.limits, stopped=False)
                return
            with refusing(container):
                closures = await self._closures(name)
                await self._containers.check(
                    spec, closures
                )  # Checked before it is stopped, because it may not be one of this hive.
                await in_thread(self._deployed_files.prepare, spec)
                await self._stop(name, to_start=True)
                await self._containers.prepare(spec, closures, hold)
                changed = await self._containers.put_dropin(spec, self._stop_timeout)
                await in_thread(make_subvolume, self._containers.host_paths.root(container), 0o755)
            await self._disks.enforce(name, self._written(spec), spec.limits, stopped=True)
            await self._reload(container, changed=changed)
            self._monitor.tell(name, self._monitor.unit(name).start_asked())
            await self._run(name)
            await self._remove_old_files(spec)

    async def start_again(self, name: str) -> None:
        """Start a crashed container with its last configuration; nothing happens unless it waits for that."""
        async with self._claimed(name):
            state = await self._look(name)
            if self._monitor.waits(name):
                if state not in (
                    "stopped",
                    "failed",
                ):  # systemd has not finished its stop: processes of it may still run.
                    await self._bus.stop(unit_name(container_name(name)))
                    await self._look(name)
                self._monitor.tell(name, self._monitor.unit(name).start_again())
                await self._run(name)

    async def stop(self, name: str) -> None:
        """Stop the container; nothing happens if it is stopped, or not one of this hive."""
        async with self._claimed(name):
            if await self._containers.is_ours(name, self._layout.agent(name).run):
                await self._stop(name)

    async def destroy(self, name: str) -> None:
        """Stop the container and remove all of it; one that is not of this hive stays."""
        container, run = container_name(name), self._layout.agent(name).run
        async with self._claimed(name) as hold:
            if await self._containers.is_ours(name, run):
                await self._stop(name)
            with refusing(container):
                await in_thread(
                    DirectoryQuotas().forget, self._containers.written(container), self._layout.agent_home(name)
                )
                if await self._containers.remove(name, run, await self._closures(name), hold):
                    changed = await self._containers.drop_dropin(container)
                    await self._reload(container, changed=changed)
                await in_thread(self._deployed_files.remove, name)
            self._monitor.forget(name)
            self._disks.forget(name)

    def _written(self, spec: AgentSpec) -> list[Path]:
        """Return the directories that the agent can write, its home first."""
        return [spec.paths.home, *self._containers.written(container_name(spec.name))]

    async def _remove_old_files(self, spec: AgentSpec) -> None:
        """Remove the files of other deployments, which nothing shows any more. The container runs, whether it works."""
        try:
            await in_thread(self._deployed_files.keep_only, spec)
        except OSError as error:
            _log.warning("files of older deployments not removed", agent=spec.name, error=str(error))

    async def _reload(self, container: str, *, changed: bool) -> None:
        """Make systemd read the unit's files if they have changed now, or before an earlier reload that failed."""
        if changed or (await self._bus.properties(unit_name(container))).needs_reload:
            await self._bus.reload()

    def _claimed(self, name: str) -> AbstractAsyncContextManager[int]:
        return container_lock(self._layout.run_dir / "containers", container_name(name))

    async def _closures(self, name: str) -> set[str]:
        """Return the kept closures of the agent."""
        links = (self._layout.gcroots / name).glob("*")
        return await LIFECYCLE.run(lambda: {str(link.readlink()) for link in links if link.is_symlink()})

    async def _look(self, name: str) -> Lifecycle:
        return lifecycle(await self._monitor.look(name))

    async def _run(self, name: str) -> None:
        """Start the stopped container. Raises errors that the container itself has not caused."""
        unit, container = self._monitor.unit(name), container_name(name)
        try:
            with refusing(container):
                await self._containers.clear_script_paths(container)
            await self._unmount(container)
            await self._bus.start(unit_name(container))
        except HiveError as error:
            own = error.code == "unit_failed"
            with suppress(HiveError):
                await self._look(name)
            self._monitor.tell(name, unit.start_failed(error.message, again=not own))
            if not own:
                raise
        else:
            await self._look(name)

    async def _unmount(self, container: str) -> None:
        """Remove the mounts that a killed nspawn has left of a stopped container.

        nspawn since 256 has one for sockets of the container, and refuses to start where it still exists: at
        /run/systemd/nspawn/unix-export/NAME (seen with 257) or /run/systemd/nspawn/NAME/unix-export (with 262). systemd
        removes it, because the daemon has a mount namespace of its own.
        """
        for mount in await self._bus.loaded(f"{_NSPAWN_MOUNTS}*.mount"):
            if escaped(container) in mount.removesuffix(".mount").split("-"):
                try:
                    await self._bus.stop(mount)
                except HiveError as error:  # If that matters, the start fails.
                    _log.warning("mount of a killed container not removed", mount=mount, error=error.message)

    async def _stop(self, name: str, *, to_start: bool = False) -> None:
        unit = self._monitor.unit(name)
        self._monitor.tell(name, unit.stop_asked(to_start=to_start))
        try:
            if await self._look(name) not in ("stopped", "failed"):
                await self._bus.stop(unit_name(container_name(name)))
                await self._look(name)
        except BaseException:
            try:
                # It may stop all the same, and that end is not a crash.
                with suppress(HiveError):
                    await self._look(name)
            finally:
                unit.stop_failed()
            raise


class CrashRestarter:
    """Starts crashed containers again after a pause. `start` must check that the container still waits in `backoff`.

    A start that is refused is repeated, until the container is started or stopped otherwise.
    """

    def __init__(self, start: Callable[[str], Awaitable[None]], back_off: BackOff) -> None:
        self._start = start
        self._back_off = back_off
        self._delays: dict[str, float] = {}
        self._began: dict[str, float] = {}
        self._tasks = BackgroundTasks()
        self._newest: dict[str, asyncio.Task[None]] = {}

    async def run(self, changes: AsyncIterator[UnitState]) -> None:
        """Follow the changes of containers until they end."""
        now = asyncio.get_running_loop().time
        async for state in changes:
            name = state.name
            if state.lifecycle in ("stopped", "failed") or (state.lifecycle == "starting" and state.restarts == 0):
                self._delays.pop(name, None)
                self._newest.pop(name, None)
            if state.lifecycle == "starting":
                self._began[name] = now()
            if state.lifecycle == "backoff":
                ran = now() - self._began.pop(name, now())
                delay = self._delays[name] = self._back_off.after(self._delays.get(name), ran)
                self._newest[name] = self._tasks.start(self._revive(name, delay), name=f"start {name} again")

    async def close(self) -> None:
        """Cancel all pending starts."""
        await self._tasks.close()

    async def _revive(self, name: str, delay: float) -> None:
        await asyncio.sleep(delay)
        while True:
            try:
                await self._start(name)
                return
            except HiveError as error:
                _log.warning("container not started again", agent=name, code=error.code, error=error.message)
            delay = self._back_off.after(delay, 0.0)
            await asyncio.sleep(delay)
            if self._newest.get(name) is not asyncio.current_task():
                return  # Meanwhile a new wait has begun, which has a task of its own, or there is none any more.
