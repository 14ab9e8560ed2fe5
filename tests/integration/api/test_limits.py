"""Limits that keep one caller from harming the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil
import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import encode, request
from tests.integration.api.refusal_checks import Bad, audit_rows, check_refused

INBOX = 5
CONNECTIONS = 32
OPERATOR_CONNECTIONS = 256
REFUSALS_PER_MINUTE = 30


async def test_full_inbox(hive: Daemon) -> None:
    """A full inbox refuses the next message until one is dealt with, and makes a broadcast store nothing at all."""
    for number in range(INBOX):
        await hive.ask("POST", "/v1/messages", {"to": "bob", "body": str(number)}, agent="ann")
    table = [Bad("POST", "/v1/messages", 429, "inbox_full", {"to": to, "body": "x"}) for to in ("bob", "*")]
    for reply in await check_refused(hive, table, "ann"):
        assert "bob" in reply.json["error"]["message"]
    assert (await hive.ask("POST", "/v1/messages", {"to": "hm1nd", "body": "x"}, agent="ann"))["recipients"]

    instance = {"instance": "instance-1"}
    await hive.ask("POST", "/v1/harness/hello", {**instance, "version": "1"}, agent="bob")
    (first,) = (await hive.ask("POST", "/v1/messages/receive", {**instance, "max": 1}, agent="bob"))["deliveries"]
    await check_refused(hive, table[:1], "ann")
    await hive.ask("POST", "/v1/messages/ack", {**instance, "ids": [first["id"]]}, agent="bob")
    assert (await hive.ask("POST", "/v1/messages", {"to": "bob", "body": "x"}, agent="ann"))["recipients"] == ["bob"]


async def test_full_inbox_of_operator(hive: Daemon) -> None:
    """The operator's inbox is bounded too, and reading makes room."""
    ids = [
        (await hive.ask("POST", "/v1/messages", {"to": "operator", "body": str(number)}, agent="ann"))["id"]
        for number in range(INBOX)
    ]
    bad = Bad("POST", "/v1/messages", 429, "inbox_full", {"to": "operator", "body": "x"})
    await check_refused(hive, [bad], "ann")
    assert (await hive.ask("POST", "/v1/messages/read", {"ids": ids[:1]}))["ids"] == ids[:1]
    await hive.ask("POST", "/v1/messages", {"to": "operator", "body": "x"}, agent="ann")


Streams = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


@asynccontextmanager
async def connections(place: Path, count: int, data: bytes = b"") -> AsyncIterator[Streams]:
    """Open so many connections, and send `data` on each; it is not waited for that the daemon reads it."""
    streams = [await asyncio.open_unix_connection(str(place)) for _ in range(count)]
    try:
        for _, writer in streams:
            writer.write(data)
        yield streams
    finally:
        for _, writer in streams:
            writer.transport.abort()


def open_connections(hive: Daemon, place: Path) -> int:
    """Count the connections that the daemon holds on a socket."""
    found = [str(connection.laddr) for connection in psutil.Process(hive.pid).net_connections("unix")]
    return found.count(str(place)) - 1  # The listening one.


HALF_A_HEAD = b"POST /v1/messages HTTP/1.1\r\nHost: hive\r\n"
HALF_A_BODY = encode("POST", "/v1/messages", headers={"Connection": "keep-alive", "Content-Length": "2000000"})
LONG_POLL = encode("GET", "/v1/logs?wait_seconds=60&cursor=0-0", headers={"Connection": "keep-alive"})


@pytest.mark.parametrize(
    ("agent", "data"),
    [("ann", b""), (None, b""), ("ann", HALF_A_HEAD), ("ann", HALF_A_BODY), ("ann", LONG_POLL)],
    ids=["idle", "idle-operator", "half-a-head", "half-a-body", "long-polls"],
)
async def test_many_connections(hive: Daemon, agent: str | None, data: bytes) -> None:
    """Whatever a program does on all connections of its agent, the next one is served; their number is bounded."""
    place, most = (hive.host_socket, OPERATOR_CONNECTIONS) if agent is None else (hive.core_socket(agent), CONNECTIONS)
    path = "/healthz" if agent is None else "/v1/whoami"
    async with connections(place, most + 5, data):
        for _ in range(3):
            async with asyncio.timeout(5):
                assert (await request(place, "GET", path)).status == 200
        assert open_connections(hive, place) <= most
        assert (await hive.ask("GET", "/v1/whoami", agent="bob"))["name"] == "bob"
        assert await hive.ask("GET", "/healthz") == {"status": "ok"}


async def test_a_request_under_way_keeps_its_connection(hive: Daemon) -> None:
    """A program that opens connections without end takes none from a request that is being sent or carried out."""
    place = hive.core_socket("ann")
    async with connections(place, 1, LONG_POLL) as (poll,), connections(place, CONNECTIONS * 3):
        assert (await hive.ask("GET", "/v1/whoami", agent="ann"))["name"] == "ann"
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await poll[0].read(1)


async def test_half_sent_requests_take_little_memory(hive: Daemon) -> None:
    """Of unfinished bodies at most 8 MiB are held, and those who send whole requests are served meanwhile."""
    place, daemon = hive.core_socket("ann"), psutil.Process(hive.pid)
    before = daemon.memory_info().rss
    async with connections(place, CONNECTIONS * 2, HALF_A_BODY + b" " * 1_900_000) as streams:
        for _, writer in streams:
            with suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.drain()
        assert (await hive.ask("POST", "/v1/messages", {"to": "bob", "body": "x"}, agent="ann"))["recipients"]
        assert daemon.memory_info().rss - before < 24 * 1024 * 1024


async def test_many_refusals(hive: Daemon) -> None:
    """A caller gets 30 refusals a minute written down, so that it cannot fill the disk; others still get theirs."""
    before = len(audit_rows(hive))
    for _ in range(REFUSALS_PER_MINUTE + 15):
        assert (await request(hive.core_socket("ann"), "GET", "/v1/nothing")).status == 404
    assert audit_rows(hive, before) == [("agent:ann", "request", "GET /v1/nothing", "not_found")] * REFUSALS_PER_MINUTE
    await check_refused(hive, [Bad("GET", "/v1/nothing", 404, "not_found")], "bob")
