"""The work for repositories, as their registry sees it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class PullRequest:
    """The pull request of landed work: the work's name, the link, and the commit upstream that it was merged with.

    The link is empty if it is not opened yet, and the commit if it is not merged.
    """

    work: str
    link: str
    merge: str


class RepositoryProposals(Protocol):
    """The proposals of work for repositories."""

    async def open_work(self, repo: str) -> Sequence[str]:
        """Return the names of the open proposals for a repository."""

    async def repository_changed(self, repo: str) -> None:
        """Go on with what the settings of a repository have kept from being done."""

    async def forget_repository(self, repo: str) -> None:
        """End all work for a repository, and delete its proposals."""

    async def pull_request_of(self, repo: str, commit: str) -> PullRequest | None:
        """Return the pull request of the work that moved the branch to a commit. Raises HiveError."""
