"""The tools for work: commits that are submitted for a repository, and their review."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Iterable
from typing import Annotated, Literal

from mcp.server import MCPServer
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.infra.json_text import truncate
from hive_agent.tools.output import LONGEST_OUTPUT, as_tool_errors, framed
from hive_core.protocol import (
    ApproveWork,
    CommentOnWork,
    CommitId,
    DenyWork,
    ProposalQuery,
    ProposalState,
    SubmitWork,
    WithdrawWork,
    WorkComment,
    WorkDetail,
    WorkProposal,
    WorksQuery,
)
from hive_core.text import Quoted, escape_unprintable

_LISTED = 50
_LINE_CHARACTERS = 200
_TEXT_CHARACTERS = 4_000
_LISTED_FILES = 100
_LISTED_LINES = 50
_FILE_CHARACTERS = 150

Repo = Annotated[str, Field(description="The repository: web of web/3.")]
Number = Annotated[int, Field(ge=0, description="The number: 3 of web/3.")]
Expected = Annotated[
    ProposalState, Field(description="The state that you saw; the decision is refused if it has changed.")
]
Commit = Annotated[
    CommitId | None, Field(description="The full id of the commit that you read; the decision is refused for another.")
]
View = Annotated[Literal["open", "ended", "all"], Field(description="Open work, ended work, or both.")]
Offset = Annotated[int, Field(ge=0, le=1_000_000, description="Number of proposals to skip.")]


def add_work_tools(server: MCPServer[None], client: CoreClient) -> None:
    """Add the tools that every agent has."""
    _add_submission(server, client)
    _add_review(server, client)

    @server.tool(structured_output=False)
    async def my_work(
        repo: Annotated[str, Field(description="Only for this repository; empty: all.")] = "",
        state: View = "open",
        offset: Offset = 0,
    ) -> str:
        """List the work that you submitted, and the work that you review, the newest first."""
        return await list_work(client, repo, state, offset)


async def list_work(client: CoreClient, repo: str, state: Literal["open", "ended", "all"], offset: int) -> str:
    """List work that the caller may see; returns the tool's result."""
    with as_tool_errors():
        found = await client.works(WorksQuery(repo=repo or None, state=state, limit=_LISTED, offset=offset))
    return work_listing(found.work, found.total, offset)


