"""Endpoints for proposals: to make them, to look at them, to decide on them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import agent_name, principal_of
from hive_core.errors import bad_request
from hive_core.gate.gate import Gate
from hive_core.gate.policy import Principal
from hive_core.protocol import (
    ApproveRequest,
    DenyRequest,
    LogsAnswer,
    LogsQuery,
    Proposal,
    ProposalDetail,
    ProposalList,
    ProposalQuery,
    ProposalsQuery,
    ProposeRequest,
    ReindexAnswer,
    Request,
    WithdrawRequest,
)

R = TypeVar("R", bound=Request)

_ALL = "/v1/proposals"
_ONE = f"{_ALL}/{{name}}/{{number}}"


def submissions(gate: Gate) -> list[Endpoint]:
    """What every caller may do: propose, look, take its own proposals back. Whose it may see is the gate's to say."""

    async def propose(call: ApiCall) -> Proposal:
        return await gate.propose(call.read(ProposeRequest), principal_of(call.caller))

    async def listing(call: ApiCall) -> ProposalList:
        return await gate.proposals(call.read(ProposalsQuery), principal_of(call.caller))

    async def show(call: ApiCall) -> ProposalDetail:
        return await gate.show(*_which(call), call.read(ProposalQuery), principal_of(call.caller))

    async def log(call: ApiCall) -> LogsAnswer:
        return await gate.build_log(*_which(call), call.read(LogsQuery), principal_of(call.caller))

    return [
        Endpoint("POST", _ALL, "Propose a commit of an agent's configuration", propose, Proposal, body=ProposeRequest),
        Endpoint("GET", _ALL, "Proposals, the newest first", listing, ProposalList, query=ProposalsQuery),
        Endpoint(
            "GET",
            _ONE,
            "One proposal, waiting for another state",
            show,
            ProposalDetail,
            query=ProposalQuery,
            waits=True,
        ),
        Endpoint("GET", f"{_ONE}/log", "What its build printed", log, LogsAnswer, query=LogsQuery, waits=True),
        _act("withdraw", "Take a proposal back", gate.withdraw, WithdrawRequest, manager_only=False),
    ]


def decisions(gate: Gate, *, manager_only: bool) -> list[Endpoint]:
    """Approve and deny: for the operator, and on agents' sockets for the manager alone."""
    return [
        _act("approve", "Approve a proposal", gate.approve, ApproveRequest, manager_only=manager_only),
        _act("deny", "Deny a proposal", gate.deny, DenyRequest, manager_only=manager_only),
    ]


def index_maintenance(gate: Gate) -> list[Endpoint]:
    """Make the index anew: the operator's alone."""

    async def reindex(_: ApiCall) -> ReindexAnswer:
        return await gate.reindex()

    return [
        Endpoint("POST", f"{_ALL}/reindex", "Make the index of proposals anew from the tags", reindex, ReindexAnswer)
    ]


def _act(
    verb: str,
    summary: str,
    run: Callable[[str, int, R, Principal], Awaitable[Proposal]],
    body: type[R],
    *,
    manager_only: bool,
) -> Endpoint:
    async def handle(call: ApiCall) -> Proposal:
        return await run(*_which(call), call.read(body), principal_of(call.caller))

    return Endpoint("POST", f"{_ONE}/{verb}", summary, handle, Proposal, body=body, manager_only=manager_only)


def _which(call: ApiCall) -> tuple[str, int]:
    """Agent and number in the path."""
    name, number = agent_name(call), call.path["number"]
    if not (number.isascii() and number.isdigit() and len(number) < 20 and int(number) < 2**63):
        raise bad_request("the proposal's number in the path is no number", "proposals are named as in ada/3")
    return name, int(number)
