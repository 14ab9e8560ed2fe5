"""The feed: bounded, nobody misses anything, nobody hears anything twice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from hive_agent.web import feed as feed_module
from hive_agent.web.feed import Dropped, Feed, Reader


def events(stream: bytes) -> Iterator[tuple[str, str, Any]]:
    """Id, kind and data of each event in what a reader got."""
    for frame in stream.decode().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.splitlines() if not line.startswith(":"))
        if "event" in fields:
            yield fields["id"], fields["event"], json.loads(fields["data"])


class Watcher:
    """A reader as a browser is one: it knows its last id, and the state that it has been told of."""

    def __init__(self, feed: Feed, told: list[int]) -> None:
        self.feed = feed
        self.told = told
        self.last: str | None = None
        self.knows: list[int] = []
        self.stack = ExitStack()
        self.reader: Reader | None = None
        self.hung_up = False

    def connect(self) -> None:
        self.hung_up = False
        current = list(self.told)
        self.reader = self.stack.enter_context(
            self.feed.reader(self.last, lambda: json.dumps(current).encode(), self._hang_up)
        )

    def _hang_up(self) -> None:
        self.hung_up = True

    def disconnect(self) -> None:
        self.stack.close()
        self.reader = None

    def read(self, most: int = 10_000) -> None:
        """Read what there is; a reader that was dropped loses its connection."""
        assert self.reader is not None
        for _ in range(most):
            try:
                got = self.reader.take_now()
            except Dropped:
                assert self.hung_up
                self.disconnect()
                return
            if not got:
                return
            for number, kind, data in events(got):
                self.last = number
                if kind == "now":
                    self.knows = data
                else:
                    self.knows.append(data["value"])


class AnyOrder(RuleBasedStateMachine):
    """Publishing, coming, reading, being slow, leaving and coming back, in any order."""

    MOST = 8

    @initialize(most_bytes=st.sampled_from([400, 2_000, 100_000]))
    def begin(self, most_bytes: int) -> None:
        self.told: list[int] = []
        self.feed = Feed(most=self.MOST, most_bytes=most_bytes)
        self.most_bytes = most_bytes
        self.watchers = [Watcher(self.feed, self.told) for _ in range(3)]

    @rule(size=st.integers(0, 120), times=st.integers(1, 12))
    def publish(self, size: int, times: int) -> None:
        for _ in range(times):
            value = len(self.told)
            self.told.append(value)
            assert self.feed.publish("entry", {"value": value, "fill": "x" * size}) == len(self.told)

    @rule(who=st.integers(0, 2))
    def come(self, who: int) -> None:
        if self.watchers[who].reader is None:
            self.watchers[who].connect()

    @rule(who=st.integers(0, 2))
    def leave(self, who: int) -> None:
        self.watchers[who].disconnect()

    @rule(who=st.integers(0, 2), forged=st.sampled_from(["", "x", "1.1", "0000.5", "../1", "\u0663", "9" * 40]))
    def come_with_a_wrong_id(self, who: int, forged: str) -> None:
        watcher = self.watchers[who]
        if watcher.reader is None:
            watcher.last = forged
            watcher.connect()
            watcher.read()
            assert watcher.knows == self.told

    @rule(who=st.integers(0, 2), most=st.sampled_from([1, 10_000]))
    def read(self, who: int, most: int) -> None:
        if self.watchers[who].reader is not None:
            self.watchers[who].read(most)

    @invariant()
    def nothing_is_missed_or_told_twice(self) -> None:
        for watcher in getattr(self, "watchers", []):
            assert watcher.knows == self.told[: len(watcher.knows)]

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        if hasattr(self, "feed"):
            kept = self.feed._kept
            assert len(kept) <= self.MOST
            assert sum(len(event.frame) for event in kept) <= self.most_bytes

    def teardown(self) -> None:
        for watcher in getattr(self, "watchers", []):
            if watcher.reader is None:
                watcher.connect()
            watcher.read()
            if watcher.reader is None:  # it had been dropped
                watcher.connect()
                watcher.read()
            assert watcher.knows == self.told
            watcher.disconnect()


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(stateful_step_count=30)


def test_a_slow_reader_is_dropped_and_goes_on_where_it_was() -> None:
    """Who falls behind is dropped before what it missed is forgotten: with its last id it gets exactly the rest."""
    feed = Feed(most=20)
    told: list[int] = []
    slow = Watcher(feed, told)
    slow.connect()
    slow.read()
    slow.last = feed.last_id
    while not slow.hung_up:
        told.append(len(told))
        feed.publish("entry", {"value": told[-1]})
    slow.read()
    assert slow.reader is None and slow.knows == []
    slow.connect()
    assert slow.reader is not None
    kinds = [kind for _, kind, _ in events(slow.reader.take_now())]
    assert kinds == ["entry"] * len(told)
    slow.disconnect()


def test_one_who_comes_back_far_behind_may_read_in_peace() -> None:
    """Somebody who resumes near the limit is not dropped by the next event."""
    feed = Feed(most=20)
    first = feed.publish("entry", {"value": 0})
    start = feed.last_id
    assert first == 1
    for value in range(1, 19):
        feed.publish("entry", {"value": value})
    with feed.reader(start, lambda: b"{}") as reader:
        feed.publish("entry", {"value": 19})
        assert [data["value"] for _, _, data in events(reader.take_now())] == list(range(1, 20))


def test_lives_are_told_apart() -> None:
    """An id of the harness's earlier life is no place in this one: how things stand is told anew."""
    earlier, now = Feed(), Feed()
    for feed in (earlier, now):
        feed.publish("state", {})
    with now.reader(earlier.last_id, lambda: b'{"new":true}') as reader:
        assert [(kind, data) for _, kind, data in events(reader.take_now())] == [("now", {"new": True})]


