"""The book of turns: the ones to be dealt with are at hand, all are on disk, and every change is published."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from hive_agent.backends.transcript import Entry, EntrySink, Notice, TranscriptMessage, as_json
from hive_agent.infra.json_text import encode
from hive_agent.turns.history import FoundTurns, TurnHistory
from hive_agent.turns.records import SHOWN_DETAIL, Ref, Totals, TurnRecord
from hive_core.protocol import Delivery

Publish = Callable[[str, Mapping[str, object]], object]
"""Tells whoever watches the agent's page: the kind of event, and its data."""

_SHOWN_MESSAGE = 20_000
"""Characters of a message that the transcript of its turn has."""
INTERRUPTED = "the harness ended in the middle of it"


class TurnLog:
    """Numbers, counts and keeps turns. What is kept is bounded, and no failure to write stops anything."""

    def __init__(self, history: TurnHistory, found: FoundTurns, publish: Publish) -> None:
        self._history = history
        self._publish = publish
        self._last_id = found.last_id
        self._earlier = found.totals
        self._live = {record.id: record for record in found.live}
        self._entries: dict[int, int] = {}
        """How many entries each live turn has, where that is known."""
        self._full: set[int] = set()

    @classmethod
    async def open(cls, history: TurnHistory, publish: Publish) -> TurnLog:
        """Read what was kept. A turn that ran when the harness ended waits for another attempt now."""
        turn_log = cls(history, await history.open(), publish)
        for record in turn_log.unfinished():
            if record.state == "running":
                record.recount(await history.entries(record.id))
                record.state, record.next_try_at, record.detail = "waiting", time.time(), INTERRUPTED
        return turn_log

    # --- looking --------------------------------------------------------------------------------------------

    @property
    def last(self) -> TurnRecord | None:
        """The turn that was begun last."""
        return self._live.get(self._last_id)

    @property
    def totals(self) -> Totals:
        totals = self._earlier
        for record in self._live.values():
            totals = totals.plus(record)
        return totals

    def get(self, number: int) -> TurnRecord | None:
        """A turn that is to be dealt with, or the last."""
        return self._live.get(number)

    def unfinished(self) -> list[TurnRecord]:
        """Turns that something is still to be done about, oldest first."""
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
        """Turns with an id below `before`, the newest first, as they are now."""
        return [self._live.get(record.id, record) for record in await self._history.page(before, limit)]

    async def entries(self, turn: int) -> list[dict[str, Any]]:
        return await self._history.entries(turn)

    # --- changing -------------------------------------------------------------------------------------------

    async def begin(self, record: TurnRecord | None, deliveries: Sequence[Delivery]) -> TurnRecord:
        """A turn with these messages begins, or another attempt of `record`; on disk when this returns."""
        messages = [Ref.to(delivery) for delivery in deliveries]
        is_new = record is None
        if record is None:
            self._last_id += 1
            record = TurnRecord(id=self._last_id, started_at=time.time(), messages=messages)
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
            self._tell_messages(record, deliveries)
        return record

    async def joined(self, record: TurnRecord, deliveries: Sequence[Delivery]) -> None:
        """These messages belong to the turn, too."""
        record.messages += [Ref.to(delivery) for delivery in deliveries]
        await self.changed(record)
        self._tell_messages(record, deliveries)

    async def end(
        self,
        record: TurnRecord,
        state: Literal["waiting", "held", "ok", "failed", "skipped"],
        *,
        failure: str | None = None,
        detail: str = "",
        next_try_at: float | None = None,
    ) -> None:
        """The attempt is over. One that is `ok` or `skipped` is not settled until `settle` says so."""
        record.state = state
        record.ended_at = None if state == "waiting" else time.time()
        record.failure, record.detail, record.next_try_at = failure, detail[:SHOWN_DETAIL], next_try_at
        record.settled = state not in ("ok", "skipped")
        await self.changed(record)
        await self._history.prune()

    async def settle(self, record: TurnRecord) -> None:
        """The hive knows what became of the turn's messages."""
        record.settled = True
        await self.changed(record)
        self._forget_finished()

    def interrupt(self, record: TurnRecord) -> None:
        """The harness is ending in the middle of the turn."""
        record.state, record.next_try_at, record.detail = "waiting", time.time(), INTERRUPTED
        self._history.note(record)
        self._publish("turn", _data(record))

    async def changed(self, record: TurnRecord) -> None:
        """Keep and publish the record as it is now."""
        self._publish("turn", _data(record))
        await self._history.write(record)

    async def teller(self, record: TurnRecord) -> EntrySink:
        """What a backend tells of the turn with: numbered, counted, kept and published."""
        if record.id not in self._entries:
            kept = await self._history.entries(record.id)
            self._entries[record.id] = max((entry["n"] for entry in kept), default=0)

        def tell(entry: Entry) -> None:
            if record.count(entry):
                self._publish("turn", _data(record))
            self._add(record, entry)

        return tell

    def close(self) -> None:
        self._history.close()

    def _tell_messages(self, record: TurnRecord, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            shown = delivery.body[:_SHOWN_MESSAGE]
            self._add(record, TranscriptMessage(delivery.id, delivery.sender, shown, len(delivery.body)))

    def _add(self, record: TurnRecord, entry: Entry) -> None:
        if record.id in self._full:
            self._number(record, entry)
        elif not self._history.add(record.id, self._number(record, entry)):
            self._full.add(record.id)
            last = Notice("warning", "so much has happened in this turn that what follows is not kept")
            self._history.add(record.id, self._number(record, last))

    def _number(self, record: TurnRecord, entry: Entry) -> bytes:
        """Give the entry its number and publish it; as JSON."""
        number = self._entries[record.id] = self._entries.get(record.id, 0) + 1
        data = {"turn": record.id, "attempt": record.attempt, "n": number, **as_json(entry)}
        self._publish("entry", data)
        return encode(data)

    def _forget_finished(self) -> None:
        """Of turns that are dealt with only the last stays at hand: what is done after it is told there."""
        for record in list(self._live.values()):
            if not record.unfinished and record.id != self._last_id:
                self._earlier = self._earlier.plus(record)
                del self._live[record.id]
                self._entries.pop(record.id, None)
                self._full.discard(record.id)


def _data(record: TurnRecord) -> dict[str, object]:
    return dict(record.summary())
