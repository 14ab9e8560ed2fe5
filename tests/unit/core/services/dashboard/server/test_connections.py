"""Connections of browsers, and their limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from hive_core.services.dashboard.application import Dashboard, build
from hive_core.services.dashboard.boundary import Boundary
from hive_core.services.dashboard.hive_client import HiveConnection
from hive_core.services.dashboard.server.connections import ConnectionLimits, Connections

HOST = "hive.localhost:7000"


@asynccontextmanager
async def served(limits: ConnectionLimits) -> AsyncIterator[tuple[Connections, int]]:
    """Serve a dashboard on a port."""
    connections = Connections(limits)
    parts = Dashboard(Boundary(f"http://{HOST}"), HiveConnection(Path("/nowhere")), connections=connections)
    runner = web.AppRunner(build(parts))
    await runner.setup()
    assert runner.server is not None
    connections.server = runner.server
    server = await asyncio.get_running_loop().create_server(connections, "127.0.0.1", 0)
    try:
        yield connections, server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await runner.cleanup()


@pytest.mark.parametrize("sent", [b"", b"GET /sign-in HTTP/1.1\r\nHost: ", b"GET /sign-in HTTP/1.1\r\nHost: a\r\n"])
async def test_slow_heads_are_ended(sent: bytes) -> None:
    """A connection whose request does not arrive in time is closed, and the peer is told why."""
    async with served(ConnectionLimits(head_seconds=0.05)) as (connections, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 408 ")
        writer.close()
        while len(connections):
            await asyncio.sleep(0.001)


async def test_a_second_slow_head_is_ended() -> None:
    """The time counts anew for each request of a connection."""
    async with served(ConnectionLimits(head_seconds=0.2)) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /sign-in HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.readuntil(b"</html>"), 20)).startswith(b"HTTP/1.1 200 OK")
        writer.write(b"GET /")
        assert b"HTTP/1.1 408 " in await asyncio.wait_for(reader.read(), 20)
        writer.close()


async def test_one_more_connection_takes_the_place_of_an_idle_one() -> None:
    """Of more connections than there may be, the oldest one without a request is closed, and a new one is served."""
    async with served(ConnectionLimits(connections=2)) as (connections, port):
        first = await asyncio.open_connection("127.0.0.1", port)
        second = await asyncio.open_connection("127.0.0.1", port)
        while len(connections) < 2:
            await asyncio.sleep(0.001)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /sign-in HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n".encode())
        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 200 OK")
        assert await asyncio.wait_for(first[0].read(), 20) == b""
        assert connections.refused == 1
        for each in (first[1], second[1], writer):
            each.close()


async def test_huge_heads_are_refused() -> None:
    """A head beyond the library's limits is refused, and nothing of it is kept."""
    async with served(ConnectionLimits()) as (_, port):
        for huge in (f"GET /{'a' * 20_000} HTTP/1.1\r\nHost: {HOST}\r\n", f"GET / HTTP/1.1\r\nA: {'b' * 20_000}\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(huge.encode() + b"\r\n")
            assert (await asyncio.wait_for(reader.read(), 20)).split(b" ", 2)[1] == b"400"
            writer.close()
