"""A repository of this host that takes an agent's branches."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import click

from hive_core.cli.access.git.limits import FetchLimits, too_much
from hive_core.cli.errors import Failure
from hive_core.cli.output import shown_lines
from hive_core.text import escaped_line

_CHUNK = 64 * 1024
_FAN_OUT = 8 + 255 * 4
OPTIONS = ("--no-tags", "--no-recurse-submodules", "--no-write-fetch-head", "--no-auto-maintenance")
"""Options of every `git fetch`."""
_SETTINGS = (
    "core.hooksPath=/dev/null",
    "fetch.fsckObjects=true",
    "transfer.fsckObjects=true",
    "fetch.unpackLimit=1",
    "fetch.recurseSubmodules=false",
    "fetch.writeCommitGraph=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "protocol.allow=never",
    "protocol.fd.allow=always",
)
"""Settings that keep git of this host from running or fetching anything for a repository that an agent writes."""


class Target:
    """A repository of this host that takes the branches of an agent."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(self, *arguments: str, place: Path | None = None, **streams: Any) -> subprocess.Popen[bytes]:
        """Start git in the repository, or in another one. Raises Failure."""
        settings = [part for setting in _SETTINGS for part in ("-c", setting)]
        try:
            return subprocess.Popen(  # noqa: S603 - git of this host, with arguments of its own
                ["git", *settings, *arguments],  # noqa: S607
                cwd=place or self._path,
                env=self.environment,
                **streams,
            )
        except FileNotFoundError:
            raise Failure("no_git", "git is not installed on this host", hint="install git") from None

    def objects(self) -> Path:
        """Return the directory of the objects. Raises Failure if there is no repository."""
        asked = self.git("rev-parse", "--git-path", "objects", stdout=subprocess.PIPE)
        found, _ = asked.communicate()
        if asked.returncode:
            why = f"{self._path} is in no repository of yours"
            raise Failure("cannot_fetch", why, hint="go to one, or name one with --into")
        return (self._path / os.fsdecode(found).removesuffix("\n")).resolve()

    def prepare(self, directory: Path, objects: Path) -> None:
        """Make an empty repository that borrows the objects of this one, so that only new ones come."""
        made = self.git("init", "--quiet", "--bare", "--template=", str(directory), stdout=subprocess.DEVNULL)
        if made.wait():
            raise Failure("cannot_fetch", f"git cannot make a repository in {directory}", hint="see what it says above")
        (directory / "objects/info").mkdir(exist_ok=True)
        (directory / "objects/info/alternates").write_bytes(os.fsencode(objects) + b"\n")
        with suppress(FileNotFoundError):
            shutil.copyfile(objects.parent / "shallow", directory / "shallow")

    def take_packs(self, directory: Path, objects: Path, agent: str, limits: FetchLimits) -> None:
        """Move what has come into the repository, where nothing refers to it yet. Raises Failure."""
        packs = directory / "objects/pack"
        count = sum(_objects_in(index) for index in packs.glob("pack-*.idx"))
        if count > limits.objects:
            raise too_much(agent, f"sends {count:,} objects, and {limits.objects:,} are taken")
        (objects / "pack").mkdir(exist_ok=True)
        # The index comes last: git reads a pack when it finds its index.
        for ending in (".pack", ".rev", ".idx"):
            for file in packs.glob(f"pack-*{ending}"):
                file.replace(objects / "pack" / file.name)

    def take_branches(self, directory: Path, agent: str) -> int:
        """Make the branches in `directory` those of the agent, and return git's exit code."""
        refs = f"+refs/heads/*:refs/hive/{agent}/*"
        local = ("-c", "protocol.file.allow=always", "fetch", *OPTIONS, "--prune", str(directory), refs)
        git = self.git(*local, stderr=subprocess.PIPE)
        assert git.stderr is not None
        say(git.stderr, {f"From {directory}": f"From {agent}"})
        return git.wait()

    def branches(self, agent: str) -> Iterator[str]:
        """Yield the refs of the agent's branches, the one with the newest commit first."""
        asked = self.git(
            "for-each-ref",
            "--sort=-committerdate",
            "--format=%(refname)",
            f"refs/hive/{agent}/",
            stdout=subprocess.PIPE,
        )
        found, _ = asked.communicate()
        yield from (shlex.quote(escaped_line(line)) for line in found.decode(errors="replace").splitlines())


def say(output: IO[bytes], instead: Mapping[str, str] | None = None) -> None:
    """Show what git says; `instead` are lines by the ones that they replace."""
    with output:
        for line in shown_lines(lambda: os.read(output.fileno(), _CHUNK)):
            click.echo((instead or {}).get(line, line), err=True)


def _objects_in(index: Path) -> int:
    """Return the number of objects of a pack: the last entry of its fan-out table, gitformat-pack(5)."""
    with index.open("rb") as file:
        file.seek(_FAN_OUT)
        return int.from_bytes(file.read(4), "big")
