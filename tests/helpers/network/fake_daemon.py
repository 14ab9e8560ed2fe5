"""The daemon's end of the connection to the proxy, and the process of the proxy."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hive_core.infra.packets import PacketConnection
from hive_core.protocol.network.packets import (
    FROM_EGRESS,
    AgentPacket,
    EgressPacket,
    ListenerLostPacket,
    ListenerPacket,
    RefusedPacket,
    SyncedPacket,
    TrafficPacket,
)
from hive_core.protocol.network.policy import EgressPolicy
from tests.helpers.network.world import World

_SECONDS = 10.0


class FakeDaemon:
    """Tells a proxy what agents may reach, and hears of refusals and traffic."""

    def __init__(self, world: World, directory: Path) -> None:
        self.world = world
        self.status = directory / "status.sock"
        self.refused: list[RefusedPacket] = []
        self.traffic: list[TrafficPacket] = []
        self.lost: list[ListenerLostPacket] = []
        self._path = directory / "egress.sock"
        self._log = directory / "egress.log"
        self._changed = asyncio.Condition()
        self._told = 0
        self._lent: list[socket.socket] = []
        self._connection: PacketConnection | None = None
        self._reader: asyncio.Task[None] | None = None
        self._server: socket.socket | None = None
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start the proxy, and wait until it has connected."""
        self.listen()
        with self._log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *self.world.on_host(),
                *(sys.executable, "-m", "hive_core", "egress"),
                *("--link", str(self._path), "--status", str(self.status), "--log-level", "debug"),
                env=self.world.environment(),
                stdout=log,
                stderr=log,
            )
        await self.accept()

    def forget(self) -> None:
        """Forget what was heard so far."""
        self.refused.clear()
        self.traffic.clear()
        self.lost.clear()

    def listen(self) -> None:
        """Be there for the proxy."""
        self._path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(str(self._path))
        self._server.listen()
        self._server.setblocking(False)

    async def accept(self) -> None:
        """Wait for the proxy to connect."""
        assert self._server is not None
        connection, _ = await asyncio.wait_for(asyncio.get_running_loop().sock_accept(self._server), _SECONDS)
        self._connection = PacketConnection(connection)
        self._reader = asyncio.create_task(self._read(self._connection))

    async def leave(self) -> None:
        """Be away, as a daemon that is restarted."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._server is not None:
            self._server.close()
        if self._reader is not None:
            await asyncio.wait([self._reader])

    async def stop(self) -> int:
        """End the proxy as systemd does, and return its status."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        status = await asyncio.wait_for(self.process.wait(), _SECONDS)
        await self.leave()
        for listener in self._lent:
            listener.close()
        return status

    async def allow(self, *entries: str, name: str = "ada", bytes_today: int = 0, **policy: Any) -> None:
        """Tell what an agent may reach."""
        made = EgressPolicy.model_validate({"allow": entries, **policy})
        await self.tell(AgentPacket(name=name, policy=made, bytes_today=bytes_today))

    async def lend(self, name: str = "ada", kind: str = "listen", purpose: str = "proxy") -> socket.socket:
        """Hand the listener of an agent to the proxy, and return the agent's duplicate, which `stop` closes."""
        listener = socket.socket(fileno=await asyncio.to_thread(self.world.descriptor, kind))
        self._lent.append(listener)
        await self.tell(ListenerPacket(name=name, purpose=purpose), listener.fileno())
        return listener

    async def give(self, kind: str, name: str = "ada") -> None:
        """Hand a descriptor to the proxy that is said to be a listener."""
        descriptor = await asyncio.to_thread(self.world.descriptor, kind)
        try:
            await self.tell(ListenerPacket(name=name, purpose="proxy"), descriptor)
        finally:
            os.close(descriptor)

    async def settle(self) -> dict[str, Any]:
        """Wait until the proxy has taken in everything that it was told, and return its health."""
        while True:
            health: dict[str, Any] = json.loads(await self.ask("/healthz"))
            if health["packets"] >= self._told:
                return health
            await asyncio.sleep(0.01)

    def descriptors(self) -> int:
        """Return the number of files that the proxy has open."""
        assert self.process is not None
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    async def wait_idle(self) -> None:
        """Wait until the proxy has no connection."""

        async def has_none() -> None:
            while (await self.settle())["connections"]:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(has_none(), _SECONDS)

    async def synced(self) -> None:
        """Say that everything was told."""
        await self.tell(SyncedPacket())

    async def tell(self, packet: EgressPacket, descriptor: int | None = None) -> None:
        """Send a packet, and wait until the proxy has taken it in."""
        await self.tell_raw(packet.model_dump(mode="json"), descriptor)

    async def tell_raw(self, packet: dict[str, Any], descriptor: int | None = None) -> None:
        """Send what may be no packet, and wait until the proxy has taken it in."""
        assert self._connection is not None
        await self._connection.send(json.dumps(packet).encode(), descriptor)
        self._told += 1
        await self.settle()

    async def ask(self, path: str) -> str:
        """Return a page of the proxy's status socket."""
        reader, writer = await asyncio.open_unix_connection(self.status)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), _SECONDS)
        writer.close()
        head, _, body = answer.decode().partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 200 "), head
        return body

    async def wait_refusal(self, reason: str, host: str = "") -> RefusedPacket:
        """Wait until a refusal was told, and return it."""

        def found() -> list[RefusedPacket]:
            return [each for each in self.refused if each.reason == reason and (not host or each.host == host)]

        await self.wait_until(lambda: bool(found()))
        return found()[-1]

    async def wait_lost(self) -> ListenerLostPacket:
        """Wait until a listener was told to be lost, and return the news."""
        await self.wait_until(lambda: bool(self.lost))
        return self.lost[-1]

    async def wait_until(self, holds: Callable[[], bool]) -> None:
        """Wait until what was told so far makes `holds` true."""
        async with self._changed:
            await asyncio.wait_for(self._changed.wait_for(holds), _SECONDS)

    async def wait_networks(self, network: str, *, refused: bool) -> None:
        """Wait until a network is among those of the host that the proxy refuses, or is not."""

        async def changed() -> None:
            while (network in self._networks()) != refused:
                await asyncio.sleep(0.02)

        await asyncio.wait_for(changed(), _SECONDS)

    def log(self) -> str:
        """Return what the proxy has logged."""
        return self._log.read_text()

    def _networks(self) -> list[str]:
        told = [json.loads(line) for line in self.log().splitlines() if '"networks"' in line]
        found: list[str] = told[-1]["networks"]
        return found

    async def _read(self, connection: PacketConnection) -> None:
        try:
            while True:
                data, descriptor = await connection.receive()
                if descriptor is not None:
                    os.close(descriptor)
                packet = FROM_EGRESS.validate_json(data)
                async with self._changed:
                    match packet:
                        case RefusedPacket():
                            self.refused.append(packet)
                        case TrafficPacket():
                            self.traffic.append(packet)
                        case ListenerLostPacket():
                            self.lost.append(packet)
                    self._changed.notify_all()
        except ConnectionError:
            return
