"""The manager's tools: lifecycle, review, requests."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable
from functools import partial
from typing import Annotated, Literal

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field

from hive_agent.client.core_client import CoreClient
from hive_agent.environment import AgentEnvironment
from hive_agent.repositories.configuration import applied_repository
from hive_agent.tools import network, proposals, work
from hive_agent.tools.output import Lines, Skip, as_tool_errors, read_log
from hive_agent.tools.proposals import CommitText, ProposalNote, propose
from hive_core.protocol import (
    AgentConfig,
    ApproveHost,
    ApproveRequest,
    CommitId,
    DenyHost,
    DenyRequest,
    DestroyProposal,
    HistoryQuery,
    Proposal,
    ProposalQuery,
    ProposalsQuery,
    ProposalState,
    RebuildRequest,
    RollbackRequest,
    SpawnProposal,
)
from hive_core.protocol.names import MANAGER, NAME_RULE
from hive_core.text import printable_line

RequestNumber = Annotated[int, Field(ge=1, description="The number of the request; see list_network_requests.")]
AgentName = Annotated[str, Field(description="The agent's name; see list_agents.")]


def add_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the manager's tools to `server`."""
    add_review_tools(server, client, environment)
    add_request_tools(server, client, environment)
    _add_lifecycle_tools(server, client)
    _add_work_tools(server, client)
    _add_network_tools(server, client)


