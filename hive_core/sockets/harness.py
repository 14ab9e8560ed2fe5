"""Endpoints with which a harness says that it is there, and learns who it is."""

from __future__ import annotations

from hive_core.agents import Agents
from hive_core.agents.reports import Reports
from hive_core.broker import Broker, Directory
from hive_core.protocol import Done, HelloRequest, Profile, StateRequest, WhoAmI
from hive_core.sockets.endpoint import Call, Endpoint


def harness(
    agents: Agents, broker: Broker, reports: Reports, directory: Directory, lease_seconds: float
) -> list[Endpoint]:
    """Hello, state, whoami."""

    async def hello(call: Call) -> Profile:
        request = call.read(HelloRequest)
        if request.again:
            directory.check_instance(call.caller.name, request.instance)
        else:
            await broker.hello(call.caller.name, request.instance)
        await reports.hello(call.caller.name, request.deployment, again=request.again)
        record = agents.record(call.caller.name)
        return Profile(
            name=record.name,
            kind=record.kind,
            config=record.config,
            prompt=record.prompt,
            deployment=record.deployment,
            lease_seconds=lease_seconds,
        )

    async def state(call: Call) -> Done:
        request = call.read(StateRequest)
        directory.check_instance(call.caller.name, request.instance)
        await reports.harness(call.caller.name, request.state, request.detail)
        return Done()

    async def whoami(call: Call) -> WhoAmI:
        record = agents.record(call.caller.name)
        return WhoAmI(
            name=record.name,
            kind=record.kind,
            allowed_recipients=record.config.allowed_recipients,
            deployment=record.deployment,
        )

    return [
        Endpoint("POST", "/v1/harness/hello", "A harness has started", hello, Profile, body=HelloRequest),
        Endpoint("POST", "/v1/harness/state", "What a harness is doing", state, Done, body=StateRequest),
        Endpoint("GET", "/v1/whoami", "Who this socket belongs to", whoami, WhoAmI),
    ]
