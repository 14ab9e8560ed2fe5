"""The building of a derivation: what substituters have comes through the host's Nix, the rest is built by the hive.

Root's Nix builds in a unit without network, in the local store and not through the Nix daemon, so that the limits of
the unit hold for the builders. A fixed-output builder gets the network of the unit that it runs in: only those that an
operator has allowed are run in a unit with network.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hive_core.protocol.config.limits import memory_bytes
from hive_core.runtimes.base import BuildFailed, FetchesMissing
from hive_core.runtimes.nixos.build.derivations import Derivation, fetch_of, read_derivation
from hive_core.runtimes.nixos.build.store import Store
from hive_core.runtimes.nixos.build.unit.confinement import Confinement, Purpose
from hive_core.runtimes.nixos.build.unit.disk_limit import limit_disk
from hive_core.runtimes.nixos.build.unit.executor import execute
from hive_core.runtimes.nixos.build.unit.unit_files import deleted_bytes
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace

_OPTIONS: Mapping[str, str] = {
    "store": "local",
    # Nothing of the host but the store, also where nix.conf allows more.
    "sandbox": "true",
    "sandbox-fallback": "false",
    "filter-syscalls": "true",
    "allow-new-privileges": "false",
    # Features that give builders a Nix daemon or the network, or that take them out of this unit.
    "experimental-features": "",
    # Nothing from elsewhere, and no program of the host's.
    "substitute": "false",
    "substituters": "",
    "builders": "",
    "fallback": "false",
    "pre-build-hook": "",
    "post-build-hook": "",
    "diff-hook": "",
    "run-diff-hook": "false",
    "keep-failed": "false",
    # Nothing that an agent has built is signed in the name of the host.
    "secret-key-files": "",
    "max-build-log-size": str(16 * 1024 * 1024),
}
"""Settings of Nix that override those of the host for the builds of the hive."""
_EXPERIMENTAL = ("auto-allocate-uids", "use-cgroups")
"""Settings that need an experimental feature. Without it a build fails where one of them is on."""
_SHELL = "/bin/sh"
_MOST_BUILDS = 20_000
"""Derivations that a build may have to build. A whole system of NixOS has fewer than 10,000."""
_MOST_BYTES = 64 * 1024 * 1024
"""Bytes of the files of all derivations that a build has to build."""


def realise_options(settings: Mapping[str, object], store: Path) -> Mapping[str, str]:
    """Return the settings for the builds of the hive on a host whose Nix has `settings`. Pure."""
    # Before the features: Nix ignores these settings, with a warning, where their feature is off.
    options = {name: "false" for name in _EXPERIMENTAL if settings.get(name) not in (None, False)}
    options |= {**_OPTIONS, "sandbox-paths": " ".join(_sandbox_shell(settings.get("sandbox-paths"), store))}
    if "build-dir" in settings:  # Known since Nix 2.22; before, TMPDIR is used.
        options["build-dir"] = ""
    # A host that only has others build.
    if settings.get("max-jobs") in (0, "0"):
        options["max-jobs"] = "1"
    return options


def _sandbox_shell(paths: object, store: Path) -> Iterator[str]:
    """Yield the shell of the host's sandbox if it is in the store. Builders see no other path of the host."""
    if isinstance(paths, dict):  # Since Nix 2.34: {"/bin/sh": {"source": ...}}
        entries = [f"{target}={more.get('source')}" for target, more in paths.items() if isinstance(more, dict)]
    else:
        entries = [str(entry) for entry in paths] if isinstance(paths, list) else []
    for entry in entries:
        target, _, source = entry.partition("=")
        if target == _SHELL and Path(source).is_relative_to(store) and ".." not in Path(source).parts:
            yield entry


