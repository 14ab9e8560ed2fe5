"""The parts of the world outside, put together."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hive_core.agents import AgentRegistry
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker
from hive_core.outside.egress_gateway import EGRESS_GROUP, EgressGateway
from hive_core.outside.gateway_link import listen_for_gateway
from hive_core.outside.gateways import AgentGateways
from hive_core.outside.models.ledger import Ledger
from hive_core.outside.models.opening import open_ledger
from hive_core.outside.models.relay_link import RELAY_GROUP, RelayLink
from hive_core.outside.network.network import Network
from hive_core.protocol import AgentConfig
from hive_core.protocol.people.dashboard import DashboardSettings
from hive_core.runtimes.base import Runtime
from hive_core.runtimes.local.service_process import Service, ServiceProcess
from hive_core.settings import Settings

_ENDED = ("backoff", "stopped", "failed")
"""Lifecycles of an agent of which nothing runs."""


@dataclass(frozen=True)
class Outside:
    """The rules of the network, the ledger, and the gateways that hear of agents and of changes."""

    settings: Settings
    layout: Layout
    network: Network
    ledger: Ledger
    gateways: AgentGateways
    egress: EgressGateway
    relay: RelayLink
    dashboard: ServiceProcess | None
    """The web pages, where no unit runs them."""

    async def run(self, runtime: Runtime) -> None:
        """Follow the clock, the gateways and the agents, and run gateways where no unit does, until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                works = [self.network.run(), self.egress.run(), self.relay.run(), self._follow_ends(runtime)]
                if runtime.name == "local":
                    works += [self._keep_proxy(runtime.bubblewrap), self._keep_relay(runtime.bubblewrap)]
                if self.dashboard is not None:
                    works.append(self.dashboard.keep_running(runtime.bubblewrap))
                for work in works:
                    tasks.create_task(work)
        finally:
            self.gateways.close()

    @property
    def away(self) -> list[str]:
        """The names of the gateways that are wanted and not connected, so that agents wait for them."""
        return [
            name
            for name, gateway in (("egress", self.egress), ("relay", self.relay))
            if gateway.is_wanted.is_set() and not gateway.is_connected
        ]

    async def _keep_proxy(self, bwrap: str | None) -> None:
        """Run the proxy as soon as there is a sealed agent."""
        await self.egress.is_wanted.wait()
        await ServiceProcess(_gateway("egress", self.layout.egress_socket)).keep_running(bwrap)

    async def _keep_relay(self, bwrap: str | None) -> None:
        """Run the relay as soon as there is an agent with a provider."""
        await self.relay.is_wanted.wait()
        relay = _gateway("relay", self.layout.relay_socket, self.settings.relay.credentials)
        await ServiceProcess(relay).keep_running(bwrap)

    async def _follow_ends(self, runtime: Runtime) -> None:
        """End the calls of agents that have stopped."""
        async for unit in runtime.watch():
            if unit.lifecycle in _ENDED:
                self.relay.stopped(unit.name)


async def open_outside(
    settings: Settings,
    layout: Layout,
    *,
    database: Database,
    broker: Broker,
    agents: AgentRegistry,
    events: EventHub,
) -> Outside:
    """Open the rules of the network, the ledger, and the ways to the gateways.

    Raises `cannot_listen`, and what `Network.open` raises.
    """
    network = Network(settings, database=database, broker=broker, agents=agents, events=events)
    await network.open()
    ledger = open_ledger(settings, database, agents)
    egress = EgressGateway(
        listen_for_gateway(layout.egress_socket, EGRESS_GROUP),
        lambda name: (found := agents.find(name)) is not None and found.sealed,
        network,
        lambda name: () if (found := agents.find(name)) is None else found.config.services,
    )
    relay = RelayLink(
        listen_for_gateway(layout.relay_socket, RELAY_GROUP),
        ledger,
        settings.relay.providers,
        partial(_config_of, agents),
        agents.turn_of,
    )
    gateways = AgentGateways(lambda name: layout.agent(name).gateways_door, [egress, relay])
    egress.on_listener_lost = relay.on_listener_lost = gateways.hang_up
    network.on_changed, network.on_close = egress.policy_changed, egress.end_connections
    agents.changed.append(network.configuration_changed)
    agents.find_network_state = network.state_of
    dashboard = None
    if settings.runtime == "local" and settings.dashboard.enabled:
        dashboard = ServiceProcess(_dashboard(settings.dashboard, layout.dashboard_socket))
    return Outside(settings, layout, network, ledger, gateways, egress, relay, dashboard)


def _gateway(name: str, link: Path, credentials: Path | None = None) -> Service:
    arguments = ["--link", str(link)]
    if credentials is not None:
        arguments += ["--credentials", str(credentials)]
    return Service(name, arguments, link, credentials)


def _dashboard(settings: DashboardSettings, link: Path) -> Service:
    arguments = ["--daemon", str(link), "--origin", settings.origin]
    return Service("dashboard", arguments, link, has_network=False, listen=settings.listen)


def _config_of(agents: AgentRegistry, name: str) -> AgentConfig | None:
    record = agents.find(name)
    return None if record is None else record.config
