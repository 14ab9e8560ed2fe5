"""What happens in a harness, told live to whoever watches its page, as server-sent events.

An event is turned into bytes once, whoever reads it. The last ones are kept, so that a reader whose connection broke
goes on after the last id that it saw (`<life>.<n>`; a life is one run of the harness). Every reader is only a place in
what is kept: one that falls too far behind is dropped, costs nobody anything, and may come back.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

from hive_agent.infra.json_text import encode

IDLE_SECONDS = 15.0
"""After so long without an event a reader gets a comment, so that what lies between does not take it for dead."""
_QUIET = b": nothing new\n\n"
_AT_ONCE = 64 * 1024
"""Bytes after which a reader's events are written, before more are joined to them."""


class Dropped(Exception):
    """The reader was too far behind. It may come back with the id of the last event that it saw."""


class _Kept(NamedTuple):
    """An event as readers get it, and how many bytes were published up to its end."""

    frame: bytes
    end: int


class Feed:
    """Publishes events and keeps the last of them: at most `most` and `most_bytes`.

    A reader may be half of that behind, beyond what it was when it came: so one that is dropped finds all that it
    missed when it comes back soon.
    """

    def __init__(self, *, most: int = 2_000, most_bytes: int = 4 * 1024 * 1024, life: str | None = None) -> None:
        self._life = life or secrets.token_hex(8)
        self._most = most
        self._most_bytes = most_bytes
        self._kept: deque[_Kept] = deque()
        self._oldest = 1
        self._last = 0
        self._published = 0
        self._forgotten = 0
        self._readers: set[Reader] = set()
        self._closed = False
        self.latest = LatestTurn()

    @property
    def last_id(self) -> str:
        """The id of the newest event."""
        return f"{self._life}.{self._last}"

    @property
    def last(self) -> int:
        """The number of the newest event; 0 if there was none."""
        return self._last

    @property
    def readers(self) -> int:
        """How many watch now."""
        return len(self._readers)

    def publish(self, kind: str, data: Mapping[str, object]) -> int:
        """Tell every reader; the event's number, from 1. Never fails and never waits, whatever `data` holds."""
        content = encode(data)
        self._last += 1
        frame = b"id: %s\nevent: %s\ndata: %s\n\n" % (self.last_id.encode(), kind.encode("ascii", "replace"), content)
        self._published += len(frame)
        self._kept.append(_Kept(frame, self._published))
        while len(self._kept) > self._most or self._published - self._forgotten > self._most_bytes:
            self._forgotten = self._kept.popleft().end
            self._oldest += 1
        self.latest.note(kind, data, content)
        for reader in list(self._readers):
            reader.notice()
        return self._last

    @contextmanager
    def reader(
        self, after: str | None, now: Callable[[], bytes], on_drop: Callable[[], None] = lambda: None
    ) -> Iterator[Reader]:
        """A reader that goes on after the event `after`.

        If that is None, of another life or too old, its first event is `now` with what `now()` gives: how things
        stand, in JSON. Then it gets everything that is published from here on. `on_drop` is called when it is dropped.
        """
        place = self._place(after)
        first = b""
        if place is None:
            place = self._last
            first = b"id: %s\nevent: now\ndata: %s\n\n" % (self.last_id.encode(), now())
        reader = Reader(self, place, first, on_drop)
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)
            reader.close()

    def close(self) -> None:
        """End every reader, once it has what was published."""
        self._closed = True
        for reader in self._readers:
            reader.wake()

    @property
    def closed(self) -> bool:
        return self._closed

    def after(self, place: int) -> tuple[bytes, int]:
        """Events after number `place`, as many as are written at once, and the number of the last of them."""
        if place + 1 == self._last:  # Most readers have all but the newest.
            return self._kept[-1].frame, self._last
        frames: list[bytes] = []
        size = 0
        while place < self._last and size < _AT_ONCE:
            frame = self._kept[place + 1 - self._oldest].frame
            frames.append(frame)
            size += len(frame)
            place += 1
        return b"".join(frames), place

    def behind(self, place: int) -> tuple[int, int]:
        """How many events and bytes come after number `place`, which is still kept."""
        end = self._forgotten if place < self._oldest else self._kept[place - self._oldest].end
        return self._last - place, self._published - end

    def forgot(self, place: int) -> bool:
        """Whether an event after number `place` is not kept any more."""
        return place < self._oldest - 1

    @property
    def patience(self) -> tuple[int, int]:
        """How many events and bytes a reader may fall behind."""
        return self._most // 2, self._most_bytes // 2

    def _place(self, after: str | None) -> int | None:
        life, _, number = (after or "").partition(".")
        if life != self._life or not (number.isascii() and number.isdigit() and len(number) < 19):
            return None
        place = int(number)
        return place if place <= self._last and not self.forgot(place) else None


