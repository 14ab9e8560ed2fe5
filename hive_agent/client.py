"""The hive as an agent reaches it: typed calls on core.sock."""

from __future__ import annotations

import re
from typing import Literal

from hive_agent.connection import Connection, CoreError
from hive_core.names import NAME_PATTERN, shown
from hive_core.protocol import (
    AckRequest,
    AgentStatus,
    ApproveRequest,
    AskRequest,
    DenyRequest,
    DestroyProposal,
    Done,
    HelloRequest,
    History,
    HistoryQuery,
    Inbox,
    LeaseAnswer,
    LeaseRequest,
    LogsAnswer,
    LogsQuery,
    OpenItems,
    PageAnswerRequest,
    PageCheckRequest,
    PageEnterRequest,
    PageSendRequest,
    PageSession,
    PeekQuery,
    PeerList,
    Profile,
    Proposal,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    Query,
    Question,
    RebuildRequest,
    ReceiveAnswer,
    ReceiveRequest,
    Reminder,
    RemindRequest,
    RollbackRequest,
    SendAnswer,
    SendRequest,
    SpawnProposal,
    StateRequest,
    StatusRequest,
    WakeRequest,
    WhoAmI,
    WithdrawRequest,
)

__all__ = ["CoreClient", "CoreError"]

_INTAKE_SECONDS = 120.0
"""How long the daemon may take to read and check what is proposed."""
_PROCESS_SECONDS = 120.0
"""How long the daemon may take to start or stop an agent."""


