"""The live event stream."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from hive_core.protocol import Event, EventKind

_KEPT = 1_000
_PER_READER = 1_000
_QUIET_SECONDS = 15


class _Entry(NamedTuple):
    """An event that is not a model yet, because most events are never read."""

    id: int
    kind: EventKind
    at: float
    data: Mapping[str, object]


class EventHub:
    """A publisher of events for any number of readers, which keeps the last events for readers that reconnect.

    Event ids grow, also over restarts of the daemon. A reader that falls more than 1,000 events behind loses the oldest
    and gets their number (`events.lost`), so that a slow reader does not fill the daemon's memory.
    """

    def __init__(self) -> None:
        self._next = time.time_ns() // 1_000
        self._kept: deque[_Entry] = deque(maxlen=_KEPT)
        self._readers: set[_Reader] = set()
        self._closed = False

    @property
    def last_id(self) -> int:
        """Return the id of the newest event, after which a reader can resume without loss."""
        return self._next - 1

    def publish(self, kind: EventKind, data: Mapping[str, object]) -> None:
        """Send an event to every reader."""
        event = _Entry(self._next, kind, time.time(), data)
        self._next += 1
        self._kept.append(event)
        for reader in self._readers:
            reader.put(event)

    @contextmanager
    def reader(self, after: int | None) -> Iterator[AsyncIterator[Event | None]]:
        """Iterate over new events, and kept ones after id `after`; it yields None every 15 s without events."""
        reader = _Reader()
        if after is not None:
            for event in self._kept:
                if event.id > after:
                    reader.put(event)
        self._readers.add(reader)
        try:
            yield self._read(reader)
        finally:
            self._readers.discard(reader)

    async def _read(self, reader: _Reader) -> AsyncIterator[Event | None]:
        while not self._closed:
            try:
                async with asyncio.timeout(_QUIET_SECONDS):
                    await reader.filled.wait()
            except TimeoutError:
                yield None
                continue
            for event in reader.take():
                yield event

    def close(self) -> None:
        """End every reader."""
        self._closed = True
        for reader in self._readers:
            reader.filled.set()


class _Reader:
    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._events: deque[_Entry] = deque()
        self._lost = 0

    def put(self, event: _Entry) -> None:
        if len(self._events) == _PER_READER:
            self._events.popleft()
            self._lost += 1
        self._events.append(event)
        self.filled.set()

    def take(self) -> list[Event]:
        events = [
            Event(id=number, kind=kind, at=datetime.fromtimestamp(at, UTC), data=dict(data))
            for number, kind, at, data in self._events
        ]
        if self._lost:
            lost = Event(id=events[0].id - 1, kind="events.lost", at=events[0].at, data={"count": self._lost})
            events.insert(0, lost)
        self._events.clear()
        self._lost = 0
        self.filled.clear()
        return events
