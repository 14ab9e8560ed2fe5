"""The live flow of events over its stream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.helpers.real_daemon import Daemon
from tests.integration.api.raw_http import encode

Json = dict[str, Any]
SECONDS = 20.0


class Stream:
    """A reader of server-sent events (HTML standard, section 9.2)."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.last_id = ""

    async def block(self) -> dict[str, str]:
        """The fields of the next block, without comments; empty at the end of the stream."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(SECONDS):
            while line := (await self._reader.readline()).decode():
                # Each write of the daemon is one chunk of HTTP; its length is a line of hexadecimal digits.
                text = line.rstrip("\r\n")
                if line.endswith("\r\n"):
                    continue
                if text.startswith(":"):
                    continue
                if not text and fields:
                    break
                name, _, value = text.partition(": ")
                fields[name] = value
        self.last_id = fields.get("id", self.last_id)
        return fields

    async def event(self) -> Json:
        """The next event."""
        fields = await self.block()
        event: Json = json.loads(fields["data"])
        assert (fields["id"], fields["event"]) == (str(event["id"]), event["kind"])
        return event


@asynccontextmanager
async def watching(hive: Daemon, target: str = "/v1/events", **headers: str) -> AsyncIterator[Stream]:
    """A stream that has said that it is connected, hung up on after the block."""
    reader, writer = await asyncio.open_unix_connection(str(hive.host_socket))
    try:
        writer.write(encode("GET", target, headers=headers))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), SECONDS)
        assert head.startswith(b"HTTP/1.1 200")
        assert b"content-type: text/event-stream" in head.lower()
        stream = Stream(reader)
        assert set(await stream.block()) == {"id"}
        yield stream
    finally:
        writer.transport.abort()


async def send(hive: Daemon, body: str) -> int:
    """A message from ann to bob; its id."""
    number: int = (await hive.ask("POST", "/v1/messages", {"to": "hm1nd", "body": body}, agent="ann"))["id"]
    return number


async def test_stream(hive: Daemon) -> None:
    """A watcher sees what happens from when it is connected, in order and in full."""
    await send(hive, "before")
    async with watching(hive) as stream:
        number = await send(hive, "line\nend \u20ac")
        event = await stream.event()
        assert event["kind"] == "message.sent"
        assert event["data"] == {
            "id": number,
            "sender": "ann",
            "to": "hm1nd",
            "recipients": ["hm1nd"],
            "reply_to": None,
            "body": "line\nend \u20ac",
        }
        await hive.ask("POST", "/v1/harness/hello", {"instance": "instance-1", "version": "1"}, agent="bob")
        event = await stream.event()
        assert (event["kind"], event["data"]) == ("agent.state", {"agent": "bob", "state": "starting", "detail": ""})


async def test_resumed(hive: Daemon) -> None:
    """A watcher that comes back with the last id that it saw misses nothing and sees nothing twice."""
    async with watching(hive) as stream:
        connected = stream.last_id
        await send(hive, "1")
        await send(hive, "2")
        assert (await stream.event())["data"]["body"] == "1"
        seen = stream.last_id
    await send(hive, "3")
    for options in ({"target": f"/v1/events?after={seen}"}, {"Last-Event-ID": seen}):
        async with watching(hive, **options) as stream:
            assert stream.last_id == seen, "a stream that breaks off here is resumed from here"
            assert [(await stream.event())["data"]["body"] for _ in range(2)] == ["2", "3"]
    async with watching(hive, **{"Last-Event-ID": connected}) as stream:
        assert [(await stream.event())["data"]["body"] for _ in range(3)] == ["1", "2", "3"]


async def test_resumed_after_restart(hive: Daemon) -> None:
    """Ids grow over a restart of the daemon, so a watcher that comes back then sees what is new."""
    async with watching(hive) as stream:
        await send(hive, "1")
        await stream.event()
        seen = stream.last_id
        assert await hive.terminate(SECONDS) == 0
        assert await stream.block() == {}, "the stream ends with the daemon"
    await hive.start()
    await send(hive, "2")
    async with watching(hive, **{"Last-Event-ID": seen}) as stream:
        event = await stream.event()
        assert event["data"]["body"] == "2"
        assert event["id"] > int(seen)
