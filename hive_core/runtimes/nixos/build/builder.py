"""Builds of the nixos runtime: the operating system of a commit, as a closure in the Nix store."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.infra.tasks import shield_to_completion
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildFailed, BuildOrder
from hive_core.runtimes.nixos.build import closure_diff, workspace
from hive_core.runtimes.nixos.build.build_user import BuildUserSelector, build_command
from hive_core.runtimes.nixos.build.confinement import check_path, unit_name
from hive_core.runtimes.nixos.build.executor import evaluate, forget_all
from hive_core.runtimes.nixos.build.flake import ATTRIBUTE, AgentFlake, render
from hive_core.runtimes.nixos.build.flake_source import FlakeRevision, FlakeSource, look_up_flake, revision_of
from hive_core.runtimes.nixos.build.store import GcRoots, Store, bootable
from hive_core.settings import Settings

log = structlog.get_logger(__name__)


class NixBuilder:
    """Builds closures with Nix. Create it with `open`, and use it on that event loop only."""

    def __init__(self, settings: Settings, layout: Layout, store: Store, build_users: BuildUserSelector) -> None:
        self._settings = settings
        self._layout = layout
        self._store = store
        self.build_users = build_users
        self._gc_roots = GcRoots(layout.gcroots)
        self._flake_source = FlakeSource(self._look_up_flake)
        self._trial = asyncio.create_task(self._log_trial(), name="try a build")

    @classmethod
    async def open(cls, settings: Settings, layout: Layout) -> NixBuilder:
        """Find the programs, end the builds that a killed daemon has left, and begin a trial build.

        Raises HiveError `no_nix`, `no_systemd`, `unusable_path`.
        """
        for path in (layout.state_dir, layout.run_dir):
            check_path(path)
        store = await Store.find()
        build_users = BuildUserSelector.find(settings, layout, store)
        await forget_all()
        await asyncio.to_thread(workspace.remove_all_workspaces, layout.scratch)
        return cls(settings, layout, store, build_users)

    async def confinement(self) -> str:
        """Return the user and confinement of builds in words. Raises HiveError if nothing can be built here."""
        return (await self.build_users.confinement()).description

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Build the system of a commit; returns its store path, which has a GC root. Cancelling stops the build.

        Raises BuildFailed, and HiveError if nothing can be built here.
        """
        confinement = await self.build_users.confinement()
        hyperhive = await self._hyperhive(say)
        flake = AgentFlake(
            hyperhive=self._settings.nixos.flake,
            system=f"{platform.machine()}-linux",
            name=order.name,
            kind=order.kind,
            repository=order.repository.absolute(),
            ref=f"refs/tags/proposal/{order.number}",
            commit=order.commit,
        )
        text = render(flake)
        build_workspace = workspace.BuildWorkspace.of(self._layout.scratch, f"{order.name}-{order.number}")
        try:
            stage = partial(
                workspace.prepare_workspace, build_workspace, flake.repository, order.number, text, hyperhive.lock
            )
            await shield_to_completion(asyncio.to_thread(stage))
            command = build_command(self.build_users.nix, build_workspace, ATTRIBUTE)
            unit = unit_name(order.name, order.number)
            shown = {build_workspace.repository: flake.repository}
            say(f"{order.name}: commit {order.commit[:12]}, {confinement.description}")
            argv = confinement.argv(
                unit, command, directory=build_workspace.path, shown=shown, variables=build_workspace.variables
            )
            await evaluate(unit, argv, confinement.limits, say)
            closure = self._checked(workspace.read_result(build_workspace))
            # The link in the workspace is a GC root, too, so that nothing was collected before this.
            await self._gc_roots.add(order.name, order.number, closure)
            lock = workspace.read_lock(build_workspace)
            await shield_to_completion(asyncio.to_thread(_write_flake, self._layout.flakes / order.name, text, lock))
            return closure
        finally:
            await shield_to_completion(asyncio.to_thread(workspace.remove_workspace, build_workspace))

    async def compare(self, old: str | None, new: str) -> list[str]:
        """Return the differences of two closures in words, one per line. Raises `closure_gone` for the new one."""
        await self.need("the agent", new)
        words = []
        if old and not await self.has(old):
            old, words = (
                None,
                ["the build output of the active configuration no longer exists: everything is shown as new"],
            )
        after = await self._store.paths_of(new)
        before = await self._store.paths_of(old) if old else None
        words.append(closure_diff.size(None if before is None else sum(before.values()), sum(after.values())))
        if before is not None:
            words += closure_diff.packages(before, after)
        paths = Path(old) if old else None, Path(new)
        return [*words, *await asyncio.to_thread(closure_diff.units, *paths, self._store.directory)]

    async def has(self, closure: str) -> bool:
        """Return True if the closure is valid in the store and can be booted."""
        return await self._store.has(closure, held=await self._gc_roots.hold(closure))

    async def need(self, name: str, closure: str) -> None:
        """Raise HiveError `closure_gone` if the closure cannot be activated any more."""
        if not await self.has(closure):
            raise conflict(
                "closure_gone", f"the build output of {name} no longer exists: {closure}", "propose the same again"
            )

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Remove the GC roots of the agent to closures other than `closures`; see `GcRoots.keep`."""
        await self._gc_roots.keep(name, closures)

    async def outdated(self, closure: str) -> bool:
        """Return True if a build now would use a newer hyperhive than the closure; False if that is not known.

        Waits for a look-up of hyperhive's flake, which happens at the start and then once in half an hour at most.
        """
        try:
            path = self._store.check(closure)
        except HiveError:
            return False
        hyperhive = await self._flake_source.known()
        recipe = await asyncio.to_thread(revision_of, path, self._store.directory)
        return hyperhive is not None and recipe is not None and recipe != hyperhive.nar_hash

    async def close(self) -> None:
        """End the tasks in the background."""
        self._trial.cancel()
        await asyncio.wait([self._trial])
        await self._flake_source.close()

    async def _log_trial(self) -> None:
        """Make a trial build at the start of the daemon, and log its result."""
        try:
            log.info("builds work", how=await self.confinement())
        except HiveError as error:
            log.error("proposals are refused: nothing can be built", reason=error.message, hint=error.hint)

    async def _look_up_flake(self) -> FlakeRevision:
        revision = await look_up_flake(self._settings.nixos.flake)
        if revision.source is not None:
            await self._gc_roots.add_source(revision.source)
        return revision

    async def _hyperhive(self, say: Callable[[str], None]) -> FlakeRevision:
        """Look up hyperhive's flake; if that fails, return the last result. Raises `flake_unavailable`."""
        try:
            return await self._flake_source.now()
        except HiveError as error:
            if self._flake_source.last is None:
                raise
            say(f"built with the last known version of hyperhive: {error.message}")
            return self._flake_source.last

    def _checked(self, result: str | None) -> str:
        if result is None:
            raise BuildFailed("Nix has not built anything")
        if not bootable(self._store.check(result)):
            raise BuildFailed("the build output is not a system: it has no `init`")
        return result


def _write_flake(home: Path, text: str, lock: str | None) -> None:
    """Keep the flake of the build, for people to read."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (("flake.nix", text), ("flake.lock", lock)):
        if content is not None:
            new = home / f"{name}.new"
            new.write_text(content)
            new.replace(home / name)
