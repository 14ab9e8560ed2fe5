"""The live flow of events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from hive_core.infra.telemetry.events import EventHub
from hive_core.protocol import Event, EventKind


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


@pytest.mark.parametrize("kind", ["agent.state", "message.released"])
async def test_an_agent_displaces_only_its_own_events(kind: EventKind) -> None:
    """However much one agent causes, readers that are slow or come back get what others did, in its order."""
    hub = EventHub()
    before = hub.last_id
    with hub.reader(None) as slow:
        for number in range(300):
            hub.publish("message.sent", {"sender": "good", "n": number})
            hub.publish("agent.state", {"agent": f"other{number % 20}", "n": number})
            for _ in range(20):
                hub.publish(kind, {"agent": "bad", "n": number})
        late = [event async for event in _first(slow, 1_001)]
    with hub.reader(before) as back:
        again = [event async for event in _first(back, 1_000)]
    assert late[1:] == again
    assert (late[0].kind, late[0].data) == ("events.lost", {"count": 300 * 22 - 1_000})
    for agent in ("good", "other"):
        named = [event for event in again if str(event.data.get("agent") or event.data.get("sender")).startswith(agent)]
        assert [event.data["n"] for event in named] == list(range(300))
    assert sorted(event.id for event in again) == [event.id for event in again]
    assert again[-1].data == {"agent": "bad", "n": 299}, "of its own, the newest are kept"


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
