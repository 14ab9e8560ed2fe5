"""The files of active configurations, which containers are shown as `/deployed`, one directory for each deployment.

They are no part of the containers' systems: a system that held them would be another one whenever any of them changes,
so a comparison of two systems would have to leave them out, and `agent.nix` could tell a comparison from a build.

Only the daemon writes here. The files come from the commit that is tagged `approved/<deployment>` in the applied
repository, and are compared with it before each start, so that whatever has happened to them since changes nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hive_core.errors import HiveError
from hive_core.infra.git.comparison.directory_tree import NotATreeError, tree_id
from hive_core.infra.git.repository import Repository
from hive_core.infra.storage.disk_space import disk_full_as_error, is_lack_of_space
from hive_core.infra.storage.files import make_readable
from hive_core.layout import Layout
from hive_core.runtimes.base import AgentSpec


class DeployedFiles:
    """The directories of all agents. The methods block; the caller must have claimed the agent's container."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def prepare(self, spec: AgentSpec) -> None:
        """Make the directory of the deployment of `spec`, or replace it if it differs from the commit.

        Raises `repository_damaged`, `repository_missing`, `disk_full`, the errors of git, and OSError.
        """
        if spec.deployed is None:
            return
        repository_path = self._layout.applied_repository(spec.name)
        with Repository.open(repository_path) as repository:
            commit = _approved_commit(repository, spec)
            tree = repository.tree(commit)
            if _tree_of(spec.deployed) == tree:
                return
            with self._scratch() as scratch:
                made = scratch / "files"
                repository.extract(commit, made)
                make_readable(made)
                if _tree_of(made) != tree:
                    raise _damaged(repository, f"the files of commit {commit} are not those of its tree {tree}")
                with disk_full_as_error("write the files of a deployment"):
                    spec.deployed.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                    with suppress(FileNotFoundError):
                        spec.deployed.rename(scratch / "replaced")
                    made.rename(spec.deployed)

    def keep_only(self, spec: AgentSpec) -> None:
        """Remove the directories of other deployments than that of `spec`, with which no container may run any more."""
        home = self._layout.deployed / spec.name
        for directory in list(home.iterdir()) if home.is_dir() else []:
            if directory != spec.deployed:
                self._remove(directory)

    def remove(self, name: str) -> None:
        """Remove all directories of an agent whose container is gone."""
        self._remove(self._layout.deployed / name)

    def _remove(self, directory: Path) -> None:
        # Whenever the daemon is killed, a directory either is complete or no longer exists.
        try:
            with self._scratch() as scratch, suppress(FileNotFoundError):
                directory.rename(scratch / "removed")
        except OSError as error:
            if not is_lack_of_space(error):
                raise
            # Where it is, then: a part that a kill leaves is not taken for the files of any commit.
            shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        self._layout.scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="deployed-", dir=self._layout.scratch))
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _approved_commit(repository: Repository, spec: AgentSpec) -> str:
    """Return the commit of a deployment. The gate tags it before the runtime hears of it, at a rollback as well."""
    name = f"approved/{spec.deployment}"
    tags = repository.read_tags([name])
    if not tags:
        raise _damaged(repository, f"the tag {name} of the active configuration is missing")
    return tags[0].target


def _damaged(repository: Repository, why: str) -> HiveError:
    hint = "restore the repository from a backup; `hive-c0re audit verify` shows what else differs"
    return HiveError("repository_damaged", f"{why}, in {repository.path}", hint=hint, status=500)


def _tree_of(directory: Path) -> str | None:
    """Return the id of the tree on disk; None if there is none, or no tree of plain files."""
    try:
        return tree_id(directory)
    except (NotATreeError, OSError):
        return None
