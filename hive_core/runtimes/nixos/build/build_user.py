"""The selection of the user that evaluates, by a trial: a user of its own through the Nix daemon, or root.

The trial also shows that root's Nix can build in its sandbox in a unit without network, as all builds are.
"""

from __future__ import annotations

import asyncio
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from hive_core.errors import HiveError
from hive_core.infra.concurrency.tasks import shield_to_completion
from hive_core.layout import Layout
from hive_core.protocol.config.limits import memory_bytes
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.flake import path_reference
from hive_core.runtimes.nixos.build.nix_settings import read_nix_settings
from hive_core.runtimes.nixos.build.realise import Realiser, realise_options
from hive_core.runtimes.nixos.build.store import Store
from hive_core.runtimes.nixos.build.unit.confinement import BUILD_USER, BuildLimits, Confinement, Purpose
from hive_core.runtimes.nixos.build.unit.disk_limit import limit_store
from hive_core.runtimes.nixos.build.unit.executor import NixFailed, execute
from hive_core.runtimes.nixos.build.workspace import (
    BuildWorkspace,
    create_workspace,
    read_derivation_path,
    remove_workspace,
    write_flake,
)
from hive_core.runtimes.nixos.commands import environment
from hive_core.settings import Settings

log = structlog.get_logger(__name__)

_OPTIONS = {
    "accept-flake-config": "false",
    "allow-import-from-derivation": "false",
    "allow-unsafe-native-code-during-evaluation": "false",
    "eval-cache": "false",
    "experimental-features": "nix-command flakes",
    "pure-eval": "true",
    "substitute": "false",
    "use-registries": "false",
}
"""Override the host's nix.conf: an agent's code is evaluated and must not choose Nix's settings. The home directory of
a build is deleted afterwards, so nothing is cached there. Without `substitute`, the Nix daemon asks no substituter
about a path that the code names.
"""
_TRIAL_LIMITS = BuildLimits("1G", 256, 60.0)
_TRIAL_FLAKE = """\
{
  outputs = _: {
    trial = derivation {
      name = "hyperhive-trial";
      system = "%(system)s";
      builder = "builtin:buildenv";
      derivations = "";
      manifest = builtins.toFile "hyperhive-trial" "%(nonce)s";
    };
  };
}
"""
"""A small build, new each time, because one that is in the store already would prove nothing. Nix itself executes it in
the sandbox, so that it needs no program: `/bin/sh` is missing where `sandbox-paths` is empty.
"""
_NO_INPUTS: Mapping[str, Any] = {"nodes": {"root": {}}, "root": "root", "version": 7}
"""The lock file of a flake without inputs."""
_WITHOUT_NETWORK: tuple[Purpose, ...] = ("evaluate", "realise")
_RETRY_SECONDS = 10.0
"""A failed trial is not repeated for this time: one proposal asks several times, and callers queue up behind it."""
_LONGEST_REASON = 500


@dataclass(frozen=True)
class Programs:
    """The paths of the programs that units run, and of the one that runs units."""

    nix: str
    nix_store: str
    systemd_run: str


@dataclass(frozen=True)
class TrialFailure:
    """The reason of a failed trial. `by_nix` is True if Nix refused, False if the trial was stopped."""

    reason: str
    by_nix: bool


def evaluate_command(nix: str, workspace: BuildWorkspace, attribute: str) -> list[str]:
    """Return the command line that evaluates `attribute` of the flake in `workspace` and writes the path of its
    derivation there. The lock file must be complete.
    """
    command = [nix]
    for name, value in _OPTIONS.items():
        command += ["--option", name, value]
    command += ["eval", "--log-format", "internal-json", "--no-update-lock-file", "--no-write-lock-file"]
    reference = f"{path_reference(workspace.flake)}#{attribute}.drvPath"
    return [*command, "--write-to", str(workspace.derivation), "--", reference]


