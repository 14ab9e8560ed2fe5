"""The data of a tag of work, and its text form; see `hive_core.gate.records.tag_message`, whose form is the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated

from pydantic import Field, Strict

from hive_core.gate.policy import Principal
from hive_core.gate.records.block import TagBlock
from hive_core.gate.records.states import State, tag_name
from hive_core.text import Quoted, join_list, last_lines, one_line

PUBLISHED = "published"
"""The tag `published/N` is no state: landed work was pushed, or its pull request opened."""

_Text = Annotated[str, Strict()]
_Count = Annotated[int, Strict(), Field(ge=0, lt=2**63)]
_Commit = Annotated[_Text, Field(pattern="^[0-9a-f]{40}$")]


@dataclass(frozen=True)
class WorkFields:
    """The fields of a proposal that both a tag and the index have; most are as in `ProposalFields`.

    `branch` is the branch of the repository and `base` the commit of it that the work begins at. `landed` is the commit
    that the branch was moved to. `link` is where the work was published.
    """

    repo: Annotated[_Text, Field(pattern="^[a-z]([a-z0-9-]{0,30}[a-z0-9])?$")]
    number: _Count
    state: State
    by: _Text
    title: _Text
    branch: _Text
    base: _Commit
    description: _Text = ""
    waits_for: _Text | None = None
    approvals: list[_Text] = field(default_factory=list)
    outcome: _Text = ""
    landed: _Commit | None = None
    link: _Text = ""
    expires_at: _Count | None = None


@dataclass(frozen=True)
class WorkTag(WorkFields):
    """The data of a tag: all fields of the proposal, and what the index does not have.

    `checks` is a line for each check that ran, `log_tail` the end of their log. `pruned` is the commit that the tag was
    on, whose files were removed since. `size` are the bytes that its import has taken on the disk; only the first tag
    of a proposal has it.
    """

    checks: list[_Text] = field(default_factory=list)
    log_tail: _Text = ""
    pruned: _Commit | None = None
    size: _Count = 0


@dataclass(frozen=True)
class WorkChange:
    """A tag to be written: its data, commit and party. `marker` replaces the state in the name."""

    data: WorkTag
    commit: str
    by: Principal
    marker: str = ""

    @property
    def tag(self) -> str:
        """The name of the tag."""
        return tag_name(self.marker or self.data.state, self.data.number)


@dataclass(frozen=True)
class QuotedWork:
    """The data of a tag as the templates of texts get it: the texts of agents are `Quoted`."""

    repo: str
    number: int
    state: State
    by: str
    branch: str
    base: str
    waits_for: str | None
    approvals: Sequence[str]
    landed: str | None
    title: Quoted
    description: Quoted
    outcome: Quoted
    link: Quoted
    checks: Sequence[Quoted]
    log_tail: Quoted

    @property
    def name(self) -> str:
        """The proposal as people name it, such as `web/3`."""
        return f"{self.repo}/{self.number}"


def quote_work(data: WorkTag) -> QuotedWork:
    """Return the data of a tag with its texts quoted."""
    return QuotedWork(
        repo=data.repo,
        number=data.number,
        state=data.state,
        by=data.by,
        branch=data.branch,
        base=data.base,
        waits_for=data.waits_for,
        approvals=data.approvals,
        landed=data.landed,
        title=Quoted(data.title),
        description=Quoted(data.description),
        outcome=Quoted(data.outcome),
        link=Quoted(data.link),
        checks=[Quoted(line) for line in data.checks],
        log_tail=Quoted(data.log_tail),
    )


_SUBJECT = 100
_SHOWN_TEXT = 10_000
_SHOWN_LOG = 8_000
_KEPT_LOG = 20_000
_LINES = 50
_WIDTH = 300
_PARTY = 60

_BLOCK = TagBlock(
    WorkTag,
    {
        "Repository": "repo",
        "Number": "number",
        "State": "state",
        "By": "by",
        "Title": "title",
        "Branch": "branch",
        "Base": "base",
        "Landed": "landed",
        "Pruned": "pruned",
        "Size": "size",
        "Description": "description",
        "Waits-For": "waits_for",
        "Approvals": "approvals",
        "Outcome": "outcome",
        "Checks": "checks",
        "Log-Tail": "log_tail",
        "Link": "link",
        "Expires-At": "expires_at",
    },
    always=frozenset({"repo", "number", "state", "by", "title", "branch", "base"}),
    plain=frozenset({"repo", "state", "base", "landed", "pruned"}),
)


def format_message(change: WorkChange) -> str:
    """Return the message of a tag. The log and the lines of checks are cut, so that it is not too long for git."""
    data = replace(
        change.data,
        checks=[line[:_WIDTH] for line in change.data.checks[:_LINES]],
        log_tail=last_lines(change.data.log_tail, _KEPT_LOG),
    )
    word = change.marker or data.state.value
    work = quote_work(data)
    subject = one_line(f"{word}: {work.name} by {one_line(change.by.label, _PARTY)}", _SUBJECT)
    return "\n\n".join([subject, *_body(work), _BLOCK.format(data)]) + "\n"


def parse_message(message: str) -> WorkTag:
    """Return the data of a message. Raises ValueError for a message that `format_message` does not write."""
    body, data = _BLOCK.parse(message)
    if re.match(rf"[a-z]+: {data.repo}/{data.number}(?![0-9])", body) is None:
        raise ValueError(f"the message of a tag of {data.repo}/{data.number} is not in the form in which it is written")
    return data


def mark_pruned(message: str, commit: str) -> str:
    """Return the message of a tag on `commit` with a line in its block that says that its files were removed.

    Raises ValueError as `parse_message` does.
    """
    data = replace(parse_message(message), pruned=commit)
    body, _, _ = message.removesuffix("\n").rpartition("\n\n")
    return f"{body}\n\n{_BLOCK.format(data)}\n"


def _body(work: QuotedWork) -> list[str]:
    submitted = f"{one_line(work.by, _PARTY)} submitted, for the branch {one_line(work.branch, _WIDTH)}:"
    parts = [f"{submitted}\n{work.title.block(_WIDTH)}"]
    if work.description:
        parts.append(f"In the words of who submitted it:\n{work.description.block(_SHOWN_TEXT)}")
    if work.outcome:
        parts.append(f"The reason or remark with this state:\n{work.outcome.block(_SHOWN_TEXT)}")
    if work.approvals:
        parts.append(f"Approved so far:\n{join_list(work.approvals, _LINES, _WIDTH)}")
    if work.checks:
        parts.append(f"Checks:\n{join_list(work.checks, _LINES, _WIDTH)}")
    if work.log_tail:
        parts.append(f"The end of the checks' log:\n{work.log_tail.end(_SHOWN_LOG).block(_SHOWN_LOG)}")
    return parts
