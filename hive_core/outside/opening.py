"""The parts of the network of agents, put together."""

from __future__ import annotations

import asyncio

from hive_core.agents import AgentRegistry
from hive_core.infra.database.database import Database
from hive_core.infra.telemetry.events import EventHub
from hive_core.layout import Layout
from hive_core.messaging import Broker
from hive_core.outside.egress_gateway import EGRESS_GROUP, EgressGateway
from hive_core.outside.gateway_link import listen_for_gateway
from hive_core.outside.gateway_process import keep_running
from hive_core.outside.network.network import Network
from hive_core.runtimes.base import Runtime
from hive_core.settings import Settings


async def open_network(
    settings: Settings,
    layout: Layout,
    *,
    database: Database,
    broker: Broker,
    agents: AgentRegistry,
    events: EventHub,
) -> tuple[Network, EgressGateway]:
    """Open the rules of the network, and the way to the proxy, which hears of their changes.

    Raises `cannot_listen`, and what `Network.open` raises.
    """
    network = Network(settings, database=database, broker=broker, agents=agents, events=events)
    await network.open()
    egress = EgressGateway(
        listen_for_gateway(layout.egress_socket, EGRESS_GROUP),
        lambda name: layout.agent(name).gateways_door,
        lambda name: (found := agents.find(name)) is not None and found.sealed,
        network,
        lambda name: () if (found := agents.find(name)) is None else found.config.services,
    )
    network.on_changed, network.on_close = egress.policy_changed, egress.end_connections
    agents.changed.append(network.configuration_changed)
    agents.find_network_state = network.state_of
    return network, egress


async def run_network(network: Network, egress: EgressGateway, layout: Layout, runtime: Runtime) -> None:
    """Follow the clock and the proxy, and run the proxy where no unit does, until cancelled."""
    async with asyncio.TaskGroup() as tasks:
        for work in (network.run(), egress.run(), _keep_proxy(egress, layout, runtime)):
            tasks.create_task(work)


async def _keep_proxy(egress: EgressGateway, layout: Layout, runtime: Runtime) -> None:
    """Run the proxy where no unit does, as soon as there is a sealed agent, until cancelled."""
    if runtime.name != "local":
        return
    await egress.is_wanted.wait()
    await keep_running("egress", layout.egress_socket, runtime.bubblewrap)