class BuildUserSelector:
    """Selects the user of builds as the settings ask, after a trial. A trial that succeeded is not repeated.

    Args:
        trial: the name of the trial's directory, and of its unit after `hive-`. Two trials at the same time must not
            share it. A daemon that starts ends and removes those that begin with `build-`.
    """

    def __init__(
        self, settings: Settings, layout: Layout, store: Store, programs: Programs, trial: str = "build-trial"
    ) -> None:
        self.programs = programs
        self._trial = trial
        self._options: Mapping[str, str] = {}
        self._settings = settings
        self._layout = layout
        self._store = store
        self._selected: Confinement | None = None
        self._failure: tuple[float, HiveError] | None = None
        self._fallback: tuple[float, Confinement] | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def find(cls, settings: Settings, layout: Layout, store: Store, trial: str = "build-trial") -> BuildUserSelector:
        """Find the programs. Raises HiveError `no_nix`, `no_systemd`."""
        nix, nix_store, systemd_run = map(shutil.which, ("nix", "nix-store", "systemd-run"))
        if nix is None or nix_store is None:
            name = "nix" if nix is None else "nix-store"
            raise HiveError("no_nix", f"the program {name} is not installed", hint="put it on the daemon's PATH")
        if systemd_run is None or not Path("/run/systemd/system").is_dir():
            raise HiveError(
                "no_systemd", "builds are run by systemd, which does not run here", hint='set runtime = "local"'
            )
        return cls(settings, layout, store, Programs(nix, nix_store, systemd_run), trial)

    @property
    def problem(self) -> str:
        """The reason of the last failed trial; empty if the last one succeeded or none was made."""
        return "" if self._failure is None else self._failure[1].message

    async def confinement(self) -> Confinement:
        """Return the confinement of builds. Raises HiveError `no_build_user`, `no_build_users`."""
        async with self._lock:
            if self._selected is not None:
                return self._selected
            now = asyncio.get_running_loop().time
            if self._failure is not None and now() - self._failure[0] < _RETRY_SECONDS:
                error = self._failure[1]
                raise HiveError(error.code, error.message, hint=error.hint, status=error.status)
            if self._fallback is not None and now() - self._fallback[0] < _RETRY_SECONDS:
                return self._fallback[1]
            try:
                found = await self._select()
            except HiveError as error:
                self._failure = (now(), error)
                raise
            self._failure = None
            if found.unprivileged or self._settings.nixos.build_user == "root":
                self._selected = found
            else:  # `auto` fell back to root, which may no longer be needed at the next build.
                self._fallback = (now(), found)
            return found

    def realiser(
        self, confinement: Confinement, workspace: BuildWorkspace, unit: str, say: Callable[[str], None]
    ) -> Realiser:
        """Return what builds derivations in a workspace. `confinement` must be from `confinement`."""
        return Realiser(self.programs.nix_store, self._options, self._store, confinement, workspace, unit, say)

    async def _select(self) -> Confinement:
        wanted = self._settings.nixos.build_user
        settings = await read_nix_settings(self.programs.nix)
        if not settings.get("build-users-group"):
            raise HiveError(
                "no_build_users",
                "without build users, root would run an agent's build scripts itself",
                hint="set build-users-group in nix.conf, as NixOS does",
                status=500,
            )
        self._options = realise_options(settings, self._store.directory)
        if wanted != "root":
            dynamic = self._confinement(unprivileged=True)
            failure = await self._run_trial(dynamic)
            if failure is None:
                return dynamic
            # A trial that was stopped (time, memory) says nothing about Nix: load on the host must not lead to
            # evaluations as root.
            if wanted == "dynamic" or not failure.by_nix:
                raise HiveError(
                    "no_build_user",
                    f"builds do not work as a user of their own: {failure.reason}",
                    hint=f"start the Nix daemon and allow the user {BUILD_USER} to connect to it (allowed-users in "
                    'nix.conf); nixos.build_user = "auto" lets root evaluate where Nix refuses that',
                    status=503,
                )
            log.warning("builds are evaluated by root, as nixos.build_user = auto allows", reason=failure.reason)
        root = self._confinement(unprivileged=False)
        failure = await self._run_trial(root)
        if failure is not None:
            raise _no_builds(failure.reason)
        return root

    async def _run_trial(self, confinement: Confinement) -> TrialFailure | None:
        """Evaluate and build something small in the same way as a configuration; return why the evaluation failed.

        Raises HiveError `cannot_build` if the build fails, which root's Nix does in every case.
        """
        workspace = BuildWorkspace(self._layout.scratch / self._trial)
        unit = f"hive-{self._trial}.service"
        flake = _TRIAL_FLAKE % {"system": f"{platform.machine()}-linux", "nonce": time.time_ns()}
        confinement = replace(confinement, limits=_TRIAL_LIMITS)
        try:
            await remove_workspace(workspace)
            await shield_to_completion(asyncio.to_thread(create_workspace, workspace))
            await shield_to_completion(asyncio.to_thread(write_flake, workspace, flake, _NO_INPUTS))
            try:
                derivation = await self.evaluate(confinement, workspace, unit, "trial", ignore_line)
            except BuildFailed as error:
                return TrialFailure(" ".join(str(error).split())[:_LONGEST_REASON], isinstance(error, NixFailed))
            except HiveError as error:
                return TrialFailure(error.message[:_LONGEST_REASON], by_nix=False)
            await self._check_network(confinement, workspace, unit)
            try:
                await self.realiser(confinement, workspace, unit, ignore_line).realise(derivation)
            except BuildFailed as error:
                raise _no_builds(" ".join(str(error).split())[:_LONGEST_REASON]) from None
        finally:
            await shield_to_completion(remove_workspace(workspace))
        return None

    async def evaluate(
        self,
        confinement: Confinement,
        workspace: BuildWorkspace,
        unit: str,
        attribute: str,
        say: Callable[[str], None],
    ) -> str:
        """Evaluate an attribute of the flake in a workspace; returns the path of its derivation, which is held there.

        Raises NixFailed, BuildFailed, HiveError.
        """
        argv = confinement.argv(
            unit,
            evaluate_command(self.programs.nix, workspace, attribute),
            purpose="evaluate",
            directory=workspace.path,
            variables=workspace.variables,
        )
        work = execute(unit, argv, confinement.limits, say, activity="evaluation")
        await limit_store(work, self._store.directory, memory_bytes(confinement.limits.disk))
        derivation = await asyncio.to_thread(read_derivation_path, workspace)
        if derivation is None:
            raise BuildFailed("Nix has not told the derivation of the system")
        await self._store.hold_derivation(str(self._store.check(derivation)), workspace.roots / "derivation")
        return derivation

    async def _check_network(self, confinement: Confinement, workspace: BuildWorkspace, unit: str) -> None:
        """Check that units without network have none: where systemd cannot take it away, it runs them all the same."""
        said: list[str] = []
        command = ["readlink", "/proc/self/ns/net"]
        for purpose in _WITHOUT_NETWORK:
            argv = confinement.argv(unit, command, purpose=purpose, directory=workspace.path, variables={})
            await execute(unit, argv, confinement.limits, said.append)
        own = await asyncio.to_thread(Path("/proc/self/ns/net").readlink)
        if len(said) != len(_WITHOUT_NETWORK) or str(own) in said:
            raise _no_builds("systemd gives units no network of their own (PrivateNetwork)")

    def _confinement(self, *, unprivileged: bool) -> Confinement:
        settings, layout, nixos = self._settings, self._layout, self._settings.nixos
        limits = BuildLimits(nixos.build_memory, nixos.build_tasks, settings.build_timeout, nixos.build_disk)
        given = environment()
        proxies = {key: text for key, text in given.items() if key.lower().endswith("_proxy")}
        return Confinement(
            systemd_run=self.programs.systemd_run,
            unprivileged=unprivileged,
            limits=limits,
            hidden=[layout.state_dir, layout.run_dir],
            store=[self._store.directory, self._store.state.parent],
            environment={
                **{key: text for key, text in given.items() if key != "NIX_REMOTE" and key not in proxies},
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
            },
            network_environment=proxies,
        )


def _no_builds(why: str) -> HiveError:
    return HiveError(
        "cannot_build",
        f"nothing can be built in Nix's sandbox in a unit without network: {why}",
        hint="see: journalctl -b -n 50, and the settings of nix.conf",
        status=503,
    )


def ignore_line(_line: str) -> None:
    """Take a line of the output of a build that nobody follows."""
