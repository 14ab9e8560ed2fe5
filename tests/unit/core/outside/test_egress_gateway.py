"""The way of sealed agents to the egress proxy: the listeners that it is given."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from pathlib import Path

from hive_core.infra.packets import PacketConnection, connect
from hive_core.outside.egress_gateway import PROXY_PORT, EgressGateway
from hive_core.outside.gateways import AgentGateways
from hive_core.outside.handover_door import HandedListener
from hive_core.protocol.network.packets import FromEgress
from hive_core.protocol.network.policy import EgressPolicy
from hive_core.protocol.network.services import service_gateways


class FakePolicies:
    """Rules of the network that allow nothing."""

    def policy(self, name: str) -> EgressPolicy:
        return EgressPolicy()

    def bytes_today(self, name: str) -> int:
        return 0

    async def heard(self, packet: FromEgress) -> None:
        """Nothing is heard here."""

    def proxy_ended(self) -> None:
        """The proxy of the test ends with it."""


def at_port(port: int) -> socket.socket:
    """A socket at a port of an agent's loopback."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made


async def listeners(proxy: PacketConnection) -> list[str]:
    """Return the purposes of the listeners that the proxy is told until all is told."""
    purposes: list[str] = []
    async with asyncio.timeout(20):
        while True:
            data, descriptor = await proxy.receive()
            if descriptor is not None:
                os.close(descriptor)
            packet = json.loads(data)
            if packet["kind"] == "synced":
                return purposes
            if packet["kind"] == "listener":
                purposes.append(packet["purpose"])


async def test_listeners_follow_the_services_of_an_agent() -> None:
    """With another configuration an agent's services have other ports: listeners at earlier ones are closed, whether
    they came before it or are on the way.
    """
    services = {"ada": ["cache", "db"]}
    with tempfile.TemporaryDirectory(prefix="hg") as directory:
        path = Path(directory) / "egress.sock"
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.bind(str(path))
        server.listen()
        egress = EgressGateway(server, lambda _: True, FakePolicies(), services.__getitem__)
        gateways = AgentGateways(lambda name: Path(directory) / name, [egress])
        running = asyncio.create_task(egress.run())
        gateways.hold("ada")
        given = {"proxy": at_port(PROXY_PORT)}
        given |= {purpose: at_port(port) for purpose, port in service_gateways(services["ada"]).items()}
        for purpose, listener in given.items():
            gateways._receive("ada", HandedListener(purpose, listener))
        proxy = connect(path)
        assert await listeners(proxy) == ["proxy", "service:cache", "service:db"]
        proxy.close()
        services["ada"] = ["db", "web"]
        gateways.hold("ada")
        assert [purpose for purpose, listener in given.items() if listener.fileno() >= 0] == ["proxy"]
        late = {"service:db": at_port(3_201), "service:cache": at_port(3_200)}
        new = {"service:db": at_port(3_200), "service:web": at_port(3_201)}
        for purpose, listener in [*late.items(), *new.items()]:
            gateways._receive("ada", HandedListener(purpose, listener))
        proxy = connect(path)
        assert await listeners(proxy) == ["proxy", "service:db", "service:web"]
        assert all(listener.fileno() == -1 for listener in late.values())
        proxy.close()
        gateways.close()
        running.cancel()
        await asyncio.wait([running])
