"""The execution of a build in its unit: user, trial, failures as text."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.infra.processes import Command, Process, readable, spawn
from hive_core.infra.tasks import shield_to_completion
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.build.confinement import STOP_SECONDS, UNIT_PREFIX, BuildLimits, Confinement
from hive_core.runtimes.nixos.build.flake import path_reference
from hive_core.runtimes.nixos.build.nix_log import NixLogFormatter
from hive_core.runtimes.nixos.build.nix_settings import read_nix_settings
from hive_core.runtimes.nixos.build.store import FEATURES, Store
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace, create_workspace, read_result, remove_workspace
from hive_core.runtimes.nixos.commands import environment, run
from hive_core.settings import Settings

_log = structlog.get_logger(__name__)


_OPTIONS = {
    "accept-flake-config": "false",
    "allow-import-from-derivation": "false",
    "allow-unsafe-native-code-during-evaluation": "false",
    "eval-cache": "false",
    "pure-eval": "true",
}
"""Whatever the host's nix.conf says: what is evaluated is an agent's, and gets no say in Nix's own settings. Its home
is gone afterwards, so nothing is to be cached there.
"""
_TRIAL = BuildLimits("1G", 256, 60.0)
_TRIAL_FLAKE = """\
{
  outputs = _: {
    trial = derivation {
      name = "hyperhive-trial";
      system = "%(system)s";
      builder = "/bin/sh";
      args = [ "-c" "echo %(nonce)s >$out" ];
    };
  };
}
"""
"""Small, and new each time: a build that Nix has in its store already would prove nothing. In the sandbox of a build
Nix promises `/bin/sh` (the setting sandbox-paths).
"""
_RETRY_SECONDS = 10.0
"""For so long a failed trial is believed: callers who wait in a row are answered at once."""


def build_command(nix: str, build_workspace: BuildWorkspace, attribute: str) -> list[str]:
    """The command line that builds `attribute` of the flake in `build_workspace`, and links to the result there."""
    command = [nix, *FEATURES, "build", "--log-format", "internal-json"]
    for name, value in _OPTIONS.items():
        command += ["--option", name, value]
    return [
        *command,
        "--out-link",
        str(build_workspace.result),
        "--",
        f"{path_reference(build_workspace.flake)}#{attribute}",
    ]


class BuildUserSelector:
    """Knows how builds are confined here; what has to be tried is tried before the first build, until it works."""

    def __init__(
        self, settings: Settings, layout: Layout, store: Store, nix: str, systemd_run: str, trial: str = "trial"
    ) -> None:
        """`trial` names the unit in which it is tried: two that try at once must not have the same."""
        self.nix = nix
        self._trial = trial
        self._systemd_run = systemd_run
        self._settings = settings
        self._layout = layout
        self._store = store
        self._found: Confinement | None = None
        self._failed: tuple[float, HiveError] | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def find(cls, settings: Settings, layout: Layout, store: Store, trial: str = "trial") -> BuildUserSelector:
        """Look for the programs. Raises HiveError `no_nix`, `no_systemd`."""
        nix, systemd_run = shutil.which("nix"), shutil.which("systemd-run")
        if nix is None:
            raise HiveError("no_nix", "the program nix is not there", hint="put it on the daemon's PATH")
        if systemd_run is None or not Path("/run/systemd/system").is_dir():
            raise HiveError(
                "no_systemd", "builds are run by systemd, which does not run here", hint='set runtime = "local"'
            )
        return cls(settings, layout, store, nix, systemd_run, trial)

    async def confinement(self) -> Confinement:
        """How builds are confined here. Raises HiveError if they cannot be as the settings ask."""
        async with self._lock:
            if self._found is not None:
                return self._found
            now = asyncio.get_running_loop().time()
            if self._failed is not None and now - self._failed[0] < _RETRY_SECONDS:
                raise self._failed[1]
            try:
                found = await self._try()
            except HiveError as error:
                self._failed = (asyncio.get_running_loop().time(), error)
                raise
            if found.unprivileged or self._settings.nixos.build_user == "root":
                # That there is no Nix daemon may be true no more at the next build.
                self._found = found
            return found

    async def _try(self) -> Confinement:
        wanted = self._settings.nixos.build_user
        if wanted != "root":
            dynamic = self._confinement(unprivileged=True)
            why = await self._why_not(dynamic)
            if not why:
                return dynamic
            if wanted == "dynamic":
                raise HiveError(
                    "no_build_user",
                    f"builds do not work as a user of their own: {why}",
                    hint="start the Nix daemon and allow every user to connect to it (allowed-users in nix.conf); "
                    'nixos.build_user = "auto" lets root evaluate where that cannot be',
                    status=503,
                )
            _log.warning("builds are evaluated by root, as nixos.build_user = auto allows", reason=why)
        await self._check_build_users()
        return self._confinement(unprivileged=False)

    async def _why_not(self, confinement: Confinement) -> str:
        """Evaluate and build something small just as a configuration: empty if that works, else why not."""
        build_workspace = BuildWorkspace.of(self._layout.scratch, self._trial)
        unit = f"{UNIT_PREFIX}{self._trial}.service"
        flake = _TRIAL_FLAKE % {"system": f"{platform.machine()}-linux", "nonce": time.time_ns()}
        try:
            await shield_to_completion(asyncio.to_thread(create_workspace, build_workspace, flake))
            command = build_command(self.nix, build_workspace, "trial")
            trial = confinement.argv(
                unit, command, place=build_workspace.path, shown={}, variables=build_workspace.variables
            )
            await evaluate(unit, trial, _TRIAL, lambda _: None)
            if await asyncio.to_thread(read_result, build_workspace) is None:
                return "Nix has built nothing"
        except BuildFailed as error:
            return " ".join(str(error).split())
        except HiveError as error:
            return error.message
        finally:
            await shield_to_completion(asyncio.to_thread(remove_workspace, build_workspace))
        return ""

    async def _check_build_users(self) -> None:
        """Root must not run the programs of a build itself, and Nix would, were there no users for it."""
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


OUTPUT_BYTES = 64 * 1024 * 1024
"""A build that says more is stopped."""
_LINE_BYTES = 1024 * 1024
_CHUNK = 64 * 1024
_SECONDS = STOP_SECONDS + 25.0
_BY_ITSELF = "1"
"""CLD_EXITED of waitid(2), in ExecMainCode."""
_SETUP_STATUS = range(200, 246)
"""Exit statuses with which systemd ends a process that it could not set up: systemd.exec(5), "Process Exit Codes"."""
_BY_SIGNAL = ("2", "3")
"""CLD_KILLED and CLD_DUMPED of waitid(2), in ExecMainCode."""


async def evaluate(unit: str, argv: Sequence[str], limits: BuildLimits, say: Callable[[str], None]) -> None:
    """Run a build in `unit` with `argv` of `Confinement`, to its end; `say` is told how it goes.

    Raises BuildFailed if the build failed, HiveError `cannot_build` if it could not be run at all. However this ends,
    also when it is cancelled, nothing of the unit is left.
    """
    await forget(unit)
    formatter = NixLogFormatter(say)
    process = _start(argv)
    code: int | None = None
    try:
        within = await _follow(process, formatter)
        code = await process.wait() if within else None
        if not within:
            raise BuildFailed(f"the build printed more than {OUTPUT_BYTES // 1024**2} MiB")
        if code != 0:
            raise _failure(await _properties(unit), formatter, limits)
    finally:
        if code != 0:
            await shield_to_completion(_end(unit, process))
        process.close()


async def forget(unit: str) -> None:
    """Stop the unit, or units by a pattern, if it runs, and have systemd forget how it ended."""
    for verb in ("stop", "reset-failed"):
        # A unit that is not there is an error to systemctl.
        with suppress(HiveError):
            await run(["systemctl", "--quiet", verb, unit], timeout=_SECONDS)


async def forget_all() -> None:
    """End the builds of a daemon that was killed."""
    await forget(f"{UNIT_PREFIX}*.service")


class BoundedLineCutter:
    """Cuts a stream into lines; of one that is too long the rest is dropped."""

    def __init__(self, longest: int = _LINE_BYTES) -> None:
        self._longest = longest
        self._begun = bytearray()

    def feed(self, chunk: bytes) -> Iterator[str]:
        """The lines that end in this piece."""
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._add(piece)
            yield self._take()
        self._add(rest)

    def finish(self) -> Iterator[str]:
        """What came after the last end of a line."""
        if self._begun:
            yield self._take()

    def _add(self, piece: bytes) -> None:
        self._begun += piece[: self._longest - len(self._begun)]

    def _take(self) -> str:
        line = self._begun.decode(errors="replace")
        self._begun.clear()
        return line


def _start(argv: Sequence[str]) -> Process:
    try:
        return spawn(Command(argv, environment(), Path("/")))
    except OSError as error:
        raise HiveError("cannot_build", f"cannot run {argv[0]}: {error.strerror}", status=500) from None


async def _follow(process: Process, formatter: NixLogFormatter) -> bool:
    """Pass on what comes until it ends; False if it is too much."""
    cutter, left = BoundedLineCutter(), OUTPUT_BYTES
    while True:
        await readable(process.output)
        with suppress(BlockingIOError):
            chunk = os.read(process.output, _CHUNK)
            if not chunk:
                break
            left -= len(chunk)
            if left < 0:
                return False
            for line in cutter.feed(chunk):
                formatter.feed(line)
        # Others are to get their turn, however quickly it comes.
        await asyncio.sleep(0)
    for line in cutter.finish():
        formatter.feed(line)
    formatter.finish()
    return True


async def _properties(unit: str) -> Mapping[str, str]:
    wanted = "LoadState,Result,ExecMainCode,ExecMainStatus"
    answer = await run(["systemctl", "show", f"--property={wanted}", unit])
    return dict(line.split("=", 1) for line in answer.splitlines() if "=" in line)


def _failure(properties: Mapping[str, str], formatter: NixLogFormatter, limits: BuildLimits) -> BuildFailed | HiveError:
    result = properties.get("Result", "")
    if properties.get("LoadState") == "not-found" or result in ("", "success", "resources", "protocol"):
        why = f"the unit of the build could not be run: {formatter.said or result or 'systemd does not say why'}"
        return HiveError("cannot_build", why, hint="see: journalctl -b -n 50", status=500)
    status = int(properties.get("ExecMainStatus") or 0)
    if properties.get("ExecMainCode") == _BY_ITSELF and status in _SETUP_STATUS:
        why = f"systemd cannot set up the unit of a build (exit status {status} of systemd.exec(5)): {formatter.said}"
        hint = "see: journalctl -b -u 'hive-build-*'; every user must be able to pass the directories above state_dir"
        return HiveError("cannot_build", why.removesuffix(": "), hint=hint, status=500)
    if result == "timeout":
        return BuildFailed(f"the build took longer than {limits.seconds:g} s")
    by = status if properties.get("ExecMainCode") in _BY_SIGNAL else 0
    # Where control groups are of version 1, systemd does not tell who has killed it.
    if result == "oom-kill" or by == signal.SIGKILL:
        return BuildFailed(f"evaluating it needs more than the {limits.memory} of memory that it may have")
    if by:
        said = formatter.failure or formatter.said
        return BuildFailed(f"Nix was ended by signal {by}" + (f": {said}" if said else ""))
    return BuildFailed(formatter.failure or formatter.said or "Nix failed and did not say why")


async def _end(unit: str, process: Process) -> None:
    await forget(unit)
    if not process.ended:
        process.kill()
        await process.wait()
