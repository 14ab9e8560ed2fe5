"""The parts of the hive that the gate of work uses: repositories, checks, merges, and publication."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hive_core.errors import HiveError
from hive_core.work.gate.records.index import WorkRow


class NamedCheck(Protocol):
    """A command of the operator's that tests work."""

    @property
    def name(self) -> str:
        """The name of the check."""


class ReviewedRepository(Protocol):
    """The settings of a repository that decide on its work; see `RepositoryRecord`."""

    @property
    def name(self) -> str:
        """The name of the repository."""

    @property
    def source(self) -> str:
        """The URL of upstream; empty for a repository that the daemon does not fetch."""

    @property
    def branch(self) -> str:
        """The branch on which work lands."""

    @property
    def push(self) -> str:
        """The publication of landed work: `none`, `branch` or `pull-request`."""

    @property
    def merges(self) -> bool:
        """True if work may land with a merge."""

    @property
    def review(self) -> str:
        """The party that decides: `manager`, `operator`, `both` or `agent:<name>`."""

    @property
    def checks(self) -> Sequence[NamedCheck]:
        """The checks of work."""

    @property
    def check_hosts(self) -> Sequence[str]:
        """The rules of the hosts that checks reach."""


class Mirrors(Protocol):
    """The registry of repositories; see `Repositories`."""

    def records(self) -> Sequence[ReviewedRepository]:
        """Return all repositories."""

    def record(self, name: str) -> ReviewedRepository:
        """Return a repository. Raises `unknown_repository`."""

    def mirror(self, name: str) -> Path:
        """Return the mirror of a repository."""

    def lock(self, name: str) -> AbstractAsyncContextManager[None]:
        """Hold the lock of a mirror's refs."""

    def users(self, name: str) -> Sequence[str]:
        """Return the agents whose configuration names a repository."""

    async def fetch(self, name: str) -> object:
        """Fetch from upstream."""


@dataclass(frozen=True)
class CheckResult:
    """The end of the checks of a tree: a line for each that ran, and the reason of a failure, or ""."""

    lines: Sequence[str]
    failure: str = ""


class Checker(Protocol):
    """Runs the checks of a repository on a tree; `say` gets their output."""

    async def __call__(
        self, record: ReviewedRepository, row: WorkRow, tree: str, say: Callable[[str], None]
    ) -> CheckResult:
        """Run the checks. Raises HiveError if they cannot be run."""


@dataclass(frozen=True)
class MergedWork:
    """A merge of work into its branch: its commit and tree; or the paths that stand in the way.

    `changed` are paths that the merge would give another content than the approved one.
    """

    commit: str = ""
    tree: str = ""
    conflicts: Sequence[str] = ()
    changed: Sequence[str] = ()


class MergesWork(Protocol):
    """Merges approved work into a branch."""

    async def __call__(self, row: WorkRow, branch: str) -> MergedWork:
        """Merge the work into the commit `branch`, with new objects in the work repository."""


class Publisher(Protocol):
    """Brings landed work to where the operator wants it."""

    async def __call__(self, record: ReviewedRepository, row: WorkRow) -> str:
        """Push landed work, or open its pull request, once; return the link to it."""

    async def merge_of(self, work: WorkRow) -> str:
        """Return the commit with which upstream has merged the pull request of landed work, "" if it has not."""

    def problem(self, repo: str, number: int) -> HiveError | None:
        """Return why the last attempt has failed, None if none has."""

    def try_again(self) -> None:
        """Repeat what has failed now, as something has changed."""
