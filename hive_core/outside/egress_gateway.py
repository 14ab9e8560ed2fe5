"""The way of sealed agents to the egress proxy: who they are, what they may reach, and the sockets they ask on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from hive_core.infra.concurrency.closing import close_apart
from hive_core.outside.gateway_link import GatewayLink
from hive_core.outside.handed_sockets import HandedSockets
from hive_core.protocol.network.packets import (
    FROM_EGRESS,
    AgentPacket,
    EgressPacket,
    EndConnectionsPacket,
    FromEgress,
    GonePacket,
    ListenerLostPacket,
    ListenerPacket,
    SyncedPacket,
)
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.protocol.network.services import service_gateways

EGRESS_GROUP = "hyperhive-egress"
"""The group of the proxy's user, which may connect to the daemon's socket for it."""
PROXY = "proxy"
PROXY_PORT = 3128
"""The port of the proxy on the loopback of every sealed agent."""


class Policies(Protocol):
    """Interface to the rules of the network, as far as this module needs it."""

    def policy(self, name: str) -> EgressPolicy:
        """Return what an agent may reach now."""

    def bytes_today(self, name: str) -> int:
        """Return the bytes that were counted for an agent on this day."""

    async def heard(self, packet: FromEgress) -> None:
        """Take note of refusals and traffic."""

    def proxy_ended(self) -> None:
        """Take note that no connection goes through the proxy any more."""


class EgressGateway:
    """Sealed agents as the egress proxy knows them. It is one of the kinds of sockets that agents have."""

    def __init__(
        self,
        listener: socket.socket,
        door_of: Callable[[str], Path],
        is_sealed: Callable[[str], bool],
        policies: Policies,
        services_of: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        """Accept the proxy on `listener`; takes it over.

        `door_of` returns the path of an agent's door, and `services_of` the services of the host that an agent has; it
        is called on other threads, too.
        """
        self.is_wanted = asyncio.Event()
        """Set when there is a sealed agent: without one nobody needs the proxy."""
        self._is_sealed = is_sealed
        self._policies = policies
        self._services_of = services_of
        self._known: set[str] = set()
        self._link = GatewayLink(listener, _packet(SyncedPacket()), self._hear, policies.proxy_ended)
        self._sockets = HandedSockets(door_of, self._port_of, self._received)

    @property
    def is_connected(self) -> bool:
        """True while the proxy is there."""
        return self._link.is_connected

    def hold(self, name: str) -> None:
        """Have the proxy serve an agent if its network is sealed, and not otherwise. Raises `cannot_listen`."""
        if not self._is_sealed(name):
            self.release(name)
            return
        self._known.add(name)
        self.is_wanted.set()
        self.policy_changed(name)
        self._sockets.open(name)

    def release(self, name: str) -> None:
        """Have the proxy end all that it does for an agent."""
        if name in self._known:
            self._known.discard(name)
            self._sockets.release(name)
            self._link.forget(name, _packet(GonePacket(name=name)))

    def policy_changed(self, name: str) -> None:
        """Tell the proxy what an agent may reach now, if it serves that agent."""
        if name in self._known:
            # The ports of services change with their names.
            self._link.drop_listeners(name, lambda purpose, listener: self._is_wanted(name, purpose, listener))
            policy, counted = self._policies.policy(name), self._policies.bytes_today(name)
            self._link.describe(name, _packet(AgentPacket(name=name, policy=policy, bytes_today=counted)))

    def end_connections(self, name: str) -> None:
        """Have the proxy end the connections of an agent that its rules do not allow any more."""
        if name in self._known:
            self._link.end_connections(name, _packet(EndConnectionsPacket(name=name)))

    async def run(self) -> None:
        """Serve the proxy until cancelled."""
        try:
            await self._link.run()
        finally:
            self._sockets.close()

    def _port_of(self, name: str, purpose: str) -> int | None:
        return PROXY_PORT if purpose == PROXY else service_gateways(self._services_of(name)).get(purpose)

    def _is_wanted(self, name: str, purpose: str, listener: socket.socket) -> bool:
        return bool(listener.getsockname()[1] == self._port_of(name, purpose))

    def _received(self, name: str, purpose: str, listener: socket.socket) -> None:
        if self._is_wanted(name, purpose, listener):
            self._link.give(name, purpose, _packet(ListenerPacket(name=name, purpose=purpose)), listener)
        else:  # Another configuration is in force since it was checked.
            close_apart(listener.detach())

    async def _hear(self, packet: bytes) -> None:
        heard = FROM_EGRESS.validate_json(packet)
        if isinstance(heard, ListenerLostPacket):
            self._sockets.hang_up(heard.name)
        await self._policies.heard(heard)


def _packet(packet: EgressPacket) -> bytes:
    return packet.model_dump_json().encode()
