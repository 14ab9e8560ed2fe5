"""Endpoints with which a harness reports its start and its state, and learns its agent."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hive_core.agents import AgentLifecycle, AgentRegistry
from hive_core.agents.health import HarnessReports
from hive_core.agents.repositories import FindRepository
from hive_core.api.endpoint import ApiCall, Endpoint
from hive_core.api.routes.agents.harness_view import HarnessViews
from hive_core.infra.database.database import to_datetime
from hive_core.messaging import Broker, Directory, Scheduler
from hive_core.outside.network.network import Network
from hive_core.protocol import (
    AgentConfig,
    AgentRepository,
    Done,
    HarnessWork,
    HelloRequest,
    Profile,
    StateRequest,
    StatusRequest,
    WhoAmI,
)
from hive_core.protocol.models.providers import ProviderSettings
from hive_core.protocol.models.vendors import VendorApi


def harness(
    agents: AgentRegistry,
    lifecycle: AgentLifecycle,
    broker: Broker,
    reports: HarnessReports,
    directory: Directory,
    scheduler: Scheduler,
    views: HarnessViews,
    lease_seconds: float,
    find_repository: FindRepository,
    network: Network,
    providers: Mapping[str, ProviderSettings],
    note_work: Callable[[str, HarnessWork | None], None],
) -> list[Endpoint]:
    """Return the endpoints hello, state, status and whoami. `note_work` gets what a harness reports of its work."""

    async def hello(call: ApiCall) -> Profile:
        request = call.read(HelloRequest)
        # A harness repeats its hello if the answer was lost.
        known = directory.member(call.caller.name).instance == request.instance
        if request.again:
            directory.check_instance(call.caller.name, request.instance)
        else:
            await broker.hello(call.caller.name, request.instance)
        crashed = not known and reports.has_crashed(call.caller.name)
        await reports.hello(call.caller.name, request.deployment, again=request.again)
        scheduler.reschedule()  # An agent of the name gets what became due before it was spawned again.
        record = agents.record(call.caller.name)
        return Profile(
            name=record.name,
            kind=record.kind,
            config=record.config,
            prompt=record.prompt,
            deployment=record.deployment,
            lease_seconds=lease_seconds,
            crashed=crashed,
            repositories=[
                AgentRepository(
                    name=each.name, branch=each.branch, instructions=each.instructions, checks=list(each.checks)
                )
                for each in map(find_repository, dict.fromkeys(record.config.repos))
                if each is not None
            ],
            control_key=views.key(record.name),
            reach=network.reach(record.name),
            provider_api=_api_of(record.config, providers),
        )

    async def state(call: ApiCall) -> Done:
        request = call.read(StateRequest)
        directory.check_instance(call.caller.name, request.instance)
        note_work(call.caller.name, request.work)
        at = None if request.goes_on_at is None else to_datetime(int(request.goes_on_at * 1_000))
        await reports.harness(call.caller.name, request.state, request.detail, request.notice, at, request.turn)
        return Done()

    async def status(call: ApiCall) -> Done:
        await lifecycle.set_status(call.caller.name, call.read(StatusRequest).text)
        return Done()

    async def whoami(call: ApiCall) -> WhoAmI:
        record = agents.record(call.caller.name)
        return WhoAmI(
            name=record.name,
            kind=record.kind,
            allowed_recipients=record.config.allowed_recipients,
            deployment=record.deployment,
        )

    return [
        Endpoint("POST", "/v1/harness/hello", "Report that a harness has started", hello, Profile, body=HelloRequest),
        Endpoint("POST", "/v1/harness/state", "Report the state of the harness", state, Done, body=StateRequest),
        Endpoint("POST", "/v1/harness/status", "Set the agent's status text", status, Done, body=StatusRequest),
        Endpoint("GET", "/v1/whoami", "The agent of this socket", whoami, WhoAmI),
    ]


def _api_of(config: AgentConfig, providers: Mapping[str, ProviderSettings]) -> VendorApi | None:
    provider = None if config.provider is None else providers.get(config.provider)
    return None if provider is None else provider.api
