"""Typed calls of the daemon's API on core.sock."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

from hive_agent.client.connection import CoreConnection, CoreError
from hive_core import protocol
from hive_core.protocol import (
    AckRequest,
    Done,
    HelloRequest,
    LeaseAnswer,
    LeaseRequest,
    PeerList,
    Profile,
    Query,
    ReceiveAnswer,
    ReceiveRequest,
    SendAnswer,
    SendRequest,
    StateRequest,
    WhoAmI,
)
from hive_core.protocol.names import NAME_PATTERN, is_repository_name
from hive_core.text import shown

if TYPE_CHECKING:
    from hive_core.protocol.models.budgets import BudgetAnswer

# Names that are used as `protocol.NAME` are loaded with their first use; see hive_core.protocol.
__all__ = ["CoreClient", "CoreError"]

_INTAKE_SECONDS = 120.0
"""Time limit of the daemon for the intake of a proposal."""
_PROCESS_SECONDS = 120.0
"""Time limit of the daemon for starting or stopping an agent."""


class CoreClient(CoreConnection):
    """All calls of agents and the manager.

    Each call can safely be repeated: leases and states are set, not counted; a decision names the expected state; a
    rebuild joins one in progress. The caller must give a send an idempotency key, and a rollback a number.
    """

    async def hello(self, request: HelloRequest) -> Profile:
        return await self.post("/v1/harness/hello", request, Profile)

    async def state(self, request: StateRequest) -> None:
        await self.post("/v1/harness/state", request, Done)

    async def receive(self, request: ReceiveRequest) -> ReceiveAnswer:
        return await self.post("/v1/messages/receive", request, ReceiveAnswer, waits=request.wait_seconds)

    async def ack(self, request: AckRequest) -> list[int]:
        return (await self.post("/v1/messages/ack", request, LeaseAnswer)).ids

    async def release(self, request: LeaseRequest) -> list[int]:
        return (await self.post("/v1/messages/release", request, LeaseAnswer)).ids

    async def renew(self, request: LeaseRequest) -> list[int]:
        return (await self.post("/v1/messages/renew", request, LeaseAnswer)).ids

    async def send(self, request: SendRequest) -> SendAnswer:
        return await self.post("/v1/messages", request, SendAnswer)

    async def whoami(self) -> WhoAmI:
        return await self.call("GET", "/v1/whoami", WhoAmI)

    async def budget(self) -> BudgetAnswer:
        """Get this agent's own limits of what it spends on models, and what is left of them."""
        from hive_core.protocol.models.budgets import BudgetAnswer  # noqa: PLC0415 - only tools need it

        return await self.call("GET", "/v1/budget", BudgetAnswer)

    async def peers(self) -> PeerList:
        return await self.call("GET", "/v1/agents", PeerList)

    async def propose(self, request: protocol.ProposeRequest) -> protocol.Proposal:
        """Propose a commit; returns after the intake, before the build."""
        return await self.post("/v1/proposals", request, protocol.Proposal, waits=_INTAKE_SECONDS)

    async def proposals(self, query: protocol.ProposalsQuery) -> protocol.ProposalList:
        return await self.call("GET", "/v1/proposals", protocol.ProposalList, query=_values(query))

    async def proposal(self, agent: str, number: int, query: protocol.ProposalQuery) -> protocol.ProposalDetail:
        """Get a proposal with everything that a decision needs; waits for a change if `query` says so."""
        path = _proposal(agent, number)
        return await self.call("GET", path, protocol.ProposalDetail, query=_values(query), waits=query.wait_seconds)

    async def withdraw(self, agent: str, number: int, request: protocol.WithdrawRequest) -> protocol.Proposal:
        return await self.post(f"{_proposal(agent, number)}/withdraw", request, protocol.Proposal)

    async def ask(self, request: protocol.AskRequest) -> protocol.Question:
        """Ask the operator; the answer comes as a message."""
        return await self.post("/v1/questions", request, protocol.Question)

    async def remind(self, request: protocol.RemindRequest) -> protocol.Reminder:
        return await self.post("/v1/reminders", request, protocol.Reminder)

    async def cancel_reminder(self, number: int) -> protocol.Reminder:
        return await self.call("POST", f"/v1/reminders/{number}/cancel", protocol.Reminder)

    async def set_status(self, request: protocol.StatusRequest) -> None:
        await self.post("/v1/harness/status", request, Done)

    async def logs(self, query: protocol.LogsQuery) -> protocol.LogsAnswer:
        """Get the log of the agent's own harness."""
        return await self.call("GET", "/v1/logs", protocol.LogsAnswer, query=_values(query), waits=query.wait_seconds)

    async def open_items(self) -> protocol.OpenItems:
        """Get the open questions, reminders and proposals of this agent."""
        return await self.call("GET", "/v1/open", protocol.OpenItems)

    async def inbox(self, limit: int) -> protocol.Inbox:
        """List the messages that wait for this agent or are leased to it, without leasing any."""
        return await self.call("GET", "/v1/inbox", protocol.Inbox, query=_values(protocol.PeekQuery(limit=limit)))

    async def page_enter(self, ticket: str) -> protocol.PageSession:
        """Exchange a ticket for a session. If the answer is lost, the ticket is used up; refused: `bad_ticket`."""
        return await self.post("/v1/page/enter", protocol.PageEnterRequest(ticket=ticket), protocol.PageSession)

    async def page_check(self, session: str) -> protocol.PageSession:
        """Check a session. Raises `bad_session` if it is no longer valid."""
        return await self.post("/v1/page/check", protocol.PageCheckRequest(session=session), protocol.PageSession)

    async def page_send(self, session: str, body: str, *, key: str, reply_to: int | None = None) -> SendAnswer:
        """Send this agent a message of the operator's, as typed on its page; the same `key` sends once."""
        request = protocol.PageSendRequest(session=session, body=body, reply_to=reply_to, idempotency_key=key)
        return await self.post("/v1/page/send", request, SendAnswer)

    async def page_answer(self, session: str, question: int, text: str) -> protocol.Question:
        """Answer a question of this agent, as typed on its page. The same answer again changes nothing."""
        request = protocol.PageAnswerRequest(session=session, question=question, text=text)
        return await self.post("/v1/page/answer", request, protocol.Question)

    async def wake(self, request: protocol.WakeRequest) -> SendAnswer:
        """Send a message of this agent to itself, from a program in its container."""
        return await self.post("/v1/wake", request, SendAnswer)

    async def submit_work(self, request: protocol.SubmitWork) -> protocol.WorkProposal:
        """Submit a commit for a repository; returns after the intake, before the checks."""
        return await self.post("/v1/work", request, protocol.WorkProposal, waits=_INTAKE_SECONDS)

    async def works(self, query: protocol.WorksQuery) -> protocol.WorkList:
        """List the work that this agent may see."""
        return await self.call("GET", "/v1/work", protocol.WorkList, query=_values(query))

    async def work(self, repo: str, number: int, query: protocol.ProposalQuery) -> protocol.WorkDetail:
        """Get work with everything that a decision needs; waits for a change if `query` says so."""
        path = _work(repo, number)
        return await self.call("GET", path, protocol.WorkDetail, query=_values(query), waits=query.wait_seconds)

    async def withdraw_work(self, repo: str, number: int, request: protocol.WithdrawWork) -> protocol.WorkProposal:
        return await self.post(f"{_work(repo, number)}/withdraw", request, protocol.WorkProposal)

    async def comment_on_work(self, repo: str, number: int, request: protocol.CommentOnWork) -> protocol.WorkComment:
        return await self.post(f"{_work(repo, number)}/comments", request, protocol.WorkComment)

    async def approve_work(self, repo: str, number: int, request: protocol.ApproveWork) -> protocol.WorkProposal:
        """Approve work; returns before the landing. Only for the party that it waits for."""
        return await self.post(f"{_work(repo, number)}/approve", request, protocol.WorkProposal)

    async def deny_work(self, repo: str, number: int, request: protocol.DenyWork) -> protocol.WorkProposal:
        return await self.post(f"{_work(repo, number)}/deny", request, protocol.WorkProposal)

    async def ask_for_host(self, request: protocol.AskForHost) -> protocol.NetworkRequest:
        """Ask to reach a host; the decision comes as a message. Asking again while it waits changes nothing."""
        return await self.post("/v1/network/requests", request, protocol.NetworkRequest)

    async def host_requests(self, query: protocol.NetworkRequestsQuery) -> protocol.NetworkRequestList:
        """List the requests of this agent to reach hosts; the manager sees those of all."""
        path = "/v1/network/requests"
        return await self.call("GET", path, protocol.NetworkRequestList, query=_values(query))

    async def approve_host(self, number: int, request: protocol.ApproveHost) -> protocol.NetworkRequest:
        """Approve a request to reach a host. Only for the manager, like the next one."""
        return await self.post(f"/v1/network/requests/{number}/approve", request, protocol.NetworkRequest)

    async def deny_host(self, number: int, request: protocol.DenyHost) -> protocol.NetworkRequest:
        """Deny a request to reach a host."""
        return await self.post(f"/v1/network/requests/{number}/deny", request, protocol.NetworkRequest)

    async def approve(self, agent: str, number: int, request: protocol.ApproveRequest) -> protocol.Proposal:
        """Approve a proposal; returns before the deployment. Only for the manager, like all that follow."""
        return await self.post(f"{_proposal(agent, number)}/approve", request, protocol.Proposal)

    async def deny(self, agent: str, number: int, request: protocol.DenyRequest) -> protocol.Proposal:
        return await self.post(f"{_proposal(agent, number)}/deny", request, protocol.Proposal)

    async def request_spawn(self, request: protocol.SpawnProposal) -> protocol.Proposal:
        """Propose to create an agent."""
        return await self.post("/v1/agents", request, protocol.Proposal, waits=_INTAKE_SECONDS)

    async def request_destroy(self, name: str, request: protocol.DestroyProposal) -> protocol.Proposal:
        """Propose to remove an agent."""
        return await self.post(f"/v1/agents/{_checked(name)}/destroy", request, protocol.Proposal)

    async def rollback(self, name: str, request: protocol.RollbackRequest) -> protocol.Proposal:
        """Deploy an earlier deployment of an agent again."""
        return await self.post(f"/v1/agents/{_checked(name)}/rollback", request, protocol.Proposal)

    async def rebuild(self, name: str, request: protocol.RebuildRequest) -> protocol.Proposal:
        """Rebuild the active configuration of an agent and deploy the result."""
        return await self.post(f"/v1/agents/{_checked(name)}/rebuild", request, protocol.Proposal)

    async def history(self, name: str, query: protocol.HistoryQuery) -> protocol.History:
        """List an agent's deployments, the newest first."""
        return await self.call("GET", f"/v1/agents/{_checked(name)}/history", protocol.History, query=_values(query))

    async def change_agent(self, name: str, action: Literal["start", "stop", "restart"]) -> protocol.AgentStatus:
        """Start, stop or restart another agent."""
        return await self.call(
            "POST", f"/v1/agents/{_checked(name)}/{action}", protocol.AgentStatus, waits=_PROCESS_SECONDS
        )

    async def agent_logs(self, name: str, query: protocol.LogsQuery) -> protocol.LogsAnswer:
        """Get the log of another agent's harness."""
        path = f"/v1/agents/{_checked(name)}/logs"
        return await self.call("GET", path, protocol.LogsAnswer, query=_values(query), waits=query.wait_seconds)


def _values(query: Query) -> dict[str, str]:
    return {key: str(value) for key, value in query.model_dump(exclude_defaults=True).items()}


def _proposal(agent: str, number: int) -> str:
    if number < 0:
        raise CoreError("bad_number", f"{number} is not the number of a proposal", "see the list of proposals", 400)
    return f"/v1/proposals/{_checked(agent)}/{number}"


def _work(repo: str, number: int) -> str:
    if number < 0 or not is_repository_name(repo):
        raise CoreError("bad_number", f"{shown(repo)}/{number} is not the name of work", "see the tool my_work", 400)
    return f"/v1/work/{repo}/{number}"


def _checked(name: str) -> str:
    """Return `name` if it is a valid name: in a URL, `..` would lead to another route. Raises CoreError."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise CoreError("bad_name", f"{shown(name)} is not a valid agent name", "see list_agents for the names", 400)
    return name
