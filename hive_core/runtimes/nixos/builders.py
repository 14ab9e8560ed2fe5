"""Who builds on this host: a user of its own through the Nix daemon where that works, else root."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import structlog

from hive_core.errors import HiveError
from hive_core.finishing import to_the_end
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildFailed
from hive_core.runtimes.nixos.commands import environment, run
from hive_core.runtimes.nixos.confining import UNIT_PREFIX, Bounds, Confinement
from hive_core.runtimes.nixos.evaluating import evaluate
from hive_core.runtimes.nixos.staging import Place, discard, make
from hive_core.runtimes.nixos.store import FEATURES, Store
from hive_core.settings import Settings

log = structlog.get_logger(__name__)
_TRIAL = Bounds("1G", 256, 30.0)
_BUILD_USERS = re.compile(r"^build-users-group = *(?P<group>.*)$", re.MULTILINE)


class Builders:
    """Knows how builds are confined here; what has to be tried is tried before the first build, until it works."""

    def __init__(self, settings: Settings, layout: Layout, store: Store, nix: str, systemd_run: str) -> None:
        self.nix = nix
        self._systemd_run = systemd_run
        self._settings = settings
        self._layout = layout
        self._store = store
        self._found: Confinement | None = None
        self._lock = asyncio.Lock()

    @classmethod
    def find(cls, settings: Settings, layout: Layout, store: Store) -> Builders:
        """Look for the programs. Raises HiveError `no_nix`, `no_systemd`."""
        nix, systemd_run = shutil.which("nix"), shutil.which("systemd-run")
        if nix is None:
            raise HiveError("no_nix", "the program nix is not there", hint="put it on the daemon's PATH")
        if systemd_run is None or not Path("/run/systemd/system").is_dir():
            raise HiveError(
                "no_systemd", "builds are run by systemd, which does not run here", hint='set runtime = "local"'
            )
        return cls(settings, layout, store, nix, systemd_run)

    async def confinement(self) -> Confinement:
        """How builds are confined here. Raises HiveError if they cannot be as the settings ask."""
        async with self._lock:
            if self._found is not None:
                return self._found
            found = await self._try()
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
                    f"builds cannot be evaluated by a user of their own: {why}",
                    hint="start the Nix daemon and allow every user to connect to it (allowed-users in nix.conf)",
                    status=500,
                )
            log.warning("builds are evaluated by root", reason=why)
        await self._check_build_users()
        return self._confinement(unprivileged=False)

    async def _why_not(self, confinement: Confinement) -> str:
        """Reach the Nix daemon in the unit of a build: empty if that works, else why not."""
        place = Place.of(self._layout.scratch, "trial")
        unit = f"{UNIT_PREFIX}trial.service"
        said: list[str] = []
        command = [self.nix, *FEATURES, "store", "ping"]
        try:
            await to_the_end(asyncio.to_thread(make, place))
            trial = confinement.argv(unit, command, place=place.path, shown={}, home=place.home)
            await evaluate(unit, trial, _TRIAL, said.append)
        except BuildFailed as error:
            return str(error)
        except HiveError as error:
            return error.message
        finally:
            await to_the_end(asyncio.to_thread(discard, place))
        return ""

    async def _check_build_users(self) -> None:
        """Root must not run the programs of a build itself, and Nix would, were there no users for it."""
        try:
            answer = await run([self.nix, *FEATURES, "show-config"])
        except HiveError:
            answer = await run([self.nix, *FEATURES, "config", "show"])
        found = _BUILD_USERS.search(answer)
        if found is None or not found["group"].strip():
            raise HiveError(
                "no_build_users",
                "without a Nix daemon and without build users, root would run an agent's build scripts itself",
                hint="start the Nix daemon, or set build-users-group in nix.conf",
                status=500,
            )

    def _confinement(self, *, unprivileged: bool) -> Confinement:
        settings, layout = self._settings, self._layout
        state = Path(os.environ.get("NIX_STATE_DIR") or self._store.directory.parent / "var/nix")
        bounds = Bounds(settings.nixos.build_memory, settings.nixos.build_tasks, settings.build_timeout)
        return Confinement(
            systemd_run=self._systemd_run,
            unprivileged=unprivileged,
            bounds=bounds,
            hidden=[layout.state_dir, layout.run_dir],
            store=[self._store.directory, state.parent],
            environment={
                **{key: text for key, text in environment().items() if key != "NIX_REMOTE"},
                "GIT_CONFIG_NOSYSTEM": "1",
                "GIT_TERMINAL_PROMPT": "0",
            },
        )
