"""Models of proposals, decisions, deployments, and the audit table."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints
from pydantic_core import PydanticCustomError

from hive_core.protocol.agents import FileContent, FilePath, SpawnRequest
from hive_core.protocol.base import Answer, Query, Request, WaitSeconds
from hive_core.text import describe_file, is_hidden, shown

ProposalKind = Literal["config", "spawn", "destroy", "rollback", "rebuild"]
ProposalState = Literal["proposal", "building", "built", "approved", "deployed", "failed", "denied", "withdrawn"]
"""The furthest tag of a proposal in its agent's applied repository; the last four are terminal."""
Decider = Literal["manager", "operator"]
FileChange = Literal["added", "removed", "changed", "made executable", "made not executable"]
"""A change of a file; its content may have changed, too, when its mode has."""
Note = Annotated[str, StringConstraints(max_length=10_000)]
Reason = Annotated[str, StringConstraints(min_length=1, max_length=10_000)]


def _full_sha(text: str) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", text) is None:
        why = f"{shown(text)} is not a full commit id (40 characters 0-9 a-f): a branch or tag can move; git rev-parse"
        raise PydanticCustomError("bad_commit", "{why}", {"why": f"{why} HEAD prints the id"})
    return text


CommitId = Annotated[str, AfterValidator(_full_sha), Field(json_schema_extra={"pattern": "^[0-9a-f]{40}$"})]


class ProposeRequest(Request):
    """Propose a commit of an agent's config repository. `agent` defaults to the caller; only the manager and the
    operator may name another.
    """

    commit: CommitId
    note: Reason
    agent: str | None = None


class EditRequest(Request):
    """Propose other files for an agent. `base` is the deployed commit that they were made from.

    `files` are all files of the configuration, by path, each in Base64; `executables` are the paths of programs.
    """

    base: CommitId
    files: dict[FilePath, FileContent] = Field(max_length=2_000)
    executables: list[FilePath] = Field(default_factory=list, max_length=2_000)
    note: Reason


class ConfigurationFiles(Answer):
    """The files that an agent runs on, as in `EditRequest`; `commit` is the one that is deployed."""

    agent: str
    commit: str
    files: dict[str, str]
    executables: list[str]


class SpawnProposal(SpawnRequest):
    """Propose to spawn an agent; `note` says what for."""

    note: Reason


class DestroyProposal(Request):
    """Propose to destroy an agent; `note` says why."""

    purge: bool = False
    note: Reason


class ApproveRequest(Request):
    """Approve a proposal. `expect` names the state that the decision is about, so that a repeated one changes
    nothing; `commit` the commit, for the numbers of an agent begin again after a purge.
    """

    expect: ProposalState
    commit: CommitId | None = None
    note: Note = ""


class DenyRequest(Request):
    """Deny a proposal; `note` says why. `expect` and `commit` as for an approval."""

    expect: ProposalState
    commit: CommitId | None = None
    note: Reason


class WithdrawRequest(Request):
    """Withdraw a proposal of one's own."""

    note: Note = ""


class AllowFetchesRequest(Request):
    """Allow the fetches for want of which a proposal failed, exactly these, and build it again as a new proposal.

    `commit` names the commit that the proposal must have, for the numbers of an agent begin again after a purge.
    """

    commit: CommitId


class RollbackRequest(Request):
    """Deploy an earlier deployment of the agent again: `number`, or the one before the present."""

    number: Annotated[int, Field(ge=0, le=2**63 - 1)] | None = None
    note: Reason


class RebuildRequest(Request):
    """Build an agent's deployed configuration with the present hyperhive, and deploy the result. `note` says why."""

    note: Note = ""


class Proposal(Answer):
    """A proposal at a glance. `by` proposed it; `waits_for` is whose decision is missing; `outcome` is why it ended.

    `commit` is what would be deployed, `base` what was deployed when it was proposed (None: nothing). `closure` is
    what it was built to: a path of the Nix store or, with the `local` runtime, a path below the directory `closures`.
    `approvals` are the parties that have approved so far, or the rule that did.
    """

    agent: str
    number: int
    kind: ProposalKind
    state: ProposalState
    by: str
    note: str
    commit: str
    base: str | None
    closure: str | None
    waits_for: Decider | None
    approvals: list[str]
    outcome: str
    created_at: AwareDatetime
    changed_at: AwareDatetime
    expires_at: datetime | None


class NetworkFetch(Answer):
    """A fetch from the network during a build: one fixed-output derivation, which no substituter has.

    With `by_nix` Nix itself fetches, from `urls` and from where these redirect to. Otherwise `program`, which the
    configuration chose, runs with network: it may contact any host, and `urls` are only those that it names. `hash` is
    that of the output.
    """

    name: str
    urls: list[str]
    hash: str
    derivation: str
    program: str
    by_nix: bool


class AllowedFetches(Answer):
    """The fetches that `by`, an operator, allowed after the proposal of that agent with the number `failed` had failed
    for want of them. No others are made for the build.
    """

    by: str
    failed: int
    fetches: list[NetworkFetch]