@dataclass(frozen=True)
class Realiser:
    """Builds derivations in the unit and the workspace of one build."""

    nix_store: str
    options: Mapping[str, str]
    store: Store
    confinement: Confinement
    workspace: BuildWorkspace
    unit: str
    say: Callable[[str], None]

    async def realise(self, derivation: str, allowed: frozenset[str] = frozenset()) -> str:
        """Build a derivation; returns its output, to which a link in the workspace is a GC root.

        `allowed` are the derivations that may fetch. Raises FetchesMissing if others have to, before anything is built;
        BuildFailed; HiveError.
        """
        wanted = await asyncio.to_thread(read_derivation, Path(derivation))
        output = wanted.outputs.get("out")
        if output is None:
            raise BuildFailed(f"{derivation} has no output `out`")
        plan = await self.store.plan(derivation)
        builds = await self._read(plan.builds)
        fetches = [build for build in builds.values() if build.fixed is not None]
        self._check_fetches(fetches, allowed)
        disk = memory_bytes(self.confinement.limits.disk)
        if plan.unpacked_bytes > disk:
            raise BuildFailed(f"the build needs more than {disk // 1024**2:,} MiB of packages that are not here yet")
        if plan.substitutes:
            self.say(f"{len(plan.substitutes)} paths come from the substituters of the host")
            await self.store.substitute(plan.substitutes, self.workspace.roots, self.confinement.limits.seconds)
        for number, fetch in enumerate(_in_order(fetches, builds)):
            # All that the fetch needs is built before without network: with it, only this one derivation is.
            if inputs := [path for path in fetch.inputs if path in builds]:
                await self._run("realise", inputs, f"inputs-{number}", builds.values())
            self.say(f"fetched with the network, as an operator has allowed: {fetch.path}")
            await self._run("fetch", [fetch.path], f"fetch-{number}", [fetch])
        await self._run("realise", [derivation], "result", builds.values())
        closure = await asyncio.to_thread(os.readlink, self.workspace.roots / "result")
        if closure != output.path:
            raise BuildFailed(f"Nix has built {closure} instead of {output.path}")
        return closure

    async def _read(self, paths: Sequence[str]) -> dict[str, Derivation]:
        """Read derivations, whose number and sizes the author of the configuration chose. Raises BuildFailed."""
        if len(paths) > _MOST_BUILDS:
            raise BuildFailed(f"the build has {len(paths):,} derivations to build, at most {_MOST_BUILDS:,} are built")
        builds: dict[str, Derivation] = {}
        left = _MOST_BYTES
        for path in paths:
            builds[path] = await asyncio.to_thread(read_derivation, Path(path))
            left -= builds[path].size
            if left < 0:
                most = _MOST_BYTES // 1024**2
                raise BuildFailed(
                    f"the derivations that the build has to build have more than {most} MiB of text: "
                    "put long texts into files that agent.nix names by their paths"
                )
        return builds

    def _check_fetches(self, fetches: Sequence[Derivation], allowed: frozenset[str]) -> None:
        missing = tuple(
            fetch_of(fetch, fetch.fixed) for fetch in fetches if fetch.fixed is not None and fetch.path not in allowed
        )
        if missing:
            raise FetchesMissing(missing)

    async def _run(
        self,
        purpose: Purpose,
        derivations: Sequence[str],
        link: str,
        builds: Collection[Derivation],
    ) -> None:
        """Build derivations in the unit. `builds` are all that this may write to the store."""
        command = [self.nix_store, "--realise", *derivations, "--add-root", str(self.workspace.roots / link)]
        for name, value in self.options.items():
            command += ["--option", name, str(self.workspace.build) if name == "build-dir" else value]
        command += ["--log-format", "internal-json"]
        argv = self.confinement.argv(
            self.unit,
            command,
            purpose=purpose,
            directory=self.workspace.path,
            variables={**self.workspace.variables, "TMPDIR": str(self.workspace.build)},
        )
        written = [self.workspace.build]
        for build in builds:
            # Outputs are written to a root of the sandbox first.
            written += [Path(f"{build.path}.chroot"), *(Path(output.path) for output in build.outputs.values())]
        limits = self.confinement.limits
        work = execute(self.unit, argv, limits, self.say)
        await limit_disk(work, written, memory_bytes(limits.disk), partial(deleted_bytes, self.unit))


def _in_order(fetches: Sequence[Derivation], builds: Mapping[str, Derivation]) -> list[Derivation]:
    """Return the fetches so that each comes after those that it needs. Pure."""
    wanted = {fetch.path for fetch in fetches}
    ordered: dict[str, Derivation] = {}
    visited: set[str] = set()
    # Depth first, without recursion: chains of derivations are long.
    stack = [(path, False) for path in sorted(wanted, reverse=True)]
    while stack:
        path, after_inputs = stack.pop()
        if after_inputs:
            if path in wanted:
                ordered[path] = builds[path]
        elif path not in visited:
            visited.add(path)
            stack.append((path, True))
            stack += [(one, False) for one in builds[path].inputs if one in builds and one not in visited]
    return list(ordered.values())
