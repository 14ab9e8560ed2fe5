"""The live flow of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from hive_core.infra.telemetry.events import EventHub
from hive_core.protocol import Event


async def test_a_reader_resumes_where_it_stopped() -> None:
    """With the id of the last event seen, a reader that comes back gets everything after it, in order."""
    hub = EventHub()
    for number in range(5):
        hub.publish("message.sent", {"n": number})
    with hub.reader(0) as reading:
        seen = [event async for event in _first(reading, 5)]
    assert [event.data["n"] for event in seen] == [0, 1, 2, 3, 4]
    with hub.reader(seen[2].id) as reading:
        assert [event.data["n"] async for event in _first(reading, 2)] == [3, 4]


async def test_a_slow_reader_is_told_what_it_lost() -> None:
    """A reader that does not keep up loses the oldest events, and hears how many."""
    hub = EventHub()
    with hub.reader(None) as reading:
        for number in range(1_500):
            hub.publish("message.sent", {"n": number})
        events = [event async for event in _first(reading, 1_001)]
    assert (events[0].kind, events[0].data) == ("events.lost", {"count": 500})
    assert [event.data["n"] for event in events[1:]] == list(range(500, 1_500))


async def test_closing_ends_every_reader() -> None:
    """A daemon that stops does not wait for who watches."""
    hub = EventHub()

    async def read() -> int:
        with hub.reader(None) as reading:
            return sum([1 async for _ in reading])

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.sleep(0)
    hub.close()
    async with asyncio.timeout(10):
        assert await asyncio.gather(*readers) == [0, 0, 0]


async def _first(reading: AsyncIterator[Event | None], count: int) -> AsyncIterator[Event]:
    async for event in reading:
        if event is not None:
            yield event
            count -= 1
        if count == 0:
            return
