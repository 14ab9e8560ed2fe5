"""Selection of the messages for the next turn.

All messages of a turn fail together. So a message that was in failed turns before, and may be the cause, gets a turn of
its own, and messages of other senders are handled in turns without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hive_agent.client.connection import CoreError
from hive_agent.turns.attempts.operator_pause import OperatorPause
from hive_agent.turns.inbox import LeasedInbox
from hive_agent.turns.operator_controls import PendingRequests
from hive_agent.turns.records import MOST_MESSAGES, TurnRecord
from hive_agent.turns.turn_log import TurnLog
from hive_core.protocol import Delivery, ReceiveAnswer

log = logging.getLogger(__name__)


_SHORTEST_POLL = 1.0
"""Minimum seconds between polls that bring nothing: an empty answer that comes sooner is not the end of a long poll."""
_SPLIT = "(its messages are tried one by one)"
MOST_MORE = 30
"""Number of messages that may be added to one attempt while it runs."""


@dataclass(frozen=True)
class TurnBatch:
    """The messages of the next turn; `record` is the turn that is retried with them, None for a new one."""

    record: TurnRecord | None
    deliveries: list[Delivery]


class TurnSelection:
    """Receives messages and selects those of the next turn. All methods raise CoreError."""

    def __init__(
        self,
        inbox: LeasedInbox,
        turn_log: TurnLog,
        selector: BatchSelector,
        requests: PendingRequests,
        pause: OperatorPause,
    ) -> None:
        self._inbox = inbox
        self._turn_log = turn_log
        self._selector = selector
        self._requests = requests
        self._pause = pause

    @property
    def patient(self) -> bool:
        """True if the harness only has to wait for messages: no turn is to be retried or settled."""
        return all(record.state == "held" for record in self._turn_log.unfinished())

    async def next_batch(self) -> TurnBatch | None:
        """The leased messages of the next turn; None if the caller must check for requests first."""
        free = await self.fetch(wait=self.patient)
        if not free:
            return None
        turns = {
            delivery.id: record.id for delivery in free if (record := self._turn_log.turn_of(delivery)) is not None
        }
        chosen = self._selector.select(free, turns, self._requests.first)
        record = self._turn_log.get(turns.get(chosen[0].id, 0))
        taken = {delivery.id for delivery in chosen}
        left = [delivery.id for delivery in free if delivery.id not in taken]
        if left:
            # Released before the turn, so that the model can fetch them during it.
            log.info("%d messages are left for later turns", len(left))
            await self._inbox.release(left)
        if record is not None and record.state != "waiting":
            await self._inbox.release(taken)  # The operator held or skipped the turn meanwhile.
            return None
        if record is not None and any(turns.get(number) == record.id for number in left):
            await self._turn_log.end(
                record, "failed", failure=record.failure, detail=f"{record.detail} {_SPLIT}".strip()
            )
            record = None
        return TurnBatch(record, chosen)

    async def fetch(self, *, wait: bool) -> list[Delivery]:
        """Receive messages; keeps those of held turns, acknowledges those of ended turns, returns the others."""
        started = time.monotonic()
        # Without turns that the operator frees during the request: the answer does not contain their messages.
        expected = [record for record in self._turn_log.unfinished() if record.state not in ("held", "running")]
        answer = await self._receive(SEARCHED if not wait else self._selector.most, wait=wait)
        if answer is None:
            return []
        free: list[Delivery] = []
        to_acknowledge: list[int] = []
        for delivery in answer.deliveries:
            record = self._turn_log.turn_of(delivery)
            if record is None or record.state == "waiting":
                free.append(delivery)
            elif record.state == "held":
                self._inbox.keep([delivery.id])
            else:
                to_acknowledge.append(delivery.id)
        if to_acknowledge:
            await self._inbox.acknowledge(to_acknowledge)
        closed = await self._close_handled(expected, free, answer)
        if not free and not to_acknowledge and not closed:
            await self._requests.wait(max(0.0, started + _SHORTEST_POLL - time.monotonic()))
        return free

    def fetcher(self, record: TurnRecord, taken: list[Delivery]) -> _MidTurnFetcher:
        """Create the `Turn.more` of an attempt; the messages that it fetches are added to `taken`."""
        return _MidTurnFetcher(self._inbox, self._turn_log, self._selector, self._pause, record, taken)

    async def _receive(self, most: int, *, wait: bool) -> ReceiveAnswer | None:
        """Receive messages; None if the operator makes a request before the answer."""
        receiving = asyncio.create_task(self._inbox.receive(most, wait=wait))
        waking = asyncio.create_task(self._requests.wait())
        try:
            await asyncio.wait({receiving, waking}, return_when=asyncio.FIRST_COMPLETED)
            # Messages leased by a cancelled request come with the next one, which says what this harness holds.
            return receiving.result() if receiving.done() else None
        finally:
            receiving.cancel()
            waking.cancel()
            await asyncio.gather(receiving, waking, return_exceptions=True)

    async def _close_handled(
        self, expected: Sequence[TurnRecord], free: Sequence[Delivery], answer: ReceiveAnswer
    ) -> bool:
        """Settle those of the turns whose messages no longer wait; returns whether there were any."""
        held_back = self._inbox.held_back
        complete = answer.waiting <= len(held_back)
        newest = answer.deliveries[-1].id if answer.deliveries else 0
        closed = False
        for record in expected:
            if record.state in ("held", "running") or any(ref.id in held_back for ref in record.messages):
                continue
            here = any(ref.means(delivery) for ref in record.messages for delivery in free)
            if here or not (complete or all(ref.id <= newest for ref in record.messages)):
                continue
            if record.state == "waiting":
                await self._turn_log.end(record, "ok", detail="its messages were handled in another turn")
            await self._turn_log.settle(record)
            closed = True
        return closed


class _MidTurnFetcher:
    """The `Turn.more` of one attempt."""

    def __init__(
        self,
        inbox: LeasedInbox,
        turn_log: TurnLog,
        selector: BatchSelector,
        pause: OperatorPause,
        record: TurnRecord,
        taken: list[Delivery],
    ) -> None:
        self._inbox = inbox
        self._turn_log = turn_log
        self._selector = selector
        self._pause = pause
        self._record = record
        self._taken = taken
        self._left = min(MOST_MORE, MOST_MESSAGES - len(taken))

    async def __call__(self) -> Sequence[Delivery]:
        """Lease new messages for the running turn. None while there are suspects, which need turns of their own."""
        if self._left <= 0 or self._pause.on or self._selector.has_suspects or self._turn_log.waiting():
            return ()
        try:
            found = await self._inbox.more(min(PER_TURN, self._left))
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.warning("no further messages were fetched into the turn: %s", error)
            return ()
        if found is None:
            self._left = 0  # A later message must not overtake one whose lease this harness does not know of.
            return ()
        taken = [delivery for delivery in found if self._turn_log.turn_of(delivery) is None]
        others = [delivery.id for delivery in found if delivery not in taken]
        await self._inbox.release(others)
        if taken:
            self._left -= len(taken)
            self._taken.extend(taken)
            await self._turn_log.add_messages(self._record, taken)
        return taken


PER_TURN = 10
"""Most messages at the start of one turn."""
SUSPECT_AFTER = 2
"""A message is handled alone after so many failed turns."""
SEARCHED = 100
"""Number of waiting messages that are searched for others while the oldest are suspect."""


@dataclass(frozen=True)
class FailureHistory:
    """The failures of one message: in how many turns, and the number of the last of this instance (0: none)."""

    turns: int
    failed_in: int = 0

    @property
    def suspect(self) -> bool:
        return self.turns >= SUSPECT_AFTER


def select_batch(
    deliveries: Sequence[Delivery],
    past: Mapping[int, FailureHistory],
    *,
    suspects_first: bool,
    turns: Mapping[int, int] | None = None,
) -> list[Delivery]:
    """Select the next turn's messages from `deliveries` (oldest first): one suspect, or several others.

    `turns` maps a message to the turn that is to be retried with it: its messages stay together, and up to 10 others
    make a new turn. The result is empty only if `deliveries` is. No message comes before an older one of its sender.
    Of several suspects, the one that failed least recently is selected.
    """
    suspects: list[Delivery] = []
    others: list[Delivery] = []
    seen: set[str] = set()
    blocked: set[str] = set()
    for delivery in deliveries:
        if delivery.sender in blocked:
            continue
        if not past[delivery.id].suspect:
            others.append(delivery)
        else:
            blocked.add(delivery.sender)
            if delivery.sender not in seen:
                suspects.append(delivery)
        seen.add(delivery.sender)
    if suspects and (suspects_first or not others):
        return [min(suspects, key=lambda delivery: (past[delivery.id].failed_in, delivery.id))]
    if not others:
        return []
    turns = turns or {}
    turn = turns.get(others[0].id)
    together = [delivery for delivery in others if turns.get(delivery.id) == turn]
    return together if turn is not None else together[:PER_TURN]


class BatchSelector:
    """Selects the messages of each turn: suspects and others alternate, so that neither waits for ever for the other.

    A message's `attempt` counts only when it is first received: later it also grows when a message is released unused.
    """

    def __init__(self) -> None:
        self._past: dict[int, FailureHistory] = {}
        self._suspects_first = False
        self._turn = 0

    @property
    def has_suspects(self) -> bool:
        return any(failures.suspect for failures in self._past.values())

    @property
    def most(self) -> int:
        """Number of deliveries to receive."""
        return SEARCHED if self.has_suspects else PER_TURN

    def select(
        self, deliveries: Sequence[Delivery], turns: Mapping[int, int] | None = None, first: int | None = None
    ) -> list[Delivery]:
        """Select the next turn's messages. `deliveries` are the oldest that wait, at least one, oldest first.

        `turns` is as for `select_batch`; the messages of the turn `first` are selected before all others, and together.
        """
        known = self._past
        # Older messages that are not in the answer have been handled.
        self._past = {number: failures for number, failures in known.items() if number > deliveries[-1].id}
        for delivery in deliveries:
            self._past[delivery.id] = known.get(delivery.id, FailureHistory(delivery.attempt - 1))
        wanted = [delivery for delivery in deliveries if first is not None and (turns or {}).get(delivery.id) == first]
        if wanted:
            return wanted
        batch = select_batch(deliveries, self._past, suspects_first=self._suspects_first, turns=turns)
        self._suspects_first = not self._past[batch[0].id].suspect
        return batch

    def record_success(self, batch: Sequence[Delivery]) -> None:
        """Forget the failures of messages whose turn succeeded."""
        for delivery in batch:
            self._past.pop(delivery.id, None)

    def record_failure(self, batch: Sequence[Delivery]) -> int:
        """Count a failure against messages that may be its cause; returns the highest count of these messages."""
        self._turn += 1
        for delivery in batch:
            before = self._past.get(delivery.id, FailureHistory(0))
            self._past[delivery.id] = FailureHistory(before.turns + 1, self._turn)
        return max(self._past[delivery.id].turns for delivery in batch)
