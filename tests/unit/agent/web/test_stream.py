"""The live flow on real connections."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from hive_agent.backends.transcript import TranscriptText
from hive_agent.web.feed import Feed
from tests.unit.agent.web.fake_browser import FakeBrowser, browsing, stream_request, streaming
from tests.unit.agent.web.fakes import Served, served
from tests.unit.agent.web.test_feed import events

READERS = 200
Told = list[tuple[str, str, Any]]


async def until(reader: asyncio.StreamReader, last: bytes) -> Told:
    """Events up to the one that has `last` in it."""
    got = bytearray()
    async with asyncio.timeout(60):
        while last not in got[-1_000:] or not got.endswith(b"\n\n\r\n"):
            part = await reader.read(2**20)
            assert part, f"the stream ended before {last!r}"
            got += part
    return list(events(unchunked(bytes(got))))


def unchunked(body: bytes) -> bytes:
    """The content of chunks (RFC 9112, 7.1), also where the last one breaks off."""
    parts: list[bytes] = []
    start = 0
    while (end := body.find(b"\r\n", start)) >= 0:
        size = int(body[start:end], 16)
        parts.append(body[end + 2 : end + 2 + size])
        start = end + 2 + size + 2
    return b"".join(parts)


async def test_now_first_and_then_everything(page: Served, dashboard: FakeBrowser) -> None:
    """A late comer learns how things stand, with what the running turn has said, and then everything, once."""
    page.controls.turn(1)
    page.controls.tell(1, TranscriptText("before"))
    async with streaming(page, dashboard) as reader:
        page.controls.tell(1, TranscriptText("after"), TranscriptText("last"))
        (_, first, now), *rest = await until(reader, b"last")
    assert first == "now" and now["snapshot"]["turn"]["id"] == 1
    texts = [entry["text"] for entry in now["latest"]["entries"]] + [data["text"] for _, _, data in rest]
    assert texts == ["before", "after", "last"]


@pytest.mark.parametrize("way", ["header", "address"])
async def test_resume(page: Served, dashboard: FakeBrowser, way: str) -> None:
    """With its last id a reader gets what it missed and nothing else, by the header as by the address."""
    page.feed.publish("state", {"n": 1})
    last = page.feed.last_id
    page.feed.publish("state", {"n": 2})
    query, headers = (f"&after={last}", {}) if way == "address" else ("", {"Last-Event-ID": last})
    async with streaming(page, dashboard, query, **headers) as reader:
        assert [(kind, data["n"]) for _, kind, data in await until(reader, b'"n":2')] == [("state", 2)]


class Slow:
    """A reader that does not read before it is asked what it has received."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def received(self) -> Told:
        """Everything until it was hung up on; an event that breaks off is none."""
        self._connection.settimeout(20)
        got = b""
        while part := self._connection.recv(2**20):
            got += part
        content = unchunked(got.partition(b"\r\n\r\n")[2])
        return list(events(content[: content.rfind(b"\n\n") + 2]))


@contextmanager
def slow_reader(page: Served, browser: FakeBrowser) -> Iterator[Slow]:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(page.socket))
        connection.sendall(stream_request(browser))
        yield Slow(connection)


async def test_hundreds_of_readers_one_slow(run_dir: Path) -> None:
    """Of 200 readers one does not read: it is dropped and can resume, and nobody misses an event or hears it twice."""
    feed = Feed(most=60)
    async with AsyncExitStack() as stack:
        page = await stack.enter_async_context(served(run_dir, feed=feed))
        browser = await stack.enter_async_context(browsing(page, socket=True))
        slow = stack.enter_context(slow_reader(page, browser))
        readers = [await stack.enter_async_context(streaming(page, browser)) for _ in range(READERS - 1)]
        reading = [asyncio.create_task(until(reader, b'"end"')) for reader in readers]
        told = 0
        # Until the kernel's buffers, the server's and the feed's patience are used up.
        async with asyncio.timeout(60):
            while feed.readers == READERS:
                feed.publish("entry", {"turn": 1, "n": told, "text": "x" * 8_000})
                told += 1
                await asyncio.sleep(0.005)
        feed.publish("state", {"n": "end"})
        everyone = await asyncio.gather(*reading)
        assert all(numbers(found) == list(range(told)) for found in everyone)
        assert feed.readers == READERS - 1
        before = slow.received()
        async with streaming(page, browser, **{"Last-Event-ID": before[-1][0]}) as reader:
            rest = await until(reader, b'"end"')
        assert {kind for _, kind, _ in rest} == {"entry", "state"}
        assert numbers([*before, *rest]) == list(range(told))


def numbers(found: Told) -> list[int]:
    """The entries that were told."""
    return [data["n"] for _, kind, data in found if kind == "entry"]


async def test_too_many_readers(
    page: Served, browser: FakeBrowser, dashboard: FakeBrowser, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More windows than there is room for are refused, and told so."""
    monkeypatch.setattr("hive_agent.web.stream.MOST_READERS", 1)
    async with streaming(page, dashboard):
        answer = await browser.ask("GET", f"/events?key={browser.key}")
    assert answer.status == 503
    assert answer.json()["error"]["code"] == "too_many_readers"


async def test_streams_end_with_the_harness(run_dir: Path) -> None:
    """When the page closes, a reader gets the end of its stream, and closing does not wait for it."""
    async with asyncio.timeout(10), AsyncExitStack() as stack:
        async with served(run_dir) as page, browsing(page, socket=True) as browser:
            reader = await stack.enter_async_context(streaming(page, browser))
        assert (await reader.read()).endswith(b"0\r\n\r\n")


async def test_one_who_leaves_is_forgotten(page: Served, dashboard: FakeBrowser) -> None:
    """A window that is closed is no reader any more, without an event having to be written to it."""
    async with streaming(page, dashboard):
        assert page.feed.readers == 1
    async with asyncio.timeout(5):
        while page.feed.readers:
            await asyncio.sleep(0.01)
