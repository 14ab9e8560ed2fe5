"""Endpoints for limits: what agents may use and do use."""

from __future__ import annotations

from hive_core.agents import Agents
from hive_core.api.endpoint import Call, Endpoint
from hive_core.protocol import LimitsAnswer, LimitsRequest

_LIMITS = "/v1/agents/{name}/limits"


def seeing_limits(agents: Agents, *, manager_only: bool) -> list[Endpoint]:
    """Look: for the operator, and on agents' sockets for the manager alone."""

    async def show(call: Call) -> LimitsAnswer:
        return await agents.limits(call.path["name"])

    summary = "What an agent may use and does use"
    return [Endpoint("GET", _LIMITS, summary, show, LimitsAnswer, manager_only=manager_only)]


def changing_limits(agents: Agents) -> list[Endpoint]:
    """Change what a running agent may use: the operator's alone."""

    async def change(call: Call) -> LimitsAnswer:
        return await agents.set_limits(call.path["name"], call.read(LimitsRequest), call.caller.actor)

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
