"""Which of the waiting messages go into the next turn. No I/O.

Messages of a turn share its fate. So a message that was in failed turns before, which may be what they failed of,
gets a turn of its own, and other senders' messages get through beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hive_core.protocol import Delivery

PER_TURN = 10
"""How many messages one turn takes at most."""
SUSPECT_AFTER = 2
"""After so many turns that did not end well, a message is handled alone."""
LOOKED_THROUGH = 100
"""How many waiting messages are looked through for some to handle while the oldest are suspect."""


@dataclass(frozen=True)
class Past:
    """Of one message: how many turns it was in for nothing, and the number of the last that failed here (0: none)."""

    turns: int
    failed_in: int = 0

    @property
    def suspect(self) -> bool:
        return self.turns >= SUSPECT_AFTER


def choose(
    deliveries: Sequence[Delivery],
    past: Mapping[int, Past],
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


class Batches:
    """Chooses turn after turn: suspects and others alternate, so that neither waits for ever for the other.

    A message's `attempt` counts at first sight only: after that it also grows when the message was only looked at.
    """

    def __init__(self) -> None:
        self._past: dict[int, Past] = {}
        self._suspects_first = False
        self._turn = 0

    @property
    def wary(self) -> bool:
        """Whether a message is suspect."""
        return any(past.suspect for past in self._past.values())

    @property
    def most(self) -> int:
        """How many deliveries to ask for."""
        return LOOKED_THROUGH if self.wary else PER_TURN

    def next(
        self, deliveries: Sequence[Delivery], turns: Mapping[int, int] | None = None, first: int | None = None
    ) -> list[Delivery]:
        """The next turn's messages. `deliveries` are the oldest that wait, at least one, oldest first.

        `turns` is as for `choose`; the messages of the turn `first` are taken before all others, and together.
        """
        known = self._past
        # What is older than the newest of these and not among them is dealt with.
        self._past = {number: past for number, past in known.items() if number > deliveries[-1].id}
        for delivery in deliveries:
            self._past[delivery.id] = known.get(delivery.id, Past(delivery.attempt - 1))
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
            before = self._past.get(delivery.id, Past(0))
            self._past[delivery.id] = Past(before.turns + 1, self._turn)
        return max(self._past[delivery.id].turns for delivery in batch)
