"""Endpoints for agents: what the operator, the manager and the agents themselves ask about them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hive_core.agents import Agents
from hive_core.protocol import (
    AgentList,
    AgentStatus,
    DestroyAnswer,
    DestroyRequest,
    LogsAnswer,
    LogsQuery,
    Peer,
    PeerList,
    SpawnRequest,
)
from hive_core.sockets.endpoint import Call, Endpoint

_AGENT = "/v1/agents/{name}"


def looking_after(agents: Agents, *, manager_only: bool) -> list[Endpoint]:
    """Start, stop, restart, logs: for the operator, and on agents' sockets for the manager alone."""

    def action(verb: str, run: Callable[[str, str], Awaitable[AgentStatus]]) -> Endpoint:
        async def handle(call: Call) -> AgentStatus:
            return await run(call.path["name"], call.caller.actor)

        summary = f"{verb.capitalize()} an agent"
        return Endpoint("POST", f"{_AGENT}/{verb}", summary, handle, AgentStatus, manager_only=manager_only)

    async def logs(call: Call) -> LogsAnswer:
        return await agents.logs(call.path["name"], call.read(LogsQuery))

    return [
        action("start", agents.start),
        action("stop", agents.stop),
        action("restart", agents.restart),
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


def keeping(agents: Agents) -> list[Endpoint]:
    """List, spawn and destroy: the operator's alone."""

    async def listing(_: Call) -> AgentList:
        return AgentList(agents=list(agents.statuses()))

    async def spawn(call: Call) -> AgentStatus:
        return await agents.spawn(call.read(SpawnRequest), call.caller.actor)

    async def status(call: Call) -> AgentStatus:
        return agents.status(call.path["name"])

    async def destroy(call: Call) -> DestroyAnswer:
        purge = call.read(DestroyRequest).purge
        return await agents.destroy(call.path["name"], call.caller.actor, purge=purge)

    return [
        Endpoint("GET", "/v1/agents", "All agents", listing, AgentList),
        Endpoint("POST", "/v1/agents", "Make an agent", spawn, AgentStatus, body=SpawnRequest),
        Endpoint("GET", _AGENT, "One agent", status, AgentStatus),
        Endpoint("POST", f"{_AGENT}/destroy", "Remove an agent", destroy, DestroyAnswer, body=DestroyRequest),
    ]


def peers(agents: Agents) -> list[Endpoint]:
    """What an agent may know of the others."""

    async def listing(_: Call) -> PeerList:
        return PeerList(
            agents=[Peer(**status.model_dump(include=set(Peer.model_fields))) for status in agents.statuses()]
        )

    return [Endpoint("GET", "/v1/agents", "The agents of the hive", listing, PeerList)]
