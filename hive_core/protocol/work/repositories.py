"""Models of the repositories that the operator registers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hive_core.protocol.base import Answer, Query, Request
from hive_core.protocol.names import REPOSITORY_PATTERN, is_repository_name, why_no_repository_name
from hive_core.protocol.network.entries import AllowedHosts

PushMode = Literal["none", "branch", "pull-request"]
"""The publication of a landed proposal: nothing, a pushed branch, or a pull request."""
RepositoryState = Literal["new", "current", "behind", "ahead", "diverged"]
"""The branch compared with upstream's: `new` before the first fetch, `ahead` with landed commits of its own."""
CredentialKind = Literal["none", "token", "ssh-key"]

_MAX_SECRET = 32 * 1024
REVIEW_PATTERN = r"^(manager|operator|both|agent:[a-z]([a-z0-9-]{0,7}[a-z0-9])?)$"
BRANCH_PATTERN = r"^[A-Za-z0-9_]([A-Za-z0-9_./-]*[A-Za-z0-9_-])?$"


def _repository_name(text: str) -> str:
    if is_repository_name(text):
        return text
    raise PydanticCustomError("bad_repository_name", "{why}", {"why": why_no_repository_name(text)})


RepositoryName = Annotated[
    str, AfterValidator(_repository_name), Field(json_schema_extra={"pattern": REPOSITORY_PATTERN})
]
Review = Annotated[str, StringConstraints(pattern=REVIEW_PATTERN)]
BranchName = Annotated[str, StringConstraints(pattern=BRANCH_PATTERN, max_length=150)]
"""A branch whose name needs no quoting anywhere."""
_Source = Annotated[str, StringConstraints(max_length=2_000)]
_HostKeys = Annotated[
    list[Annotated[str, StringConstraints(pattern=r"^[ -~]+$", max_length=2_000)]], Field(max_length=10)
]
CheckHosts = Annotated[AllowedHosts, Field(max_length=50)]
_Secret = Annotated[str, StringConstraints(min_length=1, max_length=_MAX_SECRET)]


class Check(Request):
    """A command of the operator's that tests a proposal: it passes if it exits with code 0."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$")]
    argv: Annotated[
        list[Annotated[str, StringConstraints(max_length=8_000, pattern=r"^[^\x00]*$")]],
        Field(min_length=1, max_length=50),
    ]
    timeout_seconds: Annotated[int, Field(ge=1, le=86_400)] = 600


class AddRepositoryRequest(Request):
    """A repository to register.

    `source` is its URL; it is empty for a repository that the command line reads and sends, which `path` only names.
    Without `branch` it is upstream's default branch. `token` and `ssh_key` are secret; at most one is given.
    `host_keys` are the lines of known_hosts(5) that the operator has accepted. `check_hosts` are hosts and sets that
    checks reach; without any they have no network.
    """

    name: RepositoryName
    source: _Source = ""
    path: _Source = ""
    branch: BranchName | None = None
    push: PushMode = "none"
    merges: bool = False
    review: Review | None = None
    instructions: bool = True
    checks: Annotated[list[Check], Field(max_length=20)] = Field(default_factory=list)
    check_hosts: CheckHosts = Field(default_factory=list)
    token: _Secret | None = None
    ssh_key: _Secret | None = None
    host_keys: _HostKeys = Field(default_factory=list)


class SetRepositoryRequest(Request):
    """Changes of a repository; what is not given stays. `forget_credential` removes the token or key."""

    branch: BranchName | None = None
    push: PushMode | None = None
    merges: bool | None = None
    review: Review | None = None
    instructions: bool | None = None
    checks: Annotated[list[Check], Field(max_length=20)] | None = None
    check_hosts: CheckHosts | None = None
    token: _Secret | None = None
    ssh_key: _Secret | None = None
    forget_credential: bool = False
    host_keys: _HostKeys | None = None


class RemoveRepositoryRequest(Request):
    """With `force`, a repository is removed though agents use it."""

    force: bool = False


class HostKeysRequest(Request):
    """The URL of a repository whose SSH server is asked for its keys."""

    source: _Source


class HostKey(Answer):
    """One key of an SSH server: its type, its fingerprint, and its line of known_hosts(5)."""

    type: str
    fingerprint: str
    line: str


class HostKeys(Answer):
    """The keys of an SSH server, as it has sent them now; nobody has checked them."""

    host: str
    keys: list[HostKey]


class FetchRepositoryRequest(Request):
    """With `take_upstream`, the branch moves to upstream's; its commit before stays, below `refs/landed/`."""

    take_upstream: bool = False


class SendRepositoryQuery(Query):
    """The same choice for a repository that the command line sends."""

    take_upstream: bool = False


class RepositoryRef(Answer):
    """A ref of a mirror and the object that it names."""

    name: str
    id: str


class RepositoryRefs(Answer):
    """The branches and tags of upstream that a mirror holds."""

    refs: list[RepositoryRef]


class RepositoryStatus(Answer):
    """A repository as it is registered, and its mirror.

    `commit` is that of the branch and `upstream` that of upstream's branch, as of the last fetch. `problem` says why
    the last fetch failed, and `advice` what to do. `activity` is the progress of a fetch that is under way.
    `refs_left_out` are refs of upstream that the mirror does not hold. `lfs` and `submodules` say that the branch uses
    them. `agents` are those whose configuration names the repository.
    """

    name: str
    source: str
    path: str = ""
    branch: str
    push: PushMode
    merges: bool
    review: str
    instructions: bool
    checks: list[Check] = Field(default_factory=list)
    check_hosts: list[str] = Field(default_factory=list)
    credential: CredentialKind = "none"
    host_keys: list[HostKey] = Field(default_factory=list)
    state: RepositoryState = "new"
    commit: str | None = None
    upstream: str | None = None
    problem: str = ""
    advice: str = ""
    created_at: AwareDatetime
    fetched_at: AwareDatetime | None = None
    activity: str = ""
    refs: int = 0
    refs_left_out: int = 0
    bytes: int = 0
    lfs: bool = False
    submodules: bool = False
    agents: list[str] = Field(default_factory=list)


class RepositoryList(Answer):
    """All repositories. `github_client_id` is that of the settings, with which the command line can ask for a login."""

    repositories: list[RepositoryStatus]
    github_client_id: str = ""


class FetchedRepository(Answer):
    """The result of a fetch: the repository now, and the commit of its branch before."""

    repository: RepositoryStatus
    before: str | None = None
    refs_changed: int = 0
