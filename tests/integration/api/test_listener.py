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

from hive_core.api.dispatch import Dispatcher, Router
from hive_core.api.endpoint import ApiCall, Caller, Endpoint
from hive_core.api.listener import Listener
from hive_core.api.sockets import make_runner
from hive_core.protocol import Request

LARGE = 8 * 1024 * 1024
WHO = Caller("ann", "agent", lambda: "agent:ann")
REQUEST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: %s\r\n\r\n"


class Text(Request):
    """A request with a body."""

    text: str


@asynccontextmanager
async def listening(place: Path, **limits: Any) -> AsyncIterator[Listener]:
    """A server of large answers."""

    async def answer(_: ApiCall) -> web.Response:
        return web.Response(body=b"x" * LARGE)

    async def refused(*_: object) -> None:
        """Refusals are not looked at here."""

    endpoints = [Endpoint("GET", "/", "", answer, "text/plain"), Endpoint("POST", "/", "", answer, "text/plain", Text)]
    runner = make_runner(Dispatcher(Router(endpoints), lambda _: WHO, refused, lambda *_: None))
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


async def test_answers_that_nobody_reads_are_bounded(hive_home: Path) -> None:
    """A caller cannot have any number of unread answers by asking for each on a connection of its own."""
    async with listening(hive_home / "s", connections=2) as listener:
        writers = []
        for _ in range(6):
            _, writer = await asyncio.open_unix_connection(str(hive_home / "s"), limit=1)
            writer.write(REQUEST % b"close")
            writers.append(writer)
            await until(lambda: len(listener.open) > 0)
            assert len(listener.open) <= 2
        for each in writers:
            each.transport.abort()
        await until(lambda: not listener.open)


@pytest.mark.parametrize(
    "part", [b"GET / HT", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123"], ids=["head", "body"]
)
async def test_a_request_that_does_not_arrive_ends(hive_home: Path, part: bytes) -> None:
    """Half a request is told after a while that it took too long, and its connection is closed."""
    async with listening(hive_home / "s", request_seconds=0.2) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        writer.write(part)
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"request_timeout" in answer
        await until(lambda: not listener.open)
        assert listener.unfinished == 0
        writer.close()


async def test_a_trickle_does_not_keep_a_request_alive(hive_home: Path) -> None:
    """The limit is for the request as a whole: a byte now and then does not begin it anew."""
    async with listening(hive_home / "s", request_seconds=0.3) as listener:
        _, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        writer.write(b"GET / HTTP/1.1\r\nX: ")
        await until(lambda: listener.unfinished > 0)
        async with asyncio.timeout(10):
            while listener.open:
                writer.write(b"x")
                await asyncio.sleep(0.05)
        writer.transport.abort()


async def test_an_idle_connection_has_no_time_limit(hive_home: Path) -> None:
    """Neither before its first request nor after one: harnesses keep a connection open to notice the daemon's end."""
    async with listening(hive_home / "s", request_seconds=0.2) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        for _ in range(2):
            await asyncio.sleep(0.5)
            assert len(listener.open) == 1
            writer.write(REQUEST % b"keep-alive")
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(LARGE)
        writer.close()


async def test_unfinished_requests_have_a_size_in_all(hive_home: Path) -> None:
    """When all of them are too large, the oldest makes room; the others go on."""
    async with listening(hive_home / "s", unfinished_bytes=100_000) as listener:
        body = b'{"text": "%s"}' % (b"x" * 70_000)
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        first, second = [await asyncio.open_unix_connection(str(hive_home / "s")) for _ in range(2)]
        first[1].write(head + body[:40_000])
        await until(lambda: listener.unfinished > 40_000)
        second[1].write(head + body[:-1])
        assert await first[0].read() == b""
        second[1].write(body[-1:])
        assert await second[0].readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        for _, writer in (first, second):
            writer.close()