class CoreClient(Connection):
    """Every call of an agent and of the manager.

    Every call here may be repeated: leases and states are set, not counted; a decision names the state that it is
    about; a rebuild joins the one that is under way; give a send an idempotency key, and a rollback its number.
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

    async def peers(self) -> PeerList:
        return await self.call("GET", "/v1/agents", PeerList)

    async def propose(self, request: ProposeRequest) -> Proposal:
        """Propose a commit; answers once it is read and checked, before it is built."""
        return await self.post("/v1/proposals", request, Proposal, waits=_INTAKE_SECONDS)

    async def proposals(self, query: ProposalsQuery) -> ProposalList:
        return await self.call("GET", "/v1/proposals", ProposalList, query=_values(query))

    async def proposal(self, agent: str, number: int, query: ProposalQuery) -> ProposalDetail:
        """One proposal with what a decision needs; waits as `query` says."""
        path = _proposal(agent, number)
        return await self.call("GET", path, ProposalDetail, query=_values(query), waits=query.wait_seconds)

    async def withdraw(self, agent: str, number: int, request: WithdrawRequest) -> Proposal:
        return await self.post(f"{_proposal(agent, number)}/withdraw", request, Proposal)

    async def ask(self, request: AskRequest) -> Question:
        """Ask the operator; the answer comes as a message."""
        return await self.post("/v1/questions", request, Question)

    async def remind(self, request: RemindRequest) -> Reminder:
        return await self.post("/v1/reminders", request, Reminder)

    async def cancel_reminder(self, number: int) -> Reminder:
        return await self.call("POST", f"/v1/reminders/{number}/cancel", Reminder)

    async def set_status(self, request: StatusRequest) -> None:
        await self.post("/v1/harness/status", request, Done)

    async def logs(self, query: LogsQuery) -> LogsAnswer:
        """What one's own harness logged."""
        return await self.call("GET", "/v1/logs", LogsAnswer, query=_values(query), waits=query.wait_seconds)

    async def open_items(self) -> OpenItems:
        """Questions, reminders and proposals of this agent that wait for somebody."""
        return await self.call("GET", "/v1/open", OpenItems)

    async def inbox(self, limit: int) -> Inbox:
        """Messages that wait for this agent or are leased to it; nothing is leased by looking."""
        return await self.call("GET", "/v1/inbox", Inbox, query=_values(PeekQuery(limit=limit)))

    async def page_enter(self, ticket: str) -> PageSession:
        """Exchange a ticket for a session. If the answer is lost, the ticket is used up; refused: `bad_ticket`."""
        return await self.post("/v1/page/enter", PageEnterRequest(ticket=ticket), PageSession)

    async def page_check(self, session: str) -> PageSession:
        """Raises `bad_session` if the session is not good any more."""
        return await self.post("/v1/page/check", PageCheckRequest(session=session), PageSession)

    async def page_send(self, session: str, body: str, *, key: str, reply_to: int | None = None) -> SendAnswer:
        """Send this agent a message of the operator's, as typed on its page; the same `key` sends once."""
        request = PageSendRequest(session=session, body=body, reply_to=reply_to, idempotency_key=key)
        return await self.post("/v1/page/send", request, SendAnswer)

    async def page_answer(self, session: str, question: int, text: str) -> Question:
        """Answer a question of this agent, as typed on its page. The same answer again changes nothing."""
        request = PageAnswerRequest(session=session, question=question, text=text)
        return await self.post("/v1/page/answer", request, Question)

    async def wake(self, request: WakeRequest) -> SendAnswer:
        """A message of this agent to itself, from a program in its container."""
        return await self.post("/v1/wake", request, SendAnswer)

    async def approve(self, agent: str, number: int, request: ApproveRequest) -> Proposal:
        """The manager's, like all that follow: approve a proposal. Answers before it is deployed."""
        return await self.post(f"{_proposal(agent, number)}/approve", request, Proposal)

    async def deny(self, agent: str, number: int, request: DenyRequest) -> Proposal:
        return await self.post(f"{_proposal(agent, number)}/deny", request, Proposal)

    async def request_spawn(self, request: SpawnProposal) -> Proposal:
        """Propose to make an agent."""
        return await self.post("/v1/agents", request, Proposal, waits=_INTAKE_SECONDS)

    async def request_destroy(self, name: str, request: DestroyProposal) -> Proposal:
        """Propose to remove an agent."""
        return await self.post(f"/v1/agents/{_checked(name)}/destroy", request, Proposal)

    async def rollback(self, name: str, request: RollbackRequest) -> Proposal:
        """Deploy an earlier deployment of an agent again."""
        return await self.post(f"/v1/agents/{_checked(name)}/rollback", request, Proposal)

    async def rebuild(self, name: str, request: RebuildRequest) -> Proposal:
        """Build what is deployed of an agent anew, and deploy that."""
        return await self.post(f"/v1/agents/{_checked(name)}/rebuild", request, Proposal)

    async def history(self, name: str, query: HistoryQuery) -> History:
        """An agent's deployments, the newest first."""
        return await self.call("GET", f"/v1/agents/{_checked(name)}/history", History, query=_values(query))

    async def change_agent(self, name: str, action: Literal["start", "stop", "restart"]) -> AgentStatus:
        """Start, stop or restart another agent."""
        return await self.call("POST", f"/v1/agents/{_checked(name)}/{action}", AgentStatus, waits=_PROCESS_SECONDS)

    async def agent_logs(self, name: str, query: LogsQuery) -> LogsAnswer:
        """What another agent's harness logged."""
        path = f"/v1/agents/{_checked(name)}/logs"
        return await self.call("GET", path, LogsAnswer, query=_values(query), waits=query.wait_seconds)


def _values(query: Query) -> dict[str, str]:
    return {key: str(value) for key, value in query.model_dump(exclude_defaults=True).items()}


def _proposal(agent: str, number: int) -> str:
    if number < 0:
        raise CoreError("bad_number", f"{number} is no proposal's number", "see the list of proposals", 400)
    return f"/v1/proposals/{_checked(agent)}/{number}"


def _checked(name: str) -> str:
    """`name`, if it is safe in a path; refused here, as a URL would turn `..` into another route."""
    if re.fullmatch(NAME_PATTERN, name) is None:
        raise CoreError("bad_name", f"{shown(name)} is no agent's name", "see list_agents for the names", 400)
    return name