def _add_network_tools(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def approve_network(
        number: RequestNumber,
        note: Annotated[str, Field(max_length=2_000, description="What the agent is told.")] = "",
        hours: Annotated[
            float | None, Field(gt=0, le=720, description="For so long; left out: as long as it asks.")
        ] = None,
    ) -> str:
        """Approve an agent's request to reach a host, to which it can then send all that it knows."""
        with as_tool_errors():
            decided = await client.approve_host(number, ApproveHost(hours=hours, note=note))
        return network.request_line(decided)

    @server.tool(structured_output=False)
    async def deny_network(
        number: RequestNumber,
        note: Annotated[str, Field(min_length=1, max_length=2_000, description="Why; the agent reads it.")],
    ) -> str:
        """Deny an agent's request to reach a host."""
        with as_tool_errors():
            decided = await client.deny_host(number, DenyHost(note=note))
        return network.request_line(decided)


def _add_work_tools(server: MCPServer[None], client: CoreClient) -> None:
    @server.tool(structured_output=False)
    async def list_work(
        repo: Annotated[str, Field(description="Only for this repository; empty: all.")] = "",
        state: work.View = "open",
        offset: work.Offset = 0,
    ) -> str:
        """List the work of all agents for repositories, the newest first, with state and pending decision."""
        return await work.list_work(client, repo, state, offset)


def _add_lifecycle_tools(server: MCPServer[None], client: CoreClient) -> None:
    async def change(name: str, action: Literal["start", "stop", "restart"]) -> str:
        with as_tool_errors():
            status = await client.change_agent(name, action)
        waiting = f", {status.unacked} messages wait for it" if status.unacked else ""
        ended = status.exit_cause if status.lifecycle in ("backoff", "failed") else ""
        why = f" (the last run ended with: {printable_line(ended, 200)}; see agent_logs)" if ended else ""
        return f"{status.name} is {status.lifecycle}{why}{waiting}."

    @server.tool(structured_output=False)
    async def start(name: AgentName) -> str:
        """Start an agent that is stopped."""
        return await change(name, "start")

    @server.tool(structured_output=False)
    async def stop(name: AgentName) -> str:
        """Stop an agent. Its turn is interrupted; its messages wait until it is started again."""
        return await change(name, "stop")

    @server.tool(structured_output=False)
    async def restart(name: AgentName) -> str:
        """Stop an agent and start it again. The messages of an interrupted turn are delivered again."""
        return await change(name, "restart")

    @server.tool(structured_output=False)
    async def agent_logs(name: AgentName, lines: Lines = 100, skip: Skip = 0) -> str:
        """Read the end of an agent's log: its turns, and the reasons of failures."""
        return await read_log(partial(client.agent_logs, name), name, lines, skip)


Agent = Annotated[str, Field(description="The agent of the proposal or deployment.")]
Number = Annotated[int, Field(ge=0, description="The proposal's number: 3 of ada/3.")]
Expected = Annotated[
    ProposalState, Field(description="The state that you saw; the decision is refused if it has changed.")
]
Commit = Annotated[
    CommitId | None, Field(description="The full id of the commit that you read; the decision is refused for another.")
]
Reason = Annotated[str, Field(min_length=1, max_length=10_000)]
_LISTED = 50


def add_review_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the tools for proposals and deployments to `server`."""

    @server.tool(structured_output=False)
    async def list_proposals(
        agent: Annotated[str, Field(description="Only this agent's; empty: all.")] = "",
        state: Annotated[
            Literal["open", "ended", "all"], Field(description="Open proposals, ended ones, or both.")
        ] = "open",
        offset: Annotated[int, Field(ge=0, le=1_000_000, description="Number of proposals to skip.")] = 0,
    ) -> str:
        """List the proposals of all agents, the newest first, with proposer, state and pending decision."""
        with as_tool_errors():
            query = ProposalsQuery(agent=agent or None, state=state, limit=_LISTED, offset=offset)
            found = await client.proposals(query)
        return proposals.proposal_listing(found.proposals, found.total, offset)

    @server.tool(structured_output=False)
    async def show_proposal(agent: Agent, number: Number) -> str:
        """Show a proposal: note, result of the build, changed settings, diff. Read it before you decide."""
        with as_tool_errors():
            proposal = await client.proposal(agent, number, ProposalQuery())
        return proposals.proposal_detail(proposal, _whole_diff(environment, proposal))

    @server.tool(structured_output=False)
    async def approve(
        agent: Agent,
        number: Number,
        note: Annotated[str, Field(max_length=10_000, description="Checked parts; stored permanently.")] = "",
        expect: Expected = "built",
        commit: Commit = None,
    ) -> str:
        """Approve a proposal that you have read and can explain. It is deployed at once."""
        return await _send_request(
            client.approve(agent, number, ApproveRequest(expect=expect, commit=commit, note=note))
        )

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
        """Deny a proposal, which ends it; an improved version is a new proposal."""
        return await _send_request(client.deny(agent, number, DenyRequest(expect=expect, commit=commit, note=note)))

    @server.tool(structured_output=False)
    async def rollback(
        agent: Agent,
        note: Annotated[Reason, Field(description="The reason; stored permanently.")],
        number: Annotated[
            int | None, Field(ge=0, description="The deployment to return to; left out: the previous one.")
        ] = None,
    ) -> str:
        """Deploy an earlier deployment of an agent again, as it was built then."""
        with as_tool_errors():
            # The number is determined here, because the request may be repeated, and must not roll back twice.
            to = await _previous_deployment(client, agent) if number is None else number
            made = await client.rollback(agent, RollbackRequest(number=to, note=note))
        return f"Going back to deployment {to} of {agent}.\n{proposals.proposal_line(made)}"

    @server.tool(structured_output=False)
    async def rebuild(
        agent: Agent,
        note: Annotated[str, Field(max_length=10_000, description="The reason; stored permanently.")] = "",
    ) -> str:
        """Rebuild an agent's active configuration with the current hyperhive, and deploy the result."""
        return await _send_request(client.rebuild(agent, RebuildRequest(note=note)))


async def _send_request(request: Awaitable[Proposal]) -> str:
    """Send a request; returns the changed proposal in one line."""
    with as_tool_errors():
        decided = await request
    return proposals.proposal_line(decided)


def _whole_diff(environment: AgentEnvironment, proposal: Proposal) -> str:
    """The command that shows a whole diff; empty where the applied repositories cannot be read."""
    repository = applied_repository(environment, proposal.agent)
    if repository is None:
        return ""
    span = f"{proposal.base} {proposal.commit}" if proposal.base is not None else proposal.commit
    command = "diff" if proposal.base is not None else "show"
    return f"git -C {repository} {command} --text --no-ext-diff --no-textconv {span}"


async def _previous_deployment(client: CoreClient, agent: str) -> int:
    """The number of the deployment before the active one."""
    deployments = (await client.history(agent, HistoryQuery(limit=2))).deployments
    if len(deployments) < 2:
        raise ToolError(f"{agent} has no earlier deployment.")
    return deployments[1].number


def add_request_tools(server: MCPServer[None], client: CoreClient, environment: AgentEnvironment) -> None:
    """Add the request tools to `server`; `propose_config` is replaced by a version for any agent."""
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
            # Git is not run in a repository that another agent can write, as its settings could start programs.
            raise ToolError(f"Name the commit: the full id of one that is in {agent}'s configuration repository.")
        return await propose(client, environment, note, commit, agent)

    @server.tool(structured_output=False)
    async def request_spawn(
        name: Annotated[str, Field(description=f"{NAME_RULE}.")],
        note: Annotated[str, Field(description="What the agent is for.")],
        prompt: Annotated[str, Field(description="Its role: the text of prompt.md.")] = "",
        agent_toml: Annotated[str, Field(description="The text of agent.toml; empty: the defaults.")] = "",
        agent_nix: Annotated[str, Field(description="The text of agent.nix; empty: the template.")] = "",
    ) -> str:
        """Request a new agent. It is built now, and created when the operator approves."""
        try:
            settings = tomllib.loads(agent_toml)
        except tomllib.TOMLDecodeError as error:
            raise ToolError(f"agent_toml is not valid TOML: {error}") from None
        with as_tool_errors():
            config = AgentConfig.model_validate(settings)
            request = SpawnProposal(name=name, config=config, prompt=prompt, agent_nix=agent_nix or None, note=note)
            asked = await client.request_spawn(request)
        return _asked(asked)

    @server.tool(structured_output=False)
    async def request_destroy(
        name: Annotated[str, Field(description="The agent to remove.")],
        note: Annotated[str, Field(description="Why it is not needed any longer.")],
        purge: Annotated[bool, Field(description="Also delete its files and waiting messages permanently.")] = False,
    ) -> str:
        """Request the removal of an agent. It is removed when the operator approves."""
        with as_tool_errors():
            asked = await client.request_destroy(name, DestroyProposal(purge=purge, note=note))
        return _asked(asked)


def _asked(proposal: Proposal) -> str:
    return f"{proposals.proposal_line(proposal)}\nA message from `system` will report the outcome."
