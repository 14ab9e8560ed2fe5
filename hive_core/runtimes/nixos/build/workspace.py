"""The working directory of a build: its flake, a readable copy of the commit's history, and a home.

Only the daemon can read the applied repositories. A build may run as another user, so it gets a copy of the objects
that the proposal's tag reaches, at the path of the original. The parts that a build can write are read without
following links, and only after it has ended.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hive_core.errors import HiveError
from hive_core.infra.files import read_bytes
from hive_core.infra.git.command import checked
from hive_core.infra.git.names import TAGS

_PREFIX = "build-"
_OLD_PREFIX = "nix-"
"""Prefix of earlier versions, whose workspaces may be left over."""
_LOCK_BYTES = 1024 * 1024
_ANYBODY = 0o777
"""The mode of the parts that the unit writes, below a directory that only the daemon can enter."""
_GIT_CONFIG = "[safe]\n\tdirectory = *\n"
"""The repositories belong to the daemon's user, not to the one that evaluates."""


@dataclass(frozen=True)
class BuildWorkspace:
    """The paths of the working directory of one build and of its parts."""

    path: Path

    @classmethod
    def of(cls, scratch: Path, label: str) -> BuildWorkspace:
        """Return the workspace below `scratch` for a label, which only one build at a time may use; creates nothing."""
        return cls(scratch / f"{_PREFIX}{label}")

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
    def git_config(self) -> Path:
        return self.path / "gitconfig"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables for programs that work here."""
        return {"HOME": str(self.home), "GIT_CONFIG_GLOBAL": str(self.git_config)}

    @property
    def result(self) -> Path:
        """The link to the build output that Nix creates; it is a GC root."""
        return self.path / "out" / "result"

    @property
    def repository(self) -> Path:
        return self.path / "repository"


def prepare_workspace(
    build_workspace: BuildWorkspace, repository: Path, number: int, text: str, lock: Mapping[str, Any] | None
) -> None:
    """Create the workspace for the build of `proposal/<number>`. Blocks.

    The caller must call `remove_workspace` afterwards, even if this fails.

    Raises HiveError `cannot_build`, and the errors of git.
    """
    create_workspace(build_workspace, text)
    try:
        if lock is not None:
            _put(build_workspace.flake / "flake.lock", json.dumps(lock, indent=2) + "\n", 0o666)
        _copy(repository, f"{TAGS}proposal/{number}", build_workspace.repository)
    except OSError as error:
        raise _cannot(build_workspace, error) from None


def create_workspace(build_workspace: BuildWorkspace, flake: str) -> None:
    """Create the workspace with a flake in it, and remove the files of an earlier build before. Blocks.

    Raises HiveError `cannot_build`.
    """
    remove_workspace(build_workspace)
    try:
        build_workspace.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        build_workspace.path.mkdir()
        build_workspace.path.chmod(0o755)
        for directory in (build_workspace.flake, build_workspace.home.parent, build_workspace.result.parent):
            directory.mkdir()
            directory.chmod(_ANYBODY)
        _put(build_workspace.git_config, _GIT_CONFIG, 0o644)
        _put(build_workspace.flake / "flake.nix", flake, 0o644)
    except OSError as error:
        raise _cannot(build_workspace, error) from None


def read_result(build_workspace: BuildWorkspace) -> str | None:
    """Return the target of the link that Nix has created; None if there is none. Blocks."""
    try:
        return str(build_workspace.result.readlink())
    except OSError:
        return None


def read_lock(build_workspace: BuildWorkspace) -> str | None:
    """Return the text of the lock file after the build; None if it is not a lock file. Blocks."""
    try:
        content = read_bytes(build_workspace.flake / "flake.lock", _LOCK_BYTES + 1)
        text = content.decode()
        found = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return None
    return text if len(content) <= _LOCK_BYTES and isinstance(found, dict) else None


def remove_workspace(build_workspace: BuildWorkspace) -> None:
    """Remove the directory and everything in it. Blocks."""
    shutil.rmtree(build_workspace.path, ignore_errors=True)


def remove_all_workspaces(scratch: Path) -> None:
    """Remove the workspaces that a killed daemon has left. Blocks."""
    for path in (*scratch.glob(f"{_PREFIX}*"), *scratch.glob(f"{_OLD_PREFIX}*")):
        remove_workspace(BuildWorkspace(path))


def _put(path: Path, text: str, mode: int) -> None:
    path.write_text(text)
    path.chmod(mode)


def _cannot(build_workspace: BuildWorkspace, error: OSError) -> HiveError:
    return HiveError("cannot_build", f"cannot prepare a build in {build_workspace.path}: {error.strerror}", status=500)


def _copy(repository: Path, ref: str, into: Path) -> None:
    """Create a bare repository, readable for all users, with only the objects that `ref` reaches."""
    checked(into, "init", "--quiet", "--bare", "--template=", "--initial-branch=main")
    only_files = ("-c", "protocol.allow=never", "-c", "protocol.file.allow=always", "-c", "core.fsync=none")
    wanted = ("--quiet", "--no-tags", "--no-write-fetch-head", "--no-auto-gc")
    checked(into, *only_files, "fetch", *wanted, "--", str(repository.absolute()), f"{ref}:{ref}")
    # `git init --shared` sets the set-group-ID bit on directories, which is forbidden in a hardened unit.
    for parent, directories, files in os.walk(into):
        Path(parent).chmod(0o755)
        for name in (*directories, *files):
            path = Path(parent, name)
            path.chmod(0o755 if path.is_dir() else 0o644)
