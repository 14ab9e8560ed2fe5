"""The working directory of a build: its flake, its home, and GC roots as long as it lasts.

What the unit of a build can write is read without following links, and only after the unit has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage.disk_space import disk_full, is_lack_of_space
from hive_core.infra.storage.files import read_bytes
from hive_core.runtimes.base import BuildOrder
from hive_core.runtimes.nixos.commands import run

PREFIX = "build-"
_OLD_PREFIX = "nix-"
"""Prefix of earlier versions, whose workspaces may be left over."""
_DERIVATION_BYTES = 4_096
_ANYBODY = 0o777
"""The mode of the parts that an evaluation writes, below a directory that only the daemon can enter."""
_EVERYBODY_READS = 0o755
_ONLY_OWNER = 0o700
_REMOVAL_SECONDS = 600.0


@dataclass(frozen=True)
class BuildWorkspace:
    """The paths of the working directory of one build and of its parts."""

    path: Path

    @classmethod
    def of(cls, scratch: Path, label: str) -> BuildWorkspace:
        """Return the workspace below `scratch` for a label, which only one build at a time may use; creates nothing."""
        return cls(scratch / f"{PREFIX}{label}")

    @property
    def flake(self) -> Path:
        return self.path / "flake"

    @property
    def home(self) -> Path:
        """The home directory, which Nix creates: it uses an existing one only if that belongs to its user, and
        otherwise that of the account, which for a DynamicUser is `/` and not writable.
        """
        return self.path / "home" / "nix"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables for programs that work here."""
        return {"HOME": str(self.home), "GIT_CONFIG_GLOBAL": "/dev/null"}

    @property
    def derivation(self) -> Path:
        """The file to which an evaluation writes the path of the derivation."""
        return self.path / "out" / "derivation"

    @property
    def roots(self) -> Path:
        """The directory of links that are GC roots; an evaluation by a user of its own cannot write it."""
        return self.path / "roots"

    @property
    def build(self) -> Path:
        """The directory for the temporary files of builders."""
        return self.path / "build"

    @property
    def source(self) -> Path:
        """The files of the commit, until they are in the store, where Nix names the sources of flakes like this."""
        return self.path / "source"


def create_workspace(workspace: BuildWorkspace) -> None:
    """Create the workspace, of which nothing may exist yet. Blocks.

    The caller must call `remove_workspace` afterwards, even if this fails. Raises HiveError `cannot_build` or
    `disk_full`.
    """
    modes = {
        workspace.path: _EVERYBODY_READS,
        workspace.flake: _EVERYBODY_READS,
        workspace.home.parent: _ANYBODY,
        workspace.derivation.parent: _ANYBODY,
        workspace.roots: _EVERYBODY_READS,
        workspace.build: _ONLY_OWNER,
    }
    try:
        workspace.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for directory, mode in modes.items():
            directory.mkdir()
            directory.chmod(mode)
    except OSError as error:
        raise _cannot(workspace, error) from None


def extract_source(workspace: BuildWorkspace, order: BuildOrder) -> None:
    """Write the files of the commit to `workspace.source`, with the content of their blobs. Blocks.

    Raises HiveError `bad_tree`, `cannot_build` and the errors of git.
    """
    try:
        with Repository.open(order.repository) as repository:
            repository.extract(order.commit, workspace.source)
    except OSError as error:
        raise _cannot(workspace, error) from None


def write_flake(workspace: BuildWorkspace, text: str, lock: Mapping[str, Any] | None = None) -> None:
    """Write the flake, which an evaluation can only read. Blocks. Raises HiveError `cannot_build`, `disk_full`."""
    try:
        _put(workspace.flake / "flake.nix", text)
        if lock is not None:
            _put(workspace.flake / "flake.lock", lock_text(lock))
    except OSError as error:
        raise _cannot(workspace, error) from None


def lock_text(lock: Mapping[str, Any]) -> str:
    """Return the text of a lock file."""
    return json.dumps(lock, indent=2) + "\n"


def read_derivation_path(workspace: BuildWorkspace) -> str | None:
    """Return the path that the evaluation has written; None if there is none. Blocks."""
    try:
        content = read_bytes(workspace.derivation, _DERIVATION_BYTES + 1)
        text = content.decode()
    except (OSError, ValueError):
        return None
    return text if len(content) <= _DERIVATION_BYTES else None


async def remove_workspace(workspace: BuildWorkspace) -> None:
    """Remove the directory and everything in it."""
    await _remove(lambda: [workspace.path])


async def remove_all_workspaces(scratch: Path) -> None:
    """Remove the workspaces that a killed daemon has left."""
    await _remove(lambda: [*scratch.glob(f"{PREFIX}*"), *scratch.glob(f"{_OLD_PREFIX}*")])


async def _remove(find: Callable[[], Sequence[Path]]) -> None:
    found = await asyncio.to_thread(lambda: [str(path) for path in find() if os.path.lexists(path)])
    # Builders write there, also directories in directories without end; `rm` of coreutils removes those, too.
    if found:
        await run(["rm", "-rf", "--", *found], timeout=_REMOVAL_SECONDS)


def _put(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o644)


def _cannot(workspace: BuildWorkspace, error: OSError) -> HiveError:
    if is_lack_of_space(error):
        return disk_full("prepare a build")
    return HiveError("cannot_build", f"cannot prepare a build in {workspace.path}: {error.strerror}", status=500)
