"""The relay as a process of its own, with the daemon's ledger and a vendor of the test."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from hive_core.outside.gateway_link import listen_for_gateway
from hive_core.outside.handover_door import HandedListener
from hive_core.outside.models.ledger import LedgerNotice
from hive_core.outside.models.relay_link import RELAY_GROUP, RelayLink
from hive_core.protocol import AgentConfig
from hive_core.protocol.models.providers import ModelRates, ProviderSettings
from tests.unit.core.outside.models.ledger_hive import PROVIDERS, LedgerHive, ledger_hive
from tests.unit.core.services.relay.fake_vendor import FakeVendor, Responder, fake_vendor, whole_message

KEY = "sk-the-real-key-0123456789"
BODY: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "stream": True,
    "max_tokens": 1_000,
    "messages": [{"role": "user", "content": "Hi"}],
}


class RelayStack:
    """A daemon's end in this process; `start` begins a relay."""

    def __init__(self, directory: Path, hive: LedgerHive, vendor: FakeVendor) -> None:
        self.directory = directory
        self.hive = hive
        self.vendor = vendor
        self.notices: list[LedgerNotice] = []
        self.log = directory / "relay.log"
        self.ports: dict[str, int] = {}
        self.process: Process | None = None
        self.configs: dict[str, AgentConfig] = {}
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        key = directory / "keys" / "vendor-key"
        key.parent.mkdir(mode=0o700)
        key.touch(mode=0o600)
        key.write_text(KEY)
        self.provider = ProviderSettings(
            api="anthropic", base_url=vendor.url, keys=["vendor-key"], rates=ModelRates(input=1, output=2)
        )
        PROVIDERS["relay"] = self.provider
        server = listen_for_gateway(directory / "relay.sock", RELAY_GROUP)
        providers = {"relay": self.provider}
        self.link = RelayLink(server, hive.ledger, providers, self.configs.get)
        self.link.on_notice = self.notices.append
        self._running = asyncio.create_task(self.link.run())

    async def add_agent(self, name: str) -> None:
        """Give an agent a listener and the provider."""
        self.configs[name] = AgentConfig(backend="claude", provider="relay")
        self.link.hold(name)
        listener = socket.create_server(("127.0.0.1", 0))
        self.ports[name] = listener.getsockname()[1]
        self.link.receive(name, HandedListener("relay", listener))

    async def start(self) -> Process:
        """Start a relay, and wait until it is connected."""
        async with asyncio.timeout(20):
            while self.link.is_connected:  # The end of the last one is not seen yet.
                await asyncio.sleep(0.005)
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "hive_core", "relay", "--link", str(self.directory / "relay.sock")),
                *("--status", str(self.directory / "status.sock"), "--credentials", str(self.directory / "keys")),
                env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(sys.path)},
                stderr=log,
                stdout=log,
            )
        async with asyncio.timeout(60):
            while not self.link.is_connected:
                await asyncio.sleep(0.005)
        return self.process

    async def end(self, number: signal.Signals) -> int:
        """End the relay with a signal, and return its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), 30)

    async def call(self, agent: str = "ada", body: dict[str, Any] = BODY) -> tuple[int, bytes]:
        """Make a call as an agent does."""
        url = f"http://127.0.0.1:{self.ports[agent]}/relay/v1/messages"
        async with self.session.post(url, json=body) as answer:
            return answer.status, await answer.read()

    async def status(self, path: str) -> str:
        """Read one of the relay's own endpoints."""
        connector = aiohttp.UnixConnector(str(self.directory / "status.sock"))
        async with aiohttp.ClientSession(connector=connector) as session, session.get(f"http://x{path}") as answer:
            return await answer.text()

    async def close(self) -> None:
        await self.session.close()
        if self.process is not None and self.process.returncode is None:
            await self.end(signal.SIGKILL)
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        del PROVIDERS["relay"]


@asynccontextmanager
async def relay_stack(directory: Path, respond: Responder = whole_message) -> AsyncIterator[RelayStack]:
    """A ledger, a vendor and the daemon's end; no relay yet."""
    async with AsyncExitStack() as stack:
        hive = await stack.enter_async_context(ledger_hive())
        vendor = await stack.enter_async_context(fake_vendor(respond))
        relay = RelayStack(directory, hive, vendor)
        stack.push_async_callback(relay.close)
        yield relay


def last_event(content: bytes) -> dict[str, Any]:
    """The last event of a stream."""
    found: dict[str, Any] = json.loads([line for line in content.splitlines() if line.startswith(b"data:")][-1][5:])
    return found
