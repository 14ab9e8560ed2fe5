"""The log of turns: unfinished ones in memory, all of them on disk; every change is published."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hive_agent.backends.transcript import (
    Entry,
    EntrySink,
    Notice,
    TextPiece,
    ToolCall,
    TranscriptMessage,
    TranscriptText,
    as_json,
    describe_activity,
)
from hive_agent.infra.json_text import encode
from hive_agent.turns.attempts.writing import WrittenText
from hive_agent.turns.history import FoundTurns, TurnHistory
from hive_agent.turns.records import SHOWN_DETAIL, SHOWN_WORDS, Ref, Totals, TurnRecord
from hive_core.protocol import Delivery

Publish = Callable[[str, Mapping[str, object]], object]
"""Publishes an event (its kind and data) to viewers of the agent's page."""

_SHOWN_MESSAGE = 20_000
"""Characters of a message in the transcript of its turn."""
INTERRUPTED = "the harness stopped during the turn"
MOST_COUNTED = 1_000
"""Interruptions of one turn that are counted; the agent can write any number into the stored record."""


class TurnLog:
    """Numbers, counts and stores turns, within bounds. Failures to write are logged and otherwise ignored."""

    def __init__(self, history: TurnHistory, found: FoundTurns, publish: Publish) -> None:
        self._history = history
        self._publish = publish
        self._writing = WrittenText(publish)
        self._last_id = found.last_id
        self._earlier = found.totals
        self._live = {record.id: record for record in found.live}
        self._entries: dict[int, int] = {}
        """Number of entries of each live turn, if known."""
        self._full: set[int] = set()
        self.activity = ""
        """The present step of the running turn, in one line of its model's words; empty if there is none."""

    @classmethod
    async def open(cls, history: TurnHistory, publish: Publish, *, crashed: bool = False) -> TurnLog:
        """Read the stored turns. A turn that was running when the harness stopped is retried.

        `crashed`: the hive had not stopped it, so the turn may have ended it. That is counted on disk before anything
        else is tried.
        """
        turn_log = cls(history, await history.open(), publish)
        for record in turn_log.unfinished():
            if record.state == "running":
                record.recount_usage(await history.entries(record.id))
                record.state, record.next_try_at, record.detail = "waiting", time.time(), INTERRUPTED
                record.broken_off = True
            if record.broken_off:
                record.broken_off = False
                record.interrupted += int(crashed and record.interrupted < MOST_COUNTED)
                await history.write(record)
        return turn_log

    # --- queries --------------------------------------------------------------------------------------------

    @property
    def last(self) -> TurnRecord | None:
        """The turn that was started last."""
        return self._live.get(self._last_id)

    @property
    def totals(self) -> Totals:
        totals = self._earlier
        for record in self._live.values():
            totals = totals.plus(record)
        return totals

    def get(self, number: int) -> TurnRecord | None:
        """An unfinished turn, or the last one."""
        return self._live.get(number)

    def unfinished(self) -> list[TurnRecord]:
        """Turns whose messages are still to be handled, acknowledged or released, oldest first."""
        return [record for record in self._live.values() if record.unfinished]

    def held(self) -> list[TurnRecord]:
        return [record for record in self._live.values() if record.state == "held"]

    def waiting(self) -> list[TurnRecord]:
        return [record for record in self._live.values() if record.state == "waiting"]

    def turn_of(self, delivery: Delivery) -> TurnRecord | None:
        """The unfinished turn that the message belongs to."""
        for record in self.unfinished():
            if any(ref.means(delivery) for ref in record.messages):
                return record
        return None

    async def page(self, before: int | None, limit: int) -> list[TurnRecord]:
        """Turns with an id below `before`, the newest first."""
        return [self._live.get(record.id, record) for record in await self._history.page(before, limit)]

    async def entries(self, turn: int) -> list[dict[str, Any]]:
        return await self._history.entries(turn)

    # --- changes --------------------------------------------------------------------------------------------

    async def begin(self, record: TurnRecord | None, deliveries: Sequence[Delivery]) -> TurnRecord:
        """Start a turn with these messages, or another attempt of `record`; it is on disk when this returns."""
        messages = [Ref.to(delivery) for delivery in deliveries]
        is_new = record is None
        if record is None:
            self._last_id += 1
            record = TurnRecord(
                id=self._last_id, started_at=time.time(), messages=messages, words=_first_words(deliveries)
            )
            self._live[record.id] = record
            self._entries[record.id] = 0
            self._forget_finished()
        else:
            record.attempt += 1
            record.state, record.messages = "running", messages
            record.ended_at = record.next_try_at = record.failure = None
            record.detail = ""
        await self.changed(record)
        if is_new:
            self._add_message_entries(record, deliveries)
        return record

    async def add_messages(self, record: TurnRecord, deliveries: Sequence[Delivery]) -> None:
        """Add messages to a running turn."""
        record.messages += [Ref.to(delivery) for delivery in deliveries]
        await self.changed(record)
        self._add_message_entries(record, deliveries)

    async def end(
        self,
        record: TurnRecord,
        state: Literal["waiting", "held", "ok", "failed", "skipped"],
        *,
        failure: str | None = None,
        detail: str = "",
        next_try_at: float | None = None,
    ) -> None:
        """End the attempt. A turn that is `ok` or `skipped` stays unsettled until `settle` is called."""
        self._writing.end()
        record.state = state
        record.ended_at = None if state == "waiting" else time.time()
        record.failure, record.detail, record.next_try_at = failure, detail[:SHOWN_DETAIL], next_try_at
        record.settled = state not in ("ok", "skipped")
        self.activity = ""
        await self.changed(record)
        await self._history.prune()

    async def settle(self, record: TurnRecord) -> None:
        """Mark the turn as settled: the daemon knows the outcome of its messages."""
        record.settled = True
        await self.changed(record)
        self._forget_finished()

    def interrupt(self, record: TurnRecord) -> None:
        """Record that the harness stops while the turn is running."""
        self._writing.end()
        self.activity = ""
        record.state, record.next_try_at, record.detail = "waiting", time.time(), INTERRUPTED
        record.broken_off = True
        self._history.note(record)
        self._publish("turn", _data(record))

    async def changed(self, record: TurnRecord) -> None:
        """Store and publish the record."""
        self._publish("turn", _data(record))
        await self._history.write(record)

    async def entry_sink(self, record: TurnRecord) -> EntrySink:
        """Create the sink for the turn's entries, which numbers, counts, stores and publishes them."""
        if record.id not in self._entries:
            kept = await self._history.entries(record.id)
            self._entries[record.id] = max((entry["n"] for entry in kept), default=0)

        def emit(entry: Entry) -> None:
            if isinstance(entry, TextPiece):
                self._writing.add(record.id, entry.text)
                return
            if isinstance(entry, TranscriptText | ToolCall | Notice):
                self._writing.end()
            if record.add_usage(entry):
                self._publish("turn", _data(record))
            if record.state == "running":
                self.activity = describe_activity(entry) or self.activity
            self._add(record, entry)

        return emit

    def close(self) -> None:
        self._history.close()

    def _add_message_entries(self, record: TurnRecord, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            shown = delivery.body[:_SHOWN_MESSAGE]
            self._add(record, TranscriptMessage(delivery.id, delivery.sender, shown, len(delivery.body)))

    def _add(self, record: TurnRecord, entry: Entry) -> None:
        if record.id in self._full:
            self._number(record, entry)
        elif not self._history.add(record.id, self._number(record, entry)):
            self._full.add(record.id)
            last = Notice("warning", "the transcript of this turn is full: later entries are not stored")
            self._history.add(record.id, self._number(record, last))

    def _number(self, record: TurnRecord, entry: Entry) -> bytes:
        """Number and publish the entry; returns it as JSON."""
        number = self._entries[record.id] = self._entries.get(record.id, 0) + 1
        data = {"turn": record.id, "attempt": record.attempt, "n": number, **as_json(entry)}
        self._publish("entry", data)
        return encode(data)

    def _forget_finished(self) -> None:
        """Drop finished turns from memory, except for the last: entries of a compaction after it are added to it."""
        for record in list(self._live.values()):
            if not record.unfinished and record.id != self._last_id:
                self._earlier = self._earlier.plus(record)
                del self._live[record.id]
                self._entries.pop(record.id, None)
                self._full.discard(record.id)


def _data(record: TurnRecord) -> dict[str, object]:
    return dict(record.summary())


def _first_words(deliveries: Sequence[Delivery]) -> str:
    return " ".join(deliveries[0].body[: 4 * SHOWN_WORDS].split())[:SHOWN_WORDS] if deliveries else ""
