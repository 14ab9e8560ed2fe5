"""Endpoints of the network of agents: rules, what was refused, and requests to reach a host."""

from __future__ import annotations

from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import number_of, principal_of
from hive_core.api.rules import EndpointRule
from hive_core.outside.network.network import Network
from hive_core.protocol import (
    AgentNetwork,
    ApproveHost,
    AskForHost,
    DenyHost,
    LogsAnswer,
    LogsQuery,
    MakeRule,
    NetworkOverview,
    NetworkRequest,
    NetworkRequestList,
    NetworkRequestsQuery,
    RemoveRule,
)
from hive_core.protocol.names import EVERYONE

_ALL, _OF_AGENT = "/v1/network", "/v1/agents/{name}/network"
_REQUESTS = f"{_ALL}/requests"
_SEES, _DECIDES = EndpointRule("viewer", "agent"), EndpointRule("operator", "network_request")


def network_views(network: Network) -> list[Endpoint]:
    """Return the operator's endpoints that show what agents reach, and what was refused."""

    async def overview(call: ApiCall) -> NetworkOverview:
        return await network.overview(call.caller.sees)

    async def agent(call: ApiCall) -> AgentNetwork:
        return await network.agent(call.path["name"])

    async def log(call: ApiCall) -> LogsAnswer:
        return await network.read_log(call.path["name"], call.read(LogsQuery))

    what = "What was refused to an agent, and the rules made for it"
    return [
        Endpoint(
            "GET",
            _ALL,
            "What all agents reach, in short",
            overview,
            NetworkOverview,
            rule=EndpointRule("viewer", "listing"),
        ),
        Endpoint("GET", _OF_AGENT, "What an agent reaches, and what was refused most", agent, AgentNetwork, rule=_SEES),
        Endpoint(
            "GET", f"{_OF_AGENT}/log", what, log, LogsAnswer, query=LogsQuery, waits=True, load="follows", rule=_SEES
        ),
    ]


def network_changes(network: Network) -> list[Endpoint]:
    """Return the operator's endpoints that make and remove rules: for one agent, and for all."""

    def changes(path: str, whom: str) -> list[Endpoint]:
        async def make(call: ApiCall) -> NetworkOverview | AgentNetwork:
            agent = call.path.get("name", EVERYONE)
            await network.make_rule(agent, call.read(MakeRule), principal_of(call.caller))
            return await _shown(network, agent)

        async def remove(call: ApiCall) -> NetworkOverview | AgentNetwork:
            agent = call.path.get("name", EVERYONE)
            await network.remove_rule(agent, call.read(RemoveRule), principal_of(call.caller))
            return await _shown(network, agent)

        async def close(call: ApiCall) -> NetworkOverview | AgentNetwork:
            agent = call.path.get("name", EVERYONE)
            await network.close_all(agent, principal_of(call.caller))
            return await _shown(network, agent)

        answer = NetworkOverview if path == _ALL else AgentNetwork
        rule = EndpointRule("admin") if path == _ALL else EndpointRule("operator", "agent")
        closing = f"End the rules that open everything for {whom}, and the connections that no rule allows"
        return [
            Endpoint(
                "POST", f"{path}/rules", f"Allow, deny or open hosts for {whom}", make, answer, body=MakeRule, rule=rule
            ),
            Endpoint(
                "POST", f"{path}/rules/remove", f"Remove a rule of {whom}", remove, answer, body=RemoveRule, rule=rule
            ),
            Endpoint("POST", f"{path}/close", closing, close, answer, rule=rule),
        ]

    return [*changes(_ALL, "all agents"), *changes(_OF_AGENT, "an agent")]


async def _shown(network: Network, agent: str) -> NetworkOverview | AgentNetwork:
    return await network.overview() if agent == EVERYONE else await network.agent(agent)


def host_requests(network: Network) -> list[Endpoint]:
    """Return the endpoint with which an agent asks to reach a host."""

    async def ask(call: ApiCall) -> NetworkRequest:
        return await network.ask(call.read(AskForHost), principal_of(call.caller))

    return [Endpoint("POST", _REQUESTS, "Ask to reach a host for some hours", ask, NetworkRequest, body=AskForHost)]


def host_decisions(network: Network, *, manager_only: bool) -> list[Endpoint]:
    """Return the endpoints that list requests, of which agents see their own, and decide on them."""

    async def listing(call: ApiCall) -> NetworkRequestList:
        query = call.read(NetworkRequestsQuery)
        if call.caller.kind == "agent":
            query = query.model_copy(update={"agent": call.caller.name})
        return await network.requests.listing(query, call.caller.sees)

    async def approve(call: ApiCall) -> NetworkRequest:
        return await network.approve(number_of(call), call.read(ApproveHost), principal_of(call.caller))

    async def deny(call: ApiCall) -> NetworkRequest:
        return await network.deny(number_of(call), call.read(DenyHost), principal_of(call.caller))

    one = f"{_REQUESTS}/{{id}}"
    return [
        Endpoint(
            "GET",
            _REQUESTS,
            "Requests to reach hosts",
            listing,
            NetworkRequestList,
            query=NetworkRequestsQuery,
            rule=EndpointRule("viewer", "listing"),
        ),
        Endpoint(
            "POST",
            f"{one}/approve",
            "Approve a request to reach a host",
            approve,
            NetworkRequest,
            body=ApproveHost,
            manager_only=manager_only,
            rule=_DECIDES,
        ),
        Endpoint(
            "POST",
            f"{one}/deny",
            "Deny a request to reach a host",
            deny,
            NetworkRequest,
            body=DenyHost,
            manager_only=manager_only,
            rule=_DECIDES,
        ),
    ]
