"""Models of proposals of work: commits that agents submit for a repository of the operator's."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, StringConstraints

from hive_core.protocol.base import Answer, Query, Request
from hive_core.protocol.proposals import ChangedFile, CommitId, Note, ProposalState, Reason
from hive_core.protocol.work.repositories import RepositoryName
from hive_core.text import describe_file

WorkTitle = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"\S")]
FileKind = Literal["file", "executable", "symlink", "submodule"]


class SubmitWork(Request):
    """Submit a commit of the caller's clone of a repository, to be checked, reviewed and landed on its branch."""

    repo: RepositoryName
    commit: CommitId
    title: WorkTitle
    description: Note = ""


class ApproveWork(Request):
    """Approve work. `expect` and `commit` as for a proposal of a configuration."""

    expect: ProposalState
    commit: CommitId | None = None
    note: Note = ""


class DenyWork(Request):
    """Deny work; `note` says why, and goes to who submitted it."""

    expect: ProposalState
    commit: CommitId | None = None
    note: Reason


class WithdrawWork(Request):
    """Withdraw work of one's own."""

    note: Note = ""


class RetryWork(Request):
    """Submit the commit of failed or withdrawn work once more, as a new proposal of the same party."""


class CommentOnWork(Request):
    """A remark on a line of a file, on a file (`line` left out), or on the whole (`path` left out)."""

    text: Reason
    path: Annotated[str, StringConstraints(min_length=1, max_length=4_096)] | None = None
    line: Annotated[int, Field(ge=1, le=100_000_000)] | None = None


class WorkComment(Answer):
    """A remark of a reviewer, or of who submitted the work."""

    id: int
    by: str
    at: AwareDatetime
    path: str | None
    line: int | None
    text: str


class WorkProposal(Answer):
    """Work at a glance. `by` submitted it; `waits_for` is whose decision is missing; `outcome` is why it ended.

    `waits_for` is `manager`, `operator` or `agent:<name>`. `base` is the commit of the branch that the work begins at,
    and `landed` the one that the branch was moved to, which is a merge if the branch had gone on. `link` is where the
    landed work was pushed to, or its pull request.
    """

    repo: str
    number: int
    state: ProposalState
    by: str
    title: str
    description: str
    branch: str
    commit: str
    base: str
    waits_for: str | None
    approvals: list[str]
    outcome: str
    landed: str | None
    link: str
    created_at: AwareDatetime
    changed_at: AwareDatetime
    expires_at: datetime | None


class WorkFile(ChangedFile):
    """A file that work changes. `kind` is what it is afterwards (before, if removed).

    `binary` files are named in the diff and not shown. A submodule has no files of its own here: only the commit that
    it names changes.
    """

    kind: FileKind = "file"
    binary: bool = False

    def describe(self) -> str:
        """Return the file in one line, with the path, which is not escaped, at its end."""
        notes: list[str] = [] if self.kind == "file" else [self.kind]
        if self.binary:
            notes.append("binary")
        said = f"{', '.join(notes)}: " if notes else ""
        return said + describe_file(self.path, self.change, self.size, self.shown, is_text=self.is_text)


class WorkCommit(Answer):
    """A commit of the work. Author, committer and subject are what its maker wrote, and nobody has checked them."""

    commit: str
    author: str
    committer: str
    subject: str


class WorkDetail(WorkProposal):
    """Work with all that a decision needs. `diff` is cut at 64 KiB, `diff_bytes` is its full size.

    `checks` is a line for each check that has run. `commits` are the newest of `commit_count`. The files of work that
    was `pruned` are gone. `problem` is why approved work has not landed yet, or landed work is not published yet; only
    the manager and the operator are told.
    """

    checks: list[str]
    commits: list[WorkCommit] = Field(default_factory=list)
    commit_count: int = 0
    files: list[WorkFile] = Field(default_factory=list)
    diff: str
    diff_bytes: int
    comments: list[WorkComment] = Field(default_factory=list)
    pruned: bool = False
    problem: str = ""


class WorksQuery(Query):
    """Work, the newest first: of one repository or of all, still open, ended or both."""

    repo: RepositoryName | None = None
    state: Literal["open", "ended", "all"] = "open"
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class WorkList(Answer):
    """Work; `total` counts all that matches the query, also beyond the limit."""

    work: list[WorkProposal]
    total: int
