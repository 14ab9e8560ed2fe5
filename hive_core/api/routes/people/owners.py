"""Endpoints of the owners of agents."""

from __future__ import annotations

from hive_core.agents import AgentRegistry
from hive_core.agents.registry import check_name, unknown_agent
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.params import agent_name
from hive_core.api.rules import EndpointRule
from hive_core.people.ownership.owners import Owners
from hive_core.protocol.people.owners import AgentOwner, ContactRequest, OwnerRequest

_OWNER, _CONTACTS = "/v1/agents/{name}/owner", "/v1/agents/{name}/contacts"


def owner_endpoints(agents: AgentRegistry, owners: Owners) -> list[Endpoint]:
    """Return the endpoints that show and change to whom an agent belongs, and who may write with it."""

    def shown(name: str) -> AgentOwner:
        return AgentOwner(agent=name, owner=owners.owner_of(name), contacts=owners.contacts_of(name))

    def named(call: ApiCall) -> str:
        """Return the agent in the path, which may be gone if it has an owner. Raises `unknown_agent`, `bad_name`."""
        name = agent_name(call)
        if name not in owners.by_agent and not agents.exists(name):
            raise unknown_agent(name)
        return name

    async def show(call: ApiCall) -> AgentOwner:
        return shown(named(call))

    async def give(call: ApiCall) -> AgentOwner:
        name = named(call)
        await owners.set_owner(name, call.read(OwnerRequest).owner, call.caller.actor)
        return shown(name)

    async def allow(call: ApiCall) -> AgentOwner:
        name, request = agents.record(call.path["name"]).name, call.read(ContactRequest)
        # A person names an agent of somebody else's without learning whether there is one.
        check_name(request.agent)
        both = call.caller.person is None or call.caller.sees.whole
        if both:
            agents.record(request.agent)
        await owners.set_contact(name, request.agent, allowed=request.allowed, both=both, actor=call.caller.actor)
        return shown(name)

    sees, acts, manages = (
        EndpointRule("viewer", "history"),
        EndpointRule("operator", "agent"),
        EndpointRule("admin", "history"),
    )
    return [
        Endpoint("GET", _OWNER, "The owner of an agent, and who may write with it", show, AgentOwner, rule=sees),
        Endpoint("POST", _OWNER, "Give an agent to a person", give, AgentOwner, body=OwnerRequest, rule=manages),
        Endpoint(
            "POST",
            _CONTACTS,
            "Allow an agent of another owner to write with this one",
            allow,
            AgentOwner,
            body=ContactRequest,
            rule=acts,
        ),
    ]
