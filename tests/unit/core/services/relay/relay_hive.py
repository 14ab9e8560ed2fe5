"""A relay in this process, with a daemon and a vendor of the test."""

from __future__ import annotations

import asyncio
import io
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
from pydantic import BaseModel

from hive_core.infra.packets import PacketConnection
from hive_core.protocol.models.link import (
    RelayAgent,
    RelayAnswer,
    RelayHello,
    RelayListener,
    RelayPacket,
    RelayProvider,
    RelayReserve,
    RelaySettle,
    RelaySynced,
    read_relay_packet,
)
from hive_core.protocol.models.providers import ProviderAccess
from hive_core.protocol.models.vendors import ModelFeature, VendorApi
from hive_core.services.relay.gateway import RelayGateway
from hive_core.services.relay.keys import KeyDirectory
from tests.helpers.memory import MEMORY
from tests.unit.core.services.relay.fake_vendor import FakeVendor, Responder, fake_vendor, whole_message

KEY = "sk-the-real-key-0123456789"
SECOND_KEY = "sk-the-second-key-987654"
Decision = Callable[[RelayReserve], Awaitable[RelayAnswer]]


async def granted(request: RelayReserve) -> RelayAnswer:
    return RelayAnswer(id=request.id, granted=True)


class FakeDaemon:
    """The daemon's end of the link: it decides as the test says, and keeps what it was told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.decide: Decision = granted
        self.confirms = True
        """Whether settlements are confirmed."""
        self.hellos: list[RelayHello] = []
        self.reserved: list[RelayReserve] = []
        self.settled: list[RelaySettle] = []
        self.changed = asyncio.Condition()
        self.on_connect: Callable[[], Awaitable[None]] | None = None
        self._connection: PacketConnection | None = None
        self._server: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.path.unlink(missing_ok=True)
        self._server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._server.bind(str(self.path))
        self._server.listen(8)
        self._server.setblocking(False)
        self._task = asyncio.create_task(self._run(self._server))

    async def stop(self) -> None:
        """End as a daemon that is killed: without a word."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._connection is not None:
            self._connection.close()
        if self._server is not None:
            self._server.close()
        self.path.unlink(missing_ok=True)

    async def send(self, packet: BaseModel, descriptor: int | None = None) -> None:
        assert self._connection is not None
        await self._connection.send(packet.model_dump_json().encode(), descriptor)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20), self.changed:
            await self.changed.wait_for(condition)

    async def end_of_call(self, number: int = 1) -> RelaySettle:
        """Wait for so many settlements, and return the last one."""
        await self.until(lambda: len(self.settled) >= number)
        return self.settled[number - 1]

    async def _run(self, server: socket.socket) -> None:
        while True:
            caller, _ = await asyncio.get_running_loop().sock_accept(server)
            connection = self._connection = PacketConnection(caller)
            if self.on_connect is not None:
                await self.on_connect()
            try:
                while True:
                    data, _ = await connection.receive()
                    await self._take(read_relay_packet(data), connection)
            except ConnectionError:
                connection.close()

    async def _take(self, packet: RelayPacket, connection: PacketConnection) -> None:
        answer: RelayAnswer | None = None
        match packet:
            case RelayHello():
                self.hellos.append(packet)
            case RelayReserve():
                self.reserved.append(packet)
                answer = await self.decide(packet)
            case RelaySettle():
                self.settled.append(packet)
                answer = RelayAnswer(id=packet.id, granted=True) if self.confirms else None
        if answer is not None:
            await connection.send(answer.model_dump_json().encode())
        async with self.changed:
            self.changed.notify_all()


class RelayHive:
    """One agent, ada, and one provider, `vendor`, by default of the Messages API."""

    def __init__(self, directory: Path, vendor: FakeVendor) -> None:
        self.directory = directory
        self.vendor = vendor
        self.daemon = FakeDaemon(directory / "relay.sock")
        self.api: VendorApi = "anthropic"
        self.keys = ["key"]
        self.models = ["*"]
        self.features: list[ModelFeature] = []
        self.provider_more: dict[str, Any] = {}
        self.placeholder = ""
        (directory / "keys").mkdir()
        for name, value in (("key", KEY), ("second", SECOND_KEY)):
            path = directory / "keys" / name
            path.touch(mode=0o600)
            path.write_text(value + "\n")
        self.gateway = RelayGateway(self.daemon.path, KeyDirectory(directory / "keys"))
        self._link: asyncio.Task[None] | None = None
        self.port = 0
        self.session = aiohttp.ClientSession()

    async def open(self) -> None:
        self.daemon.on_connect = self.configure
        self.daemon.start()
        await self.gateway.open()
        self._link = asyncio.create_task(self.gateway.link.run())
        await self.served()

    async def served(self) -> None:
        """Wait until the relay has taken in what was sent."""
        async with asyncio.timeout(20):
            while True:
                try:
                    async with self.session.head(self.url("")) as answer:
                        assert answer.status == 200
                        return
                except (aiohttp.ClientError, ValueError):
                    await asyncio.sleep(0.005)

    async def configure(self) -> None:
        """Send everything, as a daemon does after each connect."""
        base = self.vendor.url + ("/v1" if self.api == "openai" else "")
        await self.daemon.send(
            RelayProvider(name="vendor", api=self.api, base_url=base, keys=self.keys, **self.provider_more)
        )
        access = ProviderAccess(provider="vendor", models=self.models, features=self.features)
        await self.daemon.send(RelayAgent(name="ada", access=[access]))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.port = listener.getsockname()[1]
            await self.daemon.send(RelayListener(name="ada", key=self.placeholder), listener.fileno())
        await self.daemon.send(RelaySynced())

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/vendor{path}"

    async def post(
        self, path: str, body: object = None, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send a request as an agent, and return status, body and headers of the answer."""
        kind = {} if headers and "Content-Type" in headers else {"Content-Type": "application/json"}
        async with self.session.post(
            self.url(path),
            json=body if data is None else None,
            data=None if data is None else io.BytesIO(data),
            headers={**(kind if data is not None else {}), **(headers or {})},
        ) as answer:
            found = {name.lower(): value for name, value in answer.headers.items()}
            return answer.status, await answer.read(), found

    async def close(self) -> None:
        await self.session.close()
        await self.gateway.close(0)
        if self._link is not None:
            self._link.cancel()
            await asyncio.gather(self._link, return_exceptions=True)
        await self.daemon.stop()


@asynccontextmanager
async def relay_hive(respond: Responder = whole_message, **changes: Any) -> AsyncIterator[RelayHive]:
    """A relay that is connected and serves ada; `changes` are attributes of `RelayHive`."""
    async with AsyncExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="relay-", dir=MEMORY))
        vendor = await stack.enter_async_context(fake_vendor(respond))
        hive = RelayHive(Path(directory), vendor)
        for name, value in changes.items():
            assert hasattr(hive, name)
            setattr(hive, name, value)
        await hive.open()
        try:
            yield hive
        finally:
            await hive.close()
