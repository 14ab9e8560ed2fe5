"""The manager's tools that ask for agents to be made, removed and changed; others decide."""

from __future__ import annotations

import tomllib
from typing import Annotated

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.tools import proposal_text
from hive_agent.tools.output import in_words
from hive_agent.tools.proposals import CommitText, ProposalNote, propose
from hive_core.protocol import AgentConfig, DestroyProposal, Proposal, SpawnProposal
from hive_core.protocol.names import MANAGER


def add_request_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the tools to `server`; its `propose_config`, which is for oneself, becomes one for any agent."""
    server.remove_tool("propose_config")

    @server.tool(structured_output=False)
    async def propose_config(
        note: ProposalNote,
        agent: Annotated[str, Field(description="The agent to be changed; empty: yourself.")] = "",
        commit: CommitText = "",
    ) -> str:
        """Propose a commit of an agent's configuration repository. The operator decides on what you propose."""
        if agent in {"", MANAGER}:
            return await propose(client, environment, note, commit)
        if not commit:
            # Git is not run in a repository that another agent can write: its settings could start programs.
            raise ToolError(f"Name the commit: the full id of one that is in {agent}'s configuration repository.")
        return await propose(client, environment, note, commit, agent)

    @server.tool(structured_output=False)
    async def request_spawn(
        name: Annotated[str, Field(description="1 to 9 characters of a-z and 0-9, a letter first.")],
        note: Annotated[str, Field(description="What the agent is for.")],
        prompt: Annotated[str, Field(description="Its role: the text of prompt.md.")] = "",
        agent_toml: Annotated[str, Field(description="The text of agent.toml; empty: the defaults.")] = "",
        agent_nix: Annotated[str, Field(description="The text of agent.nix; empty: the template.")] = "",
    ) -> str:
        """Ask for a new agent. It is built, and made once the operator has agreed."""
        try:
            settings = tomllib.loads(agent_toml)
        except tomllib.TOMLDecodeError as error:
            raise ToolError(f"agent_toml is no TOML: {error}") from None
        with in_words():
            config = AgentConfig.model_validate(settings)
            request = SpawnProposal(name=name, config=config, prompt=prompt, agent_nix=agent_nix or None, note=note)
            asked = await client.request_spawn(request)
        return _asked(asked)

    @server.tool(structured_output=False)
    async def request_destroy(
        name: Annotated[str, Field(description="The agent to remove.")],
        note: Annotated[str, Field(description="Why it is not needed any longer.")],
        purge: Annotated[bool, Field(description="Also remove its files and waiting messages, for ever.")] = False,
    ) -> str:
        """Ask for an agent to be removed. That is done once the operator has agreed."""
        with in_words():
            asked = await client.request_destroy(name, DestroyProposal(purge=purge, note=note))
        return _asked(asked)


def _asked(proposal: Proposal) -> str:
    return f"{proposal_text.line(proposal)}\nA message from `system` will tell how it ended."
