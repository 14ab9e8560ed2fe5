"""Addresses and requests of the REST interfaces of GitHub and Forgejo (Gitea's is the same). Pure.

GitHub: https://docs.github.com/rest/pulls/pulls. Forgejo: /api/swagger of every instance, `repoListPullRequests`,
`repoGetPullRequestByBaseHead` and `repoCreatePullRequest`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from hive_core.work.repositories.push_rules import RepositoryAddress

ForgeKind = Literal["github", "forgejo"]
_GITHUB = "github.com"
_GITHUB_API = "https://api.github.com"
_GITHUB_VERSION = "2022-11-28"


@dataclass(frozen=True)
class Forge:
    """The REST interface of one server: its kind, and its address without a slash at the end."""

    kind: ForgeKind
    api: str

    def headers(self, token: str) -> dict[str, str]:
        """Return the headers of every request. They hold the token."""
        common = {"User-Agent": "hyperhive", "Accept": "application/json"}
        if self.kind == "forgejo":
            return {**common, "Authorization": f"token {token}"}
        version = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": _GITHUB_VERSION}
        return {**common, **version, "Authorization": f"Bearer {token}"}

    def pulls(self, address: RepositoryAddress) -> str:
        """Return the URL to which new pull requests are posted."""
        return f"{self.api}/repos/{address.path}/pulls"

    def pull(self, address: RepositoryAddress, number: int) -> str:
        """Return the URL that answers with one pull request."""
        return f"{self.pulls(address)}/{number}"

    def search(self, address: RepositoryAddress, head: str, base: str) -> str:
        """Return the URL that answers with the pull request of a branch, or with a list that may have it."""
        if self.kind == "forgejo":
            return f"{self.pulls(address)}/{quote(base, safe='')}/{quote(head, safe='')}"
        return f"{self.pulls(address)}?state=all&per_page=10&head={quote(address.owner + ':' + head, safe='')}"

    def page(self, address: RepositoryAddress, number: int) -> str:
        """Return the URL of one page of the list of all pull requests, the newest first."""
        size = "limit" if self.kind == "forgejo" else "per_page"
        return f"{self.pulls(address)}?state=all&sort=newest&{size}=20&page={number}"


def known_forge(server: str) -> Forge | None:
    """Return the interface of a server that is known by its name; None if the server has to be asked."""
    return Forge("github", _GITHUB_API) if server == _GITHUB else None


def candidates(server: str) -> tuple[tuple[Forge, str, str], ...]:
    """Return the interfaces that a server may have, each with a URL to ask without a token, and a key of the answer."""
    forgejo, github = Forge("forgejo", f"https://{server}/api/v1"), Forge("github", f"https://{server}/api/v3")
    return ((forgejo, f"{forgejo.api}/version", "version"), (github, f"{github.api}/meta", "installed_version"))


def link(address: RepositoryAddress, kind: ForgeKind, number: int) -> str:
    """Return the address of a pull request for people; no part of it is what the server has answered but the number."""
    word = "pulls" if kind == "forgejo" else "pull"
    return f"https://{address.server}/{address.path}/{word}/{number}"


def number_of(address: RepositoryAddress, address_of_request: str) -> int:
    """Return the number of the pull request that `link` has named; 0 if it is one of another repository."""
    kinds: tuple[ForgeKind, ...] = ("github", "forgejo")
    last = address_of_request.rpartition("/")[2]
    if not (last.isascii() and last.isdigit()):
        return 0
    number = int(last)
    return number if address_of_request in [link(address, kind, number) for kind in kinds] else 0
