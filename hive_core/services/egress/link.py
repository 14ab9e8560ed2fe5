"""The connection to the daemon: policies and listeners come from it, refusals and traffic are told to it.

While the daemon is away, the proxy goes on with what it has. After a new connection the daemon tells everything again;
agents that it does not name by then are gone.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import closing, suppress
from pathlib import Path

import structlog
from pydantic import ValidationError

from hive_core.infra.concurrency.closing import close_apart
from hive_core.infra.packets import PacketConnection, PacketRefused
from hive_core.protocol.network.packets import (
    TO_EGRESS,
    AgentPacket,
    EndConnectionsPacket,
    EndedPacket,
    FromEgress,
    GonePacket,
    ListenerLostPacket,
    ListenerPacket,
    SyncedPacket,
    ToEgress,
)
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.services.egress.proxy import Proxy
from hive_core.services.following import follow_daemon

log = structlog.get_logger(__name__)

_REPORT_SECONDS = 1.0
_MAX_LOST = 1_000


class EgressLink:
    """The connection to the daemon, and the proxy that works for it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: set[str] = set()
        self._lost: deque[ListenerLostPacket] = deque(maxlen=_MAX_LOST)
        self._ended: deque[str] = deque(maxlen=_MAX_LOST)
        """Agents that are gone, of which the last is not told yet."""
        self._has_ended = asyncio.Event()
        self.proxy = Proxy(self._lost.append)
        self.packets = 0
        """Packets of the daemon that were taken in since the start."""
        self.is_connected = False
        self.is_synced = False
        """True if the daemon has told everything once."""

    async def run(self) -> None:
        """Follow the daemon, and connect to it again and again, until this is cancelled."""
        await follow_daemon(self._path, self._follow)

    async def _follow(self, connection: PacketConnection) -> None:
        """Take in what the daemon sends until the connection ends, which raises ConnectionError."""
        self._named.clear()
        self._ended.clear()
        self.is_connected = True
        reports = asyncio.create_task(self._report(connection))
        try:
            while True:
                await self._take(connection)
                self.packets += 1
        finally:
            self.is_connected = False
            reports.cancel()
            await asyncio.wait([reports])

    async def _take(self, connection: PacketConnection) -> None:
        try:
            data, descriptor = await connection.receive()
        except PacketRefused as why:
            log.error("packet of the daemon refused", error=str(why))
            return
        try:
            packet: ToEgress | None = TO_EGRESS.validate_json(data)
        except ValidationError as error:  # Of a newer daemon.
            log.error("packet of the daemon not understood", error=str(error.errors(include_url=False)[:3]))
            packet = _shut(data)
        if descriptor is not None:
            if isinstance(packet, ListenerPacket):
                self.proxy.set_listener(packet.name, packet.purpose, descriptor)
                return
            close_apart(descriptor)
        if packet is not None:
            self._apply(packet)

    def _apply(self, packet: ToEgress) -> None:
        match packet:
            case AgentPacket(name=name):
                self._named.add(name)
                self.proxy.set_agent(name, packet.policy, packet.bytes_today)
            case GonePacket(name=name):
                self._named.discard(name)
                self.proxy.remove_agent(name)
                self._ended.append(name)
                self._has_ended.set()
            case SyncedPacket():
                self.is_synced = True
                for name in self.proxy.agents.keys() - self._named:
                    self.proxy.remove_agent(name)
            case EndConnectionsPacket(name=name):
                self.proxy.end_connections(name)
            case ListenerPacket(name=name):
                log.warning("a listener came without its descriptor", agent=name)

    async def _report(self, connection: PacketConnection) -> None:
        """Tell what has happened since the last report; the connection ends with this.

        That is once in a second, or when an agent is gone, about which somebody may wait for the last.
        """
        with suppress(OSError), closing(connection):
            while True:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_REPORT_SECONDS):
                        await self._has_ended.wait()
                self._has_ended.clear()
                packets: list[FromEgress] = []
                while self._ended:
                    name = self._ended.popleft()
                    packets += [*self.proxy.refusals.take_all_of(name), EndedPacket(name=name)]
                packets += self.proxy.refusals.take()
                while self._lost:
                    packets.append(self._lost.popleft())
                packets += [each for agent in self.proxy.agents.values() if (each := agent.take_traffic()) is not None]
                for packet in packets:
                    await connection.send(packet.model_dump_json().encode())


def _shut(data: bytes) -> AgentPacket | None:
    """Return the packet that lets an agent reach nothing, if `data` was to say what it may reach; else None."""
    try:
        found = json.loads(data)
        if found["kind"] == "agent":
            return AgentPacket(name=found["name"], policy=EgressPolicy())
    except (ValueError, TypeError, KeyError):
        pass
    return None
