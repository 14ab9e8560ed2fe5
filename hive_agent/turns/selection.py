"""Selection of the messages for the next turn.

Messages of a turn share its fate. So a message that was in failed turns before, which may be what they failed of,
gets a turn of its own, and other senders' messages get through beside it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hive_agent.client.connection import CoreError
from hive_agent.turns.inbox import LeasedInbox
from hive_agent.turns.operator_controls import PendingRequests
from hive_agent.turns.records import MOST_MESSAGES, TurnRecord
from hive_agent.turns.turn_log import TurnLog
from hive_core.protocol import Delivery, ReceiveAnswer

log = logging.getLogger(__name__)


_SHORTEST_POLL = 1.0
"""An answer without news sooner than this is not a poll that ran out: slow down, whatever the reason is."""
_SPLIT = "(its messages are tried one by one)"
MOST_MORE = 30
"""How many messages one attempt may take up in its middle."""


@dataclass(frozen=True)
class TurnBatch:
    """What the next turn is about; `record` is the turn that is tried again with it, None for a new one."""

    record: TurnRecord | None
    deliveries: list[Delivery]


class TurnSelection:
    """Chooses turn after turn. Everything here raises CoreError."""

    def __init__(
        self, inbox: LeasedInbox, turn_log: TurnLog, selector: BatchSelector, requests: PendingRequests
    ) -> None:
        self._inbox = inbox
        self._turn_log = turn_log
        self._selector = selector
        self._requests = requests

    @property
    def patient(self) -> bool:
        """Whether there is nothing to do but to wait for a message."""
        return all(record.state == "held" for record in self._turn_log.unfinished())

    async def next(self) -> TurnBatch | None:
        """What to handle next, leased; None if a look at what has changed comes first."""
        free = await self.look(wait=self.patient)
        if not free:
            return None
        turns = {
            delivery.id: record.id for delivery in free if (record := self._turn_log.turn_of(delivery)) is not None
        }
        chosen = self._selector.next(free, turns, self._requests.first)
        record = self._turn_log.get(turns.get(chosen[0].id, 0))
        taken = {delivery.id for delivery in chosen}
        aside = [delivery.id for delivery in free if delivery.id not in taken]
        if aside:
            # Before the turn: the model may fetch messages, and gets the oldest first.
            log.info("%d messages are left for later turns", len(aside))
            await self._inbox.release(aside)
        if record is not None and record.state != "waiting":
            await self._inbox.release(taken)  # A person has decided otherwise meanwhile.
            return None
        if record is not None and any(turns.get(number) == record.id for number in aside):
            await self._turn_log.end(
                record, "failed", failure=record.failure, detail=f"{record.detail} {_SPLIT}".strip()
            )
            record = None
        return TurnBatch(record, chosen)

    async def look(self, *, wait: bool) -> list[Delivery]:
        """Fetch messages and do what is settled about them already; those that are left, oldest first."""
        started = time.monotonic()
        # Not those that a person frees while the answer is under way: it would seem as if their messages were gone.
        expected = [record for record in self._turn_log.unfinished() if record.state not in ("held", "running")]
        answer = await self._receive(LOOKED_THROUGH if not wait else self._selector.most, wait=wait)
        if answer is None:
            return []
        free: list[Delivery] = []
        owed: list[int] = []
        for delivery in answer.deliveries:
            record = self._turn_log.turn_of(delivery)
            if record is None or record.state == "waiting":
                free.append(delivery)
            elif record.state == "held":
                self._inbox.keep([delivery.id])
            else:
                owed.append(delivery.id)
        if owed:
            await self._inbox.acknowledge(owed)
        closed = await self._close_gone(expected, free, answer)
        if not free and not owed and not closed:
            await self._requests.wait(max(0.0, started + _SHORTEST_POLL - time.monotonic()))
        return free

    def more(self, record: TurnRecord, taken: list[Delivery]) -> _MidTurnFetcher:
        """Fetches messages into the middle of a turn; they are added to `taken`."""
        return _MidTurnFetcher(self._inbox, self._turn_log, self._selector, record, taken)

    async def _receive(self, most: int, *, wait: bool) -> ReceiveAnswer | None:
        """None if a person wished for something before there was an answer."""
        receiving = asyncio.create_task(self._inbox.receive(most, wait=wait))
        waking = asyncio.create_task(self._requests.wait())
        try:
            await asyncio.wait({receiving, waking}, return_when=asyncio.FIRST_COMPLETED)
            # What was leased and not heard of comes with the next receive, which says what this harness holds.
            return receiving.result() if receiving.done() else None
        finally:
            receiving.cancel()
            waking.cancel()
            await asyncio.gather(receiving, waking, return_exceptions=True)

    async def _close_gone(
        self, expected: Sequence[TurnRecord], free: Sequence[Delivery], answer: ReceiveAnswer
    ) -> bool:
        """Close those of the turns whose messages wait no more; whether there were any."""
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
    """`Turn.more` of one attempt."""

    def __init__(
        self, inbox: LeasedInbox, turn_log: TurnLog, selector: BatchSelector, record: TurnRecord, taken: list[Delivery]
    ) -> None:
        self._inbox = inbox
        self._turn_log = turn_log
        self._selector = selector
        self._record = record
        self._taken = taken
        self._room = min(MOST_MORE, MOST_MESSAGES - len(taken))

    async def __call__(self) -> Sequence[Delivery]:
        """What came meanwhile. Nothing while messages that may have made turns fail are about: those need care."""
        if self._room <= 0 or self._selector.has_suspects or self._turn_log.waiting():
            return ()
        try:
            found = await self._inbox.more(min(PER_TURN, self._room))
        except CoreError as error:
            if error.code == "superseded":
                raise
            log.warning("no further messages were fetched into the turn: %s", error)
            return ()
        if found is None:
            self._room = 0  # A later message must not overtake one that was leased unheard.
            return ()
        taken = [delivery for delivery in found if self._turn_log.turn_of(delivery) is None]
        others = [delivery.id for delivery in found if delivery not in taken]
        await self._inbox.release(others)
        if taken:
            self._room -= len(taken)
            self._taken.extend(taken)
            await self._turn_log.joined(self._record, taken)
        return taken


PER_TURN = 10
"""How many messages one turn takes at most."""
SUSPECT_AFTER = 2
"""After so many turns that did not end well, a message is handled alone."""
LOOKED_THROUGH = 100
"""How many waiting messages are looked through for some to handle while the oldest are suspect."""


@dataclass(frozen=True)
class FailureHistory:
    """Of one message: how many turns it was in for nothing, and the number of the last that failed here (0: none)."""

    turns: int
    failed_in: int = 0

    @property
    def suspect(self) -> bool:
        return self.turns >= SUSPECT_AFTER


def choose(
    deliveries: Sequence[Delivery],
    past: Mapping[int, FailureHistory],
    *,
    suspects_first: bool,
    turns: Mapping[int, int] | None = None,
) -> list[Delivery]:
    """The next turn's messages out of `deliveries` (oldest first): one suspect, or several that are none.

    `turns` says by message which turn it was in that is to be tried again: its messages stay together, and others, up
    to 10, make a new one. Not empty unless `deliveries` is. No message comes before an older one of its sender. Of
    several suspects it is the turn of the one that has waited longest since it failed.
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
    """Chooses turn after turn: suspects and others alternate, so that neither waits for ever for the other.

    A message's `attempt` counts at first sight only: after that it also grows when the message was only looked at.
    """

    def __init__(self) -> None:
        self._past: dict[int, FailureHistory] = {}
        self._suspects_first = False
        self._turn = 0

    @property
    def has_suspects(self) -> bool:
        """Whether a message is suspect."""
        return any(failures.suspect for failures in self._past.values())

    @property
    def most(self) -> int:
        """How many deliveries to ask for."""
        return LOOKED_THROUGH if self.has_suspects else PER_TURN

    def next(
        self, deliveries: Sequence[Delivery], turns: Mapping[int, int] | None = None, first: int | None = None
    ) -> list[Delivery]:
        """The next turn's messages. `deliveries` are the oldest that wait, at least one, oldest first.

        `turns` is as for `choose`; the messages of the turn `first` are taken before all others, and together.
        """
        known = self._past
        # What is older than the newest of these and not among them is dealt with.
        self._past = {number: failures for number, failures in known.items() if number > deliveries[-1].id}
        for delivery in deliveries:
            self._past[delivery.id] = known.get(delivery.id, FailureHistory(delivery.attempt - 1))
        wanted = [delivery for delivery in deliveries if first is not None and (turns or {}).get(delivery.id) == first]
        if wanted:
            return wanted
        batch = choose(deliveries, self._past, suspects_first=self._suspects_first, turns=turns)
        self._suspects_first = not self._past[batch[0].id].suspect
        return batch

    def handled(self, batch: Sequence[Delivery]) -> None:
        """The turn with these ended well."""
        for delivery in batch:
            self._past.pop(delivery.id, None)

    def failed(self, batch: Sequence[Delivery]) -> int:
        """The turn with these failed, and they may be why; how often that was so of the one that failed most."""
        self._turn += 1
        for delivery in batch:
            before = self._past.get(delivery.id, FailureHistory(0))
            self._past[delivery.id] = FailureHistory(before.turns + 1, self._turn)
        return max(self._past[delivery.id].turns for delivery in batch)
