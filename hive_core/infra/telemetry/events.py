"""The live event stream."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

from hive_core.protocol import Event, EventKind

_MOST = 1_000
_QUIET_SECONDS = 15
See = Callable[[EventKind, Mapping[str, object]], Mapping[str, object] | None]


class _Entry(NamedTuple):
    """An event that is not a model yet, because most events are never read."""

    id: int
    kind: EventKind
    at: float
    data: Mapping[str, object]

    @property
    def cause(self) -> str:
        """The agent whose doing it is: its own events, and the messages that it sends."""
        return str(self.data.get("agent") or self.data.get("sender") or "")


class _Buffer:
    """Events in their order, up to 1,000: one more takes the place of the oldest of the agent that has the most.

    So an agent that causes many events displaces its own, and not those of others.
    """

    def __init__(self) -> None:
        self._entries: dict[int, _Entry] = {}
        self._ids_of: defaultdict[str, deque[int]] = defaultdict(deque)

    def add(self, event: _Entry) -> bool:
        """Return True if another one was dropped for it."""
        self._entries[event.id] = event
        self._ids_of[event.cause].append(event.id)
        if len(self._entries) <= _MOST:
            return False
        cause, ids = max(self._ids_of.items(), key=_number_of_ids)
        del self._entries[ids.popleft()]
        if not ids:
            del self._ids_of[cause]
        return True

    def take(self) -> list[_Entry]:
        """Return all events and remove them."""
        taken = list(self._entries.values())
        self._entries.clear()
        self._ids_of.clear()
        return taken

    def __iter__(self) -> Iterator[_Entry]:
        return iter(self._entries.values())


def _number_of_ids(item: tuple[str, deque[int]]) -> int:
    return len(item[1])


class EventHub:
    """A publisher of events for any number of readers, which keeps the last events for readers that reconnect.

    Event ids grow, also over restarts of the daemon. A reader that falls more than 1,000 events behind loses the oldest
    of the agents that have the most, and gets their number (`events.lost`), so that a slow reader does not fill the
    daemon's memory.
    """

    def __init__(self) -> None:
        self._next = time.time_ns() // 1_000
        self._kept = _Buffer()
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
        self._kept.add(event)
        for reader in self._readers:
            reader.put(event)

    @contextmanager
    def reader(self, after: int | None, see: See | None = None) -> Iterator[AsyncIterator[Event | None]]:
        """Iterate over new events, and kept ones after id `after`; it yields None every 15 s without events.

        `see` returns what the reader may know of an event, None if nothing; without it, the reader may know all.
        """
        reader = _Reader(see)
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
    def __init__(self, see: See | None) -> None:
        self._see = see
        self.filled = asyncio.Event()
        self._buffer = _Buffer()
        self._lost = 0

    def put(self, event: _Entry) -> None:
        if self._see is not None:
            seen = self._see(event.kind, event.data)
            if seen is None:
                return
            event = event._replace(data=seen)
        self._lost += self._buffer.add(event)
        self.filled.set()

    def take(self) -> list[Event]:
        events = [
            Event(id=number, kind=kind, at=datetime.fromtimestamp(at, UTC), data=dict(data))
            for number, kind, at, data in self._buffer.take()
        ]
        if self._lost:
            lost = Event(id=events[0].id - 1, kind="events.lost", at=events[0].at, data={"count": self._lost})
            events.insert(0, lost)
        self._lost = 0
        self.filled.clear()
        return events
