"""The tools `propose_config`, `my_proposals` and `withdraw`, and proposals as text."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.infra.json_text import truncate
from hive_agent.repositories.configuration import ConfigRepository
from hive_agent.repositories.git_command import GitFailed
from hive_agent.tools.output import LONGEST_OUTPUT, as_tool_errors, framed
from hive_core.protocol import (
    NetworkFetch,
    Proposal,
    ProposalDetail,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    WithdrawRequest,
)
from hive_core.text import Quoted, escape_unprintable

View = Annotated[Literal["open", "ended", "all"], Field(description="Open ones, ended ones, or both.")]
CommitText = Annotated[str, Field(description="The full id of the commit (40 characters); empty: the one checked out.")]
ProposalNote = Annotated[str, Field(description="Changes and reasons, for the party that decides.")]
_LISTED_PROPOSALS = 50
_NAMED_FILES = 5
_NAMES_CHARACTERS = 2_000


def add_proposal_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the tools that every agent has."""

    @server.tool(structured_output=False)
    async def propose_config(note: ProposalNote, commit: CommitText = "") -> str:
        """Propose a commit of your configuration (the git repository of agent.toml, prompt.md and agent.nix)."""
        return await propose(client, environment, note, commit)

    @server.tool(structured_output=False)
    async def my_proposals(
        state: View = "open",
        number: Annotated[int | None, Field(ge=0, description="Show only this one, in full.")] = None,
        offset: Annotated[int, Field(ge=0, le=1_000_000, description="Number of proposals to skip.")] = 0,
    ) -> str:
        """List the proposed changes of your configuration, the newest first, or show one of them in full."""
        with as_tool_errors():
            me = (await client.whoami()).name
            if number is not None:
                return proposal_detail(await client.proposal(me, number, ProposalQuery()))
            found = await client.proposals(
                ProposalsQuery(agent=me, state=state, limit=_LISTED_PROPOSALS, offset=offset)
            )
        return proposal_listing(found.proposals, found.total, offset)

    @server.tool(structured_output=False)
    async def withdraw(
        number: Annotated[int, Field(ge=0, description="The proposal's number.")],
        note: Annotated[str, Field(max_length=10_000, description="Why.")] = "",
    ) -> str:
        """Withdraw one of your proposals, unless it is approved already."""
        with as_tool_errors():
            me = (await client.whoami()).name
            withdrawn = await client.withdraw(me, number, WithdrawRequest(note=note))
        return proposal_line(withdrawn)


async def propose(
    client: CoreClient, environment: AgentEnvironment, note: str, commit: str, agent: str | None = None
) -> str:
    """Propose `commit`, or the one checked out in the agent's own configuration; returns the tool's result.

    Raises ToolError.
    """
    left_out: list[str] = []
    with as_tool_errors():
        if not commit:
            me = (await client.whoami()).name
            repository = ConfigRepository(environment.config, me, environment.variables)
            try:
                commit = await repository.head()
                left_out = await repository.uncommitted()
            except GitFailed as error:
                raise ToolError(str(error)) from None
        proposal = await client.propose(ProposeRequest(commit=commit, note=note, agent=agent))
    text = (
        f"Proposed {proposal.commit} as {proposal.agent}/{proposal.number}. It is built now, then decided on; a "
        "message from `system` will report the outcome. End your turn instead of waiting for it."
    )
    if left_out:
        names = ", ".join(item[3:] for item in left_out[:_NAMED_FILES])
        more = f" (these and {len(left_out) - _NAMED_FILES} more)" if len(left_out) > _NAMED_FILES else ""
        text += (
            f"\nNot committed, and therefore not part of the proposal{more}:\n{Quoted(names).block(_NAMES_CHARACTERS)}"
        )
    return text


_LINE_CHARACTERS = 200
_FETCH_CHARACTERS = 1_000
_NOTE_CHARACTERS = 4_000
_LISTED_FILES = 100
_FILE_CHARACTERS = 150
_LISTED_LINES = 200
"""Most changes of settings or of the closure that are shown; an agent can make any number."""


def proposal_line(proposal: Proposal) -> str:
    """A proposal in one line, and the first line of its outcome or note quoted in a second one."""
    facts = f"{proposal.agent}/{proposal.number} {proposal.kind} by {proposal.by}: {_state(proposal)}"
    first = Quoted(escape_unprintable(proposal.outcome or proposal.note)).line(_LINE_CHARACTERS)
    return f"{facts}; the {'reason' if proposal.outcome else 'note'}:\n> {first}"


def proposal_listing(proposals: Iterable[Proposal], total: int, offset: int = 0) -> str:
    """A line for each proposal, truncated to the length of a result; the first `offset` of all were skipped."""
    lines = []
    size = 0
    for proposal in proposals:
        lines.append(proposal_line(proposal))
        size += len(lines[-1]) + 1
        if size > LONGEST_OUTPUT:
            lines.pop()
            break
    if not lines:
        return "No proposals."
    shown = offset + len(lines)
    rest = f"; for more: offset={shown}" if shown < total else ""
    return "\n".join(lines) + (f"\n[{len(lines)} of {total} are shown{rest}]" if total > len(lines) else "")


