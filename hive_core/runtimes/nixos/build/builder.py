"""Builds of the nixos runtime: the operating system of a commit, as a closure in the Nix store."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import structlog

from hive_core.errors import HiveError, conflict
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildFailed, BuildOrder
from hive_core.runtimes.checks.built_tree import check_built_tree
from hive_core.runtimes.nixos.build import workspace
from hive_core.runtimes.nixos.build.build_user import BuildUserSelector, ignore_line
from hive_core.runtimes.nixos.build.closure import closure_diff, exposure
from hive_core.runtimes.nixos.build.flake import ATTRIBUTE, AgentFlake, render, with_agent
from hive_core.runtimes.nixos.build.flake_source import (
    FlakeRevision,
    FlakeSource,
    fetch_inputs,
    look_up_flake,
    revision_of,
)
from hive_core.runtimes.nixos.build.store import GcRoots, Store, bootable
from hive_core.runtimes.nixos.build.unit.confinement import Confinement, check_path, unit_name
from hive_core.runtimes.nixos.build.unit.executor import forget_all
from hive_core.settings import Settings

log = structlog.get_logger(__name__)


_EVALUATIONS = count(1)
"""Numbers for the workspaces of evaluations, of which one agent may have several at a time."""


@dataclass(frozen=True)
class _Evaluation:
    """The result of an evaluation, which is in the store while `workspace` exists. `source` has the commit's files."""

    confinement: Confinement
    workspace: workspace.BuildWorkspace
    unit: str
    source: Path
    derivation: str
    flake: str
    lock: Mapping[str, Any]


class NixBuilder:
    """Builds closures with Nix. Create it with `open`, and use it on that event loop only."""

    def __init__(self, settings: Settings, layout: Layout, store: Store, build_users: BuildUserSelector) -> None:
        self._settings = settings
        self._layout = layout
        self._store = store
        self.build_users = build_users
        self._gc_roots = GcRoots(layout.gcroots)
        self._fetched = ""
        """The hash of the hyperhive whose inputs are in the store."""
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
        await workspace.remove_all_workspaces(layout.scratch)
        return cls(settings, layout, store, build_users)

    @property
    def store_directory(self) -> Path:
        """The directory of the Nix store."""
        return self._store.directory

    async def confinement(self) -> str:
        """Return the user and confinement of builds in words. Raises HiveError if nothing can be built here."""
        return (await self.build_users.confinement()).description

    async def build(self, order: BuildOrder, say: Callable[[str], None]) -> str:
        """Build the system of a commit; returns its store path, which has a GC root. Cancelling stops the build.

        Raises FetchesMissing, BuildFailed, and HiveError if nothing can be built here.
        """
        async with self._evaluated(order, say) as evaluation:
            realiser = self.build_users.realiser(evaluation.confinement, evaluation.workspace, evaluation.unit, say)
            closure = await realiser.realise(evaluation.derivation, order.allowed_fetches)
            if not await asyncio.to_thread(bootable, self._store.check(closure)):
                raise BuildFailed("the build output is not a system: it has no `init`")
            await asyncio.to_thread(check_built_tree, order, evaluation.source)
            # The link in the workspace is a GC root, too, so that nothing was collected before this.
            await self._gc_roots.add(order.name, order.number, closure)
            text, lock = evaluation.flake, workspace.lock_text(evaluation.lock)
            await shield_to_completion(asyncio.to_thread(_write_flake, self._layout.flakes / order.name, text, lock))
            return closure

    async def effect(self, order: BuildOrder) -> str:
        """Return the derivation of the commit's system, evaluated exactly as for a build.

        A configuration that could tell the two apart would be judged as another one than is built. Raises BuildFailed,
        and HiveError if nothing can be evaluated here.
        """
        async with self._evaluated(order, ignore_line) as evaluation:
            await asyncio.to_thread(check_built_tree, order, evaluation.source)
            return evaluation.derivation

    @asynccontextmanager
    async def _evaluated(self, order: BuildOrder, say: Callable[[str], None]) -> AsyncIterator[_Evaluation]:
        """Evaluate the system of a commit from its files in the store, and yield the result while its workspace exists.

        Nix fetches nothing of the agent's: the daemon extracts the files and adds them to the store.
        """
        confinement = await self.build_users.confinement()
        hyperhive = await self._hyperhive(say)
        if hyperhive.lock is None:
            hint = "this version of Nix is not among those that were tested"
            raise HiveError("flake_unavailable", "Nix describes hyperhive's flake in an unknown form", hint=hint)
        label = f"{order.name}-{order.number}-{next(_EVALUATIONS)}"
        work, unit = workspace.BuildWorkspace.of(self._layout.scratch, label), unit_name(label)
        try:
            await shield_to_completion(asyncio.to_thread(workspace.create_workspace, work))
            await shield_to_completion(asyncio.to_thread(workspace.extract_source, work, order))
            source = Path(await self._store.add(work.source, work.roots / "source"))
            flake = AgentFlake(
                hyperhive=self._settings.nixos.flake,
                system=f"{platform.machine()}-linux",
                name=order.name,
                kind=order.kind,
                source=source,
                commit=order.commit,
            )
            text, lock = render(flake), with_agent(hyperhive.lock, source, await self._store.nar_hash(str(source)))
            await shield_to_completion(asyncio.to_thread(workspace.write_flake, work, text, lock))
            say(f"{order.name}: commit {order.commit[:12]}, {confinement.description}")
            derivation = await self.build_users.evaluate(confinement, work, unit, ATTRIBUTE, say)
            yield _Evaluation(confinement, work, unit, source, derivation, text, lock)
        finally:
            await shield_to_completion(workspace.remove_workspace(work))

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
        paths = Path(old) if old else None, Path(new)
        words += await asyncio.to_thread(_exposure_changes, *paths, self._store.directory)
        words.append(closure_diff.size(None if before is None else sum(before.values()), sum(after.values())))
        if before is not None:
            words += closure_diff.packages(before, after)
        return [*words, *await asyncio.to_thread(closure_diff.units, *paths, self._store.directory)]

    async def has(self, closure: str) -> bool:
        """Return True if the closure is valid in the store and can be booted."""
        return await self._store.has(closure, held=await self._gc_roots.hold(closure))

    async def need(self, name: str, closure: str) -> None:
        """Raise HiveError `closure_gone` if the closure cannot be activated any more."""
        if not await self.has(closure):
            why = f"the build output of {name} no longer exists: {closure}"
            raise conflict("closure_gone", why, f"hive-c0re rebuild {name}")

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
        flake = self._settings.nixos.flake
        revision = await look_up_flake(flake)
        if revision.lock is not None and not (
            revision.nar_hash == self._fetched and await self._gc_roots.has_sources()
        ):
            # Before an agent's configuration is evaluated, because evaluations have no network.
            await self._gc_roots.add_sources(await fetch_inputs(flake, revision.lock, self._layout.scratch))
            self._fetched = revision.nar_hash
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


def _exposure_changes(old: Path | None, new: Path, store: Path) -> list[str]:
    before = None if old is None else exposure.read_exposure(old, store)
    return exposure.differences(before, exposure.read_exposure(new, store))


def _write_flake(home: Path, text: str, lock: str) -> None:
    """Keep the flake of the build, for people to read."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, content in (("flake.nix", text), ("flake.lock", lock)):
        new = home / f"{name}.new"
        new.write_text(content)
        new.replace(home / name)
