"""Limits that keep one caller from harming the others."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import encode, exchange, request
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


@pytest.mark.parametrize("agent", ["ann", None])
async def test_many_connections(hive: Daemon, agent: str | None) -> None:
    """A caller that opens too many connections is hung up on; the others notice nothing; one that ends makes room."""
    place, most = (hive.host_socket, OPERATOR_CONNECTIONS) if agent is None else (hive.core_socket(agent), CONNECTIONS)
    path = "/healthz" if agent is None else "/v1/whoami"
    streams = [await asyncio.open_unix_connection(str(place)) for _ in range(most)]
    try:
        # Every one is served until an answer comes back on the last.
        reader, writer = streams[-1]
        writer.write(encode("GET", path, headers={"Connection": "keep-alive"}))
        assert await reader.readuntil(b"\r\n") == b"HTTP/1.1 200 OK\r\n"
        for _ in range(3):
            assert await exchange(place, encode("GET", path)) == b""
        assert (await hive.ask("GET", "/v1/whoami", agent="bob"))["name"] == "bob"
        if agent is not None:
            assert await hive.ask("GET", "/healthz") == {"status": "ok"}
    finally:
        for _, writer in streams:
            writer.transport.abort()
    async with asyncio.timeout(10):
        for attempt in itertools.count():
            # The daemon has yet to hear that they are gone; each answer, also a hang-up, is something to wait for.
            if await exchange(place, encode("GET", path)):
                break
            assert attempt < 10_000


async def test_many_refusals(hive: Daemon) -> None:
    """A caller gets 30 refusals a minute written down, so that it cannot fill the disk; others still get theirs."""
    before = len(audit_rows(hive))
    for _ in range(REFUSALS_PER_MINUTE + 15):
        assert (await request(hive.core_socket("ann"), "GET", "/v1/nothing")).status == 404
    assert audit_rows(hive, before) == [("agent:ann", "request", "GET /v1/nothing", "not_found")] * REFUSALS_PER_MINUTE
    await check_refused(hive, [Bad("GET", "/v1/nothing", 404, "not_found")], "bob")
