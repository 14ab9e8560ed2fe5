"""The manager's tools for proposals: look at them, decide, and go back to an earlier deployment."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.config_repository import applied_repository
from hive_agent.environment import AgentEnvironment
from hive_agent.tools import proposal_text
from hive_agent.tools.output import in_words
from hive_core.protocol import (
    ApproveRequest,
    CommitId,
    DenyRequest,
    HistoryQuery,
    Proposal,
    ProposalQuery,
    ProposalsQuery,
    ProposalState,
    RebuildRequest,
    RollbackRequest,
)

Agent = Annotated[str, Field(description="The agent that is to change.")]
Number = Annotated[int, Field(ge=0, description="The proposal's number: 3 of ada/3.")]
Expected = Annotated[
    ProposalState, Field(description="The state in which you saw it; the decision is refused if it is another by now.")
]
Commit = Annotated[
    CommitId | None, Field(description="The full id of the commit that you saw; refused if it is about another by now.")
]
Reason = Annotated[str, Field(min_length=1, max_length=10_000)]
_LISTED = 50


def add_review_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the tools to `server`."""

    @server.tool(structured_output=False)
    async def list_proposals(
        agent: Annotated[str, Field(description="Only this agent's; empty: all.")] = "",
        state: Annotated[Literal["open", "ended", "all"], Field(description="Which.")] = "open",
        offset: Annotated[int, Field(ge=0, le=1_000_000, description="How many to pass over.")] = 0,
    ) -> str:
        """List proposals of all agents, the newest first: who wants what changed, and whose decision is missing."""
        with in_words():
            query = ProposalsQuery(agent=agent or None, state=state, limit=_LISTED, offset=offset)
            found = await client.proposals(query)
        return proposal_text.listing(found.proposals, found.total, offset)

    @server.tool(structured_output=False)
    async def show_proposal(agent: Agent, number: Number) -> str:
        """Show a proposal: note, result of the build, changes of settings in words, diff. Read it before you decide."""
        with in_words():
            proposal = await client.proposal(agent, number, ProposalQuery())
        return proposal_text.detail(proposal, _whole_diff(environment, proposal))

    @server.tool(structured_output=False)
    async def approve(
        agent: Agent,
        number: Number,
        note: Annotated[str, Field(max_length=10_000, description="What you have looked at; kept for ever.")] = "",
        expect: Expected = "built",
        commit: Commit = None,
    ) -> str:
        """Approve a proposal that you have read and can explain. It is deployed at once."""
        return await _told(client.approve(agent, number, ApproveRequest(expect=expect, commit=commit, note=note)))

    @server.tool(structured_output=False)
    async def deny(
        agent: Agent,
        number: Number,
        note: Annotated[
            Reason, Field(description="What is wrong, and what would be acceptable; the proposer reads it.")
        ],
        expect: Expected = "built",
        commit: Commit = None,
    ) -> str:
        """Deny a proposal. It ends there; a better one is a new one."""
        return await _told(client.deny(agent, number, DenyRequest(expect=expect, commit=commit, note=note)))

    @server.tool(structured_output=False)
    async def rollback(
        agent: Agent,
        note: Annotated[Reason, Field(description="Why; kept for ever.")],
        number: Annotated[
            int | None, Field(ge=0, description="The deployment to go back to; none: the one before the present.")
        ] = None,
    ) -> str:
        """Deploy an earlier deployment of an agent again, as it was built then."""
        with in_words():
            # The number is found here: the request may be repeated, and must not go back twice.
            to = await _before(client, agent) if number is None else number
            made = await client.rollback(agent, RollbackRequest(number=to, note=note))
        return f"Going back to deployment {to} of {agent}.\n{proposal_text.line(made)}"

    @server.tool(structured_output=False)
    async def rebuild(
        agent: Agent,
        note: Annotated[str, Field(max_length=10_000, description="Why; kept for ever.")] = "",
    ) -> str:
        """Build what an agent runs on anew with the hyperhive of now, and deploy that. Its configuration stays."""
        return await _told(client.rebuild(agent, RebuildRequest(note=note)))


async def _told(asked: Awaitable[Proposal]) -> str:
    """What became of a proposal with that, in one line."""
    with in_words():
        decided = await asked
    return proposal_text.line(decided)


def _whole_diff(environment: AgentEnvironment, proposal: Proposal) -> str:
    """The command that shows a whole diff; empty where the applied repositories cannot be read."""
    repository = applied_repository(environment, proposal.agent)
    if repository is None:
        return ""
    span = f"{proposal.base} {proposal.commit}" if proposal.base is not None else proposal.commit
    command = "diff" if proposal.base is not None else "show"
    return f"git -C {repository} {command} --text --no-ext-diff --no-textconv {span}"


async def _before(client: CoreClient, agent: str) -> int:
    """The number of the deployment before the present one."""
    deployments = (await client.history(agent, HistoryQuery(limit=2))).deployments
    if len(deployments) < 2:
        raise ToolError(f"{agent} has no earlier deployment to go back to.")
    return deployments[1].number
