"""One request of plain HTTP and its response: the time that hostile ends can take from everybody else."""

from __future__ import annotations

import asyncio
import socket
import time

import h11
import pytest

from hive_core.services.egress.checks.heads import find_end, read_head
from hive_core.services.egress.traffic.forward import BadResponse, Exchange

_GET = b"GET http://example.org/ HTTP/1.1\r\nHost: example.org\r\n\r\n"
_POST = b"POST http://example.org/ HTTP/1.1\r\nHost: example.org\r\nTransfer-Encoding: chunked\r\n\r\n"
_CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
_SPACES = b"a:" + b" " * 15_000 + b"\x00\r\n\r\n"


def pair() -> tuple[socket.socket, socket.socket]:
    """Return two ends of a TCP connection, whose buffers take many small pieces."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        return one, listener.accept()[0]


async def exchange(request: bytes, body: bytes, response: bytes) -> tuple[float, BaseException | None]:
    """Pass a request and a response on; return the longest turn, in time of the processor, and the error."""
    (client, agent), (proxy, server) = pair(), pair()
    longest, before = 0.0, time.thread_time()

    async def tick() -> None:
        nonlocal longest, before
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, before = max(longest, now - before), now

    async def drain(end: socket.socket) -> None:
        while await asyncio.get_running_loop().sock_recv(end, 65_536):
            pass

    with client, agent, proxy, server:
        for each in (client, agent, proxy, server):
            each.setblocking(False)
        server.send(response)
        server.shutdown(socket.SHUT_WR)
        helpers = [asyncio.create_task(work) for work in (tick(), drain(agent), drain(server))]
        end = find_end(request)
        made = Exchange(client, proxy, lambda _: None, lambda _: None)
        try:
            await made.run(read_head(request[:end]), request + body)
            error = None
        except (BadResponse, OSError, h11.RemoteProtocolError) as why:
            error = why
        longest = max(longest, time.thread_time() - before)
        for helper in helpers:
            helper.cancel()
        await asyncio.gather(*helpers, return_exceptions=True)
    return longest, error


@pytest.mark.parametrize(
    ("request_", "body", "response"),
    [
        (_GET, b"", b"HTTP/1.1 200 OK\r\n" + _SPACES),
        (_GET, b"", _CHUNKED + b"0\r\n" + _SPACES),
        (_POST, b"0\r\n" + _SPACES, b""),
    ],
    ids=["head of a response", "trailers of a response", "trailers of a request"],
)
async def test_no_field_takes_long(request_: bytes, body: bytes, response: bytes) -> None:
    """A field that is refused at its last character keeps nobody else waiting."""
    longest, error = await exchange(request_, body, response)
    assert error is not None and longest < 0.2


async def test_tiny_chunks_of_one_connection_leave_others_their_turn() -> None:
    """Thousands of chunks that arrive at once are passed on a few at a time."""
    longest, error = await exchange(_GET, b"", _CHUNKED + b"1\r\nx\r\n" * 9_000 + b"0\r\n\r\n")
    assert error is None and longest < 0.05
