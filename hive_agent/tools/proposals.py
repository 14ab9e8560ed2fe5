"""An agent's tools for changing itself: propose a commit of its configuration, follow it, take it back."""

from __future__ import annotations

from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.config_repository import ConfigRepository, GitFailed
from hive_agent.environment import AgentEnvironment
from hive_agent.tools import proposal_text
from hive_agent.tools.output import in_words
from hive_core.protocol import ProposalQuery, ProposalsQuery, ProposeRequest, WithdrawRequest

View = Annotated[Literal["open", "ended", "all"], Field(description="Open ones, ended ones, or both.")]
CommitText = Annotated[str, Field(description="The full id of the commit (40 characters); empty: the one checked out.")]
ProposalNote = Annotated[str, Field(description="What changes and why; whoever decides reads it.")]
_LISTED = 50
_NAMED_FILES = 5


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
        offset: Annotated[int, Field(ge=0, le=1_000_000, description="How many to pass over.")] = 0,
    ) -> str:
        """List the proposed changes of your configuration, the newest first, or show one of them in full."""
        with in_words():
            me = (await client.whoami()).name
            if number is not None:
                return proposal_text.detail(await client.proposal(me, number, ProposalQuery()))
            found = await client.proposals(ProposalsQuery(agent=me, state=state, limit=_LISTED, offset=offset))
        return proposal_text.listing(found.proposals, found.total, offset)

    @server.tool(structured_output=False)
    async def withdraw(
        number: Annotated[int, Field(ge=0, description="The proposal's number.")],
        note: Annotated[str, Field(max_length=10_000, description="Why.")] = "",
    ) -> str:
        """Take a proposal of yours back. What is approved already cannot be taken back."""
        with in_words():
            me = (await client.whoami()).name
            withdrawn = await client.withdraw(me, number, WithdrawRequest(note=note))
        return proposal_text.line(withdrawn)


async def propose(
    client: CoreClient, environment: AgentEnvironment, note: str, commit: str, agent: str | None = None
) -> str:
    """Propose `commit`, or the one checked out in one's own configuration; what happens next, in words.

    Raises ToolError with what to do.
    """
    left_out: list[str] = []
    with in_words():
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
        "message from `system` will tell how it ended. End your turn instead of waiting for it."
    )
    if left_out:
        names = ", ".join(item[3:] for item in left_out[:_NAMED_FILES])
        more = f" and {len(left_out) - _NAMED_FILES} more" if len(left_out) > _NAMED_FILES else ""
        text += f"\nNot committed, and so not part of it: {proposal_text.visible(names)}{more}."
    return text