async def test_heartbeats_only_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A comment comes when nothing else does, and never in front of an event."""
    feed = Feed()
    with feed.reader(None, lambda: b"{}") as reader:
        feed.publish("state", {})
        first = await reader.take()
        assert first is not None and [kind for _, kind, _ in events(first)] == ["now", "state"]
        monkeypatch.setattr(feed_module, "IDLE_SECONDS", 0.01)
        assert await reader.take() == b": nothing new\n\n"


async def test_closing_ends_readers_after_what_was_published() -> None:
    """When the harness ends, its readers get the last events, and then the end."""
    feed = Feed()
    with feed.reader(None, lambda: b"{}") as reader:
        await reader.take()
        waiting = asyncio.create_task(reader.take())
        await asyncio.sleep(0)
        feed.publish("state", {"state": "offline"})
        feed.close()
        last = await waiting
        assert last is not None and b"offline" in last
        assert await reader.take() is None


def test_latest_turn() -> None:
    """Late comers get the entries of the turn that was told of last, and learn whether there are earlier ones."""
    feed = Feed()
    feed.publish("entry", {"turn": 1, "attempt": 1, "n": 1, "text": "old"})
    feed.publish("entry", {"turn": 2, "attempt": 1, "n": 1, "text": "new"})
    latest = json.loads(feed.latest.as_json())
    assert ([entry["text"] for entry in latest["entries"]], latest["partial"]) == (["new"], False)
    for number in range(2, 1_000):
        feed.publish("entry", {"turn": 2, "attempt": 1, "n": number, "text": "x" * 10_000})
    latest = json.loads(feed.latest.as_json())
    assert latest["partial"] is True and latest["entries"][-1]["n"] == 999
    assert len(feed.latest.as_json()) < 600_000
    feed.publish("entry", {"turn": 3, "attempt": 2, "n": 7, "text": "goes on"})
    assert json.loads(feed.latest.as_json())["partial"] is True


def test_the_text_that_is_written_is_told_to_late_comers() -> None:
    """A late reader gets the text that the model has written, until all of it or the end of the turn is told."""
    feed = Feed()
    feed.publish("writing", {"turn": 1, "at": 0, "text": "I loo"})
    feed.publish("writing", {"turn": 1, "at": 5, "text": "k"})
    assert json.loads(feed.latest.as_json())["writing"] == {"turn": 1, "text": "I look"}
    feed.publish("entry", {"turn": 1, "attempt": 1, "n": 1, "kind": "usage"})
    assert feed.latest.writing is not None
    feed.publish("entry", {"turn": 1, "attempt": 1, "n": 2, "kind": "text", "text": "I look"})
    assert feed.latest.writing is None
    feed.publish("writing", {"turn": 1, "at": 0, "text": "And"})
    feed.publish("turn", {"id": 1, "state": "held"})
    assert feed.latest.writing is None
