"""A state directory with applied repositories, and a builder of agents' systems, on a real host."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hive_core.infra.git.repository import Repository
from hive_core.layout import Layout
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.nixos.build.builder import NixBuilder
from hive_core.runtimes.nixos.build.unit.confinement import Purpose, unit_name
from hive_core.runtimes.nixos.build.unit.executor import execute
from hive_core.runtimes.nixos.build.workspace import BuildWorkspace, create_workspace, remove_workspace
from hive_core.settings import NixOS, Settings
from tests.system.host_hive import thorough_but

BUILD_USERS = thorough_but(("dynamic", "root"), "dynamic")
"""The settings `build_user` that most tests of builds are run with."""
GIT = "{ pkgs, ... }: { environment.systemPackages = [ pkgs.git ]; }"


class Hive:
    """A state directory with two applied repositories, and agents' configurations to build."""

    def __init__(self, directory: Path, flake: Path) -> None:
        self.layout = Layout(directory, directory / "run")
        self.flake = flake
        directory.chmod(0o700)
        self.layout.database.write_text("everybody's secrets")
        self.layout.applied.mkdir(mode=0o700)
        self._work = directory / "work"
        self._git("init", "--quiet", "--initial-branch=main")
        self._number = 0
        old = os.umask(0o077)
        try:
            for name in ("ada", "bob"):
                Repository.init(self.layout.applied_repository(name))
        finally:
            os.umask(old)
        self.secret = self.propose(GIT, "bob").commit

    def settings(
        self,
        build_user: str = "dynamic",
        build_timeout: float = 60,
        build_memory: str = "2G",
        build_disk: str = "2G",
    ) -> Settings:
        limits = {"build_memory": build_memory, "build_disk": build_disk}
        return Settings(
            runtime="nixos",
            state_dir=self.layout.state_dir,
            build_timeout=build_timeout,
            nixos=NixOS.model_validate({"flake": f"path:{self.flake}", "build_user": build_user, **limits}),
        )

    def propose(
        self, text: str, name: str = "ada", files: Mapping[str, str] | None = None, message: str = "x"
    ) -> BuildOrder:
        """A commit of the agent's with that `agent.nix`, tagged as a proposal in its applied repository.

        `files` are all other files of the commit, by name.
        """
        self._number += 1
        self._git("rm", "-rq", "--ignore-unmatch", ".")
        for path, content in {"prompt.md": f"{self._number}\n", **(files or {}), "agent.nix": text}.items():
            (self._work / path).write_text(content)
        repository = self.layout.applied_repository(name)
        self._git("add", "--force", ".")
        self._git("commit", "--quiet", "--allow-empty", f"--message={message}")
        self._git("tag", "--annotate", "--message=x", f"proposal/{self._number}")
        self._git("push", "--quiet", str(repository), f"proposal/{self._number}")
        return BuildOrder(name, "agent", self._number, repository, self._git("rev-parse", "HEAD"))

    @property
    def left(self) -> list[str]:
        """Return the paths that builds have left on the disk."""
        return [path.name for path in self.layout.scratch.iterdir()]

    def _git(self, *arguments: str) -> str:
        self._work.mkdir(exist_ok=True)
        line = ["git", "-c", "user.name=hive", "-c", "user.email=hive@localhost", "-C", str(self._work), *arguments]
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()


@asynccontextmanager
async def opened(hive: Hive, **settings: Any) -> AsyncIterator[NixBuilder]:
    """A builder; in the end no build's unit and no build's files are left."""
    builder = await NixBuilder.open(hive.settings(**settings), hive.layout)
    try:
        yield builder
    finally:
        await builder.close()
    assert units() == []
    assert hive.left == []


def host(*command: str) -> str:
    """Return the output of a command of the host's."""
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def units(pattern: str = "hive-build-*") -> list[str]:
    """The units that systemd knows, without those that have ended well, which it forgets a moment later."""
    found = host("systemctl", "list-units", "--all", "--plain", "--no-legend", pattern).splitlines()
    return [line for line in found if line.split()[2:4] != ["inactive", "dead"]]


async def inside(hive: Hive, builder: NixBuilder, *command: str, purpose: Purpose = "evaluate") -> list[str]:
    """Return the output of a command that is run in the unit of an evaluation or a build."""
    confinement = await builder.build_users.confinement()
    workspace = BuildWorkspace.of(hive.layout.scratch, "inside")
    await asyncio.to_thread(create_workspace, workspace)
    said: list[str] = []
    try:
        unit = unit_name("inside-0")
        argv = confinement.argv(unit, command, purpose=purpose, directory=workspace.path, variables=workspace.variables)
        await execute(unit, argv, confinement.limits, said.append)
    finally:
        await remove_workspace(workspace)
    return said
