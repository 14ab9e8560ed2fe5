"""Endpoints of agents and their limits."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from hive_core.agents import AgentLifecycle, AgentLimits, AgentRegistry
from hive_core.agents.registry import agent_exists
from hive_core.api.endpoint import MOST_VALUES_OF_SPAWN, ApiCall, Caller, Endpoint
from hive_core.api.routes.params import agent_name, principal_of
from hive_core.api.rules import EndpointRule
from hive_core.errors import HiveError, forbidden
from hive_core.gate.gate import Gate
from hive_core.messaging import Directory
from hive_core.outside.spending import ModelSpending
from hive_core.people.ownership.owners import Owners
from hive_core.protocol import (
    MAX_REQUEST_BYTES,
    AgentList,
    AgentStatus,
    DestroyAnswer,
    DestroyProposal,
    DestroyRequest,
    History,
    HistoryQuery,
    KeptList,
    LimitsAnswer,
    LimitsRequest,
    LogsAnswer,
    LogsQuery,
    Peer,
    PeerList,
    Proposal,
    RebuildRequest,
    RollbackRequest,
    SpawnAnswer,
    SpawnPreview,
    SpawnProposal,
    SpawnRequest,
)
from hive_core.protocol.names import MANAGER

_AGENT = "/v1/agents/{name}"
_SEES, _ACTS = EndpointRule("viewer", "agent"), EndpointRule("operator", "agent")


def agent_management(agents: AgentRegistry, lifecycle: AgentLifecycle, *, manager_only: bool) -> list[Endpoint]:
    """Return the endpoints to start, stop and restart agents and to read their logs."""

    def action(verb: str, run: Callable[[str, str], Awaitable[AgentStatus]]) -> Endpoint:
        async def handle(call: ApiCall) -> AgentStatus:
            return await run(call.path["name"], call.caller.actor)

        summary = f"{verb.capitalize()} an agent"
        return Endpoint("POST", f"{_AGENT}/{verb}", summary, handle, AgentStatus, manager_only=manager_only, rule=_ACTS)

    async def logs(call: ApiCall) -> LogsAnswer:
        return await agents.logs(call.path["name"], call.read(LogsQuery))

    return [
        action("start", lifecycle.start),
        action("stop", lifecycle.stop),
        action("restart", lifecycle.restart),
        Endpoint(
            "GET",
            f"{_AGENT}/logs",
            "The log of an agent's harness",
            logs,
            LogsAnswer,
            query=LogsQuery,
            waits=True,
            load="follows",
            manager_only=manager_only,
            rule=_SEES,
        ),
    ]


def own_log(agents: AgentRegistry) -> list[Endpoint]:
    """Return the endpoint with which an agent reads the log of its own harness."""

    async def logs(call: ApiCall) -> LogsAnswer:
        return await agents.logs(call.caller.name, call.read(LogsQuery))

    summary = "The log of the agent's own harness"
    return [
        Endpoint("GET", "/v1/logs", summary, logs, LogsAnswer, query=LogsQuery, waits=True, load="follows"),
    ]


def deployments(gate: Gate, *, manager_only: bool) -> list[Endpoint]:
    """Return the endpoints to roll back, rebuild, and list deployments."""

    async def rollback(call: ApiCall) -> Proposal:
        return await gate.decisions.rollback(agent_name(call), call.read(RollbackRequest), principal_of(call.caller))

    async def rebuild(call: ApiCall) -> Proposal:
        return await gate.rebuild_submissions.rebuild(
            agent_name(call), call.read(RebuildRequest), principal_of(call.caller)
        )

    async def history(call: ApiCall) -> History:
        return await gate.queries.history(agent_name(call), call.read(HistoryQuery))

    return [
        Endpoint(
            "POST",
            f"{_AGENT}/rollback",
            "Deploy an earlier deployment again",
            rollback,
            Proposal,
            body=RollbackRequest,
            manager_only=manager_only,
            rule=_ACTS,
        ),
        Endpoint(
            "POST",
            f"{_AGENT}/rebuild",
            "Build the deployed configuration again, and deploy the result",
            rebuild,
            Proposal,
            body=RebuildRequest,
            manager_only=manager_only,
            rule=_ACTS,
        ),
        Endpoint(
            "GET",
            f"{_AGENT}/history",
            "An agent's deployments",
            history,
            History,
            query=HistoryQuery,
            manager_only=manager_only,
            rule=EndpointRule("viewer", "history"),
        ),
    ]


def agent_admin(
    agents: AgentRegistry, lifecycle: AgentLifecycle, gate: Gate, spending: ModelSpending, owners: Owners
) -> list[Endpoint]:
    """Return the operator's endpoints to list, spawn and destroy agents, and to remove what is kept of them."""

    async def listing(call: ApiCall) -> AgentList:
        seen = [status for status in agents.statuses() if call.caller.sees(status.name)]
        return AgentList(agents=await spending.with_costs(seen))

    async def spawn(call: ApiCall) -> SpawnAnswer:
        request, caller = call.read(SpawnRequest), call.caller
        owner = request.owner or (caller.name if caller.person else None)
        if caller.person and owner != caller.name and not caller.sees.whole:
            raise forbidden("not_permitted", "only an admin makes agents for others", "leave the owner out")
        if owner is None or request.name == MANAGER or agents.exists(request.name):
            return await gate.agent_submissions.spawn(request, principal_of(caller))
        # Before it is made, so that nobody else learns of it meanwhile, or takes its name.
        async with owned_while_spawned(owners, request.name, owner, caller):
            return await gate.agent_submissions.spawn(request, principal_of(caller))

    async def status(call: ApiCall) -> AgentStatus:
        return await spending.with_budget(agents.status(call.path["name"]), call.caller.sees)

    async def destroy(call: ApiCall) -> DestroyAnswer:
        return await gate.agent_submissions.destroy(
            agent_name(call), call.read(DestroyRequest), principal_of(call.caller)
        )

    async def preview(call: ApiCall) -> SpawnPreview:
        return await gate.agent_submissions.preview(call.read(SpawnRequest), call.caller.sees)

    async def kept(call: ApiCall) -> KeptList:
        return KeptList(agents=[each for each in await lifecycle.kept() if call.caller.sees(each.name)])

    async def purge(call: ApiCall) -> DestroyAnswer:
        return await gate.agent_submissions.purge_kept(agent_name(call), principal_of(call.caller))

    return [
        Endpoint("GET", "/v1/agents", "All agents", listing, AgentList, rule=EndpointRule("viewer", "listing")),
        Endpoint(
            "POST",
            "/v1/spawn/preview",
            "The first files of an agent, without making it",
            preview,
            SpawnPreview,
            body=SpawnRequest,
            load="heavy",
            most_bytes=MAX_REQUEST_BYTES,
            most_values=MOST_VALUES_OF_SPAWN,
            rule=EndpointRule("operator", "new_agent"),
        ),
        Endpoint(
            "GET",
            "/v1/kept",
            "Destroyed agents whose files are kept",
            kept,
            KeptList,
            rule=EndpointRule("viewer", "listing"),
        ),
        Endpoint(
            "POST",
            "/v1/kept/{name}/purge",
            "Remove what is kept of a destroyed agent",
            purge,
            DestroyAnswer,
            rule=EndpointRule("admin"),
        ),
        Endpoint(
            "POST",
            "/v1/agents",
            "Spawn an agent",
            spawn,
            SpawnAnswer,
            body=SpawnRequest,
            most_bytes=MAX_REQUEST_BYTES,
            most_values=MOST_VALUES_OF_SPAWN,
            rule=EndpointRule("operator", "new_agent"),
        ),
        Endpoint("GET", _AGENT, "One agent", status, AgentStatus, rule=_SEES),
        Endpoint(
            "POST", f"{_AGENT}/destroy", "Destroy an agent", destroy, DestroyAnswer, body=DestroyRequest, rule=_ACTS
        ),
    ]


