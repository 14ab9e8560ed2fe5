"""What the nixos runtime builds: a commit's operating system, as a closure in the Nix store."""

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
    """Builds closures with Nix. Made with `open`; lives on the loop that it was opened on."""

    def __init__(self, settings: Settings, layout: Layout, store: Store, build_users: BuildUserSelector) -> None:
        self._settings = settings
        self._layout = layout
        self._store = store
        self.build_users = build_users
        self._gc_roots = GcRoots(layout.gcroots)
        self._flake_source = FlakeSource(self._look)
        self._trial = asyncio.create_task(self._try(), name="try a build")

    @classmethod
    async def open(cls, settings: Settings, layout: Layout) -> NixBuilder:
        """Find out how builds can be run here, and end those that a killed daemon has left.

        Raises HiveError `no_nix`, `no_systemd`, `unusable_path` with the remedy.
        """
        for path in (layout.state_dir, layout.run_dir):
            check_path(path)
        store = await Store.find()
        build_users = BuildUserSelector.find(settings, layout, store)
        await forget_all()
        await asyncio.to_thread(workspace.remove_all_workspaces, layout.scratch)
        return cls(settings, layout, store, build_users)

    async def confinement(self) -> str:
        """Who evaluates, and in what, as a sentence. Raises HiveError if nothing can be built here."""
        return (await self.build_users.confinement()).description

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """The store path of the commit's system, with a GC root. Raises BuildFailed, and HiveError if nothing can
        be built here. Cancelled, it stops the build and lets go of what it has made.
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
            closure = self._take(workspace.read_result(build_workspace))
            # The link in the directory is a root, too: until here nothing can have been collected.
            await self._gc_roots.add(order.name, order.number, closure)
            lock = workspace.read_lock(build_workspace)
            await shield_to_completion(asyncio.to_thread(_write, self._layout.flakes / order.name, text, lock))
            return closure
        finally:
            await shield_to_completion(asyncio.to_thread(workspace.remove_workspace, build_workspace))

    async def compare(self, old: str | None, new: str) -> list[str]:
        """What differs between two closures, in words, a line each. Raises `closure_gone` if the new one is gone."""
        await self.need("the agent", new)
        words = []
        if old and not await self.has(old):
            old, words = None, ["what is in force was not kept: everything is shown as new"]
        after = await self._store.paths_of(new)
        before = await self._store.paths_of(old) if old else None
        words.append(closure_diff.size(None if before is None else sum(before.values()), sum(after.values())))
        if before is not None:
            words += closure_diff.packages(before, after)
        paths = Path(old) if old else None, Path(new)
        return [*words, *await asyncio.to_thread(closure_diff.units, *paths, self._store.directory)]

    async def has(self, closure: str) -> bool:
        """Whether the closure is valid in the store and can be booted."""
        return await self._store.has(closure, held=await self._gc_roots.hold(closure))

    async def need(self, name: str, closure: str) -> None:
        """Raise HiveError `closure_gone` if it has not."""
        if not await self.has(closure):
            raise conflict("closure_gone", f"what was built for {name} is gone: {closure}", "propose the same again")

    async def keep(self, name: str, closures: Collection[str]) -> None:
        """Give up the GC roots of that agent but those to `closures`; see `GcRoots.keep`."""
        await self._gc_roots.keep(name, closures)

    async def outdated(self, closure: str) -> bool:
        """Whether a build now would take another hyperhive than the closure was built with; False if nobody knows.

        Waits where that has to be looked up, which is so at the start and then every half an hour at most.
        """
        try:
            path = self._store.check(closure)
        except HiveError:
            return False
        hyperhive = await self._flake_source.known()
        recipe = await asyncio.to_thread(revision_of, path, self._store.directory)
        return hyperhive is not None and recipe is not None and recipe != hyperhive.nar_hash

    async def close(self) -> None:
        """End what still goes on in the background."""
        self._trial.cancel()
        await asyncio.wait([self._trial])
        await self._flake_source.close()

    async def _try(self) -> None:
        """Find out at the start of the daemon whether builds work, and log it if they do not."""
        try:
            log.info("builds work", how=await self.confinement())
        except HiveError as error:
            log.error("proposals are refused: nothing can be built", reason=error.message, hint=error.hint)

    async def _look(self) -> FlakeRevision:
        found = await look_up_flake(self._settings.nixos.flake)
        if found.source is not None:
            await self._gc_roots.add_source(found.source)
        return found

    async def _hyperhive(self, say: Callable[[str], None]) -> FlakeRevision:
        """Hyperhive as it is now; as it was last if it cannot be had now. Raises `flake_unavailable`."""
        try:
            return await self._flake_source.now()
        except HiveError as error:
            if self._flake_source.last is None:
                raise
            say(f"built with hyperhive as it was known before: {error.message}")
            return self._flake_source.last

    def _take(self, result: str | None) -> str:
        if result is None:
            raise BuildFailed("Nix has built nothing")
        if not bootable(self._store.check(result)):
            raise BuildFailed("what was built is not a system: it has no `init`")
        return result


def _write(home: Path, text: str, lock: str | None) -> None:
    """Keep what was built from, for people to look at."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (("flake.nix", text), ("flake.lock", lock)):
        if content is not None:
            new = home / f"{name}.new"
            new.write_text(content)
            new.replace(home / name)
