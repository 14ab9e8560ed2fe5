"""Endpoints of agents and their limits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hive_core.agents import AgentLifecycle, AgentLimits, AgentRegistry
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import agent_name, principal_of
from hive_core.gate.gate import Gate
from hive_core.protocol import (
    AgentList,
    AgentStatus,
    DestroyAnswer,
    DestroyProposal,
    DestroyRequest,
    History,
    HistoryQuery,
    LimitsAnswer,
    LimitsRequest,
    LogsAnswer,
    LogsQuery,
    Peer,
    PeerList,
    Proposal,
    RebuildRequest,
    RollbackRequest,
    SpawnProposal,
    SpawnRequest,
)

_AGENT = "/v1/agents/{name}"


def agent_management(agents: AgentRegistry, lifecycle: AgentLifecycle, *, manager_only: bool) -> list[Endpoint]:
    """Start, stop, restart, logs: for the operator, and on agents' sockets for the manager alone."""

    def action(verb: str, run: Callable[[str, str], Awaitable[AgentStatus]]) -> Endpoint:
        async def handle(call: ApiCall) -> AgentStatus:
            return await run(call.path["name"], call.caller.actor)

        summary = f"{verb.capitalize()} an agent"
        return Endpoint("POST", f"{_AGENT}/{verb}", summary, handle, AgentStatus, manager_only=manager_only)

    async def logs(call: ApiCall) -> LogsAnswer:
        return await agents.logs(call.path["name"], call.read(LogsQuery))

    return [
        action("start", lifecycle.start),
        action("stop", lifecycle.stop),
        action("restart", lifecycle.restart),
        Endpoint(
            "GET",
            f"{_AGENT}/logs",
            "What an agent's harness printed",
            logs,
            LogsAnswer,
            query=LogsQuery,
            waits=True,
            manager_only=manager_only,
        ),
    ]


def own_log(agents: AgentRegistry) -> list[Endpoint]:
    """What every agent may read: what its own harness has printed."""

    async def logs(call: ApiCall) -> LogsAnswer:
        return await agents.logs(call.caller.name, call.read(LogsQuery))

    return [
        Endpoint("GET", "/v1/logs", "What one's own harness printed", logs, LogsAnswer, query=LogsQuery, waits=True)
    ]


def deployments(gate: Gate, *, manager_only: bool) -> list[Endpoint]:
    """What was deployed, and the way back to it: for the operator, and on agents' sockets for the manager alone."""

    async def rollback(call: ApiCall) -> Proposal:
        return await gate.rollback(agent_name(call), call.read(RollbackRequest), principal_of(call.caller))

    async def rebuild(call: ApiCall) -> Proposal:
        return await gate.rebuild(agent_name(call), call.read(RebuildRequest), principal_of(call.caller))

    async def history(call: ApiCall) -> History:
        return await gate.history(agent_name(call), call.read(HistoryQuery))

    return [
        Endpoint(
            "POST",
            f"{_AGENT}/rollback",
            "Deploy an earlier deployment again",
            rollback,
            Proposal,
            body=RollbackRequest,
            manager_only=manager_only,
        ),
        Endpoint(
            "POST",
            f"{_AGENT}/rebuild",
            "Build what is deployed anew, and deploy that",
            rebuild,
            Proposal,
            body=RebuildRequest,
            manager_only=manager_only,
        ),
        Endpoint(
            "GET",
            f"{_AGENT}/history",
            "An agent's deployments",
            history,
            History,
            query=HistoryQuery,
            manager_only=manager_only,
        ),
    ]


def agent_admin(agents: AgentRegistry, gate: Gate) -> list[Endpoint]:
    """List, spawn and destroy: the operator's alone."""

    async def listing(_: ApiCall) -> AgentList:
        return AgentList(agents=list(agents.statuses()))

    async def spawn(call: ApiCall) -> AgentStatus:
        return await gate.spawn(call.read(SpawnRequest), principal_of(call.caller))

    async def status(call: ApiCall) -> AgentStatus:
        return agents.status(call.path["name"])

    async def destroy(call: ApiCall) -> DestroyAnswer:
        return await gate.destroy(agent_name(call), call.read(DestroyRequest), principal_of(call.caller))

    return [
        Endpoint("GET", "/v1/agents", "All agents", listing, AgentList),
        Endpoint("POST", "/v1/agents", "Make an agent", spawn, AgentStatus, body=SpawnRequest),
        Endpoint("GET", _AGENT, "One agent", status, AgentStatus),
        Endpoint("POST", f"{_AGENT}/destroy", "Remove an agent", destroy, DestroyAnswer, body=DestroyRequest),
    ]


def agent_requests(gate: Gate) -> list[Endpoint]:
    """Spawn and destroy on agents' sockets: only the manager may, and what it may is to propose them."""

    async def spawn(call: ApiCall) -> Proposal:
        return await gate.request_spawn(call.read(SpawnProposal), principal_of(call.caller))

    async def destroy(call: ApiCall) -> Proposal:
        return await gate.request_destroy(agent_name(call), call.read(DestroyProposal), principal_of(call.caller))

    return [
        Endpoint(
            "POST",
            "/v1/agents",
            "Propose to make an agent",
            spawn,
            Proposal,
            body=SpawnProposal,
            manager_only=True,
        ),
        Endpoint(
            "POST",
            f"{_AGENT}/destroy",
            "Propose to remove an agent",
            destroy,
            Proposal,
            body=DestroyProposal,
            manager_only=True,
        ),
    ]


def peers(agents: AgentRegistry) -> list[Endpoint]:
    """What an agent may know of the others."""

    async def listing(_: ApiCall) -> PeerList:
        return PeerList(
            agents=[Peer(**status.model_dump(include=set(Peer.model_fields))) for status in agents.statuses()]
        )

    return [Endpoint("GET", "/v1/agents", "The agents of the hive", listing, PeerList)]


_LIMITS = "/v1/agents/{name}/limits"


def limit_views(limits: AgentLimits, *, manager_only: bool) -> list[Endpoint]:
    """Look: for the operator, and on agents' sockets for the manager alone."""

    async def show(call: ApiCall) -> LimitsAnswer:
        return await limits.read(call.path["name"])

    summary = "What an agent may use and does use"
    return [Endpoint("GET", _LIMITS, summary, show, LimitsAnswer, manager_only=manager_only)]


def limit_changes(limits: AgentLimits) -> list[Endpoint]:
    """Change what a running agent may use: the operator's alone."""

    async def change(call: ApiCall) -> LimitsAnswer:
        return await limits.change(call.path["name"], call.read(LimitsRequest), call.caller.actor)

    return [
        Endpoint(
            "POST",
            _LIMITS,
            "Change what a running agent may use, until it is deployed anew",
            change,
            LimitsAnswer,
            body=LimitsRequest,
        )
    ]