def agent_requests(gate: Gate) -> list[Endpoint]:
    """Return the manager's endpoints to propose a spawn or a destroy."""

    async def spawn(call: ApiCall) -> Proposal:
        return await gate.agent_submissions.request_spawn(call.read(SpawnProposal), principal_of(call.caller))

    async def destroy(call: ApiCall) -> Proposal:
        return await gate.agent_submissions.request_destroy(
            agent_name(call), call.read(DestroyProposal), principal_of(call.caller)
        )

    return [
        Endpoint(
            "POST",
            "/v1/agents",
            "Propose to spawn an agent",
            spawn,
            Proposal,
            body=SpawnProposal,
            manager_only=True,
            most_bytes=MAX_REQUEST_BYTES,
            most_values=MOST_VALUES_OF_SPAWN,
        ),
        Endpoint(
            "POST",
            f"{_AGENT}/destroy",
            "Propose to destroy an agent",
            destroy,
            Proposal,
            body=DestroyProposal,
            manager_only=True,
        ),
    ]


@asynccontextmanager
async def owned_while_spawned(owners: Owners, name: str, owner: str, caller: Caller) -> AsyncIterator[None]:
    """Give a name to a person for a spawn within the block; if it fails, the name is again whose it was.

    Raises HiveError `agent_exists` for a name of which the caller may not know.
    """
    before = owners.owner_of(name)
    if not caller.sees(name):
        raise agent_exists(name)
    await owners.set_owner(name, owner, caller.actor, at_spawn=True)
    try:
        yield
    except HiveError:
        await owners.set_owner(name, before, caller.actor, at_spawn=True)
        raise


def peers(agents: AgentRegistry, directory: Directory) -> list[Endpoint]:
    """Return the endpoint with which an agent lists the agents of the hive of which it may know."""

    async def listing(call: ApiCall) -> PeerList:
        known = set(directory.peers(call.caller.name))
        return PeerList(
            agents=[
                Peer(**status.model_dump(include=set(Peer.model_fields)))
                for status in agents.statuses()
                if status.name in known
            ]
        )

    return [Endpoint("GET", "/v1/agents", "The agents of the hive", listing, PeerList)]


_LIMITS = "/v1/agents/{name}/limits"


def limit_views(limits: AgentLimits, *, manager_only: bool) -> list[Endpoint]:
    """Return the endpoint that shows an agent's limits."""

    async def show(call: ApiCall) -> LimitsAnswer:
        return await limits.read(call.path["name"])

    summary = "An agent's limits and its usage"
    return [Endpoint("GET", _LIMITS, summary, show, LimitsAnswer, manager_only=manager_only, rule=_SEES)]


def limit_changes(limits: AgentLimits) -> list[Endpoint]:
    """Return the operator's endpoint to change the limits of a running agent."""

    async def change(call: ApiCall) -> LimitsAnswer:
        return await limits.change(call.path["name"], call.read(LimitsRequest), call.caller.actor)

    return [
        Endpoint(
            "POST",
            _LIMITS,
            "Change the limits of a running agent until its next deployment",
            change,
            LimitsAnswer,
            body=LimitsRequest,
            rule=_ACTS,
        )
    ]
