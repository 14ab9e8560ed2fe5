"""HTTP requests on a unix socket."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hive_agent.client.http import HttpAnswer, HttpClient, HttpFailure


@pytest.fixture
def place() -> Iterator[Path]:
    """A path short enough for a socket."""
    with tempfile.TemporaryDirectory(prefix="hive-") as directory:
        yield Path(directory) / "s"


@asynccontextmanager
async def answering(place: Path, *answers: bytes) -> AsyncIterator[list[bytes]]:
    """A server that gives these answers, and hangs up at an empty one; yields the heads of requests, by connection."""
    left = list(answers)
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(b"")
        try:
            while left:
                heads[-1] += await reader.readuntil(b"\r\n\r\n")
                if not (answer := left.pop(0)):
                    break
                writer.write(answer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_unix_server(serve, place)
    async with server:
        yield heads
        server.close()


SHORT = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED = b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n"
LAST = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


async def test_a_connection_serves_one_request_after_another(place: Path) -> None:
    """Requests go over one connection until the server ends it, and a new one is made then."""
    async with answering(place, SHORT, CHUNKED, LAST, SHORT) as heads:
        client = HttpClient(place)
        assert await client.request("POST", "/a", b"{}") == HttpAnswer(200, b"ok")
        assert await client.request("GET", "/b?x=1") == HttpAnswer(409, b"ab")
        assert (await client.request("GET", "/c")).content == b""
        assert (await client.request("GET", "/d")).content == b"ok"
        client.close()
    assert len(heads) == 2
    assert b"POST /a HTTP/1.1\r\n" in heads[0]
    assert b"Content-Type: application/json" in heads[0]


async def test_a_kept_connection_that_was_closed_is_replaced(place: Path) -> None:
    """A server that hangs up on a kept connection gets the request again on a new one; no failure is reported."""
    async with answering(place, SHORT, b"", SHORT):
        client = HttpClient(place)
        assert (await client.request("GET", "/a")).status == 200
        assert (await client.request("GET", "/b")).status == 200
        client.close()


@pytest.mark.parametrize(
    "answer", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"]
)
async def test_answers_that_are_none(place: Path, answer: bytes) -> None:
    """A server that hangs up, or does not speak HTTP, is a failure."""
    async with answering(place, answer):
        client = HttpClient(place)
        with pytest.raises(HttpFailure):
            await client.request("GET", "/a")


async def test_no_server(place: Path) -> None:
    """A socket that is not there is a failure that says so."""
    with pytest.raises(HttpFailure, match="No such file"):
        await HttpClient(place).request("GET", "/a")


async def test_a_cancelled_request_leaves_no_connection(place: Path) -> None:
    """The answer to a request that was given up is never taken for the answer to the next one."""
    async with answering(place, SHORT, SHORT) as heads:
        client = HttpClient(place)
        await client.request("GET", "/a")
        waiting = asyncio.ensure_future(client.request("GET", "/b"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        client.close()
    assert len(heads) == 1
