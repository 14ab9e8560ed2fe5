"""The proxy as a whole: agents with their listeners, and the limits of time that all connections share."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import structlog

from hive_core.infra.concurrency.closing import close_apart
from hive_core.protocol.network.packets import ListenerLostPacket
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.protocol.network.services import service_of
from hive_core.services.egress.agent import EgressAgent
from hive_core.services.egress.checks.addresses import AddressTable, Network
from hive_core.services.egress.host_networks import HostNetworks
from hive_core.services.egress.refusals import RefusalCounter
from hive_core.services.egress.traffic.accept import AcceptWatcher, AgentListener
from hive_core.services.egress.traffic.connection import Connection, Parts
from hive_core.services.egress.traffic.dial import Dialer
from hive_core.services.egress.traffic.service import ServiceConnection
from hive_core.services.listeners import BadListener, check_listener

log = structlog.get_logger(__name__)

_PROXY = "proxy"
"""The purpose of the listeners for the proxy; others are for services of the host."""
_SWEEP_SECONDS = 1.0


class Proxy:
    """All agents, and what their connections share."""

    def __init__(self, lost: Callable[[ListenerLostPacket], None]) -> None:
        """`lost` is told of listeners that accept nothing any more."""
        self._table = AddressTable()
        self._networks = HostNetworks(self._set_networks)
        self.refusals = RefusalCounter()
        self._parts = Parts(Dialer(self._table), self.refusals)
        self._watcher = AcceptWatcher()
        self._lost = lost
        self._listeners: dict[tuple[str, str], AgentListener] = {}
        self.agents: dict[str, EgressAgent] = {}

    def start(self) -> None:
        """Read the networks of this host, which are refused. Raises OSError if the kernel does not tell them."""
        self._networks.start()

    async def sweep(self) -> None:
        """End connections that have had their time, until this is cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            now = loop.time()
            for agent in self.agents.values():
                is_over = agent.is_over_bytes()
                for connection in list(agent.connections):
                    if connection.is_late(now) or (is_over and connection.is_decided()):
                        connection.abort()

    def set_agent(self, name: str, policy: EgressPolicy, bytes_today: int) -> None:
        """Let an agent reach what the policy allows from now on."""
        agent = self.agents.get(name)
        if agent is None:
            agent = self.agents[name] = EgressAgent(name, policy)
        agent.set_policy(policy, bytes_today)
        for name_of, purpose in list(self._listeners):
            if name_of == name and not _is_wanted(agent, purpose, self._listeners[name, purpose].port):
                self._listeners.pop((name, purpose)).close()

    def set_listener(self, name: str, purpose: str, descriptor: int) -> None:
        """Accept connections on the listener of an agent for a purpose, and no more on an earlier one."""
        agent = self.agents.get(name)
        if agent is None:
            close_apart(descriptor)
            self._tell_lost(name, purpose, "the agent is unknown")
            return
        try:
            # Many services speak first, so their connections are taken before the agent has sent anything.
            listener = check_listener(descriptor, speaks_first=purpose == _PROXY)
        except BadListener as why:
            self._tell_lost(name, purpose, str(why))
            return
        if not _is_wanted(agent, purpose, listener.getsockname()[1]):
            log.warning("a listener for nothing that the agent has is not used", agent=name, purpose=purpose)
            close_apart(listener.detach())
            return
        if (earlier := self._listeners.pop((name, purpose), None)) is not None:
            earlier.replace()
        self._listeners[name, purpose] = AgentListener(
            agent,
            listener,
            self._watcher,
            lambda connection: self._serve(agent, purpose, connection),
            lambda why: self._lose(name, purpose, why),
        )

    def remove_agent(self, name: str) -> None:
        """Close the agent's listeners and end its connections."""
        for key in [key for key in self._listeners if key[0] == name]:
            self._listeners.pop(key).close()
        agent = self.agents.pop(name, None)
        if agent is not None:
            agent.close()
            self.refusals.forget(name)

    def end_connections(self, name: str) -> None:
        """End the agent's connections that its policy does not allow any more."""
        if name in self.agents:
            self.agents[name].end_connections()

    async def close(self) -> None:
        """Close all listeners and end all connections."""
        self._networks.close()
        for name in list(self.agents):
            self.remove_agent(name)
        await asyncio.sleep(0)  # The cancelled connections close their sockets.

    def _serve(self, agent: EgressAgent, purpose: str, client: socket.socket) -> None:
        service = service_of(purpose)
        if service is None:
            Connection(self._parts, agent, client)
        else:
            ServiceConnection(self._parts.dialer, self.refusals, agent, service, client)

    def _lose(self, name: str, purpose: str, why: str) -> None:
        self._listeners.pop((name, purpose), None)
        self._tell_lost(name, purpose, why)

    def _tell_lost(self, name: str, purpose: str, why: str) -> None:
        log.warning("listener lost", agent=name, purpose=purpose, why=why)
        self._lost(ListenerLostPacket(name=name, purpose=purpose, why=why))

    def _set_networks(self, networks: set[Network]) -> None:
        self._table.set_host_networks(networks)
        log.info("networks of the host are refused", networks=sorted(map(str, networks)))


def _is_wanted(agent: EgressAgent, purpose: str, port: int) -> bool:
    """Return True if an agent has something for which a listener is, at this port."""
    service = agent.policy.services.get(service_of(purpose) or "")
    return purpose == _PROXY or (service is not None and service.port == port)
