"""The daemon's end of the link to the relay: what it is told of agents, and when their calls end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from hive_core.infra.packets import PacketConnection, connect
from hive_core.outside.gateway_link import listen_for_gateway
from hive_core.outside.handover_door import HandedListener
from hive_core.outside.models.relay_link import RELAY_GROUP, RelayLink
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.link import RelayHello, RelayListenerLost, RelayReserve
from hive_core.protocol.models.providers import ProviderSettings
from tests.unit.core.outside.models.ledger_hive import LedgerHive, ledger_hive

PROVIDERS = {
    "vendor": ProviderSettings(api="anthropic", keys=["key"], features=["web"]),
    "other": ProviderSettings(api="anthropic", keys=["key"]),
}


def config(**keys: Any) -> AgentConfig:
    return AgentConfig.model_validate({"backend": "claude", "network": "sealed", **keys})


class LinkedHive:
    """A link that runs, for the configurations of `configs`."""

    def __init__(self, path: Path, hive: LedgerHive) -> None:
        self.path = path
        self.configs: dict[str, AgentConfig] = {}
        self.link = RelayLink(listen_for_gateway(path, RELAY_GROUP), hive.ledger, PROVIDERS, self.configs.get)
        self.lost: list[str] = []
        self.link.on_listener_lost = self.lost.append

    def set(self, name: str, **keys: Any) -> None:
        """Deploy a configuration."""
        self.configs[name] = config(**keys)
        self.link.hold(name)


@pytest.fixture
async def hive() -> AsyncIterator[LinkedHive]:
    """A running link."""
    async with ledger_hive() as ledger:
        with tempfile.TemporaryDirectory(prefix="rl") as place:
            made = LinkedHive(Path(place) / "relay.sock", ledger)
            running = asyncio.create_task(made.link.run())
            yield made
            running.cancel()
            await asyncio.wait([running])


async def told(relay: PacketConnection, last: str) -> list[str]:
    """Return what the relay is told, up to a packet of this kind."""
    packets: list[str] = []
    async with asyncio.timeout(20):
        while not packets or packets[-1].split()[0] != last:
            data, descriptor = await relay.receive()
            if descriptor is not None:
                os.close(descriptor)
            packet = json.loads(data)
            packets.append(f"{packet['kind']} {packet.get('name', '')}".strip())
    return packets


async def test_the_relay_is_told_of_agents_with_a_provider(hive: LinkedHive) -> None:
    """It is told of providers and of agents whose deployed configuration names one, with their listeners."""
    hive.set("ada", provider="vendor")
    hive.set("bob")
    hive.set("cy", provider="gone")
    assert (hive.link.listeners("ada")["relay"].port, hive.link.listeners("bob")) == (3_129, {})
    hive.link.receive("ada", HandedListener("relay", socket.socket()))
    relay = connect(hive.path)
    known = ["provider vendor", "provider other", "agent ada", "listener ada", "synced"]
    assert await told(relay, "synced") == known
    hive.set("bob", provider="other", network="host")
    assert hive.link.listeners("bob")["relay"].of_host
    assert await told(relay, "agent") == ["agent bob"]
    relay.close()


async def test_calls_end_with_what_allows_them(hive: LinkedHive) -> None:
    """Calls of an agent end when it stops, when another provider or feature is deployed, and when it has none."""
    relay = connect(hive.path)
    await told(relay, "synced")
    hive.set("ada", provider="vendor", features=["web"])
    hive.link.receive("ada", HandedListener("relay", socket.socket()))
    assert await told(relay, "listener") == ["agent ada", "listener ada"]
    hive.set("ada", provider="vendor", features=["web"], max_steps=7)
    hive.set("ada", provider="vendor")
    assert await told(relay, "end_connections") == ["agent ada", "end_connections ada"]
    hive.link.stopped("ada")
    assert await told(relay, "agent") == ["gone ada", "agent ada"]
    assert hive.lost == ["ada"]
    hive.set("ada")
    assert await told(relay, "gone") == ["gone ada"]
    hive.link.stopped("ada")
    assert hive.lost == ["ada"]
    relay.close()


async def test_an_answer_goes_to_the_relay_that_has_asked(hive: LinkedHive) -> None:
    """A relay that has not said who it is gets no answer, and a lost listener is asked for anew."""
    asked = RelayReserve(id=1, call="c", agent="ada", provider="vendor", model="m", bytes=1, max_tokens=1)
    relay = connect(hive.path)
    await told(relay, "synced")
    await relay.send(asked.model_dump_json().encode())
    with pytest.raises(ConnectionError):
        await asyncio.wait_for(relay.receive(), 20)
    relay.close()
    relay = connect(hive.path)
    await told(relay, "synced")
    for packet in (RelayHello(instance="new"), RelayListenerLost(name="ada"), asked):
        await relay.send(packet.model_dump_json().encode())
    assert await told(relay, "answer") == ["answer"]
    assert hive.lost == ["ada"]
    relay.close()