class Reader:
    """One reader's place in the feed. `take` its events until there are no more."""

    def __init__(self, feed: Feed, place: int, first: bytes, on_drop: Callable[[], None]) -> None:
        self._feed = feed
        self._place = place
        self._first = first
        self._on_drop = on_drop
        self._dropped = False
        behind, behind_bytes = feed.behind(place)
        most, most_bytes = feed.patience
        self._most = behind + most
        self._most_bytes = behind_bytes + most_bytes
        # A future and one timer for all waits, not an Event and a timeout for each: 200 readers wait 50 times a second.
        self._waiting: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waits_since = 0.0
        self._quiet = False

    async def take(self) -> bytes | None:
        """The next events, joined, or a comment after 15 s without any; None when the feed is closed.

        Raises Dropped if the reader did not keep up.
        """
        loop = asyncio.get_running_loop()
        while not (events := self.take_now()):
            if self._feed.closed:
                return None
            self._waiting, self._waits_since = loop.create_future(), loop.time()
            if self._timer is None:
                self._timer = loop.call_later(IDLE_SECONDS, self._look_at_the_time, loop)
            try:
                await self._waiting
            finally:
                self._waiting = None
            if self._quiet:
                self._quiet = False
                return self.take_now() or _QUIET
        return events

    def take_now(self) -> bytes:
        """What `take` gives, without waiting; empty if there is nothing."""
        if self._dropped:
            raise Dropped
        events, self._place = self._feed.after(self._place)
        if self._first:
            events, self._first = self._first + events, b""
        return events

    def notice(self) -> None:
        """Something was published."""
        # One that waits has everything but this.
        waits = self._waiting is not None and not self._waiting.done()
        if not self._dropped and (self._feed.forgot(self._place) or (not waits and self._is_slow())):
            self._dropped = True
            self._on_drop()
        self.wake()

    def wake(self) -> None:
        """Let `take` look again."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self) -> None:
        """Nobody takes anything any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look_at_the_time(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        if self._waiting is None:
            return
        left = self._waits_since + IDLE_SECONDS - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look_at_the_time, loop)
        else:
            self._quiet = True
            self.wake()

    def _is_slow(self) -> bool:
        behind, behind_bytes = self._feed.behind(self._place)
        return behind > self._most or behind_bytes > self._most_bytes


class LatestTurn:
    """The last entries of the turn that was told of last, for readers that come in its middle."""

    MOST = 200
    MOST_BYTES = 512 * 1024

    def __init__(self) -> None:
        self._turn: object = None
        self._entries: deque[bytes] = deque()
        self._bytes = 0
        self._partial = False
        self._writing: dict[str, object] | None = None

    def note(self, kind: str, data: Mapping[str, object], content: bytes) -> None:
        """Take an event in."""
        if kind == "writing":
            before = str(self._writing["text"]) if self._writing is not None and data.get("at") else ""
            self._writing = {"turn": data.get("turn"), "text": f"{before}{data.get('text')}"}
        elif kind == "entry":
            if data.get("kind") in ("text", "call", "notice"):
                self._writing = None
            self._add(data, content)
        elif kind == "turn" and data.get("state") != "running":
            self._writing = None

    @property
    def writing(self) -> dict[str, object] | None:
        """The text that the model is writing, as far as it has come: `turn` and `text`."""
        return self._writing

    def _add(self, data: Mapping[str, object], content: bytes) -> None:
        if data.get("turn") != self._turn:
            self._turn = data.get("turn")
            self._entries.clear()
            self._bytes = 0
            # It may have begun in an earlier life of the harness.
            self._partial = data.get("n") != 1
        self._entries.append(content)
        self._bytes += len(content)
        while len(self._entries) > self.MOST or self._bytes > self.MOST_BYTES:
            self._bytes -= len(self._entries.popleft())
            self._partial = True

    def as_json(self) -> bytes:
        """`{"entries": [...], "partial": ..., "writing": ...}`; partial: the turn has earlier entries, too."""
        partial = b"true" if self._partial else b"false"
        writing = b"null" if self._writing is None else encode(self._writing)
        return b'{"entries":[%s],"partial":%s,"writing":%s}' % (b",".join(self._entries), partial, writing)