class ChangedFile(Answer):
    """A file that a proposal changes. `size` is that of its diff in bytes, of which `shown` are in the answer.

    A size above 64 MiB means "at least". Without `is_text` the file has, or had, bytes that no reader can be shown.
    """

    path: str
    change: FileChange
    size: int
    shown: int
    is_text: bool = True

    def describe(self) -> str:
        """Return the file in one line, with the path, which the proposer chose and which is not escaped, at its end."""
        return describe_file(self.path, self.change, self.size, self.shown, is_text=self.is_text)

    @property
    def hidden(self) -> bool:
        """Return True if the answer does not show all of the change."""
        return is_hidden(self.size, self.shown, is_text=self.is_text)


class ProposalDetail(Proposal):
    """A proposal with all that a decision needs. `diff` is cut at 64 KiB, `diff_bytes` is its full size.

    `files` are all changed files, also those that the diff has no room for. `settings` are the changes of agent.toml in
    words, `closure_changes` those of what it was built to. For want of `missing_fetches` the build failed;
    `allowed_fetches` are those that an operator has allowed for it. The files of a proposal that was `pruned` are gone.
    """

    settings: list[str]
    closure_changes: list[str]
    missing_fetches: list[NetworkFetch]
    allowed_fetches: AllowedFetches | None
    files: list[ChangedFile] = Field(default_factory=list)
    diff: str
    diff_bytes: int
    pruned: bool = False


class FileDiffQuery(Query):
    """The comparison of one file: `context` unchanged lines around each change, and white space that counts or not."""

    context: Annotated[int, Field(ge=0, le=1_000_000)] = 3
    whitespace: Literal["compared", "ignored"] = "compared"


class FileDiff(Answer):
    """The diff of one file of a proposal, whose commit is `commit`. `diff` is cut at 2 MiB, `diff_bytes` is its full
    size. Where white space is ignored and nothing else differs, it is empty.
    """

    path: str
    commit: str
    diff: str
    diff_bytes: int


class ProposalsQuery(Query):
    """Proposals, the newest first: those of one agent or all, still open, ended or both."""

    agent: str | None = None
    state: Literal["open", "ended", "all"] = "open"
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class ProposalQuery(Query):
    """One proposal, of a configuration or of work.

    With `unlike`, wait up to `wait_seconds` until its state is another one than that.
    """

    unlike: ProposalState | None = None
    wait_seconds: WaitSeconds = 0.0


class ProposalList(Answer):
    """Proposals; `total` counts all that match the query, also those beyond the limit."""

    proposals: list[Proposal]
    total: int


class Deployment(Answer):
    """One deployment of an agent. `by` proposed it, `approved_by` agreed."""

    number: int
    kind: ProposalKind
    commit: str
    closure: str
    by: str
    approved_by: list[str]
    note: str
    deployed_at: AwareDatetime
    current: bool


class HistoryQuery(Query):
    """The page of an agent's deployments to return."""

    limit: Annotated[int, Field(ge=1, le=1_000)] = 50
    offset: Annotated[int, Field(ge=0, le=1_000_000)] = 0


class History(Answer):
    """An agent's deployments, the newest first."""

    agent: str
    deployments: list[Deployment]


class DeploymentChanges(Answer):
    """The difference between an earlier deployment and the active one, `current`, of which `diff` is cut at 512 KiB.

    `settings` are the changes of agent.toml in words.
    """

    agent: str
    number: int
    commit: str
    current: int
    current_commit: str
    settings: list[str]
    files: list[ChangedFile]
    diff: str
    diff_bytes: int


class ReindexAnswer(Answer):
    """The index after its rebuild from the tags. `changed` counts the proposals whose entries were corrected.

    `work` counts the proposals of work for all `repositories`, and `proposals` the other ones.
    """

    agents: int
    proposals: int
    repositories: int = 0
    work: int = 0
    changed: int


class PruneRequest(Request):
    """Remove the files of proposals that have ended, of one agent or of all; with `dry_run` only name them."""

    agent: str | None = None
    older_than_days: Annotated[float, Field(ge=0, le=36_500)]
    dry_run: bool = False


class PrunedAgent(Answer):
    """The proposals of an agent that were pruned, what that has freed, and what its repository takes up now.

    In a dry run these are the proposals that would be pruned, about what that would free, and what is used.
    """

    agent: str
    proposals: list[int]
    freed_bytes: int
    used_bytes: int


class PruneAnswer(Answer):
    """The result of a pruning; `limit_bytes` is the limit for each agent (`proposal_space`)."""

    agents: list[PrunedAgent]
    limit_bytes: int
    dry_run: bool


class AuditQuery(Query):
    """Rows of the audit table, the newest first; `subject` is an agent's name."""

    subject: str | None = None
    limit: Annotated[int, Field(ge=1, le=1_000)] = 100
    before: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = None


class AuditRow(Answer):
    """One entry of the audit log. `outcome` is `ok` or an error code."""

    id: int
    at: AwareDatetime
    actor: str
    action: str
    subject: str
    outcome: str
    detail: dict[str, object]
    hash: str


class AuditList(Answer):
    """Rows of the audit table, the newest first."""

    rows: list[AuditRow]


class AuditVerification(Answer):
    """The result of the check of the chain and the tags; each of `problems` is one sentence."""

    ok: bool
    rows: int
    tags: int
    problems: list[str]