def proposal_detail(proposal: ProposalDetail, whole_diff: str = "") -> str:
    """A proposal with everything that a decision needs. `whole_diff` is a command that shows a diff truncated here.

    Texts of the proposer stand between lines with a random mark, with invisible characters escaped, as these could
    reorder the text.
    """
    facts = [f"{proposal.agent}/{proposal.number}: {proposal.kind}, {_state(proposal)}", f"proposed by: {proposal.by}"]
    facts.append(f"commit: {proposal.commit}")
    facts.append(f"instead of: {proposal.base or 'nothing, it is new'}")
    facts.append(f"built to: {escape_unprintable(proposal.closure or 'not built yet')}")
    if proposal.approvals:
        facts.append(f"approved by: {', '.join(proposal.approvals)}")
    if proposal.expires_at is not None:
        facts.append(f"expires: {proposal.expires_at:%Y-%m-%d %H:%M:%S} UTC")
    facts += _fetch_facts(proposal)
    written = {
        "note": _visible_beginning(proposal.note),
        "changes of settings in agent.toml": _joined(proposal.settings),
        "changes of the closure": _joined(proposal.closure_changes),
        "fetches that it failed for": _fetch_lines(proposal.missing_fetches),
        "fetches that are allowed": _fetch_lines(proposal.allowed_fetches.fetches if proposal.allowed_fetches else []),
    }
    if proposal.outcome:
        written["reason for the outcome"] = _visible_beginning(proposal.outcome)
    mark = secrets.token_hex(8)
    parts = [
        "\n".join(facts),
        *_files(proposal, mark),
        *(framed(mark, title, text) for title, text in written.items() if text),
    ]
    left = max(1_000, LONGEST_OUTPUT - sum(len(part) for part in parts) - 1_000)
    parts.append(_diff(proposal, mark, left, whole_diff))
    return "\n\n".join(parts)


def _fetch_facts(proposal: ProposalDetail) -> list[str]:
    name, permission = f"{proposal.agent}/{proposal.number}", proposal.allowed_fetches
    facts = []
    if missing := proposal.missing_fetches:
        how = f"hive-c0re proposals allow-fetches {name}"
        facts.append(f"failed for fetches from the network: {_by_party(missing)}")
        facts.append(f"only the operator can allow these, exactly these, and have it built again: {how}")
    if permission is not None:
        since = f"{proposal.agent}/{permission.failed}"
        facts.append(f"{permission.by} allowed fetches that {since} had failed for: {_by_party(permission.fetches)}")
    return facts


def _by_party(fetches: list[NetworkFetch]) -> str:
    by_nix = sum(fetch.by_nix for fetch in fetches)
    programs = len(fetches) - by_nix
    words = [f"{by_nix} by Nix itself, from the URLs and from where they redirect to"] if by_nix else []
    if programs:
        words.append(f"{programs} by a program of the configuration with network, WHICH MAY CONTACT ANY HOST")
    return "; ".join(words)


def _fetch_lines(fetches: list[NetworkFetch]) -> str:
    return _joined(
        [
            " ".join(
                [fetch.name, *fetch.urls, fetch.hash, fetch.derivation, *([] if fetch.by_nix else [fetch.program])]
            )
            for fetch in fetches
        ],
        _FETCH_CHARACTERS,
    )


def _files(proposal: ProposalDetail, mark: str) -> list[str]:
    """The list of changed files, before everything else that the proposer could make long."""
    if not proposal.files:
        return []
    title = f"changed files: {len(proposal.files)}"
    lines = [escape_unprintable(file.describe()) for file in proposal.files]
    shown = [
        line[:_FILE_CHARACTERS] + ("..." if len(line) > _FILE_CHARACTERS else "") for line in lines[:_LISTED_FILES]
    ]
    text = framed(mark, title, "\n".join(shown))
    if len(lines) > _LISTED_FILES:
        text += f"\n\n{len(lines) - _LISTED_FILES} MORE FILES CHANGE than are listed."
    hidden = sum(file.hidden for file in proposal.files)
    if hidden:
        text += f"\n\nOf {hidden} files the diff below does not show all. What you have not read is a reason to deny."
    return [text]


def _diff(proposal: ProposalDetail, mark: str, most: int, whole_diff: str) -> str:
    shown = escape_unprintable(proposal.diff)[:most]
    title = f"diff, {proposal.diff_bytes} bytes"
    warning = ""
    is_cut = len(proposal.diff.encode()) < proposal.diff_bytes or any(file.shown < file.size for file in proposal.files)
    if is_cut or len(shown) < len(escape_unprintable(proposal.diff)):
        title += f", ONLY THE FIRST {len(shown)} CHARACTERS ARE HERE"
        warning = f"\n\nThe diff is cut. To see all of it: {whole_diff}" if whole_diff else "\n\nThe diff is cut."
    return framed(mark, title, shown or "(no file differs)") + warning


def _state(proposal: Proposal) -> str:
    waits = f", waits for the {proposal.waits_for}'s decision" if proposal.waits_for is not None else ""
    return f"{proposal.state}{waits}"


def _joined(lines: list[str], width: int = _LINE_CHARACTERS) -> str:
    shown = "\n".join(escape_unprintable(item)[:width] for item in lines[:_LISTED_LINES])
    return _visible_beginning(shown) + (f"\n[{_LISTED_LINES} of {len(lines)}]" if len(lines) > _LISTED_LINES else "")


def _visible_beginning(text: str) -> str:
    return truncate(escape_unprintable(text), _NOTE_CHARACTERS)