def _add_submission(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def submit_work(
        repo: Annotated[str, Field(description="The repository: the name of its directory in /code.")],
        commit: Annotated[CommitId, Field(description="The full id of the commit: git rev-parse HEAD.")],
        title: Annotated[str, Field(description="The change in one line.")],
        description: Annotated[str, Field(description="What changes and why, and how you have tested it.")] = "",
    ) -> str:
        """Submit a commit of your clone in /code. It is checked, reviewed, and landed on the repository's branch."""
        with as_tool_errors():
            made = await client.submit_work(SubmitWork(repo=repo, commit=commit, title=title, description=description))
        return (
            f"Submitted {made.commit} as {made.repo}/{made.number}. It is checked now, then reviewed; a message from "
            "`system` will report the outcome. End your turn instead of waiting for it."
        )

    @server.tool(structured_output=False)
    async def withdraw_work(
        repo: Repo,
        number: Number,
        note: Annotated[str, Field(max_length=10_000, description="Why.")] = "",
    ) -> str:
        """Withdraw work that you submitted, unless it is approved already."""
        return await _send(client.withdraw_work(repo, number, WithdrawWork(note=note)))


def _add_review(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def show_work(repo: Repo, number: Number) -> str:
        """Show work that you submitted or review: description, checks, comments, files, diff."""
        with as_tool_errors():
            found = await client.work(repo, number, ProposalQuery())
        return work_detail(found)

    @server.tool(structured_output=False)
    async def comment_on_work(
        repo: Repo,
        number: Number,
        text: Annotated[str, Field(min_length=1, max_length=10_000)],
        path: Annotated[str, Field(description="The file that it is about; empty: the whole.")] = "",
        line: Annotated[int | None, Field(ge=1, description="The line of that file.")] = None,
    ) -> str:
        """Comment on work, or on a line of it. The comment is kept, and sent to who submitted the work."""
        with as_tool_errors():
            made = await client.comment_on_work(repo, number, CommentOnWork(text=text, path=path or None, line=line))
        return f"Comment {made.id} is kept with {repo}/{number}."

    @server.tool(structured_output=False)
    async def approve_work(
        repo: Repo,
        number: Number,
        note: Annotated[str, Field(max_length=10_000, description="Checked parts; stored permanently.")] = "",
        expect: Expected = "built",
        commit: Commit = None,
    ) -> str:
        """Approve work that waits for your decision, after you have read it. It lands on the branch at once."""
        return await _send(client.approve_work(repo, number, ApproveWork(expect=expect, commit=commit, note=note)))

    @server.tool(structured_output=False)
    async def deny_work(
        repo: Repo,
        number: Number,
        note: Annotated[str, Field(min_length=1, max_length=10_000, description="What is wrong, and what to do.")],
        expect: Expected = "built",
        commit: Commit = None,
    ) -> str:
        """Deny work that waits for your decision, which ends it; an improved version is submitted anew."""
        return await _send(client.deny_work(repo, number, DenyWork(expect=expect, commit=commit, note=note)))


async def _send(request: Awaitable[WorkProposal]) -> str:
    """Send a request; returns the changed work in one line."""
    with as_tool_errors():
        changed = await request
    return work_line(changed)


def work_line(work: WorkProposal) -> str:
    """Work in one line, and its outcome or title quoted in a second one."""
    first = Quoted(escape_unprintable(work.outcome or work.title)).line(_LINE_CHARACTERS)
    what = "reason" if work.outcome else "title"
    return f"{work.repo}/{work.number} by {work.by}: {_state(work)}; the {what}:\n> {first}"


def work_listing(found: Iterable[WorkProposal], total: int, offset: int = 0) -> str:
    """A line for each proposal, as many as fit into a result; the first `offset` of all were skipped."""
    lines: list[str] = []
    size = 0
    for work in found:
        line = work_line(work)
        size += len(line) + 1
        if size > LONGEST_OUTPUT:
            break
        lines.append(line)
    if not lines:
        return "No work."
    shown = offset + len(lines)
    rest = f"; for more: offset={shown}" if shown < total else ""
    return "\n".join(lines) + (f"\n[{len(lines)} of {total} are shown{rest}]" if total > len(lines) else "")


def work_detail(work: WorkDetail) -> str:
    """Work with everything that a decision needs.

    Texts of agents stand between lines with a random mark, with invisible characters escaped.
    """
    facts = [
        f"{work.repo}/{work.number}: {_state(work)}",
        f"submitted by: {work.by}",
        f"commit: {work.commit}, which begins at {work.base} of the branch",
    ]
    if work.landed is not None:
        facts.append(f"landed as: {work.landed}")
    if work.approvals:
        facts.append(f"approved by: {', '.join(work.approvals)}")
    if not work.checks:
        facts.append("checks: none, or they have not run yet")
    written = {
        "branch": work.branch,
        "title": work.title,
        "description, whose claims nobody has checked": work.description,
        "reason or remark": work.outcome,
        "checks": _joined(work.checks),
        "published at": work.link,
        "why it is not landed or published yet": work.problem,
        f"newest of {work.commit_count} commits, with the authors that they claim": _joined(
            [f"{each.commit} {each.subject} ({each.author})" for each in work.commits]
        ),
        "comments": _joined([_comment(each) for each in work.comments], _TEXT_CHARACTERS),
    }
    mark = secrets.token_hex(8)
    parts = [
        "\n".join(facts),
        *_files(work, mark),
        *(framed(mark, title, _beginning(text)) for title, text in written.items() if text),
    ]
    left = max(1_000, LONGEST_OUTPUT - sum(len(part) for part in parts) - 1_000)
    parts.append(_diff(work, mark, left))
    return "\n\n".join(parts)


def _files(work: WorkDetail, mark: str) -> list[str]:
    """The list of changed files, before everything else that the submitter could make long."""
    if not work.files:
        return []
    lines = [truncate(escape_unprintable(file.describe()), _FILE_CHARACTERS) for file in work.files[:_LISTED_FILES]]
    text = framed(mark, f"changed files: {len(work.files)}", "\n".join(lines))
    if len(work.files) > _LISTED_FILES:
        text += f"\n\n{len(work.files) - _LISTED_FILES} MORE FILES CHANGE than are listed."
    hidden = sum(file.hidden for file in work.files)
    if hidden:
        text += f"\n\nOf {hidden} files the diff below does not show all. What you have not read is a reason to deny."
    return [text]


def _diff(work: WorkDetail, mark: str, most: int) -> str:
    whole = escape_unprintable(work.diff)
    shown = whole[:most]
    title = f"diff, {work.diff_bytes} bytes"
    is_cut = len(work.diff.encode(errors="replace")) < work.diff_bytes or len(shown) < len(whole)
    if is_cut:
        title += f", ONLY THE FIRST {len(shown)} CHARACTERS ARE HERE"
    nothing = "(its files were removed)" if work.pruned else "(no file differs)"
    return framed(mark, title, shown or nothing) + ("\n\nThe diff is cut." if is_cut else "")


def _comment(comment: WorkComment) -> str:
    line = f":{comment.line}" if comment.line is not None else ""
    place = f" on {comment.path}{line}" if comment.path is not None else ""
    return f"{comment.by}{place}: {comment.text}"


def _state(work: WorkProposal) -> str:
    words = {"built": "checked", "deployed": "landed"}
    if work.waits_for is None:
        return words.get(work.state, work.state)
    agent = work.waits_for.removeprefix("agent:")
    decider = agent if agent != work.waits_for else f"the {agent}"
    return f"{words.get(work.state, work.state)}, waits for the decision of {decider}"


def _joined(lines: list[str], width: int = _LINE_CHARACTERS) -> str:
    shown = "\n".join(escape_unprintable(item)[:width] for item in lines[:_LISTED_LINES])
    return shown + (f"\n[{_LISTED_LINES} of {len(lines)}]" if len(lines) > _LISTED_LINES else "")


def _beginning(text: str) -> str:
    return truncate(escape_unprintable(text), _TEXT_CHARACTERS)
