"""The way of sealed agents to the egress proxy: who they are, what they may reach, and the sockets they ask on."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from hive_core.outside.gateway_link import GatewayLink
from hive_core.outside.handed_sockets import ExpectedListener
from hive_core.outside.handover_door import HandedListener
from hive_core.protocol.names import EVERYONE
from hive_core.protocol.network.packets import (
    FROM_EGRESS,
    AgentPacket,
    EgressPacket,
    EndConnectionsPacket,
    FromEgress,
    GonePacket,
    ListenerLostPacket,
    ListenerPacket,
    RefusedPacket,
    SyncedPacket,
    TrafficPacket,
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


class Guest(Protocol):
    """Somebody who is no agent, and whom the proxy serves for a time: a check of proposed work."""

    def policy(self) -> EgressPolicy:
        """Return what it may reach now."""

    def heard(self, packet: FromEgress) -> None:
        """Take note of what the proxy tells of it."""


class EgressGateway:
    """Sealed agents as the egress proxy knows them."""

    def __init__(
        self,
        listener: socket.socket,
        is_sealed: Callable[[str], bool],
        policies: Policies,
        services_of: Callable[[str], Sequence[str]] = lambda _: (),
    ) -> None:
        """Accept the proxy on `listener`; takes it over. `services_of` returns an agent's services of the host."""
        self.on_listener_lost: Callable[[str], None] = lambda _: None
        """Called with an agent of which a listener accepts nothing any more."""
        self.is_wanted = asyncio.Event()
        """Set when there is a sealed agent: without one nobody needs the proxy."""
        self._is_sealed = is_sealed
        self._policies = policies
        self._services_of = services_of
        self._known: set[str] = set()
        self._guests: dict[str, Guest] = {}
        self._link = GatewayLink(listener, _packet(SyncedPacket()), self._hear, policies.proxy_ended)

    @property
    def is_connected(self) -> bool:
        """True while the proxy is there."""
        return self._link.is_connected

    async def wait_connected(self) -> None:
        """Wait until the proxy is there."""
        await self._link.connected.wait()

    def hold(self, name: str) -> None:
        """Have the proxy serve an agent if its network is sealed, and not otherwise."""
        if not self._is_sealed(name):
            self.release(name)
            return
        self._known.add(name)
        self.is_wanted.set()
        self.policy_changed(name)

    def release(self, name: str) -> None:
        """Have the proxy end all that it does for an agent."""
        if name in self._known:
            self._known.discard(name)
            self._link.forget(name, _packet(GonePacket(name=name)))

    def policy_changed(self, name: str) -> None:
        """Tell the proxy what an agent may reach now, if it serves that agent; `*` stands for all guests."""
        if name == EVERYONE:
            for guest in self._guests:
                self._describe_guest(guest)
        if name in self._known:
            # The ports of services change with their names.
            self._link.drop_listeners(name, lambda purpose, listener: self._is_wanted(name, purpose, listener))
            policy, counted = self._policies.policy(name), self._policies.bytes_today(name)
            self._link.describe(name, _packet(AgentPacket(name=name, policy=policy, bytes_today=counted)))

    def end_connections(self, name: str) -> None:
        """Have the proxy end the connections of an agent that its rules do not allow any more."""
        if name in self._known:
            self._link.end_connections(name, _packet(EndConnectionsPacket(name=name)))

    def welcome(self, name: str, guest: Guest) -> None:
        """Have the proxy serve a guest, under a name that no agent has, until `dismiss`."""
        self.is_wanted.set()
        self._guests[name] = guest
        self._describe_guest(name)

    def give_listener(self, name: str, listener: socket.socket) -> None:
        """Have the proxy accept on the listener of a guest; takes it over."""
        if name in self._guests:
            self.receive(name, HandedListener(PROXY, listener))
        else:
            listener.close()

    def dismiss(self, name: str) -> None:
        """Have the proxy end all that it does for a guest, who then hears `ended` as the last; `forget` follows."""
        self._link.forget(name, _packet(GonePacket(name=name)))

    def forget(self, name: str) -> None:
        """Pass on nothing more that the proxy tells of a guest."""
        self._guests.pop(name, None)

    def _describe_guest(self, name: str) -> None:
        self._link.describe(name, _packet(AgentPacket(name=name, policy=self._guests[name].policy())))

    async def run(self) -> None:
        """Serve the proxy until cancelled."""
        await self._link.run()

    def listeners(self, name: str) -> Mapping[str, ExpectedListener]:
        """Return the listeners of an agent that is served, for the proxy and for services."""
        if name not in self._known:
            return {}
        ports = {PROXY: PROXY_PORT, **service_gateways(self._services_of(name))}
        return {purpose: ExpectedListener(port) for purpose, port in ports.items()}

    def receive(self, name: str, handed: HandedListener) -> None:
        """Have the proxy accept connections on a listener of an agent."""
        packet = _packet(ListenerPacket(name=name, purpose=handed.purpose))
        self._link.give(name, handed.purpose, packet, handed.listener)

    def _is_wanted(self, name: str, purpose: str, listener: socket.socket) -> bool:
        expected = self.listeners(name).get(purpose)
        return expected is not None and bool(listener.getsockname()[1] == expected.port)

    async def _hear(self, packet: bytes) -> None:
        heard = FROM_EGRESS.validate_json(packet)
        name = heard.agent if isinstance(heard, RefusedPacket | TrafficPacket) else heard.name
        if (guest := self._guests.get(name)) is not None:
            guest.heard(heard)
            return
        if isinstance(heard, ListenerLostPacket):
            self.on_listener_lost(heard.name)
        await self._policies.heard(heard)


def _packet(packet: EgressPacket) -> bytes:
    return packet.model_dump_json().encode()
