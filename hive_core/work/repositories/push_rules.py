"""The rules of where landed work of a repository can be published. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from hive_core.errors import HiveError, conflict
from hive_core.protocol import CredentialKind, PushMode
from hive_core.text import shown
from hive_core.work.repositories.upstream.source import Source


@dataclass(frozen=True)
class RepositoryAddress:
    """The server of a repository as https URLs name it, and the path of the repository there."""

    server: str
    owner: str
    name: str

    @classmethod
    def of(cls, source: Source) -> RepositoryAddress:
        """Return the address of a registered URL. Raises HiveError `no_pull_requests`."""
        _, _, rest = source.url.partition("://")
        path = rest.partition("/")[2].strip("/").removesuffix(".git")
        owner, _, name = path.partition("/")
        if source.scheme != "https" or not name or "/" in name:
            why = f"{shown(source.url)} is no https URL of the form https://HOST/OWNER/REPOSITORY"
            hint = "register it by such a URL, with a token, or choose --push branch"
            raise HiveError("no_pull_requests", f"no pull request can be opened: {why}", hint=hint)
        return cls(source.server, owner, name)

    @property
    def path(self) -> str:
        """The path of the repository in URLs."""
        return f"{quote(self.owner, safe='')}/{quote(self.name, safe='')}"


def check_push(push: PushMode, source: Source | None, credential: CredentialKind) -> None:
    """Check that landed work of a repository can be published in this way.

    Raises HiveError `no_upstream`, `no_pull_requests`.
    """
    if push == "none":
        return
    if source is None:
        raise conflict("no_upstream", "nothing can be pushed to a path", "register it by its URL")
    if push == "pull-request":
        RepositoryAddress.of(source)
        if credential != "token":
            why = f"a pull request to {shown(source.url)} needs a token"
            hint = "give one that may push and write pull requests with --token -, or choose --push branch"
            raise HiveError("no_pull_requests", why, hint=hint)
