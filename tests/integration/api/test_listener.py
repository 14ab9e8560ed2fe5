"""A listening socket by itself: who can connect when, and what a caller can use up."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from hive_core.api.dispatch import Dispatcher, Router
from hive_core.api.endpoint import ApiCall, Caller, Endpoint
from hive_core.api.listener import Listener
from hive_core.api.sockets import make_runner
from hive_core.protocol import Request

MIB = 1024 * 1024
LARGE = 8 * MIB
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

    async def later(_: ApiCall) -> web.Response:
        await asyncio.sleep(0.2)
        return web.Response(body=b"x")

    endpoints = [
        Endpoint("GET", "/", "", answer, "text/plain"),
        Endpoint("GET", "/later", "", later, "text/plain"),
        Endpoint("POST", "/", "", answer, "text/plain", Text),
        Endpoint("POST", "/long", "", answer, "text/plain", Text, most_bytes=2 * MIB),
        Endpoint("POST", "/manager", "", answer, "text/plain", Text, manager_only=True),
    ]
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


REFUSED = {
    "unknown path": b"GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n",
    "unknown path with a body": b"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
    "wrong method": b"DELETE / HTTP/1.1\r\nHost: h\r\n\r\n",
    "query": b"GET /?a=1&a=2 HTTP/1.1\r\nHost: h\r\n\r\n",
    "body": b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n[]",
    "manager only": b"POST /manager HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED)
async def test_a_refused_request_leaves_nothing_unfinished(hive_home: Path, data: bytes) -> None:
    """Its connection is idle then, stays open, and takes the next request."""
    async with listening(hive_home / "s", request_seconds=0.2) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        for _ in range(2):
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 4") and b"408" not in head
            await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
            assert listener.unfinished == 0
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.6):
                    await reader.read(1)
            assert len(listener.open) == 1
        writer.close()


async def test_a_request_refused_before_its_end_ends_its_connection(hive_home: Path) -> None:
    """The rest of it that still arrives is no beginning of another request."""
    async with listening(hive_home / "s") as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        writer.write(b"POST /nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n123")
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 404 ") and b"connection: close" in head.lower()
        writer.write(b"4567890")
        async with asyncio.timeout(20):
            assert b"not_found" in await reader.read()
        await until(lambda: not listener.open)
        assert listener.unfinished == 0
        writer.close()


async def test_a_body_that_nobody_reads_leaves_nothing_unfinished(hive_home: Path) -> None:
    """A body that arrives for an endpoint without one, while the request is carried out, belongs to that request."""
    async with listening(hive_home / "s", request_seconds=0.2) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        writer.write(b"GET /later HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n")
        await until(lambda: any(each.rank is None for each in listener.open))
        writer.write(b"12345")
        assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 200 ")
        await asyncio.sleep(0.6)
        assert listener.unfinished == 0
        assert len(listener.open) == 1
        writer.close()


async def test_no_timer_runs_while_nothing_is_unfinished(hive_home: Path) -> None:
    """A connection alone does not wake the daemon again and again; half a request does."""
    async with listening(hive_home / "s", request_seconds=0.2) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"))
        await until(lambda: len(listener.open) == 1)
        assert not listener.watches
        writer.write(REFUSED["unknown path"])
        await reader.readuntil(b"\r\n\r\n")
        await until(lambda: not listener.watches)
        writer.write(b"GET / HT")
        await until(lambda: listener.watches)
        writer.close()


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
    """The oldest is refused if all of them are too large together; the others go on."""
    async with listening(hive_home / "s", unfinished_bytes=100_000) as listener:
        body = b'{"text": "%s"}' % (b"x" * 70_000)
        head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % len(body)
        first, second = [await asyncio.open_unix_connection(str(hive_home / "s")) for _ in range(2)]
        first[1].write(head + body[:40_000])
        await until(lambda: listener.unfinished > 40_000)
        second[1].write(head + body[:-1])
        answer = await first[0].read()
        assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n") and b"too_much_unfinished" in answer
        second[1].write(body[-1:])
        assert await second[0].readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        for _, writer in (first, second):
            writer.close()


@contextmanager
def traced() -> Iterator[Callable[[], int]]:
    """The most memory that this program has taken since the beginning, in bytes."""
    tracemalloc.start()
    try:
        began = tracemalloc.get_traced_memory()[0]
        yield lambda: tracemalloc.get_traced_memory()[1] - began
    finally:
        tracemalloc.stop()


def send_unfinished(place: Path, data: bytes, callers: ExitStack) -> None:
    """Connect and send, which takes no memory of this program."""
    caller = callers.enter_context(socket.socket(socket.AF_UNIX))
    caller.settimeout(2)
    caller.connect(str(place))
    with suppress(OSError):
        caller.sendall(data)


async def test_unfinished_requests_are_not_kept_beyond_their_size(hive_home: Path) -> None:
    """A caller that sends on 64 connections at once has 8 MiB kept, and those that it was refused are free at once."""
    data = b"POST /long HTTP/1.1\r\nHost: h\r\nContent-Length: 2000000\r\n\r\n" + b" " * 1_900_000
    loop = asyncio.get_running_loop()
    with ExitStack() as callers, ThreadPoolExecutor(64) as threads:
        async with listening(hive_home / "s", connections=32) as listener:
            with traced() as most:
                sending = [
                    loop.run_in_executor(threads, send_unfinished, hive_home / "s", data, callers) for _ in range(64)
                ]
                await asyncio.gather(*sending)
                assert LARGE // 2 < listener.unfinished <= LARGE
                assert not listener.waits_for_memory
                assert most() < LARGE + 6 * MIB


async def test_who_leaves_answers_unread_is_hung_up_on_without_another(hive_home: Path) -> None:
    """The request of such a caller is not kept until it has read why it was refused."""
    async with listening(hive_home / "s", unfinished_bytes=100_000) as listener:
        reader, writer = await asyncio.open_unix_connection(str(hive_home / "s"), limit=1)
        writer.write(REQUEST % b"keep-alive")
        assert await reader.readexactly(1) == b"H"
        (connection,) = listener.open
        lost = asyncio.get_running_loop().create_future()
        end = connection.connection_lost
        connection.connection_lost = lambda error: (end(error), lost.set_result(None))  # type: ignore
        writer.write(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 500000\r\n\r\n" + b"x" * 200_000)
        async with asyncio.timeout(5):
            await lost
        writer.transport.abort()
        assert listener.unfinished == 0
        reader.feed_eof()
