"""The selection of the user that builds run as, by a trial: a dynamic user through the Nix daemon, or root."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.infra.tasks import shield_to_completion
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.confinement import BuildLimits, Confinement
from hive_core.runtimes.nixos.build.executor import NixFailed, evaluate
from hive_core.runtimes.nixos.build.flake import path_reference
from hive_core.runtimes.nixos.build.nix_settings import read_nix_settings
from hive_core.runtimes.nixos.build.store import FEATURES, Store
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace, create_workspace, read_result, remove_workspace
from hive_core.runtimes.nixos.commands import environment
from hive_core.settings import Settings

log = structlog.get_logger(__name__)

_OPTIONS = {
    "accept-flake-config": "false",
    "allow-import-from-derivation": "false",
    "allow-unsafe-native-code-during-evaluation": "false",
    "eval-cache": "false",
    "pure-eval": "true",
}
"""Override the host's nix.conf: an agent's code is evaluated and must not choose Nix's settings. The home directory of
a build is deleted afterwards, so nothing is cached there.
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
_RETRY_SECONDS = 10.0
"""A failed trial is not repeated for this time: one proposal asks several times, and callers queue up behind it."""
_LONGEST_REASON = 500


@dataclass(frozen=True)
class TrialFailure:
    """The reason of a failed trial. `by_nix` is True if Nix refused, False if the trial was stopped."""

    reason: str
    by_nix: bool


def build_command(nix: str, workspace: BuildWorkspace, attribute: str) -> list[str]:
    """Return the command line that builds `attribute` of the flake in `workspace` and links to the result there."""
    command = [nix, *FEATURES, "build", "--log-format", "bar-with-logs"]
    for name, value in _OPTIONS.items():
        command += ["--option", name, value]
    return [*command, "--out-link", str(workspace.result), "--", f"{path_reference(workspace.flake)}#{attribute}"]


class BuildUserSelector:
    """Selects the user of builds as the settings ask, after a trial. A trial that succeeded is not repeated.

    Args:
        trial: the name of the trial's directory, and of its unit after `hive-`. Two trials at the same time must not
            share it. A daemon that starts ends and removes those that begin with `build-`.
    """

    def __init__(
        self, settings: Settings, layout: Layout, store: Store, nix: str, systemd_run: str, trial: str = "build-trial"
    ) -> None:
        self.nix = nix
        self._trial = trial
        self._systemd_run = systemd_run
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
        nix, systemd_run = shutil.which("nix"), shutil.which("systemd-run")
        if nix is None:
            raise HiveError("no_nix", "the program nix is not installed", hint="put it on the daemon's PATH")
        if systemd_run is None or not Path("/run/systemd/system").is_dir():
            raise HiveError(
                "no_systemd", "builds are run by systemd, which does not run here", hint='set runtime = "local"'
            )
        return cls(settings, layout, store, nix, systemd_run, trial)

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

    async def _select(self) -> Confinement:
        wanted = self._settings.nixos.build_user
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
                    hint="start the Nix daemon and allow every user to connect to it (allowed-users in nix.conf); "
                    'nixos.build_user = "auto" lets root evaluate where Nix refuses that',
                    status=503,
                )
            log.warning("builds are evaluated by root, as nixos.build_user = auto allows", reason=failure.reason)
        await self._check_build_users()
        return self._confinement(unprivileged=False)

    async def _run_trial(self, confinement: Confinement) -> TrialFailure | None:
        """Evaluate and build something small in the same way as a configuration; return why that failed."""
        workspace = BuildWorkspace(self._layout.scratch / self._trial)
        unit = f"hive-{self._trial}.service"
        flake = _TRIAL_FLAKE % {"system": f"{platform.machine()}-linux", "nonce": time.time_ns()}
        try:
            await shield_to_completion(asyncio.to_thread(create_workspace, workspace, flake))
            command = build_command(self.nix, workspace, "trial")
            argv = confinement.argv(unit, command, directory=workspace.path, shown={}, variables=workspace.variables)
            await evaluate(unit, argv, _TRIAL_LIMITS, lambda _: None)
            if await asyncio.to_thread(read_result, workspace) is None:
                return TrialFailure("Nix has not built anything", by_nix=True)
        except BuildFailed as error:
            return TrialFailure(" ".join(str(error).split())[:_LONGEST_REASON], isinstance(error, NixFailed))
        except HiveError as error:
            return TrialFailure(error.message[:_LONGEST_REASON], by_nix=False)
        finally:
            await shield_to_completion(asyncio.to_thread(remove_workspace, workspace))
        return None

    async def _check_build_users(self) -> None:
        """Refuse builds as root where Nix has no build users: root itself would run the programs of a build."""
        if not (await read_nix_settings(self.nix)).get("build-users-group"):
            raise HiveError(
                "no_build_users",
                "without a Nix daemon and without build users, root would run an agent's build scripts itself",
                hint="start the Nix daemon, or set build-users-group in nix.conf",
                status=500,
            )

    def _confinement(self, *, unprivileged: bool) -> Confinement:
        settings, layout = self._settings, self._layout
        state = Path(os.environ.get("NIX_STATE_DIR") or self._store.directory.parent / "var/nix")
        limits = BuildLimits(settings.nixos.build_memory, settings.nixos.build_tasks, settings.build_timeout)
        return Confinement(
            systemd_run=self._systemd_run,
            unprivileged=unprivileged,
            limits=limits,
            hidden=[layout.state_dir, layout.run_dir],
            store=[self._store.directory, state.parent],
            environment={
                **{key: text for key, text in environment().items() if key != "NIX_REMOTE"},
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
            },
        )
