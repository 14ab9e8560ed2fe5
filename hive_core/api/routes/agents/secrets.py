"""Endpoints of the secrets of agents, for the operator only."""

from __future__ import annotations

from hive_core.agents.grants.secrets import AgentSecrets
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.rules import EndpointRule
from hive_core.protocol import Done, RemoveSecret, SecretList, SetSecret
from hive_core.protocol.config.secrets import MAX_SECRET_BYTES

_SECRETS = "/v1/agents/{name}/secrets"
_ACTS = EndpointRule("operator", "agent")
_MOST_BYTES = 25 * MAX_SECRET_BYTES
"""Room for the largest secret in Base64, in JSON that writes each character as escapes."""


def agent_secrets(secrets: AgentSecrets) -> list[Endpoint]:
    """Return the endpoints to list, set and remove an agent's secrets. None of them answers with a value."""

    async def listing(call: ApiCall) -> SecretList:
        return await secrets.list(call.path["name"])

    async def put(call: ApiCall) -> Done:
        return await secrets.set(call.path["name"], call.read(SetSecret), call.caller.actor)

    async def remove(call: ApiCall) -> Done:
        return await secrets.remove(call.path["name"], call.read(RemoveSecret), call.caller.actor)

    return [
        Endpoint(
            "GET",
            _SECRETS,
            "An agent's secrets, without their values",
            listing,
            SecretList,
            rule=EndpointRule("viewer", "agent"),
        ),
        Endpoint(
            "POST", _SECRETS, "Give an agent a secret", put, Done, body=SetSecret, most_bytes=_MOST_BYTES, rule=_ACTS
        ),
        Endpoint(
            "POST",
            f"{_SECRETS}/remove",
            "Take a secret away from an agent",
            remove,
            Done,
            body=RemoveSecret,
            rule=_ACTS,
        ),
    ]
