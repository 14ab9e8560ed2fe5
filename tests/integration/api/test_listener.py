"""A listening socket by itself: who can connect when, and what a caller can use up."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hive_core.api.listener import Listener

LARGE = 8 * 1024 * 1024
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: %s\r\n\r\n"


@asynccontextmanager
async def listening(place: Path, **limits: Any) -> AsyncIterator[Listener]:
    """A server of large answers."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    listener = Listener(runner, place, 0o660, os.getgid(), **{"connections": 8, **limits})
    await listener.start()
    try:
        yield listener
    finally:
        listener.stop()
        listener.hang_up()
        await runner.cleanup()


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it did not come to that")


async def test_nobody_connects_before_the_mode_is_right(hive_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until mode and group are set connections are refused; and no umask changes under other threads' feet."""
    place = hive_home / "s"
    attempts: list[str] = []

    def spy(change: Callable[..., None]) -> Callable[..., None]:
        def trying(*arguments: Any, **options: Any) -> None:
            with socket.socket(socket.AF_UNIX) as caller:
                try:
                    caller.connect(str(place))
                except ConnectionRefusedError:
                    attempts.append("refused")
                else:
                    attempts.append("connected")
            change(*arguments, **options)

        return trying

    def no_umask(_: int) -> int:
        raise AssertionError("the umask belongs to the whole process")

    with monkeypatch.context() as patch:
        patch.setattr(os, "chmod", spy(os.chmod))
        patch.setattr(os, "chown", spy(os.chown))
        patch.setattr(os, "umask", no_umask)
        async with listening(place):
            assert attempts == ["refused", "refused"]
            assert stat.S_IMODE(place.stat().st_mode) == 0o660
            reader, writer = await asyncio.open_unix_connection(str(place))
            writer.close()
            await reader.read()


@pytest.mark.parametrize("connection", [b"keep-alive", b"close"])
async def test_a_caller_that_does_not_read_is_hung_up_on(hive_home: Path, connection: bytes) -> None:
    """An answer that nobody reads is kept for a while only; what was sent and the descriptor are then free."""
    async with listening(hive_home / "s", stalled_seconds=0.2) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"), limit=1)
        writer.write(REQUEST % connection)
        await until(lambda: len(listener.open) == 1)
        await until(lambda: not listener.open)
        received = 0
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            while True:
                received += len(await reader.readexactly(65_536))
        assert received < LARGE
        writer.close()


async def test_a_caller_that_reads_late_or_idles_is_served(hive_home: Path) -> None:
    """Who reads in time gets everything, and may keep its connection open without using it."""
    async with listening(hive_home / "s", stalled_seconds=2.0) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        for _ in range(2):
            writer.write(REQUEST % b"keep-alive")
            await until(lambda: len(listener.open) == 1)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(LARGE)
        await asyncio.sleep(2.2)  # Longer than an unread answer would be kept.
        writer.write(REQUEST % b"close")
        assert (await reader.readuntil(b"\r\n")) == b"HTTP/1.1 200 OK\r\n"
        writer.close()


async def test_what_is_closed_and_not_yet_read_counts(hive_home: Path) -> None:
    """A caller cannot have any number of unread answers by asking for each on a connection of its own."""
    async with listening(hive_home / "s", connections=2) as listener:
        writers = []
        for number in range(2):
            _, writer = await asyncio.open_unix_connection(str(hive_home / "s"), limit=1)
            writer.write(REQUEST % b"close")
            writers.append(writer)
            await until(lambda number=number: len(listener.open) == number + 1)  # type: ignore[misc]
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        assert await reader.read() == b""
        for each in [*writers, writer]:
            each.transport.abort()
        await until(lambda: not listener.open)
