"""The way of sealed agents to the egress proxy: who they are, what they may reach, and the sockets they ask on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

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
    ) -> None:
        """Accept the proxy on `listener`; takes it over. `door_of` returns the path of an agent's door."""
        self.is_wanted = asyncio.Event()
        """Set when there is a sealed agent: without one nobody needs the proxy."""
        self._is_sealed = is_sealed
        self._policies = policies
        self._known: set[str] = set()
        self._link = GatewayLink(listener, _packet(SyncedPacket()), self._hear, policies.proxy_ended)
        self._sockets = HandedSockets(door_of, _port_of, self._received)

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

    def _received(self, name: str, purpose: str, listener: socket.socket) -> None:
        self._link.give(name, purpose, _packet(ListenerPacket(name=name, purpose=purpose)), listener)

    async def _hear(self, packet: bytes) -> None:
        heard = FROM_EGRESS.validate_json(packet)
        if isinstance(heard, ListenerLostPacket):
            self._sockets.hang_up(heard.name)
        await self._policies.heard(heard)


def _port_of(_name: str, purpose: str) -> int | None:
    return PROXY_PORT if purpose == PROXY else None


def _packet(packet: EgressPacket) -> bytes:
    return packet.model_dump_json().encode()
